"""Signed requests: one accepted shape, everything else refused, and a second implementation agrees on the shape."""

import base64
import hashlib
import random

import http_sf
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureComponentResolver,
    HTTPSignatureKeyResolver,
    InvalidSignature,
    algorithms,
)
from hypothesis import given, strategies as st

from zopp.errors import Denied, FormatError, IntegrityError, ZoppError
from zopp.keys import signing as keys
from zopp.protocol import clock, signing
from zopp.tlog.entry import SignedRequest

KEY = keys.from_seed(b"\1" * 32)
OTHER = keys.from_seed(b"\2" * 32)
NOW = 1795305600
TARGET = "https://zopp.example.test/v1/releases/acme?x=%2F&y"
BODY = b'{"v":1}'
NONCE = bytes(range(16))
SENT = signing.sign(KEY, method="POST", target=TARGET, body=BODY, created=NOW, nonce=NONCE)


def authenticate(
    fields: list[tuple[str, str]],
    *,
    method: str = "POST",
    target: str = TARGET,
    body: bytes = BODY,
    public: bytes | None = KEY.public,
    now: int = NOW,
) -> signing.Presented:
    presented = signing.read(fields, method=method, target=target, body=body)
    signing.verify(presented, public)
    signing.check_fresh(presented, now=now)
    return presented


def test_a_signed_request_is_accepted() -> None:
    made = authenticate([("Host", "elsewhere.test"), *signing.headers(SENT), ("Content-Type", "application/json")])
    assert (made.created, made.expires, made.nonce) == (NOW, NOW + 60, NONCE)
    assert made.keyid == signing.fingerprint(KEY.public)
    assert made.request == SENT
    assert "signature" not in repr(made)
    get = signing.sign(KEY, method="GET", target="http://localhost:8443/", body=b"", created=NOW, nonce=NONCE)
    authenticate(signing.headers(get), method="GET", target="http://localhost:8443/", body=b"")


def test_the_exact_text() -> None:
    assert signing.headers(SENT)[1] == (
        "Signature-Input",
        'zopp=("@method" "@target-uri" "content-digest");created=1795305600;expires=1795305660;'
        f'keyid="{signing.fingerprint(KEY.public)}";alg="ed25519";nonce="AAECAwQFBgcICQoLDA0ODw";tag="zopp-v1"',
    )
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    assert SENT.content_digest == f"sha-256=:{digest}:"
    lines = signing.base("POST", TARGET, SENT.content_digest, SENT.signature_input[5:]).decode().split("\n")
    assert lines[:3] == ['"@method": POST', f'"@target-uri": {TARGET}', f'"content-digest": sha-256=:{digest}:']
    assert lines[3:] == ['"@signature-params": ' + SENT.signature_input[5:]]
    # RFC 9530, appendix B.1 and B.2
    assert signing.content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert signing.content_digest(b"") == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"


def test_the_fingerprint_is_ssh_keygen_s(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import shutil
    import subprocess

    program = shutil.which("ssh-keygen")
    assert program, "ssh-keygen is a test oracle of this project"
    (tmp_path / "key.pub").write_text(keys.public_line(KEY.public) + "\n")
    done = subprocess.run([program, "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == signing.fingerprint(KEY.public)


def test_an_rfc_9421_signature_by_ed25519_is_one_here() -> None:
    """RFC 9421, appendix B.2.6: the key, base and signature as published. Our own profile covers other components, so
    what is compared is the algorithm and the key."""
    key = keys.from_seed(base64.urlsafe_b64decode("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU="))
    assert key.public == base64.urlsafe_b64decode("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs=")
    message = (
        b'"date": Tue, 20 Apr 2021 02:07:55 GMT\n"@method": POST\n"@path": /foo\n"@authority": example.com\n'
        b'"content-type": application/json\n"content-length": 18\n'
        b'"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length")'
        b';created=1618884473;keyid="test-key-ed25519"'
    )
    assert base64.b64encode(key.sign(message)) == (
        b"wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    )


# --- an independent implementation: http-message-signatures


class _Message:
    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self.method, self.url, self.headers = "POST", TARGET, dict(fields)


class _Keys(HTTPSignatureKeyResolver):  # type: ignore[misc]
    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey:
        assert key_id == signing.fingerprint(KEY.public)
        return Ed25519PublicKey.from_public_bytes(KEY.public)

    def resolve_private_key(self, key_id: str):  # type: ignore[no-untyped-def]
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(b"\1" * 32)


def test_another_implementation_verifies_ours() -> None:
    import datetime

    class Verifier(HTTPMessageVerifier):  # type: ignore[misc]
        def validate_created_and_expires(self, sig_input, max_age=None):  # type: ignore[no-untyped-def]
            """The vector's time is fixed; ours checks freshness itself."""

    verifier = Verifier(signature_algorithm=algorithms.ED25519, key_resolver=_Keys())
    done = verifier.verify(
        _Message(signing.headers(SENT)), max_age=datetime.timedelta(days=36500), expect_tag="zopp-v1"
    )
    assert [each.label for each in done] == ["zopp"]
    assert set(done[0].covered_components) >= {'"@method"', '"@target-uri"', '"content-digest"'}
    tampered = _Message(signing.headers(SENT))
    tampered.url += "z"
    with pytest.raises(InvalidSignature):
        verifier.verify(tampered, max_age=datetime.timedelta(days=36500), expect_tag="zopp-v1")
    parsed = http_sf.parse(SENT.signature_input.encode(), tltype="dictionary")
    assert list(parsed) == ["zopp"]


def test_ours_verifies_another_implementation_s() -> None:
    """The library signs the same components and parameters: our base is the one that it signed."""
    import datetime

    message = _Message([("Content-Digest", SENT.content_digest)])  # by us, for that field has one form
    signer = HTTPMessageSigner(
        signature_algorithm=algorithms.ED25519,
        key_resolver=_Keys(),
        component_resolver_class=HTTPSignatureComponentResolver,
    )
    signer.sign(
        message,
        key_id=signing.fingerprint(KEY.public),
        label="zopp",
        created=datetime.datetime.fromtimestamp(NOW),
        expires=datetime.datetime.fromtimestamp(NOW + 60),
        nonce="AAECAwQFBgcICQoLDA0ODw",
        tag="zopp-v1",
        include_alg=True,
        use_existing_digest=True,
        covered_component_ids=("@method", "@target-uri", "content-digest"),
    )
    # Parameter order is free in the RFC and fixed here, so the signature is compared over the base it was made for.
    theirs = message.headers["Signature-Input"].partition("=")[2]
    signature = base64.b64decode(message.headers["Signature"].partition("=:")[2][:-1])
    Ed25519PublicKey.from_public_bytes(KEY.public).verify(
        signature, signing.base("POST", TARGET, SENT.content_digest, theirs)
    )
    assert sorted(theirs.split(";")) == sorted(SENT.signature_input[5:].split(";"))


# --- refusals


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


INPUT = SENT.signature_input
KEYID = f'keyid="{signing.fingerprint(KEY.public)}"'


@pytest.mark.parametrize(
    "text",
    [
        edited(INPUT, '"@method" "@target-uri"', '"@target-uri" "@method"'),
        edited(INPUT, ' "content-digest"', ""),
        edited(INPUT, '"content-digest")', '"content-digest" "date")'),
        edited(INPUT, '"@target-uri"', '"@target-uri";req'),
        edited(INPUT, '"@target-uri"', '"@path"'),
        edited(INPUT, ";expires=1795305660", ""),
        edited(INPUT, ";created=1795305600;expires=1795305660", ";expires=1795305660;created=1795305600"),
        edited(INPUT, ";created=1795305600", ";created=1795305600;created=1795305600"),
        edited(INPUT, "created=1795305600", "created=01795305600"),
        edited(INPUT, "created=1795305600", "created=1795305600.0"),
        edited(INPUT, "created=1795305600", "created=-1795305600"),
        edited(INPUT, "created=1795305600", 'created="1795305600"'),
        edited(INPUT, "created=1795305600", "created=1795305601"),
        edited(INPUT, "created=1795305600", "created=١795305600"),
        edited(INPUT, "expires=1795305660", "expires=1795305659"),
        edited(INPUT, ';alg="ed25519"', ""),
        edited(INPUT, "ed25519", "hmac-sha256"),
        edited(INPUT, "ed25519", "ED25519"),
        edited(INPUT, 'tag="zopp-v1"', 'tag="zopp-v2"'),
        edited(INPUT, ';tag="zopp-v1"', ""),
        edited(INPUT, ';tag="zopp-v1"', ';tag="zopp-v1";x=1'),
        edited(INPUT, 'nonce="AAEC', 'nonce="BAEC'),
        edited(INPUT, 'ODw"', 'ODx"'),
        edited(INPUT, 'ODw"', 'OD"'),
        edited(INPUT, 'ODw"', 'ODw="'),
        edited(INPUT, KEYID, KEYID.replace("SHA256:", "MD5:")),
        edited(INPUT, KEYID, f'keyid="{signing.fingerprint(OTHER.public)}"'),
        edited(INPUT, "zopp=(", "sig1=("),
        edited(INPUT, "zopp=(", "ZOPP=("),
        edited(INPUT, ";created", "; created"),
        INPUT + ", " + INPUT.replace("zopp=", "sig1="),
        INPUT.replace("zopp=", "sig1=") + ", " + INPUT,
        INPUT + "," + INPUT,
        INPUT + "\n", " " + INPUT, INPUT + " ", "", INPUT[:-1],
    ],
)  # fmt: skip
def test_another_signature_input_is_refused(text: str) -> None:
    """Order, surplus, absence, second labels, other spellings: all `bad_signature`, whatever they would mean."""
    fields = dict(signing.headers(SENT)) | {"Signature-Input": text}
    with pytest.raises(IntegrityError) as caught:
        authenticate(list(fields.items()))
    assert caught.value.code == "bad_signature"


@pytest.mark.parametrize("name", ["Content-Digest", "Signature-Input", "Signature"])
def test_fields_missing_doubled_or_in_another_form(name: str) -> None:
    fields = signing.headers(SENT)
    value = dict(fields)[name]
    for bad in (
        [each for each in fields if each[0] != name],
        [*fields, (name, value)],
        [*fields, (name.upper(), "")],
        [each if each[0] != name else (name, value + " ") for each in fields],
        [each if each[0] != name else (name, value + ", x=:AAAA:") for each in fields],
        [
            each if each[0] != name else (name, value.replace("=:", "=::"))
            for each in fields
            if name != "Signature-Input"
        ],
        [],
    ):
        with pytest.raises(IntegrityError) as caught:
            authenticate(bad)
        assert caught.value.code == "bad_signature"


def test_what_the_signature_binds() -> None:
    """Another method, host, path, query, body or key; and a key that may not sign fails like an unknown one."""
    fields = signing.headers(SENT)
    for change in (
        {"method": "PUT"}, {"method": "DELETE"}, {"target": TARGET.replace("zopp.", "other.")},
        {"target": TARGET.replace("https", "http")}, {"target": TARGET.replace("acme", "other")},
        {"target": TARGET.replace("%2F", "/")}, {"target": TARGET.replace("%2F", "%2f")},
        {"target": TARGET.partition("?")[0]}, {"target": TARGET + "&z"}, {"body": BODY + b" "}, {"body": b""},
        {"public": OTHER.public}, {"public": None}, {"method": "post"},
        {"target": TARGET + "\n"}, {"target": TARGET + "#"},
    ):  # fmt: skip
        with pytest.raises(IntegrityError) as caught:
            authenticate(fields, **change)  # type: ignore[arg-type]
        assert caught.value.code == "bad_signature"


def presented_by_hand(key: keys.SigningKey, keyid: str) -> signing.Presented:
    """A valid signature by `key` over parameters that name `keyid`."""
    params = SENT.signature_input[5:].replace(signing.fingerprint(KEY.public), keyid)
    signature = base64.b64encode(key.sign(signing.base("POST", TARGET, SENT.content_digest, params))).decode()
    return signing.recorded(
        SignedRequest(
            method="POST", target=TARGET, content_digest=SENT.content_digest, signature_input="zopp=" + params,
            signature=f"zopp=:{signature}:",
        )
    )  # fmt: skip


def test_the_fingerprint_is_the_key_s() -> None:
    signing.verify(presented_by_hand(OTHER, signing.fingerprint(OTHER.public)), OTHER.public)
    with pytest.raises(IntegrityError):
        signing.verify(presented_by_hand(KEY, signing.fingerprint(OTHER.public)), KEY.public)


def test_a_signature_under_the_key_that_nobody_has_opens_nothing() -> None:
    """What unknown keys are verified against is the curve's base point, under which everybody can sign."""
    order = 2**252 + 27742317777372353535851937790883648493
    nobody = bytes([0x58]) + bytes([0x66]) * 31

    def sign(message: bytes) -> bytes:
        nonce = keys.from_seed(b"\7" * 32)
        scalar = bytearray(hashlib.sha512(b"\7" * 32).digest()[:32])
        scalar[0] &= 248
        scalar[31] = scalar[31] & 127 | 64
        challenge = int.from_bytes(hashlib.sha512(nonce.public + nobody + message).digest(), "little")
        s = (int.from_bytes(scalar, "little") + challenge) % order
        return nonce.public + s.to_bytes(32, "little")

    forged = presented_by_hand(keys.SigningKey(nobody, sign), signing.fingerprint(nobody))
    signing.verify(forged, nobody)
    with pytest.raises(IntegrityError):
        signing.verify(forged, None)


def test_each_byte_counts() -> None:
    """Flip each bit of the three fields, and 2,000 random bits of body and target: nothing is accepted."""
    rng = random.Random(9421)
    for position, (name, value) in enumerate(signing.headers(SENT)):
        for at in range(len(value)):
            for bit in range(8):
                fields = signing.headers(SENT)
                fields[position] = (name, value[:at] + chr(ord(value[at]) ^ 1 << bit) + value[at + 1 :])
                with pytest.raises(ZoppError):
                    authenticate(fields)
    for _ in range(2000):
        body, target = bytearray(BODY), TARGET
        if rng.random() < 0.5:
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        else:
            at = rng.randrange(len(target))
            target = target[:at] + chr(ord(target[at]) ^ 1 << rng.randrange(8)) + target[at + 1 :]
        with pytest.raises(ZoppError):
            authenticate(signing.headers(SENT), body=bytes(body), target=target)


@pytest.mark.parametrize(
    ("created", "expires", "now", "fresh"),
    [
        (NOW, NOW + 60, NOW, True), (NOW, NOW + 60, NOW + 60, True), (NOW, NOW + 60, NOW - 60, True),
        (NOW, NOW + 60, NOW + 61, False), (NOW, NOW + 60, NOW - 61, False), (NOW, NOW + 61, NOW, False),
        (NOW, NOW - 1, NOW, False), (NOW, NOW, NOW, True), (NOW, NOW + 5, NOW + 6, False),
        (NOW, NOW + 5, NOW + 5, True),
        (10**14, 10**14 + 60, NOW, False), (1, 61, NOW, False),
    ],
)  # fmt: skip
def test_freshness(created: int, expires: int, now: int, fresh: bool) -> None:
    sent = signing.sign(KEY, method="POST", target=TARGET, body=BODY, created=created, expires=expires, nonce=NONCE)
    if fresh:
        authenticate(signing.headers(sent), now=now)
        return
    with pytest.raises(Denied) as caught:
        authenticate(signing.headers(sent), now=now)
    assert caught.value.code == "clock_skew"


def test_a_stale_forgery_is_a_bad_signature_first() -> None:
    """Only who holds the key learns the server's time."""
    with pytest.raises(IntegrityError):
        authenticate(signing.headers(SENT), public=OTHER.public, now=NOW + 10**6)
    assert signing.replayed().code == "replayed"


def test_what_can_be_signed() -> None:
    assert signing.target_uri("https://a.test", "/v1/x%20y", "q=1") == "https://a.test/v1/x%20y?q=1"
    assert signing.target_uri("http://localhost:1", "/") == "http://localhost:1/"
    for origin, path, query in (
        ("https://a.test", "", ""), ("https://a.test", "x", ""), ("https://a.test", "/a b", ""),
        ("https://a.test", "/é", ""),
        ("https://a.test", "/a\n", ""), ("https://a.test", "/", "a#b"), ("ftp://a.test", "/", ""), ("", "/", ""),
        ("https://A.test", "/", ""), ("https://a.test", "/" + "x" * 2048, ""), ("https://a@b.test", "/", ""),
    ):  # fmt: skip
        with pytest.raises(FormatError):
            signing.target_uri(origin, path, query)
    for change in ({"nonce": bytes(15)}, {"method": "PATCH"}, {"method": "POST\n"}, {"target": "/"}):
        with pytest.raises(FormatError):
            signing.sign(
                KEY, **{"method": "POST", "target": TARGET, "body": b"", "created": NOW, "nonce": NONCE} | change
            )  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.sampled_from(["signature", "Signature-Input", "content-digest", "x"]), st.text(max_size=60)))
)
def test_any_fields_give_a_value_or_a_zopp_error(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(ZoppError):
        authenticate(fields)


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_any_recorded_request_gives_a_value_or_a_zopp_error(one: str, two: str, three: str) -> None:
    with pytest.raises(ZoppError):
        signing.recorded(
            SignedRequest(method="POST", target=TARGET, content_digest=one, signature_input=two, signature=three)
        )


# --- the server's time


def test_the_server_s_time_fits_one_request_and_is_bounded() -> None:
    log = keys.from_seed(b"\5" * 32)
    members = clock.attest(log, nonce=NONCE, time=NOW + 400)
    assert clock.offset(members, log.public, nonce=NONCE, now=NOW) == 400
    assert clock.offset(clock.attest(log, nonce=NONCE, time=NOW - 600), log.public, nonce=NONCE, now=NOW) == -600
    for time in (NOW + 601, NOW - 601, 2**52):
        with pytest.raises(Denied):
            clock.offset(clock.attest(log, nonce=NONCE, time=time), log.public, nonce=NONCE, now=NOW)
    other = clock.attest(log, nonce=bytes(16), time=NOW)
    for bad, public, nonce in (
        (members, OTHER.public, NONCE), (members, log.public, bytes(16)), (other, log.public, NONCE),
        (other | {"nonce": members["nonce"]}, log.public, NONCE), (members | {"time": NOW}, log.public, NONCE),
        ({}, log.public, NONCE),
    ):  # fmt: skip
        with pytest.raises(IntegrityError):
            clock.offset(bad, public, nonce=nonce, now=NOW)
