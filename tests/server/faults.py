"""What fault tests are made of: a Postgres and a server that can be killed, a TCP proxy that cuts, clients that keep
what was acknowledged, and the oracle that compares it with the log.

The oracle knows nothing of the server: it reads the rows, makes the tree again, and asks `zopp.protocol.replay`, which
is what `zopp audit verify --replay` runs. `benchmarks/faults.py` runs the same with larger numbers.
"""

import asyncio
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg

from tests.server.conftest import BINARIES
from tests.server.live import Member, Office, settings_for, stanza, team
from zopp import _fast
from zopp.client.transport import Answer, Server, idem
from zopp.errors import Denied, Unknown, ZoppError
from zopp.policy import statement
from zopp.protocol import release
from zopp.protocol.replay import Replay
from zopp.tlog import checkpoint, entry, merkle, proof
from zopp_server import bootstrap, dev, embedded, limits, serve, startup
from zopp_server.config import Settings
from zopp_server.embedded import Embedded

PROD = "api/production"
NO_LIMITS = limits.Settings(address_rate=0, principal_rate=0, quota_rate=0)


# --- things to break


class Arena:
    """A Postgres of its own in `folder`, which can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = Embedded(folder / "embedded", bin_folder=BINARIES)

    def start(self) -> None:
        self.postgres.start()
        asyncio.run(dev._prepared(self.postgres))

    def url(self, role: str = "zopp_app", port: int = 0) -> str:
        made = dev.url(self.postgres, role)
        return made.replace(f":{self.postgres.port}/", f":{port}/") if port else made

    def kill(self) -> None:
        """kill -9 of the postmaster."""
        pid = self.postgres.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def again(self) -> None:
        """Start after a kill, by the launcher, on the same port."""
        self.postgres.stop(immediate=True)
        self.postgres = Embedded(self.postgres.folder, port=self.postgres.port, bin_folder=BINARIES)
        self.postgres.start()

    def run(self, work: Callable[[asyncpg.Connection], Awaitable[Any]], role: str = embedded.SUPERUSER) -> Any:
        async def once() -> Any:
            connection = await asyncpg.connect(self.url(role), timeout=20)
            try:
                return await work(connection)
            finally:
                await connection.close(timeout=20)

        return asyncio.run(once())

    def backends(self) -> list[int]:
        """The processes that serve the server's sessions."""
        rows = self.run(lambda c: c.fetch("SELECT pid FROM pg_stat_activity WHERE usename = 'zopp_app' ORDER BY pid"))
        return [row["pid"] for row in rows]

    def terminate(self, pid: int) -> None:
        self.run(lambda c: c.execute("SELECT pg_terminate_backend($1)", pid))


@contextmanager
def arena(folder: Path | None = None) -> Iterator[Arena]:
    """A running Arena, deleted at the end; in `folder` (a full disk's) or a temporary one."""
    made = folder or Path(tempfile.mkdtemp(prefix="zopp-faults-"))
    made.chmod(0o711)
    found = Arena(made)
    try:
        found.start()
        yield found
    finally:
        found.postgres.stop(immediate=True)
        if folder is None:
            shutil.rmtree(made)


class Child:
    """The server as a process of its own, as `zopp server serve` runs it, without limits."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 40) -> None:
        """Until it is ready. A start that the database's state refuses for now is tried again."""
        deadline = time.monotonic() + timeout
        s = self.settings
        told = json.dumps([s.database, s.origin, str(s.data), str(s.kek), str(s.log_key), s.listen[1], s.metrics])
        while True:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.server.faults", told],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE if os.environ.get("ZOPP_FAULTS_QUIET") else None,
            )
            while self._child.poll() is None:
                if probe(s.listen[1]) == 200:
                    return
                if time.monotonic() > deadline:
                    self.kill()
                    raise AssertionError("the server does not come up")
                time.sleep(0.05)
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.2)

    def kill(self) -> None:
        """kill -9."""
        assert self._child is not None
        self._child.kill()
        self._child.wait(20)

    def stop(self, timeout: float = 60) -> int:
        """SIGTERM, and its exit code."""
        assert self._child is not None
        self._child.terminate()
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the server does not stop") from None


def probe(port: int, path: str = "/readyz") -> int:
    """The status of a health path; 0 if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def until(what: Callable[[], bool], seconds: float, words: str) -> float:
    """Wait for `what`; how long it took. Fails with `words` after so many seconds."""
    begin = time.monotonic()
    while not what():
        assert time.monotonic() < begin + seconds, words
        time.sleep(0.05)
    return time.monotonic() - begin


class Proxy:
    """A TCP proxy to `port` of 127.0.0.1 in a thread, whose connections can be cut, reset and blackholed."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="proxy", daemon=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._call(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._open.set()
        self._ready.set()
        self._loop.run_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(task := asyncio.current_task())  # type: ignore[arg-type]
        self._writers.add(writer)
        try:
            await self._open.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(back)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except OSError:
            pass
        finally:
            writer.close()
            self._tasks.discard(task)  # type: ignore[arg-type]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
        self._writers.discard(writer)

    def _call(self, work: Callable[[], Awaitable[None]]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(20)  # type: ignore[arg-type]

    def cut(self, *, reset: bool = False) -> None:
        """End all connections, orderly or with a reset."""

        async def work() -> None:
            for writer in list(self._writers):
                if reset:
                    sock = writer.get_extra_info("socket")
                    with contextlib.suppress(OSError):
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                else:
                    writer.close()
            self._writers.clear()

        self._call(work)

    def blackhole(self, on: bool) -> None:
        """Swallow what comes, of new connections too; off: deliver it."""

        async def work() -> None:
            self._open.clear() if on else self._open.set()

        self._call(work)

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in list(self._writers):
            writer.transport.abort()


# --- clients and what they keep


@dataclass(slots=True)
class Via(Server):
    """A client that reaches the server, or another replica, at `host`."""

    host: str = ""

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.host, timeout=self.timeout)
        return self._connection

    def send(self, method: str, path: str, body: bytes) -> Answer:
        """One try only, so that began and ended are those of one request."""
        for _ in range(2):
            sent, status, answer = self._once(method, path, body)
            if sent is not None:
                break
        else:
            raise Unknown("the connection is closed", code="server.unreachable")
        if 200 <= status < 300:
            return Answer(status, answer, sent)
        raise self._problem(status, answer).error()


@dataclass(frozen=True, slots=True)
class Ack:
    """A release that was answered 200 and whose receipt held; times are time.monotonic()."""

    principal: str
    index: int
    body: bytes
    began: float
    ended: float


@dataclass
class History:
    """What all clients were told."""

    acks: list[Ack] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    faults: list[BaseException] = field(default_factory=list)
    """What no client should ever see."""


class Reader:
    """One member with a connection, who asks for one key again and again."""

    def __init__(self, office: Office, member: Member, recipient: str, history: History, host: str = "") -> None:
        self.office, self.member, self.history = office, member, history
        self.server = Via(office.origin, office.log_key, member.key)
        self.server.host = host or office.origin.partition("://")[2]
        self.item = stanza(recipient)[0]
        self.kept: checkpoint.Checkpoint | None = None

    def close(self) -> None:
        """Close the connection."""
        self.server.close()

    def ask(self, purpose: str = "read") -> bool:
        """Whether a key was released. Everything but an honest refusal is kept as a fault."""
        size = self.kept.size if self.kept else 0
        ws = self.office.now.ws
        request = release.Request(ws=ws, env=PROD, purpose=purpose, size=size, idem=idem(), items=(self.item,))
        body = release.build_request(request)
        began = time.monotonic()
        try:
            answer = self.server.post(f"/v1/releases/{self.office.name}", body)
            response = release.parse_response(answer.body)
            made = release.accept(
                response, request, self.office.log, sent=answer.sent, body=body, kept=self.kept,
                identities=self.member.identities,
            )  # fmt: skip
            ended = time.monotonic()
            self.kept = made.checkpoint
            receipt = response.results[0].receipt
            assert made.keys[0] is not None
            assert receipt is not None
            index = proof.parse(receipt.proof).index
            self.history.acks.append(Ack(self.member.principal, index, receipt.body, began, ended))
            return True
        except (Unknown, Denied) as exc:
            self.history.refused[exc.code] += 1
            if exc.code not in _HONEST:
                self.history.faults.append(exc)
        except (ZoppError, AssertionError) as exc:
            self.history.faults.append(exc)
        finally:
            self.history.slowest = max(self.history.slowest, time.monotonic() - began)
        return False


_HONEST = ("audit_unavailable", "busy", "unknown_outcome", "server.unreachable", "denied")


@contextmanager
def asking(readers: list[Reader], pause: float = 0.0) -> Iterator[None]:
    """All readers ask all the time, each in a thread; none is left running at the end."""
    end = threading.Event()

    def work(reader: Reader) -> None:
        while not end.is_set():
            if not reader.ask():
                end.wait(0.05)
            elif pause:
                end.wait(pause)

    threads = [threading.Thread(target=work, args=(reader,), daemon=True) for reader in readers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads), "a client hangs"
        for reader in readers:
            reader.server.close()


# --- the oracle


@dataclass
class Verdict:
    """`findings` are to be none; `size` the entries of the workspace's log, `acked` those that were acknowledged."""

    findings: list[str]
    size: int
    acked: int
    allowed: int
    """release entries that say yes, acknowledged or not"""


async def judge(connection: asyncpg.Connection, office: Office, history: History) -> Verdict:
    """Everything that was acknowledged stands in the log once, at its index, and the log is one that `audit verify`
    takes."""
    found = [f"a client saw {type(exc).__name__}: {exc}" for exc in history.faults]
    bodies: list[bytes] = []
    for head in await connection.fetch("SELECT log_id, size, root, checkpoint FROM audit.log ORDER BY log_id"):
        rows = await connection.fetch(
            "SELECT seq, leaf, body FROM audit.entry WHERE log_id = $1 ORDER BY seq", head["log_id"]
        )
        if [row["seq"] for row in rows] != list(range(head["size"])):
            found.append(f"log {head['log_id']} is not contiguous")
        leaves = [_fast.sha256(b"\x00" + row["body"]) for row in rows]
        if leaves != [row["leaf"] for row in rows]:
            found.append(f"log {head['log_id']}: a leaf is not that of its body")
        root = merkle.root_of(leaves)
        text = head["checkpoint"].encode()
        if root != head["root"]:
            found.append(f"log {head['log_id']}: the root does not follow from the bodies")
        if head["log_id"] == office.now.ws:
            bodies = [row["body"] for row in rows]
            signed = checkpoint.read(text, office.log)
            if (signed.size, signed.root) != (head["size"], root):
                found.append("the newest checkpoint is of another tree")
    number = Counter(bodies)
    for ack in history.acks:
        if ack.index >= len(bodies) or bodies[ack.index] != ack.body:
            found.append(f"acknowledged at {ack.index} and not there: {ack.principal}")
        elif number[ack.body] != 1:
            found.append(f"acknowledged at {ack.index}, and {number[ack.body]} times in the log")
    if len({ack.index for ack in history.acks}) != len(history.acks):
        found.append("two acknowledgements have one entry")
    replay = Replay(office.now.ws, office.lines, [(signed, "the newest checkpoint")] if bodies else [])
    for index, body in enumerate(bodies):
        replay.add(body, index)
    found += [f"replay: {each.index} {each.code} {each.message}" for each in replay.end()]
    found += _windows(bodies, history)
    allowed = sum(b'"release"' in body and entry.parse(body).outcome == "allow" for body in bodies)
    return Verdict(found, len(bodies), len(history.acks), allowed)


def _windows(bodies: list[bytes], history: History) -> list[str]:
    """By the order of the log alone: no release of somebody between a revocation and the next grant. Knows only the
    bindings of single users on PROD, of which the first device is `USER-laptop`."""
    closed: set[str] = set()
    found = []
    for index, body in enumerate(bodies):
        made = entry.parse(body)
        if made.action == "statement" and made.outcome == "allow" and made.line is not None:
            st = statement.parse(made.line)
            user = st.data.get("subject", {}).get("user") if st.type.startswith("binding.") else None
            if user is not None:
                (closed.add if st.type == "binding.remove" else closed.discard)(f"{user}-laptop")
        elif made.action == "release" and made.outcome == "allow" and made.actor in closed:
            found.append(f"released at {index} to {made.actor}, whose role was gone")
    return found


# --- a whole run


@dataclass
class Stage:
    """A team on a server in a process of its own, behind a proxy to its Postgres."""

    arena: Arena
    proxy: Proxy
    child: Child
    office: Office
    recipient: str
    history: History
    readers: list[Reader]

    def verdict(self) -> Verdict:
        return self.arena.run(lambda c: judge(c, self.office, self.history))  # type: ignore[no-any-return]


@contextmanager
def stage(
    readers: int, folder: Path | None = None, data: Path | None = None, metrics: int | None = None
) -> Iterator[Stage]:
    """`readers` clients of their own devices; `folder` the disk of the database, `data` that of the high-water file,
    `metrics` a port."""
    with arena(folder) as made, Proxy(made.postgres.port) as proxy, tempfile.TemporaryDirectory() as work:
        settings = settings_for(made.url(port=proxy.port), data or Path(work) / "server")
        child = Child(replace(settings, metrics=None if metrics is None else ("127.0.0.1", metrics)))
        child.start()
        office = Office(settings.origin, startup.load_keys(settings).log_key.public)
        try:
            team(office, made.run(bootstrap.new_code, "zopp_app"))
            recipient = office.brokered("alice-laptop", PROD)
            history = History()
            names = ["carol-laptop"]
            for number in range(1, readers):
                names.append(f"carol-{number}")
                office.enrol("alice-laptop", names[-1], "carol")
            found = [Reader(office, office.members[name], recipient, history) for name in names]
            yield Stage(made, proxy, child, office, recipient, history, found)
        finally:
            office.close()
            child.kill()


KINDS = ("app", "postmaster", "terminate", "backend", "cut", "reset", "blackhole", "freeze")


def strike(found: Stage, kind: str, rng: random.Random) -> None:
    """One fault, and what an operator does about it: start again what was killed."""
    if kind == "app":
        found.child.kill()
        found.child.start()
    elif kind == "postmaster":
        found.arena.kill()
        found.arena.again()
    elif kind == "backend":  # kill -9 of one: the postmaster starts all anew
        _signal(found, rng, signal.SIGKILL)
    elif kind == "terminate":
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            for pid in found.arena.backends():
                found.arena.terminate(pid)
    elif kind in ("cut", "reset"):
        found.proxy.cut(reset=kind == "reset")
    elif kind == "blackhole":
        found.proxy.blackhole(True)
        time.sleep(rng.uniform(0.1, 1.0))
        if rng.random() < 0.5:
            found.proxy.cut(reset=True)  # what was under way never arrives
        found.proxy.blackhole(False)
    elif kind == "freeze":
        pid = _signal(found, rng, signal.SIGSTOP)
        time.sleep(rng.uniform(0.1, 1.0))
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGCONT)


def _signal(found: Stage, rng: random.Random, sign: int) -> int:
    try:
        pid = rng.choice(found.arena.backends() or [0])
        if pid:
            os.kill(pid, sign)
        return pid
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return 0  # it is just being started again


@dataclass
class Report:
    """A run's figures."""

    seed: int
    seconds: float
    faults: Counter[str]
    verdict: Verdict
    refused: Counter[str]
    slowest: float


def chaos(
    seed: int, *, faults: int = 0, seconds: float = 0, clients: int = 6, kinds: tuple[str, ...] = KINDS
) -> Report:
    """Faults under load, `faults` many or for `seconds`, drawn with `seed`; then all must serve again, and the oracle
    is asked."""
    rng = random.Random(seed)
    struck: Counter[str] = Counter()
    with stage(clients) as found:
        begin = time.monotonic()
        with asking(found.readers):
            while (sum(struck.values()) < faults) if faults else (time.monotonic() < begin + seconds):
                before = len(found.history.acks)
                until(lambda: len(found.history.acks) >= before + 2 * clients, 60, "nothing is released any more")  # noqa: B023
                time.sleep(rng.uniform(0, 0.3))
                kind = kinds[sum(struck.values())] if sum(struck.values()) < len(kinds) else rng.choice(kinds)
                strike(found, kind, rng)
                struck[kind] += 1
            before = len(found.history.acks)
            until(lambda: len(found.history.acks) >= before + 2 * clients, 60, "nothing is released any more")
        took = time.monotonic() - begin
        assert found.child.stop() == 0
        return Report(seed, took, struck, found.verdict(), found.history.refused, found.history.slowest)


def main(told: str) -> None:
    """A server process: `Child`."""
    database, origin, data, kek, log_key, port, metrics = json.loads(told)
    settings = Settings(
        database=database, origin=origin, data=Path(data), kek=Path(kek), log_key=Path(log_key),
        listen=("127.0.0.1", port), log_level="error", metrics=tuple(metrics) if metrics else None,
    )  # fmt: skip
    try:
        serve.main(settings, limits=NO_LIMITS)
    except ZoppError as exc:
        sys.exit(f"server: {exc.message}")


if __name__ == "__main__":
    main(sys.argv[1])
