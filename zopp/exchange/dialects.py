"""Reading one statement of a .env file the way each of the known parsers does.

Every reader takes the text (LF line ends) and the offset of a statement's first character and returns a `Read`. None
expands anything: `$` stays as it is written, and what could be expanded is marked for `dotenv`, which does it only
when asked. None quotes its input in what it says. Source: importers.md §3.1 (42 measured lines) and §3.2.

Two quirks are not reproduced: npm's dotenv lets a quoted value begin on the line after `A=`, and every parser has a
reading for an unterminated quote, which is an error here except where quotes mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Words and blanks are told apart and nothing is given back, so that a line of blanks costs linear time.
_HEAD = re.compile(
    r"[ \t]*+(?:export[ \t]++)?(?P<name>[^=\n \t]*+(?:[ \t]++[^=\n \t]++)*+)"
    r"(?P<gap>[ \t]*+)(?P<sign>=)(?P<space>[ \t]*)"
)
_COLON = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[\w.-]+)[ \t]*:(?=[ \t\n]|\Z)(?P<space>[ \t]*)", re.ASCII)
_LOOSE_NAME = re.compile(r"[\w.-]+", re.ASCII)
_AFTER_QUOTE = re.compile(r"[ \t]*(?:(?<=[ \t])#(?P<comment>[^\n]*))?(?=\n|\Z)")
_BLANK = " \t"
_PEM_WITHIN = 1 << 15  # characters; the largest keys have a tenth of it
# What all eight parsers take as it is outside quotes. `?` and `*` are safe since a shell does not glob assignments; a
# tilde means a home folder to it only at the beginning and after a colon or an equals sign.
_BARE = re.compile(r"(?:[A-Za-z0-9_./:@%+,=^*?!\[\]{}-]|(?<![:=])~)*")

Piece = tuple[str, bool]  # text, and whether `$` in it is the dialect's to expand


@dataclass(frozen=True, slots=True)
class Read:
    """One statement. `end` is where the next begins. A non-empty `rule` means that it could not be read."""

    end: int
    name: str = ""
    pieces: tuple[Piece, ...] = field(default=(), repr=False)
    comment: str = field(default="", repr=False)
    rule: str = ""


def line_end(text: str, at: int) -> int:
    """The offset of the newline that ends the line at `at`, or the length of the text."""
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _next(text: str, at: int) -> int:
    return min(line_end(text, at) + 1, len(text))


def _bad(text: str, at: int, rule: str, name: str = "") -> Read:
    return Read(_next(text, at), name, rule=rule)


def _unterminated(text: str, at: int, name: str) -> Read:
    """The statement at `at` opened a quote that never closes. An unquoted or unclosed PEM block is skipped whole, so
    that its base64 is not taken for names."""
    return Read(skip_pem(text, at), name, rule="unterminated")


def skip_pem(text: str, at: int) -> int:
    """Where the next statement begins if the line at `at` may hold the first line of a PEM block."""
    stop = line_end(text, at)
    if "-----BEGIN " in text[at:stop] and "-----END " not in text[at:stop]:
        last = text.find("\n-----END ", at, at + _PEM_WITHIN)
        if last >= 0:
            return _next(text, last + 1)
    return _next(text, at)


def _close(text: str, at: int, quote: str) -> int:
    """The offset of the quote that closes the one before `at`: the first with an even number of backslashes before
    it. -1 if there is none."""
    start = at
    while (at := text.find(quote, at)) >= 0:
        before = at
        while before > start and text[before - 1] == "\\":
            before -= 1
        if (at - before) % 2 == 0:
            return at
        at += 1
    return -1


def _close_loosely(text: str, at: int, quote: str) -> int:
    """As python-dotenv and npm's dotenv find it: the first quote with no backslash before it, else the last quote."""
    last = -1
    while (at := text.find(quote, at)) >= 0:
        if text[at - 1] != "\\":
            return at
        last = at
        at += 1
    return last


def _finish(text: str, at: int, name: str, pieces: tuple[Piece, ...], rule: str = "") -> Read:
    """After a closing quote: blanks, then a comment set off by a blank, then the end of the line."""
    after = _AFTER_QUOTE.match(text, at)
    if after is None:
        return _bad(text, at, rule or "after-quote", name)
    return Read(_next(text, at), name, () if rule else pieces, after["comment"] or "", rule)


def auto(text: str, at: int) -> Read:
    """The strict grammar: only what all eight parsers read alike."""
    colon, head = _COLON.match(text, at), _HEAD.match(text, at)
    if colon is not None:
        return _bad(text, at, "colon", colon["name"])
    if head is None:
        return Read(skip_pem(text, at), rule="no-equals")
    name, start, stop = head["name"], head.end(), line_end(text, at)
    if not NAME.fullmatch(name):
        return Read(skip_pem(text, at), name, rule="odd-name")
    if head["gap"]:
        return _bad(text, at, "space-around-equals", name)
    if "\t" in head[0] or head[0].lstrip().startswith("export  "):
        return _bad(text, at, "tab" if "\t" in head[0] else "export-blanks", name)  # node: part of the name
    if head["space"] and start < stop:
        return _bad(text, at, "comment-as-value" if text[start] == "#" else "space-around-equals", name)
    if text[start : start + 1] in ("'", '"'):
        return _auto_quoted(text, start, name)
    bare = _BARE.match(text, start)
    assert bare is not None
    end, rest = bare.end(), text[bare.end() : stop]
    if "\t" in rest[: len(rest) - len(rest.lstrip(_BLANK))]:
        return _bad(text, at, "tab", name)  # node keeps it in the value
    if not rest.strip(_BLANK) or (rest[0] in _BLANK and end > start and rest.lstrip(_BLANK).startswith("#")):
        return Read(_next(text, at), name, ((bare[0], False),), rest.lstrip(_BLANK)[1:])
    value = text[start:stop]
    return Read(skip_pem(text, at), name, rule=_bare_rule(value, rest[0]))


def _bare_rule(value: str, first: str) -> str:
    """The rule that an unquoted value breaks, `first` being the first character that no dialect agrees on."""
    if "$(" in value or "`" in value:
        return "command" if "$(" in value else "backtick"
    named = {"$": "dollar", "#": "hash-in-value", "\\": "backslash", "'": "mid-quote", '"': "mid-quote"}
    if first in named:
        return named[first]
    if first in _BLANK:
        return "mid-quote" if '"' in value or "'" in value else "unquoted-space"
    return "shell-special" if first.isascii() else "non-ascii-unquoted"


def _auto_quoted(text: str, at: int, name: str) -> Read:
    quote = text[at]
    close = text.find(quote, at + 1)
    if close < 0:
        return _unterminated(text, at, name)
    inner = text[at + 1 : close]
    rule = ""
    if quote == "'":
        if inner.endswith("\\"):
            rule = "escape-in-single-quotes"
        elif "\\\\" in inner:
            rule = "double-backslash"
        elif "${" in inner:
            rule = "dollar-brace"
    elif "\\" in inner:
        rule = "escape-in-double-quotes"
        # an escaped quote does not close, for most
        close = max(close, _close(text, at + 1, quote))
    elif "$" in inner:
        # expansion is the one thing in double quotes that can be asked for, so the text is kept for it
        rule = "command" if "$(" in inner else "dollar"
    elif "`" in inner:
        rule = "backtick"
    read = _finish(text, close + 1, name, ((inner, False),), rule)
    return Read(read.end, name, ((inner, True),), read.comment, rule) if rule == "dollar" else read


def _loose_head(text: str, at: int, *, colon: bool) -> tuple[str, int] | Read:
    """(name, offset of the value) as python-dotenv, npm's dotenv and compose find them, or what is wrong."""
    found = _COLON.match(text, at)
    if found is not None and not colon:
        return _bad(text, at, "colon", found["name"])
    found = found or _HEAD.match(text, at)
    if found is None:
        return Read(skip_pem(text, at), rule="no-equals")
    if not _LOOSE_NAME.fullmatch(found["name"]):
        return Read(skip_pem(text, at), found["name"], rule="odd-name")
    return found["name"], found.end()


_PYTHON_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def python(text: str, at: int) -> Read:
    """python-dotenv: escapes in double quotes, `\\'` and `\\\\` in single quotes, ` #` begins a comment."""
    head = _loose_head(text, at, colon=False)
    if isinstance(head, Read):
        return head
    name, start = head
    quote = text[start : start + 1]
    if quote in ("'", '"') and quote:
        close = _close_loosely(text, start + 1, quote)
        if close < 0:
            return _unterminated(text, start, name)
        known = r"\\([\\'\"abfnrtv])" if quote == '"' else r"\\([\\'])"
        value = re.sub(known, lambda m: _PYTHON_ESCAPES.get(m[1], m[1]), text[start + 1 : close])
        # a comment need not be set off here, but `"b"#c` is a typing error more often than a comment
        return _finish(text, close + 1, name, ((value, True),))
    line = text[start : line_end(text, start)]
    value, comment = _cut(line, r"\s+#")
    return Read(_next(text, start), name, ((value.rstrip(), True),), comment)


def _cut(line: str, mark: str) -> tuple[str, str]:
    parts = re.split(mark, line, maxsplit=1)
    return parts[0], parts[1] if len(parts) > 1 else ""


def npm(text: str, at: int) -> Read:
    """npm's dotenv: quotes ' " `, of escapes only \\n and \\r in double quotes, any # begins a comment."""
    head = _loose_head(text, at, colon=True)
    if isinstance(head, Read):
        return head
    name, start = head
    quote = text[start : start + 1]
    if quote and quote in "'\"`":
        close = _close_loosely(text, start + 1, quote)
        if close < 0:
            return _unterminated(text, start, name)
        value = text[start + 1 : close]
        if quote == '"':
            value = value.replace("\\n", "\n").replace("\\r", "\r")
        return _finish(text, close + 1, name, ((value, False),))
    value, comment = _cut(text[start : line_end(text, start)], "#")
    return Read(_next(text, start), name, ((value.strip(), False),), comment)


def compose(text: str, at: int) -> Read:
    """compose-go: shell-like escapes in double quotes, `\\'` in single quotes, ` #` begins a comment."""
    head = _loose_head(text, at, colon=True)
    if isinstance(head, Read):
        return head
    name, start = head
    quote = text[start : start + 1]
    if quote in ("'", '"') and quote:
        close = _close(text, start + 1, quote)
        if close < 0:
            return _unterminated(text, start, name)
        value = text[start + 1 : close].replace("\\" + quote, quote) if quote == "'" else text[start + 1 : close]
        if quote == '"':
            value = re.sub(r'\\([abfnrtv"\\])', lambda m: _PYTHON_ESCAPES.get(m[1], m[1]), value)
        return _finish(text, close + 1, name, ((value, quote == '"'),))
    value, comment = _cut(text[start : line_end(text, start)], " #")
    return Read(_next(text, start), name, ((value.strip(), True),), comment)


def shell(text: str, at: int) -> Read:
    """One assignment as bash reads it when the file is sourced. Nothing is run: what would be is an error."""
    head = _HEAD.match(text, at)
    if _COLON.match(text, at) or head is None:
        return Read(skip_pem(text, at), rule="colon" if head is None and _COLON.match(text, at) else "no-equals")
    name, start = head["name"], head.end("sign")
    if not NAME.fullmatch(name):
        return Read(skip_pem(text, at), name, rule="odd-name")
    if head["gap"] or (head["space"] and text[head.end() : head.end() + 1] not in ("", "\n", "#")):
        return _bad(text, at, "space-around-equals", name)
    pieces: list[Piece] = []
    at = start
    while at < len(text) and text[at] not in " \t\n":
        char = text[at]
        if char in "'\"":
            close = text.find("'", at + 1) if char == "'" else _close(text, at + 1, '"')
            if close < 0:
                return _unterminated(text, start, name)
            inner = text[at + 1 : close]
            if char == "'":
                pieces.append((inner, False))
            else:
                rule = _running(inner)
                if rule:
                    return Read(_next(text, close), name, rule=rule)
                pieces += _double_quoted(inner)
            at = close + 1
        elif char == "\\":
            if text[at + 1 : at + 2] != "\n":
                pieces.append((text[at + 1 : at + 2], False))
            at += 2
        elif rule := _running(text[at : at + 2]) or ("tilde" if char == "~" and _tilde(text, start, at) else ""):
            return _bad(text, at, rule, name)
        elif char in ";&|<>()":
            return _bad(text, at, "shell-special", name)
        else:
            pieces.append((char, True))
            at += 1
    read = _finish(text, at, name, _join(pieces))
    return Read(skip_pem(text, start), name, rule="unquoted-space") if read.rule else read


def _running(text: str) -> str:
    """The rule that says that bash would run something in `text` or use a value of its own."""
    bare = re.sub(r"\\.", "", text, flags=re.DOTALL)
    if "`" in bare:
        return "backtick"
    if "$(" in bare:
        return "command"
    return "dollar" if re.search(r"\$['\"$!?#*@0-9-]", bare) else ""


def _tilde(text: str, start: int, at: int) -> bool:
    return at == start or text[at - 1] == ":"


def _double_quoted(inner: str) -> list[Piece]:
    pieces: list[Piece] = []
    for part in re.split(r'(\\[$`"\\\n])', inner):
        if len(part) == 2 and part[0] == "\\" and part[1] in '$`"\\\n':
            pieces.append(("" if part[1] == "\n" else part[1], False))
        else:
            pieces.append((part, True))
    return pieces


def _join(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Neighbours of one kind as one piece, or `$` and the name after it would be apart."""
    joined: list[Piece] = []
    for text, expandable in pieces:
        if joined and joined[-1][1] == expandable:
            joined[-1] = (joined[-1][0] + text, expandable)
        else:
            joined.append((text, expandable))
    return tuple(joined)


def docker(text: str, at: int) -> Read:
    """`docker --env-file`: everything after the first `=` is the value. A bare name, which docker takes from the host,
    is an error."""
    stop = line_end(text, at)
    name, sign, value = text[at:stop].partition("=")
    name = name.lstrip()
    if not sign:
        return Read(skip_pem(text, at), rule="no-equals")
    if not name or " " in name or "\t" in name:
        return Read(skip_pem(text, at), name, rule="odd-name")
    return Read(_next(text, at), name, ((value, False),))


def sops(text: str, at: int) -> Read:
    """sops' dotenv store: nothing is trimmed or unquoted; the two characters \\n are a newline."""
    stop = line_end(text, at)
    name, sign, value = text[at:stop].partition("=")
    if not sign:
        return Read(skip_pem(text, at), rule="no-equals")
    return Read(_next(text, at), name, ((value.replace("\\n", "\n"), False),))


READERS: dict[str, Callable[[str, int], Read]] = {
    "auto": auto,
    "python": python,
    "dotenv": npm,
    "compose": compose,
    "shell": shell,
    "docker": docker,
    "sops": sops,
}
