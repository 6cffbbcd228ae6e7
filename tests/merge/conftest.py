"""Clones with the merge drivers and hooks enrolled, for real git: `zopp` is found on PATH as git would find it."""

import sys
from pathlib import Path

import pytest

from tests.support import ROOT, Team, User
from zopp.repo import attributes, drivers, layout
from zopp.repo.hooks import MERGE_HOOKS


def on_path(user: User) -> None:
    """A `zopp` for the programs that git starts."""
    folder = user.base / "bin"
    folder.mkdir(exist_ok=True)
    script = folder / "zopp"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m zopp.cli.main "$@"\n')
    script.chmod(0o755)
    if not user.extra.get("PATH", "").startswith(str(folder)):
        user.extra["PATH"] = f"{folder}:{user.env['PATH']}"


def enrol(user: User, *, hooks: bool = False, paths: tuple[str, ...] = ()) -> None:
    """The drivers' definitions and attributes in this clone, and with `hooks` the hooks."""
    on_path(user)
    checkout = layout.find_checkout(str(user.repo))
    drivers.enroll(checkout, ["zopp"])
    attributes.protect(checkout, {f"secrets/{env}.yaml" for env in ("dev", "staging", "prod")} | set(paths))
    if hooks:
        user.ok("hooks", "install", *MERGE_HOOKS)


def disenrol(user: User) -> None:
    """Take the drivers away again: git merges text in this clone."""
    for name in drivers.NAMES:
        user.git("config", "--remove-section", f"merge.{name}")
    (user.repo / ".git/info/attributes").unlink()


def _writers(team: Team) -> None:
    for who in ("bob", "carol"):
        team.alice.ok("grant", who, "write", "api")
    team.alice.set("A", "a0")
    team.alice.set("B", "b0")
    team.alice.set("C", "c0")
    team.sync("writers")
    for user in (team.alice, team.bob, team.carol):
        enrol(user)


@pytest.fixture
def pair(tmp_path: Path) -> Team:
    """Bob and carol may write everything of the project; everyone's drivers are enrolled, nobody's hooks."""
    team = Team.make(tmp_path, "writers", _writers)
    for user in (team.alice, team.bob, team.carol):
        on_path(user)
    return team


@pytest.fixture
def hooked(pair: Team) -> Team:
    """The same with the hooks."""
    for user in (pair.alice, pair.bob, pair.carol):
        user.ok("hooks", "install", *MERGE_HOOKS)
    return pair


def branch(user: User, name: str, *changes: tuple[str, str], env: str = "dev", start: str = "main") -> str:
    """A branch off `start` on which the user set `changes` (key, value), one commit each; HEAD is there."""
    user.git("checkout", "-q", "-B", name, start)
    for key, value in changes:
        user.set(key, value, env)
        user.commit(f"{name}: {key}")
    return user.git("rev-parse", "HEAD")


def run_git(user: User, *argv: str) -> tuple[int, str]:
    """git as a person types it: (exit code, everything it said)."""
    import subprocess

    done = subprocess.run(
        ["git", *argv], cwd=user.repo, env=user.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.decode("utf-8", "replace")


def parents(user: User, revision: str = "HEAD") -> list[str]:
    return user.git("rev-list", "--parents", "-n", "1", revision).split()[1:]


def clean(user: User) -> None:
    """Nothing is left over: no change, no conflict, no state of git's or zopp's, and all of it verifies."""
    assert user.git("status", "--porcelain") == ""
    for name in ("MERGE_HEAD", "CHERRY_PICK_HEAD", "rebase-merge", "zopp/journal", "zopp/merge.json"):
        assert not (user.repo / ".git" / name).exists(), name
    user.ok("verify")
