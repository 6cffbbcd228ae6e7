"""What only a key tells: classes of change, and never a value."""

from tests.review.test_review import codes, review
from tests.support import Team, User

CANARY = "canary-7f3a91c2"
FILE = "secrets/dev.yaml"


def classes(found: dict[str, object], environment: str = "api/dev") -> dict[str, list[str]]:
    (env,) = [env for env in found["environments"] if env["environment"] == environment]  # type: ignore[attr-defined]
    (file,) = env["files"]
    told: dict[str, list[str]] = file["classes"]
    return told


def topic(user: User) -> None:
    user.share("before")
    user.git("checkout", "-q", "-b", "topic")


def test_classes(team: Team) -> None:
    alice = team.alice
    for key, value in (("BACK", CANARY + "1"), ("EMPTY", "x"), ("PLAIN", "x"), ("KIND", "1"), ("KEEP", "kept")):
        alice.set(key, value)
    alice.commit()
    alice.set("BACK", CANARY + "2")
    alice.set("SHARED", CANARY + "shared", env="prod")
    topic(alice)
    alice.set("BACK", CANARY + "1")
    alice.set("EMPTY", "")
    alice.set("PLAIN", "changeme")
    alice.ok("set", "KIND", "--type", "int", "-e", "dev", stdin="1")
    alice.set("SHARED", CANARY + "shared")
    alice.commit()
    found = review(alice, "--keyed", code=0)
    assert classes(found) == {
        "BACK": ["changed", "equals an earlier value"],
        "EMPTY": ["changed", "empty"],
        "PLAIN": ["changed", "looks like a placeholder"],
        "KIND": ["changed", "type changed"],
        "SHARED": ["equal to the value in api/prod"],
    }
    assert {"value.placeholder", "value.shared"} <= codes(found, "warning")
    assert found["tier"] == 1


def test_a_rewrap_is_told_from_a_change(team: Team) -> None:
    """Without a key every value of a new data key looks changed; with one it does not."""
    alice = team.alice
    team.grant("bob", "read", "api/dev")
    alice.set("OTHER", CANARY)
    topic(alice)
    alice.ok("revoke", "bob", "api/dev")
    alice.set("OTHER", CANARY + "new")
    alice.commit()
    found = review(alice, "--keyed", code=0)
    assert classes(found) == {"BASE": ["same value, re-encrypted"], "OTHER": ["changed"]}
    assert "data key: rotated\n" in alice.ok("review", "main..topic", "--keyed").out
    alice.git("checkout", "-q", "-b", "further")
    alice.set("OTHER", CANARY + "newer")
    alice.commit()
    assert "data key: not rotated" in alice.ok("review", "topic..further", "--keyed").out


def test_who_may_not_read_is_told_nothing(team: Team) -> None:
    alice, carol = team.alice, team.carol
    topic(alice)
    alice.set("BASE", CANARY)
    alice.share()
    carol.git("fetch", "-q", "origin")
    found = review(carol, "--keyed", code=3, span="origin/main..origin/topic")
    assert [r["severity"] for r in found["remarks"]] == ["unknown"]  # type: ignore[attr-defined]
    assert "was not decrypted" in found["remarks"][0]["message"]  # type: ignore[index]


def test_a_mac_that_does_not_hold_blocks(team: Team) -> None:
    """Two values exchanged between keys is for the MAC to tell, and a file from before the branch, too."""
    alice = team.alice
    alice.set("OTHER", CANARY)
    topic(alice)
    lines = alice.read(FILE).decode().split("\n")
    base = next(i for i, line in enumerate(lines) if line.startswith("BASE:"))
    other = next(i for i, line in enumerate(lines) if line.startswith("OTHER:"))
    one, two = lines[base].partition(": ")[2], lines[other].partition(": ")[2]
    lines[base], lines[other] = f"BASE: {two}", f"OTHER: {one}"
    alice.write(FILE, "\n".join(lines))
    alice.commit()
    found = review(alice, "--keyed", code=1)
    assert any("was not decrypted" in r["message"] for r in found["remarks"])  # type: ignore[attr-defined]
