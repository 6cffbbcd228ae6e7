"""Encrypted dotenv text to a placed tree (spec sops-compat 7.2, 8.2). Read only."""

from __future__ import annotations

from zopp.errors import FormatError
from zopp.sopsfile.cst import Map, Parsed, PlacedComment, Scalar
from zopp.sopsfile.stores.flat import nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PREFIX = "sops_"


def parse(text: str) -> Parsed:
    """Lines split at the first `=`, no quoting, no trimming; `sops_…` lines become the metadata. FormatError, with the
    line and never its text, for a line that is neither."""
    root = Map(0, 1, 0, False)
    flat: list[tuple[str, str]] = []
    seen: set[str] = set()
    duplicates: list[tuple[int, int]] = []
    at = 0
    for number, line in enumerate(text.split("\n"), 1):
        start, at = at, at + len(line) + 1
        if not line:
            continue
        if line[0] == "#":
            root.items.append((PlacedComment(line[1:], start + 1, start + len(line), number, False), None))
            root.keys_at.append((start, start + len(line)))
            continue
        key, mark, value = line.partition("=")
        if not mark:
            raise FormatError(
                "a line is neither an assignment nor a comment", code="bad_dotenv", place=f"line {number}"
            )
        value = value.replace("\\n", "\n")
        if key.startswith(PREFIX):
            flat.append((key[len(PREFIX) :], value))
            continue
        if key in seen:
            duplicates.append((0, number))
        seen.add(key)
        span = (start, start + len(key))
        node: Any = Scalar(value, start + len(key) + 1, start + len(line), number, True)
        root.items.append((key, node))
        root.keys_at.append(span)
    if flat:
        root.items.append(("sops", nested(flat)))
        root.keys_at.append((len(text), len(text)))
    return Parsed([root], False, duplicates)
