"""Earlier versions as earlier commits: all of them or none, wherever it stops; and what others did is not undone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sources.test_importing import CANARY, state, values
from tests.support import Team, User
from zopp.cli.importing import applying, dotenv
from zopp.exchange.entry import Entry, Reading
from zopp.repo import git, journal, series


def entry(name: str, value: str, version: str) -> Entry:
    return Entry(locator=f"x#{name}", id=f"x#{name}", name=name, key=(name,), value=value, version=version)


READING = Reading(
    kind="vault",
    place="x",
    entries=(entry("A1", "a3", "3"), entry("B1", "b2", "2")),
    older=((entry("A1", CANARY, "1"),), (entry("A1", "a2", "2"), entry("B1", "b1", "1"))),
    one_file=True,
)
WORDS = ("import", "anything", "-e", "dev", "-m", "move")


@pytest.fixture
def alice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    monkeypatch.setattr(dotenv, "read", lambda ctx, args, mapped: READING)
    return Team.make(tmp_path).alice


def index(user: User) -> str:
    return user.git("ls-files", "--stage") + user.git("status", "--porcelain")


def test_versions_are_commits_oldest_first_and_only_once(alice: User) -> None:
    done = alice.ok(*WORDS)
    assert CANARY not in done.text
    subjects = alice.git("log", "--format=%s", "-n", "3").split("\n")
    assert subjects == ["move", "move (version 2 of 3)", "move (version 1 of 3)"]
    seen = alice.ok("history", "A1", "-e", "dev", "--reveal", "--json").json
    assert [CANARY in json.dumps(seen), "a2" in json.dumps(seen), "a3" in json.dumps(seen)] == [True] * 3
    assert values(alice, "dev").items() >= {"A1": "a3", "B1": "b2"}.items()
    alice.ok("verify", "--require-latest")
    here = state(alice)
    alice.ok(*WORDS)
    assert state(alice) == here


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("where", ["commit", "committed", "write"])
def test_stopping_anywhere_leaves_everything_as_it_was(
    alice: User, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    """Before git's commit, after it, and before files are written; with other work under way in the tree."""
    alice.write("notes.txt", "mine\n")
    alice.git("add", "notes.txt")
    alice.write("draft.txt", "not staged\n")
    before, staged = state(alice), index(alice)
    calls = []
    module, name = (journal, "write") if where == "write" else (git, "commit")
    honest = getattr(module, name)

    def stopping(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == number and where != "committed":
            raise KeyboardInterrupt
        made = honest(*args, **options)
        if len(calls) == number:
            raise KeyboardInterrupt
        return made

    monkeypatch.setattr(module, name, stopping)
    done = alice.zopp(*WORDS)
    monkeypatch.setattr(module, name, honest)
    if done.code == 0:
        assert len(calls) < number
        return
    assert done.code == 130
    assert state(alice) == before
    assert index(alice) == staged
    alice.ok("verify", "--require-latest")
    alice.ok(*WORDS)
    assert values(alice, "dev")["A1"] == "a3"
    alice.ok("verify", "--require-latest")


def test_what_is_done_stays_though_nobody_listens_to_the_end(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted while it says what remains, for instance at the question whether to remove the file."""

    def stop(*args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(applying.Importing, "_conclude", stop)
    assert alice.zopp(*WORDS).code == 130
    assert alice.git("log", "--format=%s", "-n", "1") == "move"
    assert values(alice, "dev")["A1"] == "a3"
    alice.ok("verify", "--require-latest")


def test_what_others_did_meanwhile_is_not_undone(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = git.commit
    calls = []

    def stopping(*args: object, **options: object) -> str:
        calls.append(args)
        if len(calls) == 2:
            alice.write("theirs.txt", "x")
            alice.git("add", "theirs.txt")
            alice.git("commit", "-q", "-m", "theirs", "--", "theirs.txt")
            raise KeyboardInterrupt
        return honest(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(git, "commit", stopping)
    done = alice.zopp(*WORDS, code=3)
    assert "the commits that were made stand" in done.err
    assert alice.git("log", "--format=%s", "-n", "2").split("\n") == ["theirs", "move (version 1 of 3)"]
    assert (alice.repo / "theirs.txt").exists()


def test_a_repository_without_a_commit_has_none_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dotenv, "read", lambda ctx, args, mapped: replace(READING, older=READING.older))
    alice = Team.make(tmp_path).alice
    folder = tmp_path / "new"
    folder.mkdir()
    alice.folder = "new"
    alice.git("init", "-q", ".")
    alice.ok("init", "--no-recovery", "--project", "shop", "--workspace", "new", "--device", "laptop")
    before = {path: data for path, data in files(alice).items() if "HEAD" not in path}

    def stop(*args: object, **options: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(git, "commit", stop)
    assert alice.zopp("import", "anything", "-m", "move").code == 130
    assert files(alice) == before
    assert alice.git("ls-files") == ""
    assert series._head(str(alice.repo)) is None


def files(user: User) -> dict[str, bytes]:
    found = [path for path in user.repo.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {str(path.relative_to(user.repo)): path.read_bytes() for path in found}
