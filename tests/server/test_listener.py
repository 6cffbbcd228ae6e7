"""The listener holds a stranger to its bounds before there is a request at all."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.server.live import settings_for
from zopp_server import serve

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/early":  # answers before the body has come
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The server's own configuration around an application of nothing, with four places."""
    monkeypatch.setattr(serve, "HEAD_SECONDS", 0.5)
    settings = replace(settings_for("postgresql://nobody@127.0.0.1:1/x", tmp_path / "s"), concurrency=4)
    running = uvicorn.Server(serve.config(settings, app))
    thread = threading.Thread(target=lambda: asyncio.run(running.serve()), daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield settings.listen[1]
    running.should_exit = True
    thread.join(20)


def opened(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def answers(port: int) -> bool:
    with opened(port) as sock:
        sock.sendall(ASK)
        return sock.recv(4096).startswith(b"HTTP/1.1 200")


def ended(sock: socket.socket) -> bool:
    """Whether the server closes within some seconds."""
    sock.settimeout(5)
    try:
        while sock.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_connections_that_say_nothing_give_their_places_back(port: int) -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(opened(port)) for _ in range(8)]
        assert all(ended(sock) for sock in held)
        assert answers(port)


@pytest.mark.parametrize("said", [b"\r\n", b"GET / HTTP/1.1\r\nA: b", b"G"])
@pytest.mark.parametrize("before", [b"", ASK, b"POST /early HTTP/1.1\r\nContent-Length: 50000\r\n\r\n"])
def test_a_head_that_does_not_end_is_not_waited_for(port: int, before: bytes, said: bytes) -> None:
    with opened(port) as sock:
        if before:
            sock.sendall(before)
            assert sock.recv(4096).startswith(b"HTTP/1.1 ")
        sock.sendall(said)
        assert ended(sock)


def test_a_head_without_end_takes_no_memory(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "HEAD_SECONDS", 60.0)
    for begin, more in ((b"GET / HTTP/1.1\r\n", b"A: b\r\n" * 10_000), (b"GET / HTTP/1.1\r\nA: ", b"x" * 60_000)):
        with opened(port) as sock:
            sock.sendall(begin)
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 20_000_000:
                    sock.sendall(more)
                    sent += len(more)
            assert sent < 20_000_000


def test_a_connection_that_is_used_is_kept(port: int) -> None:
    with opened(port) as sock:
        for _ in range(4):
            sock.sendall(ASK)
            came = b""
            while not came.endswith(b"ok"):
                came += sock.recv(4096)
            assert came.count(b"HTTP/1.1 200") == 1
            time.sleep(0.3)
