"""Giving a read file other recipients, or every value another data key, without touching anything else. Lean."""

from os import urandom

from zopp import _fast
from zopp.errors import FormatError
from zopp.sopsfile import cipher, mac, recipients, scan as scans
from zopp.sopsfile.scan import COMMENT, SELECTED, Scan
from zopp.sopsfile.tree import Comment, Mapping, Sequence, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from zopp.sopsfile.recipients import Groups
    from zopp.sopsfile.sealing import Stash


def reread(data: bytes, fmt: str) -> Scan:
    """A Scan of what was just written, strictly."""
    from zopp.sopsfile import lines

    found = lines.scan(data, fmt)
    if found is not None:
        return found
    from zopp.sopsfile.file import read_full

    try:
        return read_full(data, fmt, strict=False).scan
    except FormatError:
        raise FormatError("the layout of the file cannot be changed in place", code="unsupported_layout") from None


def check_same_leaves(old: Scan, new: Scan) -> None:
    """FormatError unless both hold the same leaves in the same places of the tree."""
    if [leaf[:3] for leaf in old.leaves] != [leaf[:3] for leaf in new.leaves]:
        raise FormatError("the layout of the file cannot be changed in place", code="unsupported_layout")


def check_groups(new: Scan, groups: "Groups", threshold: "int | None") -> None:
    """FormatError unless a file that was just written names these recipients and no others."""
    wanted = None if len(groups) == 1 else (len(groups) if threshold is None else threshold)
    meta = new.metadata
    if meta.groups != tuple(map(tuple, groups)) or (wanted is not None and meta.threshold != wanted) or meta.mixed:
        raise FormatError("the layout of the file cannot be changed in place", code="unsupported_layout")


def replace_groups(scan: Scan, groups: "Groups", threshold: "int | None") -> bytes:
    """The file with other recipients. Values, MAC, time, version and entries of other key types stay byte for byte.

    The caller must have wrapped the file's own data key (or shares of it) for exactly these; that is not checked
    here."""
    recipients.check_writable(scan)
    data = scan.encode(scans.splice(scan.text, recipients.group_edits(scan, groups, threshold)))
    new = reread(data, scan.fmt)
    check_groups(new, groups, threshold)
    meta, made = scan.metadata, new.metadata
    if [leaf[:4] for leaf in scan.leaves] != [leaf[:4] for leaf in new.leaves] or (
        (meta.mac, meta.lastmodified, meta.selector, meta.version, meta.foreign)
        != (made.mac, made.lastmodified, made.selector, made.version, made.foreign)
    ):
        raise FormatError("the layout of the file cannot be changed in place", code="unsupported_layout")
    return data


def rotate(
    scan: Scan,
    old_key: bytes,
    new_key: bytes,
    groups: "Groups",
    threshold: "int | None",
    lastmodified: str,
    iv: "Callable[[int], bytes]" = urandom,
    reuse: "Stash | None" = None,
) -> bytes:
    """The file with every encrypted value under `new_key` with a new IV, and with these recipients. Layout, clear text
    and version stay. `reuse`: texts under `new_key` that are taken for the values they hold. IntegrityError if a value
    or the MAC does not hold under `old_key`; FormatError (`foreign_keys`) if the file names other key types, for which
    zopp cannot wrap."""
    recipients.check_writable(scan)
    if scan.metadata.foreign:
        raise FormatError("the file names other key types, which must be dropped first", code="foreign_keys")
    if len(new_key) != 32 or len(old_key) != 32:
        raise FormatError("a data key is 32 bytes", code="key_length")
    if old_key == new_key:
        raise FormatError("the new data key is the old one", code="same_key")
    old_aead, aead = _fast.aesgcm(old_key), _fast.aesgcm(new_key)
    warnings: "list[tuple[int, str]]" = []
    values, pieces = scans.open_leaves(scan, old_aead, warnings)
    scans.check_mac(scan, old_aead, pieces)
    unopened = {line for line, _ in warnings}
    ready = {what: list(texts) for what, texts in (reuse or {}).items()}
    edits = []
    for leaf, value in zip(scan.leaves, values, strict=True):
        kind, _, aad, stored, start, end, line, _ = leaf
        if not kind & SELECTED or not stored or value is None or isinstance(value, (Mapping, Sequence)):
            continue
        if kind & COMMENT and line in unopened:
            continue
        kept = ready.get((aad, *cipher.canonical(value))) if ready else None
        text = kept.pop() if kept else cipher.encrypt(aead, value, aad, iv)
        edits.append(comment_edit(scan, leaf, text) if kind & COMMENT else recipients.restyle(scan, start, end, text))
    sealed = mac.seal(aead, pieces, scan.metadata.selector.mac_only_encrypted, lastmodified, iv)
    edits += recipients.stamp_edits(scan, lastmodified, sealed)
    edits += recipients.group_edits(scan, groups, threshold)
    data = scan.encode(scans.splice(scan.text, edits))
    new = reread(data, scan.fmt)
    check_groups(new, groups, threshold)
    check_same_leaves(scan, new)
    check_values(new, aead, values)
    return data


def comment_edit(scan: Scan, leaf: "Any", new: str) -> "tuple[int, int, str]":
    """The edit of a comment's text; one that stands as a list item has a scalar's quotes."""
    start, end = leaf[4], leaf[5]
    if start and scan.text[start - 1] == "#" and scan.fmt == "yaml":
        return start, end, new
    return recipients.restyle(scan, start, end, new)


def check_values(new: Scan, aead: "Any", values: "list[Any]") -> None:
    """FormatError unless a file that was just written opens to exactly these values, MAC included."""
    found, pieces = scans.open_leaves(new, aead, [])
    scans.check_mac(new, aead, pieces)
    for old, made in zip(values, found, strict=True):
        if not same(old, made) and not (isinstance(old, Comment) and isinstance(made, Comment)):
            raise FormatError("the layout of the file cannot be changed in place", code="unsupported_layout")
