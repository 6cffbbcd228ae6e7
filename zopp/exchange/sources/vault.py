"""Secrets of a KV engine of Vault or OpenBao, version 1 or 2: a tree of paths, each with a map of fields.

Only what both vendors document is asked: LIST and read, and `sys/internal/ui/mounts` for the kind of engine. What may
not be listed or read is rejected by name; what is deleted is skipped with the reason. Source: importers.md §6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from zopp.errors import Denied, NotFound, Unknown, UsageError
from zopp.exchange import jsontext, names
from zopp.exchange.entry import Entry, Key, Left, Progress, Reading, Remaining
from zopp.exchange.labels import label
from zopp.exchange.sources.vault_http import Answer, Server
from zopp.printable import printable

Layout = Literal["path", "flat"]

MAX_SECRETS = 20_000
MAX_FOLDERS = 20_000
# Secrets one after the other for which the server has no answer: then it is the server.
MAX_FAILURES = 3
_INEXACT = "2^53 or more"


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """A KV engine: where it is mounted, without slashes around it, and its version, 1 or 2."""

    mount: str
    version: int

    def read_path(self, path: str) -> str:
        """Where a secret is read."""
        return f"{self.mount}/data/{path}" if self.version == 2 else f"{self.mount}/{path}"

    def list_path(self, path: str) -> str:
        """Where a folder is listed."""
        return f"{self.mount}/metadata/{path}" if self.version == 2 else f"{self.mount}/{path}"


def find_engine(server: Server, mount: str, path: str, version: int) -> tuple[Engine, str]:
    """(engine, path below it) for what people paste: `mount/path`, `mount/data/path`, or `-mount=m path`. `version` 0:
    ask the server. UsageError where it does not say, NotFound where no engine is, and for one that is not KV."""
    whole = "/".join([part.strip("/") for part in (mount, path) if part.strip("/")])
    if not whole or any(_odd(part) for part in whole.split("/")):
        raise UsageError("a path is like kv/app/production, without empty parts and ..", code="vault.path")
    if version:
        at, _, rest = whole.partition("/")
        if mount.strip("/"):
            at, rest = mount.strip("/"), path.strip("/")
        return Engine(mount=at, version=version), rest
    answer = server.ask("GET", f"sys/internal/ui/mounts/{whole}")
    at, kind = answer.at("data", "path"), answer.at("data", "type")
    if answer.status == 404:
        raise NotFound(
            "no engine is mounted there", code="vault.mount", place=printable(whole),
            hint="look at it with: vault secrets list; is --namespace right?",
        )  # fmt: skip
    if answer.status != 200 or not isinstance(at, str) or not f"{whole}/".startswith(at) or not at.strip("/"):
        raise UsageError(
            f"the server does not say which engine this is (HTTP {answer.status})", code="vault.kv",
            place=printable(whole), hint="is the token good? if so, say --kv 2 or --kv 1, and --mount MOUNT",
        )  # fmt: skip
    if kind != "kv":
        raise UsageError(
            "is an engine of another kind; only KV is imported", code="vault.kind", place=printable(at.strip("/"))
        )
    found = 2 if answer.at("data", "options", "version") == "2" else 1
    return Engine(mount=at.strip("/"), version=found), f"{whole}/".removeprefix(at).strip("/")


def read(
    server: Server,
    engine: Engine,
    path: str,
    *,
    layout: Layout = "flat",
    versions: int = 1,
    progress: Progress = lambda done, of: None,
) -> Reading:
    """Everything at and below `path` of `engine`, and the newest `versions` of each secret, the current one included.

    `layout` path: the first part below `path` is the environment; flat: it is a part of the names. NotFound if nothing
    is there, Denied if nothing of it may be seen, Unknown as `Server.ask`."""
    return _Reader(server, engine, layout, versions, progress).read(path)


@dataclass(slots=True)
class _Secret:
    """One version of one secret. `why`: the reason that it has no value."""

    fields: Mapping[str, Any] = field(repr=False)
    version: int = 0
    note: str = field(default="", repr=False)
    why: str = ""


@dataclass(slots=True)
class _Reader:
    server: Server
    engine: Engine
    layout: Layout
    versions: int
    progress: Progress
    root: str = ""
    secrets: list[str] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    covers: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    older: list[list[Entry]] = field(default_factory=list)
    failures: int = 0

    def read(self, path: str) -> Reading:
        self.root = self._meant(path)
        self._enumerate()
        if self.versions > 1 and self.engine.version == 1:
            self.warnings.append("a KV engine of version 1 keeps no earlier versions")
        self.older = [[] for _ in range(self.versions - 1)]
        for number, secret in enumerate(self.secrets):
            self.progress(number, len(self.secrets))
            self._take(secret)
        inexact = [entry.locator for entry in self.entries if _INEXACT in entry.remarks]
        if inexact:
            self.warnings.append(
                "the server holds numbers as floats, so these may not be what was stored: " + ", ".join(inexact)
            )
        return Reading(
            kind="vault", place=self._shown(self.root), entries=tuple(self.entries), left=tuple(self.left),
            warnings=tuple(self.warnings), covers=tuple(self.covers),
            older=tuple([tuple(step) for step in self.older if step]),
        )  # fmt: skip

    # --- what there is

    def _meant(self, path: str) -> str:
        """`path`, or what is behind `data/` and `metadata/` in it where that was taken from an address of the API."""
        first, _, rest = path.partition("/")
        if self.engine.version == 2 and first in ("data", "metadata") and not self._anything(path):
            return rest
        return path

    def _anything(self, path: str) -> bool:
        if self.server.list(self.engine.list_path(path)).status == 200:
            return True
        answer = self.server.ask("GET", self.engine.read_path(path))
        return answer.status == 200 or answer.at("data", "metadata") is not None

    def _enumerate(self) -> None:
        """Fill `secrets` with the paths of all secrets, the root's own first, and `covers`."""
        root = self._list(self.root)
        if root is None and not self.root:
            raise Denied(
                "the token may not list it", code="vault.denied", place=self.engine.mount,
                hint=f"name a path below it, or allow list on {self.engine.list_path('')}",
            )  # fmt: skip
        if self.root:
            self.secrets.append(self.root)
            self.covers.append(self._id(self.root))
        if root is None:
            self.warnings.append("may not be listed, so only what stands at this very path is read")
        else:
            self.covers.append(self._below(self.root))
        folders = [(self.root, root or [])]
        seen = 1
        while folders:
            folder, keys = folders.pop()
            for key in keys:
                path = f"{folder}/{key}".lstrip("/")
                if not key.endswith("/"):
                    self.secrets.append(path)
                    continue
                seen += 1
                self.progress(len(self.secrets), 0)
                below = self._list(path.rstrip("/"))
                if below is None:
                    self._reject(path, "denied", f"{self._shown(path)}: the token may not list it", self._below(path))
                else:
                    folders.append((path.rstrip("/"), below))
            if len(self.secrets) > MAX_SECRETS or seen > MAX_FOLDERS:
                raise UsageError(
                    f"has more than {MAX_SECRETS} secrets or folders", code="vault.size",
                    place=self._shown(self.root), hint="import parts of it, one after the other",
                )  # fmt: skip

    def _list(self, path: str) -> list[str] | None:
        """The keys in a folder; None if the token may not list it."""
        answer = self.server.list(self.engine.list_path(path))
        if answer.status == 403:
            return None
        if answer.status == 404:
            self._check_404(answer)
            return []
        keys = answer.at("data", "keys")
        if answer.status != 200 or not isinstance(keys, list):
            raise Unknown(f"could not be listed (HTTP {answer.status})", code="vault.answer", place=self._shown(path))
        good = {key for key in keys if isinstance(key, str) and not _odd(key.removesuffix("/"))}
        if any(key not in good for key in keys if isinstance(key, str)) or not all(
            isinstance(key, str) for key in keys
        ):
            says = f"{self._shown(path)}: a name in it cannot be asked for"
            self._reject(f"{path}/".lstrip("/"), "odd-path", says, self._below(path))
        return sorted(good)

    def _check_404(self, answer: Answer) -> None:
        """An empty folder answers 404 without a word; so does no engine, and the wrong kind, with some."""
        if answer.at("warnings"):
            raise UsageError("is an engine of version 2", code="vault.kv", place=self.engine.mount, hint="say --kv 2")
        if answer.at("errors"):
            raise NotFound(
                "no KV engine answers there", code="vault.mount", place=self.engine.mount,
                hint="look at it with: vault secrets list; is --namespace right?",
            )  # fmt: skip

    # --- what stands in it

    def _take(self, path: str) -> None:
        answer = self.server.ask("GET", self.engine.read_path(path))
        shown, id = self._shown(path), self._id(path)
        self.failures = self.failures + 1 if answer.status == 500 else 0
        if self.failures >= MAX_FAILURES:
            raise Unknown("the server fails (HTTP 500) on one secret after the other", code="vault.busy", place=shown)
        if answer.status == 403:
            if path == self.root and self._below(path) not in self.covers:
                raise Denied(
                    "the token may neither list nor read it", code="vault.denied", place=shown,
                    hint=f"allow read on {self.engine.read_path(path)}, and list on {self.engine.list_path(path)}",
                )  # fmt: skip
            if path == self.root and len(self.secrets) > 1:
                # What lets a token read all of a folder says nothing of a secret of the folder's name.
                self.covers.remove(id)
                self.warnings.append(
                    "may not be read itself; if it is a secret too, and not only a folder, it is left out"
                )
            else:
                self._reject(path, "denied", f"{shown}: the token may not read it", id)
            return
        secret = self._secret(answer)
        if secret is None:
            if path == self.root and answer.status == 404:
                self._check_root(answer)
                return
            if answer.status == 404:
                self.left.append(Left(locator=shown, reason="gone meanwhile", name=self._name(path)))
            else:
                why = f"HTTP {answer.status}"
                self._reject(path, why, f"{shown}: could not be read ({why})", id)
            return
        if secret.why or not secret.fields:
            self.left.append(Left(locator=shown, reason=secret.why or "has no fields", name=self._name(path)))
        self.entries += self._entries(path, secret)
        if self.versions > 1 and self.engine.version == 2 and not secret.why:
            self._earlier(path, secret.version)

    def _check_root(self, answer: Answer) -> None:
        """Nothing stands at the root itself: well, if it is a folder."""
        if len(self.secrets) > 1 or self.left:
            return
        self._check_404(answer)
        raise NotFound(
            "nothing stands there", code="vault.empty", place=self._shown(self.root),
            hint="look with: vault kv list; is --namespace right?",
        )  # fmt: skip

    def _secret(self, answer: Answer) -> _Secret | None:
        """The secret in an answer; None if there is none."""
        data = answer.at("data")
        if self.engine.version == 1:
            return _Secret(data) if answer.status == 200 and isinstance(data, dict) else None
        meta = answer.at("data", "metadata")
        if answer.status not in (200, 404) or not isinstance(meta, dict):
            return None
        version = meta.get("version")
        number = int(version) if isinstance(version, jsontext.Number) and version.isascii() and version.isdigit() else 0
        fields = answer.at("data", "data")
        if not isinstance(fields, dict):
            return _Secret({}, number, why="destroyed" if meta.get("destroyed") is True else "deleted (soft)")
        return _Secret(fields, number, _note(meta.get("custom_metadata")))

    def _earlier(self, path: str, current: int) -> None:
        """Put earlier versions into `older`, the one before the current into its last step."""
        for back in range(1, min(self.versions, current)):
            number = current - back
            answer = self.server.ask("GET", self.engine.read_path(path), params={"version": str(number)})
            secret = self._secret(answer)
            shown = f"{self._shown(path)} (version {number})"
            if answer.status == 403:
                self._reject(path, "denied", f"{shown}: the token may not read it", self._id(path))
            elif secret is None or secret.why:
                # what is older than the engine keeps is not even known
                if secret is not None or answer.status != 404:
                    why = secret.why if secret is not None else f"HTTP {answer.status}"
                    self.left.append(Left(locator=shown, reason=why, name=self._name(path)))
            else:
                self.older[-back] += self._entries(path, secret)

    def _entries(self, path: str, secret: _Secret) -> list[Entry]:
        made = []
        for name, value in secret.fields.items():
            below = path.removeprefix(self.root).strip("/")
            env, key, alone = self._target(below, name)
            kind = jsontext.kind(value)
            remarks = (f"{kind} as JSON text",) if kind else ()
            if jsontext.inexact(value):
                remarks = (*remarks, _INEXACT)
            locator = f"{self._shown(path)}/{printable(name)}"
            try:
                text = jsontext.text(value)
            except ValueError:
                self._reject(path, "nested-too-deeply", f"{locator}: nested too deeply", self._id(path))
                continue
            made.append(
                Entry(
                    locator=locator, id=self._id(path) + quote(name, safe=""), name=name,
                    path=self._name(path), key=key, alone=alone, env=env, value=text,
                    version=str(secret.version) if secret.version else "", note=secret.note, remarks=remarks,
                    remains=(Remaining(todo="delete", place=self._shown(path), why="once nothing reads it there"),),
                )
            )  # fmt: skip
        return made

    def _target(self, below: str, name: str) -> tuple[str, Key, Key]:
        """(environment, key, key alone) of a field of the secret at `below` the root."""
        alone = name if names.is_target(name) else label(name)
        env = ""
        if self.layout == "path":
            env, _, below = below.partition("/")
        return env, (label(f"{below}/{name}") if below else alone,), (alone,)

    # --- what it is called

    def _name(self, path: str) -> str:
        """What map files and --exclude call it; a folder ends with a slash."""
        return f"{self.engine.mount}/{path}" if path else self.engine.mount

    def _shown(self, path: str) -> str:
        return printable(self._name(path))

    def _id(self, path: str) -> str:
        """What the ids of all fields of a secret begin with. The namespace is a part of the path, as it is to the
        server; `#` ends the path, in which it is escaped."""
        parts = (self.server.namespace, self.engine.mount, path)
        return f"{self.server.address}/" + "/".join([quote(part.strip("/"), safe="/") for part in parts if part]) + "#"

    def _below(self, path: str) -> str:
        """What the ids of everything in a folder begin with."""
        return self._id(path).removesuffix("#").rstrip("/") + "/"

    def _reject(self, path: str, reason: str, says: str, id: str) -> None:
        self.left.append(
            Left(locator=self._shown(path), reason=reason, status="rejected", name=self._name(path), id=id, says=says)
        )


def _odd(part: str) -> bool:
    """Whether a part of a path would mean another one, or cannot stand in an address."""
    return part in ("", ".", "..") or "/" in part or any(char < " " or "\ud800" <= char <= "\udfff" for char in part)


def _note(metadata: object) -> str:
    """Custom metadata as lines of a comment."""
    if not isinstance(metadata, dict):
        return ""
    return "\n".join([printable(f"{name}: {jsontext.text(value)}") for name, value in sorted(metadata.items())])
