"""`zopp merge --continue` that dies between two of its writes: the next one ends it, or git gives it up."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.merge.conftest import branch, clean, enrol, run_git
from tests.robustness.test_crash import attempt
from tests.support import ROOT, Team, User

EVERY = os.environ.get("HYPOTHESIS_PROFILE") == "slow"


def prepared(base: Path) -> User:
    team = Team.make(base)
    team.alice.set("A", "a0")
    team.alice.share("A")
    team.alice.ok("verify")
    alice = team.alice
    enrol(alice)
    branch(alice, "feature", ("A", "a1"), ("N", "n1"))
    branch(alice, "work", ("B", "b1"))
    alice.ok("rekey", "--all", "api/dev", "-m", "rotated")
    assert run_git(alice, "merge", "feature")[0] == 1
    return alice


def finish(alice: User) -> None:
    done = alice.zopp("merge", "--continue")
    # It may have died after git had committed: then there is nothing to go on with.
    assert done.code == 0 or "no merge is under way" in done.err, done.text


def give_up(alice: User) -> None:
    done = alice.zopp("merge", "--abort")
    assert done.code == 0 or "no merge is under way" in done.err, done.text


@pytest.mark.parametrize("then", [finish, give_up], ids=["continue", "abort"])
def test_every_write_may_be_the_last(
    then: Callable[[User], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the process, where each write can be the one that never happens."""
    alice = prepared(tmp_path)
    saved = tmp_path / "saved"
    subprocess.run(["cp", "-a", alice.repo, saved], check=True)
    state = alice.home / ".local/state"
    subprocess.run(["cp", "-a", state, tmp_path / "state"], check=True)
    ours = alice.git("rev-parse", "HEAD")
    # The slow tier dies at every write, the quick one at some, from both ends of the command on.
    writes = range(1, 400) if EVERY else (1, 4, 9, 14, 19, 24, 30, 37, 45, 399)
    for number in writes:
        died = attempt(alice, number, monkeypatch, "merge", "--continue")
        then(alice)
        values = [alice.get("A"), alice.get("B")]
        if then is finish:
            assert values == ["a1", "b1"] and alice.get("N") == "n1", number
        else:
            merged = alice.git("rev-parse", "HEAD") != ours
            assert values == (["a1", "b1"] if merged else ["a0", "b1"]), number
        clean(alice)
        for place, copy in ((alice.repo, saved), (state, tmp_path / "state")):
            subprocess.run(["rm", "-rf", place], check=True)
            subprocess.run(["cp", "-a", copy, place], check=True)
        if not died:
            break
    else:
        pytest.fail("the command never ran to its end")
    assert number > 5, "the writes were not seen"


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
