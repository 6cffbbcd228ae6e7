"""YAML text to a placed tree: libyaml's events, go-yaml's meaning (spec sops-compat 6.1 to 6.4).

PyYAML gives events with marks and nothing else; its resolver and constructor are never used. Comments, which libyaml
drops, are found in the gaps between events and given to the owner that go-yaml and sops give them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from importlib import import_module

import yaml

from zopp.sopsfile.cst import Map, Parsed, PlacedComment, Scalar, Seq
from zopp.sopsfile.scan import MAX_DEPTH
from zopp.sopsfile.stores.yaml_scalars import TAG, bad, scalar_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    _Parser: Any = import_module("yaml.cyaml").CParser
except ImportError:  # PyYAML built without libyaml
    _Parser = None
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def events_of(text: str) -> list[Any]:
    """The event list of a stream; FormatError at a line for text that is not YAML."""
    events: list[Any] = []
    depth = 0
    if "\0" in text:
        raise bad("the file holds a NUL byte", "bad_yaml", text.count("\n", 0, text.index("\0")) + 1)
    try:
        parser = _Parser(text) if _Parser is not None else _PurePython(text)
        while parser.check_event():
            event = parser.get_event()
            kind = type(event)
            if kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                depth += 1
                if depth > MAX_DEPTH:
                    raise bad("the document is nested too deeply", "too_deep", event.start_mark.line + 1)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                depth -= 1
            events.append(event)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise bad("the file is not valid YAML", "bad_yaml", mark.line + 1 if mark else 1) from None
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError, AttributeError):
        raise bad("the file is not valid YAML", "bad_yaml", 1) from None
    return events


class _PurePython(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    """Where PyYAML was built without libyaml: slower, the same events."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)


def parse(text: str, *, strict: bool = True) -> Parsed:
    """The documents of a YAML file. FormatError with a stable code for anything sops refuses; `strict` also for
    repeated keys after the first document (elsewhere always) and Unicode line ends."""
    if strict:
        for char in "\x85\u2028\u2029":
            if char in text:
                raise bad(
                    "a Unicode line end stands in the file", "line_end", text.count("\n", 0, text.index(char)) + 1
                )
    return _Builder(text, events_of(text), strict).run()


class _Open:
    """A container under construction and the key or dash that waits for its value."""

    __slots__ = ("key", "node", "seen")

    def __init__(self, node: Map | Seq) -> None:
        self.node = node
        self.key: tuple[str, int, int] | None = None
        self.seen: set[str] = set()


class _Builder:
    def __init__(self, text: str, events: list[Any], strict: bool) -> None:
        self.text = text
        self.events = events
        self.strict = strict
        self.documents: list[Map] = []
        self.duplicates: list[tuple[int, int]] = []
        self.anchors: dict[str, Any] = {}
        self.open_anchors: set[str] = set()
        self.aliases = False
        self.stack: list[_Open] = []
        # Up to `pos` comments have been looked for; `content` is the end of the last token that has a width.
        self.pos = self.content = 0
        self.root: Any = None
        # Comments that wait for the container which the next event opens.
        self.waiting: list[PlacedComment] = []
        # (container, index of its item) of the value completed last, for a comment behind it.
        self.last: tuple[Map | Seq, int] | None = None
        self.has_hash = "#" in text
        # Where each line break begins and ends: comments ask for their line, and a search costs the file each time.
        found = list(_BREAK.finditer(text)) if self.has_hash else []
        self.breaks = [match.start() for match in found]
        self.starts = [match.end() for match in found]
        # How many comments stand at the front of a container, by identity.
        self.fronts: dict[int, int] = {}
        # (offset, text) of the line that `next_content` found last.
        self.found: tuple[int, str] = (-1, "")

    def run(self) -> Parsed:
        for at, event in enumerate(self.events):
            kind = type(event)
            start = event.start_mark.index
            if self.has_hash and start > self.pos and "#" in self.text[self.pos : start]:
                self.comments(at, event, start)
            if kind is yaml.ScalarEvent:
                self.scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self.begin(event, kind is yaml.MappingStartEvent)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self.finish(event)
            elif kind is yaml.AliasEvent:
                self.alias(event)
            elif kind is yaml.DocumentStartEvent:
                self.root = None
                self.anchors = {}
                self.last = None
            elif kind is yaml.DocumentEndEvent:
                self.document(event)
            opens = kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent
            # Between an anchor and the block that it names there may be comments.
            width = 0 if opens and not event.flow_style else event.end_mark.index - start
            self.pos = max(self.pos, start + width)
            if kind is yaml.ScalarEvent or kind is yaml.AliasEvent or event.end_mark.index > start:
                self.content = self.pos
        if not self.documents:
            raise bad("the file holds no document", "no_document", 1)
        return Parsed(self.documents, self.aliases, self.duplicates)

    def document(self, event: Any) -> None:
        root = self.root
        line = event.start_mark.line + 1
        if isinstance(root, Scalar) and root.value is None and root.plain:
            # `---` alone is an empty document.
            made = Map(root.start, root.line, 0, False)
            self.place_waiting(made)
            root = made
        if not isinstance(root, Map):
            raise bad("the top level of the file is not a mapping", "not_a_mapping", line)
        self.documents.append(root)
        self.waiting = []

    # values

    def add(self, node: Any, start: int, end: int, line: int) -> None:
        """Put a complete or opened node where the parser stands."""
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        container = top.node
        if isinstance(container, Seq):
            container.items.append(node)
            if not container.flow:
                container.dashes.append(self.text.rfind("-", self.pos if self.pos < start else 0, start))
            else:
                container.dashes.append(start)
        else:
            assert top.key is not None
            name, key_start, key_end = top.key
            container.items.append((name, node))
            container.keys_at.append((key_start, key_end))
            top.key = None
        self.last = (container, len(container.items) - 1)

    def wants_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].node, Map) and self.stack[-1].key is None

    def scalar(self, event: Any) -> None:
        start, end, line = event.start_mark.index, event.end_mark.index, event.start_mark.line + 1
        plain = event.style is None or event.style == ""
        value = scalar_value(event, line)
        if self.wants_key():
            self.key(value, plain, start, end, line)
            return
        if self.waiting and self.stack:
            self.settle_waiting()
        node = Scalar(value, start, end, line, plain)
        if event.anchor:
            self.anchors[event.anchor] = node
        self.add(node, start, end, line)
        if event.style in ("|", ">") and "#" in self.text[start : self.text.find("\n", start)]:
            self.header_comment(start, line)

    def header_comment(self, start: int, line: int) -> None:
        stop = self.line_end(start)
        mark = self.text.find(" #", start, stop)
        if mark >= 0 and not self.text[start:mark].strip("|>+-0123456789 \t!&abcdefghijklmnopqrstuvwxyz"):
            self.behind_value(PlacedComment(self.text[mark + 2 : stop], mark + 2, stop, line, True))

    def key(self, value: Any, plain: bool, start: int, end: int, line: int) -> None:
        if not isinstance(value, str):
            raise bad("a mapping key is not text", "key_type", line)
        top = self.stack[-1]
        if value in top.seen:
            self.duplicates.append((len(self.documents), line))
            if self.strict or not self.documents:
                raise bad("a key stands twice in one mapping", "duplicate_key", line)
        top.seen.add(value)
        top.key = (value, start, end)

    def begin(self, event: Any, mapping: bool) -> None:
        start, line = event.start_mark.index, event.start_mark.line + 1
        if self.wants_key():
            raise bad("a mapping key is not text", "key_type", line)
        flow = bool(event.flow_style)
        column = event.start_mark.column
        node: Map | Seq = Map(start, line, column, flow) if mapping else Seq(start, line, column, flow)
        if event.tag and mapping is False and event.tag == TAG + "map":
            raise bad("a tag does not fit its value", "bad_tag", line)
        self.add(node, start, start, line)
        if event.anchor:
            self.anchors[event.anchor] = node
        self.stack.append(_Open(node))
        self.place_waiting(node)

    def finish(self, event: Any) -> None:
        top = self.stack.pop()
        node = top.node
        node.end = event.end_mark.index if node.flow else self.content
        if self.stack:
            container = self.stack[-1].node
            self.last = (container, len(container.items) - 1)
        if node.flow:
            self.last = (node, -1)

    def alias(self, event: Any) -> None:
        start, end, line = event.start_mark.index, event.end_mark.index, event.start_mark.line + 1
        self.aliases = True
        target = self.anchors.get(event.anchor)
        if target is None or any(frame.node is target for frame in self.stack):
            raise bad("an alias names no anchor before it", "bad_alias", line)
        if self.wants_key():
            if not isinstance(target, Scalar):
                raise bad("a mapping key is not text", "key_type", line)
            self.key(target.value, target.plain, start, end, line)
            return
        if self.waiting and self.stack:
            self.settle_waiting()
        self.add(target, start, end, line)

    # comments

    def comments(self, at: int, event: Any, start: int) -> None:
        """Find the comments between the last event and this one and give each to its owner."""
        text = self.text
        pos = self.pos
        last = bisect_left(self.breaks, start)
        while True:
            mark = text.find("#", pos, start)
            if mark < 0:
                return
            before = text[mark - 1] if mark else "\n"
            if before not in " \t\n\r\x85\u2028\u2029":
                pos = mark + 1
                continue
            stop = self.line_end(mark)
            number = bisect_left(self.breaks, mark)
            line_start = self.starts[number - 1] if number else 0
            column = mark - line_start
            line = event.start_mark.line + 1 - (last - number)
            head = text[line_start:mark]
            inline = bool(head.strip(" \t"))
            comment = PlacedComment(text[mark + 1 : stop], mark + 1, stop, line, inline)
            if inline:
                self.inline(comment, head, event, line_start)
            else:
                self.full_line(comment, column, at, stop, start)
            pos = stop

    def line_end(self, at: int) -> int:
        number = bisect_left(self.breaks, at)
        return self.breaks[number] if number < len(self.breaks) else len(self.text)

    def next_content(self, at: int, end: int) -> str:
        """The first line between `at` and `end` that is neither blank nor a comment, '' if there is none."""
        if at <= self.found[0] < end:
            return self.found[1]
        while at < end:
            stop = min(self.line_end(at), end)
            line = self.text[at:stop]
            if line.strip() and not line.lstrip().startswith("#"):
                self.found = (at, line)
                return line
            number = bisect_left(self.breaks, stop)
            at = self.starts[number] if number < len(self.breaks) else end
        return ""

    def inline(self, comment: PlacedComment, head: str, event: Any, line_start: int) -> None:
        top = self.stack[-1] if self.stack else None
        tail = head.rstrip(" \t")
        if top is None or (self.last is None and top.key is None):
            self.waiting.append(comment)
        elif isinstance(top.node, Map) and top.key is not None:
            if top.node.flow:
                self.front(top.node, comment)
            else:
                self.insert(top.node, len(top.node.items), comment)
        elif tail.endswith("-") and self.pos <= line_start + len(tail) - 1:
            self.waiting.append(comment)
        elif self.last is None or (top.node.flow and not top.node.items):
            self.front(top.node, comment)
        else:
            self.behind_value(comment)

    def behind_value(self, comment: PlacedComment) -> None:
        assert self.last is not None
        container, index = self.last
        if container.flow and (index < 0 or isinstance(container, Map)):
            self.front(container, comment)
        else:
            self.insert(container, index, comment)
            self.last = (container, index + 1)

    def full_line(self, comment: PlacedComment, column: int, at: int, stop: int, start: int) -> None:
        event = self.events[at]
        kind = type(event)
        opens = kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent
        top = self.stack[-1] if self.stack else None
        if top is None:
            if self.root is not None and isinstance(self.root, Map):
                self.insert(self.root, len(self.root.items), comment)
            else:
                self.waiting.append(comment)
            return
        if isinstance(top.node, Map) and top.key is not None:
            if opens and not event.flow_style:
                self.waiting.append(comment)
            else:
                self.insert(top.node, len(top.node.items), comment)
            return
        below_dash = isinstance(top.node, Seq) and not top.node.flow and opens and not event.flow_style
        if below_dash and not self.next_content(stop, start).lstrip().startswith("-"):
            self.waiting.append(comment)
            return
        self.insert_end(self.owner(column, at), comment)

    def owner(self, column: int, at: int) -> Map | Seq:
        """The container of a comment line that stands after a value: by its column, the next content's first."""
        closing = 0
        while type(self.events[at]) in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
            closing += 1
            at += 1
        frames = self.stack[max(0, len(self.stack) - closing - 1) :] or self.stack[:1]
        if not closing or frames[-1].node.flow:
            return frames[-1].node
        if (
            type(self.events[at]) not in (yaml.DocumentEndEvent, yaml.StreamEndEvent)
            and frames[0].node.column == column
        ):
            return frames[0].node
        for frame in reversed(frames):
            if frame.node.column <= column:
                return frame.node
        return frames[0].node

    def insert_end(self, container: Map | Seq, comment: PlacedComment) -> None:
        self.insert(container, len(container.items), comment)

    def insert(self, container: Map | Seq, index: int, comment: PlacedComment) -> None:
        if isinstance(container, Map):
            container.items.insert(index, (comment, None))
            container.keys_at.insert(index, (comment.start, comment.end))
        else:
            container.items.insert(index, comment)
            container.dashes.insert(index, comment.start - 1)

    def front(self, container: Map | Seq, comment: PlacedComment) -> None:
        index = self.fronts.get(id(container), 0)
        while index < len(container.items):
            item = container.items[index]
            if not isinstance(item[0] if isinstance(item, tuple) else item, PlacedComment):
                break
            index += 1
        self.insert(container, index, comment)
        self.fronts[id(container)] = index + 1
        if self.last is not None and self.last[0] is container and self.last[1] >= 0:
            self.last = (container, self.last[1] + 1)

    def place_waiting(self, node: Map | Seq) -> None:
        for comment in self.waiting:
            self.insert_end(node, comment)
        self.waiting = []

    def settle_waiting(self) -> None:
        """Comments that waited for a container but met a scalar belong before it."""
        node = self.stack[-1].node
        for comment in self.waiting:
            self.insert_end(node, comment)
        self.waiting = []
