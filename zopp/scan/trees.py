"""Where rules are read from: the index, a commit, or the disk (spec guard 2, 'Rules come from what is being judged').
Lean."""

import os

from zopp.errors import Unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from zopp.scan.gitio import Git, Objects

MANIFESTS = ".zopp/manifest"


class Tree:
    """A tree of files from which rule files are asked by path, each once."""

    def __init__(self) -> None:
        self._known: "dict[str, tuple[str, bytes] | None]" = {}

    def get(self, paths: "list[str]") -> "list[tuple[str, bytes] | None]":
        """(id, bytes) of each regular file, None for what is none."""
        missing = [path for path in dict.fromkeys(paths) if path not in self._known]
        if missing:
            self._known.update(zip(missing, self._read(missing), strict=True))
        return [self._known[path] for path in paths]

    def _read(self, paths: "list[str]") -> "list[tuple[str, bytes] | None]":
        raise NotImplementedError

    def manifests(self) -> "dict[str, bytes]":
        """Path and bytes of every manifest."""
        raise NotImplementedError


def entries(data: bytes, size: int) -> "Iterator[tuple[str, str, str]]":
    """(mode, name, id) of a tree object; `size` of its ids in bytes."""
    at = 0
    while at < len(data):
        space, nul = data.index(b" ", at), data.index(b"\0", at)
        at_id = nul + 1
        yield (
            data[at:space].decode(),
            data[space + 1 : nul].decode("utf-8", "surrogateescape"),
            data[at_id : at_id + size].hex(),
        )
        at = at_id + size


class GitTree(Tree):
    """The index (`prefix` `:`) or a commit (`<id>:`). `base` names the commit whose manifests the index starts from,
    and `staged` what differs from it there (path -> blob id, None: removed)."""

    def __init__(
        self,
        git: "Git",
        objects: "Objects",
        prefix: str,
        *,
        base: str = "",
        staged: "Mapping[str, str | None] | None" = None,
    ) -> None:
        super().__init__()
        self._git = git
        self._objects = objects
        self._prefix = prefix
        self._base = base or prefix.rstrip(":")
        self._staged = staged or {}

    def _read(self, paths: "list[str]") -> "list[tuple[str, bytes] | None]":
        names = [self._prefix.encode() + path.encode("utf-8", "surrogateescape") for path in paths]
        plain = [name for name in names if b"\n" not in name]
        answers = dict(zip(plain, self._objects.get(plain), strict=True))
        found: "list[tuple[str, bytes] | None]" = []
        for name, path in zip(names, paths, strict=True):
            answer = answers[name] if name in answers else self._odd(path)
            found.append((answer.id, answer.data) if answer is not None and answer.kind == "blob" else None)
        return found

    def _odd(self, path: str) -> "Any":
        """A path with a line end, which `cat-file` cannot be asked for by name."""
        where = ["ls-files", "-s", "-z"] if self._prefix == ":" else ["ls-tree", "-z", "--full-tree", self._base]
        spec = f":(top,literal){path}" if self._prefix == ":" else path
        listing = self._git.output(*where, "--", spec)
        fields = listing.split(b"\t")[0].split()
        ids = [field for field in fields if len(field) in (40, 64)]
        return self._objects.get(ids[:1])[0] if ids else None

    def manifests(self) -> "dict[str, bytes]":
        ids: "dict[str, str]" = {}
        for folder, folder_id in self._folders():
            tree = self._objects.get([folder_id.encode()])[0]
            for mode, name, blob in entries(tree.data, len(folder_id) // 2):
                if mode.startswith("100") and name.endswith(".json"):
                    ids[f"{folder}/{name}"] = blob
        for path, staged in self._staged.items():
            if path.startswith(MANIFESTS + "/") and path.endswith(".json"):
                if staged is None:
                    ids.pop(path, None)
                else:
                    ids[path] = staged
        found = self._objects.get([blob.encode() for blob in ids.values()])
        if any(each is None for each in found):
            raise Unknown("a manifest cannot be read", code="git.failed")
        return {path: each.data for path, each in zip(ids, found, strict=True)}

    def _folders(self) -> "Iterator[tuple[str, str]]":
        top = self._objects.get([f"{self._base}:{MANIFESTS}".encode()])[0] if self._base else None
        if top is not None and top.kind == "tree":
            for mode, name, folder_id in entries(top.data, len(top.id) // 2):
                if mode == "40000":
                    yield f"{MANIFESTS}/{name}", folder_id


class DiskTree(Tree):
    """The files below a folder. Links are not followed."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self._root = root

    def _read(self, paths: "list[str]") -> "list[tuple[str, bytes] | None]":
        return [self._file(path) for path in paths]

    def _file(self, path: str) -> "tuple[str, bytes] | None":
        from zopp import _fast

        try:
            fd = os.open(os.path.join(self._root, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        with open(fd, "rb") as file:
            try:
                data = file.read()
            except OSError:
                return None
        return _fast.sha256(data).hex(), data

    def manifests(self) -> "dict[str, bytes]":
        found = {}
        top = os.path.join(self._root, MANIFESTS)
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), self._root)
                data = self._file(path) if name.endswith(".json") else None
                if data is not None:
                    found[path] = data[1]
        return found
