"""`zopp run --redact` with real children: pipes and terminals, signals and ends; no value comes out in any form."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, Team, User
from zopp.exchange import masking

SECRET = "canary7Qz9/hunter+2"
KEY = "-----BEGIN TEST KEY-----\nQUJDREVGR0hJSktMTU5P\nUFFSU1RVVldYWVphYmNk\n-----END TEST KEY-----\n"


@pytest.fixture
def alice(tmp_path: Path) -> User:
    alice = Team.make(tmp_path).alice
    alice.ok("set", "TOKEN", "-e", "dev", stdin=SECRET)
    alice.ok("set", "PEM", "-e", "dev", stdin=KEY)
    alice.ok("set", "FLAG", "-e", "dev", stdin="true")
    return alice


def script(user: User, text: str) -> list[str]:
    path = user.repo / "child.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def run(user: User, command: list[str], *flags: str, **kwargs: object) -> subprocess.CompletedProcess[bytes]:
    return user.child("run", "-e", "dev", *flags, "--", *command, **kwargs)  # type: ignore[arg-type]


def start(user: User, command: list[str], *flags: str, **kwargs: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "zopp.cli.main", "run", "-e", "dev", "--redact", *flags, "--", *command],
        cwd=user.repo, env={**user.env, "PYTHONPATH": str(ROOT)}, **kwargs,  # type: ignore[call-overload]
    )  # fmt: skip


def test_both_streams_are_filtered_apart_and_the_code_is_the_childs(alice: User) -> None:
    text = """
import base64, json, os, sys, urllib.parse
secret = os.environ["TOKEN"]
print("plain", secret)
print("b64", base64.b64encode(secret.encode()).decode())
print("in b64", base64.b64encode(("user:" + secret).encode()).decode())
print("hex", secret.encode().hex())
print("url", urllib.parse.quote(secret, safe=""))
print("json", json.dumps({"t": secret}))
for line in os.environ["PEM"].splitlines():
    print("  |", line)
print("halves", end=" ", flush=True)
for char in secret:
    os.write(1, char.encode())
print()
print("error", secret, file=sys.stderr)
print(os.environ["FLAG"])
sys.exit(7)
"""
    done = run(alice, script(alice, text), "--redact")
    assert done.returncode == 7
    out, err = done.stdout.decode(), done.stderr.decode()
    for form in masking.patterns([("T", SECRET), ("P", KEY)]).found:
        assert form not in done.stdout + done.stderr, form
    assert out.splitlines()[0] == "plain [redacted:TOKEN]"
    assert "halves [redacted:TOKEN]" in out
    assert out.count("  | [redacted:PEM]") == 4
    assert "true" in out
    assert "error [redacted:TOKEN]" in err
    assert "error" not in out
    assert "too short or too common to be hidden in the output: FLAG" in err


def test_it_is_on_where_ci_is_true_and_can_be_turned_off(alice: User) -> None:
    command = script(alice, "import os; print(os.environ['TOKEN'])")
    assert run(alice, command).stdout.decode() == SECRET + "\n"
    assert run(alice, command, env={"CI": "true"}).stdout == b"[redacted:TOKEN]\n"
    assert run(alice, command, "--no-redact", env={"CI": "true"}).stdout.decode() == SECRET + "\n"
    assert run(alice, command, env={"CI": "false"}).stdout.decode() == SECRET + "\n"
    shown = run(alice, command, "--redact", "--show", "TOKEN")
    assert shown.stdout.decode() == SECRET + "\n"
    assert run(alice, command, "--redact", "--show", "NONE").returncode == 125


def test_key_variables_and_codes_are_as_without_it(alice: User) -> None:
    command = script(alice, "import os; print(sorted(n for n in os.environ if 'AGE_KEY' in n or n == 'CI_JOB_TOKEN'))")
    env = {"SOPS_AGE_KEY": "x", "CI_JOB_TOKEN": "y"}
    assert run(alice, command, "--redact", env=env).stdout == b"[]\n"
    assert run(alice, ["no-such-program"], "--redact").returncode == 127
    (alice.repo / "file").write_text("x")
    assert run(alice, ["./file"], "--redact").returncode == 126
    assert run(alice, ["sh", "-c", "kill -TERM $$"], "--redact").returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_child(alice: User, number: int) -> None:
    text = f"""
import os, signal, sys, time
signal.signal({int(number)}, lambda *a: (os.write(1, b"got " + os.environb[b"TOKEN"] + b"\\n"), sys.exit(9)))
os.write(1, b"ready\\n")
time.sleep(30)
"""
    child = start(alice, script(alice, text), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(number)
    assert child.stdout.read() == b"got [redacted:TOKEN]\n"
    child.stdout.close()
    assert child.wait(timeout=20) == 9


def test_nobody_reading_ends_both(alice: User) -> None:
    text = "import os, sys\nprint(os.getpid(), flush=True)\nwhile True: print('x' * 1000, flush=True)\n"
    child = start(alice, script(alice, text), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    child.stdout.close()
    assert child.wait(timeout=20) == 128 + signal.SIGPIPE
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_filter_that_fails_shows_nothing_more(alice: User) -> None:
    text = (
        "import os, time\nprint('first', flush=True)\ntime.sleep(0.5)\n"
        "print(os.environ['TOKEN'], flush=True)\ntime.sleep(30)\n"
    )
    broken = (
        "import sys\nfrom zopp.exchange import masking\nhonest = masking.Redactor.feed\n"
        "def feed(self, data):\n    if b'first' not in data: raise ValueError(data)\n    return honest(self, data)\n"
        "masking.Redactor.feed = feed\nfrom zopp.cli.main import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", broken, "run", "-e", "dev", "--redact", "--", *script(alice, text)], cwd=alice.repo,
        env={**alice.env, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=25, check=False,
    )  # fmt: skip
    assert done.returncode == 125
    assert done.stdout == b"first\n"
    assert b"the filter of the output failed (ValueError)" in done.stderr
    assert SECRET.encode() not in done.stderr


def test_a_grandchild_that_lives_on_is_not_waited_for(alice: User) -> None:
    text = "import subprocess\nsubprocess.Popen(['sleep', '20'])\nprint('done', flush=True)\n"
    begin = time.monotonic()
    done = run(alice, script(alice, text), "--redact")
    assert (done.returncode, done.stdout) == (0, b"done\n")
    assert time.monotonic() - begin < 10


@contextlib.contextmanager
def terminal(alice: User, command: list[str], rows: int = 33, columns: int = 101) -> Iterator[tuple[int, int]]:
    """`zopp run --redact` with a terminal on all three: (its pid, our end)."""
    pid, ours = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        os.chdir(alice.repo)
        words = [sys.executable, "-m", "zopp.cli.main", "run", "-e", "dev", "--redact", "--", *command]
        os.execve(sys.executable, words, {**alice.env, "PYTHONPATH": str(ROOT), "TERM": "xterm"})
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    try:
        yield pid, ours
    finally:
        os.close(ours)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def read_until(ours: int, wanted: bytes, seconds: float = 20) -> bytes:
    found = b""
    deadline = time.monotonic() + seconds
    while wanted not in found and time.monotonic() < deadline:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                data = os.read(ours, 4096)
            except OSError:
                break
            if not data:
                break
            found += data
    assert wanted in found, found
    return found


def test_a_terminal_stays_one(alice: User) -> None:
    text = r"""
import os, sys
print("tty", os.isatty(0), os.isatty(1), os.isatty(2), flush=True)
print("size", tuple(os.get_terminal_size(1)), flush=True)
print("\x1b[31mred\x1b[0m", os.environ["TOKEN"], flush=True)
name = input("name? ")
print("hello", name, flush=True)
import signal, time
signal.signal(signal.SIGWINCH, lambda *a: os.write(1, b"now %d %d\n" % os.get_terminal_size(1)))
signal.signal(signal.SIGINT, lambda *a: (os.write(1, b"interrupted\n"), sys.exit(5)))
os.write(1, b"go\n")
while True: time.sleep(0.1)
"""
    with terminal(alice, script(alice, text)) as (pid, ours):
        said = read_until(ours, b"name? ")
        assert b"tty True True True" in said
        assert b"size (101, 33)" in said
        assert b"\x1b[31mred\x1b[0m [redacted:TOKEN]" in said
        os.write(ours, b"Ann\r")
        assert b"hello Ann" in read_until(ours, b"go\r\n")
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
        read_until(ours, b"now 60 20")
        os.write(ours, b"\x03")
        read_until(ours, b"interrupted")
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 5


def test_a_shell_in_it_has_its_jobs(alice: User) -> None:
    """It looks for its terminal behind standard error; what is written to either keeps its order."""
    with terminal(alice, ["bash", "--norc", "-i"]) as (_, ours):
        os.write(ours, b"PS1='ready> '\r")
        said = read_until(ours, b"ready> ")
        assert b"no job control" not in said
        os.write(ours, b"for i in 1 2 3; do echo out$i; echo err$i $TOKEN >&2; done; echo fin$((1 + 1))\r")
        said = read_until(ours, b"fin2\r\n").replace(b"\r", b"")
        lines = [line for number in (1, 2, 3) for line in (f"out{number}", f"err{number} [redacted:TOKEN]")]
        assert "\n".join(lines).encode() in said
        os.write(ours, b"sleep 30 & jobs\r")
        read_until(ours, b"Running")
        os.write(ours, b"kill %1; exit 6\r")
        read_until(ours, b"exit")


def test_a_prompt_is_not_held_back(alice: User) -> None:
    command = script(alice, "import time\nprint('Password: ', end='', flush=True)\ntime.sleep(20)\n")
    with terminal(alice, command) as (pid, ours):
        read_until(ours, b"Password: ", 10)
        os.kill(pid, signal.SIGTERM)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM


def test_a_github_step_masks_before_it_hands_over(alice: User, tmp_path: Path) -> None:
    target = tmp_path / "github.env"
    target.write_bytes(b"EARLIER=1\n")
    done = alice.ok("export", "-e", "dev", "--only", "TOKEN,PEM,FLAG", "--github-env", env={"GITHUB_ENV": str(target)})
    lines = done.out.splitlines()
    assert all(line.startswith("::add-mask::") for line in lines)
    assert f"::add-mask::{SECRET}" in lines
    assert "::add-mask::QUJDREVGR0hJSktMTU5P" in lines
    assert SECRET not in done.err
    assert "too short or too common to be masked in the log: FLAG" in done.err
    written = target.read_text()
    assert written.startswith("EARLIER=1\n")
    assert f"\n{SECRET}\n" in written
    assert "the steps that follow have 3 values of api/dev" in done.err


def test_a_github_step_that_cannot_is_told(alice: User, tmp_path: Path) -> None:
    assert alice.zopp("export", "-e", "dev", "--github-env", code=2).out == ""
    assert alice.zopp("export", "-e", "dev", "--github-env", "-o", "x", env={"GITHUB_ENV": "y"}, code=2).out == ""
    alice.ok("set", "GITHUB_X", "-e", "dev", stdin=SECRET)
    target = tmp_path / "github.env"
    done = alice.zopp("export", "-e", "dev", "--github-env", env={"GITHUB_ENV": str(target)}, code=1)
    assert "GITHUB_X has a name that GitHub's runner keeps to itself" in done.err
    assert SECRET not in done.text
    assert not target.exists()


def test_a_gitlab_artifact_needs_a_word_and_takes_plain_values_only(alice: User) -> None:
    refused = alice.zopp("export", "-e", "dev", "--only", "TOKEN", "--format", "gitlab-env", code=2)
    assert "GitLab keeps dotenv artifacts on its server" in refused.err
    assert refused.out == ""
    made = alice.ok("export", "-e", "dev", "--only", "TOKEN,FLAG", "--format", "gitlab-env", "--force")
    assert made.out == f"FLAG=true\nTOKEN={SECRET}\n"
    held = alice.zopp("export", "-e", "dev", "--only", "PEM", "--format", "gitlab-env", "--force", code=1)
    assert "PEM holds something that GitLab's dotenv reader is not documented to keep" in held.err
    assert held.out == ""
