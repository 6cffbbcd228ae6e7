"""Who is let in: signatures, clocks and replays on the real server (S42, S43, A10, A24)."""

import http.client
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.server.conftest import Database, url
from tests.server.live import Live, Office, live, settings_for, stanza
from zopp.client.transport import Server
from zopp.errors import Denied, ZoppError
from zopp.keys import signing as keys
from zopp.protocol import problem, release, signing
from zopp.tlog import entry

PROD = "api/production"


@pytest.fixture
def sealed(office: Office) -> str:
    return office.brokered("alice-laptop", PROD)


def raw(origin: str, method: str, path: str, headers: list[tuple[str, str]], body: bytes = b"") -> tuple[int, bytes]:
    """One request as it is given."""
    connection = http.client.HTTPConnection(origin.partition("://")[2], timeout=20)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def code_of(found: tuple[int, bytes]) -> str:
    return problem.parse(found[1], found[0]).code


def captured(
    office: Office, principal: str, recipient: str, *, size: int = 0
) -> tuple[str, bytes, list[tuple[str, str]]]:
    """(path, body, signature fields) of a release request that nobody has sent yet."""
    member = office.members[principal]
    request = release.Request(
        ws=office.now.ws, env=PROD, purpose="read", size=size, idem=b"i" * 16, items=(stanza(recipient)[0],)
    )
    body = release.build_request(request)
    path = f"/v1/releases/{office.name}"
    sent = signing.sign(
        member.key, method="POST", target=office.origin + path, body=body, created=int(time.time()), nonce=b"n" * 16
    )
    return path, body, signing.headers(sent)


@pytest.fixture
def replica(server: Live, database: Database, tmp_path: Path) -> Iterator[Live]:
    """A second server on the same database, with the same keys and origin, on a disk of its own."""
    first = server.settings
    own = settings_for(url(database), tmp_path / "replica")
    settings = replace(own, origin=first.origin, kek=first.kek, log_key=first.log_key)
    (tmp_path / "replica" / "highwater").write_bytes((tmp_path / "server" / "highwater").read_bytes())
    with live(url(database), tmp_path / "replica", settings=settings) as running:
        yield running
        assert not running.causes


def test_s42_a_captured_request_serves_once(office: Office, sealed: str, database: Database) -> None:
    path, body, headers = captured(office, "carol-laptop", sealed)
    assert raw(office.origin, "POST", path, headers, body)[0] == 200
    for _ in range(3):
        assert code_of(raw(office.origin, "POST", path, headers, body)) == "replayed"
    bodies = database.run(
        "zopp_app", lambda c: c.fetch("SELECT body FROM audit.entry WHERE action = 'auth' ORDER BY seq")
    )
    assert [entry.parse(row["body"]).reason for row in bodies] == ["replayed"] * 3


def test_s42_a_captured_request_serves_once_on_all_replicas(
    office: Office, sealed: str, replica: Live, server: Live
) -> None:
    path, body, headers = captured(office, "carol-laptop", sealed)
    other = f"http://127.0.0.1:{replica.settings.listen[1]}"
    assert raw(other, "POST", path, headers, body)[0] == 200
    assert code_of(raw(office.origin, "POST", path, headers, body)) == "replayed"
    assert code_of(raw(other, "POST", path, headers, body)) == "replayed"


def test_a24_a_reused_idempotency_key_is_decided_again(office: Office, sealed: str, database: Database) -> None:
    """A24: a redelivery is an entry of its own, and refused once the role is gone."""
    member = office.members["carol-laptop"]
    path, body, _ = captured(office, "carol-laptop", sealed)
    member.server.post(path, body)
    member.server.post(path, body)
    rows = database.run(
        "zopp_app", lambda c: c.fetch("SELECT body FROM audit.entry WHERE action = 'release' ORDER BY seq")
    )
    assert [entry.parse(row["body"]).data["again"] for row in rows] == [False, True]
    office.do("alice-laptop", "binding.remove", scope={"env": PROD}, subject={"user": "carol"})
    with pytest.raises(Denied):
        member.server.post(path, body)
    other = release.Request(
        ws=office.now.ws, env=PROD, purpose="edit", size=0, idem=b"i" * 16, items=(stanza(sealed)[0],)
    )
    with pytest.raises(ZoppError) as refused:
        member.server.post(path, release.build_request(other))
    assert refused.value.code == "bad_request"


@pytest.mark.parametrize("what", ["body", "signature", "input", "digest", "path", "label", "method", "none", "twice"])
def test_an_altered_request_is_no_signature(office: Office, sealed: str, what: str) -> None:
    path, body, headers = captured(office, "carol-laptop", sealed)
    fields, method = dict(headers), "POST"
    if what == "body":
        body = body.replace(b'"read"', b'"edit"')
    elif what == "signature":
        fields["Signature"] = fields["Signature"].replace("=:", "=:A", 1)[:-3] + "=:"
    elif what == "input":
        fields["Signature-Input"] = fields["Signature-Input"].replace('tag="zopp-v1"', 'tag="zopp-v2"')
    elif what == "digest":
        fields["Content-Digest"] = signing.content_digest(b"other")
    elif what == "path":
        path = path.replace("acme", "%61cme")
    elif what == "label":
        fields["Signature-Input"] = fields["Signature-Input"].replace("zopp=", "sig1=", 1)
    elif what == "method":
        path, method, body = f"/v1/policy/{office.name}", "GET", b""
    elif what == "none":
        fields = {}
    pairs = list(fields.items())
    if what == "twice":
        pairs.append(("signature", fields["Signature"]))
    assert code_of(raw(office.origin, method, path, pairs, body)) == "bad_signature"


def test_s43_strangers_learn_nothing(office: Office, sealed: str) -> None:
    """S43: an unknown workspace, an unknown key and a disabled principal get the same answer, to the byte."""
    stranger = Server(office.origin, office.log_key, keys.generate())
    answers = []
    for ws in ("acme", "nowhere"):
        sent = signing.sign(
            stranger.key, method="GET", target=f"{office.origin}/v1/policy/{ws}", body=b"", created=int(time.time()),
            nonce=b"s" * 16,
        )  # fmt: skip
        answers.append(raw(office.origin, "GET", f"/v1/policy/{ws}", signing.headers(sent)))
    sent = signing.sign(  # a key that is known, and a signature by another
        stranger.key, method="GET", target=f"{office.origin}/v1/policy/acme", body=b"", created=int(time.time()),
        nonce=b"k" * 16,
    )  # fmt: skip
    known = signing.fingerprint(office.members["bob-laptop"].key.public)
    forged = [(name, value.replace(signing.fingerprint(stranger.key.public), known)) for name, value in
              signing.headers(sent)]  # fmt: skip
    answers.append(raw(office.origin, "GET", "/v1/policy/acme", forged))
    office.do("alice-laptop", "principal.disable", principal="carol-laptop")
    sent = signing.sign(
        office.members["carol-laptop"].key, method="GET", target=f"{office.origin}/v1/policy/acme", body=b"",
        created=int(time.time()), nonce=b"c" * 16,
    )  # fmt: skip
    answers.append(raw(office.origin, "GET", "/v1/policy/acme", signing.headers(sent)))
    assert len(set(answers)) == 1
    assert code_of(answers[0]) == "bad_signature"


def test_a_disabled_device_is_refused_and_recorded(office: Office, sealed: str, database: Database) -> None:
    office.do("alice-laptop", "principal.disable", principal="carol-laptop")
    path, body, headers = captured(office, "carol-laptop", sealed)
    assert code_of(raw(office.origin, "POST", path, headers, body)) == "bad_signature"
    row = database.value("zopp_app", "SELECT body FROM audit.entry WHERE action = 'auth'")
    made = entry.parse(row)
    assert (made.actor, made.outcome, made.reason) == ("carol-laptop", "deny", "disabled")


@pytest.mark.parametrize("skew", [-590, -61, 61, 590])
def test_a24_a_wrong_clock_is_corrected_for_the_command(office: Office, sealed: str, skew: int) -> None:
    member = office.members["carol-laptop"]
    member.server.now = lambda: time.time() + skew
    office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert abs(member.server.offset + skew) <= 2


def test_a_clock_too_far_off_is_not(office: Office, sealed: str) -> None:
    office.members["carol-laptop"].server.now = lambda: time.time() + 900
    with pytest.raises(Denied, match="clock"):
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)


def test_a10_the_body_names_the_workspace_too(office: Office, sealed: str) -> None:
    """A10: a key may belong to two workspaces; the genesis in the body says which is meant."""
    path, body, _ = captured(office, "carol-laptop", sealed)
    body = body.replace(office.now.ws.encode(), b"0" * 64)
    with pytest.raises(ZoppError, match="another workspace") as refused:
        office.members["carol-laptop"].server.post(path, body)
    assert refused.value.code == "bad_request"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"v":1,"v":1}', b"\xff\xfe", b'{"v":1e400}', b"[" * 5000, b'"\\ud800"', b"{}" * 100],
)
def test_malformed_bodies_are_refused_in_form(office: Office, sealed: str, body: bytes, server: Live) -> None:
    member = office.members["carol-laptop"]
    for path in ("releases", "policy", "keys", "manifests"):
        with pytest.raises(ZoppError) as refused:
            member.server.post(f"/v1/{path}/{office.name}", body)
        assert refused.value.code in ("bad_request", "bad_signature", "too_large")
    assert not server.causes


def test_oversized_bodies_and_headers_are_refused(office: Office) -> None:
    assert code_of(raw(office.origin, "POST", "/v1/releases/acme", [], b"x" * 70000)) == "too_large"
    assert code_of(raw(office.origin, "GET", "/v1/policy/acme", [("X-Long", "y" * 20000)])) == "too_large"
    assert code_of(raw(office.origin, "GET", "/v1/policy/acme?from=1&from=2", [])) == "bad_signature"
    assert code_of(raw(office.origin, "POST", "/v1/server", [], b"{}")) == "bad_request"
    assert raw(office.origin, "GET", "/v1/nothing", [])[0] == 404
