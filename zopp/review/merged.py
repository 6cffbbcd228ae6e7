"""What merge commits of a branch did to values by themselves (review-and-ci.md §5).

A merge is compared key by key with its parents and with the commit that they have in common: on plaintext, since a
merge may encrypt anew what it keeps. A class is told only where the head still has what the merge made of it. The
caller opens the versions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zopp.repo import git
from zopp.repo.revision import merge_base
from zopp.sopsfile.comparing import Place

MAX_MERGES = 50
"""The newest ones; that older ones were not looked into is said."""

UNPROMPTED = "changed in a merge commit though neither parent changed it"
OWN = "set in a merge commit to what neither parent has"
UNDONE = "a parent's change undone in a merge commit"

Leaf = tuple[str, object]
Values = Mapping[Place, Leaf]


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge commit. `base` is the commit that its parents have in common, None if there is none."""

    id: str
    parents: tuple[str, ...]
    base: str | None

    def commits(self) -> tuple[str, ...]:
        """Itself, its parents, and their base if there is one."""
        return (self.id, *self.parents, *((self.base,) if self.base else ()))


def of_range(root: str, base: str, head: str) -> tuple[list[Merge], bool]:
    """The merges that `head` has and `base` has not, newest first, and whether there are more than MAX_MERGES."""
    done = git.run(root, "rev-list", "--merges", "--parents", f"--max-count={MAX_MERGES + 1}", f"{base}..{head}")
    rows = [line.split() for line in done.stdout.decode("ascii").splitlines()]
    merges = [Merge(row[0], tuple(row[1:]), merge_base(root, row[1], row[2])) for row in rows[:MAX_MERGES]]
    return merges, len(rows) > MAX_MERGES


def blobs(root: str, merges: Iterable[Merge], path: str) -> list[tuple[Merge, dict[str, tuple[str, bytes]]]]:
    """Of each merge that may have done something to a file: the commits that have it, each with blob id and bytes."""
    out = []
    with git.Batch(root) as batch:
        for merge in merges:
            found = {commit: blob for commit in merge.commits() if (blob := batch.get(f"{commit}:{path}")) is not None}
            mine = found.get(merge.id, ("", b""))[0]
            theirs = {found.get(parent, ("", b""))[0] for parent in merge.parents}
            if theirs != {mine}:
                out.append((merge, found))
    return out


def classes(merge: Merge, values: Mapping[str, Values], places: Iterable[Place], now: Values) -> dict[Place, str]:
    """What the merge did by itself to each of `places`. `values`: commit → values of the file there, a commit without
    the file left out; `now`: those of the head."""
    nothing: Values = {}
    after = values.get(merge.id, nothing)
    sides = [values.get(parent, nothing) for parent in merge.parents]
    base = values.get(merge.base or "", nothing)
    out = {}
    for place in places:
        made = after.get(place)
        if now.get(place) != made:
            continue
        had, was = [side.get(place) for side in sides], base.get(place)
        if made not in had:
            out[place] = UNPROMPTED if all(each == was for each in had) else OWN
        elif any(each not in (was, made) for each in had) and made == was:
            out[place] = UNDONE
    return out
