"""The index against HEAD: what the pre-commit hook and `zopp scan --staged` judge (spec guard 2). Lean.

Honours GIT_INDEX_FILE and GIT_DIR as git sets them for a hook. In a merge a finding is new only if it is new against
every parent: MERGE_HEAD names the others, or, before that file exists, the GITHEAD_… variables.
"""

import os

from zopp.errors import NotFound, Unknown, ZoppError
from zopp.scan.demand import Rules
from zopp.scan.engine import SUBMODULE, Batch, Guard, Item
from zopp.scan.finding import Problem, Result
from zopp.scan.gitio import Git, Objects
from zopp.scan.trees import GitTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

# Nothing of a user's diff configuration may hide or reword a change (spec guard 3).
DIFF = ("--raw", "-z", "--no-abbrev", "--no-renames", "--no-relative", "--no-ext-diff", "--no-textconv", "--no-color",
        "--ignore-submodules=none", "-O/dev/null")  # fmt: skip
ZERO = frozenset("0")


class Entry:
    """One line of git's raw diff; ids are None where there is no file."""

    __slots__ = ("mode", "new", "old", "old_mode", "path", "status")

    def __init__(self, head: bytes, path: bytes) -> None:
        old_mode, mode, old, new, status = head[1:].decode("ascii").split(" ")
        self.old_mode = old_mode
        self.mode = mode
        self.old = None if not set(old) - ZERO else old
        self.new = None if not set(new) - ZERO else new
        self.status = status[:1]
        self.path = path.decode("utf-8", "surrogateescape")


def parse_raw(data: bytes) -> "Iterator[Entry]":
    """The entries of `git diff --raw -z --no-renames`. Unknown for anything else."""
    fields = data.split(b"\0")
    if fields.pop() != b"" or len(fields) % 2:
        raise Unknown("git diff printed something unexpected", code="git.failed")
    for head, path in zip(fields[::2], fields[1::2], strict=True):
        if head[:1] != b":" or head.count(b" ") != 4:
            raise Unknown("git diff printed something unexpected", code="git.failed")
        yield Entry(head, path)


def git_folders(environ: "Mapping[str, str]") -> "tuple[str, str]":
    """(folder of this work tree's git data, the one shared by all), as git itself would find them from here."""
    from zopp.repo import layout

    named = environ.get("GIT_DIR")
    if not named:
        found = layout.find_checkout(os.getcwd())
        return found.git_dir, found.common_dir
    git_dir = os.path.abspath(named)
    try:
        with open(os.path.join(git_dir, "commondir"), encoding="utf-8") as file:
            return git_dir, os.path.normpath(os.path.join(git_dir, file.read().strip()))
    except OSError:
        return git_dir, git_dir


def other_parents(git_dir: str, environ: "Mapping[str, str]") -> "list[str]":
    """The ids of the other sides of a merge that is being made."""
    found: "list[str]" = []
    try:
        with open(os.path.join(git_dir, "MERGE_HEAD"), encoding="ascii") as file:
            found += file.read().split()
    except (OSError, UnicodeDecodeError):
        pass
    for name in environ:
        tail = name[8:]
        if name[:8] == "GITHEAD_" and len(tail) in (40, 64) and not tail.strip("0123456789abcdef"):
            found.append(tail)
    return list(dict.fromkeys(found))


def scan(environ: "Mapping[str, str]", *, options: "Any" = None) -> Result:
    """Judge what is staged. NotFound outside a repository, Unknown where git fails."""
    git = Git(None, environ)
    try:
        folders = git_folders(environ)
    except ZoppError:
        raise NotFound("not inside a git repository", code="repository.missing") from None
    diff = git.start("diff", "--cached", *DIFF)
    objects = Objects(git)
    try:
        objects.start()
        # What the tokens need is loaded while git works.
        import zopp.scan.match

        del zopp
        entries = list(parse_raw(git.finish(diff, "diff --cached") or b""))
        result = Result("staged")
        others = []
        head = None
        for parent in other_parents(folders[0], environ):
            if head is None:
                found = objects.get([b"HEAD"])[0]
                head = "" if found is None else found.id
            if parent != head:
                others.append({e.path: e for e in parse_raw(git.output("diff", "--cached", *DIFF, parent))})
        _judge(entries, others, git, objects, folders[1], environ, result, options)
    finally:
        objects.close()
    return result


def _judge(
    entries: "list[Entry]",
    others: "list[dict[str, Entry]]",
    git: Git,
    objects: Objects,
    common: str,
    environ: "Mapping[str, str]",
    result: Result,
    options: "Any",
) -> None:
    from zopp.scan import running

    items: "list[Item]" = []
    for entry in entries:
        if entry.status == "U":
            result.problems.append(Problem(entry.path, "is not merged yet: resolve the conflict and stage it"))
        elif entry.new is not None and entry.status != "D":
            olds = [entry.old]
            for other in others:
                there = other.get(entry.path)
                # No difference to that parent: the same blob stands there.
                olds.append(entry.new if there is None else there.old)
            items.append(Item(entry.path, entry.mode, entry.new, tuple(olds)))
    replaced = [[e.old for e in entries if e.old and e.old_mode != SUBMODULE]]
    for other in others:
        # What did not change against that parent stands there too, and so takes away its own findings.
        same = [item.blob for item in items if item.path not in other and item.mode != SUBMODULE]
        replaced.append([e.old for e in other.values() if e.old and e.old_mode != SUBMODULE] + same)
    staged = {entry.path: entry.new for entry in entries}
    tree = GitTree(git, objects, ":", base="HEAD", staged=staged)
    rules = Rules(tree, environ)
    guard: Guard = running.guard(result, objects, environ, common, rules, options)
    guard.judge(Batch(items, [rules], replaced, touched=staged))
