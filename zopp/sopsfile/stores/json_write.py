"""A plaintext tree as JSON text, laid out as sops' emitter does (spec sops-compat 7.1). Comments vanish, as in sops."""

from __future__ import annotations

from zopp.errors import FormatError
from zopp.sopsfile.metadata import quote
from zopp.sopsfile.tree import Comment, Mapping, Sequence, Timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNIT = "\t"


def dump(document: Mapping) -> str:
    """The text of a file."""
    return text_of(document, UNIT, 0) + "\n"


def text_of(node: Any, unit: str | None, level: int) -> str:
    """A node as JSON; `unit` None puts it on one line."""
    if isinstance(node, Mapping):
        colon = ": " if unit is not None else ":"
        parts = [
            quote(key) + colon + text_of(value, unit, level + 1) for key, value in node.items if isinstance(key, str)
        ]
        return _wrap("{", parts, "}", unit, level)
    if isinstance(node, Sequence):
        items = [text_of(item, unit, level + 1) for item in node.items if not isinstance(item, Comment)]
        return _wrap("[", items, "]", unit, level)
    return scalar_text(node)


def _wrap(opened: str, parts: list[str], closed: str, unit: str | None, level: int) -> str:
    if not parts:
        return opened + closed
    if unit is None:
        return opened + ",".join(parts) + closed
    inner = "\n" + unit * (level + 1)
    return f"{opened}{inner}{(',' + inner).join(parts)}\n{unit * level}{closed}"


def scalar_text(value: Any) -> str:
    """A scalar. FormatError for bytes that are not UTF-8 and for floats that JSON cannot hold."""
    if isinstance(value, str):
        return quote(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, Timestamp):
        return quote(value.text)
    raise FormatError("JSON cannot hold a binary value", code="value_type")


def float_text(value: float) -> str:
    """Go's encoding/json: plain digits for 1e-6 ≤ |x| < 1e21, else an exponent without padding."""
    from zopp.sopsfile.cipher import float_text as plain_text

    if value != value or value in (float("inf"), float("-inf")):
        raise FormatError("JSON cannot hold this number", code="value_type")
    if value == 0:
        return "-0.0" if str(value)[0] == "-" else "0"
    if 1e-6 <= abs(value) < 1e21:
        return plain_text(value)
    mantissa, _, exponent = repr(value).partition("e")
    mantissa = mantissa.removesuffix(".0")
    return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"
