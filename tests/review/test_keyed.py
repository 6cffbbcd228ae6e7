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


# --- what only a merge commit did


def sides(team: Team) -> User:
    """alice on `topic`, which is to merge main: it set MINE, main set THEIRS, from K, MINE and THEIRS at the fork."""
    alice = team.alice
    for key in ("K", "MINE", "THEIRS"):
        alice.set(key, CANARY + "old")
    topic(alice)
    alice.set("MINE", CANARY + "mine")
    alice.commit()
    alice.git("checkout", "-q", "main")
    alice.set("THEIRS", CANARY + "theirs")
    alice.commit()
    alice.git("checkout", "-q", "topic")
    return alice


def merge(alice: User, *slip: tuple[str, str]) -> str:
    """The merge commit that zopp makes, amended by what somebody slips into it."""
    alice.ok("merge", "main")
    assert len(alice.git("rev-list", "--parents", "-n", "1", "HEAD").split()) == 3
    for key, value in slip:
        alice.set(key, value)
    if slip:
        alice.git("add", "--all")
        alice.git("commit", "-q", "--amend", "--no-edit")
    return alice.git("rev-parse", "HEAD")


def test_a_merge_that_changes_nothing_by_itself(team: Team) -> None:
    alice = sides(team)
    merge(alice)
    found = review(alice, "--keyed", code=0)
    assert classes(found) == {"MINE": ["changed"]}
    assert "value.merged" not in codes(found, "warning")


def test_what_a_merge_slips_in(team: Team) -> None:
    """A value that neither side has, one that only a side's change may have had, and a change that is undone."""
    alice = sides(team)
    commit = merge(alice, ("K", CANARY + "evil"), ("MINE", CANARY + "third"), ("THEIRS", CANARY + "old"))
    found = review(alice, "--keyed", code=0)
    assert classes(found) == {
        "K": ["changed", "changed in a merge commit though neither parent changed it"],
        "MINE": ["changed", "set in a merge commit to what neither parent has"],
        "THEIRS": ["changed", "equals an earlier value", "a parent's change undone in a merge commit"],
    }
    remarks = [r["message"] for r in found["remarks"] if r["code"] == "value.merged"]  # type: ignore[attr-defined]
    assert len(remarks) == 3 and all(commit[:12] in message for message in remarks)
    # A later commit that sets it anew says so itself.
    alice.set("K", CANARY + "honest")
    alice.commit()
    assert classes(review(alice, "--keyed", code=0))["K"] == ["changed"]


def test_a_key_that_a_merge_adds_or_takes_away(team: Team) -> None:
    alice = sides(team)
    alice.ok("merge", "main")
    alice.set("ADDED", CANARY)
    alice.ok("unset", "K", "-e", "dev", "--yes")
    alice.git("add", "--all")
    alice.git("commit", "-q", "--amend", "--no-edit")
    found = classes(review(alice, "--keyed", code=0))
    unprompted = "changed in a merge commit though neither parent changed it"
    assert (found["ADDED"], found["K"]) == ([unprompted], [unprompted])


def test_a_merge_that_encrypts_anew_changes_nothing(team: Team) -> None:
    """Other ciphertext is no other value: the base's removal of a reader brings a new data key in."""
    alice = team.alice
    team.grant("bob", "read", "api/dev")
    alice.set("K", CANARY)
    topic(alice)
    alice.set("MINE", CANARY + "mine")
    alice.commit()
    alice.git("checkout", "-q", "main")
    alice.ok("revoke", "bob", "api/dev")
    alice.commit()
    alice.git("checkout", "-q", "topic")
    merge(alice)
    found = review(alice, "--keyed", code=0)
    assert "value.merged" not in codes(found, "warning")
    merge_of_old = alice.git("rev-parse", "HEAD")
    alice.set("K", CANARY + "evil")
    alice.git("add", "--all")
    alice.git("commit", "-q", "--amend", "--no-edit")
    assert alice.git("rev-parse", "HEAD") != merge_of_old
    assert "value.merged" in codes(review(alice, "--keyed", code=0), "warning")


def test_conflicts_settled_for_a_side_are_no_change_of_the_merge(team: Team) -> None:
    alice = sides(team)
    alice.set("THEIRS", CANARY + "other")
    alice.commit()
    alice.zopp("merge", "main")
    alice.ok("resolve", "THEIRS", "--theirs")
    alice.ok("merge", "--continue")
    found = review(alice, "--keyed", code=0)
    assert "value.merged" not in codes(found, "warning")
