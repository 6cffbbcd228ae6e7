"""Invites: create, list, revoke, join, countersign, with a server and without (S34, S35, S37, S38, S40, A20, A21)."""

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.client.conftest import Served
from tests.client.standin import Standin
from tests.support import Done, Team, User, refused
from zopp.protocol import invite as invites
from zopp.repo import clock


class Party:
    """The team, perhaps at a server, and newcomers with a clone and no keys."""

    def __init__(self, team: Team, server: Standin | None) -> None:
        self.team, self.server = team, server
        self.alice, self.bob = team.alice, team.bob
        if server is not None:
            Served(team, server).adopt()

    def share(self) -> None:
        self.team.alice.share("share")

    def newcomer(self, name: str) -> User:
        made = User(name, f"{name}-laptop", self.team.base / name)
        made.home.mkdir(parents=True)
        text = (self.alice.home / ".gitconfig").read_text().replace("alice", name)
        (made.home / ".gitconfig").write_text(text)
        (made.base / "clone").mkdir()
        origin = str(self.team.base / "origin.git")
        subprocess.run(["git", "clone", "-q", origin, str(made.repo)], check=True, env=made.env, capture_output=True)
        made.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
        return made

    def invite(self, *argv: str, by: User | None = None) -> str:
        """A code; everybody can have the log that knows it."""
        code = (by or self.alice).ok("invite", "create", *argv).out.strip()
        self.share()
        return code

    def join(self, user: User, code: str, *argv: str, device: str = "") -> Done:
        return user.zopp("join", "--user", user.name, "--device", device or user.principal, *argv, stdin=code)


@pytest.fixture(params=["serverless", "served"])
def party(request: pytest.FixtureRequest, team: Team) -> Iterator[Party]:
    """Everything twice."""
    server = Standin() if request.param == "served" else None
    yield Party(team, server)
    if server is not None:
        server.stop()


def test_s37_join_by_a_code_bound_to_an_address(party: Party) -> None:
    """The code is printed once; the newcomer's clone is pinned by it; a writer's rekey lets the newcomer read."""
    made = party.alice.ok("invite", "create", "dora@example.org", "read", "api/dev")
    assert re.fullmatch(r"zopp-invite-1[02-9ac-hj-np-z]+\n", made.out)
    assert "whoever holds the code joins" in made.err
    party.share()
    dora = party.newcomer("dora")
    done = party.join(dora, made.out, "--email", "Dora@Example.org")
    assert done.code == 0, done.text
    assert "alice runs" in done.err
    assert "zopp rekey api/dev" in done.err
    assert dora.zopp("trust").code == 0
    if party.server is None:
        dora.share("dora joins")
        party.alice.pull()
    else:
        party.alice.ok("policy", "pull")
    party.alice.ok("rekey", "api/dev")
    party.alice.share("rekey")
    party.alice.ok("verify")
    dora.pull()
    dora.ok("verify")
    assert dora.get("BASE") == "base-dev"
    rows = party.alice.ok("invite", "list", "--json").json
    assert [row["status"] for row in rows] == ["used"]


def test_s37_used_once(party: Party) -> None:
    code = party.invite("--any", "read", "api/dev")
    dora, erin = party.newcomer("dora"), party.newcomer("erin")
    assert party.join(dora, code).code == 0
    if party.server is None:
        dora.share("dora joins")
        erin.pull()
    done = party.join(erin, code)
    refused(done, 1, words=["used already", "tell an admin at once"])
    assert not list((erin.home / ".config/zopp").rglob("*.age"))
    done = party.join(dora, code)
    refused(done, 1, 2)


def test_s37_revoked(party: Party) -> None:
    code = party.invite("--any", "read", "api/dev", "--id", "spring")
    party.alice.ok("invite", "revoke", "spring")
    party.share()
    refused(party.join(party.newcomer("dora"), code), 1, words=["revoked"])
    refused(party.alice.zopp("invite", "revoke", "spring"), 2, words=["already"])
    refused(party.alice.zopp("invite", "revoke", "autumn"), 1, words=["no invite"])


def test_s37_expired(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged by the time of the statement that would use it (A9)."""
    code = party.invite("--any", "read", "api/dev", "--expires", "1m")
    later = clock.now() + 600
    for module in ("zopp.cli.join", "zopp.repo.changing", "zopp.client.changing"):
        monkeypatch.setattr(f"{module}.now", lambda: later)
    if party.server is not None:
        party.server.now = lambda: later
        monkeypatch.setattr("time.time", lambda: later)
    dora = party.newcomer("dora")
    refused(party.join(dora, code), 1, words=["expired"])


def test_s37_another_address(party: Party) -> None:
    code = party.invite("dora@example.org", "read", "api/dev")
    erin = party.newcomer("erin")
    refused(party.join(erin, code, "--email", "erin@example.org"), 1, words=["another e-mail"])
    refused(party.join(erin, code), 2, words=["--email"])
    assert "dora" not in erin.read(".zopp/policy.jsonl").decode()


def test_s37_only_admins_create_list_and_revoke(party: Party) -> None:
    """S34: nor does a service, whatever its role."""
    party.alice.ok("grant", "bob", "write", "acme")
    party.alice.ok("grant", "ci", "admin", "acme")
    party.invite("--any", "read", "api", "--id", "spring")
    for user in (party.bob, party.team.ci):
        user.pull()
        for argv in (("create", "--any", "read", "api"), ("list",), ("revoke", "spring")):
            refused(user.zopp("invite", *argv), 1)


def test_any_admin_revokes_by_id_without_the_code(party: Party) -> None:
    party.alice.ok("grant", "bob", "admin", "acme")
    code = party.invite("--any", "read", "api", "--id", "spring")
    party.bob.pull()
    party.bob.ok("invite", "revoke", "spring")
    party.bob.share("revoked")
    refused(party.join(party.newcomer("dora"), code), 1, words=["revoked"])


def test_a21_disabling_the_device_ends_its_invites(party: Party) -> None:
    party.alice.ok("grant", "bob", "admin", "acme")
    party.share()
    party.bob.pull()
    code = party.bob.ok("invite", "create", "--any", "read", "api").out
    party.bob.share("invite")
    party.alice.pull()
    party.alice.ok("principal", "disable", "bob-laptop")
    party.share()
    refused(party.join(party.newcomer("dora"), code), 1, words=["bob-laptop"])


def test_a21_the_creators_rights_of_now_count(party: Party) -> None:
    """Demoted after inviting: the invite lets nobody in."""
    party.alice.ok("grant", "bob", "admin", "acme")
    party.share()
    party.bob.pull()
    code = party.bob.ok("invite", "create", "--any", "read", "api").out
    party.bob.share("invite")
    party.alice.pull()
    party.alice.ok("revoke", "bob", "acme")
    party.share()
    refused(party.join(party.newcomer("dora"), code), 1, words=["not admin"])


def test_a21_the_code_is_in_no_repository_file_and_no_other_output(party: Party) -> None:
    made = party.alice.ok("invite", "create", "--any", "read", "api/dev", "--id", "spring")
    code = made.out.strip()
    assert code not in made.err
    assert all(code.encode() not in data for data in party.alice.tree().values())
    shown = party.alice.ok("invite", "list").text + party.alice.ok("policy", "log").text
    assert code[:24] not in shown
    assert code[:24] not in repr(invites.parse(code))


def test_s38_no_taking_over_of_a_handle(party: Party) -> None:
    """Mallory holds an invite of her own and says she is bob."""
    code = party.invite("--any", "read", "api/dev")
    mallory = party.newcomer("mallory")
    done = mallory.zopp("join", "--user", "bob", "--device", "m", stdin=code)
    refused(done, 2, words=["there is a user bob already"])
    done = mallory.zopp("join", "--user", "mallory", "--device", "bob-laptop", stdin=code)
    refused(done, 1, words=["bob-laptop"])


def test_s35_an_address_of_a_member_gets_no_invite(party: Party) -> None:
    refused(party.alice.zopp("invite", "create", "BOB@example.org", "read", "api"), 1, words=["e-mail"])


def test_s40_keys_that_are_here_stay(party: Party) -> None:
    """A second identity on one machine: both remain, and `principal use` switches."""
    code = party.invite("--any", "read", "api/dev")
    shared = party.newcomer("dora")
    shutil.copytree(party.bob.home / ".config", shared.home / ".config", dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in (shared.home / ".config/zopp/keys").iterdir()}
    done = party.join(shared, code)
    assert done.code == 0, done.text
    assert "principal use" in done.err
    for path, data in before.items():
        assert path.name == "current" or path.read_bytes() == data
    assert shared.ok("principal", "current").out.strip() == "dora-laptop"
    keys = shared.ok("principal", "current", "--json").json["keys"]
    assert len(keys) == 2
    shared.ok("principal", "use", next(key for key in keys if key != "dora-laptop"))


def test_a20_an_invite_that_confers_admin_is_countersigned(party: Party) -> None:
    """What join prints does nothing by itself; another admin compares the fingerprint and signs."""
    code = party.invite("--any", "admin", "acme")
    dora = party.newcomer("dora")
    done = party.join(dora, code)
    assert done.code == 0
    assert "dora" not in dora.read(".zopp/policy.jsonl").decode()
    digest = re.search(r"fingerprint ([0-9a-f]{64})", done.err)
    assert digest is not None
    refused(party.alice.zopp("invite", "countersign", "-", stdin=done.out), 2, words=["--digest"])
    refused(party.alice.zopp("invite", "countersign", "-", "--digest", "0" * 64, stdin=done.out), 2)
    refused(party.bob.zopp("invite", "countersign", "-", "--digest", digest[1], stdin=done.out), 1)
    party.alice.ok("invite", "countersign", "-", "--digest", digest[1], stdin=done.out)
    party.alice.ok("verify")
    party.share()
    dora.pull()
    dora.ok("verify")
    assert dora.get("BASE", "prod") == "base-prod"
    refused(party.alice.zopp("invite", "countersign", "-", "--digest", digest[1], stdin=done.out), 1, words=["used"])


def test_a20_a_changed_redemption_is_refused(party: Party) -> None:
    """The claim is over the request: another device's request does not go with it."""
    code = party.invite("--any", "admin", "acme")
    dora, erin = party.newcomer("dora"), party.newcomer("erin")
    one = party.join(dora, code).out
    party.invite("--any", "admin", "acme", "--id", "second")
    other = erin.ok("principal", "request", "--user", "erin", "--name", "erin-laptop").out
    import json

    mixed = {**json.loads(one), **json.loads(other)}
    from zopp.policy import canonical

    text = canonical.encode(mixed).decode()
    refused(party.alice.zopp("invite", "countersign", "-", "--yes", stdin=text), 1, words=["claim"])


def test_a_clone_of_another_workspace_is_refused(party: Party) -> None:
    """The code names the genesis: a forged repository of that name is not joined (A5)."""
    code = party.invite("--any", "read", "api/dev")
    dora = User("dora", "dora-laptop", party.team.base / "elsewhere")
    dora.home.mkdir(parents=True)
    shutil.copy(party.alice.home / ".gitconfig", dora.home)
    subprocess.run(["git", "init", "-q", str(dora.repo)], check=True, env=dora.env)
    dora.ok("init", "--workspace", "acme", "--project", "api", "--user", "x", "--device", "y", "--no-recovery")
    refused(party.join(dora, code), 1, words=["begins with"])


def test_a_clone_that_is_behind_the_code(party: Party) -> None:
    """Serverless: git pull first. With a server the lines come from there."""
    dora = party.newcomer("dora")
    code = party.invite("--any", "read", "api/dev")
    done = party.join(dora, code)
    if party.server is None:
        refused(done, 3, words=["git pull"])
    else:
        assert done.code == 0, done.text


@pytest.mark.parametrize("text", ["", "zopp-invite-1qqqq", "x" * 5000])
def test_not_a_code(party: Party, text: str) -> None:
    done = party.join(party.newcomer("dora"), text)
    assert done.code in (1, 2)
    assert "invite code" in done.err
    assert not text or text[:40] not in done.err


def test_usage(party: Party) -> None:
    for argv in (
        ("bob@example.org", "read"),
        ("--any", "x@y.z", "read", "api"),
        ("dora", "read", "api"),
        ("--any", "owner", "api"),
        ("--any", "read", "api", "--expires", "1y"),
        ("--any", "read", "api", "--expires", "0d"),
        ("--any", "read", "api", "--expires", "91d"),
    ):
        assert party.alice.zopp("invite", "create", *argv).code == 2, argv
    done = party.alice.ok("invite", "create", "--any", "read", "api", "--dry-run")
    assert done.out == ""
