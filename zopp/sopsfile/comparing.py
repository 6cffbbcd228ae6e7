"""What differs between two versions of a sops file, key by key, without any key (review-and-ci.md §3 and §4).

Pure. Unchanged values keep their ciphertext, in zopp and in sops, so another ENC text is a value that was set anew;
whether to another value only a key tells. Clear values are compared and never shown. Nothing is verified here: not the
MAC, not who may be a recipient, not whether a file is the one that a manifest lists.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from zopp.sopsfile import file as files
from zopp.sopsfile.metadata import Entry
from zopp.sopsfile.scan import COMMENT, SELECTED, Scan
from zopp.sopsfile.selectors import Selector
from zopp.sopsfile.tree import Mapping, Sequence, Timestamp, dotted, same

if TYPE_CHECKING:
    from zopp.sopsfile.scan import Leaf

Place = tuple[int, tuple[str | int, ...]]
"""Where a leaf stands: its document, from 0, and its path."""

What = Literal["added", "removed", "changed"]
ADDED: What = "added"
REMOVED: What = "removed"
CHANGED: What = "changed"

_TYPES = {str: "str", int: "int", float: "float", bool: "bool", bytes: "bytes", Timestamp: "time"}
_TYPES |= {Mapping: "map", Sequence: "list"}


def name(place: Place) -> str:
    """A place as people type it; beyond the first document with its number before it."""
    document, path = place
    return dotted(path) if document == 0 else f"[document {document}] {dotted(path)}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a leaf is, its value aside. `type`: str, int, float, bool, bytes, time; null, map and list (the empty ones),
    which sops never encrypts; `?` where the ENC text names none. `clear`: it stands there to be read."""

    type: str
    clear: bool


def kind_of(leaf: Leaf) -> Kind:
    """The Kind of a leaf of a Scan."""
    value = leaf[3]
    if not leaf[0] & SELECTED or value.__class__ is not str:
        return Kind(
            _TYPES.get(value.__class__, "null"), value is not None and not isinstance(value, (Mapping, Sequence))
        )
    if not value:
        return Kind("str", False)
    _, mark, kind = value.rpartition(",type:")
    # A text that is selected and no ENC text is a value in the clear where none may be: sops refuses the file.
    if value[:4] != "ENC[" or value[-1:] != "]":
        return Kind("str", True)
    return Kind(kind[:-1] if mark and kind[:-1].isalpha() else "?", False)


@dataclass(frozen=True, slots=True)
class Outline:
    """One version of a file as far as it can be seen without a key. `leaves`: place → leaf, in document order; of a key
    that a lax reader found twice the last one counts, as in sops, and `repeated` names it. `comments`: the texts that
    stand above a leaf, or, under (document, container, None), behind all of a container's leaves."""

    scan: Scan
    leaves: dict[Place, Leaf] = field(repr=False)
    comments: dict[tuple[int, tuple[str | int, ...], Place | None], tuple[str, ...]] = field(repr=False)
    repeated: frozenset[Place]

    @classmethod
    def of(cls, scan: Scan) -> Outline:
        """The outline of what a reader found."""
        leaves: dict[Place, Leaf] = {}
        comments: dict[tuple[int, tuple[str | int, ...], Place | None], list[str]] = {}
        repeated: set[Place] = set()
        waiting: list[Leaf] = []
        for leaf in scan.leaves:
            if leaf[0] & COMMENT:
                waiting.append(leaf)
                continue
            place = (leaf[7], leaf[1])
            if place in leaves:
                repeated.add(place)
            leaves[place] = leaf
            if waiting:
                _settle(waiting, place, comments)
        _settle(waiting, None, comments)
        return cls(scan, leaves, {where: tuple(texts) for where, texts in comments.items()}, frozenset(repeated))

    @classmethod
    def read(cls, data: bytes, fmt: str, *, strict: bool = False) -> Outline:
        """The outline of a file's bytes: by the line reader, by the full parser where that declines. FormatError as
        `sopsfile.read`."""
        return cls.of(files.read(data, fmt, strict=strict).scan)

    def names(self) -> list[str]:
        """Every leaf that people can name, in document order."""
        return [name(place) for place in self.leaves]

    def entries(self) -> dict[tuple[str, int], Entry]:
        """(recipient, number of its group) → its entry."""
        groups = self.scan.metadata.groups
        return {(entry.recipient, number): entry for number, group in enumerate(groups) for entry in group}

    def ciphertexts(self) -> set[str]:
        """Every ENC text, of values, comments and the MAC. Empty values have none."""
        found = {leaf[3] for leaf in self.scan.leaves if leaf[0] & SELECTED and _is_enc(leaf[3])}
        return found | ({self.scan.metadata.mac} if self.scan.metadata.mac else set())

    @property
    def shape(self) -> Shape:
        """Its key groups."""
        meta = self.scan.metadata
        return Shape(len(meta.groups), meta.threshold, meta.flat)


def _settle(
    waiting: list[Leaf],
    leaf: Place | None,
    comments: dict[tuple[int, tuple[str | int, ...], Place | None], list[str]],
) -> None:
    for comment in waiting:
        document, container = comment[7], comment[1]
        # A comment behind the last key of a mapping stands before the first key after it, and is not that one's.
        above = leaf if leaf is not None and leaf[0] == document and leaf[1][: len(container)] == container else None
        comments.setdefault((document, container, above), []).append(comment[3])
    waiting.clear()


def _is_enc(text: Any) -> bool:
    return text.__class__ is str and text[:4] == "ENC["


@dataclass(frozen=True, slots=True)
class Change:
    """One leaf that differs. `was` and `now` are None on the side where it is not there."""

    place: Place
    what: What
    was: Kind | None
    now: Kind | None

    @property
    def name(self) -> str:
        """The key as people type it."""
        return name(self.place)

    @property
    def other_type(self) -> bool:
        """Whether it has another type, or is encrypted on one side only."""
        return self.was is not None and self.now is not None and self.was != self.now

    @property
    def clear(self) -> bool:
        """Whether a value stands in the clear on either side."""
        return any(side is not None and side.clear for side in (self.was, self.now))


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who got an entry and who lost one, and whose entry is another than before (a data key wrapped anew). `regrouped`:
    those who are in other key groups than before. Each sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    rewrapped: tuple[str, ...] = ()
    regrouped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """How many key groups there are and how many of them it takes; `flat`: none are named."""

    groups: int
    threshold: int | None
    flat: bool

    def words(self) -> str:
        """For people."""
        if self.groups != 1:
            return f"{self.groups} key groups, threshold {self.threshold}"
        threshold = "" if self.threshold is None else f", threshold {self.threshold}"
        return ("1 key group" if self.flat else "1 key group of several possible") + threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two versions side by side; a side that is None (no such file there) has no keys and no recipients.

    changes         what is gone in the order of before, then what is new or other in the order of after
    comments        places whose comments differ: the leaf they stand above, else the container they end
    reordered       the keys that both have stand in another order
    same_data_key   proven by an ENC text that both have, or an unchanged entry in every group (or one side is broken)
    full_rewrap     both have values under the same keys, none with the same text, and no proof of the same data key: a
                    new data key, or another file under the old name
    shape, selector (before, after) where they differ, else None; with one side None that one is None
    mac             whether before and after have one
    foreign         names of other key types (pgp, kms, …) whose entries differ
    unknown         fields of the sops block that sops does not know and the other side does not have
    repeated        places that stand twice in after
    """

    changes: tuple[Change, ...] = ()
    comments: tuple[Place, ...] = ()
    reordered: bool = False
    same_data_key: bool = False
    full_rewrap: bool = False
    recipients: Recipients = Recipients()
    shape: tuple[Shape | None, Shape | None] | None = None
    selector: tuple[Selector | None, Selector | None] | None = None
    mac: tuple[bool, bool] = (False, False)
    foreign: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    repeated: tuple[Place, ...] = ()

    def of(self, what: What) -> list[Change]:
        """The changes of one class."""
        return [change for change in self.changes if change.what == what]

    def __bool__(self) -> bool:
        """Whether anything differs beyond `lastmodified`, the MAC's text and the layout."""
        return bool(
            self.changes or self.comments or self.reordered or self.shape or self.selector or self.foreign
            or self.unknown or self.mac[0] != self.mac[1] or self.recipients != Recipients()
        )  # fmt: skip


def compare(before: Outline | None, after: Outline | None) -> Comparison:
    """What differs. Nothing is decrypted."""
    then: dict[Place, Leaf] = {} if before is None else before.leaves
    now: dict[Place, Leaf] = {} if after is None else after.leaves
    changes = [Change(place, REMOVED, kind_of(leaf), None) for place, leaf in then.items() if place not in now]
    common_enc = unequal = 0
    for place, leaf in now.items():
        old = then.get(place)
        if old is None:
            changes.append(Change(place, ADDED, None, kind_of(leaf)))
            continue
        other = not same_leaf(old, leaf)
        if _is_enc(old[3]) and _is_enc(leaf[3]) and old[0] & leaf[0] & SELECTED:
            common_enc += 1
            unequal += other
        if other:
            changes.append(Change(place, CHANGED, kind_of(old), kind_of(leaf)))
    if before is None or after is None:
        return _one_side(before, after, tuple(changes))
    proven = common_enc > unequal or _same_data_key(before, after)
    kept = [place for place in then if place in now]
    old_meta, new_meta = before.scan.metadata, after.scan.metadata
    theirs, ours = dict(_foreign(before)), dict(_foreign(after))
    kinds = {kind for at in theirs.keys() | ours.keys() if theirs.get(at) != ours.get(at) for _, kind in (at,)}
    return Comparison(
        changes=tuple(changes),
        comments=_comments(before, after),
        reordered=kept != [place for place in now if place in then],
        same_data_key=proven,
        full_rewrap=bool(common_enc) and common_enc == unequal and not proven,
        recipients=_recipients(before, after),
        shape=None if before.shape == after.shape else (before.shape, after.shape),
        selector=None if old_meta.selector == new_meta.selector else (old_meta.selector, new_meta.selector),
        mac=(bool(old_meta.mac), bool(new_meta.mac)),
        foreign=tuple(sorted(kinds)),
        unknown=tuple(sorted(set(new_meta.unknown) ^ set(old_meta.unknown))),
        repeated=tuple(sorted(after.repeated, key=str)),
    )  # fmt: skip


def same_leaf(a: Leaf, b: Leaf) -> bool:
    """Whether two leaves hold the same: the same ENC text, or the same clear value of the same type."""
    one, other = a[3], b[3]
    if one.__class__ is str and other.__class__ is str:
        return bool(one == other and a[0] == b[0])
    return a[0] == b[0] and same(one, other)


def _one_side(before: Outline | None, after: Outline | None, changes: tuple[Change, ...]) -> Comparison:
    side = before if after is None else after
    if side is None:
        return Comparison()
    names = tuple(sorted({entry.recipient for group in side.scan.metadata.groups for entry in group}))
    mac = bool(side.scan.metadata.mac)
    foreign = tuple(sorted({kind for (_, kind), _ in _foreign(side)}))
    unknown = tuple(sorted(side.scan.metadata.unknown))
    if after is None:
        return Comparison(
            changes=changes, recipients=Recipients(removed=names), shape=(side.shape, None),
            selector=(side.scan.metadata.selector, None), mac=(mac, False), foreign=foreign, unknown=unknown,
        )  # fmt: skip
    return Comparison(
        changes=changes, recipients=Recipients(added=names), shape=(None, side.shape),
        selector=(None, side.scan.metadata.selector), mac=(False, mac), foreign=foreign, unknown=unknown,
        repeated=tuple(sorted(side.repeated, key=str)),
    )  # fmt: skip


def _same_data_key(before: Outline, after: Outline) -> bool:
    if before.ciphertexts() & after.ciphertexts():
        return True
    then, now = before.entries(), after.entries()
    kept = {number for (who, number), entry in then.items() if now.get((who, number)) == entry}
    # Each group holds a share of its own: all of them must have one that is as before.
    return before.shape == after.shape and len(kept) == before.shape.groups


def _recipients(before: Outline, after: Outline) -> Recipients:
    then, now = before.entries(), after.entries()
    were, are = {who for who, _ in then}, {who for who, _ in now}
    both = then.keys() & now.keys()
    regrouped = {who for who, _ in then.keys() ^ now.keys() if who in were and who in are}
    return Recipients(
        added=tuple(sorted(are - were)),
        removed=tuple(sorted(were - are)),
        rewrapped=tuple(sorted({key[0] for key in both if then[key].enc != now[key].enc})),
        regrouped=tuple(sorted(regrouped)),
    )


def _foreign(side: Outline) -> list[tuple[tuple[int, str], Any]]:
    return [((group, kind), entries) for group, kind, entries in side.scan.metadata.foreign]


def _comments(before: Outline, after: Outline) -> tuple[Place, ...]:
    if not before.comments and not after.comments:
        return ()
    out = []
    for where in dict.fromkeys([*before.comments, *after.comments]):
        if before.comments.get(where) != after.comments.get(where):
            document, container, above = where
            out.append(above if above is not None else (document, container))
    return tuple(dict.fromkeys(out))


def selector_words(selector: Selector) -> str:
    """A selector for people."""
    text = f"{selector.kind}: {selector.pattern}"
    return text + ", mac_only_encrypted" if selector.mac_only_encrypted else text


def renamed(before: Outline, after: Outline, comparison: Comparison) -> dict[Place, Place]:
    """New place → old place of keys that look renamed in place: one is gone and one is new between the same two
    neighbours, of the same type, and their ciphertexts are equally long. A rename seals the value anew (the path is
    bound to it), so without a key this is what can be told, and it can be wrong."""
    gone = {change.place: change for change in comparison.of(REMOVED)}
    new = {change.place: change for change in comparison.of(ADDED)}
    if not gone or not new:
        return {}
    was, now = _neighbours(before, gone.keys()), _neighbours(after, new.keys())
    spots = Counter(was.values())
    by_spot = {spot: place for place, spot in was.items() if spots[spot] == 1}
    here = Counter(now.values())
    found: dict[Place, Place] = {}
    for place, spot in now.items():
        old = by_spot.get(spot)
        if old is None or here[spot] != 1 or gone[old].was != new[place].now:
            continue
        one, other = before.leaves[old], after.leaves[place]
        if _is_enc(one[3]) and _is_enc(other[3]):
            alike = _payload(one[3]) == _payload(other[3])
        else:
            alike = same_leaf(one, other)
        if alike:
            found[place] = old
    return found


def _neighbours(side: Outline, wanted: Any) -> dict[Place, tuple[Place | None, Place | None]]:
    """Of each wanted place the nearest places before and after it that are not wanted themselves, None at an end. A run
    of several wanted places in a row gives each of them the same two, and so tells nothing."""
    out: dict[Place, tuple[Place | None, Place | None]] = {}
    last: Place | None = None
    run: list[Place] = []
    for place in [*side.leaves, None]:
        if place is not None and place in wanted:
            run.append(place)
            continue
        for each in run:
            out[each] = (last, place)
        run = []
        last = place
    return out


def _payload(text: str) -> int:
    """How long the ciphertext in an ENC text is: as long as its value, and as public as the text."""
    return text.find(",iv:") - text.find(",data:")
