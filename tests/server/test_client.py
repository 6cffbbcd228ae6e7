"""The command line against the real server: adopt, change, fetch, join, read the log, judge it again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.client.test_invites import Party
from tests.server.conftest import Database, code, url
from tests.server.live import Live, Office, live, settings_for
from tests.support import Team, refused
from zopp.policy import canonical
from zopp.protocol import messages
from zopp.protocol.replay import Replay, check_notes
from zopp_server import custody


class Remote:
    """The real server as the tests of the stand-in see one: `.origin` and `.code`."""

    def __init__(self, server: Live, database: Database) -> None:
        self.origin = server.origin
        self.code = code(database)


@pytest.fixture
def party(server: Live, database: Database, tmp_path: Path) -> Party:
    """The team with its workspace at the real server."""
    return Party(Team.make(tmp_path / "team"), Remote(server, database))  # type: ignore[arg-type]


def test_everything_a_team_does(party: Party) -> None:
    """Adopt, grant, pull elsewhere, protect, revoke, offboard; then the whole log judged again."""
    alice, bob, carol = party.alice, party.bob, party.team.carol
    alice.ok("verify")
    alice.ok("grant", "bob", "write", "api")
    alice.ok("grant", "carol", "auditor", "acme")
    party.team.sync("roles")
    assert bob.get("BASE") == "base-dev"
    alice.ok("env", "protect", "prod")
    assert "env api/prod protected" in bob.ok("policy", "pull").err
    refused(bob.zopp("grant", "carol", "read", "api"), 1)
    alice.ok("env", "add", "extra")
    alice.ok("group", "create", "ops")
    alice.ok("group", "add", "ops", "carol")
    alice.ok("offboard", "bob", "--yes")
    alice.ok("verify")
    party.share()
    carol.pull()
    carol.ok("verify")
    refused(bob.zopp("policy", "pull"), 1)
    done = carol.ok("audit", "verify", "--replay", "--json")
    assert done.json["ok"], done.out
    assert done.json["statements"] == alice.state().seq + 1
    rows = alice.ok("audit", "list", "--action", "statement", "--limit", "200", "--json").json
    assert len(rows) == int(alice.ok("audit", "count", "--action", "statement").out)
    alice.ok("audit", "get", str(rows[0]["index"]))
    alice.ok("audit", "witness", "-m", "witness")
    alice.ok("audit", "verify", "--replay")
    alice.ok("audit", "export", "--out", "export.jsonl")
    alice.ok("audit", "verify", "--replay", "--from-export", "export.jsonl")
    text = alice.read("export.jsonl").replace(b'\\"outcome\\":\\"deny\\"', b'\\"outcome\\":\\"fact\\"', 1)
    alice.write("export.jsonl", text.replace(b"alice-laptop", b"carol-laptop", 1))
    assert alice.zopp("audit", "verify", "--replay", "--from-export", "export.jsonl").code == 1


def test_adopt_with_a_wrong_code(server: Live, database: Database, team: Team) -> None:
    """Nothing is written; with the right one it goes on."""
    before = team.alice.tree()
    refused(team.alice.zopp("server", "adopt", server.origin, "--code", "-", "--yes", stdin="wrong"), 1, words=["code"])
    assert team.alice.tree() == before
    good = code(database)
    team.alice.ok("server", "adopt", server.origin, "--code", "-", "--yes", stdin=good)
    assert "already" in team.alice.ok("server", "adopt", server.origin, "--yes").err


def test_adopt_again_after_a_lost_answer(party: Party) -> None:
    """The server took the log, the clone did not hear of it: the same command takes it from there."""
    alice = party.alice
    assert party.server is not None
    alice.git("reset", "--quiet", "--hard", "HEAD~1")
    (alice.home / ".local/state/zopp/clones").mkdir(exist_ok=True)
    alice.ok("trust", "--accept", "--yes")
    done = alice.ok("server", "adopt", party.server.origin, "--yes")
    assert "already" in done.err
    alice.ok("verify")


def test_an_invite_joins(party: Party) -> None:
    """By the invite's own key; used once."""
    made = party.invite("dora@example.org", "read", "api/dev")
    dora, erin = party.newcomer("dora"), party.newcomer("erin")
    done = party.join(dora, made, "--email", "dora@example.org")
    assert done.code == 0, done.text
    refused(party.join(erin, made, "--email", "dora@example.org"), 1, words=["used already"])
    # A21: the admins hear of it
    told = party.alice.zopp("doctor").out
    assert "was presented again after it had been used" in told
    party.alice.ok("policy", "pull")
    party.alice.ok("rekey", "api/dev")
    party.alice.share("rekey")
    dora.pull()
    assert dora.get("BASE") == "base-dev"
    assert party.alice.ok("audit", "verify", "--replay", "--json").json["ok"]


def test_releases_replay(office: Office) -> None:
    """What the server recorded of releases and denials is derived again from the log alone."""
    from tests.server.live import stanza

    env = "api/production"
    recipient = office.brokered("alice-laptop", env)
    items = [stanza(recipient)[0] for _ in range(3)]
    office.release("bob-laptop", items, env)
    office.release("carol-laptop", items[:1], None)
    office.do("alice-laptop", "binding.remove", scope={"env": env}, subject={"user": "carol"})
    with pytest.raises(Exception, match="may not read"):
        office.release("carol-laptop", items[:1], env)
    alice = office.members["alice-laptop"]
    answer = alice.server.get(f"/v1/audit/{office.name}/export?from=0")
    fields = messages.parse_answer("entries", answer.body)
    good, bad = check_notes([(fields["checkpoint"].encode(), "page")], [office.log])
    assert not bad
    made = Replay(office.now.ws, office.lines, good)
    for each in fields["entries"]:
        made.add(each["body"].encode(), each["seq"])
    assert made.end() == []
    assert made.covered == made.size
    actions = {json.loads(each["body"])["action"] for each in fields["entries"]}
    assert {"release", "statement", "key", "audit.export"} <= actions


def test_the_log_key_is_changed(database: Database, tmp_path: Path) -> None:
    """Named while the old one is in use, used after a restart; the whole log is judged again under both."""
    settings = settings_for(url(database), tmp_path / "server")
    following = tmp_path / "next_log_key"
    custody.make_log_key(following)
    new = canonical.b64(custody.load_log_key(following).public)
    with live(url(database), tmp_path / "server", settings=replace(settings, next_log_key=following)) as server:
        party = Party(Team.make(tmp_path / "team"), Remote(server, database))  # type: ignore[arg-type]
        alice = party.alice
        alice.ok("server", "adopt", server.origin, "--log-key", new, "--yes")
        alice.ok("verify")
        alice.ok("policy", "pull")
    with live(url(database), tmp_path / "server", settings=replace(settings, log_key=following)) as server:
        alice.ok("grant", "bob", "read", "api/dev")
        alice.ok("verify")
        party.team.sync("new key")
        alice.ok("audit", "witness", "-m", "witness")
        assert alice.ok("audit", "verify", "--replay", "--json").json["ok"]
        fresh = party.team.fresh(party.bob)
        fresh.ok("trust", "--genesis", alice.state().ws)
        fresh.ok("verify")
        fresh.ok("policy", "pull")
        assert not server.causes
