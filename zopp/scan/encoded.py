"""Texts inside texts: base64, hex, `\\uXXXX` and percent-encoding, undone so that they are judged again (spec guard 7).

Only what decodes to text, or to key material, is handed on.
"""

from binascii import Error as _Base64Error, a2b_base64, unhexlify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_patterns: "dict[str, Any]" = {}
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"
_URLSAFE = bytes.maketrans(b"-_", b"+/")
LEAST = 20


def _pattern(name: str) -> "Any":
    found = _patterns.get(name)
    if found is None:
        import re

        text = {
            "base64": rb"[0-9A-Za-z+/]{20,}={0,2}|[0-9A-Za-z_-]{20,}={0,2}",
            "unicode": rb"(?:\\u00[2-7][0-9A-Fa-f]|[0-9A-Za-z_./+=:-]){8,4000}",
            "percent": rb"(?:%[2-7][0-9A-Fa-f]|[0-9A-Za-z_./+=:~&?-]){12,4000}",
            "folded": (
                rb"(?:^|\n)[ \t]{0,12}([0-9A-Za-z+/]{60,200}\r?\n(?:[ \t]{0,12}[0-9A-Za-z+/]{60,200}\r?\n){0,400}"
                rb"[ \t]{0,12}[0-9A-Za-z+/]{1,200}={0,2})"
            ),
        }[name]
        found = _patterns[name] = re.compile(text)
    return found


def _is_text(plain: bytes) -> bool:
    return plain.isascii() and not plain.translate(None, _PRINTABLE)


def _is_key(plain: bytes) -> bool:
    """Whether binary bytes begin as key material does."""
    return (
        plain[:1] == b"\x30"
        or plain[:4] in (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
        or plain[:1] in (b"\x95", b"\x94", b"\xc5")
    )


def _base64(run: bytes) -> "bytes | None":
    text = run.rstrip(b"=").translate(_URLSAFE)
    if len(text) % 4 == 1:
        text = text[:-1]
    try:
        plain = a2b_base64(text + b"=" * (-len(text) % 4))
    except _Base64Error:
        return None
    if _is_text(plain) or _is_key(plain):
        return plain
    # UTF-16, as PowerShell's -EncodedCommand takes it.
    if len(plain) >= 16 and plain[1::2].count(0) * 8 >= len(plain) * 3:
        return plain
    return None


def texts(data: bytes, runs: bytes) -> "Iterator[tuple[int, bytes, str]]":
    """(offset in `data`, decoded bytes, how it was encoded) of every encoded text, each occurrence."""
    if runs:
        for match in _pattern("base64").finditer(runs):
            run = match.group()
            plain = _base64(run)
            if plain is not None:
                yield from ((at, plain, "base64") for at in _places(data, run))
            elif len(run) >= 40 and len(run) % 2 == 0:
                bare = run.lower()
                if not bare.strip(b"0123456789abcdef"):
                    plain = unhexlify(run)
                    if _is_text(plain):
                        yield from ((at, plain, "hex") for at in _places(data, run))
        if sum(1 for run in runs.split(b"\n") if len(run) >= 60 and not run.translate(None, _ALPHABET)) > 1:
            for match in _pattern("folded").finditer(data):
                joined = b"".join(match.group(1).split())
                plain = _base64(joined)
                if plain is not None:
                    yield match.start(1), plain, "base64"
    if b"\\u00" in data:
        for at, run in _escaped(data, b"\\u00", "unicode"):
            yield at, _unescaped(run), "escapes"
    if b"%" in data:
        for at, run in _escaped(data, b"%", "percent"):
            yield at, _unquoted(run), "percent-encoding"


_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/"
_TOKEN = frozenset(_ALPHABET + b"_.=:~&?-%\\")


def _escaped(data: bytes, mark: bytes, name: str) -> "Iterator[tuple[int, bytes]]":
    """(offset, run) of each run of token characters that holds an escape."""
    at = data.find(mark)
    while at >= 0:
        end = at + len(mark)
        if data[end : end + 1] in b"234567" and end < len(data):
            start = at
            while start > 0 and at - start < 400 and data[start - 1] in _TOKEN:
                start -= 1
            while start <= at:
                match = _pattern(name).match(data, start)
                if match is None or match.end() <= at:
                    start += 1
                    continue
                yield start, match.group()
                end = match.end()
                break
        at = data.find(mark, end)


def _places(data: bytes, run: bytes) -> "Iterator[int]":
    at = data.find(run)
    while at >= 0:
        yield at
        at = data.find(run, at + len(run))


def _unescaped(text: bytes) -> bytes:
    parts = text.split(b"\\u00")
    return parts[0] + b"".join([unhexlify(part[:2]) + part[2:] for part in parts[1:]])


def _unquoted(text: bytes) -> bytes:
    parts = text.split(b"%")
    return parts[0] + b"".join([unhexlify(part[:2]) + part[2:] for part in parts[1:]])
