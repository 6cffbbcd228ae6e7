"""The strict line reader for YAML as sops writes it (spec performance 2). Lean.

Block style only: one key or list item a line, values in one line, `sops:` last. No anchors, tags, flow collections,
documents, tabs, CRLF, folded text: those go to the full parser.
"""

from zopp.errors import FormatError
from zopp.sopsfile import metadata as meta, plainscalar
from zopp.sopsfile.lines import Marks, tree_of
from zopp.sopsfile.scan import COMMENT, MAX_DEPTH, SELECTED, Block, Field, Scan
from zopp.sopsfile.selectors import DEFAULT_SELECTOR
from zopp.sopsfile.tree import Comment, Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from zopp.sopsfile.scan import Leaf

_NOT_KEYS = frozenset(("null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE"))
_MISS = object()
_MAX_PLAIN = 200_000


def scan(text: str, fmt: str) -> "Scan | None":
    """The Scan of a file, or None: ask the full parser. FormatError means the same."""
    cut = text.find("\nsops:\n") + 1
    # One sweep in C rules out tabs, CR, control characters and Unicode line ends.
    if not cut or text[-1] != "\n" or not text.replace("\n", "").isprintable():
        return None
    found = _metadata(text, cut)
    if found is None:
        return None
    block, plain = found
    metadata = meta.Metadata(plain)
    meta.check_strict(metadata)
    if metadata.selector.by_comment:
        return None
    leaves = _Body(Marks(metadata.selector)).read(text[: cut - 1].split("\n"))
    return None if leaves is None else Scan(text, fmt, leaves, metadata, [block])


class _NoMarks(Marks):
    """For a text in which nothing is selected."""

    __slots__ = ()

    def __call__(self, key: str) -> bool:
        return False


def plain(text: str) -> "Mapping | None":
    """The one document of a plain YAML text that is laid out as above and holds nothing of sops; None: ask the full
    parser, which reads the same (a property test)."""
    if text[-1:] != "\n" or "ENC[" in text or not text.replace("\n", "").isprintable():
        return None
    lines = text[:-1].split("\n")
    if len(lines) > _MAX_PLAIN:
        return None
    try:
        leaves = _Body(_NoMarks(DEFAULT_SELECTOR)).read(lines)
    except FormatError:
        return None
    if not leaves or all(leaf[0] & COMMENT for leaf in leaves):
        return None
    return tree_of(leaves, [Comment(leaf[3]) if leaf[0] & COMMENT else leaf[3] for leaf in leaves])


def scalar(text: str) -> "Any":
    """The value of a one-line scalar, or _MISS."""
    first = text[0]
    if first == '"' or first == "'":
        inner = text[1:-1]
        if len(text) < 2 or text[-1] != first or first in inner or (first == '"' and "\\" in inner):
            return _MISS
        return inner
    if text == "[]":
        return Sequence()
    if text == "{}":
        return Mapping()
    if not (first.isalnum() or first in "_./+" or (first == "-" and text[1:2].isalnum())) or text[-1] in ": ":
        return _MISS
    if ": " in text or " #" in text or not text.isascii():
        return _MISS
    return plainscalar.resolve(text)


def key_of(text: str) -> "str | None":
    """The key that this text stands for, or None."""
    if text.isidentifier():
        return text if text not in _NOT_KEYS and text.isascii() else None
    if not text:
        return None
    if text[0] == '"':
        inner = text[1:-1]
        return inner if len(text) > 2 and text[-1] == '"' and '"' not in inner and "\\" not in inner else None
    if (text[0].isalpha() or text[0] == "_") and text.isascii():
        bare = text.replace("-", "_").replace(".", "_").replace("/", "_")
        return text if bare.isidentifier() else None
    return None


class _Open:
    """An open container; `column` is that of its keys or dashes."""

    __slots__ = ("aad", "column", "hit", "index", "path", "seen")

    def __init__(self, column: int, path: "tuple[Any, ...]", aad: str, hit: bool, listing: bool) -> None:
        self.column = column
        self.path = path
        self.aad = aad
        self.hit = hit
        # Of a list: the number of its items so far. Of a mapping: -1.
        self.index = 0 if listing else -1
        self.seen: "set[str]" = set()


class _Body:
    """The values part of a file, line by line."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.leaves: "list[Leaf]" = []
        self.stack = [_Open(0, (), "", False, False)]
        self.stack[0].seen.add("sops")
        # The path, additional data and match of a key or dash whose value must follow on deeper lines.
        self.pending: "tuple[int, tuple[Any, ...], str, bool] | None" = None
        self.comments: "list[tuple[int, int, str, int]]" = []

    def read(self, lines: "list[str]") -> "list[Leaf] | None":
        leaves = self.leaves
        marks, kinds = self.marks, self.marks.selected
        position = number = 0
        top = self.stack[-1]
        pad = ""
        fast = 0
        for line in lines:
            number += 1
            at = position
            position += len(line) + 1
            head, _, rest = line.partition(": ")
            # The shape of nearly every line: a key of the mapping that is open, and a value.
            if (
                rest
                and head[:fast] == pad
                and (key := head[fast:]).isidentifier()
                and key not in top.seen
                and key not in _NOT_KEYS
                and key.isascii()
                and not self.comments
                and self.pending is None
                and top.index < 0
            ):
                if rest[:15] != "ENC[AES256_GCM,":
                    found = scalar(rest)
                    if found is _MISS:
                        return None
                elif rest[-1] == "]" and " " not in rest:
                    found = rest
                else:
                    found = _MISS  # a comment behind it
                if found is not _MISS:
                    top.seen.add(key)
                    hit = top.hit or marks(key)
                    start = at + len(head) + 2
                    leaves.append(
                        (kinds[hit], (*top.path, key), f"{top.aad}{key}:", found, start, position - 1, number, 0)
                    )
                    continue
            if not line:
                continue
            body = line.lstrip(" ")
            column = len(line) - len(body)
            if not body or body[-1] == " ":
                return None
            if body[0] == "#":
                if self.comments and column > self.comments[-1][0]:
                    return None
                self.comments.append((column, at + column + 1, body[1:], number))
                continue
            if not self.content(body, column, at, number):
                return None
            top = self.stack[-1]
            fast = top.column
            pad = " " * fast
        if self.pending is not None or not self.close(0):
            return None
        self.settle(self.stack[:1])
        return None if self.comments else leaves

    def close(self, column: int) -> bool:
        """Leave the containers that a line at `column` ends, comments at their column with them."""
        stack = self.stack
        left = []
        while stack and stack[-1].column > column:
            left.append(stack.pop())
        if not stack or stack[-1].column != column:
            return False
        if self.comments and left:
            self.settle(left)
        return True

    def settle(self, owners: "list[_Open]") -> None:
        """Give the comments at the columns of `owners` (deepest first) to them; what is left waits."""
        for owner in owners:
            while self.comments and self.comments[0][0] == owner.column:
                _, start, text, line = self.comments.pop(0)
                kind = COMMENT | self.marks.selected[owner.hit]
                aad = owner.aad or ":"
                self.leaves.append((kind, owner.path, aad, text, start, start + len(text), line, 0))

    def content(self, body: str, column: int, at: int, number: int) -> bool:
        """One key or list item; false: ask the parser."""
        stack = self.stack
        pending = self.pending
        dash = body[:2] == "- "
        if pending is not None:
            floor, path, aad, hit = pending
            if column <= floor:
                return False  # a null, or a list at its key's own column
            if any(comment[0] != column for comment in self.comments):
                return False
            stack.append(_Open(column, path, aad, hit, dash))
            if len(stack) > MAX_DEPTH // 2:
                return False
            self.pending = None
        elif not self.close(column):
            return False
        top = stack[-1]
        if dash != (top.index >= 0) or (column == 0 and body[:3] in ("---", "...")):
            return False
        if self.comments:
            self.settle([top])
            if self.comments:
                return False
        offset = at + column
        return self.item(body, column, offset, number) if dash else self.entry(body, column, offset, number)

    def item(self, body: str, column: int, offset: int, number: int) -> bool:
        top = self.stack[-1]
        rest = body[2:]
        if not rest or rest[0] == " ":
            return False
        path = (*top.path, top.index)
        if rest[:15] == "ENC[AES256_GCM," and rest[-1] == "]" and " " not in rest:
            kind = self.marks.selected[top.hit]
            aad = top.aad or ":"
            if kind and rest.endswith(",type:comment]"):
                leaf = (COMMENT | SELECTED, top.path, aad, rest, offset + 2, offset + len(body), number, 0)
            else:
                leaf = (kind, path, aad, rest, offset + 2, offset + len(body), number, 0)
                top.index += 1
            self.leaves.append(leaf)
            return True
        if rest[-15:].find(",type:comment]") >= 0:
            return False  # a comment in some other dress
        top.index += 1
        if rest[:2] == "- ":
            self.stack.append(_Open(column + 2, path, top.aad, top.hit, True))
            return len(self.stack) <= MAX_DEPTH // 2 and self.item(rest, column + 2, offset + 2, number)
        head, colon, _ = rest.partition(": ")
        if (colon or rest[-1] == ":") and key_of(head if colon else rest[:-1]) is not None:
            self.stack.append(_Open(column + 2, path, top.aad, top.hit, False))
            return len(self.stack) <= MAX_DEPTH // 2 and self.entry(rest, column + 2, offset + 2, number)
        return self.value(rest, path, top.aad, top.hit, top, offset + 2, number)

    def entry(self, body: str, column: int, offset: int, number: int) -> bool:
        top = self.stack[-1]
        head, colon, rest = body.partition(": ")
        if not colon:
            if body[-1] != ":":
                return False
            head = body[:-1]
        key = key_of(head)
        if key is None or key in top.seen:
            return False
        top.seen.add(key)
        path, aad, hit = (*top.path, key), f"{top.aad}{key}:", top.hit or self.marks(key)
        if not rest:
            self.pending = (column, path, aad, hit)
            return not colon
        return self.value(rest, path, aad, hit, top, offset + len(head) + 2, number)

    def value(
        self, rest: str, path: "tuple[Any, ...]", aad: str, hit: bool, top: _Open, start: int, number: int
    ) -> bool:
        behind = rest.find("] #")
        if behind > 0 and rest[:15] == "ENC[AES256_GCM," and " " not in rest[:behind]:
            # 3.13 keeps a comment behind its value; it belongs to the container and comes before the value.
            text = rest[behind + 3 :]
            kind = COMMENT | self.marks.selected[top.hit]
            place = start + behind + 3
            self.leaves.append((kind, top.path, top.aad or ":", text, place, place + len(text), number, 0))
            rest = rest[: behind + 1]
        if rest[:15] == "ENC[AES256_GCM,":
            if " " in rest or rest[-1] != "]":
                return False
            found: "Any" = rest
        else:
            found = scalar(rest)
            if found is _MISS:
                return False
        kind = self.marks.selected[hit]
        self.leaves.append((kind, path, aad or ":", found, start, start + len(rest), number, 0))
        return True


def _metadata(text: str, cut: int) -> "tuple[Block, dict[str, Any]] | None":
    """The block at `cut`, which must reach the end of the file, and its plain content."""
    lines = text[cut:-1].split("\n")
    reader = _Block(lines, cut)
    column = len(lines[1]) - len(lines[1].lstrip(" ")) if len(lines) > 1 else 0
    if column == 0:
        return None
    reader.at, reader.position = 1, cut + len(lines[0]) + 1
    fields: "list[Field]" = []
    plain = reader.mapping(column, fields, 0)
    if plain is None or reader.at != len(lines):
        return None
    return Block(cut, len(text), column, False, fields), plain


class _Block:
    """A recursive reader for the little YAML of a `sops` block. None means: ask the parser."""

    def __init__(self, lines: "list[str]", position: int) -> None:
        self.lines = lines
        self.at = 0
        self.position = position
        # The end of the last scalar, which ends the containers around it.
        self.end = 0

    def column(self) -> int:
        """The column of the next line's content, -1 at the end."""
        if self.at == len(self.lines):
            return -1
        line = self.lines[self.at]
        return len(line) - len(line.lstrip(" ")) if line else -2

    def advance(self) -> None:
        self.position += len(self.lines[self.at]) + 1
        self.at += 1

    def mapping(self, column: int, fields: "list[Field] | None", inset: int) -> "dict[str, Any] | None":
        """The mapping whose keys stand at `column`; its first key may follow a dash `inset` columns before."""
        plain: "dict[str, Any]" = {}
        first = True
        if column > 40:
            return None
        while (first and inset) or self.column() == column:
            line = self.lines[self.at]
            start = self.position
            body = line[column:]
            first = False
            head, colon, rest = body.partition(": ")
            if not colon:
                if body[-1:] != ":":
                    return None
                head = body[:-1]
            if (
                not head.isidentifier()
                or not head.isascii()
                or head in plain
                or head in _NOT_KEYS
                or (colon and not rest)
            ):
                return None
            key_at = (start + column, start + column + len(head))
            value_start = key_at[1] + 2
            self.advance()
            if not rest:
                value_start = self.position + max(self.column(), 0)
            value = self.value(rest, column, value_start)
            if value is _MISS:
                return None
            plain[head] = value
            if fields is not None:
                fields.append(Field(head, start, key_at, (value_start, self.end), self.position))
        return plain or None

    def value(self, rest: str, column: int, start: int) -> "Any":
        if not rest:
            deeper = self.column()
            if deeper <= column:
                return _MISS
            if self.lines[self.at][deeper : deeper + 2] == "- ":
                return self.sequence(deeper)
            plain = self.mapping(deeper, None, 0)
            return _MISS if plain is None else plain
        if rest == "|":
            return self.literal(column)
        self.end = start + len(rest)
        if rest[:4] == "ENC[":
            return rest if " " not in rest and rest[-1] == "]" else _MISS
        if rest[-1] == " ":
            return _MISS
        found = _word(rest)
        if isinstance(found, (Mapping, Sequence)):
            return {} if isinstance(found, Mapping) else []
        return found

    def sequence(self, column: int) -> "Any":
        made: "list[Any]" = []
        while self.column() == column:
            body = self.lines[self.at][column:]
            if body[:2] != "- " or body[2:3] in ("", " ", "-"):
                return _MISS
            plain = self.mapping(column + 2, None, 2)
            if plain is None:
                return _MISS
            made.append(plain)
        return made

    def literal(self, column: int) -> "Any":
        deeper = self.column()
        if deeper <= column:
            return _MISS
        pad = " " * deeper
        made = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line[:deeper] != pad or line[deeper : deeper + 1] in ("", " "):
                break
            made.append(line[deeper:])
            self.advance()
        after = self.column()
        if after == -2 or after > column or "" in made:
            return _MISS
        self.end = self.position
        return "\n".join(made) + "\n"


def _word(rest: str) -> "Any":
    """A scalar of the block: a selector's regex may hold what a value may not begin with."""
    if rest[0] in "^(\\$" and ": " not in rest and " #" not in rest and rest[-1] != ":" and rest.isascii():
        return rest
    return scalar(rest)
