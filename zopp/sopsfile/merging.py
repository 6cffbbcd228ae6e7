"""Three versions of a sops file into one (review-and-ci.md §2, rules 2 to 8): values by key, ciphertext kept.

The result has our layout. A leaf whose side has the data key of the result keeps its text byte for byte; all else is
encrypted anew, and so is the MAC. A conflict leaves git's markers around the two lines of ciphertext, which no reader
of the format takes. The caller has checked where the three files come from, has opened their data keys, decides which
one the result gets, and has wrapped it for its readers. Plaintext is in memory only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping as Choices
from dataclasses import dataclass, field
from datetime import datetime
from difflib import SequenceMatcher
from typing import Any

from zopp.errors import FormatError
from zopp.sopsfile import cipher, threeway
from zopp.sopsfile.changes import replace_groups, replace_tree, rotate
from zopp.sopsfile.encrypting import encrypt
from zopp.sopsfile.file import SopsFile, read
from zopp.sopsfile.metadata import Entry
from zopp.sopsfile.scan import SELECTED
from zopp.sopsfile.sealing import Stash
from zopp.sopsfile.threeway import BASE, OURS, THEIRS, Choice, Place
from zopp.sopsfile.tree import Comment, Mapping, Sequence, Tree, same

WHOLE: Place = (0, ())
"""The place of a conflict that is not one key's: the file has to be taken whole from one side."""


@dataclass(frozen=True, slots=True)
class Side:
    """One version, as it was read, with its data key (32 bytes) and its plaintext once somebody opened it."""

    file: SopsFile
    key: bytes = field(repr=False)
    tree: Tree = field(repr=False)


def side(file: SopsFile, key: bytes) -> Side:
    """Open one version. IntegrityError if a value or the MAC does not hold; FormatError for what cannot be merged:
    fields that sops does not know, keys that are not age's."""
    if file.metadata.unknown:
        raise FormatError("the sops block has a field that sops does not know", code="unknown_field")
    if file.metadata.foreign:
        raise FormatError("the file names other key types, which must be dropped first", code="foreign_keys")
    return Side(file, key, file.decrypt(key))


@dataclass(frozen=True, slots=True)
class Target:
    """What the result is encrypted with: a data key, and the key groups that hold it already."""

    key: bytes = field(repr=False)
    groups: tuple[tuple[Entry, ...], ...]
    threshold: int | None


@dataclass(frozen=True, slots=True)
class Conflict:
    """`place` is WHOLE where `why` says what of the file itself both sides changed ('' for a key)."""

    place: Place
    why: str = ""


@dataclass(frozen=True, slots=True)
class Merged:
    """`data` is the merged file, or with `conflicts` the clean part merged and markers around the rest, which nothing
    parses. `tree`: what it holds, our side standing in at conflicts. `both` as in `threeway.Merged`."""

    data: bytes = field(repr=False)
    tree: Tree = field(repr=False)
    conflicts: tuple[Conflict, ...]
    both: tuple[Place, ...] = ()


def merge(
    base: Side | None,
    ours: Side,
    theirs: Side,
    target: Target,
    *,
    now: str,
    chosen: Choices[Place, Choice] | None = None,
    marker: int = 7,
    iv: Callable[[int], bytes] = os.urandom,
) -> Merged:
    """Merge. `now` (RFC 3339) becomes `lastmodified` unless a side's is later; `marker` is the length of the markers.

    What is returned has been read back, opened and compared. FormatError `clear_value` if a value that was encrypted
    would lie in the clear, `unsupported_write` for a store that is only read so far."""
    chosen = chosen or {}
    stamp = _latest(now, ours.file.metadata.lastmodified, theirs.file.metadata.lastmodified)
    why, layout = _structure(base, ours, theirs)
    if why:
        choice = chosen.get(WHOLE)
        if choice == BASE or isinstance(choice, threeway.Given):
            raise FormatError("a whole file is taken from ours or from theirs", code="merge.whole")
        if choice is None:
            data = marked_whole(ours.file.data, theirs.file.data, marker)
            return Merged(_unreadable(data, ours.file.fmt), ours.tree, (Conflict(WHOLE, why),))
        taken = ours if choice == OURS else theirs
        writer = _Writer(taken, theirs if taken is ours else ours, target, stamp, iv)
        return Merged(writer.write(taken.tree), taken.tree, ())
    other = theirs if layout is ours else ours
    before = None if base is None else base.tree
    found = threeway.merge(before, ours.tree, theirs.tree, chosen)
    writer = _Writer(layout, other, target, stamp, iv)
    data = writer.write(found.tree)
    if not found.conflicts:
        return Merged(data, found.tree, (), found.both)
    theirs_there = threeway.merge(before, ours.tree, theirs.tree, chosen, standin=THEIRS)
    # From our variant, so that the two differ in nothing but the conflicts.
    second = _Writer(Side(read(data, ours.file.fmt), target.key, found.tree), theirs, target, stamp, iv)
    marked = _marked(data.decode(), second.write(theirs_there.tree).decode(), read(data, ours.file.fmt), marker)
    return Merged(
        _unreadable(marked.encode(), ours.file.fmt), found.tree, tuple(map(Conflict, found.conflicts)), found.both
    )


def _structure(base: Side | None, ours: Side, theirs: Side) -> tuple[str, Side]:
    """What of the file itself both sides changed ('' = nothing), and whose layout the result has (rules 3 and 6)."""
    counts = {len(side.tree.documents) for side in (base, ours, theirs) if side is not None}
    if len(counts) > 1:
        return "the number of documents", ours
    was = base.file.metadata.selector if base is not None else None
    here, there = ours.file.metadata.selector, theirs.file.metadata.selector
    if here == there or there == was:
        return "", ours
    if here == was:
        return "", theirs
    return "the selector, which says what is encrypted", ours


def _latest(now: str, *others: str) -> str:
    return max((now, *others), key=_moment)


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(cipher.rfc3339(text)).timestamp()
    except (ValueError, OverflowError):
        raise FormatError("lastmodified is not an RFC 3339 time", code="bad_lastmodified") from None


class _Writer:
    """Writes a tree into the layout of one version, with what ciphertext of both can be kept."""

    def __init__(self, layout: Side, other: Side, target: Target, stamp: str, iv: Callable[[int], bytes]) -> None:
        self.layout = layout
        self.other = other
        self.target = target
        self.stamp = stamp
        self.iv = iv

    def write(self, tree: Tree) -> bytes:
        """The file with the content of `tree`, checked."""
        problem: FormatError | None = None
        for layout, other in ((self.layout, self.other), (self.other, self.layout)):
            # The other layout does as well, but not where it would encrypt other values.
            if layout.file.metadata.selector != self.layout.file.metadata.selector:
                continue
            try:
                return self.checked(self.into(layout, other, tree), tree)
            except FormatError as exc:
                if exc.code != "unsupported_layout":
                    raise
                problem = problem or exc
        assert problem is not None
        if len(tree.documents) > 1:
            raise problem
        meta = self.layout.file.metadata
        data = encrypt(
            tree, self.layout.file.fmt, self.target.key, self.target.groups, threshold=self.target.threshold,
            selector=meta.selector, lastmodified=self.stamp, version=meta.version, allow_clear=True, iv=self.iv,
        )  # fmt: skip
        return self.checked(data, tree)

    def into(self, layout: Side, other: Side, tree: Tree) -> bytes:
        target, file = self.target, layout.file
        reuse = _ciphertexts(other) if other.key == target.key else {}
        if layout.key != target.key:
            data = rotate(
                file, layout.key, target.key, target.groups, threshold=target.threshold, lastmodified=self.stamp,
                iv=self.iv, reuse=reuse,
            )  # fmt: skip
            file = read(data, file.fmt)
        elif (file.metadata.groups, file.metadata.threshold) != (target.groups, target.threshold):
            file = read(replace_groups(file, target.groups, threshold=target.threshold), file.fmt)
        return replace_tree(file, target.key, tree, lastmodified=self.stamp, allow_clear=True, iv=self.iv, reuse=reuse)

    def checked(self, data: bytes, tree: Tree) -> bytes:
        """`data` itself, once it was read and opened again: the values and comments that were meant, the recipients
        that were wanted, and nothing in the clear that was not so on a side."""
        file = read(data, self.layout.file.fmt)
        made = file.decrypt(self.target.key)
        meta = file.metadata
        if (meta.groups, meta.threshold) != (self.target.groups, self.target.threshold) or not _alike(
            made, tree, file.fmt
        ):
            raise FormatError("the layout of the file cannot be changed in place", code="unsupported_layout")
        clear = {place for side in (self.layout, self.other) for place in _clear(side.file)}
        if not clear.issuperset(_clear(file)):
            raise FormatError("the selector of the file would leave a value in the clear", code="clear_value")
        return data


def _ciphertexts(side: Side) -> Stash:
    """The texts of a version by what they are the encryption of."""
    found: Stash = {}
    values = _leaf_values(side)
    for leaf, value in zip(side.file.scan.leaves, values, strict=True):
        if leaf[0] & SELECTED and isinstance(leaf[3], str) and leaf[3] and cipher.looks_encrypted(leaf[3]):
            if isinstance(value, Comment) and value.text == leaf[3]:
                continue  # it never opened
            found.setdefault((leaf[2], *cipher.canonical(value)), []).insert(0, leaf[3])
    return found


def _leaf_values(side: Side) -> list[Any]:
    from zopp import _fast
    from zopp.sopsfile import scan

    return scan.open_leaves(side.file.scan, _fast.aesgcm(side.key), [])[0]


def _clear(file: SopsFile) -> set[tuple[int, str]]:
    """(document, additional data) of every value that stands in the clear: list items share theirs."""
    return {
        (leaf[7], leaf[2])
        for leaf in file.scan.leaves
        if not leaf[0] and leaf[3] is not None and not isinstance(leaf[3], (Mapping, Sequence))
    }


def _alike(made: Tree, meant: Tree, fmt: str) -> bool:
    """Whether a file that was read back holds what was meant. Comments may have moved, none may be gone; JSON cannot
    hold them."""
    if len(made.documents) != len(meant.documents):
        return False
    for a, b in zip(made.documents, meant.documents, strict=True):
        values: list[list[Any]] = [[], []]
        comments: list[list[str]] = [[], []]
        for number, document in enumerate((a, b)):
            _flatten(document, (), values[number], comments[number])
        if not same(values[0], values[1]) or (fmt == "yaml" and sorted(comments[0]) != sorted(comments[1])):
            return False
    return True


def _flatten(node: Any, path: tuple[str | int, ...], values: list[Any], comments: list[str]) -> None:
    if isinstance(node, Mapping):
        for key, item in node.items:
            if isinstance(key, Comment):
                comments.append(key.text)
            else:
                _flatten(item, (*path, key), values, comments)
    elif isinstance(node, Sequence):
        index = 0
        for item in node.items:
            if isinstance(item, Comment):
                comments.append(item.text)
            else:
                _flatten(item, (*path, index), values, comments)
                index += 1
    else:
        values.append((path, node))


# --- markers


def _marks(marker: int, newline: str) -> tuple[str, str, str]:
    return f"{'<' * marker} ours{newline}", f"{'=' * marker}{newline}", f"{'>' * marker} theirs{newline}"


def marked_whole(ours: bytes, theirs: bytes, marker: int = 7) -> bytes:
    """Both versions as they are, between markers: where nothing can be merged and neither may be lost."""
    newline = "\r\n" if b"\r\n" in ours[:200] else "\n"
    start, middle, end = (text.encode() for text in _marks(marker, newline))
    parts = [data if data.endswith(b"\n") else data + newline.encode() for data in (ours, theirs)]
    return start + parts[0] + middle + parts[1] + end


def _ended(text: str, newline: str) -> str:
    return text if text.endswith("\n") else text + newline


def _marked(ours: str, theirs: str, file: SopsFile, marker: int) -> str:
    """`ours` with markers wherever `theirs` differs, `sops` blocks left alone: their MACs differ by themselves."""
    start, middle, end = _marks(marker, file.scan.newline)
    lines = [text.splitlines(keepends=True) for text in (ours, theirs)]
    at = 0
    spans = [(block.start, block.end) for block in file.scan.blocks]
    blocks = [False] * len(lines[0])
    for number, line in enumerate(lines[0]):
        # On one line with values, as in compact JSON, the whole line is in conflict.
        blocks[number] = any(low <= at and at + len(line.rstrip()) <= high for low, high in spans)
        at += len(line)
    out: list[str] = []
    for tag, a0, a1, b0, b1 in SequenceMatcher(None, lines[0], lines[1], autojunk=False).get_opcodes():
        here, there = lines[0][a0:a1], lines[1][b0:b1]
        if tag == "equal" or (a1 > a0 and all(blocks[a0:a1])):
            out += here
            continue
        for mine, other in _pairs(here, there):
            out += [start, *(_ended(line, file.scan.newline) for line in mine), middle]
            out += [*(_ended(line, file.scan.newline) for line in other), end]
    return "".join(out)


def _pairs(here: list[str], there: list[str]) -> list[tuple[list[str], list[str]]]:
    """One hunk a key where lines of the same keys stand side by side, else one for all."""
    heads = [[line.partition("ENC[")[0] for line in lines] for lines in (here, there)]
    if heads[0] == heads[1] and all("ENC[" in line for line in here):
        return [([mine], [other]) for mine, other in zip(here, there, strict=True)]
    return [(here, there)]


def _unreadable(data: bytes, fmt: str) -> bytes:
    """A marked file itself; a bug, and no file, if any reader of the format would take it."""
    try:
        read(data, fmt, strict=False)
    except FormatError:
        return data
    raise FormatError("the conflict cannot be marked in this file", code="merge.marks")
