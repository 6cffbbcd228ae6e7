"""Brokered environments through the command line, against a stand-in for the server."""

from tests.brokered.brokers import data_key, shares_of, sops_of
from tests.brokered.conftest import Brokered
from tests.support import refused


def test_everyday_commands_work(world: Brokered) -> None:
    alice, bob = world.team.alice, world.team.bob
    assert alice.get("BASE", "prod") == "base-prod"
    bob.set("NEW", "1", "prod")
    assert bob.get("NEW", "prod") == "1"
    bob.ok("verify")
    assert bob.ok("export", "-e", "prod").out.count("\n") == 2
    done = bob.ok("run", "-e", "prod", "--", "true")
    assert done.exec is not None and done.exec[2]["NEW"] == "1"
    bob.ok("unset", "NEW", "-e", "prod")
    bob.ok("import", "-", "-e", "prod", stdin="K=v\n")
    bob.ok("rekey", "--all", "api/prod")
    bob.ok("verify")
    assert bob.get("K", "prod") == "v"
    assert world.server.releases() > 0
    assert {who for who, _ in world.server.requests} == {"alice-laptop", "bob-laptop"}


def test_a_direct_environment_is_never_asked_for(world: Brokered) -> None:
    bob = world.team.bob
    world.team.grant("bob", "write", "api/dev")
    before = world.server.releases()
    bob.set("NEW", "1", "dev")
    assert bob.get("NEW", "dev") == "1"
    bob.ok("rekey", "--all", "api/dev")
    assert world.server.releases() == before


def test_shape(world: Brokered) -> None:
    alice = world.team.alice
    meta = sops_of(alice).metadata
    assert not meta.flat and meta.threshold == 2 and [len(g) for g in meta.groups] == [2, 1]
    first, second = shares_of(alice, world.server)
    assert (len(first), first[-1], len(second), second[-1]) == (33, 1, 33, 2)
    assert len(data_key(alice, world.server)) == 32
    manifest = alice.manifest("prod")
    assert manifest.brokered and all(entry.kc1 for entry in manifest.files.values())


def test_offline(world: Brokered) -> None:
    """S7: reads and changes of what exists fail with the reason; a new file works, and a change of policy is
    not made."""
    bob, alice = world.team.bob, world.team.alice
    world.server.stop()
    for use in (("get", "BASE"), ("run", "--", "true"), ("set", "X"), ("rekey", "--all", "api/prod")):
        argv = use if use[0] == "rekey" else (use[0], "-e", "prod", *use[1:])
        before = bob.tree()
        done = bob.zopp(*argv, stdin="1")
        assert done.code in (1, 3, 125), done.text
        assert "policy server" in done.text and "api/prod" in done.text, done.text
        assert bob.tree() == before
    before = alice.tree()
    refused(alice.zopp("grant", "carol", "read", "api/prod"), 3, words=["policy server"])
    assert alice.tree() == before
    listed = 'files = ["secrets/prod.yaml", "secrets/fresh.yaml"]'
    alice.replace("zopp.toml", 'files = ["secrets/prod.yaml"]', listed)
    alice.ok("set", "FRESH", "-e", "prod", "--file", "secrets/fresh.yaml", stdin="1")
    alice.ok("verify")


def test_the_index_of_own_secrets_asks_only_where_told_to(world: Brokered) -> None:
    """`scan --reindex` makes no release; with --brokered it makes one request an environment."""
    alice = world.team.alice
    secret = "Zk3-pQ9_vLm2xT-8"  # zopp:allow made up
    for number in range(3):
        alice.set(f"K{number}", f"{secret}{number}", "prod")
    alice.set("OTHER", "x", "prod")
    alice.share()
    before = len(world.server.requests)
    said = alice.ok("scan", "--reindex")
    assert "not covered: api/prod (brokered" in said.err and "--brokered" in said.err
    assert len(world.server.requests) == before
    alice.write("app.py", f"x = '{secret}1'\n")
    alice.git("add", "app.py")
    staged = alice.zopp("scan", "--json", "--staged")
    assert staged.json["not_covered"] == ["api/prod"]
    assert "of api/prod: zopp scan --reindex --brokered" in staged.err
    assert not [row for row in staged.json["findings"] if row["check"] == "own"]
    said = alice.ok("scan", "--reindex", "--brokered", "--json")
    assert "api/prod" in said.json["environments"] and said.json["not_covered"] == {}
    assert len(world.server.requests) == before + 1
    staged = alice.zopp("scan", "--json", "--staged")
    assert [row["what"] for row in staged.json["findings"] if row["check"] == "own"] == ["equals K1 of api/prod"]
    assert staged.json["not_covered"] == []
    assert "looked for: " in alice.zopp("doctor").out and "api/prod" in alice.zopp("doctor").out
    refused(alice.zopp("scan", "--brokered"), 2)


def test_offboarding_makes_no_release_for_the_index(world: Brokered) -> None:
    """What it covered of a brokered environment goes with the old one, and that is said."""
    alice = world.team.alice
    alice.ok("scan", "--reindex", "--brokered")
    before = len(world.server.requests)
    dry = alice.ok("offboard", "bob", "--dry-run")
    assert "index" not in dry.err
    asked = len(world.server.requests) - before
    done = alice.ok("offboard", "bob")
    assert "is made anew" in done.err and "no longer covers api/prod (brokered" in done.err
    assert len(world.server.requests) - before - asked <= max(asked, 1)
