"""Plain JSON, YAML, TOML and CSV files as sources, and what every file of keys and values shares.

Nested maps keep their path, which a flat target joins with `_`; a list is one value. Source: importers.md §7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from zopp.errors import FormatError, ZoppError
from zopp.exchange import documents, names
from zopp.exchange.documents import Leaf
from zopp.exchange.entry import Entry, Key, Left, Reading, Remaining
from zopp.sopsfile.tree import dotted

_NOTES = ("note", "notes", "comment", "description")
_FORMATS = ("json", "yaml", "toml", "csv")


def read(data: bytes, form: str, locator: str) -> Reading:
    """One plain file. `form`: json, yaml, toml or csv. Values that readers of the format differ about are rejected.
    FormatError, with a line where there is one."""
    leaves = read_leaves(data, form)
    entries, left = of_leaves(leaves, locator, remains=lambda leaf: (in_clear(leaf.key, locator),))
    return Reading(
        kind=form, place=locator, entries=entries, left=left, covers=(f"{locator}#",), one_file=True,
        remains=delete(locator),
    )  # fmt: skip


def read_leaves(data: bytes, form: str) -> list[Leaf]:
    """The leaves of one document. CSV has a header that names a `key` or `name` column and a `value` column."""
    if form == "csv":
        return _csv_leaves(documents.csv(data))
    if form == "toml":
        return list(documents.leaves(documents.toml(data)))
    try:
        table = documents.one_yaml(data) if form == "yaml" else documents.json(data)
    except ZoppError as exc:
        raise with_hint(exc, data) from None
    if not isinstance(table, documents.Table):
        raise FormatError("the top level of the file is not a map", code="not_a_mapping")
    if isinstance(inner := table.get("sops"), documents.Table) and inner.text("mac"):
        raise FormatError("is encrypted with sops", code="sops", hint="zopp import sops FILE")
    return list(documents.leaves(table))


def with_hint(exc: ZoppError, data: bytes) -> ZoppError:
    """`exc`, with the command for what the file seems to be."""
    if not exc.hint and b"=" in data[:4096] and b":" not in data[: data.find(b"=")]:
        exc.hint = "if it is a .env file: zopp import dotenv FILE"
    return exc


def _csv_leaves(records: Sequence[tuple[int, list[str]]]) -> list[Leaf]:
    header = [name.strip().lower() for name in records[0][1]] if records else []
    keys = [at for at, name in enumerate(header) if name in ("key", "name")]
    values = [at for at, name in enumerate(header) if name == "value"]
    notes = [at for at, name in enumerate(header) if name in _NOTES]
    if len(keys) != 1 or len(values) != 1 or len(notes) > 1:
        raise FormatError("the first line must name one column key or name, and one column value", code="csv_header")
    made = []
    for line, fields in records[1:]:
        if len(fields) != len(header):
            raise FormatError("a record has not as many fields as the first line", code="bad_csv", place=f"line {line}")
        note = fields[notes[0]] if notes else ""
        made.append(Leaf(key=(fields[keys[0]],), value=fields[values[0]], line=line, note=note))
    return made


def of_leaves(
    leaves: Iterable[Leaf],
    locator: str,
    *,
    rename: Callable[[Key], Key] = lambda key: key,
    remains: Callable[[Leaf], tuple[Remaining, ...]] = lambda leaf: (),
    remarks: Callable[[Leaf], tuple[str, ...]] = lambda leaf: (),
) -> tuple[tuple[Entry, ...], tuple[Left, ...]]:
    """Entries of leaves that may be taken, and what is rejected by its rule. The id is the file and the key."""
    entries, left = [], []
    for leaf in leaves:
        name = dotted(leaf.key)
        place = f"{locator}:{leaf.line}" if leaf.line else f"{locator}#{shown(leaf.key)}"
        if leaf.rule:
            says = f"{f'line {leaf.line}' if leaf.line else ''} ({shown(leaf.key)})".strip()
            left.append(
                Left(
                    locator=place, reason=leaf.rule, status="rejected", name=name, id=f"{locator}#{name}",
                    says=f"{says}: {documents.RULES[leaf.rule]} [{leaf.rule}]",
                )
            )  # fmt: skip
            continue
        entries.append(
            Entry(
                locator=place, id=f"{locator}#{name}", name=name, key=rename(leaf.key), value=leaf.value,
                note=leaf.note, remarks=remarks(leaf), remains=remains(leaf),
            )
        )  # fmt: skip
    return tuple(entries), tuple(left)


def in_clear(key: Key, place: str) -> Remaining:
    """What lay in the clear has to be changed at its origin."""
    return Remaining(todo="change", place=shown(key), why=f"lay in plaintext in {place}")


def delete(locator: str) -> tuple[Remaining, ...]:
    """The plaintext file is to be deleted; standard input was none."""
    why = "it may stay on the disk and in git's history"
    return (Remaining(todo="delete", place=locator, why=why),) if locator != "-" else ()


def shown(key: Key) -> str:
    """A key as a message may show it: what is no name may be a piece of a secret that was read wrongly."""
    fine = all(names.is_target(part.replace("-", "_").replace(".", "_")) and len(part) <= 64 for part in key)
    return dotted(key) if key and fine else "a key"
