"""Changing files in place: only what changed is rewritten, in any layout, and wrong requests are refused."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from zopp.errors import FormatError, IntegrityError, NotFound, UsageError, ZoppError
from zopp.sopsfile import (
    Drop,
    Put,
    Selector,
    edit,
    encrypt,
    load_plain,
    read,
    replace_groups,
    replace_tree,
    rotate,
    to_plain,
)

from .samples import FLAT, GROUPED, KEY, LATER, NOW, OTHER, changed_lines, encrypted, entry, shape, tree

VALUE = {
    "a": "hello",
    "m": {"x": "1", "y": "2"},
    "l": ["p", {"q": "r", "s": "t"}, "u"],
    "c_unencrypted": "clear",
    "z": None,
}
YAML = b"""# head
a: hello
m:
  # about x
  x: one

  w: two
  # foot
l:
- p
# about q
- q: r
  s: t
- u
c_unencrypted: clear
"""


def apply(data: bytes, fmt: str, *changes: Put | Drop, **options: Any) -> bytes:
    return edit(read(data, fmt), KEY, changes, lastmodified=LATER, **options)


def plain(data: bytes, fmt: str = "yaml", key: bytes = KEY) -> Any:
    return to_plain(read(data, fmt).decrypt(key).documents[0])


def stamps(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if b"lastmodified" in line or b"mac:" in line or b'"mac"' in line]


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_changed_value_changes_its_line_and_the_stamps(fmt: str) -> None:
    data = encrypted(VALUE, fmt)
    for path, value in (
        (("a",), "new"),
        (("m", "y"), "new"),
        (("l", 0), "new"),
        (("l", 1, "s"), 5),
        (("z",), "x"),
        (("l", 2), None),
    ):
        after = apply(data, fmt, Put(path, value))
        gone, new = changed_lines(data, after)
        assert len(gone) == len(new) == 3
        assert len(stamps(gone)) == len(stamps(new)) == 2
        found = plain(after, fmt)
        for part in path:
            found = found[part]
        assert found == value
        assert read(after, fmt).metadata.lastmodified == LATER


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_equal_value_is_no_change(fmt: str) -> None:
    """Equal value of equal type: the identical bytes. Another type is a change."""
    data = encrypted({**VALUE, "n": 1}, fmt)
    for path, value in (
        (("a",), "hello"),
        (("m",), {"x": "1", "y": "2"}),
        (("l", 1), {"q": "r", "s": "t"}),
        (("z",), None),
        (("n",), 1),
    ):
        assert apply(data, fmt, Put(path, value)) == data
    assert apply(data, fmt, Put(("n",), 1.0)) != data
    assert apply(data, fmt, Put(("n",), "1")) != data
    assert apply(data, fmt, Put(("n",), True)) != data
    assert apply(data, fmt) == data


def test_new_key_goes_to_the_end_before_sops() -> None:
    data = encrypted(load_plain(YAML, "yaml"))
    after = apply(data, "yaml", Put(("new",), "v", note="why\nand how"), Put(("m", "k", "deep"), ["i", {"j": True}]))
    gone, _ = changed_lines(data, after)
    assert len(gone) == 2
    assert gone == stamps(gone)
    shown = load_plain_of(after)
    assert shown.endswith("# why\n# and how\nnew: v\n")
    assert "    # foot\n    k:\n        deep:\n            - i\n            - j: true\n" in shown


def load_plain_of(data: bytes) -> str:
    from zopp.sopsfile import dump_plain

    return dump_plain(read(data, "yaml").decrypt(KEY), "yaml").decode()


def test_dropped_key_takes_its_note_with_it() -> None:
    data = encrypted(load_plain(YAML, "yaml"))
    after = apply(data, "yaml", Drop(("m", "x")), Drop(("l", 1)))
    shown = load_plain_of(after)
    assert "about" not in shown
    assert shown == "# head\na: hello\nm:\n    w: two\n    # foot\nl:\n    - p\n    - u\nc_unencrypted: clear\n"
    gone, new = changed_lines(data, after)
    assert stamps(new) == new
    assert len(gone) == 2 + 2 + 3


def test_note_behind_a_blank_line_stays() -> None:
    """A comment that a blank line parts from the key is not its note."""
    data = encrypted({"a": "x", "b": "y"})
    spaced = data.replace(b"b: ENC", b"# about the file\n\nb: ENC")
    after = edit(read(spaced, "yaml"), KEY, [Drop(("b",))], lastmodified=LATER)
    assert b"# about the file\n" in after


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_containers_come_and_go(fmt: str) -> None:
    data = encrypted(VALUE, fmt)
    after = apply(data, fmt, Drop(("m", "x")), Drop(("m", "y")), Put(("l",), []), Put(("a",), {"b": {"c": [[1]]}}))
    assert plain(after, fmt) == {**VALUE, "m": {}, "l": [], "a": {"b": {"c": [[1]]}}}
    back = apply(after, fmt, Put(("m", "k"), "v"), Put(("l",), ["x"]), Put(("a",), "s"))
    assert plain(back, fmt) == {**VALUE, "m": {"k": "v"}, "l": ["x"], "a": "s"}


def test_first_key_of_a_list_item_can_go() -> None:
    data = encrypted(VALUE)
    assert plain(apply(data, "yaml", Drop(("l", 1, "q"))))["l"] == ["p", {"s": "t"}, "u"]


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        (Put(("sops",), 1), FormatError, "reserved"),
        (Put(("sops", "mac"), "x"), FormatError, "reserved"),
        (Drop(("sops",)), FormatError, "reserved"),
        (Put((), "x"), UsageError, "bad_path"),
        (Put(("l", 3), "x"), NotFound, "no_key"),
        (Put(("l", -1), "x"), NotFound, "no_key"),
        (Put(("l", "x"), "x"), UsageError, "bad_path"),
        (Put(("m", 0), "x"), UsageError, "bad_path"),
        (Put(("a", "b"), "x"), UsageError, "through_scalar"),
        (Put(("z", "b"), "x"), UsageError, "through_scalar"),
        (Drop(("nope",)), NotFound, "no_key"),
        (Drop(("m", "nope")), NotFound, "no_key"),
        (Drop(("nope", "x")), NotFound, "no_key"),
        (Put(("new_unencrypted",), "x"), FormatError, "clear_value"),
        (Put(("c_unencrypted",), "x"), FormatError, "clear_value"),
        (Put(("m", "new_unencrypted", "deep"), ["x"]), FormatError, "clear_value"),
        (Put(("a",), 2**63), FormatError, "int_range"),
        (Put(("a",), object()), FormatError, "value_type"),
        (Put(("a",), {1: 2}), FormatError, "key_type"),
        (Put(("a",), "\ud800"), FormatError, "lone_surrogate"),
        (Put((True,), "x"), UsageError, "bad_path"),
    ],
)
@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_refused_changes(fmt: str, change: Put | Drop, kind: type[ZoppError], code: str) -> None:
    with pytest.raises(kind) as caught:
        apply(encrypted(VALUE, fmt), fmt, change)
    assert caught.value.code == code


def test_clear_values_on_demand() -> None:
    data = encrypted(VALUE)
    for value in ("x", "a: b", "multi\nline", 1.5, True, ["x", {"k": "v"}]):
        assert plain(apply(data, "yaml", Put(("c_unencrypted",), value), allow_clear=True))["c_unencrypted"] == value
        assert plain(apply(data, "yaml", Put(("n_unencrypted",), value), allow_clear=True))["n_unencrypted"] == value


def test_mac_is_checked_first() -> None:
    data = encrypted(VALUE).replace(b"c_unencrypted: clear", b"c_unencrypted: other")
    with pytest.raises(IntegrityError):
        apply(data, "yaml", Put(("a",), "x"))
    with pytest.raises(IntegrityError):
        rotate(read(data, "yaml"), KEY, OTHER, FLAT, lastmodified=LATER)


def pyyaml_layout(data: bytes) -> bytes:
    value = yaml.safe_load(data)
    return yaml.safe_dump({"sops": value.pop("sops"), **value}, sort_keys=False).encode()


def value_text(found: Any, key: str) -> bytes:
    text: str = next(item.text for item in found.items() if item.path == (key,))
    return text.encode()


LAYOUTS = {
    "crlf": lambda data: data.replace(b"\n", b"\r\n"),
    "bom": lambda data: b"\xef\xbb\xbf" + data,
    "pyyaml, sops first": pyyaml_layout,
    "no final newline": lambda data: data[:-1],
    "flow": lambda data: json.dumps(yaml.safe_load(data)).encode(),
    "flow, many lines": lambda data: json.dumps(yaml.safe_load(data), indent=1).encode(),
    "quoted": lambda data: data.replace(b": ENC[", b': "ENC[').replace(b"]\n", b']"\n'),
    "marker and blank lines": lambda data: (
        b"---\n" + data.replace(b"\nm:", b"\n\n\nm:").replace(b"\nsops:", b"\n\n# end\nsops:")
    ),
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_other_clients_layouts(layout: str) -> None:
    """Each layout keeps every byte that the change does not concern."""
    data = LAYOUTS[layout](encrypted(VALUE))
    after = apply(data, "yaml", Put(("a",), "new"))
    assert plain(after) == {**VALUE, "a": "new"}
    old, new = read(data, "yaml"), read(after, "yaml")
    expected = data.replace(NOW.encode(), LATER.encode()).replace(old.metadata.mac.encode(), new.metadata.mac.encode())
    assert after == expected.replace(value_text(old, "a"), value_text(new, "a"))
    grown = apply(data, "yaml", Put(("k",), "v"), Put(("m", "n"), "w"), Drop(("l", 1)), Drop(("z",)))
    wanted = {**VALUE, "k": "v", "m": {**VALUE["m"], "n": "w"}, "l": ["p", "u"]}  # type: ignore[dict-item]
    del wanted["z"]
    assert plain(grown) == wanted
    turned = rotate(read(data, "yaml"), KEY, OTHER, GROUPED, threshold=2, lastmodified=LATER)
    assert plain(turned, key=OTHER) == VALUE
    assert read(turned, "yaml").metadata.groups == GROUPED
    again = replace_groups(read(turned, "yaml"), FLAT)
    assert read(again, "yaml").metadata.groups == FLAT
    assert read(again, "yaml").metadata.threshold is None
    assert plain(again, key=OTHER) == VALUE


@pytest.mark.parametrize("layout", ["minified", "two spaces", "spaced on one line"])
def test_json_layouts(layout: str) -> None:
    options: dict[str, Any] = {"minified": {"separators": (",", ":")}, "two spaces": {"indent": 2}}.get(layout, {})
    data = json.dumps(json.loads(encrypted(VALUE, "json")), **options).encode()
    after = apply(
        data, "json", Put(("a",), "new"), Put(("k", "n"), ["v"]), Drop(("l", 0)), Drop(("z",)), Drop(("m", "y"))
    )
    wanted = {**VALUE, "a": "new", "k": {"n": ["v"]}, "l": VALUE["l"][1:], "m": {"x": "1"}}  # type: ignore[index]
    del wanted["z"]
    assert plain(after, "json") == wanted
    exact = layout != "spaced on one line"
    assert not exact or json.dumps(json.loads(after), **options).encode() == after
    moved = replace_groups(read(after, "json"), GROUPED, threshold=2)
    assert not exact or json.dumps(json.loads(moved), **options).encode() == moved
    assert read(moved, "json").metadata.groups == GROUPED
    assert plain(replace_groups(read(moved, "json"), FLAT), "json") == wanted


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_rotate_keeps_layout(fmt: str) -> None:
    data = encrypted(load_plain(YAML, "yaml") if fmt == "yaml" else VALUE, fmt)
    after = rotate(read(data, fmt), KEY, OTHER, FLAT, lastmodified=LATER)
    old, new = read(data, fmt), read(after, fmt)
    assert shape(new.decrypt(OTHER)) == shape(old.decrypt(KEY))
    assert [i.path for i in new.items()] == [i.path for i in old.items()]
    assert not {i.text for i in new.items() if i.encrypted} & {i.text for i in old.items() if i.encrypted}
    gone, _ = changed_lines(data, after)
    kept = [line for line in data.splitlines(True) if b"ENC[" not in line and b"lastmodified" not in line]
    assert all(line not in gone for line in kept)
    with pytest.raises(IntegrityError):
        new.decrypt(KEY)
    with pytest.raises(FormatError) as caught:
        rotate(old, KEY, KEY, FLAT, lastmodified=LATER)
    assert caught.value.code == "same_key"


@pytest.mark.parametrize("fmt", ["yaml", "json"])
@pytest.mark.parametrize("before", [FLAT, GROUPED])
@pytest.mark.parametrize("after", [((entry("age1x"), entry("age1y")),), GROUPED[::-1]])
def test_replace_groups_touches_recipients_only(fmt: str, before: Any, after: Any) -> None:
    data = encrypted(VALUE, fmt, groups=before)
    moved = replace_groups(read(data, fmt), after)
    old, new = read(data, fmt), read(moved, fmt)
    assert new.metadata.groups == after
    assert (new.metadata.mac, new.metadata.lastmodified) == (old.metadata.mac, NOW)
    assert moved.split(b"sops")[0] == data.split(b"sops")[0]
    assert plain(moved, fmt) == VALUE
    assert moved == encrypted_like(moved, fmt)
    assert replace_groups(new, after) == moved


def encrypted_like(data: bytes, fmt: str) -> bytes:
    """A file is laid out as a first encryption would lay it out: alphabetical, no odd spacing."""
    names = list(read(data, fmt).metadata.plain)
    assert names == sorted(names)
    return data


def test_old_order_is_kept() -> None:
    """A file of sops before 3.13 keeps `recipient` before `enc`."""
    data = encrypted(VALUE).replace(b"        - enc: |", b"        - recipient: age1test\n          enc: |")
    data = data.replace(b"          recipient: age1test\n    last", b"    last")
    moved = replace_groups(read(data, "yaml"), GROUPED, threshold=2)
    names = list(read(moved, "yaml").metadata.plain)
    assert names[:2] == ["shamir_threshold", "key_groups"]
    assert moved.index(b"recipient: age1a") < moved.index(b"enc: |")


def test_foreign_entries() -> None:
    """Kept verbatim under the same data key, refused by rotate."""
    foreign = b'    pgp:\n        - created_at: "2024-01-01T00:00:00Z"\n          enc: |-\n            x\n          fp: ABCD\n'  # noqa: E501
    data = encrypted(VALUE).replace(b"    unencrypted_suffix", foreign + b"    unencrypted_suffix")
    found = read(data, "yaml")
    assert foreign in replace_groups(found, ((entry("age1new"),),))
    assert foreign in edit(found, KEY, [Put(("a",), "x")], lastmodified=LATER)
    with pytest.raises(FormatError) as caught:
        rotate(found, KEY, OTHER, FLAT, lastmodified=LATER)
    assert caught.value.code == "foreign_keys"
    with pytest.raises(FormatError) as caught:
        replace_groups(found, GROUPED)
    assert caught.value.code == "foreign_keys"


def test_empty_groups_are_refused() -> None:
    for groups in ((), ((),), (FLAT[0], ())):
        with pytest.raises(FormatError):
            replace_groups(read(encrypted(VALUE), "yaml"), groups)


def test_equal_list_values_keep_their_ciphertexts() -> None:
    """sops collapses equal values of a list to one ciphertext (section 11); a patch leaves them alone."""
    data = encrypted({"l": ["same", "same"], "a": "x"})
    first, second = (item.text for item in read(data, "yaml").items()[:2])
    assert first != second
    after = apply(data, "yaml", Put(("a",), "y"))
    assert [item.text for item in read(after, "yaml").items()[:2]] == [first, second]


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_replace_tree_keeps_unchanged_ciphertext(fmt: str) -> None:
    data = encrypted(VALUE, fmt)
    found = read(data, fmt)
    made = found.decrypt(KEY)
    assert replace_tree(found, KEY, made, lastmodified=LATER) == data
    new = {
        "k": "v",
        "z": None,
        "a": "hello",
        "l": ["p", "i", {"q": "r2", "s": "t"}, "u"],
        "c_unencrypted": "clear",
        "m": VALUE["m"],
    }
    after = replace_tree(found, KEY, tree(new), lastmodified=LATER)
    assert plain(after, fmt) == new
    assert list(plain(after, fmt)) == list(new)
    old_texts = {item.text for item in found.items() if item.encrypted}
    kept = [item.path for item in read(after, fmt).items() if item.text in old_texts]
    assert ("a",) in kept
    assert ("m", "x") in kept
    assert ("l", 2, "s") in kept or ("l", 3) in kept


trees = st.recursive(
    st.sampled_from(["x", "y", "", 1, True, None, "a b", "multi\nline"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdef"), inner, max_size=4),
    max_leaves=10,
)
roots = st.dictionaries(st.sampled_from("abcdefgh"), trees, min_size=1, max_size=5)


@given(roots, roots, st.sampled_from(["yaml", "json"]))
@settings(max_examples=250, deadline=None)
def test_any_tree_becomes_any_other(old: dict[str, Any], new: dict[str, Any], fmt: str) -> None:
    data = encrypted(old, fmt)
    after = replace_tree(read(data, fmt), KEY, tree(new), lastmodified=LATER)
    assert shape(read(after, fmt).decrypt(KEY)) == shape(tree(new))
    assert list(plain(after, fmt)) == list(new)


@given(roots, st.data(), st.sampled_from(["yaml", "json"]))
@settings(max_examples=250, deadline=None)
def test_any_edit(value: dict[str, Any], draw: st.DataObject, fmt: str) -> None:
    """Put and drop anywhere: the result is the changed tree, everything else keeps its ciphertext."""
    data = encrypted(value, fmt)
    found = read(data, fmt)
    path = draw.draw(st.sampled_from(found.paths()))
    put = draw.draw(st.booleans())
    new = draw.draw(trees)
    after = edit(found, KEY, [Put(path, new) if put else Drop(path)], lastmodified=LATER)
    model = json.loads(json.dumps(value))
    spot = model
    for part in path[:-1]:
        spot = spot[part]
    if put:
        spot[path[-1]] = new
    else:
        del spot[path[-1]]
    assert shape(read(after, fmt).decrypt(KEY)) == shape(tree(model))
    old_texts = {item.path: item.text for item in found.items() if item.encrypted}
    if put:
        for item in read(after, fmt).items():
            if item.path in old_texts and item.path[: len(path)] != path:
                assert item.text == old_texts[item.path]


@given(roots, st.data(), st.sampled_from(["yaml", "json"]))
@settings(max_examples=100, deadline=None)
def test_any_pruned_drop(value: dict[str, Any], draw: st.DataObject, fmt: str) -> None:
    """What the drops emptied goes with them; what was empty before, lists' items and the document stay."""
    data = encrypted(value, fmt)
    found = read(data, fmt)
    top = draw.draw(st.sampled_from(found.paths()))[0]
    paths = [path for path in found.paths() if path[0] == top and not any(isinstance(part, int) for part in path)]
    model = json.loads(json.dumps(value))
    for path in paths:
        spots = [model]
        for part in path[:-1]:
            spots.append(spots[-1][part])
        del spots.pop()[path[-1]]
        for part in reversed(path[:-1]):
            if not spots[-1][part]:
                del spots[-1][part]
            spots.pop()
    after = edit(found, KEY, [Drop(path, prune=True) for path in paths], lastmodified=LATER)
    assert shape(read(after, fmt).decrypt(KEY)) == shape(tree(model))


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_pruning_leaves_what_was_empty_and_every_other_line(fmt: str) -> None:
    value = {"a": {"b": {"c": "1"}, "d": {}}, "m": {"n": {"o": "2", "p": "3"}}, "l": [{"q": {"r": "4"}}], "z": "5"}
    data = encrypted(value, fmt)

    def pruned(*paths: tuple[str | int, ...]) -> Any:
        after = apply(data, fmt, *(Drop(path, prune=True) for path in paths))
        if fmt == "yaml":
            new = set(after.split(b"\n")) - set(data.split(b"\n"))
            assert new - {b"    - {}"} == set(stamps(after.split(b"\n")))
        return plain(after, fmt)

    assert pruned(("a", "b", "c")) == {**value, "a": {"d": {}}}
    assert pruned(("m", "n", "o"), ("m", "n", "p")) == {k: v for k, v in value.items() if k != "m"}
    assert pruned(("m", "n", "o")) == {**value, "m": {"n": {"p": "3"}}}
    assert pruned(("m", "n", "o"), ("m", "n")) == {k: v for k, v in value.items() if k != "m"}
    assert pruned(("l", 0, "q", "r"))["l"] == [{}]
    again = apply(data, fmt, Drop(("m", "n"), prune=True), Put(("m", "n", "k"), "v"))
    assert plain(again, fmt)["m"] == {"n": {"k": "v"}}
    assert plain(apply(data, fmt, Drop(("a", "b", "c"))), fmt)["a"] == {"b": {}, "d": {}}


def test_several_documents() -> None:
    """The first is edited; every block is stamped; a later value cannot be lost."""
    source = load_plain(b"a: x\n---\nb: y\n", "yaml")
    data = encrypted(source)
    assert data.count(b"lastmodified") == 2
    after = apply(data, "yaml", Put(("a",), "new"), Put(("c",), "d"))
    assert shape(read(after, "yaml").decrypt(KEY)) == shape(load_plain(b"a: new\nc: d\n---\nb: y\n", "yaml"))
    turned = rotate(read(after, "yaml"), KEY, OTHER, GROUPED, threshold=2, lastmodified=NOW)
    assert shape(read(turned, "yaml").decrypt(OTHER)) == shape(read(after, "yaml").decrypt(KEY))


def test_aliases_cannot_be_patched() -> None:
    data = encrypted({"a": "x", "b_unencrypted": "yy"}).replace(
        b"b_unencrypted: yy", b"b_unencrypted: &n yy\nc_unencrypted: *n"
    )
    with pytest.raises((FormatError, IntegrityError)):
        apply(data, "yaml", Put(("a",), "z"))


def test_comment_selector_after_drop() -> None:
    """Dropping the comment that selected the next value must not leave that value unreadable."""
    source = load_plain(b"a: 1\n# sec\nb: 2\nc: 3\n", "yaml")
    data = encrypted(source, selector=Selector("encrypted_comment_regex", "sec"))
    after = apply(data, "yaml", Put(("d",), "x", note="sec"))
    assert b"\n# sec\nd: ENC[" in after.replace(b"#  sec", b"# sec")
    assert plain(apply(data, "yaml", Drop(("b",)))) == {"a": 1, "c": 3}


def test_injected_randomness_makes_it_reproducible() -> None:
    made = [encrypt(tree(VALUE), "yaml", KEY, FLAT, lastmodified=NOW, iv=lambda n: b"\7" * n) for _ in range(2)]
    assert made[0] == made[1]


def test_bottomless_values_are_refused() -> None:
    """A value nested without end is an error with a code, not a crash."""
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    for change in (lambda: encrypted({"a": deep}), lambda: apply(encrypted(VALUE), "yaml", Put(("a",), deep))):
        with pytest.raises(FormatError) as caught:
            change()
        assert caught.value.code == "too_deep"
