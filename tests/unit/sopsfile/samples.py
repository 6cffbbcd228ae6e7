"""Test keys and small files; nothing here opens anything real."""

from typing import Any

from zopp.sopsfile import Entry, Mapping, Sequence, SopsFile, Tree, encrypt, from_plain, read

KEY = bytes(range(32))
OTHER = bytes(range(32, 64))
NOW, LATER = "2024-01-02T03:04:05Z", "2025-06-07T08:09:10Z"
ARMOR = "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"


def entry(name: str = "age1test") -> Entry:
    return Entry(name, ARMOR)


FLAT = ((entry(),),)
GROUPED = ((entry("age1a"),), (entry("age1b"), entry("age1c")), (entry("age1d"),))


def tree(value: dict[str, Any]) -> Tree:
    made = from_plain(value)
    assert isinstance(made, Mapping)
    return Tree([made])


def encrypted(value: dict[str, Any] | Tree, fmt: str = "yaml", **options: Any) -> bytes:
    source = value if isinstance(value, Tree) else tree(value)
    options.setdefault("lastmodified", NOW)
    groups = options.pop("groups", FLAT)
    return encrypt(source, fmt, KEY, groups, **options)


def file(value: dict[str, Any] | Tree, fmt: str = "yaml", **options: Any) -> SopsFile:
    return read(encrypted(value, fmt, **options), fmt)


def shape(node: Any) -> Any:
    """A tree as nested tuples with type names, so that 1, 1.0, True and "1" differ."""
    if isinstance(node, Tree):
        return [shape(document) for document in node.documents]
    if isinstance(node, Mapping):
        return [(key if isinstance(key, str) else ("#", key.text), shape(value)) for key, value in node.items]
    if isinstance(node, Sequence):
        return [shape(item) for item in node.items]
    return type(node).__name__, getattr(node, "text", repr(node))


def changed_lines(before: bytes, after: bytes) -> tuple[list[bytes], list[bytes]]:
    """(lines only in before, lines only in after), in order."""
    import difflib

    rows = list(difflib.ndiff(before.decode().splitlines(True), after.decode().splitlines(True)))
    return [r[2:].encode() for r in rows if r[0] == "-"], [r[2:].encode() for r in rows if r[0] == "+"]
