"""The one byte form of everything that is signed here; lean.

Canonical JSON: objects with keys sorted by code point, no whitespace, integers of at most 53 bits only, UTF-8, in
strings nothing escaped but `"`, `\\` and the controls U+0000-U+001F (`\\b \\t \\n \\f \\r`, else `\\u00xx` in lower
case), no lone surrogates, at most 16 levels deep. `decode` answers a value only if `encode` of it gives the very same
bytes, so two different byte strings never mean the same (policy-server.md §4.1, A8).
"""

from binascii import a2b_base64, b2a_base64

from zopp._fast import json_parse
from zopp.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_DEPTH = 16
MAX_INT = 2**53 - 1

_ESCAPES = {i: f"\\u{i:04x}" for i in range(32)}
_ESCAPES.update({8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"})
_TO_STD = str.maketrans("-_", "+/")


def encode(value: "Any") -> bytes:
    """The canonical bytes of `value` (None, bool, int, str, list or tuple, dict with str keys); FormatError for
    anything else."""
    try:
        return _text(value, 0).encode()
    except UnicodeEncodeError:
        raise FormatError("a string holds a lone surrogate") from None


def _quoted(text: str) -> str:
    if text.isprintable() and '"' not in text and "\\" not in text:
        return '"' + text + '"'
    return '"' + text.translate(_ESCAPES) + '"'


def _text(value: "Any", depth: int) -> str:
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is int:
        if not -MAX_INT <= value <= MAX_INT:
            raise FormatError("an integer is out of range")
        return str(value)
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if depth >= MAX_DEPTH:
        raise FormatError("nested too deeply")
    if kind is dict:
        try:
            keys = sorted(value)
        except TypeError:
            raise FormatError("an object key is not a string") from None
        parts = []
        for key in keys:
            if type(key) is not str:
                raise FormatError("an object key is not a string")
            parts.append(_quoted(key) + ":" + _text(value[key], depth + 1))
        return "{" + ",".join(parts) + "}"
    if kind is list or kind is tuple:
        return "[" + ",".join([_text(item, depth + 1) for item in value]) + "]"
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
        data = a2b_base64(text.translate(_TO_STD) + "=" * (-len(text) % 4))
    except ValueError:
        raise FormatError("not base64url") from None
    if len(data) != size or b64(data) != text:
        raise FormatError("not canonical base64url of the expected size")
    return data
