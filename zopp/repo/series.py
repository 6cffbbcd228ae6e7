"""Several commits that stand together: if the last is not made, none is left.

A change is undone by what was recorded of it: the bytes that were there before, the branch where it was. Only while
nothing else came between: other commits, or other bytes in these files, stay, and the error says so. A process that is
killed undoes nothing; then the commits that were made stand, each of them whole.
"""

from collections.abc import Mapping

from zopp.errors import Unknown
from zopp.repo import files, git, journal
from zopp.repo.layout import Checkout

Changes = Mapping[str, tuple[bytes | None, bytes | None]]


class Series:
    """The commits of one command. `add` the changes of a draft before it is committed."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._start = _head(checkout.root)
        self._drafts: list[Changes] = []

    def add(self, changes: Changes) -> None:
        """What a draft changes; the mapping may still grow while it is committed."""
        self._drafts.append(changes)

    def undo(self) -> None:
        """Put everything back, under the lock. Unknown where something else came between."""
        with journal.lock(self._checkout):
            if journal.pending(self._checkout):
                journal.recover(self._checkout)
            root = self._checkout.root
            first: dict[str, bytes | None] = {}
            ours: dict[str, set[bytes | None]] = {}
            for changes in self._drafts:
                for path, (old, new) in changes.items():
                    first.setdefault(path, old)
                    ours.setdefault(path, set()).update((old, new))
            here = {path: files.read_if_there(root, path) for path in first}
            head = _head(root)
            if head != self._start and not _touched(root, self._start, head) <= first.keys():
                raise _between()
            if any(data not in ours[path] for path, data in here.items()):
                raise _between()
            journal.write(self._checkout, {path: (data, first[path]) for path, data in here.items()})
            if self._start is None:
                if head is not None:
                    git.run(root, "update-ref", "-d", "HEAD", head)
                git.run(root, "rm", "--quiet", "--cached", "--ignore-unmatch", "--", *first)
                return
            if head != self._start:
                git.run(root, "reset", "--quiet", "--soft", self._start)
            git.run(root, "--literal-pathspecs", "reset", "--quiet", self._start, "--", *first)


def _head(root: str) -> str | None:
    done = git.run(root, "rev-parse", "--quiet", "--verify", "HEAD", check=False)
    return done.stdout.decode().strip() if done.returncode == 0 else None


def _touched(root: str, start: str | None, head: str | None) -> set[str]:
    """The paths that the commits from `start` to `head` change, each of them."""
    if head is None:
        return {""}  # the branch is gone: that was somebody else
    span = [head] if start is None else [head, f"^{start}"]
    done = git.run(root, "log", "--format=", "--name-only", "--no-renames", "-m", "-z", *span)
    return {name.decode("utf-8", "surrogateescape") for name in done.stdout.split(b"\0") if name.strip(b"\n")}


def _between() -> Unknown:
    return Unknown(
        "the commits that were made stand, as others were made meanwhile or files were changed",
        code="series.between",
        hint="see them with: git log",
    )
