"""What `zopp import` must not do, found by reading the plan, the map file and the applying as an opponent would."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.sources.onepassword_data import item, login, login_field, shop, uuid
from tests.support import Team, User
from zopp.cli.context import Context
from zopp.cli.importing import dotenv
from zopp.exchange.entry import Reading


@pytest.fixture
def alice(team: Team) -> User:
    return team.alice


def values(user: User, env: str = "dev") -> dict[str, str]:
    found: dict[str, str] = json.loads(user.ok("export", "--format", "json", "-e", env).out)
    return {name: value for name, value in found.items() if name != "BASE"}


def test_what_the_map_file_keeps_out_is_not_pruned(alice: User) -> None:
    """It is at the source all the same, whether it gave a value before or not."""
    alice.write("all.env", "A1=1\nB1=2\nC1=3\n")
    alice.ok("import", "all.env", "-e", "dev")
    alice.write("all.env", "A1=1\nB1=x#y\nC1=3\n")
    alice.write("map.toml", 'exclude = ["B1", "C1"]\n')
    done = alice.ok("import", "all.env", "-e", "dev", "--prune", "--map", "map.toml")
    assert "removed" not in done.text
    assert values(alice) == {"A1": "1", "B1": "2", "C1": "3"}
    plan = alice.ok("import", "all.env", "-e", "dev", "--map", "map.toml", "--dry-run").out
    assert plan.count("left out by the map file") == 2


def test_an_archived_item_that_the_map_file_keeps_out_is_not_pruned(alice: User) -> None:
    words = ("import", "1password", "e.1pux", "-e", "dev", "--yes")
    alice.write("e.1pux", shop(login(uuid(1), "db", "x"), login(uuid(2), "old", "y")))
    alice.ok(*words)
    alice.write("e.1pux", shop(login(uuid(1), "db", "x"), {**login(uuid(2), "old", "y"), "state": "archived"}))
    alice.write("map.toml", 'exclude = ["*/old*"]\n')
    alice.ok(*words, "--prune", "--map", "map.toml")
    assert values(alice) == {"DB": "x", "OLD": "y"}


def test_what_is_left_out_is_not_explained_as_if_it_stopped_anything(alice: User) -> None:
    alice.write("all.env", "A1=x#1\nB1=x#2\nC1=x#3\n")
    alice.write("map.toml", 'exclude = ["A1"]\n')
    done = alice.zopp("import", "all.env", "-e", "dev", "--map", "map.toml", "--exclude", "B1", code=1)
    assert "line 3 (C1)" in done.err
    assert "line 1 (A1)" not in done.err
    assert "line 2 (B1)" not in done.err


def test_a_record_of_where_keys_came_from_is_a_change_that_needs_a_yes(alice: User) -> None:
    alice.set("DB", "x")
    alice.commit()
    alice.write("e.1pux", shop(login(uuid(1), "db", "x")))
    before = alice.tree()
    done = alice.zopp("import", "1password", "e.1pux", "-e", "dev", "-m", "never", code=2)
    assert "unchanged  DB" in done.err
    assert "this would record where keys come from" in done.err
    assert alice.tree() == before
    alice.ok("import", "1password", "e.1pux", "-e", "dev", "--no-provenance", "-m", "nothing to do")
    assert alice.tree() == before
    alice.ok("import", "1password", "e.1pux", "-e", "dev", "--yes")
    assert alice.tree() != before
    here = alice.tree()
    alice.ok("import", "1password", "e.1pux", "-e", "dev")
    assert alice.tree() == here


def test_a_name_to_exclude_that_is_none_is_said(alice: User) -> None:
    """Who mistypes it would import what they meant to leave out."""
    alice.write("all.env", "A1=1\nB1=2\nC1=x#y\n")
    flags = [word for name in ("A1", "B2", "C1") for word in ("--exclude", name)]
    done = alice.ok("import", "all.env", "-e", "dev", *flags)
    assert "zopp: warning: --exclude B2 fits nothing" in done.err
    assert done.err.count("fits nothing") == 1


def test_pruning_reaches_environments_that_the_source_has_nothing_for_any_more(alice: User) -> None:
    alice.write("map.toml", '[[route]]\nfrom = "PROD_*"\nenv = "prod"\nstrip_prefix = "PROD_"\n')
    words = ("import", "all.env", "-e", "dev", "--map", "map.toml")
    alice.write("all.env", "A1=1\nPROD_B1=2\n")
    alice.ok(*words)
    alice.ok("set", "MINE", "-e", "prod", stdin="x")
    alice.write("all.env", "A1=1\n")
    alice.ok(*words)
    assert values(alice, "prod") == {"B1": "2", "MINE": "x"}
    done = alice.ok(*words, "--prune")
    assert "api/prod: 0 imported, 1 removed" in done.err
    assert values(alice, "prod") == {"MINE": "x"}
    alice.write("all.env", "PROD_B1=2\n")
    assert "api/dev: 0 imported, 1 removed" in alice.ok(*words, "--prune").err
    assert values(alice) == {}
    alice.ok("verify")


def test_pruning_opens_no_environment_that_this_source_never_wrote(team: Team) -> None:
    team.grant("bob", "write", "api/dev")
    bob = team.bob
    bob.write("map.toml", '[[route]]\nfrom = "PROD_*"\nenv = "prod"\n')
    bob.write("all.env", "A1=1\n")
    done = bob.ok("import", "all.env", "-e", "dev", "--map", "map.toml", "--prune")
    assert "api/dev: 1 imported" in done.err
    assert "prod" not in done.err.replace('route "PROD_*" fits nothing', "")


def test_a_plan_is_a_line_an_entry_whatever_the_file_is_called(alice: User) -> None:
    name = "a\n\x1b[2Jnew  FAKE.env"
    (alice.repo / name).write_text("A1=1\nB1=x#y\n")
    done = alice.zopp("import", name, "-e", "dev", code=1)
    assert "\x1b" not in done.text
    assert not [line for line in done.err.splitlines() if line.startswith("new  FAKE")]


def test_a_removed_key_of_a_group_comes_back_where_it_was(alice: User) -> None:
    """A key that an import made, with a dot in its path, is no name with a dot in it."""
    alice.set("db.password", "x")
    made = item(uuid(1), "db", loginFields=[login_field("password", "y")])
    alice.write("e.1pux", shop(made))
    record = {"keys": {"db.password": {"id": f"op://vaultaaaaaaaaaaaaaaaaaaaaa/{uuid(1)}/password", "kind": "1password",
              "version": ""}}, "v": 1}  # fmt: skip
    text = json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    alice.write(".zopp/provenance/api/dev.json", text)
    words = ("import", "1password", "e.1pux", "-e", "dev", "--yes")
    assert "changed  db.password" in alice.ok(*words, "--dry-run").out
    alice.ok("unset", "db.password", "-e", "dev")
    assert "new  db.password" in alice.ok(*words, "--dry-run").out


def test_earlier_versions_prune_nothing(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are of the new keys alone; what they do not have is not gone."""
    alice.write("all.env", "A1=1\n")
    alice.ok("import", "all.env", "-e", "dev", "-m", "first")
    alice.write("all.env", "A1=1\nB1=new\n")
    honest = dotenv.read

    def with_versions(*args: Any) -> Reading:
        reading = honest(*args)
        return replace(reading, older=(tuple([replace(one, value="old") for one in reading.entries]),))

    monkeypatch.setattr(dotenv, "read", with_versions)
    alice.ok("import", "all.env", "-e", "dev", "--prune", "-m", "versions")
    assert values(alice) == {"A1": "1", "B1": "new"}
    assert alice.git("log", "--format=%s").splitlines()[:3] == ["versions", "versions (version 1 of 2)", "first"]
    history = alice.ok("history", "A1", "-e", "dev").out
    assert len(history.splitlines()) == 1, history


def test_without_a_default_environment_pruning_is_for_those_that_are_named(alice: User) -> None:
    alice.replace("zopp.toml", 'default_env = "dev"\n', "")
    alice.ok("trust", "--yes")
    alice.write("map.toml", '[[route]]\nfrom = "*"\nenv = "prod"\n')
    alice.write("all.env", "A1=1\nB1=2\n")
    words = ("import", "all.env", "--map", "map.toml")
    alice.ok(*words)
    alice.write("all.env", "A1=1\n")
    assert "1 removed" in alice.ok(*words, "--prune").err


def test_json_is_one_document_whatever_happens(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that cannot be carried out, or that nobody agreed to, stands beside the error, not before it."""
    alice.write("all.env", "A1=1\nB1=x#y\n")
    for flags, code in ((("--dry-run",), 1), ((), 1)):
        said = alice.zopp("import", "all.env", "-e", "dev", "--json", *flags, code=code).json
        assert [(line["key"], line["status"]) for line in said["plan"]] == [("A1", "new"), ("B1", "rejected")]
        assert said["error"]["code"] == "import.plan"
    alice.write("e.1pux", shop(login(uuid(1), "db", "x")))
    said = alice.zopp("import", "1password", "e.1pux", "-e", "dev", "--json", code=2).json
    assert said["plan"][0]["status"] == "new"
    assert said["error"]["code"] == "no_terminal"
    said = alice.ok("import", "1password", "e.1pux", "-e", "dev", "--json", "--dry-run").json
    assert said.keys() == {"plan"}
    monkeypatch.setattr(Context, "interactive", lambda self: True)
    monkeypatch.setattr(Context, "confirm", lambda self, question, *, otherwise: question.startswith("import"))
    done = alice.ok("import", "1password", "e.1pux", "-e", "dev", "--json")
    assert done.json["environments"] == ["api/dev"]
    assert "new      DB" in done.err
