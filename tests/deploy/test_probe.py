"""The image's health check: yes only for a server that says it is ready."""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.conftest import DEPLOY
from tests.server.test_jwks import self_signed


@contextmanager
def answering(answer: bytes, tls: Path | None = None, pause: float = 0.0) -> Iterator[tuple[int, list[bytes]]]:
    """A loopback server for one connection."""
    requests: list[bytes] = []
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            try:
                connection, _ = listening.accept()
                with connection:
                    if tls is not None:
                        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                        context.load_cert_chain(tls)
                        connection = context.wrap_socket(connection, server_side=True)
                    requests.append(connection.recv(4096))
                    done.wait(pause)
                    connection.sendall(answer)
                    connection.close()
            except OSError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1], requests
        finally:
            done.set()
            with socket.socket() as waking:  # so that an accept that nobody came to ends
                waking.connect_ex(listening.getsockname())
            thread.join(10)


def probe(port: int, *arguments: str, host: str = "0.0.0.0", **env: str) -> int:
    return subprocess.run(
        [sys.executable, "-W", "error", str(DEPLOY / "probe.py"), *arguments],
        env={"ZOPP_SERVER_LISTEN": f"{host}:{port}", **env},
        timeout=30,
    ).returncode


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 0),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", 1),
        (b"HTTP/1.1 302 Found\r\n\r\n", 1),
        (b"HTTP/1.1 2000 OK\r\n\r\n", 1),
        (b"SSH-2.0-x\r\n", 1),
        (b"", 1),
        (b"x" * 5000, 1),
    ],
)
def test_answers(answer: bytes, code: int) -> None:
    with answering(answer) as (port, requests):
        assert probe(port) == code
    assert requests[0].startswith(b"GET /readyz HTTP/1.1\r\n")


def test_the_path_can_be_named() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (port, requests):
        assert probe(port, "/livez", host="127.0.0.1") == 0
    assert requests[0].startswith(b"GET /livez ")


def test_tls(tmp_path: Path) -> None:
    """The certificate is for another name, which is right here."""
    certificate = self_signed(tmp_path)
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", certificate) as (port, _):
        assert probe(port, ZOPP_SERVER_TLS_CERT=str(certificate)) == 0
    with answering(b"HTTP/1.1 503 X\r\n\r\n", certificate) as (port, _):
        assert probe(port, ZOPP_SERVER_TLS_CERT=str(certificate)) == 1
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (port, _):
        assert probe(port, ZOPP_SERVER_TLS_CERT=str(certificate)) == 1


def test_client_certificates_are_not_to_be_had() -> None:
    with answering(b"") as (port, _):
        assert probe(port, ZOPP_SERVER_TLS_CLIENT_CA="/ca") == 0


def test_a_closed_port_and_a_silent_one() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", pause=20) as (port, _):
        assert probe(port) == 1
    assert probe(port) == 1


def test_a_bad_setting() -> None:
    assert probe(0, host="nonsense:") == 1
