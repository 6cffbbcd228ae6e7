"""age's arithmetic around a file key: X25519 stanza -> file key -> payload. Lean.

A policy server unwraps the file key of its stanza, a client opens a payload with a file key that was handed over
(brokered-grants.md §4.2, §4.4), and pyrage takes identities only, so these steps of C2SP age.md are here: the stanza's
unwrapping, the header MAC and the payload's STREAM. A wrong file key fails the header MAC, so a server can refuse but
not substitute (R1). Reading uses the same steps for the plain case of one X25519 stanza, which saves importing pyrage;
what does not open here is pyrage's to open or to refuse (`agefile.unwrap`).
"""

from zopp import _fast
from zopp.errors import FormatError, IntegrityError
from zopp.keys import agefile, bech32, curve, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from zopp.keys.agefile import Stanza

FILE_KEY = 16
_INFO = b"age-encryption.org/v1/X25519"
_CHUNK = 64 * 1024
_TAG = 16


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869), 32 bytes; `salt` of at most 64 bytes, as every one in age is."""
    return _fast.hmac_sha256(_fast.hmac_sha256(salt, key), info + b"\1")


class PrivateKey:
    """An X25519 private key. `recipient` is its public text (`age1…`); nothing shows the rest."""

    __slots__ = ("_private", "_public", "recipient")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise FormatError("an X25519 key has 32 bytes", code="x25519")
        self._private = _fast.x25519_private(secret)
        self._public = self._private.public_key().public_bytes_raw()
        self.recipient = bech32.encode("age", self._public)

    def __repr__(self) -> str:
        return f"<PrivateKey {self.recipient}>"

    def __reduce__(self) -> "tuple[object, ...]":
        raise TypeError("a private key is not copied or pickled")

    def open(self, share: bytes, body: bytes) -> "bytes | None":
        """The 16-byte file key of the X25519 stanza with this ephemeral share and body (32 bytes each); None if the
        stanza is not for this key. FormatError for other lengths and for a share that is a low-order or non-canonical
        point: those have no secret."""
        check_stanza(share, body)
        try:
            shared = self._private.exchange(_fast.x25519_public(share))
        except ValueError:
            raise FormatError("the stanza's share is a low-order point", code="stanza") from None
        wrapping = hkdf(shared, share + self._public, _INFO)
        try:
            # The nonce may be fixed: every stanza has its own wrapping key (age.md, "The X25519 recipient type").
            return _fast.open_chacha20(wrapping, bytes(12), body)
        except ValueError:
            return None


def check_stanza(share: bytes, body: bytes) -> None:
    """FormatError unless these can be an X25519 stanza's share and body."""
    if len(body) != FILE_KEY + _TAG or not curve.x25519_ok(share):
        raise FormatError("not the share and body of an X25519 stanza", code="stanza")


def stanza_of(data: bytes) -> "tuple[bytes, bytes]":
    """(share, body) of the one X25519 stanza of a binary age file; grease is ignored. FormatError otherwise."""
    return stanza_among(agefile.stanzas(data))


def stanza_among(stanzas: "list[Stanza]") -> "tuple[bytes, bytes]":
    """`stanza_of` of stanzas that have been parsed."""
    real = agefile.without_grease(stanzas)
    if len(real) != 1 or real[0][0] != "X25519" or len(real[0][1]) != 1:
        raise FormatError("the age file has not exactly one X25519 stanza", code="stanza")
    share, body = wire.base64_decode(real[0][1][0], padded=False) or b"", real[0][2]
    check_stanza(share, body)
    return share, body


def payload(data: bytes, file_key: bytes) -> bytes:
    """What the binary age file holds, opened with its file key. IntegrityError: `file_key` if the header's MAC does
    not hold under it (a wrong key, or a changed header), `age_damaged` if the payload was changed, cut or lengthened.
    FormatError for a key that has not 16 bytes, and for what is no age file."""
    if len(file_key) != FILE_KEY:
        raise FormatError("an age file key has 16 bytes", code="file_key")
    agefile.stanzas(data)
    return payload_of(data, file_key)


def payload_of(data: bytes, file_key: bytes) -> bytes:
    """`payload` of bytes that `agefile.stanzas` has been through, with a key of the right length."""
    # No stanza line can start with three dashes, so the first that does ends the header; its MAC covers those dashes.
    end = data.index(b"\n--- ") + 4
    stop = data.index(b"\n", end)
    mac = wire.base64_decode(data[end + 1 : stop].decode("ascii"), padded=False) or b""
    if not _fast.constant_time_equal(_fast.hmac_sha256(hkdf(file_key, b"", b"header"), data[:end]), mac):
        raise IntegrityError("the file key does not fit the age file's header", code="file_key")
    nonce, stream = data[stop + 1 : stop + 17], data[stop + 17 :]
    key = hkdf(file_key, nonce, b"payload")
    plain = []
    size = _CHUNK + _TAG
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    for number, chunk in enumerate(chunks):
        last = number == len(chunks) - 1
        try:
            plain.append(_fast.open_chacha20(key, number.to_bytes(11, "big") + bytes([last]), chunk))
        except ValueError:
            raise IntegrityError("the age file was changed or cut", code="age_damaged") from None
        if last and number and not plain[-1]:
            raise IntegrityError("the age file ends in an empty chunk", code="age_damaged")
    return b"".join(plain)
