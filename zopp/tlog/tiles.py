"""c2sp.org/tlog-tiles: the tree cut into tiles of 256 hashes, and entries into bundles of 256.

Tile (level, n) holds the nodes (8 * level, 256 * n + i) for i from 0 to 255. Full tiles never change and are what the
database keeps; a partial one (1 to 255 hashes) belongs to one tree size and is computed. Fetching is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zopp.errors import FormatError, UsageError
from zopp.tlog.merkle import HASH, MAX_SIZE, Appended, Reader, node_hash

WIDTH = 256
MAX_ENTRY = 65535
"""Bytes: a bundle gives the length of an entry in two of them."""


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """Where a tile lies: `level` 0 to 63, `n` from 0 on, `width` in hashes, 1 to 256."""

    level: int
    n: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        if not (0 <= self.level <= 63 and 0 <= self.n <= MAX_SIZE and 1 <= self.width <= WIDTH):
            raise FormatError("there is no such tile", code="tile")

    def path(self, *, entries: bool = False) -> str:
        """`tile/0/x001/x234/067`, `.p/W` behind it if partial. `entries`: of the bundle that level 0 hashes."""
        text = str(self.n)
        text = text.zfill(-(-len(text) // 3) * 3)
        parts = [text[at : at + 3] for at in range(0, len(text), 3)]
        where = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
        return f"tile/{'entries' if entries else self.level}/{where}" + (
            "" if self.width == WIDTH else f".p/{self.width}"
        )


def parse_path(path: str) -> tuple[Tile, bool]:
    """(tile, whether it is an entry bundle) of exactly what `Tile.path` gives; FormatError otherwise."""
    words = path.split("/")
    width = WIDTH
    if len(words) > 2 and words[-2].endswith(".p"):
        width = _number(words.pop())
        words[-1] = words[-1].removesuffix(".p")
    if len(words) < 3 or len(words) > 9:
        raise FormatError("not the path of a tile", code="tile")
    entries = words[1] == "entries"
    made = Tile(0 if entries else _number(words[1]), _number("".join(words[2:]).replace("x", "")), width)
    if made.path(entries=entries) != path:
        raise FormatError("not the path of a tile", code="tile")
    return made, entries


def _number(text: str) -> int:
    if not (0 < len(text) <= 24 and text.isascii() and text.isdigit()):
        raise FormatError("not the path of a tile", code="tile")
    return int(text)


def of_node(level: int, index: int, size: int) -> tuple[Tile, int]:
    """(the tile that node (level, index) is in or computed from, the offset of its first hash) in the tree of `size`
    leaves. UsageError for a node that is not complete there."""
    if level < 0 or index < 0 or (index + 1) << level > size:
        raise UsageError("the node is not complete in this tree", code="node")
    high, low = divmod(level, 8)
    n, offset = divmod(index << low, WIDTH)
    return Tile(high, n, min(WIDTH, (size >> 8 * high) - n * WIDTH)), offset


def needed(prove: Callable[[Reader], object], size: int) -> list[Tile]:
    """The tiles of the tree of `size` leaves that `prove` (a call of `merkle.inclusion` or `consistency` with the
    reader it is given) will read, to be fetched before it is called again with `reader`. Sorted."""
    found: set[Tile] = set()

    def record(level: int, index: int) -> bytes:
        found.add(of_node(level, index, size)[0])
        return bytes(HASH)

    prove(record)
    return sorted(found)


def reader(tiles: Mapping[Tile, bytes], size: int) -> Reader:
    """A reader of the tree of `size` leaves over fetched tiles. A full tile stands in for the partial one; FormatError
    for one of a wrong length, UsageError for one that is not there. What tiles say is not authentic by itself: the
    proof that comes out is checked against a checkpoint."""

    def read(level: int, index: int) -> bytes:
        tile, offset = of_node(level, index, size)
        data = tiles.get(tile)
        if data is None:
            tile = Tile(tile.level, tile.n)
            data = tiles.get(tile)
        if data is None:
            raise UsageError("a tile that the proof needs was not fetched", code="tile")
        if len(data) != tile.width * HASH:
            raise FormatError("a tile is not as long as its width", code="tile")
        row = [data[at * HASH : (at + 1) * HASH] for at in range(offset, offset + (1 << level % 8))]
        while len(row) > 1:
            row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
        return row[0]

    return read


def full_tiles(appended: Appended, read: Reader) -> list[tuple[Tile, bytes]]:
    """The tiles that became full with this batch, and their 8,192 bytes. `read` is asked only for hashes at tile levels
    that the batch itself has not: those of the tiles that were partial before it."""
    old, new = appended.before.size, appended.after.size
    made = []
    level = 0
    while new >> 8 * level >= WIDTH:
        height = 8 * level
        first = old >> height  # the first node at this height that the batch completed
        for n in range(first // WIDTH, (new >> height) // WIDTH):
            parts = [
                (appended.node if index >= first else read)(height, index)
                for index in range(n * WIDTH, (n + 1) * WIDTH)
            ]
            made.append((Tile(level, n), b"".join(parts)))
        level += 1
    return made


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """An entry bundle: 1 to 256 entries, each behind its length in two bytes, big end first."""
    if not 1 <= len(entries) <= WIDTH or any(len(entry) > MAX_ENTRY for entry in entries):
        raise FormatError("a bundle has 1 to 256 entries of at most 65,535 bytes", code="bundle")
    return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])


def unpack_entries(data: bytes) -> list[bytes]:
    """The inverse of `pack_entries`; FormatError for anything cut, empty or too long."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data) or len(entries) == WIDTH:
            raise FormatError("not an entry bundle", code="bundle")
        entries.append(data[at + 2 : end])
        at = end
    if not entries:
        raise FormatError("not an entry bundle", code="bundle")
    return entries
