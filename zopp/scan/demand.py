"""Which paths must be encrypted, by the rules of the tree that is judged (spec guard 5). Lean, once they are cached.

`zopp.toml` and the manifests name files; every `.sops.yaml` from a file's folder up to the root has rules for paths
below it. Rule files, `zopp.toml` and `.zopp/` themselves are never demanded.
"""

from zopp.errors import FormatError
from zopp.scan import allow, settingscache
from zopp.scan.encrypted import Demand
from zopp.scan.finding import Problem
from zopp.sopsfile.selectors import KINDS, Selector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from zopp.scan.trees import Tree

SOPS_CONFIG = ".sops.yaml"
SETTINGS = "zopp.toml"
GITLEAKS = ".gitleaks.toml"
_BEGIN, _END = "# zopp:begin", "# zopp:end"
# Paths that no rule names by accident: a pattern that matches both is wide.
_PROBES = ("zqxj-wide", "zqxj/kwvb/zqxj-wide")


def folders_of(path: str) -> "list[str]":
    """The folders above a path, nearest first, "" (the root) last."""
    found = []
    while "/" in path:
        path = path.rpartition("/")[0]
        found.append(path)
    return [*found, ""]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


class _Matcher:
    """A `path_regex` or glob, compiled when it is first asked."""

    __slots__ = ("_compiled", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._compiled: "Any" = None

    def search(self, path: str) -> bool:
        if self._compiled is None:
            from zopp.scan import regex

            self._compiled = regex.compiled(self.pattern)
        return self._compiled.search(path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")) is not None


def parse_sops_config(data: bytes) -> "list[dict[str, Any]]":
    """The creation rules of a `.sops.yaml` as plain data: regex, selector kind and pattern, whether in zopp's block.
    FormatError if it cannot be read, or a pattern or selector is one that RE2 refuses."""
    from zopp.scan import regex

    try:
        import yaml

        text = data.decode()
        documents = list(yaml.load_all(text, Loader=yaml.SafeLoader))
    except Exception as exc:  # every way in which PyYAML fails; its message quotes the input
        if isinstance(exc, ImportError):
            raise
        raise FormatError("is not valid YAML", code="sops_config") from None
    top = documents[0] if documents else None
    rules = top.get("creation_rules") if isinstance(top, dict) else None
    if rules is None:
        return []
    if not isinstance(rules, list):
        raise FormatError("creation_rules is no list", code="sops_config")
    begin = text.find(_BEGIN)
    block = text[begin : text.find(_END, begin)].count("- path_regex:") if begin >= 0 else 0
    made = []
    for number, rule in enumerate(rules):
        if not isinstance(rule, dict):
            raise FormatError(f"rule {number + 1} is no mapping", code="sops_config")
        pattern = rule.get("path_regex")
        given = [(kind, rule[kind]) for kind in KINDS if rule.get(kind)]
        if len(given) > 1:
            raise FormatError(f"rule {number + 1} has several selectors", code="sops_config")
        try:
            if pattern is not None and pattern != "":
                regex.check(pattern)
            kind, text_of = given[0] if given else (KINDS[0], "_unencrypted")
            if kind.endswith("_regex"):
                regex.check(text_of)
            if not isinstance(text_of, str):
                raise FormatError("the selector is no text", code="bad_regex")
        except FormatError:
            raise FormatError(f"rule {number + 1} has a pattern that RE2 refuses", code="sops_config") from None
        made.append({"regex": pattern or None, "kind": kind, "pattern": text_of, "ours": number < block})
    return made


def parse_settings(data: bytes, place: str) -> "dict[str, Any]":
    """What the guard needs of a zopp.toml: the environments' files, relative to its folder, and [guard]. A file with
    nothing but [guard] is fine here. FormatError names every fault."""
    import tomllib

    from zopp.repo import settings

    try:
        raw = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        raw = None
    if raw is not None and set(raw) <= {"version", "guard"}:
        guard = settings.parse_guard(raw.get("guard", {}), place=place)
        return {"files": {}, "project": "", "guard": guard.plain()}
    found = settings.parse(data, place=place)
    return {
        "files": {name: list(paths) for name, paths in found.files.items()},
        "project": found.project,
        "guard": found.guard.plain(),
    }


def listed_hash(manifest: "Any") -> str:
    """A hash of the files that a manifest lists, whatever its signature and generation."""
    from zopp import _fast

    rows = [f"{path}\0{entry.sha512}\n" for path, entry in sorted(manifest.files.items())]
    return _fast.sha256("".join(rows).encode()).hex()


class Rules:
    """The rules of one tree. `problems` collects what could not be read; the paths they concern cannot be judged."""

    def __init__(self, tree: "Tree", environ: "Mapping[str, str]") -> None:
        self.tree = tree
        self.environ = environ
        self.problems: "dict[str, Problem]" = {}
        self._sops: "dict[str, list[tuple[_Matcher | None, dict[str, Any]]]]" = {}
        self._settings: "dict[str, dict[str, Any] | None]" = {}
        self._listed: "dict[str, str] | None" = None
        # Environment -> a hash of what its manifest lists, for the age of the index of own secrets.
        self.states: "dict[str, str]" = {}
        # Those of them that need a release by a server.
        self.brokered: "set[str]" = set()
        self._ignore: "allow.IgnoreList | None" = None

    def prepare(self, paths: "list[str]") -> None:
        """Ask for all rule files that the paths may need at once: afterwards nothing is asked while a blob streams."""
        wanted = [allow.LIST, GITLEAKS]
        folders = dict.fromkeys(folder for path in paths for folder in folders_of(path))
        for folder in folders:
            wanted += [_join(folder, SOPS_CONFIG), _join(folder, SETTINGS)]
        self.tree.get(wanted)
        self.listed()

    # --- rule files

    def _problem(self, path: str, what: str) -> None:
        self.problems.setdefault(path, Problem(path, what))

    def sops_rules(self, folder: str) -> "list[tuple[_Matcher | None, dict[str, Any]]]":
        """(matcher, rule) of each rule in the `.sops.yaml` in a folder."""
        if folder in self._sops:
            return self._sops[folder]
        path = _join(folder, SOPS_CONFIG)
        blob = self.tree.get([path])[0]
        rules: "list[dict[str, Any]]" = []
        if blob is not None:
            try:
                rules = settingscache.cached(self.environ, "sops", blob, parse_sops_config)
            except FormatError as exc:
                self._problem(path, exc.message)
        made = []
        for rule in rules:
            pattern = rule["regex"]
            made.append((None if pattern is None else _Matcher(pattern), rule))
        self._sops[folder] = made
        return made

    def settings(self, folder: str) -> "dict[str, Any] | None":
        """The zopp.toml in a folder."""
        if folder not in self._settings:
            path = _join(folder, SETTINGS)
            blob = self.tree.get([path])[0]
            found = None
            if blob is not None:
                try:
                    found = settingscache.cached(self.environ, "toml", blob, lambda data: parse_settings(data, path))
                except FormatError as exc:
                    self._problem(path, exc.message)
            self._settings[folder] = found
        return self._settings[folder]

    def guard(self, path: str, key: str) -> "list[str]":
        """The entries of a list in [guard] of every zopp.toml above a path, relative to the root."""
        found = []
        for folder in folders_of(path):
            settings = self.settings(folder)
            for entry in settings["guard"].get(key, []) if settings else []:
                found.append(_join(folder, entry))
        return found

    def public(self, path: str) -> "set[str]":
        """The keys, as ENV/KEY, that [guard] of a zopp.toml above a path calls public."""
        found: "set[str]" = set()
        for folder in folders_of(path):
            settings = self.settings(folder)
            found.update(settings["guard"].get("public", []) if settings else [])
        return found

    def listed(self) -> "dict[str, str]":
        """path -> environment of every file that a manifest lists."""
        if self._listed is None:
            self._listed = {}
            manifests = self.tree.manifests()
            if manifests:
                from zopp.policy import manifest
            for path, data in manifests.items():
                try:
                    parsed = manifest.parse(data)
                except FormatError as exc:
                    self._problem(path, f"is no manifest: {exc.message}")
                    continue
                for name in parsed.files:
                    self._listed[name] = parsed.env
                self.states[parsed.env] = listed_hash(parsed)
                if parsed.brokered:
                    self.brokered.add(parsed.env)
        return self._listed

    @property
    def ignore(self) -> "allow.IgnoreList":
        """The ignore list."""
        if self._ignore is None:
            blob = self.tree.get([allow.LIST])[0]
            self._ignore = allow.IgnoreList(None)
            if blob is not None:
                try:
                    self._ignore = allow.parse(blob[1])
                except FormatError as exc:
                    self._problem(allow.LIST, f"{exc.place.rpartition(':')[2]}: {exc.message}")
        return self._ignore

    # --- the question

    def managed_folders(self) -> "set[str]":
        """The folders, other than a project's own, in which manifests and zopp.toml say that secrets lie."""
        root = self.settings("")
        paths = set(self.listed())
        if root:
            paths.update(path for files in root["files"].values() for path in files)
        return {path.rpartition("/")[0] for path in paths if "/" in path}

    def demands(self, path: str) -> "list[Demand]":
        """Why a path must be encrypted; empty if nothing demands it."""
        name = path.rpartition("/")[2]
        if name in (SOPS_CONFIG, SETTINGS) or path.startswith(".zopp/"):
            return []
        found = []
        scope = self.listed().get(path)
        if scope is not None:
            found.append(Demand(f"the manifest of {scope}", None))
        for folder in folders_of(path):
            settings = self.settings(folder)
            if settings and not found:
                inner = path[len(folder) + 1 :] if folder else path
                for env, files in settings["files"].items():
                    if inner in files:
                        found.append(Demand(f"{_join(folder, SETTINGS)} ({env})", None))
            rule = self._first(folder, path)
            if rule is not None:
                found.append(rule)
        return found

    def _first(self, folder: str, path: str) -> "Demand | None":
        """What the first rule that matches in a folder's `.sops.yaml` demands."""
        inner = path[len(folder) + 1 :] if folder else path
        for number, (matcher, rule) in enumerate(self.sops_rules(folder), 1):
            if matcher is None:
                return None  # the rule for all that is left demands nothing of files without metadata
            if matcher.search(inner):
                place = f"rule {number} of {_join(folder, SOPS_CONFIG)}"
                if rule["ours"]:
                    return Demand(place, None)
                suffix = path.rpartition("/")[2]
                suffix = suffix[suffix.find(".") :] if "." in suffix else ""
                wide = all(matcher.search(probe + suffix) for probe in _PROBES)
                if wide and self._plain(path):
                    return None
                return Demand(place, Selector(rule["kind"], rule["pattern"]), wide)
        return None

    def _plain(self, path: str) -> bool:
        """Whether [guard] plain lets a wide rule pass this path by."""
        entries = self.guard(path, "plain")
        if not entries:
            return False
        from fnmatch import fnmatchcase

        return any(fnmatchcase(path, entry) for entry in entries)
