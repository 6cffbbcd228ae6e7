"""Users' own rules and allow lists in gitleaks' TOML format (spec guard 9): `.gitleaks.toml` or `--config`.

They add to zopp's rules, which always run (`useDefault` asks for what is so anyway); `disabledRules` turns single ones
off. Allow lists except tokens only: never a file that should be encrypted, a leftover or an own secret. An unknown
field is an error that names it.

Patterns are RE2: google-re2 runs them in linear time. Without it they are translated for Python's `re` and run under a
limit of 250 ms a pattern and file; over it the file could not be judged.
"""

from zopp.errors import FormatError, Unknown
from zopp.scan import predicates
from zopp.scan.finding import Hit
from zopp.scan.text import line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LIMIT = 0.25
_TOP = {"title", "description", "minVersion", "rules", "allowlist", "allowlists", "extend"}
_RULE = {"id", "description", "regex", "secretGroup", "entropy", "keywords", "path", "tags", "allowlist", "allowlists",
         "skipReport"}  # fmt: skip
_ALLOW = {"id", "description", "condition", "regexTarget", "regexes", "stopwords", "paths", "commits", "targetRules"}
_EXTEND = {"path", "useDefault", "disabledRules"}


def parse(data: bytes, read: "Callable[[str], bytes | None]", depth: int = 0) -> "dict[str, Any]":
    """A file as plain data, `extend.path` (read by `read`) included. FormatError `user_rules` names what is wrong."""
    import tomllib

    try:
        raw = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        raise _bad("is not TOML") from None
    _known(raw, _TOP, "the top level")
    made: "dict[str, Any]" = {"rules": [], "allow": [], "disabled": []}
    extend = raw.get("extend", {})
    if not isinstance(extend, dict):
        raise _bad("extend is no table")
    _known(extend, _EXTEND, "extend")
    if "path" in extend:
        below = read(_text(extend["path"], "extend.path"))
        if below is None:
            raise _bad("extend.path names a file that is not there")
        if depth >= 2:
            raise _bad("extend.path goes more than two files deep")
        made = parse(below, read, depth + 1)
    made["disabled"] = [*made["disabled"], *_texts(extend.get("disabledRules", []), "extend.disabledRules")]
    for number, rule in enumerate(_tables(raw.get("rules", []), "rules")):
        made["rules"] = [r for r in made["rules"] if r["id"] != rule.get("id")] + [_rule(rule, number)]
    made["allow"] += _allowlists(raw, "the top level")
    return made


def _bad(what: str) -> FormatError:
    return FormatError(what, code="user_rules")


def _known(table: "dict[str, Any]", known: "set[str]", where: str) -> None:
    for key in table:
        if key not in known:
            raise _bad(f"{where}: zopp does not know the field {key}")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _bad(f"{where} is no text")
    return value


def _texts(value: object, where: str) -> "list[str]":
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _bad(f"{where} is no list of texts")
    return list(value)


def _tables(value: object, where: str) -> "list[dict[str, Any]]":
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _bad(f"{where} is no list of tables")
    return list(value)


def _pattern(value: object, where: str) -> str:
    text = _text(value, where)
    try:
        _compiled(text)
    except FormatError as exc:
        raise _bad(f"{where}: {exc.message}") from None
    return text


def _rule(rule: "dict[str, Any]", number: int) -> "dict[str, Any]":
    name = _text(rule.get("id"), f"rules[{number}].id")
    _known(rule, _RULE, f"rule {name}")
    regex, path = rule.get("regex"), rule.get("path")
    if not regex and not path:
        raise _bad(f"rule {name} has neither regex nor path")
    entropy, group = rule.get("entropy", 0), rule.get("secretGroup", 0)
    if isinstance(entropy, bool) or not isinstance(entropy, (int, float)):
        raise _bad(f"rule {name}: entropy is no number")
    if isinstance(group, bool) or not isinstance(group, int) or group < 0:
        raise _bad(f"rule {name}: secretGroup is no number")
    return {
        "id": name,
        "what": _text(rule.get("description", ""), f"rule {name}: description") or "a rule of this repository",
        "regex": _pattern(regex, f"rule {name}: regex") if regex else None,
        "path": _pattern(path, f"rule {name}: path") if path else None,
        "entropy": float(entropy),
        "group": group,
        "keywords": [word.lower() for word in _texts(rule.get("keywords", []), f"rule {name}: keywords")],
        "allow": _allowlists(rule, f"rule {name}"),
    }


def _allowlists(table: "dict[str, Any]", where: str) -> "list[dict[str, Any]]":
    given = _tables(table.get("allowlists", []), f"{where}: allowlists")
    if "allowlist" in table:
        given = [*given, *_tables([table["allowlist"]], f"{where}: allowlist")]
    made = []
    for entry in given:
        _known(entry, _ALLOW, f"{where}: allowlist")
        condition = _text(entry.get("condition", "OR"), f"{where}: condition").upper()
        target = _text(entry.get("regexTarget", "secret"), f"{where}: regexTarget") or "secret"
        if condition not in ("OR", "AND", "||", "&&"):
            raise _bad(f"{where}: condition must be OR or AND")
        if target not in ("secret", "match", "line"):
            raise _bad(f"{where}: regexTarget must be secret, match or line")
        made.append(
            {
                "all": condition in ("AND", "&&"),
                "target": target,
                "regexes": [
                    _pattern(r, f"{where}: regexes") for r in _texts(entry.get("regexes", []), f"{where}: regexes")
                ],
                "stopwords": [w.lower() for w in _texts(entry.get("stopwords", []), f"{where}: stopwords")],
                "paths": [_pattern(p, f"{where}: paths") for p in _texts(entry.get("paths", []), f"{where}: paths")],
                "commits": _texts(entry.get("commits", []), f"{where}: commits"),
                "rules": _texts(entry.get("targetRules", []), f"{where}: targetRules"),
            }
        )
    return made


# --- running

_engines: "dict[str, Any]" = {}


def _compiled(pattern: str) -> "Any":
    found = _engines.get(pattern)
    if found is None:
        try:
            import re2
        except ImportError:
            from zopp.scan import translate

            found = translate.compiled(pattern)
        else:
            options = re2.Options()
            options.log_errors = False
            try:
                found = re2.compile(pattern.encode(), options)
            except (re2.error, UnicodeError):
                raise FormatError("the pattern is one that RE2 refuses", code="bad_regex") from None
        _engines[pattern] = found
    return found


class UserRules:
    """A parsed file, ready to run."""

    def __init__(self, made: "dict[str, Any]") -> None:
        self._rules = made["rules"]
        self._allow = made["allow"]
        self._disabled = frozenset(made["disabled"])

    def bound(self, path: str, commit: str) -> "Bound":
        """The rules for one file of one commit."""
        return Bound(self, path, commit)


class Bound:
    """Users' rules for a path. `hits` and `allowed` are what `zopp.scan.search` asks."""

    __slots__ = ("_commit", "_matches", "_path", "_rules")

    def __init__(self, rules: UserRules, path: str, commit: str) -> None:
        self._rules = rules
        self._path = path.encode("utf-8", "surrogateescape")
        self._commit = commit
        self._matches: "dict[tuple[str, int], bytes]" = {}

    def disabled(self, rule: str) -> bool:
        """Whether `disabledRules` names it."""
        return rule in self._rules._disabled

    def hits(self, data: bytes, low: bytes) -> "list[Hit]":
        """Every match of a rule that no allow list of that rule excepts. Unknown if a pattern takes too long."""
        out = []
        for rule in self._rules._rules:
            if self.disabled(rule["id"]) or (rule["path"] and not _found(rule["path"], self._path)):
                continue
            if rule["keywords"] and not any(word.encode() in low for word in rule["keywords"]):
                continue
            if rule["regex"] is None:
                hit = Hit(0, rule["id"], rule["what"], self._path)
                if not self._excepted(rule["allow"], rule["id"], self._path, self._path, b""):
                    out.append(hit)
                continue
            for match in _all(rule["id"], rule["regex"], data):
                group = rule["group"]
                if not group:
                    group = next((n for n in range(1, _groups(match) + 1) if match.group(n)), 0)
                elif group > _groups(match):
                    group = 0
                secret = match.group(group) or match.group(0)
                at = match.start(group) if match.group(group) else match.start()
                if rule["entropy"] and predicates.entropy(secret) <= rule["entropy"]:
                    continue
                whole = match.group(0)
                if self._excepted(rule["allow"], rule["id"], secret, whole, line_of(data, at)):
                    continue
                self._matches[rule["id"], at] = whole
                out.append(Hit(at, rule["id"], rule["what"], secret))
        return out

    def allowed(self, data: bytes, hit: Hit) -> bool:
        """Whether a global allow list excepts a hit, zopp's own rules' included."""
        whole = self._matches.get((hit.rule, hit.at), hit.secret)
        return self._excepted(self._rules._allow, hit.rule, hit.secret, whole, line_of(data, hit.at))

    def _excepted(self, lists: "list[dict[str, Any]]", rule: str, secret: bytes, whole: bytes, line: bytes) -> bool:
        for entry in lists:
            if entry["rules"] and rule not in entry["rules"]:
                continue
            target = {"secret": secret, "match": whole, "line": line}[entry["target"]]
            low = secret.lower()
            checks = []
            if entry["commits"]:
                checks.append(self._commit in entry["commits"])
            if entry["paths"]:
                checks.append(any(_found(pattern, self._path) for pattern in entry["paths"]))
            if entry["regexes"]:
                checks.append(any(_found(pattern, target) for pattern in entry["regexes"]))
            if entry["stopwords"]:
                checks.append(any(word.encode() in low for word in entry["stopwords"]))
            if checks and (all(checks) if entry["all"] else any(checks)):
                return True
        return False


def _groups(match: "Any") -> int:
    return int(match.re.groups)


def _found(pattern: str, text: bytes) -> bool:
    return bool(_timed(pattern, lambda: _compiled(pattern).search(text) is not None))


def _all(rule: str, pattern: str, data: bytes) -> "list[Any]":
    found: "list[Any]" = _timed(rule, lambda: list(_compiled(pattern).finditer(data)))
    return found


def _timed(name: str, work: "Callable[[], Any]") -> "Any":
    """`work()`, stopped after the time limit unless google-re2 runs it. Unknown `user_rules.slow` names the pattern."""
    from zopp.scan import translate

    if not translate.in_use():
        return work()
    try:
        return translate.timed(work, LIMIT)
    except TimeoutError:
        raise Unknown(f"the pattern of {name} takes too long on this file", code="user_rules.slow") from None
