"""`zopp resolve`: by name, and never a value unless asked for."""

import pytest

from tests.merge.conftest import branch, clean, run_git
from tests.scenarios.test_terminal import on_terminal
from tests.support import Team, User, refused

CANARIES = ("canary-ours", "canary-theirs", "canary-base", "canary-typed")


@pytest.fixture
def stopped(pair: Team) -> User:
    """Bob in a merge with three keys in conflict: changed twice, added twice, changed and removed."""
    bob = pair.bob
    bob.set("A", "canary-base")
    bob.commit("base")
    bob.git("checkout", "-q", "-B", "feature", "main")
    bob.set("A", "canary-theirs")
    bob.set("N", "canary-theirs")
    bob.ok("unset", "B", "-e", "dev", "--yes")
    bob.set("CLEAN", "1")
    bob.commit("theirs")
    bob.git("checkout", "-q", "-B", "work", "main")
    bob.set("A", "canary-ours")
    bob.set("N", "canary-ours")
    bob.set("B", "canary-ours")
    bob.commit("ours")
    assert run_git(bob, "merge", "feature")[0] == 1
    return bob


def test_it_lists_by_name(stopped: User) -> None:
    done = stopped.zopp("resolve", code=1)
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["api/dev", "A"],
        ["api/dev", "B"],
        ["api/dev", "N"],
    ]
    assert "ours changed it, theirs removed it" in done.out and "ours added it, theirs added it" in done.out
    found = stopped.zopp("resolve", "--json", code=1)
    assert [(row["key"], row["ours"], row["theirs"]) for row in found.json["open"]] == [
        ("A", "changed", "changed"),
        ("B", "changed", "removed"),
        ("N", "added", "added"),
    ]
    for said in (done.text, found.text):
        assert not any(canary in said for canary in CANARIES)


def test_values_are_shown_when_asked_for(stopped: User) -> None:
    done = stopped.zopp("resolve", "A", "--reveal", code=1)
    assert [line.split(" ")[2:] for line in done.out.splitlines()[1:]] == [
        ["base:", "canary-base"], ["ours:", "canary-ours"], ["theirs:", "canary-theirs"],
    ]  # fmt: skip


def test_one_by_one(stopped: User) -> None:
    """Each choice takes its markers away; the last one stages the file, and nothing was signed on the way."""
    manifest = stopped.git("rev-parse", "HEAD:.zopp/manifest/api/dev.json")
    done = stopped.ok("resolve", "A", "--theirs")
    assert "still open: B, N" in done.err
    assert stopped.read("secrets/dev.yaml").count(b"<<<<<<<") == 2
    still = stopped.zopp("merge", "--continue", code=1)
    assert "api/dev B" in still.err and "api/dev N" in still.err and "api/dev A" not in still.err
    stopped.ok("resolve", "B", "--theirs")
    assert "secrets/dev.yaml" in stopped.git("diff", "--name-only", "--diff-filter=U")
    stopped.ok("resolve", "N", "--edit", stdin="canary-typed")
    assert "secrets/dev.yaml" not in stopped.git("diff", "--name-only", "--diff-filter=U")
    assert stopped.git("rev-parse", "HEAD:.zopp/manifest/api/dev.json") == manifest
    stopped.ok("merge", "--continue")
    assert [stopped.get("A"), stopped.get("N"), stopped.get("CLEAN")] == ["canary-theirs", "canary-typed", "1"]
    assert stopped.zopp("get", "B", "-e", "dev").code == 1
    clean(stopped)


def test_base_and_a_changed_mind(stopped: User) -> None:
    stopped.ok("resolve", "A", "--base")
    stopped.ok("resolve", "B", "--ours")
    refused(stopped.zopp("resolve", "A", "--ours"), 1, words=["no open conflict A"])
    stopped.ok("resolve", "N", "--theirs")
    stopped.ok("merge", "--continue")
    assert [stopped.get("A"), stopped.get("B"), stopped.get("N")] == ["canary-base", "canary-ours", "canary-theirs"]
    clean(stopped)


def test_no_value_is_written_anywhere_in_clear(stopped: User) -> None:
    said = stopped.ok("resolve", "A", "--edit", stdin="canary-typed").text
    said += stopped.ok("resolve", "B", "--ours").text
    for root in (stopped.repo, stopped.home):
        for path in root.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert not any(canary.encode() in data for canary in CANARIES), path
    assert not any(canary in said for canary in CANARIES)


def test_wrong_keys_and_flags(stopped: User) -> None:
    before = stopped.tree()
    refused(stopped.zopp("resolve", "AA", "--ours"), 1, words=["no open conflict AA", "A"])
    refused(stopped.zopp("resolve", "--ours"), 2)
    refused(stopped.zopp("resolve", "A", "--ours", "--theirs"), 2)
    refused(stopped.zopp("resolve", "A", "-e", "prod", "--ours"), 1)
    assert stopped.tree() == before


def test_an_edit_of_ones_own_is_not_written_over(stopped: User) -> None:
    own = stopped.read("secrets/dev.yaml").replace(b"<<<<<<< ours\n", b"", 1).replace(b"=======\n", b"")
    text = b"\n".join(line for line in own.split(b"\n") if not line.startswith((b"<<<<<<<", b">>>>>>>")))
    stopped.write("secrets/dev.yaml", text)
    refused(stopped.zopp("resolve", "A", "--ours"), 1, words=["changed since git began"])
    assert stopped.read("secrets/dev.yaml") == text


def test_the_same_key_in_two_environments(pair: Team) -> None:
    bob = pair.bob
    bob.git("checkout", "-q", "-B", "feature", "main")
    for env in ("dev", "prod"):
        bob.set("BASE", "theirs", env)
    bob.commit("theirs")
    bob.git("checkout", "-q", "-B", "work", "main")
    for env in ("dev", "prod"):
        bob.set("BASE", "ours", env)
    bob.commit("ours")
    run_git(bob, "merge", "feature")
    refused(bob.zopp("resolve", "BASE", "--ours"), 2, words=["-e dev", "-e prod"])
    bob.ok("resolve", "BASE", "--ours", "-e", "dev")
    bob.ok("resolve", "BASE", "--theirs")
    bob.ok("merge", "--continue")
    assert [bob.get("BASE", "dev"), bob.get("BASE", "prod")] == ["ours", "theirs"]
    clean(bob)


ANSWERS = [(b"t\n", "canary-theirs"), (b"o\n", "canary-ours"), (b"b\n", "a0"), (b"\n", None)]


@pytest.mark.parametrize(("answer", "wanted"), ANSWERS)
def test_on_a_terminal_it_asks_about_each(pair: Team, answer: bytes, wanted: str | None) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "canary-theirs"))
    branch(bob, "work", ("A", "canary-ours"))
    run_git(bob, "merge", "feature")
    code, said = on_terminal(bob, "resolve", question="leave it open?", answer=answer)
    assert "canary" not in said
    if wanted is None:
        assert code == 1
        bob.zopp("resolve", code=1)
        return
    assert code == 0, said
    bob.ok("merge", "--continue")
    assert bob.get("A") == wanted
