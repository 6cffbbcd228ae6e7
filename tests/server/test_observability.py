"""Log lines and metrics: everything that should be there, and nothing that a request brought."""

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zopp.errors import IntegrityError
from zopp_server import observability as obs
from zopp_server.observability import FIELDS, Metrics, Observed, Record, describe, redact

CANARY = "Canary7+Secret/=="
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The log lines written since the start of the test."""
    stream = io.StringIO()
    obs.configure(stream, level="debug", hooks=False)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


# --- redaction


GOOD_FIELDS: dict[str, Any] = {
    "request": "AAAAAAAAAAAAAAAAAAAAAA",
    "workspace": "acme",
    "principal": "alice-laptop",
    "method": "POST",
    "route": "/v1/policy/{workspace}",
    "status": 200,
    "outcome": "allow",
    "reason": "stale_prev",
    "duration_ms": 1.5,
    "action": "audit.read",
    "scope": "api/staging@2",
    "log": "system",
    "issuer": "https://gitlab.com",
    "result": "ok",
    "seq": 5,
    "size": 0,
    "count": 1,
    "generation": 1,
    "seconds": 0.1,
    "version": "1.2.3",
    "listen": "[::1]:8443",
}


def test_known_fields_pass(lines: Callable[[], list[dict[str, Any]]]) -> None:
    obs.logger().info("server.started", **GOOD_FIELDS)
    (line,) = lines()
    stamp = line.pop("timestamp")
    assert line == {"event": "server.started", "level": "info", **GOOD_FIELDS}
    assert FIELDS["timestamp"](stamp)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, CANARY) for name in [*FIELDS, "body", "authorization", "signature", "query", "password", "jwt", ""]),
        *((name, [CANARY]) for name in FIELDS),
        *((name, {"x": CANARY}) for name in FIELDS),
        *((name, CANARY.encode()) for name in FIELDS),
        ("route", "/v1/policy/acme?token=x"),
        ("route", "/v1/policy/ACME"),
        ("route", "/v1/\n"),
        ("principal", "alice@example.com"),
        ("principal", "alice\n"),
        ("request", "AAAAAAAAAAAAAAAAAAAAAA\n"),
        ("status", True),
        ("status", 2**53),
        ("status", "200"),
        ("duration_ms", float("nan")),
        ("duration_ms", float("inf")),
        ("outcome", "maybe"),
        ("listen", "postgres://zopp:pw@db/zopp"),
        ("issuer", "https://user:pw@gitlab.com"),
        ("message", "Uvicorn running on %s"),
        ("frames", ["a.py:1 f", CANARY]),
        ("frames", ["a.py:1 f"] * 13),
    ],
)
def test_all_else_is_left_out_and_counted(lines: Callable[[], list[dict[str, Any]]], name: str, value: object) -> None:
    if name in ("event", "level", "timestamp"):
        redacted = redact(None, "info", {"event": "x", name: value})
        assert redacted == {"event": "redacted" if name == "event" else "x", "dropped": 1}
        return
    obs.logger().info("x", **{name: value})
    (line,) = lines()
    assert name not in line or name == "dropped"
    assert line["dropped"] == 1 and line["event"] == "x"


@given(
    st.dictionaries(
        st.sampled_from(sorted(FIELDS)) | st.text(max_size=10),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
            max_leaves=4,
        ),
        max_size=6,
    )
)
def test_redaction_takes_anything(event: dict[str, Any]) -> None:
    """The result is always one line of JSON, of known fields in their form."""
    kept = redact(None, "info", dict(event))
    line = obs._line(kept)
    assert "\n" not in line and json.loads(line) == kept
    assert kept.keys() <= FIELDS.keys()
    assert all(FIELDS[name](value) for name, value in kept.items())


def test_the_event_is_a_code(lines: Callable[[], list[dict[str, Any]]]) -> None:
    obs.logger().info(f"could not open {CANARY}")
    assert lines()[0]["event"] == "redacted"


def test_exceptions_give_types_and_places(lines: Callable[[], list[dict[str, Any]]]) -> None:
    try:
        try:
            raise ValueError(CANARY)
        except ValueError as exc:
            raise IntegrityError(CANARY, code="server_time") from exc
    except IntegrityError:
        obs.logger().error("request", exc_info=True)
    (line,) = lines()
    assert line["error"] == "zopp.errors.IntegrityError < ValueError" and line["code"] == "server_time"
    assert re.fullmatch(r"server/test_observability\.py:\d+ test_\w+", line["frames"][0])
    assert CANARY not in json.dumps(line)


def test_an_exception_group_or_local_class_is_described() -> None:
    class Local(Exception):
        pass

    for error in (Local(CANARY), ExceptionGroup(CANARY, [ValueError(CANARY)]), KeyError(CANARY)):
        found = describe(error)
        assert FIELDS["error"](found["error"]) and CANARY not in str(found)


def test_levels(lines: Callable[[], list[dict[str, Any]]]) -> None:
    stream = io.StringIO()
    obs.configure(stream, level="warning", hooks=False)
    obs.logger().info("quiet")
    obs.logger().warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_a_broken_stream_stops_nothing() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    obs.configure(Full(), hooks=False)
    obs.logger().info("x")
    closed = io.StringIO()
    closed.close()
    obs.configure(closed, hooks=False)
    obs.logger().info("x")
    structlog.reset_defaults()


# --- metrics

NAMES = {
    "zopp_http_requests_total": {"route", "method", "code"},
    "zopp_http_request_duration_seconds": {"route"},
    "zopp_releases_total": {"outcome", "reason"},
    "zopp_auth_failures_total": {"reason"},
    "zopp_audit_append_duration_seconds": set(),
    "zopp_audit_batch_size": set(),
    "zopp_audit_queue_depth": set(),
    "zopp_audit_append_failures_total": set(),
    "zopp_log_size": {"log"},
    "zopp_log_checkpoint_timestamp_seconds": set(),
    "zopp_policy_head_retries_total": set(),
    "zopp_policy_stale_prev_total": set(),
    "zopp_replay_rejected_total": set(),
    "zopp_jwks_refresh_total": {"issuer", "result"},
    "zopp_http_connections": set(),
    "zopp_db_pool_in_use": set(),
    "zopp_db_read_duration_seconds": set(),
    "zopp_cache_requests_total": {"cache", "result"},
    "zopp_recovery": set(),
    "zopp_build_info": {"version"},
}


def filled() -> Metrics:
    m = Metrics("1.2.3")
    m.http_requests.labels("/v1/x", "GET", "200").inc()
    m.http_request_duration_seconds.labels("/v1/x").observe(0.1)
    m.releases.labels("allow", "role").inc()
    m.auth_failures.labels("bad_signature").inc()
    m.audit_append_duration_seconds.observe(0.1)
    m.audit_batch_size.observe(3)
    m.log_size.labels("system").set(5)
    m.jwks_refresh.labels("https://gitlab.com", "ok").inc()
    m.caches["tile"] = lambda: (3, 1)
    return m


def test_metrics_are_those_of_the_specification() -> None:
    """Exactly these names and labels; none is a person, a workspace or a key."""
    text = filled().text().decode()
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(zopp_\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? ", text, re.MULTILINE):
        found.setdefault(name, set()).update(set(re.findall(r"(\w+)=", labels)) - {"le"})
    assert found == NAMES
    assert "_created" not in text and "python_" not in text


def test_the_specification_and_the_reference_name_them() -> None:
    page = (ROOT / "docs/reference/server.md").read_text()
    for name, labels in NAMES.items():
        assert re.search(rf"^\| `{name}(\{{.*\}})?` \|", page, re.MULTILINE), name
        assert all(label in page for label in labels)
    for field in FIELDS:
        assert f"`{field}`" in page, field


def test_two_processes_worth_of_metrics_do_not_meet() -> None:
    assert Metrics("1").registry is not Metrics("1").registry


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    with_eof = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return with_eof


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics HTTP/1.1", b"200"),
        (b"GET /metrics? HTTP/1.1", b"200"),
        (b"GET /metrics?name[]=x HTTP/1.1", b"404"),
        (b"GET / HTTP/1.1", b"404"),
        (b"GET /debug/pprof HTTP/1.1", b"404"),
        (b"POST /metrics HTTP/1.1", b"404"),
        (b"\x16\x03\x01", b"404"),
        (b"", b"404"),
    ],
)
def test_listener(request_line: bytes, status: bytes) -> None:
    async def work() -> None:
        server = await obs.listen(filled(), port=0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            assert server.sockets[0].getsockname()[0] == "127.0.0.1"
            answer = await ask(port, request_line + b"\r\nHost: x\r\n\r\n")
            assert answer.split(b" ", 2)[1] == status
            assert (b'zopp_build_info{version="1.2.3"} 1.0' in answer) == (status == b"200")
            assert await ask(port, b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 20000) == b""

    asyncio.run(work())


# --- the middleware


def application() -> Starlette:
    async def release(request: Request) -> Response:
        record: Record = request.scope[obs.RECORD]
        record.request, record.workspace = "AAAAAAAAAAAAAAAAAAAAAA", request.path_params["workspace"]
        record.principal, record.outcome, record.reason = "alice-laptop", "allow", "role"
        return JSONResponse({})

    async def fails(request: Request) -> Response:
        raise ValueError(CANARY)

    async def livez(request: Request) -> Response:
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/v1/releases/{workspace}", release, methods=["POST"]),
            Route("/v1/fails/{workspace}", fails),
            Route("/livez", livez),
        ]
    )


def call(app: obs.App, method: str, path: str, *, query: bytes = b"") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query,
        "headers": [(b"authorization", CANARY.encode())], "server": ("zopp.test", 443), "client": ("192.0.2.1", 5),
        "scheme": "https", "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return sent


def test_a_request_is_a_line_and_a_sample(lines: Callable[[], list[dict[str, Any]]]) -> None:
    metrics = Metrics("1")
    ticks = iter([1.0, 1.25])
    sent = call(Observed(application(), metrics, lambda: next(ticks)), "POST", "/v1/releases/acme")
    (line,) = lines()
    del line["timestamp"]
    assert line == {
        "event": "request",
        "level": "info",
        "request": "AAAAAAAAAAAAAAAAAAAAAA",
        "workspace": "acme",
        "principal": "alice-laptop",
        "method": "POST",
        "route": "/v1/releases/{workspace}",
        "status": 200,
        "outcome": "allow",
        "reason": "role",
        "duration_ms": 250.0,
    }
    assert (b"x-request-id", b"AAAAAAAAAAAAAAAAAAAAAA") in sent[0]["headers"]
    text = metrics.text().decode()
    assert 'zopp_http_requests_total{code="200",method="POST",route="/v1/releases/{workspace}"} 1.0' in text
    assert "acme" not in text and "alice" not in text


def test_paths_are_never_labels(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """Any number of made-up paths and methods is one series."""
    metrics = Metrics("1")
    app = Observed(application(), metrics)
    for number in range(20):
        call(app, "GET", f"/v1/{CANARY}/{number}", query=CANARY.encode())
        call(app, f"X{number}", f"/{number}")
    assert {line["route"] for line in lines()} == {"unmatched"}
    assert metrics.text().decode().count("zopp_http_requests_total{") == 2
    assert CANARY not in metrics.text().decode() + json.dumps(lines())


def test_an_exception_is_an_error_and_goes_on(lines: Callable[[], list[dict[str, Any]]]) -> None:
    metrics = Metrics("1")
    with pytest.raises(ValueError):
        call(Observed(application(), metrics), "GET", "/v1/fails/acme")
    (line,) = lines()
    assert (line["level"], line["status"], line["error"]) == ("error", 500, "ValueError")
    assert CANARY not in json.dumps(line)
    assert 'code="500"' in metrics.text().decode()


def test_a_cancelled_request_is_no_error(lines: Callable[[], list[dict[str, Any]]]) -> None:
    async def app(*_: object) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        call(Observed(app, Metrics("1")), "GET", "/")
    assert [(line["event"], line["level"]) for line in lines()] == [("request.cancelled", "info")]


def test_probes_are_quiet(lines: Callable[[], list[dict[str, Any]]]) -> None:
    call(Observed(application(), Metrics("1")), "GET", "/livez")
    assert [line["level"] for line in lines()] == ["debug"]


def test_a_request_id_is_echoed_only_in_its_form(lines: Callable[[], list[dict[str, Any]]]) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        scope[obs.RECORD].request = "x\r\nSet-Cookie: y"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert call(Observed(app, Metrics("1")), "GET", "/")[0]["headers"] == []
    assert lines()[0]["dropped"] == 1


def test_other_scopes_pass() -> None:
    seen: list[str] = []

    async def app(scope: Any, *_: object) -> None:
        seen.append(scope["type"])

    async def nothing(*_: object) -> Any:
        return None

    asyncio.run(Observed(app, Metrics("1"))({"type": "lifespan"}, nothing, nothing))
    assert seen == ["lifespan"]


# --- other libraries, and a whole server


def test_foreign_records_lose_their_text() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    kept = (list(root.handlers), root.level, logging.raiseExceptions, sys.excepthook, sys.unraisablehook)
    import threading

    hook = threading.excepthook
    shown = warnings.showwarning
    try:
        obs.configure(stream)
        logging.getLogger("asyncpg").warning("password is %s", CANARY)
        logging.getLogger("asyncio").error(f"future: {CANARY}", exc_info=ValueError(CANARY))
        logging.getLogger("uvicorn.error").info("Shutting down")
        logging.getLogger("uvicorn.error").info(f"Error loading ASGI app. {CANARY}")
        logging.getLogger("uvicorn.access").info('%s - "%s"', "192.0.2.1", f"GET /x?{CANARY}")
        logging.getLogger("broken").error("%d", "not a number")
        sys.excepthook(ValueError, ValueError(CANARY), None)
    finally:
        root.handlers[:], root.level, logging.raiseExceptions = kept[0], kept[1], kept[2]
        sys.excepthook, sys.unraisablehook = kept[3], kept[4]
        threading.excepthook = hook
        logging.captureWarnings(False)
        warnings.showwarning = shown
        logging.getLogger("uvicorn.access").disabled = False
        structlog.reset_defaults()
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("logger") for line in found] == ["asyncpg", "asyncio", *["uvicorn.error"] * 2, "broken", None]
    assert found[1]["error"] == "ValueError" and found[2]["message"] == "Shutting down"
    assert "message" not in found[3] and found[5]["event"] == "uncaught"
    assert CANARY not in stream.getvalue()


SERVER = textwrap.dedent("""
    import asyncio, sys, threading, warnings
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from zopp.errors import Denied
    from zopp_server import observability as obs

    async def release(request):
        body = (await request.body()).decode()
        obs.logger().info("careless", body=body, headers=dict(request.headers), url=str(request.url), reason=body)
        obs.logger().info(f"careless {body}")
        warnings.warn(body)
        return JSONResponse({})

    async def fails(request):
        body = (await request.body()).decode()
        try:
            raise Denied(body, body=body)
        except Denied as exc:
            raise RuntimeError(body) from exc

    async def task(request):
        body = (await request.body()).decode()
        async def lost():
            raise KeyError(body)
        asyncio.create_task(lost())
        threading.Thread(target=lambda: int(body)).start()
        class Bad:
            def __del__(self):
                raise ValueError(body)
        Bad()
        return JSONResponse({})

    app = Starlette(routes=[
        Route("/v1/releases/{workspace}", release, methods=["POST"]),
        Route("/v1/fails/{workspace}", fails, methods=["POST"]),
        Route("/v1/task/{workspace}", task, methods=["POST"]),
    ])

    async def main():
        obs.configure(level="debug")
        asyncio.get_running_loop().set_exception_handler(obs.loop_handler)
        metrics = obs.Metrics("1")
        listener = await obs.listen(metrics, port=0)
        config = uvicorn.Config(obs.Observed(app, metrics), host="127.0.0.1", port=0, log_config=None)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        ports = [server.servers[0].sockets[0].getsockname()[1], listener.sockets[0].getsockname()[1]]
        print(*ports, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        server.should_exit = True
        await running
        listener.close()

    asyncio.run(main())
""")


def test_a_canary_never_comes_out(tmp_path: Path) -> None:
    """Through a real server: in headers, body, path, query and everything that fails because of them; grep all that
    the process wrote, and its metrics."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    child = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "server")])},
    )  # fmt: skip
    assert child.stdout is not None
    try:
        port, metrics_port = map(int, child.stdout.readline().split())
        text = asyncio.run(_attack(port, metrics_port))
    finally:
        out, err = child.communicate(timeout=30)
    everything = out.decode() + err.decode() + text
    assert child.returncode == 0, everything
    assert "Canary7" not in everything and "canary7" not in everything.lower()
    found = [json.loads(line) for line in err.decode().splitlines()]  # nothing but log lines was written
    events = [line["event"] for line in found]
    assert events.count("careless") == events.count("redacted") == 4
    assert events.count("uncaught") == 6
    assert any(line.get("error") == "RuntimeError < zopp.errors.Denied" for line in found)
    assert any(line.get("logger") == "py.warnings" for line in found)
    assert any(line.get("route") == "/v1/releases/{workspace}" for line in found)
    assert not any(line.get("logger") == "uvicorn.access" for line in found)


async def _attack(port: int, metrics_port: int) -> str:
    body = CANARY.encode()
    for path in ("/v1/releases/acme", "/v1/fails/acme", "/v1/task/acme", "/v1/releases/Canary7+x", "/Canary7"):
        for query in ("", f"?q={CANARY}"):
            head = (
                f"POST {path}{query} HTTP/1.1\r\nHost: {CANARY}\r\nConnection: close\r\n"
                f"Authorization: Bearer {CANARY}\r\nSignature: zopp=:{CANARY}:\r\nSignature-Input: {CANARY}\r\n"
                f"Cookie: a={CANARY}\r\nX-Request-Id: {CANARY}\r\ntraceparent: {CANARY}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            await ask(port, head.encode() + body)
    await ask(port, f"{CANARY} /{CANARY} HTTP/9.9\r\n{CANARY}\r\n\r\n".encode())
    await ask(port, f"GET /{CANARY}\x00 HTTP/1.1\r\n\r\n".encode())
    return (await ask(metrics_port, b"GET /metrics HTTP/1.1\r\n\r\n")).decode()
