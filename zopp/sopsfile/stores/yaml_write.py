"""A plaintext tree as YAML text, laid out as sops' emitter does (spec sops-compat 6.5), its faults excepted.

Where sops would write text that does not read back (a leading tab before a line break, odd indentation indicators in
lists, Unicode line ends), this writes a double-quoted scalar.
"""

from __future__ import annotations

from binascii import b2a_base64

from zopp.sopsfile.plainscalar import style
from zopp.sopsfile.tree import Comment, Mapping, Sequence, Timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INDENT = 4
_ESCAPES = {
    "\0": "\\0", "\a": "\\a", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f",
    "\r": "\\r", "\x1b": "\\e",
    '"': '\\"', "\\": "\\\\", "\x85": "\\N", "\xa0": "\\_", "\u2028": "\\L", "\u2029": "\\P",
}  # fmt: skip


def dump(documents: list[Mapping]) -> str:
    """The text of a file; documents are joined by `---`."""
    return "---\n".join(document_text(document) for document in documents)


def document_text(document: Mapping) -> str:
    lines = mapping_lines(document, 0, INDENT)
    return "\n".join(lines) + "\n" if lines else "{}\n"


def _next(column: int, unit: int) -> int:
    return (column // unit + 1) * unit


def mapping_lines(node: Mapping, column: int, unit: int) -> list[str]:
    """The lines of a block mapping whose keys stand at `column`."""
    lines: list[str] = []
    pad = " " * column
    for key, value in node.items:
        if isinstance(key, Comment):
            lines.append(f"{pad}#{key.text}")
            continue
        if value.__class__ is str and "\n" not in value:  # nearly every line
            lines.append(f"{pad}{key_text(key)}: {scalar_text(value)}")
        else:
            lines += entry_lines(key, value, column, unit)
    return lines


def entry_lines(key: str, value: Any, column: int, unit: int) -> list[str]:
    """The lines of one key and its value."""
    pad = " " * column
    name = key_text(key)
    if only_comments(value):
        return _hollow_lines(f"{pad}{name}: ", value, column, _next(column, unit))
    if isinstance(value, Mapping) and value.items:
        return [f"{pad}{name}:", *mapping_lines(value, _next(column, unit), unit)]
    if isinstance(value, Sequence) and value.items:
        return [f"{pad}{name}:", *sequence_lines(value, _next(column, unit), unit)]
    deeper = _next(column, unit)
    return scalar_lines(f"{pad}{name}: ", value, deeper, deeper - column != INDENT)


def sequence_lines(node: Sequence, column: int, unit: int) -> list[str]:
    """The lines of a block sequence whose dashes stand at `column`."""
    lines: list[str] = []
    pad = " " * column
    for item in node.items:
        if isinstance(item, Comment):
            lines.append(f"{pad}#{item.text}")
        elif only_comments(item):
            lines += _hollow_lines(f"{pad}- ", item, column, column + 2)
        elif isinstance(item, (Mapping, Sequence)) and item.items:
            if isinstance(item, Mapping):
                inner = mapping_lines(item, column + 2, unit)
            else:
                inner = sequence_lines(item, column + 2, unit)
            # Comments that open an item cannot follow its dash; sops writes them above it, into the list.
            first = next(at for at, line in enumerate(inner) if not line.lstrip().startswith("#"))
            lines += [pad + line.lstrip() for line in inner[:first]]
            lines.append(f"{pad}- {inner[first][column + 2 :]}")
            lines += inner[first + 1 :]
        else:
            lines += scalar_lines(f"{pad}- ", item, column + 2, True)
    return lines


def only_comments(node: Any) -> bool:
    """Whether a container holds comments and nothing else."""
    if isinstance(node, Mapping):
        return bool(node.items) and not node.keys()
    return isinstance(node, Sequence) and bool(node.items) and not node.nodes()


def _hollow_lines(head: str, node: Any, column: int, deeper: int) -> list[str]:
    """A container that holds comments only: block style would read back as null."""
    if isinstance(node, Mapping):
        inner = [f"{' ' * deeper}#{key.text}" for key, _ in node.items]
        return [head + "{", *inner, " " * column + "}"]
    return [head + "[]", *(f"{' ' * column}#{item.text}" for item in node.items)]


def key_text(key: str) -> str:
    """A mapping key as sops writes it, except that a key with a line break is double-quoted, not a complex key."""
    if key == "<<":
        return "!!merge <<"
    if "\n" in key:
        return double(key)
    return _one_line(key)


def scalar_lines(head: str, value: Any, column: int, uneven: bool) -> list[str]:
    """`head` and the scalar; the lines of literal text stand at `column`. `uneven`: that is not INDENT deeper than the
    parent, so that an indentation indicator (which sops always writes as 4) would be false."""
    if isinstance(value, str) and "\n" in value:
        literal = _literal(value, uneven)
        if literal is None:
            return [head + double(value)]
        pad = " " * column
        return [head + literal[0], *(pad + line if line else "" for line in literal[1])]
    return [head + scalar_text(value)]


def _literal(text: str, uneven: bool) -> tuple[str, list[str]] | None:
    """(header, lines) of a literal scalar, or None where it would not read back everywhere."""
    for char in text:
        code = ord(char)
        if (
            (code < 0x20 and char not in "\n\t")
            or 0x7F <= code < 0xA0
            or code in (0x2028, 0x2029, 0xFEFF)
            or code > 0xFFFD
        ):
            return None
    body = text.rstrip("\n")
    if " \n" in text or text[-1] == " " or text[0] == "\t" or not body:
        return None
    indicator = ""
    if text[0] in " \n":
        if uneven:
            return None
        indicator = str(INDENT)
    trailing = len(text) - len(body)
    lines = body.split("\n")
    if trailing == 0:
        return f"|{indicator}-", lines
    if trailing == 1:
        return f"|{indicator}", lines
    return f"|{indicator}+", lines + [""] * (trailing - 1)


def scalar_text(value: Any) -> str:
    """A one-line scalar."""
    if isinstance(value, str):
        return double(value) if "\n" in value else _one_line(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, Timestamp):
        return value.text
    if isinstance(value, bytes):
        return "!!binary " + b2a_base64(value, newline=False).decode()
    return "{}" if isinstance(value, Mapping) else "[]"


def _one_line(text: str) -> str:
    chosen = style(text)
    if chosen == "plain":
        return text
    if chosen == "double" or "\u2028" in text or "\u2029" in text:
        return double(text)
    return "'" + text.replace("'", "''") + "'"


def double(text: str) -> str:
    """A double-quoted scalar."""
    out = []
    for char in text:
        code = ord(char)
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif code < 0x20 or 0x7F <= code < 0xA0:
            out.append(f"\\x{code:02X}")
        elif code == 0xFEFF or 0xFFFD < code < 0x10000:
            out.append(f"\\u{code:04X}")
        elif code > 0xFFFF:
            out.append(f"\\U{code:08X}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def float_text(value: float) -> str:
    """Go's shortest `%g`: an exponent below 1e-4 and from 1e6. Negative zero keeps a fraction, without which it would
    read back as the integer 0 and break the MAC (as it does in sops)."""
    text = repr(value)
    if text in ("inf", "-inf", "nan"):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}[text]
    sign = "-" if text[0] == "-" else ""
    mantissa, _, exponent = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "-0.0" if sign else "0"
    # The decimal exponent of the first significant digit.
    point = int(exponent or 0) + (len(whole) if whole != "0" else -(len(fraction) - len(fraction.lstrip("0")))) - 1
    digits = digits.rstrip("0") or "0"
    if not -4 <= point < 6:
        rest = "." + digits[1:] if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{'-' if point < 0 else '+'}{abs(point):02}"
    if point < 0:
        return f"{sign}0.{'0' * (-point - 1)}{digits}"
    padded = digits.ljust(point + 1, "0")
    return sign + padded[: point + 1] + ("." + padded[point + 1 :] if len(padded) > point + 1 else "")
