"""From a placed tree to a `Scan`: takes the `sops` block out of each document and reads it (spec sops-compat 6.3,
8)."""

from __future__ import annotations

from zopp.errors import FormatError
from zopp.sopsfile import metadata as meta
from zopp.sopsfile.cst import Map, Parsed, Scalar, Seq, flatten
from zopp.sopsfile.scan import Block, Field, Scan
from zopp.sopsfile.tree import Comment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KEY = "sops"


def plain_of(node: Any) -> Any:
    """Plain dicts, lists and scalars of a placed node."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Map):
        return {key: plain_of(value) for key, value in node.items if isinstance(key, str)}
    return [plain_of(item) for item in node.items if not isinstance(item, Comment)]


def find(document: Map) -> tuple[int, Any] | None:
    """(index among the items, node) of the `sops` key."""
    return next(((at, node) for at, (key, node) in enumerate(document.items) if key == KEY), None)


def line_after(text: str, at: int) -> int:
    """The offset behind the line in which a node ends at `at` (which may be the start of the next line already)."""
    if at > 0 and text[at - 1] == "\n":
        return at
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def block_of(text: str, document: Map, index: int, node: Any) -> Block:
    """Where the block and its fields stand."""
    key_start, key_end = document.keys_at[index]
    flow = isinstance(node, Map) and (node.flow or document.flow)
    fields = []
    if isinstance(node, Map):
        for (key, value), at in zip(node.items, node.keys_at, strict=True):
            if isinstance(key, Comment):
                continue
            span = (value.start, value.end)
            if flow:
                fields.append(Field(key, at[0], at, span, value.end))
            else:
                start = text.rfind("\n", 0, at[0]) + 1
                fields.append(Field(key, start, at, span, line_after(text, max(value.end, at[1]))))
    column = node.column if isinstance(node, (Map, Seq)) else 0
    if flow:
        return Block(key_start, node.end, column, True, fields)
    start = text.rfind("\n", 0, key_start) + 1
    return Block(start, line_after(text, max(node.end, key_end)), column, False, fields)


def scan_of(text: str, fmt: str, parsed: Parsed, prefix: bytes, *, strict: bool) -> Scan:
    """The Scan of a parsed file. FormatError if it holds no metadata, and, `strict`, for what a listed file may not
    have."""
    blocks: list[Block] = []
    plains: list[Any] = []
    for number, document in enumerate(parsed.documents):
        found = find(document)
        if found is None:
            if number == 0:
                raise FormatError("the file has no sops metadata", code="no_metadata")
            if strict:
                raise FormatError("the documents disagree on their metadata", code="metadata_differs")
            continue
        index, node = found
        if not isinstance(node, Map):
            raise FormatError("the sops block is not a mapping", code="bad_metadata", place=f"line {node.line}")
        blocks.append(block_of(text, document, index, node))
        plains.append(plain_of(node))
    metadata = meta.Metadata(plains[0])
    if strict:
        meta.check_strict(metadata)
        if any(plain != plains[0] for plain in plains[1:]):
            raise FormatError("the documents disagree on their metadata", code="metadata_differs")
    leaves = []
    for number, document in enumerate(parsed.documents):
        leaves += flatten(document, metadata.selector, number, skip=KEY)
    scan = Scan(text, fmt, leaves, metadata, blocks, prefix)
    scan.documents = len(parsed.documents)
    return scan
