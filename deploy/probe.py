"""Is the server in this container ready? Exit 0 if /readyz (or the path given) answers 200, else 1, within 4 seconds.

The certificate is for the name that clients use, not for loopback, so it is not checked here: this asks the process
next to it. A server that wants client certificates only shows that it is there.
"""

import os
import socket
import ssl
import sys

SECONDS = 4


def main() -> int:
    """Ask once."""
    host, _, port = os.environ.get("ZOPP_SERVER_LISTEN", "127.0.0.1:8443").rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104
    path = sys.argv[1] if len(sys.argv) > 1 else "/readyz"
    try:
        with socket.create_connection((host, int(port)), SECONDS) as plain:
            if os.environ.get("ZOPP_SERVER_TLS_CLIENT_CA"):
                return 0
            return 0 if asked(plain, path) == b"200" else 1
    except (OSError, ValueError):
        return 1


def asked(plain: socket.socket, path: str) -> bytes:
    """The status of the answer."""
    connection = plain
    if os.environ.get("ZOPP_SERVER_TLS_CERT"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(plain)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("ascii"))
    head = b""
    while b"\r\n" not in head and len(head) < 1024 and (chunk := connection.recv(1024)):
        head += chunk
    return head.split(b" ", 2)[1] if head.startswith(b"HTTP/1.1 ") else b""


if __name__ == "__main__":
    sys.exit(main())
