"""1Password's items, whoever read them: which fields are taken, what they are called, what is left and why.

`onepux` and `op` make an `Item` of what they read, and `entries` makes of them what an import plans with. Ids are the
secret references that 1Password itself makes of ids (`op://vault/item/field`), so that both readers know a field by the
same one. Source: importers.md §4.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from zopp.errors import FormatError
from zopp.exchange.entry import Entry, Left, Remaining
from zopp.exchange.labels import label
from zopp.printable import printable

KIND = "1password"
# What `--with` adds to passwords, concealed fields, API credentials and SSH keys.
EXTRA = ("url", "username", "string", "note")

Kind = Literal["secret", "url", "username", "string", "note", "file", "never"]
State = Literal["active", "archived", "trashed"]

# An id is 26 letters and digits; a title is a line. What is longer is neither, and goes into git.
_MAX_ID = 128
_MAX_TITLE = 256
_MAX_SHOWN = 60
MAX_DEPTH = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """What is asked for: `extra` of EXTRA, attachments, archived items."""

    extra: frozenset[str] = frozenset()
    files: bool = False
    archived: bool = False

    def wants(self, kind: Kind) -> bool:
        return kind == "secret" or (self.files if kind == "file" else kind in self.extra)


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field of an item: `id` within it, '' if it has none; `section` and `section_id` likewise. `why`: for `never`
    what it is; for any other kind the rule by which its value could not be read, with `says` as in `Left`. A field
    without a value is `filled` if there is something that is not to be read (an attachment that nobody asked for)."""

    id: str
    label: str
    kind: Kind
    value: str = field(default="", repr=False)
    section: str = ""
    section_id: str = ""
    why: str = ""
    says: str = ""
    filled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One item. `id` and `vault_id` are 1Password's uuids, '' if it has none; then the names stand for them."""

    vault: str
    title: str
    vault_id: str = ""
    id: str = ""
    state: State = "active"
    version: str = ""
    fields: tuple[Field, ...] = ()

    @property
    def ref(self) -> str:
        return item_ref(self.vault_id, self.vault, self.id, self.title)


class Bad(Exception):
    """An item that does not have the form it should have: the rule, and nothing of the item."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def entries(
    items: Sequence[Item], take: Take, remains: Callable[[str], tuple[Remaining, ...]]
) -> tuple[list[Entry], list[Left]]:
    """What is taken of `items`, and what is not. `remains` gets the place of an entry, for people."""
    found: list[Entry] = []
    left: list[Left] = []
    times = Counter([item.ref for item in items])
    for item in items:
        if times[item.ref] > 1:
            rule = "same-uuid" if item.id else "same-title"
            left.append(_left_item(item, rule, status="rejected", says=_SAME[rule]))
        elif item.state == "trashed":
            left.append(_left_item(item, "trashed"))
        elif item.state == "archived" and not take.archived:
            left.append(_left_item(item, "archived (--archived)"))
        else:
            _take(item, take, remains, found, left)
    return found, left


_SAME = {
    "same-uuid": "two items have one uuid, so nobody can tell which of them made a key",
    "same-title": "two items without a uuid have one title, so nobody can tell which of them made a key",
}


def _take(
    item: Item,
    take: Take,
    remains: Callable[[str], tuple[Remaining, ...]],
    found: list[Entry],
    left: list[Left],
) -> None:
    refs = _refs(item)
    times = Counter(refs)
    taken = [one for one in item.fields if take.wants(one.kind) and (one.value or one.why)]
    labels = Counter([label(one.label) for one in taken])
    remarks: tuple[str, ...] = ("archived",) if item.state == "archived" else ()
    if not item.id:
        remarks += ("no uuid: known by its title",)
    for one, ref in zip(item.fields, refs, strict=True):
        wanted = take.wants(one.kind)
        # Equal labels are told apart by their sections, as references are.
        clash = wanted and labels[label(one.label)] > 1 and bool(one.section)
        parts = [one.section, one.label] if clash else [one.label]
        name = "/".join(parts)
        path = f"{item.vault}/{item.title}"
        locator = _locator(item.vault, item.title, *parts)
        reason, status, says = _reason(one, wanted), "skipped", one.says
        if wanted and one.why:
            status = "rejected"
        elif wanted and one.value and times[ref] > 1:
            reason, status, says = "same-field", "rejected", "two fields of one item have one id"
        if reason:
            # The address alone: a label such as `password` is no target name.
            left.append(
                Left(
                    locator=locator, reason=reason, status="rejected" if status == "rejected" else "skipped",
                    name=f"{path}/{name}", id=item.ref + ref, says=says,
                )
            )  # fmt: skip
        elif wanted and one.value:
            shown = label(item.title)
            found.append(
                Entry(
                    locator=locator, id=item.ref + ref, path=path, name=name, value=one.value, version=item.version,
                    # without a title that makes a name there is none, rather than one that does not say whose it is
                    key=(label(" ".join([item.title, *parts])) if shown and len(taken) > 1 else shown,),
                    alone=(label(" ".join(parts)),), remarks=remarks, remains=remains(locator),
                )
            )  # fmt: skip


def _reason(one: Field, wanted: bool) -> str:
    """Why a field gives no value; '' if it does, or if there is nothing to say of it."""
    if one.kind == "never" or (wanted and one.why):
        return one.why
    if wanted:
        return "" if one.value else "empty"
    if not (one.value or one.filled or one.why):
        return ""
    return "attachment (--files)" if one.kind == "file" else f"not asked for (--with {one.kind})"


def _refs(item: Item) -> list[str]:
    """The fields' ids within the item; with their sections where two fields have one."""
    refs = [_part(one.id, one.label) for one in item.fields]
    times = Counter(refs)
    return [
        f"{_part(one.section_id, one.section)}/{ref}" if times[ref] > 1 and (one.section or one.section_id) else ref
        for one, ref in zip(item.fields, refs, strict=True)
    ]


def item_ref(vault_id: str, vault: str, item_id: str, title: str) -> str:
    """What the ids of an item's fields begin with."""
    return f"{vault_ref(vault_id, vault)}{_part(item_id, title)}/"


def vault_ref(vault_id: str, vault: str) -> str:
    """What the ids of a vault's fields begin with."""
    return f"op://{_part(vault_id, vault)}/"


def _part(id_: str, name: str) -> str:
    """One part of an id; a colon, which is quoted in each, says that it is a name."""
    text, kind = (id_, "") if id_ else (name, "title:")
    return kind + quote(text[:_MAX_TITLE], safe="", errors="surrogatepass")


def _locator(*parts: str) -> str:
    return "op://" + "/".join([_shown(part) for part in parts])


def _shown(text: str) -> str:
    return printable(text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…") or "?"


def _left_item(item: Item, reason: str, *, status: Literal["skipped", "rejected"] = "skipped", says: str = "") -> Left:
    return Left(
        locator=_locator(item.vault, item.title), reason=reason, status=status, name=f"{item.vault}/{item.title}",
        id=item.ref, says=says,
    )  # fmt: skip


def bad_item(rule: str, *, vault_id: str, item_id: str, place: str, says: str = "") -> Left:
    """An item that cannot be read, by its uuid and the rule; by its `place` in the source if it has none."""
    return Left(
        locator=f"op://{_shown(vault_id)}/{item_id}" if item_id else place, reason=rule, status="rejected",
        name=f"{vault_id}/{item_id}" if item_id else "", id=item_ref(vault_id, "", item_id, "") if item_id else "",
        says=says,
    )  # fmt: skip


def named(id_: str, kind: Kind) -> Kind:
    """The kind of a field by its id: a database's user name is a text with that id."""
    return "username" if (id_, kind) == ("username", "string") else kind


def table(node: Any, name: str) -> dict[str, Any]:
    """The object at `name`, {} if there is none. Bad `not-object`."""
    found = node.get(name)
    if found is not None and not isinstance(found, dict):
        raise Bad("not-object")
    return found or {}


def tables(node: Any, name: str) -> list[dict[str, Any]]:
    """The list of objects at `name`, [] if there is none. Bad `not-list`, `not-object`."""
    found = node.get(name)
    if found is not None and not isinstance(found, list):
        raise Bad("not-list")
    if not all(isinstance(one, dict) for one in found or ()):
        raise Bad("not-object")
    return found or []


def text(node: Any, name: str) -> str:
    """The text at `name`, '' if there is none. Bad `not-text`."""
    found = node.get(name)
    if found is not None and not isinstance(found, str):
        raise Bad("not-text")
    return found or ""


def id_text(node: Any, name: str) -> str:
    """The id at `name`, '' if there is none. Bad `odd-id` for one that is too long, or that a command would read as
    something else."""
    found = text(node, name)
    if len(found) > _MAX_ID or found.startswith("-"):
        raise Bad("odd-id")
    return found


def title_text(node: Any, name: str) -> str:
    """The title at `name`. Bad `title-size` for one that is none."""
    found = text(node, name)
    if len(found) > _MAX_TITLE:
        raise Bad("title-size")
    return found


# --- JSON

JSON_RULES = {
    "not-utf8": "is not UTF-8",
    "not-json": "is not JSON",
    "duplicate-key": "has a key twice in one JSON object",
    "depth": f"is nested more than {MAX_DEPTH} deep",
}


class _Twice(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Twice
    return made


def _no_constant(name: str) -> Any:
    raise ValueError("not JSON")


def documents(data: bytes, place: str) -> list[Any]:
    """The JSON values of `data`, one after another, with nothing between them but blanks. FormatError (`json`) with the
    rule of JSON_RULES as `data['rule']`; it never quotes the input."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
    found: list[Any] = []
    rule = ""
    try:
        content = data.decode()
        at = _past_blanks(content, 0)
        while at < len(content):
            value, at = decoder.raw_decode(content, at)
            found.append(value)
            at = _past_blanks(content, at)
    except UnicodeDecodeError:
        rule = "not-utf8"
    except _Twice:
        rule = "duplicate-key"
    except RecursionError:
        rule = "depth"
    except ValueError:
        rule = "not-json"
    if rule or _deep(found):
        rule = rule or "depth"
        raise FormatError(f"{JSON_RULES[rule]} [{rule}]", code="json", place=place, rule=rule)
    return found


def _past_blanks(content: str, at: int) -> int:
    while at < len(content) and content[at] in " \t\r\n":
        at += 1
    return at


def _deep(values: Iterable[Any]) -> bool:
    """Whether any of `values` is nested too deep. By levels, so that the depth costs no stack."""
    level = list(values)
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return any(isinstance(node, (dict, list)) for node in level)
