"""Serving: uvicorn around the application, TLS by its own options, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import resource
import socket
import ssl
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from zopp_server import app as application, observability, plugged, startup
from zopp_server.config import Settings
from zopp_server.limits import Settings as Limits
from zopp_server.service import Service

GRACE_SECONDS = 20

HEAD_SECONDS = 10.0
"""For a connection to send the head of a request, its first or its next."""

MAX_HEAD = 2 * application.MAX_HEADERS
"""Bytes of a head beyond the first read; what is complete is held to MAX_HEADERS later."""


class Bounded(HttpToolsProtocol):
    """uvicorn's protocol, which waits for ever for a head and takes one of any length: without a bound one stranger
    holds all places, or the memory."""

    _late: asyncio.TimerHandle | None = None
    _heading, _came = True, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._came_in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.cycle is None or self.cycle.response_complete:
            self._wait()  # the rest of a body that was refused is no request either
        self._came += len(data)
        super().data_received(data)
        if self._heading and self._came > MAX_HEAD:
            self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._heading, self._came = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._heading = False
        self._came_in_time()
        super().on_headers_complete()

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _came_in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Server(uvicorn.Server):
    """Says it is not ready before it stops accepting, for as long as a load balancer needs to notice."""

    def __init__(self, config: uvicorn.Config, service: Service, drain: float) -> None:
        super().__init__(config)
        self._service = service
        self._drain = drain

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Until a signal; it is not raised again afterwards, as uvicorn does: that would end the process before the
        batcher is flushed and the pool is closed."""
        with self.capture_signals():
            await self._serve(sockets)
            self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On the first signal drain, on the second stop at once."""
        if self._service.draining or not self._drain:
            super().handle_exit(sig, frame)
            return
        self._service.draining = True
        asyncio.get_running_loop().call_later(self._drain, super().handle_exit, sig, frame)


def settle() -> None:
    """Collect garbage less often: the process makes many small objects that die young, and few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def harden() -> None:
    """No core dumps and no tracing by others of the same user, as far as this system has it (§6)."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def config(settings: Settings, app: Any) -> uvicorn.Config:
    """uvicorn's configuration. TLS 1.3 where it is on; a client CA makes it ask for certificates (an outer gate only:
    identity is the signature)."""
    tls: dict[str, Any] = {}
    if settings.tls_cert is not None:
        tls = {"ssl_certfile": str(settings.tls_cert), "ssl_keyfile": str(settings.tls_key or settings.tls_cert)}
        if settings.tls_client_ca is not None:
            tls |= {"ssl_ca_certs": str(settings.tls_client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    host, port = settings.listen
    made = uvicorn.Config(
        app, host=host, port=port, loop="uvloop", http=Bounded, ws="none", lifespan="off", access_log=False,
        log_config=None, server_header=False, date_header=True, proxy_headers=False,
        limit_concurrency=settings.concurrency, timeout_keep_alive=30, timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=2048, **tls,
    )  # fmt: skip
    made.load()
    if made.ssl is not None:
        made.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    return made


async def run(
    settings: Settings,
    *,
    ready: Callable[[Service], None] = lambda service: None,
    limits: Limits | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. `ready` is called when requests are about to be taken."""
    harden()
    observability.configure(level=settings.log_level)
    asyncio.get_running_loop().set_exception_handler(observability.loop_handler)
    parts = plugged.parts(settings, limits)
    async with startup.opened(settings, gate=parts.gate, observer=parts.observer) as service, parts.running(service):
        made = application.build(service, failed=parts.failed, health=lambda: startup.reasons(service))
        server = _Server(config(settings, observability.Observed(made, parts.metrics)), service, settings.drain)
        parts.metrics.http_connections.set_function(lambda: len(server.server_state.connections))
        settle()
        ready(service)
        await server.serve()


def main(
    settings: Settings, ready: Callable[[Service], None] = lambda service: None, limits: Limits | None = None
) -> None:
    """`run` on uvloop; an interrupt is an orderly end."""
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(run(settings, ready=ready, limits=limits))
