"""`chamber export` as a source: JSON, YAML or CSV without a header, keys in lower case.

The proposed names are those that `chamber exec` gives: upper case, `-` as `_`. Source: importers.md §7; chamber's
`cmd/export.go` and `environ` package, read and not run.
"""

from __future__ import annotations

from dataclasses import replace

from zopp.errors import FormatError
from zopp.exchange import documents
from zopp.exchange.documents import Leaf
from zopp.exchange.entry import Key, Reading
from zopp.exchange.sources import files

FORMATS = ("json", "yaml", "csv")


def read(data: bytes, locator: str, *, form: str = "json") -> Reading:
    """One export, a flat map of texts; everything else is rejected by name. FormatError as the readers."""
    leaves = _csv(data) if form == "csv" else files.read_leaves(data, form)
    flat = [
        leaf if leaf.rule or (len(leaf.key) == 1 and isinstance(leaf.value, str)) else _no_text(leaf) for leaf in leaves
    ]
    entries, left = files.of_leaves(
        flat, locator, rename=_name, remains=lambda leaf: (files.in_clear(_name(leaf.key), locator),)
    )
    return Reading(
        kind="chamber", place=locator, entries=entries, left=left, covers=(f"{locator}#",), one_file=True,
        remains=files.delete(locator),
    )  # fmt: skip


def _csv(data: bytes) -> list[Leaf]:
    made = []
    for line, fields in documents.csv(data):
        if len(fields) != 2:
            raise FormatError("a record has not two fields, key and value", code="bad_csv", place=f"line {line}")
        made.append(Leaf(key=(fields[0],), value=fields[1], line=line))
    return made


def _no_text(leaf: Leaf) -> Leaf:
    return replace(leaf, rule="not-text")


def _name(key: Key) -> Key:
    return (*[part.upper().replace("-", "_") for part in key],)
