"""Commits: the pre-receive and pre-push hooks and `zopp scan --range` (spec guard 2).

Every commit that a push would bring is judged against its parents, each by the rules of its own tree; on a server also
by those of the ref's old tip, so that no push drops a rule together with adding what it covered. Deleting a branch
brings nothing. Commit and tag messages are judged too.
"""

import os

from zopp.errors import NotFound, Unknown, UsageError, ZoppError
from zopp.scan import staged, trees
from zopp.scan.demand import Rules
from zopp.scan.engine import SUBMODULE, Batch, Guard, Item
from zopp.scan.finding import Result
from zopp.scan.gitio import Git, Objects, _fed
from zopp.scan.staged import Entry
from zopp.scan.trees import GitTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_TREE = ("diff-tree", "--stdin", "-r", "-m", "--root", "--always", "--pretty=format:%x01%H %P", *staged.DIFF)


class Commit:
    """A commit with its changes against each parent (a root commit: against nothing)."""

    __slots__ = ("against", "id", "parents")

    def __init__(self, commit: str, parents: "list[str]") -> None:
        self.id = commit
        self.parents = parents
        self.against: "list[list[Entry]]" = []


def _is_zero(object_id: str) -> bool:
    return not set(object_id) - {"0"}


def _lines(data: bytes, count: int) -> "list[list[str]]":
    rows = [line.split(" ") for line in data.decode("utf-8", "surrogateescape").split("\n") if line]
    if any(len(row) < count for row in rows):
        raise UsageError("standard input is not what git gives a hook", code="scan.input")
    return rows


def receive(environ: "Mapping[str, str]", data: bytes) -> Result:
    """pre-receive: lines `OLD NEW REF`. Run in the repository that receives, where git keeps the new objects apart."""
    git = Git(None, environ)
    tips = [(row[0], row[1], row[2]) for row in _lines(data, 3) if not _is_zero(row[1])]
    exceptions = (git.config("zopp.guardExceptions") or "true").lower() not in ("false", "no", "off", "0")
    return _judge("receive", git, environ, tips, ["--not", "--all"], exceptions=exceptions, own="")


def push(environ: "Mapping[str, str]", data: bytes, remote: str) -> Result:
    """pre-push: lines `LOCAL-REF LOCAL-ID REMOTE-REF REMOTE-ID`. What the remote is known to have is left out."""
    git = Git(None, environ)
    rows = [row for row in _lines(data, 4) if not _is_zero(row[1])]
    known = ["--not", f"--remotes={remote}" if remote and "/" not in remote and ":" not in remote else "--remotes"]
    known += [row[3] for row in rows if not _is_zero(row[3]) and git.asked("cat-file", "-e", row[3]) is not None]
    tips = [("", row[1], row[0]) for row in rows]
    return _judge("push", git, environ, tips, known, exceptions=True, own=staged.git_folders(environ)[1])


def commits(environ: "Mapping[str, str]", wanted: str, *, options: "Any" = None) -> Result:
    """`--range A..B`: the commits of a range, as `git rev-list` takes it."""
    git = Git(None, environ)
    if not wanted.split() or any(word.startswith("-") for word in wanted.split()):
        raise UsageError("is no range of commits", code="scan.range", hint="zopp scan --range origin/main..HEAD")
    try:
        common = staged.git_folders(environ)[1]
    except ZoppError:
        raise NotFound("not inside a git repository", code="repository.missing") from None
    if git.asked("rev-list", "-n", "1", *wanted.split(), "--") is None:
        raise UsageError("git knows no such range", code="scan.range", hint="zopp scan --range origin/main..HEAD")
    return _judge("range", git, environ, [], wanted.split(), exceptions=True, own=common, options=options)


def _judge(
    mode: str,
    git: Git,
    environ: "Mapping[str, str]",
    tips: "list[tuple[str, str, str]]",
    revisions: "list[str]",
    *,
    exceptions: bool,
    own: str,
    options: "Any" = None,
) -> Result:
    from zopp.scan import running

    result = Result(mode)
    if mode != "range" and not tips:
        return result
    objects = Objects(git)
    try:
        olds = {old for old, _, _ in tips if old and not _is_zero(old)}
        if mode == "receive" and any(_is_zero(old) for old, _, _ in tips):
            # A new branch has no tip of its own: the default branch's rules hold for it.
            head = objects.get([b"HEAD"])[0]
            olds.update([head.id] if head is not None else [])
        options = options or running.Options()
        options.exceptions = options.exceptions and exceptions
        guard: "Guard | None" = None
        shared: "dict[str, Rules]" = {}
        for commit in walk(git, [tip[1] for tip in tips], revisions):
            rules = [Rules(CommitTree(git, objects, commit.id), environ)]
            rules += [_of(old, git, objects, environ, shared) for old in sorted(olds)]
            if guard is None:
                guard = running.guard(result, objects, environ, own, rules[0], options)
            result.commits += 1
            guard.judge(_batch(commit, rules, objects))
        if guard is None:
            guard = running.guard(result, objects, environ, own, Rules(trees.DiskTree("/nowhere"), environ), options)
        for _, new, ref in tips:
            _named(new, ref, guard, git, objects, environ)
    finally:
        objects.close()
    return result


def _of(commit: str, git: Git, objects: Objects, environ: "Mapping[str, str]", shared: "dict[str, Rules]") -> Rules:
    if commit not in shared:
        shared[commit] = Rules(CommitTree(git, objects, commit), environ)
    return shared[commit]


class CommitTree(GitTree):
    """A commit's tree."""

    def __init__(self, git: Git, objects: Objects, commit: str) -> None:
        super().__init__(git, objects, f"{commit}:")


def walk(git: Git, tips: "list[str]", revisions: "list[str]") -> "Iterator[Commit]":
    """The commits, oldest first, each once. rev-list feeds diff-tree directly."""
    # git of before 2.42 takes revisions from standard input and options from its arguments only.
    asked = "".join(f"{tip}\n" for tip in tips).encode()
    args = ("rev-list", "--reverse", "--topo-order", *(("--stdin",) if tips else ()), *revisions, "--")
    lister, out = git.start(*args, stdin=_fed(asked))
    differ, out = git.start(*_TREE, stdin=out)
    whole = False
    try:
        yield from _parsed(_output(out))
        whole = True
    finally:
        os.close(out)
        codes = [os.waitpid(child, 0)[1] for child in (lister, differ)]
        if whole and any(codes):
            raise Unknown("git rev-list or diff-tree failed", code="git.failed")


def _output(fd: int) -> "Iterator[bytes]":
    """The NUL-separated fields of what git prints."""
    rest = b""
    while part := os.read(fd, 1 << 20):
        fields = (rest + part).split(b"\0")
        rest = fields.pop()
        yield from fields
    if rest.strip(b"\n"):
        yield rest


def _parsed(fields: "Iterator[bytes]") -> "Iterator[Commit]":
    """Commits from `diff-tree --stdin -m -z`: a header before the changes against each parent."""
    current: "Commit | None" = None
    head = b""
    for field in fields:
        # A header may stand in one field with what follows it.
        while field[:1] in (b"\x01", b"\n"):
            field = field.lstrip(b"\n")
            if field[:1] != b"\x01":
                break
            line, _, field = field[1:].partition(b"\n")
            commit, *parents = line.decode("ascii").split(" ")
            parents = [parent for parent in parents if parent]
            if current is None or current.id != commit:
                if current is not None:
                    yield current
                current = Commit(commit, parents)
            current.against.append([])
        if not field:
            continue
        if head:
            if current is None:
                raise Unknown("git diff-tree printed something unexpected", code="git.failed")
            current.against[-1].append(Entry(head, field))
            head = b""
        elif field[:1] == b":" and field.count(b" ") == 4:
            head = field
        else:
            raise Unknown("git diff-tree printed something unexpected", code="git.failed")
    if current is not None:
        yield current


def changed(commit: Commit) -> "list[Item]":
    """The files of a commit that differ from every parent, or from the first where there is one."""
    by_path = [{entry.path: entry for entry in entries} for entries in commit.against or [[]]]
    items = []
    for path, entry in by_path[0].items():
        if entry.new is None:
            continue
        olds = [entry.old]
        for other in by_path[1:]:
            there = other.get(path)
            olds.append(entry.new if there is None else there.old)
        # What a merge takes over unchanged from another parent was judged there.
        if entry.new in olds[1:]:
            continue
        items.append(Item(path, entry.mode, entry.new, tuple(olds)))
    return items


def _batch(commit: Commit, rules: "list[Rules]", objects: Objects) -> Batch:
    """A commit as a batch."""
    replaced = [[e.old for e in entries if e.old and e.old_mode != SUBMODULE] for entries in commit.against or [[]]]
    if not commit.parents:
        replaced = []
    touched = [entry.path for entry in commit.against[0]] if commit.against else []
    message = _message(objects, commit.id)
    return Batch(changed(commit), rules, replaced, commit=commit.id, message=message, touched=touched)


def _message(objects: Objects, object_id: str) -> bytes:
    found = objects.get([object_id.encode()])[0]
    if found is None:
        raise Unknown("an object is missing", code="git.failed")
    body: bytes = found.data.partition(b"\n\n")[2]
    return body


def _named(new: str, ref: str, guard: Guard, git: Git, objects: Objects, environ: "Mapping[str, str]") -> None:
    """What a ref names besides commits: tags' messages, and blobs and trees that a tag may point to."""
    name = new
    for _ in range(20):
        found = objects.get([name.encode()], lambda *_: None)[0]
        if found is None or found.kind == "commit":
            return
        if found.kind == "tag":
            guard.judge(Batch([], [], [], commit=new, message=found.data.partition(b"\n\n")[2]))
            name = found.data.partition(b"\n")[0].partition(b" ")[2].decode("ascii", "replace")
            continue
        rules = [Rules(trees.DiskTree("/nowhere"), environ)]
        items = []
        if found.kind == "blob":
            items.append(Item(ref, "100644", found.id))
        else:
            for line in git.output("ls-tree", "-r", "-z", "--full-tree", found.id).split(b"\0"):
                head, tab, path = line.partition(b"\t")
                if tab:
                    mode, _, blob = head.decode("ascii").split(" ")
                    items.append(Item(path.decode("utf-8", "surrogateescape"), mode, blob))
        guard.judge(Batch(items, rules, [], commit=new))
        return
    raise Unknown("a tag points to a tag, and so on, too often", code="git.failed")
