"""The issuers' public keys: one fetch at a time, the last good keys until better ones came (policy-server.md §3.3).

A kid that is not known asks for the document again, at most once in 30 s and issuer whoever asks, so that made-up kids
neither start fetches nor fill memory. A new document is archived before one of its keys counts; if that fails, so did
the fetch. Only listed issuers' own URLs are asked: no discovery, no redirect, no proxy, https but on loopback.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from zopp.errors import FormatError, Unknown
from zopp_server.oidc import MAX_JWKS, Issuer, Keys, Refused, parse_jwks

COOLDOWN = 30.0
"""Seconds between two attempts at one issuer's document."""

MAX_AGE = 3600.0
"""Seconds after which a document is asked for again although it holds the kid, so that a withdrawn key ends."""

TIMEOUT = 5.0
"""Seconds for a whole fetch, however slowly an answer drips."""

_MAX_ANSWER = MAX_JWKS + 16384

RESULTS = ("ok", "unreachable", "timeout", "status", "redirect", "too_large", "malformed", "archive")
"""How a refresh can end: the label of `zopp_jwks_refresh_total`."""


class FetchError(Exception):
    """A document could not be had; `result` is one of RESULTS."""

    def __init__(self, result: str) -> None:
        super().__init__(result)
        self.result = result


class _Bytes:
    """What `http.client` reads an answer from once all of it is here."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


async def fetch(issuer: Issuer, *, timeout: float = TIMEOUT, tls: ssl.SSLContext | None = None) -> bytes:
    """The issuer's JWKS document, from its file or URL; FetchError. Nothing of it is checked but its size."""
    try:
        async with asyncio.timeout(timeout):
            if issuer.jwks_file:
                return await asyncio.to_thread(_read, Path(issuer.jwks_file))
            return _body(await _get(issuer.jwks_url, tls))
    except TimeoutError:
        raise FetchError("timeout") from None
    except OSError:  # also a certificate that does not hold
        raise FetchError("unreachable") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_JWKS + 1)
    if len(data) > MAX_JWKS:
        raise FetchError("too_large")
    return data


async def _get(url: str, tls: ssl.SSLContext | None) -> bytes:
    """The whole answer, head and body. Not http.client itself: its timeout is for each read, so a dripping server
    could hold a thread for hours."""
    parts = urlsplit(url)
    host, https = parts.hostname or "", parts.scheme == "https"
    context = (tls or ssl.create_default_context()) if https else None
    reader, writer = await asyncio.open_connection(host, parts.port or (443 if https else 80), ssl=context)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = (f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", "Accept: application/json", "Connection: close")
        writer.write("\r\n".join((*lines, "", "")).encode("ascii"))
        data = bytearray()
        while chunk := await reader.read(16384):
            data += chunk
            if len(data) > _MAX_ANSWER:
                raise FetchError("too_large")
        return bytes(data)
    finally:
        writer.transport.abort()  # a peer that does not close must not hold us


def _body(answer: bytes) -> bytes:
    response = http.client.HTTPResponse(_Bytes(answer))  # type: ignore[arg-type]
    try:
        response.begin()
        if 300 <= response.status < 400:
            raise FetchError("redirect")
        if response.status != 200:
            raise FetchError("status")
        body = response.read()
    except (http.client.HTTPException, ValueError):
        raise FetchError("malformed") from None
    if len(body) > MAX_JWKS:
        raise FetchError("too_large")
    return body


async def _no_archive(_issuer: str, _document: str) -> None:
    return None


class _Slot:
    __slots__ = ("document", "failed", "fetched", "keys", "task", "tried")

    def __init__(self) -> None:
        self.keys: Keys | None = None
        self.document = b""
        self.fetched = self.tried = float("-inf")
        self.failed = False
        self.task: asyncio.Task[None] | None = None


class Jwks:
    """The keys of the listed issuers. One object a process; `aclose` at the end.

    `archive(issuer, document)` writes a `jwks` entry and returns once it is durable; it is called with every document
    that differs from the last one, and with the first one after a start. `observe(issuer, result)` counts refreshes.
    """

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        *,
        archive: Callable[[str, str], Awaitable[None]] = _no_archive,
        observe: Callable[[str, str], None] = lambda _issuer, _result: None,
        fetch: Callable[[Issuer], Awaitable[bytes]] = fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuers = dict(issuers)
        self._slots = {origin: _Slot() for origin in self._issuers}
        self._archive, self._observe, self._fetch, self._clock = archive, observe, fetch, clock

    async def keys(self, issuer: str, kid: str) -> Keys:
        """The keys of `issuer`, refreshed first where `kid` is not among them or they are old.

        Refused (`issuer`): not a listed one. Refused (`kid`): its document, as of the last 30 s, has no such key.
        Unknown (`busy`): there is no document, or it could not be asked whether there is such a key."""
        slot = self._slots.get(issuer)
        if slot is None:
            raise Refused("issuer")
        now = self._clock()
        known = slot.keys is not None and kid in slot.keys.keys
        if slot.task is not None or now - slot.tried >= COOLDOWN:
            if not known:
                await asyncio.shield(self._refresh(self._issuers[issuer], slot))  # a client that leaves ends no fetch
            elif now - slot.fetched >= MAX_AGE:
                self._refresh(self._issuers[issuer], slot)  # in the background: the key at hand is good
        if slot.keys is not None and kid in slot.keys.keys:
            return slot.keys
        if slot.failed or slot.keys is None:
            raise Unknown("the issuer's keys cannot be had", code="busy", retry_after=int(COOLDOWN))
        raise Refused("kid")

    def _refresh(self, issuer: Issuer, slot: _Slot) -> asyncio.Task[None]:
        if slot.task is None:
            slot.tried = self._clock()
            slot.task = asyncio.create_task(self._update(issuer, slot))
        return slot.task

    async def _update(self, issuer: Issuer, slot: _Slot) -> None:
        result = "malformed"
        try:
            document = await self._fetch(issuer)
            found = parse_jwks(document, issuer.algorithm)
            if document != slot.document:
                try:
                    await self._archive(issuer.origin, document.decode())
                except Exception:  # whatever kept it out of the log keeps its keys out of use
                    raise FetchError("archive") from None
            slot.keys, slot.document, slot.fetched = Keys(issuer, found), document, self._clock()
            result = "ok"
        except FetchError as exc:
            result = exc.result
        except FormatError:
            pass
        finally:
            slot.failed = result != "ok"
            slot.task = None
            self._observe(issuer.origin, result)

    async def aclose(self) -> None:
        """End what is being fetched."""
        tasks = [slot.task for slot in self._slots.values() if slot.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
