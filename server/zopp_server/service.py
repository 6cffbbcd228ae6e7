"""What the routes share: workspaces, the batcher, the pool for reading, and what is known of callers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from zopp import _fast
from zopp.errors import Unknown
from zopp.keys.signing import SigningKey
from zopp.protocol import signing
from zopp.protocol.receipt import Receipt
from zopp.tlog import checkpoint, merkle
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.note import Note, Verifier, parse as parse_note
from zopp.tlog.proof import Proof
from zopp_server.auth import Caller, CiPrincipal
from zopp_server.batcher import Batcher
from zopp_server.gate import Gate
from zopp_server.jwks import Jwks
from zopp_server.limits import Network
from zopp_server.tree import Tree
from zopp_server.workspaces import Workspace, Workspaces

REFRESH = 0.25
"""Seconds between two looks into the database because of an unknown key, for each workspace."""

ACQUIRE_SECONDS = 5.0
"""How long a reader waits for a connection of the pool."""

READ_SECONDS = 5.0
"""How long the database has for one statement of a reader."""

AWAY = (
    OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError, asyncpg.PostgresSystemError, asyncpg.ReadOnlySQLTransactionError,
)  # fmt: skip
"""What is raised while the database is not there, or cannot."""

_KNOWN_KEYS = 4096


@dataclass(slots=True)
class Service:
    """One server process. `pool` is for reading; everything that is recorded goes through `batcher`."""

    origin: str
    log_key: SigningKey
    workspaces: Workspaces
    batcher: Batcher
    pool: asyncpg.Pool
    gate: Gate
    now: Callable[[], float] = time.time
    next_log_key: bytes | None = None
    jwks: Jwks | None = None
    proxies: Sequence[Network] = ()
    draining: bool = False
    probed: float = 0.0
    """time.monotonic() of the last answer of the database to a probe."""
    timed: Callable[[float], None] = lambda seconds: None
    """Hears how long each reader held a connection."""
    hits: int = 0
    """Requests whose workspace and key were in memory; `misses`: the database was asked."""
    misses: int = 0
    _looked: dict[str, float] = field(default_factory=dict)
    _addr: OrderedDict[tuple[str, str], bytes] = field(default_factory=OrderedDict)
    _ci: dict[tuple[str, str], CiPrincipal] = field(default_factory=dict)

    async def workspace(self, name: str, keyid: str | None = None) -> Workspace | None:
        """The workspace as this process knows it; the database is asked if it does not know it, or not that key: a
        statement may have come through another replica. Bounded to one look each REFRESH seconds."""
        found = self.workspaces.known(name)
        if found is not None and (keyid is None or found.by_fingerprint(keyid) is not None):
            self.hits += 1
            return found
        now = time.monotonic()
        if now - self._looked.get(name, -REFRESH) < REFRESH:
            return found
        if found is not None or len(self._looked) < 10_000:
            self._looked[name] = now
        else:
            self._looked.clear()  # names are a stranger's to choose
        self.misses += 1
        async with self.reading() as connection:
            return await self.workspaces.get(connection, name)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for reading. Unknown (`audit_unavailable`) where it cannot be had in ACQUIRE_SECONDS, and where
        the database goes away or does not answer while it is used."""
        try:
            connection = await self.pool.acquire(timeout=ACQUIRE_SECONDS)
        except (*AWAY, asyncpg.InterfaceError) as exc:
            raise _away() from exc
        began = time.monotonic()
        try:
            yield connection
        except AWAY as exc:
            connection.terminate()  # it may hang, and nobody is to wait for it again
            raise _away() from exc
        except asyncpg.InterfaceError as exc:
            if not connection.is_closed():
                raise
            raise _away() from exc
        finally:
            self.timed(time.monotonic() - began)
            with contextlib.suppress(*AWAY, asyncpg.InterfaceError):
                await self.pool.release(connection, timeout=READ_SECONDS)

    # --- the log as it is now

    async def snapshot(self, connection: asyncpg.Connection, log: str) -> tuple[Tree, Checkpoint, Note]:
        """The newest signed head of a log, and a tree that reaches it."""
        row = await connection.fetchrow("SELECT size, frontier, checkpoint FROM audit.log WHERE log_id = $1", log)
        if row is None:
            raise Unknown("the log is gone", code="recovery")
        note = parse_note(row["checkpoint"].encode())
        tree = self.workspaces.trees.get(log)
        if tree is None or tree.size < row["size"]:
            # Only then: a batch holds the lock as long as the database makes it wait, and readers need not.
            async with self.workspaces.lock:
                tree = self.workspaces.trees.get(log)
                if tree is None or tree.size < row["size"]:
                    tree = await self.workspaces.tree(connection, log, row["size"], row["frontier"])
        origin = note.text.partition("\n")[0]
        return tree, checkpoint.verify(note, Verifier(origin, self.log_key.public)), note

    async def receipt(
        self, connection: asyncpg.Connection, log: str, seq: int, size: int
    ) -> tuple[Receipt, tuple[bytes, ...]]:
        """The receipt of an entry under the newest checkpoint, and the consistency proof from `size` to it."""
        tree, head, note = await self.snapshot(connection, log)
        body = await connection.fetchval("SELECT body FROM audit.entry WHERE log_id = $1 AND seq = $2", log, seq)
        if body is None or seq >= head.size:
            raise Unknown("the entry is gone", code="recovery")
        hashes = await tree.prove(connection, lambda read: merkle.inclusion(read, seq, head.size), head.size)
        consistency = await self.consistency(connection, tree, size, head.size)
        return Receipt(body, Proof(seq, tuple(hashes), note).serialise()), consistency

    async def kept_receipt(self, connection: asyncpg.Connection, log: str, seq: int, note: str | None) -> list[Receipt]:
        """The receipt of a `server.set` under the checkpoint that was kept with it, unless this server's present key
        signed that: then it replaced nothing here."""
        if note is None:
            return []
        kept = parse_note(note.encode())
        made = checkpoint.parse_text(kept.text)
        mine = Verifier(made.origin, self.log_key.public)
        if any((each.name, each.key_id) == (mine.name, mine.key_id) for each in kept.signatures):
            return []
        tree, _, _ = await self.snapshot(connection, log)
        body = await connection.fetchval("SELECT body FROM audit.entry WHERE log_id = $1 AND seq = $2", log, seq)
        hashes = await tree.prove(connection, lambda read: merkle.inclusion(read, seq, made.size), made.size)
        return [Receipt(body, Proof(seq, tuple(hashes), kept).serialise())]

    async def consistency(self, connection: asyncpg.Connection, tree: Tree, old: int, new: int) -> tuple[bytes, ...]:
        """The proof from `old` to `new` leaves; none where `old` is 0 or more than there are."""
        if not 0 < old < new:
            return ()
        return tuple(await tree.prove(connection, lambda read: merkle.consistency(read, old, new), new))

    # --- callers

    async def ip(self, ws: str, caller: Caller) -> bytes | None:
        """What an entry shows of a caller's address: an HMAC under a key of that principal, kept where it can be
        erased."""
        if caller.addr is None:
            return None
        key = self._addr.get((ws, caller.principal))
        if key is None:
            async with self.reading() as connection:
                key = await connection.fetchval(
                    "INSERT INTO rt.addr_key VALUES ($1, $2, sha256(uuid_send(gen_random_uuid())"
                    " || uuid_send(gen_random_uuid()))) ON CONFLICT DO NOTHING RETURNING key",
                    *(ws, caller.principal),
                ) or await connection.fetchval(
                    "SELECT key FROM rt.addr_key WHERE ws = $1 AND actor = $2", ws, caller.principal
                )
            self._addr[ws, caller.principal] = key
            if len(self._addr) > _KNOWN_KEYS:
                self._addr.popitem(last=False)
        return _fast.hmac_sha256(key, caller.addr.encode())

    async def ci_jobs(self, ws: Workspace, keyid: str) -> CiPrincipal | None:
        """The registered CI job with this key, from memory or, registered at another replica, from the database."""
        found = self._ci.get((ws.name, keyid))
        if found is None and ws.state.oidc_rules:
            async with self.reading() as connection:
                rows = await connection.fetch(
                    "SELECT id, service, rule, since, ed25519, extract(epoch FROM not_after)::bigint AS not_after"
                    " FROM rt.ci_principal WHERE ws = $1 AND keyid = $2 AND not_after > now()",
                    *(ws.name, keyid),
                )
            for row in rows:
                found = CiPrincipal(
                    row["id"], row["service"], row["rule"], row["since"], row["ed25519"], row["not_after"]
                )
                self.remember_job(ws.name, found)
        return found

    def remember_job(self, ws: str, job: CiPrincipal) -> None:
        """Keep a registered job in memory; expired ones are dropped when many have gathered."""
        if len(self._ci) > _KNOWN_KEYS:
            now = self.now()
            self._ci = {key: each for key, each in self._ci.items() if each.not_after > now}
        self._ci[ws, signing.fingerprint(job.key)] = job

    async def within(self, seconds: float, work: Any) -> Any:
        """Await `work` for at most so long. A job of the batcher is not cut: only the waiting for it is."""
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise Unknown("the database does not answer in time", code="unknown_outcome") from None


def _away() -> Unknown:
    return Unknown("the database does not answer", code="audit_unavailable")
