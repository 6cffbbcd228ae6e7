"""Where this user's keys are: zopp's variables, zopp's store, then everything that sops would look at. Lean.

All sources of identities are read and tried together; a source that cannot be read is remembered and reported only if
nothing opens the file (a garbage SOPS_AGE_KEY beside a good key file is fine). What needs a passphrase, or is slow to
read (RSA), waits until the rest has failed. Sources: sops-compat §13.5, §13.6; DESIGN.md 'Private keys'.
"""

import os

from zopp.errors import NotFound, Unknown, ZoppError
from zopp.keys import identity, keyfiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from zopp.keys.identity import Identity
    from zopp.keys.signing import SigningKey

    Ask = Callable[[str], str]  # the source that needs a passphrase -> the passphrase

# What a child of `zopp run` must not inherit (A26): whoever holds one of these is this principal, or can ask a
# provider for a token that says so. SSH_AUTH_SOCK stays: git in the child needs it.
KEY_VARIABLES = (
    "ZOPP_AGE_KEY",
    "ZOPP_AGE_KEY_FILE",
    "ZOPP_SIGNING_KEY",
    "ZOPP_SIGNING_KEY_FILE",
    "ZOPP_ID_TOKEN",
    "SOPS_AGE_KEY",
    "SOPS_AGE_KEY_FILE",
    "SOPS_AGE_KEY_CMD",
    "SOPS_AGE_SSH_PRIVATE_KEY_FILE",
    "SOPS_AGE_SSH_PRIVATE_KEY_CMD",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "ACTIONS_RUNTIME_TOKEN",
    "CI_JOB_TOKEN",
    "CI_JOB_JWT",
    "CI_JOB_JWT_V1",
    "CI_JOB_JWT_V2",
    "CI_REGISTRY_PASSWORD",
    "CI_DEPLOY_PASSWORD",
    "CIRCLE_OIDC_TOKEN",
    "CIRCLE_OIDC_TOKEN_V2",
    "BITBUCKET_STEP_OIDC_TOKEN",
    "BUILDKITE_AGENT_ACCESS_TOKEN",
    "SYSTEM_ACCESSTOKEN",
    "SYSTEM_OIDCREQUESTURI",
)

# A relative folder would be looked for in the work tree, which others write.
_NOT_ROOTED = "not looked at, since its path is not absolute"


class Locked:
    """A source that was found and not yet opened. `recipient` is '' where only opening it would tell."""

    __slots__ = ("asks", "load", "recipient", "source")

    def __init__(self, source: str, recipient: str, asks: bool, load: "Callable[[Ask | None], list[Identity]]") -> None:
        self.source = source
        self.recipient = recipient
        self.asks = asks
        self.load = load


class Found:
    """The identities of this user.

    identities   ready, in the order of their sources
    locked       found, not opened yet: see `more`
    tried        (source, outcome) of every source looked at, for 'no key of yours …' messages
    problems     why a source could not be read; report them only if nothing opens
    """

    __slots__ = ("identities", "locked", "problems", "tried")

    def __init__(self) -> None:
        self.identities: list[Identity] = []
        self.locked: list[Locked] = []
        self.tried: list[tuple[str, str]] = []
        self.problems: list[ZoppError] = []

    def more(self, ask: "Ask | None" = None, recipients: "Collection[str]" = ()) -> "Iterator[Identity]":
        """Identities of the locked sources, one source at a time, opened as they are asked for; each is added to
        `identities`. Without `ask` those that need a passphrase stay locked. `recipients` are those of the file at
        hand: a source whose recipient is known and not among them is left alone, so nobody types in vain."""
        for lock in sorted(self.locked, key=lambda lock: lock.asks):
            if (lock.asks and ask is None) or (recipients and lock.recipient and lock.recipient not in recipients):
                continue
            self.locked.remove(lock)
            try:
                opened = lock.load(ask)
            except ZoppError as exc:
                self._failed(lock.source, exc)
                continue
            self._took(lock.source, opened)
            yield from opened

    def _took(self, source: str, identities: "list[Identity]") -> None:
        self.identities += identities
        self.tried.append((source, "1 key" if len(identities) == 1 else f"{len(identities)} keys"))

    def _failed(self, source: str, exc: ZoppError) -> None:
        self.problems.append(exc)
        self.tried.append((source, exc.message))

    def _text(self, source: str, data: "str | bytes", *, path: str = "", ssh: bool = True) -> None:
        try:
            self._took(source, identity.parse(data, source, ssh=ssh))
        except Unknown as exc:
            if exc.code != "locked":
                self._failed(source, exc)
                return

            def load(ask: "Ask | None") -> "list[Identity]":
                return identity.parse(data, source, None if ask is None else lambda: ask(source), ssh=ssh)

            self.locked.append(Locked(source, _public_beside(path), True, load))
            self.tried.append((source, "locked by a passphrase"))
        except ZoppError as exc:
            self._failed(source, exc)

    def _file(self, source: str, path: str, *, strict: bool, optional: bool = False) -> None:
        try:
            data = keyfiles.read_private(path, strict=strict)
        except NotFound as exc:
            if optional:
                self.tried.append((source, "not there"))
            else:
                self._failed(source, exc)
        except ZoppError as exc:
            self._failed(source, exc)
        else:
            self._text(source, data, path=path)

    def _command(self, variable: str, command: str, env: "Mapping[str, str]", allowed: bool) -> None:
        if not allowed:
            self.tried.append((variable, "a command, not run here"))
            return
        from zopp.keys import command as runner

        try:
            self._text(variable, runner.output(command, env, variable))
        except ZoppError as exc:
            self._failed(variable, exc)

    def _rsa(self, path: str) -> None:
        if not os.path.exists(path):
            self.tried.append((path, "not there"))
            return

        def load(ask: "Ask | None") -> "list[Identity]":
            return [identity.from_rsa(keyfiles.read_private(path, strict=False), path)]

        self.locked.append(Locked(path, "", False, load))
        self.tried.append((path, "an RSA key, read only if nothing else opens the file"))


def identities(env: "Mapping[str, str]", home: str, config_dir: str, *, run_commands: bool = False) -> Found:
    """Every age identity of this user, in the order of the module's first sentence. `home` is their home folder,
    `config_dir` zopp's own. Never raises for a bad source: see `Found.problems`.

    Commands in SOPS_AGE_KEY_CMD and SOPS_AGE_SSH_PRIVATE_KEY_CMD run only with `run_commands`, without a shell.
    """
    found = Found()
    if text := env.get("ZOPP_AGE_KEY", ""):
        found._text("ZOPP_AGE_KEY", text)
    if path := env.get("ZOPP_AGE_KEY_FILE", ""):
        found._file(f"ZOPP_AGE_KEY_FILE ({path})", path, strict=True)
    _from_store(found, config_dir)
    if path := env.get("SOPS_AGE_SSH_PRIVATE_KEY_FILE", ""):
        found._file(f"SOPS_AGE_SSH_PRIVATE_KEY_FILE ({path})", path, strict=False)
    if command := env.get("SOPS_AGE_SSH_PRIVATE_KEY_CMD", ""):
        found._command("SOPS_AGE_SSH_PRIVATE_KEY_CMD", command, env, run_commands)
    if os.path.isabs(home):
        path = os.path.join(home, ".ssh", "id_ed25519")
        found._file(path, path, strict=False, optional=True)
        found._rsa(os.path.join(home, ".ssh", "id_rsa"))
    if text := env.get("SOPS_AGE_KEY", ""):
        found._text("SOPS_AGE_KEY", text, ssh=False)
    if path := env.get("SOPS_AGE_KEY_FILE", ""):
        found._file(f"SOPS_AGE_KEY_FILE ({path})", path, strict=False)
    if command := env.get("SOPS_AGE_KEY_CMD", ""):
        found._command("SOPS_AGE_KEY_CMD", command, env, run_commands)
    path = os.path.join(keyfiles.config_home(env, home), "sops", "age", "keys.txt")
    if os.path.isabs(path):
        found._file(path, path, strict=False, optional=True)
    return found


def _from_store(found: Found, config_dir: str) -> None:
    if not os.path.isabs(config_dir):
        found.tried.append((config_dir, _NOT_ROOTED))
        return
    try:
        name = keyfiles.current(config_dir)
    except ZoppError as exc:
        found._failed(keyfiles.folder(config_dir), exc)
        return
    if name is None:
        several = "several keys and none chosen" if keyfiles.listed(config_dir) else "no key"
        found.tried.append((keyfiles.folder(config_dir), several))
        return
    path = os.path.join(keyfiles.folder(config_dir), name + ".age")
    found._file(path, path, strict=True)


def _public_beside(path: str) -> str:
    """The recipient in `path`.pub, '' if there is none. A wrong one costs a needless or a missing question only."""
    if not path:
        return ""
    from zopp.keys import agefile

    try:
        text = keyfiles.read_private(path + ".pub", strict=False).decode("utf-8", "replace")
        return agefile.canonical_recipient(text.removesuffix("\n"))
    except ZoppError:
        return ""


def token_source(env: "Mapping[str, str]") -> str:
    """The variable by which a CI job can prove itself (policy-server.md §3.3): ZOPP_ID_TOKEN holds a token, put there
    by GitLab's `id_tokens`; ACTIONS_ID_TOKEN_REQUEST_URL says where GitHub gives one. '' if this is no such job."""
    if env.get("ZOPP_ID_TOKEN", ""):
        return "ZOPP_ID_TOKEN"
    if env.get("ACTIONS_ID_TOKEN_REQUEST_URL", "") and env.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", ""):
        return "ACTIONS_ID_TOKEN_REQUEST_URL"
    return ""


class FoundSigner:
    """`key` is this user's signing key, or None; `tried` and `problems` as in `Found`."""

    __slots__ = ("key", "problems", "tried")

    def __init__(self) -> None:
        self.key: SigningKey | None = None
        self.tried: list[tuple[str, str]] = []
        self.problems: list[ZoppError] = []


def signing_key(env: "Mapping[str, str]", config_dir: str, ask: "Ask | None" = None) -> FoundSigner:
    """The signing key: of ZOPP_SIGNING_KEY, ZOPP_SIGNING_KEY_FILE or the store's key in use, the first that is there.
    It stops there: signing with another key because the chosen one is broken would surprise.

    A key text is an OpenSSH private key, or a public line whose private half ssh-agent holds. A protected key is asked
    of the agent first and of `ask` (given the source) second.
    """
    found = FoundSigner()
    source, path = "ZOPP_SIGNING_KEY", ""
    data: bytes | None = env.get("ZOPP_SIGNING_KEY", "").encode("utf-8", "surrogateescape") or None
    try:
        if data is None and (path := env.get("ZOPP_SIGNING_KEY_FILE", "")):
            source = f"ZOPP_SIGNING_KEY_FILE ({path})"
            data = _private_or_public(path)
        elif data is None and not os.path.isabs(config_dir):
            found.tried.append((config_dir, _NOT_ROOTED))
            return found
        elif data is None:
            source = keyfiles.folder(config_dir)
            name = keyfiles.current(config_dir)
            if name is None:
                found.tried.append((source, "no key in use"))
                return found
            source = path = os.path.join(source, name + ".ssh")
            try:
                data = keyfiles.read_private(path)
            except NotFound:
                data = keyfiles.read_private(path + ".pub", strict=False)
        found.key = _signer(data, source, path, env.get("SSH_AUTH_SOCK", ""), ask)
        found.tried.append((source, "1 key"))
    except ZoppError as exc:
        exc.place = exc.place or source
        found.problems.append(exc)
        found.tried.append((source, exc.message))
    return found


def _private_or_public(path: str) -> bytes:
    data = keyfiles.read_private(path, strict=False)
    return data if data.startswith(b"ssh-") else keyfiles.read_private(path)


def _signer(data: bytes, source: str, path: str, agent: str, ask: "Ask | None") -> "SigningKey":
    from zopp.keys import signing

    if data.startswith(b"ssh-"):
        return signing.from_agent(signing.parse_public_line(data.decode("utf-8", "replace")), agent)
    try:
        return signing.load_openssh(data)
    except Unknown as exc:
        if exc.code != "locked":
            raise
    if agent and path:
        try:
            line = keyfiles.read_private(path + ".pub", strict=False).decode("utf-8", "replace")
            return signing.from_agent(signing.parse_public_line(line), agent)
        except ZoppError:
            pass
    return signing.load_openssh(data, None if ask is None else lambda: ask(source))
