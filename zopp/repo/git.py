"""git, asked by its own plumbing commands: argument lists, no shell, no pager, bytes in and out.

Reads of direct environments never come here. Object contents are read through one `cat-file --batch` process, since a
process per object costs 3 ms each.
"""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO

from zopp.errors import Unknown


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for git, without what would point it at another repository."""
    env = dict(environ)
    # A hook's GIT_DIR or GIT_INDEX_FILE would point these commands at another repository.
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CONFIG_PARAMETERS"):
        env.pop(name, None)
    env.update(GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0", LC_ALL="C")
    env["GIT_NO_REPLACE_OBJECTS"] = "1"  # a replacement shows other bytes than those that were committed and signed
    return env


def run(
    root: str, *args: str, check: bool = True, data: bytes | None = None, environ: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[bytes]:
    """Run git in `root`. Unknown `git.missing` without git, `git.failed` with its own first line if `check`."""
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotepath=off", *args],
            cwd=root,
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            env=environment(environ),
            check=False,
        )
    except FileNotFoundError:
        raise Unknown("git is not installed", code="git.missing") from None
    if check and done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().split("\n")[0]
        raise Unknown(f"git {args[0]}: {said}", code="git.failed")
    return done


def show(root: str, revision: str, path: str) -> bytes | None:
    """The bytes of `path` in `revision`; None if either does not exist."""
    done = run(root, "cat-file", "blob", f"{revision}:{path}", check=False)
    return done.stdout if done.returncode == 0 else None


def resolve(root: str, revision: str) -> str | None:
    """The commit id of `revision`, None if there is none."""
    done = run(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", check=False)
    return done.stdout.decode().strip() if done.returncode == 0 else None


def parents(root: str, revision: str) -> list[str]:
    """The parents' ids of a commit."""
    done = run(root, "rev-list", "--parents", "-n", "1", revision)
    return done.stdout.decode().split()[1:]


def is_ancestor(root: str, older: str, newer: str) -> bool:
    """Whether the commit `older` is `newer` or lies before it; no where either is unknown."""
    return run(root, "merge-base", "--is-ancestor", older, newer, check=False).returncode == 0


def merge_heads(git_dir: str) -> list[str]:
    """The other parents of a merge that is under way."""
    try:
        with open(os.path.join(git_dir, "MERGE_HEAD"), encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def branches(root: str) -> list[tuple[str, str]]:
    """(commit, full name) of every local and remote-tracking branch."""
    done = run(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/remotes")
    pairs = [line.split(" ", 1) for line in done.stdout.decode("utf-8", "replace").splitlines()]
    return [(commit, name) for commit, name in pairs if not name.endswith("/HEAD")]


def versions(root: str, path: str, revisions: Sequence[str]) -> list[tuple[str, str]]:
    """(commit, blob) for each commit reachable from `revisions` that changed `path`, newest first, merges included
    by each side. A commit that deleted it is left out."""
    if not revisions:
        return []
    done = run(
        root, "log", "--format=%x01%H", "--raw", "--no-abbrev", "-m", "--no-renames", "-z", *revisions, "--", path
    )
    found: list[tuple[str, str]] = []
    commit = ""
    for field in done.stdout.replace(b"\n", b"\0").split(b"\0"):
        if field.startswith(b"\x01"):
            commit = field[1:].decode()
        elif field.startswith(b":"):
            blob = field.split(b" ")[3].decode()
            if blob.strip("0"):
                found.append((commit, blob))
    return found


def blobs(root: str, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """(id, bytes) of each object that is a blob, by one git process."""
    return ((name, data) for name, kind, data in objects(root, ids) if kind == "blob")


def objects(root: str, ids: Iterable[str]) -> Iterator[tuple[str, str, bytes]]:
    """(id, type, bytes) of each object that is there, by one git process."""
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        return
    done = run(root, "cat-file", "--batch", data="".join(f"{i}\n" for i in wanted).encode())
    data, at = done.stdout, 0
    for object_id in wanted:
        end = data.index(b"\n", at)
        answer = data[at:end]
        at = end + 1
        # What is missing is repeated as it was asked for, and may hold spaces.
        if answer.endswith((b" missing", b" ambiguous")):
            continue
        header = answer.split(b" ")
        size = int(header[2])
        yield object_id, header[1].decode(), data[at : at + size]
        at += size + 1


class Log:
    """`git log --raw` of `paths`, running: started before it is needed, read once. `parents` as git simplifies them:
    the nearest ancestors at which one of the paths is another."""

    def __init__(self, root: str, revision: str, paths: Sequence[str], environ: Mapping[str, str] = os.environ) -> None:
        self._revision = revision
        # `tformat` under -z ends each commit with NUL; what a name may hold (no NUL, no newline) stands behind.
        self._child = _start(
            root, environ, "-c", "log.showRoot=true", "log", "--topo-order", "--parents", "--raw", "-z", "--no-abbrev",
            "--no-renames", "--no-color", "--no-show-signature", "--no-notes", "--no-follow", "--no-ext-diff",
            "--ignore-submodules=none", "--format=%H %at %P%n%an%n%ae%n%s", revision, "--", *paths,
        )  # fmt: skip

    def read(self) -> list["Commit"]:
        """Every commit, children before their parents. Unknown `git.failed`."""
        out, err = self._child.communicate()
        if self._child.returncode:
            said = err.decode("utf-8", "replace").strip().split("\n")[0]
            raise Unknown(f"git log {self._revision}: {said}", code="git.failed")
        return _commits(out)

    def stop(self) -> None:
        """End it, unless it was read."""
        if self._child.returncode is None:
            self._child.kill()
            self._child.communicate()


class Commit:
    """A commit that changed one of the paths that were asked for. `at` is the author's time in Unix seconds. `changed`
    maps a path to its new blob, None where it is no regular file any more; of a merge it is empty, as git says nothing.
    """

    __slots__ = ("at", "author", "changed", "email", "id", "parents", "subject")

    def __init__(self, id: str, parents: tuple[str, ...], at: int, author: str, email: str, subject: str) -> None:
        self.id = id
        self.parents = parents
        self.at = at
        self.author = author
        self.email = email
        self.subject = subject
        self.changed: dict[str, str | None] = {}

    def __repr__(self) -> str:
        return f"Commit({self.id[:12]}, {len(self.changed)} paths)"


def _commits(data: bytes) -> list[Commit]:
    found: list[Commit] = []
    tokens = iter(data.split(b"\0"))
    for token in tokens:
        raw = token.lstrip(b"\n")
        if raw[:1] == b":":
            path = os.fsdecode(next(tokens))
            _, mode, _, blob, _ = raw.split(b" ")
            found[-1].changed[path] = blob.decode() if mode[:3] == b"100" else None
        elif raw:
            head, author, email, subject = raw.decode("utf-8", "replace").split("\n", 3)
            id_, at, *parents = head.split(" ")
            found.append(Commit(id_, tuple(p for p in parents if p), int(at or 0), author, email, subject))
    return found


def _start(root: str, environ: Mapping[str, str], *args: str) -> "subprocess.Popen[bytes]":
    # Replaced objects are this clone's own idea of history, which no signature covers; and a path is a path, however
    # it begins.
    options = ("--no-replace-objects", "--literal-pathspecs", "-c", "core.quotepath=off")
    try:
        return subprocess.Popen(
            ["git", *options, *args], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=environment(environ),
        )  # fmt: skip
    except FileNotFoundError:
        raise Unknown("git is not installed", code="git.missing") from None


class Batch:
    """A running `git cat-file --batch`: objects one by one, by id or as `REV:PATH`. A context manager."""

    def __init__(self, root: str, environ: Mapping[str, str] = os.environ) -> None:
        self._child = _start(root, environ, "cat-file", "--batch")

    def ask(self, names: Iterable[str]) -> None:
        """Ask for objects; each is to be answered by one `answer`, in this order. At most a few hundred at a time, so
        that neither side waits for the other."""
        self._in.write("".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape"))
        self._in.flush()

    def answer(self) -> tuple[str, bytes] | None:
        """(id, bytes) of the next object asked for, if it is a blob; else None. Unknown where git breaks off."""
        header = self._out.readline()
        if header[-1:] != b"\n":
            raise Unknown("git cat-file broke off", code="git.failed")
        # What is missing is repeated as it was asked for, and may hold spaces.
        if header.endswith((b" missing\n", b" ambiguous\n")):
            return None
        id_, kind, size = header.split()
        data = self._out.read(int(size))
        self._out.read(1)
        return (id_.decode(), data) if kind == b"blob" else None

    def get(self, name: str) -> tuple[str, bytes] | None:
        """Ask for one object and wait for it."""
        self.ask([name])
        return self.answer()

    @property
    def _in(self) -> IO[bytes]:
        assert self._child.stdin is not None
        return self._child.stdin

    @property
    def _out(self) -> IO[bytes]:
        assert self._child.stdout is not None
        return self._child.stdout

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._child.kill()
        self._child.communicate()


def commit(root: str, paths: Sequence[str], message: str, environ: Mapping[str, str]) -> str:
    """Commit exactly `paths` (added or removed as they stand), whatever else is staged; the new commit's id. `environ`
    says who commits."""
    run(root, "add", "--all", "--force", "--", *paths, environ=environ)
    run(root, "commit", "--quiet", "--message", message, "--only", "--", *paths, environ=environ)
    done = run(root, "rev-parse", "HEAD")
    return done.stdout.decode().strip()


def config(root: str, key: str) -> str | None:
    """A configuration value, None if unset."""
    done = run(root, "config", "--get", key, check=False)
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
