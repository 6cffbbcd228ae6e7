"""The text edits that turn a read file into its draft: spans of the original, replaced, removed or inserted at.

Block style YAML is edited by whole lines, flow style and JSON by character offsets. What cannot be patched raises
`unsupported_layout`; the caller reads every result back, so a wrong patch is an error and never a file.
"""

from __future__ import annotations

from zopp.errors import FormatError
from zopp.sopsfile.cst import Map, PlacedComment, Scalar, Seq
from zopp.sopsfile.drafts import DraftMap, DraftSeq
from zopp.sopsfile.metadata import quote
from zopp.sopsfile.recipients import restyle
from zopp.sopsfile.scan import Scan
from zopp.sopsfile.sealing import Fresh, FreshComment, stored_tree
from zopp.sopsfile.stores import json_write, yaml_write
from zopp.sopsfile.stores.blocks import line_after
from zopp.sopsfile.tree import Comment, Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Edit = tuple[int, int, str]


def unsupported() -> FormatError:
    return FormatError("the layout of the file cannot be changed in place", code="unsupported_layout")


def deep_end(node: Any) -> int:
    """The offset behind everything that a node owns, trailing comments included."""
    if isinstance(node, (Map, Seq)) and not node.flow and node.items:
        last = node.items[-1]
        inner = last[1] if isinstance(last, tuple) and not isinstance(last[0], Comment) else last
        if isinstance(inner, tuple):
            inner = inner[0]
        return max(node.end, deep_end(inner))
    return int(node.end)


def as_stored(node: Any) -> Any:
    """A draft as an emitter wants it, with every kept leaf as it stands in the file."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Fresh):
        return node.stored
    if isinstance(node, Mapping):
        return Mapping(
            [
                (_stored_comment(key), None) if isinstance(key, Comment) else (key, as_stored(item))
                for key, item in node.items
            ]
        )
    rows = [_stored_comment(item) if isinstance(item, Comment) else as_stored(item) for item in node.items]
    # An encrypted comment in a list is an ordinary item.
    return Sequence(
        [
            new.text if isinstance(old, FreshComment) and old.sealed else new
            for old, new in zip(node.items, rows, strict=True)
        ]
    )


def _stored_comment(comment: Comment) -> Comment:
    return Comment(comment.stored if isinstance(comment, FreshComment) else comment.text)


def holds_values(node: Any) -> bool:
    """Whether a container holds anything but comments."""
    return any(not isinstance(item[0] if isinstance(item, tuple) else item, Comment) for item in node.items)


class Patcher:
    """Collects the edits of one document's draft."""

    def __init__(self, scan: Scan, unit: int) -> None:
        self.scan = scan
        self.text = scan.text
        self.json = scan.fmt != "yaml"
        self.unit = unit
        self.edits: list[Edit] = []

    def container(self, draft: Any, level: int) -> None:
        """Add the edits of a container that stays in place; `level` is its depth, 0 at the top."""
        origin = draft.origin
        present = set(draft.source)
        gone = [at for at in range(len(origin.items)) if at not in present]
        runs: list[tuple[int, list[Any]]] = []
        before = -1
        for item, source in zip(draft.items, draft.source, strict=True):
            if source < 0:
                if not runs or runs[-1][0] != before:
                    runs.append((before, []))
                runs[-1][1].append(item)
                continue
            if source < before:
                raise unsupported()
            before = source
            self.item(origin, source, item, level)
        if not origin.flow:
            for at in gone:
                self.remove_lines(origin, at, present)
            for before, items in runs:
                self.insert_lines(origin, before, items)
        elif gone or runs:
            self.flow_items(origin, gone, runs, level)

    def item(self, origin: Map | Seq, at: int, item: Any, level: int) -> None:
        node = item[1] if isinstance(origin, Map) else item
        if isinstance(origin, Map) and isinstance(item[0], Comment):
            node = item[0]
        old: Any = origin.items[at]
        old = (old[0] if isinstance(old[0], Comment) else old[1]) if isinstance(old, tuple) else old
        if isinstance(node, (DraftMap, DraftSeq)) and node.origin is old:
            if holds_values(node) or not holds_values(old):
                made = len(self.edits)
                try:
                    self.container(node, level + 1)
                except FormatError:
                    # Such as the first key of a list item, which shares its line with the dash: write the item anew.
                    del self.edits[made:]
                    self.rewrite(origin, at, old, as_stored(node), level)
                return
            node = Fresh(Mapping() if isinstance(node, DraftMap) else Sequence())
            node.stored = node.value
        elif node is old:
            return
        self.replace(origin, at, old, node, level)

    # block style

    def line_start(self, at: int) -> int:
        return self.text.rfind("\n", 0, at) + 1

    def start(self, origin: Map | Seq, at: int) -> int:
        return origin.keys_at[at][0] if isinstance(origin, Map) else origin.dashes[at]

    def comment_at(self, origin: Map | Seq, at: int) -> PlacedComment | None:
        item: Any = origin.items[at]
        head = item[0] if isinstance(item, tuple) else item
        return head if isinstance(head, PlacedComment) else None

    def end(self, origin: Map | Seq, at: int) -> int:
        """The offset behind the last line of an item."""
        comment = self.comment_at(origin, at)
        if comment is not None:
            return line_after(self.text, comment.end)
        item: Any = origin.items[at]
        node = item[1] if isinstance(item, tuple) else item
        return line_after(self.text, max(deep_end(node), self.start(origin, at) + 1))

    def own_line(self, at: int) -> bool:
        return not self.text[self.line_start(at) : at].strip(" ")

    def remove_lines(self, origin: Map | Seq, at: int, present: set[int]) -> None:
        comment = self.comment_at(origin, at)
        if comment is not None:
            start = comment.start - 1
            if not self.own_line(start):
                if any(self.comment_at(origin, i) is None and i in present for i in self.beside(origin, comment)):
                    bare = len(self.text[:start].rstrip(" \t"))
                    self.edits.append((bare, comment.end, ""))
                return
            self.edits.append((self.line_start(start), line_after(self.text, comment.end), ""))
            return
        start = self.start(origin, at)
        if self.own_line(start):
            self.edits.append((self.line_start(start), self.end(origin, at), ""))
            return
        follower = next((i for i in range(at + 1, len(origin.items)) if i in present), None)
        if follower is None or any(i not in present for i in range(at + 1, follower)):
            raise unsupported()
        if self.comment_at(origin, follower) is not None:
            raise unsupported()
        self.edits.append((start, self.start(origin, follower), ""))

    def beside(self, origin: Map | Seq, comment: PlacedComment) -> list[int]:
        """The items that begin on the line of an inline comment."""
        line = self.line_start(comment.start)
        return [at for at in range(len(origin.items)) if self.line_start(self.start(origin, at)) == line]

    def insert_lines(self, origin: Map | Seq, before: int, items: list[Any]) -> None:
        lines = self.item_lines(origin, items)
        body = self.scan.newline.join(lines)
        if before >= 0:
            at = self.end(origin, before)
            # An item that was removed does not move the place; a sops block that follows the last item stays behind.
            if at and self.text[at - 1] != "\n":
                self.edits.append((at, at, self.scan.newline + body))
            else:
                self.edits.append((at, at, body + self.scan.newline))
            return
        at = self.start(origin, 0)
        comment = self.comment_at(origin, 0)
        if comment is not None:
            at = comment.start - 1
        if self.own_line(at):
            at = self.line_start(at)
            self.edits.append((at, at, body + self.scan.newline))
        else:
            pad = " " * origin.column
            self.edits.append((at, at, body[origin.column :] + self.scan.newline + pad))

    def item_lines(self, origin: Map | Seq, items: list[Any]) -> list[str]:
        if isinstance(origin, Map):
            return yaml_write.mapping_lines(stored_tree(Mapping(items)), origin.column, self.unit)
        return yaml_write.sequence_lines(stored_tree(Sequence(items)), origin.column, self.unit)

    def replace(self, origin: Map | Seq, at: int, old: Any, node: Any, level: int) -> None:
        if isinstance(node, FreshComment) or isinstance(old, PlacedComment):
            raise unsupported()
        stored = stored_tree(node)
        if isinstance(node, (DraftMap, DraftSeq)):
            raise unsupported()
        old_one_line = isinstance(old, Scalar) and "\n" not in self.text[old.start : old.end].rstrip("\n")
        new_one_line = isinstance(node, Fresh) and not (isinstance(stored, str) and "\n" in stored and not self.json)
        if isinstance(stored, str) and isinstance(old, Scalar) and old.value and stored.startswith("ENC["):
            self.edits.append(restyle(self.scan, old.start, old.end, stored))
            return
        if self.json or origin.flow:
            self.edits.append((old.start, old.end, self.flow_text(stored, level + 1)))
            return
        if new_one_line and (old_one_line or (isinstance(old, (Map, Seq)) and old.flow)):
            text = self.text[old.start : old.end]
            if not (text.startswith(("|", ">")) and text.endswith("\n")):
                new = yaml_write.scalar_text(stored)
                gap = " " if old.start and self.text[old.start - 1] in ":-" else ""
                self.edits.append((old.start, old.end, gap + new))
                return
        self.replace_lines(origin, at, stored)

    def rewrite(self, origin: Map | Seq, at: int, old: Any, stored: Any, level: int) -> None:
        """Write one item anew from stored values; ciphertexts stay, layout and inline comments do not."""
        if self.json or origin.flow:
            self.edits.append((old.start, old.end, self.flow_text(stored, level + 1)))
        else:
            self.replace_lines(origin, at, stored)

    def replace_lines(self, origin: Map | Seq, at: int, stored: Any) -> None:
        end = self.end(origin, at)
        if isinstance(origin, Map):
            key_start, key_end = origin.keys_at[at]
            lines = yaml_write.entry_lines("k", stored, origin.column, self.unit)
            lines[0] = self.text[key_start:key_end] + lines[0][origin.column + 1 :]
            start = key_start
        else:
            lines = yaml_write.sequence_lines(Sequence([stored]), origin.column, self.unit)
            lines[0] = lines[0][origin.column :]
            start = origin.dashes[at]
        body = self.scan.newline.join(lines)
        if end and self.text[end - 1] == "\n":
            body += self.scan.newline
        self.edits.append((start, end, body))

    # flow style and JSON

    def json_unit(self) -> str | None:
        """One level of the file's indentation, or None if it stands on one line."""
        at = self.text.find("{") + 1
        end = at
        while end < len(self.text) and self.text[end] in " \t\r\n":
            end += 1
        gap = self.text[at:end]
        return gap.rpartition("\n")[2] if "\n" in gap else None

    def flow_text(self, stored: Any, level: int) -> str:
        if self.json:
            text = json_write.text_of(stored, self.json_unit(), level)
            return text if self.scan.newline == "\n" else text.replace("\n", self.scan.newline)
        return yaml_flow(stored)

    def flow_gap(self, origin: Map | Seq) -> str:
        starts = self.flow_starts(origin)
        first = starts[0] if starts else origin.end - 1
        at = first
        while at and self.text[at - 1] in " \t\r\n":
            at -= 1
        gap = self.text[at:first]
        if len(starts) > 1 and not gap:
            gap = self.text[self.flow_end(origin, 0) : starts[1]].lstrip(" \t\r\n").removeprefix(",")
        return gap

    def flow_starts(self, origin: Map | Seq) -> list[int]:
        return [self.start(origin, at) for at in range(len(origin.items))]

    def flow_end(self, origin: Map | Seq, at: int) -> int:
        item: Any = origin.items[at]
        return int((item[1] if isinstance(item, tuple) else item).end)

    def flow_items(self, origin: Map | Seq, gone: list[int], runs: list[tuple[int, list[Any]]], level: int) -> None:
        if any(self.comment_at(origin, at) is not None for at in range(len(origin.items))):
            raise unsupported()
        gap = self.flow_gap(origin)
        count = len(origin.items)
        stays = [at for at in range(count) if at not in gone]
        for at in gone:
            if any(later > at for later in stays):
                self.edits.append((self.start(origin, at), self.start(origin, at + 1), ""))
            else:
                before = self.flow_end(origin, at - 1) if at else self.start(origin, at)
                self.edits.append((before, self.flow_end(origin, at), ""))
        if not stays and runs:
            new = [part for _, items in runs for item in items if (part := self.flow_item(item, level, gap))]
            del self.edits[len(self.edits) - len(gone) :]
            self.edits.append((self.start(origin, 0), self.flow_end(origin, count - 1), f",{gap}".join(new)))
            return
        for before, items in runs:
            parts = [self.flow_item(item, level, gap) for item in items]
            parts = [part for part in parts if part]
            if not parts:
                continue
            joined = f",{gap}".join(parts)
            if before < 0:
                at = self.start(origin, 0)
                self.edits.append((at, at, f"{joined},{gap}"))
            else:
                at = self.flow_end(origin, before)
                self.edits.append((at, at, f",{gap}{joined}"))

    def flow_item(self, item: Any, level: int, gap: str) -> str:
        if isinstance(item, tuple):
            key, node = item
            if isinstance(key, Comment):
                return ""
            colon = ":" if self.json and not gap else ": "
            return quote(key) + colon + self.flow_text(stored_tree(node), level + 1)
        if isinstance(item, FreshComment):
            return self.flow_text(item.stored, level + 1) if item.sealed else ""
        return self.flow_text(stored_tree(item), level + 1)


def yaml_flow(stored: Any) -> str:
    """A value on one line in YAML flow style; all text is quoted."""
    if isinstance(stored, Mapping):
        pairs = [f"{quote(key)}: {yaml_flow(value)}" for key, value in stored.items if isinstance(key, str)]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(stored, Sequence):
        return "[" + ", ".join(yaml_flow(item) for item in stored.items if not isinstance(item, Comment)) + "]"
    return yaml_write.double(stored) if isinstance(stored, str) else yaml_write.scalar_text(stored)
