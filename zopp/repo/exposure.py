"""Which values someone could have read, tracked until each is changed at its source (DESIGN.md, decision 9).

Of direct files: a recipient of theirs stands in any version of the file that git knows, unmerged branches included, or
they made its data key. Of brokered files, exposed = released ∪ made (A17): the audit log shows that a file key of the
version was released to them, or they made its data key; what was neither stays closed, history included. A release is
told by the hash of its stanza, which a version holds or does not; the path beside it is a claim. Where the log cannot
be read, all that they were a recipient of counts. Names and marks only; never values, lengths or hashes of them.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from zopp import _fast, sopsfile
from zopp.errors import FormatError, ZoppError
from zopp.keys import agefile, filekey
from zopp.policy import manifest as manifests
from zopp.policy.manifest import Manifest
from zopp.repo import elsewhere, git, layout
from zopp.repo.environment import people_name
from zopp.repo.workspace import Workspace
from zopp.sopsfile.tree import dotted as dotted

OPEN, CHANGED = "open", "changed"
DIRECT, RELEASED, MADE, RECIPIENT = "direct", "released", "made", "recipient"
"""Why a value is exposed: a recipient of a direct file; released to them; made by them; a recipient of a brokered file,
and the log could not be read."""


@dataclass(frozen=True, slots=True)
class Release:
    """A file key that the audit log shows as released: environment, hex hash of the stanza, and the claimed path."""

    scope: str
    stanza: str
    path: str | None


class Released(Protocol):
    """Whoever reads the audit log of a workspace."""

    def __call__(self, ws: Workspace, principals: Collection[str], /) -> Sequence[Release]:
        """What was released to one of `principals`, or to a CI job that acted for it. A ZoppError where the log cannot
        be read: no right, no answer, or an answer that does not hold."""


@dataclass(slots=True)
class Exposure:
    """One removal: `keys` maps environment → file → dotted key → `open` or `changed`, `why` the same to the reasons.
    `closed` holds what they could have asked for and did not. `branches` names those, other than HEAD, whose versions
    were counted; `unverified` those whose policy log does not verify, and why: what only it let them read is not here.
    `commits`, as `keys`, are those that hold what they could have read; git has them, the list's file has not. `wider`
    says why the audit log was not read, '' if it was or nothing is brokered; `unplaced` counts releases that fit no
    version here."""

    subject: str
    seq: int
    keys: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    branches: list[str] = field(default_factory=list)
    why: dict[str, dict[str, dict[str, list[str]]]] = field(default_factory=dict)
    closed: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    wider: str = ""
    unplaced: int = 0
    unverified: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, dict[str, dict[str, None]]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its file below `.zopp/exposure/`."""
        return f"{self.subject}-{self.seq}.json"

    def open_keys(self) -> list[tuple[str, str, str]]:
        """(environment, file, key) still to be changed."""
        return [each[:3] for each in self.every_key() if each[3] == OPEN]

    def every_key(self) -> list[tuple[str, str, str, str]]:
        """(environment, file, key, `open` or `changed`) of each, sorted."""
        return [
            (env, path, key, mark)
            for env, paths in sorted(self.keys.items())
            for path, keys in sorted(paths.items())
            for key, mark in sorted(keys.items())
        ]

    def closed_keys(self) -> list[tuple[str, str, str]]:
        """(environment, file, key) that stay closed."""
        return [(e, p, k) for e, paths in sorted(self.closed.items()) for p, ks in sorted(paths.items()) for k in ks]

    def reasons(self, env: str, path: str, key: str) -> list[str]:
        """Why this value is exposed; of lists that older versions of zopp made it is not known."""
        return self.why.get(env, {}).get(path, {}).get(key, [])

    def commits_of(self, env: str, path: str, key: str) -> list[str]:
        """The commits with a value of this key that they could have read, newest first, each version's first one; none
        where it was never committed, or where nobody looked."""
        return list(self.commits.get(env, {}).get(path, {}).get(key, ()))

    def dump(self) -> bytes:
        """The bytes of its file."""
        body: dict[str, object] = {
            "v": 1, "subject": self.subject, "seq": self.seq, "keys": self.keys, "branches": self.branches,
            "why": self.why, "closed": self.closed, "wider": self.wider, "unplaced": self.unplaced,
            **({"unverified": self.unverified} if self.unverified else {}),
        }  # fmt: skip
        return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()


def parse(data: bytes, place: str) -> Exposure:
    """Read one exposure file. FormatError if it is not one."""
    try:
        raw = json.loads(data)
        if raw["v"] != 1:
            raise ValueError
        keys = {
            str(env): {
                str(p): {str(k): OPEN if m == OPEN else CHANGED for k, m in ks.items()} for p, ks in paths.items()
            }
            for env, paths in raw["keys"].items()
        }
        why = {
            str(env): {str(p): {str(k): [str(r) for r in rs] for k, rs in ks.items()} for p, ks in paths.items()}
            for env, paths in raw.get("why", {}).items()
        }
        closed = {
            str(env): {str(p): [str(k) for k in ks] for p, ks in paths.items()}
            for env, paths in raw.get("closed", {}).items()
        }
        return Exposure(
            str(raw["subject"]), int(raw["seq"]), keys, [str(b) for b in raw.get("branches", [])], why, closed,
            str(raw.get("wider", "")), int(raw.get("unplaced", 0)),
            {str(branch): str(why) for branch, why in raw.get("unverified", {}).items()},
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FormatError("is no exposure list", code="exposure", place=place) from None


def merge(base: bytes, ours: bytes, theirs: bytes, place: str) -> bytes:
    """One list of two branches': what either marked as changed is changed, since a merge takes that side's value. Of
    all else ours counts; a list itself never changes. FormatError if one is no list."""
    mine, other = parse(ours, place), parse(theirs, place)
    if base:
        parse(base, place)
    for env, paths in other.keys.items():
        for path, keys in paths.items():
            for key, mark in keys.items():
                have = mine.keys.setdefault(env, {}).setdefault(path, {})
                have[key] = CHANGED if CHANGED in (mark, have.get(key, mark)) else OPEN
    return mine.dump()


def load_all(ws: Workspace) -> list[Exposure]:
    """Every exposure list of the work tree, by file name."""
    import os

    folder = os.path.join(ws.root, layout.EXPOSURE)
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json") and not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name in names:
        path = f"{layout.EXPOSURE}/{name}"
        data = ws.read(path)
        if data is not None:
            found.append(parse(data, path))
    return found


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file: `keys` its dotted keys, `recipients` of its readers' group, `makers` who is named as the
    maker of its data key, `kcs` the commitments to that key, `stanzas` the hex hashes of the stanzas of the server's
    group. `current`: in the work tree."""

    path: str
    brokered: bool
    recipients: frozenset[str]
    makers: frozenset[str]
    kcs: frozenset[str]
    stanzas: frozenset[str]
    keys: tuple[str, ...]
    current: bool


@dataclass(slots=True)
class Scan:
    """Every version of the files of some environments, the `branches` beside HEAD on which some were looked for, and
    the `commits` that brought each version, newest first."""

    versions: dict[str, list[Version]] = field(default_factory=dict)
    branches: list[str] = field(default_factory=list)
    commits: dict[str, dict[Version, list[str]]] = field(default_factory=dict)

    def brokered(self) -> bool:
        """Whether there is a version that needs the server's half."""
        return any(version.brokered for versions in self.versions.values() for version in versions)


def scan(ws: Workspace, scopes: Iterable[str]) -> Scan:
    """The files of `scopes` in the work tree and in any version on any branch."""
    found = Scan()
    refs = git.branches(ws.root)
    revisions = sorted({commit for commit, _ in refs})
    if git.resolve(ws.root, "HEAD") is not None:
        revisions = ["HEAD", *revisions]
    for scope in scopes:
        found.commits[scope] = _versions(ws, scope, revisions)
        found.versions[scope] = list(found.commits[scope])
    head = git.resolve(ws.root, "HEAD")
    merged = git.run(ws.root, "for-each-ref", "--merged", "HEAD", "--format=%(refname)") if head else None
    inside = set(merged.stdout.decode("utf-8", "replace").split()) if merged else set()
    found.branches = [name for _, name in refs if name not in inside]
    return found


def _versions(ws: Workspace, scope: str, revisions: Sequence[str]) -> dict[Version, list[str]]:
    place = layout.manifest_path(scope)
    seen = git.versions(ws.root, place, revisions)
    bodies = dict(git.blobs(ws.root, [blob for _, blob in seen]))
    signed = [(commit, made) for commit, blob in seen if (made := _manifest(bodies.get(blob))) is not None]
    here = _manifest(ws.read(place))
    wanted: dict[str, list[tuple[str, Manifest]]] = {}
    paths: dict[str, None] = {}
    for commit, manifest in signed:
        for path in _paths(manifest):
            wanted.setdefault(f"{commit}:{path}", []).append((path, manifest))
            paths[path] = None
    listed: dict[tuple[str, str], list[Manifest]] = {}
    for manifest in [each for _, each in signed] + ([here] if here is not None else []):
        for path in _paths(manifest):
            listed.setdefault((path, manifest.files[path].sha512), []).append(manifest)
    out: dict[Version, list[str]] = {}

    def note(
        path: str, data: bytes | None, under: Iterable[Manifest], commit: str = "", *, current: bool = False
    ) -> None:
        made = None if data is None else _version(path, data, under, listed, current)
        if made is not None:
            commits = out.setdefault(made, [])
            if commit and commit not in commits[-1:]:
                commits.append(commit)

    for spec, data in git.blobs(ws.root, wanted):
        for path, manifest in wanted[spec]:
            note(path, data, [manifest], spec.partition(":")[0])
    if any(manifest.brokered for _, manifest in signed):
        # A version that was committed before its manifest, or without one, may have been released all the same.
        for path in paths:
            brought = git.versions(ws.root, path, revisions)
            between = dict(git.blobs(ws.root, [blob for _, blob in brought]))
            for commit, blob in brought:
                note(path, between.get(blob), [], commit)
    if here is not None:
        for path in _paths(here):
            note(path, ws.read(path), [here], current=True)
    if any(version.brokered for version in out):
        # Two questions to git were answered one after the other.
        listing = git.run(ws.root, "rev-list", "--date-order", *revisions).stdout.decode("ascii").split()
        order = {commit: number for number, commit in enumerate(listing)}
        return dict(sorted(out.items(), key=lambda pair: order[pair[1][0]] if pair[1] else -1))
    return out


def _manifest(data: bytes | None) -> Manifest | None:
    try:
        return None if data is None else manifests.parse(data)
    except ZoppError:
        return None  # a version that never verified; `verify` speaks of it


def _paths(manifest: Manifest) -> list[str]:
    # A line break in a path of an unverified version would shift the answers of `cat-file --batch`.
    return [path for path in manifest.files if path.isprintable()]


def _version(
    path: str,
    data: bytes,
    under: Iterable[Manifest],
    listed: Mapping[tuple[str, str], Sequence[Manifest]],
    current: bool,
) -> Version | None:
    try:
        file = sopsfile.read(data, sopsfile.format_of(path), strict=False)
    except ZoppError:
        return None
    exact = listed.get((path, _fast.sha512(data).hex()), [])
    every = [*under, *exact]
    groups = file.metadata.groups
    brokered = len(groups) == 2
    recipients = {entry.recipient for group in groups[:1] for entry in group}
    if not brokered:
        recipients |= {entry.recipient for group in groups[1:] for entry in group}
    recipients |= {r for manifest in every for group in manifest.groups[: 1 if brokered else None] for r in group}
    makers = {by for manifest in every if (by := manifest.files[path].dk_by) is not None}
    return Version(
        path,
        brokered,
        frozenset(recipients),
        frozenset(makers),
        frozenset(manifest.files[path].kc for manifest in exact),
        frozenset(h for entry in (groups[1] if brokered else ()) if (h := stanza_hash(entry.enc)) is not None),
        tuple(dict.fromkeys(dotted(leaf) for leaf in file.paths())),
        current,
    )


def stanza_hash(armored: str) -> str | None:
    """The hex hash by which the audit log names the stanza of an age file; None if it has none."""
    try:
        share, body = filekey.stanza_of(agefile.dearmor(armored))
    except ZoppError:
        return None
    return _fast.sha256(share + body).hex()


def reached(versions: Sequence[Version], who: Collection[str], released: Iterable[Release]) -> dict[str, set[Version]]:
    """Of one environment: the brokered versions that were `released`, and those `made` by one of `who`. Whoever
    has the data key of a version has every version under that key, and the signed commitment tells which those are."""
    stanzas = {each.stanza for each in released}
    got = {v for v in versions if v.brokered and v.stanzas & stanzas}
    made = {v for v in versions if v.brokered and v.makers & set(who)}
    return {RELEASED: _same_key(versions, got), MADE: _same_key(versions, made)}


def _same_key(versions: Sequence[Version], some: set[Version]) -> set[Version]:
    kcs = {(v.path, kc) for v in some for kc in v.kcs}
    return some | {v for v in versions if v.brokered and any((v.path, kc) in kcs for kc in v.kcs)}


def judge(
    found: Scan,
    principals: Collection[str],
    recipients: Collection[str],
    released: Sequence[Release] | None,
    *,
    wider: str = "",
) -> Exposure:
    """What `principals`, of whom `recipients` are or were, know and what stays closed to them. `released` None: the log
    could not be read, and `wider` says why. `subject` and `seq` are the caller's to set."""
    who, theirs = set(principals), set(recipients)
    made = Exposure("", 0, branches=list(found.branches))
    for scope, versions in found.versions.items():
        here = [each for each in released or () if each.scope == scope]
        lost = _unplaced(versions, here)
        made.unplaced += len(lost)
        claims = {each.path for each in lost}
        known = reached(versions, who, here)
        commits = found.commits.get(scope, {})
        may = []
        for v in versions:
            readable = bool(v.recipients & theirs)
            why = set()
            if not v.brokered:
                why |= ({DIRECT} if readable else set()) | ({MADE} if v.makers & who else set())
            else:
                why |= {reason for reason, those in known.items() if v in those}
                # Its version is gone from git: what it was of is not known better than by the claim.
                why |= {RELEASED} if v.path in claims else set()
                if readable and released is None:
                    why |= {RECIPIENT}
                    made.wider = wider
            if why:
                _expose(made, people_name(scope), v, why, commits.get(v, ()))
            elif readable:
                may.append(v)
        for v in may:
            exposed = made.keys.get(people_name(scope), {}).get(v.path, {})
            left = made.closed.setdefault(people_name(scope), {}).setdefault(v.path, [])
            left += [key for key in v.keys if key not in exposed and key not in left]
    made.closed = {
        env: kept for env, paths in made.closed.items() if (kept := {p: sorted(ks) for p, ks in paths.items() if ks})
    }
    return made


def _unplaced(versions: Sequence[Version], released: Iterable[Release]) -> list[Release]:
    known = {stanza for v in versions for stanza in v.stanzas}
    return list({each.stanza: each for each in released if each.stanza not in known}.values())


def _expose(made: Exposure, env: str, v: Version, why: Iterable[str], commits: Sequence[str]) -> None:
    keys = made.keys.setdefault(env, {}).setdefault(v.path, {})
    reasons = made.why.setdefault(env, {}).setdefault(v.path, {})
    for key in v.keys:
        keys.setdefault(key, OPEN)
        reasons[key] = sorted({*reasons.get(key, ()), *why})
        held = made.commits.setdefault(env, {}).setdefault(v.path, {}).setdefault(key, {})
        held.update(dict.fromkeys(commits))


def find_commits(ws: Workspace, lists: Sequence[Exposure]) -> None:
    """Set the `commits` of lists that were read from files, by the versions that git knows now: of direct files those
    that their subject could read, of brokered ones those that they could have asked for."""
    names = {people_name(scope): scope for scope in ws.state.all_envs}
    found = scan(ws, sorted({names.get(env, env) for each in lists for env in each.keys}))
    known: dict[str, str] = {}
    for versions in found.versions.values():
        for recipient in {r for version in versions for r in version.recipients}:
            known[recipient] = ws.state.recipient_owner(recipient) or ""
    for states in elsewhere.look(ws).states.values():
        for principal in states[-1].principals.values():
            known[principal.recipient] = known.get(principal.recipient) or principal.name
    holders = {name: principal.holder for name, principal in ws.state.principals.items()}
    for each in lists:
        theirs = {r for r, name in known.items() if each.subject in (name, holders.get(name, ""))}
        devices = {name for name in known.values() if each.subject in (name, holders.get(name, ""))}
        each.commits = judge(found, devices, theirs, None).commits


def mark_changed(ws: Workspace, env: str, changed: Mapping[str, Iterable[str]]) -> dict[str, bytes]:
    """After values of `env` changed (`changed`: file → dotted keys): the exposure files (path → new bytes) that had
    some of them open."""
    out: dict[str, bytes] = {}
    for exposure in load_all(ws):
        hit = False
        for path, keys in changed.items():
            listed = exposure.keys.get(people_name(env), {}).get(path, {})
            for key in keys:
                if listed.get(key) == OPEN:
                    listed[key] = CHANGED
                    hit = True
        if hit:
            out[f"{layout.EXPOSURE}/{exposure.name}"] = exposure.dump()
    return out
