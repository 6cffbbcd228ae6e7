"""Where commands and their children run. `-C DIR`: as with git, a command runs as if started there, and every path that
is typed counts from there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, Team, User


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


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="what a process was started with is not told here")
@pytest.mark.parametrize("own", [{}, {"LC_CTYPE": "C"}, {"LC_CTYPE": "C.UTF-8"}, {"LC_CTYPE": "POSIX", "LANG": "C"}])
@pytest.mark.parametrize("full", [(), ("--prefix", "")])
def test_the_child_gets_the_environment_that_zopp_got(team: Team, own: dict[str, str], full: tuple[str, ...]) -> None:
    """Python's own LC_CTYPE (PEP 538) is not handed on, on the short way and on the full one, nor is one's own lost."""
    alice = team.alice
    given = {"HOME": str(alice.home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **own}
    argv = [sys.executable, "-m", "zopp.cli.main", "run", "-e", "dev", *full, "--", "/usr/bin/env", "-0"]
    done = subprocess.run(argv, cwd=alice.repo, env=given, capture_output=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.decode().rstrip("\0").split("\0"))
    assert found == {**given, "BASE": "base-dev"}


@pytest.mark.parametrize(("verb", "code"), [(("list",), 2), (("run", "--", "true"), 125)])
def test_a_folder_that_is_not_there(team: Team, verb: tuple[str, ...], code: int) -> None:
    done = team.alice.zopp("-C", "nowhere", *verb, code=code)
    assert "nowhere: cannot be entered (No such file or directory)" in done.err


def test_an_empty_folder_stays(team: Team) -> None:
    """As `git -C ''`."""
    assert team.alice.ok("-C", "", "list").out == "BASE\n"
