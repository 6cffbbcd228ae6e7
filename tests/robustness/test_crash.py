"""A command that dies between two of its writes leaves the old state, the new one, or one that the next finishes."""

import os
from collections.abc import Callable

import pytest

from tests.support import Team, User

WRITES = ("write", "fsync", "rename", "unlink", "mkdir", "replace", "link")


class _Died(BaseException):
    """Not an Exception: nothing may catch it and go on."""


def die_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Make the `number`-th call that writes end the command before it happens; returns how many there were."""
    seen = 0

    def guard(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal seen
            if args and args[0] in (1, 2):
                return real(*args, **kwargs)
            seen += 1
            if seen >= number:
                raise _Died  # and everything after it too: a dead process writes nothing more
            return real(*args, **kwargs)

        return call

    for name in WRITES:
        monkeypatch.setattr(os, name, guard(getattr(os, name)))
    return lambda: seen


def attempt(user: User, number: int, monkeypatch: pytest.MonkeyPatch, *argv: str, stdin: str = "") -> bool:
    """Run a command that dies at its `number`-th write; whether it died."""
    with monkeypatch.context() as patch:
        die_at(number, patch)
        try:
            user.zopp(*argv, stdin=stdin)
        except _Died:
            return True
    return False


COMMANDS = {
    "set": (("set", "A", "-e", "dev"), "new"),
    "set-new": (("set", "BRAND_NEW", "-e", "dev"), "new"),
    "grant": (("grant", "bob", "read", "api/dev"), ""),
    "rekey": (("rekey", "--all", "api/dev"), ""),
    "import": (("import", "-", "-e", "dev"), "A=imported\nB=2\n"),
    "env-add": (("env", "add", "qa"), ""),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_write_may_be_the_last(
    name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, stdin = COMMANDS[name]
    team = Team.make(tmp_path_factory.mktemp("crash"))
    alice = team.alice
    alice.set("A", "old")
    alice.share("A")
    alice.ok("verify")
    outcomes = set()
    for number in range(1, 400):
        died = attempt(alice, number, monkeypatch, *argv, stdin=stdin)
        # The next command, whatever it is, finishes or undoes; then the tree verifies and can be changed.
        report = alice.zopp("verify")
        assert report.code == 0, f"{name}, write {number}: {report.out}{report.err}"
        assert alice.get("A") in ("old", "new", "imported")
        outcomes.add(alice.get("A") if name in ("set", "import") else alice.git("status", "--porcelain") != "")
        alice.git("checkout", "-q", "HEAD", "--", ".")
        alice.git("clean", "-fdq")
        alice.ok("verify")
        if not died:
            break
    else:
        pytest.fail("the command never ran to its end")
    assert number > 5, "the writes were not seen"
    assert len(outcomes) == 2, f"old and new were both to be seen, not {outcomes}"


def test_what_lies_in_the_journal_is_written_even_if_the_key_is_gone(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery writes what was recorded and signs nothing."""
    alice = team.alice
    alice.set("A", "old")
    alice.commit()
    for number in range(1, 200):
        assert attempt(alice, number, monkeypatch, "set", "A", "-e", "dev", stdin="new")
        if (alice.repo / ".git/zopp/journal").exists():
            break
    keys = alice.home / ".config/zopp/keys"
    keys.rename(keys.with_name("elsewhere"))
    report = alice.zopp("verify")
    assert report.code == 0, report.out
    assert not (alice.repo / ".git/zopp/journal").exists()
    keys.with_name("elsewhere").rename(keys)
    assert alice.get("A") == "new"
