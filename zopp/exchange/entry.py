"""What a source says, whatever the source: entries, what it could not give, and what an import leaves to be done.

Values hide themselves from `repr`; everything else here may be shown and committed: names, places and rule ids.
Source: importers.md §1 (rules 2, 5, 14).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Key = tuple[str, ...]
# str, int, float, bool or None; or a list of them, dicts and lists, which only a structured file keeps.
Plain = Any
Todo = Literal["delete", "change", "stale"]
# (read so far, of how many; 0 if that is not known)
Progress = Callable[[int, int], None]

TODOS: Mapping[Todo, str] = {
    "delete": "delete at the source",
    "change": "change at their origin, as they lay where others could read them",
    "stale": "changed by the source itself, so the copy here goes stale",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Remaining:
    """One thing that an import leaves to be done: what, at which place of the source, and why."""

    todo: Todo
    place: str
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One secret at the source.

    `path` is its container there (an item, a secret, a folder; '' if there is none) and `name` what it is called in
    it, as the source spells both: `address` is what the patterns and renames of a map file mean. `key` is the target
    that the source proposes, `alone` the one for a container that is taken as a whole environment (the field without
    the container's name; () if it is the same). `env` is the environment that the source itself names, if it does.
    `id` is stable at the source and goes into provenance, with `version` if there is one. `locator` is what people are
    shown. `remarks` are rule ids or a few words. `remains` is what is to be done about this entry once it is here.
    """

    locator: str
    id: str
    name: str
    key: Key
    value: Plain = field(repr=False)
    path: str = ""
    alone: Key = ()
    env: str = ""
    version: str = ""
    note: str = field(default="", repr=False)
    remarks: tuple[str, ...] = ()
    remains: tuple[Remaining, ...] = ()

    @property
    def address(self) -> str:
        return f"{self.path}/{self.name}" if self.path else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Left:
    """Something at the source that gives no value. `skipped`: by a rule, and the import goes on. `rejected`: it could
    not be read, so that nothing is imported unless it is excluded by `name` or `address`, or with --partial. `says` is
    a sentence for people, without any of the source's text. `id` begins the ids of what stands there all the same, so
    that nothing of it is pruned."""

    locator: str
    reason: str
    status: Literal["skipped", "rejected"] = "skipped"
    name: str = ""
    path: str = ""
    id: str = ""
    says: str = ""

    @property
    def address(self) -> str:
        return f"{self.path}/{self.name}" if self.path else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Everything that one source gave.

    `kind` is the source's name (`vault`) and `place` where it was read, for people. `one_file`: it is one file for one
    environment, which scripts may import without a question. `covers`: prefixes of the ids that were looked at
    completely, so that what is recorded under one of them and is missing here is gone from the source. `older`: earlier
    versions as lists of entries, oldest first. `plaintext`: the path, as typed, of a file in which the values lay in
    the clear, which may be removed once they are here; the command line knows it."""

    kind: str
    place: str
    entries: tuple[Entry, ...]
    left: tuple[Left, ...] = ()
    warnings: tuple[str, ...] = ()
    remains: tuple[Remaining, ...] = ()
    covers: tuple[str, ...] = ()
    older: tuple[tuple[Entry, ...], ...] = ()
    one_file: bool = False
    plaintext: str = ""
