"""Enrolment requests: a new key asks to be let in, and vouches of devices that are (policy-server.md §3.2).

A request is signed by the new key (namespace `zopp-enrol-v1`) over bytes that cover the age recipient: proof of
possession that waits in a file until an admin embeds it in a statement. It is used once and judged by that statement's
`at`. A principal without a signing key (an adopted sops recipient) has no proof and holds at most read.

A *vouch* is the second signature that an admin's new device, new keys, re-enabled device or lifted cap need (A20): one
enabled device of that user signs (namespace `zopp-vouch-v1`) the statement's type and data, the vouch left out. It is
used once, and `not_after` is judged by `at`. A *claim* is the invite key's signature (namespace `zopp-claim-v1`) over
the request where an admin, not the invite, signs `invite.redeem`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from zopp import _fast
from zopp.errors import FormatError
from zopp.keys.sshsig import preimage
from zopp.policy import canonical, fields as f

ENROL = "zopp-enrol-v1"
VOUCH = "zopp-vouch-v1"
CLAIM = "zopp-claim-v1"

_FILE = f.record({"proof": f.nullable(f.SIG), "request": f.REQUEST})


class Request:
    """A well-formed enrolment request: `request` and `proof` are what statements embed; `digest` is the hex SHA-256 of
    the signed bytes, which people compare as the fingerprint."""

    __slots__ = ("digest", "proof", "request")
    request: Mapping[str, Any]
    proof: str | None
    digest: str

    def __init__(self, request: Mapping[str, Any], proof: str | None) -> None:
        object.__setattr__(self, "request", MappingProxyType(dict(request)))
        object.__setattr__(self, "proof", proof)
        object.__setattr__(self, "digest", _fast.sha256(canonical.encode(dict(request))).hex())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a request does not change")


def draft(
    *, ws: str, name: str, user: str | None, key: bytes | None, recipient: str, id: bytes, not_after: int
) -> bytes:
    """The request's bytes: device `name` of `user` (None: a service), Ed25519 `key` (32 bytes or None), age
    `recipient`, `id` 16 random bytes, `not_after` Unix seconds. To be signed with `to_sign`."""
    request = {
        "id": canonical.b64(id),
        "key": None if key is None else canonical.b64(key),
        "name": name,
        "not_after": not_after,
        "recipient": recipient,
        "user": user,
        "v": 1,
        "ws": ws,
    }
    problems: list[f.Problem] = []
    f.REQUEST.check(request, "request", problems)
    if problems:
        raise f.refuse(problems, "request")
    return canonical.encode(request)


def to_sign(request: bytes) -> bytes:
    """What the new key signs."""
    return preimage(ENROL, request)


def claim_to_sign(request: bytes) -> bytes:
    """What the invite's key signs when an admin countersigns the redemption."""
    return preimage(CLAIM, request)


def seal(request: bytes, proof: bytes | None) -> bytes:
    """The file `zopp principal request` prints: request and proof, canonical, without newline. Verified."""
    text = None if proof is None else canonical.b64(proof)
    data = canonical.encode({"proof": text, "request": canonical.decode(request)})
    parse(data)
    return data


def parse(data: bytes) -> Request:
    """A request file (an optional last newline is ignored) whose proof holds; FormatError otherwise. Whether it is
    expired, used or for this workspace is `apply`'s to judge."""
    value = canonical.decode(data.removesuffix(b"\n"))
    problems: list[f.Problem] = []
    _FILE.check(value, "file", problems)
    if problems:
        raise f.refuse(problems, "request")
    request, proof = value["request"], value["proof"]
    if (request["key"] is None) != (proof is None):
        raise FormatError("a proof goes with a signing key and only with one", code="request")
    if proof is not None:
        key, sig = canonical.unb64(request["key"], 32), canonical.unb64(proof, 64)
        if not _fast.ed25519_verify(key, sig, to_sign(canonical.encode(request))):
            raise FormatError("the request is not signed by its own key", code="request")
    return Request(request, proof)


def vouch_to_sign(type: str, data: Mapping[str, Any], *, ws: str, device: str, not_after: int) -> bytes:
    """What a present device of an admin signs so that statement `type` with `data` (its `vouch` field is ignored) may
    touch that admin's devices."""
    rest = {key: canonical.thaw(value) for key, value in data.items() if key != "vouch"}
    return preimage(
        VOUCH, canonical.encode({"data": rest, "device": device, "not_after": not_after, "type": type, "ws": ws})
    )


def vouch(device: str, not_after: int, sig: bytes) -> dict[str, Any]:
    """The `vouch` field from its parts."""
    return {"device": device, "not_after": not_after, "sig": canonical.b64(sig)}
