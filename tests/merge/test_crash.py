"""`zopp merge --continue` that dies between two of its writes: the next one ends it, or git gives it up."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.attacks.test_a01_files import data_key, sops_of
from tests.merge.conftest import branch, clean, enrol, run_git
from tests.robustness.test_crash import attempt
from tests.support import ROOT, Team, User
from zopp import sopsfile
from zopp._fast import sha512
from zopp.sopsfile import Put

EVERY = os.environ.get("HYPOTHESIS_PROFILE") == "slow"


GIT = {
    "merge": ("merge", "feature"),
    "rebase": ("rebase", "feature"),
    "cherry-pick": ("cherry-pick", "feature..work"),
    "rebase, statements": ("rebase", "feature"),
}


def prepared(base: Path, kind: str = "merge") -> User:
    """Alice, whom git has left in the middle of it. In a cherry-pick she stands on a branch beside `feature`; with
    statements there are some on both sides, and a commit behind hers that git takes without asking anybody."""
    team = Team.make(base)
    team.alice.set("A", "a0")
    team.alice.share("A")
    team.alice.ok("verify")
    alice = team.alice
    enrol(alice)
    branch(alice, "feature", ("A", "a1"), ("N", "n1"))
    if kind == "rebase, statements":
        alice.ok("group", "create", "theirs", "-m", "theirs")
    alice.git("checkout", "-q", "-b", "work", "main")
    if kind == "rebase, statements":
        alice.ok("group", "create", "ops", "-m", "ops")
        alice.set("S", "s1", "staging")
        alice.commit("work: S")
    alice.set("B", "b1")
    alice.commit("work: B")
    alice.ok("rekey", "--all", "api/dev", "-m", "rotated")
    if kind == "rebase, statements":
        alice.set("T", "t1", "staging")
        alice.commit("work: T")
    if kind == "cherry-pick":
        alice.git("checkout", "-q", "-b", "picked", "feature")
    assert run_git(alice, *GIT[kind])[0] == 1
    return alice


def finish(alice: User) -> None:
    done = alice.zopp("merge", "--continue")
    # It may have died after git had committed: then there is nothing to go on with.
    assert done.code == 0 or "no merge is under way" in done.err, done.text


def give_up(alice: User) -> None:
    done = alice.zopp("merge", "--abort")
    if "zopp merge --continue" in done.err:  # git had ended it, and it has to be signed
        finish(alice)
    else:
        assert done.code == 0 or "no merge is under way" in done.err, done.text


class Saved:
    """A clone and what its HOME remembers, to begin from again."""

    def __init__(self, user: User, base: Path) -> None:
        self.places = (user.repo, base / "saved"), (user.home / ".local/state", base / "state")
        for place, copy in self.places:
            subprocess.run(["cp", "-a", place, copy], check=True)

    def back(self) -> None:
        for place, copy in self.places:
            subprocess.run(["rm", "-rf", place], check=True)
            subprocess.run(["cp", "-a", copy, place], check=True)


def subjects(alice: User) -> list[str]:
    return alice.git("log", "--format=%s", "--first-parent", "main..").split("\n")


def merged(alice: User, kind: str, number: int) -> None:
    """All of both sides is there, once."""
    values = [alice.get(key) for key in "ABN"]
    assert values == ["a1", "b1", "n1"], number
    mine, theirs = ["rotated", "work: B"], ["feature: N", "feature: A"]
    if kind == "rebase, statements":
        assert [alice.get(key, "staging") for key in "ST"] == ["s1", "t1"], number
        mine, theirs = ["work: T", *mine, "work: S", "ops"], ["theirs", *theirs]
        assert sorted(alice.ok("group", "list", "--json").json) == ["ops", "theirs"], number
    assert subjects(alice) == (["Merge branch 'feature' into work", *mine] if kind == "merge" else [*mine, *theirs])


def writes(quick: tuple[int, ...]) -> Iterable[int]:
    """The slow tier dies at every write, the quick one at some, from both ends of the command on."""
    return range(1, 400) if EVERY else quick


QUICK = {
    "merge": (1, 4, 9, 14, 19, 24, 30, 37, 399),
    "rebase": (12, 40, 70, 399),
    "cherry-pick": (12, 40, 70, 399),
    "rebase, statements": (40, 90, 125, 140, 155, 399),
}


@pytest.mark.parametrize("kind", GIT)
@pytest.mark.parametrize("then", [finish, give_up], ids=["continue", "abort"])
def test_every_write_may_be_the_last(
    then: Callable[[User], None], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the process, where each write can be the one that never happens."""
    alice = prepared(tmp_path, kind)
    saved = Saved(alice, tmp_path)
    start = alice.git("rev-parse", "picked" if kind == "cherry-pick" else "work")
    for number in writes(QUICK[kind]):
        died = attempt(alice, number, monkeypatch, "merge", "--continue")
        then(alice)
        clean(alice)
        if then is finish or alice.git("rev-parse", "HEAD") != start:
            merged(alice, kind, number)
        else:
            assert died, number
            assert alice.get("A") == ("a1" if kind == "cherry-pick" else "a0"), number
            assert alice.git("symbolic-ref", "--short", "HEAD") == ("picked" if kind == "cherry-pick" else "work")
        saved.back()
        if not died:
            break
    else:
        pytest.fail("the command never ran to its end")
    assert number > 5, "the writes were not seen"


@pytest.mark.parametrize("kind", GIT)
def test_what_somebody_writes_after_the_crash_is_not_signed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead in the middle, and then a holder of the data key edits the file by hand: no manifest ever lists that."""
    alice = prepared(tmp_path, kind)
    saved = Saved(alice, tmp_path)
    for number in writes(QUICK[kind][1:-1]):
        if not attempt(alice, number, monkeypatch, "merge", "--continue"):
            break
        under_way = alice.git("status", "--porcelain") != ""
        forged = []
        for env in ("dev", "staging"):
            put = Put(("FORGED",), "forged")
            file = sopsfile.edit(sops_of(alice, env), data_key(alice, env), [put], lastmodified="2030-01-01T00:00:00Z")
            alice.write(f"secrets/{env}.yaml", file)
            forged.append(sha512(file).hex())
        done = alice.zopp("merge", "--continue")
        if under_way:
            assert done.code == 1, (number, done.text)
        for revision in alice.git("rev-list", "main..HEAD").split():
            for env in ("dev", "staging"):
                manifest = alice.git("show", f"{revision}:.zopp/manifest/api/{env}.json")
                assert not any(hash in manifest for hash in forged), number
                assert not any(hash.encode() in alice.read(f".zopp/manifest/api/{env}.json") for hash in forged), number
        saved.back()


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """As a process, killed by the system after a little longer each time."""
    alice = prepared(tmp_path)
    saved = tmp_path / "saved"
    subprocess.run(["cp", "-a", alice.repo, saved], check=True)
    for tenth in range(1, 16) if EVERY else (2, 4, 6, 8, 11):
        child = subprocess.Popen(
            [sys.executable, "-m", "zopp.cli.main", "merge", "--continue"], cwd=alice.repo,
            env={**alice.env, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            child.wait(timeout=tenth / 10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        # git's own lock, which a killed git leaves behind and asks people to remove
        for lock in (alice.repo / ".git").glob("*.lock"):
            lock.unlink()
        finish(alice)
        assert [alice.get("A"), alice.get("B"), alice.get("N")] == ["a1", "b1", "n1"], tenth
        clean(alice)
        subprocess.run(["rm", "-rf", alice.repo], check=True)
        subprocess.run(["cp", "-a", saved, alice.repo], check=True)
