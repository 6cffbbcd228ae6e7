"""How long anybody waits for a database that is frozen, full of others or gone; and what is said meanwhile."""

import contextlib
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.server.conftest import Database
from tests.server.faults import History, Reader, arena, probe, stage, until
from tests.server.live import Live, Office, free_port, live, settings_for, team
from tests.server.test_faults import judged
from zopp.errors import Unknown
from zopp_server import bootstrap, service as services, startup
from zopp_server.embedded import SUPERUSER

PROD = "api/production"


@pytest.fixture
def reader(office: Office) -> Iterator[Reader]:
    """Carol, who may read production."""
    made = Reader(office, office.members["carol-laptop"], office.brokered("alice-laptop", PROD), History())
    yield made
    made.close()


def ready(server: Live) -> list[str]:
    assert server.service is not None
    return startup.reasons(server.service)


@contextlib.contextmanager
def frozen(database: Database, server: Live) -> Iterator[None]:
    """The batcher's backend is stopped by SIGSTOP, so that it neither answers nor notices that its client left."""
    assert server.service is not None
    connection = server.service.batcher._connection
    assert connection is not None
    pid = connection.get_server_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_frozen_database_stops_nobody_for_longer_than_the_deadline(
    server: Live, office: Office, reader: Reader, database: Database
) -> None:
    """Nothing is released while it is frozen; the lock it holds goes with it, and the log goes on."""
    assert server.service is not None
    server.service.batcher._seconds = 0.5
    assert reader.ask()
    with frozen(database, server):
        begin = time.monotonic()
        assert not reader.ask()
        assert time.monotonic() - begin < 25  # the client's own tries included
        assert reader.history.refused.keys() <= {"unknown_outcome", "audit_unavailable", "busy"}
        assert "the audit log could not be written" in ready(server)
    until(reader.ask, 20, "a release after the freeze")
    server.causes.clear()
    assert judged(database, office, reader.history).findings == []


def test_readiness_comes_back_without_traffic(server: Live, reader: Reader, database: Database) -> None:
    """After a batch that failed nobody asks; the server itself writes an entry that says so, and is ready again."""
    assert server.service is not None
    batcher = server.service.batcher
    assert reader.ask()

    async def gone() -> None:
        connection = batcher._connection
        assert connection is not None
        connection.terminate()

    # The next connection fails: Postgres refuses the role.
    database.execute(SUPERUSER, "ALTER ROLE zopp_app NOLOGIN")
    try:
        server.run(gone())
        assert not reader.ask()
        assert "the audit log could not be written" in ready(server)
        with pytest.raises((Unknown, OSError, asyncpg.PostgresError)):
            server.run(startup.probe(server.service))
        assert "the audit log could not be written" in ready(server)
    finally:
        database.execute(SUPERUSER, "ALTER ROLE zopp_app LOGIN")
    server.run(startup.probe(server.service))
    assert ready(server) == []
    said = database.value(
        "zopp_app",
        "SELECT count(*) FROM audit.entry WHERE log_id = 'system' AND action = 'operator'"
        " AND convert_from(body, 'UTF8') LIKE '%\"event\":\"resume\"%'",
    )
    assert said == 1
    server.causes.clear()


def test_readers_of_the_log_are_told_when_there_is_no_connection_left(
    server: Live, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All connections of the pool are in use: 503 after the deadline, and releases, which have their own, go on."""
    monkeypatch.setattr(services, "ACQUIRE_SECONDS", 0.2)
    assert server.service is not None
    pool = server.service.pool
    alice = office.members["alice-laptop"]
    alice.server.pause = lambda seconds: None
    alice.server.get(f"/v1/audit/{office.name}/count")

    async def take() -> list[Any]:
        return [await pool.acquire() for _ in range(pool.get_max_size())]

    async def give(held: list[Any]) -> None:
        for each in held:
            await pool.release(each)

    held = server.run(take())
    try:
        begin = time.monotonic()
        with pytest.raises(Unknown) as refused:
            alice.server.get(f"/v1/audit/{office.name}/count")
        assert refused.value.code == "audit_unavailable"
        assert time.monotonic() - begin < 20
    finally:
        server.run(give(held))
    alice.server.get(f"/v1/audit/{office.name}/count")
    server.causes.clear()


@pytest.mark.parametrize("how", ["gone", "frozen"])
def test_the_server_ends_while_the_database_does_not_answer(tmp_path: Path, how: str) -> None:
    """SIGTERM's way with a request under way, and nothing that answers below: it ends, and the request is told."""
    with arena() as found:
        settings = settings_for(found.url(), tmp_path / "server")
        code = found.run(bootstrap.new_code, role="zopp_app")
        with live(settings.database, settings.data, settings=settings) as server:
            office = Office(server.origin, server.log_key)
            team(office, code)
            reader = Reader(office, office.members["carol-laptop"], office.brokered("alice-laptop", PROD), History())
            reader.server.pause = lambda seconds: None
            assert reader.ask()
            assert server.service is not None
            server.service.batcher._seconds = 1.0
            pids = found.backends()
            if how == "gone":
                found.kill()
            else:
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
            try:
                asked = threading.Thread(target=reader.ask)
                asked.start()
                time.sleep(0.2)
                begin = time.monotonic()
                server.stop()
                asked.join(30)
                assert not asked.is_alive()
                assert time.monotonic() - begin < 30
            finally:
                if how == "frozen":
                    for pid in pids:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGCONT)
            assert reader.history.faults == []
            assert len(reader.history.acks) == 1
            reader.close()
            office.close()


def test_a24_nothing_is_recorded_before_the_last_sweep(server: Live, reader: Reader, database: Database) -> None:
    """Both clocks stepped back together behind a sweep: the nonces of that time are gone, so nothing is taken."""
    assert server.service is not None
    assert reader.ask()
    server.run(startup.sweep(server.service))
    assert reader.ask()
    assert database.value("zopp_app", "SELECT count(*) FROM rt.swept") == 1
    database.execute(SUPERUSER, "UPDATE rt.swept SET at = now() + interval '20 minutes'")
    reader.server.pause = lambda seconds: None
    assert not reader.ask()
    assert set(reader.history.refused) == {"audit_unavailable"}
    server.run(startup.sweep(server.service))
    assert not reader.ask(), "a sweep at an earlier time opened it again"
    database.execute(SUPERUSER, "UPDATE rt.swept SET at = now()")
    assert reader.ask()
    server.causes.clear()


def test_a24_a_step_of_the_clock_puts_sweeping_off(server: Live, database: Database) -> None:
    assert server.service is not None
    steady = startup.Steady(time.monotonic() - 10_000)
    now = time.time()
    steady.last = time.monotonic(), now - 3600  # an hour in no time
    server.run(startup.sweep(server.service, steady))
    assert database.value("zopp_app", "SELECT count(*) FROM rt.swept") == 0
    steady = startup.Steady(time.monotonic() - 10_000)
    steady.last = time.monotonic(), now
    server.run(startup.sweep(server.service, steady))
    assert database.value("zopp_app", "SELECT count(*) FROM rt.swept") == 1


def test_readyz_over_http(server: Live) -> None:
    port = server.settings.listen[1]
    assert probe(port) == 200
    assert server.service is not None
    server.service.draining = True
    assert probe(port) == 503
    assert probe(port, "/livez") == 200


def test_the_metrics_of_a_running_server() -> None:
    """The process as it is served: what was asked of it is what its metrics say."""
    port = free_port()
    with stage(1, metrics=port) as found:
        (reader,) = found.readers
        assert all(reader.ask() for _ in range(5))
        found.office.members["alice-laptop"].server.get(f"/v1/audit/{found.office.name}/count")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        values = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
        assert values['zopp_releases_total{outcome="allow",reason="role"}'] == 5
        assert values['zopp_http_requests_total{code="200",method="POST",route="/v1/releases/{ws}"}'] == 5
        assert values['zopp_http_request_duration_seconds_count{route="/v1/releases/{ws}"}'] == 5
        assert values["zopp_http_connections"] >= 1
        assert values["zopp_db_read_duration_seconds_count"] >= 1
        assert values["zopp_audit_batch_size_sum"] >= 5
        assert values['zopp_cache_requests_total{cache="workspace",result="hit"}'] >= 5
        assert values["zopp_audit_queue_depth"] == values["zopp_recovery"] == 0
        assert values['zopp_log_size{log="sum"}'] > values['zopp_log_size{log="system"}'] > 0
        reader.close()
