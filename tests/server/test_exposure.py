"""A17 and S50 on the real server: of brokered files, exposed is what was released or made, told by the audit log."""

from pathlib import Path

import pytest

from tests.client.test_invites import Party
from tests.server.conftest import Database
from tests.server.live import Live
from tests.server.test_client import Remote
from tests.support import Team


@pytest.fixture
def party(server: Live, database: Database, tmp_path: Path) -> Party:
    """prod is brokered; bob may write it."""
    made = Party(Team.make(tmp_path / "team"), Remote(server, database))  # type: ignore[arg-type]
    made.alice.ok("grant", "bob", "write", "api/prod")
    made.alice.ok("env", "kind", "prod", "brokered")
    made.team.sync("brokered")
    return made


def why(done: object) -> dict[str, list[str]]:
    return {row["key"]: row["why"] for row in done.json["exposed"] if row["environment"] == "api/prod"}  # type: ignore[attr-defined]


def revoke(party: Party, *more: str) -> object:
    return party.alice.ok("revoke", "bob", "api/prod", "--json", *more)


def test_s50_neither_released_nor_made_stays_closed(party: Party) -> None:
    party.alice.ok("rekey", "--all", "api/prod")
    party.alice.set("LATER", "1", "prod")
    party.team.sync("rotated")
    done = revoke(party)
    assert "LATER" not in why(done)
    assert "LATER" in {row["key"] for row in done.json["closed"]}  # type: ignore[attr-defined]


def test_a17_released(party: Party) -> None:
    assert party.bob.get("BASE", "prod") == "base-prod"
    assert why(revoke(party))["BASE"] and "released" in why_again(party)


def why_again(party: Party) -> list[str]:
    rows = party.alice.zopp("exposure", "bob", "--json").json
    return [reason for row in rows for reason in row["why"]]


def test_a17_made_and_never_released(party: Party) -> None:
    party.alice.replace("zopp.toml", '["secrets/prod.yaml"]', '["secrets/prod.yaml", "secrets/new.yaml"]')
    party.team.sync("listed")
    party.bob.ok("set", "MADE", "-e", "prod", "--file", "secrets/new.yaml", stdin="1")
    party.bob.share("made")
    party.alice.pull()
    assert why(revoke(party, "--dry-run"))["MADE"] == ["made"]


def test_a17_an_old_version_only(party: Party) -> None:
    """What was added under a later data key stays closed."""
    party.bob.get("BASE", "prod")
    party.alice.ok("rekey", "--all", "api/prod")
    party.alice.set("LATER", "1", "prod")
    party.alice.share("rotated")
    done = revoke(party)
    assert "released" in why(done)["BASE"]
    assert "LATER" not in why(done)


def test_a17_without_the_right_to_read_the_log(party: Party) -> None:
    """The wider list, and it is said."""
    party.alice.ok("grant", "carol", "admin", "api")
    party.alice.ok("grant", "carol", "admin", "api/prod")
    party.team.sync("carol")
    done = party.team.carol.ok("revoke", "bob", "api/prod", "--json")
    assert "recipient" in why(done)["BASE"]
    assert done.json["log_unread"]["bob"]


def test_s50_whoknows_says_the_same(party: Party) -> None:
    party.alice.ok("grant", "carol", "read", "api/prod")
    party.team.sync("carol reads")

    def knows() -> dict[str, str]:
        rows = party.alice.ok("whoknows", "BASE", "-e", "prod", "--json").json
        return {row["principal"]: row["knows"] for row in rows if row["knows"]}

    before = knows()
    assert before["bob-laptop"] == before["carol-desktop"] == "could ask, and has not"
    assert before["alice-laptop"] in ("made by them", "released to them")
    party.bob.get("BASE", "prod")
    after = knows()
    assert after["bob-laptop"] == "released to them"
    assert after["carol-desktop"] == "could ask, and has not"
    # What nobody may read of the log is said, and no word stands in its place.
    party.team.carol.pull()
    done = party.team.carol.ok("whoknows", "BASE", "-e", "prod", "--json")
    assert all(row["knows"] is None for row in done.json)
    assert "cannot be told" in done.err


def test_s50_offboarded(party: Party) -> None:
    """The same two lists when somebody leaves."""
    assert party.bob.get("BASE", "prod") == "base-prod"
    party.alice.ok("offboard", "bob", "--yes")
    rows = party.alice.zopp("exposure", "bob", "--json").json
    assert {row["environment"] for row in rows} == {"api/prod"}
    assert {row["key"]: row["why"] for row in rows}["BASE"] == ["released"]


def test_a17_released_under_an_earlier_server_key(party: Party) -> None:
    party.bob.get("BASE", "prod")
    party.alice.ok("env", "serverkey", "prod")
    party.alice.share("another server key")
    assert "released" in why(revoke(party))["BASE"]


def test_a17_released_and_gone_from_git(party: Party) -> None:
    """The version that was released is squashed away: what it held is not known, so its file counts as known."""
    party.alice.set("SHORT", "1", "prod")
    party.alice.share("short")
    party.bob.pull()
    party.bob.get("SHORT", "prod")
    party.alice.ok("unset", "SHORT", "-e", "prod")
    party.alice.ok("rekey", "--all", "api/prod")
    party.alice.git("add", "--all")
    tree = party.alice.git("write-tree").strip()
    squashed = party.alice.git("commit-tree", tree, "-m", "squashed").strip()
    party.alice.git("update-ref", "refs/heads/main", squashed)
    party.alice.git("remote", "remove", "origin")
    party.alice.git("reflog", "expire", "--expire=now", "--all")
    party.alice.git("gc", "--quiet", "--prune=now")
    done = revoke(party)
    assert "released" in why(done)["BASE"]
    assert done.json["releases_unplaced"]["bob"] == 1  # type: ignore[attr-defined]
