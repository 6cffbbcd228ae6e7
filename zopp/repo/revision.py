"""A commit as one side of a merge: its policy log, its manifests and its files, and which of them count.

What a commit holds is judged by its own log, which has to begin with the pinned genesis; who signs today is judged by
the log that stands after the merge. Nothing is read from the work tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from zopp import sopsfile
from zopp._fast import sha256, sha512
from zopp.errors import IntegrityError, NotFound, ZoppError
from zopp.keys import sshsig
from zopp.policy import log as policy_log, manifest as manifests
from zopp.policy.findings import Finding
from zopp.policy.manifest import FileEntry, Manifest
from zopp.policy.state import State
from zopp.repo import git, layout
from zopp.repo.environment import MENDED_BY_REKEY, people_name
from zopp.sopsfile import SopsFile


@dataclass(frozen=True, slots=True)
class Signed:
    """A manifest of a commit with its signature, well-formed and not judged yet."""

    manifest: Manifest
    signature: manifests.Signature
    data: bytes
    armor: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of a commit, which a manifest there lists: the very bytes that were hashed and parsed."""

    revision: Revision
    scope: str
    path: str
    entry: FileEntry
    sops: SopsFile


@dataclass(slots=True)
class Revision:
    """`id` is a commit, `name` what people call it. `state` is the fold of `log`; a commit without a policy
    log has neither and lists nothing."""

    root: str
    id: str
    name: str
    log: bytes | None
    receipt: bytes | None
    state: State | None
    _signed: dict[str, Signed | None] = field(default_factory=dict)

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The bytes of those `paths` that are there, by one git process."""
        specs = {f"{self.id}:{path}": path for path in paths}
        return {specs[spec]: data for spec, data in git.blobs(self.root, specs)}

    def signed(self, scope: str) -> Signed | None:
        """The manifest of `scope`; None where there is none or it is not well-formed."""
        if scope not in self._signed:
            self.load([scope])
        return self._signed[scope]

    def load(self, scopes: Iterable[str]) -> None:
        """Read the manifests of several environments at once."""
        wanted = [scope for scope in scopes if scope not in self._signed]
        places = {scope: layout.manifest_path(scope) for scope in wanted}
        found = self.read([place + end for place in places.values() for end in ("", ".sig")]) if wanted else {}
        for scope, place in places.items():
            self._signed[scope] = _signed(found.get(place), found.get(place + ".sig"))

    def findings(self, scope: str) -> list[Finding]:
        """What is wrong with the manifest of `scope` by this commit's own log, parents left aside."""
        found = self.signed(scope)
        assert found is not None
        assert self.state is not None
        return manifests.check(found.manifest, found.signature, self.state, ws=self.state.ws, env=scope)


def _signed(data: bytes | None, armor: bytes | None) -> Signed | None:
    if data is None or armor is None:
        return None
    try:
        return Signed(manifests.parse(data), sshsig.parse(armor.decode("ascii", "replace")), data, armor)
    except ZoppError:
        return None


def load(root: str, id: str, name: str, genesis: str, known: State | None = None) -> Revision:
    """Read a commit's policy. `known`: a state whose statements were verified already, so that those in common are not
    again. IntegrityError, naming the side, if its log does not verify from the pinned genesis."""
    made = Revision(root, id, name, None, None, None)
    found = made.read([layout.POLICY, layout.RECEIPT])
    made.log, made.receipt = found.get(layout.POLICY), found.get(layout.RECEIPT)
    if made.log is not None:
        try:
            made.state = fold(made.log, genesis, known)
        except ZoppError as exc:
            exc.place = f"{name}: {layout.POLICY}" + (f", {exc.place}" if exc.place else "")
            raise
    return made


def fold(data: bytes, genesis: str, known: State | None) -> State:
    """The state of a log, signatures that `known` shares not checked again."""
    verified: tuple[int, str] | None = None
    if known is not None:
        lines = policy_log.split(data)
        low, high = -1, min(len(lines) - 1, known.seq)
        while low < high:  # each line names the one before: an equal one says that all before it are equal
            middle = (low + high + 1) // 2
            if sha256(lines[middle]).hex() == known.hash_at(middle):
                low = middle
            else:
                high = middle - 1
        verified = None if low < 0 else (low, known.hash_at(low))
    return policy_log.fold(data, genesis=genesis, verified=verified)


def require(revision: Revision, scope: str, now: State | None) -> Manifest:
    """The manifest of `scope` as a side of a merge: authentic by the commit's own log, and, with `now`, signed by
    someone who may still write there. What a merge mends anyway (a removed reader, a data key as old) is no matter.
    IntegrityError naming the side otherwise."""
    found = revision.signed(scope)
    where, place = people_name(scope), f"{revision.name}: {layout.manifest_path(scope)}"
    if found is None:
        raise IntegrityError("has no manifest that can be read", code="merge.unsigned", place=place)
    bad = [f for f in revision.findings(scope) if f.severity == "error" and f.code not in MENDED_BY_REKEY]
    if bad:
        raise IntegrityError(
            f"{bad[0].place + ': ' if bad[0].place else ''}{bad[0].message}",
            code=bad[0].code,
            place=place,
            hint="that side has to verify first: check it out there and run zopp verify",
        )
    if now is not None:
        public = found.signature[0]
        if now.writers(scope).get(found.manifest.signer) != public:
            writers = ", ".join(now.writers(scope)) or "nobody"
            raise IntegrityError(
                f"was signed by {found.manifest.signer}, who may not write {where} now",
                code="not_writer_now",
                place=place,
                hint=f"a writer of {where} ({writers}) has to look at that side and sign it there: zopp sign",
            )
    return found.manifest


def listed(revision: Revision, manifest: Manifest, scope: str, path: str, data: bytes) -> Listed:
    """A file of a side, read strictly. IntegrityError unless `data` are the bytes that its manifest lists, with the key
    groups that it names."""
    place = f"{revision.name}: {path}"
    entry = manifest.files.get(path)
    if entry is None or sha512(data).hex() != entry.sha512:
        raise IntegrityError("is not the file that the manifest lists", code="file.changed", place=place)
    try:
        sops = sopsfile.read(data, sopsfile.format_of(path), strict=True)
    except ZoppError as exc:
        exc.place = f"{place}, {exc.place}" if exc.place else place
        raise
    assert revision.state is not None
    bad = [
        f
        for f in manifests.check_file(manifest, path, sops, revision.state)
        if f.severity == "error" and f.code not in MENDED_BY_REKEY
    ]
    if bad:
        raise IntegrityError(bad[0].message, code=bad[0].code, place=place)
    return Listed(revision, scope, path, entry, sops)


def lists(revision: Revision, scopes: Iterable[str], data: bytes, path: str) -> tuple[str, str] | None:
    """(environment, path) under which a commit lists these bytes, `path` itself first: git may follow a rename."""
    digest = sha512(data).hex()
    found: list[tuple[str, str]] = []
    revision.load(scopes)
    for scope in scopes:
        signed = revision.signed(scope)
        for name, entry in (signed.manifest.files if signed is not None else {}).items():
            if entry.sha512 == digest:
                found.append((scope, name))
    return next((each for each in found if each[1] == path), found[0] if found else None)


def commit_that_brought(root: str, data: bytes, path: str) -> Iterable[str]:
    """The commits of every ref, stashes included, newest first, that brought or removed a blob of these bytes."""
    blob = git.run(root, "hash-object", "-t", "blob", "--no-filters", "--stdin", data=data).stdout.decode().strip()
    return that_touch(root, blob)


def that_touch(root: str, blob: str) -> list[str]:
    """The same, by the blob's id."""
    done = git.run(root, "log", "--all", "-m", "--format=%H", f"--find-object={blob}", check=False)
    return list(dict.fromkeys(done.stdout.decode().split()))


def merge_base(root: str, ours: str, theirs: str) -> str | None:
    """The commit to compare with. Of several (a criss-cross history) an ancestor of all, as git's own driver gets it
    with `recursive = binary`: more may conflict then, and nothing is undone silently."""
    found = git.run(root, "merge-base", "--all", ours, theirs, check=False).stdout.decode().split()
    while len(found) > 1:
        found = git.run(root, "merge-base", "--octopus", *found, check=False).stdout.decode().split()
    return found[0] if found else None


def hash_known(state: State, seq: int) -> str | None:
    """The hash of statement `seq`, None beyond the log."""
    try:
        return state.hash_at(seq)
    except NotFound:
        return None
