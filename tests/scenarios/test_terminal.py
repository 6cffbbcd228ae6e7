"""Questions answered on a real terminal: a pseudo-terminal of its own session, so that its control keys are signals."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT, Team, User

CTRL_C, CTRL_D = b"\x03", b"\x04"


def _foreground(terminal: int) -> None:
    os.login_tty(terminal)
    # A test run that was started in the background ignores it, and its children would.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _waits(pid: int, end: float) -> None:
    """Until the process sleeps: a signal between the question and the read behind it is heard only after the read, as
    in every Python program, so a key that comes within those microseconds would hang the test."""
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "S" and time.monotonic() < end:
        time.sleep(0.005)


def on_terminal(user: User, *argv: str, question: str | None, answer: bytes = b"") -> tuple[int, str]:
    """Run zopp as a terminal's foreground process, type `answer` once `question` is shown (None: it asks nothing); exit
    code and screen."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "zopp.cli.main", *argv],
        cwd=user.repo,
        env={**user.env, "PYTHONPATH": str(ROOT), "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: _foreground(theirs),
    )
    os.close(theirs)
    screen, typed = b"", False
    end = time.monotonic() + 60
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.5)[0]:
                try:
                    part = os.read(ours, 4096)
                except OSError:  # Linux: the other side is closed
                    break
                if not part:
                    break
                screen += part
            if question is not None and not typed and question.encode() in screen:
                _waits(process.pid, end)
                os.write(ours, answer)
                typed = True
        code = process.wait(timeout=10)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert typed == (question is not None), screen.decode()
    return code, screen.decode().replace("\r\n", "\n")


@pytest.fixture
def changed(team: Team) -> User:
    """alice, with an older version of a file put back, as a revert does."""
    alice = team.alice
    old = alice.read("secrets/dev.yaml")
    alice.set("BASE", "new")
    alice.set("OTHER", "new")
    alice.commit()
    alice.write("secrets/dev.yaml", old)
    return alice


@pytest.mark.parametrize("answer", [b"y\n", b"yes\n", b"Y\n"], ids=ascii)
def test_sign_yes(changed: User, answer: bytes) -> None:
    """The keys that differ stand above the question; a yes signs what is there."""
    code, screen = on_terminal(changed, "sign", "-e", "dev", question="? [y/N] ", answer=answer)
    assert code == 0, screen
    shown, _, rest = screen.partition("sign this as alice-laptop? [y/N] ")
    assert "BASE" in shown and "- OTHER" in shown
    assert "signed api/dev as alice-laptop" in rest
    changed.ok("verify")
    assert changed.get("BASE") == "base-dev"


@pytest.mark.parametrize(
    ("answer", "code"),
    [(b"n\n", 1), (b"\n", 1), (b"no\n", 1), (b"yess\n", 1), (CTRL_D, 1), (CTRL_C, 130), (b"y" + CTRL_C, 130)],
    ids=ascii,
)
def test_sign_anything_else(changed: User, answer: bytes, code: int) -> None:
    """Nothing is signed or written, no lock or journal stays behind, and no traceback is shown."""
    before = changed.tree()
    done, screen = on_terminal(changed, "sign", "-e", "dev", question="? [y/N] ", answer=answer)
    assert done == code, screen
    assert "signed api/dev" not in screen
    assert "Traceback" not in screen and "KeyboardInterrupt" not in screen
    assert code != 1 or "nothing signed" in screen
    assert screen.endswith("\n")
    assert changed.tree() == before
    assert not Path(changed.repo, ".git/zopp/journal").exists()
    assert changed.zopp("verify").code == 1
    changed.ok("sign", "-e", "dev", "--only", "BASE", "OTHER")
    changed.ok("verify")


def test_a_value_that_cannot_be_kept_is_not_asked_for(team: Team) -> None:
    code, screen = on_terminal(team.bob, "set", "NEW", "-e", "prod", question=None)
    assert code == 1, screen
    assert "may not write api/prod" in screen
    assert "value of" not in screen
