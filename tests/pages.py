"""Pages of the documentation as tests: what stands behind `$` in their `console` blocks is run, and has to print what
stands below it, but for what differs from run to run. A command goes on where its line ends with a backslash.

ZOPP_FILL_PAGES=1 writes what is printed into a page that is not true; read the difference before you keep it.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support import ROOT, User

FILL = os.environ.get("ZOPP_FILL_PAGES") == "1"
# What differs from run to run: commits, times, digests, recipients, free ports.
VARYING = (
    (r"\b[0-9a-f]{64}\b", "FINGERPRINT"),
    (r"\bSHA256:[\w+/]{43}", "FINGERPRINT"),
    (r"\b[0-9a-f]{32}\b", "KEYED HASH"),
    (r"\b[0-9a-f]{12}\b", "COMMIT"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?", "WHEN"),
    (r"age1(?:\w+…\w+|[0-9a-z]{58})", "RECIPIENT"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
)
HOME = "/home/alice"  # what the pages have for a HOME; what lies beside it in a test is in src there
SHORT_COMMIT = (r"\b[0-9a-f]{7,9}\b", "COMMIT")
_COMMAND = re.compile(r"^\$ ((?:[^\n]*\\\n)*[^\n]*)\n", re.MULTILINE)


def check(
    page: str,
    run: Callable[[str], str],
    *,
    least: int,
    more: Sequence[tuple[str, str]] = (),
    before: Mapping[int, Sequence[str]] | None = None,
    swap: Mapping[str, str] | None = None,
    without: str = "",
) -> None:
    """Run every command of `page` (a path below the root) by `run`, which gives what it printed. `least`: how many
    blocks there are at least; `more`: patterns of what else differs, and what to call it; `before`: what is run unseen
    before a block, by its number from 1; `swap`: what the page has in the place of what a test has (an address);
    `without`: a program that this test does not need, as blocks with it are another test's."""

    def level(text: str) -> str:
        for pattern, word in (*VARYING, *more):
            text = re.sub(pattern, word, text)
        return text.rstrip("\n")

    def said(command: str) -> str:
        for shown, real in (swap or {}).items():
            command = command.replace(shown, real)
        found = re.sub(r"[ \t]+$", "", run(command), flags=re.MULTILINE).rstrip("\n")
        for shown, real in (swap or {}).items():
            found = found.replace(real, shown)
        return found

    place = ROOT / page
    text = place.read_text()
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= least
    true = True
    for number, block in enumerate(blocks, 1):
        first, *parts = _COMMAND.split(block)
        assert not first and parts, f"{page}: a console block begins with a command: {block}"
        if without and re.search(rf"\b{without} ", "".join(parts[::2])):
            continue
        for command in (before or {}).get(number, ()):
            run(command)
        made = []
        for command, expected in zip(parts[::2], parts[1::2], strict=True):
            found = said(command)
            made.append(f"$ {command}\n{found}\n" if found else f"$ {command}\n")
            if not FILL:
                assert level(found) == level(expected), command
            true = true and level(found) == level(expected)
        text = text.replace(block, "".join(made), 1)
    if not true:
        place.write_text(text)


class Desk:
    """A folder below `base`, a HOME, and `zopp` on PATH: where somebody types what a page says."""

    def __init__(self, base: Path, folder: str = "shop", *, env: Mapping[str, str] | None = None) -> None:
        self.binaries, self.home, self.work = base / "bin", base / "home", base / folder
        for made in (self.home, self.work):
            made.mkdir(exist_ok=True)
        (self.home / ".gitconfig").write_text(
            "[user]\n\tname = Alice\n\temail = alice@example.org\n[init]\n\tdefaultBranch = main\n"
        )
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8", **(env or {})}
        self._furnish()

    @classmethod
    def of(cls, user: User) -> Desk:
        """That of somebody of a team, in their clone."""
        made = cls.__new__(cls)
        made.binaries, made.home, made.work, made.env = user.base / "bin", user.home, user.repo, dict(user.env)
        made._furnish()
        return made

    def _furnish(self) -> None:
        self.binaries.mkdir(exist_ok=True)
        self.env |= {"PATH": f"{self.binaries}:{self.env['PATH']}", "PYTHONPATH": str(ROOT)}
        self.program("zopp", f'exec "{sys.executable}" -m zopp.cli.main "$@"')

    def program(self, name: str, line: str) -> None:
        """A program on PATH."""
        path = self.binaries / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def run(self, command: str) -> str:
        """Run it in bash; what it printed, to either stream. A program that is not there, or dies, fails. An `export`
        counts for what follows."""
        if found := re.fullmatch(r"export (\w+)=(\S+)", command):
            self.env[found[1]] = found[2]
            return ""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.work, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=60, check=False,
        )  # fmt: skip
        said = done.stdout.decode()
        assert done.returncode < 4, (command, said)
        assert "Traceback" not in said, (command, said)
        return self._at_home(said)

    def _at_home(self, said: str) -> str:
        return said.replace(str(self.home), HOME).replace(str(self.binaries.parent), f"{HOME}/src")

    def typed(self, command: str, answers: Mapping[str, str]) -> str:
        """The same on a terminal: each of `answers` is typed once its question is shown, in their order; the screen."""
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=self.work, env={**self.env, "TERM": "dumb", "NO_COLOR": "1"}, stdin=theirs,
            stdout=theirs, stderr=theirs, preexec_fn=lambda: os.login_tty(theirs),
        )  # fmt: skip
        os.close(theirs)
        screen, open_, at = b"", list(answers.items()), 0
        end = time.monotonic() + 20
        try:
            while time.monotonic() < end:
                if select.select([ours], [], [], 0.5)[0]:
                    try:
                        part = os.read(ours, 4096)
                    except OSError:  # Linux: the other side is closed
                        break
                    screen += part
                if open_ and open_[0][0].encode() in screen[at:]:
                    at = len(screen)
                    os.write(ours, open_.pop(0)[1].encode() + b"\n")
            else:
                raise AssertionError((command, screen.decode(), "it does not end"))
            code = process.wait(timeout=10)
        finally:
            process.kill()
            process.wait()
            os.close(ours)
        said = re.sub(r"[^\n]*\r?\x1b\[K", "", screen.decode().replace("\r\n", "\n"))  # progress that was wiped out
        assert code < 4 and not open_, (command, said)
        return self._at_home(said)
