"""Faults under load, judged by the oracle of `faults`: nothing acknowledged is lost, nothing is released late.

Small here; `benchmarks/faults.py` runs the same at any size, and docs/reliability.md has the figures.
"""

import asyncio
import contextlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.server.conftest import Database, url
from tests.server.faults import History, Reader, Verdict, asking, chaos, judge
from tests.server.live import Live, Office, live, settings_for, stanza
from zopp import _fast
from zopp.errors import Unknown, ZoppError
from zopp.protocol import release, signing
from zopp_server import batcher as batching
from zopp_server.batcher import bucket_of
from zopp_server.config import Settings
from zopp_server.highwater import HighWater, Mark

PROD = "api/production"


def judged(database: Database, office: Office, history: History) -> Verdict:
    verdict: Verdict = database.run("zopp_app", lambda c: judge(c, office, history))
    return verdict


def test_every_kind_of_fault_once_under_load() -> None:
    """kill -9 of the server, of Postgres and of one backend; sessions ended, cut, reset, blackholed, frozen."""
    made = chaos(20261124, faults=8, clients=4)
    assert made.verdict.findings == []
    assert made.verdict.acked > 50
    assert made.slowest < 30


@pytest.mark.slow
def test_faults_for_two_minutes() -> None:
    made = chaos(7, seconds=120, clients=6)
    assert made.verdict.findings == []
    assert sum(made.faults.values()) > 40


# --- the k-th call to the database fails


class Failing:
    """The batcher's connection, whose k-th call fails: with an error, or with the session gone."""

    def __init__(self, connection: asyncpg.Connection, left: list[int], lost: bool) -> None:
        self._connection, self._left, self._lost = connection, left, lost

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        if name not in ("fetch", "fetchrow", "fetchval", "execute", "executemany"):
            return found

        async def call(*arguments: Any, **options: Any) -> Any:
            self._left[0] -= 1
            if self._left[0] == 0:
                if self._lost:
                    self._connection.terminate()
                    raise asyncpg.ConnectionDoesNotExistError("lost by the test")
                raise asyncpg.InternalServerError("failed by the test")
            return await found(*arguments, **options)

        return call


@pytest.mark.parametrize("lost", [False, True], ids=["error", "session lost"])
def test_whichever_call_fails_nothing_is_lost(
    office: Office, server: Live, database: Database, lost: bool, request: pytest.FixtureRequest
) -> None:
    """For every k: a release and a statement; what was acknowledged is in the log, and the next request is served."""
    sealed = office.brokered("alice-laptop", PROD)
    history = History()
    reader = Reader(office, office.members["carol-laptop"], sealed, history)
    request.addfinalizer(reader.close)
    assert server.service is not None
    batcher = server.service.batcher
    real = batcher.connection
    for k in range(1, 30):
        left = [k]

        async def broken(left: list[int] = left) -> Any:
            return Failing(await real(), left, lost)

        batcher.connection = broken  # type: ignore[method-assign]
        reader.ask()
        line = office.line("alice-laptop", "group.create", {"group": f"g{k}"})
        with contextlib.suppress(ZoppError):
            office.send(line)
        batcher.connection = real  # type: ignore[method-assign]
        assert reader.ask(), f"call {k}: nothing is released afterwards"
        state = office.pull("alice-laptop")
        if state.seq > office.now.seq:  # accepted, and the answer was lost
            assert state.head == _fast.sha256(line).hex()
            office.take(line)
        if left[0] > 0:
            break  # the scenario has fewer calls than this
    else:
        raise AssertionError("the scenario has more calls than were tried")
    assert k > 8
    server.causes.clear()
    assert history.faults == []
    assert judged(database, office, history).findings == []


# --- the high-water file


def test_a_crash_between_commit_and_high_water_loses_nothing(
    office: Office, server: Live, database: Database, request: pytest.FixtureRequest
) -> None:
    """The database is ahead of the marks then, which is the harmless side: no answer was given."""
    sealed = office.brokered("alice-laptop", PROD)
    history = History()
    reader = Reader(office, office.members["carol-laptop"], sealed, history)
    request.addfinalizer(reader.close)
    assert reader.ask()
    assert server.service is not None
    marks = server.service.batcher._marks
    real = marks.advance

    def full(found: Any) -> None:
        raise Unknown("the high-water file cannot be written (No space left on device)", code="highwater.write")

    marks.advance = full  # type: ignore[method-assign]
    assert not reader.ask()
    assert not reader.ask()
    assert history.refused == {"audit_unavailable": 2}
    marks.advance = real  # type: ignore[method-assign]
    assert reader.ask()
    server.causes.clear()
    server.stop()
    with live(server.settings.database, server.settings.data, settings=server.settings):
        assert reader.ask()
    verdict = judged(database, office, history)
    assert verdict.findings == []
    assert verdict.allowed == verdict.acked + 2  # recorded and not delivered: a superset, never a subset


def test_a_full_disk_under_the_high_water_file(tmp_path: Path) -> None:
    """A write that is cut short is taken back, and later ones go on; the file is whole."""
    path = tmp_path / "highwater"
    marks = HighWater(path, new=True)
    one = {"system": Mark(1, bytes(32), 0, "")}
    marks.advance(one)
    before = path.read_bytes()
    real = os.write
    try:
        os.write = lambda fd, data: real(fd, bytes(data[: len(data) // 2]))  # type: ignore[assignment]
        with pytest.raises(Unknown):
            marks.advance({"system": Mark(2, bytes(32), 0, "")})
    finally:
        os.write = real
    assert path.read_bytes() == before
    marks.advance({"system": Mark(3, bytes(32), 0, "")})
    marks.close()
    again = HighWater(path)
    assert again.marks["system"].size == 3
    again.close()


def test_a_torn_last_line_is_dropped_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "highwater"
    marks = HighWater(path, new=True)
    for size in (1, 2):
        marks.advance({"system": Mark(size, bytes(32), 0, "")})
    marks.close()
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    torn = HighWater(path)
    assert torn.marks["system"].size == 1
    torn.close()
    path.write_bytes(data.replace(b'"size":1', b'"size":x'))
    with pytest.raises(ZoppError) as refused:
        HighWater(path)
    assert refused.value.code == "highwater.damaged"


# --- two replicas


@pytest.fixture
def replica(server: Live, database: Database, tmp_path: Path) -> Iterator[Live]:
    """A second server on the same database, on a disk of its own."""
    first = server.settings
    own = settings_for(url(database), tmp_path / "replica")
    settings: Settings = replace(own, origin=first.origin, kek=first.kek, log_key=first.log_key)
    (tmp_path / "replica" / "highwater").write_bytes((tmp_path / "server" / "highwater").read_bytes())
    with live(url(database), tmp_path / "replica", settings=settings) as running:
        yield running
        assert not running.causes


RACES = int(os.environ.get("ZOPP_RACES", "40"))
STORMS = int(os.environ.get("ZOPP_STORMS", "1"))  # 80 requests each, 75 of them replays


def test_nothing_is_released_after_a_revocation_on_any_replica(
    office: Office, server: Live, replica: Live, database: Database
) -> None:
    """Carol asks both replicas all the time while her role is taken and given: by the log no release lies between a
    revocation and the next grant, and none was acknowledged whose request began after the revocation had returned."""
    sealed = office.brokered("alice-laptop", PROD)
    history = History()
    hosts = [server.origin.partition("://")[2], f"127.0.0.1:{replica.settings.listen[1]}"]
    readers = [Reader(office, office.members["carol-laptop"], sealed, history, host) for host in hosts * 2]
    closed: list[tuple[float, float]] = []
    scope, subject = {"env": PROD}, {"user": "carol"}
    with asking(readers):
        for _ in range(RACES):
            office.do("alice-laptop", "binding.remove", scope=scope, subject=subject)
            begin = time.monotonic()
            time.sleep(0.01)
            end = time.monotonic()
            office.do("alice-laptop", "binding.set", role="read", scope=scope, subject=subject)
            closed.append((begin, end))
            before = len(history.acks)
            deadline = time.monotonic() + 10
            while len(history.acks) < before + 2 and time.monotonic() < deadline:
                time.sleep(0.002)
    late = [ack for ack in history.acks for begin, end in closed if begin <= ack.began and ack.ended <= end]
    assert late == []
    verdict = judged(database, office, history)
    assert verdict.findings == []
    assert verdict.acked > RACES


def test_many_requests_at_once_bring_a_replica_up_to_date(office: Office, server: Live, replica: Live) -> None:
    """Each reads the lines that the replica has not seen; the later ones find them taken in by the first."""
    assert replica.service is not None
    service = replica.service

    async def all_at_once() -> list[int]:
        async def one() -> int:
            async with service.pool.acquire() as connection:
                found = await service.workspaces.get(connection, office.name)
                assert found is not None
                return found.state.seq

        return await asyncio.gather(*(one() for _ in range(6)))

    replica.run(all_at_once())
    office.brokered("alice-laptop", PROD)
    assert set(replica.run(all_at_once())) == {office.now.seq}
    workspace = service.workspaces.known(office.name)
    assert workspace is not None
    for keys in workspace.keys.values():
        assert len(keys) == len({key.recipient for key in keys})


def test_a_storm_of_one_request_on_two_replicas_is_one_release(
    office: Office, server: Live, replica: Live, database: Database
) -> None:
    """A24: the same captured requests in parallel to both, at the edges of window and bucket."""
    sealed = office.brokered("alice-laptop", PROD)
    member = office.members["carol-laptop"]
    hosts = [server.origin.partition("://")[2], f"127.0.0.1:{replica.settings.listen[1]}"]
    path = f"/v1/releases/{office.name}"
    codes: list[int] = []

    def send(host: str, body: bytes, fields: list[tuple[str, str]]) -> None:
        import http.client

        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("POST", path, body, dict(fields))
        codes.append(connection.getresponse().status)
        connection.close()

    for round_ in range(STORMS):
        now = int(time.time())
        for created in (now - 58, now - 30, now, now + 30, now + 58):
            nonce = os.urandom(16)
            request = release.Request(
                ws=office.now.ws, env=PROD, purpose="read", size=0, idem=nonce, items=(stanza(sealed)[0],)
            )
            body = release.build_request(request)
            sent = signing.sign(
                member.key, method="POST", target=office.origin + path, body=body, created=created, nonce=nonce
            )
            codes.clear()
            fields = signing.headers(sent)
            threads = [threading.Thread(target=send, args=(hosts[n % 2], body, fields)) for n in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert Counter(codes) == {200: 1, 401: 15}, (round_, created - now)


def test_a_bucket_is_the_signed_time_s_and_lives_as_long_as_a_nonce_can(database: Database) -> None:
    """Eight buckets of 300 s: of the times that a server may take now, none lies in a bucket that is emptied now."""
    rng = random.Random(1)
    for _ in range(2000):
        now = rng.randrange(10**9, 2 * 10**9)
        emptied = {bucket for bucket in range(batching.BUCKETS) if (bucket - now // 300) % 8 in (2, 3)}
        # 900 s back: a CI token's own time; 65 s ahead: the window and the clock's tolerance
        for moment in (now - 900, now - 61, now, now + 61, now + 65):
            assert bucket_of(moment) not in emptied


# --- clocks


def test_a_server_whose_clock_steps_records_nothing(
    office: Office, server: Live, database: Database, request: pytest.FixtureRequest
) -> None:
    """Forwards and backwards: refused while it is wrong, served again when it is right."""
    sealed = office.brokered("alice-laptop", PROD)
    history = History()
    reader = Reader(office, office.members["carol-laptop"], sealed, history)
    request.addfinalizer(reader.close)
    assert reader.ask()
    assert server.service is not None
    for step in (-3600, 3600, -45, 45):
        server.service.now = lambda step=step: time.time() + step
        server.service.batcher._now = server.service.now
        reader.server.now = server.service.now
        assert not reader.ask(), step
    server.service.now = server.service.batcher._now = reader.server.now = time.time
    assert reader.ask()
    server.causes.clear()
    assert judged(database, office, history).findings == []


# --- floods


def test_a28_a_flood_of_the_weakest_leaves_the_others_alone(database: Database, tmp_path: Path) -> None:
    """A member without any role and a stranger ask as fast as they can, under the real limits: a reader goes on being
    served within 250 ms at the median, and the log grows by the reader's releases and a handful."""
    from tests.server.conftest import code
    from tests.server.live import team
    from zopp.client.transport import Server
    from zopp.keys import signing as keys
    from zopp_server import limits, plugged

    settings = settings_for(url(database), tmp_path / "server")
    # one address sends everything here, so that its own limit would stop the reader as well
    parts = plugged.parts(settings, limits.Settings(address_rate=0))
    with live(settings.database, settings.data, gate=parts.gate, settings=settings) as running:
        office = Office(running.origin, running.log_key)
        team(office, code(database))
        sealed = office.brokered("alice-laptop", PROD)
        office.do("alice-laptop", "user.add", email_tag=None, user="weak")
        weak = office.enrol("alice-laptop", "weak-laptop", "weak")
        history, flood = History(), History()
        reader = Reader(office, office.members["carol-laptop"], sealed, history)
        flooders = [Reader(office, weak, sealed, flood) for _ in range(3)]
        stranger = Server(office.origin, office.log_key, keys.generate(), pause=lambda seconds: None)
        end = threading.Event()

        def strange() -> None:
            while not end.is_set():
                with contextlib.suppress(ZoppError):
                    stranger.get("/v1/policy/acme?from=0")

        def weaken(each: Reader) -> None:
            while not end.is_set():
                each.ask()

        before = database.value("zopp_app", "SELECT size FROM audit.log WHERE log_id = $1", office.now.ws)
        threads = [threading.Thread(target=strange, daemon=True)]
        threads += [threading.Thread(target=weaken, args=(each,), daemon=True) for each in flooders]
        for thread in threads:
            thread.start()
        times = []
        try:
            for _ in range(60):
                begin = time.monotonic()
                assert reader.ask()
                times.append(time.monotonic() - begin)
                time.sleep(0.03)
        finally:
            end.set()
            for thread in threads:
                thread.join(20)
        after = database.value("zopp_app", "SELECT size FROM audit.log WHERE log_id = $1", office.now.ws)
        assert sum(flood.refused.values()) > 100, flood.refused
        assert flood.acks == []
        assert sorted(times)[len(times) // 2] < 0.25, sorted(times)
        assert after - before <= 60 + limits.Settings().denials + 5
        counted = {each.what for each in parts.gate.summaries()}
        assert {"unauthenticated", "denied"} <= counted
        for each in (reader, *flooders):
            each.close()
        stranger.close()
        office.close()
    assert not running.causes
