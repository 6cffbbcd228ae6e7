"""The one way into the logs: jobs are decided, recorded and made durable in batches (policy-server.md §1.1, §5.1).

A batch is one transaction: lock the heads of its logs, see which nonces are new, bring each workspace to the policy
head under that lock, decide every job in order, append its entries with a new signed checkpoint, commit. Then the
high-water file is fsynced, and only after that does any job's future resolve. So nothing is released that was not
decided under the newest policy and recorded first, whatever else fails; and a job whose answer was lost has at most an
entry too many.

A client that goes away does not cancel its job. Between two tries of a job nothing is remembered but what the database
has. Two servers on one database take turns at the lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from zopp.errors import IntegrityError, Unknown, ZoppError
from zopp.keys.signing import SigningKey
from zopp.policy import statement
from zopp.policy.state import State
from zopp.protocol.receipt import Receipt
from zopp.protocol.replay import BACKWARDS_MS
from zopp.tlog import checkpoint, merkle
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.note import Note
from zopp.tlog.proof import Proof
from zopp_server import projection
from zopp_server.entries import Draft
from zopp_server.highwater import HighWater, Mark
from zopp_server.tree import Tree
from zopp_server.workspaces import Workspace, Workspaces

MAX_BATCH = 256
"""Entries, unless one job alone has more."""

MAX_CALL = 4096
"""Entries that `audit.append` takes at once."""

MAX_QUEUE = 4096
"""Jobs waiting; more are told to come back."""

BATCH_SECONDS = 10.0
"""What the database has for a batch; then its connection is closed, so a frozen one stops nobody for longer."""

STOP_SECONDS = 20.0
"""What the end of the process has for what is queued."""

MAX_DRIFT_MS = 30_000
"""How far this clock may be from the database's: two replicas are then as near as `audit verify` wants them."""

SYSTEM = "system"
"""The id of the log of what belongs to no workspace."""

BUCKET_SECONDS = 300
BUCKETS = 8


def bucket_of(created: int) -> int:
    """Where the nonce of a request signed at `created` is kept: by the signed time, never by arrival (A24)."""
    return created // BUCKET_SECONDS % BUCKETS


@dataclass(slots=True)
class Context:
    """What a job is decided with: `now` in milliseconds; `again` whether its idempotency key was used before, and
    `same` whether with the same request."""

    now: int
    again: bool = False
    same: bool = True


@dataclass(slots=True)
class Decided:
    """A job's decision: entries to append, accepted lines, further writes (SQL, arguments) of the same transaction, and
    what its caller gets: `value`, or `error` raised after all is durable."""

    entries: list[Draft] = field(default_factory=list)
    lines: list[statement.Statement] = field(default_factory=list)
    state: State | None = None
    writes: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    value: Any = None
    error: ZoppError | None = None
    workspace: Workspace | None = None


@dataclass(slots=True)
class Job:
    """`ws` is the workspace's name (None: the system log), `size` the tree size to prove consistency from. `decide`
    is called under the lock with the workspace as it is then, and may be called again. `replayed` makes the decision
    for a nonce that was used before."""

    ws: str | None
    decide: Callable[[Workspace | None, Context], Decided]
    size: int = 0
    nonces: tuple[tuple[int, str, bytes], ...] = ()
    """(bucket, key id, 16 bytes): used up by this job; if one was used before, `replayed` decides"""
    idem: tuple[str, str, bytes] | None = None
    replayed: Callable[[Workspace | None, Context], Decided] | None = None
    addr: str | None = None
    weight: int = 1
    creates: bool = False
    """It makes the workspace: `ws` need not be there, and it is alone in its batch."""
    future: asyncio.Future[Recorded] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class Recorded:
    """What a job's caller gets once all is durable: its `value`, a receipt for each of its entries (of `first` on), the
    consistency proof to their checkpoint, and the policy head it was decided under."""

    value: Any
    first: int
    receipts: list[Receipt]
    consistency: tuple[bytes, ...]
    policy_seq: int
    policy_hash: str


@dataclass(slots=True)
class _Log:
    """One log in a batch."""

    id: str
    origin: str
    ws: str | None
    head_size: int
    tree: Tree
    workspace: Workspace | None
    before: State | None
    drafts: list[Draft] = field(default_factory=list)
    done: list[tuple[Job, Decided, int, State | None]] = field(default_factory=list)
    writes: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    idems: list[tuple[str, str, bytes, int]] = field(default_factory=list)
    """principal, idempotency key, digest of the request, seq of its first entry"""
    addrs: list[tuple[int, str]] = field(default_factory=list)
    """seq of a request's first entry, and where it came from"""
    lines: list[tuple[statement.Statement, int]] = field(default_factory=list)
    appended: merkle.Appended | None = None
    note: Note | None = None


class Observer:
    """What a batch tells whoever measures; this one listens to nothing."""

    def batch(self, entries: int, seconds: float) -> None:
        """A batch of so many entries was made durable in so many seconds."""

    def failed(self) -> None:
        """A batch failed."""

    def policy_retry(self) -> None:
        """A workspace's policy had moved on when a batch took the lock."""

    def replay(self) -> None:
        """A nonce had been used before."""


class Batcher:
    """One for a process. `connect` opens the connection it works on."""

    def __init__(
        self,
        workspaces: Workspaces,
        log_key: SigningKey,
        highwater: HighWater,
        connect: Callable[[], Any],
        *,
        observer: Observer | None = None,
        now: Callable[[], float] = time.time,
        seconds: float = BATCH_SECONDS,
    ) -> None:
        self.workspaces = workspaces
        self._key = log_key
        self._marks = highwater
        self._connect = connect
        self._observer = observer or Observer()
        self._now = now
        self._seconds = seconds
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue()
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._warned = False
        self.recovery: str | None = None
        """Why nothing is released any more; None while all is well."""
        self.last_append = 0.0
        """time.monotonic() of the last batch that became durable."""
        self.failing_since: float | None = None
        """time.monotonic() since which no batch became durable although some were tried; None while they do."""
        self.busy_since: float | None = None
        """time.monotonic() since which one batch is at work; None between two."""

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._work(), name="batcher")

    async def stop(self) -> None:
        """Finish what is queued, then end; after STOP_SECONDS what is left is told to come back."""
        self._stopping = True
        if self._task is not None:
            self._queue.put_nowait(None)
            if not (await asyncio.wait([self._task], timeout=STOP_SECONDS))[0]:
                self._task.cancel()
                await asyncio.wait([self._task])
            self._task = None
        while self._queue.qsize():
            job = self._queue.get_nowait()
            if job is not None:
                self._fail([job], Unknown("the server is stopping", code="busy"))
        await self._drop()

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return self._queue.qsize()

    async def do(self, job: Job) -> Recorded:
        """Have `job` decided and recorded. Unknown (`busy`, `audit_unavailable`, `unknown_outcome`, `recovery`) where
        that did not happen or may not have happened; else what the decision says."""
        if self.recovery is not None:
            raise recovery()
        if self._queue.qsize() >= MAX_QUEUE:
            raise Unknown("the server has too much to do", code="busy")
        if self._stopping or self._task is None or self._task.done():
            raise Unknown("the server is stopping", code="busy")
        self._queue.put_nowait(job)
        return await asyncio.shield(job.future)

    async def follow(self, connection: asyncpg.Connection) -> None:
        """Mark what other servers on this database have made durable: else one that has nothing to write would not
        find that the database was set back behind it."""
        if not self._behind(await connection.fetch(_HEADS)):
            return
        async with self.workspaces.lock:  # between a commit and its mark the heads and the marks differ
            marks = {}
            try:
                for row in self._behind(await connection.fetch(_HEADS)):
                    tree = await self._tree(connection, row["log_id"], row)
                    marks[row["log_id"]] = Mark(tree.size, row["root"], row["policy_seq"] or 0, row["head"] or "")
            except _Recovery as exc:
                self.recovery = str(exc)
                return
            if marks:
                await asyncio.get_running_loop().run_in_executor(None, self._marks.advance, marks)

    def _behind(self, rows: Sequence[Any]) -> list[Any]:
        marks = self._marks.marks
        return [row for row in rows if row["log_id"] not in marks or marks[row["log_id"]].size != row["size"]]

    # --- the loop

    async def _work(self) -> None:
        held: Job | None = None
        while True:
            first = held or await self._queue.get()
            held = None
            if first is None:
                return
            jobs, weight = [first], first.weight
            while not first.creates and self._queue.qsize():
                job = self._queue.get_nowait()
                if job is None:
                    self._queue.put_nowait(None)
                    break
                if job.creates or weight + job.weight > MAX_BATCH:
                    held = job
                    break
                jobs.append(job)
                weight += job.weight
            await self._batch(jobs)

    async def _batch(self, jobs: Sequence[Job]) -> None:
        started = time.perf_counter()
        self.busy_since = time.monotonic()
        try:
            logs = await self._transaction(jobs)
        except asyncio.CancelledError:
            self._fail(jobs, Unknown("the server is stopping", code="unknown_outcome"))
            raise
        except _Recovery as exc:
            self.recovery = str(exc)
            self._fail(jobs, recovery())
            return
        except ZoppError as exc:
            self._failed()
            self._fail(jobs, exc)
            return
        except Exception as exc:  # whatever it is, nothing may be released on it
            self._failed()
            await self._drop()
            self._fail(jobs, Unknown("the audit log cannot be written", code="audit_unavailable"), cause=exc)
            return
        finally:
            self.busy_since = None
        self.last_append, self.failing_since = time.monotonic(), None
        self._observer.batch(sum(len(log.drafts) for log in logs), time.perf_counter() - started)
        for log in logs:
            await self._resolve(log)

    def _failed(self) -> None:
        self._observer.failed()
        self.failing_since = self.failing_since or time.monotonic()

    def _fail(self, jobs: Sequence[Job], error: ZoppError, cause: BaseException | None = None) -> None:
        error.__cause__ = cause or error.__cause__
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(error)
                job.future.exception()  # a caller that went away is no unhandled error

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def connection(self) -> asyncpg.Connection:
        """The batcher's own connection, opened anew if it was lost."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
            # A synchronous standby that was cancelled is a warning and a commit (§5.8): not durable for us.
            self._connection.add_log_listener(self._heard)
        return self._connection

    def _heard(self, connection: object, message: Any) -> None:
        if getattr(message, "severity_en", "") == "WARNING":
            self._warned = True

    # --- one batch

    async def _transaction(self, jobs: Sequence[Job]) -> list[_Log]:
        async with self.workspaces.lock:
            return await self._locked(jobs)

    @contextlib.contextmanager
    def _bounded(self, connection: asyncpg.Connection) -> Iterator[None]:
        """Closes the connection if what it is used for takes too long. An await that is cancelled instead would make
        asyncpg ask the database to cancel, which must not reach a COMMIT (§5.8)."""
        deadline = asyncio.get_running_loop().call_later(self._seconds, connection.terminate)
        try:
            yield
        finally:
            deadline.cancel()

    async def _locked(self, jobs: Sequence[Job]) -> list[_Log]:
        connection = await self.connection()
        with self._bounded(connection):
            logs = await self._committed(connection, jobs)
        marks = {}
        for log in logs:
            if log.appended is not None:
                log.tree.grow(log.appended)
                self.workspaces.trees[log.id] = log.tree
                if log.workspace is not None:
                    state = log.workspace.state
                    marks[log.id] = Mark(log.tree.size, log.tree.frontier.root, state.seq, state.head)
                else:
                    marks[log.id] = Mark(log.tree.size, log.tree.frontier.root, 0, "")
        if marks:
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._marks.advance, marks)
            except Unknown as exc:
                raise Unknown("the high-water file cannot be written", code="audit_unavailable") from exc
        return logs

    async def _committed(self, connection: asyncpg.Connection, jobs: Sequence[Job]) -> list[_Log]:
        self._warned = False
        transaction = connection.transaction()
        await transaction.start()
        try:
            logs = await self._decide(connection, jobs)
            for log in logs:
                if log.drafts:
                    await self._append(connection, log)
        except BaseException:
            try:
                await asyncio.wait_for(transaction.rollback(), 5)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._drop()  # the database undoes what its client left
            raise
        try:
            await transaction.commit()
        except Exception as exc:  # whatever it is, the commit record may be on the disk
            await self._drop()
            raise Unknown("the database went away while committing", code="unknown_outcome") from exc
        if self._warned:
            await self._drop()
            raise Unknown("the database committed with a warning", code="unknown_outcome")
        return logs

    async def _decide(self, connection: asyncpg.Connection, jobs: Sequence[Job]) -> list[_Log]:
        names = sorted({job.ws for job in jobs if job.ws is not None})
        for name in names:
            if self.workspaces.known(name) is None:
                await self.workspaces.get(connection, name)
        by_name = {name: self.workspaces.known(name) for name in names}
        ids = [ws.log for ws in by_name.values() if ws is not None]
        if any(job.ws is None for job in jobs):
            ids.append(SYSTEM)
        heads = {row["log_id"]: row for row in await connection.fetch("SELECT * FROM audit.lock_heads($1)", ids)}
        now = int(self._now() * 1000)
        fresh, policy, seen, clock = await self._look(connection, jobs, names)
        self._check_clock(now, clock, heads)
        logs: dict[str | None, _Log] = {}
        for job in jobs:
            try:
                if job.ws not in logs:
                    logs[job.ws] = await self._open(connection, job, by_name, heads, policy)
                log = logs[job.ws]
            except _Recovery:
                raise
            except ZoppError as exc:
                self._fail([job], exc)
                continue
            context = Context(now)
            decide = job.decide
            keys = {(job.ws or "", keyid, nonce) for _, keyid, nonce in job.nonces}
            if keys <= fresh:
                fresh -= keys
            else:
                self._observer.replay()
                decide = job.replayed or _replayed
            if job.idem is not None and decide is job.decide:
                principal, word, digest = job.idem
                known = seen.get((job.ws or "", principal, word))
                context.again, context.same = known is not None, known is None or known == digest
                if known is None:
                    seen[job.ws or "", principal, word] = digest
            try:
                decided = decide(log.workspace, context)
            except ZoppError as exc:
                self._fail([job], exc)
                continue
            except Exception as exc:  # a fault in one decision is not the other jobs' affair
                self._fail([job], Unknown("the request could not be decided", code="audit_unavailable"), cause=exc)
                continue
            self._take(log, job, decided, context)
        return list(logs.values())

    def _take(self, log: _Log, job: Job, decided: Decided, context: Context) -> None:
        if decided.workspace is not None:
            log.workspace, log.id, log.origin = decided.workspace, decided.workspace.log, decided.workspace.origin
            log.tree.log = log.id
        first = log.head_size + len(log.drafts)
        # Lines stand at the end of a job's entries, in order; each knows the seq of its entry.
        base = first + len(decided.entries) - len(decided.lines)
        log.lines += [(line, base + number) for number, line in enumerate(decided.lines)]
        log.drafts += decided.entries
        log.writes += decided.writes
        if job.idem is not None and decided.entries and not context.again:
            log.idems.append((*job.idem, first))
        if job.addr is not None and decided.entries:
            log.addrs.append((first, job.addr))
        if decided.state is not None and log.workspace is not None:
            # Jobs behind this one in the batch are decided under the new policy; the cache learns after the commit.
            log.workspace = self.workspaces.moved(log.workspace, decided.state)
        state = None if log.workspace is None else log.workspace.state
        log.done.append((job, decided, first, state))

    @staticmethod
    def _check_clock(now: int, database: _Clock, heads: dict[str, Any]) -> None:
        """Nothing is recorded at a time that the log would not bear out: when this clock or the database's was stepped,
        or is behind the newest checkpoint or the last sweep, the nonces of the time it shows may be gone (A24)."""
        if abs(now - database.now) > MAX_DRIFT_MS:
            raise Unknown("the server's clock is not the database's", code="audit_unavailable")
        newest = max((int(head["signed_at"].timestamp() * 1000) for head in heads.values()), default=0)
        if now < max(newest, database.swept) - BACKWARDS_MS:
            raise Unknown("the server's clock is behind its log", code="audit_unavailable")

    async def _look(
        self, connection: asyncpg.Connection, jobs: Sequence[Job], names: Sequence[str]
    ) -> tuple[set[tuple[str, str, bytes]], dict[str, tuple[int, str]], dict[tuple[str, str, str], bytes], _Clock]:
        """After the lock, in one statement (a new snapshot): which nonces are new, where each policy stands, which
        idempotency keys were used with what, and the database's clock."""
        nonces = [(nonce, job.ws or "") for job in jobs for nonce in job.nonces]
        idems = [(job.ws or "", *job.idem[:2]) for job in jobs if job.idem is not None]
        rows = await connection.fetch(
            _LOOK,
            [nonce[0] for nonce, _ in nonces],
            [ws for _, ws in nonces],
            [nonce[1] for nonce, _ in nonces],
            [nonce[2] for nonce, _ in nonces],
            names,
            [idem[0] for idem in idems],
            [idem[1] for idem in idems],
            [idem[2] for idem in idems],
        )
        fresh = {(row["a"], row["b"], row["c"]) for row in rows if row["kind"] == "n"}
        policy = {row["a"]: (row["d"], row["b"]) for row in rows if row["kind"] == "h"}
        seen = {(row["a"], row["e"], row["b"]): row["c"] for row in rows if row["kind"] == "i"}
        times = {row["kind"]: row["d"] for row in rows if row["kind"] in ("c", "s")}
        return fresh, policy, seen, _Clock(times["c"], times.get("s", 0))

    async def _open(
        self,
        connection: asyncpg.Connection,
        job: Job,
        by_name: dict[str, Workspace | None],
        heads: dict[str, Any],
        policy: dict[str, tuple[int, str]],
    ) -> _Log:
        if job.ws is None:
            workspace, log_id, origin = None, SYSTEM, system_origin(self.workspaces.server)
        else:
            workspace = by_name[job.ws]
            if workspace is None:
                if not job.creates:
                    raise Unknown("there is no such workspace", code="not_found")
                return _Log("", "", job.ws, 0, Tree("", merkle.EMPTY, self.workspaces.cache), None, None)
            log_id, origin = workspace.log, workspace.origin
            if job.ws not in policy:
                raise _Recovery("a workspace's row is gone")
            mark = self._marks.marks.get(log_id)
            if mark is not None and policy[job.ws][0] < mark.policy_seq:
                raise _Recovery("the policy in the database is older than the high-water file")
            moved = policy[job.ws] != (workspace.state.seq, workspace.state.head)
            if moved:
                self._observer.policy_retry()
                if policy[job.ws][0] < workspace.state.seq:
                    raise _Recovery("the policy in the database is older than what this server has seen")
                workspace = await self.workspaces.bring(connection, job.ws, *policy[job.ws])
                if mark is not None and workspace.state.hash_at(mark.policy_seq) != mark.policy_head:
                    raise _Recovery("the policy in the database is not that of the high-water file")
        head = heads.get(log_id)
        if head is None:
            if workspace is not None or log_id in self._marks.marks:
                raise _Recovery("a log is gone from the database")
            tree = Tree(log_id, merkle.EMPTY, self.workspaces.cache)
        else:
            tree = await self._tree(connection, log_id, head)
        return _Log(log_id, origin, job.ws, tree.size, tree, workspace, workspace.state if workspace else None)

    async def _tree(self, connection: asyncpg.Connection, log_id: str, head: Any) -> Tree:
        mark = self._marks.marks.get(log_id)
        if mark is not None and head["size"] < mark.size:
            raise _Recovery("the database is behind the high-water file")
        known = self.workspaces.trees.get(log_id)
        try:
            tree = await self.workspaces.tree(connection, log_id, head["size"], head["frontier"])
            fresh = mark is not None and (tree is not known or head["size"] == mark.size)
            if mark is not None and fresh and await tree.root_at(connection, mark.size) != mark.root:
                raise _Recovery("the database differs from the high-water file")
        except IntegrityError as exc:
            raise _Recovery(exc.message) from exc
        if tree.frontier.root != head["root"]:
            raise _Recovery("the log's root is not that of its rows")
        return tree

    async def _append(self, connection: asyncpg.Connection, log: _Log) -> None:
        drafts = log.drafts
        # A whole log that is uploaded may be longer than one call takes; its tree is nobody else's yet.
        while len(drafts) > MAX_CALL:
            log.tree.grow(await self._call(connection, log, drafts[:MAX_CALL]))
            drafts = drafts[MAX_CALL:]
        appended = await self._call(connection, log, drafts)
        log.appended = appended
        ws = log.workspace
        if log.lines and ws is not None:
            await self._policy(connection, log, ws)
        if log.idems or log.addrs:
            await connection.execute(
                _BESIDE,
                *(log.id, [seq for seq, _ in log.addrs], [addr for _, addr in log.addrs]),
                log.ws or "",
                *([each[part] for each in log.idems] for part in range(4)),
            )
        grouped: dict[str, list[tuple[Any, ...]]] = {}
        for sql, arguments in log.writes:
            grouped.setdefault(sql, []).append(arguments)
        for sql, rows in grouped.items():
            await connection.executemany(sql, rows)

    async def _call(self, connection: asyncpg.Connection, log: _Log, drafts: Sequence[Draft]) -> merkle.Appended:
        appended = log.tree.append([merkle.leaf_hash(draft.body) for draft in drafts])
        made = Checkpoint(log.origin, appended.after.size, appended.root)
        log.note = checkpoint.sign(made, self._key)
        tiles = log.tree.full_tiles(appended)
        await connection.fetchval(
            "SELECT audit.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
            log.id,
            log.origin,
            log.tree.size,
            [_time(draft.ts) for draft in drafts],
            [draft.action for draft in drafts],
            [draft.outcome for draft in drafts],
            [draft.actor for draft in drafts],
            [draft.on_behalf for draft in drafts],
            [draft.project for draft in drafts],
            [draft.env for draft in drafts],
            [draft.uuid for draft in drafts],
            [draft.body for draft in drafts],
            appended.root,
            appended.after.pack(),
            log.note.serialise().decode(),
            _time(int(self._now() * 1000)),
            [tile.level for tile, _ in tiles],
            [tile.n for tile, _ in tiles],
            [data for _, data in tiles],
        )
        return appended

    async def _policy(self, connection: asyncpg.Connection, log: _Log, ws: Workspace) -> None:
        if log.before is None:
            await connection.execute(
                "INSERT INTO policy.workspace VALUES ($1, $2, $3, $4)",
                *(ws.name, bytes.fromhex(ws.log), ws.state.seq, bytes.fromhex(ws.state.head)),
            )
        else:
            await connection.execute(
                "UPDATE policy.workspace SET policy_seq = $2, policy_head = $3 WHERE id = $1",
                *(ws.name, ws.state.seq, bytes.fromhex(ws.state.head)),
            )
        assert log.note is not None
        note = log.note.serialise().decode()
        await connection.executemany(
            "INSERT INTO policy.statement VALUES ($1, $2, $3, $4, $5, $6)",
            [
                (
                    ws.name,
                    line.seq,
                    bytes.fromhex(line.hash),
                    line.line,
                    entry,
                    note if line.type == "server.set" else None,
                )
                for line, entry in log.lines
            ],
        )
        await projection.update(connection, log.before, ws.state)

    async def _resolve(self, log: _Log) -> None:
        """After all is durable: what was learned goes to the caches, and each caller gets its answer."""
        if log.workspace is not None and log.appended is not None:
            known = self.workspaces.known(log.workspace.name)
            if known is None:
                self.workspaces.add(log.workspace)
            else:
                known.state = log.workspace.state
        proofs: dict[int, tuple[bytes, ...]] = {}
        for job, decided, first, state in log.done:
            if job.future.done():
                continue
            if decided.error is not None:
                job.future.set_exception(decided.error)
                job.future.exception()
                continue
            try:
                receipts = []
                if log.appended is not None and log.note is not None:
                    for number, draft in enumerate(decided.entries):
                        hashes = log.appended.inclusion(first + number)
                        receipts.append(Receipt(draft.body, Proof(first + number, tuple(hashes), log.note).serialise()))
                if job.size not in proofs:
                    proofs[job.size] = await self._consistency(log, job.size)
                recorded = Recorded(
                    decided.value,
                    first,
                    receipts,
                    proofs[job.size],
                    0 if state is None else state.seq,
                    "" if state is None else state.head,
                )
            except Exception as exc:  # recorded and not answered: the harmless side
                self._fail([job], Unknown("the answer could not be made", code="unknown_outcome"), cause=exc)
                continue
            job.future.set_result(recorded)

    async def _consistency(self, log: _Log, size: int) -> tuple[bytes, ...]:
        # Not `tree.size`: a reader of this process may make the tree grow while a node is fetched.
        tree, new = log.tree, log.head_size + len(log.drafts)
        if size >= new or size == 0:
            return ()
        if log.appended is not None and size == log.appended.before.size:
            return tuple(log.appended.consistency())
        connection = await self.connection()
        with self._bounded(connection):
            return tuple(await tree.prove(connection, lambda read: merkle.consistency(read, size, new), new))


_HEADS = """
SELECT l.log_id, l.size, l.root, l.frontier, w.policy_seq, encode(w.policy_head, 'hex') AS head
FROM audit.log l LEFT JOIN policy.workspace w ON encode(w.genesis, 'hex') = l.log_id
"""

_LOOK = """
WITH n AS (
  INSERT INTO rt.replay SELECT * FROM unnest($1::smallint[], $2::text[], $3::text[], $4::bytea[])
  ON CONFLICT DO NOTHING RETURNING ws, keyid, nonce
)
SELECT 'n' AS kind, ws AS a, keyid AS b, nonce AS c, NULL::bigint AS d, NULL AS e FROM n
UNION ALL
SELECT 'c', NULL, NULL, NULL, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, NULL
UNION ALL
SELECT 's', NULL, NULL, NULL, (extract(epoch FROM at) * 1000)::bigint, NULL FROM rt.swept
UNION ALL
SELECT 'h', id, encode(policy_head, 'hex'), NULL, policy_seq, NULL FROM policy.workspace WHERE id = ANY ($5::text[])
UNION ALL
SELECT 'i', i.ws, i.key, i.req_digest, i.first_seq, i.principal FROM rt.idempotency i
JOIN unnest($6::text[], $7::text[], $8::text[]) AS w (ws, principal, key)
  ON (i.ws, i.principal, i.key) = (w.ws, w.principal, w.key)
"""


_BESIDE = """
WITH a AS (
  INSERT INTO rt.client_addr
  SELECT $1::text, seq, addr::inet FROM unnest($2::bigint[], $3::text[]) AS t (seq, addr) ON CONFLICT DO NOTHING
)
INSERT INTO rt.idempotency
SELECT $4::text, principal, key, digest, seq, now() + interval '1 day'
FROM unnest($5::text[], $6::text[], $7::bytea[], $8::bigint[]) AS t (principal, key, digest, seq) ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class _Clock:
    """The database's clock, and when it last emptied nonces (0: never). Unix milliseconds."""

    now: int
    swept: int


class _Recovery(Exception):
    """The database is not what this server has seen: nothing is released on it."""


def recovery() -> Unknown:
    """What everybody is told then."""
    return Unknown("the server is in recovery: its database is not what it has seen before", code="recovery")


def system_origin(server: str) -> str:
    """The origin of the log of what belongs to no workspace."""
    return server.partition("://")[2] + "/system"


def _replayed(workspace: Workspace | None, context: Context) -> Decided:
    from zopp.protocol.signing import replayed

    return Decided(error=replayed())


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
