"""Three plaintext trees into one, by key: what each side changed since the base (review-and-ci.md §2, rules 2 and 3).

Mappings are merged key by key, everything else is one value: a list, too. A comment belongs to the key that it stands
above. Where both sides changed the same key differently, or one changed what the other removed, there is a conflict;
the caller says which side stands in for it. Encryption, metadata and layout are `merging`'s.
"""

from __future__ import annotations

from collections.abc import Mapping as Choices
from dataclasses import dataclass, field
from typing import Any

from zopp.sopsfile.tree import Comment, Mapping, Tree, same

Place = tuple[int, tuple[str | int, ...]]
"""A document, counted from 0, and a path in it."""

OURS, THEIRS, BASE = "ours", "theirs", "base"


@dataclass(frozen=True, slots=True)
class Given:
    """A value that somebody typed for a conflict."""

    value: Any = field(repr=False)


Choice = str | Given
"""OURS, THEIRS, BASE, or a value of one's own."""


@dataclass(frozen=True, slots=True)
class Merged:
    """`tree` with the stand-in at each of `conflicts`, which are in document order. `both` names the keys above which
    both sides changed the comment: all of their lines are kept."""

    tree: Tree = field(repr=False)
    conflicts: tuple[Place, ...]
    both: tuple[Place, ...]


def merge(
    base: Tree | None, ours: Tree, theirs: Tree, chosen: Choices[Place, Choice] | None = None, *, standin: str = OURS
) -> Merged:
    """Merge document by document; the three must have equally many (`base` None: an empty tree). `chosen` settles
    conflicts by place; `standin` (OURS or THEIRS) is what the tree holds where one is not settled."""
    run = _Run(chosen or {}, standin)
    befores = base.documents if base is not None else [Mapping() for _ in ours.documents]
    made = []
    for number, (b, o, t) in enumerate(zip(befores, ours.documents, theirs.documents, strict=True)):
        run.document = number
        made.append(o if same(o, t) else run.mapping((), b, o, t))
    return Merged(Tree(made), tuple(run.conflicts), tuple(run.both))


class _Gone:
    """Not there: a key that a side does not have."""


_GONE = _Gone()


@dataclass(slots=True)
class _Entry:
    """A key with the comments above it."""

    above: list[Comment]
    node: Any


class _Block:
    """A mapping taken apart: its entries by key, in order, and the comments behind the last of them."""

    def __init__(self, node: Any) -> None:
        self.entries: dict[str, _Entry] = {}
        self.tail: list[Comment] = []
        if not isinstance(node, Mapping):
            return
        for key, value in node.items:
            if isinstance(key, Comment):
                self.tail.append(key)
            else:
                self.entries[key] = _Entry(self.tail, value)
                self.tail = []


class _Run:
    """One merge under way: what was found so far."""

    def __init__(self, chosen: Choices[Place, Choice], standin: str) -> None:
        self.chosen = chosen
        self.standin = standin
        self.document = 0
        self.conflicts: list[Place] = []
        self.both: list[Place] = []

    def mapping(self, path: tuple[str | int, ...], base: Any, ours: Any, theirs: Any) -> Any:
        """The merge of two mappings, one of which may be gone."""
        b, o, t = _Block(base), _Block(ours), _Block(theirs)
        items: list[Any] = []
        for key in _order(list(o.entries), list(t.entries)):
            where = (*path, key)
            sides = b.entries.get(key), o.entries.get(key), t.entries.get(key)
            node = self.entry(where, *sides)
            if node is _GONE:
                continue
            items += [(comment, None) for comment in self.comments(where, *(e.above if e else None for e in sides))]
            items.append((key, node))
        emptied = not any(isinstance(key, str) for key, _ in items)
        if emptied and path and all(not isinstance(side, Mapping) or side.keys() for side in (ours, theirs)):
            return _GONE  # each side took other keys away: a mapping was there for its keys
        tails = [
            block.tail if isinstance(node, Mapping) else None for block, node in ((b, base), (o, ours), (t, theirs))
        ]
        items += [(comment, None) for comment in self.comments(path, *tails)]
        return Mapping(items)

    def entry(self, path: tuple[str | int, ...], b: _Entry | None, o: _Entry | None, t: _Entry | None) -> Any:
        """The value of one key. A comment that was changed is a change of a key that the other side removed."""
        nodes = [_GONE if side is None else side.node for side in (b, o, t)]
        kept = o or t
        removed = b is not None and kept is not None and (o is None or t is None)
        if removed and kept.above != b.above and _same(kept.node, b.node):  # type: ignore[union-attr]
            return self.conflict(path, *nodes)
        return self.node(path, *nodes)

    def node(self, path: tuple[str | int, ...], base: Any, ours: Any, theirs: Any) -> Any:
        if _same(ours, theirs) or _same(base, theirs):
            return ours
        if _same(base, ours):
            return theirs
        mappings = [isinstance(side, Mapping) for side in (ours, theirs)]
        if all(mappings) or (any(mappings) and isinstance(base, Mapping) and (ours is _GONE or theirs is _GONE)):
            return self.mapping(path, base, ours, theirs)
        return self.conflict(path, base, ours, theirs)

    def conflict(self, path: tuple[str | int, ...], base: Any, ours: Any, theirs: Any) -> Any:
        place = (self.document, path)
        choice = self.chosen.get(place)
        if choice is None:
            self.conflicts.append(place)
            choice = self.standin
        if isinstance(choice, Given):
            return choice.value
        return {OURS: ours, THEIRS: theirs, BASE: base}[choice]

    def comments(
        self, path: tuple[str | int, ...], b: list[Comment] | None, o: list[Comment] | None, t: list[Comment] | None
    ) -> list[Comment]:
        """The comments of one place; None: that side has no such place. No line is ever in the way: where both sides
        changed them, ours come first and what is new in theirs behind."""
        if o is None or t is None:
            return o if o is not None else t or []
        before = b or []
        if o == t or before == t:
            return o
        if before == o:
            return t
        self.both.append((self.document, path))
        dropped = [line for line in before if line not in t]
        kept = [line for line in o if line not in dropped]
        return kept + [line for line in t if line not in before and line not in o]


def _same(a: Any, b: Any) -> bool:
    if a is _GONE or b is _GONE:
        return a is b
    return same(a, b)


def _order(ours: list[str], theirs: list[str]) -> list[str]:
    """Ours, each key that only theirs has behind the one that it follows there."""
    known = set(ours)
    behind: dict[str | None, str] = {}
    for at, key in enumerate(theirs):
        if key not in known:
            behind[theirs[at - 1] if at else None] = key
    out: list[str] = []
    last: str | None
    for last in (None, *ours):
        if last is not None:
            out.append(last)
        while (follower := behind.get(last)) is not None:
            out.append(follower)
            last = follower
    return out
