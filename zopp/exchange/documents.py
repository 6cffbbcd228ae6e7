"""JSON, YAML, TOML and CSV as importers read them: one strict tree with lines, and no text of the input in an error.

YAML goes through `sopsfile.stores.yaml_read`, not PyYAML's loaders: it has lines and comments, refuses keys that stand
twice, and means what sops will mean by the same file. Where YAML readers differ about a value without quotes (dates,
`yes`, `0123`, `1_000`, `1.10`) the value gets a rule instead of a meaning. Aliases are followed within bounds; merge
keys and tags that are not YAML's own are rules, too.

Every door raises FormatError and nothing else. Not done here: which names may be keys, and sizes of single values
(`plan`). Source: importers.md §1 (10, 12), §7.
"""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from zopp import sopsfile
from zopp.errors import FormatError
from zopp.exchange.entry import Key, Plain
from zopp.exchange.scalars import from_bytes, scalar_text
from zopp.sopsfile import plainscalar
from zopp.sopsfile.cst import Map, PlacedComment, Scalar
from zopp.sopsfile.stores import json_read, yaml_read

MAX_BYTES = 1 << 23
# tomllib keeps every prefix of a dotted key: what is long in the square of its parts must not be long.
MAX_TOML = 1 << 20
_MAX_PARTS = 32
# What aliases may blow a document up to.
MAX_VALUES = 100_000
MAX_TEXT = 1 << 26
MAX_DEPTH = 100

RULES = {
    "unquoted": "without quotes readers take this value for different things; put quotes around it",
    "number": "a number that not every reader keeps as it is; put quotes around it",
    "tag": "a tag that is not one of YAML's own",
    "merge-key": "a merge key (<<), which not every reader follows",
    "not-text": "not a text",
    "date": "a date without quotes; put quotes around it",
}


@dataclass(frozen=True, slots=True)
class Value:
    """A scalar. `line` counts from 1, 0 where it is not known. `rule`: why `value` must not be taken as it stands."""

    value: Plain = field(repr=False)
    line: int = 0
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A list."""

    items: tuple[Node, ...] = field(repr=False)
    line: int = 0
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A map, in order. An item is (key, node, note): the note is the comments above the key and beside it."""

    items: tuple[tuple[str, Node, str], ...] = field(repr=False)
    line: int = 0
    rule: str = ""

    def get(self, key: str) -> Node | None:
        """What stands under `key`, None if nothing does."""
        return next((node for name, node, _ in self.items if name == key), None)

    def text(self, key: str) -> str:
        """The text under `key`, '' if there is none or it is something else."""
        return as_text(self.get(key)) or ""


Node = Value | Row | Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaf:
    """One value of a document under the key by which it would be a secret: a list is one value, an empty map, too."""

    key: Key
    value: Plain = field(repr=False)
    line: int = 0
    note: str = field(default="", repr=False)
    rule: str = ""


def as_text(node: Node | None) -> str | None:
    """The text that a node is, None for everything else and for what readers differ about."""
    return node.value if isinstance(node, Value) and isinstance(node.value, str) and not node.rule else None


def leaves(table: Table) -> Iterator[Leaf]:
    """The leaves of a document in order."""
    return _leaves(table, (), "")


def _leaves(table: Table, above: Key, rule: str) -> Iterator[Leaf]:
    rule = rule or table.rule
    for name, node, note in table.items:
        key = (*above, name)
        if isinstance(node, Table) and node.items:
            yield from _leaves(node, key, rule)
        else:
            yield Leaf(key=key, value=plain(node), line=node.line, note=note, rule=rule or rule_of(node))


def plain(node: Node) -> Plain:
    """The node as dicts, lists and scalars; whether they may be taken says `rule_of`."""
    if isinstance(node, Value):
        return node.value
    if isinstance(node, Row):
        return [plain(item) for item in node.items]
    return {name: plain(item) for name, item, _ in node.items}


def rule_of(node: Node) -> str:
    """The first rule that the node or something below it breaks, '' if none."""
    if node.rule or isinstance(node, Value):
        return node.rule
    below = node.items if isinstance(node, Row) else [item for _, item, _ in node.items]
    return next((rule for item in below if (rule := rule_of(item))), "")


# --- JSON and YAML


def json(data: bytes) -> Node:
    """One JSON value. A number that would not be written again as it stands gets the rule `number`."""
    text = _text(data)
    return _guarded(lambda: _Tree(text, "json").node(json_read.parse_value(text), 0))


def yaml(data: bytes) -> list[Table]:
    """The documents of a YAML stream; one that is empty is an empty map, any other that is no map an error."""
    text = _text(data)

    def read() -> list[Table]:
        tree = _Tree(text, "yaml")
        return [_table(tree.node(document, 0)) for document in yaml_read.parse(text).documents]

    return _guarded(read)


def one_yaml(data: bytes) -> Table:
    """The only document of a YAML stream that is not empty; FormatError if there are several."""
    documents = [document for document in yaml(data) if document.items] or [Table(())]
    if len(documents) > 1:
        raise FormatError("the file holds several documents", code="several_documents", place=_at(documents[1].line))
    return documents[0]


def of_tree(document: sopsfile.Mapping, lines: Mapping[Key, int], *, note_below: bool = False) -> Table:
    """A decrypted sops document. `lines`: of its leaves, by path. `note_below`: comments follow what they are about,
    as in INI. Times stay what they are, but in a list they are text."""
    tree = _Tree("", "sops", lines, note_below)
    return _guarded(lambda: _table(tree.node(document, 0)))


_Read = TypeVar("_Read")


def _guarded(read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except RecursionError:
        raise FormatError("the document is nested too deeply", code="too_deep") from None


def _table(node: Node) -> Table:
    assert isinstance(node, Table)  # every reader here refuses other documents
    return node


def _text(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise FormatError(f"more than {MAX_BYTES >> 20} MiB", code="document_size")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise FormatError("not UTF-8", code="not_utf8", place=_at(data.count(b"\n", 0, exc.start) + 1)) from None


def _at(line: int) -> str:
    return f"line {line}" if line else ""


class _Tree:
    """From a placed or a plain tree to nodes, within bounds."""

    def __init__(self, text: str, form: str, lines: Mapping[Key, int] | None = None, note_below: bool = False) -> None:
        self.text, self.form, self.lines, self.note_below = text, form, lines or {}, note_below
        self.values = MAX_VALUES
        self.room = MAX_TEXT

    def node(self, node: Any, depth: int, path: Key = (), *, in_list: bool = False) -> Node:
        self.values -= 1
        if self.values < 0:
            raise FormatError("the document has too many values", code="too_large")
        if depth > MAX_DEPTH:
            raise FormatError("the document is nested too deeply", code="too_deep")
        line = getattr(node, "line", 0) or self.lines.get(path, 0)
        if isinstance(node, sopsfile.Mapping):
            rule = _tag_rule(self._tags(node))
            if self.form == "yaml" and not rule and "<<" in node:
                rule = "merge-key"
            return Table(self._items(node, depth, path, in_list), line, rule)
        if isinstance(node, sopsfile.Sequence):
            items = [self.node(item, depth + 1, in_list=True) for item in node.nodes()]
            return Row(tuple(items), line, _tag_rule(self._tags(node)))
        return self._scalar(node, line, in_list)

    def _items(self, node: sopsfile.Mapping, depth: int, path: Key, in_list: bool) -> tuple[tuple[str, Node, str], ...]:
        made: list[tuple[str, Node, str]] = []
        comments: list[sopsfile.Comment] = []
        for at, (key, item) in enumerate(node.items):
            if not isinstance(key, sopsfile.Comment):
                self._take(key)
                below = self.node(item, depth + 1, (*path, key), in_list=in_list)
                if isinstance(node, Map) and comments:
                    comments = self._beside(comments, node.keys_at[at][0])
                made.append((key, below, "" if self.note_below else _note([one.text for one in comments])))
                comments = []
            elif self.note_below and made and not made[-1][2]:
                made[-1] = (*made[-1][:2], _note(key.text.split("\n")))
            else:
                comments.append(key)
        return tuple(made)

    def _beside(self, comments: list[sopsfile.Comment], key_at: int) -> list[sopsfile.Comment]:
        """Those without a blank line between them and the key: others are headings."""
        kept: list[sopsfile.Comment] = []
        for comment in reversed(comments):
            assert isinstance(comment, PlacedComment)
            if not comment.inline:
                if self.text.count("\n", comment.end, key_at) > 1:
                    break
                key_at = comment.start
            kept.append(comment)
        return kept[::-1]

    def _take(self, text: str) -> None:
        self.room -= len(text)
        if self.room < 0:
            raise FormatError("the document has too much text", code="too_large")

    def _scalar(self, node: Any, line: int, in_list: bool) -> Value:
        value = node.value if isinstance(node, Scalar) else node
        rule = ""
        if isinstance(node, Scalar):
            tags = self._tags(node)
            rule = _tag_rule(tags) or (self._spelled(node) if node.plain and not tags else "")
        if isinstance(value, bytes):
            value = from_bytes(value)
        elif isinstance(value, sopsfile.Timestamp) and (in_list or self.form != "sops"):
            value = value.text
        elif isinstance(value, float) and not math.isfinite(value):
            value, rule = scalar_text(value), rule or "number"
        if isinstance(value, str):
            self._take(value)
        return Value(value, line, rule)

    def _spelled(self, node: Scalar) -> str:
        """The rule for a scalar without quotes: what it stands for must be what stands there."""
        value = node.value
        if self.form == "yaml" and isinstance(value, str):
            # sops quotes what YAML 1.1 takes for something else; long digits are numbers to readers without a limit.
            old = "\n" not in value and value.isprintable() and plainscalar.style(value) == "double"
            return "unquoted" if old or not value.strip("+-0123456789_") else ""
        if value is None or isinstance(value, bool):
            return ""
        written = _PROPERTIES.sub("", self.text[node.start : node.end])
        if not isinstance(value, sopsfile.Timestamp) and scalar_text(value) == written:
            return ""
        return "unquoted" if self.form == "yaml" else "number"

    def _tags(self, node: Any) -> list[str]:
        if self.form != "yaml" or self.text[node.start : node.start + 1] not in ("!", "&"):
            return []
        properties = _PROPERTIES.match(self.text, node.start)
        return [word for word in properties[0].split() if word[0] == "!"] if properties else []


def _tag_rule(tags: list[str]) -> str:
    return "tag" if any(tag not in _OWN_TAGS for tag in tags) else ""


# What may stand before a YAML node: anchor and tag.
_PROPERTIES = re.compile(r"(?:[!&][^\s]*\s+)+")
_OWN_TAGS = frozenset("!!" + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "binary"))


def _note(comments: list[str]) -> str:
    """Comments as a note: rulers say nothing, and a comment that could not be decrypted is none."""
    lines = [line for text in comments if (line := text.strip()).strip("#=-*~_+ ") and not line.startswith("ENC[")]
    return "\n".join(lines)


# --- TOML


_DOTTED = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){%d}""" % _MAX_PARTS  # noqa: UP031
)


def toml(data: bytes) -> Table:
    """A TOML document of at most 1 MiB. Lines of values and comments are not known here. Dates get the rule `date`."""
    found = toml_table(data)
    return _table(_guarded(lambda: _of_toml(found, 0)))


def toml_table(data: bytes) -> dict[str, Any]:
    """A TOML document of at most 1 MiB as tomllib has it, within bounds that tomllib lacks."""
    if len(data) > MAX_TOML:
        raise FormatError(f"more than {MAX_TOML >> 20} MiB", code="document_size")
    text = _text(data)
    if long := _DOTTED.search(text):
        line = text.count("\n", 0, long.start()) + 1
        raise FormatError(f"a name of more than {_MAX_PARTS} parts with dots", code="too_deep", place=_at(line))
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise FormatError("the document is nested too deeply", code="too_deep") from None
    except ValueError as exc:  # its text may quote the input
        at = re.search(r"\(at line (\d+), column \d+\)$", str(exc))
        raise FormatError("not TOML", code="bad_toml", place=f"line {at[1]}" if at else "") from None


def _of_toml(value: Any, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise FormatError("the document is nested too deeply", code="too_deep")
    if isinstance(value, dict):
        return Table(tuple([(key, _of_toml(item, depth + 1), "") for key, item in value.items()]))
    if isinstance(value, list):
        return Row(tuple([_of_toml(item, depth + 1) for item in value]))
    if isinstance(value, (datetime.date, datetime.time)):
        return Value(value.isoformat(), rule="date")
    if (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, int) and not -(1 << 63) <= value < 1 << 63
    ):
        return Value("", rule="number")
    return Value(value)


# --- CSV


def csv(data: bytes, *, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """(line, fields) of each record that is not blank, by RFC 4180 to the letter: a quote inside a field without
    quotes, text behind a closing quote, a lone carriage return and an unclosed quote are errors."""
    text = _text(data)
    records: list[tuple[int, list[str]]] = []
    fields: list[str] = []
    at, line, begun = 0, 1, 1
    bare = re.compile(f'[^{re.escape(delimiter)}"\r\n]*')
    quoted = re.compile('"((?:[^"]++|"")*+)"')  # possessive, so that an unclosed quote costs no square
    end = re.compile(f"{re.escape(delimiter)}|\r?\n|\\Z")
    while at < len(text):
        found = quoted.match(text, at) or bare.match(text, at)
        assert found is not None
        closing = end.match(text, found.end())
        if closing is None:
            open_quote = text[at] == '"' and not quoted.match(text, at)
            rule = "a quote that is not closed" if open_quote else "a quote or a carriage return inside a field"
            raise FormatError(rule, code="bad_csv", place=_at(line))
        value = found[1].replace('""', '"') if found.re is quoted else found[0]
        line += found[0].count("\n")
        fields.append(value)
        at = closing.end()
        if closing[0] == delimiter and at == len(text):
            fields.append("")
        if closing[0] != delimiter or at == len(text):
            if fields != [""]:
                records.append((begun, fields))
            fields = []
            line += closing[0].count("\n")
            begun = line
            if len(records) > MAX_VALUES:
                raise FormatError("the file has too many records", code="too_large")
    return records
