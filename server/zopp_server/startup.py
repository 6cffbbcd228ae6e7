"""From settings to a service that may be served: the self-check of policy-server.md §5.7, and what follows from it.

Everything that is found is reported at once, and nothing is served then. `check` is the same without serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from zopp.errors import IntegrityError, Unknown, ZoppError
from zopp.keys.signing import SigningKey
from zopp.policy import canonical
from zopp.tlog import checkpoint, entry
from zopp.tlog.note import Verifier, parse as parse_note
from zopp_server import custody, projection
from zopp_server.batcher import BATCH_SECONDS, SYSTEM, Batcher, Context, Decided, Job, Observer, system_origin
from zopp_server.config import Settings
from zopp_server.db import check as db_check
from zopp_server.entries import draft
from zopp_server.gate import Gate, Open
from zopp_server.highwater import HighWater
from zopp_server.limits import Summary
from zopp_server.service import READ_SECONDS, Service
from zopp_server.workspaces import Workspace, Workspaces

MAX_CLOCK = 5.0
"""Seconds between this machine's clock and the database's."""

CONNECT_SECONDS = 5.0
PROBE_SECONDS = 5.0
"""How old an answer of the database may be for a server that is ready."""

POOL = 5

STEADY_SECONDS = 1200.0
"""How long the database's clock must have kept step before a nonce is thrown away by it."""

SESSION = {
    "application_name": "zopp",
    # A lock is not kept by a session whose client went away without a word, nor a wait for one.
    "client_connection_check_interval": "2000",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_BATCH_SESSION = {**SESSION, "lock_timeout": "8000", "idle_in_transaction_session_timeout": "12000"}
"""Shorter than `BATCH_SECONDS` for the lock, and little longer for a transaction that nobody goes on with. No
statement_timeout: a COMMIT must not be cancelled (§5.8)."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The three secrets that are not TLS's."""

    kek: custody.Kek
    log_key: SigningKey
    next_log_key: bytes | None


def load_keys(settings: Settings) -> Keys:
    """From their files. ZoppError names the file."""
    following = None if settings.next_log_key is None else custody.load_log_key(settings.next_log_key).public
    return Keys(custody.load_kek(settings.kek), custody.load_log_key(settings.log_key), following)


def highwater_path(data: Path) -> Path:
    """Where a data folder has the high-water file."""
    return data / "highwater"


async def connect(url: str, session: dict[str, str] = SESSION) -> asyncpg.Connection:
    """A connection of the running server, with these parameters. Unknown (`database`) if there is none; the URL's
    password is in no text."""
    try:
        return await asyncpg.connect(url, timeout=CONNECT_SECONDS, server_settings=session)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
        raise Unknown(f"the database cannot be reached ({reason})", code="database") from None


async def findings(
    connection: asyncpg.Connection, workspaces: Workspaces, keys: Keys, marks: HighWater | None
) -> list[str]:
    """Everything that is wrong with what the database holds, a line each. Loads all workspaces."""
    found = await db_check.findings(connection)
    if found:
        return found  # the rest reads through what was just found wrong
    drift = time.time() - float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
    if abs(drift) > MAX_CLOCK:
        found.append(f"clock: {abs(drift):.0f} s from the database's")
    names = [row["id"] for row in await connection.fetch("SELECT id FROM policy.workspace ORDER BY id")]
    for name in names:
        try:
            workspace = await workspaces.get(connection, name)
            assert workspace is not None
            found += await _workspace(connection, workspace, workspaces, keys)
        except ZoppError as exc:
            found.append(f"workspace {name}: {exc.message}")
    if marks is not None:
        found += await _marks(connection, workspaces, marks)
    return found


async def _workspace(
    connection: asyncpg.Connection, workspace: Workspace, workspaces: Workspaces, keys: Keys
) -> list[str]:
    state, name = workspace.state, workspace.name
    found = [f"workspace {name}: {line}" for line in await projection.differences(connection, state)]
    server = state.server
    log_keys = [keys.log_key.public] + ([keys.next_log_key] if keys.next_log_key else [])
    if server is None or server.origin != workspaces.server or server.log_key not in log_keys:
        found.append(f"workspace {name}: origin and log key are not those of its last server.set")
    rows = await connection.fetch(
        "SELECT s.seq, s.line, e.body FROM policy.statement s LEFT JOIN audit.entry e"
        " ON e.log_id = $2 AND e.seq = s.entry_seq WHERE s.ws = $1 ORDER BY s.seq",
        *(name, workspace.log),
    )
    for row in rows:
        body = row["body"]
        recorded = None if body is None else entry.parse(body)
        if recorded is None or recorded.outcome != "allow" or recorded.line != row["line"]:
            found.append(f"workspace {name}: statement {row['seq']} is not that of its audit entry")
            break
    await workspaces.dek(connection, name, workspace.log)
    for env in state.all_envs.values():
        if env.server_key is None:
            continue
        held = [key for key in workspace.keys.get(env.name, ()) if key.recipient == env.server_key]
        if not held or held[0].private is None:
            found.append(f"workspace {name}: the server key of {env.name} in the policy is not held here")
    return found


async def _marks(connection: asyncpg.Connection, workspaces: Workspaces, marks: HighWater) -> list[str]:
    found = []
    heads = {row["log_id"]: row for row in await connection.fetch("SELECT log_id, size, root, frontier FROM audit.log")}
    for log, mark in marks.marks.items():
        head = heads.get(log)
        if head is None or head["size"] < mark.size:
            found.append(f"log {log}: the database is behind the high-water file (recovery)")
            continue
        tree = await workspaces.tree(connection, log, head["size"], head["frontier"])
        if await tree.root_at(connection, mark.size) != mark.root:
            found.append(f"log {log}: the database differs from the high-water file (recovery)")
        if log != SYSTEM:
            name = await connection.fetchval("SELECT id FROM policy.workspace WHERE encode(genesis, 'hex') = $1", log)
            workspace = None if name is None else workspaces.known(name)
            if (
                workspace is None
                or workspace.state.seq < mark.policy_seq
                or workspace.state.hash_at(mark.policy_seq) != mark.policy_head
            ):
                found.append(f"log {log}: the policy is older than the high-water file (recovery)")
    return found


async def open_highwater(connection: asyncpg.Connection, data: Path) -> HighWater:
    """The high-water file; made where the database is still empty, since nothing can have been rolled back then."""
    path = highwater_path(data)
    if not path.exists() and not await connection.fetchval("SELECT EXISTS (SELECT FROM audit.log)"):
        return HighWater(path, new=True)
    return HighWater(path)


@asynccontextmanager
async def opened(
    settings: Settings,
    *,
    gate: Gate | None = None,
    observer: Observer | None = None,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[Service]:
    """A service that passed the self-check, its batcher at work; stopped at the end. IntegrityError
    (`server.check`) with every finding otherwise."""
    keys = load_keys(settings)
    workspaces = Workspaces(settings.origin, keys.kek)
    connection = await connect(settings.database)
    try:
        found = await db_check.findings(connection)
        marks = None if found else await open_highwater(connection, settings.data)
        try:
            found = found or await findings(connection, workspaces, keys, marks)
            if found:
                raise refused(found)
        except BaseException:
            if marks is not None:
                marks.close()
            raise
    finally:
        await connection.close(timeout=CONNECT_SECONDS)
    assert marks is not None
    batcher = Batcher(
        workspaces, keys.log_key, marks, lambda: connect(settings.database, _BATCH_SESSION), observer=observer, now=now
    )
    try:
        pool = await asyncpg.create_pool(
            settings.database, min_size=1, max_size=POOL, timeout=CONNECT_SECONDS, command_timeout=READ_SECONDS,
            server_settings=SESSION,
        )  # fmt: skip
        try:
            batcher.start()
            service = Service(
                settings.origin, keys.log_key, workspaces, batcher, pool, gate or Open(), now, keys.next_log_key
            )
            await _announce(service)
            await probe(service)
            tasks = [asyncio.create_task(work(service)) for work in (_tick, _probe)]
            try:
                yield service
            finally:
                for task in tasks:
                    task.cancel()
                with contextlib.suppress(ZoppError, TimeoutError):  # what was counted since the last minute
                    await asyncio.wait_for(summarise(service), CONNECT_SECONDS)
                await batcher.stop()
        finally:
            # A frozen database must not keep the process.
            try:
                await asyncio.wait_for(pool.close(), CONNECT_SECONDS)
            except TimeoutError:
                pool.terminate()
    finally:
        marks.close()


def refused(found: list[str]) -> IntegrityError:
    """The error that says why nothing is served."""
    return IntegrityError(
        "the self-check refuses to serve:\n  " + "\n  ".join(found),
        code="server.check",
        hint="see docs/reference/server.md, section Self-check",
        findings=found,
    )


async def _announce(service: Service) -> None:
    """The system log says that a server started; a workspace's log whose newest head is signed by a former log key gets
    one under the present key."""
    for left in (2, 1, 0):  # the head of an empty log cannot be locked: of two first starts one comes too late
        try:
            await service.batcher.do(Job(None, _operator("start", "serving " + service.origin)))
            break
        except Unknown as exc:
            if not left or exc.code != "audit_unavailable":
                raise
    async with service.reading() as connection:
        rows = await connection.fetch(
            "SELECT w.id, l.checkpoint FROM policy.workspace w JOIN audit.log l ON l.log_id = encode(w.genesis, 'hex')"
        )
    for row in rows:
        note = parse_note(row["checkpoint"].encode())
        try:
            checkpoint.verify(note, Verifier(note.text.partition("\n")[0], service.log_key.public))
        except IntegrityError:
            await service.batcher.do(Job(row["id"], _rotated))


def _operator(event: str, detail: str) -> Callable[[Workspace | None, Context], Decided]:
    def decide(workspace: Workspace | None, context: Context) -> Decided:
        made = draft("operator", {"detail": detail, "event": event}, ts=context.now, id=_id(), outcome="fact")
        return Decided([made])

    return decide


def _rotated(workspace: Workspace | None, context: Context) -> Decided:
    assert workspace is not None
    made = draft(
        "key", {"event": "log_rotate", "generation": None, "recipient": None}, ts=context.now, id=_id(),
        outcome="fact", policy_seq=workspace.state.seq,
    )  # fmt: skip
    return Decided([made])


def _id() -> bytes:
    import os

    return os.urandom(16)


async def _probe(service: Service) -> None:
    """Ask the database where no batch does, so that `/readyz` is no older than PROBE_SECONDS without traffic too; after
    a batch that failed, write an entry: that the log can be written again, nothing less shows."""
    while True:
        await asyncio.sleep(PROBE_SECONDS / 5)
        try:
            await probe(service)
        except (ZoppError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            continue  # `reasons` says so


async def probe(service: Service) -> None:
    """One look at the database. Raises where it is away or cannot be written."""
    batcher = service.batcher
    if batcher.failing_since is not None and batcher.recovery is None and batcher.busy_since is None:
        await batcher.do(Job(None, _operator("resume", "the log can be written again")))
    async with service.reading() as connection:
        if not await connection.fetchval("SELECT pg_is_in_recovery()"):
            service.probed = time.monotonic()
            if batcher.recovery is None:
                await batcher.follow(connection)


@dataclass(slots=True)
class Steady:
    """How long a clock has kept step with the monotonic one."""

    since: float
    last: tuple[float, float] | None = None

    def seconds(self, monotonic: float, wall: float) -> float:
        """Seconds since the start or the last step, after another look at both."""
        if self.last is not None and abs((wall - self.last[1]) - (monotonic - self.last[0])) > MAX_CLOCK:
            self.since = monotonic
        self.last = monotonic, wall
        return monotonic - self.since


async def _tick(service: Service) -> None:
    """Every minute: what was counted becomes summary entries, and what is stale is dropped."""
    steady = Steady(time.monotonic())
    while True:
        await asyncio.sleep(60)
        try:
            await summarise(service)
            await sweep(service, steady)
        except (ZoppError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            continue  # the database is away; readiness says so, and what was counted comes with the next minute


async def summarise(service: Service) -> None:
    """Record what was counted. What cannot be recorded now is counted again."""
    found = service.gate.summaries()
    try:
        while found:
            await service.batcher.do(Job(None if found[0].log == SYSTEM else found[0].log, _summary(found[0])))
            found.pop(0)
    finally:
        service.gate.restore(found)


def _summary(each: Summary) -> Callable[[Workspace | None, Context], Decided]:
    def decide(workspace: Workspace | None, context: Context) -> Decided:
        made = draft(
            "summary", {"count": each.count, "since": each.since, "what": each.what}, ts=context.now, id=_id(),
            outcome="fact", actor=each.actor, policy_seq=None if workspace is None else workspace.state.seq,
        )  # fmt: skip
        return Decided([made])

    return decide


async def sweep(service: Service, steady: Steady | None = None) -> None:
    """Drop nonces that no clock accepts any more, idempotency keys and CI jobs that are over; nothing where `steady`
    knows of a step of the clock in the last STEADY_SECONDS, as it may step back. A bucket holds 300
    seconds of signed time and comes round after 2,400. A CI token is good for 900 s from its `iat`, which may be 60 s
    ahead, so the buckets from three before to one after now are in use; what was six and five before is emptied."""
    async with service.reading() as connection:
        now = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
        if steady is not None and steady.seconds(time.monotonic(), now) < STEADY_SECONDS:
            return
        current = int(now) // 300
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO rt.swept (at) VALUES (to_timestamp($1)) ON CONFLICT (one) DO UPDATE"
                " SET at = greatest(swept.at, excluded.at)",
                now,
            )
            for bucket in range(8):
                if (bucket - current) % 8 in (2, 3):
                    await connection.execute(f"TRUNCATE rt.replay_{bucket}")
        await connection.execute("DELETE FROM rt.idempotency WHERE expires < now()")
        await connection.execute("DELETE FROM rt.ci_principal WHERE not_after < now() - interval '1 hour'")


def reasons(service: Service) -> list[str]:
    """Why this server is not ready; none if it is."""
    found = []
    if service.draining:
        found.append("draining")
    if service.batcher.recovery is not None:
        found.append("recovery")
    batcher, now = service.batcher, time.monotonic()
    if batcher.failing_since is not None or now - (batcher.busy_since or now) > BATCH_SECONDS + PROBE_SECONDS:
        found.append("the audit log could not be written")
    if now - max(batcher.last_append, service.probed) > PROBE_SECONDS:
        found.append("the database does not answer")
    return found


__all__ = ["Any", "Keys", "canonical", "connect", "findings", "opened", "reasons", "refused", "system_origin"]
