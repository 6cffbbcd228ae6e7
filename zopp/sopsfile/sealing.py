"""Fresh values on their way into a file: which of them are encrypted, and to what text.

A fresh tree is a plaintext tree whose leaves are `Fresh`: the value, and once `seal_leaf` has run, what the file holds.
"""

from __future__ import annotations

from collections.abc import Callable

from zopp.errors import FormatError
from zopp.sopsfile import cipher
from zopp.sopsfile.cst import Walk
from zopp.sopsfile.scan import COMMENT, MAX_DEPTH, SELECTED
from zopp.sopsfile.selectors import Selector
from zopp.sopsfile.tree import Comment, Mapping, Sequence, Timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# (additional data, type, canonical bytes) -> ciphertexts that may be used again for that very value.
Stash = dict[tuple[str, str, bytes], list[str]]


class Fresh:
    """A new scalar or empty container; `stored` is what the file will hold: ENC text or the clear value."""

    __slots__ = ("stored", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.stored: Any = None


class FreshComment(Comment):
    """A new comment; `stored` is the text that will follow its `#`, `sealed` says that it is ENC text."""

    __slots__ = ("sealed", "stored")

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.stored = text
        self.sealed = False


def fresh(node: Any, depth: int = 0) -> Any:
    """A fresh tree of a plaintext tree (or of plain dicts and lists). FormatError for what a file cannot hold."""
    if node.__class__ is str:
        return Fresh(node)
    if depth > MAX_DEPTH:
        raise FormatError("the document is nested too deeply", code="too_deep")
    if isinstance(node, dict):
        return (
            Mapping([(_key(key), fresh(item, depth + 1)) for key, item in node.items()]) if node else Fresh(Mapping())
        )
    if isinstance(node, (list, tuple)):
        return Sequence([fresh(item, depth + 1) for item in node]) if node else Fresh(Sequence())
    if isinstance(node, Mapping):
        made = Mapping()
        seen: set[str] = set()
        for key, item in node.items:
            if isinstance(key, Comment):
                made.items += [(line, None) for line in comment_lines(key.text)]
                continue
            if key in seen:
                raise FormatError("a key stands twice in one mapping", code="duplicate_key")
            seen.add(_key(key))
            made.items.append((key, fresh(item, depth + 1)))
        return made if made.items else Fresh(Mapping())
    if isinstance(node, Sequence):
        items: list[Any] = []
        for item in node.items:
            if isinstance(item, Comment):
                items += comment_lines(item.text)
            else:
                items.append(fresh(item, depth + 1))
        return Sequence(items) if items else Fresh(Sequence())
    if node is not None and not isinstance(node, (str, bool, int, float, bytes, Timestamp)):
        raise FormatError("a value has a type that a sops file cannot hold", code="value_type")
    if isinstance(node, bytes):
        try:
            return Fresh(node.decode())
        except UnicodeDecodeError:
            return Fresh(node)
    return Fresh(node)


def comment_lines(text: str) -> list[FreshComment]:
    """One comment a line; a text with line breaks would otherwise end the comment."""
    return [FreshComment(line) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise FormatError("a mapping key is not text", code="key_type")
    return key


class SealingWalk(Walk):
    """A walk that seals what is fresh and keeps every leaf's node: `taken` is (node, kind, aad) in document order."""

    def __init__(
        self,
        selector: Selector,
        document: int,
        aead: Any,
        *,
        allow_clear: bool,
        iv: Callable[[int], bytes],
        stash: Stash,
    ) -> None:
        super().__init__(selector, document)
        self.taken: list[tuple[Any, int, str]] = []
        self.aead = aead
        self.allow_clear = allow_clear
        self.iv = iv
        self.stash = stash
        # (additional data, type, canonical bytes) of values that the file holds in the clear already.
        self.was_clear: set[tuple[str, str, bytes]] = set()
        self.encrypted = 0

    def take(self, node: Any, kind: int, path: tuple[Any, ...], aad: str) -> None:
        self.taken.append((node, kind, aad))
        if isinstance(node, Fresh):
            node.stored = self.stored(node.value, kind, aad)
        elif isinstance(node, FreshComment):
            node.sealed = bool(kind & SELECTED and node.text)
            node.stored = self.text(cipher.canonical(Comment(node.text)), aad) if node.sealed else node.text

    def stored(self, value: Any, kind: int, aad: str) -> Any:
        """What the file holds for a fresh value."""
        if value is None or isinstance(value, (Mapping, Sequence)):
            return value
        canonical = cipher.canonical(value)
        if not kind & SELECTED:
            if not self.allow_clear and (aad, *canonical) not in self.was_clear:
                raise FormatError("the selector of the file would leave this value in the clear", code="clear_value")
            return value
        if not canonical[1]:
            return ""
        self.encrypted += 1
        return self.text(canonical, aad)

    def text(self, canonical: tuple[str, bytes], aad: str) -> str:
        kept = self.stash.get((aad, *canonical))
        return kept.pop() if kept else cipher.seal(self.aead, *canonical, aad, self.iv)


def piece(value: Any, kind: int, only: bool) -> bytes:
    """What a leaf adds to the MAC."""
    if kind & COMMENT or value is None or isinstance(value, (Mapping, Sequence)) or (only and not kind & SELECTED):
        return b""
    return cipher.canonical(value)[1]


def stored_tree(node: Any) -> Any:
    """A sealed fresh tree as an emitter wants it. An encrypted comment in a list is an ordinary item there."""
    if isinstance(node, Fresh):
        return node.stored
    if isinstance(node, Mapping):
        return Mapping(
            [
                (Comment(key.stored), None) if isinstance(key, FreshComment) else (key, stored_tree(item))
                for key, item in node.items
            ]
        )
    if isinstance(node, Sequence):
        return Sequence([_stored_item(item) for item in node.items])
    return node


def _stored_item(item: Any) -> Any:
    if isinstance(item, FreshComment):
        return item.stored if item.sealed else Comment(item.stored)
    return stored_tree(item)
