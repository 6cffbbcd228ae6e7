"""Answers that end before they should: what was cut off is no answer, whatever its first half says."""

import socket
import threading
from collections.abc import Iterator

import pytest

from zopp.client.transport import Server, server_info
from zopp.errors import Unknown
from zopp.keys.signing import generate

BODY = b'{"a": "kanarienvogel7"}'


@pytest.fixture(params=[0, 1, 12, len(BODY) - 1], ids=lambda sent: f"{sent}-bytes")
def cut(request: pytest.FixtureRequest) -> Iterator[str]:
    """The origin of a server that promises the whole body, sends a part of it and goes away."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
                connection.sendall(head.encode() + BODY[: request.param])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_a_part_of_an_answer_is_none(cut: str) -> None:
    with Server(cut, bytes(32), generate(), timeout=5) as server, pytest.raises(Unknown) as caught:
        server.get("/v1/policy/acme")
    assert caught.value.code == "server.unreachable"
    assert "kanarien" not in str(caught.value)


def test_a_part_of_the_servers_own_word_is_none(cut: str) -> None:
    with pytest.raises(Unknown) as caught:
        server_info(cut, timeout=5)
    assert caught.value.code == "server.unreachable"
