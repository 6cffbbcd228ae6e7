"""(d): the project's own secrets in every form and context; nothing on clean trees; nothing of it in any output."""

import base64
import json
import os
import random
import stat
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from tests.support import Team, User
from zopp.scan import own

KEY = bytes(range(32))
NAME = "api/dev DB_PASSWORD"


def index(*values: bytes | str) -> own.Index:
    pairs = [(f"api/dev K{n}", v.encode() if isinstance(v, str) else v) for n, v in enumerate(values)]
    return own.read(own.build(KEY, pairs, {}, []), KEY)


CONTEXTS = {
    "scalar": "password: {v}\n",
    "url": "postgres://u:{v}@h/db\n",
    "query": "https://h/?token={v}&x=1\n",
    "flag": "mysql -p{v} db\n",
    "inside": "xx{v}yy\n",
    "json": '{{"a": "{v}"}}\n',
}


def forms_of(value: str) -> dict[str, str]:
    raw = value.encode()
    return {
        "raw": value,
        "base64": base64.b64encode(raw).decode(),
        "base64 of a line": base64.b64encode(b"user:" + raw + b"@host").decode(),
        "base64 one before": base64.b64encode(b"x" + raw).decode(),
        "base64 two before": base64.b64encode(b"xy" + raw + b"z").decode(),
        "base64 for URLs": base64.urlsafe_b64encode(b"abc" + raw).decode(),
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
        "JSON": json.dumps(value)[1:-1],
        "JSON, not ASCII": json.dumps(value, ensure_ascii=False)[1:-1],
        "URL": urllib.parse.quote(value, safe=""),
        "form": urllib.parse.quote_plus(value),
    }


VALUES = ["Zk3-pQ9_vLm2xT", "p@ss/w0rd+with=signs&more", 'quo"te\\back and space', "schlüssel-größe-42", "a1b2c3d4"]


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("value", VALUES)
def test_every_form_in_every_context(value: str, context: str) -> None:
    made = index(value, "another-Secret-7")
    for how, form in forms_of(value).items():
        text = CONTEXTS[context].format(v=form).encode()
        found = made.look(b"first\n" + text, set())
        assert [(line, name) for line, _, name in found] == [(2, "api/dev K0")], how


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=8, max_size=60), st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 3))
def test_any_value_in_any_bytes(value: bytes, before: bytes, behind: bytes, how: int) -> None:
    if not own.is_kept(value):
        return
    form = [value, base64.b64encode(before + value + behind), value.hex().encode(), base64.urlsafe_b64encode(value)][
        how
    ]
    if how in (1, 3) and len(value) < 10:
        return  # fewer than eight characters of the base64 depend on such a value alone
    text = b"x" + form + b"y"
    from zopp.scan.text import views

    if len(views(text)) == 1:
        assert index(value).look(text, set())


def test_each_line_of_a_longer_value() -> None:
    value = "-----BEGIN X-----\nfirst-line-of-the-key-1\nshort\nsecond-line-of-the-key\n-----END X-----\n"
    made = index(value)
    assert made.look(b"a: second-line-of-the-key\n", set())
    assert not made.look(b"a: short\n-----BEGIN X-----\n", set())


def test_short_values_only_as_a_whole_scalar() -> None:
    made = index("hx9!q")
    assert made.look(b"pw: hx9!q\n", set())
    assert made.look(b"PW='hx9!q'\n", set())
    assert not made.look(b"pw: xhx9!qx\nhx9!q\n", set())


@pytest.mark.parametrize("value", ["localhost", "true", "1234567", "changeme", "aaaaaaaaaa", "", "abc", "production"])
def test_what_is_kept_out(value: str) -> None:
    assert not own.is_kept(value.encode())


def test_nothing_in_clean_trees() -> None:
    """2,000 random values against a megabyte of code."""
    import sysconfig

    source = random.Random(3)
    made = index(*(base64.b64encode(source.randbytes(source.randint(6, 30))) for _ in range(2000)))
    seen = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:60]:
        data = path.read_bytes()
        seen += len(data)
        assert made.look(data, set()) == [], path
    assert seen > 1_000_000


def test_a_large_text_is_looked_through_as_a_small_one() -> None:
    """Across the borders of what is multiplied at once too, inside words, and as short scalars."""
    made = index("Zk3-pQ9_vLm2xT", "hx9!q")
    for before in range(own.BLOCK - 20, own.BLOCK + 3):
        text = b"a" * before + b"xxZk3-pQ9_vLm2xTyy\n" + b"lorem ipsum\n" * 9000 + b"pw: hx9!q\n"
        assert [(line, name[-2:]) for line, _, name in made.look(text, set())] == [(1, "K0"), (9002, "K1")]


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=8, max_size=400), st.binary(min_size=32, max_size=32), st.sampled_from(["little", "big"]))
def test_sums_are_what_they_are_one_by_one(text: bytes, key: bytes, order: str) -> None:
    """All windows at once, in either order of bytes, against each alone; and none is a short value's mark."""
    sums = own._Sums(key, order)
    every = bytes(sums.all(text, order))
    slow = [sums.of(text[at : at + 8]) for at in range(len(text) - 7)]
    assert [int.from_bytes(every[at : at + 4], order) for at in range(0, len(every), 4)] == slow
    assert max(slow) < 0xFFFFFFFF and sums.of(b"\0" * 8) != sums.of(b"\1" * 8)


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("size", [1, 4096, 1 << 20])
def test_streams_and_whole_texts_are_looked_through_alike(codec: str, size: int) -> None:
    made = index("Zk3-pQ9_vLm2xT", "schlüssel-größe-42", "hx9!q")
    lines = [f"line {n}" for n in range(60_000 if size > 1 else 2000)]
    for at in (0, 17, len(lines) // 2, len(lines) - 1):
        lines[at] = f"x schlüssel-größe-42 y{at}"
        lines[at + (at == 0)] += " Zk3-pQ9_vLm2xT"
    lines[900] = "pw=hx9!q"
    data = "\n".join(lines).encode(codec)
    whole = made.look(data, set())
    assert len(whole) == 9
    watch = own.Stream(made)
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(watch.through(parts)) == data
    assert watch.found == whole


def test_the_index_holds_no_value() -> None:
    values = [f"secret-value-{n}-xyz" for n in range(50)]
    data = own.build(KEY, [(NAME, value.encode()) for value in values], {}, [])
    for value in values:
        for form in forms_of(value).values():
            assert form[:8].encode() not in data.partition(b"\n")[2].partition(b"\n")[2]
            assert form.encode() not in data


@pytest.mark.parametrize("cut", [0, 5, 30, 200, -1])
def test_a_damaged_index_is_none(tmp_path: Path, cut: int) -> None:
    env = {"HOME": str(tmp_path)}
    data = own.build(KEY, [(NAME, b"Zk3-pQ9_vLm2xT")], {}, [])
    own.save(str(tmp_path), env, KEY, data)
    assert own.load(str(tmp_path), env) is not None
    Path(own.index_path(str(tmp_path))).write_bytes(data[:cut])
    assert own.load(str(tmp_path), env) is None


# --- in a workspace

SECRET = "Zk3-pQ9_vLm2xT-7"  # zopp:allow made up


@pytest.fixture
def alice(team: Team) -> User:
    team.alice.set("DB_PASSWORD", SECRET)
    team.alice.share()
    return team.alice


def test_planted_values_are_found_and_said_by_name(alice: User) -> None:
    said = alice.zopp("scan", "--staged")
    assert "not looked for" in said.err and "api/dev" in said.err and said.code == 0
    done = alice.ok("scan", "--reindex")
    assert "values of api/dev" in done.err
    alice.write("app.py", f"x = 'postgres://u:{SECRET}@h'\ny = '{base64.b64encode(SECRET.encode()).decode()}'\n")
    alice.git("add", "app.py")
    done = alice.zopp("scan", "--staged", "--json")
    assert done.code == 1
    own_ones = [row for row in done.json["findings"] if row["check"] == "own"]
    assert {(row["line"], row["what"]) for row in own_ones} == {
        (1, "equals DB_PASSWORD of api/dev"),
        (2, "equals DB_PASSWORD of api/dev"),
    }
    assert "fingerprint" not in own_ones[0]
    assert done.json["own_secrets"] == "windows" and done.json["not_covered"] == []
    assert SECRET not in done.text and SECRET[:6] not in done.text


def test_only_what_is_new(alice: User) -> None:
    alice.write("app.py", f"x = 1\nold = '{SECRET[::-1]}'\n")
    alice.commit()
    alice.ok("scan", "--reindex")
    alice.write("app.py", f"x = 2\nold = '{SECRET}'\n")
    alice.git("add", "app.py")
    assert alice.zopp("scan").code == 1
    alice.commit()
    alice.write("app.py", f"x = 3\nold = '{SECRET}'\n")
    alice.git("add", "app.py")
    assert alice.zopp("scan").code == 0


def test_an_older_index_is_said(alice: User) -> None:
    alice.ok("scan", "--reindex")
    assert "not looked for" not in alice.zopp("scan").err
    alice.set("OTHER", "some-Other-4711")
    alice.git("add", "--all")
    said = alice.zopp("scan", "--json")
    assert said.json["not_covered"] == ["api/dev"] and said.code == 0
    toml = alice.read("zopp.toml").decode() + "\n[guard]\nrequire_index = true\n"
    alice.write("zopp.toml", toml)
    alice.git("add", "--all")
    assert alice.zopp("scan").code == 3


def big(*lines: str) -> str:
    return "".join(f"{line}\n" for line in ("x = 1\n" * 900_000, *lines))


def test_a_large_file_is_looked_through_too(alice: User) -> None:
    """Over 4 MB, where files are read in blocks; and there too only what is new counts."""
    alice.ok("scan", "--reindex")
    alice.write("big.txt", big(f"a = {SECRET}"))
    alice.git("add", "big.txt")
    staged = alice.zopp("scan", "--json")
    assert staged.code == 1
    assert [(row["what"], row["line"]) for row in staged.json["findings"]] == [
        ("equals DB_PASSWORD of api/dev", 900_002)
    ]
    assert staged.json["own_secrets"] == "windows"
    assert alice.zopp("scan", "big.txt").code == 1
    alice.commit()
    alice.write("big.txt", big("b = 2", f"a = {SECRET}"))
    alice.git("add", "big.txt")
    assert alice.zopp("scan").code == 0
    alice.write("big.txt", big("b = 2", f"a = {SECRET}", f"c = {SECRET}"))
    alice.git("add", "big.txt")
    assert alice.zopp("scan").code == 1
    alice.write("zopp.toml", alice.read("zopp.toml").decode() + '\n[guard]\npublic = ["dev/DB_PASSWORD"]\n')
    alice.git("add", "--all")
    assert alice.zopp("scan").code == 0


def test_a_public_key_is_declared(alice: User) -> None:
    alice.ok("scan", "--reindex")
    alice.write("app.py", f"x = '{SECRET}'\n")
    alice.write("zopp.toml", alice.read("zopp.toml").decode() + '\n[guard]\npublic = ["dev/DB_PASSWORD"]\n')
    alice.git("add", "--all")
    assert alice.zopp("scan").code == 0


def test_a_value_that_stands_in_clear_already_is_left_out_and_named(alice: User) -> None:
    alice.write("notes.txt", f"the password is {SECRET}\n")
    alice.commit()
    done = alice.ok("scan", "--reindex")
    assert "stands in clear" in done.err and "DB_PASSWORD" in done.err
    assert SECRET not in done.text


def test_what_is_only_staged_is_still_looked_for(alice: User) -> None:
    """An index made between `git add` and the commit does not let the commit pass."""
    alice.write("app.py", f"x = '{SECRET}'\n")
    alice.git("add", "app.py")
    assert "stands in clear" not in alice.ok("scan", "--reindex").err
    assert alice.zopp("scan").code == 1


def test_index_and_key_lie_where_they_should(alice: User) -> None:
    alice.ok("scan", "--reindex")
    path = alice.path(".git/zopp/guard-index")
    (key,) = (alice.home / ".config/zopp/guard").iterdir()
    for each in (path, key):
        assert stat.S_IMODE(os.stat(each).st_mode) == 0o600
    assert alice.git("status", "--porcelain") == ""
    assert SECRET.encode() not in path.read_bytes()
    key.unlink()
    assert "not looked for" in alice.zopp("scan").err


def test_forgotten(alice: User) -> None:
    alice.ok("scan", "--reindex")
    assert "deleted" in alice.ok("scan", "--forget").err
    assert not alice.path(".git/zopp/guard-index").exists()
    assert not list((alice.home / ".config/zopp/guard").iterdir())
    assert "there was no index" in alice.ok("scan", "--forget").err


def doctor(user: User) -> list[tuple[str, str]]:
    """What it says of the index."""
    rows = user.zopp("doctor", "--json").json
    return [(row["level"], row["text"]) for row in rows if "own secrets" in row["text"] or "clear" in row["text"]
            or "guard" in row["text"]]  # fmt: skip


def test_doctor_looks_after_the_index(alice: User) -> None:
    """None, fresh, old, open to others, without its key, damaged; and what stands in clear."""
    assert [level for level, text in doctor(alice) if "no index" in text] == ["info"]
    alice.ok("scan", "--reindex")
    assert [level for level, text in doctor(alice) if "are looked for: api/dev, " in text] == ["ok"]
    alice.set("OTHER", "some-Other-4711")
    assert [level for level, text in doctor(alice) if "older than api/dev" in text] == ["warn"]
    alice.write("notes.txt", f"the password is {SECRET}\n")
    alice.commit()
    alice.ok("scan", "--reindex")
    assert ("warn", "api/dev DB_PASSWORD stands in clear in a committed file: weak, or leaked") in doctor(alice)
    assert SECRET not in alice.zopp("doctor").text
    path = alice.path(".git/zopp/guard-index")
    path.chmod(0o644)
    assert [level for level, text in doctor(alice) if "guard-index is open to others" in text] == ["fail"]
    assert alice.zopp("doctor").code == 1
    path.chmod(0o600)
    (key,) = (alice.home / ".config/zopp/guard").iterdir()
    key.chmod(0o640)
    assert [level for level, text in doctor(alice) if ".key is open to others" in text] == ["fail"]
    key.unlink()
    assert [level for level, text in doctor(alice) if "its key is gone" in text] == ["warn"]
    alice.ok("scan", "--reindex")
    path.write_bytes(path.read_bytes()[:-1])
    assert [level for level, text in doctor(alice) if "damaged" in text] == ["warn"]
    alice.ok("scan", "--reindex")
    assert len(list((alice.home / ".config/zopp/guard").iterdir())) == 1


def test_an_index_does_not_outlive_the_right_to_read(team: Team) -> None:
    alice, bob = team.alice, team.bob
    team.grant("bob", "read", "api/dev")
    bob.ok("scan", "--reindex")
    assert [level for level, _ in doctor(bob)] == ["ok"]
    alice.ok("revoke", "bob", "api/dev")
    alice.share()
    bob.pull()
    said = [(level, text) for level, text in doctor(bob) if "may not read" in text]
    assert [(level, "api/dev" in text) for level, text in said] == [("warn", True)]
    bob.ok("scan", "--reindex")
    assert not [text for _, text in doctor(bob) if "may not read" in text]


def test_offboarding_renews_the_index(team: Team) -> None:
    """All files are encrypted anew, so it would be older than they are."""
    alice = team.alice
    team.grant("bob", "read", "api/dev")
    assert "index" not in alice.ok("offboard", "bob", "--dry-run").err
    alice.ok("scan", "--reindex")
    done = alice.ok("offboard", "bob")
    assert "the index of own secrets is made anew" in done.err
    alice.git("add", "--all")
    assert alice.zopp("scan", "--json").json["not_covered"] == []


def test_offboarding_makes_no_index_where_there_was_none(team: Team) -> None:
    team.grant("bob", "read", "api/dev")
    assert "index" not in team.alice.ok("offboard", "bob").err
    assert not team.alice.path(".git/zopp/guard-index").exists()


def test_offboarding_deletes_an_index_that_it_cannot_renew(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    from zopp.cli import reindex
    from zopp.errors import Denied

    alice = team.alice
    team.grant("bob", "read", "api/dev")
    alice.ok("scan", "--reindex")

    def denied(*_: object) -> None:
        raise Denied("you may not read it", code="denied")

    monkeypatch.setattr(reindex, "open_readable", denied)
    done = alice.ok("offboard", "bob")
    assert "the index of own secrets is deleted" in done.err
    assert not alice.path(".git/zopp/guard-index").exists()
    assert not list((alice.home / ".config/zopp/guard").iterdir())


def test_the_encrypted_file_itself_is_no_finding(alice: User) -> None:
    alice.ok("scan", "--reindex")
    alice.set("DB_PASSWORD2", SECRET + "x")
    alice.git("add", "--all")
    assert alice.zopp("scan").code == 0


# --- zopp's block in .sops.yaml

RULE = "    - path_regex: .*\n      age: age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj\n"
CHANGES = {
    "rule-before": lambda text: text.replace("creation_rules:\n", "creation_rules:\n" + RULE, 1),
    "recipient": lambda text: text.replace(
        "age: 'age1", "age: 'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869,age1", 1
    ),
    "gone": lambda text: "",
}


@pytest.mark.parametrize("how", CHANGES)
def test_zopps_block_must_stand_unchanged_and_first(team: Team, how: str) -> None:
    alice = team.alice
    alice.write(".sops.yaml", CHANGES[how](alice.read(".sops.yaml").decode()))
    alice.git("add", "--all")
    said = alice.zopp("scan", "--json")
    assert said.code == 1
    assert [row["rule"] for row in said.json["findings"]] == ["sops-rules"]


def test_the_block_deleted_and_a_nearer_file(team: Team) -> None:
    alice = team.alice
    alice.git("rm", "-q", ".sops.yaml")
    assert "sops-rules" in alice.zopp("scan").out
    alice.git("reset", "-q", "--hard")
    alice.write("secrets/.sops.yaml", "creation_rules:\n" + RULE)
    alice.git("add", "--all")
    assert "secrets/.sops.yaml:1:1: sops-rules" in alice.zopp("scan").out
    alice.write("secrets/.sops.yaml", "creation_rules:\n    - path_regex: other\n      age: x\n")
    alice.git("add", "--all")
    assert alice.zopp("scan").code == 0


def test_the_block_follows_the_policy(team: Team) -> None:
    """A grant changes it, and the guard agrees; staged without it, it does not. One's own rules behind it are free."""
    alice = team.alice
    alice.ok("grant", "bob", "read", "api")
    alice.git("add", "--all")
    assert alice.zopp("scan").code == 0, alice.zopp("scan").text
    alice.git("reset", "-q", "--", ".sops.yaml")
    assert "sops-rules" in alice.zopp("scan").out
    alice.write(".sops.yaml", alice.read(".sops.yaml").decode() + "    - path_regex: mine\n      age: x\n")
    alice.git("add", "--all")
    assert alice.zopp("scan").code == 0


def test_a_sops_file_that_no_manifest_lists(team: Team) -> None:
    """A finding where secrets lie, a note elsewhere."""
    alice = team.alice
    alice.write("secrets/copy.yaml", alice.read("secrets/dev.yaml"))
    alice.git("add", "--all")
    assert "secrets/copy.yaml:1:1: unlisted" in alice.zopp("scan").out
    alice.git("mv", "secrets/copy.yaml", "copy.yaml")
    said = alice.zopp("scan")
    assert said.code == 0 and "copy.yaml: is a sops file that no manifest lists" in said.err
