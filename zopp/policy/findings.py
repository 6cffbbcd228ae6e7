"""Keyless checks of manifests and their files: the refusals of brokered-grants.md §6, as data.

A `Finding` of severity `error` fails `verify` and stops writes and merges. Those that let a read go on with a warning
say so (`reads_warn`). Not checked here: rule 6 beyond a file's bytes (`repo.environment` and `repo.verify` have it),
the remembered head of rule 5 (needs git ancestry), and `kc`, which needs the data key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from zopp import _fast
from zopp.errors import FormatError, ZoppError
from zopp.policy import manifest as m
from zopp.policy.manifest import FileEntry, Manifest
from zopp.policy.roles import Env
from zopp.policy.state import State

if TYPE_CHECKING:
    from zopp.policy.manifest import Signature

StanzaCheck = Callable[..., None]
"""`zopp.keys.agefile.check(armored, recipient, *, ssh_allowed)`: a ZoppError if the entry is not exactly one fitting
stanza."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is stable; `rule` the number in §6; `place` a path or field; `data` says more, for machines."""

    code: str
    severity: str
    message: str
    place: str
    rule: int
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def reads_warn(self) -> bool:
        """Whether reading may go on with a warning: the data is authentic, only its recipients or key are out of
        date."""
        return self.severity == "warn" or self.code in ("stale", "not_rotated", "group2_stale")


class Entry(Protocol):
    """One recipient's entry of a sops file."""

    @property
    def recipient(self) -> str: ...
    @property
    def enc(self) -> str: ...


class Metadata(Protocol):
    """The part of `sopsfile.Metadata` that is judged here."""

    @property
    def groups(self) -> Sequence[Sequence[Entry]]: ...
    @property
    def flat(self) -> bool: ...
    @property
    def threshold(self) -> int | None: ...
    @property
    def selector(self) -> Any: ...
    @property
    def unknown(self) -> Sequence[str]: ...
    @property
    def foreign(self) -> Any: ...


class SopsFile(Protocol):
    """The part of `sopsfile.SopsFile` that is judged here; read strictly, so that A4's differentials are out."""

    @property
    def data(self) -> bytes: ...
    @property
    def metadata(self) -> Any: ...
    def items(self) -> Iterable[Any]: ...


class _Found(list[Finding]):
    def error(self, rule: int, code: str, message: str, place: str = "", **data: Any) -> None:
        self.append(Finding(code, "error", message, place, rule, data))

    def warn(self, rule: int, code: str, message: str, place: str = "", **data: Any) -> None:
        self.append(Finding(code, "warn", message, place, rule, data))


def check(
    manifest: Manifest,
    sig: Signature,
    state: State,
    *,
    ws: str | None = None,
    env: str | None = None,
    parents: Sequence[Manifest] = (),
    previous: Manifest | None = None,
) -> list[Finding]:
    """Everything that is wrong, empty when all is well. `state`: the newest head known; `ws`, `env`: where the manifest
    lies (genesis hash, `api/production`); `parents`: the manifests of the git parents; `previous`: the one that `prev`
    names, when at hand."""
    out = _Found()
    _signature(manifest, sig, state, out)
    _writer(manifest, state, out)
    _chain(manifest, state, parents, previous, out)
    if manifest.ws != state.ws or (ws is not None and manifest.ws != ws):
        out.error(4, "wrong_workspace", "the manifest is of another workspace")
    if env is not None and manifest.env != env:
        out.error(4, "wrong_environment", f"the manifest is of {manifest.env}, and lies where that of {env} belongs")
    _generation(manifest, parents, previous, out)
    policy = state.envs.get(manifest.env)
    if policy is None:
        out.error(4, "no_environment", f"there is no environment {manifest.env}")
    else:
        _recipients(manifest, policy, state, out)
        _rotation(manifest, state, [*parents, *([previous] if previous else [])], out)
    return list(out)


def _signature(manifest: Manifest, sig: Signature, state: State, out: _Found) -> None:
    public, namespace, algorithm, _ = sig
    if namespace != m.NAMESPACE or algorithm != "sha512":
        out.error(1, "namespace", f"the signature is not for {m.NAMESPACE} with sha512")
        return
    signer = state.principals.get(manifest.signer)
    if signer is None:
        out.error(1, "signer_unknown", f"the policy knows no signer {manifest.signer}", signer=manifest.signer)
    elif not signer.enabled or (signer.user is not None and not state.users[signer.user].enabled):
        out.error(1, "signer_disabled", f"the signer {signer.name} is disabled", signer=signer.name)
    elif signer.key != public:
        out.error(1, "signer_key", f"the signature is not by the key of {signer.name}", signer=signer.name)
    elif not m.signed_by(manifest.raw, sig, public):
        out.error(1, "signature", "the signature does not verify", signer=signer.name)


def _writer(manifest: Manifest, state: State, out: _Found) -> None:
    signer, env, seq = manifest.signer, manifest.env, manifest.policy_seq
    if not state.wrote_at(signer, env, seq):
        out.error(
            2, "not_writer_then", f"{signer} could not write {env} at statement {seq}", signer=signer, missing="write"
        )
    if not state.wrote_at(signer, env, state.seq):
        writers = tuple(state.writers(env))
        out.error(
            2,
            "not_writer_now",
            f"{signer} may not write {env} now: one of its writers has to sign it",
            signer=signer,
            missing="write",
            writers=writers,
        )


def _chain(
    manifest: Manifest, state: State, parents: Sequence[Manifest], previous: Manifest | None, out: _Found
) -> None:
    if manifest.policy_seq > state.seq:
        out.error(3, "policy_ahead", "the manifest names a statement that this policy log does not have")
    elif state.hash_at(manifest.policy_seq) != manifest.policy_hash:
        out.error(3, "policy_unknown", "the manifest's policy head is not on the chain")
    if any(earlier.policy_seq > manifest.policy_seq for earlier in (*parents, *([previous] if previous else []))):
        out.error(3, "policy_lower", "the manifest's policy head is older than its predecessor's")


def _generation(manifest: Manifest, parents: Sequence[Manifest], previous: Manifest | None, out: _Found) -> None:
    if any(parent.raw == manifest.raw for parent in parents):
        return
    if any(manifest.generation <= parent.generation for parent in parents):
        highest = max(parent.generation for parent in parents)
        out.error(5, "generation", f"generation {manifest.generation} is not above a parent's {highest}")
    if previous is not None and previous.raw != manifest.raw and manifest.prev != previous.hash:
        out.error(5, "prev", "the manifest does not follow the one before it")


def _recipients(manifest: Manifest, env: Env, state: State, out: _Found) -> None:
    brokered = env.kind == "brokered"
    if manifest.brokered != brokered:
        out.error(7, "kind", f"{env.name} is {env.kind}, and the manifest is of the other kind")
    if brokered and manifest.brokered:
        wanted = {r for r in (env.server_key, env.break_glass) if r is not None}
        if env.server_key is None:
            out.error(8, "no_server_key", f"the policy names no server key of {env.name}")
        elif set(manifest.groups[1]) != wanted:
            _second_group(manifest.groups[1], env, state, out)
    if not manifest.groups:
        return
    readers = state.readers(env.name)
    entitled = set(readers.values())
    for recipient in manifest.groups[0]:
        if recipient in entitled:
            continue
        owner = state.recipient_owner(recipient)
        if owner is None or ":" in owner:
            out.error(9, "foreign", "a recipient is no principal's", recipient=recipient)
        else:
            out.error(9, "stale", f"{owner} may not read {env.name} any more", recipient=recipient, principal=owner)
    listed = set(manifest.groups[0])
    for name, recipient in readers.items():
        if recipient not in listed:
            out.warn(9, "behind", f"{name} may read {env.name} and is not yet a recipient", principal=name)


def _second_group(listed: Sequence[str], env: Env, state: State, out: _Found) -> None:
    """Rule 8: keys that the policy named for this environment once are out of date; any other is somebody's own."""
    owners = {state.recipient_owner(recipient) for recipient in listed}
    server = f"server:{env.name}"
    if server in owners and owners <= {server, "break-glass:"}:
        message = "group 2 holds what the policy named earlier, not the server key and break-glass key of now"
        out.error(8, "group2_stale", message)
    else:
        out.error(8, "group2", "group 2 is not exactly the server key and the declared break-glass key")


def _rotation(manifest: Manifest, state: State, earlier: Sequence[Manifest], out: _Found) -> None:
    lost = state.read_lost_seq(manifest.env)
    for path, entry in manifest.files.items():
        if entry.dk_seq is None or entry.dk_by is None:
            out.error(10, "not_rotated", "it is unknown when this data key was made", path, since=lost)
            continue
        if entry.dk_seq < lost:
            message = f"the data key is older than statement {lost}, by which someone lost read"
            out.error(10, "not_rotated", message, path, since=lost, dk_seq=entry.dk_seq)
        if entry.dk_seq > manifest.policy_seq:
            out.error(10, "dk_ahead", "dk_seq is above the manifest's own policy head", path)
        elif not state.wrote_at(entry.dk_by, manifest.env, entry.dk_seq):
            message = f"{entry.dk_by}, who made the data key, could not write then"
            out.error(10, "dk_by", message, path, principal=entry.dk_by)
        for other in earlier:
            was = other.files.get(path)
            if other.env != manifest.env or was is None or was.kc != entry.kc:
                continue
            if (was.dk_seq, was.dk_by) != (entry.dk_seq, entry.dk_by):
                out.error(10, "dk_changed", "dk_seq or dk_by changed although the data key did not", path)
                break


def check_file(
    manifest: Manifest,
    path: str,
    sopsfile: SopsFile,
    state: State,
    *,
    before: FileEntry | None = None,
    previous: SopsFile | None = None,
    check_stanza: StanzaCheck | None = None,
) -> list[Finding]:
    """Everything that is wrong with the file listed as `path`. `before` and `previous`: its entry and content in the
    version before, when at hand (a changed selector; a `kc` that changed although the key did not). `check_stanza`
    defaults to `zopp.keys.agefile.check`."""
    out = _Found()
    entry = manifest.files.get(path)
    if entry is None:
        out.error(6, "unlisted", "the manifest does not list this file", path)
        return list(out)
    if _fast.sha512(sopsfile.data).hex() != entry.sha512:
        out.error(6, "bytes", "the file is not the one that was signed", path)
    meta = sopsfile.metadata
    env = state.envs.get(manifest.env)
    if env is None:
        out.error(4, "no_environment", f"there is no environment {manifest.env}", path)
        return list(out)
    # Of a manifest of the other kind `check` says so once; its files are judged by what their writer meant.
    _shape(meta, manifest.brokered, path, out)
    _groups(meta, manifest, path, out)
    _stanzas(meta, not manifest.brokered, path, check_stanza, out)
    if meta.unknown:
        out.error(11, "unknown_field", "the sops block has fields that zopp does not know", path)
    if previous is not None:
        if previous.metadata.selector != meta.selector:
            out.warn(11, "selector", "which values are encrypted is chosen otherwise than before", path)
        if before is not None and before.kc != entry.kc and ciphertexts(previous) & ciphertexts(sopsfile):
            out.error(10, "kc_changed", "kc changed although the data key did not: a value is unchanged", path)
    return list(out)


def ciphertexts(sopsfile: SopsFile) -> set[str]:
    """The ENC texts of a file. One that two files share proves that they share a data key: the IV is 32 random bytes
    and every value's own. Empty values are left out: sops does not encrypt them, so they are alike under every key."""
    return {item.text for item in sopsfile.items() if item.encrypted and item.text}


def _shape(meta: Metadata, brokered: bool, path: str, out: _Found) -> None:
    if meta.foreign:
        out.error(7, "other_keys", "the file is also encrypted to keys that are not age's", path)
    count = len(meta.groups)
    if not brokered:
        if not meta.flat or count != 1 or meta.threshold is not None:
            out.error(7, "groups", "a direct file has one flat list of recipients and no threshold", path)
    elif meta.flat or count != 2 or meta.threshold != 2:
        out.error(7, "groups", "a brokered file has two key groups and threshold 2", path)


def _groups(meta: Metadata, manifest: Manifest, path: str, out: _Found) -> None:
    lists = [[entry.recipient for entry in group] for group in meta.groups]
    flat = [recipient for group in lists for recipient in group]
    if len(set(flat)) != len(flat):
        out.error(7, "twice", "a recipient stands twice", path)
    wanted = [set(group) for group in manifest.groups]
    if [set(group) for group in lists] != wanted:
        out.error(9, "recipients", "the file's recipients are not those that its manifest lists", path)


def _stanzas(meta: Metadata, direct: bool, path: str, check: StanzaCheck | None, out: _Found) -> None:
    if check is None:
        from zopp.keys import agefile  # type: ignore[attr-defined, unused-ignore]

        check = agefile.check
    for number, group in enumerate(meta.groups, 1):
        for entry in group:
            try:
                check(entry.enc, entry.recipient, ssh_allowed=direct)
            except FormatError as exc:
                out.error(7, "stanza", exc.message, path, recipient=entry.recipient, group=number)
            except ZoppError:
                out.error(7, "stanza", "an entry cannot be read", path, recipient=entry.recipient, group=number)
