"""A server that is busy, slow, sealed, lying or not one: bounded, and never quoted. Against the stand-in."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.sources.conftest import Impatient
from tests.sources.servers import Fault, Standin, free_port
from tests.sources.test_vault import keys, left, read
from zopp.errors import Denied, NotFound, Unknown, UsageError, ZoppError
from zopp.exchange.sources import vault as source, vault_http
from zopp.exchange.sources.vault_http import Answer, Login, Server, check_address

CANARY = "kanarienvogel7"
BODY = json.dumps({"errors": [CANARY], "data": CANARY}).encode()


@pytest.fixture
def server(standin: Standin) -> Impatient:
    standin.mount("kv", 2)
    for name in ("a", "b", "c", "d"):
        standin.put("kv", f"app/{name}", {"x": name})
    made = Impatient(standin.address)
    made._token = standin.root
    return made


def said(error: ZoppError) -> str:
    return f"{error} {error.hint} {error.code} {error.data} {error.__cause__} {error!r}"


@pytest.mark.parametrize("status", [412, 429, 472, 473, 500, 502, 503, 504])
def test_asked_again_where_the_server_is_busy(standin: Standin, server: Impatient, status: int) -> None:
    standin.faults.append(Fault(status, BODY, times=3))
    reading = read(server, "kv/app")
    assert len(reading.entries) == 4 and not reading.left
    assert len(server.waits) == 3
    assert all(0.25 <= wait <= vault_http.MAX_PAUSE for wait in server.waits)
    server.close()


def test_pauses_grow_vary_and_end(standin: Standin) -> None:
    standin.faults.append(Fault(429, BODY))
    seen = []
    for jitter in (0.0, 1.0):
        server = Impatient(standin.address, jitter=lambda jitter=jitter: jitter)
        with pytest.raises(Unknown) as raised:
            server.ask("GET", "kv/data/a")
        assert raised.value.code == "vault.busy" and raised.value.exit_code == 3
        assert CANARY not in said(raised.value)
        seen.append(server.waits)
        server.close()
    assert seen == [[0.25, 0.5, 1.0, 2.0, 4.0], [0.5, 1.0, 2.0, 4.0, 8.0]]
    assert len(standin.asked) == 2 * vault_http.TRIES


@pytest.mark.parametrize(("after", "least", "most"), [("3", 3, 3), ("999999", 30, 30), ("Wed, 21 Oct", 0.25, 0.5)])
def test_retry_after_is_honoured_within_bounds(standin: Standin, after: str, least: float, most: float) -> None:
    standin.faults.append(Fault(429, BODY, {"Retry-After": after}, times=1))
    told: list[str] = []
    server = Impatient(standin.address, told=told.append)
    server.ask("GET", "kv/data/a")
    server.close()
    assert least <= server.waits[0] <= most
    assert len(told) == 1 and "HTTP 429" in told[0] and CANARY not in told[0]


def test_sealed(standin: Standin, server: Impatient) -> None:
    standin.sealed = True
    with pytest.raises(Unknown) as raised:
        read(server, "kv/app")
    assert raised.value.code == "vault.sealed" and not server.waits
    server.close()


def test_one_secret_that_fails_is_rejected_and_many_are_the_server(standin: Standin, server: Impatient) -> None:
    standin.faults.append(Fault(500, BODY, path="data/app/b"))
    reading = read(server, "kv/app")
    assert left(reading) == [("kv/app/b", "rejected", "HTTP 500")]
    assert sorted(keys(reading)) == ["A_X", "C_X", "D_X"]
    assert CANARY not in repr(reading.left)
    standin.faults[0].path = "data/app/"
    with pytest.raises(Unknown) as raised:
        read(server, "kv/app")
    assert raised.value.code == "vault.busy" and CANARY not in said(raised.value)
    server.close()


def test_a_secret_that_goes_between_listing_and_reading_is_skipped(standin: Standin, server: Impatient) -> None:
    standin.faults.append(Fault(404, b'{"errors":[]}', path="kv/data/app/b"))
    assert left(read(server, "kv/app")) == [("kv/app/b", "skipped", "gone meanwhile")]
    server.close()


def test_slow_answers(standin: Standin) -> None:
    standin.faults.append(Fault(0, slow=1.0, times=1))
    server = Impatient(standin.address, timeout=0.3)
    server._token = standin.root
    standin.mount("kv", 2)
    standin.put("kv", "app", {"a": "1"})
    assert keys(read(server, "kv/app")) == {"a": "1"}
    standin.faults.append(Fault(0, slow=1.0))
    began = time.monotonic()
    with pytest.raises(Unknown) as raised:
        read(server, "kv/app")
    assert raised.value.code == "vault.unreachable" and time.monotonic() - began < 5
    server.close()


def test_an_answer_that_drips_is_given_up(standin: Standin) -> None:
    standin.faults.append(Fault(200, b" " * 100, drip=0.1))
    server = Impatient(standin.address, timeout=0.3)
    began = time.monotonic()
    with pytest.raises(Unknown) as raised:
        server.ask("GET", "kv/data/a")
    assert raised.value.code == "vault.answer" and time.monotonic() - began < 5
    server.close()


def test_an_answer_that_does_not_end_is_given_up(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_http, "MAX_ANSWER", 1 << 18)
    standin.faults.append(Fault(200, b'"' + CANARY.encode() * (1 << 16) + b'"'))
    server = Impatient(standin.address)
    with pytest.raises(Unknown) as raised:
        server.ask("GET", "kv/data/a")
    assert raised.value.code == "vault.answer" and CANARY not in said(raised.value)
    server.close()


def test_nobody_there() -> None:
    server = Impatient(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unknown) as raised:
        server.use_token("t")
    assert raised.value.code == "vault.unreachable" and len(server.waits) == vault_http.TRIES_UNREACHABLE - 1
    server.close()


def test_an_answer_that_is_cut_off(standin: Standin) -> None:
    standin.faults.append(Fault(200, BODY, {"Content-Length": "5000"}))
    server = Impatient(standin.address, timeout=0.3)
    with pytest.raises(Unknown) as raised:
        server.ask("GET", "kv/data/a")
    assert CANARY not in said(raised.value)
    server.close()


# --- redirects


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, made for one test."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "zopp tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def test_one_redirect_is_followed_as_a_standby_gives_it(standin: Standin) -> None:
    other = Standin()
    try:
        other.mount("kv", 2)
        other.put("kv", "app/a", {"x": "1"})
        other.put("kv", "app/b", {"x": "2"})
        server = Impatient(standin.address)
        server._token = other.root
        for path, query in (
            ("v1/sys/internal/ui/mounts/kv/app", ""), ("v1/kv/metadata/app", "?list=true"), ("v1/kv/data/app", ""),
            ("v1/kv/data/app/a", ""), ("v1/kv/data/app/b", ""),
        ):  # fmt: skip
            location = {"Location": f"{other.address}/{path}{query}"}
            standin.faults.append(Fault(307, b"", location, path=path.removeprefix("v1/"), times=1))
        standin.faults.sort(key=lambda fault: -len(fault.path))
        assert keys(read(server, "kv/app")) == {"A_X": "1", "B_X": "2"}
        assert not standin.tokens.keys() - {standin.root}
        server.close()
    finally:
        other.stop()


@pytest.mark.parametrize(
    "location", ["", "http://vault.example.com/v1/kv", "ftp://127.0.0.1/", "//[", "http://127.0.0.1:99999/"]
)
def test_other_redirects_are_not_followed(standin: Standin, location: str) -> None:
    standin.faults.append(Fault(307, BODY, {"Location": location}))
    server = Impatient(standin.address)
    server._token = "the-token"
    with pytest.raises(Unknown) as raised:
        server.ask("GET", "kv/data/a")
    assert raised.value.code == ("vault.answer" if location == "//[" else "vault.redirect")
    assert len(standin.asked) == 1
    server.close()


def test_no_second_redirect(standin: Standin) -> None:
    standin.faults.append(Fault(307, BODY, {"Location": "/v1/kv/data/b"}))
    server = Impatient(standin.address)
    with pytest.raises(Unknown) as raised:
        server.ask("GET", "kv/data/a")
    assert raised.value.code == "vault.redirect" and len(standin.asked) == 2
    server.close()


def test_no_redirect_from_https_to_http(standin: Standin, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    tls = Standin(certificate=pem)
    try:
        tls.faults.append(Fault(307, BODY, {"Location": f"{standin.address}/v1/kv/data/a"}))
        server = Impatient(tls.address, verify=str(pem))
        server._token = "the-token"
        with pytest.raises(Unknown) as raised:
            server.ask("GET", "kv/data/a")
        assert raised.value.code == "vault.redirect" and "TLS" in raised.value.message
        assert not standin.asked
        server.close()
        wrong = Impatient(tls.address)
        with pytest.raises(Unknown) as raised:
            wrong.ask("GET", "kv/data/a")
        assert raised.value.code == "vault.tls" and not wrong.waits
        wrong.close()
    finally:
        tls.stop()


# --- what is not sent, what is not believed


def test_no_proxy_no_netrc_no_bundle_of_the_environment(
    standin: Standin, server: Impatient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login x password y\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    assert len(read(server, "kv/app").entries) == 4
    assert all("Authorization" not in headers for _, _, headers in standin.asked)
    assert all(headers.get("X-Vault-Request") == "true" for _, _, headers in standin.asked)
    server.close()


def test_the_token_is_in_no_repr_and_stands_in_one_header(standin: Standin, server: Impatient) -> None:
    server._token = "token-" + CANARY
    with pytest.raises(UsageError) as raised:
        read(server, "kv/app")
    assert CANARY not in repr(server) + said(raised.value)
    assert all(CANARY not in path for _, path, _ in standin.asked)
    server.close()


@pytest.mark.parametrize("token", ["", "  ", "a b", "a\nX-Evil: 1", "tökén", "x" * 9000])
def test_tokens_that_cannot_be_sent(token: str) -> None:
    server = Server("http://127.0.0.1:1")
    with pytest.raises(UsageError) as raised:
        server.use_token(token)
    assert not token.strip() or token not in said(raised.value)


@pytest.mark.parametrize(
    ("address", "made"),
    [
        ("https://Vault.example.com:8200/", "https://vault.example.com:8200"),
        ("https://vault.example.com/behind/", "https://vault.example.com/behind"),
        ("http://127.0.0.1:8200", "http://127.0.0.1:8200"),
        ("http://localhost:8200", "http://localhost:8200"),
        ("http://[::1]:8200", "http://[::1]:8200"),
    ],
)
def test_addresses(address: str, made: str) -> None:
    assert check_address(address) == made


@pytest.mark.parametrize(
    "address",
    [
        "", "vault.example.com", "http://vault.example.com:8200", "http://localhost.example.com", "ftp://127.0.0.1",
        "https://", f"https://u:{CANARY}@vault.example.com", f"https://a?token={CANARY}", "https://a:99999",
        "https://[", "http://127.0.0.1.example.com", "https://a#b",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_address(address)
    assert CANARY not in said(raised.value)


BODIES = [
    b"", b"[]", b"null", b'"' + CANARY.encode() + b'"', b"{", b'{"data":', b"[" * 100_000, b'{"data": ["x"]}',
    b'{"data": {"data": ["' + CANARY.encode() + b'"], "metadata": {}}}', b'{"data": null}', b"\xff" + BODY,
    b'{"data": {"data": 5, "metadata": []}}', b'{"data": {"a": 1, "a": 2}}', b"<html>" + CANARY.encode(),
    b'{"data": {"keys": "' + CANARY.encode() + b'"}}', b'{"data": {"keys": [1, null, {}]}}', b"NaN",
    b'{"data": {"keys": ["../../sys/", "a/b", "", "/", ".", "..", "a\\nb", "\\ud800"]}}',
    b'{"auth": {"client_token": "' + CANARY.encode() + b'", "lease_duration": "' + CANARY.encode() + b'"}}',
    b'{"errors": "' + CANARY.encode() + b'"}', b'{"data": {"path": "' + CANARY.encode() + b'/", "type": "kv"}}',
    b'{"data": {"path": "kv/", "type": "' + CANARY.encode() + b'"}}', b'{"data": {"ttl": 1e999, "renewable": true}}',
]  # fmt: skip


@pytest.mark.parametrize("status", [200, 204, 400, 403, 404, 405, 418])
@pytest.mark.parametrize("at", ["", "ui/mounts", "lookup-self", "kv/metadata", "kv/data/app", "kv/data/app/b"])
def test_bodies_that_are_none_of_a_vault(standin: Standin, server: Impatient, status: int, at: str) -> None:
    """Every wrong answer at every step: a reading or a ZoppError, and nothing of the body in it."""
    for body in BODIES:
        if status == 204 and body:
            continue
        standin.faults[:] = [Fault(status, body, path=at)]
        shown = ""
        try:
            server.use_token(standin.root)
            reading = read(server, "kv/app")
            shown = repr(reading.left) + repr(reading.warnings) + repr([repr(entry) for entry in reading.entries])
        except ZoppError as exc:
            shown = said(exc)
        assert CANARY not in shown, (status, at, body)
    server.close()


def test_logins_that_answer_nonsense(standin: Standin, server: Impatient) -> None:
    for body in BODIES:
        standin.faults[:] = [Fault(200, body, path="auth/approle/login")]
        shown = ""
        try:
            server.log_in(Login("auth/approle/login", {"role_id": CANARY, "secret_id": CANARY}))
        except ZoppError as exc:
            shown = said(exc)
        assert CANARY not in shown
    server.close()


def test_a_folder_with_names_that_cannot_be_asked_for(standin: Standin, server: Impatient) -> None:
    body = json.dumps({"data": {"keys": ["a", "../../../sys/raw", "..", "x/y/", ""]}}).encode()
    standin.faults.append(Fault(200, body, path="kv/metadata/app"))
    reading = read(server, "kv/app")
    assert left(reading) == [("kv/app/", "rejected", "odd-path")]
    assert keys(reading) == {"A_X": "a"}
    assert all(".." not in path and "//" not in path for _, path, _ in standin.asked)
    # what could not be asked for may stand anywhere below
    assert [one.id for one in reading.left] == [f"{standin.address}/kv/app/"]
    server.close()


def test_a_tree_without_an_end_is_given_up(
    standin: Standin, server: Impatient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_FOLDERS", 50)
    standin.faults.append(Fault(200, b'{"data": {"keys": ["x/"]}}', path="kv/metadata"))
    with pytest.raises(UsageError) as raised:
        read(server, "kv/app")
    assert raised.value.code == "vault.size" and len(standin.asked) < 60
    server.close()


def test_a_note_and_names_cannot_write_on_a_terminal(standin: Standin, server: Impatient) -> None:
    standin.put("kv", "t/a", {"x\x1b]0;y\x07": "1"})
    standin.note("kv", "t/a", {"about": "the\x1b[31m key\nof it"})
    (entry,) = read(server, "kv/t").entries
    assert entry.note == "about: the\\x1b[31m key\\nof it"
    assert entry.locator.isprintable()
    server.close()


def test_a_value_that_is_nested_too_deeply_is_rejected(standin: Standin, server: Impatient) -> None:
    deep = "[" * 200 + f'"{CANARY}"' + "]" * 200
    body = ('{"data": {"data": {"x": ' + deep + ', "y": "1"}, "metadata": {"version": 1}}}').encode()
    standin.faults.append(Fault(200, body, path="kv/data/app/a"))
    reading = read(server, "kv/app")
    assert [one.reason for one in reading.left] == ["nested-too-deeply"]
    assert CANARY not in repr(reading.left)
    server.close()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "metadata", "keys", "version", "path", "type", "options", "custom_metadata", "a/"])
            | st.text(max_size=4),
            below,
            max_size=4,
        )
    ),
    max_leaves=10,
)


class Scripted(Server):
    """Answers from a list, without a network."""

    answers: tuple[Answer, ...] = ()
    at = 0

    def ask(self, method, path, body=None, *, params=None) -> Answer:  # type: ignore[no-untyped-def]
        self.at += 1
        return self.answers[self.at % len(self.answers)]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.sampled_from([200, 200, 200, 403, 404, 500]), _JSON), min_size=1, max_size=6),
    st.sampled_from([0, 1, 2]),
)
def test_any_answers_give_a_reading_or_a_zopp_error(answers: list[tuple[int, object]], kv: int) -> None:
    from zopp.exchange import jsontext

    server = Scripted("http://127.0.0.1:1")
    server.answers = tuple([Answer(status, jsontext.parse(json.dumps({"data": body}))) for status, body in answers])
    limit = source.MAX_FOLDERS
    source.MAX_FOLDERS = 20
    try:
        reading = read(server, "kv/app", kv=kv, versions=2)
    except ZoppError:
        return
    finally:
        source.MAX_FOLDERS = limit
    assert all(one.locator.isprintable() for one in (*reading.entries, *reading.left))


def test_errors_are_of_the_kind_that_exit_codes_tell(standin: Standin, server: Impatient) -> None:
    with pytest.raises(NotFound) as raised:
        read(server, "kv/nothing")
    assert raised.value.exit_code == 1
    server._token = "unknown"
    with pytest.raises(Denied) as denied:
        read(server, "kv/app", kv=2)
    assert denied.value.exit_code == 1
    server.close()
