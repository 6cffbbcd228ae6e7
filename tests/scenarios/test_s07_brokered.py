"""S7, S46, S47, S52 and S56 in a brokered environment, against a stand-in for the server."""

import pytest

from tests.brokered.brokers import data_key, shares_of, sops_of
from tests.brokered.conftest import Brokered, served, world
from tests.client.standin import Problem
from tests.support import refused
from zopp import sopsfile
from zopp.errors import ZoppError
from zopp.keys import agefile

__all__ = ["served", "world"]

PATH = "secrets/prod.yaml"
READS = (("get", "BASE"), ("get", "--reveal"), ("export",), ("run", "--", "true"))
CHANGES = (("set", "K"), ("unset", "BASE"), ("import", "-"))


def in_prod(argv: tuple[str, ...]) -> tuple[str, ...]:
    return (argv[0], "-e", "prod", *argv[1:])


@pytest.mark.parametrize("why", ["unreachable", "lost"])
def test_s7_without_the_server_what_exists_fails_with_the_reason(world: Brokered, why: str) -> None:
    bob = world.team.bob
    if why == "unreachable":
        world.server.stop()
    else:
        world.server.down = True
    before = bob.tree()
    for argv in (*READS, *CHANGES):
        done = bob.zopp(*in_prod(argv), stdin="K=v\n")
        assert done.code in (3, 125) and done.exec is None, (argv, done.text)
        assert "api/prod is brokered" in done.err and "policy server" in done.err
        assert "base-prod" not in done.text
    assert bob.tree() == before
    for argv in (("list", "-e", "prod"), ("access",), ("verify",), ("whoknows", "api/prod"), ("env", "show", "prod")):
        bob.ok(*argv)


def test_s7_new_files_need_no_server_and_a_change_of_policy_does(world: Brokered) -> None:
    alice, bob = world.team.alice, world.team.bob
    alice.ok("env", "add", "qa")
    alice.ok("env", "kind", "qa", "brokered")
    alice.ok("grant", "bob", "write", "api/qa")
    world.team.sync()
    world.server.requests.clear()
    world.server.stop()
    bob.ok("import", "-", "-e", "qa", stdin="ONE=1\nTWO=2\n")
    bob.ok("verify")
    before = alice.tree()
    refused(alice.zopp("grant", "carol", "read", "api/prod"), 3, words=["policy server"])
    assert alice.tree() == before


def test_s7_a_direct_environment_needs_no_server(world: Brokered) -> None:
    """Also in a workspace that has one: nobody is asked, whatever it would say."""
    alice = world.team.alice
    world.server.stop()
    assert alice.get("BASE", "dev") == "base-dev"
    alice.set("NEW", "1", "dev")
    alice.ok("rekey", "--all", "api/dev")
    alice.ok("verify")


def test_s46_a_disabled_device_gets_nothing_at_its_next_call(world: Brokered) -> None:
    alice, bob = world.team.alice, world.team.bob
    assert bob.get("BASE", "prod") == "base-prod"
    alice.ok("principal", "disable", "bob-laptop")
    refused(bob.zopp("get", "BASE", "-e", "prod"), words=["enrolled and enabled"])
    assert bob.recipient not in {e.recipient for e in sops_of(alice).metadata.groups[0]}


@pytest.mark.parametrize("loss", ["revoke", "disable", "protect", "cap"])
def test_s47_every_loss_of_read_makes_new_data_keys(served: Brokered, loss: str) -> None:
    alice = served.team.alice
    alice.ok("revoke", "bob", "api/prod")
    alice.ok("grant", "bob", "read", "api")
    alice.ok("env", "kind", "prod", "brokered")
    old = data_key(alice, served.server)
    argv = {
        "revoke": ("revoke", "bob", "api"),
        "disable": ("principal", "disable", "bob-laptop"),
        "protect": ("env", "protect", "prod"),
        "cap": ("principal", "cap", "bob-laptop", "none"),
    }[loss]
    done = alice.zopp(*argv, "--yes") if loss == "protect" else alice.zopp(*argv)
    assert done.code == 0, done.text
    assert data_key(alice, served.server) != old
    assert served.team.bob.recipient not in {e.recipient for e in sops_of(alice).metadata.groups[0]}
    alice.ok("verify")


def test_s52_neither_half_opens_anything(world: Brokered) -> None:
    """The server with the repository, a reader's key with the repository: no value."""
    alice = world.team.alice
    file = sops_of(alice)
    first, second = shares_of(alice, world.server)
    for half in (first, second):
        with pytest.raises(ZoppError):
            file.decrypt(half[:32])
        with pytest.raises(ZoppError):
            sopsfile.join_key([half])
        with pytest.raises(ZoppError):
            sopsfile.join_key([half, half])
    # No identity of a reader fits the second group, the server's fits none of the first.
    for entry in file.metadata.groups[1]:
        with pytest.raises(ZoppError):
            agefile.unwrap(entry.enc, alice.identities)
    key = world.server.server_keys["api/prod"][0][1]
    from zopp.repo import brokered

    for entry in file.metadata.groups[0]:
        stanza = brokered.stanza(PATH, entry)
        assert key.open(stanza.share, stanza.body) is None
    assert file.decrypt(data_key(alice, world.server)).documents


def test_s52_two_readers_together_open_nothing(world: Brokered) -> None:
    alice, bob = world.team.alice, world.team.bob
    mine, _ = shares_of(alice, world.server)
    his, _ = shares_of(bob, world.server)
    assert mine == his
    with pytest.raises(ZoppError):
        sopsfile.join_key([mine, his])


def test_s56_a_lying_server_gains_no_recipient(world: Brokered) -> None:
    """A key that it proposes and that is somebody's already is refused before a statement names it."""
    alice = world.team.alice
    before = alice.tree()
    world.server.propose = world.team.bob.recipient
    refused(alice.zopp("env", "serverkey", "prod"))
    assert alice.tree() == before


def test_s56_a_server_that_refuses_says_so(world: Brokered) -> None:
    alice = world.team.alice
    before = alice.tree()
    for code, words in (("recovery", "brokered"), ("denied", "api/prod"), ("quota", "brokered")):
        world.server.fail = [Problem(code, "not now")]
        refused(alice.zopp("get", "BASE", "-e", "prod"), words=[words])
    assert alice.tree() == before


def test_s56_no_plaintext_without_the_committed_key(world: Brokered) -> None:
    """Whatever file key is handed out, what comes of it must be the key of the signed manifest."""
    alice = world.team.alice
    world.server.wrong = lambda key: bytes(reversed(key))
    for argv in READS:
        done = alice.zopp(*in_prod(argv))
        assert done.code in (1, 125) and "base-prod" not in done.text and done.exec is None


def test_a_canary_stands_in_no_error(world: Brokered, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares, file keys and values are in no message, with --debug either."""
    alice, bob = world.team.alice, world.team.bob
    bob.set("CANARY", "canary-8f3a", "prod")
    bob.share()
    alice.pull()
    first, second = shares_of(alice, world.server)
    secrets = [b"canary-8f3a", *(s.hex().encode() for s in (first, second)), repr(first)[2:20].encode()]
    world.server.wrong = lambda key: bytes(16)
    for argv in (*READS, *CHANGES):
        done = alice.zopp("--debug", *in_prod(argv), stdin="K=v\n")
        assert done.code
        assert not any(secret in done.text.encode() for secret in secrets), argv
