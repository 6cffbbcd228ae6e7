"""The map file of an import: which entries, into which environments, under which names. It holds no values.

    include = ["kv/api/*"]                  # patterns over addresses (path/name); a star crosses slashes
    exclude = ["*/LEGACY_*"]
    strip_prefix = "API_"                   # of target names, wherever no route says otherwise
    add_prefix = ""

    [[route]]                               # the first whose pattern fits an entry's address
    from = "kv/api/production/*"
    env = "api/production"
    names = "field"                         # field: the container is this environment; path: its name is a prefix
    strip_prefix = "PROD_"
    add_prefix = ""

    [rename]                                # address -> target name
    "kv/api/production/db" = "DATABASE_URL"

    [reading]                               # .env only: whose reading counts for one name
    GREETING = "python"

An unknown field is an error; an entry that fits nothing is a warning (`unused`). Source: importers.md §1, rule 9.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from zopp.errors import FormatError
from zopp.exchange import documents
from zopp.exchange.entry import Entry, Key, Left

Names = Literal["", "field", "path"]
MAX_BYTES = documents.MAX_TOML
OUT = "left out by the map file"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A glob over whole addresses, as `fnmatch` has it: case counts, `*` crosses slashes."""

    text: str
    _regex: re.Pattern[str]

    @classmethod
    def of(cls, text: str) -> Pattern:
        return cls(text, re.compile(fnmatch.translate(text)))

    def fits(self, address: str) -> bool:
        return self._regex.match(address) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Where the entries that a pattern fits go. None for a prefix: as the map file says for all."""

    pattern: Pattern
    env: str = ""
    names: Names = ""
    strip_prefix: str | None = None
    add_prefix: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """Where one entry goes: `env` as it was typed, '' for the default; the target `key`; or `out`, why it is left."""

    env: str
    key: Key
    out: str = ""


@dataclass(slots=True)
class MapFile:
    """A map file, and which of its parts were used."""

    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()
    routes: tuple[Route, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    reading: Mapping[str, str] = field(default_factory=dict)
    strip_prefix: str = ""
    add_prefix: str = ""
    _used: set[object] = field(default_factory=set)

    def leaves(self, address: str) -> bool:
        """Whether the map file keeps what stands at `address` out."""
        fitting = [pattern for pattern in self.include if pattern.fits(address)]
        self._used.update(("include", pattern.text) for pattern in fitting)
        out = [pattern for pattern in self.exclude if pattern.fits(address)]
        self._used.update(("exclude", pattern.text) for pattern in out)
        return bool(out) or (bool(self.include) and not fitting)

    def place(self, entry: Entry) -> Placed:
        """Where `entry` goes."""
        address = entry.address
        if self.leaves(address):
            return Placed(env="", key=entry.key, out=OUT)
        route = next((route for route in self.routes if route.pattern.fits(address)), None)
        if route is not None:
            self._used.add(("route", route.pattern.text))
        env = route.env if route is not None and route.env else entry.env
        if address in self.rename:
            self._used.add(("rename", address))
            return Placed(env=env, key=(self.rename[address],))
        key = entry.alone if route is not None and route.names == "field" and entry.alone else entry.key
        strip, add = self.strip_prefix, self.add_prefix
        if route is not None:
            strip = route.strip_prefix if route.strip_prefix is not None else strip
            add = route.add_prefix if route.add_prefix is not None else add
        return Placed(env=env, key=(add + key[0].removeprefix(strip), *key[1:]))

    def read_as(self, names: Iterable[str]) -> None:
        """Note for which of `reading` there was a name."""
        self._used.update(("reading", name) for name in names if name in self.reading)

    def leaves_out(self, left: Left) -> bool:
        """Whether something that gives no value is kept out, so that it stops nothing. It is at the source all the
        same."""
        return bool(left.address) and self.leaves(left.address)

    def envs(self) -> list[str]:
        """The environments that routes name, as they stand there."""
        return list(dict.fromkeys([route.env for route in self.routes if route.env]))

    def unused(self) -> list[str]:
        """What fitted nothing, as it stands in the file."""
        parts = [("include", pattern.text) for pattern in self.include]
        parts += [("exclude", pattern.text) for pattern in self.exclude]
        parts += [("route", route.pattern.text) for route in self.routes]
        parts += [("rename", address) for address in self.rename]
        parts += [("reading", name) for name in self.reading]
        return [f'{what} "{text}"' for what, text in parts if (what, text) not in self._used]


def parse(data: bytes) -> MapFile:
    """Read a map file. FormatError (`map`) that names every field at fault; never a line of the file."""
    try:
        table = documents.toml_table(data)
    except FormatError as exc:
        raise FormatError(exc.message + (f", {exc.place}" if exc.place else ""), code="map") from None
    faults: list[str] = []
    made = MapFile(
        include=_patterns(table, "include", faults),
        exclude=_patterns(table, "exclude", faults),
        routes=_routes(table.get("route", []), faults),
        rename=_texts(table.get("rename", {}), "rename", faults),
        reading=_texts(table.get("reading", {}), "reading", faults),
        strip_prefix=_text(table, "strip_prefix", "", faults),
        add_prefix=_text(table, "add_prefix", "", faults),
    )
    known = {"include", "exclude", "route", "rename", "reading", "strip_prefix", "add_prefix"}
    faults += [f"{_shown(name)}: no such field" for name in table if name not in known]
    if faults:
        raise FormatError("; ".join(faults), code="map")
    return made


def _patterns(table: Mapping[str, Any], name: str, faults: list[str]) -> tuple[Pattern, ...]:
    found = table.get(name, [])
    if not isinstance(found, list) or not all(isinstance(text, str) and text for text in found):
        faults.append(f"{name}: must be a list of patterns")
        return ()
    return tuple(map(Pattern.of, found))


def _text(table: Mapping[str, Any], name: str, where: str, faults: list[str]) -> str:
    found = table.get(name, "")
    if not isinstance(found, str):
        faults.append(f"{where}{name}: must be a text")
        return ""
    return found


def _texts(table: object, name: str, faults: list[str]) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(text, str) and text for text in table.values()):
        faults.append(f"{name}: must be a table of texts")
        return {}
    return table


_ROUTE = {"from", "env", "names", "strip_prefix", "add_prefix"}


def _routes(tables: object, faults: list[str]) -> tuple[Route, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        faults.append("route: must be [[route]] tables")
        return ()
    routes = []
    for number, table in enumerate(tables):
        where = f"route[{number}]."
        faults += [f"{where}{_shown(name)}: no such field" for name in table if name not in _ROUTE]
        pattern = _text(table, "from", where, faults)
        names = _text(table, "names", where, faults)
        if not pattern:
            faults.append(f"{where}from: must be a pattern")
            continue
        if names not in ("", "field", "path"):
            faults.append(f"{where}names: must be field or path")
        prefixes = {
            name: _text(table, name, where, faults) if name in table else None
            for name in ("strip_prefix", "add_prefix")
        }
        routes.append(
            Route(
                pattern=Pattern.of(pattern),
                env=_text(table, "env", where, faults),
                names=cast(Names, names),
                strip_prefix=prefixes["strip_prefix"],
                add_prefix=prefixes["add_prefix"],
            )
        )
    return tuple(routes)


def _shown(name: str) -> str:
    return name if len(name) <= 40 and name.isprintable() else "a field"
