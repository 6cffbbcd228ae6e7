"""The library for programs: read and set values of a working copy. What it checks is what the commands check, by the
same code; nothing is kept between two calls but the keys.

Import it from `zopp`, not from here.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence

from zopp import sopsfile
from zopp.errors import UsageError
from zopp.exchange.names import check_name
from zopp.repo import environment, values, workspace
from zopp.repo.brokered import Stanza
from zopp.repo.changing import changing
from zopp.repo.exposure import dotted
from zopp.repo.unlock import Keyring, decrypt, open_readable

Scalar = str | int | float | bool | None


class ZoppWarning(UserWarning):
    """Something to know that refuses nothing: an unpinned clone, a policy or manifest older than one seen before. Turn
    it into an error with `warnings.simplefilter("error", zopp.ZoppWarning)`."""


def open(
    path: str | os.PathLike[str] = ".",
    *,
    project: str | None = None,
    environ: Mapping[str, str] | None = None,
    passphrase: Callable[[str], str] | None = None,
) -> Workspace:
    """The workspace of the git working copy that holds the folder `path`, with its trust decided and its policy log
    verified from the pinned genesis.

    `project`: another than that of the nearest zopp.toml (or ZOPP_PROJECT). `environ` (default: os.environ) is where
    HOME, the key variables, ZOPP_TRUST, ZOPP_ENV and CI are looked up. `passphrase` is called with the source of a
    locked key; without it such a key is not used.

    NotFound outside a workspace; IntegrityError where the policy log or its anchor does not hold; Unknown in CI without
    ZOPP_TRUST. An unpinned clone can be read, with a ZoppWarning that has its fingerprint; compare that and pin it with
    `zopp trust`."""
    return Workspace(os.path.abspath(path), project, os.environ if environ is None else environ, passphrase)


class Workspace:
    """A working copy; made by `zopp.open`.

    Every call reads and verifies again, as a command would: a pull between two calls is seen. `env` is an environment's
    name as people type it; None means ZOPP_ENV, then the default of zopp.toml. A key is a name or a dotted path (quote
    parts that contain dots), as on the command line. Not thread-safe. The repr shows no value."""

    __slots__ = ("_environ", "_keyring", "_passphrase", "_path", "_project")

    def __init__(
        self, path: str, project: str | None, environ: Mapping[str, str], passphrase: Callable[[str], str] | None
    ) -> None:
        self._path = path
        self._project = project
        self._environ = environ
        self._passphrase = passphrase
        self._keyring = Keyring(environ, passphrase, releaser=self._release, tell=_warn)
        self._open()

    def __repr__(self) -> str:
        return f"<zopp.Workspace {self._path!r}>"

    def environments(self) -> list[str]:
        """The names of the project's environments, sorted. Needs no key."""
        ws = self._open()
        return environment.names(ws, self._project or self._environ.get("ZOPP_PROJECT") or ws.project)

    def keys(self, env: str | None = None) -> list[str]:
        """The keys of an environment in the order of its files, dotted. Needs no key: the names are those of signed
        files, the values are not looked at."""
        _, found = self._readable(env)
        return [dotted(leaf) for file in found.files.values() if file.sops for leaf in file.sops.paths()]

    def get(self, key: str, env: str | None = None) -> object:
        """The value of `key`: str, int, float, bool or None; for a key above others a dict or list of those.

        Before it is returned: the manifest is signed by a writer of this environment, the file is the one it lists,
        its data key is the one that was committed to, and every value and the MAC of the file hold. Whether the value
        is still good at its source is not known here.

        NotFound: no such key or environment. Denied: the policy does not let this key read. Unknown: no key of ours.
        IntegrityError: something of the above does not hold; then there is no value."""
        ws, found = self._readable(env)
        path = values.parse_key(key)
        place = values.locate(found, path)
        if place is None:
            raise values.missing(found, path)
        name, exact = place
        return values.plain(sopsfile.lookup(decrypt(ws, found, found.files[name], self._keyring), exact))

    def values(self, env: str | None = None) -> dict[str, object]:
        """Every key (dotted, as `keys`) with its value; checks and errors as `get`. One key in two files of an
        environment is an IntegrityError."""
        ws, found = self._readable(env)
        opened = values.open_all(ws, found, self._keyring)
        return {dotted(leaf): values.plain(sopsfile.lookup(file.tree, leaf)) for file in opened for leaf in file.leaves}

    def set(self, key: str, value: Scalar, env: str | None = None, *, message: str | None = None) -> bool:
        """Set one value, sign the manifest, and write both through the journal; whether anything changed. With
        `message` these files are committed to git, without they lie in the work tree, which verifies.

        Needs a pinned clone that is not behind what it has seen, a signing key, and write on the environment. Denied,
        IntegrityError and Unknown as `get`, and as these say; UsageError for a value that no file can hold; also
        refused are names that are code (LD_PRELOAD, …) and those that the file would leave unencrypted."""
        _check_value(value)
        path = values.parse_key(key)
        if len(path) == 1 or isinstance(value, str):
            check_name("_".join(str(part) for part in path))
        with changing(self._path, self._environ, self._passphrase, opened=self._say) as draft:
            scope = environment.scope_of(draft.ws, env, self._project)
            found = environment.open_environment(draft.ws, scope, history=True)
            edited = values.apply(draft, found, self._keyring, [sopsfile.Put(path, value, None)])
            if edited:
                draft.commit(message)
            return bool(edited)

    def _release(
        self, ws: workspace.Workspace, scope: str, purpose: str, items: Sequence[Stanza], /
    ) -> Sequence[bytes]:
        from zopp.client.releases import Releases  # a direct environment does not pay for it

        return Releases(self._keyring, self._passphrase)(ws, scope, purpose, items)

    def _open(self) -> workspace.Workspace:
        ws = workspace.open_workspace(self._path, self._environ)
        self._say(ws)
        return ws

    def _readable(self, env: str | None) -> tuple[workspace.Workspace, environment.Environment]:
        ws = self._open()
        found, findings = open_readable(ws, environment.scope_of(ws, env, self._project), self._keyring)
        for finding in findings:
            _warn(f"{finding.place}: {finding.message}" if finding.place else finding.message)
        return ws, found

    def _say(self, ws: workspace.Workspace) -> None:
        if ws.place == "unpinned":
            _warn(f"this clone is not pinned to a workspace; its log begins with {ws.state.ws}")
        elif ws.place in ("older", "beside"):
            how = "older than" if ws.place == "older" else "beside"
            _warn(f"the policy here is {how} the one this clone has seen on the default branch")


def _warn(text: str) -> None:
    # At the caller's line: how deep that is differs between the calls, and Python 3.11 cannot skip by file.
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("zopp", "contextlib"):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, ZoppWarning, stacklevel=level)


def _check_value(value: object) -> None:
    if value is not None and not isinstance(value, (str, int, float)):
        raise UsageError("a value is a str, int, float, bool or None", code="type")
    if isinstance(value, str) and "\0" in value:
        raise UsageError("a value cannot hold a NUL byte", code="nul")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UsageError("an integer has at most 64 bits", code="type")
