"""Metadata of stores that have no nesting: `age__list_0__map_enc` and its like (spec sops-compat 8.2)."""

from __future__ import annotations

from itertools import pairwise

from zopp.errors import FormatError
from zopp.sopsfile.cst import Map, Scalar, Seq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_INDEX = 10_000


def _bad() -> FormatError:
    return FormatError("the flattened sops metadata is malformed", code="bad_metadata")


def _parts(key: str) -> list[str | int]:
    """`a__list_0__map_b` as ["a", 0, "b"]."""
    parts: list[str | int] = []
    rest, kind = key, "map"
    while True:
        found = [(at, mark) for mark in ("__map_", "__list_") if (at := rest.find(mark)) >= 0]
        at, mark = min(found, default=(len(rest), ""))
        part = rest[:at]
        if kind == "list":
            if not part.isdecimal() or not part.isascii() or len(part) > 5 or int(part) > _MAX_INDEX:
                raise _bad()
            parts.append(int(part))
        else:
            parts.append(part)
        if not mark:
            return parts
        kind, rest = mark.strip("_"), rest[at + len(mark) :]


def nested(pairs: list[tuple[str, str]]) -> Map:
    """The `sops` mapping of flattened pairs. FormatError (`bad_metadata`, `duplicate_key`) if they do not
    fit together."""
    root: dict[Any, Any] = {}
    for key, value in pairs:
        node = root
        parts = _parts(key)
        if len(parts) > 10:
            raise _bad()
        for part, after in pairwise(parts):
            child = node.setdefault(part, {})
            if not isinstance(child, dict) or (child and (type(next(iter(child))) is not type(after))):
                raise _bad()
            node = child
        if parts[-1] in node:
            raise FormatError("a key stands twice in the sops metadata", code="duplicate_key")
        node[parts[-1]] = value
    made = _placed(root)
    assert isinstance(made, Map)
    return made


def _placed(node: Any) -> Any:
    if not isinstance(node, dict):
        return Scalar(node, 0, 0, 0, True)
    if node and isinstance(next(iter(node)), int):
        if sorted(node) != list(range(len(node))):
            raise _bad()
        row = Seq(0, 0, 0, True)
        row.items = [_placed(node[at]) for at in range(len(node))]
        row.dashes = [0] * len(node)
        return row
    made = Map(0, 0, 0, True)
    made.items = [(key, _placed(value)) for key, value in node.items()]
    made.keys_at = [(0, 0)] * len(node)
    return made
