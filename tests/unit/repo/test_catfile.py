"""One `git cat-file --batch`: real answers, and a git that does anything else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from zopp.repo.catfile import CatFile


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    root = tmp_path / "repo"
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", "init", "-q", root], check=True, env=env)
    (root / "file").write_bytes(b"line\n\0 missing\nHEAD missing\n")
    subprocess.run(["git", "add", "file"], cwd=root, check=True, env=env)
    subprocess.run(["git", *who, "commit", "-qm", "start"], cwd=root, check=True, env=env)
    return root


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program to be written, which is found as git."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "git"


def write(program: Path, script: str) -> None:
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def own_children() -> set[str]:
    """The children of this process, ended and unreaped ones included (fixtures have some that run)."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_answers(repo: Path) -> None:
    """Commits, blobs whose bytes look like answers, and what is not there; nothing is left open or unreaped."""
    before, children = descriptors(), own_children()
    git = CatFile(str(repo), os.environ)
    git.ask([b"HEAD", b"HEAD:file", b"HEAD:nope", b"HEAD^1:file"])
    answers = git.answers()
    assert answers is not None
    assert answers[0] is not None and b"\n\nstart\n" in answers[0]
    assert answers[1:] == [(repo / "file").read_bytes(), None, None]
    assert git.close() == 0
    assert descriptors() == before
    assert own_children() == children


def test_another_kind_than_was_asked_for(repo: Path) -> None:
    git = CatFile(str(repo), os.environ)
    git.ask([b"HEAD^{tree}"])
    assert git.answers() is None


def test_a_hooks_git_dir_is_not_followed(repo: Path, tmp_path: Path) -> None:
    git = CatFile(str(repo), {**os.environ, "GIT_DIR": str(tmp_path / "elsewhere")})
    git.ask([b"HEAD:file"])
    assert git.answers() == [(repo / "file").read_bytes()]


def test_never_asked(repo: Path) -> None:
    before = descriptors()
    CatFile(str(repo), os.environ).close()
    assert descriptors() == before


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "cat >/dev/null; exit 1",
        "cat >/dev/null; echo x blob 5; exit 0",
        "cat >/dev/null; printf 'HEAD missing\\nmore'",
        "cat >/dev/null; printf 'x commit nonsense\\n'",
        "cat >/dev/null; printf 'x commit 1000000\\nshort\\n'",
        "exec cat",
        "kill -9 $$",
    ],
)
def test_a_git_that_does_anything_else(fake: Path, tmp_path: Path, script: str) -> None:
    """None; never an answer, and nothing left behind."""
    write(fake, script)
    before = descriptors()
    git = CatFile(str(tmp_path), os.environ)
    git.ask([b"HEAD"])
    assert git.answers() is None
    git.close()
    assert descriptors() == before


def test_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    before = descriptors()
    with pytest.raises(OSError, match="git"):
        CatFile(str(tmp_path), os.environ)
    assert descriptors() == before
