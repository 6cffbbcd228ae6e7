"""Where a workspace's files are read from: the work tree, or one commit, of which nothing is checked out.

What `verify` says of a work tree it says of a commit, too: `zopp review` judges a pull request from git's objects, with
no attribute, hook, filter, submodule or configuration of it at work (review-and-ci.md §4).
"""

import os
from typing import Protocol

from zopp.errors import IntegrityError, Unknown
from zopp.repo import files, git

MAX_PATHS = 1_000_000
"""A commit with more is not judged."""

_LINK, _SUBMODULE = "120000", "160000"


class Tree(Protocol):
    """A state of the files below the git root."""

    @property
    def revision(self) -> str:
        """The commit it stands on: HEAD for a work tree, its own id for a commit."""

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, None if absent. IntegrityError `path.link` for what is no regular file, or lies behind
        a link; Unknown `file.too_large`."""

    def exists(self, path: str) -> bool:
        """Whether anything is there under this name."""

    def paths(self) -> list[str]:
        """Every path that git tracks or would add, sorted, as git spells it (bytes that are no UTF-8 escaped as
        surrogates)."""

    def below(self, folder: str) -> list[str]:
        """Every file below `folder`, ignored ones too, sorted."""


class WorkTree:
    """The files as they lie on disk."""

    revision = "HEAD"

    def __init__(self, root: str) -> None:
        self._root = root

    def read(self, path: str) -> bytes | None:
        """As `Tree` says."""
        return files.read_if_there(self._root, path)

    def exists(self, path: str) -> bool:
        """As `Tree` says."""
        return os.path.lexists(os.path.join(self._root, path))

    def paths(self) -> list[str]:
        """As `Tree` says."""
        listing = git.run(self._root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
        return sorted(set(listing.decode("utf-8", "surrogateescape").split("\0")) - {""})

    def below(self, folder: str) -> list[str]:
        """As `Tree` says."""
        return sorted(
            os.path.relpath(os.path.join(inside, name), self._root)
            for inside, _, found in os.walk(os.path.join(self._root, folder))
            for name in found
        )


class CommitTree:
    """The files of one commit, read from git's objects by one `cat-file` process, which `close` ends."""

    def __init__(self, root: str, commit: str) -> None:
        """`commit` is an id. Unknown `git.failed` if the commit or its trees are not there (a shallow or partial
        clone), `tree.too_large` beyond MAX_PATHS."""
        self.revision = commit
        self._entries: dict[str, tuple[str, str, int]] = {}
        listing = git.run(root, "ls-tree", "-r", "-z", "-l", "--full-tree", commit).stdout
        for line in listing.split(b"\0")[:-1]:
            about, _, name = line.partition(b"\t")
            mode, _, object_id, size = about.decode("ascii").split()
            # `-` is no blob, and `BAD` one that is not here: `read` says so if somebody asks.
            length = int(size) if size.isdigit() else 0
            self._entries[name.decode("utf-8", "surrogateescape")] = (mode, object_id, length)
            if len(self._entries) > MAX_PATHS:
                raise Unknown(f"holds more than {MAX_PATHS:,} files", code="tree.too_large", place=commit[:12])
        self._bodies: dict[str, bytes] = {}
        self._root = root

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def entry(self, path: str) -> tuple[str, str] | None:
        """Mode and object id of whatever stands there, None if nothing does."""
        found = self._entries.get(path)
        return None if found is None else found[:2]

    def blob(self, path: str) -> str | None:
        """The object id of a regular file, None for anything else."""
        mode, object_id, _ = self._entries.get(path, ("", "", 0))
        return object_id if mode.startswith("100") else None

    def fetch(self, paths: "list[str]") -> None:
        """Read many files by one git process; `read` then has them at hand."""
        wanted = {}
        for path in paths:
            mode, object_id, size = self._entries.get(path, ("", "", 0))
            if mode.startswith("100") and size <= files.MAX_BYTES and object_id not in self._bodies:
                wanted[object_id] = path
        self._bodies.update(git.blobs(self._root, wanted))

    def read(self, path: str) -> bytes | None:
        """As `Tree` says."""
        files.check_path(path)
        entry = self._entries.get(path)
        if entry is None:
            folder = path
            while folder := folder.rpartition("/")[0]:
                if folder in self._entries:
                    raise IntegrityError("a folder on the way is a symlink or no folder", code="path.link", place=path)
            return None
        mode, object_id, size = entry
        if mode == _LINK:
            raise IntegrityError("is a symlink", code="path.link", place=path)
        if mode == _SUBMODULE:
            raise IntegrityError("is a submodule, no file", code="path.link", place=path)
        if size > files.MAX_BYTES:
            raise Unknown("is larger than zopp reads (64 MiB)", code="file.too_large", place=path)
        if object_id not in self._bodies:
            self.fetch([path])
        body = self._bodies.get(object_id)
        if body is None:
            raise Unknown("git does not have this version's content", code="git.failed", place=path)
        return body

    def exists(self, path: str) -> bool:
        """As `Tree` says; a folder exists if a file of it does."""
        return path in self._entries or any(each.startswith(path + "/") for each in self._entries)

    def paths(self) -> list[str]:
        """As `Tree` says."""
        return sorted(self._entries)

    def below(self, folder: str) -> list[str]:
        """As `Tree` says."""
        return [path for path in sorted(self._entries) if path.startswith(folder + "/")]
