"""The leaves and the metadata of one file that must be encrypted, or says that it is (spec guard 5).

The line reader of `zopp.sopsfile` decides the layouts that sops and zopp write; all else goes to the full parser.
"""

from zopp.errors import FormatError
from zopp.printable import printable
from zopp.scan.encrypted import Demand, Verdict, is_ciphertext
from zopp.sopsfile import lines
from zopp.sopsfile.scan import COMMENT, SELECTED
from zopp.sopsfile.selectors import DEFAULT_SELECTOR
from zopp.sopsfile.tree import Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from zopp.sopsfile.metadata import Metadata

_ARMOR = "-----BEGIN AGE ENCRYPTED FILE-----"
_SHOWN = 20


def read(verdict: Verdict, data: bytes, fmt: str, demands: "list[Demand]") -> None:
    """Add to a verdict what is wrong with a file's bytes, or why that could not be told."""
    found = lines.scan(data, fmt)
    if found is None:
        from zopp.sopsfile.file import read_full

        try:
            found = read_full(data, fmt, strict=False).scan
            found.metadata.selector.check()
        except FormatError as exc:
            unread(verdict, exc, data, fmt, demands)
            return
    judged(verdict, found, data, demands)


def judged(verdict: Verdict, found: "Any", data: bytes, demands: "list[Demand]") -> None:
    """The same for a file that was read."""
    _metadata(verdict, found.metadata, data)
    _leaves(verdict, found, demands)


def _line(exc: FormatError) -> int:
    number = exc.place.rpartition("line ")[2]
    return int(number) if number.isdigit() else 1


# What the metadata lacks, and what sops refuses to read: said as a fault, not as 'could not be told'.
_FAULTY = frozenset(("no_keys", "bad_metadata", "bad_version"))


def unread(verdict: Verdict, exc: FormatError, data: bytes, fmt: str, demands: "list[Demand]") -> None:
    """The full parser refused: no metadata at all, damaged metadata, or a file that nobody can read."""
    if exc.code in _FAULTY:
        verdict.add("sops-metadata", _line(exc), f"{exc.message}: sops could not open it")
    elif exc.code == "bad_regex":
        verdict.unknown = "its selector is no RE2 pattern; sops would leave the values in the clear"
    elif exc.code == "no_metadata" or (fmt in ("binary", "json") and not verdict.carries):
        if demands:
            _plain(verdict, data, fmt, demands)
    elif exc.code == "not_a_mapping" and demands:
        verdict.add("not-encrypted", _line(exc), f"is not encrypted, and {demands[0].source} wants it to be")
    elif exc.code != "no_document":
        where = f" ({exc.place})" if exc.place else ""
        marks = data.startswith(b"<<<<<<< ") or b"\n<<<<<<< " in data
        verdict.unknown = ("it holds conflict markers" if marks else exc.message) + where


def _metadata(verdict: Verdict, metadata: "Metadata", data: bytes) -> None:
    line = data.count(b"\n", 0, max(data.find(b"sops"), 0)) + 1
    if not metadata.mac:
        verdict.add("sops-metadata", line, "its sops block has no mac")
    elif not is_ciphertext(metadata.mac):
        verdict.add("sops-metadata", line, "the mac of its sops block is not encrypted")
    if not metadata.lastmodified:
        verdict.add("sops-metadata", line, "its sops block has no lastmodified")
    entries = [entry for group in metadata.groups for entry in group]
    if not metadata.foreign and not any(entry.enc.lstrip().startswith(_ARMOR) for entry in entries):
        verdict.add("sops-metadata", line, "none of its recipients has a data key in age's form")


def named(path: "tuple[Any, ...]", document: int) -> str:
    """A leaf in words: its dotted path, and its document if that is not the first."""
    text = ".".join(f'"{part}"' if isinstance(part, str) and "." in part else str(part) for part in path) or "(top)"
    text = printable(text)
    return text if document == 0 else f"{text} (document {document + 1})"


def _clear(value: "Any") -> bool:
    """Whether a leaf's stored value holds something."""
    return value is not None and value != "" and not isinstance(value, (Mapping, Sequence))


def _leaves(verdict: Verdict, found: "Any", demands: "list[Demand]") -> None:
    own = found.metadata.selector
    others = []
    for demand in demands:
        rule = demand.selector
        if rule is None or (rule.kind, rule.pattern) == (own.kind, own.pattern) or found.fmt == "binary":
            continue
        if rule.by_comment or own.by_comment:
            verdict.add(
                "selector", 1, f"chooses what is encrypted by {own.kind}, and {demand.source} wants {rule.kind}"
            )
            continue
        others.append((demand, rule))
    for kind, path, _, value, _, _, line, document in found.leaves:
        if kind & SELECTED:
            if value.__class__ is str and (not value or is_ciphertext(value)):
                continue
            if not _clear(value):
                continue
            if kind & COMMENT:
                verdict.add("clear-comment", line, f"a comment at {named(path, document)} is not encrypted")
            elif isinstance(value, str) and value.startswith("ENC["):
                verdict.add("bad-ciphertext", line, f"{named(path, document)} is not wholly an encrypted value")
            else:
                verdict.add("clear-value", line, f"{named(path, document)} is not encrypted")
        elif others and _clear(value) and not kind & COMMENT and not _is_enc(value):
            for demand, rule in others:
                if demand.only_secrets and path[:1] not in (("data",), ("stringData",), ("items",)):
                    continue
                if rule.selects(path):
                    what = f"{named(path, document)} is left in the clear by the file's own selector"
                    verdict.add("selector", line, f"{what}; {demand.source} wants it encrypted")
                    break
        if len(verdict.faults) >= _SHOWN:
            return


def _is_enc(value: object) -> bool:
    return isinstance(value, str) and bool(value) and is_ciphertext(value)


def _plain(verdict: Verdict, data: bytes, fmt: str, demands: "list[Demand]") -> None:
    """A file without metadata that must be encrypted: which leaves are clear."""
    demand = demands[0]
    if fmt == "binary":
        verdict.add("not-encrypted", 1, f"is not encrypted, and {demand.source} wants it to be")
        return
    from zopp.sopsfile import scan as scans
    from zopp.sopsfile.file import parse

    try:
        text, _ = scans.decode(data)
        parsed = parse(text, fmt, strict=False)
        clear, hidden = _clear_leaves(parsed, demands)
    except FormatError as exc:
        if exc.code in ("not_a_mapping", "key_type"):
            verdict.add("not-encrypted", _line(exc), f"is not encrypted, and {demand.source} wants it to be")
        elif exc.code != "no_document":
            verdict.unknown = exc.message + (f" ({exc.place})" if exc.place else "")
        return
    except RecursionError:
        verdict.unknown = "the document is nested too deeply"
        return
    if clear:
        line, path, document = clear[0]
        more = f" and {len(clear) - 1} more" if len(clear) > 1 else ""
        what = f"{named(path, document)}{more} {'are' if more else 'is'} not encrypted"
        verdict.add("not-encrypted", line, f"{what}, and {demand.source} wants that")
    elif hidden:
        verdict.add("sops-metadata", 1, "holds encrypted values, but its sops block is gone: nobody can open it")


def _clear_leaves(parsed: "Any", demands: "list[Demand]") -> "tuple[list[tuple[int, Any, int]], bool]":
    """((line, path, document) of each clear leaf that a demand selects, whether there are encrypted ones)."""
    from zopp.sopsfile.cst import flatten

    clear, hidden = [], False
    for number, document in enumerate(parsed.documents):
        wanted = [d for d in demands if not d.only_secrets or not _is_other_object(document)]
        seen: "set[int]" = set()
        for demand in wanted:
            leaves = flatten(document, demand.selector or DEFAULT_SELECTOR, number)
            for at, (kind, path, _, value, _, _, line, _) in enumerate(leaves):
                if not kind & SELECTED or kind & COMMENT or not _clear(value) or at in seen:
                    continue
                if demand.only_secrets and not _in_secret(document, path):
                    continue
                if _is_enc(value):
                    hidden = True
                    continue
                seen.add(at)
                clear.append((line, path, number))
    return clear, hidden


def _get(node: "Any", key: str) -> "Any":
    if not isinstance(node, Mapping):
        return None
    return next((value for name, value in node.items if name == key), None)


def _text(node: "Any") -> "Any":
    return getattr(node, "value", None)


def _is_object(node: "Any") -> bool:
    return _get(node, "apiVersion") is not None and _get(node, "kind") is not None


def _is_other_object(node: "Any") -> bool:
    """A Kubernetes object that is no Secret and holds none."""
    if not _is_object(node):
        return False
    if _text(_get(node, "kind")) == "Secret":
        return False
    return not any(_text(_get(item, "kind")) == "Secret" for item in _items(node))


def _items(node: "Any") -> "Iterator[Any]":
    items = _get(node, "items")
    if isinstance(items, Sequence):
        yield from items.nodes()


def _in_secret(document: "Any", path: "tuple[Any, ...]") -> bool:
    """Whether a leaf is a value of a Secret (its `data` or `stringData`), or of a document that is no object at all."""
    if not _is_object(document):
        return True
    if _text(_get(document, "kind")) == "Secret":
        return path[:1] in (("data",), ("stringData",))
    if path[:1] == ("items",) and len(path) > 2:
        items = list(_items(document))
        inside = items[path[1]] if path[1] < len(items) else None
        return _text(_get(inside, "kind")) == "Secret" and path[2] in ("data", "stringData")
    return False
