"""The one byte form of everything that is signed here; lean.

Canonical JSON: objects with keys sorted by code point, no whitespace, integers of at most 53 bits only, UTF-8, in
strings nothing escaped but `"`, `\\` and the controls U+0000-U+001F (`\\b \\t \\n \\f \\r`, else `\\u00xx` in lower
case), no lone surrogates, at most 16 levels deep. `decode` answers a value only if `encode` of it gives the very same
bytes, so two different byte strings never mean the same (policy-server.md §4.1, A8).
"""

from binascii import a2b_base64, b2a_base64

from zopp._fast import json_parse, json_text
from zopp.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_DEPTH = 16
MAX_INT = 2**53 - 1

_TO_STD = {0x2D: 0x2B, 0x5F: 0x2F}
_PADDING = ("", "===", "==", "=")


def encode(value: "Any") -> bytes:
    """The canonical bytes of `value` (None, bool, int, str, list or tuple, dict with str keys); FormatError for
    anything else."""
    _check(value, 0)
    try:
        return json_text(value).encode()
    except UnicodeEncodeError:
        raise FormatError("a string holds a lone surrogate") from None


def _check(value: "Any", depth: int) -> None:
    """What has a canonical form. Exact types: a subclass could write itself in another way."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is int:
        if not -MAX_INT <= value <= MAX_INT:
            raise FormatError("an integer is out of range")
        return
    if depth >= MAX_DEPTH:
        raise FormatError("nested too deeply")
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise FormatError("an object key is not a string")
            if type(item) is not str:
                _check(item, depth + 1)
        return
    if kind is list or kind is tuple:
        for item in value:
            if type(item) is not str:
                _check(item, depth + 1)
        return
    raise FormatError("only objects, lists, strings, integers, booleans and null have a canonical form")


def decode(data: bytes) -> "Any":
    """The value whose canonical form is `data`; FormatError for every other byte string (duplicate keys, floats,
    whitespace, other escapes or order, invalid UTF-8, depth)."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise FormatError("not UTF-8") from None
    try:
        value = json_parse(text)
    except ValueError:
        raise FormatError("not JSON, or a key stands twice") from None
    if encode(value) != data:
        raise FormatError("not in canonical form")
    return value


def thaw(value: "Any") -> "Any":
    """Plain dicts and lists of a read-only view (`Statement.data`), ready for `encode`."""
    if hasattr(value, "items"):
        return {key: thaw(item) for key, item in value.items()}
    return [thaw(item) for item in value] if type(value) in (list, tuple) else value


def b64(data: bytes) -> str:
    """base64url without padding."""
    return b2a_base64(data, newline=False).decode().rstrip("=").replace("+", "-").replace("/", "_")


def unb64(text: str, size: int) -> bytes:
    """The `size` bytes whose `b64` is `text`; FormatError for every other string."""
    try:
        data = a2b_base64(text.translate(_TO_STD) + _PADDING[len(text) % 4])
    except ValueError:
        raise FormatError("not base64url") from None
    if len(data) != size or b64(data) != text:
        raise FormatError("not canonical base64url of the expected size")
    return data
