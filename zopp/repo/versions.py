"""An environment as a commit has it, or as it lies in the work tree, and opening what older versions hold.

What a version's own manifest lists and a writer signed then is opened with its commitments checked (A1). What no
manifest lists can be read by whoever has a key, and is never written anywhere from here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from zopp import sopsfile
from zopp.errors import Denied, FormatError, IntegrityError, NotFound, ZoppError
from zopp.policy import manifest as manifests
from zopp.policy.manifest import FileEntry, Manifest
from zopp.printable import printable
from zopp.repo import authors, git, layout
from zopp.repo.authors import Author
from zopp.repo.brokered import Key
from zopp.repo.environment import Environment, people_name
from zopp.repo.unlock import Keyring, open_versions
from zopp.repo.workspace import Workspace
from zopp.sopsfile import SopsFile, Tree
from zopp.sopsfile.comparing import Outline


@dataclass(slots=True)
class File:
    """A file of a version: its bytes, who signed them, and what can be seen without a key (None: no sops file)."""

    path: str
    data: bytes
    author: Author
    sops: SopsFile | None

    @property
    def outline(self) -> Outline | None:
        """What there is to compare."""
        return None if self.sops is None else Outline.of(self.sops.scan)


@dataclass(slots=True)
class Version:
    """`commit`: its id, None for the work tree. `exists`: it has a manifest or one of the files."""

    scope: str
    commit: str | None
    manifest: Manifest | None
    files: dict[str, File] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        return self.manifest is not None or bool(self.files)


def commit_of(root: str, revision: str) -> str:
    """The id of a commit that somebody typed. NotFound, saying where a shallow clone may end."""
    found = None if revision.startswith("-") else git.resolve(root, revision)
    if found is None:
        from zopp.repo.history import shallow

        hint = "this clone is shallow: git fetch --unshallow" if shallow(root) else "see the commits with: zopp history"
        known = [name.split("/", 2)[2] for _, name in git.branches(root)]
        raise NotFound(
            f"there is no commit {printable(revision[:80])}", code="revision.unknown", hint=hint, candidates=known
        )
    return found


def read(ws: Workspace, scope: str, commit: str | None, batch: git.Batch, also: Iterable[str] = ()) -> Version:
    """The version of an environment at a commit, or in the work tree (None). `also`: files to look at where there is
    no manifest, as before zopp."""

    def at(path: str) -> bytes | None:
        if commit is None:
            return ws.read(path)
        found = batch.get(f"{commit}:{path}") if "\n" not in path else None
        return None if found is None else found[1]

    place = layout.manifest_path(scope)
    raw, signature = at(place), at(place + ".sig")
    try:
        manifest = None if raw is None else manifests.parse(raw)
    except ZoppError:
        manifest = None
    version = Version(scope, commit, manifest)
    for path in manifest.files if manifest is not None else sorted(set(also)):
        try:
            data = at(path)
        except IntegrityError:
            continue  # a link or a folder, which `verify` names
        if data is None:
            continue
        author = authors.author_of(ws.state, scope, raw, signature, path, data)
        try:
            sops = sopsfile.read(data, sopsfile.format_of(path), strict=False)
        except FormatError:
            sops = None
        version.files[path] = File(path, data, author, sops)
    return version


def named(ws: Workspace, scope: str) -> Environment:
    """The environment without anything of the work tree, for messages and releases."""
    project, _, name = people_name(scope).partition("/")
    kind = ws.state.all_envs[scope].kind
    return Environment(scope, project, name, kind, manifest=None, manifest_bytes=None, signature=None)


Wanted = tuple[str, SopsFile, FileEntry | None]
"""A version to open: path, file, and what the manifest of its own time says of it."""


def keys(ws: Workspace, scope: str, wanted: Sequence[Wanted], keyring: Keyring, purpose: str = "read") -> list[Key]:
    """The keys of versions of an environment's files, commitments checked where an entry is given; of a brokered one
    released in one batch. Denied `recipient.then` where a version is not encrypted to any key of ours."""
    env = named(ws, scope)
    try:
        return open_versions(ws, env, wanted, keyring, purpose)
    except Denied as exc:
        if exc.code != "recipient.behind":
            raise
        raise Denied(
            "no key of yours opens this version: it was not encrypted to you then", code="recipient.then",
            place=exc.place, hint=f"see who was a recipient with: zopp history -e {env.name}",
        ) from None  # fmt: skip


def open_all(
    ws: Workspace, scope: str, wanted: Sequence[Wanted], keyring: Keyring, purpose: str = "read"
) -> list[Tree]:
    """The plaintexts of versions, MACs checked; errors as `keys`."""
    return [
        decrypt(path, sops, key)
        for (path, sops, _), key in zip(wanted, keys(ws, scope, wanted, keyring, purpose), strict=True)
    ]


def decrypt(path: str, sops: SopsFile, key: Key) -> Tree:
    """The plaintext of one version; errors are placed at the file."""
    try:
        return sops.decrypt(key.data)
    except ZoppError as exc:
        exc.place = exc.place or path
        raise
