"""Scalars of a file as text, and bytes as text that can be undone.

Bytes that are no text stand in a file as an RFC 2397 data URI with a parameter that nobody else writes, so that only
what an importer made is ever undone.
"""

from __future__ import annotations

import base64
import binascii
import json
from decimal import Decimal

from zopp import sopsfile

_BYTES = "data:application/octet-stream;by=zopp;base64,"


def scalar_text(value: object) -> str:
    """A scalar as `get`, `run` and `export` print it: as sops does in YAML, without quotes; null is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return {"inf": "+Inf", "-inf": "-Inf"}.get(repr(value), "NaN")
        text = format(Decimal(repr(value)), "f")
        return text.removesuffix(".0")
    if isinstance(value, sopsfile.Timestamp):
        return value.text
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, (sopsfile.Mapping, sopsfile.Sequence)):
        return "{}" if isinstance(value, sopsfile.Mapping) else "[]"
    return str(value)


def json_text(value: object) -> str:
    """Any JSON value as one text, sorted, without blanks. ValueError for a number that JSON cannot say."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def flat_text(value: object) -> str:
    """What a flat file or a variable holds for any plain value: scalars as `scalar_text`, lists and maps as JSON."""
    return json_text(value) if isinstance(value, (list, tuple, dict)) else scalar_text(value)


def from_bytes(data: bytes) -> str:
    """`data` as text if it is UTF-8 without NUL, which an environment variable can hold, else marked base64."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    return text if "\0" not in text else _BYTES + base64.b64encode(data).decode()


def to_bytes(text: str) -> bytes | None:
    """The bytes behind what `from_bytes` marked; None for every other text."""
    if not text.startswith(_BYTES):
        return None
    try:
        return base64.b64decode(text.removeprefix(_BYTES).encode(), validate=True)
    except (binascii.Error, ValueError):
        return None
