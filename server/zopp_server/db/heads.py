"""Whether each log's head is the tree of the rows below it: part of the self-check, at a server's start.

Reads the right edge of each tree only: the entries behind the last full tile, and of each level the tiles that are in
no full tile above. A change further left leaves this root as it is; `audit verify` reads everything and finds it.
"""

from __future__ import annotations

import asyncpg

from zopp.tlog import merkle
from zopp.tlog.tiles import WIDTH

_LEVELS = 7  # sizes are below 2^53
_BITS = 8


async def findings(connection: asyncpg.Connection) -> list[str]:
    """What does not fit, a line each, of every log; nothing if all heads are those of their rows."""
    found = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for head in await connection.fetch("SELECT log_id, size, root, frontier FROM audit.log ORDER BY log_id"):
            if problem := await _problem(connection, head["log_id"], head["size"], head["root"], head["frontier"]):
                found.append(f"log {head['log_id']}: {problem}")
        stray = "SELECT DISTINCT log_id FROM audit.{} WHERE log_id NOT IN (SELECT log_id FROM audit.log)"
        for table in ("entry", "tile"):
            found += [f"log {row[0]}: has rows and no head" for row in await connection.fetch(stray.format(table))]
    return found


async def _problem(connection: asyncpg.Connection, log: str, size: int, root: bytes, frontier: bytes) -> str | None:
    hashes: list[bytes] = []
    for level in reversed(range(_LEVELS)):
        end = size >> _BITS * level
        begin = end - end % WIDTH
        nodes = await _leaves(connection, log, begin) if level == 0 else await _roots(connection, log, level - 1, begin)
        if len(nodes) != end - begin or None in nodes:
            what = "entries" if level == 0 else f"tiles of level {level - 1}"
            return f"the {what} from {begin} to {end - 1} are not those of size {size}"
        hashes += merkle.append(merkle.EMPTY, [node for node in nodes if node is not None]).after.hashes
    made = merkle.Frontier(size, tuple(hashes))
    if made.root != root:
        return f"the root of size {size} is not that of its rows"
    return None if b"".join(hashes) == frontier else f"the frontier of size {size} is not that of its rows"


async def _leaves(connection: asyncpg.Connection, log: str, begin: int) -> list[bytes | None]:
    """Leaf hashes from `begin` on, made from the bodies; None for a row whose place or leaf is another."""
    rows = await connection.fetch(
        "SELECT seq, leaf, body FROM audit.entry WHERE log_id = $1 AND seq >= $2 ORDER BY seq LIMIT $3",
        *(log, begin, WIDTH + 1),
    )
    return [
        row["leaf"] if row["seq"] == at and merkle.leaf_hash(row["body"]) == row["leaf"] else None
        for at, row in enumerate(rows, begin)
    ]


async def _roots(connection: asyncpg.Connection, log: str, level: int, begin: int) -> list[bytes | None]:
    """Roots of the full tiles of `level` from `begin` on; None for one that is not in its place."""
    rows = await connection.fetch(
        "SELECT n, data FROM audit.tile WHERE log_id = $1 AND level = $2 AND n >= $3 ORDER BY n LIMIT $4",
        *(log, level, begin, WIDTH + 1),
    )
    size = merkle.HASH
    return [
        merkle.root_of([row["data"][i : i + size] for i in range(0, len(row["data"]), size)])
        if row["n"] == at
        else None
        for at, row in enumerate(rows, begin)
    ]
