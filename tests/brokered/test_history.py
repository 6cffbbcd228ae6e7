"""history, show, diff and rollback of a brokered environment: no release without --reveal, and one request with it."""

from tests.brokered.conftest import Brokered
from tests.support import refused


def written(world: Brokered) -> str:
    """Two versions of BASE on top, a rekey between them, and the commit before both."""
    alice = world.team.alice
    first = alice.git("rev-parse", "HEAD")
    alice.ok("set", "BASE", "-e", "prod", "-m", "v1", stdin="value-one")
    alice.ok("rekey", "--all", "api/prod", "-m", "rekeyed")
    alice.ok("set", "BASE", "-e", "prod", "-m", "v2", stdin="value-two")
    world.team.sync("versions")
    return first


def test_nothing_is_asked_without_reveal(world: Brokered) -> None:
    first, bob = written(world), world.team.bob
    world.server.requests.clear()
    bob.ok("history", "BASE", "-e", "prod")
    bob.ok("history", "-e", "prod")
    bob.ok("blame", "-e", "prod")
    bob.ok("show", first, "-e", "prod")
    bob.zopp("diff", f"{first}..HEAD", "-e", "prod", code=1)
    assert world.server.requests == []


def test_reveal_asks_once_and_reads(world: Brokered) -> None:
    """All versions in one request of purpose read; of one data key once."""
    first, bob = written(world), world.team.bob
    for argv in (
        ("history", "BASE", "-e", "prod", "--reveal"),
        ("diff", f"{first}..HEAD", "-e", "prod", "--reveal"),
        ("show", "HEAD~1", "BASE", "-e", "prod", "--reveal"),
    ):
        world.server.requests.clear()
        done = bob.zopp(*argv)
        assert "value-" in done.out or "base-prod" in done.out, done.text
        assert [(who, request.purpose) for who, request in world.server.requests] == [("bob-laptop", "read")], argv
    out = bob.ok("history", "BASE", "-e", "prod", "--reveal").out
    assert out.index("value-two") < out.index("value-one") < out.index("base-prod")
    assert [row["what"] for row in bob.ok("history", "BASE", "-e", "prod", "--keyed", "--json").json["events"]][:3] == [
        "changed", "rekeyed", "changed",
    ]  # fmt: skip


def test_rollback_asks_once(world: Brokered) -> None:
    first, bob = written(world), world.team.bob
    world.server.requests.clear()
    bob.ok("rollback", "BASE", "-e", "prod", "--to", first)
    assert [(who, request.purpose) for who, request in world.server.requests] == [("bob-laptop", "edit")]
    assert bob.get("BASE", "prod") == "base-prod"
    bob.ok("verify")


def test_without_the_server(world: Brokered) -> None:
    """Names and who signed are told, values are not, and nothing is changed."""
    first, bob = written(world), world.team.bob
    world.server.stop()
    bob.ok("history", "BASE", "-e", "prod")
    before = bob.tree()
    for argv in (
        ("history", "BASE", "-e", "prod", "--reveal"),
        ("show", first, "-e", "prod", "--reveal"),
        ("rollback", "BASE", "-e", "prod", "--to", first),
    ):
        refused(bob.zopp(*argv), 3, words=["policy server"])
    assert bob.tree() == before


def test_who_could_have_asked(world: Brokered) -> None:
    """Of a brokered environment nobody says that a former reader knew it, only that they could have."""
    team = world.team
    team.grant("carol", "read", "api/prod")
    alice = team.alice
    alice.ok("set", "BASE", "-e", "prod", "-m", "v1", stdin="value-one")
    first = alice.git("rev-parse", "HEAD")
    alice.ok("set", "BASE", "-e", "prod", "-m", "v2", stdin="value-two")
    alice.ok("revoke", "carol", "api/prod", "-m", "carol out")
    done = alice.ok("rollback", "BASE", "-e", "prod", "--to", first)
    assert "carol (carol-desktop) could have asked for that value" in done.err


def test_a_keyed_review_reads_for_review(world: Brokered) -> None:
    """Both sides and the merges between them, by requests of purpose review only; classes, and no value."""
    alice = world.team.alice
    alice.ok("set", "K", "-e", "prod", "-m", "k", stdin="canary-one")
    alice.git("checkout", "-q", "-b", "topic")
    alice.ok("set", "MINE", "-e", "prod", "-m", "mine", stdin="canary-mine")
    alice.git("checkout", "-q", "main")
    alice.ok("set", "THEIRS", "-e", "prod", "-m", "theirs", stdin="canary-theirs")
    alice.git("checkout", "-q", "topic")
    alice.ok("merge", "main")
    alice.ok("set", "K", "-e", "prod", stdin="canary-evil")
    alice.git("add", "--all")
    alice.git("commit", "-q", "--amend", "--no-edit")
    world.server.requests.clear()
    done = alice.ok("review", "main..topic", "--keyed", "--json")
    assert "canary" not in done.text
    asked = [(who, request.purpose) for who, request in world.server.requests]
    assert set(asked) == {("alice-laptop", "review")} and len(asked) <= 2
    (env,) = done.json["environments"]
    assert env["files"][0]["classes"] == {
        "K": ["changed", "changed in a merge commit though neither parent changed it"],
    }
    world.server.stop()
    done = alice.zopp("review", "main..topic", "--keyed", "--json", code=3)
    assert done.json["verdict"] == "could not tell"
