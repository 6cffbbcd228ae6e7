"""A real git repository for the guard's tests, and things that must not enter it, made at run time from parts."""

import contextlib
import io
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from zopp.keys import agefile, identity
from zopp.scan import guard, match
from zopp.scan.catalogue import ALNUM, some
from zopp.sopsfile import DEFAULT_SELECTOR, Entry, Selector, encrypt, load_plain

ROOT = Path(__file__).resolve().parents[2]
SECRET, RECIPIENT = identity.generate()
KEY = bytes(range(32))
GROUPS = ((Entry(RECIPIENT, agefile.wrap(RECIPIENT, KEY)),),)


def token(seed: int = 1) -> str:
    """A GitHub token that nobody issued."""
    return "ghp" + "_" + some(ALNUM, 36, seed)


def password(seed: int = 1, size: int = 24) -> str:
    """A random value for a credential word."""
    source = random.Random(seed)
    return "".join(source.choice(ALNUM) for _ in range(size - 2)) + "7k"


def sealed(plain: str, fmt: str = "yaml", selector: Selector = DEFAULT_SELECTOR) -> bytes:
    """`plain` as zopp encrypts it."""
    return encrypt(
        load_plain(plain.encode(), fmt), fmt, KEY, GROUPS, selector=selector, lastmodified="2026-01-02T03:04:05Z"
    )


@dataclass
class Said:
    """What the guard answered."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Repo:
    """`path` is the work tree; `env` a user's environment with a HOME of its own."""

    def __init__(self, base: Path, *init: str) -> None:
        self.base = base
        self.path = base / "repo"
        self.home = base / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self.home / ".gitconfig"),
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
        }
        (self.home / ".gitconfig").write_text(
            "[user]\n\tname = Ann\n\temail = ann@example.org\n[init]\n\tdefaultBranch = main\n"
            '[commit]\n\tgpgsign = false\n[gc]\n\tauto = 0\n[protocol "file"]\n\tallow = always\n'
            "[advice]\n\tdetachedHead = false\n[maintenance]\n\tauto = false\n"
        )
        if not self.path.exists():
            self.path.mkdir(parents=True)
            self.git("init", "-q", *init)

    def git(self, *argv: str, data: bytes | None = None, code: int | None = 0, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *argv], cwd=cwd or self.path, env=self.env, capture_output=True, check=False, input=data,
            stdin=subprocess.DEVNULL if data is None else None,
        )  # fmt: skip
        if code is not None:
            assert done.returncode == code, (argv, done.returncode, done.stderr.decode("utf-8", "replace"))
        self.said = done.stderr.decode("utf-8", "surrogateescape")
        return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    def write(self, name: str | bytes, data: bytes | str) -> None:
        path = os.path.join(os.fsencode(self.path), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)

    def add(self, *names: str) -> None:
        self.git("add", "--force", "--", *names) if names else self.git("add", "--all", "--force")

    def stage(self, name: str | bytes, data: bytes | str) -> None:
        self.write(name, data)
        self.add()

    def commit(self, message: str = "change") -> str:
        """Commit what is staged past the hook."""
        self.git("commit", "-q", "--no-verify", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def start(self) -> "Repo":
        """A first commit."""
        self.stage("README", "hello\n")
        self.commit("start")
        return self

    def guard(self, *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None, stdin: bytes = b"") -> Said:
        """`zopp-guard` in this process."""
        out, err = io.StringIO(), io.StringIO()
        here = os.getcwd()
        os.chdir(cwd or self.path)
        try:
            with (
                mock.patch.dict(os.environ, {**self.env, **(env or {})}, clear=True),
                mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                code = guard.main(list(argv))
        finally:
            os.chdir(here)
        said = Said(code, out.getvalue(), err.getvalue())
        assert "Traceback" not in said.text and "fault of zopp" not in said.text, said.text
        return said

    def zopp(self, *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> Said:
        """`zopp …` in this process."""
        from tests.support import run_in_process

        done = run_in_process(argv, {**self.env, **(env or {})}, cwd or self.path, b"")
        return Said(done.code, done.out, done.err)

    def hook(self, *names: str) -> None:
        """Install the client hooks as a user does."""
        said = self.zopp("hooks", "install", *names)
        assert said.code == 0, said.text

    def server(self) -> Path:
        """A bare repository with the pre-receive hook, as `origin`."""
        bare = self.base / "server.git"
        extra = ["--object-format=sha256"] if self.git("rev-parse", "--show-object-format") == "sha256" else []
        self.git("init", "-q", "--bare", *extra, str(bare))
        target = bare / "hooks/pre-receive"
        shutil.copy(ROOT / "hooks/pre-receive", target)
        target.chmod(0o755)
        self.git("config", "--file", str(bare / "config"), "zopp.guardPython", sys.executable)
        self.git("config", "--file", str(bare / "config"), "zopp.guardPath", f"{ROOT}:{site_packages()}")
        self.git("remote", "add", "origin", str(bare))
        return bare


def site_packages() -> str:
    """Where yaml lies."""
    import yaml

    return str(Path(yaml.__file__).resolve().parents[1])


def only(said: Said, *rules: str) -> None:
    """The findings are of exactly these rules."""
    found = [
        line.split(": ")[1] for line in said.err.split("\n") if ": " in line and not line.startswith((" ", "zopp"))
    ]
    assert sorted(found) == sorted(rules), said.text


def forget() -> None:
    """What a process remembers of patterns."""
    match._compiled.clear()


def names(paths: Sequence[Path]) -> list[str]:
    return sorted(path.name for path in paths)
