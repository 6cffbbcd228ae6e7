"""Where the keys of an environment came from: `.zopp/provenance/<project>/<env>.json`, names and ids, never a value.

Source: importers.md §1, rule 5. It stands beside the files because stock sops drops unknown fields from its block.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from zopp._fast import json_parse
from zopp.errors import FormatError

_FIELDS = {"kind", "id", "version"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """One key's provenance: the kind of source, its stable id there, and a version if the source has versions."""

    kind: str
    id: str
    version: str = ""


def dump(origins: Mapping[str, Origin]) -> bytes:
    """The record of dotted key → origin, one key a block, sorted."""
    keys = {key: {"id": origin.id, "kind": origin.kind, "version": origin.version} for key, origin in origins.items()}
    return (json.dumps({"keys": keys, "v": 1}, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def parse(data: bytes) -> dict[str, Origin]:
    """The record that `dump` wrote, in that one spelling. Raises FormatError (`provenance`)."""
    try:
        record = json_parse(data.decode().rstrip("\n"))
        origins = {}
        for key, fields in record["keys"].items():
            if fields.keys() != _FIELDS or not all(isinstance(text, str) for text in fields.values()):
                raise ValueError("fields")
            origins[key] = Origin(kind=fields["kind"], id=fields["id"], version=fields["version"])
        if dump(origins) == data:
            return origins
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise FormatError("not a valid provenance record", code="provenance")
