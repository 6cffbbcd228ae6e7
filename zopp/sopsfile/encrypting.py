"""A first encryption: a plaintext tree to a sops file, laid out as sops' emitter does (spec sops-compat 5, 6.5, 8)."""

from __future__ import annotations

import os
from collections.abc import Callable

from zopp import _fast
from zopp.errors import FormatError
from zopp.sopsfile import mac, metadata as meta, scan as scans
from zopp.sopsfile.file import check_key, read
from zopp.sopsfile.metadata import Entry
from zopp.sopsfile.scan import COMMENT, SELECTED
from zopp.sopsfile.sealing import SealingWalk, fresh, piece, stored_tree
from zopp.sopsfile.selectors import DEFAULT_SELECTOR, Selector
from zopp.sopsfile.stores import json_write, yaml_write
from zopp.sopsfile.tree import Comment, Mapping, Sequence, Tree, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def encrypt(
    tree: Tree,
    fmt: str,
    data_key: bytes,
    groups: tuple[tuple[Entry, ...], ...],
    *,
    threshold: int | None = None,
    selector: Selector = DEFAULT_SELECTOR,
    lastmodified: str,
    version: str = meta.DEFAULT_VERSION,
    allow_clear: bool = False,
    iv: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """The bytes of a new file. `groups` must hold `data_key` (or its shares) wrapped for each recipient already.

    The result has been read back, opened and compared before it is returned. FormatError: reserved `sops` keys
    (`reserved`), an invalid selector, a selector that encrypts nothing although there are values (`nothing_encrypted`,
    unless `allow_clear`), values that sops cannot hold, a format that cannot be written yet."""
    if fmt not in ("yaml", "json", "binary"):
        raise FormatError("this store cannot be written yet", code="unsupported_write", fmt=fmt)
    if fmt != "yaml" and len(tree.documents) != 1:
        raise FormatError("JSON cannot hold several documents", code="several_documents")
    if not tree.documents:
        raise FormatError("the file holds no document", code="no_document")
    if any("sops" in document for document in tree.documents):
        raise FormatError("the key sops is reserved for the metadata", code="reserved")
    aead = _fast.aesgcm(check_key(data_key))
    if fmt == "binary":
        selector = DEFAULT_SELECTOR
    selector.check()
    walks, documents = _seal(tree, fmt, aead, selector, _pooled() if iv is os.urandom else iv)
    leaves = [(node, kind) for walk in walks for node, kind, _ in walk.taken]
    if not allow_clear and not any(walk.encrypted for walk in walks):
        pieces = [piece(node.value, SELECTED, False) for node, kind in leaves if not kind & COMMENT]
        if any(pieces):
            raise FormatError("the selector would leave every value in the clear", code="nothing_encrypted")
    only = selector.mac_only_encrypted
    pieces = [b"" if kind & COMMENT else piece(node.value, kind, only) for node, kind in leaves]
    sealed = mac.seal(aead, pieces, only, lastmodified, iv)
    recipients = meta.recipients_plain(groups, threshold, null=[] if fmt == "yaml" else None)
    block = meta.block_plain(recipients, lastmodified, sealed, None if fmt == "binary" else selector, version)
    data = _emit(documents, fmt, block).encode()
    _check(data, fmt, aead, tree, walks, pieces)
    return data


def _seal(
    tree: Tree, fmt: str, aead: Any, selector: Selector, iv: Callable[[int], bytes]
) -> tuple[list[SealingWalk], list[Mapping]]:
    walks, documents = [], []
    for number, document in enumerate(tree.documents):
        # A file's own selector may leave values in the clear; that every value does so is what is refused.
        walk = SealingWalk(selector, number, aead, allow_clear=True, iv=iv, stash={})
        made = fresh(without_map_comments(document) if fmt != "yaml" else document)
        top = made if isinstance(made, Mapping) else Mapping(_comments_only(document) if fmt == "yaml" else None)
        walk.mapping(top, (), "", False)
        walks.append(walk)
        documents.append(stored_tree(top))
    return walks, documents


def _pooled() -> Callable[[int], bytes]:
    """os.urandom for many small draws, 4 KiB at a time: a call of the kernel costs as much as sealing a value."""
    pool = b""
    used = 0

    def draw(count: int) -> bytes:
        nonlocal pool, used
        if used + count > len(pool):
            pool, used = os.urandom(max(4096, count)), 0
        used += count
        return pool[used - count : used]

    return draw


def _comments_only(document: Mapping) -> list[Any]:
    from zopp.sopsfile.sealing import comment_lines

    return [(line, None) for key, _ in document.items if isinstance(key, Comment) for line in comment_lines(key.text)]


def without_map_comments(node: Any) -> Any:
    """The tree without comments, which JSON cannot hold."""
    if isinstance(node, Mapping):
        return Mapping([(key, without_map_comments(value)) for key, value in node.items if isinstance(key, str)])
    if isinstance(node, Sequence):
        return Sequence([without_map_comments(item) for item in node.items if not isinstance(item, Comment)])
    return node


def _emit(documents: list[Mapping], fmt: str, block: dict[str, Any]) -> str:
    if fmt == "yaml":
        tail = "\n".join(["sops:", *meta.yaml_lines(block, yaml_write.INDENT, yaml_write.INDENT)]) + "\n"
        return "---\n".join(
            "\n".join([*yaml_write.mapping_lines(document, 0, yaml_write.INDENT), tail]) for document in documents
        )
    pairs = [
        f"{json_write.UNIT}{meta.quote(key)}: {json_write.text_of(value, json_write.UNIT, 1)}"
        for key, value in documents[0].items
        if isinstance(key, str)
    ]
    pairs.append(f'{json_write.UNIT}"sops": {meta.json_text(block, json_write.UNIT, 1)}')
    return "{\n" + ",\n".join(pairs) + "\n}\n"


def _check(data: bytes, fmt: str, aead: Any, tree: Tree, walks: list[SealingWalk], sealed: list[bytes]) -> None:
    """FormatError unless the file reads back to what went in (comments aside), MAC included. A ciphertext that stands
    where it was sealed for needs no second opening; `sealed` holds each taken leaf's piece of the MAC."""
    scan = read(data, fmt).scan
    only = scan.metadata.selector.mac_only_encrypted
    # A list of clear comments is written as an empty list with comments below, so empties are left out of account.
    found = [leaf for leaf in scan.leaves if not leaf[0] & COMMENT and not isinstance(leaf[3], _EMPTY)]
    taken = [leaf for walk in walks for leaf in walk.taken]
    wanted = [
        (node, kind, aad, was)
        for (node, kind, aad), was in zip(taken, sealed, strict=True)
        if not kind & COMMENT and not isinstance(node.value, _EMPTY)
    ]
    if len(found) != len(wanted) or scan.documents != len(tree.documents):
        raise FormatError("a value cannot be written so that it reads back", code="not_round_trip")
    pieces = []
    for leaf, (node, kind, aad, was) in zip(found, wanted, strict=True):
        value = leaf[3]
        alike = value == node.stored if value.__class__ is node.stored.__class__ is str else _alike(value, node.stored)
        if leaf[0] != kind or leaf[2] != aad or not alike:
            raise FormatError("a value cannot be written so that it reads back", code="not_round_trip")
        pieces.append(was if kind & SELECTED else piece(value, kind, only))
    scans.check_mac(scan, aead, pieces)


_EMPTY = (Mapping, Sequence)


def _alike(value: Any, wanted: Any) -> bool:
    """Whether what was read is what was written. A clear float that is whole prints as an integer, in sops too; its
    canonical bytes are the same."""
    if type(value) is int and type(wanted) is float:
        return value == wanted
    return same(value, wanted) or (getattr(wanted, "text", None) == value and isinstance(value, str))
