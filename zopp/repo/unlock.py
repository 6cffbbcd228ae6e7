"""From a listed file to its data key: the reader's own entry, and the key commitment before anything is used (A1)."""

from collections.abc import Mapping

from zopp import sopsfile
from zopp._fast import constant_time_equal
from zopp.errors import Denied, IntegrityError, Unknown, ZoppError
from zopp.keys import agefile, find
from zopp.keys.identity import Identity
from zopp.policy import decisions, manifest as manifests
from zopp.repo import userdirs
from zopp.repo.environment import Environment, SecretsFile, people_name
from zopp.repo.workspace import Workspace
from zopp.sopsfile import SopsFile, Tree


class Keyring:
    """This user's identities, loaded at first need."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._found: find.Found | None = None

    @property
    def found(self) -> find.Found:
        """Identities, what was tried, and what was wrong with it."""
        if self._found is None:
            self._found = find.identities(self._env, userdirs.home(self._env), userdirs.config(self._env))
        return self._found

    def identities(self) -> list[Identity]:
        """All identities, in the order in which they were found."""
        return list(self.found.identities)

    def recipients(self) -> set[str]:
        """The recipients that our identities answer for."""
        return {identity.recipient for identity in self.identities()}


def my_principals(ws: Workspace, keyring: Keyring) -> list[str]:
    """The enabled principals whose age recipient is one of ours."""
    mine = keyring.recipients()
    return [name for name, principal in ws.state.principals.items() if principal.recipient in mine]


def unwrap(ws: Workspace, env: Environment, sops: SopsFile, keyring: Keyring) -> bytes:
    """The data key by one of our identities, no commitment checked yet. Denied if policy does not let us read, Unknown
    if we have no key at all."""
    entries = [entry for group in sops.metadata.groups for entry in group]
    mine = keyring.recipients()
    scope = f"{env.project}/{env.name}"
    for entry in entries:
        if entry.recipient not in mine:
            continue
        identities = [identity for identity in keyring.identities() if identity.recipient == entry.recipient]
        try:
            return agefile.unwrap(entry.enc, identities)
        except Unknown:
            raise IntegrityError(
                "the entry that bears our recipient does not open with our key",
                code="entry.forged",
                hint=f"a writer of {scope} can mend this with: zopp rekey {scope}",
            ) from None
    principals = my_principals(ws, keyring)
    if not principals:
        tried = "; ".join(f"{source}: {outcome}" for source, outcome in keyring.found.tried) or "nothing found"
        raise Unknown(
            f"no key of yours belongs to a principal of workspace {ws.state.name} (tried {tried})",
            code="key.none",
            hint="see where keys are looked for with: zopp doctor",
        )
    decision = decisions.decide(ws.state, principals[0], "read", {"env": env.scope})
    if isinstance(decision, decisions.Deny):
        raise Denied(
            f"{principals[0]} may not read {scope}: {decision.reason}",
            code="denied",
            subject=principals[0],
            action="read",
            scope=people_name(env.scope),
            missing=decision.missing,
            hint=f"ask an admin of {scope} to run: zopp grant {_subject(ws, principals[0])} read {scope}",
        )
    raise Denied(
        f"{principals[0]} may read {scope}, but its files are not encrypted to that key yet",
        code="recipient.behind",
        hint=f"ask a writer of {scope} to run: zopp rekey {scope}",
    )


def _subject(ws: Workspace, principal: str) -> str:
    return ws.state.principals[principal].user or principal


def check_commitment(ws: Workspace, env: Environment, path: str, data_key: bytes) -> None:
    """IntegrityError `commitment` if this data key is not the one a writer signed for this path and environment."""
    assert env.manifest is not None
    expected = manifests.commitment(data_key, ws.state.ws, env.scope, path)
    if not constant_time_equal(expected.encode(), env.manifest.files[path].kc.encode()):
        raise IntegrityError(
            "its data key is not the one that was signed for this environment: the file may be transplanted from another",
            code="commitment",
            place=path,
            hint="restore the file from git, and ask who changed it: git log -- " + path,
        )


def data_key(ws: Workspace, env: Environment, file: SecretsFile, keyring: Keyring) -> bytes:
    """The data key of a listed file, commitment checked."""
    if file.sops is None or not file.listed:
        raise IntegrityError("is not the file that the manifest lists", code="file.changed", place=file.path)
    try:
        key = unwrap(ws, env, file.sops, keyring)
    except ZoppError as exc:
        exc.place = exc.place or file.path
        raise
    check_commitment(ws, env, file.path, key)
    return key


def decrypt(ws: Workspace, env: Environment, file: SecretsFile, keyring: Keyring) -> Tree:
    """The plaintext tree of a listed file: commitment, every GCM tag and the MAC checked."""
    assert file.sops is not None
    try:
        return file.sops.decrypt(data_key(ws, env, file, keyring))
    except ZoppError as exc:
        exc.place = exc.place or file.path
        raise


