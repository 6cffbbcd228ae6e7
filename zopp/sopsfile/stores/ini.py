"""Encrypted INI text to a placed tree (spec sops-compat 7.3, 8.2). Read only, and only what sops itself writes.

The grammar of gopkg.in/ini.v1 is wide; an encrypted file uses little of it: sections, `key = value`, `;` and `#`
comment lines, values in backquotes or in triple quotes over several lines. Anything else is a FormatError.
"""

from __future__ import annotations

from zopp.errors import FormatError
from zopp.sopsfile.cst import Map, Parsed, PlacedComment, Scalar
from zopp.sopsfile.stores.flat import nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT = "DEFAULT"
METADATA = "sops"


def _bad(line: int) -> FormatError:
    return FormatError("a line is not INI that sops writes", code="bad_ini", place=f"line {line}")


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.root = Map(0, 1, 0, False)
        self.section = self.open(DEFAULT, 0, 1)
        self.comments: list[PlacedComment] = []
        self.flat: list[tuple[str, str]] = []
        self.duplicates: list[tuple[int, int]] = []
        self.in_metadata = False

    def open(self, name: str, start: int, line: int) -> Map:
        made = Map(start, line, 0, False)
        self.root.items.append((name, made))
        self.root.keys_at.append((start, start))
        return made

    def run(self) -> Parsed:
        lines = self.text.split("\n")
        at = number = 0
        while number < len(lines):
            raw = lines[number]
            start, at = at, at + len(raw) + 1
            number += 1
            line = raw.strip()
            if not line:
                continue
            if line[0] in ";#":
                begin = start + raw.index(line[0]) + 1
                text = line[1:].lstrip()
                self.comments.append(PlacedComment(text, begin, start + len(raw), number, False))
            elif line[0] == "[":
                self.header(line, start, number)
            else:
                key, value = self.pair(line, number)
                first = number
                if value.startswith('"""'):
                    value = value[3:]
                    while '"""' not in value:
                        if number == len(lines):
                            raise _bad(first)
                        value += "\n" + lines[number].rstrip("\r")
                        at += len(lines[number]) + 1
                        number += 1
                    value, _, rest = value.partition('"""')
                    if rest.strip():
                        raise _bad(first)
                self.value(key, value, start, first)
        root = self.root
        if not self.root.items[0][1].items:
            del root.items[0], root.keys_at[0]
        if self.flat:
            root.items.append((METADATA, nested(self.flat)))
            root.keys_at.append((len(self.text), len(self.text)))
        return Parsed([root], False, self.duplicates)

    def header(self, line: str, start: int, number: int) -> None:
        end = line.find("]")
        name = line[1:end].strip()
        if end < 0 or not name or line[end + 1 :].strip():
            raise _bad(number)
        self.in_metadata = name == METADATA
        if self.in_metadata:
            self.comments = []
            return
        if any(key == name for key, _ in self.root.items) and name != DEFAULT:
            self.duplicates.append((0, number))
        self.section = self.root.items[0][1] if name == DEFAULT else self.open(name, start, number)
        # A section's comment is the first item inside it.
        self.settle()

    def settle(self) -> None:
        if self.comments:
            first, last = self.comments[0], self.comments[-1]
            text = "\n".join(comment.text for comment in self.comments)
            self.section.items.append((PlacedComment(text, first.start, last.end, first.line, False), None))
            self.section.keys_at.append((first.start, last.end))
            self.comments = []

    def pair(self, line: str, number: int) -> tuple[str, str]:
        # The delimiter is the first of `=` and `:`; sops writes `=`.
        places = [at for at in (line.find("="), line.find(":")) if at > 0]
        if not places or line[0] in "\"'`":
            raise _bad(number)
        at = min(places)
        return line[:at].rstrip(), line[at + 1 :].strip()

    def value(self, key: str, value: str, start: int, number: int) -> None:
        if (value[:1] == "`" and value[-1:] == "`" and len(value) > 1) or (
            value[:1] in ('"', "'") and value[-1:] == value[0] and len(value) > 1
        ):
            value = value[1:-1]
        if self.in_metadata:
            self.flat.append((key, value.replace("\\n", "\n")))
            self.comments = []
            return
        if any(name == key for name, _ in self.section.items):
            self.duplicates.append((0, number))
        node: Any = Scalar(value, start, start, number, True)
        self.section.items.append((key, node))
        self.section.keys_at.append((start, start + len(key)))
        # A key's comment comes after it, so that it selects the key that follows (spec 5.2).
        self.settle()


def parse(text: str) -> Parsed:
    """The one document of an encrypted INI file: a mapping of sections."""
    return _Reader(text).run()
