"""zopp's blocks in `.sops.yaml` and `.gitattributes`: current, first or last, and nothing else touched (A14, A15)."""

import yaml
from hypothesis import given, strategies as st

from zopp.repo import blocks

FILES = {"secrets/dev.yaml": [["age1a", "age1b"]], "secrets/prod+1.yaml": [["age1a"]]}


def rules(text: str) -> list[dict[str, str]]:
    found = yaml.safe_load(text)["creation_rules"]
    assert isinstance(found, list)
    return found


def test_a_new_file_has_one_rule_a_path() -> None:
    text = blocks.update_sops_config(None, FILES)
    assert rules(text) == [
        {"path_regex": r"^secrets/dev\.yaml$", "age": "age1a,age1b"},
        {"path_regex": r"^secrets/prod\+1\.yaml$", "age": "age1a"},
    ]
    assert blocks.sops_config_fault(text, FILES) is None


def test_the_users_rules_stay_behind_ours() -> None:
    mine = "# mine\ncreation_rules:\n  - path_regex: x\n    pgp: AB\nstores:\n  yaml:\n    indent: 2\n"
    text = blocks.update_sops_config(mine, FILES)
    assert [rule["path_regex"] for rule in rules(text)][-1] == "x"
    assert text.replace(blocks.sops_rules(FILES, "  "), "") == mine
    assert yaml.safe_load(text)["stores"] == {"yaml": {"indent": 2}}


def test_an_update_replaces_the_block_and_nothing_else() -> None:
    text = blocks.update_sops_config("creation_rules:\n- path_regex: x\n  age: age1q\n", FILES)
    other = blocks.update_sops_config(text, {"secrets/dev.yaml": [["age1c"]]})
    assert [rule["age"] for rule in rules(other)] == ["age1c", "age1q"]
    assert blocks.update_sops_config(other, FILES) == text


def test_a14_an_edited_moved_or_missing_block_is_a_fault() -> None:
    text = blocks.update_sops_config("creation_rules:\n    - path_regex: x\n      age: age1q\n", FILES)
    assert blocks.sops_config_fault(text, FILES) is None
    assert blocks.sops_config_fault(text.replace("age1a,age1b", "age1a,age1b,age1evil"), FILES)
    assert blocks.sops_config_fault(None, FILES)
    head, _, tail = text.partition("creation_rules:\n")
    own = blocks.sops_rules(FILES, "    ")
    moved = head + "creation_rules:\n" + tail.replace(own, "") + own
    assert blocks.sops_config_fault(moved, FILES)


@given(
    st.dictionaries(
        st.text("abc/._-+()[]{}^$|\\?*", min_size=1, max_size=12), st.just([["age1a"]]), min_size=1, max_size=4
    )
)
def test_a_pattern_matches_its_path_only(files: dict[str, list[list[str]]]) -> None:
    import re

    for rule, path in zip(rules(blocks.update_sops_config(None, files)) or [], sorted(files), strict=True):
        assert re.search(rule["path_regex"], path)
        assert not re.search(rule["path_regex"], path + "x")
        assert not re.search(rule["path_regex"], "x" + path)


def test_attributes_stand_last_and_keep_the_users_lines() -> None:
    text = blocks.update_attributes("*.png binary\n", FILES)
    assert text.startswith("*.png binary\n# zopp:begin")
    assert "/secrets/dev.yaml -text -ident -filter -working-tree-encoding diff=zopp merge=zopp\n" in text
    assert blocks.update_attributes(text, FILES) == text
    assert (
        blocks.update_attributes(text + "late line\n", FILES)
        == "*.png binary\nlate line\n" + text[len("*.png binary\n") :]
    )
