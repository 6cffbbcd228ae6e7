"""The message authentication code over all values of a file (spec sops-compat 4). Lean.

It covers the canonical bytes of the leaves in document order, nothing else: not keys, structure, nulls, comments or
metadata. The signed manifest covers those.
"""

from zopp import _fast
from zopp.errors import FormatError, IntegrityError
from zopp.sopsfile import cipher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

# sha256("sops"): what sops feeds first when only encrypted values are covered.
_ONLY_ENCRYPTED = bytes.fromhex("8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69")


def digest(pieces: "Iterable[bytes]", only_encrypted: bool = False) -> str:
    """128 upper-case hex digits of the SHA-512 over the leaves' canonical bytes."""
    body = b"".join(pieces)
    return _fast.sha512(_ONLY_ENCRYPTED + body if only_encrypted else body).hex().upper()


def stamp_aad(lastmodified: str) -> bytes:
    """`lastmodified` as the MAC's additional data: RFC 3339 in whole seconds, offset kept. FormatError if it is no
    time."""
    try:
        text = cipher.rfc3339(lastmodified)
    except ValueError:
        raise FormatError("lastmodified is not an RFC 3339 time", code="bad_lastmodified") from None
    if len(text) > 20 and text[19] == ".":
        zone = 20
        while text[zone].isdigit():
            zone += 1
        text = text[:19] + text[zone:]
    return text.encode()


def seal(aead: "Any", pieces: "Iterable[bytes]", only: bool, lastmodified: str, iv: "Callable[[int], bytes]") -> str:
    """The MAC as the `ENC[…]` text of the metadata."""
    return cipher.seal(aead, "str", digest(pieces, only).encode(), stamp_aad(lastmodified).decode(), iv)


def check(aead: "Any", pieces: "Iterable[bytes]", only: bool, lastmodified: str, text: str) -> None:
    """IntegrityError unless `text` is the MAC of the pieces at `lastmodified`."""
    if not text:
        raise IntegrityError("the file has no MAC", code="no_mac")
    try:
        _, stored = cipher.open_text(aead, text, stamp_aad(lastmodified))
    except IntegrityError:
        raise IntegrityError("the MAC does not belong to this file, key or time", code="bad_mac") from None
    if not _fast.constant_time_equal(stored, digest(pieces, only).encode()):
        raise IntegrityError("the MAC does not fit the values", code="bad_mac")
