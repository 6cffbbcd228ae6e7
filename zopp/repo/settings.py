"""zopp.toml: where new data goes, and which workspace this folder says it belongs to.

Trusted for nothing: the pin outside the repository decides (DESIGN.md, 'What lies in a user's repository'). An unknown
key is an error with its line, and every error of the file is reported at once.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zopp.errors import FormatError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_TOP = ("version", "workspace", "genesis", "project", "default_env", "env", "guard")


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """[guard] of a zopp.toml: what the guard of this folder excepts and asks for (docs/guard.md).

    `leftovers` and `plain` are path patterns relative to the folder, `public` keys as `ENV/KEY`."""

    leftovers: tuple[str, ...] = ()
    plain_paths: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    require_index: bool = False

    def plain(self) -> dict[str, list[str] | bool]:
        """As plain data."""
        return {
            "leftovers": list(self.leftovers),
            "plain": list(self.plain_paths),
            "public": list(self.public),
            "require_index": self.require_index,
        }


_GUARD_LISTS = {"leftovers": "leftovers", "plain": "plain_paths", "public": "public"}


def _guard(table: object, fault: Callable[[str, str], None]) -> Guard:
    if not isinstance(table, dict):
        fault("guard", "must be a table")
        return Guard()
    found: dict[str, Any] = {}
    for key, value in table.items():
        where = f"guard.{key}"
        if key in _GUARD_LISTS:
            if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
                fault(where, "must be a list of texts")
            else:
                found[_GUARD_LISTS[key]] = tuple(value)
        elif key == "require_index":
            if not isinstance(value, bool):
                fault(where, "must be true or false")
            else:
                found[key] = value
        else:
            near = difflib.get_close_matches(key, [*_GUARD_LISTS, "require_index"], n=1)
            fault(where, "unknown key" + (f"; did you mean {near[0]}?" if near else ""))
    return Guard(**found)


def parse_guard(table: object, *, place: str) -> Guard:
    """[guard] alone. FormatError `settings` as in `parse`."""
    faults: list[str] = []
    found = _guard(table, lambda key, what: faults.append(f"{key}: {what}"))
    if faults:
        raise FormatError("; ".join(faults), code="settings", place=place)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A parsed zopp.toml. `files` maps an environment to paths relative to the *git root*."""

    workspace: str
    genesis: str
    project: str
    default_env: str | None = None
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    guard: Guard = Guard()


def _line_of(text: str, key: str) -> int:
    """The line that defines `key` (its last component), for messages; 1 if it cannot be told."""
    last = re.escape(key.split(".")[-1].split("[")[0])
    pattern = re.compile(rf"""^\s*(?:\[[^\]]*?)?["']?{last}["']?\s*(?:[=\].]|$)""")
    for number, line in enumerate(text.split("\n"), 1):
        if pattern.match(line) or re.match(rf"^\s*\[(?:[^\]]*\.)?{last}(?:\.[^\]]*)?\]", line):
            return number
    return 1


def parse(data: bytes, *, place: str, folder: str = "") -> Settings:
    """Parse zopp.toml. `folder` is the project's folder below the git root ('' = the root); paths in the result are
    relative to the root. FormatError `settings` names line and key for every fault found."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("is not UTF-8", code="settings", place=place) from None
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        # The parser's message quotes at most one character; only its position is passed on.
        found = re.search(r"line (\d+)", str(exc))
        line = found.group(1) if found else str(text.count("\n") + 1)
        raise FormatError("is not TOML", code="settings", place=f"{place}:{line}") from None
    except RecursionError:
        raise FormatError("is nested too deeply", code="settings", place=place) from None
    faults: list[str] = []

    def fault(key: str, what: str) -> None:
        faults.append(f"line {_line_of(text, key)}: {key}: {what}")

    for key in raw:
        if key not in _TOP:
            near = difflib.get_close_matches(key, _TOP, n=1)
            fault(key, "unknown key" + (f"; did you mean {near[0]}?" if near else ""))
    if raw.get("version") != 1 or isinstance(raw.get("version"), bool):
        fault("version", "must be 1")

    def text_at(key: str, pattern: re.Pattern[str], what: str, *, required: bool = True) -> str:
        value = raw.get(key)
        if value is None and not required:
            return ""
        if not isinstance(value, str) or not pattern.match(value):
            fault(key, what)
            return ""
        return value

    workspace = text_at("workspace", _NAME, "must be a workspace name")
    genesis = text_at("genesis", _HASH, "must be 64 hex digits")
    project = text_at("project", _NAME, "must be a project name")
    default_env = text_at("default_env", _NAME, "must be an environment name", required=False) or None
    files: dict[str, tuple[str, ...]] = {}
    envs = raw.get("env", {})
    if not isinstance(envs, dict):
        fault("env", "must be a table")
        envs = {}
    for name, table in envs.items():
        where = f"env.{name}"
        if not _NAME.match(name):
            fault(where, "is no environment name")
        if not isinstance(table, dict):
            fault(where, "must be a table")
            continue
        for key in table:
            if key != "files":
                fault(f"{where}.{key}", "unknown key")
        listed = table.get("files", [])
        if not isinstance(listed, list) or not listed:
            fault(f"{where}.files", "must be a list of paths")
            continue
        paths = []
        for index, path in enumerate(listed):
            if not isinstance(path, str) or not path or path.startswith("/") or ".." in path.split("/"):
                fault(f"{where}.files[{index}]", "must be a path below this folder")
            else:
                paths.append(f"{folder}/{path}" if folder else path)
        files[name] = tuple(paths)
    guard = _guard(raw.get("guard", {}), fault)
    if faults:
        raise FormatError("; ".join(faults), code="settings", place=place)
    return Settings(
        workspace=workspace, genesis=genesis, project=project, default_env=default_env, files=files, guard=guard
    )


def render(settings: Settings, *, folder: str = "") -> str:
    """The text of a new zopp.toml."""
    lines = [
        "# zopp: where this project's secrets lie. Trust does not come from here; see `zopp trust`.",
        "version = 1",
        f'workspace = "{settings.workspace}"',
        f'genesis = "{settings.genesis}"',
        f'project = "{settings.project}"',
    ]
    if settings.default_env:
        lines.append(f'default_env = "{settings.default_env}"')
    for name, paths in settings.files.items():
        inner = [path[len(folder) + 1 :] if folder else path for path in paths]
        lines += ["", f"[env.{name}]", "files = [" + ", ".join(_quote(path) for path in inner) + "]"]
    return "\n".join(lines) + "\n"


def add_environment(text: str, name: str, paths: tuple[str, ...]) -> str:
    """`text` of a zopp.toml with a table for one more environment; every other byte stays."""
    if re.search(rf"^\s*\[env\.{re.escape(name)}\]", text, re.MULTILINE):
        return text
    return text.rstrip("\n") + f"\n\n[env.{name}]\nfiles = [" + ", ".join(_quote(path) for path in paths) + "]\n"


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
