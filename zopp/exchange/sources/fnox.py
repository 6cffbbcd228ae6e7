"""fnox.toml as a source: what its age provider encrypted, and what lay in it in the clear.

The profile `default` is what stands at the top; every other profile is an environment of its name, with the secrets
of the top below its own, as `fnox exec` has it. Values of other providers are live references and are skipped by name,
unless `sync` keeps a copy that age encrypted. Also `fnox export --format json`. Not read, as fnox would: files of
parent folders, `fnox.local.toml`, the global configuration, leases.

Identities come from the caller. Source: importers.md §7; fnox 1.31's schema and behaviour.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from zopp.errors import FormatError, Unknown, ZoppError
from zopp.exchange import documents
from zopp.exchange.documents import Row, Table, Value
from zopp.exchange.entry import Entry, Left, Reading, Remaining
from zopp.exchange.scalars import from_bytes, json_text
from zopp.exchange.sources import files
from zopp.keys import agefile
from zopp.keys.identity import Identity

DEFAULT = "default"
MAX_IMPORTS = 32
# The identities for a provider with this key_file ('' if it names none).
Identities = Callable[[str], Sequence[Identity]]

_TYPE = re.compile(r"[a-z0-9-]{1,40}")
_PROFILE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_AS_FILE = re.compile(r"/fnox-export-")

SAYS = {
    "no-identity": "no age identity at hand opens it",
    "damaged": "is not what age encrypted, or was changed since",
    "no-provider": "names a provider that the file does not have",
    "json-path": "has a json_path that leads to nothing",
    "line": "has a line that the value does not have",
    "two-parts": "has both json_path and line",
    "not-text": "is not written as a table of texts",
    "a-file": "is the path of a file that fnox wrote the value to; import fnox.toml instead",
}


@dataclass(slots=True)
class _Layer:
    """Providers, secrets and the default provider of one profile."""

    providers: dict[str, Table] = field(default_factory=dict, repr=False)
    secrets: dict[str, documents.Node] = field(default_factory=dict, repr=False)
    default_provider: str = ""

    def over(self, other: _Layer) -> _Layer:
        return _Layer(
            {**other.providers, **self.providers}, {**other.secrets, **self.secrets},
            self.default_provider or other.default_provider,
        )  # fmt: skip


@dataclass(slots=True)
class Config:
    """One file: `imports` as they stand, `key_file` for all providers that name none."""

    imports: tuple[str, ...]
    key_file: str
    top: _Layer
    profiles: dict[str, _Layer]

    def over(self, other: Config) -> Config:
        """This file's settings above those of an imported one."""
        names = dict.fromkeys([*other.profiles, *self.profiles])
        profiles = {name: self.profiles.get(name, _Layer()).over(other.profiles.get(name, _Layer())) for name in names}
        return Config(self.imports, self.key_file or other.key_file, self.top.over(other.top), profiles)


def parse(data: bytes) -> Config:
    """One fnox.toml. FormatError if it is not TOML or a part is not a table."""
    table = documents.toml(data)
    imports = table.get("import")
    items = imports.items if isinstance(imports, Row) else () if imports is None else (imports,)
    paths = [documents.as_text(item) for item in items]
    if (
        (imports is not None and not isinstance(imports, Row))
        or any(not path for path in paths)
        or len(paths) > MAX_IMPORTS
    ):
        raise FormatError(f"import must be a list of at most {MAX_IMPORTS} paths", code="fnox")
    profiles = {name: _layer(_as_table(inner, "profiles")) for name, inner in _tables(table, "profiles").items()}
    if any(not _PROFILE.fullmatch(name) for name in profiles):
        raise FormatError("a profile has a name that no environment can have", code="fnox.profile")
    return Config(tuple([path for path in paths if path]), table.text("age_key_file"), _layer(table), profiles)


def _layer(table: Table) -> _Layer:
    providers = {name: _as_table(node, "providers") for name, node in _tables(table, "providers").items()}
    return _Layer(providers, _tables(table, "secrets"), table.text("default_provider"))


def _tables(table: Table, name: str) -> dict[str, documents.Node]:
    found = table.get(name)
    return {} if found is None else {key: node for key, node, _ in _as_table(found, name).items}


def _as_table(node: documents.Node, name: str) -> Table:
    if not isinstance(node, Table):
        raise FormatError(f"{name} must be a table", code="fnox")
    return node


def read(config: Config, locator: str, identities: Identities, *, only: Sequence[str] = ()) -> Reading:
    """All profiles, or those of `only`. FormatError for a profile that is not there."""
    effective = {DEFAULT: config.top} | {
        name: layer.over(config.top) for name, layer in config.profiles.items() if name != DEFAULT
    }
    if missing := [name for name in only if name not in effective]:
        raise FormatError(
            f"has no profile {missing[0]}" if _PROFILE.fullmatch(missing[0]) else "has no such profile",
            code="fnox.profile", candidates=list(effective),
        )  # fmt: skip
    entries: list[Entry] = []
    left: list[Left] = []
    wanted = {name: layer for name, layer in effective.items() if not only or name in only}
    opener = _Opener(identities)
    for profile, layer in wanted.items():
        own = layer.secrets if profile == DEFAULT else config.profiles[profile].secrets
        for name, node in layer.secrets.items():
            made = _secret(locator, profile, name, node, layer, opener)
            if isinstance(made, Entry) and name not in own:
                made = replace(made, remarks=(*made.remarks, "from the profile default"))
            (entries if isinstance(made, Entry) else left).append(made)  # type: ignore[arg-type]
    return Reading(
        kind="fnox", place=locator, entries=tuple(entries), left=tuple(left),
        covers=tuple([f"{locator}#{profile}/" for profile in wanted]),
        remains=(Remaining(todo="delete", place=locator, why="who holds its old keys reads it in git's history"),),
    )  # fmt: skip


@dataclass(slots=True)
class _Opener:
    """Opens age values; the identities of each key file are asked for once."""

    identities: Identities
    _known: dict[str, Sequence[Identity]] = field(default_factory=dict)

    def open(self, value: str, provider: Table) -> bytes | str:
        """The plaintext, or the rule by which there is none."""
        path = provider.text("key_file")
        if path not in self._known:
            self._known[path] = self.identities(path)
        try:
            return agefile.open_binary(base64.b64decode(value.encode(), validate=True), self._known[path])
        except Unknown:
            return "no-identity"
        except (ZoppError, binascii.Error, ValueError):
            return "damaged"


def _secret(
    locator: str, profile: str, name: str, node: documents.Node, layer: _Layer, opener: _Opener
) -> Entry | Left:
    place = f"{locator}#{profile}/{files.shown((name,))}"
    id = f"{locator}#{profile}/{name}"

    def left(reason: str, *, rejected: bool = False) -> Left:
        says = f"{profile}: {files.shown((name,))} {SAYS.get(reason, '')} [{reason}]" if rejected else ""
        return Left(
            locator=place, reason=reason, status="rejected" if rejected else "skipped", name=name, path=profile, id=id,
            says=says,
        )  # fmt: skip

    if not isinstance(node, Table):
        return left("not-text", rejected=True)
    remarks: list[str] = []
    remains: tuple[Remaining, ...] = ()
    found = _sealed(node, layer)
    if isinstance(found, tuple):
        provider_name, value = found
        provider = layer.providers.get(provider_name)
        if provider is None:
            return left("no-provider", rejected=True)
        kind = provider.text("type")
        if kind == "age":
            opened = opener.open(value, provider)
            if isinstance(opened, str):
                return left(opened, rejected=True)
            text = from_bytes(opened)
            if node.get("sync") is not None:
                remarks.append("the copy that fnox sync made")
                remains = (Remaining(todo="stale", place=f"{profile}/{files.shown((name,))}", why=_live(node, layer)),)
        elif kind == "plain":
            text = value
            remains = _in_clear(locator, name)
        else:
            return left(f"a live reference to {kind if _TYPE.fullmatch(kind) else 'another provider'}")
    elif found:
        return left(found, rejected=True)
    else:
        default = documents.as_text(node.get("default"))
        if default is None:
            return left("has no value in the file: fnox would take it from the environment")
        text = default
        remarks.append("a default, which lay in the clear")
        remains = _in_clear(locator, name)
    part = _part(text, node)
    if part is None:
        rule = "line" if node.get("line") is not None else "json-path"
        both = node.get("line") is not None and node.get("json_path") is not None
        return left("two-parts" if both else rule, rejected=True)
    if isinstance(as_file := node.get("as_file"), Value) and as_file.value is True:
        remarks.append("fnox gives it as a file")
    return Entry(
        locator=place, id=id, name=name, key=(name,), path=profile, env="" if profile == DEFAULT else profile,
        value=part, note=node.text("description"), remarks=tuple(remarks), remains=remains,
    )  # fmt: skip


def _in_clear(locator: str, name: str) -> tuple[Remaining, ...]:
    return (files.in_clear((name,), locator),)


def _live(node: Table, layer: _Layer) -> str:
    provider = layer.providers.get(node.text("provider") or layer.default_provider)
    kind = provider.text("type") if provider is not None else ""
    return f"kept by {kind if _TYPE.fullmatch(kind) else 'another provider'}"


def _sealed(node: Table, layer: _Layer) -> tuple[str, str] | str:
    """(provider, value) as fnox picks them; '' if there is neither; else the rule by which it is refused."""
    sync = node.get("sync")
    if isinstance(sync, Table):
        provider, value = sync.text("provider"), documents.as_text(sync.get("value"))
        return (provider, value) if provider and value is not None else "not-text"
    value = documents.as_text(node.get("value"))
    if value is None:
        return "" if node.get("value") is None else "not-text"
    only = next(iter(layer.providers)) if len(layer.providers) == 1 else ""
    provider = node.text("provider") or layer.default_provider or only
    return (provider, value) if provider else ""


def _part(text: str, node: Table) -> str | None:
    """What `json_path` or `line` take out of the value; None if there is no such part."""
    path, line = node.get("json_path"), node.get("line")
    if path is not None and line is not None:
        return None
    if line is not None:
        lines = text.split("\n")
        number = line.value if isinstance(line, Value) else None
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= len(lines):
            return None
        return lines[number - 1]
    if path is None:
        return text
    try:
        found: documents.Node | None = documents.json(text.encode())
    except (ZoppError, UnicodeEncodeError):
        return None
    for name in _split(documents.as_text(path) or ""):
        found = found.get(name) if isinstance(found, Table) else None
    if found is None or not documents.as_text(path):
        return None
    plain = documents.plain(found)
    if documents.rule_of(found):
        return None
    return plain if isinstance(plain, str) else "null" if plain is None else json_text(plain)


def _split(path: str) -> list[str]:
    """Parts between dots; a backslash keeps the next character as it is."""
    parts = [""]
    chars = iter(path)
    for char in chars:
        if char == "\\":
            parts[-1] += next(chars, "\\")
        elif char == ".":
            parts.append("")
        else:
            parts[-1] += char
    return parts


def read_export(data: bytes, locator: str) -> Reading:
    """`fnox export --format json`, which is one profile. FormatError if it is something else."""
    root = documents.json(data)
    secrets = root.get("secrets") if isinstance(root, Table) else None
    if not isinstance(root, Table) or not isinstance(secrets, Table):
        raise FormatError("is not what fnox export writes", code="fnox", hint="fnox export --format json")
    meta = root.get("metadata")
    profile = meta.text("profile") if isinstance(meta, Table) else ""
    profile = profile if _PROFILE.fullmatch(profile) else DEFAULT
    entries: list[Entry] = []
    left: list[Left] = []
    for name, node, _ in secrets.items:
        place, id = f"{locator}:{node.line}", f"{locator}#{profile}/{name}"
        value = documents.as_text(node)
        rule = "not-text" if value is None else "a-file" if _AS_FILE.search(value) and "\n" not in value else ""
        if value is None or rule:
            says = f"line {node.line}: {files.shown((name,))} {SAYS[rule]} [{rule}]"
            left.append(Left(locator=place, reason=rule, status="rejected", name=name, path=profile, id=id, says=says))
            continue
        entries.append(
            Entry(
                locator=place, id=id, name=name, key=(name,), path=profile, value=value,
                remains=(files.in_clear((name,), locator),),
            )
        )  # fmt: skip
    return Reading(
        kind="fnox", place=locator, entries=tuple(entries), left=tuple(left), covers=(f"{locator}#{profile}/",),
        one_file=True, remains=files.delete(locator),
    )  # fmt: skip
