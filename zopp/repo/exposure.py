"""Which values someone could have read, tracked until each is changed at its source (DESIGN.md, decision 9).

Without a server, exposed means: a recipient of theirs stands in any version of the file that git knows, unmerged
branches included, or they made its data key. Names and marks only; never values, lengths or hashes of them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from zopp import sopsfile
from zopp.errors import FormatError, ZoppError
from zopp.policy import manifest as manifests
from zopp.repo import git, layout
from zopp.repo.environment import people_name
from zopp.repo.workspace import Workspace

OPEN, CHANGED = "open", "changed"


@dataclass(slots=True)
class Exposure:
    """One removal: `keys` maps environment → file → dotted key → `open` or `changed`. `branches` names those, other
    than HEAD, whose versions were counted."""

    subject: str
    seq: int
    keys: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    branches: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its file below `.zopp/exposure/`."""
        return f"{self.subject}-{self.seq}.json"

    def open_keys(self) -> list[tuple[str, str, str]]:
        """(environment, file, key) still to be changed."""
        return [
            (env, path, key)
            for env, paths in sorted(self.keys.items())
            for path, keys in sorted(paths.items())
            for key, mark in sorted(keys.items())
            if mark == OPEN
        ]

    def dump(self) -> bytes:
        """The bytes of its file."""
        body = {"v": 1, "subject": self.subject, "seq": self.seq, "keys": self.keys, "branches": self.branches}
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
        return Exposure(str(raw["subject"]), int(raw["seq"]), keys, [str(b) for b in raw.get("branches", [])])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FormatError("is no exposure list", code="exposure", place=place) from None


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


def dotted(path: Iterable[str | int]) -> str:
    """A leaf's path as people type it: parts with dots are quoted."""
    parts = [str(part) for part in path]
    return ".".join(f'"{part}"' if "." in part or not part else part for part in parts)


def could_read(ws: Workspace, principals: Iterable[str], recipients: Iterable[str]) -> Exposure:
    """The names of all values that one of `recipients` could open, or whose data key one of `principals` made, in the
    work tree or in any version on any branch. `subject` and `seq` are the caller's to set."""
    who, theirs = set(principals), set(recipients)
    found = Exposure("", 0)
    refs = git.branches(ws.root)
    revisions = sorted({commit for commit, _ in refs})
    if git.resolve(ws.root, "HEAD") is not None:
        revisions = ["HEAD", *revisions]
    for scope in ws.state.all_envs:
        path = layout.manifest_path(scope)
        seen = [(commit, blob) for commit, blob in git.versions(ws.root, path, revisions)] if revisions else []
        bodies = dict(git.blobs(ws.root, [blob for _, blob in seen]))
        wanted: dict[str, set[str]] = {}
        for commit, blob in seen:
            for listed in _exposed_files(bodies.get(blob), who, theirs):
                wanted.setdefault(f"{commit}:{listed}", set()).add(listed)
        specs = sorted(wanted)
        for spec, data in git.blobs(ws.root, specs):
            for listed in wanted[spec]:
                _note(found, scope, listed, data)
        for listed in _exposed_files(ws.read(path), who, theirs):
            _note(found, scope, listed, ws.read(listed))
    head = git.resolve(ws.root, "HEAD")
    merged = git.run(ws.root, "for-each-ref", "--merged", "HEAD", "--format=%(refname)") if head else None
    inside = set(merged.stdout.decode("utf-8", "replace").split()) if merged else set()
    found.branches = [name for _, name in refs if name not in inside]
    return found


def _exposed_files(data: bytes | None, who: set[str], theirs: set[str]) -> list[str]:
    if data is None:
        return []
    try:
        manifest = manifests.parse(data)
    except ZoppError:
        return []  # a version that never verified; `verify` speaks of it
    readable = any(theirs & set(recipients) for recipients in manifest.groups)
    # A line break in a path of an unverified version would shift the answers of `cat-file --batch`.
    return [p for p, entry in manifest.files.items() if (readable or entry.dk_by in who) and p.isprintable()]


def _note(found: Exposure, scope: str, path: str, data: bytes | None) -> None:
    if data is None:
        return
    try:
        file = sopsfile.read(data, sopsfile.format_of(path), strict=False)
    except ZoppError:
        return
    keys = found.keys.setdefault(people_name(scope), {}).setdefault(path, {})
    for leaf in file.paths():
        keys.setdefault(dotted(leaf), OPEN)


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
