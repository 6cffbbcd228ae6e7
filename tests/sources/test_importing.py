"""`zopp import` as a whole, in a real repository: plans, map files, pruning, one change or none."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.support import Team, User
from zopp.cli.importing import applying
from zopp.exchange import scalars
from zopp.repo import journal

CANARY = "kanarienvogel7"
MAP = """
exclude = ["LEGACY_*"]
[[route]]
from = "PROD_*"
env = "prod"
strip_prefix = "PROD_"
[rename]
DB = "DATABASE_URL"
"""


@pytest.fixture
def alice(tmp_path: Path) -> User:
    return Team.make(tmp_path).alice


def write(user: User, name: str, text: str) -> None:
    (user.repo / name).write_text(text)


def state(user: User) -> dict[str, bytes]:
    """Every file of the work tree, and where HEAD is."""
    found = {
        str(path.relative_to(user.repo)): path.read_bytes()
        for path in user.repo.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    return {**found, "HEAD": user.git("rev-parse", "HEAD").encode()}


def values(user: User, env: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(user.ok("export", "--format", "json", "-e", env).out)
    return found


def test_a_map_file_sends_entries_to_environments_as_one_change(alice: User) -> None:
    write(alice, "all.env", f"A={CANARY}\nDB=x\nPROD_A=y\nPROD_DB=z\nLEGACY_B=1\n")
    write(alice, "map.toml", MAP)
    before = alice.git("rev-list", "--count", "HEAD")
    done = alice.ok("import", "all.env", "--map", "map.toml", "-e", "dev", "-m", "move")
    assert "api/dev: 2 imported" in done.err
    assert "api/prod: 2 imported" in done.err
    assert CANARY not in done.text
    assert values(alice, "dev").items() >= {"A": CANARY, "DATABASE_URL": "x"}.items()
    assert values(alice, "prod").items() >= {"A": "y", "DB": "z"}.items()
    assert "LEGACY_B" not in values(alice, "dev")
    assert int(alice.git("rev-list", "--count", "HEAD")) == int(before) + 1
    alice.ok("verify")
    here = state(alice)
    again = alice.ok("import", "all.env", "--map", "map.toml", "-e", "dev", "-m", "again")
    assert "api/dev: 0 imported" in again.err
    assert state(alice) == here


def test_two_environments_are_written_together_or_not_at_all(alice: User) -> None:
    write(alice, "all.env", "A=1\nPROD_LD_PRELOAD=x\nPROD_B=2\n")
    write(alice, "map.toml", MAP)
    before = state(alice)
    done = alice.zopp("import", "all.env", "--map", "map.toml", "-e", "dev", code=1)
    assert "code-name" in done.err
    assert state(alice) == before


def test_an_unknown_environment_in_a_map_file_is_said(alice: User) -> None:
    write(alice, "all.env", "A=1\n")
    write(alice, "map.toml", '[[route]]\nfrom = "*"\nenv = "produktion"\n')
    done = alice.zopp("import", "all.env", "--map", "map.toml", "-e", "dev", code=1)
    assert "no environment produktion" in done.err
    assert "did you mean prod" in done.err or "prod" in done.err


def test_a_map_file_that_is_wrong_or_fits_nothing_is_said(alice: User) -> None:
    write(alice, "all.env", "A=1\n")
    write(alice, "map.toml", "rename = 1\n")
    done = alice.zopp("import", "all.env", "--map", "map.toml", "-e", "dev", code=1)
    assert "map.toml: rename: must be a table of texts" in done.err
    write(alice, "map.toml", '[rename]\nB = "C"\n')
    done = alice.ok("import", "all.env", "--map", "map.toml", "-e", "dev", "--dry-run")
    assert 'map.toml: rename "B" fits nothing' in done.err
    alice.zopp("import", "all.env", "--map", "none.toml", code=2)


def test_one_key_may_be_read_in_another_dialect(alice: User) -> None:
    write(alice, "all.env", "A=1\nB=x#y\n")
    alice.zopp("import", "all.env", "-e", "dev", code=1)
    write(alice, "map.toml", '[reading]\nB = "shell"\n')
    done = alice.ok("import", "all.env", "--map", "map.toml", "-e", "dev")
    assert "fits nothing" not in done.err
    assert values(alice, "dev")["B"] == "x#y"


def test_only_what_the_file_made_is_pruned(alice: User) -> None:
    write(alice, "all.env", "A1=1\nB1=2\n")
    alice.ok("import", "all.env", "-e", "dev", "-m", "first")
    alice.ok("set", "MINE", "-e", "dev", stdin="x")
    write(alice, "all.env", "A1=1\n")
    kept = alice.ok("import", "all.env", "-e", "dev")
    assert "removed" not in kept.text
    assert "B1" in values(alice, "dev")
    plan = alice.ok("import", "all.env", "-e", "dev", "--prune", "--dry-run").out
    assert "removed    B1  all.env#B1  gone from the source" in plan
    done = alice.ok("import", "all.env", "-e", "dev", "--prune")
    assert "0 imported, 1 removed, 1 unchanged (" in done.err
    found = values(alice, "dev")
    assert "B1" not in found
    assert found.items() >= {"A1": "1", "MINE": "x"}.items()
    alice.ok("verify")


def test_nothing_is_pruned_where_a_line_could_not_be_read(alice: User) -> None:
    write(alice, "all.env", "A1=1\nB1=2\nC1=3\n")
    alice.ok("import", "all.env", "-e", "dev")
    write(alice, "all.env", "A1=1\nB1=x#y\n")
    done = alice.zopp("import", "all.env", "-e", "dev", "--prune", "--partial", code=1)
    assert "left out: all.env:2 (hash-in-value)" in done.err
    found = values(alice, "dev")
    assert found["B1"] == "2"
    assert "C1" not in found
    write(alice, "all.env", "A1=1\n?\n")
    done = alice.zopp("import", "all.env", "-e", "dev", "--prune", "--partial", code=1)
    assert "not all of the source could be read" in done.err


def test_what_does_not_read_back_is_undone(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    write(alice, "all.env", f"A1={CANARY}\n")
    before = state(alice)
    honest = applying._existing
    calls = []

    def forgetful(*args: object) -> object:
        calls.append(args)
        found, files = honest(*args)  # type: ignore[arg-type]
        return ({} if len(calls) > 1 else found), files

    monkeypatch.setattr(applying, "_existing", forgetful)
    done = alice.zopp("import", "all.env", "-e", "dev", "-m", "never", code=1)
    assert "A1 did not read back as written; nothing is imported" in done.err
    assert CANARY not in done.text
    assert len(calls) == 2
    assert state(alice) == before
    alice.ok("verify")


def test_stopping_before_the_write_leaves_everything_as_it_was(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    write(alice, "all.env", "A1=1\n")
    before = state(alice)

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(journal, "write", stop)
    assert alice.zopp("import", "all.env", "-e", "dev", "-m", "never").code == 130
    monkeypatch.undo()
    assert state(alice) == before
    alice.ok("verify")


def test_json_says_what_remains_and_what_looks_like_a_placeholder(alice: User) -> None:
    write(alice, "all.env", f"A1={CANARY}\nB1=changeme\n")
    done = alice.ok("import", "all.env", "-e", "dev", "--json")
    assert CANARY not in done.text
    said = done.json
    assert said["environments"] == ["api/dev"]
    assert said["placeholders"] == ["B1"]
    assert [line["status"] for line in said["plan"]] == ["new", "new"]
    assert {(one["todo"], one["place"]) for one in said["remains"]} == {
        ("delete", "all.env"),
        ("change", "A1"),
        ("change", "B1"),
    }
    assert "B1 looks like a placeholder" in done.err


def test_a_reader_may_not_import(tmp_path: Path) -> None:
    team = Team.make(tmp_path)
    write(team.carol, "all.env", "A1=1\n")
    before = state(team.carol)
    for flags in ((), ("--dry-run",)):
        assert team.carol.zopp("import", "all.env", "-e", "prod", *flags).code == 1
    assert state(team.carol) == before


def test_the_source_may_be_named_anywhere_before_the_file(alice: User) -> None:
    write(alice, "dotenv", "A1=1\n")
    for words in (
        ("import", "dotenv", "./dotenv", "-e", "dev"),
        ("import", "-e", "dev", "dotenv", "./dotenv"),
        ("import", "-e", "dev", "./dotenv"),
        ("import", "--json", "./dotenv", "-e", "dev"),
        ("secret", "import", "./dotenv", "-e", "dev"),
    ):
        alice.ok(*words, "--dry-run")
    assert alice.zopp("import", code=2).err.startswith("zopp: error: SOURCE is missing: one of dotenv, json")
    assert b"dotenv" in alice.child("import", "--help").stdout
    assert b"--dialect" in alice.child("import", "dotenv", "--help").stdout
    mistyped = alice.zopp("import", "dotenvv", code=2)
    assert "SOURCE: must be a FILE or one of dotenv, json" in mistyped.err
    assert "hint: did you mean zopp import dotenv?" in mistyped.err


def test_bytes_of_a_file_come_out_as_they_went_in(alice: User) -> None:
    data = bytes(range(256))
    alice.ok("set", "KEYSTORE", "-e", "dev", stdin=scalars.from_bytes(data))
    alice.ok("set", "PLAIN", "-e", "dev", stdin="text")
    assert alice.child("get", "KEYSTORE", "-e", "dev", "--bytes").stdout == data
    assert alice.child("get", "PLAIN", "-e", "dev", "--bytes").stdout == b"text"
    only = alice.ok("export", "--only", "KEYSTORE", "--format", "k8s", "-e", "dev").out
    assert base64.b64encode(data).decode() in only
    assert "PLAIN" not in only
    assert alice.zopp("export", "--only", "NONE", "-e", "dev").code == 1
