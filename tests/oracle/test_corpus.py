"""Files pass between zopp and sops in both directions: a corpus over scalars, comments, selectors, groups and MAC
modes."""

import itertools
from typing import Any

import pytest

from zopp.errors import FormatError, IntegrityError
from zopp.sopsfile import (
    DEFAULT_SELECTOR,
    Comment,
    Mapping,
    Put,
    Selector,
    Sequence,
    SopsFile,
    Tree,
    edit,
    encrypt,
    lines,
    load_plain,
    read,
)
from zopp.sopsfile.cipher import canonical
from zopp.sopsfile.file import read_full

from .conftest import Oracle
from .documents import json_documents, yaml_documents

NOW, LATER = "2024-01-02T03:04:05Z", "2025-06-07T08:09:10Z"
Case = tuple[str, tuple[str, str] | None, str, bool, bool]


def cases() -> list[Case]:
    """(format, selector, text, grouped, mac_only)."""
    documents = [("yaml", *row) for row in yaml_documents()] + [("json", *row) for row in json_documents()]
    modes = list(itertools.product((False, True), (False, True)))
    return [(*document, *mode) for document in documents for mode in modes]


CASES = cases()
PART = 24


def values(node: Any, path: tuple[Any, ...] = ()) -> list[Any]:
    """(path, canonical type and bytes) of every value; 1.0 in the clear may come back as 1, a time in JSON as text."""
    if isinstance(node, Tree):
        return [item for at, document in enumerate(node.documents) for item in values(document, (at,))]
    if isinstance(node, Mapping):
        return [item for key, value in node.items if isinstance(key, str) for item in values(value, (*path, key))]
    if isinstance(node, Sequence):
        return [item for at, value in enumerate(node.nodes()) for item in values(value, (*path, at))]
    if node is None:
        return [(path, "null", b"")]
    kind, plain = canonical(node)
    return [(path, "number" if kind in ("int", "float") else "text" if kind in ("str", "time") else kind, plain)]


def comments(node: Any) -> list[str]:
    """The texts of all comments, sorted."""
    if isinstance(node, Tree):
        return sorted(text for document in node.documents for text in comments(document))
    heads = [key for key, _ in node.items] if isinstance(node, Mapping) else node.items
    found = [head.text for head in heads if isinstance(head, Comment)]
    inner = [value for _, value in node.items] if isinstance(node, Mapping) else node.items
    return found + [text for value in inner if isinstance(value, (Mapping, Sequence)) for text in comments(value)]


def agrees(data: bytes, fmt: str) -> bool:
    """Whether the line reader answered; if so it must say what the parser says."""
    found = lines.scan(data, fmt)
    if found is None:
        return False
    full = read_full(data, fmt).scan
    assert found.leaves == full.leaves
    assert found.blocks == full.blocks
    assert found.metadata.plain == full.metadata.plain
    return True


def untouched(before: bytes, after: bytes) -> list[bytes]:
    """The lines of `before` that are not in `after`."""
    kept = set(after.split(b"\n"))
    return [line for line in before.split(b"\n") if line not in kept]


def whole(rows: list[Any]) -> list[Any]:
    """Rows without the sign of zero, which sops does not print."""
    return [(path, kind, b"0" if plain == b"-0" else plain) for path, kind, plain in rows]


def opened_by_sops(sops: Oracle, data: bytes, suffix: str, wanted: list[Any]) -> Tree | None:
    """What sops makes of a file, which must be `wanted`. Where its YAML emitter is at fault (spec 6.5: text that starts
    with a tab, space or line break, or U+2028), its JSON output must be; then None."""
    try:
        shown = load_plain(sops.decrypt(data, suffix), suffix[1:])
    except FormatError:
        shown = None
    if shown is not None and whole(values(shown)) == whole(wanted):
        return shown
    assert any(row[2][:1] in (b"\t", b"\n", b" ") or b"\xe2\x80\xa8" in row[2] for row in wanted)
    assert values(load_plain(sops.decrypt(data, suffix, "--output-type", "json"), "json")) == wanted
    return None


def read_theirs(sops: Oracle, data: bytes, fmt: str, key: bytes | None = None) -> SopsFile | None:
    """A file that sops wrote. None if sops rejects its own work (a clear -0.0 or a text that its emitter loses, spec
    6.5); then zopp must reject it too."""
    try:
        file = read(data, fmt)
    except FormatError as exc:
        if exc.code != "line_end":
            assert not sops.opens(data, "." + fmt)
            return None
        # sops writes U+2028 raw in the clear; a strict reader refuses that.
        file = read(data, fmt, strict=False)
    if sops.opens(data, "." + fmt):
        return file
    with pytest.raises(IntegrityError):
        file.decrypt(sops.data_key(file) if key is None else key)
    return None


def one(sops: Oracle, case: Case) -> int:
    fmt, chosen, text, grouped, mac_only = case
    suffix = "." + fmt
    tree = load_plain(text.encode(), fmt)
    wanted = values(tree)
    kind, pattern = chosen or (DEFAULT_SELECTOR.kind, DEFAULT_SELECTOR.pattern)
    selector = Selector(kind, pattern, mac_only)
    answered = 0

    # zopp writes, sops reads, sops sets, zopp reads.
    data_key = bytes(range(32))
    ours = encrypt(
        tree,
        fmt,
        data_key,
        sops.wrap(data_key, grouped),
        threshold=2 if grouped else None,
        selector=selector,
        lastmodified=NOW,
        allow_clear=True,
    )
    answered += agrees(ours, fmt)
    shown = opened_by_sops(sops, ours, suffix, wanted)
    if fmt == "yaml":
        assert comments(read(ours, fmt).decrypt(data_key)) == comments(tree)
        assert shown is None or comments(shown) == comments(tree)
    changed = read_theirs(sops, sops.set(ours, suffix, '["zopp_new"]', '"v"'), fmt, data_key)
    if changed is not None:
        rest = [row for row in values(changed.decrypt(data_key)) if row[0] != (0, "zopp_new")]
        assert whole(rest) == whole(wanted)

    # sops writes, zopp reads, zopp edits, sops reads.
    theirs = sops.encrypt(text.encode(), suffix, sops.config(grouped=grouped, mac_only=mac_only, selector=chosen))
    answered += agrees(theirs, fmt)
    file = read_theirs(sops, theirs, fmt)
    if file is None:
        return answered
    assert file.metadata.selector == selector
    key = sops.data_key(file)
    opened = file.decrypt(key)
    assert [row for row in values(opened) if row[1] != "number"] == [row for row in wanted if row[1] != "number"]
    if fmt == "yaml":
        assert whole(values(opened)) == whole(wanted)
        assert comments(opened) == comments(tree)
    edited = edit(file, key, [Put(("zopp_new",), "v", note="n")], lastmodified=LATER, allow_clear=True)
    lost = untouched(theirs, edited)
    blocks = len(file.parsed.documents)
    assert len([line for line in lost if b"lastmodified" in line]) == blocks or blocks > 1
    assert all(b"lastmodified" in line or b"mac" in line or line in (b"\t}", b"}") for line in lost), lost
    place = next((at for at, row in enumerate(values(opened)) if row[0][0] > 0), len(values(opened)))
    longer = values(opened)
    longer.insert(place, ((0, "zopp_new"), "text", b"v"))
    opened_by_sops(sops, edited, suffix, longer)
    assert edit(file, key, [], lastmodified=LATER) == theirs
    return answered


@pytest.mark.parametrize("part", range(0, len(CASES), PART))
def test_corpus(sops: Oracle, part: int) -> None:
    """Each file that zopp writes opens in sops, and each that sops writes opens in zopp; after an edit all else is
    the same."""
    answered = sum(one(sops, case) for case in CASES[part : part + PART])
    # The line reader must earn its keep, for every miss costs a parse. It leaves comment selectors, clear text of
    # several lines and several documents to the parser.
    assert answered >= 1


def test_corpus_is_large() -> None:
    """The corpus holds at least 500 documents."""
    assert len(CASES) >= 500
