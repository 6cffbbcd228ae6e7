"""What an import would do, before it does it, in names only: no value, length, prefix or hash is ever in a plan.

Pure: the caller reads the source, says where each entry goes (`mapfile`), holds what exists in each environment, and
writes. Source: importers.md §1 (rules 2, 3, 5, 6, 7, 8, 11, 12).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from zopp import sopsfile
from zopp.errors import IntegrityError
from zopp.exchange import names
from zopp.exchange.dotenv import is_placeholder
from zopp.exchange.entry import Entry, Key, Left, Plain, Reading
from zopp.exchange.mapfile import OUT as OUT_BY_MAP, Placed
from zopp.exchange.provenance import Origin
from zopp.exchange.scalars import flat_text, scalar_text
from zopp.sopsfile.tree import dotted

OnConflict = Literal["fail", "skip", "overwrite"]
Status = Literal["new", "changed", "unchanged", "removed", "conflict", "skipped", "rejected"]

# A value of this size is a file, and belongs into one; together they are what one file and one process can hold.
MAX_VALUE = 1 << 20
MAX_TOTAL = 1 << 26


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One environment that an import may write to, as it is now.

    `name` is what people call it (`api/production`). `existing` holds its leaves, a list as one of them. `flat`: its
    file holds one text a name. `clear` says whether the file would leave a key's value unencrypted, `clear_note` the
    same of a note above it."""

    name: str
    existing: Mapping[Key, Plain] = field(repr=False)
    provenance: Mapping[str, Origin]
    flat: bool = False
    clear: Callable[[Key], bool] = lambda key: False
    clear_note: Callable[[Key, str], bool] = lambda key, note: False


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What the user decided. `excluded`: names, target keys or addresses. `left_out`: addresses that a map file keeps
    out, of what gives no value. `allowed`: the names that local settings except from the list of code. `prune`: keys of
    this source that it has no more are removed. `partial`: what is rejected or in conflict is left out instead of
    stopping everything."""

    on_conflict: OnConflict = "fail"
    excluded: Collection[str] = ()
    left_out: Collection[str] = ()
    allowed: Collection[str] = ()
    prune: bool = False
    partial: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One entry of the source. `reason` explains a status; for `new` and `changed` it says what to look at first."""

    source: str
    env: str
    key: str
    status: Status
    reason: str = ""

    def as_json(self) -> dict[str, str]:
        """The fields of the plan and no others."""
        return {
            "source": self.source, "env": self.env, "key": self.key, "status": self.status, "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Writes:
    """What is to be done in one environment: `puts`, target key → entry and the value as its file holds it; `drops`;
    and `origins`, the whole provenance record afterwards."""

    puts: Mapping[Key, tuple[Entry, Plain]] = field(repr=False)
    drops: tuple[Key, ...]
    origins: Mapping[str, Origin]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`lines` in the order of the source, then what is pruned. `writes` by target name. `taken`: the entries that are
    here afterwards, written or unchanged. `placeholders`: keys whose values look like texts to be replaced.
    `unreadable`: what could not be read and nobody left out. `unused`: what is excluded and nothing is called."""

    lines: tuple[Line, ...]
    writes: Mapping[str, Writes]
    taken: tuple[Entry, ...] = field(repr=False)
    placeholders: tuple[str, ...]
    unreadable: tuple[Left, ...] = ()
    unused: tuple[str, ...] = ()
    partial: bool = False

    @property
    def refused(self) -> tuple[Line, ...]:
        """What stops the import, or with --partial is left out."""
        return tuple(line for line in self.lines if line.status in ("rejected", "conflict"))

    @property
    def applicable(self) -> bool:
        """Whether the plan can be carried out: nothing in it is rejected or in conflict, or that is to be left out."""
        return self.partial or not self.refused

    @property
    def changes(self) -> int:
        """How many keys would be written or removed."""
        return sum([len(writes.puts) + len(writes.drops) for writes in self.writes.values()])

    def counts(self) -> dict[Status, int]:
        """How many lines there are of each status."""
        counts: dict[Status, int] = {}
        for line in self.lines:
            counts[line.status] = counts.get(line.status, 0) + 1
        return counts


def plan(reading: Reading, placed: Sequence[Placed], targets: Mapping[str, Target], rules: Rules) -> Plan:
    """Compare what a source says with what exists where it goes.

    `placed` says it for each of `reading.entries`; `targets` are looked up by the `env` that stands there. A key that
    this same source entry made before is updated whatever it is called now (provenance, by id). A target with another
    value and another or no provenance is a conflict, settled by `rules.on_conflict`. Two entries for one target are
    always rejected, both named.
    """
    return _Planning(reading, placed, targets, rules).plan()


@dataclass(slots=True)
class _Item:
    entry: Entry
    target: Target
    key: Key
    out: str
    value: Plain = None


class _Planning:
    def __init__(self, reading: Reading, placed: Sequence[Placed], targets: Mapping[str, Target], rules: Rules) -> None:
        self.reading, self.rules, self.targets = reading, rules, targets
        self.made_by = {
            target.name: {(origin.kind, origin.id): key for key, origin in target.provenance.items()}
            for target in targets.values()
        }
        self.keys_of = {target.name: {dotted(key): key for key in target.existing} for target in targets.values()}
        self.items = [self._item(entry, place) for entry, place in zip(reading.entries, placed, strict=True)]
        self.takers: dict[tuple[str, Key], list[Entry]] = {}
        # Names above names: `a` and `a.b` cannot both be values of one file.
        self.above: dict[tuple[str, Key], Entry] = {}
        self.total = 0
        for item in self.items:
            if not item.out:
                self.takers.setdefault((item.target.name, item.key), []).append(item.entry)
                for depth in range(1, len(item.key)):
                    self.above[item.target.name, item.key[:depth]] = item.entry
        self.groups = {
            target.name: {key[:depth] for key in target.existing for depth in range(1, len(key))}
            for target in targets.values()
        }

    def _item(self, entry: Entry, place: Placed) -> _Item:
        target = self.targets[place.env]
        key = self._made(entry, target) or place.key
        if target.flat and len(key) > 1:
            key = ("_".join(key),)
        out = place.out
        if not out and _called(entry, key).intersection(self.rules.excluded):
            out = "excluded"
        return _Item(entry, target, key, out, flat_text(entry.value) if target.flat else entry.value)

    def _made(self, entry: Entry, target: Target) -> Key | None:
        """The key that this entry made before. One that is no more counts by its name."""
        name = self.made_by[target.name].get((self.reading.kind, entry.id))
        return None if name is None else self.keys_of[target.name].get(name) or undotted(name)

    def plan(self) -> Plan:
        lines = []
        puts: dict[str, dict[Key, tuple[Entry, Plain]]] = {target.name: {} for target in self.targets.values()}
        origins = {target.name: dict(target.provenance) for target in self.targets.values()}
        taken, placeholders = [], []
        for item in self.items:
            status, reason = self._judge(item)
            name = item.target.name
            shown = dotted(item.key)
            if status in ("new", "changed"):
                puts[name][item.key] = item.entry, item.value
                if "placeholder" in reason.split("; "):
                    placeholders.append(shown)
            # an unchanged key keeps the origin that it has, or importing twice would be a change
            if status in ("new", "changed") or (status == "unchanged" and shown not in item.target.provenance):
                origins[name][shown] = Origin(kind=self.reading.kind, id=item.entry.id, version=item.entry.version)
            if status in ("new", "changed", "unchanged"):
                taken.append(item.entry)
            # a name that is not one may be a piece of a secret that was read wrongly
            key = "" if reason == "odd-name" else shown
            lines.append(Line(source=item.entry.locator, env=name, key=key, status=status, reason=reason))
        left_lines = [(left, _left_line(left, self.rules)) for left in self.reading.left]
        lines += [line for _, line in left_lines]
        drops = self._pruned(lines, origins) if self.rules.prune else {}
        writes = {
            name: Writes(puts=puts[name], drops=tuple(drops.get(name, ())), origins=origins[name]) for name in puts
        }
        return Plan(
            lines=tuple(lines), writes=writes, taken=tuple(taken), placeholders=tuple(placeholders),
            unreadable=tuple([left for left, line in left_lines if line.status == "rejected"]),
            unused=self._unused(), partial=self.rules.partial,
        )  # fmt: skip

    def _unused(self) -> tuple[str, ...]:
        called = {name for item in self.items for name in _called(item.entry, item.key)}
        called |= {name for left in self.reading.left for name in (left.name, left.address) if left.address}
        return tuple([name for name in self.rules.excluded if name not in called])

    def _judge(self, item: _Item) -> tuple[Status, str]:
        if item.out:
            return "skipped", item.out
        entry, target, key = item.entry, item.target, item.key
        rule = self._rule(item)
        if rule:
            return "rejected", rule
        others = [other.locator for other in self.takers[target.name, key] if other is not entry]
        if others:
            return "rejected", "collision with " + ", ".join(others)
        through = [key[:depth] for depth in range(1, len(key))]
        for place, clashing in [(key, self.above.get((target.name, key)))] + [
            (above, next(iter(self.takers.get((target.name, above), [])), None)) for above in through
        ]:
            if clashing is not None:
                return "rejected", f"collision with {clashing.locator}: {dotted(place)} cannot be a value and a group"
        if key in self.groups[target.name]:
            return "rejected", "is a group of keys here"
        if any(above in target.existing for above in through):
            return "rejected", "stands below a value here"
        if key in target.existing and _equal(target.existing[key], item.value):
            return "unchanged", ""
        reason = "; ".join(self._remarks(item))
        if key not in target.existing:
            return "new", reason
        before = target.provenance.get(dotted(key))
        ours = before is not None and (before.kind, before.id) == (self.reading.kind, entry.id)
        if ours or self.rules.on_conflict == "overwrite":
            return "changed", reason
        return (
            ("skipped", "conflict") if self.rules.on_conflict == "skip" else ("conflict", "exists with another value")
        )

    def _rule(self, item: _Item) -> str:
        """The rule that the entry's name or value breaks."""
        rule = key_reason(item.key, self.rules.allowed)
        if rule:
            return rule
        text = flat_text(item.value)
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return "not-utf8"
        self.total += size
        if "\0" in text:
            return "nul"
        if size > MAX_VALUE:
            return "value-size"
        if self.total > MAX_TOTAL:
            return "import-size"
        return "clear-name" if item.target.clear(item.key) else ""

    def _remarks(self, item: _Item) -> list[str]:
        remarks = list(item.entry.remarks)
        if isinstance(item.value, str) and is_placeholder(item.value):
            remarks.insert(0, "placeholder")
        if item.value is not item.entry.value and isinstance(item.entry.value, (list, dict)):
            remarks.append("a list as JSON text")
        if len(item.key) == 1 and names.is_odd_target(item.key[0]):
            remarks.append("seldom meant to be set")
        return remarks

    def _pruned(self, lines: list[Line], origins: dict[str, dict[str, Origin]]) -> dict[str, list[Key]]:
        """Keys that this source made and has no more. What is excluded, skipped or could not be read is there all the
        same, and so is a key that another of its entries means by now; where it is not known what could not be read,
        nothing is removed."""
        if any(left.status == "rejected" and not left.id for left in self.reading.left):
            raise IntegrityError(
                "not all of the source could be read, so it cannot be told what is gone from it; nothing is pruned",
                code="import.prune", place=self.reading.place,
            )  # fmt: skip
        seen = {item.entry.id for item in self.items}
        there = tuple([left.id for left in self.reading.left if left.id])
        meant = {(item.target.name, dotted(item.key)) for item in self.items}
        drops: dict[str, list[Key]] = {}
        for target in {target.name: target for target in self.targets.values()}.values():
            for name, origin in target.provenance.items():
                ours = origin.kind == self.reading.kind and origin.id.startswith(tuple(self.reading.covers) or ("\0",))
                if (
                    not ours
                    or origin.id in seen
                    or origin.id.startswith(there)
                    or (target.name, name) in meant
                    or name not in self.keys_of[target.name]
                ):
                    continue
                drops.setdefault(target.name, []).append(self.keys_of[target.name][name])
                del origins[target.name][name]
                lines.append(
                    Line(source=origin.id, env=target.name, key=name, status="removed", reason="gone from the source")
                )
        return drops


def undotted(name: str) -> Key:
    """The key that `dotted` wrote as `name`; a name that it would not write is one part."""
    parts = re.findall(r'(?:^|\.)("[^"]*"|[^.]*)', name)
    key = tuple([part[1:-1] if len(part) > 1 and part[0] == part[-1] == '"' else part for part in parts])
    return key if dotted(key) == name else (name,)


def key_reason(key: Key, allowed: Collection[str] = ()) -> str:
    """Why a target key may not be written, as a rule id; '' if it may. A name below others is looked at as `run` and
    `export` would call it, except that its parts may hold what YAML allows."""
    if len(key) == 1:
        return names.reason(key[0], allowed)
    if any(not part or not part.isprintable() or len(part) > 256 for part in key):
        return "odd-name"
    joined = "_".join(key)
    rule = names.reason(joined, allowed)
    if key[0] == "sops" or rule == "sops-name":
        return "sops-name"
    return rule if rule == "code-name" else ""


def notes_with_values(writes: Mapping[str, Writes], targets: Iterable[Target]) -> list[tuple[str, Key]]:
    """(environment, key) of the notes that would stand in the clear and hold an imported value, which is refused."""
    found = []
    for target in targets:
        puts = writes[target.name].puts
        clear = [(key, entry.note) for key, (entry, _) in puts.items() if target.clear_note(key, entry.note)]
        if not clear:
            continue
        together = "\n".join([note for _, note in clear])
        # A shorter text stands in most sentences by chance.
        values = [text for _, value in puts.values() if len(text := flat_text(value).strip()) >= 4 and text in together]
        found += [(target.name, key) for key, note in clear if any(text in note for text in values)]
    return found


def _called(entry: Entry, key: Key) -> set[str]:
    return {entry.name, entry.address, dotted(key)}


def _left_line(left: Left, rules: Rules) -> Line:
    out = ""
    if left.address and {left.name, left.address} & set(rules.excluded):
        out = "excluded"
    elif left.address and left.address in rules.left_out:
        out = OUT_BY_MAP
    key = left.name if names.is_target(left.name) else ""
    return Line(
        source=left.locator, env="", key=key, status="skipped" if out else left.status, reason=out or left.reason
    )


def _equal(existing: Plain, value: Plain) -> bool:
    """Text is compared with what the existing scalar reads as; anything else also by its type."""
    if isinstance(value, str) and not isinstance(existing, (list, dict)):
        return scalar_text(existing) == value
    return sopsfile.same(sopsfile.from_plain(existing), sopsfile.from_plain(value))
