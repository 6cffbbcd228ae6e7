"""sops' key service messages, by hand: the few fields of keyservice.proto that an age key needs. Pure.

    Key{age_key = 6: AgeKey{recipient = 1}}   DecryptRequest{key = 1, ciphertext = 2}   DecryptResponse{plaintext = 1}

Other key types stand under other numbers of `Key` and are read as 'no age key'. Protobuf lets a field stand twice, and
the last counts; here that is refused, so that nobody reads the message another way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zopp.errors import FormatError

MAX_MESSAGE = 1 << 20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class DecryptRequest:
    """`recipient` of the age key that the entry names, None if it is of another kind; `ciphertext` the armored file."""

    recipient: str | None
    ciphertext: bytes = field(repr=False)


def _bad() -> FormatError:
    return FormatError("not a message of sops' key service", code="keyservice")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _bad()
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise _bad()


def fields(data: bytes) -> dict[int, bytes | int]:
    """The fields of a message by number. FormatError for what is none, and for a field that stands twice."""
    if len(data) > MAX_MESSAGE:
        raise _bad()
    found: dict[int, bytes | int] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: bytes | int
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind in (_BYTES, _FIXED64, _FIXED32):
            length = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
            if kind == _BYTES:
                length, at = _varint(data, at)
            value = data[at : at + length]
            at += length
            if at > len(data):
                raise _bad()
        else:
            raise _bad()
        if number == 0 or number in found:
            raise _bad()
        found[number] = value
    return found


def parse_decrypt(data: bytes) -> DecryptRequest:
    """The request that `data` is; FormatError for anything else."""
    top = fields(data)
    key, ciphertext = top.get(1), top.get(2)
    if not isinstance(key, bytes) or not isinstance(ciphertext, bytes):
        raise _bad()
    age = fields(key).get(6)
    if not isinstance(age, bytes):
        return DecryptRequest(None, ciphertext)
    recipient = fields(age).get(1)
    if not isinstance(recipient, bytes) or not recipient.isascii():
        raise _bad()
    return DecryptRequest(recipient.decode("ascii"), ciphertext)


def bytes_field(number: int, value: bytes) -> bytes:
    """A message's field of bytes (a text, a message) under a number below 16."""
    length, size = len(value), b""
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | _BYTES]) + size + bytes([length]) + value


def build_decrypted(plaintext: bytes) -> bytes:
    """A DecryptResponse."""
    return bytes_field(1, plaintext)
