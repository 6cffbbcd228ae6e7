"""What an operator sees: JSON log lines, metrics, and the middleware that makes both (policy-server.md §7).

A log line is built from a closed list of fields, each with the form that its values may have. Whatever is not on the
list, or not of its form, is left out and counted in `dropped`; so no body, header, query or error text can get in by a
careless call, only by a change of FIELDS. Records of other libraries give their logger's name and place, not their
text; an exception gives its types and places, not its message. Metrics carry route templates and never a name.

The audit log is another thing: it is evidence, this is for operating. Nothing here is needed for a release to count.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO

import prometheus_client
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from zopp.errors import ZoppError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# --- log lines


def _text(pattern: str) -> Callable[[Any], bool]:
    compiled = re.compile(pattern)
    return lambda value: type(value) is str and compiled.fullmatch(value) is not None


def _integer(value: Any) -> bool:
    return type(value) is int and abs(value) < 1 << 53


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e12  # NaN compares false


def _frames(value: Any) -> bool:
    return type(value) is list and len(value) <= 12 and all(map(_PLACE, value))


_NAME = "[a-z0-9][a-z0-9-]{0,62}(@[1-9][0-9]{0,5})?"
_CODE = _text("[a-z0-9_.]{1,64}")

# What uvicorn says that is worth a line's own words: a closed list, since other sentences of it quote their cause.
_SENTENCES = frozenset(
    {
        "Started server process [%d]", "Finished server process [%d]", "Shutting down",
        "Uvicorn running on %s://%s:%d (Press CTRL+C to quit)", "Waiting for application startup.",
        "Application startup complete.", "Application startup failed. Exiting.", "Waiting for application shutdown.",
        "Application shutdown complete.", "Application shutdown failed. Exiting.", "Invalid HTTP request received.",
        "Exception in ASGI application", "Exception in 'lifespan' protocol", "Exceeded concurrency limit.",
        "Unsupported upgrade request.", "ASGI callable returned without starting response.",
        "ASGI callable returned without completing response.",
        "Waiting for connections to close. (CTRL+C to force quit)",
        "Waiting for background tasks to complete. (CTRL+C to force quit)",
        "Cancel %s running task(s), timeout graceful shutdown exceeded",
    }
)  # fmt: skip
_PLACE = _text(r"[\w./<>-]{1,120}:[0-9]{1,6}( [\w<>]{1,64})?")

FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "event": _CODE,
    "level": _text("debug|info|warning|error|critical"),
    "timestamp": _text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}Z"),
    # a request
    "request": _text("[A-Za-z0-9_-]{22}"),
    "workspace": _text(_NAME),
    "principal": _text(f"{_NAME}|(invite|ci)/{_NAME}"),
    "method": _text("GET|POST|PUT|DELETE|HEAD|OPTIONS|PATCH|OTHER"),
    "route": _text(r"/[a-z0-9/{}:_.-]{0,127}|unmatched"),
    "status": _integer,
    "outcome": _text("allow|deny|fact|error"),
    "reason": _CODE,
    "duration_ms": _number,
    # what the server does on its own
    "action": _CODE,
    "scope": _text(f"{_NAME}(/{_NAME})?"),
    "log": _text(f"{_NAME}|[0-9a-f]{{64}}"),
    "issuer": _text(r"https?://[a-z0-9.-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9._~-]{1,63}){0,4}"),
    "result": _CODE,
    "seq": _integer,
    "size": _integer,
    "count": _integer,
    "generation": _integer,
    "seconds": _number,
    "version": _text("[0-9A-Za-z.+-]{1,32}"),
    "listen": _text(r"[0-9A-Za-z.:\[\]-]{1,80}"),
    # failures
    "code": _CODE,
    "error": _text(r"[\w.]{1,120}( < [\w.]{1,120}){0,4}"),
    "frames": _frames,
    "logger": _text(r"[\w.-]{1,64}"),
    "place": _PLACE,
    "message": lambda value: value in _SENTENCES if type(value) is str else False,
    "dropped": _integer,
}
"""Every field of a log line and the form of its values. `docs/reference/server.md` says what they mean."""


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """The processor that lets pass what FIELDS knows. It never raises: a line that cannot be logged is a line less."""
    kept: dict[str, Any] = {}
    for name, value in event.items():
        check = FIELDS.get(name) if type(name) is str else None
        if check is not None and check(value):
            kept[name] = value
    lost = len(event) - len(kept)
    if "event" not in kept:
        kept["event"] = "redacted"
    if lost:
        kept["dropped"] = lost
    return kept


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as fields: its type and those of its causes, its code, and the places it came through, outermost
    first. Not its text, which may quote what it was about."""
    types: list[str] = []
    at: BaseException | None = error
    while at is not None and len(types) < 5:
        types.append(f"{type(at).__module__}.{type(at).__qualname__}".replace("builtins.", "").replace("<locals>", "x"))
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    found: dict[str, Any] = {"error": " < ".join(types)}
    if error.__traceback__ is not None:
        found["frames"] = _places(error.__traceback__)
    if isinstance(error, ZoppError):
        found["code"] = error.code
    return found


def _places(trace: TracebackType) -> list[str]:
    frames = list(traceback.walk_tb(trace))[-8:]
    return [_place(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in frames]


def _place(path: str, line: int, name: str = "") -> str:
    """`folder/module.py:12 function`: enough to find it, without the machine's own folders."""
    return f"{'/'.join(PurePath(path).parts[-2:])}:{line}" + (f" {name}" if name else "")


def _exceptions(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, tuple):
        error = error[1] if len(error) > 1 else None
    if isinstance(error, BaseException):
        event.update(describe(error))
    return event


class _Bridge(logging.Handler):
    """Other libraries' records: who, where, how bad; and the sentences of uvicorn that are known."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name, "place": _place(record.pathname, record.lineno)}
        if type(record.msg) is str and record.msg.strip() in _SENTENCES:
            fields["message"] = record.msg.strip()
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        with contextlib.suppress(Exception):  # a handler that raises would print the record
            logger().log(max(10, record.levelno // 10 * 10), "foreign", **fields)


class _Writer:
    """Writes lines whole, also from several threads. A full disk or closed pipe costs lines, not answers."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def msg(self, line: str) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = log = msg


LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(stream: TextIO | None = None, *, level: str = "info", hooks: bool = True) -> None:
    """Send all log lines of this process to `stream` (standard error by default), a JSON object a line. With `hooks`
    also what would be printed elsewhere: records of `logging`, warnings, and exceptions that nobody caught."""
    writer = _Writer(stream or sys.stderr)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _exceptions,
            redact,
            structlog.processors.JSONRenderer(serializer=_line),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    if not hooks:
        return
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(LEVELS[level])
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        found = logging.getLogger(name)
        found.handlers.clear()
        found.propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # it prints targets with their query; `Observed` does its work
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    sys.excepthook = lambda _kind, error, _trace: _uncaught("process", error)
    threading.excepthook = lambda found: _uncaught("thread", found.exc_value)
    sys.unraisablehook = lambda found: _uncaught("unraisable", found.exc_value)


def _line(event: Mapping[str, Any], **_: Any) -> str:
    return json.dumps(event, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _uncaught(where: str, error: BaseException | None) -> None:
    with contextlib.suppress(Exception):
        logger().critical("uncaught", result=where, exc_info=error)


def loop_handler(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: asyncio's own prints the repr of tasks, and with it their arguments."""
    _uncaught("task", context.get("exception"))


def logger() -> Any:
    """The logger. `logger().info("event.code", field=value)`; fields are those of FIELDS."""
    return structlog.get_logger()


# --- metrics

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one process, in a registry of their own. Attributes bear the metric's name without `zopp_` and
    `_total`. Labels never hold a principal, a workspace or anything that a request says."""

    def __init__(self, version: str) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = r = CollectorRegistry()
        self.http_requests = Counter("zopp_http_requests", "Requests answered", ["route", "method", "code"], registry=r)
        self.http_request_duration_seconds = Histogram(
            "zopp_http_request_duration_seconds", "Time to answer", ["route"], buckets=_SECONDS, registry=r
        )
        self.releases = Counter("zopp_releases", "Stanzas decided", ["outcome", "reason"], registry=r)
        self.auth_failures = Counter("zopp_auth_failures", "Requests not authenticated", ["reason"], registry=r)
        self.audit_append_duration_seconds = Histogram(
            "zopp_audit_append_duration_seconds",
            "Time of one batch, from locking the heads to the high-water file",
            buckets=_SECONDS,
            registry=r,
        )
        self.audit_batch_size = Histogram("zopp_audit_batch_size", "Entries in a batch", buckets=_SIZES, registry=r)
        self.audit_queue_depth = Gauge("zopp_audit_queue_depth", "Requests waiting for a batch", registry=r)
        self.audit_append_failures = Counter("zopp_audit_append_failures", "Batches that failed", registry=r)
        self.log_size = Gauge("zopp_log_size", "Entries: of the system log, of all logs", ["log"], registry=r)
        self.log_checkpoint_timestamp_seconds = Gauge(
            "zopp_log_checkpoint_timestamp_seconds", "When the newest checkpoint was signed (Unix time)", registry=r
        )
        self.policy_head_retries = Counter(
            "zopp_policy_head_retries", "Requests decided again because policy had moved", registry=r
        )
        self.policy_stale_prev = Counter("zopp_policy_stale_prev", "Statements refused as stale", registry=r)
        self.replay_rejected = Counter("zopp_replay_rejected", "Requests and tokens sent a second time", registry=r)
        self.jwks_refresh = Counter("zopp_jwks_refresh", "Fetches of issuers' keys", ["issuer", "result"], registry=r)
        self.http_connections = Gauge("zopp_http_connections", "Open connections of clients", registry=r)
        self.db_pool_in_use = Gauge("zopp_db_pool_in_use", "Database connections in use", registry=r)
        self.db_read_duration_seconds = Histogram(
            "zopp_db_read_duration_seconds",
            "Time that a request held a database connection for reading",
            buckets=_SECONDS,
            registry=r,
        )
        self.caches: dict[str, Callable[[], tuple[int, int]]] = {}
        """cache -> its (hits, misses) since the start"""
        r.register(_Caches(self.caches))
        self.recovery = Gauge("zopp_recovery", "1 while the server releases nothing (recovery mode)", registry=r)
        Info("zopp_build", "What runs", registry=r).info({"version": version})

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)


class _Caches(Collector):
    """Hits and misses, which the caches count themselves."""

    def __init__(self, caches: Mapping[str, Callable[[], tuple[int, int]]]) -> None:
        self._caches = caches

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client`."""
        made = CounterMetricFamily("zopp_cache_requests", "Lookups", labels=["cache", "result"])
        for name, counts in self._caches.items():
            for result, count in zip(("hit", "miss"), counts(), strict=True):
                made.add_metric([name, result], count)
        yield made


METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")


async def listen(metrics: Metrics, host: str = "127.0.0.1", port: int = 9464) -> asyncio.Server:
    """A listener of its own that answers `GET /metrics` and nothing else; without authentication, hence on loopback
    unless told otherwise. The caller closes it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b"\r\n", 1)[0].split(b" ")[:2]
                good = target in ([b"GET", b"/metrics"], [b"GET", b"/metrics?"])
                body = metrics.text() if good else b""
                lines = (
                    f"HTTP/1.1 {'200 OK' if good else '404 Not Found'}",
                    f"Content-Type: {prometheus_client.CONTENT_TYPE_LATEST}",
                    f"Content-Length: {len(body)}",
                    "Connection: close",
                )
                writer.write("\r\n".join((*lines, "", "")).encode() + body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(serve, host, port, limit=8192)


# --- the middleware

QUIET = ("/livez", "/readyz", "/healthz")
"""Asked every few seconds by probes: counted, and logged at level debug only."""

RECORD = "zopp.record"


@dataclass(slots=True)
class Record:
    """What a route tells about its request: `scope[RECORD]`. `request` is the entry's id (22 characters), echoed in the
    answer as X-Request-Id; the other fields are those of the log line."""

    request: str | None = None
    workspace: str | None = None
    principal: str | None = None
    action: str | None = None
    outcome: str | None = None
    reason: str | None = None

    def fields(self) -> dict[str, str]:
        """Those that are set."""
        found = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in found if value is not None}


class Observed:
    """ASGI middleware: one metric sample and one log line a request, by the route's template. The outermost one."""

    def __init__(self, app: App, metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app, self._metrics, self._clock = app, metrics, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = scope[RECORD] = Record()
        started, status = self._clock(), 500
        failure: BaseException | None = None

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if record.request is not None and FIELDS["request"](record.request):
                    echo = (b"x-request-id", record.request.encode())
                    message = {**message, "headers": [*message.get("headers", ()), echo]}
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except BaseException as exc:
            failure = exc
            raise
        finally:
            self._done(scope, record, status, self._clock() - started, failure)

    def _done(self, scope: Scope, record: Record, status: int, seconds: float, failure: BaseException | None) -> None:
        route = template(scope)
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        self._metrics.http_requests.labels(route, method, str(status)).inc()
        self._metrics.http_request_duration_seconds.labels(route).observe(seconds)
        fields: dict[str, Any] = {
            **record.fields(),
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
        }
        if isinstance(failure, Exception):
            logger().error("request", **fields, exc_info=failure)
        elif failure is not None:  # the client left, or the server stops
            logger().info("request.cancelled", **fields)
        elif route in QUIET:
            logger().debug("request", **fields)
        else:
            logger().info("request", **fields)


def template(scope: Scope) -> str:
    """The template of the route that answered, as `/v1/policy/{workspace}`; never the path, which may be anything."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and FIELDS["route"](path) else "unmatched"
