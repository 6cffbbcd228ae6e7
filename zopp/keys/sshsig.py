"""SSHSIG: signatures that `ssh-keygen -Y sign` makes and `ssh-keygen -Y verify` checks. Lean.

One form only: version 1, Ed25519, hash sha512, empty reserved field, armor exactly as ssh-keygen writes it, so that a
signature has one spelling (A8). Ed25519 being deterministic, what is made here equals ssh-keygen's byte for byte.
Who may sign, and in which namespace, is the caller's business. Source: OpenSSH PROTOCOL.sshsig.
"""

from zopp import _fast
from zopp.errors import FormatError, IntegrityError
from zopp.keys import curve, wire

_LABEL = "SSH SIGNATURE"
_MAGIC = b"SSHSIG"
_HASH = b"sha512"
_WHAT = "armored SSH signature"


def preimage(namespace: str, message: bytes) -> bytes:
    """The bytes that the key signs for `message` in `namespace` (ASCII, not empty)."""
    hashed = wire.string(_fast.sha512(message))
    return _MAGIC + wire.string(_namespace(namespace)) + wire.string(b"") + wire.string(_HASH) + hashed


def _namespace(namespace: str) -> bytes:
    if not (namespace and namespace.isascii() and namespace.isprintable()):
        raise FormatError("a signature namespace must be printable ASCII", code="namespace")
    return namespace.encode("ascii")


def armor(public: bytes, namespace: str, signature: bytes) -> str:
    """The armored SSHSIG of a raw 64-byte `signature` over `preimage(namespace, …)`, as ssh-keygen lays it out."""
    if len(public) != 32 or len(signature) != 64:
        raise FormatError("an Ed25519 key has 32 bytes and its signature 64", code="sshsig")
    blob = (
        _MAGIC
        + (1).to_bytes(4, "big")
        + wire.string(wire.public_blob(public))
        + wire.string(_namespace(namespace))
        + wire.string(b"")
        + wire.string(_HASH)
        + wire.string(wire.string(wire.ED25519) + wire.string(signature))
    )
    return wire.pem_encode(blob, _LABEL, 70)


def parse(armored: str) -> "tuple[bytes, str, str, bytes]":
    """(public key, namespace, hash name, raw signature) of an armored signature. Nothing is verified.

    Raises FormatError for anything but the one form above, other key types and hashes included.
    """
    if len(armored) > 4096:
        raise FormatError(f"not a valid {_WHAT}", code="sshsig")
    reader = wire.Reader(wire.pem_decode(armored, _LABEL, 70, _WHAT), _WHAT)
    if reader.take(6) != _MAGIC or reader.uint32() != 1:
        raise reader.fail()
    public = wire.parse_public_blob(reader.string(), _WHAT)
    namespace = reader.string().decode("latin-1")
    reader.expect(b"")
    reader.expect(_HASH)
    inner = wire.Reader(reader.string(), _WHAT)
    reader.end()
    inner.expect(wire.ED25519)
    signature = inner.string()
    inner.end()
    if len(signature) != 64 or armor(public, namespace, signature) != armored.removesuffix("\n") + "\n":
        raise reader.fail()
    return public, namespace, _HASH.decode(), signature


def verify(armored: str, public: bytes, namespace: str, message: bytes) -> None:
    """Require that `armored` is `public`'s signature of exactly `message` in `namespace`.

    Raises FormatError (no signature of the one form), IntegrityError (another key, another namespace, or it does not
    verify). Keys of small order never verify.
    """
    signer, used, _, signature = parse(armored)
    if signer != public:
        raise IntegrityError("the signature is by another key", code="signature_key")
    if used != namespace:
        raise IntegrityError("the signature was made for another purpose", code="signature_namespace", namespace=used)
    if curve.ed25519_weak(public) or not _fast.ed25519_verify(public, signature, preimage(namespace, message)):
        raise IntegrityError("the signature does not verify", code="signature")
