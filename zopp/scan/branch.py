"""Check (a) for a branch that asks to be merged: what of it must be encrypted and is not (spec guard 2 and 5).

Every commit of the branch is judged, since a merge brings all of them: what stands in the clear in one can be read from
then on, whatever the next one does. A path must satisfy the rules of the base and those of the head, so that no branch
drops a rule together with adding what it covered; what `[guard]` lets pass counts in the tree whose rules it limits
only. Tokens, leftovers and own secrets are not looked for: that is `zopp scan --range`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from zopp.errors import Unknown, ZoppError
from zopp.repo import files
from zopp.scan import encrypted, receive
from zopp.scan.demand import SETTINGS, SOPS_CONFIG, Rules
from zopp.scan.encrypted import Demand
from zopp.scan.engine import LINK, SUBMODULE, Item
from zopp.scan.finding import Problem
from zopp.scan.gitio import Git, Object, Objects
from zopp.scan.trees import MANIFESTS

_PART = 64
"""Blobs that are asked for at once."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`rule`, `line` and `what` as in a guard's finding: names, never a value. `mode` and `blob` of the entry that has
    it, `commit` the first that does, '' where no commit of the branch touches the file and only its rules are new.
    `scope`: of the environment whose manifest lists the path, or ''."""

    rule: str
    path: str
    line: int
    what: str
    mode: str
    blob: str
    commit: str
    scope: str = ""


@dataclass(slots=True)
class Judged:
    """What was found. `base_problems` are of the base's own rule files, which the branch may have mended."""

    faults: list[Fault] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    base_problems: list[Problem] = field(default_factory=list)
    files: int = 0


def judge(
    root: str,
    environ: Mapping[str, str],
    base: str,
    head: str,
    *,
    base_paths: Iterable[str],
    head_files: Mapping[str, tuple[str, str]],
) -> Judged:
    """Judge the commits of `base..head` in the repository at `root`. `environ` names no other repository.
    `base_paths`: every path of the base; `head_files`: path → (mode, blob) of the head. Unknown where git fails."""
    git = Git(root, environ)
    objects = Objects(git)
    try:
        work = _Work(objects, Rules(receive.CommitTree(git, objects, base), environ),
                     Rules(receive.CommitTree(git, objects, head), environ), sorted(base_paths))  # fmt: skip
        rules_changed = False
        for commit in receive.walk(git, [], [f"{base}..{head}"]):
            rules_changed = rules_changed or any(_is_rule(entry.path) for each in commit.against for entry in each)
            work.judge(receive.changed(commit), commit.id)
        if rules_changed:
            work.newly_demanded(head_files)
        return work.done()
    finally:
        objects.close()


def _is_rule(path: str) -> bool:
    return path.rpartition("/")[2] in (SOPS_CONFIG, SETTINGS) or path.startswith(MANIFESTS + "/")


class _Work:
    def __init__(self, objects: Objects, base: Rules, head: Rules, base_paths: list[str]) -> None:
        self._objects = objects
        self._base = base
        self._head = head
        self._base_paths = base_paths
        self._seen: set[tuple[str, str, str]] = set()
        self._found = Judged()

    def judge(self, items: Iterable[Item], commit: str) -> None:
        """Judge entries that `commit` brings, each once."""
        new = [item for item in items if (item.path, item.mode, item.blob) not in self._seen]
        self._seen.update((item.path, item.mode, item.blob) for item in new)
        self._found.files += len(new)
        self._prepare([item.path for item in new])
        for item in new:
            if item.mode in (LINK, SUBMODULE):
                self._in_the_way(item, commit)
        self._read([item for item in new if item.mode != SUBMODULE], commit)

    def newly_demanded(self, head_files: Mapping[str, tuple[str, str]]) -> None:
        """Judge what no commit touched, and what only the head's rules want encrypted."""
        left = [Item(path, mode, blob) for path, (mode, blob) in head_files.items()
                if mode != SUBMODULE and (path, mode, blob) not in self._seen]  # fmt: skip
        self._prepare([item.path for item in left])
        self._read([item for item in left if self._head.demands(item.path) and not self._base.demands(item.path)], "")

    def done(self) -> Judged:
        """All of it."""
        self._found.problems += self._head.problems.values()
        self._found.base_problems = list(self._base.problems.values())
        return self._found

    def _prepare(self, paths: list[str]) -> None:
        for rules in (self._base, self._head):
            rules.prepare(paths)

    def _demands(self, path: str) -> list[Demand]:
        return [*self._base.demands(path), *self._head.demands(path)]

    def _in_the_way(self, item: Item, commit: str) -> None:
        """A link or a submodule where a folder of secrets was, or a submodule where a file of them belongs: what people
        would write there lies where no rule looks."""
        kind = "link" if item.mode == LINK else "submodule"
        first, after = item.path + "/", item.path + "0"  # 0 is the character after the slash
        below = self._base_paths[bisect_left(self._base_paths, first) : bisect_left(self._base_paths, after)]
        self._base.prepare(below)
        for path in below:
            if demands := self._base.demands(path):
                what = f"is a {kind} in place of the folder of {path}, which {demands[0].source} wants encrypted"
                self._add(item, commit, kind, 1, what)
                return
        # A rule of a `.sops.yaml` may match a folder by accident; a manifest and zopp.toml name files.
        named = [demand for demand in self._demands(item.path) if demand.selector is None]
        if kind == "submodule" and named:
            self._add(item, commit, kind, 1, f"is a submodule, where {named[0].source} wants an encrypted file")

    def _read(self, items: list[Item], commit: str) -> None:
        for at in range(0, len(items), _PART):
            part = items[at : at + _PART]

            streamed: set[int] = set()

            def large(
                index: int,
                _id: str,
                size: int,
                blocks: Iterable[bytes],
                part: list[Item] = part,
                streamed: set[int] = streamed,
            ) -> None:
                streamed.add(index)
                item = part[index]
                if not self._demands(item.path):
                    return
                if size > files.MAX_BYTES:
                    self._problem(item.path, f"is too large ({size >> 20} MB) to be judged as a sops file", commit)
                else:
                    self._file(item, b"".join(blocks), commit)

            found: list[Object | None] = self._objects.get([item.blob.encode() for item in part], large)
            for number, each in enumerate(found):
                if each is not None:
                    self._file(part[number], each.data, commit)
                elif number not in streamed:
                    raise Unknown("a blob is missing", code="git.failed", place=part[number].path)

    def _file(self, item: Item, data: bytes, commit: str) -> None:
        try:
            verdict = encrypted.judge(item.path, data, self._demands(item.path), link=item.mode == LINK)
        except ZoppError as exc:
            self._problem(item.path, exc.message, commit)
            return
        if verdict.unknown:
            self._problem(item.path, f"cannot be judged: {verdict.unknown}", commit)
        for rule, line, what in verdict.faults:
            self._add(item, commit, rule, line, what)

    def _add(self, item: Item, commit: str, rule: str, line: int, what: str) -> None:
        scope = self._base.listed().get(item.path) or self._head.listed().get(item.path) or ""
        self._found.faults.append(Fault(rule, item.path, line, what, item.mode, item.blob, commit, scope))

    def _problem(self, path: str, what: str, commit: str) -> None:
        self._found.problems.append(Problem(path, what, commit))
