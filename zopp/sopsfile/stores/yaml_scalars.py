"""The value of one YAML scalar by its tag and style, as go-yaml v3 gives it (spec sops-compat 6.1, 6.2)."""

from __future__ import annotations

from binascii import Error as Base64Error, a2b_base64

from zopp.errors import FormatError
from zopp.sopsfile import plainscalar
from zopp.sopsfile.tree import Timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TAG = "tag:yaml.org,2002:"


def bad(message: str, code: str, line: int) -> FormatError:
    return FormatError(message, code=code, place=f"line {line}")


def scalar_value(event: Any, line: int) -> Any:
    """The value of a scalar event by go-yaml's rules."""
    text: str = event.value
    tag = event.tag
    plain = event.style is None or event.style == ""
    if tag is None or tag == "!" or not tag.startswith(TAG):
        if tag is not None and tag != "!":
            return text  # a custom tag is dropped and leaves text
        if not plain and tag != "!":
            return text
        if tag == "!" and not plain:
            return text
        return _resolve(text, line)
    name = tag[len(TAG) :]
    if name == "str":
        return text
    if name == "binary":
        try:
            raw = a2b_base64(text, strict_mode=False) if _base64(text) else None
        except (Base64Error, ValueError):
            raw = None
        if raw is None:
            raise bad("a binary value is not base64", "bad_tag", line)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw
    if name == "merge":
        return text
    if name not in ("int", "float", "bool", "null", "timestamp"):
        return text
    value = _resolve(text, line)
    if name == "timestamp" and isinstance(value, str):
        stamp = plainscalar.timestamp(text)
        value = value if stamp is None else Timestamp(stamp)
    if name == "float" and type(value) is int:
        value = float(value)
    fits = {"int": int, "float": float, "bool": bool, "null": type(None), "timestamp": Timestamp}[name]
    if type(value) is not fits:
        raise bad("a tag does not fit its value", "bad_tag", line)
    return value


def _base64(text: str) -> bool:
    bare = text.replace("\n", "").replace("\r", "").replace(" ", "")
    body = bare.rstrip("=")
    return (
        bare.isascii()
        and len(bare) % 4 == 0
        and len(bare) - len(body) < 3
        and not body.strip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    )


def _resolve(text: str, line: int) -> Any:
    try:
        return plainscalar.resolve(text)
    except FormatError as exc:
        exc.place = f"line {line}"
        raise
