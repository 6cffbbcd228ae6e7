"""The plaintext document: mappings, sequences, comments and typed scalars. Lean.

Scalars are plain Python values: str, int, float, bool, None, bytes (text that is not UTF-8) and `Timestamp`. Equality
here is typed (`same`): sops keeps 1, 1.0, True and "1" apart, Python does not.
"""

from zopp.errors import FormatError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # Mapping, Sequence, Timestamp, str, int, float, bool, None or bytes. Placed trees put their own scalars here.
    Node = Any
    Item = tuple[Any, Node]


class Comment:
    """One comment line: the text after its `#`, leading space kept. `inline` marks one that stood behind a value."""

    __slots__ = ("inline", "text")

    def __init__(self, text: str, inline: bool = False) -> None:
        self.text = text
        self.inline = inline

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Comment) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return "Comment(…)"


class Timestamp:
    """A point in time as its canonical RFC 3339 text (original offset, fraction without trailing zeros)."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and other.text == self.text

    def __hash__(self) -> int:
        return hash(("Timestamp", self.text))

    def __repr__(self) -> str:
        return "Timestamp(…)"


class Mapping:
    """Ordered (key, node) pairs. A comment is a pair whose key is the Comment and whose node is None."""

    __slots__ = ("items",)

    def __init__(self, items: "list[Item] | None" = None) -> None:
        self.items: "list[Item]" = [] if items is None else items

    def get(self, key: str) -> "Node":
        """The node under `key` (the first, if a lax reader kept several), else KeyError."""
        for name, node in self.items:
            if name == key and isinstance(name, str):
                return node
        raise KeyError

    def __contains__(self, key: str) -> bool:
        return any(name == key and isinstance(name, str) for name, _ in self.items)

    def keys(self) -> "list[str]":
        return [name for name, _ in self.items if isinstance(name, str)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Mapping({len(self.items)} items)"


class Sequence:
    """Ordered nodes; a Comment may stand between them and does not count as an index."""

    __slots__ = ("items",)

    def __init__(self, items: "list[Node] | None" = None) -> None:
        self.items: "list[Node]" = [] if items is None else items

    def nodes(self) -> "list[Node]":
        return [item for item in self.items if not isinstance(item, Comment)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Sequence({len(self.items)} items)"


class Tree:
    """A whole file in plaintext. `warnings` holds (line, code) of comments whose ciphertext could not be opened;
    sops keeps their text as it stands and so does zopp."""

    __slots__ = ("documents", "warnings")

    def __init__(self, documents: "list[Mapping]", warnings: "list[tuple[int, str]] | None" = None) -> None:
        self.documents = documents
        self.warnings: "list[tuple[int, str]]" = [] if warnings is None else warnings

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and same(self.documents, other.documents)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Tree({len(self.documents)} documents)"


def same(a: "Any", b: "Any") -> bool:
    """Whether two nodes hold the same keys, comments, types and values in the same order. NaN is NaN, -0.0 not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (Mapping, Sequence)):
        return same(a.items, b.items)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return repr(a) == repr(b)
    return bool(a == b)


def to_plain(node: "Any") -> "Any":
    """The node as dicts, lists and scalars, comments dropped. A repeated key keeps its last value."""
    if isinstance(node, Mapping):
        return {key: to_plain(value) for key, value in node.items if isinstance(key, str)}
    if isinstance(node, Sequence):
        return [to_plain(item) for item in node.items if not isinstance(item, Comment)]
    return node


def from_plain(value: "Any", depth: int = 0) -> "Any":
    """The reverse of `to_plain`: dicts become mappings, lists and tuples sequences. FormatError below 100 levels."""
    if depth > 100:
        raise FormatError("the document is nested too deeply", code="too_deep")
    if isinstance(value, dict):
        return Mapping([(key, from_plain(item, depth + 1)) for key, item in value.items()])
    if isinstance(value, (list, tuple)):
        return Sequence([from_plain(item, depth + 1) for item in value])
    return value


def dotted(path: "tuple[str | int, ...] | list[str | int]") -> str:
    """A leaf's path as people type it: parts with dots are quoted."""
    parts = [str(part) for part in path]
    return ".".join([f'"{part}"' if "." in part or not part else part for part in parts])


def lookup(tree: "Tree | Node", path: "tuple[str | int, ...]") -> "Node":
    """The node at `path` of the first document; list indices skip comments. NotFound if there is none.

    Nothing of the path is quoted in the message: it may be a mistyped secret."""
    node: "Any" = tree.documents[0] if isinstance(tree, Tree) else tree
    for depth, part in enumerate(path):
        try:
            if isinstance(node, Mapping) and isinstance(part, str):
                node = node.get(part)
                continue
            if isinstance(node, Sequence) and isinstance(part, int) and not isinstance(part, bool) and part >= 0:
                node = node.nodes()[part]
                continue
        except (KeyError, IndexError):
            pass
        names = node.keys() if isinstance(node, Mapping) else []
        raise NotFound("no such key", code="no_key", depth=depth, candidates=names)
    return node
