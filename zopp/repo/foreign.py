"""Changes that zopp did not make: what differs between the version that was signed and the file that is there (A19)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from zopp import sopsfile
from zopp._fast import sha512
from zopp.errors import ZoppError
from zopp.repo import brokered, git
from zopp.repo.brokered import Key
from zopp.repo.environment import Environment
from zopp.repo.unlock import Keyring, check_commitment, open_keys
from zopp.repo.values import leaf_map
from zopp.repo.workspace import Workspace
from zopp.sopsfile import SopsFile
from zopp.sopsfile.comparing import ADDED, CHANGED, REMOVED, Comparison, Outline, compare, name, selector_words


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
    groups: str | None = None
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
        if self.groups:
            out.append(f"  key groups changed: {self.groups}")
        if self.selector:
            out.append(f"  selector changed: {self.selector}")
        if self.new_data_key:
            out.append("  data key changed outside zopp")
        return out


def listed_version(ws: Workspace, path: str, wanted: str) -> bytes | None:
    """The bytes with SHA-512 `wanted` (hex) that `path` had in HEAD (the commit that is looked at) or before, None if
    none."""
    at = ws.tree.revision
    head = git.show(ws.root, at, path)
    if head is not None and sha512(head).hex() == wanted:
        return head
    if git.resolve(ws.root, at) is None:
        return None
    for _, data in git.blobs(ws.root, [blob for _, blob in git.versions(ws.root, path, [at])]):
        if sha512(data).hex() == wanted:
            return data
    return None


def earlier_commit(ws: Workspace, path: str, data: bytes) -> str | None:
    """The newest commit of HEAD's history in which `path` had exactly these bytes, HEAD's own version left out."""
    at = ws.tree.revision
    if git.resolve(ws.root, at) is None or git.show(ws.root, at, path) == data:
        return None
    history = git.versions(ws.root, path, [at])
    bodies = dict(git.blobs(ws.root, [blob for _, blob in history]))
    return next((commit for commit, blob in history if bodies.get(blob) == data), None)


def without_keys(ws: Workspace, env: Environment, path: str, after: SopsFile) -> Difference:
    """What can be said without any key: names by ciphertext text, recipients, selector."""
    entry = env.manifest.files.get(path) if env.manifest else None
    old = None if entry is None else listed_version(ws, path, entry.sha512)
    difference = Difference(path, known_before=old is not None, older=earlier_commit(ws, path, after.data))
    before = None if old is None else Outline.read(old, after.fmt)
    found = compare(before, Outline.of(after.scan))
    _outside(ws, env, found, difference)
    difference.added = sorted(change.name for change in found.of(ADDED))
    difference.removed = sorted(change.name for change in found.of(REMOVED))
    difference.changed = sorted(change.name for change in found.of(CHANGED))
    return difference


@dataclass(slots=True)
class Pair:
    """A file that is there beside the version that was signed (None: git has no copy of it). `listed`: they are the
    same bytes."""

    path: str
    before: SopsFile | None
    after: SopsFile
    listed: bool
    older: str | None


def pair(ws: Workspace, env: Environment, path: str, after: SopsFile) -> Pair:
    """What `with_keys` compares."""
    entry = env.manifest.files.get(path) if env.manifest else None
    old = None if entry is None else listed_version(ws, path, entry.sha512)
    before = None if old is None else sopsfile.read(old, after.fmt, strict=False)
    listed = entry is not None and sha512(after.data).hex() == entry.sha512
    return Pair(path, before, after, listed, earlier_commit(ws, path, after.data))


def with_keys(ws: Workspace, env: Environment, pairs: Sequence[Pair], keyring: Keyring) -> list[tuple[Difference, Key]]:
    """Compare plaintexts; each difference, and the key of the file that is there. Its MAC is verified; its key
    commitment is not, since a foreign rotation changes it: `new_data_key` says so. Of a brokered environment the
    server's halves of all versions are released in one batch."""
    wanted = [(each.path, each.after, each.listed) for each in pairs]
    wanted += [(each.path, each.before, True) for each in pairs if each.before is not None]
    keys = open_keys(ws, env, wanted, keyring, "review")
    old_keys = iter(keys[len(pairs) :])
    out = []
    for each, key in zip(pairs, keys, strict=False):
        old_key = next(old_keys) if each.before is not None else None
        out.append((_compare(ws, env, each, key.data, None if old_key is None else old_key.data), key))
    return out


def _compare(ws: Workspace, env: Environment, found: Pair, new_key: bytes, old_key: bytes | None) -> Difference:
    path, before, after = found.path, found.before, found.after
    difference = Difference(path, known_before=before is not None, older=found.older)
    try:
        now = leaf_map(after.decrypt(new_key))
        then = {} if before is None or old_key is None else leaf_map(before.decrypt(old_key))
    except ZoppError as exc:
        exc.place = exc.place or path
        raise
    if old_key is not None:
        difference.new_data_key = old_key != new_key
    elif env.manifest is not None and path in env.manifest.files:
        try:
            check_commitment(ws, env, path, new_key)
        except ZoppError:
            difference.new_data_key = True
    else:
        difference.new_data_key = True  # a file that no manifest listed: who made its key is not known
    if before is not None:
        _outside(ws, env, compare(Outline.of(before.scan), Outline.of(after.scan)), difference)
    difference.added = sorted(name(k) for k in now.keys() - then.keys())
    difference.removed = sorted(name(k) for k in then.keys() - now.keys())
    difference.changed = sorted(name(k) for k in now.keys() & then.keys() if now[k] != then[k])
    return difference


def _outside(ws: Workspace, env: Environment, found: Comparison, difference: Difference) -> None:
    """Recipients, key groups and selectors: what sops' MAC does not cover. Nothing where there is no version before."""
    names = brokered.describe(ws.state, env.scope)
    if not difference.known_before:
        return
    difference.recipients_added = sorted(names.get(r, r) for r in found.recipients.added)
    difference.recipients_removed = sorted(names.get(r, r) for r in found.recipients.removed)
    if found.shape is not None:
        difference.groups = " → ".join(side.words() for side in found.shape if side is not None)
    if found.selector is not None:
        difference.selector = " → ".join(selector_words(side) for side in found.selector if side is not None)
