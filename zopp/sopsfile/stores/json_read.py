"""JSON text to a placed tree (spec sops-compat 7.1). Truncation, trailing text and lone surrogates are errors here."""

from __future__ import annotations

import re

from zopp.errors import FormatError
from zopp.sopsfile.cst import Map, Parsed, Scalar, Seq
from zopp.sopsfile.scan import MAX_DEPTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"([^"\\\x00-\x1f]*)"')
_ESCAPED = re.compile(r'"((?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)"')
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_SIMPLE = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: tuple[tuple[str, Any], ...] = (("true", True), ("false", False), ("null", None))


def parse(text: str, *, strict: bool = True, new: bool = False) -> Parsed:
    """The one document of a JSON file. FormatError with a stable code; `strict` also for repeated keys, `new`
    (plaintext about to be encrypted) for integers beyond 64 bits, which a stored file may hold as rounded floats."""
    reader = _Reader(text, strict, new)
    node = reader.whole()
    if not isinstance(node, Map):
        raise reader.bad("the top level of the file is not a mapping", "not_a_mapping", 0)
    return Parsed([node], False, reader.duplicates)


def parse_value(text: str) -> Any:
    """The placed node of any JSON value that is the whole text, as strict as `parse`."""
    return _Reader(text, True, False).whole()


class _Reader:
    def __init__(self, text: str, strict: bool, new: bool) -> None:
        self.text = text
        self.strict = strict
        self.new = new
        self.at = 0
        self.duplicates: list[tuple[int, int]] = []
        self._line, self._line_at = 1, 0

    def whole(self) -> Any:
        node = self.value(self.space(0), 0)
        if self.space(self.at) != len(self.text):
            raise self.bad("text stands after the JSON value", "trailing", self.at)
        return node

    def bad(self, message: str, code: str, at: int) -> FormatError:
        return FormatError(message, code=code, place=f"line {self.text.count(chr(10), 0, at) + 1}")

    def line(self, at: int) -> int:
        """The line of an offset; offsets come in rising order."""
        self._line += self.text.count("\n", self._line_at, at)
        self._line_at = at
        return self._line

    def space(self, at: int) -> int:
        match = _SPACE.match(self.text, at)
        assert match is not None
        return match.end()

    def value(self, at: int, depth: int) -> Any:
        text = self.text
        char = text[at : at + 1]
        if char == '"':
            line = self.line(at)
            value = self.string(at)
            return Scalar(value, at, self.at, line, False)
        if char in ("{", "[") and char:
            if depth >= MAX_DEPTH:
                raise self.bad("the document is nested too deeply", "too_deep", at)
            return self.mapping(at, depth) if char == "{" else self.sequence(at, depth)
        line = self.line(at)
        match = _NUMBER.match(text, at)
        if match:
            self.at = match.end()
            return Scalar(self.number(match, at), at, self.at, line, True)
        for word, value in _WORDS:
            if text.startswith(word, at):
                self.at = at + len(word)
                return Scalar(value, at, self.at, line, True)
        raise self.bad("the file is not valid JSON", "bad_json" if char else "truncated", at)

    def number(self, match: re.Match[str], at: int) -> int | float:
        if match[1] is None and match[2] is None:
            digits = match[0]
            if digits == "-0":
                return -0.0
            if len(digits) <= 20 and -(1 << 63) <= int(digits) < 1 << 63:
                return int(digits)
            if self.new:
                raise self.bad("an integer does not fit 64 bits", "int_range", at)
        number = float(match[0])
        if number in (float("inf"), float("-inf")):
            raise self.bad("a number is out of range", "number_range", at)
        return number

    def string(self, at: int) -> str:
        match = _STRING.match(self.text, at)
        if match:
            self.at = match.end()
            return match[1]
        match = _ESCAPED.match(self.text, at)
        if not match:
            raise self.bad("a JSON string is not closed or malformed", "truncated", at)
        self.at = match.end()
        value = _ESCAPE.sub(self.escape, match[1])
        try:
            # Escaped pairs become one character; a half that is left over cannot be encoded.
            return value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self.bad("a string holds half of a surrogate pair", "lone_surrogate", at) from None

    def escape(self, match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if code[0] == "u" else _SIMPLE[code]

    def mapping(self, at: int, depth: int) -> Map:
        text = self.text
        node = Map(at, self.line(at), at - (text.rfind("\n", 0, at) + 1), True)
        seen: set[str] = set()
        at = self.space(at + 1)
        if text[at : at + 1] == "}":
            self.at = node.end = at + 1
            return node
        while True:
            if text[at : at + 1] != '"':
                raise self.bad("the file is not valid JSON", "bad_json" if at < len(text) else "truncated", at)
            line = self.line(at)
            key = self.string(at)
            if key in seen:
                self.duplicates.append((0, line))
                if self.strict:
                    raise self.bad("a key stands twice in one mapping", "duplicate_key", at)
            seen.add(key)
            key_at = (at, self.at)
            at = self.space(self.at)
            if text[at : at + 1] != ":":
                raise self.bad("the file is not valid JSON", "bad_json" if at < len(text) else "truncated", at)
            value = self.value(self.space(at + 1), depth + 1)
            node.items.append((key, value))
            node.keys_at.append(key_at)
            at = self.space(self.at)
            char = text[at : at + 1]
            if char == "}":
                self.at = node.end = at + 1
                return node
            if char != ",":
                raise self.bad("the file is not valid JSON", "bad_json" if char else "truncated", at)
            at = self.space(at + 1)

    def sequence(self, at: int, depth: int) -> Seq:
        text = self.text
        node = Seq(at, self.line(at), at - (text.rfind("\n", 0, at) + 1), True)
        at = self.space(at + 1)
        if text[at : at + 1] == "]":
            self.at = node.end = at + 1
            return node
        while True:
            item = self.value(at, depth + 1)
            node.items.append(item)
            node.dashes.append(item.start)
            at = self.space(self.at)
            char = text[at : at + 1]
            if char == "]":
                self.at = node.end = at + 1
                return node
            if char != ",":
                raise self.bad("the file is not valid JSON", "bad_json" if char else "truncated", at)
            at = self.space(at + 1)
