"""From files to their data keys: the reader's own entry, the server's half where there is one, and the key
commitments before anything is used (A1).

Of a brokered file share 1 is opened and held against `kc1` before anybody is asked; then the server's half of all
files at hand is released in one batch, joined, and held against `kc`. Nothing is asked for a file with one group.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from zopp._fast import constant_time_equal
from zopp.errors import Denied, IntegrityError, Unknown, ZoppError
from zopp.keys import agefile, find
from zopp.keys.identity import Identity
from zopp.policy import decisions, manifest as manifests
from zopp.policy.findings import Finding
from zopp.policy.manifest import FileEntry
from zopp.repo import brokered, userdirs
from zopp.repo.brokered import Key, Releaser, Stanza
from zopp.repo.environment import Environment, SecretsFile, open_environment, people_name, require_readable
from zopp.repo.signer import hint, remedy
from zopp.repo.workspace import Workspace
from zopp.sopsfile import Entry, SopsFile, Tree


class Keyring:
    """This user's identities, loaded at first need. `ask` is called with the source of a passphrase-protected key.
    `releaser` asks the policy server of a workspace; None: there is nobody to ask. `tell` hears of what no log shows:
    that a break-glass key was used."""

    def __init__(
        self,
        env: Mapping[str, str],
        ask: Callable[[str], str] | None = None,
        *,
        releaser: Releaser | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._env = env
        self._ask = ask
        self.releaser = releaser
        self.tell = tell
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


def _own_entry(ws: Workspace, env: Environment, sops: SopsFile, keyring: Keyring) -> bytes:
    """What our own entry of the readers' group holds (a data key, or share 1), nothing checked yet. Denied if policy
    does not let us read, Unknown if we have no key at all."""
    entries = {entry.recipient: entry for entry in sops.metadata.groups[0]}
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
                if keyring.found.identities or keyring.found.locked or keyring.found.problems
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
    left_out = ws.state.left_out(env.scope)
    if all(name in left_out for name in entitled):
        raise Denied(
            f"{scope} is brokered: " + "; ".join(f"{name} {left_out[name]}" for name in entitled),
            code="recipient.left_out",
            hint="make keys of both kinds with: zopp principal request",
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
    _check_key(ws, env, path, data_key, env.manifest.files[path])


def _check_key(ws: Workspace, env: Environment, path: str, data_key: bytes, entry: FileEntry) -> None:
    expected = manifests.commitment(data_key, ws.state.ws, env.scope, path)
    if not constant_time_equal(expected.encode(), entry.kc.encode()):
        raise _transplanted(path, "data key")


def _transplanted(path: str, what: str) -> IntegrityError:
    return IntegrityError(
        f"its {what} is not the one that was signed for this environment: the file may be transplanted from another",
        code="commitment",
        place=path,
        hint="restore the file from git, and ask who changed it: git log -- " + path,
    )


def _check_share(ws: Workspace, env: Environment, path: str, share: bytes, entry: FileEntry) -> None:
    """`kc1`: IntegrityError `commitment` if share 1 is not the one a writer signed; nobody is asked for the other."""
    expected = manifests.share_commitment(share, ws.state.ws, env.scope, path)
    if entry.kc1 is None or not constant_time_equal(expected.encode(), entry.kc1.encode()):
        raise _transplanted(path, "share 1")


@dataclass(slots=True)
class _Half:
    """A file of two groups whose share 1 is open: `entry` is the one whose age file holds share 2."""

    number: int
    path: str
    first: bytes
    entry: Entry


def open_keys(
    ws: Workspace,
    env: Environment,
    files: Sequence[tuple[str, SopsFile, bool]],
    keyring: Keyring,
    purpose: str,
) -> list[Key]:
    """The keys of (path, file, listed) in their order. Of a *listed* file both commitments are checked, against the
    environment's manifest or the entry of another that stands for it; of others (an older version, a foreign change)
    the caller has to judge what it gets. A file's own shape says whether the server is asked; one request carries all
    files, up to MAX_BATCH.

    IntegrityError, Denied and Unknown as they come, placed at the file: nothing is answered unless all is open."""
    entries = env.manifest.files if env.manifest is not None else {}
    wanted = [(path, sops, entries[path] if listed else None) for path, sops, listed in files]
    return open_versions(ws, env, wanted, keyring, purpose)


def open_versions(
    ws: Workspace,
    env: Environment,
    files: Sequence[tuple[str, SopsFile, FileEntry | None]],
    keyring: Keyring,
    purpose: str,
) -> list[Key]:
    """`open_keys` of any versions of the environment's files, each with what the manifest of its own time says of it,
    None where none does. One file may be among them many times."""
    keys: list[Key | None] = []
    halves: list[_Half] = []
    for path, sops, entry in files:
        meta = sops.metadata
        # sops splits nothing for one group, and leaves a threshold of 1 where `updatekeys` has joined two (A30).
        flat = len(meta.groups) == 1
        if not flat and not brokered.fits(meta, "brokered"):
            raise IntegrityError(
                "its key groups are neither those of a direct file nor those of a brokered one",
                code="groups",
                place=path,
            )
        try:
            own = _own_entry(ws, env, sops, keyring)
        except ZoppError as exc:
            exc.place = exc.place or path
            raise
        if flat:
            keys.append(Key(own))
            continue
        brokered.check_share(own, 1, path)
        if entry is not None:
            _check_share(ws, env, path, own, entry)
        halves.append(_Half(len(keys), path, own, _second_entry(ws, env, path, meta.groups[1], keyring)))
        keys.append(None)
    for half, second in zip(halves, _second_shares(ws, env, halves, keyring, purpose), strict=True):
        keys[half.number] = brokered.join(half.first, second)
    opened = []
    for (path, _, entry), key in zip(files, keys, strict=True):
        assert key is not None
        if entry is not None:
            _check_key(ws, env, path, key.data, entry)
        opened.append(key)
    return opened


def _second_entry(ws: Workspace, env: Environment, path: str, group: Sequence[Entry], keyring: Keyring) -> Entry:
    """The entry of group 2 to be opened: break-glass if we hold that key, else the one for the server key of this very
    environment. A stanza for any other key is never sent (R7)."""
    mine = keyring.recipients()
    for entry in group:
        if entry.recipient in mine and ws.state.recipient_owner(entry.recipient) == "break-glass:":
            return entry
    current = ws.state.envs[env.scope].server_key
    for entry in sorted(group, key=lambda entry: entry.recipient != current):
        if brokered.is_server_key(ws.state, env.scope, entry.recipient):
            return entry
    raise IntegrityError(
        f"no entry of its second group is for a server key of {people_name(env.scope)}",
        code="group2",
        place=path,
        hint="restore the file from git, and ask who changed it: git log -- " + path,
    )


def _second_shares(
    ws: Workspace, env: Environment, halves: Sequence[_Half], keyring: Keyring, purpose: str
) -> list[bytes]:
    """Share 2 of each, by our own break-glass key or by a release; each stanza is asked for once."""
    wanted: dict[tuple[bytes, bytes], Stanza] = {}
    broken: dict[int, bytes] = {}
    asked: dict[int, tuple[bytes, bytes]] = {}
    for number, half in enumerate(halves):
        if not brokered.is_server_key(ws.state, env.scope, half.entry.recipient):
            broken[number] = _break_glass(half, keyring)
            continue
        stanza = brokered.stanza(half.path, half.entry)
        asked[number] = (stanza.share, stanza.body)
        wanted.setdefault(asked[number], stanza)
    if broken:
        keyring.tell(
            f"{people_name(env.scope)} was opened with the break-glass key: no log shows it, so note it down yourself"
        )
    released = _release(ws, env, list(wanted.values()), keyring, purpose) if wanted else {}
    return [
        broken[number] if number in broken else brokered.second_share(half.path, half.entry, released[asked[number]])
        for number, half in enumerate(halves)
    ]


def _break_glass(half: _Half, keyring: Keyring) -> bytes:
    for identity in keyring.matching([half.entry.recipient]):
        try:
            return brokered.check_share(agefile.unwrap(half.entry.enc, [identity]), 2, half.path)
        except Unknown:
            raise IntegrityError(
                "the break-glass entry does not open with its key", code="entry.forged", place=half.path
            ) from None
    raise Unknown("the break-glass key is locked", code="locked", place=half.path)


def _release(
    ws: Workspace, env: Environment, stanzas: Sequence[Stanza], keyring: Keyring, purpose: str
) -> dict[tuple[bytes, bytes], bytes]:
    shown = people_name(env.scope)
    if keyring.releaser is None:
        raise Unknown(
            f"{shown} is brokered: the policy server has to release its half of each key, and none can be asked here",
            code="release.none",
            place=stanzas[0].path,
        )
    found: dict[tuple[bytes, bytes], bytes] = {}
    for at in range(0, len(stanzas), brokered.MAX_BATCH):
        batch = stanzas[at : at + brokered.MAX_BATCH]
        keys = keyring.releaser(ws, env.scope, purpose, batch)
        if len(keys) != len(batch):
            raise IntegrityError(f"the release of {shown} does not answer what was asked", code="answer")
        found.update({(stanza.share, stanza.body): key for stanza, key in zip(batch, keys, strict=True)})
    return found


def data_keys(
    ws: Workspace,
    env: Environment,
    files: Sequence[SecretsFile],
    keyring: Keyring,
    purpose: str,
    known: dict[str, bytes] | None = None,
) -> list[Key]:
    """The keys of listed files, commitments checked. `known` holds data keys by path that this command has seen: they
    are tried first, and what is opened is added."""
    keys: dict[str, Key] = {}
    todo: list[tuple[str, SopsFile, bool]] = []
    for file in files:
        if file.sops is None or not file.listed:
            raise IntegrityError("is not the file that the manifest lists", code="file.changed", place=file.path)
        seen = (known or {}).get(file.path)
        if seen is not None:
            try:
                check_commitment(ws, env, file.path, seen)
                keys[file.path] = Key(seen)
                continue
            except IntegrityError:
                pass  # another data key since
        todo.append((file.path, file.sops, True))
    for (path, _, _), key in zip(todo, open_keys(ws, env, todo, keyring, purpose), strict=True):
        keys[path] = key
        if known is not None:
            known[path] = key.data
    return [keys[file.path] for file in files]


def data_key(
    ws: Workspace,
    env: Environment,
    file: SecretsFile,
    keyring: Keyring,
    purpose: str = "read",
    known: dict[str, bytes] | None = None,
) -> bytes:
    """The data key of a listed file, commitments checked."""
    return data_keys(ws, env, [file], keyring, purpose, known)[0].data


def first_share(ws: Workspace, env: Environment, file: SecretsFile, keyring: Keyring) -> bytes:
    """What the readers' group of a listed file holds, its commitment checked and nobody asked: the data key of a
    direct file, share 1 of a brokered one. For who adds a reader."""
    if file.sops is None or not file.listed or env.manifest is None:
        raise IntegrityError("is not the file that the manifest lists", code="file.changed", place=file.path)
    if len(file.sops.metadata.groups) == 1:
        return data_key(ws, env, file, keyring)
    try:
        own = _own_entry(ws, env, file.sops, keyring)
    except ZoppError as exc:
        exc.place = exc.place or file.path
        raise
    _check_share(ws, env, file.path, brokered.check_share(own, 1, file.path), env.manifest.files[file.path])
    return own


def decrypt(ws: Workspace, env: Environment, file: SecretsFile, keyring: Keyring) -> Tree:
    """The plaintext tree of a listed file: commitments, every GCM tag and the MAC checked."""
    return decrypt_all(ws, env, [file], keyring)[0]


def decrypt_all(
    ws: Workspace,
    env: Environment,
    files: Sequence[SecretsFile],
    keyring: Keyring,
    purpose: str = "read",
    known: dict[str, bytes] | None = None,
) -> list[Tree]:
    """The plaintext trees of listed files, checked as `decrypt` does; of a brokered environment one release for all."""
    trees = []
    for file, key in zip(files, data_keys(ws, env, files, keyring, purpose, known), strict=True):
        assert file.sops is not None
        try:
            trees.append(file.sops.decrypt(key.data))
        except ZoppError as exc:
            exc.place = exc.place or file.path
            raise
    return trees
