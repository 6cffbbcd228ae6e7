"""What every front end sets up the same way: fingerprint keys, users' rules, the index of own secrets. Lean."""

import os

from zopp.errors import FormatError, Unknown
from zopp.scan import settingscache
from zopp.scan.demand import GITLEAKS
from zopp.scan.engine import Guard
from zopp.scan.finding import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from zopp.scan.demand import Rules
    from zopp.scan.finding import Result
    from zopp.scan.gitio import Objects
    from zopp.scan.own import Index
    from zopp.scan.userrules import UserRules


class Options:
    """What the command line asks for. `config`: a file of users' rules in place of `.gitleaks.toml`; `own`: look
    for the project's own secrets; `exceptions`: honour comments and the ignore list."""

    __slots__ = ("config", "exceptions", "own")

    def __init__(self, *, config: "str | None" = None, own: bool = True, exceptions: bool = True) -> None:
        self.config = config
        self.own = own
        self.exceptions = exceptions


def local_key(common: str) -> bytes:
    """The key of fingerprints where the repository has no ignore list yet: made once, kept in git's common folder.
    Where nothing can be written, one that only this run knows."""
    path = os.path.join(common, "zopp", "guard-key")
    try:
        with open(path, "rb") as file:
            found = file.read()
        if len(found) == 32:
            return found
    except OSError:
        pass
    made = os.urandom(32)
    staged = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(made)
        os.replace(staged, path)
    except OSError:
        pass
    return made


def guard(
    result: "Result",
    objects: "Objects",
    environ: "Mapping[str, str]",
    common: str,
    rules: "Rules",
    options: "Options | None",
) -> Guard:
    """The engine for one run."""
    options = options or Options()
    keys: "list[bytes]" = []

    def key() -> bytes:
        if not keys:
            keys.append(local_key(common) if common else os.urandom(32))
        return keys[0]

    own = _own(result, environ, common, rules) if options.own and common else None
    users = _Users(environ, options.config)
    return Guard(result, objects.get, environ, key=key, own=own, user=users.of, exceptions=options.exceptions)


def _own(result: "Result", environ: "Mapping[str, str]", common: str, rules: "Rules") -> "Index | None":
    """The index of own secrets, and what it does not cover."""
    rules.listed()
    found: "Index | None" = None
    if os.path.lexists(os.path.join(common, "zopp", "guard-index")):
        from zopp.scan import own

        found = own.load(common, environ)
    made = {} if found is None else found.environments
    result.not_covered = sorted(scope for scope, state in rules.states.items() if made.get(scope) != state)
    if result.not_covered:
        what = ", ".join(result.not_covered)
        how = " --brokered (asks the policy server)" if not rules.brokered.isdisjoint(result.not_covered) else ""
        result.notes.append(f"own secrets are not looked for in the newest form of {what}: zopp scan --reindex{how}")
        settings = rules.settings("")
        if settings and settings["guard"].get("require_index"):
            result.problems.append(Problem("zopp.toml", f"wants an index of own secrets, and there is none of {what}"))
    return found


class _Users:
    """Users' rules of each tree, parsed once."""

    __slots__ = ("_config", "_environ", "_known")

    def __init__(self, environ: "Mapping[str, str]", config: "str | None") -> None:
        self._environ = environ
        self._config = config
        self._known: "dict[str, UserRules | None]" = {}

    def of(self, rules: "Rules") -> "UserRules | None":
        """Those of a tree. FormatError `user_rules` for a file that is no such rules."""
        if self._config is not None:
            blob = _from_disk(self._config)
        else:
            blob = rules.tree.get([GITLEAKS])[0]
        if blob is None:
            return None
        if blob[0] not in self._known:
            from zopp.scan import userrules

            config = self._config

            def read(path: str) -> "bytes | None":
                found = _from_disk(path) if config is not None else rules.tree.get([path])[0]
                return None if found is None else found[1]

            try:
                # What `extend.path` names may change without this file: then nothing is kept.
                if b"extend" in blob[1]:
                    made = userrules.parse(blob[1], read)
                else:
                    made = settingscache.cached(self._environ, "user", blob, lambda data: userrules.parse(data, read))
            except FormatError as exc:
                exc.place = exc.place or self._config or GITLEAKS
                raise
            self._known[blob[0]] = userrules.UserRules(made)
        return self._known[blob[0]]


def _from_disk(path: str) -> "tuple[str, bytes] | None":
    from zopp import _fast

    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as exc:
        raise Unknown(f"cannot be read ({exc.strerror})", code="scan.config", place=path) from None
    return _fast.sha256(data).hex(), data
