"""What one weak member, or a stranger, can do to the others: fill the log, fail their batches, hold their places."""

import contextlib
import ipaddress
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.conftest import Database, code, url
from tests.server.live import Live, Member, Office, live, settings_for, stanza, team
from zopp.client.transport import Server, idem
from zopp.errors import UsageError, ZoppError
from zopp.keys import signing as keys
from zopp.policy import canonical, statement
from zopp.protocol import messages, signing
from zopp_server import limits, plugged, startup

PROD = "api/production"


def line(office: Office, member: Member) -> bytes:
    """A statement that its signer may not make."""
    body = statement.draft(
        "group.create", {"group": "mine"}, ws=office.now.ws, seq=office.now.seq + 1, prev=office.now.head,
        at=int(time.time()), by=member.principal,
    )  # fmt: skip
    made = statement.seal(body, [member.key.sign(statement.to_sign(body))])
    return messages.build_request("statement", idem=canonical.b64(idem()), line=made.decode(), size=0, ws=office.now.ws)


def key(office: Office, _: Member) -> bytes:
    return messages.build_request("key", env=PROD, idem=canonical.b64(idem()), size=0, ws=office.now.ws)


def manifest(office: Office, _: Member) -> bytes:
    return messages.build_request(
        "manifest", env=PROD, generation=1, hash="0" * 64, idem=canonical.b64(idem()), size=0, ws=office.now.ws
    )


KINDS: dict[str, tuple[str, Callable[[Office, Member], bytes]]] = {
    "policy": ("/v1/policy/acme", line), "keys": ("/v1/keys/acme", key), "manifests": ("/v1/manifests/acme", manifest),
}  # fmt: skip


def flood(office: Office, member: Member, kind: str, times: int) -> list[str]:
    path, make = KINDS[kind]
    codes = []
    for _ in range(times):
        with pytest.raises(ZoppError) as refused:
            member.server.post(path, make(office, member))
        codes.append(refused.value.code)
    return codes


def size(database: Database, office: Office) -> int:
    return int(database.value("zopp_app", "SELECT size FROM audit.log WHERE log_id = $1", office.now.ws))


@pytest.mark.parametrize("kind", KINDS)
def test_a28_refusals_of_a_member_without_role_are_counted(database: Database, tmp_path: Path, kind: str) -> None:
    settings = settings_for(url(database), tmp_path / "server")
    parts = plugged.parts(settings, limits.Settings(address_rate=0))
    with (
        live(settings.database, settings.data, gate=parts.gate, settings=settings) as running,
        contextlib.closing(Office(running.origin, running.log_key)) as office,
    ):
        team(office, code(database))
        office.do("alice-laptop", "user.add", email_tag=None, user="weak")
        weak = office.enrol("alice-laptop", "weak-laptop", "weak")
        before = size(database, office)
        assert set(flood(office, weak, kind, 30)) == {"denied"}
        assert size(database, office) - before == limits.Settings().denials
        (counted,) = parts.gate.summaries()
        assert (counted.what, counted.actor, counted.count) == ("denied", "weak-laptop", 20)


@pytest.mark.parametrize("kind", KINDS)
def test_a28_every_entry_of_a_member_counts_for_its_quota(database: Database, tmp_path: Path, kind: str) -> None:
    """Not those of releases alone; and what is accepted, as a revocation, is never kept out."""
    settings = settings_for(url(database), tmp_path / "server")
    parts = plugged.parts(settings, limits.Settings(address_rate=0, quota_burst=20_000, quota_rate=1e-9))
    with (
        live(settings.database, settings.data, gate=parts.gate, settings=settings) as running,
        contextlib.closing(Office(running.origin, running.log_key)) as office,
    ):
        team(office, code(database))
        carol = office.members["carol-laptop"]
        carol.server.pause = lambda _: None
        codes = flood(office, carol, kind, 30)
        assert codes[0] == "denied"
        assert codes[-1] == "quota"
        for number in range(30):
            office.do("alice-laptop", "group.create", group=f"g{number}")


def test_an_address_with_a_zone_fails_no_batch(office: Office, server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link-local address, from the peer or from a proxy's header, is none that the database takes as it stands."""
    sealed = office.brokered("alice-laptop", PROD)
    assert server.service is not None
    server.service.proxies = [ipaddress.ip_network("127.0.0.0/8")]
    headers = signing.headers
    monkeypatch.setattr(signing, "headers", lambda sent: [*headers(sent), ("X-Forwarded-For", "fe80::1%eth0")])
    assert office.release("carol-laptop", [stanza(sealed)[0]], PROD).keys[0] is not None
    assert startup.reasons(server.service) == []


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_time_that_no_calendar_has_is_refused(office: Office, server: Live, name: str) -> None:
    with pytest.raises(UsageError) as refused:
        office.members["alice-laptop"].server.get(f"/v1/audit/acme?{name}={2**53 - 1}")
    assert refused.value.code == "bad_request"
    assert not server.causes


@pytest.mark.parametrize("begin", [b"[" * 64, b'{"code":"' + b"a" * 26 + b'","log":"', b'{"v":1,"code":"'])
def test_a_long_log_of_a_stranger_is_not_even_read(server: Live, begin: bytes) -> None:
    """64 MiB are for who holds a one-time code: others are refused with most of it not yet sent."""
    host, port = server.settings.listen
    with socket.create_connection((host, port), timeout=5) as sock:
        head = b"POST /v1/workspaces/acme HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n"
        sock.sendall(head + begin + b"x" * 100_000)
        assert sock.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_long_log_with_a_code_is_read(server: Live, database: Database) -> None:
    body = messages.build_request("workspace", code=code(database), log="x" * 100_000, ws="0" * 64)
    host, port = server.settings.listen
    with socket.create_connection((host, port), timeout=5) as sock:
        sock.sendall(b"POST /v1/workspaces/acme HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert sock.recv(4096).startswith(b"HTTP/1.1 401")  # it is not signed


def test_what_was_counted_is_recorded_at_the_end(database: Database, tmp_path: Path) -> None:
    """A restart is no way to have failed attempts forgotten."""
    settings = settings_for(url(database), tmp_path / "server")
    parts = plugged.parts(settings)
    with live(settings.database, settings.data, gate=parts.gate, settings=settings) as running:
        stranger = Server(running.origin, running.log_key, keys.generate())
        with contextlib.closing(stranger), pytest.raises(ZoppError):
            stranger.get("/v1/policy/acme")
    assert database.value("zopp_app", "SELECT count(*) FROM audit.entry WHERE action = 'summary'") == 1
