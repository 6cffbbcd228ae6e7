"""From a listed file to its data key: the reader's own entry, and the key commitment before anything is used (A1)."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from zopp._fast import constant_time_equal
from zopp.errors import Denied, IntegrityError, Unknown, ZoppError
from zopp.keys import agefile, find
from zopp.keys.identity import Identity
from zopp.policy import decisions, manifest as manifests
from zopp.policy.findings import Finding
from zopp.repo import userdirs
from zopp.repo.environment import Environment, SecretsFile, open_environment, people_name, require_readable
from zopp.repo.signer import hint, remedy
from zopp.repo.workspace import Workspace
from zopp.sopsfile import SopsFile, Tree


class Keyring:
    """This user's identities, loaded at first need. `ask` is called with the source of a passphrase-protected key."""

    def __init__(self, env: Mapping[str, str], ask: Callable[[str], str] | None = None) -> None:
        self._env = env
        self._ask = ask
        self._found: find.Found | None = None

    @property
    def found(self) -> find.Found:
        """Identities, what was tried, and what was wrong with it."""
        if self._found is None:
            self._found = find.identities(self._env, userdirs.home(self._env), userdirs.config(self._env))
        return self._found

    def recipients(self) -> set[str]:
        """The recipients that our identities answer for; locked ones count where their public half tells."""
        known = {identity.recipient for identity in self.found.identities}
        return known | {lock.recipient for lock in self.found.locked if lock.recipient}

    def matching(self, recipients: Iterable[str]) -> Iterator[Identity]:
        """Our identities for these recipients; locked ones are opened only if no ready one fits."""
        wanted = set(recipients)
        ready = [identity for identity in self.found.identities if identity.recipient in wanted]
        yield from ready
        if not ready:
            yield from (i for i in self.found.more(self._ask, wanted) if i.recipient in wanted)


def my_principals(ws: Workspace, keyring: Keyring) -> list[str]:
    """The enabled principals whose age recipient is one of ours."""
    mine = keyring.recipients()
    return [name for name, principal in ws.state.principals.items() if principal.recipient in mine]


def open_readable(ws: Workspace, scope: str, keyring: Keyring) -> tuple[Environment, list[Finding]]:
    """An environment whose files may be used, and the findings that only warn and concern this reader. Refuses as
    `require_readable` does."""
    env = open_environment(ws, scope)
    mine: list[str] | None = None
    said = []
    for finding in require_readable(env):
        if finding.code == "behind":
            # Somebody else's missing entry is the writers' affair; our own explains why nothing opens.
            mine = my_principals(ws, keyring) if mine is None else mine
            if finding.data.get("principal") not in mine:
                continue
        said.append(finding)
    return env, said


def unwrap(ws: Workspace, env: Environment, sops: SopsFile, keyring: Keyring) -> bytes:
    """The data key by one of our identities, no commitment checked yet. Denied if policy does not let us read, Unknown
    if we have no key at all."""
    entries = {entry.recipient: entry for group in sops.metadata.groups for entry in group}
    scope = f"{env.project}/{env.name}"
    for identity in keyring.matching(entries):
        try:
            return agefile.unwrap(entries[identity.recipient].enc, [identity])
        except Unknown:
            raise IntegrityError(
                "the entry that bears our recipient does not open with our key",
                code="entry.forged",
                hint=f"a writer of {scope} can mend this with: zopp rekey {scope}",
            ) from None
    principals = my_principals(ws, keyring)
    locked = [problem for problem in keyring.found.problems if problem.code == "locked"]
    if locked:
        raise locked[0]
    if not principals:
        tried = "; ".join(f"{source}: {outcome}" for source, outcome in keyring.found.tried if outcome != "not there")
        raise Unknown(
            f"no key of yours belongs to a principal of workspace {ws.state.name} (tried {tried or 'nothing'})",
            code="key.none",
            hint=next((p.hint for p in keyring.found.problems if p.hint), "")
            or (
                "see where keys are looked for with: zopp doctor"
                if keyring.found.identities or keyring.found.locked
                else "a newcomer asks to be let in with: zopp trust && zopp principal request > me.request"
            ),
        )
    # One machine may hold the keys of several: each is judged, and the one that comes nearest is the answer.
    denied: dict[str, decisions.Deny] = {}
    entitled = []
    for principal in principals:
        decision = decisions.decide(ws.state, principal, "read", env.scope)
        if isinstance(decision, decisions.Deny):
            denied[principal] = decision
        else:
            entitled.append(principal)
    if not entitled:
        # A role is of no use to who is disabled, so that one is asked for only if there is no other.
        able = [name for name, decision in denied.items() if decision.rule != "disabled"] or list(denied)
        remedies = [remedy(ws.state, principal, denied[principal], scope) for principal in able]
        raise Denied(
            "; ".join(decision.reason for decision in denied.values()),
            code="denied",
            subject=principals[0],
            subjects=principals,
            action="read",
            scope=people_name(env.scope),
            missing=denied[principals[0]].missing,
            hint=hint(remedies, scope),
        )
    raise Denied(
        f"{' and '.join(entitled)} may read {scope}, but its files are not encrypted to "
        f"{'those keys' if len(entitled) > 1 else 'that key'} yet",
        code="recipient.behind",
        hint=f"ask a writer of {scope} to run: zopp rekey {scope}",
    )


def check_commitment(ws: Workspace, env: Environment, path: str, data_key: bytes) -> None:
    """IntegrityError `commitment` if this data key is not the one a writer signed for this path and environment."""
    assert env.manifest is not None
    expected = manifests.commitment(data_key, ws.state.ws, env.scope, path)
    if not constant_time_equal(expected.encode(), env.manifest.files[path].kc.encode()):
        raise IntegrityError(
            "its data key is not the one that was signed for this environment: "
            "the file may be transplanted from another",
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
