"""What makes an environment brokered or direct, its keys, and what each change costs in releases."""

from pathlib import Path

import pyrage
import pytest

from tests.brokered.brokers import data_key, shares_of, sops_of
from tests.brokered.conftest import Brokered
from tests.client.standin import Problem
from tests.support import User, refused
from zopp.repo import brokered
from zopp.repo.environment import open_environment
from zopp.repo.unlock import Keyring, data_keys
from zopp.repo.workspace import Workspace, open_workspace

PATH = "secrets/prod.yaml"


def asked(world: Brokered) -> list[tuple[str, int]]:
    """(purpose, items) of each request since the last call."""
    found = [(request.purpose, len(request.items)) for _, request in world.server.requests]
    world.server.requests.clear()
    return found


def more_files(world: Brokered, count: int = 2) -> None:
    alice = world.team.alice
    names = ", ".join(f'"secrets/more{n}.yaml"' for n in range(count))
    alice.replace("zopp.toml", 'files = ["secrets/prod.yaml"]', f'files = ["secrets/prod.yaml", {names}]')
    for n in range(count):
        alice.ok("set", f"MORE{n}", "-e", "prod", "--file", f"secrets/more{n}.yaml", stdin=str(n))
    world.team.sync("more")


def test_direct_to_brokered_and_back(served: Brokered) -> None:
    alice, bob = served.team.alice, served.team.bob
    old = sops_of(alice).metadata
    assert old.flat
    before = alice.manifest("prod")
    done = alice.ok("env", "kind", "prod", "brokered")
    assert "new data key" in done.err and served.server.origin in done.err
    assert asked(served) == []
    served.team.sync()
    state = alice.state()
    assert state.envs["api/prod"].kind == "brokered"
    assert sops_of(alice).metadata.threshold == 2
    assert alice.manifest("prod").files[PATH].kc != before.files[PATH].kc
    assert ("prod", "brokered") in [(r["environment"][4:], r["kind"]) for r in alice.ok("env", "list", "--json").json]
    asked(served)
    assert bob.get("BASE", "prod") == "base-prod"
    assert asked(served) == [("read", 1)]
    brokered_kc = alice.manifest("prod").files[PATH].kc
    alice.ok("env", "kind", "prod", "direct")
    assert asked(served) == [("rotate", 1)]
    served.team.sync()
    assert sops_of(alice).metadata.flat
    assert alice.manifest("prod").files[PATH].kc != brokered_kc
    assert bob.get("BASE", "prod") == "base-prod"
    assert asked(served) == []
    # And brokered again, under the server key that it has.
    alice.ok("env", "kind", "prod", "brokered")
    served.team.sync()
    assert bob.get("BASE", "prod") == "base-prod"
    assert len(served.server.server_keys["api/prod"]) == 1


@pytest.mark.parametrize("kind", ["brokered", "direct"])
def test_a_dry_run_asks_nobody_and_writes_nothing(served: Brokered, kind: str) -> None:
    alice = served.team.alice
    if kind == "direct":
        alice.ok("env", "kind", "prod", "brokered")
    before = alice.tree()
    done = alice.ok("env", "kind", "prod", kind, "--dry-run")
    assert "dry run" in done.err and "new data key" in done.err
    assert alice.tree() == before and asked(served) == []
    assert kind == "direct" or not served.server.server_keys


@pytest.mark.parametrize("kind", ["brokered", "direct"])
def test_a_branch_of_the_other_kind_is_rekeyed(served: Brokered, kind: str) -> None:
    """Files from before the change, as another branch has them: refused, and a writer's rekey brings them over."""
    alice, bob = served.team.alice, served.team.bob
    if kind == "direct":
        alice.ok("env", "kind", "prod", "brokered")
    listing = ".zopp/manifest/api/prod.json"
    old = {name: alice.read(name) for name in (PATH, listing, listing + ".sig")}
    alice.ok("env", "kind", "prod", kind)
    for name, data in old.items():
        alice.write(name, data)
    refused(alice.zopp("verify"), 1, words=[kind])
    for argv in (("get", "BASE", "-e", "prod"), ("set", "K", "-e", "prod")):
        refused(alice.zopp(*argv, stdin="v"), 1, words=["zopp rekey api/prod"])
    alice.ok("rekey", "api/prod")
    alice.ok("verify")
    served.team.sync()
    assert sops_of(alice).metadata.flat == (kind == "direct")
    assert bob.get("BASE", "prod") == "base-prod"


def test_ssh_readers_leave_with_the_kind(served: Brokered) -> None:
    """An ssh-ed25519 reader is one of direct environments only; also on a branch from before the change."""
    from zopp.keys import signing

    alice = served.team.alice
    ssh = signing.public_line(signing.generate().public)
    alice.ok("principal", "adopt", ssh, "--name", "old-box")
    alice.ok("grant", "old-box", "read", "api/prod")
    listing = ".zopp/manifest/api/prod.json"
    old = {name: alice.read(name) for name in (PATH, listing, listing + ".sig")}
    done = alice.ok("env", "kind", "prod", "brokered")
    assert "old-box" in done.err
    alice.ok("verify")
    for name, data in old.items():
        alice.write(name, data)
    alice.ok("rekey", "api/prod")
    alice.ok("verify")


def test_the_same_kind_again_is_nothing(world: Brokered) -> None:
    before = world.team.alice.tree()
    world.team.alice.ok("env", "kind", "prod", "brokered")
    assert world.team.alice.tree() == before


def test_without_a_server_nothing_becomes_brokered(team_without: User) -> None:
    before = team_without.tree()
    refused(team_without.zopp("env", "kind", "prod", "brokered"), 1, words=["zopp server adopt"])
    assert team_without.tree() == before


@pytest.fixture
def team_without(tmp_path: Path) -> User:
    from tests.support import Team

    return Team.make(tmp_path).alice


def test_who_is_not_admin_makes_no_kind(world: Brokered) -> None:
    bob = world.team.bob
    before = bob.tree()
    for argv in (("kind", "prod", "direct"), ("serverkey", "prod"), ("breakglass", "prod", "--remove")):
        refused(bob.zopp("env", *argv), 1)
    assert bob.tree() == before and asked(world) == []


def test_a_kind_that_cannot_be_carried_out_is_not_stated(world: Brokered) -> None:
    """Brokered to direct without the server: the statement would lock everyone out."""
    alice = world.team.alice
    world.server.stop()
    before = alice.tree()
    refused(alice.zopp("env", "kind", "prod", "direct"), 3, words=["policy server"])
    refused(alice.zopp("env", "breakglass", "prod", str(pyrage.x25519.Identity.generate().to_public())), 3)
    refused(alice.zopp("env", "serverkey", "prod"), 3)
    assert alice.tree() == before


def test_a_new_file_and_a_new_reader_cost_no_release(world: Brokered) -> None:
    alice, carol = world.team.alice, world.team.carol
    world.server.requests.clear()
    more_files(world)
    assert asked(world) == []
    alice.ok("grant", "carol", "read", "api/prod")
    assert asked(world) == []
    world.team.sync()
    assert carol.get("BASE", "prod") == "base-prod" and carol.get("MORE1", "prod") == "1"


def test_many_files_are_one_batch(world: Brokered) -> None:
    alice = world.team.alice
    more_files(world, 3)
    asked(world)
    alice.ok("get", "--reveal", "-e", "prod")
    assert asked(world) == [("read", 4)]
    alice.ok("run", "-e", "prod", "--", "true")
    assert asked(world) == [("read", 4)]
    alice.ok("rekey", "--all", "api/prod")
    assert asked(world) == [("rotate", 4)]
    alice.ok("revoke", "bob", "api/prod")
    assert asked(world) == [("rotate", 4)]
    alice.ok("import", "-", "-e", "prod", stdin="BASE=2\nMORE0=x\n")
    assert asked(world) == [("edit", 4)]  # compared, written and read back under the same release
    alice.ok("get", "MORE1", "-e", "prod")
    assert asked(world) == [("read", 1)]
    alice.ok("list", "-e", "prod")
    alice.ok("verify")
    alice.ok("whoknows", "api/prod")
    assert asked(world) == []


def test_a_batch_has_at_most_a_hundred_files(world: Brokered, monkeypatch: pytest.MonkeyPatch) -> None:
    more_files(world, 4)
    alice = world.team.alice
    monkeypatch.setattr(brokered, "MAX_BATCH", 2)
    asked(world)
    alice.ok("get", "--reveal", "-e", "prod")
    assert asked(world) == [("read", 2), ("read", 2), ("read", 1)]


def test_a_stanza_is_asked_for_once(world: Brokered) -> None:
    """Two versions of one file have the same entry for the server."""
    alice = world.team.alice
    ws = open_workspace(str(alice.repo), alice.env)
    env = open_environment(ws, "api/prod")
    seen: list[int] = []

    def releaser(ws: Workspace, scope: str, purpose: str, items: object) -> list[bytes]:
        seen.append(len(items))  # type: ignore[arg-type]
        key = world.server.server_keys[scope][0][1]
        return [key.open(item.share, item.body) or b"" for item in items]  # type: ignore[attr-defined]

    twice = [env.files[PATH], env.files[PATH]]
    first, second = data_keys(ws, env, twice, Keyring(alice.env, releaser=releaser), "read")
    assert first.data == second.data and seen == [1]


# --- server keys


def test_another_server_key_keeps_the_data_key(world: Brokered) -> None:
    alice, bob = world.team.alice, world.team.bob
    first, second = shares_of(alice, world.server)
    old = alice.state().envs["api/prod"].server_key
    alice.ok("env", "serverkey", "prod")
    assert asked(world) == [("rotate", 1)]
    new = alice.state().envs["api/prod"].server_key
    assert new != old and len(world.server.server_keys["api/prod"]) == 2
    assert [e.recipient for e in sops_of(alice).metadata.groups[1]] == [new]
    assert shares_of(alice, world.server) == (first, second)
    world.team.sync()
    assert bob.get("BASE", "prod") == "base-prod"


def test_a_leaked_server_key_makes_new_data_keys(world: Brokered) -> None:
    alice = world.team.alice
    key = data_key(alice, world.server)
    done = alice.ok("env", "serverkey", "prod", "--leaked")
    assert "source" in done.err and "rekey --all" in done.err
    assert data_key(alice, world.server) != key
    alice.ok("verify")


def test_a_branch_under_the_old_server_key_reads_with_a_warning(world: Brokered) -> None:
    alice = world.team.alice
    old = {
        name: alice.read(name) for name in (PATH, ".zopp/manifest/api/prod.json", ".zopp/manifest/api/prod.json.sig")
    }
    alice.ok("env", "serverkey", "prod")
    for name, data in old.items():
        alice.write(name, data)
    refused(alice.zopp("verify"), 1, words=["group 2"])
    assert alice.get("BASE", "prod") == "base-prod"
    refused(alice.zopp("set", "K", "-e", "prod", stdin="v"), 1, words=["zopp rekey api/prod"])
    alice.ok("rekey", "api/prod")
    alice.ok("verify")


# --- break-glass


def test_break_glass_opens_when_the_server_is_lost(world: Brokered) -> None:
    alice, bob = world.team.alice, world.team.bob
    identity = pyrage.x25519.Identity.generate()
    alice.ok("env", "breakglass", "prod", str(identity.to_public()))
    assert asked(world) == [("rotate", 1)]
    world.team.sync()
    world.server.stop()
    refused(bob.zopp("get", "BASE", "-e", "prod"), 3)
    held = bob.base / "held.txt"
    held.write_text(f"{identity}\n")
    held.chmod(0o600)
    env = {"SOPS_AGE_KEY_FILE": str(held)}
    done = bob.ok("get", "BASE", "-e", "prod", env=env)
    assert done.out == "base-prod" and "break-glass" in done.err
    bob.ok("set", "NEW", "-e", "prod", stdin="1", env=env)
    assert bob.ok("get", "NEW", "-e", "prod", env=env).out == "1"
    bob.ok("verify")
    # The holder alone, without a reader's key, opens nothing.
    refused(world.team.carol.zopp("get", "BASE", "-e", "prod", env=env), 1)


def test_removing_break_glass_makes_new_data_keys(world: Brokered) -> None:
    alice = world.team.alice
    identity = pyrage.x25519.Identity.generate()
    key = data_key(alice, world.server)
    alice.ok("env", "breakglass", "prod", str(identity.to_public()))
    assert data_key(alice, world.server) == key
    assert len(sops_of(alice).metadata.groups[1]) == 2
    alice.ok("env", "breakglass", "prod", "--remove")
    assert data_key(alice, world.server) != key
    assert len(sops_of(alice).metadata.groups[1]) == 1
    alice.ok("verify")


def test_break_glass_with_a_server_that_lost_its_keys(world: Brokered) -> None:
    """§12: holder and writer open share 2, check kc, and wrap it for the new key."""
    alice, bob = world.team.alice, world.team.bob
    identity = pyrage.x25519.Identity.generate()
    alice.ok("env", "breakglass", "prod", str(identity.to_public()))
    world.server.server_keys.clear()
    held = alice.base / "held.txt"
    held.write_text(f"{identity}\n")
    held.chmod(0o600)
    refused(alice.zopp("get", "BASE", "-e", "prod"), 1, words=["no key that the policy server has"])
    alice.ok("env", "serverkey", "prod", env={"SOPS_AGE_KEY_FILE": str(held)})
    world.team.sync()
    assert bob.get("BASE", "prod") == "base-prod"


# --- who is left out


def test_a_reader_without_a_signing_key_is_named_and_left_out(served: Brokered) -> None:
    alice = served.team.alice
    old = str(pyrage.x25519.Identity.generate().to_public())
    alice.ok("principal", "adopt", old, "--name", "flux")
    alice.ok("grant", "flux", "read", "api/prod")
    assert old in {e.recipient for e in sops_of(alice).metadata.groups[0]}
    done = alice.ok("env", "kind", "prod", "brokered")
    assert "flux" in done.err and "no signing key" in done.err
    assert old not in {e.recipient for e in sops_of(alice).metadata.groups[0]}
    for argv in (("whoknows", "api/prod"), ("doctor",), ("access", "flux", "api/prod"), ("env", "show", "prod")):
        said = alice.zopp(*argv).text
        assert "flux" in said and "signing key" in said, (argv, said)
    alice.ok("verify")


def test_show_and_list_need_no_key(world: Brokered) -> None:
    alice = world.team.alice
    shown = alice.ok("env", "show", "prod", "--json").json
    assert shown["kind"] == "brokered" and shown["server_key"] == alice.state().envs["api/prod"].server_key
    assert list(shown["readers"]) == ["alice-laptop", "bob-laptop"]
    assert "server key" in alice.ok("env", "show", "prod").out
    assert asked(world) == []


# --- retries


def test_a_busy_server_is_asked_again(world: Brokered) -> None:
    world.server.fail = [Problem("busy", "too much at once")]
    assert world.team.alice.get("BASE", "prod") == "base-prod"


def test_a_passphrase_is_asked_for_once_a_command(world: Brokered, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signing key is needed for the request and for the manifest."""
    from zopp.cli.context import Context
    from zopp.keys import find, signing
    from zopp.repo import userdirs

    bob = world.team.bob
    key = find.signing_key(bob.env, userdirs.config(bob.env)).key
    assert key is not None
    locked = bob.base / "locked.ssh"
    locked.write_bytes(signing.dump_openssh(key, "bob", "secret words"))
    locked.chmod(0o600)
    questions: list[str] = []

    def secret(self: Context, prompt: str, *, repeat: bool = False) -> str:
        questions.append(prompt)
        return "secret words"

    monkeypatch.setattr(Context, "secret", secret)
    asked(world)
    bob.ok("set", "NEW", "-e", "prod", stdin="1", env={"ZOPP_SIGNING_KEY_FILE": str(locked)})
    assert len(questions) == 1
    assert [purpose for purpose, _ in asked(world)] == ["edit"]


def test_the_library_reads_and_writes(world: Brokered) -> None:
    import zopp

    bob = world.team.bob
    ws = zopp.open(bob.repo, environ=bob.env)
    assert ws.get("BASE", "prod") == "base-prod"
    assert ws.set("NEW", "1", "prod")
    assert ws.values("prod") == {"BASE": "base-prod", "NEW": "1"}
