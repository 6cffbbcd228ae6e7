"""The strict line reader for JSON as sops writes it: one key or item a line, `sops` last (spec performance 2). Lean."""

from zopp import _fast
from zopp.sopsfile import metadata as meta
from zopp.sopsfile.lines import Marks
from zopp.sopsfile.scan import COMMENT, MAX_DEPTH, Block, Field, Scan
from zopp.sopsfile.tree import Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from zopp.sopsfile.scan import Leaf

_MISS = object()
_WORDS: "dict[str, Any]" = {"true": True, "false": False, "null": None}


def scan(text: str, fmt: str) -> "Scan | None":
    """The Scan of a file, or None: ask the full parser. FormatError means the same."""
    unit = _unit(text)
    if unit is None or not text.replace("\n", "").replace("\t", "").isprintable():
        return None
    mark = f'\n{unit}"sops": {{\n'
    cut = text.find(mark) + 1
    tail = f"\n{unit}}}\n}}\n"
    if not cut or not text.endswith(tail):
        return None
    key_start = cut + len(unit)
    opened = key_start + 8
    end = len(text) - 3
    try:
        plain = _fast.json_parse(text[opened:end])
    except ValueError:
        return None
    # An escape may leave half of a surrogate pair, which only the full parser looks for.
    if not isinstance(plain, dict) or text.find("\\u", opened, end) >= 0:
        return None
    fields = _fields(text, opened, end, unit * 2)
    if fields is None or len(fields) != len(plain):
        return None
    metadata = meta.Metadata(plain)
    meta.check_strict(metadata)
    if metadata.selector.by_comment:
        return None
    body = text[2 : cut - 1]
    # Without a comma before it, `sops` stands alone or the text is no JSON.
    if body and body[-1] != ",":
        return None
    leaves = _body(body[:-1].split("\n"), Marks(metadata.selector)) if body else []
    if leaves is None:
        return None
    block = Block(key_start, end, opened - cut, True, fields)
    return Scan(text, fmt, leaves, metadata, [block])


def _unit(text: str) -> "str | None":
    """The indentation of the first level."""
    if text[:2] != "{\n":
        return None
    end = 2
    while text[end : end + 1] in ("\t", " ") and end < 12:
        end += 1
    unit = text[2:end]
    return unit if unit and unit in ("\t", " " * len(unit)) else None


def _fields(text: str, opened: int, end: int, pad: str) -> "list[Field] | None":
    """The places of the block's fields, which stand at `pad`; the text is known to be JSON."""
    fields: "list[Field]" = []
    position = opened + 2
    waiting: "tuple[str, int, int] | None" = None
    for line in text[position : end - 1].split("\n")[:-1]:
        at = position
        position += len(line) + 1
        stop = position - 1 - (line[-1:] == ",")
        if line[: len(pad)] != pad:
            return None
        body = line[len(pad) :]
        if body[:1] == '"':
            name, colon, rest = body[1:].partition('": ')
            if not colon or not name.isidentifier() or waiting is not None:
                return None
            start = at + len(pad)
            if rest in ("{", "["):
                waiting = (name, start, start + len(name) + 4)
                continue
            after = start + len(name) + 2
            fields.append(Field(name, start, (start, after), (after + 2, stop), stop))
        elif body[:1] in ("}", "]"):
            if waiting is None:
                return None
            name, start, value = waiting
            fields.append(Field(name, start, (start, start + len(name) + 2), (value, stop), stop))
            waiting = None
        elif waiting is None:
            return None
    return fields if waiting is None else None


def _value(text: str) -> "Any":
    """A one-line value, or _MISS."""
    if text[:1] == '"':
        inner = text[1:-1]
        if len(text) > 1 and text[-1] == '"' and '"' not in inner and "\\" not in inner and "\t" not in inner:
            return inner
        if "\\u" in text or "\t" in text:
            return _MISS
        try:
            found = _fast.json_parse(text)
        except ValueError:
            return _MISS
        return found if isinstance(found, str) else _MISS
    if text in _WORDS:
        return _WORDS[text]
    if text == "{}":
        return Mapping()
    if text == "[]":
        return Sequence()
    digits = text[1:] if text[:1] == "-" else text
    if digits.isdigit() and digits.isascii() and len(digits) < 19 and (digits[0] != "0" or digits == "0"):
        return int(text) if text != "-0" else -0.0
    whole, dot, fraction = digits.partition(".")
    if dot and digits.isascii() and whole.isdigit() and fraction.isdigit() and (whole == "0" or whole[0] != "0"):
        return float(text)
    return _MISS


def _body(lines: "list[str]", marks: Marks) -> "list[Leaf] | None":
    """The leaves of the lines between the outer brace and `sops`."""
    leaves: "list[Leaf]" = []
    kinds = marks.selected
    position, number = 2, 1
    # Open containers: path, additional data, match, index (-1: a mapping), keys seen.
    stack: "list[tuple[tuple[Any, ...], str, bool, int, set[str]]]" = []
    path: "tuple[Any, ...]" = ()
    aad, hit, index = "", False, -1
    seen: "set[str]" = set()
    comma = True  # whether an item may come
    for line in lines:
        number += 1
        at = position
        position += len(line) + 1
        body = line.lstrip("\t ")
        if not body:
            return None
        start = at + len(line) - len(body)
        first = body[0]
        if first == "}" or first == "]":
            if not stack or comma or (first == "}") != (index < 0) or body[1:] not in ("", ","):
                return None
            path, aad, hit, index, seen = stack.pop()
            comma = body[-1] == ","
            continue
        if not comma:
            return None
        comma = body[-1] == ","
        if comma:
            body = body[:-1]
        if index < 0:
            head, colon, rest = body.partition('": ')
            key = head[1:]
            if (
                first != '"'
                or not head
                or not colon
                or not rest
                or key in seen
                or "\\" in key
                or '"' in key
                or "\t" in key
            ):
                return None
            if key == "sops" and not stack:
                return None
            seen.add(key)
            here: "Any" = key
            below, match = f"{aad}{key}:", hit or marks(key)
            start += len(head) + 3
        else:
            rest, here, below, match = body, index, aad, hit
            index += 1
        if rest == "{" or rest == "[":
            if comma or len(stack) > MAX_DEPTH // 2:
                return None
            stack.append((path, aad, hit, index, seen))
            path, aad, hit, seen = (*path, here), below, match, set()
            index = 0 if rest == "[" else -1
            comma = True
            continue
        value = rest[1:-1]
        if rest[:6] != '"ENC[A' or rest[-1] != '"' or '"' in value or "\\" in value or "\t" in value:
            value = _value(rest)
            if value is _MISS:
                return None
        kind = kinds[match]
        if index >= 0 and kind and value.__class__ is str and value[:4] == "ENC[" and value[-14:] == ",type:comment]":
            index -= 1
            leaves.append((kind | COMMENT, path, below or ":", value, start, start + len(rest), number, 0))
        else:
            leaves.append((kind, (*path, here), below or ":", value, start, start + len(rest), number, 0))
    return leaves if not stack and not comma else None
