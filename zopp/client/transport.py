"""Signed requests over HTTP/1.1, one connection at a time, with the retries that are safe (policy-server.md §3.1).

A request is signed anew, with a new nonce, each time it is sent; its body, and with it `idem`, stays the same, so a
retry after an unknown outcome is the same act to the server. Where the answer is `clock_skew`, the server's signed
time is used for the rest of this object's life, at most ten minutes from the machine's own, and the request is sent
once more.

Not done here: what an answer means. Redirects are never followed and proxies of the environment are not used.
"""

from __future__ import annotations

import http.client
import os
import secrets
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from zopp.errors import FormatError, Unknown, UsageError
from zopp.keys.signing import SigningKey
from zopp.protocol import clock, problem, signing
from zopp.tlog.entry import SignedRequest
from zopp.tlog.note import Verifier

MAX_ANSWER = 1 << 27
TRIES = 4
_RETRY = ("busy", "audit_unavailable", "unknown_outcome")
_PAUSES = (0.1, 0.4, 1.5)
MAX_PAUSE = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer: `body` as it came, `sent` the signed request that it answers."""

    status: int
    body: bytes
    sent: SignedRequest


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for TLS: a private CA's certificate, and the client's own certificate and key where the server asks."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Tls:
        """From ZOPP_TLS_CA, ZOPP_TLS_CERT and ZOPP_TLS_KEY."""
        return cls(env.get("ZOPP_TLS_CA") or None, env.get("ZOPP_TLS_CERT") or None, env.get("ZOPP_TLS_KEY") or None)

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, names and chains checked. UsageError for a file that cannot be used."""
        try:
            made = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                made.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError):
            raise UsageError(
                "a TLS file of ZOPP_TLS_CA, ZOPP_TLS_CERT or ZOPP_TLS_KEY cannot be used", code="tls.file"
            ) from None
        return made


@dataclass(slots=True)
class Server:
    """A policy server as one key holder talks to it. `origin` and `log_key` (32 bytes) come from the policy log's
    `server.set`, never from a settings file; `key` signs the requests."""

    origin: str
    log_key: bytes
    key: SigningKey
    tls: Tls = field(default_factory=Tls)
    timeout: float = 30.0
    now: Callable[[], float] = time.time
    pause: Callable[[float], None] = time.sleep
    offset: int = field(default=0, init=False)
    _connection: http.client.HTTPConnection | None = field(default=None, init=False, repr=False)

    def log(self, origin: str) -> Verifier:
        """The verifier of a log of this server by the log's own origin line (`checkpoint.origin_of`)."""
        return Verifier(origin, self.log_key)

    def get(self, path: str) -> Answer:
        """GET `path` (with its query), signed. Errors as in `send`."""
        return self.send("GET", path, b"")

    def post(self, path: str, body: bytes) -> Answer:
        """POST `body` (JSON) to `path`, signed. Errors as in `send`."""
        return self.send("POST", path, body)

    def send(self, method: str, path: str, body: bytes) -> Answer:
        """The 2xx answer to one signed request. A refusal is raised as `Problem.error()`: Denied, NotFound, UsageError,
        IntegrityError (`stale_prev`), or Unknown where there is no answer yet; Unknown (`server.unreachable`) if
        nobody answers, FormatError (`problem`) if the answer is not of this protocol."""
        skewed = False
        for pause in self._pauses():
            sent, status, answer = self._once(method, path, body)
            if sent is None:
                continue
            if 200 <= status < 300:
                return Answer(status, answer, sent)
            refusal = self._problem(status, answer)
            if refusal.code == "clock_skew" and not skewed:
                skewed = True
                self._set_clock(refusal, sent)
                continue
            if refusal.code not in _RETRY or pause is None:
                raise refusal.error()
            wait = refusal.members.get("retry_after")
            self.pause(min(MAX_PAUSE, max(pause, wait if type(wait) is int else 0.0)))
        raise AssertionError("unreachable: the last try raises or answers")

    def _pauses(self) -> Iterator[float | None]:
        """One value a try: how long to wait after it, None after the last."""
        yield from _PAUSES[: TRIES - 1]
        yield None
        yield None  # the try that only the clock costs

    def _once(self, method: str, path: str, body: bytes) -> tuple[SignedRequest | None, int, bytes]:
        """One try. (None, 0, b"") if a kept connection turned out to be closed: to be tried again on a new one."""
        kept = self._connection is not None
        connection = self._connect()
        sent = signing.sign(
            self.key,
            method=method,
            target=signing.target_uri(self.origin, *path.split("?", 1)),
            body=body,
            created=int(self.now()) + self.offset,
            nonce=secrets.token_bytes(16),
        )
        headers = dict(signing.headers(sent)) | {"Accept": "application/json, application/problem+json"}
        if body:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body or None, headers)
            got = connection.getresponse()
            answer = _whole(got, MAX_ANSWER)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as exc:
            self.close()
            if kept:
                return None, 0, b""
            raise self._unreachable(exc) from None
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            raise self._unreachable(exc) from None
        if len(answer) > MAX_ANSWER:
            self.close()
            raise FormatError("the server's answer is too long", code="answer", place=self.origin)
        if got.will_close:
            self.close()
        return sent, got.status, answer

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            host = self.origin.partition("://")[2]
            if self.origin.startswith("https://"):
                self._connection = http.client.HTTPSConnection(host, timeout=self.timeout, context=self.tls.context())
            else:
                self._connection = http.client.HTTPConnection(host, timeout=self.timeout)
        return self._connection

    def _unreachable(self, exc: Exception) -> Unknown:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
        if isinstance(exc, ssl.SSLCertVerificationError):
            reason = exc.verify_message
        return Unknown(
            f"the policy server does not answer ({reason})",
            code="server.unreachable",
            place=self.origin,
            hint="check the network and the server, then run the command again",
        )

    def _problem(self, status: int, answer: bytes) -> problem.Problem:
        try:
            return problem.parse(answer, status)
        except FormatError:
            raise Unknown(
                f"something that is not a policy server answered (status {status})",
                code="server.foreign",
                place=self.origin,
                hint="check what stands between you and the server",
            ) from None

    def _set_clock(self, refusal: problem.Problem, sent: SignedRequest) -> None:
        nonce = signing.recorded(sent).nonce
        self.offset = clock.offset(dict(refusal.members), self.log_key, nonce=nonce, now=int(self.now()))

    def close(self) -> None:
        """Close the connection; the next request opens one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _whole(got: http.client.HTTPResponse, most: int) -> bytes:
    """The body, or a byte more than `most` of a longer one. IncompleteRead where the connection ended before it did,
    which `read` with a number does not say: a part of an answer is none."""
    body = got.read(most + 1)
    if got.length and len(body) <= most:
        raise http.client.IncompleteRead(b"", got.length)
    return body


def server_info(origin: str, *, tls: Tls | None = None, timeout: float = 30.0) -> bytes:
    """The body of `GET /v1/server`, unsigned: for `zopp server adopt`, before any log names the server. Unknown if
    nobody answers."""
    host = origin.partition("://")[2]
    if origin.startswith("https://"):
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, timeout=timeout, context=(tls or Tls()).context()
        )
    else:
        connection = http.client.HTTPConnection(host, timeout=timeout)
    try:
        connection.request("GET", "/v1/server")
        got = connection.getresponse()
        body = _whole(got, 65536)
    except (OSError, http.client.HTTPException) as exc:
        raise Unknown(
            "the policy server does not answer", code="server.unreachable", place=origin, hint="check the address"
        ) from exc
    finally:
        connection.close()
    if got.status != 200:
        raise Unknown("there is no policy server at this address", code="server.foreign", place=origin)
    return body


def idem() -> bytes:
    """A fresh idempotency key, 16 bytes."""
    return os.urandom(16)
