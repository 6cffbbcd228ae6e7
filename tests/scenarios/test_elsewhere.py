"""`-C DIR`: as with git, a command runs as if started there, and every path that is typed counts from there."""

import os
import sys
from pathlib import Path

import pytest

from tests.support import Team, User


@pytest.fixture
def away(team: Team) -> Path:
    """A folder beside the clones, with files of the same names as in the clone and other contents."""
    folder = team.base / "away"
    folder.mkdir()
    for name in ("key.pem", "in.env", "words", "ci.request"):
        (folder / name).write_text("wrong")
    (folder / "in.env").write_text("IMPORTED=wrong\n")
    return folder


def there(user: User, away: Path, *argv: str, code: int = 0) -> str:
    """Run in `away` with -C, the first half of DIR absolute and the second relative to it."""
    done = user.zopp("-C", str(user.repo.parent), *argv[:1], "-C", user.repo.name, *argv[1:], cwd=away, code=code)
    return done.out


def test_set_reads_its_file_there(team: Team, away: Path) -> None:
    alice = team.alice
    alice.write("key.pem", "right")
    there(alice, away, "set", "TLS=@key.pem")
    assert there(alice, away, "get", "TLS") == "right"
    alice.write("key.pem", "other")
    there(alice, away, "set", "TLS", "--from-file", "key.pem")
    assert alice.get("TLS") == "other"


def test_import_and_export_there(team: Team, away: Path) -> None:
    alice = team.alice
    alice.write("in.env", "IMPORTED=right\n")
    there(alice, away, "import", "in.env")
    assert alice.get("IMPORTED") == "right"
    there(alice, away, "export", "--force", "-o", "out.env")
    assert b"IMPORTED=right" in alice.read("out.env")
    assert not (away / "out.env").exists()


def test_requests_and_keys_there(team: Team, away: Path) -> None:
    alice = team.alice
    asked = there(alice, away, "principal", "request", "--service", "cd", "--out-keys", "../cd-keys")
    assert (team.base / "clone/cd-keys/age.key").exists()
    alice.write("ci.request", asked)
    there(alice, away, "principal", "add", "ci.request")
    assert "cd" in alice.state().principals


def test_a_new_repository_there(team: Team, away: Path) -> None:
    other = User("dave", "dave-laptop", team.base)
    other.repo.mkdir(parents=True)
    other.home.mkdir()
    other.git("init", "-q", ".")
    other.write("words", "a passphrase, not a secret")
    ask = ("--user", "dave", "--workspace", "umbrella", "--project", "tool", "--device", "dave-laptop")
    there(other, away, "init", *ask, "--recovery-file", "../dave.age", "--recovery-passphrase-file", "words")
    assert (team.base / "clone/dave.age").exists()


def test_the_command_of_run_starts_there(team: Team, away: Path) -> None:
    """As under `env -C` and `make -C`: the folder, and a program named by a relative path."""
    alice = team.alice
    alice.write("sub/program", f"#!{sys.executable}\nimport os\nprint(os.getcwd(), os.environ['BASE'])\n")
    alice.path("sub/program").chmod(0o755)
    done = alice.child("-C", "clone/alice", "run", "--", "sub/program", launcher=("env", "-C", str(team.base)))
    assert done.stdout.decode() == f"{os.path.realpath(alice.repo)} base-dev\n", done.stderr


@pytest.mark.parametrize(("verb", "code"), [(("list",), 2), (("run", "--", "true"), 125)])
def test_a_folder_that_is_not_there(team: Team, verb: tuple[str, ...], code: int) -> None:
    done = team.alice.zopp("-C", "nowhere", *verb, code=code)
    assert "nowhere: cannot be entered (No such file or directory)" in done.err


def test_an_empty_folder_stays(team: Team) -> None:
    """As `git -C ''`."""
    assert team.alice.ok("-C", "", "list").out == "BASE\n"
