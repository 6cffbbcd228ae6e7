"""What git is in the middle of: a merge, a rebase, a cherry-pick, a stash, and how it goes on (review-and-ci.md §1.2).

Told by git's own files and index. Which commit is the other side is git's word where it keeps one; `stash pop` and
squashes keep none, so there the stash itself, or what the merge driver noted, is asked; and what was picked without a
commit is told by the versions in git's index.
"""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zopp.errors import IntegrityError, NotFound, Unknown, UsageError
from zopp.repo import drivers, git, layout, mergerecord
from zopp.repo.layout import Checkout
from zopp.repo.revision import merge_base, that_touch

Stages = Mapping[str, Mapping[int, str]]
"""Unmerged paths of the index: path -> stage (1 base, 2 ours, 3 theirs) -> blob."""


@dataclass(frozen=True, slots=True)
class Operation:
    """`kind`: merge, squash, rebase, cherry-pick, revert, am or stash. `theirs`, `base`: commits. `names`: what people
    call the two sides; in a rebase ours is the branch that is rebased on."""

    kind: str
    ours: str
    theirs: str
    base: str | None

    @property
    def names(self) -> tuple[str, str]:
        """Ours and theirs, for messages."""
        mine = "ours (what is rebased on)" if self.kind in ("rebase", "am") else "ours (HEAD)"
        other = {"stash": "theirs (the stash)", "revert": "theirs (before the commit)"}.get(
            self.kind, f"theirs ({self.theirs[:9]})"
        )
        return mine, other

    @property
    def command(self) -> tuple[str, ...] | None:
        """git's command that goes on once everything is staged; None where nothing is to be committed."""
        return {
            # As `git merge --continue`, without an editor and without git's list of conflicts in the message.
            "merge": ("commit", "--quiet", "--no-edit", "--cleanup=strip"),
            "rebase": ("rebase", "--continue"),
            "cherry-pick": ("cherry-pick", "--continue"),
            "revert": ("revert", "--continue"),
            "am": ("am", "--continue"),
        }.get(self.kind)


def checkout(start: str, environ: Mapping[str, str]) -> Checkout:
    """The working copy to merge in. UsageError where git would merge in another one, and in a bare repository."""
    problem: NotFound | None = None
    found: Checkout | None = None
    try:
        found = layout.find_checkout(start)
    except NotFound as exc:
        problem = exc
    here = {} if found is None else {"GIT_DIR": found.git_dir, "GIT_WORK_TREE": found.root}
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        named = environ.get(name)
        if named and (name not in here or os.path.realpath(os.path.join(start, named)) != os.path.realpath(here[name])):
            raise UsageError(
                f"{name} leads git elsewhere than to the working copy of this folder",
                code="merge.elsewhere",
                hint=f"go to the folder to merge in, and: unset {name}",
            )
    if git.run(start, "rev-parse", "--is-bare-repository", check=False).stdout.strip() == b"true":
        raise UsageError(
            "is a bare repository, without a work tree to merge in",
            code="merge.bare",
            place=start,
            hint="merge in a clone of it, and push",
        )
    if found is None:
        assert problem is not None
        raise problem
    return found


def nothing(stages: Stages) -> UsageError:
    """Why nothing can go on here, where `find` finds nothing."""
    if any(path.startswith(".zopp/") for path in stages):
        return UsageError(
            "git keeps no record of what it merges here, and the versions in its index are those of no commit",
            code="merge.unrecorded",
            hint="give it up with: git reset --merge; then begin again, without --no-commit",
        )
    return UsageError("no merge is under way", code="merge.none", hint="begin one with: zopp merge BRANCH")


def unmerged(root: str) -> Stages:
    """The conflicts in git's index."""
    done = git.run(root, "ls-files", "-u", "-z")
    found: dict[str, dict[int, str]] = {}
    for row in done.stdout.decode("utf-8", "surrogateescape").split("\0"):
        if row:
            head, _, path = row.partition("\t")
            _, blob, stage = head.split(" ")
            found.setdefault(path, {})[int(stage)] = blob
    return found


def find(checkout: Checkout, stages: Stages) -> Operation | None:
    """What is under way here. IntegrityError for a merge of more than two."""
    root, folder = checkout.root, checkout.git_dir
    ours = git.resolve(root, "HEAD")
    if ours is None:
        return None
    heads = git.merge_heads(folder)
    if len(heads) > 1:
        raise IntegrityError(
            f"git merges {len(heads)} branches at once", code="merge.octopus", hint="merge them one by one"
        )
    rebasing = os.path.isdir(os.path.join(folder, "rebase-merge"))
    applying = os.path.isdir(os.path.join(folder, "rebase-apply"))
    if heads:
        return Operation("rebase" if rebasing else "merge", ours, heads[0], merge_base(root, ours, heads[0]))
    if rebasing or applying:
        theirs = git.resolve(root, "REBASE_HEAD")
        if theirs is None:
            return _noted(checkout, ours, "am")
        mail = applying and os.path.exists(os.path.join(folder, "rebase-apply", "applying"))
        return Operation("am" if mail else "rebase", ours, theirs, _parent(root, theirs, stages))
    for name, kind in (("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert")):
        commit = git.resolve(root, name)
        if commit is not None:
            parent = _parent(root, commit, {} if kind == "revert" else stages)
            if kind == "cherry-pick":
                return Operation(kind, ours, commit, parent)
            if parent is None:
                raise NotFound("the first commit of a history cannot be reverted", code="merge.root")
            return Operation(kind, ours, parent, commit)
    if os.path.exists(os.path.join(folder, "SQUASH_MSG")):
        return _noted(checkout, ours, "squash") or _squashed(checkout, ours)
    return _stashed(checkout, ours, stages) or _uncommitted(checkout, ours, stages)


def last(checkout: Checkout, op: Operation) -> str | None:
    """The last of the commits that a rebase or cherry-pick takes over; None for what is no series of commits."""
    root, folder = checkout.root, checkout.git_dir
    if op.kind == "rebase":
        for name in ("rebase-merge", "rebase-apply"):
            try:
                with open(os.path.join(folder, name, "orig-head"), encoding="ascii") as file:
                    return git.resolve(root, file.read().strip())
            except (OSError, UnicodeDecodeError):
                continue
    if op.kind != "cherry-pick":
        return None
    try:
        with open(os.path.join(folder, "sequencer", "todo"), encoding="utf-8", errors="replace") as file:
            words = [line.split(" ") for line in file if line.startswith("pick ")]
    except OSError:
        words = []
    return (git.resolve(root, words[-1][1]) if words else None) or op.theirs


def _parent(root: str, commit: str, stages: Stages) -> str | None:
    """The parent whose change a commit stands for: of several the one whose files are git's base (`-m`)."""
    parents = git.parents(root, commit)
    for parent in parents[:1] if len(parents) < 2 else parents:
        specs = {f"{parent}:{path}": found[1] for path, found in stages.items() if 1 in found}
        done = git.run(root, "cat-file", "--batch-check=%(objectname)", data="".join(f"{s}\n" for s in specs).encode())
        if len(parents) < 2 or done.stdout.decode("utf-8", "replace").split() == list(specs.values()):
            return parent
    return parents[0] if parents else None


def _noted(checkout: Checkout, ours: str, kind: str) -> Operation | None:
    record = mergerecord.load(checkout)
    if record is None or record.ours != ours or git.resolve(checkout.root, record.theirs) is None:
        return None
    return Operation(kind, ours, record.theirs, record.base)


def _squashed(checkout: Checkout, ours: str) -> Operation | None:
    with open(os.path.join(checkout.git_dir, "SQUASH_MSG"), encoding="utf-8", errors="replace") as file:
        commits = [line.split(" ")[1].strip() for line in file if line.startswith("commit ")]
    theirs = git.resolve(checkout.root, commits[0]) if commits else None
    return None if theirs is None else Operation("squash", ours, theirs, merge_base(checkout.root, ours, theirs))


def _stashed(checkout: Checkout, ours: str, stages: Stages) -> Operation | None:
    """A stash whose `pop` stopped: git keeps it, and its files are the third stage."""
    root = checkout.root
    done = git.run(root, "rev-list", "--walk-reflogs", "refs/stash", check=False)
    third = {path: found[3] for path, found in stages.items() if 3 in found}
    for stash in done.stdout.decode().split() if third else []:
        listing = git.run(root, "ls-tree", "-r", "-z", "--full-tree", stash, "--", *third).stdout
        rows = [row.partition("\t") for row in listing.decode("utf-8", "surrogateescape").split("\0") if row]
        if {path: head.split(" ")[2] for head, _, path in rows} == third:
            return Operation("stash", ours, stash, git.resolve(root, f"{stash}^1"))
    return None


def _uncommitted(checkout: Checkout, ours: str, stages: Stages) -> Operation | None:
    """A pick without a commit: git's index merges the versions of one commit and of its parent."""
    versions = [{path: found.get(number) for path, found in stages.items()} for number in (1, 3)]
    mine = [blob for path, blob in versions[1].items() if blob is not None and path.startswith(layout.MANIFESTS + "/")]
    for commit in that_touch(checkout.root, mine[0]) if mine else ():
        for parent in git.parents(checkout.root, commit):
            if all(_holds(checkout.root, *each) for each in zip((parent, commit), versions, strict=True)):
                return Operation("cherry-pick --no-commit", ours, commit, parent)
    return _noted(checkout, ours, "cherry-pick --no-commit") if stages else None


def _holds(root: str, commit: str, versions: Mapping[str, str | None]) -> bool:
    """Whether these are a commit's blobs; None: it has no such path."""
    listing = git.run(root, "--literal-pathspecs", "ls-tree", "-r", "-z", "--full-tree", commit, "--", *versions).stdout
    rows = [row.partition("\t") for row in listing.decode("utf-8", "surrogateescape").split("\0") if row]
    there = {path: head.split(" ")[2] for head, _, path in rows}
    return all(there.get(path) == blob for path, blob in versions.items())


def stage(root: str, paths: Iterable[str], environ: Mapping[str, str]) -> None:
    """Stage `paths` as they stand, removed ones too; what neither the work tree nor the index has is left out."""
    asked = sorted(set(paths))
    listing = git.run(root, "--literal-pathspecs", "ls-files", "-z", "--", *asked).stdout if asked else b""
    tracked = set(listing.decode("utf-8", "surrogateescape").split("\0"))
    wanted = [path for path in asked if path in tracked or os.path.lexists(os.path.join(root, path))]
    if wanted:
        git.run(root, "--literal-pathspecs", "add", "--all", "--force", "--", *wanted, environ=environ)


def unstage(root: str, paths: Iterable[str], environ: Mapping[str, str]) -> None:
    """Make `paths` changes of the work tree that are not staged, as `git stash pop` leaves them."""
    wanted = sorted(set(paths))
    if wanted:
        git.run(root, "--literal-pathspecs", "reset", "--quiet", "HEAD", "--", *wanted, environ=environ)


def unstaged(root: str) -> list[str]:
    """Tracked files of the work tree that are not as the index has them, sorted."""
    done = git.run(root, "diff", "--name-only", "-z", "--no-ext-diff")
    return sorted(os.fsdecode(name) for name in done.stdout.split(b"\0") if name)


def run_git(root: str, *args: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    """A git command of a person's own, with its hooks and no editor; its output is the caller's to show. zopp's drivers
    stand aside: who runs git here makes the merge from the commits, and opens each file, or asks for it, once."""
    aside = [word for name in drivers.NAMES for word in ("-c", f"merge.{name}.driver=exit 1")]
    hidden = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")
    env = {name: value for name, value in environ.items() if name not in hidden}
    env["GIT_EDITOR"] = "true"
    try:
        return subprocess.run(
            ["git", *aside, *args], cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=env, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise Unknown("git is not installed", code="git.missing") from None
