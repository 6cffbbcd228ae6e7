"""What every reader makes of a sops file: its leaves with their places, its metadata with its places. Lean.

A leaf is a tuple `(kind, path, aad, value, start, end, line, document)`:
kind        bit SELECTED: the selector says it is encrypted; bit COMMENT: a comment (its path is its container's)
value       SELECTED: the text as it stands (`ENC[…]`, or "" ), else the typed clear value; comments: the text after
`#`.
            None, an empty Mapping or an empty Sequence are kept as such and never encrypted
start, end  character offsets of the scalar with its quotes, or of a comment's text
"""

from zopp.errors import FormatError, IntegrityError
from zopp.sopsfile import cipher, mac
from zopp.sopsfile.tree import Comment, Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from zopp.sopsfile.metadata import Metadata

    Leaf = tuple[int, tuple[Any, ...], str, Any, int, int, int, int]

SELECTED, COMMENT = 1, 2
MAX_DEPTH = 100


class Field:
    """One field of a `sops` block: `start`-`end` is the whole (block style: whole lines), then its key and its
    value."""

    __slots__ = ("end", "key_end", "key_start", "name", "start", "value_end", "value_start")

    def __init__(self, name: str, start: int, key: "tuple[int, int]", value: "tuple[int, int]", end: int) -> None:
        self.name = name
        self.start = start
        self.key_start, self.key_end = key
        self.value_start, self.value_end = value
        self.end = end

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Field) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Field({', '.join(f'{n}={getattr(self, n)!r}' for n in self.__slots__)})"


class Block:
    """Where the `sops` block of one document stands. `flow`: braces, else YAML block style at `column`.
    `start` is the offset of its key (block style: of that line), `key_line` the key's line."""

    __slots__ = ("column", "end", "fields", "flow", "start")

    def __init__(self, start: int, end: int, column: int, flow: bool, fields: "list[Field]") -> None:
        self.start = start
        self.end = end
        self.column = column
        self.flow = flow
        self.fields = fields

    def field(self, name: str) -> "Field | None":
        return next((field for field in self.fields if field.name == name), None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Block({', '.join(f'{n}={getattr(self, n)!r}' for n in self.__slots__)})"


class Scan:
    """A read file. `prefix` is a byte order mark that stood before `text`; `newline` the line end to write."""

    __slots__ = ("blocks", "documents", "fmt", "leaves", "metadata", "newline", "prefix", "text")

    def __init__(
        self,
        text: str,
        fmt: str,
        leaves: "list[Leaf]",
        metadata: "Metadata",
        blocks: "list[Block]",
        prefix: bytes = b"",
    ) -> None:
        self.text = text
        self.fmt = fmt
        self.leaves = leaves
        self.metadata = metadata
        self.blocks = blocks
        self.documents = max(1, len(blocks))
        self.prefix = prefix
        end = text.find("\n")
        self.newline = "\r\n" if end > 0 and text[end - 1] == "\r" else "\n"

    def encode(self, text: str) -> bytes:
        """The bytes of an edited text of this file."""
        return self.prefix + text.encode()

    def __repr__(self) -> str:
        return f"Scan({self.fmt}, {len(self.leaves)} leaves)"


def decode(data: bytes) -> "tuple[str, bytes]":
    """(text, byte order mark) of UTF-8 bytes; FormatError with the line of the first byte that is not UTF-8."""
    prefix = b"\xef\xbb\xbf" if data[:3] == b"\xef\xbb\xbf" else b""
    try:
        return data[len(prefix) :].decode(), prefix
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        # CPython words a decoded half of a surrogate pair (CESU) as an invalid continuation; its lead byte tells it.
        code = "lone_surrogate" if data[len(prefix) + exc.start] == 0xED else "not_utf8"
        raise FormatError("the file is not UTF-8", code=code, place=f"line {line}") from None


def splice(text: str, edits: "list[tuple[int, int, str]]") -> str:
    """`text` with each (start, end, replacement) applied; the spans may come in any order and must not overlap."""
    parts = []
    at = 0
    for start, end, new in sorted(edits, key=_span):
        if start < at:
            raise FormatError("two changes overlap", code="unsupported_layout")
        parts.append(text[at:start])
        parts.append(new)
        at = end
    parts.append(text[at:])
    return "".join(parts)


def _span(edit: "tuple[int, int, str]") -> "tuple[int, int]":
    return edit[0], edit[1]


def open_leaves(scan: Scan, aead: "Any", warnings: "list[tuple[int, str]]") -> "tuple[list[Any], list[bytes]]":
    """(values, MAC pieces): every leaf's plaintext in order, every GCM tag checked. Comments give `Comment`s; one whose
    ciphertext does not open keeps its text and adds (line, "bad_comment") to `warnings`, as in sops.
    IntegrityError, placed at a line, for any other value that does not open."""
    values: "list[Any]" = []
    pieces: "list[bytes]" = []
    add, piece = values.append, pieces.append
    only = scan.metadata.selector.mac_only_encrypted
    open_text, canonical, value_of = cipher.open_text, cipher.canonical, cipher.value_of
    line = 0
    try:
        for kind, _, aad, value, _, _, line, _ in scan.leaves:
            if kind == SELECTED:
                if value.__class__ is not str:
                    if value is None or isinstance(value, (Mapping, Sequence)):
                        add(value)
                        continue
                    raise IntegrityError("a value that should be encrypted is not", code="not_encrypted")
                if not value:
                    add("")
                    continue
                tag, plain = open_text(aead, value, aad.encode())
                if tag == "str":
                    piece(plain)
                    try:
                        add(plain.decode())
                    except UnicodeDecodeError:
                        add(plain)
                    continue
                opened = value_of(tag, plain)
                if tag == "comment":
                    raise IntegrityError("a comment stands where a value should", code="value_type")
                add(opened)
                piece(canonical(opened)[1])
            elif kind & COMMENT:
                add(_open_comment(kind, value, aad, aead, line, warnings))
            else:
                add(value)
                if not only and value is not None and not isinstance(value, (Mapping, Sequence)):
                    piece(canonical(value)[1])
    except IntegrityError as exc:
        exc.place = exc.place or f"line {line}"
        raise
    return values, pieces


def _open_comment(kind: int, text: str, aad: str, aead: "Any", line: int, warnings: "list[tuple[int, str]]") -> Comment:
    if not kind & SELECTED or not text:
        return Comment(text)
    try:
        tag, plain = cipher.open_text(aead, text, aad.encode())
        return Comment(plain.decode()) if tag == "comment" else Comment(text)
    except (IntegrityError, UnicodeDecodeError):
        warnings.append((line, "bad_comment"))
        return Comment(text)


def check_mac(scan: Scan, aead: "Any", pieces: "list[bytes]") -> None:
    """IntegrityError unless the file's MAC fits the pieces of `open_leaves`."""
    meta = scan.metadata
    mac.check(aead, pieces, meta.selector.mac_only_encrypted, meta.lastmodified, meta.mac)
