"""Merging the secrets of two commits: which policy stands, which data key each file gets, what is to be signed.

Both sides are verified before a value is used (review-and-ci.md §2 rule 1), all of it from git's objects; the result
is for exactly the readers under the policy that stands (rule 5). Nothing is written here: `plan` says what would be,
`carry_out` drafts it. What git and its index have to do with it is `operation`'s.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zopp import sopsfile
from zopp.errors import Denied, FormatError, IntegrityError, NotFound, ZoppError
from zopp.policy import manifest as manifests
from zopp.policy.manifest import FileEntry, Manifest
from zopp.policy.state import State
from zopp.repo import brokered, exposure, git, layout, pins, settings as settings_module, userdirs
from zopp.repo.brokered import Key
from zopp.repo.clock import timestamp
from zopp.repo.draft import Draft
from zopp.repo.environment import Environment, SecretsFile, people_name
from zopp.repo.layout import Checkout
from zopp.repo.revision import Listed, Revision, hash_known, listed, load, require
from zopp.repo.unlock import Keyring, open_versions
from zopp.repo.values import leaf_map
from zopp.repo.workspace import Workspace, check_anchor, require_receipt, require_writable, standing
from zopp.sopsfile import Tree, merging as sops_merging
from zopp.sopsfile.merging import Conflict, Target
from zopp.sopsfile.threeway import Choice, Place

# --- the two sides and the policy between them


@dataclass(slots=True)
class Sides:
    """`ws` has the policy that stands. `restate`: the log of the other side where both changed the policy; its own
    statements beyond number `after` - 1 have to be signed again before anything else."""

    ws: Workspace
    base: Revision | None
    ours: Revision
    theirs: Revision
    restate: bytes | None = None
    after: int = 0

    @property
    def all(self) -> list[Revision]:
        """Base, ours and theirs, as far as there are."""
        return [side for side in (self.base, self.ours, self.theirs) if side is not None]

    def scopes(self) -> list[str]:
        """The live environments of the policy that stands."""
        return list(self.ws.state.envs)


def settings_at(
    checkout: Checkout, pin: pins.Pin | None, start: str, commit: str = "HEAD"
) -> tuple[settings_module.Settings, str]:
    """The zopp.toml of a commit and its folder: the nearest to `start`, else one that this clone knows. The work tree's
    may hold conflict markers. NotFound if there is none."""
    nearest = layout.find_project(checkout, start)
    known = [] if pin is None else sorted(pin.projects)
    for folder in dict.fromkeys([*([] if nearest is None else [nearest]), *known, ""]):
        place = f"{folder}/{layout.SETTINGS}" if folder else layout.SETTINGS
        data = git.show(checkout.root, commit, place)
        if data is not None:
            settings = settings_module.parse(data, place=place, folder=folder)
            check_anchor(settings, pin, place, folder)
            return settings, folder
    raise NotFound("HEAD has no zopp.toml", code="workspace.missing", place=layout.SETTINGS)


def settle(
    checkout: Checkout,
    env: Mapping[str, str],
    start: str,
    *,
    ours: str,
    theirs: str,
    base: str | None,
    names: tuple[str, str] = ("ours", "theirs"),
    ours_stands: bool = False,
) -> Sides:
    """Read the two commits and the one to compare with, and decide whose policy stands (rule 9): the longer of two
    logs of which one continues the other; else the one that this clone has seen on the default branch, else theirs
    (`ours_stands`: ours, as in a rebase). Unknown or IntegrityError where this clone may not write on it."""
    pin = pins.find(userdirs.state(env), checkout, env)
    settings, folder = settings_at(checkout, pin, start, ours)
    mine = load(checkout.root, ours, names[0], settings.genesis)
    other = load(checkout.root, theirs, names[1], settings.genesis, mine.state)
    before = None if base is None else load(checkout.root, base, "the common ancestor", settings.genesis, mine.state)
    stands, restate, after = _policy(before, mine, other, pin, ours_stands=ours_stands)
    assert stands.log is not None
    assert stands.state is not None
    ws = Workspace(
        checkout=checkout, env=env, settings=settings, folder=folder, pin=pin, state=stands.state, log=stands.log,
        place=standing(stands.state, pin), receipt=stands.receipt,
    )  # fmt: skip
    if stands.state.server is not None and restate is not None:
        raise IntegrityError(
            "the two sides have different policies, and a server orders them",
            code="merge.server",
            place=layout.POLICY,
            hint="take the server's log on the side that parts from it: zopp policy pull --replace",
        )
    require_receipt(ws)
    return Sides(ws, before, mine, other, restate, after)


def _policy(
    base: Revision | None, ours: Revision, theirs: Revision, pin: pins.Pin | None, *, ours_stands: bool
) -> tuple[Revision, bytes | None, int]:
    """(whose log stands, a log to sign again from, from which statement on)."""
    if ours.log is None:
        raise NotFound("has no policy log", code="workspace.missing", place=ours.name)
    before = None if base is None else base.log
    if theirs.log is None or theirs.log == before or ours.log.startswith(theirs.log):
        return ours, None, 0
    if theirs.log.startswith(ours.log):
        return theirs, None, 0
    first, second = (ours, theirs) if ours_stands else (theirs, ours)
    if pin is not None:
        seen = [side.state is not None and hash_known(side.state, pin.seq) == pin.head for side in (first, second)]
        if seen == [False, True]:
            first, second = second, first
    assert second.log is not None
    kept = before if before is not None and second.log.startswith(before) else b""
    return first, second.log, kept.count(b"\n")


def require_trust(sides: Sides, *, on_old_base: bool = False) -> None:
    """Refuse in a clone that may not write, as every change does."""
    require_writable(sides.ws, on_old_base=on_old_base)


# --- one file


@dataclass(slots=True)
class Trio:
    """The versions of one file. Of `ours` and `theirs` one may be missing where the other is taken as it is."""

    path: str
    base: Listed | None
    ours: Listed
    theirs: Listed

    @property
    def all(self) -> list[Listed]:
        """The versions there are."""
        return [each for each in (self.ours, self.theirs, self.base) if each is not None]


@dataclass(slots=True)
class Result:
    """A file as merged, with its data key and of a brokered one share 1. `source` is the entry whose data key it has,
    None for one made here; `conflicts` and `both` are those of `sopsfile.merging`. `changed` names what differs from
    our side, each with its sign. `versions`: base, ours and theirs in plaintext; `ours_key`: our side's data key."""

    path: str
    scope: str
    data: bytes = field(repr=False)
    tree: Tree = field(repr=False)
    key: bytes = field(repr=False)
    share: bytes | None = field(repr=False)
    source: FileEntry | None
    conflicts: tuple[Conflict, ...]
    both: tuple[Place, ...]
    changed: list[str]
    versions: tuple[Tree | None, Tree, Tree] = field(repr=False)
    ours_key: bytes = field(repr=False)


Keys = dict[tuple[str, str], tuple[Listed, Key]]
"""(path, commitment) -> the version that was opened, and its key: equal commitments at one path are one data key."""


def open_all(ws: Workspace, scope: str, trios: Iterable[Trio], keyring: Keyring) -> Keys:
    """The data keys of every version, commitments checked, by one release where the environment is brokered. Errors
    as `unlock.open_versions`."""
    mine = keyring.recipients()
    best: dict[tuple[str, str], Listed] = {}
    for trio in trios:
        for each in trio.all:
            at = each.path, each.entry.kc
            if at not in best or (not _for(best[at], mine) and _for(each, mine)):
                best[at] = each
    chosen = list(best.values())
    for each in chosen:
        if not _for(each, mine) and len(best) > 1 and any(_for(other, mine) for other in chosen):
            # Not ours to open, although the environment is: it was made before we were let in, or on a side where.
            names = brokered.describe(ws.state, scope)
            holders = ", ".join(names.get(e.recipient, "someone else") for e in each.sops.metadata.groups[0])
            raise Denied(
                "this version is not encrypted to a key of yours, so it cannot be compared with",
                code="merge.closed",
                place=f"{each.revision.name}: {each.path}",
                hint=f"someone who could read it then has to merge: {holders}",
            )
    project, _, name = people_name(scope).partition("/")
    env = Environment(scope, project, name, ws.state.envs[scope].kind, None, None, None)
    keys = open_versions(ws, env, [(each.path, each.sops, each.entry) for each in chosen], keyring, "edit")
    return {(each.path, each.entry.kc): (each, key) for each, key in zip(chosen, keys, strict=True)}


def _for(found: Listed, recipients: set[str]) -> bool:
    return any(entry.recipient in recipients for entry in found.sops.metadata.groups[0])


def sound(state: State, scope: str, found: Listed) -> bool:
    """Whether a version's data key may stay: nobody ever held it who may not read now, as far as the policy knows, and
    its file has the shape of the environment's kind (rule 5)."""
    entry, meta = found.entry, found.sops.metadata
    if entry.dk_seq is None or entry.dk_by is None or not brokered.fits(meta, state.envs[scope].kind):
        return False
    own = found.revision.state
    assert own is not None
    known = hash_known(state, entry.dk_seq)
    if known is None or known != hash_known(own, entry.dk_seq) or entry.dk_seq < state.read_lost_seq(scope):
        return False
    wanted = brokered.groups(state, scope)
    held = [{each.recipient for each in group} for group in meta.groups]
    # An earlier server key of this environment goes without a new data key, as in a rekey.
    surplus = held[0] - set(wanted[0]) | {
        r for group, due in zip(held[1:], wanted[1:], strict=False)
        for r in group - set(due) if not brokered.is_server_key(state, scope, r)
    }  # fmt: skip
    return not surplus and state.wrote_at(entry.dk_by, scope, entry.dk_seq)


def _target(state: State, trio: Trio, scope: str, keys: Keys) -> tuple[Target, bytes | None, FileEntry | None]:
    """The data key of the result and its readers, share 1 of a brokered file, and the entry that has this key: the
    rotating side's if it may stay, else a fresh one (None)."""

    def at(found: Listed) -> tuple[Listed, Key]:
        return keys[found.path, found.entry.kc]

    ours, theirs = at(trio.ours), at(trio.theirs)
    base = None if trio.base is None else at(trio.base)[1].data
    candidates = [trio.ours, trio.theirs]
    if ours[1].data == theirs[1].data or base == theirs[1].data:
        candidates = [trio.ours]
    elif base == ours[1].data:
        candidates = [trio.theirs]
    for candidate in candidates:
        holder, key = at(candidate)
        held = [each for each in (trio.ours, trio.theirs) if at(each)[1].data == key.data]
        if not all(sound(state, scope, each) for each in [*held, holder]):
            continue
        wanted, meta = brokered.groups(state, scope), holder.sops.metadata
        have = [{entry.recipient for entry in group} for group in meta.groups]
        if have == [set(group) for group in wanted]:
            return Target(key.data, meta.groups, meta.threshold), key.share, candidate.entry
        wrapped = brokered.rewrap(state, scope, meta, key.shares or (key.data,))
        return Target(key.data, wrapped.groups, wrapped.threshold), key.share, candidate.entry
    fresh = os.urandom(32)
    wrapped = brokered.wrap(state, scope, fresh)
    return Target(fresh, wrapped.groups, wrapped.threshold), wrapped.share, None


Settled = Callable[[Trio, bytes], Mapping[Place, Choice]]
"""What somebody has settled of a file's conflicts; the bytes are our side's data key."""


def merge_file(
    state: State, trio: Trio, keys: Keys, now: int, settled: Settled = lambda trio, key: {}, marker: int = 7
) -> Result:
    """Merge one file whose versions were verified and opened."""
    scope = trio.ours.scope
    target, share, source = _target(state, trio, scope, keys)
    try:
        opened = [
            None if each is None else sops_merging.side(each.sops, keys[each.path, each.entry.kc][1].data)
            for each in (trio.base, trio.ours, trio.theirs)
        ]
        base, ours, theirs = opened
        assert ours is not None
        assert theirs is not None
        merged = sops_merging.merge(
            base, ours, theirs, target, now=timestamp(now), chosen=settled(trio, ours.key), marker=marker
        )
    except ZoppError as exc:
        exc.place = f"{trio.path}, {exc.place}" if exc.place else trio.path
        raise
    changed = differences(ours.tree, merged.tree, skip=[c.place for c in merged.conflicts])
    return Result(
        path=trio.path, scope=scope, data=merged.data, tree=merged.tree, key=target.key, share=share, source=source,
        conflicts=merged.conflicts, both=merged.both, changed=changed,
        versions=(None if base is None else base.tree, ours.tree, theirs.tree), ours_key=ours.key,
    )  # fmt: skip


def differences(before: Tree, after: Tree, skip: Sequence[Place] = ()) -> list[str]:
    """What a signature would cover anew, in names: `+ KEY`, `- KEY`, `~ KEY`."""
    then, now = leaf_map(before), leaf_map(after)
    out = []
    for place in sorted(then.keys() | now.keys(), key=lambda at: (at[0], exposure.dotted(at[1]))):
        if place in skip or then.get(place) == now.get(place):
            continue
        sign = "+" if place not in then else "-" if place not in now else "~"
        out.append(f"{sign} {shown(place)}")
    return out


def shown(place: Place) -> str:
    """A place as people type it."""
    document, path = place
    return exposure.dotted(path) if document == 0 else f"[document {document}] {exposure.dotted(path)}"


# --- a whole environment


@dataclass(slots=True)
class EnvPlan:
    """What becomes of one environment. `kept`: files taken as they are from a side, with their entries. `open`: file
    conflicts that are nobody's key (path, why). `above`: the manifest that the new one follows. `mended`: nobody
    merged anything here; the policy that stands asks for other recipients or data keys. `fresh`: new data keys."""

    scope: str
    above: Manifest | None
    meta: dict[str, Any]
    mended: bool = False
    results: dict[str, Result] = field(default_factory=dict)
    kept: dict[str, Listed] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    open: list[tuple[str, str]] = field(default_factory=list)
    changed: dict[str, list[str]] = field(default_factory=dict)

    @property
    def fresh(self) -> list[str]:
        """Files whose data key is made by this merge."""
        return [path for path, result in self.results.items() if result.source is None]

    def conflicts(self) -> list[tuple[str, Conflict]]:
        """(path, conflict) of everything that is not settled."""
        found = [(path, conflict) for path, result in self.results.items() for conflict in result.conflicts]
        return found + [(path, Conflict(sops_merging.WHOLE, why)) for path, why in self.open]


Renamed = Mapping[str, tuple[str | None, str | None, str | None]]
"""Path of the result -> the paths in base, ours and theirs, where git followed a rename."""


def plan(
    sides: Sides,
    state: State,
    keyring: Keyring,
    now: int,
    *,
    writer: str,
    settled: Settled = lambda trio, key: {},
    whole: Mapping[str, str] | None = None,
    renamed: Renamed | None = None,
    opened: dict[str, Keys] | None = None,
) -> tuple[list[EnvPlan], list[str]]:
    """Every environment that has to be signed anew, and warnings about those that `writer` may not write: both sides
    changed it, or what one side has does not fit the policy that stands. `whole` settles file conflicts: path -> ours
    or theirs. `opened` keeps the data keys by environment, for a second plan of the same merge. Denied, naming who can,
    where both changed it and `writer` may not write."""
    plans, warnings = [], []
    for side in sides.all:
        side.load(state.envs)
    for scope in state.envs:
        made = _environment(sides, state, scope, renamed or {}, whole or {})
        if made is None:
            continue
        if writer not in state.writers(scope):
            writers = ", ".join(state.writers(scope)) or "nobody"
            if made[0].mended:
                warnings.append(f"{people_name(scope)} is not as the policy wants it: {writers} can run zopp rekey")
                continue
            raise Denied(
                f"{writer} may not write {people_name(scope)}, which both sides changed",
                code="merge.writer",
                hint=f"one of its writers has to merge: {writers}",
            )
        env, trios = made
        keys = (opened or {}).get(scope, {})
        if any((each.path, each.entry.kc) not in keys for trio in trios for each in trio.all):
            keys = open_all(sides.ws, scope, trios, keyring)
            if opened is not None:
                opened[scope] = keys
        for trio in trios:
            env.results[trio.path] = merge_file(state, trio, keys, now, settled)
        plans.append(env)
    _placed(sides.ws, state, plans, sides)
    return plans, warnings


def _environment(
    sides: Sides, state: State, scope: str, renamed: Renamed, whole: Mapping[str, str]
) -> tuple[EnvPlan, list[Trio]] | None:
    """What is to be merged of one environment, files read and verified; None if a side's manifest does as it is."""
    base, ours, theirs = (
        None if side is None else side.signed(scope) for side in (sides.base, sides.ours, sides.theirs)
    )
    raw = [None if each is None else each.data for each in (base, ours, theirs)]
    for side, found in ((sides.ours, ours), (sides.theirs, theirs)):
        if found is None and side.read([layout.manifest_path(scope)]):
            require(side, scope, state)  # says what is wrong with it
    if ours is None and theirs is None:
        return None
    both = raw[1] != raw[2] and raw[0] not in (raw[1], raw[2])
    if both and (ours is None or theirs is None):
        remover = sides.ours if ours is None else sides.theirs
        raise IntegrityError(
            f"{remover.name} removed the manifest, and the other side changed it",
            code="merge.unsigned",
            place=layout.manifest_path(scope),
            hint="restore it on that side first",
        )
    taken = None
    if not both:
        taken = sides.theirs if raw[0] == raw[1] != raw[2] else sides.ours
        if taken.signed(scope) is None or not _broken(taken, state, scope):
            return None
    listings: list[Mapping[str, FileEntry]] = []
    for version in (sides.base, sides.ours, sides.theirs):
        if version is None or version.signed(scope) is None or (taken is not None and version is not taken):
            listings.append({})
        else:  # the common ancestor is judged by its own time
            listings.append(require(version, scope, None if version is sides.base else state).files)
    if taken is not None:
        found = taken.signed(scope)
        assert found is not None
        env = EnvPlan(scope, found.manifest, dict(found.manifest.meta), mended=True)
        files_there = taken.read(found.manifest.files)
        trios = []
        for path in found.manifest.files:
            one = listed(taken, found.manifest, scope, path, files_there.get(path, b""))
            if _fits(state, scope, one):
                env.kept[path] = one
            else:
                trios.append(Trio(path, None, one, one))
        return env, trios
    assert ours is not None
    assert theirs is not None
    # Of two as high, the one that can be checked by the policy that stands: `prev` has to name that one.
    above = max(
        (ours.manifest, theirs.manifest),
        key=lambda found: (found.generation, hash_known(state, found.policy_seq) == found.policy_hash),
    )
    meta = _meta(dict(base.manifest.meta) if base else {}, dict(ours.manifest.meta), dict(theirs.manifest.meta))
    env = EnvPlan(scope, above, meta)
    return env, _files(sides, state, env, listings, renamed, whole)


def _files(
    sides: Sides,
    state: State,
    env: EnvPlan,
    listings: Sequence[Mapping[str, FileEntry]],
    renamed: Renamed,
    whole: Mapping[str, str],
) -> list[Trio]:
    """Sort the files of an environment that both sides changed: kept, removed, open, or to be merged."""
    revisions = (sides.base, sides.ours, sides.theirs)
    renamed = {**_renames(listings), **renamed}
    moved = {old for new, paths in renamed.items() for old in paths if old is not None and old != new}
    names = [name for name in dict.fromkeys(n for listing in listings for n in listing) if name not in moved]
    names += [
        name
        for name in renamed
        if name not in names and any(old in there for old, there in zip(renamed[name], listings, strict=True))
    ]
    wanted: list[set[str]] = [set(), set(), set()]
    for name in names:
        for number, path in enumerate(renamed.get(name, (name,) * 3)):
            if path in listings[number]:
                wanted[number].add(str(path))
    blobs = [{} if side is None else side.read(sorted(paths)) for side, paths in zip(revisions, wanted, strict=True)]

    def version(number: int, path: str | None) -> Listed | None:
        side = revisions[number]
        if side is None or path is None or path not in listings[number]:
            return None
        signed = side.signed(env.scope)
        assert signed is not None
        return listed(side, signed.manifest, env.scope, path, blobs[number].get(path, b""))

    env.removed += sorted(moved - set(names))
    trios: list[Trio] = []
    for name in names:
        b, o, t = (version(number, path) for number, path in enumerate(renamed.get(name, (name,) * 3)))
        hashes = [None if each is None else each.entry.sha512 for each in (b, o, t)]
        choice = whole.get(name)
        if o is not None and t is not None and hashes[0] not in hashes[1:] and hashes[1] != hashes[2]:
            trios.append(Trio(name, b, o, t))
            continue
        if hashes[1] == hashes[2] or hashes[0] == hashes[2]:
            taken = o
        elif hashes[0] == hashes[1]:
            taken = t
        elif choice is not None:
            taken = o if choice == "ours" else t
        else:
            gone = "ours" if o is None else "theirs"
            env.open.append((name, f"{gone} removed the file, the other side changed it"))
            continue
        if taken is None:
            if o is not None or t is not None:
                env.removed.append(name)
        elif name == taken.path and _fits(state, env.scope, taken):
            env.kept[name] = taken
        else:
            trios.append(Trio(name, None, taken, taken))
        if taken is t and o is not t:
            env.changed[name] = _by_text(o, t)
    return trios


def _renames(listings: Sequence[Mapping[str, FileEntry]]) -> Renamed:
    """Files that one side renamed: of this environment it took one away and added one, and the other side knows the
    old name only. A renamed file has a new data key, so git itself sees no likeness."""
    base, *sides = listings
    found: dict[str, tuple[str | None, str | None, str | None]] = {}
    for number, side in enumerate(sides):
        other = sides[1 - number]
        gone = [path for path in base if path not in side]
        new = [path for path in side if path not in base]
        if len(gone) == len(new) == 1 and gone[0] in other and new[0] not in other:
            paths: list[str | None] = [gone[0], gone[0], gone[0]]
            paths[number + 1] = new[0]
            found[new[0]] = (paths[0], paths[1], paths[2])
    return found


def _by_text(ours: Listed | None, theirs: Listed | None) -> list[str]:
    """The names that differ by their ciphertext: for a file that is taken as it is, without opening it."""
    then, now = (
        {} if each is None else {(item.document, item.path): item.text for item in each.sops.items()}
        for each in (ours, theirs)
    )
    rows = sorted(then.keys() | now.keys(), key=lambda at: (at[0], exposure.dotted(at[1])))
    return [
        f"{'+' if at not in then else '-' if at not in now else '~'} {shown(at)}"
        for at in rows
        if then.get(at) != now.get(at)
    ]


def _fits(state: State, scope: str, found: Listed) -> bool:
    """Whether a file may stay byte for byte: its data key, and exactly the readers."""
    have = [{entry.recipient for entry in group} for group in found.sops.metadata.groups]
    return sound(state, scope, found) and have == [set(group) for group in brokered.groups(state, scope)]


def _broken(side: Revision, state: State, scope: str) -> bool:
    """Whether a manifest that only one side has, or both alike, is in order there and not under the policy that
    stands. What was out of order on its own side is that side's affair."""
    found = side.signed(scope)
    assert found is not None

    def faults(judge: State) -> bool:
        now = manifests.check(found.manifest, found.signature, judge, ws=judge.ws, env=scope)
        return any(f.severity == "error" or f.code == "behind" for f in now)

    return side.state is not None and faults(state) and not faults(side.state)


def _meta(base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """What an importer noted, key by key; where both changed one, ours."""
    out = {}
    for key in dict.fromkeys([*ours, *theirs]):
        same = (key in base) == (key in ours) and base.get(key) == ours.get(key)
        side = theirs if same else ours
        if key in side:
            out[key] = side[key]
    return out


def _placed(ws: Workspace, state: State, plans: Sequence[EnvPlan], sides: Sides) -> None:
    """Rule 6 of a manifest, for what is about to be signed: inside its project, and in no other environment's list."""
    planned = {env.scope: {*env.results, *env.kept, *(path for path, _ in env.open)} for env in plans}
    owners: dict[str, str] = {}
    for scope in state.envs:
        if scope not in planned:
            for side in (sides.ours, sides.theirs):
                found = side.signed(scope)
                for path in () if found is None else found.manifest.files:
                    owners[path] = scope
    for env in plans:
        folder = ws.folder_of(people_name(env.scope).partition("/")[0])
        for path in planned[env.scope]:
            if folder and not path.startswith(folder + "/"):
                raise IntegrityError(
                    f"lies outside {folder}, the folder of its project", code="path.outside", place=path
                )
            if owners.setdefault(path, env.scope) != env.scope:
                raise IntegrityError(f"is listed by {env.scope} and by {owners[path]}", code="path.shared", place=path)


# --- into the draft


def carry_out(draft: Draft, plans: Sequence[EnvPlan]) -> None:
    """Draft files and manifests. The caller has seen that no conflict is open and that the work tree holds nothing of
    its own at these paths."""
    ws = draft.ws
    for plan in plans:
        project, _, name = people_name(plan.scope).partition("/")
        env = Environment(
            scope=plan.scope, project=project, name=name, kind=draft.state.envs[plan.scope].kind,
            manifest=plan.above, manifest_bytes=None if plan.above is None else plan.above.raw, signature=None,
        )  # fmt: skip
        for path in (*plan.results, *plan.kept, *plan.removed):
            env.files[path] = SecretsFile(path, ws.read(path), None, False)
        touched = draft.touch(env)
        touched.files.clear()
        touched.meta = plan.meta
        for path, found in plan.kept.items():
            touched.files[path] = found.entry
            draft.changes[path] = (env.files[path].data, found.sops.data)
        for path, result in plan.results.items():
            if result.source is not None:
                touched.files[path] = result.source
            draft.secrets(env, path, result.data, result.key, made=result.source is None, share=result.share)
        for path in plan.removed:
            draft.changes[path] = (env.files[path].data, None)
    draft.refresh_blocks()


def same_as(result: Result, data: bytes) -> bool | None:
    """Whether a file that is there already, under the data key of the result, is that result: True if it may stay in
    its place, None if only the wrapping for a reader is another one, which nobody can compare. A data key that the
    merge made is never that of a file that is there."""
    if result.source is None:
        return None
    made = sopsfile.read(result.data, sopsfile.format_of(result.path)).metadata
    try:
        there = sopsfile.read(data, sopsfile.format_of(result.path))
        tree = there.decrypt(result.key)
    except (FormatError, IntegrityError):
        return False
    meta = there.metadata
    wrapped = [
        (found.threshold, [[entry.recipient for entry in group] for group in found.groups]) for found in (meta, made)
    ]
    if tree != result.tree or meta.selector != made.selector or wrapped[0] != wrapped[1]:
        return False
    return True if meta.groups == made.groups else None
