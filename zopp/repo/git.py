"""git, asked by its own plumbing commands: argument lists, no shell, no pager, bytes in and out.

Reads of direct environments never come here. Object contents are read through one `cat-file --batch` process, since a
process per object costs 3 ms each.
"""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence

from zopp.errors import Unknown


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    env = dict(environ)
    # A hook's GIT_DIR or GIT_INDEX_FILE would point these commands at another repository.
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CONFIG_PARAMETERS"):
        env.pop(name, None)
    env.update(GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0", LC_ALL="C")
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
            env=_environment(environ),
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
    """(id, bytes) of each object, by one git process."""
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        return
    done = run(root, "cat-file", "--batch", data="".join(f"{i}\n" for i in wanted).encode())
    data, at = done.stdout, 0
    for object_id in wanted:
        end = data.index(b"\n", at)
        header = data[at:end].split(b" ")
        at = end + 1
        if len(header) != 3 or header[1] == b"missing":
            continue
        size = int(header[2])
        yield object_id, data[at : at + size]
        at += size + 1


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
