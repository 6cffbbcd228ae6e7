"""Splicing the `sops` block of a read file: recipients, MAC, time. Lean: needs a `Scan`, no tree.

Text outside the named fields is never touched; a field that is already right is not rewritten.
"""

from zopp.errors import FormatError
from zopp.sopsfile import metadata as meta

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from zopp.sopsfile.metadata import Entry
    from zopp.sopsfile.scan import Block, Field, Scan

    Edit = tuple[int, int, str]
    Groups = tuple[tuple[Entry, ...], ...]

_OWN = ("shamir_threshold", "key_groups", "age")


def check_writable(scan: "Scan") -> None:
    """FormatError for a store that is only read so far."""
    if scan.fmt not in ("yaml", "json", "binary"):
        raise FormatError("this store cannot be written yet", code="unsupported_write", fmt=scan.fmt)


def restyle(scan: "Scan", start: int, end: int, new: str) -> "Edit":
    """The edit that puts `new` (without quotes, spaces or backslashes) in place of a scalar, in its own style."""
    old = scan.text[start:end]
    if old[:1] in ('"', "'") and old[-1:] == old[0] and len(old) > 1:
        return start, end, old[0] + new + old[0]
    if scan.fmt != "yaml" or not old:
        return start, end, f'"{new}"' if scan.fmt != "yaml" else f' "{new}"'
    if old[0] in "|>":
        return start, end, f'"{new}"' + (scan.newline if old[-1] == "\n" else "")
    return start, end, new if old[0] not in "!&" else f'"{new}"'


def stamp_edits(scan: "Scan", lastmodified: str, mac: str) -> "list[Edit]":
    """New `lastmodified` and `mac` in every document's block."""
    edits = []
    for block in scan.blocks:
        for name, new in (("lastmodified", lastmodified), ("mac", mac)):
            field = block.field(name)
            if field is None:
                raise FormatError(f"the sops field {name} is missing or malformed", code="bad_metadata", field=name)
            edits.append(restyle(scan, field.value_start, field.value_end, new))
    return edits


def _alphabetical(scan: "Scan", block: "Block") -> bool:
    """Whether the block's entries stand as sops 3.13 writes them (`enc` before `recipient`)."""
    field = block.field("age") or block.field("key_groups")
    if field is None:
        return True
    part = scan.text[field.value_start : field.end]
    enc, recipient = part.find("enc"), part.find("recipient")
    return not 0 <= recipient < enc


def group_edits(scan: "Scan", groups: "Groups", threshold: "int | None") -> "list[Edit]":
    """New recipients in every block. Entries of other key types stay where they are; FormatError (`foreign_keys`) if
    they have no place in the new groups."""
    metadata = scan.metadata
    foreign = metadata.foreign
    if foreign and (metadata.flat != (len(groups) == 1) or any(at >= len(groups) for at, _, _ in foreign)):
        raise FormatError("entries of other key types stand in the way", code="foreign_keys")
    edits: "list[Edit]" = []
    for block in scan.blocks:
        wanted = meta.recipients_plain(
            groups,
            threshold,
            alphabetical=_alphabetical(scan, block),
            foreign=() if metadata.flat else foreign,
            null=[] if scan.fmt == "yaml" else None,
        )
        edits += _block_edits(scan, block, wanted)
    return edits


def _block_edits(scan: "Scan", block: "Block", wanted: "dict[str, Any]") -> "list[Edit]":
    same_place = {name: value for name, value in wanted.items() if block.field(name) is not None}
    added = {name: value for name, value in wanted.items() if name not in same_place}
    gone = [field for field in block.fields if field.name in _OWN and field.name not in wanted]
    kept = scan.metadata.plain
    edits: "list[Edit]" = []
    for name, value in same_place.items():
        field = block.field(name)
        assert field is not None
        if name == "shamir_threshold" and kept.get(name) == value:
            continue
        if block.flow:
            edits.append((field.value_start, field.value_end, _flow_value(scan, block, value)))
        else:
            edits.append((field.start, field.end, _lines(scan, block, {name: value}, field.end)))
    # What is new takes the place of what goes, so that recipients stay where a reader expects them.
    place = gone[0] if gone and added else None
    for field in gone[1 if place else 0 :]:
        edits.append(_removal(block, field))
    if place is not None:
        # The old order has the threshold before the groups, the alphabetical one far behind them.
        names = list(added) if next(iter(added)) == "shamir_threshold" else [name for name in added if name[0] in "ak"]
        if not names:
            names = list(added)
        here = {name: added.pop(name) for name in names}
        if block.flow:
            pairs = [_flow_pair(scan, block, name, value) for name, value in here.items()]
            edits.append((place.start, place.end, f",{_flow_gap(scan, block)}".join(pairs)))
        else:
            edits.append((place.start, place.end, _lines(scan, block, here, place.end)))
    for name, value in added.items():
        edits.append(_insertion(scan, block, name, value))
    return _joined(edits)


def _joined(edits: "list[Edit]") -> "list[Edit]":
    """Two insertions at one place become one edit, in the order given."""
    made: "list[Edit]" = []
    for edit in edits:
        if made and made[-1][:2] == edit[:2]:
            made[-1] = (edit[0], edit[1], made[-1][2] + edit[2])
        else:
            made.append(edit)
    return made


def _insertion(scan: "Scan", block: "Block", name: str, value: "Any") -> "Edit":
    behind = next((field for field in block.fields if field.name > name), None)
    if block.flow:
        pair = _flow_pair(scan, block, name, value)
        gap = _flow_gap(scan, block)
        if behind is not None:
            return behind.start, behind.start, f"{pair},{gap}"
        end = block.fields[-1].end
        return end, end, f",{gap}{pair}"
    at = behind.start if behind is not None else block.fields[-1].end
    if at and scan.text[at - 1] != "\n":
        return at, at, scan.newline + _lines(scan, block, {name: value}, at).rstrip("\r\n")
    return at, at, _lines(scan, block, {name: value}, 0)


def _removal(block: "Block", field: "Field") -> "Edit":
    if not block.flow:
        return field.start, field.end, ""
    at = block.fields.index(field)
    if at + 1 < len(block.fields):
        return field.start, block.fields[at + 1].start, ""
    if at:
        return block.fields[at - 1].end, field.end, ""
    return field.start, field.end, ""


def _lines(scan: "Scan", block: "Block", fields: "dict[str, Any]", end: int) -> str:
    """Block style lines; the last line break is left out where the replaced text (up to `end`) had none."""
    text = scan.newline.join(meta.yaml_lines(fields, block.column, max(block.column, 2)))
    open_end = end and scan.text[end - 1] != "\n"
    return text if open_end else text + scan.newline


def _flow_gap(scan: "Scan", block: "Block") -> str:
    """What stands between two fields after the comma."""
    first = block.fields[0].start
    at = first
    while at and scan.text[at - 1] in " \t\r\n":
        at -= 1
    return scan.text[at:first]


def _flow_unit(scan: "Scan", block: "Block") -> "str | None":
    """The indentation of one level if the block stands on several lines, else None."""
    gap = _flow_gap(scan, block)
    if "\n" not in gap or scan.fmt == "yaml":
        return None
    white = gap.rpartition("\n")[2]
    return white[: len(white) // 2] or None


def _flow_value(scan: "Scan", block: "Block", value: "Any") -> str:
    unit = _flow_unit(scan, block)
    text = meta.json_text(value, unit, 2)
    return text.replace("\n", scan.newline) if scan.newline != "\n" else text


def _flow_pair(scan: "Scan", block: "Block", name: str, value: "Any") -> str:
    colon = ":" if _flow_gap(scan, block) == "" else ": "
    return f"{meta.quote(name)}{colon}{_flow_value(scan, block, value)}"
