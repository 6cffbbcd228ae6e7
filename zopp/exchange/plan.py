"""What an import would do, before it does it, in names only: no value, length, prefix or hash is ever in a plan.

Pure: the caller reads the file, holds the values that exist, and writes the provenance record with the rest of the
change. Source: importers.md §1 (rules 1, 2, 3, 5, 6, 7, 11). Pruning (rule 8) is not here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from zopp._fast import json_parse
from zopp.errors import FormatError
from zopp.exchange import names
from zopp.exchange.dotenv import Assignment, is_placeholder

OnConflict = Literal["fail", "skip", "overwrite"]
Status = Literal["new", "changed", "unchanged", "conflict", "skipped", "rejected"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where an import comes from: its `kind` (`dotenv`), a stable `locator` (a path relative to the git root, an ARN)
    and the environment that it goes to (`api/production`)."""

    kind: str
    locator: str
    env: str

    def id_of(self, name: str) -> str:
        return f"{self.locator}#{name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """One key's provenance: the kind of source, its stable id there, and a version if the source has versions."""

    kind: str
    id: str
    version: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One entry of the source. `reason` explains a status; for `new` and `changed` it says what to look at first."""

    source: str
    env: str
    key: str
    status: Status
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`lines` in the order of the source. `writes`: target key -> name at the source, for what is to be written;
    `origins`: the provenance to record with it."""

    lines: tuple[Line, ...]
    writes: Mapping[str, str]
    origins: Mapping[str, Origin]

    @property
    def applicable(self) -> bool:
        """Whether the plan can be carried out: nothing in it is rejected or in conflict."""
        return all(line.status not in ("rejected", "conflict") for line in self.lines)

    def table(self) -> str:
        """For people: one entry a line, aligned, and a last line that counts."""
        rows = [(line.status, line.key, line.source, line.reason) for line in self.lines]
        widths = [max([len(row[column]) for row in rows], default=0) for column in range(3)]
        text = []
        for row in rows:
            padded = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
            text.append("  ".join(padded).rstrip())
        counts: dict[str, int] = {}
        for line in self.lines:
            counts[line.status] = counts.get(line.status, 0) + 1
        text.append(", ".join([f"{count} {status}" for status, count in counts.items()]) or "nothing to import")
        return "\n".join(text) + "\n"

    def as_json(self) -> list[dict[str, str]]:
        """For `--json`: the same fields and no others."""
        return [
            {"source": line.source, "env": line.env, "key": line.key, "status": line.status, "reason": line.reason}
            for line in self.lines
        ]


def plan(
    assignments: Iterable[Assignment],
    existing: Mapping[str, str],
    provenance: Mapping[str, Origin],
    on_conflict: OnConflict,
    source: Source,
    *,
    exclude: Collection[str] = (),
    allowed: Collection[str] = (),
) -> Plan:
    """Compare what a source says with what exists in the target environment.

    A key that this same source entry made before is updated whatever it is called now (`provenance`, by id). A target
    with another value and another or no provenance is a conflict, settled by `on_conflict`. Two entries for one target
    are always rejected, both named. `allowed` are the names excepted by local settings from the list of code.
    """
    entries = list(assignments)
    made_by = {(origin.kind, origin.id): key for key, origin in provenance.items()}
    targets = [made_by.get((source.kind, source.id_of(entry.name)), entry.name) for entry in entries]
    takers: dict[str, list[Assignment]] = {}
    for entry, target in zip(entries, targets, strict=True):
        if entry.name not in exclude:
            takers.setdefault(target, []).append(entry)
    lines: list[Line] = []
    writes: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    for entry, target in zip(entries, targets, strict=True):
        status, reason = _judge(entry, target, takers, existing, provenance, on_conflict, source, exclude, allowed)
        if status in ("new", "changed"):
            writes[target] = entry.name
        # an unchanged key keeps the origin that it has, or importing twice would be a change
        if status in ("new", "changed") or (status == "unchanged" and target not in provenance):
            origins[target] = Origin(kind=source.kind, id=source.id_of(entry.name))
        where = f"{source.locator}:{entry.line}"
        # a name that is not one may be a piece of a secret that was read wrongly
        key = target if names.is_target(target) else ""
        lines.append(Line(source=where, env=source.env, key=key, status=status, reason=reason))
    return Plan(lines=tuple(lines), writes=writes, origins=origins)


def _judge(
    entry: Assignment,
    target: str,
    takers: Mapping[str, list[Assignment]],
    existing: Mapping[str, str],
    provenance: Mapping[str, Origin],
    on_conflict: OnConflict,
    source: Source,
    exclude: Collection[str],
    allowed: Collection[str],
) -> tuple[Status, str]:
    if entry.name in exclude:
        return "skipped", "excluded"
    rule = names.reason(target, allowed)
    if rule:
        return "rejected", rule
    others = [other.line for other in takers[target] if other is not entry]
    if others:
        return "rejected", "collision with " + ", ".join([f"{source.locator}:{line}" for line in others])
    if existing.get(target) == entry.value:
        return "unchanged", ""
    remarks = []
    if is_placeholder(entry.value):
        remarks.append("placeholder")
    if entry.expanded:
        remarks.append("expands " + ", ".join(entry.expanded))
    if names.is_odd_target(target):
        remarks.append("seldom meant to be set")
    reason = "; ".join(remarks)
    if target not in existing:
        return "new", reason
    same = Origin(kind=source.kind, id=source.id_of(entry.name))
    before = provenance.get(target)
    if (before is not None and (before.kind, before.id) == (same.kind, same.id)) or on_conflict == "overwrite":
        return "changed", reason
    return ("skipped", "conflict") if on_conflict == "skip" else ("conflict", "exists with another value")


_RECORD_FIELDS = {"kind", "id", "version"}


def dump_provenance(origins: Mapping[str, Origin]) -> bytes:
    """The bytes of `.zopp/provenance/<project>/<env>.json`: names and ids only, one key a line's block, sorted."""
    record = {
        "keys": {
            key: {"id": origin.id, "kind": origin.kind, "version": origin.version} for key, origin in origins.items()
        },
        "v": 1,
    }
    return (json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def parse_provenance(data: bytes) -> dict[str, Origin]:
    """The record that `dump_provenance` wrote, in that one spelling. Raises FormatError (`provenance`)."""
    try:
        record = json_parse(data.decode().rstrip("\n"))
        origins = {}
        for key, fields in record["keys"].items():
            if fields.keys() != _RECORD_FIELDS or not all(isinstance(text, str) for text in fields.values()):
                raise ValueError("fields")
            origins[key] = Origin(kind=fields["kind"], id=fields["id"], version=fields["version"])
        if dump_provenance(origins) == data:
            return origins
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise FormatError("not a valid provenance record", code="provenance")
