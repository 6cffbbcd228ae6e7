"""One log's tree at run time: the newest nodes in memory, older ones from the database's tiles.

Proofs of new leaves come from the batch itself (`merkle.Appended`). What this is for: the consistency proof from the
size that a client keeps, inclusion proofs of older entries, and the tiles that a batch fills. Nodes near the right edge
are kept (KEEP of each level); what lies further left is read from full tiles, which never change, through a small
cache. Nothing here is trusted: what comes out is checked against a signed checkpoint, by the client and, for the root,
at every append.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

import asyncpg

from zopp.errors import IntegrityError, NotFound
from zopp.tlog import merkle
from zopp.tlog.merkle import HASH, Appended, Frontier, Reader
from zopp.tlog.tiles import WIDTH, Tile, full_tiles, needed, reader

KEEP = 1024
"""Nodes of a level that are kept in memory, at least half of them always: more than any partial tile has."""

TILES = 512
"""Full tiles in memory, 8 KiB each, over all logs of a process."""

_T = TypeVar("_T")


class TileCache:
    """Full tiles of all logs, the least used go first. `hits` and `misses`: lookups since the start."""

    __slots__ = ("_tiles", "hits", "misses")

    def __init__(self) -> None:
        self.hits = self.misses = 0
        self._tiles: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()

    async def get(self, connection: asyncpg.Connection, log: str, level: int, n: int) -> bytes:
        """The 8,192 bytes of a full tile. IntegrityError if the database has not got it."""
        key = (log, level, n)
        found = self._tiles.get(key)
        if found is None:
            self.misses += 1
            found = await connection.fetchval(
                "SELECT data FROM audit.tile WHERE log_id = $1 AND level = $2 AND n = $3", log, level, n
            )
            if found is None or len(found) != WIDTH * HASH:
                raise IntegrityError("a tile of the log is not in the database", code="log.tile")
            self._tiles[key] = found
            if len(self._tiles) > TILES:
                self._tiles.popitem(last=False)
        else:
            self.hits += 1
            self._tiles.move_to_end(key)
        return found


class Tree:
    """The tree of one log at `frontier.size`."""

    __slots__ = ("_cache", "_nodes", "frontier", "log")

    def __init__(self, log: str, frontier: Frontier, cache: TileCache) -> None:
        self.log = log
        self.frontier = frontier
        self._cache = cache
        self._nodes: list[tuple[int, list[bytes]]] = []

    @property
    def size(self) -> int:
        """Leaves."""
        return self.frontier.size

    @classmethod
    async def load(cls, connection: asyncpg.Connection, log: str, size: int, cache: TileCache) -> Tree:
        """The tree of the first `size` leaves from the database's rows: the entries behind the last full tile and, of
        each level, the tiles in no full tile above. IntegrityError if rows are missing."""
        made = cls(log, merkle.EMPTY, cache)
        hashes: list[bytes] = []
        level = 0
        parts = []
        while size >> 8 * level or level == 0:
            end = size >> 8 * level
            begin = end - end % WIDTH
            if level == 0:
                rows = await connection.fetch(
                    "SELECT leaf FROM audit.entry WHERE log_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq",
                    *(log, begin, end),
                )
                row = [each["leaf"] for each in rows]
            else:
                found = await connection.fetch(
                    "SELECT data FROM audit.tile WHERE log_id = $1 AND level = $2 AND n >= $3 AND n < $4 ORDER BY n",
                    *(log, level - 1, begin, end),
                )
                row = [
                    merkle.root_of([each["data"][at : at + HASH] for at in range(0, WIDTH * HASH, HASH)])
                    for each in found
                ]
            if len(row) != end - begin:
                raise IntegrityError("entries or tiles of the log are not in the database", code="log.rows")
            parts.append((begin, row))
            level += 1
        for height, (begin, row) in enumerate(parts):
            made._put(8 * height, begin, row)
        for _, row in reversed(parts):
            hashes += merkle.append(merkle.EMPTY, row).after.hashes
        made.frontier = Frontier(size, tuple(hashes))
        return made

    def _put(self, level: int, begin: int, row: Sequence[bytes]) -> None:
        """Nodes of a tile level and those between it and the next."""
        base, nodes = begin, list(row)
        for step in range(8):
            while len(self._nodes) <= level + step:
                self._nodes.append((0, []))
            self._nodes[level + step] = (base, nodes)
            nodes = [merkle.node_hash(nodes[at], nodes[at + 1]) for at in range(0, len(nodes) - 1, 2)]
            base >>= 1

    def append(self, leaves: Sequence[bytes]) -> Appended:
        """What appending would make; this tree stays as it is until `grow`."""
        return merkle.append(self.frontier, leaves)

    def grow(self, appended: Appended) -> None:
        """The tree after `appended`, which was made from this one and is durable now."""
        old, new = appended.before.size, appended.after.size
        level = 0
        while new >> level:
            first, last = old >> level, new >> level
            while len(self._nodes) <= level:
                self._nodes.append((0, []))
            base, row = self._nodes[level]
            if base + len(row) != first:
                base, row = first, []
            row.extend(appended.node(level, index) for index in range(first, last))
            if len(row) > KEEP:
                cut = len(row) - KEEP // 2
                base, row = base + cut, row[cut:]
            self._nodes[level] = (base, row)
            level += 1
        self.frontier = appended.after

    def full_tiles(self, appended: Appended) -> list[tuple[Tile, bytes]]:
        """The tiles that `appended` fills."""
        return full_tiles(appended, self._kept)

    def _kept(self, level: int, index: int) -> bytes:
        found = self._near(level, index)
        if found is None:
            raise IntegrityError("a node of the newest tiles is not in memory", code="log.node")
        return found

    def _near(self, level: int, index: int) -> bytes | None:
        if level < len(self._nodes):
            base, row = self._nodes[level]
            if 0 <= index - base < len(row):
                return row[index - base]
        return None

    async def prove(
        self, connection: asyncpg.Connection | None, proof: Callable[[Reader], _T], size: int | None = None
    ) -> _T:
        """What `proof` (a call of `merkle.inclusion` or `consistency`) makes in the tree of `size` leaves (this one's
        by default). `connection` may be None where only near nodes are needed; then NotFound if they are not enough."""
        missing: list[tuple[int, int]] = []

        def near(level: int, index: int) -> bytes:
            found = self._near(level, index)
            if found is None:
                missing.append((level, index))
                return bytes(HASH)
            return found

        made = proof(near)
        if not missing:
            return made
        if connection is None:
            raise NotFound("the proof needs older nodes", code="log.old")
        size = self.size if size is None else size
        tiles: dict[Tile, bytes] = {}
        for tile in needed(proof, size):
            if (tile.n + 1) * WIDTH <= self.size >> 8 * tile.level:
                data = await self._cache.get(connection, self.log, tile.level, tile.n)
                tiles[tile] = data[: tile.width * HASH]
            else:
                tiles[tile] = b"".join(self._kept(8 * tile.level, tile.n * WIDTH + at) for at in range(tile.width))
        far = reader(tiles, size)

        def read(level: int, index: int) -> bytes:
            found = self._near(level, index)
            return far(level, index) if found is None else found

        return proof(read)

    async def tile(self, connection: asyncpg.Connection, tile: Tile) -> bytes:
        """The hashes of a tile of this tree, full or partial. NotFound if the tree has not got it."""
        have = self.size >> 8 * tile.level
        if tile.n * WIDTH + tile.width > have:
            raise NotFound("the log has no such tile yet", code="log.tile")
        if (tile.n + 1) * WIDTH <= have:
            data = await self._cache.get(connection, self.log, tile.level, tile.n)
            return data[: tile.width * HASH]
        return b"".join(self._kept(8 * tile.level, tile.n * WIDTH + at) for at in range(tile.width))

    async def root_at(self, connection: asyncpg.Connection, size: int) -> bytes:
        """The root of the first `size` leaves, from the rows. NotFound for more than there are."""
        if size > self.size:
            raise NotFound("the log is not so long", code="log.size")
        if size == self.size:
            return self.frontier.root
        hashes: list[bytes] = []

        def collect(read: Reader) -> list[bytes]:
            hashes.clear()
            at = 0
            for level in reversed(range(size.bit_length())):
                if size >> level & 1:
                    hashes.append(read(level, at >> level))
                    at += 1 << level
            return hashes

        await self.prove(connection, collect, size)
        return Frontier(size, tuple(hashes)).root
