"""What whoever runs a server does to it: migrate, check, back up, restore, rotate the key encryption key.

A backup is JSONL: the exact bodies of all entries, from which everything else follows (the tree is deterministic,
policy lines stand in their entries), and what is not in the log: wrapped keys, manifest heads, kept notes. It holds no
secret without the key encryption key, and it is no proof of anything by itself.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import asyncpg

from zopp.errors import FormatError, IntegrityError, Unknown, UsageError
from zopp.policy import canonical, log as policy_log, statement
from zopp.tlog import checkpoint, entry, merkle
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.note import Verifier, parse as parse_note
from zopp_server import custody, projection, startup
from zopp_server.batcher import MAX_CALL, SYSTEM, Batcher, Context, Decided, Job
from zopp_server.config import Settings
from zopp_server.db import check as db_check, migrate as migrations
from zopp_server.entries import OUTCOMES, draft
from zopp_server.highwater import HighWater, Mark
from zopp_server.tree import Tree
from zopp_server.workspaces import Workspace, Workspaces

_FETCH = 2000


async def migrate(admin: str | None, owner: str, passwords: Mapping[str, str]) -> list[str]:
    """Bring a database to this version's schema; the names of the files applied. `admin`: a superuser's URL, with which
    roles and passwords are made first; `owner` that of zopp_migrate."""
    if admin is not None:
        connection = await startup.connect(admin)
        try:
            await migrations.prepare(connection, passwords)
        finally:
            await connection.close(timeout=20)
    connection = await startup.connect(owner)
    try:
        return await migrations.migrate(connection)
    finally:
        await connection.close(timeout=20)


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    connection = await startup.connect(settings.database)
    try:
        yield connection
    finally:
        await connection.close(timeout=20)


async def check(settings: Settings) -> list[str]:
    """The self-check's findings, without serving. The high-water file is looked at if no server holds it."""
    keys = startup.load_keys(settings)
    async with _connected(settings) as connection:
        found = await db_check.findings(connection)
        if found:
            return found
        marks = None
        try:
            marks = await startup.open_highwater(connection, settings.data)
        except Unknown as exc:
            if exc.code != "highwater.busy":
                found.append(exc.message)
        try:
            return found + await startup.findings(connection, Workspaces(settings.origin, keys.kek), keys, marks)
        finally:
            if marks is not None:
                marks.close()


# --- backup


async def backup(settings: Settings, out: IO[bytes]) -> int:
    """Write a consistent backup of everything to `out`; gives the number of entries. Serving goes on meanwhile."""
    lines = entries = 0

    def put(kind: str, **values: Any) -> None:
        nonlocal lines
        out.write(canonical.encode({"kind": kind, **values}) + b"\n")
        lines += 1

    async with _connected(settings) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        put("header", origin=settings.origin, v=1)
        for row in await connection.fetch("SELECT ws, seq, note FROM policy.statement WHERE note IS NOT NULL"):
            put("note", note=row["note"], seq=row["seq"], ws=row["ws"])
        for row in await connection.fetch("SELECT log_id, origin, size, checkpoint FROM audit.log ORDER BY log_id"):
            put("log", checkpoint=row["checkpoint"], log=row["log_id"], origin=row["origin"], size=row["size"])
            for begin in range(0, row["size"], _FETCH):
                bodies = await connection.fetch(
                    "SELECT body FROM audit.entry WHERE log_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq",
                    *(row["log_id"], begin, begin + _FETCH),
                )
                for each in bodies:
                    put("entry", body=each["body"].decode())
                    entries += 1
        for row in await connection.fetch("SELECT ws, kek_id, wrapped, canary FROM keys.dek"):
            put("dek", canary=row["canary"].hex(), kek=row["kek_id"], wrapped=row["wrapped"].hex(), ws=row["ws"])
        for row in await connection.fetch("SELECT * FROM keys.server_key"):
            put(
                "server_key",
                env=row["env"], generation=row["generation"], project=row["project"], recipient=row["recipient"],
                wrapped=None if row["wrapped"] is None else row["wrapped"].hex(), ws=row["ws"],
            )  # fmt: skip
        for row in await connection.fetch("SELECT * FROM rt.manifest_head"):
            put(
                "manifest", env=row["env"], generation=row["generation"], hash=row["hash"].hex(),
                project=row["project"], seq=row["entry_seq"], ws=row["ws"],
            )  # fmt: skip
        put("end", lines=lines)
    out.flush()
    return entries


# --- restore


class _Backup:
    """A backup being read. FormatError for a line that is none, and for a file that was cut."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        count, ended = 0, False
        with open(self._path, "rb") as file:
            for line in file:
                value = canonical.decode(line.removesuffix(b"\n"))
                kind = value.pop("kind", None) if type(value) is dict else None
                if type(kind) is not str or ended:
                    raise FormatError("not a backup", code="backup", place=f"{self._path}:{count + 1}")
                if kind == "end":
                    ended = value.get("lines") == count
                    if not ended:
                        break
                    continue
                count += 1
                yield kind, value
        if not ended:
            raise FormatError("the backup was cut", code="backup", place=str(self._path))


async def restore(settings: Settings, note: bytes, source: Path | None) -> dict[str, int]:
    """Bring a database that lost entries (or an empty one) up to a backup, or only take it as it is; then make the
    high-water file anew where it is missing. `note`: a checkpoint of one of its logs that somebody kept, signed by the
    log key; the database must extend it. An existing high-water file must be satisfied. Gives each log's size.

    IntegrityError if anything contradicts: then nothing was changed but what was appended."""
    keys = startup.load_keys(settings)
    workspaces = Workspaces(settings.origin, keys.kek)
    async with _connected(settings) as connection:
        found = await db_check.findings(connection)
        if found:
            raise startup.refused(found)
        if source is not None:
            await _replay(connection, settings, keys, workspaces, _Backup(source))
        sizes = await _extends(connection, workspaces, keys, note)
        path = startup.highwater_path(settings.data)
        new = not path.exists()
        marks = HighWater(path, new=new)
        try:
            found = await startup.findings(connection, workspaces, keys, marks)
            if found:
                raise startup.refused(found)
            marks.advance(await _marks(connection, workspaces))
        except BaseException:
            if new:
                path.unlink()  # an empty one would hold the database to nothing
            raise
        finally:
            marks.close()
    return sizes


async def _replay(
    connection: asyncpg.Connection, settings: Settings, keys: startup.Keys, workspaces: Workspaces, source: _Backup
) -> None:
    """Append what the database lacks of each log, after its own part was found to be the backup's."""
    notes: dict[tuple[str, int], str] = {}
    writer: _Writer | None = None
    async with connection.transaction():
        for kind, value in source.lines():
            if kind == "entry":
                if writer is None:
                    raise FormatError("not a backup", code="backup")
                await writer.feed(value["body"].encode())
                continue
            if writer is not None:
                await writer.end(notes)
                writer = None
            if kind == "log":
                writer = await _Writer.open(connection, keys, workspaces, value)
            elif kind == "header":
                if value["origin"] != settings.origin:
                    raise UsageError("the backup is of another server", code="backup")
            elif kind == "note":
                notes[value["ws"], value["seq"]] = value["note"]
            else:
                await _rows(connection, kind, value)
        if writer is not None:
            await writer.end(notes)
    for row in await connection.fetch("SELECT id FROM policy.workspace"):
        workspace = await workspaces.get(connection, row["id"])
        assert workspace is not None
        async with connection.transaction():
            await projection.update(connection, None, workspace.state)


class _Writer:
    """One log of a backup on its way into the database: what is there is compared, what is not is appended."""

    def __init__(self, connection: asyncpg.Connection, keys: startup.Keys, log: str, origin: str, size: int) -> None:
        self._connection = connection
        self._keys = keys
        self._log, self._origin, self._size = log, origin, size
        self._have, self._root = 0, merkle.EMPTY_ROOT
        self._seen = merkle.EMPTY
        self._tree: Tree | None = None
        self._leaves: list[bytes] = []
        self._part: list[entry.Entry] = []
        self._lines: list[tuple[bytes, int]] = []
        self._count = 0

    @classmethod
    async def open(
        cls, connection: asyncpg.Connection, keys: startup.Keys, workspaces: Workspaces, value: dict[str, Any]
    ) -> _Writer:
        """Begin with a log's line. FormatError if it contradicts its checkpoint, UsageError if the database
        has more."""
        made = cls(connection, keys, value["log"], value["origin"], value["size"])
        note = checkpoint.parse_text(parse_note(value["checkpoint"].encode()).text)
        if (note.origin, note.size) != (made._origin, made._size):
            raise FormatError("a log of the backup contradicts its checkpoint", code="backup")
        head = await connection.fetchrow("SELECT size, root FROM audit.log WHERE log_id = $1", made._log)
        if head is not None:
            made._have, made._root = head["size"], head["root"]
        if made._have > made._size:
            raise UsageError("the database is ahead of the backup", code="backup.old")
        made._tree = await Tree.load(connection, made._log, made._have, workspaces.cache)
        return made

    async def feed(self, body: bytes) -> None:
        """The next entry."""
        parsed = entry.parse(body)
        if parsed.action == "statement" and parsed.outcome == "allow":
            self._lines.append((parsed.line or b"", self._count))
        self._count += 1
        if self._count <= self._have:
            self._leaves.append(parsed.leaf)
            if len(self._leaves) >= MAX_CALL or self._count == self._have:
                self._seen, self._leaves = merkle.append(self._seen, self._leaves).after, []
            if self._count == self._have and self._seen.root != self._root:
                raise IntegrityError("the database and the backup are two different logs", code="backup.split")
            return
        self._part.append(parsed)
        if len(self._part) >= MAX_CALL:
            await self._flush()

    async def _flush(self) -> None:
        part, self._part = self._part, []
        tree = self._tree
        assert tree is not None
        appended = tree.append([each.leaf for each in part])
        made = checkpoint.sign(Checkpoint(self._origin, appended.after.size, appended.root), self._keys.log_key)
        tiles = tree.full_tiles(appended)
        places = [_place(each) for each in part]
        await self._connection.fetchval(
            "SELECT audit.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
            self._log, self._origin, tree.size,
            [datetime.fromtimestamp(each.ts / 1000, tz=UTC) for each in part],
            [each.action for each in part], [OUTCOMES[each.outcome] for each in part], [each.actor for each in part],
            [each.on_behalf for each in part], [place[0] for place in places], [place[1] for place in places],
            [uuid.UUID(bytes=each.id) for each in part], [each.body for each in part],
            appended.root, appended.after.pack(), made.serialise().decode(), datetime.now(UTC),
            [tile.level for tile, _ in tiles], [tile.n for tile, _ in tiles], [data for _, data in tiles],
        )  # fmt: skip
        tree.grow(appended)

    async def end(self, notes: Mapping[tuple[str, int], str]) -> None:
        """The log is through: the rest is appended, and its policy lines stand in their table. FormatError if it was
        cut."""
        if self._count != self._size:
            raise FormatError("a log of the backup is cut", code="backup")
        if self._part:
            await self._flush()
        if self._log != SYSTEM:
            await _statements(self._connection, self._log, self._lines, notes)


def _place(each: entry.Entry) -> tuple[str | None, str | None]:
    if each.scope is None or each.scope.kind == "workspace":
        return None, None
    project, _, env = each.scope.name.partition("/")
    return project, env or None


async def _statements(
    connection: asyncpg.Connection,
    genesis: str,
    lines: list[tuple[bytes, int]],
    notes: Mapping[tuple[str, int], str],
) -> None:
    state = policy_log.fold(b"".join(line + b"\n" for line, _ in lines), genesis=genesis)
    head = bytes.fromhex(state.head)
    await connection.execute(
        "INSERT INTO policy.workspace VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE"
        " SET policy_seq = excluded.policy_seq, policy_head = excluded.policy_head"
        " WHERE workspace.genesis = excluded.genesis",
        *(state.name, bytes.fromhex(genesis), state.seq, head),
    )
    made = [statement.parse(line) for line, _ in lines]
    await connection.executemany(
        "INSERT INTO policy.statement VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        [
            (state.name, st.seq, bytes.fromhex(st.hash), st.line, seq, notes.get((state.name, st.seq)))
            for st, (_, seq) in zip(made, lines, strict=True)
        ],
    )


async def _rows(connection: asyncpg.Connection, kind: str, value: dict[str, Any]) -> None:
    if kind == "dek":
        await connection.execute(
            # the backup is ahead of the database: the KEK may have been rotated in between
            "INSERT INTO keys.dek VALUES ($1, $2, $3, $4) ON CONFLICT (ws) DO UPDATE"
            " SET kek_id = excluded.kek_id, wrapped = excluded.wrapped, canary = excluded.canary",
            *(value["ws"], value["kek"], bytes.fromhex(value["wrapped"]), bytes.fromhex(value["canary"])),
        )
    elif kind == "server_key":
        wrapped = None if value["wrapped"] is None else bytes.fromhex(value["wrapped"])
        await connection.execute(
            "INSERT INTO keys.server_key VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            *(value["ws"], value["project"], value["env"], value["generation"], value["recipient"], wrapped),
        )
    elif kind == "manifest":
        await connection.execute(
            "INSERT INTO rt.manifest_head VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (ws, project, env) DO UPDATE"
            " SET generation = excluded.generation, hash = excluded.hash, entry_seq = excluded.entry_seq"
            " WHERE manifest_head.generation < excluded.generation",
            *(value["ws"], value["project"], value["env"], value["generation"], bytes.fromhex(value["hash"])),
            value["seq"],
        )
    else:
        raise FormatError("not a backup", code="backup")


async def _extends(
    connection: asyncpg.Connection, workspaces: Workspaces, keys: startup.Keys, note: bytes
) -> dict[str, int]:
    """Require that the database extends `note`; gives each log's size."""
    parsed = parse_note(note)
    made = checkpoint.verify(parsed, Verifier(parsed.text.partition("\n")[0], keys.log_key.public))
    heads = await connection.fetch("SELECT log_id, origin, size, root, frontier FROM audit.log ORDER BY log_id")
    for head in heads:
        if head["origin"] == made.origin:
            if head["size"] < made.size:
                raise IntegrityError(
                    f"the database ends at {head['size']} entries, and the checkpoint has {made.size}",
                    code="restore.behind",
                    hint="restore a later backup with: zopp server restore FILE --checkpoint NOTE",
                )
            tree = await workspaces.tree(connection, head["log_id"], head["size"], head["frontier"])
            if await tree.root_at(connection, made.size) != made.root:
                raise IntegrityError("the database does not extend the checkpoint", code="split_view")
            return {each["log_id"]: each["size"] for each in heads}
    raise IntegrityError("the checkpoint is of no log of this database", code="origin")


async def _marks(connection: asyncpg.Connection, workspaces: Workspaces) -> dict[str, Mark]:
    rows = await connection.fetch(
        "SELECT l.log_id, l.size, l.root, w.policy_seq, encode(w.policy_head, 'hex') AS head FROM audit.log l"
        " LEFT JOIN policy.workspace w ON encode(w.genesis, 'hex') = l.log_id"
    )
    return {row["log_id"]: Mark(row["size"], row["root"], row["policy_seq"] or 0, row["head"] or "") for row in rows}


# --- key encryption key


class _NoMarks(HighWater):
    """For a command beside a running server, which keeps the high-water file."""

    def __init__(self) -> None:
        self.marks = {}

    def advance(self, marks: Mapping[str, Mark]) -> None:
        """Nothing: the server's own file follows with its next batch."""

    def close(self) -> None:
        """Nothing."""


async def rotate_kek(settings: Settings, following: Path) -> list[str]:
    """Wrap every data encryption key under the KEK in `following`; gives the workspaces it was done for. Servers go on
    with what they have in memory, and are started with the new file afterwards. May be run again after a stop."""
    keys = startup.load_keys(settings)
    new = custody.load_kek(following)
    workspaces = Workspaces(settings.origin, keys.kek)
    done = []
    async with _connected(settings) as connection:
        found = await db_check.findings(connection)
        if found:
            raise startup.refused(found)
        batcher = Batcher(workspaces, keys.log_key, _NoMarks(), lambda: startup.connect(settings.database))
        batcher.start()
        try:
            rows = await connection.fetch(
                "SELECT d.ws, d.kek_id, d.wrapped, d.canary, encode(w.genesis, 'hex') AS genesis FROM keys.dek d"
                " JOIN policy.workspace w ON w.id = d.ws WHERE d.kek_id <> $1 ORDER BY d.ws",
                new.id,
            )
            for row in rows:
                dek = custody.open_dek(keys.kek, row["wrapped"], row["canary"], row["genesis"], row["kek_id"])
                await batcher.do(Job(row["ws"], _rewrap(dek, new)))
                done.append(row["ws"])
        finally:
            await batcher.stop()
    return done


def _rewrap(dek: custody.Dek, new: custody.FileKek) -> Any:
    def decide(workspace: Workspace | None, context: Context) -> Decided:
        assert workspace is not None
        made = draft(
            "key", {"event": "kek_rotate", "generation": None, "recipient": None}, ts=context.now, id=os.urandom(16),
            outcome="fact", policy_seq=workspace.state.seq,
        )  # fmt: skip
        write = (
            "UPDATE keys.dek SET kek_id = $2, wrapped = $3 WHERE ws = $1",
            (workspace.name, new.id, dek.wrapped(new)),
        )
        return Decided([made], writes=[write])

    return decide


__all__ = ["asyncio", "backup", "check", "migrate", "restore", "rotate_kek"]
