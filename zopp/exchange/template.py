"""Templates with references to values: `{{ zopp.KEY }}` in any text, for `zopp inject`.

Pure: text in, text out; who holds the values says what a key is. A reference is `{{ zopp.KEY }}` with KEY a name or a
dotted path as `zopp get` takes it, and filters behind bars: `{{ zopp.KEY | base64 }}`. Everything else in the text is
left as it is, other tools' `{{ … }}` too. What begins like a reference and is none is an error, never text: a typing
error must not end in a file that looks done. Values are put in once and not read again.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zopp.errors import FormatError

MAX_BYTES = 1 << 20
"""A template is at most as long."""

_BEGIN = re.compile(r"\{\{[-~]?\s*zopp\b", re.IGNORECASE)
_REFERENCE = re.compile(r"""\{\{[ \t]*zopp\.((?:"[^"\n{}]*"|[^\s"|{}])+)((?:[ \t]*\|[ \t]*[a-z0-9]+)*)[ \t]*\}\}""")


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


FILTERS: Mapping[str, Callable[[str], str]] = {
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "json": lambda value: json.dumps(value, ensure_ascii=False),
    "shell": _quoted,
}
"""How a value can be written: base64 (RFC 4648 §4) of its UTF-8, a JSON string, one word of a POSIX shell."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference: where it stands in the text, on which line (from 1), its key as written, its filters in order."""

    start: int
    end: int
    line: int
    key: str
    filters: tuple[str, ...]


def references(data: bytes, *, place: str) -> tuple[str, list[Reference]]:
    """The text of a template and its references in their order. FormatError `template` with every line that holds
    something that begins like a reference and is none, or that is not UTF-8 or too large. No part of the text is in an
    error but the names of filters."""
    if len(data) > MAX_BYTES:
        raise FormatError("a template is at most 1 MiB", code="template", place=place)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("is not text in UTF-8", code="template", place=place) from None
    found, problems = [], []
    at = line = 0
    for begin in _BEGIN.finditer(text):
        line += text.count("\n", at, begin.start())
        at = begin.start()
        whole = _REFERENCE.match(text, begin.start())
        if whole is None:
            problems.append(f"line {line + 1}: not a reference; one is written {{{{ zopp.KEY }}}}")
            continue
        filters = tuple(part.strip() for part in whole[2].split("|")[1:])
        unknown = [name for name in filters if name not in FILTERS]
        if unknown:
            problems.append(f"line {line + 1}: there is no filter {unknown[0]}; there are {', '.join(FILTERS)}")
            continue
        found.append(Reference(begin.start(), whole.end(), line + 1, whole[1], filters))
    if problems:
        raise FormatError("\n  ".join(["cannot be filled in", *problems]), code="template", place=place)
    return text, found


def fill(text: str, found: list[Reference], values: Mapping[str, str]) -> str:
    """`text` with each reference replaced; `values` has every key as written."""
    parts, at = [], 0
    for each in found:
        value = values[each.key]
        for name in each.filters:
            value = FILTERS[name](value)
        parts += [text[at : each.start], value]
        at = each.end
    return "".join([*parts, text[at:]])
