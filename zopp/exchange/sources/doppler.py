"""`doppler secrets download` as a source: a flat map of texts in JSON or YAML.

DOPPLER_PROJECT, DOPPLER_CONFIG and DOPPLER_ENVIRONMENT say where it came from and go into provenance. What Doppler's
own `run` leaves out is left out here. Names that Doppler cannot have were changed by a name transformer or by the
format dotnet-json, and are refused. Source: importers.md §7; Doppler's published CLI, read and not run.
"""

from __future__ import annotations

import re
from dataclasses import replace

from zopp.errors import FormatError
from zopp.exchange.documents import Leaf
from zopp.exchange.entry import Left, Reading
from zopp.exchange.sources import files

FORMATS = ("json", "yaml")
_ABOUT = ("DOPPLER_PROJECT", "DOPPLER_CONFIG", "DOPPLER_ENVIRONMENT")
_NOT_RUN = ("PATH", "PS1", "HOME")
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_AGAIN = "doppler secrets download --no-file --format json | zopp import doppler -"


def read(data: bytes, locator: str, *, form: str = "json") -> Reading:
    """One download. FormatError for other formats of `doppler secrets download`, where they can be told."""
    _refuse_env(data)
    leaves = files.read_leaves(data, form)
    if any(len(leaf.key) > 1 for leaf in leaves) and all(leaf.key[-1] in _COMPUTED for leaf in leaves):
        raise FormatError("is the output of doppler secrets --json, not a download", code="doppler", hint=_AGAIN)
    if any(not _NAME.fullmatch(leaf.key[0]) for leaf in leaves):
        raise FormatError(
            "has names that Doppler does not have: a name transformer or the format dotnet-json changed them",
            code="doppler.names", hint=_AGAIN,
        )  # fmt: skip
    about = {leaf.key[0]: leaf.value for leaf in leaves if leaf.key[0] in _ABOUT and isinstance(leaf.value, str)}
    origin = "/".join([about[name] for name in _ABOUT[:2]]) if about.keys() >= set(_ABOUT[:2]) else locator
    flat = [
        leaf if leaf.rule or (len(leaf.key) == 1 and isinstance(leaf.value, str)) else replace(leaf, rule="not-text")
        for leaf in leaves
    ]
    taken = [leaf for leaf in flat if leaf.key[0] not in (*_ABOUT, *_NOT_RUN)]
    entries, left = files.of_leaves(taken, locator, remains=lambda leaf: (files.in_clear(leaf.key, locator),))
    entries = tuple([replace(entry, id=f"{origin}#{entry.name}") for entry in entries])
    left = tuple([replace(one, id=f"{origin}#{one.name}") for one in left])
    return Reading(
        kind="doppler", place=locator, entries=entries, left=(*left, *_not_run(flat, locator, origin)),
        covers=(f"{origin}#",), one_file=True, remains=files.delete(locator),
    )  # fmt: skip


_COMPUTED = (
    "computed",
    "computedVisibility",
    "computedValueType",
    "note",
    "raw",
    "rawVisibility",
    "type",
    "rawValueType",
)


def _not_run(leaves: list[Leaf], locator: str, origin: str) -> list[Left]:
    return [
        Left(
            locator=f"{locator}:{leaf.line}", reason="doppler run leaves this name out", name=leaf.key[0],
            id=f"{origin}#{leaf.key[0]}",
        )
        for leaf in leaves if leaf.key[0] in _NOT_RUN
    ]  # fmt: skip


_LINE = re.compile(rb"[A-Z_][A-Z0-9_]*=(.?)", re.DOTALL)


def _refuse_env(data: bytes) -> None:
    """The formats env, env-no-quotes and docker are lines; told by the first one that is not blank."""
    lines = [line for line in data[: 1 << 16].split(b"\n") if line.strip() and not line.startswith(b"#")]
    found = [match for line in lines if (match := _LINE.match(line))]
    if not lines or not _LINE.match(lines[0]):
        return
    if all(match[1] == b'"' for match in found):
        raise FormatError(
            "is the format env, whose escapes Doppler's versions write in different ways",
            code="doppler.env", hint=f"{_AGAIN}; or: zopp import dotenv FILE",
        )  # fmt: skip
    raise FormatError("is the format env-no-quotes, which cannot be read back", code="doppler.env", hint=_AGAIN)
