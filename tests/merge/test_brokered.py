"""Merging a brokered environment: one release request for all that is needed, and words where nobody answers."""

from collections.abc import Iterator

import pytest

from tests.brokered.brokers import adopt
from tests.brokered.conftest import Brokered
from tests.brokered.standin import StandIn
from tests.merge.conftest import branch, clean, enrol, run_git
from tests.merge.test_continue import both_sides_marked
from tests.support import Team, refused


@pytest.fixture
def world(team: Team) -> Iterator[Brokered]:
    """prod is brokered, bob may write it, drivers are enrolled."""
    standin = StandIn()
    adopt(team, standin)
    team.alice.ok("grant", "bob", "write", "api/prod")
    team.alice.ok("env", "kind", "prod", "brokered")
    team.alice.set("A", "a0", "prod")
    team.alice.set("B", "b0", "prod")
    team.sync("brokered")
    for user in (team.alice, team.bob):
        enrol(user)
    yield Brokered(team, standin)
    standin.stop()


def test_one_request_for_all(world: Brokered) -> None:
    bob = world.team.bob
    branch(bob, "feature", ("A", "a1"), env="prod")
    branch(bob, "work", ("B", "b1"), env="prod")
    asked = len(world.server.requests)
    bob.ok("merge", "feature")
    made = world.server.requests[asked:]
    assert [(request.purpose, len(request.items)) for _, request in made] == [("edit", 1)]
    assert [bob.get("A", "prod"), bob.get("B", "prod")] == ["a1", "b1"]
    clean(bob)


def test_a_rotated_side_is_asked_for_in_the_same_request(world: Brokered) -> None:
    bob = world.team.bob
    branch(bob, "feature", ("A", "a1"), env="prod")
    bob.ok("rekey", "--all", "api/prod", "-m", "rotated")
    branch(bob, "work", ("B", "b1"), env="prod")
    asked = len(world.server.requests)
    bob.ok("merge", "feature")
    assert [len(request.items) for _, request in world.server.requests[asked:]] == [2]
    manifest = bob.manifest("prod")
    assert manifest.brokered and all(entry.kc1 for entry in manifest.files.values())
    clean(bob)


def test_the_driver_asks_once_a_file_and_continue_once(world: Brokered) -> None:
    bob = world.team.bob
    branch(bob, "feature", ("A", "a1"), env="prod")
    branch(bob, "work", ("B", "b1"), env="prod")
    asked = len(world.server.requests)
    assert run_git(bob, "merge", "feature")[0] == 1
    assert len(world.server.requests) == asked + 1
    bob.ok("merge", "--continue")
    assert len(world.server.requests) == asked + 2
    clean(bob)


def test_resolve_asks_once(world: Brokered) -> None:
    bob = world.team.bob
    branch(bob, "feature", ("A", "a1"), env="prod")
    branch(bob, "work", ("A", "a2"), env="prod")
    run_git(bob, "merge", "feature")
    asked = len(world.server.requests)
    bob.ok("resolve", "A", "--theirs")
    assert len(world.server.requests) == asked + 1
    bob.ok("merge", "--continue")
    assert bob.get("A", "prod") == "a1"
    clean(bob)


def test_offline_stops_with_words(world: Brokered) -> None:
    bob = world.team.bob
    branch(bob, "feature", ("A", "a1"), env="prod")
    branch(bob, "work", ("B", "b1"), env="prod")
    world.server.stop()
    code, said = run_git(bob, "merge", "feature")
    assert code == 1 and "policy server" in said and "api/prod" in said, said
    both_sides_marked(bob, "secrets/prod.yaml")
    refused(bob.zopp("merge", "--continue"), 1, 3, words=["policy server"])
    bob.ok("merge", "--abort")


def test_a_reader_whom_the_server_denies_merges_nothing(world: Brokered) -> None:
    """Bob lost his role at the server a moment ago; his clone does not know yet."""
    alice, bob = world.team.alice, world.team.bob
    branch(bob, "feature", ("A", "a1"), env="prod")
    branch(bob, "work", ("B", "b1"), env="prod")
    alice.ok("revoke", "bob", "api/prod")
    head = bob.git("rev-parse", "HEAD")
    done = bob.zopp("merge", "feature")
    assert done.code in (1, 3), done.text
    assert bob.git("rev-parse", "HEAD") == head
