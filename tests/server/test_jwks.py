"""The issuers' keys on a loopback host: rotated, down, slow, oversized, redirected; kid floods; what is archived."""

import asyncio
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.server.issuer import (
    GITHUB_RULE,
    HEADER,
    JOB,
    NOW,
    ORIGIN,
    RECIPIENT,
    Host,
    document,
    github,
    jwk,
    rsa_key,
    token,
)
from zopp.errors import Unknown
from zopp.policy.roles import OidcRule
from zopp_server import jwks, oidc
from zopp_server.jwks import COOLDOWN, MAX_AGE, FetchError, Jwks, fetch
from zopp_server.oidc import Issuer, Refused

ISS = "https://github.test"
ONE = document(jwk(rsa_key(), "k1"))
TWO = document(jwk(rsa_key("two"), "k2"))
BOTH = document(jwk(rsa_key(), "k1"), jwk(rsa_key("two"), "k2"))


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


def issuer(url: str = "https://github.test/jwks") -> Issuer:
    return Issuer(origin=ISS, kind="github", jwks_url=url)


class Scripted:
    """A cache whose fetches answer from a list, whose clock is moved by hand, and whose archive is a list."""

    def __init__(self, *answers: bytes | str) -> None:
        self.answers = list(answers)
        self.now = 1000.0
        self.fetches = 0
        self.archived: list[tuple[str, str]] = []
        self.archive_fails = False
        self.results: list[str] = []
        self.gate: asyncio.Event | None = None
        self.cache = Jwks(
            {ISS: issuer()},
            archive=self._archive,
            observe=lambda origin, result: self.results.append(result),
            fetch=self._fetch,
            clock=lambda: self.now,
        )

    async def _fetch(self, _issuer: Issuer) -> bytes:
        self.fetches += 1
        if self.gate:
            await self.gate.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            raise FetchError(answer)
        return answer

    async def _archive(self, origin: str, text: str) -> None:
        await asyncio.sleep(0)
        if self.archive_fails:
            raise OSError("the database is down")
        self.archived.append((origin, text))

    async def has(self, kid: str) -> bool:
        return kid in (await self.cache.keys(ISS, kid)).keys

    async def refused(self, kid: str) -> str:
        with pytest.raises((Refused, Unknown)) as caught:
            await self.cache.keys(ISS, kid)
        return caught.value.reason if isinstance(caught.value, Refused) else caught.value.code


# --- the cache


def test_fetched_once_and_kept() -> None:
    async def work() -> None:
        s = Scripted(ONE)
        for _ in range(5):
            assert await s.has("k1")
        assert (s.fetches, s.results, s.archived) == (1, ["ok"], [(ISS, ONE.decode())])

    run(work())


def test_unlisted_issuers_are_never_asked() -> None:
    async def work() -> None:
        s = Scripted(ONE)
        for origin in ("https://evil.test", ISS + "/", ISS.upper(), "", "https://127.0.0.1", "\ud800"):
            with pytest.raises(Refused) as caught:
                await s.cache.keys(origin, "k1")
            assert caught.value.reason == "issuer"
        assert s.fetches == 0

    run(work())


def test_last_good_keys_survive_a_failed_fetch() -> None:
    """A cache that empties itself when its issuer is down takes everybody else down too."""

    async def work() -> None:
        s = Scripted(ONE, *(result for result in jwks.RESULTS if result not in ("ok", "archive")))
        assert await s.has("k1")
        for _ in range(6):
            s.now += COOLDOWN
            assert await s.refused("k9") == "busy"  # it may be a new key: nobody could ask
            assert await s.has("k1")
        assert s.fetches == 7 and len(s.archived) == 1

    run(work())


@pytest.mark.parametrize("bad", [b"", b"<html>", b"[]", b'{"keys":[]}', document({"kty": "oct", "kid": "k1"})])
def test_last_good_keys_survive_a_malformed_document(bad: bytes) -> None:
    """A 200 without a usable key is a failed fetch, not a rotation to nothing."""

    async def work() -> None:
        s = Scripted(ONE, bad)
        assert await s.has("k1")
        s.now += COOLDOWN
        assert await s.refused("k2") == "busy"
        assert await s.has("k1")
        assert s.results == ["ok", "malformed"]

    run(work())


def test_rotation_by_an_unknown_kid() -> None:
    async def work() -> None:
        s = Scripted(ONE, BOTH, TWO)
        assert await s.has("k1")
        s.now += COOLDOWN
        assert await s.has("k2") and await s.has("k1")
        s.now += COOLDOWN
        assert await s.refused("k3") == "kid"
        assert await s.has("k2")
        assert await s.refused("k1") == "kid"  # withdrawn
        assert [text for _, text in s.archived] == [ONE.decode(), BOTH.decode(), TWO.decode()]

    run(work())


def test_kid_flood_fetches_once_in_30_s() -> None:
    """Made-up kids neither start fetches nor fill memory, and good tokens pass meanwhile."""

    async def work() -> None:
        s = Scripted(ONE)
        assert await s.has("k1")
        for second in range(90):
            s.now += 1
            for number in range(20):
                assert await s.refused(f"made-up-{second}-{number}") == "kid"
            assert await s.has("k1")
        assert s.fetches == 4

    run(work())


def test_kid_flood_at_once_waits_for_one_fetch() -> None:
    async def work() -> None:
        s = Scripted(ONE)
        s.gate = asyncio.Event()
        wanted = [asyncio.create_task(s.cache.keys(ISS, f"k{number % 3}")) for number in range(300)]
        await asyncio.sleep(0.01)
        s.gate.set()
        found = await asyncio.gather(*wanted, return_exceptions=True)
        assert s.fetches == 1
        assert sum(isinstance(each, Refused) for each in found) == 200

    run(work())


def test_known_keys_do_not_wait_for_a_fetch() -> None:
    async def work() -> None:
        s = Scripted(ONE)
        assert await s.has("k1")
        s.gate = asyncio.Event()
        s.now += COOLDOWN
        waiting = asyncio.create_task(s.cache.keys(ISS, "k2"))
        await asyncio.sleep(0.01)
        assert await asyncio.wait_for(s.has("k1"), 1)
        s.gate.set()
        with pytest.raises(Refused):
            await waiting

    run(work())


def test_a_client_that_leaves_ends_no_fetch() -> None:
    async def work() -> None:
        s = Scripted(ONE)
        s.gate = asyncio.Event()
        leaving = asyncio.create_task(s.cache.keys(ISS, "k1"))
        staying = asyncio.create_task(s.cache.keys(ISS, "k1"))
        await asyncio.sleep(0.01)
        leaving.cancel()
        await asyncio.sleep(0.01)
        s.gate.set()
        assert "k1" in (await staying).keys
        assert s.fetches == 1

    run(work())


def test_down_at_the_start_is_no_denial() -> None:
    """The token may be good: the answer is 'try again', and the host is not asked more often for it."""

    async def work() -> None:
        s = Scripted("unreachable", "timeout", ONE)
        for _ in range(20):
            assert await s.refused("k1") == "busy"
        assert s.fetches == 1
        s.now += COOLDOWN
        assert await s.refused("k1") == "busy"
        s.now += COOLDOWN
        assert await s.has("k1")
        assert s.results == ["unreachable", "timeout", "ok"]

    run(work())


def test_old_documents_are_asked_for_again() -> None:
    """A withdrawn key ends although every token names it; the token at hand does not wait."""

    async def work() -> None:
        s = Scripted(ONE, TWO)
        assert await s.has("k1")
        s.now += MAX_AGE
        assert await s.has("k1")
        await asyncio.sleep(0.05)
        assert await s.refused("k1") == "kid"
        assert s.fetches == 2

    run(work())


def test_the_same_document_is_archived_once() -> None:
    async def work() -> None:
        s = Scripted(ONE)
        for _ in range(3):
            await s.has("k1")
            assert await s.refused("k2") == "kid"
            s.now += COOLDOWN
        assert s.fetches == 3 and len(s.archived) == 1

    run(work())


def test_keys_that_are_not_archived_do_not_count() -> None:
    async def work() -> None:
        s = Scripted(ONE, BOTH)
        assert await s.has("k1")
        s.archive_fails = True
        s.now += COOLDOWN
        assert await s.refused("k2") == "busy"
        assert s.results == ["ok", "archive"]
        s.archive_fails = False
        s.now += COOLDOWN
        assert await s.has("k2") and len(s.archived) == 2

    run(work())


def test_close_ends_a_fetch() -> None:
    async def work() -> None:
        s = Scripted(ONE)
        s.gate = asyncio.Event()
        waiting = asyncio.create_task(s.cache.keys(ISS, "k1"))
        await asyncio.sleep(0.01)
        await s.cache.aclose()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(work())


# --- the fetch, over real sockets


async def failed(host: Host, wanted: str, timeout: float = 5.0) -> None:
    with pytest.raises(FetchError) as caught:
        await fetch(issuer(host.url), timeout=timeout)
    assert caught.value.result == wanted


def test_fetch() -> None:
    async def work() -> None:
        async with Host(ONE) as host:
            assert await fetch(issuer(host.url + "?a=b")) == ONE
            (request,) = host.requests
            assert request.startswith("GET /jwks?a=b HTTP/1.1\r\n")
            assert f"Host: 127.0.0.1:{host.port}\r\n" in request
            assert "cookie" not in request.lower() and "authorization" not in request.lower()

    run(work())


def test_fetch_chunked_and_in_pieces() -> None:
    async def work() -> None:
        async with Host(b"5\r\n" + ONE[:5] + b"\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n") as host:
            host.body += f"{len(ONE) - 5:x}\r\n".encode() + ONE[5:] + b"\r\n0\r\n\r\n"
            host.pieces, host.pause = 7, 0.01
            assert await fetch(issuer(host.url)) == ONE

    run(work())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
def test_redirects_are_refused(status: int) -> None:
    async def work() -> None:
        async with Host(ONE) as elsewhere, Host(b"") as host:
            host.head = f"HTTP/1.1 {status} Moved\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n"
            await failed(host, "redirect")
            assert elsewhere.requests == []

    run(work())


@pytest.mark.parametrize("status", [201, 204, 206, 400, 401, 403, 404, 410, 429, 500, 502, 503])
def test_other_statuses_are_refused(status: int) -> None:
    async def work() -> None:
        async with Host(ONE, f"HTTP/1.1 {status} X\r\nContent-Length: {{}}\r\n") as host:
            await failed(host, "status")

    run(work())


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (49153, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n"),
        (49153, "HTTP/1.1 200 OK\r\n"),
        (10_000_000, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: {}\r\n"),
        (0, "HTTP/1.1 200 OK\r\nX: " + "y" * 100_000 + "\r\n"),
    ],
)
def test_oversized_answers_are_refused(size: int, head: str) -> None:
    async def work() -> None:
        async with Host(b" " * size, head) as host:
            await failed(host, "too_large")

    run(work())


@pytest.mark.parametrize(
    "head",
    [
        "",
        "garbage\r\n",
        "HTTP/1.1\r\n",
        "HTTP/1.1 abc\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.1 200 OK\r\n" + "".join(f"X-{number}: y\r\n" for number in range(200)),
    ],
)
def test_malformed_answers_are_refused(head: str) -> None:
    async def work() -> None:
        async with Host(ONE, head) as host:
            await failed(host, "malformed")

    run(work())


def test_a_dripping_host_is_left() -> None:
    """The whole fetch has one time limit: a byte now and then does not lengthen it."""

    async def work() -> None:
        async with Host(ONE) as host:
            host.pieces, host.pause = 200, 0.05
            started = asyncio.get_running_loop().time()
            await failed(host, "timeout", timeout=0.3)
            assert asyncio.get_running_loop().time() - started < 3

    run(work())


def test_a_host_that_never_ends_is_left() -> None:
    async def work() -> None:
        async with Host(ONE) as host:
            host.close = False
            await failed(host, "timeout", timeout=0.3)

    run(work())


def test_a_closed_port_is_unreachable() -> None:
    async def work() -> None:
        async with Host(ONE) as host:
            url = host.url
        with pytest.raises(FetchError) as caught:
            await fetch(issuer(url))
        assert caught.value.result == "unreachable"

    run(work())


def test_https_needs_a_certificate_that_holds(tmp_path: Path) -> None:
    """A host that speaks TLS with a key of its own, as someone in the middle would; and one that speaks none."""
    certificate = self_signed(tmp_path)

    async def work() -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate)
        good = ssl.create_default_context(cafile=str(certificate))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ONE) + ONE)
            writer.close()

        listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
        port = listening.sockets[0].getsockname()[1]
        url = f"https://localhost:{port}/jwks"
        try:
            assert await fetch(issuer(url), tls=good) == ONE
            for wrong in (url, url.replace("localhost", "127.0.0.1")):
                with pytest.raises(FetchError) as caught:
                    await fetch(issuer(wrong), tls=None if wrong == url else good)
                assert caught.value.result == "unreachable"
        finally:
            listening.close()
        async with Host(ONE) as plain:
            with pytest.raises(FetchError) as caught:
                await fetch(issuer(plain.url.replace("http:", "https:")), timeout=0.5)
            assert caught.value.result in ("unreachable", "timeout")

    run(work())


def self_signed(folder: Path) -> Path:
    """A certificate for localhost and its key, in one file."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    private = rsa_key("tls")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime(2020, 1, 1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(datetime.datetime(2120, 1, 1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "tls.pem"
    path.write_bytes(made.public_bytes(encoding) + private.private_bytes(encoding, *plain))
    return path


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment would see, and could answer, what only the listed host may."""

    async def work() -> None:
        async with Host(TWO) as proxy, Host(ONE) as host:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            assert await fetch(issuer(host.url)) == ONE
            assert proxy.requests == []

    run(work())


# --- the static file of air-gapped sites


def test_static_file(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(ONE)
    listed = Issuer(origin=ISS, kind="github", jwks_file=str(path))

    async def work() -> None:
        now = [0.0]
        cache = Jwks({ISS: listed}, clock=lambda: now[0])
        assert "k1" in (await cache.keys(ISS, "k1")).keys
        path.write_bytes(TWO)
        now[0] += COOLDOWN
        assert "k2" in (await cache.keys(ISS, "k2")).keys
        path.unlink()
        now[0] += COOLDOWN
        with pytest.raises(Unknown):
            await cache.keys(ISS, "k1")
        assert "k2" in (await cache.keys(ISS, "k2")).keys
        path.write_bytes(b" " * 49153)
        with pytest.raises(FetchError) as caught:
            await fetch(listed)
        assert caught.value.result == "too_large"

    run(work())


# --- all of it


def test_s41_a_job_is_registered() -> None:
    """From the token to the rule: peek, the issuer's keys by HTTP, validate; then a rotation."""

    async def work() -> None:
        rule = OidcRule("deploy", "ci", ISS, ORIGIN, tuple(sorted(GITHUB_RULE.items())), 600, 5)
        async with Host(ONE) as host:
            cache = Jwks({ISS: issuer(host.url)})
            text = token(HEADER, github())
            said = oidc.peek(text)
            keys = await cache.keys(said.issuer, said.kid)
            found = oidc.validate(text, [rule], keys, NOW, ORIGIN, JOB, RECIPIENT)
            assert found.rule is rule and found.not_after == NOW + 300
            evil = token({**HEADER, "kid": "k2"}, github(), rsa_key("two"))
            with pytest.raises(Refused) as caught:
                oidc.validate(evil, [rule], keys, NOW, ORIGIN, JOB, RECIPIENT)
            assert caught.value.reason == "kid"
            await cache.aclose()

    run(work())
