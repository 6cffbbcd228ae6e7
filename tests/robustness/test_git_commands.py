"""history, blame, show, diff, rollback and textconv in repositories that nobody planned for: each a sane answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, Team, User, refused
from tests.unit.sopsfile.samples import encrypted

READERS = (("history",), ("history", "BASE"), ("blame",), ("show", "HEAD"), ("diff",))


def says(user: User, *codes: int, env: dict[str, str] | None = None, cwd: str | None = None) -> str:
    """What all reading commands say, each with one of `codes`."""
    out = ""
    for argv in READERS:
        done = user.zopp(*argv, env=env, cwd=cwd)
        assert done.code in codes, (argv, done.code, done.text)
        out += done.text
    return out


def textconv(path: str, cwd: Path, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[bytes]":
    done = subprocess.run(
        [sys.executable, "-m", "zopp.cli.main", "textconv", path],
        cwd=cwd, capture_output=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(env or {})},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return done


def test_a_symlink_as_secrets_file(team: Team) -> None:
    """It is never followed; what is committed is still told."""
    alice = team.alice
    target = alice.home / "elsewhere.yaml"
    target.write_bytes(alice.read("secrets/dev.yaml"))
    alice.path("secrets/dev.yaml").unlink()
    alice.path("secrets/dev.yaml").symlink_to(target)
    said = says(alice, 0, 1)
    assert "secrets/dev.yaml" in said
    assert "is a symlink; only what is committed is shown" in alice.ok("history", "BASE").err
    refused(alice.zopp("rollback", "BASE", "--steps", "1"))
    alice.commit("a link")
    assert alice.zopp("history", "BASE").code == 0
    assert "secrets/dev.yaml: is gone, or no regular file any more" in alice.ok("history").out


def test_a_detached_head(team: Team) -> None:
    alice = team.alice
    alice.ok("set", "BASE", "-m", "new", stdin="new")
    alice.git("checkout", "--quiet", "--detach", "HEAD")
    assert "new" in says(alice, 0, 1)
    alice.git("checkout", "--quiet", "--detach", "HEAD~1")
    assert [row["subject"] for row in alice.ok("history", "BASE", "--json").json["events"]] == ["team"]


def test_a_shallow_clone(team: Team) -> None:
    """History ends there, and what is in the oldest commit is not said to be set by it."""
    alice = team.alice
    alice.ok("set", "K", "-m", "one", stdin="1")
    alice.ok("set", "K", "-m", "two", stdin="2")
    alice.push()
    folder = team.base / "clone/shallow"
    subprocess.run(
        ["git", "clone", "-q", "--depth", "1", f"file://{team.base}/origin.git", str(folder)],
        check=True, env=alice.env, capture_output=True,
    )  # fmt: skip
    user = User("alice", "alice-laptop", team.base, folder="clone/shallow")
    user.ok("trust", "--yes")
    done = user.ok("history", "K")
    assert "shallow: history ends at" in done.err
    assert "git fetch --unshallow" in done.err
    assert "set here or earlier" in done.out
    data = user.ok("history", "K", "--json").json
    assert data["shallow"] is True
    assert [row["edge"] for row in data["events"]] == [True]
    assert "set here or earlier" in user.ok("blame", "K").out
    done = user.zopp("show", "HEAD~1")
    refused(done, 1, words=["shallow"])
    refused(user.zopp("rollback", "K", "--steps", "1"), 1)


def test_a_bare_repository(team: Team) -> None:
    """There is no work tree: said, not guessed."""
    bare = User("alice", "alice-laptop", team.base, folder="origin.git")
    for argv in (*READERS, ("rollback", "BASE", "--steps", "1"), ("git", "enroll")):
        refused(bare.zopp(*argv), 1, words=["not inside a git working copy"])
    # The converter asks nobody where it is.
    path = str(team.alice.path("secrets/dev.yaml"))
    assert textconv(path, bare.repo).stdout.startswith(b"BASE: str ")


def test_git_dir_of_another_repository(team: Team) -> None:
    """A hook's variables point elsewhere: the folder counts."""
    other = team.base / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True, env=team.alice.env)
    env = {"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other), "GIT_INDEX_FILE": "/nonexistent"}
    said = says(team.alice, 0, env=env)
    assert "BASE" in said
    team.alice.set("K", "v")
    team.alice.zopp("rollback", "BASE", "--to", "HEAD", env=env, code=0)


def test_a_submodule(team: Team) -> None:
    """A workspace that is a submodule of another repository is its own; a submodule in a workspace is no file of it."""
    alice = team.alice
    outer = team.base / "outer"
    env = {**alice.env, "GIT_ALLOW_PROTOCOL": "file"}
    subprocess.run(["git", "init", "-q", str(outer)], check=True, env=env)
    subprocess.run(
        ["git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(team.base / "origin.git"), "in"],
        cwd=outer, check=True, env=env, capture_output=True,
    )  # fmt: skip
    inner = User("alice", "alice-laptop", team.base, folder="outer/in")
    inner.ok("trust", "--yes")
    assert "BASE" in says(inner, 0)
    # The other way round: a gitlink where the secrets file was.
    alice.path("secrets/dev.yaml").unlink()
    head = alice.git("rev-parse", "HEAD")
    alice.git("update-index", "--cacheinfo", f"160000,{head},secrets/dev.yaml")
    alice.git("commit", "--quiet", "-m", "a submodule")
    assert alice.zopp("history", "BASE").code == 0
    assert alice.zopp("show", "HEAD").code in (0, 1)


def test_a_path_with_a_newline(team: Team) -> None:
    """No manifest lists such a path; the converter takes it."""
    alice = team.alice
    name = "secrets/new\nline\x1b[31m.yaml"
    alice.write(name, alice.read("secrets/dev.yaml"))
    alice.commit("odd")
    said = says(alice, 0, 1)
    assert "\x1b" not in said
    assert textconv(name, alice.repo).stdout.startswith(b"BASE: str ")
    alice.replace("zopp.toml", 'files = ["secrets/dev.yaml"]', 'files = ["secrets/dev.yaml", "secrets/a\\nb.yaml"]')
    assert "\x1b" not in says(alice, 0, 1, 3)


def test_names_from_history_are_escaped(team: Team) -> None:
    """Keys, authors, subjects and recipients are whatever somebody committed."""
    alice = team.alice
    text = alice.read("secrets/dev.yaml").decode()
    line = next(line for line in text.split("\n") if line.startswith("BASE: "))
    evil = '"\\e[31m\\u202eevil\\a": ' + line.partition(": ")[2]
    alice.write("secrets/dev.yaml", text.replace(line, line + "\n" + evil))
    alice.git("add", "--all")
    alice.git("commit", "--quiet", "-m", "sub\x1b[31mject", "--author", "e\x1b]0;vil <x@example.org>")
    said = ""
    for argv in (("history",), ("blame",), ("show", "HEAD"), ("diff", "HEAD~1..HEAD")):
        said += alice.zopp(*argv).text
    assert "evil" in said
    for char in "\x1b\x07\u202e":
        assert char not in said
    assert "\\x1b[31m" in said


@pytest.mark.parametrize("revision", ["--help", "-n1", "--output=/tmp/x", "HEAD:secrets", "nosuch", "", "@{9}", "a\nb"])
def test_revisions_are_no_options(team: Team, revision: str) -> None:
    for argv in (["show", "--", revision], ["diff", "--", revision], ["rollback", "BASE", f"--to={revision}"]):
        done = team.alice.zopp(*argv)
        assert done.code in (1, 2, 3), (argv, done.text)


def test_a_million_keys(tmp_path: Path) -> None:
    """It is shown, line by line, in bounded time."""
    body = encrypted({"a": "x"}).decode()
    line = body.split("\n")[0]
    path = tmp_path / "big.yaml"
    with path.open("w") as file:
        for n in range(1_000_000):
            file.write(line.replace("a:", f"key{n}:") + "\n")
        file.write(body)
    out = textconv("big.yaml", tmp_path).stdout
    assert out.count(b"\n") > 1_000_000
    assert b"key999999: str " in out


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 100, b"\xff\xfe", b"sops:\n", b"ENC[AES256_GCM,", b"a: &a [*a]\nsops: *a\n", b"[" * 100_000,
     b"<<<<<<< a\n=======\n>>>>>>> b\n", b"{" * 5000 + b"sops ENC[AES256_GCM,", b"\xef\xbb\xbfsops: {}\n"],
    ids=range(10),
)  # fmt: skip
@pytest.mark.parametrize("name", ["x.yaml", "x.json", "x.env", "x.ini", "x"])
def test_textconv_always_exits_0(data: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    from tests.support import run_in_process

    done = run_in_process(["textconv", name], {"PATH": os.environ["PATH"]}, tmp_path, b"")
    assert done.code == 0
    assert done.err == ""


def test_textconv_of_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "loop", "nosuch", "pipe", "/dev/null"):
        textconv(name, tmp_path)
