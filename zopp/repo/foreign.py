"""Changes that zopp did not make: what differs between the version that was signed and the file that is there (A19)."""

from dataclasses import dataclass, field

from zopp import sopsfile
from zopp._fast import sha512
from zopp.errors import ZoppError
from zopp.repo import exposure, git
from zopp.repo.environment import Environment
from zopp.repo.unlock import Keyring, check_commitment, unwrap
from zopp.repo.values import leaf_map
from zopp.repo.workspace import Workspace
from zopp.sopsfile import SopsFile


@dataclass(slots=True)
class Difference:
    """What changed in one file, in names. `known_before` is False when git has no copy of the listed version: then
    every key counts as changed. `older` names the commit in which exactly these bytes stood earlier."""

    path: str
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    recipients_added: list[str] = field(default_factory=list)
    recipients_removed: list[str] = field(default_factory=list)
    selector: str | None = None
    new_data_key: bool = False
    known_before: bool = True
    older: str | None = None

    def names(self) -> list[str]:
        """Every key that a signature would cover anew."""
        return sorted({*self.added, *self.removed, *self.changed})

    def lines(self) -> list[str]:
        """For people: one line per difference, names only."""
        out = [f"  this is the version of commit {self.older[:12]}"] if self.older else []
        out += [f"  + {key}" for key in self.added]
        out += [f"  - {key}" for key in self.removed]
        out += [f"  ~ {key}" for key in self.changed]
        out += [f"  recipient added: {name}" for name in self.recipients_added]
        out += [f"  recipient removed: {name}" for name in self.recipients_removed]
        if self.selector:
            out.append(f"  selector changed: {self.selector}")
        if self.new_data_key:
            out.append("  data key changed outside zopp")
        return out


def listed_version(ws: Workspace, path: str, wanted: str) -> bytes | None:
    """The bytes with SHA-512 `wanted` (hex) that `path` had in HEAD or any earlier commit of HEAD, None if none."""
    head = git.show(ws.root, "HEAD", path)
    if head is not None and sha512(head).hex() == wanted:
        return head
    if git.resolve(ws.root, "HEAD") is None:
        return None
    for _, data in git.blobs(ws.root, [blob for _, blob in git.versions(ws.root, path, ["HEAD"])]):
        if sha512(data).hex() == wanted:
            return data
    return None


def earlier_commit(ws: Workspace, path: str, data: bytes) -> str | None:
    """The newest commit of HEAD's history in which `path` had exactly these bytes, HEAD's own version left out."""
    if git.resolve(ws.root, "HEAD") is None or git.show(ws.root, "HEAD", path) == data:
        return None
    history = git.versions(ws.root, path, ["HEAD"])
    bodies = dict(git.blobs(ws.root, [blob for _, blob in history]))
    return next((commit for commit, blob in history if bodies.get(blob) == data), None)


def without_keys(ws: Workspace, env: Environment, path: str, after: SopsFile) -> Difference:
    """What can be said without any key: names by ciphertext text, recipients, selector."""
    entry = env.manifest.files.get(path) if env.manifest else None
    old = None if entry is None else listed_version(ws, path, entry.sha512)
    difference = Difference(path, known_before=old is not None, older=earlier_commit(ws, path, after.data))
    before = None if old is None else sopsfile.read(old, after.fmt, strict=False)
    _outside(ws, before, after, difference)
    texts_before = {} if before is None else _texts(before)
    texts_after = _texts(after)
    difference.added = sorted(set(texts_after) - set(texts_before))
    difference.removed = sorted(set(texts_before) - set(texts_after))
    difference.changed = sorted(
        k for k in texts_before.keys() & texts_after.keys() if texts_before[k] != texts_after[k]
    )
    return difference


def _texts(file: SopsFile) -> dict[str, str]:
    return {exposure.dotted(item.path): item.text for item in file.items()}


def with_keys(
    ws: Workspace, env: Environment, path: str, after: SopsFile, keyring: Keyring
) -> tuple[Difference, bytes]:
    """Compare plaintexts; the difference, and the data key of the file that is there. Its MAC is verified; its key
    commitment is not, since a foreign rotation changes it: `new_data_key` says so."""
    entry = env.manifest.files.get(path) if env.manifest else None
    old = None if entry is None else listed_version(ws, path, entry.sha512)
    difference = Difference(path, known_before=old is not None, older=earlier_commit(ws, path, after.data))
    try:
        new_key = unwrap(ws, env, after, keyring)
        now = leaf_map(after.decrypt(new_key))
    except ZoppError as exc:
        exc.place = exc.place or path
        raise
    before: SopsFile | None = None
    then: dict[tuple[int, tuple[str | int, ...]], tuple[str, object]] = {}
    if old is not None:
        before = sopsfile.read(old, after.fmt, strict=False)
        old_key = unwrap(ws, env, before, keyring)
        check_commitment(ws, env, path, old_key)
        then = leaf_map(before.decrypt(old_key))
        difference.new_data_key = old_key != new_key
    elif entry is not None:
        try:
            check_commitment(ws, env, path, new_key)
        except ZoppError:
            difference.new_data_key = True
    else:
        difference.new_data_key = True  # a file that no manifest listed: who made its key is not known
    _outside(ws, before, after, difference)

    def name(where: tuple[int, tuple[str | int, ...]]) -> str:
        document, leaf = where
        return exposure.dotted(leaf) if document == 0 else f"[document {document}] {exposure.dotted(leaf)}"

    difference.added = sorted(name(k) for k in now.keys() - then.keys())
    difference.removed = sorted(name(k) for k in then.keys() - now.keys())
    difference.changed = sorted(name(k) for k in now.keys() & then.keys() if now[k] != then[k])
    return difference, new_key


def _outside(ws: Workspace, before: SopsFile | None, after: SopsFile, difference: Difference) -> None:
    """Recipients and selectors: what sops' MAC does not cover."""
    names = {p.recipient: name for name, p in ws.state.principals.items()}

    def recipients(file: SopsFile) -> set[str]:
        return {e.recipient for group in file.metadata.groups for e in group}

    if before is None:
        return
    difference.recipients_added = sorted(names.get(r, r) for r in recipients(after) - recipients(before))
    difference.recipients_removed = sorted(names.get(r, r) for r in recipients(before) - recipients(after))
    if before.metadata.selector != after.metadata.selector:
        difference.selector = f"{_selector(before)} → {_selector(after)}"


def _selector(file: SopsFile) -> str:
    selector = file.metadata.selector
    text = f"{selector.kind}: {selector.pattern}"
    return text + ", mac_only_encrypted" if selector.mac_only_encrypted else text
