"""Changing a sops file in place: set, drop, replace a whole tree, rotate, other recipients (spec sops-compat 6.5, 11).

Only what changes is rewritten: its line (or span), `lastmodified` and `mac`. Each result is read back, opened and
compared before it is returned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from zopp import _fast
from zopp.errors import FormatError
from zopp.sopsfile import cipher, lines, mac, recipients, rekeying, scan as scans
from zopp.sopsfile.cst import MAX_LEAVES, Walk
from zopp.sopsfile.drafts import Draft
from zopp.sopsfile.file import SopsFile, check_key
from zopp.sopsfile.metadata import Entry
from zopp.sopsfile.patching import Patcher, unsupported
from zopp.sopsfile.rekeying import comment_edit
from zopp.sopsfile.scan import COMMENT, SELECTED, Scan
from zopp.sopsfile.sealing import Fresh, SealingWalk, Stash, piece
from zopp.sopsfile.selectors import Selector
from zopp.sopsfile.tree import Comment, Mapping, Sequence, Tree, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Put:
    """Set `path` to `value` (a scalar, or dicts, lists, Mapping, Sequence). `note`: comment lines above a new key.
    `document` counts from 0."""

    __slots__ = ("document", "note", "path", "value")

    def __init__(self, path: tuple[str | int, ...], value: Any, note: str | None = None, *, document: int = 0) -> None:
        self.path = path
        self.value = value
        self.note = note
        self.document = document

    def __repr__(self) -> str:
        return f"Put({self.path!r}, …)"


class Drop:
    """Remove `path`, and the comment lines directly above it. `prune`: also the mappings above that have no key left
    once all changes are made; as `sops unset` has it, they stay empty. `document` counts from 0."""

    __slots__ = ("document", "path", "prune")

    def __init__(self, path: tuple[str | int, ...], *, prune: bool = False, document: int = 0) -> None:
        self.path = path
        self.prune = prune
        self.document = document

    def __repr__(self) -> str:
        return f"Drop({self.path!r})"


def edit(
    file: SopsFile,
    data_key: bytes,
    changes: Iterable[Put | Drop],
    *,
    lastmodified: str,
    allow_clear: bool = False,
    iv: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """The file with `changes` applied in order, each to its document. Nothing to change gives the identical bytes.

    The MAC is checked first. IntegrityError: it does not hold. FormatError: `reserved` for `sops`, `clear_value` for a
    value that the selector would leave in the clear (unless `allow_clear`), `unsupported_layout` where the text cannot
    be patched. NotFound: a path to drop, or a list index. UsageError: an impossible path."""

    changes = list(changes)
    quick = _one_text(file, data_key, changes, lastmodified, iv) if file.is_lean else None
    if quick is not None:
        return quick

    def apply(drafts: list[Draft]) -> None:
        emptied = []
        for change in changes:
            path = tuple(change.path)
            if isinstance(change, Put):
                drafts[change.document].put(path, change.value, change.note)
                continue
            if change.prune:
                emptied.append((change.document, drafts[change.document].containers(path)))
            drafts[change.document].drop(path)
        for document, chain in emptied:
            drafts[document].prune(chain)

    return _Session(file, data_key, iv).run(apply, lastmodified, allow_clear)


def _one_text(
    file: SopsFile, data_key: bytes, changes: list[Put | Drop], lastmodified: str, iv: Callable[[int], bytes]
) -> bytes | None:
    """What most edits are, one text replaced or one top-level key added, without a tree; None: something else."""
    if len(changes) != 1 or not isinstance(changes[0], Put) or not isinstance(changes[0].value, str):
        return None
    put = changes[0]
    if put.document:
        return None
    path = tuple(put.path)
    found = lines.replace(file.scan, data_key, path, put.value, lastmodified, iv)
    if found is None and len(path) == 1 and isinstance(path[0], str):
        found = lines.insert(file.scan, data_key, path[0], put.value, lastmodified, put.note, iv)
    return found


def replace_tree(
    file: SopsFile,
    data_key: bytes,
    tree: Tree,
    *,
    lastmodified: str,
    allow_clear: bool = False,
    iv: Callable[[int], bytes] = os.urandom,
    reuse: Stash | None = None,
) -> bytes:
    """The file with the content of `tree` (an editor's result). Unchanged leaves keep their ciphertext, also moved ones
    whose additional data is the same. `reuse`: texts of another version under the same data key, taken for the new
    values that they hold. Errors as `edit`; the number of documents cannot change."""
    if len(tree.documents) != len(file.parsed.documents):
        raise FormatError("the number of documents cannot change", code="unsupported_layout")

    def apply(drafts: list[Draft]) -> None:
        for draft, document in zip(drafts, tree.documents, strict=True):
            draft.become(document)

    return _Session(file, data_key, iv, reuse).run(apply, lastmodified, allow_clear)


def rotate(
    file: SopsFile,
    old_key: bytes,
    new_key: bytes,
    groups: tuple[tuple[Entry, ...], ...],
    *,
    threshold: int | None = None,
    lastmodified: str,
    iv: Callable[[int], bytes] = os.urandom,
    reuse: Stash | None = None,
) -> bytes:
    """Every encrypted value under `new_key`, with new IVs, for `groups` (wrapped for the new key already); the
    layout is kept. `reuse` as in `replace_tree`, under `new_key`. IntegrityError if a value or the MAC does not hold
    under `old_key`; FormatError `foreign_keys`, `same_key`."""
    return rekeying.rotate(file.scan, old_key, new_key, groups, threshold, lastmodified, iv, reuse)


def replace_groups(file: SopsFile, groups: tuple[tuple[Entry, ...], ...], *, threshold: int | None = None) -> bytes:
    """The file for other recipients under the same data key: only the recipient fields change."""
    return rekeying.replace_groups(file.scan, groups, threshold)


class _KeepNodes(Walk):
    """A walk over the original that keeps each leaf's node and kind."""

    def __init__(self, selector: Selector, document: int) -> None:
        super().__init__(selector, document)
        self.taken: list[tuple[Any, int]] = []

    def take(self, node: Any, kind: int, path: tuple[Any, ...], aad: str) -> None:
        if len(self.taken) >= MAX_LEAVES:
            raise FormatError("the document has too many values", code="too_large")
        self.taken.append((node, kind))


class _Session:
    """One opened file: original nodes with their plaintext, then drafts, then edits."""

    def __init__(self, file: SopsFile, data_key: bytes, iv: Callable[[int], bytes], reuse: Stash | None = None) -> None:
        scan = file.scan
        recipients.check_writable(scan)
        parsed = file.parsed
        if parsed.aliases or parsed.duplicates:
            raise unsupported()
        self.file = file
        self.scan = scan
        self.iv = iv
        self.reuse = reuse or {}
        self.selector = scan.metadata.selector
        self.aead = _fast.aesgcm(check_key(data_key))
        values, pieces = scans.open_leaves(scan, self.aead, [])
        scans.check_mac(scan, self.aead, pieces)
        self.nodes: list[tuple[Any, int]] = []
        for number, document in enumerate(parsed.documents):
            walk = _KeepNodes(self.selector, number)
            walk.mapping(document, (), "", False, "sops")
            self.nodes += walk.taken
        self.values = {id(node): value for (node, _), value in zip(self.nodes, values, strict=True)}
        self.kinds = {id(node): kind for node, kind in self.nodes}
        self.leaf_of = {id(node): leaf for (node, _), leaf in zip(self.nodes, scan.leaves, strict=True)}

    def run(self, apply: Callable[[list[Draft]], None], lastmodified: str, allow_clear: bool) -> bytes:
        scan = self.scan
        keep = scan.fmt != "yaml"
        drafts = [Draft(document, self.values, scan.text, keep) for document in self.file.parsed.documents]
        apply(drafts)
        walks = [self.seal(draft, number, allow_clear) for number, draft in enumerate(drafts)]
        edits: list[_Edit] = []
        for draft, walk in zip(drafts, walks, strict=True):
            edits += self.reselected(walk, allow_clear)
            patcher = Patcher(scan, self.unit())
            patcher.container(draft.root, 0)
            edits += patcher.edits
        if not edits:
            return self.file.data
        only = self.selector.mac_only_encrypted
        pieces = [piece(self.value(node), kind, only) for walk in walks for node, kind, _ in walk.taken]
        edits += recipients.stamp_edits(scan, lastmodified, mac.seal(self.aead, pieces, only, lastmodified, self.iv))
        data = scan.encode(scans.splice(scan.text, _merged(edits)))
        self.check(data, drafts)
        return data

    def unit(self) -> int:
        """The width of one level of block style, as the file's own `sops` block shows it."""
        block = self.scan.blocks[0]
        return block.column if not block.flow and 2 <= block.column <= 9 else 4

    def value(self, node: Any) -> Any:
        return node.value if isinstance(node, Fresh) else self.values.get(id(node))

    def seal(self, draft: Draft, number: int, allow_clear: bool) -> SealingWalk:
        walk = SealingWalk(
            self.selector, number, self.aead, allow_clear=allow_clear, iv=self.iv, stash=self.stash(draft, number)
        )
        walk.was_clear = {
            (leaf[2], *cipher.canonical(leaf[3]))
            for leaf in self.scan.leaves
            if not leaf[0] and leaf[3] is not None and not isinstance(leaf[3], (Mapping, Sequence))
        }
        walk.mapping(draft.root, (), "", False, "sops")
        return walk

    def stash(self, draft: Draft, number: int) -> Stash:
        """The ciphertexts of original leaves that are no longer in the draft, for values that only moved; behind them
        those of another version, unless this one holds them too."""
        present: set[int] = set()
        _collect(draft.root, present)
        stash: Stash = {}
        for (node, kind), leaf in zip(self.nodes, self.scan.leaves, strict=True):
            value = self.values[id(node)]
            if (
                leaf[7] != number
                or id(node) in present
                or not kind & SELECTED
                or not isinstance(leaf[3], str)
                or not leaf[3]
            ):
                continue
            if isinstance(value, Comment) and value.text == leaf[3]:
                continue  # it never opened
            stash.setdefault((leaf[2], *cipher.canonical(value)), []).insert(0, leaf[3])
        if self.reuse:
            own = {leaf[3] for leaf in self.scan.leaves if isinstance(leaf[3], str)}
            for what, texts in self.reuse.items():  # taken from the end: one's own first
                stash[what] = [*(text for text in texts if text not in own), *stash.get(what, [])]
        return stash

    def reselected(self, walk: SealingWalk, allow_clear: bool) -> list[_Edit]:
        """Edits of kept leaves whose selection changed because a comment above them came or went."""
        edits: list[_Edit] = []
        for node, kind, aad in walk.taken:
            old = self.kinds.get(id(node))
            if old is None or old == kind:
                continue
            leaf = self.leaf_of[id(node)]
            value = self.values[id(node)]
            if value is None or isinstance(value, (Mapping, Sequence)) or not leaf[3]:
                continue
            if not kind & SELECTED:
                if not kind & COMMENT and not allow_clear:
                    raise FormatError(
                        "the selector of the file would leave this value in the clear", code="clear_value"
                    )
                raise unsupported()
            new = cipher.encrypt(self.aead, value, aad, self.iv)
            edits.append(comment_edit(self.scan, leaf, new) if kind & COMMENT else (leaf[4], leaf[5], f'"{new}"'))
        return edits

    def check(self, data: bytes, drafts: list[Draft]) -> None:
        """FormatError unless the edited file opens to what the drafts hold, MAC included, under the same metadata."""
        scan = self.scan
        new = rekeying.reread(data, scan.fmt)
        made, meta = new.metadata, scan.metadata
        if (made.groups, made.threshold, made.selector, made.version, made.foreign, made.unknown) != (
            meta.groups, meta.threshold, meta.selector, meta.version, meta.foreign, meta.unknown,
        ):  # fmt: skip
            raise unsupported()
        values, pieces = scans.open_leaves(new, self.aead, [])
        scans.check_mac(new, self.aead, pieces)
        # What an empty container is beside its comments is layout; the values are what must be right.
        found = [
            (leaf[1], leaf[7], value)
            for leaf, value in zip(new.leaves, values, strict=True)
            if not leaf[0] & COMMENT and not isinstance(value, (Mapping, Sequence))
        ]
        wanted: list[Any] = []
        for number, draft in enumerate(drafts):
            _wanted(draft, draft.root, (), number, wanted)
        if len(found) != len(wanted) or not all(map(same, found, wanted)):
            raise unsupported()


_Edit = tuple[int, int, str]


def _collect(node: Any, present: set[int]) -> None:
    if isinstance(node, Mapping):
        for key, item in node.items:
            present.add(id(key))
            _collect(item, present)
    elif isinstance(node, Sequence):
        for item in node.items:
            _collect(item, present)
    present.add(id(node))


def _wanted(draft: Draft, node: Any, path: tuple[Any, ...], number: int, out: list[Any]) -> None:
    """The values of a draft as (path, document, value), comments and empty containers left out."""
    if isinstance(node, Mapping):
        for key, item in node.items:
            if isinstance(key, str) and not (key == "sops" and node is draft.root):
                _wanted(draft, item, (*path, key), number, out)
    elif isinstance(node, Sequence):
        index = 0
        for item in node.items:
            if not draft.is_comment(item):
                _wanted(draft, item, (*path, index), number, out)
                index += 1
    elif not isinstance(value := draft.plain(node), (Mapping, Sequence)):
        out.append((path, number, value))


def _merged(edits: list[_Edit]) -> list[_Edit]:
    """Edits at one and the same place in the order they were made: insertions before what they stand next to."""
    return sorted(edits, key=lambda item: (item[0], item[1]))


__all__ = ["Drop", "Put", "Scan", "edit", "replace_groups", "replace_tree", "rotate"]
