"""Who signed a version that git's history holds, and whether that can be checked here.

A commit's author is what somebody typed. The manifest in that commit is signed: where it lists exactly the bytes at
hand, its signer said them. It is judged by the log's own past: whether the key was that principal's, and whether the
principal could write the environment at the statement that the manifest names. Whether it may today does not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from zopp._fast import sha512
from zopp.errors import ZoppError
from zopp.keys import sshsig
from zopp.policy import manifest as manifests
from zopp.policy.manifest import FileEntry, Manifest
from zopp.policy.state import State
from zopp.repo import git, layout
from zopp.repo.history import WORK_TREE, Event, History
from zopp.repo.workspace import Workspace

VERIFIED, UNVERIFIED, UNSIGNED = "verified", "not verified", "unsigned"


@dataclass(frozen=True, slots=True)
class Author:
    """`principal`: the signer that the manifest names, None if no manifest lists the version. `status` is VERIFIED, or
    UNVERIFIED or UNSIGNED with `why`. `entry`: what the manifest says of the file, only where it is VERIFIED."""

    principal: str | None
    status: str
    why: str = ""
    entry: FileEntry | None = None

    def words(self) -> str:
        """For people."""
        if self.principal is None:
            return self.status
        return self.principal if self.status == VERIFIED else f"{self.principal} ({self.status}: {self.why})"


def judge(state: State, scope: str, manifest: Manifest, signature: bytes | None) -> str:
    """What is wrong with a manifest of any time, '' if nothing: the signature, whose key it is, and the right to write
    at the statement that it names."""
    if signature is None:
        return "it has no signature"
    try:
        parsed = sshsig.parse(signature.decode("ascii", "replace"))
    except ZoppError:
        return "its signature cannot be read"
    if manifest.ws != state.ws or manifest.env != scope:
        return "it is of another environment"
    if manifest.policy_seq > state.seq or state.hash_at(manifest.policy_seq) != manifest.policy_hash:
        return "it names a policy that the log here does not hold"
    if state.key_owner(parsed[0]) != manifest.signer:
        return "the key is not its signer's"
    if not manifests.signed_by(manifest.raw, parsed, parsed[0]):
        return "the signature does not hold"
    if not state.wrote_at(manifest.signer, scope, manifest.policy_seq):
        return "the signer could not write there then"
    return ""


def author_of(
    state: State, scope: str, manifest: bytes | None, signature: bytes | None, path: str, data: bytes | None
) -> Author:
    """Who said that `path` has the bytes `data` (None: that it is not one of the files)."""
    if manifest is None:
        return Author(None, UNSIGNED, "there is no manifest")
    try:
        parsed = manifests.parse(manifest)
    except ZoppError:
        return Author(None, UNSIGNED, "the manifest cannot be read")
    entry = parsed.files.get(path)
    if (entry is None) != (data is None) or (
        entry is not None and data is not None and sha512(data).hex() != entry.sha512
    ):
        return Author(None, UNSIGNED, "the manifest does not list this version")
    why = judge(state, scope, parsed, signature)
    return Author(parsed.signer, UNVERIFIED, why) if why else Author(parsed.signer, VERIFIED, "", entry)


class Authors:
    """Authors of the events of one environment, each version asked for once. A context manager."""

    def __init__(self, ws: Workspace, scope: str, history: History, work: Mapping[str, bytes | None]) -> None:
        self._ws = ws
        self._scope = scope
        self._history = history
        self._work = work
        self._batch = git.Batch(ws.root)
        self._known: dict[tuple[str, str], Author] = {}

    def __enter__(self) -> "Authors":
        return self

    def __exit__(self, *raised: object) -> None:
        self._batch.__exit__(None, None, None)

    def of(self, event: Event) -> Author:
        """Who signed the state that the event led to."""
        return self.of_file(event.commit.id, event.path, event.after)

    def of_file(self, commit: str, path: str, blob: str) -> Author:
        """Who signed that `path` is `blob` ('' for gone) in `commit`."""
        key = (commit, path)
        if key not in self._known:
            self._known[key] = self._ask(commit, path, blob)
        return self._known[key]

    def _ask(self, commit: str, path: str, blob: str) -> Author:
        place = layout.manifest_path(self._scope)
        if commit == WORK_TREE:
            manifest, signature = self._ws.read(place), self._ws.read(place + ".sig")
            data = self._work.get(path)
        else:
            state = self._history.states.get(commit, {})
            manifest, signature = (self._bytes(state.get(p, "")) for p in (place, place + ".sig"))
            data = self._bytes(blob)
        return author_of(self._ws.state, self._scope, manifest, signature, path, data)

    def _bytes(self, blob: str) -> bytes | None:
        answer = self._batch.get(blob) if blob else None
        return None if answer is None else answer[1]
