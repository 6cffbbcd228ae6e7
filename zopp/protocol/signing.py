"""Signed requests: one fixed profile of RFC 9421, reconstructed and never interpreted (policy-server.md §3.1).

Every request, a GET too, carries three header fields:

    Content-Digest: sha-256=:<base64>:
    Signature-Input: zopp=("@method" "@target-uri" "content-digest");created=…;expires=…;keyid="SHA256:…";alg="ed25519";nonce="…";tag="zopp-v1"
    Signature: zopp=:<base64>:

The server matches the whole text of each, takes its method, its configured public origin with the raw path and query,
and its own digest of the body, and rebuilds what must have been signed. A second label, another parameter or order is
no signature at all. The order of checks: `read`, look up the key by fingerprint, `verify` (with None if there is no
such key or it may not sign, for one timing), `check_fresh`, then the nonce in the transaction that acts.

Not done here: nonces (`replayed` comes from the database) and who the key belongs to.
"""  # noqa: E501

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from zopp import _fast
from zopp.errors import Denied, FormatError, IntegrityError
from zopp.keys import signing, wire
from zopp.policy import canonical
from zopp.tlog.entry import SignedRequest

WINDOW = 60
"""Seconds: how far `created` may lie from the server's clock, and `expires` from `created`."""

METHODS = ("GET", "POST", "PUT", "DELETE")
MAX_TARGET = 2048

_COMPONENTS = '("@method" "@target-uri" "content-digest")'
_INPUT = re.compile(
    r'zopp=(\("@method" "@target-uri" "content-digest"\)'
    r";created=([1-9][0-9]{0,14});expires=([1-9][0-9]{0,14})"
    r';keyid="(SHA256:[A-Za-z0-9+/]{43})";alg="ed25519";nonce="([A-Za-z0-9_-]{22})";tag="zopp-v1")'
)
_SIGNATURE = re.compile(r"zopp=:([A-Za-z0-9+/]{86}==):")
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
_TARGET = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?/[!-\"$-~]*")
_FIELDS = ("content-digest", "signature-input", "signature")

# A key that nobody has: the generator's own point, whose discrete logarithm is 1 but which no policy names. Verifying
# against it costs what verifying against a real one does.
_NOBODY = bytes([0x58]) + bytes([0x66]) * 31


@lru_cache(maxsize=4096)
def fingerprint(public: bytes) -> str:
    """`SHA256:<43 base64>` of an Ed25519 key (32 bytes), as `ssh-keygen -l` prints it."""
    return "SHA256:" + wire.base64_encode(_fast.sha256(wire.public_blob(public))).rstrip("=")


def content_digest(body: bytes) -> str:
    """The Content-Digest field (RFC 9530) of exactly these bytes."""
    return f"sha-256=:{wire.base64_encode(_fast.sha256(body))}:"


def target_uri(origin: str, raw_path: str, query: str = "") -> str:
    """The target URI: the *configured* origin (never Host or X-Forwarded-*), the path as it came, undecoded, and the
    query without its `?`. FormatError for what cannot stand in one (blanks, controls, `#`, not ASCII, too long)."""
    return _target(origin + raw_path + ("?" + query if query else ""))


def _target(target: str) -> str:
    if len(target) > MAX_TARGET or not _TARGET.fullmatch(target):
        raise FormatError("not a target URI", code="target")
    return target


def _params(created: int, expires: int, keyid: str, nonce: str) -> str:
    return (
        f'{_COMPONENTS};created={created};expires={expires};keyid="{keyid}";alg="ed25519";nonce="{nonce}";tag="zopp-v1"'
    )


def base(method: str, target: str, digest: str, params: str) -> bytes:
    """The signature base (RFC 9421 §2.5): `digest` is the Content-Digest field, `params` the Signature-Input field
    without its label. FormatError for an unknown method or what is no target URI."""
    if method not in METHODS:
        raise FormatError("not a method of this protocol", code="method")
    lines = [
        f'"@method": {method}',
        f'"@target-uri": {_target(target)}',
        f'"content-digest": {digest}',
        f'"@signature-params": {params}',
    ]
    return "\n".join(lines).encode("ascii")


def sign(
    key: signing.SigningKey,
    *,
    method: str,
    target: str,
    body: bytes,
    created: int,
    nonce: bytes,
    expires: int | None = None,
) -> SignedRequest:
    """The signed request. `created` is Unix seconds (the caller's clock, with what `clock.offset` gave), `expires`
    WINDOW later unless said otherwise, `nonce` 16 fresh random bytes. FormatError for a nonce of another length."""
    if len(nonce) != 16:
        raise FormatError("a nonce has 16 bytes", code="nonce")
    digest = content_digest(body)
    params = _params(
        created, created + WINDOW if expires is None else expires, fingerprint(key.public), canonical.b64(nonce)
    )
    signature = key.sign(base(method, target, digest, params))
    made = SignedRequest(
        method=method,
        target=target,
        content_digest=digest,
        signature_input="zopp=" + params,
        signature=f"zopp=:{wire.base64_encode(signature)}:",
    )
    recorded(made)
    return made


def headers(request: SignedRequest) -> list[tuple[str, str]]:
    """The header fields that carry the signature."""
    return [
        ("Content-Digest", request.content_digest),
        ("Signature-Input", request.signature_input),
        ("Signature", request.signature),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A request's signature fields, in form and not yet verified. `created` and `expires` are Unix seconds, `keyid` the
    fingerprint to look up, `nonce` 16 bytes."""

    request: SignedRequest
    created: int
    expires: int
    keyid: str
    nonce: bytes

    def __repr__(self) -> str:
        return f"Presented(keyid={self.keyid!r}, created={self.created})"


def _bad(reason: str) -> IntegrityError:
    return IntegrityError(reason, code="bad_signature")


def read(fields: Iterable[tuple[str, str]], *, method: str, target: str, body: bytes) -> Presented:
    """What the header `fields` (all of the request's, names in any case) present for a request whose method, target URI
    and body the server itself knows. IntegrityError (`bad_signature`) unless each of the three fields stands there once
    in exactly its form and the digest is the body's."""
    found: dict[str, str] = {}
    for name, value in fields:
        name = name.lower()
        if name in _FIELDS:
            if name in found:
                raise _bad("a signature field stands twice")
            found[name] = value
    if len(found) != len(_FIELDS):
        raise _bad("the request is not signed")
    if found["content-digest"] != content_digest(body):
        raise _bad("the content digest is not the body's")
    return recorded(
        SignedRequest(
            method=method,
            target=target,
            content_digest=found["content-digest"],
            signature_input=found["signature-input"],
            signature=found["signature"],
        )
    )


def recorded(request: SignedRequest) -> Presented:
    """The signature fields of a request as an audit entry records it. The digest is not compared with a body: that is
    `read`'s, or the auditor's. IntegrityError (`bad_signature`)."""
    match = _INPUT.fullmatch(request.signature_input)
    if not match or not _SIGNATURE.fullmatch(request.signature) or not _DIGEST.fullmatch(request.content_digest):
        raise _bad("the signature fields are not in their one form")
    try:
        nonce = canonical.unb64(match[5], 16)
    except FormatError:
        raise _bad("the signature fields are not in their one form") from None
    return Presented(request=request, created=int(match[2]), expires=int(match[3]), keyid=match[4], nonce=nonce)


def verify(presented: Presented, public: bytes | None) -> None:
    """Require that `public` (32 bytes, a checked point) signed this request. None: no key goes with the fingerprint, or
    its holder may not sign; it costs the same and fails. IntegrityError (`bad_signature`)."""
    request = presented.request
    params = _params(
        presented.created, presented.expires, presented.keyid, canonical.b64(presented.nonce)
    )  # rebuilt, not copied from the field
    text = wire.base64_decode(request.signature[6:-1])
    try:
        message = base(request.method, request.target, request.content_digest, params)
    except FormatError:
        raise _bad("the request cannot be signed") from None
    holds = _fast.ed25519_verify(_NOBODY if public is None else public, text or b"", message)
    if public is None or not holds or fingerprint(public) != presented.keyid:
        raise _bad("the signature does not verify")


def check_fresh(presented: Presented, *, now: int) -> None:
    """Require |now - created| <= WINDOW and created <= expires <= created + WINDOW, and that it has not expired. Denied
    (`clock_skew`); to be asked only of a verified signature, since the answer is an entry of its own."""
    created, expires = presented.created, presented.expires
    if abs(now - created) > WINDOW or not created <= expires <= created + WINDOW or now > expires:
        raise Denied("the request was not signed now by this server's clock", code="clock_skew")


def replayed() -> Denied:
    """What the caller raises whose database knows the nonce already."""
    return Denied("the request was sent before", code="replayed")
