"""A read file being changed: its placed tree with some parts replaced by fresh ones.

A draft container remembers its original and, for each item, which original item it is (`source`, -1 for a new one), so
that `patching` can turn the difference into text edits and leave everything else alone.
"""

from __future__ import annotations

from difflib import SequenceMatcher

from zopp.errors import FormatError, NotFound, UsageError
from zopp.sopsfile.cst import Map, PlacedComment, Scalar, Seq
from zopp.sopsfile.sealing import Fresh, comment_lines, fresh
from zopp.sopsfile.tree import Comment, Mapping, Sequence, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class DraftMap(Mapping):
    __slots__ = ("origin", "source")

    def __init__(self, origin: Map) -> None:
        super().__init__()
        self.origin = origin
        self.source: list[int] = list(range(len(origin.items)))


class DraftSeq(Sequence):
    __slots__ = ("origin", "source")

    def __init__(self, origin: Seq) -> None:
        super().__init__()
        self.origin = origin
        self.source: list[int] = list(range(len(origin.items)))


class Draft:
    """One document. `values` gives the plaintext of each original leaf by the identity of its node."""

    def __init__(self, document: Map, values: dict[int, Any], text: str, keep_comments: bool) -> None:
        self.values = values
        self.text = text
        # JSON shows no comments, so an edited tree cannot have meant to drop them.
        self.keep_comments = keep_comments
        # By the id of a mapping, which is kept so that no other gets that id: name → index. A walk for each of many
        # changes would cost their square.
        self._places: dict[int, tuple[Mapping, dict[str, int]]] = {}
        self.root = self._top(document)

    def _top(self, document: Map) -> DraftMap:
        made = DraftMap(document)
        made.items = [
            (key, node if key == "sops" or isinstance(key, Comment) else self.draft(node))
            for key, node in document.items
        ]
        return made

    def draft(self, node: Any) -> Any:
        if isinstance(node, Map) and node.items:
            made = DraftMap(node)
            made.items = [(key, None if isinstance(key, Comment) else self.draft(value)) for key, value in node.items]
            return made
        if isinstance(node, Seq) and node.items:
            row = DraftSeq(node)
            row.items = [item if isinstance(item, Comment) else self.draft(item) for item in node.items]
            return row
        return node

    def plain(self, node: Any) -> Any:
        """The plaintext of a draft node."""
        if isinstance(node, Fresh):
            return node.value
        if isinstance(node, Mapping):
            return Mapping(
                [
                    (Comment(self.comment_text(key)), None) if isinstance(key, Comment) else (key, self.plain(value))
                    for key, value in node.items
                    if key != "sops" or node is not self.root
                ]
            )
        if isinstance(node, Sequence):
            return Sequence([self.plain_item(item) for item in node.items])
        return self.values[id(node)]

    def plain_item(self, item: Any) -> Any:
        return Comment(self.comment_text(item)) if isinstance(item, Comment) else self.plain(item)

    def comment_text(self, comment: Comment) -> str:
        opened = self.values.get(id(comment))
        return opened.text if isinstance(opened, Comment) else comment.text

    def is_comment(self, item: Any) -> bool:
        return isinstance(item, Comment) or isinstance(self.values.get(id(item)), Comment)

    # one change at a time

    def put(self, path: tuple[Any, ...], value: Any, note: str | None) -> None:
        """Set `path`; missing mappings on the way are made. An equal value of equal type changes nothing."""
        parent = self._parent(path, create=True)
        part = path[-1]
        new = fresh(value)
        if isinstance(parent, Mapping):
            if not isinstance(part, str):
                raise UsageError("an index does not name a key of a mapping", code="bad_path")
            at = self._place(parent, part)
            if at is None:
                notes: list[Any] = [] if note is None else [(line, None) for line in self._note(note)]
                self._append(parent, [*notes, (part, new)])
            elif not self._equal(parent.items[at][1], new):
                parent.items[at] = (part, new)
            return
        at = self._index(parent, part)
        if not self._equal(parent.items[at], new):
            parent.items[at] = new

    def _note(self, note: str) -> list[Any]:
        return [line for text in comment_lines(note) for line in comment_lines(" " + text.text if text.text else "")]

    def _equal(self, old: Any, new: Any) -> bool:
        plain = _without_comments(self.plain(old))
        return same(plain, _without_comments(_value_of(new)))

    def _append(self, parent: Mapping, items: list[Any]) -> None:
        at = len(parent.items)
        if parent is self.root and parent.items and parent.items[-1][0] == "sops":
            at -= 1
        parent.items[at:at] = items
        if isinstance(parent, DraftMap):
            parent.source[at:at] = [-1] * len(items)
        _, known = self._places.get(id(parent), (parent, {}))
        for number, (key, _) in enumerate(parent.items[at:], at):
            if isinstance(key, str):
                known[key] = number

    def _place(self, parent: Mapping, name: object) -> int | None:
        """The index of the item under `name`, the first if there are several."""
        if id(parent) not in self._places:
            known: dict[str, int] = {}
            for number, (key, _) in enumerate(parent.items):
                if isinstance(key, str):
                    known.setdefault(key, number)
            self._places[id(parent)] = parent, known
        return self._places[id(parent)][1].get(name) if isinstance(name, str) else None

    def drop(self, path: tuple[Any, ...]) -> None:
        """Remove `path` and the comments directly attached to it. NotFound if it is not there."""
        parent = self._parent(path, create=False)
        part = path[-1]
        if isinstance(parent, Mapping):
            place = self._place(parent, part)
            if place is None:
                raise NotFound("no such key", code="no_key", candidates=parent.keys())
            at = place
        else:
            at = self._index(parent, part)
        self._remove(parent, at)

    def containers(self, path: tuple[Any, ...]) -> list[Any]:
        """The containers above `path`, the document first. NotFound if one is not there."""
        return [self._parent(path[: depth + 1], create=False) for depth in range(len(path))]

    def prune(self, chain: list[Any]) -> None:
        """Of the containers above something that was dropped, remove the mappings that hold no key any more, from the
        inside out; the document itself and the items of lists stay."""
        for depth in range(len(chain) - 1, 0, -1):
            parent, child = chain[depth - 1], chain[depth]
            if not isinstance(parent, Mapping) or not isinstance(child, Mapping) or child.keys():
                return
            at = next((i for i, (_, node) in enumerate(parent.items) if node is child), None)
            if at is not None:
                self._remove(parent, at)

    def _remove(self, parent: Any, at: int) -> None:
        """Take out an item with the comments attached to it."""
        first = self._first_attached(parent, at)
        self._places.clear()  # indices move
        del parent.items[first : at + 1]
        if isinstance(parent, (DraftMap, DraftSeq)):
            del parent.source[first : at + 1]

    def _first_attached(self, parent: Any, at: int) -> int:
        """The index of the first comment that stands directly above the item, no blank line between, or beside it."""
        if not isinstance(parent, (DraftMap, DraftSeq)):
            while at and isinstance(_head(parent.items[at - 1]), Comment):
                at -= 1
            return at
        begin = self._start(parent, at)
        line_start = self.text.rfind("\n", 0, begin) + 1
        while at and self.is_comment(comment := _head(parent.items[at - 1])):
            if isinstance(comment, (PlacedComment, Scalar)):
                if isinstance(comment, PlacedComment) and comment.inline:
                    if comment.start < line_start:
                        break  # it stands behind the value above
                    at -= 1
                    continue
                own = self.text.rfind("\n", 0, comment.start) + 1
                if self.text.find("\n", comment.end) + 1 != line_start:
                    break
                line_start = own
            at -= 1
        return at

    def _start(self, parent: DraftMap | DraftSeq, at: int) -> int:
        source = parent.source[at]
        if source < 0:
            return 0
        return parent.origin.keys_at[source][0] if isinstance(parent, DraftMap) else parent.origin.dashes[source]

    def _index(self, row: Any, part: Any) -> int:
        """The place among all items of a visible index, which skips comments."""
        if not isinstance(row, Sequence) or not isinstance(part, int) or isinstance(part, bool):
            raise UsageError("a key does not name an item of a list", code="bad_path")
        places = [at for at, item in enumerate(row.items) if not self.is_comment(item)]
        if not 0 <= part < len(places):
            raise NotFound("no such index", code="no_key", candidates=[])
        return places[part]

    def _parent(self, path: tuple[Any, ...], create: bool) -> Any:
        if not path or any(not isinstance(part, (str, int)) or isinstance(part, bool) for part in path):
            raise UsageError("a path needs at least one key, and keys are text or indices", code="bad_path")
        if path[0] == "sops":
            raise FormatError("the key sops is reserved for the metadata", code="reserved")
        node: Any = self.root
        for depth, part in enumerate(path[:-1]):
            node = self._step(node, part, depth, create)
        return node

    def _step(self, node: Any, part: Any, depth: int, create: bool) -> Any:
        if isinstance(node, Mapping):
            if not isinstance(part, str):
                raise UsageError("an index does not name a key of a mapping", code="bad_path")
            place = self._place(node, part)
            if place is not None:
                return self._container(node, place, node.items[place][1], create)
            if not create:
                raise NotFound("no such key", code="no_key", depth=depth, candidates=node.keys())
            made = Mapping()
            self._append(node, [(part, made)])
            return made
        at = self._index(node, part)
        return self._container(node, at, node.items[at], create)

    def _container(self, parent: Any, at: int, child: Any, create: bool) -> Any:
        if isinstance(child, (Mapping, Sequence)) and child.items:
            return child
        empty = self.plain(child)
        if isinstance(empty, Mapping) and create:
            made = Mapping()
            parent.items[at] = (parent.items[at][0], made) if isinstance(parent, Mapping) else made
            return made
        if isinstance(empty, (Mapping, Sequence)):
            return empty
        raise UsageError("the path goes through a value that is not a mapping or a list", code="through_scalar")

    # a whole tree at once

    def become(self, new: Mapping) -> None:
        """Turn the document into `new`, keeping every original node whose place and value are the same."""
        if "sops" in new:
            raise FormatError("the key sops is reserved for the metadata", code="reserved")
        self._merge_map(self.root, new)

    def _merge(self, old: Any, new: Any) -> Any:
        if isinstance(old, DraftMap) and isinstance(new, Mapping) and new.keys():
            self._merge_map(old, new)
            return old
        if isinstance(old, DraftSeq) and isinstance(new, Sequence) and new.nodes():
            self._merge_seq(old, new)
            return old
        return old if same(self.plain(old), new) else fresh(new)

    def _merge_map(self, old: DraftMap, new: Mapping) -> None:
        fresh(new)  # refuses repeated keys before anything is lined up
        wanted = [(key, node) for key, node in new.items if not (self.keep_comments and isinstance(key, Comment))]
        before = [self._token(key) for key, _ in old.items]
        after = [("#", key.text) if isinstance(key, Comment) else ("k", key) for key, _ in wanted]
        fixed = [
            (self.keep_comments and isinstance(key, Comment)) or (key == "sops" and old is self.root)
            for key, _ in old.items
        ]
        items: list[Any] = []
        source: list[int] = []
        for at, to in _aligned(before, after, fixed):
            if at is None:
                assert to is not None
                key, node = wanted[to]
                made = comment_lines(key.text) if isinstance(key, Comment) else [key]
                items += [(head, None if isinstance(key, Comment) else fresh(node)) for head in made]
                source += [-1] * len(made)
            else:
                key, node = old.items[at]
                items.append(
                    (key, node if to is None or isinstance(key, Comment) else self._merge(node, wanted[to][1]))
                )
                source.append(old.source[at])
        old.items, old.source = items, source

    def _token(self, key: Any) -> tuple[str, str]:
        return ("#", self.comment_text(key)) if isinstance(key, Comment) else ("k", key)

    def _merge_seq(self, old: DraftSeq, new: Sequence) -> None:
        olds = [self.plain_item(item) for item in old.items]
        news = [item for item in new.items if not (self.keep_comments and isinstance(item, Comment))]
        fixed = [self.keep_comments and isinstance(item, Comment) for item in olds]
        kept = [at for at in range(len(olds)) if not fixed[at]]
        front = 0
        while front < min(len(kept), len(news)) and same(olds[kept[front]], news[front]):
            front += 1
        back = 0
        while back < min(len(kept), len(news)) - front and same(olds[kept[-1 - back]], news[-1 - back]):
            back += 1
        middle = kept[front : len(kept) - back]
        change = news[front : len(news) - back]
        items: list[Any] = []
        source: list[int] = []
        partner = dict(zip(middle, change, strict=False))
        extra = change[len(middle) :]
        for at, item in enumerate(old.items):
            if at in partner:
                other = partner[at]
                same_sort = isinstance(other, Comment) == isinstance(olds[at], Comment)
                if isinstance(other, Comment):
                    items += [item] if same_sort and other == olds[at] else comment_lines(other.text)
                else:
                    items.append(self._merge(item, other) if same_sort else fresh(other))
                source += [
                    old.source[at] if len(items) - len(source) == 1 and not isinstance(other, Comment) else -1
                ] * (len(items) - len(source))
                if isinstance(other, Comment) and items[-1] is item:
                    source[-1] = old.source[at]
            elif at not in middle:
                items.append(item)
                source.append(old.source[at])
            if extra and (at == middle[-1] if middle else front > 0 and at == kept[front - 1]):
                self._extend(items, source, extra)
                extra = []
        if extra:
            head_items: list[Any] = []
            head_source: list[int] = []
            self._extend(head_items, head_source, extra)
            items[:0], source[:0] = head_items, head_source
        old.items, old.source = items, source

    def _extend(self, items: list[Any], source: list[int], extra: list[Any]) -> None:
        for item in extra:
            items += comment_lines(item.text) if isinstance(item, Comment) else [fresh(item)]
        source += [-1] * (len(items) - len(source))


def _head(item: Any) -> Any:
    return item[0] if isinstance(item, tuple) else item


def _value_of(node: Any) -> Any:
    """The plaintext of a fresh tree."""
    if isinstance(node, Fresh):
        return node.value
    if isinstance(node, Mapping):
        return Mapping([(key, None if isinstance(key, Comment) else _value_of(item)) for key, item in node.items])
    return Sequence([item if isinstance(item, Comment) else _value_of(item) for item in node.items])


def _without_comments(node: Any) -> Any:
    if isinstance(node, Mapping):
        return Mapping([(key, _without_comments(item)) for key, item in node.items if isinstance(key, str)])
    if isinstance(node, Sequence):
        return Sequence([_without_comments(item) for item in node.items if not isinstance(item, Comment)])
    return node


def _aligned(
    before: list[tuple[str, str]], after: list[tuple[str, str]], fixed: list[bool]
) -> list[tuple[int | None, int | None]]:
    """Pairs (old index, new index) in the new order; an old item in no pair is dropped, a `fixed` one always stays."""
    live = [at for at in range(len(before)) if not fixed[at]]
    tokens = [before[at] for at in live]
    pairs: list[tuple[int | None, int | None]] = []
    if tokens == after:
        pairs = [(at, to) for to, at in enumerate(live)]
    else:
        for tag, a0, a1, b0, b1 in SequenceMatcher(None, tokens, after, autojunk=False).get_opcodes():
            if tag == "equal":
                pairs += [(live[a0 + i], b0 + i) for i in range(a1 - a0)]
            else:
                pairs += [(None, to) for to in range(b0, b1)]
    # Fixed items go back behind the item that they followed; `sops` stays last if it was.
    for at in (at for at in range(len(before)) if fixed[at]):
        if before[at] == ("k", "sops") and at == len(before) - 1:
            pairs.append((at, None))
            continue
        place = next((i + 1 for i in range(len(pairs) - 1, -1, -1) if (old := pairs[i][0]) is not None and old < at), 0)
        pairs.insert(place, (at, None))
    return pairs


__all__ = ["Draft", "DraftMap", "DraftSeq", "Fresh", "Scalar"]
