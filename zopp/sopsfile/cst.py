"""A parsed file with the place of everything in it, and its flattening into leaves (spec sops-compat 2, 3.2, 5).

The nodes are the plaintext tree's own, with offsets added, so one walk serves a file (values still encrypted) and a
plaintext tree (values about to be). The walk decides additional data and selection, and it alone.
"""

from __future__ import annotations

from zopp.errors import FormatError
from zopp.sopsfile.scan import COMMENT, MAX_DEPTH, SELECTED
from zopp.sopsfile.selectors import Selector
from zopp.sopsfile.tree import Comment, Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from zopp.sopsfile.scan import Leaf

# An alias repeats what it names; beyond this many leaves a file is an attack, not a secret store.
MAX_LEAVES = 1_000_000


class Scalar:
    """A scalar with its resolved value; `plain` says that it stands without quotes."""

    __slots__ = ("end", "line", "plain", "start", "value")

    def __init__(self, value: Any, start: int, end: int, line: int, plain: bool) -> None:
        self.value = value
        self.start = start
        self.end = end
        self.line = line
        self.plain = plain


class PlacedComment(Comment):
    """A comment line; `start` is the offset of the text after its `#`."""

    __slots__ = ("end", "line", "start")

    def __init__(self, text: str, start: int, end: int, line: int, inline: bool) -> None:
        super().__init__(text, inline)
        self.start = start
        self.end = end
        self.line = line


class Map(Mapping):
    """`keys_at` runs beside `items`: the span of each key (of a comment: its own)."""

    __slots__ = ("column", "end", "flow", "keys_at", "line", "start")

    def __init__(self, start: int, line: int, column: int, flow: bool) -> None:
        super().__init__()
        self.start = start
        self.end = start
        self.line = line
        self.column = column
        self.flow = flow
        self.keys_at: list[tuple[int, int]] = []


class Seq(Sequence):
    """`dashes` runs beside `items` in block style: the offset of each item's dash."""

    __slots__ = ("column", "dashes", "end", "flow", "line", "start")

    def __init__(self, start: int, line: int, column: int, flow: bool) -> None:
        super().__init__()
        self.start = start
        self.end = start
        self.line = line
        self.column = column
        self.flow = flow
        self.dashes: list[int] = []


class Parsed:
    """Documents of a file; `aliases` says that some node stands in several places, `duplicates` the lines of
    repeated keys."""

    __slots__ = ("aliases", "documents", "duplicates")

    def __init__(
        self, documents: list[Map], aliases: bool = False, duplicates: list[tuple[int, int]] | None = None
    ) -> None:
        self.documents = documents
        self.aliases = aliases
        self.duplicates = duplicates or []


class Walk:
    """One walk over a document in order: who is a leaf, under which path, additional data and selection."""

    def __init__(self, selector: Selector, document: int) -> None:
        self.selector = selector.check()
        self.document = document
        self.leaves: list[Leaf] = []
        self.stack: list[list[str]] = []
        self.default = selector.kind[0] == "u"
        self.by_comment = selector.by_comment
        self._memo: dict[str, bool] = {}

    def matches(self, text: str) -> bool:
        found = self._memo.get(text)
        if found is None:
            found = self._memo[text] = self.selector.matches(text)
        return found

    def selected(self, hit: bool, comment: bool) -> bool:
        if not self.by_comment:
            return hit != self.default
        stack = self.stack
        # The comment that selects stays readable: its own text does not count for itself.
        own = comment and not self.default
        for level, texts in enumerate(stack):
            last = len(texts) - 1 if own and level == len(stack) - 1 else len(texts)
            if any(self.matches(text) for text in texts[:last]):
                return not self.default
        return self.default

    def leaf(self, node: Any, path: tuple[Any, ...], aad: str, hit: bool, comment: bool = False) -> None:
        kind = (SELECTED if self.selected(hit, comment) else 0) | (COMMENT if comment else 0)
        self.take(node, kind, path, aad)

    def take(self, node: Any, kind: int, path: tuple[Any, ...], aad: str) -> None:
        """Keep one leaf; a subclass may keep the node itself."""
        if len(self.leaves) >= MAX_LEAVES:
            raise FormatError("the document has too many values", code="too_large")
        if isinstance(node, PlacedComment):
            leaf = (kind, path, aad, node.text, node.start, node.end, node.line, self.document)
        elif isinstance(node, Scalar):
            leaf = (kind, path, aad, node.value, node.start, node.end, node.line, self.document)
        else:
            empty: Any = Mapping() if isinstance(node, Map) else Sequence()
            leaf = (kind, path, aad, empty, node.start, node.end, node.line, self.document)
        self.leaves.append(leaf)

    def node(self, node: Any, path: tuple[Any, ...], aad: str, hit: bool) -> None:
        if len(path) > MAX_DEPTH:
            raise FormatError("the document is nested too deeply", code="too_deep")
        if isinstance(node, Mapping) and node.items:
            self.mapping(node, path, aad, hit)
        elif isinstance(node, Sequence) and node.items:
            self.sequence(node, path, aad, hit)
        else:
            self.leaf(node, path, aad or ":", hit)

    def mapping(self, node: Mapping, path: tuple[Any, ...], aad: str, hit: bool, skip: str | None = None) -> None:
        self.stack.append([])
        for key, value in node.items:
            if isinstance(key, Comment):
                self.stack[-1].append(key.text)
                self.leaf(key, path, aad or ":", hit, True)
                continue
            if key == skip:
                continue
            self.node(value, (*path, key), f"{aad}{key}:", hit or (not self.by_comment and self.matches(key)))
            self.stack[-1] = []
        self.stack.pop()

    def sequence(self, node: Sequence, path: tuple[Any, ...], aad: str, hit: bool) -> None:
        self.stack.append([])
        index = 0
        for item in node.items:
            if isinstance(item, Comment) or (is_list_comment(item) and self.selected(hit, False)):
                # An encrypted one is stored as an ordinary string; for the stack it is the comment it was (#2281).
                self.stack[-1].append(item.text if isinstance(item, Comment) else item.value)
                self.leaf(item, path, aad or ":", hit, True)
                continue
            self.node(item, (*path, index), aad, hit)
            index += 1
            self.stack[-1] = []
        self.stack.pop()


def is_list_comment(item: object) -> bool:
    """Whether a list item holds an encrypted comment."""
    if not isinstance(item, Scalar) or not isinstance(item.value, str):
        return False
    return item.value.startswith("ENC[") and item.value.endswith(",type:comment]")


def flatten(document: Map, selector: Selector, number: int, *, skip: str | None = None) -> list[Leaf]:
    """The leaves of one placed document in order; `skip`: a top-level key to leave out."""
    walk = Walk(selector, number)
    walk.mapping(document, (), "", False, skip)
    return walk.leaves


def rebuild_document(document: Mapping, values: Iterator[Any], skip: str | None = None) -> Mapping:
    """`rebuild` for the top level, which is a mapping even when nothing is in it."""
    made = rebuild(document, values, skip) if document.items else Mapping()
    assert isinstance(made, Mapping)
    return made


def rebuild(node: Any, values: Iterator[Any], skip: str | None = None) -> Any:
    """A plaintext tree of the shape of `node` with one value per leaf, in the order of `flatten`."""
    if isinstance(node, Mapping) and node.items:
        made = Mapping()
        for key, value in node.items:
            if isinstance(key, Comment):
                made.items.append((_comment(key, next(values)), None))
            elif key != skip:
                made.items.append((key, rebuild(value, values)))
        return made
    if isinstance(node, Sequence) and node.items:
        return Sequence(
            [
                _comment(item, next(values)) if isinstance(item, Comment) else rebuild(item, values)
                for item in node.items
            ]
        )
    return next(values)


def _comment(old: Comment, new: Any) -> Comment:
    return Comment(new.text, old.inline) if isinstance(new, Comment) else Comment(new, old.inline)
