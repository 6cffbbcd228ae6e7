"""`infisical export` as a source: JSON with everything, or dotenv, CSV and YAML, which lose line breaks.

An export holds a personal override in place of the shared secret, which is then not there: it is skipped and said.
Source: importers.md §7; Infisical's published CLI (`cmd/export.go`, `models/cli.go`), read and not run.
"""

from __future__ import annotations

from dataclasses import replace

from zopp.errors import FormatError
from zopp.exchange import documents
from zopp.exchange.documents import Row, Table
from zopp.exchange.entry import Entry, Left, Reading
from zopp.exchange.sources import dotenv, files

FORMATS = ("json", "dotenv", "csv", "yaml")
_JSON = "infisical export --format json"


def read(data: bytes, locator: str, *, form: str = "json") -> Reading:
    """One export. FormatError as the readers."""
    if form == "json":
        return _json(data, locator)
    said = f"this format writes line breaks as \\n for some keys and does not escape quotes; better: {_JSON}"
    if form == "dotenv":
        made = dotenv.read(data, locator)
        return replace(made, kind="infisical", warnings=(said, *made.warnings))
    leaves = files.read_leaves(data, form)
    leaves = [leaf if leaf.rule or isinstance(leaf.value, str) else replace(leaf, rule="not-text") for leaf in leaves]
    entries, left = files.of_leaves(leaves, locator, remains=lambda leaf: (files.in_clear(leaf.key, locator),))
    return Reading(
        kind="infisical", place=locator, entries=entries, left=left, covers=(f"{locator}#",), one_file=True,
        remains=files.delete(locator), warnings=(said,),
    )  # fmt: skip


def _json(data: bytes, locator: str) -> Reading:
    rows = documents.json(data)
    if not isinstance(rows, Row):
        raise FormatError("is not the array that infisical writes", code="infisical", hint=_JSON)
    entries: list[Entry] = []
    left: list[Left] = []
    folders: list[str] = []
    for number, row in enumerate(rows.items):
        place = f"{locator}[{number}]"
        name = row.text("key") if isinstance(row, Table) else ""
        value = documents.as_text(row.get("value")) if isinstance(row, Table) else None
        if not isinstance(row, Table) or not name or value is None:
            left.append(
                Left(
                    locator=place, reason="no-key-or-value", status="rejected", name=name,
                    says=f"item {number}, line {row.line}: has no key or no value [no-key-or-value]",
                )
            )  # fmt: skip
            continue
        path = row.text("secretPath").strip("/")
        folder = f"{row.text('workspace') or locator}:/{path}#"
        folders.append(folder)
        id = folder + (row.text("_id") or name)
        if row.text("type") not in ("shared", ""):
            left.append(Left(locator=place, reason="a personal override", name=name, path=path, id=id))
            continue
        entries.append(
            Entry(
                locator=place, id=id, name=name, key=(name,), value=value, path=path, note=row.text("comment"),
                remains=(files.in_clear((name,), locator),),
            )
        )  # fmt: skip
    personal = any(one.status == "skipped" for one in left)
    warnings = ("personal overrides stand in place of shared secrets: export with --secret-overriding=false",)
    return Reading(
        kind="infisical", place=locator, entries=tuple(entries), left=tuple(left), covers=tuple(dict.fromkeys(folders)),
        one_file=True, remains=files.delete(locator), warnings=warnings * personal,
    )  # fmt: skip
