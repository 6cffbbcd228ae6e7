"""Reading a sops file without a key, and opening it with one (spec sops-compat 2 to 8)."""

from __future__ import annotations

from zopp import _fast
from zopp.errors import FormatError
from zopp.sopsfile import lines, scan as scans
from zopp.sopsfile.cst import Parsed, rebuild_document
from zopp.sopsfile.formats import format_of as format_of
from zopp.sopsfile.metadata import Metadata
from zopp.sopsfile.scan import COMMENT, SELECTED, Scan
from zopp.sopsfile.stores import blocks
from zopp.sopsfile.tree import Mapping, Sequence, Timestamp, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_READ = ("yaml", "json", "binary", "dotenv", "ini")


class Item:
    """One leaf as it stands in the file: `text` is the `ENC[…]` or the clear scalar's text, `document` counts from
    0."""

    __slots__ = ("document", "encrypted", "line", "path", "text")

    def __init__(self, path: tuple[Any, ...], text: str, encrypted: bool, line: int, document: int) -> None:
        self.path = path
        self.text = text
        self.encrypted = encrypted
        self.line = line
        self.document = document

    def __repr__(self) -> str:
        return f"Item({self.path!r}, …)"


class SopsFile:
    """A file that was read: bytes, format, metadata, leaves. Nothing of it is trusted until `decrypt` has checked it,
    and then only what the MAC covers."""

    __slots__ = ("_parsed", "_strict", "data", "fmt", "scan")

    def __init__(self, data: bytes, fmt: str, scan: Scan, parsed: Parsed | None, strict: bool) -> None:
        self.data = data
        self.fmt = fmt
        self.scan = scan
        self._parsed = parsed
        self._strict = strict

    @property
    def metadata(self) -> Metadata:
        return self.scan.metadata

    @property
    def is_lean(self) -> bool:
        """Whether the line reader read it and no placed tree has been made."""
        return self._parsed is None

    @property
    def parsed(self) -> Parsed:
        """The placed tree, from the full parser."""
        if self._parsed is None:
            self._parsed = parse(self.scan.text, self.fmt, strict=self._strict)
        return self._parsed

    def items(self) -> list[Item]:
        """Every leaf a user can name, in document order: no comments; nulls and empty containers are among them."""
        return [
            Item(path, clear_text(value), bool(kind & SELECTED) and value.__class__ is str, line, document)
            for kind, path, _, value, _, _, line, document in self.scan.leaves
            if not kind & COMMENT
        ]

    def paths(self) -> list[tuple[Any, ...]]:
        """The path of every item. Paths of later documents stand there too; `items` tells them apart."""
        return [leaf[1] for leaf in self.scan.leaves if not leaf[0] & COMMENT]

    def decrypt(self, data_key: bytes, *, check_mac: bool = True) -> Tree:
        """The plaintext. Every value's tag is checked, and then the MAC unless `check_mac` is false.
        IntegrityError, placed at a line, if one does not hold. Keys, structure, nulls and comments are not covered."""
        aead = _fast.aesgcm(check_key(data_key))
        warnings: list[tuple[int, str]] = []
        values, pieces = scans.open_leaves(self.scan, aead, warnings)
        if check_mac:
            scans.check_mac(self.scan, aead, pieces)
        if self._parsed is None:
            return Tree([lines.tree_of(self.scan.leaves, values)], warnings)
        stream = iter(values)
        return Tree([rebuild_document(document, stream, blocks.KEY) for document in self.parsed.documents], warnings)

    def __repr__(self) -> str:
        return f"SopsFile({self.fmt}, {len(self.scan.leaves)} leaves)"


def check_key(data_key: bytes) -> bytes:
    """The key itself; FormatError unless it is 32 bytes."""
    if len(data_key) != 32:
        raise FormatError("a data key is 32 bytes", code="key_length")
    return data_key


def clear_text(value: Any) -> str:
    """The text of a leaf's stored value."""
    from zopp.sopsfile.stores.yaml_write import scalar_text

    return value if isinstance(value, str) else scalar_text(value)


def parse(text: str, fmt: str, *, strict: bool) -> Parsed:
    """The placed tree of a file's text."""
    if fmt == "yaml":
        from zopp.sopsfile.stores import yaml_read

        return yaml_read.parse(text, strict=strict)
    if fmt in ("json", "binary"):
        from zopp.sopsfile.stores import json_read

        return json_read.parse(text, strict=strict)
    if fmt == "dotenv":
        from zopp.sopsfile.stores import dotenv

        return dotenv.parse(text)
    if fmt == "ini":
        from zopp.sopsfile.stores import ini

        return ini.parse(text)
    raise FormatError("there is no such store", code="bad_format", fmt=fmt)


def read(data: bytes, fmt: str, *, strict: bool = True) -> SopsFile:
    """Parse an encrypted file. `fmt`: yaml, json, dotenv, ini or binary.

    FormatError with a stable code if sops could not read it either, or, `strict`, if it holds what a file listed in a
    manifest may not (attack A4). Nothing is decrypted or verified here."""
    found = lines.scan(data, fmt)
    if found is not None:
        return SopsFile(data, fmt, found, None, strict)
    return read_full(data, fmt, strict=strict)


def read_full(data: bytes, fmt: str, *, strict: bool = True) -> SopsFile:
    """`read` by the full parser alone."""
    text, prefix = scans.decode(data)
    if prefix and fmt in ("json", "binary"):
        raise FormatError("a byte order mark stands before the JSON text", code="bad_json", place="line 1")
    try:
        parsed = parse(text, fmt, strict=strict)
        scan = blocks.scan_of(text, fmt, parsed, prefix, strict=strict)
    except RecursionError:
        raise FormatError("the document is nested too deeply", code="too_deep") from None
    return SopsFile(data, fmt, scan, parsed, strict)


def load_plain(data: bytes, fmt: str) -> Tree:
    """A plaintext YAML, JSON or binary file as a tree. FormatError for what cannot be encrypted: reserved `sops` keys,
    duplicate keys in any document, integers beyond 64 bits, truncated JSON."""
    if fmt == "binary":
        try:
            return Tree([Mapping([("data", data.decode())])])
        except UnicodeDecodeError:
            return Tree([Mapping([("data", data)])])
    if fmt not in ("yaml", "json"):
        raise FormatError("this store cannot be written yet", code="unsupported_write", fmt=fmt)
    text, prefix = scans.decode(data)
    if fmt == "yaml" and not prefix:
        from zopp.sopsfile import yaml_lines

        quick = yaml_lines.plain(text)
        if quick is not None:
            return Tree([quick])
    try:
        if fmt == "json":
            from zopp.sopsfile.stores import json_read

            if prefix:
                raise FormatError("a byte order mark stands before the JSON text", code="bad_json", place="line 1")
            parsed = json_read.parse(text, new=True)
        else:
            from zopp.sopsfile.stores import yaml_read

            parsed = yaml_read.parse(text, strict=False)
            if parsed.duplicates:
                raise FormatError(
                    "a key stands twice in one mapping", code="duplicate_key", place=f"line {parsed.duplicates[0][1]}"
                )
        tree = Tree([unplace(document) for document in parsed.documents])
    except RecursionError:
        raise FormatError("the document is nested too deeply", code="too_deep") from None
    if any(blocks.KEY in document for document in tree.documents):
        raise FormatError("the key sops is reserved for the metadata", code="reserved")
    return tree


def unplace(node: Any) -> Any:
    """A placed tree as a plaintext tree of its own."""
    from zopp.sopsfile.cst import MAX_LEAVES, Scalar
    from zopp.sopsfile.tree import Comment

    budget = MAX_LEAVES

    def copy(node: Any) -> Any:
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise FormatError("the document has too many values", code="too_large")
        if isinstance(node, Scalar):
            return node.value
        if isinstance(node, Mapping):
            return Mapping(
                [
                    (Comment(key.text, key.inline), None) if isinstance(key, Comment) else (key, copy(value))
                    for key, value in node.items
                ]
            )
        assert isinstance(node, Sequence)
        return Sequence([Comment(i.text, i.inline) if isinstance(i, Comment) else copy(i) for i in node.items])

    return copy(node)


def dump_plain(tree: Tree, fmt: str) -> bytes:
    """A plaintext tree as sops would print it. What was written is parsed again and compared: FormatError if a value
    cannot stand in `fmt` (several documents in JSON, a list comment excepted, which vanishes there)."""
    if fmt == "binary":
        data = tree.documents[0].get("data") if "data" in tree.documents[0] else None
        if isinstance(data, bytes):
            return data
        if isinstance(data, str):
            return data.encode()
        raise FormatError("a binary file holds one value", code="value_type")
    try:
        text = _dumped(tree, fmt)
    except RecursionError:
        raise FormatError("the document is nested too deeply", code="too_deep") from None
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise FormatError("a value holds half of a surrogate pair", code="lone_surrogate") from None
    back = load_plain(data, fmt)
    if not all(map(_reads_back, tree.documents, back.documents)) or len(back.documents) != len(tree.documents):
        raise FormatError("a value cannot be written so that it reads back", code="not_round_trip")
    return data


def _dumped(tree: Tree, fmt: str) -> str:
    if fmt == "yaml":
        from zopp.sopsfile.stores import yaml_write

        return yaml_write.dump(tree.documents)
    if fmt == "json":
        from zopp.sopsfile.stores import json_write

        if len(tree.documents) != 1:
            raise FormatError("JSON cannot hold several documents", code="several_documents")
        return json_write.dump(tree.documents[0])
    raise FormatError("this store cannot be written yet", code="unsupported_write", fmt=fmt)


def _reads_back(old: Any, new: Any) -> bool:
    """Whether `new` holds what `old` held: comments may vanish or move, 1.0 may print as 1, a time as text in JSON."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        pairs = [(k, v) for k, v in old.items if isinstance(k, str)]
        back = [(k, v) for k, v in new.items if isinstance(k, str)]
        return len(pairs) == len(back) and all(
            a[0] == b[0] and _reads_back(a[1], b[1]) for a, b in zip(pairs, back, strict=True)
        )
    if isinstance(old, Sequence) and isinstance(new, Sequence):
        olds, news = old.nodes(), new.nodes()
        return len(olds) == len(news) and all(map(_reads_back, olds, news))
    if isinstance(old, float) and isinstance(new, (int, float)):
        return bool(old == new or old != old)
    if isinstance(old, Timestamp):
        return bool(old == new or old.text == new)
    return type(old) is type(new) and bool(old == new)
