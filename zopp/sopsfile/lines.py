"""The strict line reader: sops-shaped YAML and JSON to a `Scan` without a parser. Lean.

`scan` answers only where it is certain to agree with the full parser, in what it reads and in what it refuses (a
property test holds it to that); anything else is None, 'ask the parser'. On top of a scan stand the three things
that a command on its fast path needs: open every value, replace one text, add one key.
"""

from os import urandom

from zopp import _fast
from zopp.errors import FormatError
from zopp.sopsfile import cipher, mac, metadata as meta, scan as scans
from zopp.sopsfile.scan import COMMENT, SELECTED, Scan
from zopp.sopsfile.selectors import Selector
from zopp.sopsfile.tree import Comment, Mapping, Sequence, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from zopp.sopsfile.scan import Leaf


def scan(data: bytes, fmt: str) -> "Scan | None":
    """The Scan of a sops-shaped file that a strict reader would accept, or None: ask the full parser."""
    try:
        text = data.decode()
        if fmt == "yaml":
            from zopp.sopsfile import yaml_lines

            return yaml_lines.scan(text, fmt)
        if fmt in ("json", "binary"):
            from zopp.sopsfile import json_lines

            return json_lines.scan(text, fmt)
    except (UnicodeDecodeError, FormatError):
        # Whatever is wrong, the full parser words it.
        return None
    return None


class Marks:
    """Selection by key, remembered: whether a key on the path matches the selector."""

    __slots__ = ("memo", "selected", "selector")

    def __init__(self, selector: Selector) -> None:
        self.selector = selector.check()
        self.memo: "dict[str, bool]" = {}
        # What a leaf's kind is without and with a match above it.
        self.selected = (1, 0) if selector.kind[0] == "u" else (0, 1)

    def __call__(self, key: str) -> bool:
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self.selector.matches(key)
        return found


def decrypt(found: Scan, data_key: bytes) -> "list[tuple[tuple[Any, ...], Any]]":
    """Every leaf a user can name as (path, value), in document order, after every GCM tag and the MAC have been
    checked. IntegrityError if one does not hold."""
    _, values, _ = _opened(found, data_key)
    return [(leaf[1], value) for leaf, value in zip(found.leaves, values, strict=True) if not leaf[0] & COMMENT]


def _opened(found: Scan, data_key: bytes) -> "tuple[Any, list[Any], list[bytes]]":
    if len(data_key) != 32:
        raise FormatError("a data key is 32 bytes", code="key_length")
    aead = _fast.aesgcm(data_key)
    values, pieces = scans.open_leaves(found, aead, [])
    scans.check_mac(found, aead, pieces)
    return aead, values, pieces


def replace(
    found: Scan,
    data_key: bytes,
    path: "tuple[Any, ...]",
    new_value: str,
    lastmodified: str,
    iv: "Callable[[int], bytes]" = urandom,
) -> "bytes | None":
    """The file with another text at `path`, where an encrypted text stands now; the same text gives the same
    bytes. None if that is not the case (ask `edit`). Everything is checked before, and the result is read back and
    compared."""
    if found.documents != 1 or not new_value or not isinstance(new_value, str):
        return None
    at = next((i for i, leaf in enumerate(found.leaves) if leaf[1] == path and not leaf[0] & COMMENT), -1)
    if at < 0 or found.leaves[at][0] != SELECTED:
        return None
    aead, values, pieces = _opened(found, data_key)
    if not isinstance(values[at], str) or not values[at]:
        return None
    if values[at] == new_value:
        return found.encode(found.text)
    leaf = found.leaves[at]
    values[at] = new_value
    only = found.metadata.selector.mac_only_encrypted
    pieces[sum(_hashed(before, only) for before in found.leaves[:at])] = cipher.canonical(new_value)[1]
    from zopp.sopsfile import recipients

    edits = [recipients.restyle(found, leaf[4], leaf[5], cipher.encrypt(aead, new_value, leaf[2], iv))]
    return _finish(found, aead, values, pieces, found.leaves, edits, lastmodified, iv)


def insert(
    found: Scan,
    data_key: bytes,
    key: str,
    value: str,
    lastmodified: str,
    note: "str | None" = None,
    iv: "Callable[[int], bytes]" = urandom,
) -> "bytes | None":
    """The file with a new top-level key at its end, before `sops`, `note` as comment lines above it. None if the key
    exists, is reserved, would stay in the clear, or needs quoting (ask `edit`)."""
    leaves = found.leaves
    if found.documents != 1 or not leaves or not value or not isinstance(value, str) or key == "sops":
        return None
    if any(leaf[1][:1] == (key,) for leaf in leaves):
        return None
    if found.metadata.selector.by_comment or not found.metadata.selector.selects((key,)):
        return None
    from zopp.sopsfile import plainscalar

    if found.fmt == "yaml" and not plainscalar.is_plain(key):
        return None
    block = found.blocks[0]
    text = found.text
    last = max(leaf[5] for leaf in leaves)
    if block.start < last or block.flow == (found.fmt == "yaml"):
        return None
    aead, values, pieces = _opened(found, data_key)
    pieces.append(cipher.canonical(value)[1])
    sealed = cipher.encrypt(aead, value, f"{key}:", iv)
    added: "list[Any]" = []
    if found.fmt != "yaml":
        comma = text.rfind(",", 0, block.start)
        gap = text[comma + 1 : block.start]
        if gap.strip(" \t\r\n") or text[comma - 1] not in '"}]0123456789el':
            return None
        edits = [(comma, comma, f',{gap}{meta.quote(key)}: "{sealed}"')]
    else:
        end = text.find("\n", last)
        if end < 0:
            return None
        top = SELECTED if found.metadata.selector.selects(()) else 0
        body = ""
        for line in [] if note is None else note.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
            shown = " " + line if line else ""
            added.append(((top | COMMENT, (), ":"), Comment(shown)))
            body += f"#{cipher.encrypt(aead, Comment(shown), ':', iv) if top else shown}{found.newline}"
        edits = [(end + 1, end + 1, f"{body}{key}: {sealed}{found.newline}")]
    added.append(((SELECTED, (key,), f"{key}:"), value))
    values += [item for _, item in added]
    return _finish(found, aead, values, pieces, [*leaves, *(head for head, _ in added)], edits, lastmodified, iv)


def _hashed(leaf: "Leaf", only: bool) -> bool:
    """Whether a leaf has a piece in the MAC."""
    if leaf[0] == SELECTED:
        return leaf[3].__class__ is str and leaf[3] != ""
    return not leaf[0] and not only and leaf[3] is not None and not isinstance(leaf[3], (Mapping, Sequence))


def _finish(
    found: Scan,
    aead: "Any",
    values: "list[Any]",
    pieces: "list[bytes]",
    wanted: "list[Any]",
    edits: "list[tuple[int, int, str]]",
    lastmodified: str,
    iv: "Callable[[int], bytes]",
) -> "bytes | None":
    """Seal the MAC over the new pieces, splice, read back, compare with the `wanted` leaves (or their first three
    fields) and values. None if the result is not what was meant."""
    from zopp.sopsfile import recipients

    only = found.metadata.selector.mac_only_encrypted
    edits += recipients.stamp_edits(found, lastmodified, mac.seal(aead, pieces, only, lastmodified, iv))
    data = found.encode(scans.splice(found.text, edits))
    made = scan(data, found.fmt)
    if made is None or len(made.leaves) != len(wanted):
        return None
    fresh: "list[Leaf]" = []
    expected = []
    for leaf, head, value in zip(made.leaves, wanted, values, strict=True):
        if leaf[:3] != head[:3]:
            return None
        # The same text in the same place under the same key has been opened already.
        if len(head) == 3 or leaf[3] != head[3]:
            fresh.append(leaf)
            expected.append(value)
    old, new = found.metadata, made.metadata
    part = Scan(made.text, made.fmt, fresh, new, made.blocks)
    if len(fresh) > len(wanted) - len(found.leaves) + 1 or not all(
        map(same, scans.open_leaves(part, aead, [])[0], expected)
    ):
        return None
    scans.check_mac(made, aead, pieces)
    if (old.groups, old.threshold, old.selector, old.version) != (
        new.groups,
        new.threshold,
        new.selector,
        new.version,
    ):
        return None
    return data


def tree_of(leaves: "list[Leaf]", values: "list[Any]") -> Mapping:
    """The document of a scan that this module made: one document, no repeated keys, no aliases."""
    root = Mapping()
    places: "dict[tuple[Any, ...], Any]" = {(): root}
    waiting: "dict[tuple[Any, ...], list[Comment]]" = {}

    def container(path: "tuple[Any, ...]", first: "Any") -> "Any":
        found = places.get(path)
        if found is None:
            found = places[path] = Sequence() if isinstance(first, int) else Mapping()
            put(container(path[:-1], path[-1]), path[-1], found)
        if waiting and path in waiting:
            for comment in waiting.pop(path):
                put(found, comment, None)
        return found

    def put(parent: "Any", head: "Any", value: "Any") -> None:
        if isinstance(parent, Mapping):
            parent.items.append((head, value))
        else:
            parent.items.append(head if isinstance(head, Comment) else value)

    after: "tuple[Any, ...]" = ()
    # From the end, so that each comment knows the leaf that follows it: a list may hold comments and nothing else.
    followers: "list[tuple[Any, ...]]" = []
    for leaf in reversed(leaves):
        followers.append(after)
        if not leaf[0] & COMMENT:
            after = leaf[1]
    for leaf, value, follower in zip(leaves, values, reversed(followers), strict=True):
        path = leaf[1]
        if not leaf[0] & COMMENT:
            put(container(path[:-1], path[-1]), path[-1], value)
        elif path in places or follower[: len(path)] != path or len(follower) == len(path):
            put(container(path, 0), value, None)
        else:
            waiting.setdefault(path, []).append(value)
    return root
