"""The key service agent (extra `zopp[agent]`): stock sops without one process start and request for each foreign entry.

sops sends a key's recipient and its whole armored file, no name and no user, and waits for ever (brokered-grants.md
§13.2). So the agent listens on a unix socket in a 0700 folder only, answers only for what the signed policy names as a
server key, each under its own environment, has its own deadline, and **refuses Encrypt**: with the local key service
off, sops would send it both shares. What it answers is a share 2; manifest and commitments are not checked, as by the
plugin. The policy is read anew for every request, and nothing is kept but the log's checkpoint.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, TimeoutError as FutureTimeout
from typing import Any

from zopp.client import keyservice
from zopp.client.releases import Releases
from zopp.errors import Denied, FormatError, NotFound, Unknown, UsageError, ZoppError
from zopp.repo import brokered, userdirs
from zopp.repo.unlock import Keyring
from zopp.repo.workspace import open_workspace
from zopp.sopsfile import Entry

DEADLINE = 20.0
"""Seconds until a request is answered with an error, whatever the server does."""

_WORKERS = 8


def socket_path(env: Mapping[str, str]) -> str:
    """Where the agent listens unless told otherwise: below XDG_RUNTIME_DIR, else in zopp's state folder."""
    base = env.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(base) and os.path.isdir(base):
        return os.path.join(base, "zopp", "agent.sock")
    return os.path.join(userdirs.state(env), "agent", "agent.sock")


def prepare(path: str) -> None:
    """Make the socket's folder (0700) and clear a socket that nobody listens on. UsageError where the folder is open to
    others, the path is too long for a socket or no socket, or another agent answers there."""
    folder = os.path.dirname(path)
    if not os.path.isabs(path) or len(os.fsencode(path)) > 100:
        raise UsageError("not an absolute path of at most 100 bytes", code="agent.socket", place=path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise UsageError(
            "the folder of the socket is open to others", code="agent.folder", place=folder, hint=f"chmod 700 {folder}"
        )
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError("is there and no socket", code="agent.socket", place=path)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise UsageError("another agent listens there", code="agent.running", place=path)


class Agent:
    """The agent of the workspace that holds the folder `start`. `ask` is called with the source of a protected key, at
    most once a source."""

    def __init__(
        self,
        start: str,
        env: Mapping[str, str],
        ask: Callable[[str], str] | None = None,
        *,
        deadline: float = DEADLINE,
    ) -> None:
        self._start = start
        self._env = env
        self._deadline = deadline
        self._known: dict[str, str] = {}
        self._ask = None if ask is None else self._once(ask)
        self._workers = ThreadPoolExecutor(_WORKERS, "zopp-agent")
        self._server: Any = None

    def _once(self, ask: Callable[[str], str]) -> Callable[[str], str]:
        def asked(source: str) -> str:
            if source not in self._known:
                self._known[source] = ask(source)
            return self._known[source]

        return asked

    def warm(self) -> None:
        """Open what a passphrase protects while somebody can be asked. Errors as the keys give them."""
        ws = open_workspace(self._start, self._env, recover=False)
        Releases(Keyring(self._env, self._ask), self._ask).warm(ws)

    def share(self, recipient: str | None, armored: bytes) -> bytes:
        """Share 2 of an entry (33 bytes) that is for a server key of this workspace. NotFound for any other recipient,
        and nobody is asked; Denied, Unknown, IntegrityError as a release gives them."""
        ws = open_workspace(self._start, self._env, recover=False)
        owner = None if recipient is None else ws.state.recipient_owner(recipient)
        kind, _, scope = (owner or "").partition(":")
        if recipient is None or kind != "server" or scope not in ws.state.envs:
            raise NotFound("no server key of this workspace", code="agent.recipient")
        try:
            entry = Entry(recipient, armored.decode("ascii"))
        except UnicodeDecodeError:
            raise FormatError("not an armored age file", code="age_header") from None
        stanza = brokered.stanza("", entry)
        releases = Releases(Keyring(self._env, self._ask), self._ask)
        (file_key,) = releases(ws, scope, "read", [stanza])
        return brokered.second_share("", entry, file_key)

    # --- gRPC

    def _decrypt(self, request: bytes, context: Any) -> bytes:
        import grpc

        try:
            asked = keyservice.parse_decrypt(request)
            work = self._workers.submit(self.share, asked.recipient, asked.ciphertext)
            return keyservice.build_decrypted(work.result(self._deadline))
        except FutureTimeout:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "zopp: the policy server did not answer in time")
        except ZoppError as exc:
            code = {
                Denied: grpc.StatusCode.PERMISSION_DENIED,
                NotFound: grpc.StatusCode.NOT_FOUND,
                Unknown: grpc.StatusCode.UNAVAILABLE,
                FormatError: grpc.StatusCode.INVALID_ARGUMENT,
            }.get(type(exc), grpc.StatusCode.DATA_LOSS)
            context.abort(code, f"zopp: {exc}" + (f"; {exc.hint}" if exc.hint else ""))
        raise AssertionError("unreachable: abort raises")

    def _encrypt(self, request: bytes, context: Any) -> bytes:
        import grpc

        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "zopp: this agent never encrypts, since it would see both halves; leave sops' local key service on",
        )
        raise AssertionError("unreachable: abort raises")

    def start(self, path: str) -> None:
        """Listen on the socket `path`, prepared by `prepare`. Unknown without the extra."""
        try:
            import grpc
        except ImportError:
            raise Unknown(
                "the agent needs grpcio", code="agent.extra", hint="pip install 'zopp[agent]'; or use age-plugin-zopp"
            ) from None
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(method)
            for name, method in (("Decrypt", self._decrypt), ("Encrypt", self._encrypt))
        }
        options = [("grpc.max_receive_message_length", keyservice.MAX_MESSAGE), ("grpc.so_reuseport", 0)]
        server = grpc.server(ThreadPoolExecutor(_WORKERS, "zopp-agent-rpc"), options=options)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("KeyService", handlers),))
        before = os.umask(0o177)
        try:
            server.add_insecure_port("unix:" + path)
        except RuntimeError as exc:
            raise Unknown("the socket cannot be opened", code="agent.socket", place=path) from exc
        finally:
            os.umask(before)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Stop answering; what runs is given up."""
        if self._server is not None:
            self._server.stop(0).wait()
        self._workers.shutdown(wait=False, cancel_futures=True)
