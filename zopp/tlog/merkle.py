"""The Merkle tree of RFC 6962 §2 (hashing equal to RFC 9162's): roots, proofs, and appending without the old entries.

A tree is named by its leaf hashes; a *node* (level, index) is the root over the 2^level leaves from index * 2^level on.
What makes proofs asks a *reader*, a function (level, index) -> 32 bytes, for complete nodes only. What checks proofs
follows RFC 9162 §2.1.3.2 and §2.1.4.2 and shares no code with what makes them.

Not done here: whose root it is (`checkpoint`), and whether a leaf is the hash of the right entry (`entry`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zopp import _fast
from zopp.errors import FormatError, IntegrityError, UsageError

HASH = 32
MAX_SIZE = 2**53 - 1
"""Sizes travel as JSON integers, too (`policy.canonical`)."""

EMPTY_ROOT = _fast.sha256(b"")

Reader = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)."""
    return _fast.sha256(b"\0" + entry)


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return _fast.sha256(b"\1" + left + right)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree with these leaf hashes; EMPTY_ROOT for none."""
    return append(EMPTY, leaves).root


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that a tree of `size` leaves must keep to grow: the roots of the perfect subtrees that `size` is the sum of,
    largest first, 32 bytes each, one for each 1 bit of `size`. FormatError for any other number or length."""

    size: int
    hashes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE or len(self.hashes) != self.size.bit_count():
            raise FormatError("a frontier has one hash for each 1 bit of its size", code="frontier")
        if any(len(part) != HASH for part in self.hashes):
            raise FormatError("a frontier's hashes have 32 bytes", code="frontier")

    @property
    def root(self) -> bytes:
        """The root of the whole tree."""
        return _fold(self.hashes) if self.hashes else EMPTY_ROOT

    def pack(self) -> bytes:
        """The hashes one after the other, as the database keeps them beside the size."""
        return b"".join(self.hashes)

    @classmethod
    def unpack(cls, size: int, data: bytes) -> Frontier:
        """The inverse of `pack`; FormatError unless `data` is as long as `size` asks for."""
        if len(data) % HASH:
            raise FormatError("a frontier's hashes have 32 bytes", code="frontier")
        return cls(size, tuple([data[at : at + HASH] for at in range(0, len(data), HASH)]))


EMPTY = Frontier(0, ())


def _fold(parts: Sequence[bytes]) -> bytes:
    """The root over perfect subtrees, largest first."""
    made = parts[-1]
    for part in reversed(parts[:-1]):
        made = node_hash(part, made)
    return made


class Appended:
    """What appending made: `before` and `after` (frontiers), `root`, and every node that came to be. Proofs of the new
    leaves and from the size before need nothing else, so no old entry is read (policy-server.md §1.3)."""

    __slots__ = ("_rows", "_tops", "after", "before", "root")

    def __init__(self, before: Frontier, after: Frontier, rows: list[tuple[int, list[bytes]]]) -> None:
        self.before = before
        self.after = after
        self.root = after.root
        self._rows = rows
        self._tops: dict[int, list[bytes]] = {}

    def node(self, level: int, index: int) -> bytes:
        """The reader of the nodes that became complete and those of the old frontier. UsageError for others."""
        if 0 <= level < len(self._rows):
            base, row = self._rows[level]
            if 0 <= index - base < len(row):
                return row[index - base]
        raise UsageError("this node is not among those that the batch touched", code="node")

    def inclusion(self, index: int) -> list[bytes]:
        """The inclusion proof of a leaf of this batch in the tree after it. UsageError for older leaves."""
        size = self.after.size
        if not self.before.size <= index < size:
            raise UsageError("the leaf is not of this batch", code="index")
        # The leaf lies in the subtree of the highest bit in which its index differs from the size.
        height = (index ^ size).bit_length() - 1
        top = self._tops.get(height)
        if top is None:
            rank = (size >> (height + 1)).bit_count()
            parts = self.after.hashes
            top = [_fold(parts[rank + 1 :])] if rank + 1 < len(parts) else []
            top += parts[:rank][::-1]
            self._tops[height] = top
        found = [row[((index >> level) ^ 1) - base] for level, (base, row) in enumerate(self._rows[:height])]
        return found + top

    def consistency(self) -> list[bytes]:
        """The consistency proof from the tree before to the tree after."""
        return consistency(self.node, self.before.size, self.after.size)


def append(before: Frontier, leaves: Sequence[bytes]) -> Appended:
    """Append leaf hashes (32 bytes each) to a tree of which only the frontier is known."""
    old, size = before.size, before.size + len(leaves)
    if any(len(leaf) != HASH for leaf in leaves):
        raise FormatError("a leaf hash has 32 bytes", code="leaf")
    if size > MAX_SIZE:
        raise UsageError("the log is full", code="size")
    kept = list(before.hashes)  # popped from its small end, level by level
    row = list(leaves)
    rows: list[tuple[int, list[bytes]]] = []
    hashes: list[bytes] = []
    for level in range(size.bit_length()):
        base = old >> level
        if base & 1:
            row.insert(0, kept.pop())
            base -= 1
        rows.append((base, row))
        if size >> level & 1:
            hashes.append(row[-1])
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
    return Appended(before, Frontier(size, tuple(reversed(hashes))), rows)


def _split(size: int) -> int:
    """The largest power of two below `size` (>= 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(read: Reader, start: int, end: int) -> bytes:
    """The root over leaves start..end-1, where `start` is a multiple of the power of two at or above their number."""
    parts = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append(read(level, start >> level))
        start += 1 << level
    return _fold(parts)


def inclusion(read: Reader, index: int, size: int) -> list[bytes]:
    """The inclusion proof of leaf `index` in the tree of `size` leaves, the leaf's sibling first (RFC 6962 §2.1.1)."""
    if not 0 <= index < size <= MAX_SIZE:
        raise UsageError("there is no such leaf in a tree of this size", code="index")
    found = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            found.append(_range_root(read, middle, end))
            end = middle
        else:
            found.append(_range_root(read, start, middle))
            start = middle
    return found[::-1]


def consistency(read: Reader, old: int, new: int) -> list[bytes]:
    """The proof that the tree of `old` leaves is a prefix of that of `new` (RFC 6962 §2.1.2). Empty for equal sizes and
    for `old` = 0, which the RFC leaves undefined."""
    if not 0 <= old <= new <= MAX_SIZE:
        raise UsageError("a tree does not shrink", code="size")
    if old in (0, new):
        return []
    found = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            found.append(_range_root(read, middle, end))
            end = middle
        else:
            found.append(_range_root(read, start, middle))
            start = middle
    if start:  # the old root is not itself a node of the new tree
        found.append(_range_root(read, start, end))
    return found[::-1]


def _no(reason: str) -> IntegrityError:
    return IntegrityError(reason, code="proof")


def _check_hashes(proof: Sequence[bytes], *roots: bytes) -> None:
    if any(len(part) != HASH for part in (*proof, *roots)):
        raise _no("a hash of the proof has not 32 bytes")


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Require that the leaf hash stands at `index` of the tree with `size` leaves and this root (RFC 9162 §2.1.3.2).
    IntegrityError (`proof`) otherwise, also for a proof that is a hash too long or too short."""
    if not 0 <= index < size <= MAX_SIZE:
        raise _no("the index lies outside the tree")
    _check_hashes(proof, leaf, root)
    at, last, made = index, size - 1, leaf
    for part in proof:
        if last == 0:
            raise _no("the inclusion proof is too long")
        if at & 1 or at == last:
            made = node_hash(part, made)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            made = node_hash(made, part)
        at >>= 1
        last >>= 1
    if last:
        raise _no("the inclusion proof is too short")
    if not _fast.constant_time_equal(made, root):
        raise _no("the inclusion proof does not lead to the root")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Require that the tree (old, old_root) is a prefix of (new, new_root) (RFC 9162 §2.1.4.2). From size 0, whose root
    must be EMPTY_ROOT, and between equal sizes, whose roots must be equal, only the empty proof holds. IntegrityError
    (`proof`) otherwise; a smaller new tree is never consistent."""
    if not 0 <= old <= new <= MAX_SIZE:
        raise _no("the newer tree is smaller than the older one")
    _check_hashes(proof, old_root, new_root)
    if (old == 0 and old_root != EMPTY_ROOT) or (new == 0 and new_root != EMPTY_ROOT):
        raise _no("an empty tree has another root")
    if old in (0, new):
        if proof:
            raise _no("the consistency proof is too long")
        if old == new and old_root != new_root:
            raise _no("two trees of one size have different roots")
        return
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not proof:
        raise _no("the consistency proof is too short")
    at, last = old - 1, new - 1
    while at & 1:
        at >>= 1
        last >>= 1
    made_old = made_new = path[0]
    for part in path[1:]:
        if last == 0:
            raise _no("the consistency proof is too long")
        if at & 1 or at == last:
            made_old = node_hash(part, made_old)
            made_new = node_hash(part, made_new)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            made_new = node_hash(made_new, part)
        at >>= 1
        last >>= 1
    if last:
        raise _no("the consistency proof is too short")
    if not (_fast.constant_time_equal(made_old, old_root) and _fast.constant_time_equal(made_new, new_root)):
        raise _no("the consistency proof does not lead from root to root")
