"""The next version of a file from the one before it, where only ciphertexts, MAC and time differ.

Most commits set one value: of the file's lines three are others. Reading those instead of all is what makes a long
history of a large file quick. `step` answers only where a full reading would give the same leaves and the same
metadata (a property test holds it to that), else None: read it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zopp.sopsfile.comparing import CHANGED, Change, Comparison, Outline, Place, kind_of
from zopp.sopsfile.scan import SELECTED, Scan

if TYPE_CHECKING:
    from zopp.sopsfile.metadata import Metadata

_HEAD = "ENC[AES256_GCM,"
_AROUND = frozenset({("", ""), ('"', '"'), ('"', '",')})


@dataclass(slots=True)
class Sheet:
    """A version with its lines. `outline`: of one that `step` made the *places* of leaves and blocks in the text are
    those of an older version; everything else is its own. `rows`: line number → index of its only leaf, -1 if several.
    """

    outline: Outline
    lines: list[str] = field(repr=False)
    rows: dict[int, int] = field(repr=False)
    first_block_line: int


def sheet(outline: Outline) -> Sheet | None:
    """A version to step from; None if this file is not of the kind that can be."""
    scan = outline.scan
    if scan.fmt not in ("yaml", "json") or scan.documents != 1 or len(scan.blocks) != 1 or scan.prefix:
        return None
    if scan.metadata.selector.by_comment or outline.repeated:
        return None
    rows: dict[int, int] = {}
    for index, leaf in enumerate(scan.leaves):
        rows[leaf[6]] = -1 if leaf[6] in rows else index
    first = scan.text.count("\n", 0, scan.blocks[0].start)
    return Sheet(outline, scan.text.split("\n"), rows, first)


def step(before: Sheet, data: bytes) -> tuple[Sheet, Comparison] | None:
    """The version whose bytes are `data`, and how it differs from `before`."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    lines = text.split("\n")
    if len(lines) != len(before.lines):
        return None
    differing = [n for n, (old, new) in enumerate(zip(before.lines, lines, strict=True)) if old != new]
    scan = before.outline.scan
    leaves = list(scan.leaves)
    by_place = dict(before.outline.leaves)
    metadata = copy.copy(scan.metadata)
    changes = []
    for number in differing:
        old, new = before.lines[number], lines[number]
        if number >= before.first_block_line:
            if not _stamp(metadata, scan, old, new):
                return None
            continue
        index = before.rows.get(number + 1, -1)
        if index < 0:
            return None
        leaf = leaves[index]
        value = _value(leaf[3], old, new) if leaf[0] == SELECTED else None
        if value is None:
            return None
        made = (*leaf[:3], value, *leaf[4:])
        place: Place = (leaf[7], leaf[1])
        leaves[index] = by_place[place] = made
        changes.append((place, leaf, made))
    mac = (bool(scan.metadata.mac), bool(metadata.mac))
    outline = Outline(
        Scan(text, scan.fmt, leaves, metadata, scan.blocks), by_place, before.outline.comments, frozenset()
    )
    # The entries are the same, every one of them.
    found = Comparison(
        changes=tuple(Change(place, CHANGED, kind_of(was), kind_of(now)) for place, was, now in changes),
        same_data_key=True,
        mac=mac,
    )
    return Sheet(outline, lines, before.rows, before.first_block_line), found


def _value(old_value: object, old: str, new: str) -> str | None:
    """The new ciphertext of a line that holds one, if all around it is as it was."""
    if old_value.__class__ is not str or not _is_plain(str(old_value)):
        return None
    head, found, tail = old.partition(str(old_value))
    if not found or (head[-1:] if head[-1:] == '"' else "", tail) not in _AROUND:
        return None
    if not new.startswith(head) or not new.endswith(tail) or len(new) <= len(head) + len(tail):
        return None
    value = new[len(head) : len(new) - len(tail)]
    return value if _is_plain(value) else None


def _is_plain(text: str) -> bool:
    """An ENC text that stands as it is in any layout, and no comment's."""
    return (
        text[:15] == _HEAD and text[-1] == "]" and text.isascii() and text.isprintable()
        and not any(char in text for char in ' "\'\\#') and not text.endswith(",type:comment]")
    )  # fmt: skip


def _stamp(metadata: Metadata, scan: Scan, old: str, new: str) -> bool:
    """Take over another `mac` or `lastmodified`; false for any other line of the block."""
    block = scan.blocks[0]
    for name in ("mac", "lastmodified"):
        old_text = metadata.mac if name == "mac" else metadata.lastmodified
        there = block.field(name)
        if there is None or not old_text or old_text not in old:
            continue
        head, _, tail = old.partition(old_text)
        key = head.strip(" \t\"':")
        if key != name or tail not in ("", '"', '",', ","):
            continue
        # Of a nested mapping a line of that name would stand deeper.
        if scan.text[there.start : there.key_end].strip(' \t"') != name:
            continue
        if len(head) - len(head.lstrip(" \t")) != _column(scan, there.key_start):
            continue
        if not new.startswith(head) or not new.endswith(tail) or len(new) <= len(head) + len(tail):
            return False
        value = new[len(head) : len(new) - len(tail)]
        if name == "mac":
            if not _is_plain(value):
                return False
            metadata.mac = value
        else:
            if (
                len(value) != 20
                or not value.replace("-", "").replace(":", "").replace("T", "").replace("Z", "").isdigit()
            ):
                return False
            metadata.lastmodified = value
        metadata.plain = {**metadata.plain, name: value}
        return True
    return False


def _column(scan: Scan, at: int) -> int:
    return at - (scan.text.rfind("\n", 0, at) + 1)
