"""A sops file as text that holds no value: one line a key, for `git diff` and its like (review-and-ci.md 1.1). Lean.

Needs no key and takes any bytes. A file that the line reader or the parser reads is shown key by key: name, type, a
short digest of the ciphertext, so that a value set anew is another line. What neither reads (conflict markers, broken
text) and what is very large is shown line by line, without anything that is no name, marker or ciphertext's digest.
`mac` and `lastmodified` are left out: they differ with every change.
"""

from zopp import _fast
from zopp.errors import FormatError
from zopp.printable import printable
from zopp.sopsfile import lines
from zopp.sopsfile.scan import COMMENT, SELECTED
from zopp.sopsfile.tree import Mapping, Sequence, Timestamp, dotted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from zopp.sopsfile.metadata import Metadata
    from zopp.sopsfile.scan import Leaf, Scan

LARGE = 16_000_000
"""Bytes from which on a file is shown line by line, in constant memory."""
_TYPES: "dict[Any, str]" = {str: "str", int: "int", float: "float", bool: "bool", bytes: "bytes", Timestamp: "time"}
_MARKERS = (b"<<<<<<<", b"|||||||", b"=======", b">>>>>>>")
_MARK = b"ENC[AES256_GCM,"
_QUIET = (b"mac", b"lastmodified", b"enc")


def redacted(data: bytes, fmt: str) -> "Iterator[str]":
    """The lines, without their ends."""
    if len(data) <= LARGE:
        found = _read(data, fmt)
        if found is not None:
            yield from _keys(found)
            yield from _outside(found.metadata)
            return
    if data:
        yield from _raw(data)


def _read(data: bytes, fmt: str) -> "Scan | None":
    found = lines.scan(data, fmt)
    if found is not None or (_MARK not in data and b"sops" not in data):
        return found
    from zopp.sopsfile import file

    try:
        return file.read_full(data, fmt, strict=False).scan
    except FormatError:
        return None


def _keys(found: "Scan") -> "Iterator[str]":
    salt = _salt(found.metadata)
    for leaf in found.leaves:
        name = printable(dotted(leaf[1]))
        if leaf[7]:
            name = f"[document {leaf[7]}] {name}"
        if leaf[0] & COMMENT:
            yield f"# comment{' in ' + name if leaf[1] else ''}: {_shown(leaf, salt)}"
        else:
            yield f"{name}: {_shown(leaf, salt)}"


def _shown(leaf: "Leaf", salt: bytes) -> str:
    """Type and digest."""
    value = leaf[3]
    if value.__class__ is not str:
        if value is None or isinstance(value, (Mapping, Sequence)):
            return "null" if value is None else "{}" if isinstance(value, Mapping) else "[]"
        return f"{_TYPES.get(value.__class__, '?')} in the clear {_keyed(salt, repr(value))}"
    if leaf[0] & SELECTED and not value:
        return "str empty"
    if leaf[0] & SELECTED and value[:4] == "ENC[" and value[-1:] == "]":
        kind = value.rpartition(",type:")[2][:-1]
        return f"{kind if kind.isalpha() else '?'} {_digest(value.encode('utf-8', 'surrogatepass'))}"
    return f"{'text' if leaf[0] & COMMENT else 'str'} in the clear {_keyed(salt, value)}"


def _digest(text: bytes) -> str:
    """A ciphertext is as public as the file; so is its hash."""
    return _fast.sha256(text).hex()[:12]


def _salt(metadata: "Metadata") -> bytes:
    """What only a holder of the file knows, and what stays as long as the data key and its first recipient do."""
    text = next((e.enc for group in metadata.groups for e in group), metadata.mac)
    return _fast.sha256(text.encode("utf-8", "surrogatepass"))


def _keyed(salt: bytes, text: str) -> str:
    """Tells that a clear value is another, to who sees the output and not the file: a plain hash could be guessed."""
    return _fast.hmac_sha256(salt, text.encode("utf-8", "surrogatepass")).hex()[:12]


def _outside(metadata: "Metadata") -> "Iterator[str]":
    """Recipients, groups, selector."""
    yield "---"
    several = len(metadata.groups) > 1 or not metadata.flat
    for number, group in enumerate(metadata.groups, 1):
        place = f" (group {number})" if several else ""
        for entry in group:
            yield f"recipient: {printable(short(entry.recipient))}{place}"
    for number, kind, entries in metadata.foreign:
        count = len(entries) if isinstance(entries, list) else 1
        yield f"recipients of type {kind}: {count}" + (f" (group {number + 1})" if several else "")
    if several:
        yield f"key groups: {len(metadata.groups)}, threshold {metadata.threshold}"
    selector = metadata.selector
    yield f"selector: {selector.kind} {printable(selector.pattern)}"
    if selector.mac_only_encrypted:
        yield "mac_only_encrypted: true"
    if not metadata.mac:
        yield "there is no MAC"
    for name in metadata.unknown:
        yield f"unknown field: {printable(name)}"


def short(recipient: str) -> str:
    """A recipient by its ends."""
    return recipient if len(recipient) <= 24 else f"{recipient[:12]}…{recipient[-8:]}"


def _raw(data: bytes) -> "Iterator[str]":
    """Line by line: what cannot be read as a whole. Runs of lines that are not shown are one line. Of a file without
    any ciphertext no name is shown either: what looks like one may be a part of a key or a password."""
    hidden = 0
    sealed = _MARK in data
    at, end = 0, len(data)
    while at < end:
        stop = data.find(b"\n", at)
        stop = end if stop < 0 else stop
        shown = _line(data[at:stop] if stop - at < 1_000_000 else b"", sealed)
        at = stop + 1
        if shown is None:
            hidden += 1
            continue
        if hidden:
            yield f"({hidden} line{'s' * (hidden != 1)} not shown)"
            hidden = 0
        if shown:
            yield shown
    if hidden:
        yield f"({hidden} line{'s' * (hidden != 1)} not shown)"


def _line(line: bytes, sealed: bool) -> "str | None":
    """What may be shown of a line: '' nothing at all, None that it is there."""
    if line[:7] in _MARKERS:
        return printable(line.rstrip(b"\r").decode("utf-8", "replace"))
    if not line.strip():
        return ""
    if not sealed:
        return None
    at = line.find(_MARK)
    name = _name(line if at < 0 else line[:at])
    bare = b"" if name is None else name.strip(b" -\"'\t,")
    if bare in _QUIET:
        return ""
    if name is None:
        return None if at < 0 else _sealed(line, at)
    shown = printable(name.decode("utf-8", "replace").rstrip())
    rest = line[len(name) :]
    if bare == b"recipient":
        return f"{shown}: {printable(short(rest.strip(b' :,' + bytes([34, 39, 13])).decode('utf-8', 'replace')))}"
    if at >= 0:
        return f"{shown}: {_sealed(line, at)}"
    # A name above deeper lines, or one with a value beside it: the value is never shown.
    return f"{shown}:" if not rest.strip(b" :=\"'\r,{[|>") else f"{shown}: (not encrypted)"


def _sealed(line: bytes, at: int) -> str:
    """Type and digest of the ciphertext in a line; of several, the last one's type and one digest for all."""
    text = line[at : line.rfind(b"]") + 1] or line[at:]
    kind = text.rpartition(b",type:")[2].rstrip(b"]")
    return f"{kind.decode() if kind.isalpha() and kind.isascii() else '?'} {_digest(text)}"


def _name(text: bytes) -> "bytes | None":
    """The part of a line before its colon (and a space or the end) or equals sign (and a value), if it can only be a
    name; with the quotes, dashes and spaces around it."""
    colon, equals = text.find(b":"), text.find(b"=")
    if colon >= 0 and text[colon + 1 : colon + 2] in (b"", b" ", b"\r", b'"'):
        name = text[:colon]
    elif equals > 0 and text[equals + 1 :].strip(b"=\r\n ") + _MARK[: equals == len(text) - 1]:
        name = text[:equals]
    else:
        return None
    bare = name.strip(b" -\"'\t#+")
    allowed = bare.replace(b"_", b"").replace(b".", b"").replace(b"-", b"")
    return name if 0 < len(bare) <= 100 and allowed.isalnum() else None
