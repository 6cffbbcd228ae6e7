"""Who changed what: the versions of one environment's files along git's history, key by key and without a key.

One `git log`, one `git cat-file --batch`. Commits are walked parents first; each key carries a chain of what happened
to it, so that a change of a side branch stays that commit's wherever it is merged to, and a merge adds only what
neither side had. What is read here is what git holds: nothing is verified but, when somebody looks at an event, who
signed it (`repo.authors`).

Without a key a new ciphertext under the same data key is a change, though perhaps to the same value; where a whole
file went under a new data key (`REKEYED`) a change in the same commit hides. `repo.revealing` tells with a key.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from zopp import sopsfile
from zopp._fast import json_parse
from zopp.errors import FormatError, Unknown, ZoppError
from zopp.repo import git, layout
from zopp.repo.git import Commit
from zopp.sopsfile.comparing import ADDED, CHANGED, REMOVED, Change, Comparison, Outline, Place, compare, name, renamed
from zopp.sopsfile.stepping import Sheet, sheet, step

SET, SET_ANEW, UNSET, RENAMED, RENAMED_AWAY = "set", "changed", "removed", "renamed", "renamed away"
MOVED, REKEYED, REENCRYPTED, ROLLED_BACK = "moved", "rekeyed", "re-encrypted", "rolled back"
"""What happened to a key. MOVED: to another file of the environment. REKEYED: with its whole file, under a new data
key. REENCRYPTED: by a merge, under the data key of its result. ROLLED_BACK: to a ciphertext that it had before."""

KEEPS_VALUE = frozenset({REKEYED, REENCRYPTED, MOVED, RENAMED})
"""Of these nobody says that they gave the key another value."""

WORK_TREE = ""
"""The id of what is not committed yet."""


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """One thing that happened to one key in one commit. `path` and `blob` are the file and the version of it that hold
    the key afterwards (before, where it was removed); `after` is the version of that file in this commit, '' if it is
    gone. `other`: the commit that it was rolled back to, the key that it
    was renamed from or to, or the file that it came from. `merge`: in a merge, and neither parent had it so. `edge`:
    in the oldest commit of a shallow clone, so perhaps earlier. `other_type`: its type changed too."""

    commit: Commit
    place: Place
    what: str
    path: str
    blob: str
    after: str
    other: str = ""
    merge: bool = False
    edge: bool = False
    other_type: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """An event with what came before it; of a join, which has no event, the first chain is the one whose value is
    there."""

    event: Event | None
    before: tuple["Link", ...]


@dataclass(frozen=True, slots=True, eq=False)
class FileEvent:
    """What happened to a file as a whole: `comparison` with its version in the first parent that had one, None where
    this version is no sops file that can be read."""

    commit: Commit
    path: str
    comparison: Comparison | None
    gone: bool = False


@dataclass(slots=True)
class History:
    """`commits` and `files` newest first. `heads`: the chain of every key that there is or was; `present`: key → file,
    of those there are. `edge`: the commits at which a shallow clone ends, empty where history is whole."""

    commits: list[Commit]
    heads: dict[Place, Link]
    present: dict[Place, str]
    files: list[FileEvent]
    states: dict[str, dict[str, str]]
    edge: frozenset[str]
    order: dict[str, int] = field(default_factory=dict)

    def of(self, places: Iterable[Place]) -> list[Event]:
        """Every event of these keys under whatever names they had, newest first, each once."""
        seen: set[int] = set()
        out: list[Event] = []
        todo = [self.heads[place] for place in places if place in self.heads]
        while todo:
            link = todo.pop()
            if id(link) in seen:
                continue
            seen.add(id(link))
            if link.event is not None:
                out.append(link.event)
            todo += link.before
        return sorted(out, key=lambda event: (self.order[event.commit.id], str(event.place)))

    def events(self) -> list[Event]:
        """Every event of every key, newest first."""
        return self.of(self.heads)

    def last(self, place: Place) -> Event | None:
        """What gave a key the value that it has, as far as can be told: re-encryption and renaming are passed over."""
        link: Link | None = self.heads.get(place)
        oldest: Event | None = None
        while link is not None:
            event = link.event
            if event is not None:
                if event.what not in KEEPS_VALUE:
                    return event
                oldest = event
            link = link.before[0] if link.before else None
        return oldest

    def matching(self, parts: Sequence[str | int]) -> list[Place]:
        """The keys that are meant by a typed path: that leaf, else all below it; index parts may be typed as text."""
        exact: Place = (0, tuple(parts))
        if exact in self.heads:
            return [exact]
        wanted = [str(part) for part in parts]
        return [place for place in self.heads if [str(part) for part in place[1][: len(wanted)]] == wanted]


def read(
    root: str,
    scope: str,
    listed: Iterable[str],
    *,
    log: git.Log | None = None,
    revision: str = "HEAD",
    work: Mapping[str, bytes | None] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> History:
    """The history of an environment up to `revision`. `listed`: its files as they are known today; older names are
    found through manifests and renames. `log`: one that is running for `paths_of` of these. `work`: the bytes of the
    work tree (path → bytes), as a commit of its own on top where they differ. Unknown where git fails; an empty history
    where nothing was ever committed."""
    listed = set(listed)
    asked = layout.history_paths(scope, listed)
    try:
        commits = (log or git.Log(root, revision, asked, environ)).read()
    except Unknown:
        if git.resolve(root, revision) is not None:
            raise
        commits = []  # nothing was committed yet
    place = layout.manifest_path(scope)
    with git.Batch(root, environ) as batch:
        known = set(listed)
        while commits:
            older = _older_names(root, batch, commits, place, known, environ)
            if not older:
                break
            known |= older
            commits = git.Log(root, revision, layout.history_paths(scope, known), environ).read()
        walk = _Walk(root, batch, place, known, shallow(root))
        return walk.through(commits, work)


def shallow(root: str) -> frozenset[str]:
    """The commits whose parents this clone does not have."""
    try:
        checkout = layout.find_checkout(root)
        with open(os.path.join(checkout.common_dir, "shallow"), encoding="ascii") as file:
            return frozenset(file.read().split())
    except (OSError, UnicodeDecodeError, ZoppError):
        return frozenset()


def _older_names(
    root: str, batch: git.Batch, commits: Sequence[Commit], place: str, known: set[str], environ: Mapping[str, str]
) -> set[str]:
    """Files that manifests listed under the environment once, and those that git sees renamed into a known one."""
    found: set[str] = set()
    blobs = dict.fromkeys(blob for commit in commits if (blob := commit.changed.get(place)) is not None)
    for data in _in_order(batch, blobs):
        try:
            found.update(path for path in json_parse(data.decode("utf-8"))["files"] if path.isprintable())
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # no manifest; `verify` speaks of it
    born = [
        commit.id
        for commit in commits
        if len(commit.parents) <= 1 and any(path in known and blob for path, blob in commit.changed.items())
    ]
    gone = {path for path in known if any(path in commit.changed for commit in commits)}
    # Only where a file appears can it have come from elsewhere.
    first = {path: next((c.id for c in reversed(commits) if c.changed.get(path)), None) for path in gone}
    todo = sorted({id_ for id_ in first.values() if id_ in born and id_ is not None})
    if todo:
        found |= _renamed_from(root, todo, known, environ)
    return found - known


def _renamed_from(root: str, commits: Sequence[str], known: set[str], environ: Mapping[str, str]) -> set[str]:
    done = git.run(
        root, "diff-tree", "--stdin", "-r", "-M", "-z", "--raw", "--no-abbrev", "--diff-filter=R", "--no-ext-diff",
        data="".join(f"{id_}\n" for id_ in commits).encode(), environ=environ,
    )  # fmt: skip
    found: set[str] = set()
    tokens = iter(done.stdout.split(b"\0"))
    for token in tokens:
        if token[:1] == b":":
            old, new = os.fsdecode(next(tokens)), os.fsdecode(next(tokens))
            if new in known and old.isprintable():
                found.add(old)
    return found


def _in_order(batch: git.Batch, ids: Iterable[str]) -> Iterator[bytes]:
    """The bytes of blobs, a few hundred asked for at a time; missing ones are left out."""
    wanted = list(ids)
    for at in range(0, len(wanted), 400):
        chunk = wanted[at : at + 400]
        batch.ask(chunk)
        for _ in chunk:
            answer = batch.answer()
            if answer is not None:
                yield answer[1]


_AHEAD = 64
"""Objects that are asked for at once: their names fit into a pipe, so that nobody waits for nobody."""


class _Outlines:
    """Outlines by blob id, the last ones kept: a commit is compared with its parents, which came just before."""

    def __init__(self, batch: git.Batch, budget: int = 32_000_000) -> None:
        self._batch = batch
        # What will be needed, in order; how many of it are asked for and not answered; what was answered early.
        self._coming: deque[tuple[str, str]] = deque()
        self._asked: deque[tuple[str, str]] = deque()
        self._early: dict[str, tuple[str, bytes] | None] = {}
        self._budget = budget
        self._kept: dict[str, tuple[Outline | None, int]] = {}
        self._sheets: dict[str, Sheet | None] = {}
        # (before, after) → how they differ, where one was read from the other.
        self._steps: dict[tuple[str, str], Comparison] = {}
        self._pinned: dict[str, Outline | None] = {}
        self._size = 0

    def expect(self, wanted: Iterable[tuple[str, str]]) -> None:
        """Say which versions (blob, path) will be asked for, so that git reads ahead while they are compared."""
        self._coming.extend(wanted)

    def ask(self, name: str) -> tuple[str, bytes] | None:
        """Any object by name, past what is on its way."""
        while self._asked:
            self._take()
        return self._batch.get(name)

    def _take(self) -> str:
        blob, _ = self._asked.popleft()
        self._early[blob] = self._batch.answer()
        return blob

    def _fetch(self, blob: str) -> tuple[str, bytes] | None:
        if blob not in self._early and not any(blob == asked for asked, _ in self._asked):
            while self._coming and self._coming[0][0] in self._kept:
                self._coming.popleft()
            if not self._coming or self._coming[0][0] != blob:
                return self.ask(blob)
            ahead = [self._coming.popleft() for _ in range(min(_AHEAD, len(self._coming)))]
            ahead = [each for each in dict.fromkeys(ahead) if each[0] not in self._kept and each[0] not in self._early]
            self._batch.ask(each for each, _ in ahead)
            self._asked.extend(ahead)
        while blob not in self._early:
            self._take()
        return self._early.pop(blob)

    def pin(self, blob: str, path: str, data: bytes) -> Outline | None:
        """Read a version that git does not have, under a name of its own; None if it is no sops file."""
        self._pinned[blob] = _outline(path, data)
        return self._pinned[blob]

    def _put(self, blob: str, path: str, data: bytes, before: str | None) -> Outline | None:
        from_sheet = self._sheets.get(before) if before is not None else None
        stepped = None if from_sheet is None or before is None else step(from_sheet, data)
        if stepped is not None and before is not None:
            self._sheets[blob], self._steps[before, blob] = stepped
            outline: Outline | None = stepped[0].outline
        else:
            outline = _outline(path, data)
            self._sheets[blob] = None if outline is None else sheet(outline)
        self._kept[blob] = (outline, len(data))
        self._size += len(data)
        while self._size > self._budget and len(self._kept) > 4:
            oldest = next(iter(self._kept))
            self._size -= self._kept.pop(oldest)[1]
            self._sheets.pop(oldest, None)
        return outline

    def compare(self, before: str | None, after: str | None, path: str) -> Comparison:
        """How two versions differ; None: there is none."""
        if before is not None and after is not None and (before, after) in self._steps:
            return self._steps[before, after]
        return compare(*(None if blob is None else self.get(blob, path) for blob in (before, after)))

    def get(self, blob: str, path: str, before: str | None = None) -> Outline | None:
        """The outline of a blob, None if it cannot be read. `before`: the version it comes from, perhaps: then it is
        read from that one's where that is enough."""
        if blob in self._pinned:
            return self._pinned[blob]
        kept = self._kept.get(blob)
        if kept is not None:
            return kept[0]
        answer = self._fetch(blob)
        return None if answer is None else self._put(blob, path, answer[1], before)


def _outline(path: str, data: bytes) -> Outline | None:
    try:
        return Outline.read(data, sopsfile.format_of(path))
    except FormatError:
        return None


@dataclass(slots=True)
class _At:
    """A commit on the way: path → the newest readable version of it, and each key's chain."""

    files: dict[str, str]
    heads: dict[Place, Link]


class _Walk:
    """One pass over the commits, parents first."""

    def __init__(self, root: str, batch: git.Batch, place: str, paths: set[str], edge: frozenset[str]) -> None:
        self.root = root
        self.outlines = _Outlines(batch)
        self.place = place
        self.paths = sorted(path for path in paths if path.isprintable())
        self.signatures = (place, place + ".sig")
        self.edge = edge
        self.states: dict[str, dict[str, str]] = {}
        self.file_events: list[FileEvent] = []
        # (key, ciphertext) → the commits that gave it to the key.
        self.seen: dict[tuple[Place, str], list[Commit]] = {}

    def through(self, commits: Sequence[Commit], work: Mapping[str, bytes | None] | None) -> History:
        """`commits` children first, as git gives them."""
        waiting: dict[str, int] = {}
        for commit in commits:
            for parent in commit.parents:
                waiting[parent] = waiting.get(parent, 0) + 1
        at: dict[str, _At] = {}
        tip = _At({}, {})
        known = set(self.paths)
        self.outlines.expect(
            (blob, path)
            for commit in reversed(commits)
            for path, blob in commit.changed.items()
            if blob is not None and path in known
        )
        for commit in reversed(commits):
            before = [at[parent] for parent in commit.parents if parent in at]
            # Of a merge git tells no changes, also where simplification has left it one parent or none.
            tip = at[commit.id] = self._step(commit, before) if commit.changed else self._merge(commit, before)
            self.states[commit.id] = self._listed(commit, commit.parents)
            for parent in commit.parents:
                waiting[parent] -= 1
                if not waiting[parent]:
                    at.pop(parent, None)
        shown = list(commits)
        if work is not None:
            tip = self._uncommitted(tip, work, shown, commits[0] if commits else None)
        present: dict[Place, str] = {}
        for path, blob in tip.files.items():
            outline = self.outlines.get(blob, path)
            for place in outline.leaves if outline is not None else ():
                present.setdefault(place, path)
        order = {commit.id: number for number, commit in enumerate(shown)}
        files = sorted(self.file_events, key=lambda event: (order[event.commit.id], event.path))
        edge = self.edge & {commit.id for commit in commits}
        return History(shown, tip.heads, present, files, self.states, edge, order)

    def _listed(self, commit: Commit, parents: Sequence[str]) -> dict[str, str]:
        """Manifest and signature at a commit: path → blob."""
        state = dict(self.states[parents[0]]) if parents and parents[0] in self.states else {}
        changes: dict[str, str | None] = dict(commit.changed)
        if not commit.changed:
            for path in self.signatures:
                answer = self.outlines.ask(f"{commit.id}:{path}")
                changes[path] = None if answer is None else answer[0]
        for path in self.signatures:
            if path in changes:
                blob = changes[path]
                if blob is None:
                    state.pop(path, None)
                else:
                    state[path] = blob
        return state

    def _step(self, commit: Commit, before: Sequence[_At]) -> _At:
        """A commit with at most one parent that matters."""
        parent = before[0] if before else _At({}, {})
        touched = {path: blob for path, blob in commit.changed.items() if path in self.paths}
        if not touched:
            return parent
        files = dict(parent.files)
        for path, blob in touched.items():
            if blob is None:
                files.pop(path, None)
                self.file_events.append(FileEvent(commit, path, None, gone=True))
            elif self.outlines.get(blob, path, parent.files.get(path)) is not None:
                files[path] = blob
            else:
                self.file_events.append(FileEvent(commit, path, None))
        return self._changed(commit, parent, files)

    def _changed(self, commit: Commit, parent: _At, files: dict[str, str], *, merge: bool = False) -> _At:
        differing = [path for path in {**parent.files, **files} if parent.files.get(path) != files.get(path)]
        changes: dict[str, Comparison] = {}
        names: dict[Place, Place] = {}
        for path in differing:
            found = changes[path] = self.outlines.compare(parent.files.get(path), files.get(path), path)
            self.file_events.append(FileEvent(commit, path, found, gone=path not in files))
            if path in parent.files and path in files and found.of(ADDED) and found.of(REMOVED):
                old, new = (self._outline(side, path) for side in (parent.files, files))
                assert old is not None
                assert new is not None
                names |= renamed(old, new, found)
        heads = dict(parent.heads)
        added = {c.place: path for path, found in changes.items() for c in found.of(ADDED)}
        removed = {c.place: path for path, found in changes.items() for c in found.of(REMOVED)}
        for path, found in changes.items():
            for change in found.changes:
                if change.what == REMOVED and (change.place in added or change.place in names.values()):
                    continue  # said of its new place
                link = self._event(commit, parent, files, path, found, change, names, removed, merge)
                if link is not None:
                    heads[change.place] = link
        for new_place, old_place in names.items():
            if old_place not in added and heads.get(new_place) is not None:
                event = heads[new_place].event
                assert event is not None
                gone = Event(
                    commit, old_place, RENAMED_AWAY, event.path, parent.files[event.path], event.after, name(new_place)
                )
                heads[old_place] = Link(gone, _chain(parent, old_place))
        return _At(files, heads)

    def _event(
        self,
        commit: Commit,
        parent: _At,
        files: Mapping[str, str],
        path: str,
        found: Comparison,
        change: Change,
        names: Mapping[Place, Place],
        removed: Mapping[Place, str],
        merge: bool,
    ) -> Link | None:
        place = change.place
        edge = commit.id in self.edge
        if change.what == REMOVED:
            event = Event(commit, place, UNSET, path, parent.files[path], files.get(path, ""), merge=merge)
            return Link(event, _chain(parent, place))
        outline = self._outline(files, path)
        assert outline is not None
        text = str(outline.leaves[place][3])
        what, other, before = SET if change.what == ADDED else SET_ANEW, "", _chain(parent, place)
        if change.what == ADDED and place in removed:
            old = self._outline(parent.files, removed[place])
            if old is not None and old.leaves[place][3] == outline.leaves[place][3]:
                return None  # the file has another name, the value is as it was
            what, other = MOVED, removed[place]
        elif change.what == ADDED and place in names:
            what, other = RENAMED, name(names[place])
            before = (*_chain(parent, names[place]), *before)
        elif found.full_rewrap and change.what == CHANGED:
            what = REKEYED
        elif change.now is not None and not change.now.clear:
            back = self._earlier(place, text, before)
            if back is not None:
                what, other = ROLLED_BACK, back.id
        if change.now is not None and not change.now.clear:
            self.seen.setdefault((place, text), []).append(commit)
        event = Event(commit, place, what, path, files[path], files[path], other, merge, edge, change.other_type)
        return Link(event, before)

    def _earlier(self, place: Place, text: str, before: Sequence[Link]) -> Commit | None:
        """The commit in a key's own past that gave it this ciphertext. Empty values and nulls are alike everywhere."""
        candidates = self.seen.get((place, text), []) if text[:4] == "ENC[" else []
        if not candidates:
            return None
        todo, done = list(before), set()
        while todo:
            link = todo.pop()
            if id(link) in done:
                continue
            done.add(id(link))
            if link.event is not None and link.event.commit in candidates:
                return link.event.commit
            todo += link.before
        return None

    def _outline(self, files: Mapping[str, str], path: str) -> Outline | None:
        return self.outlines.get(files[path], path) if path in files else None

    def _merge(self, commit: Commit, before: Sequence[_At]) -> _At:
        """A merge: what git made of the files is asked for by name, and each key is held against all parents."""
        files: dict[str, str] = {}
        for path in self.paths:
            answer = self.outlines.ask(f"{commit.id}:{path}")
            if answer is None:
                continue
            if self.outlines.get(answer[0], path, before[0].files.get(path) if before else None) is not None:
                files[path] = answer[0]
                continue
            self.file_events.append(FileEvent(commit, path, None))
            older = next((parent.files[path] for parent in before if path in parent.files), None)
            if older is not None:
                files[path] = older
        if len(before) < 2:
            return self._changed(commit, before[0] if before else _At({}, {}), files, merge=True)
        return self._joined(commit, before, files)

    def _joined(self, commit: Commit, before: Sequence[_At], files: dict[str, str]) -> _At:
        sides = [self._leaves(parent.files) for parent in before]
        merged = self._leaves(files)
        comparisons = [
            {path: compare(self._outline(parent.files, path), self._outline(files, path)) for path in files}
            for parent in before
        ]
        for path in sorted({path for parent in before for path in parent.files} | files.keys()):
            if all(parent.files.get(path) != files.get(path) for parent in before):
                first = comparisons[0].get(path) or compare(self._outline(before[0].files, path), None)
                self.file_events.append(FileEvent(commit, path, first, gone=path not in files))
        heads: dict[Place, Link] = {}
        for place in dict.fromkeys([p for parent in before for p in parent.heads] + list(merged)):
            chains = [parent.heads.get(place) for parent in before]
            now = merged.get(place)
            alike = [n for n, side in enumerate(sides) if _text(side.get(place)) == _text(now)]
            kept = [link for n in alike if (link := chains[n]) is not None]
            others = [link for link in chains if link is not None and link not in kept]
            if alike:
                links = list(dict.fromkeys([*kept, *others]))
                if len(links) == 1:
                    heads[place] = links[0]
                elif links:
                    heads[place] = Link(None, tuple(links))
                continue
            heads[place] = self._in_merge(commit, before, comparisons, sides, files, place, now)
        return _At(files, heads)

    def _in_merge(
        self,
        commit: Commit,
        before: Sequence[_At],
        comparisons: Sequence[Mapping[str, Comparison]],
        sides: Sequence[Mapping[Place, tuple[str, str]]],
        files: Mapping[str, str],
        place: Place,
        now: tuple[str, str] | None,
    ) -> Link:
        chains = [parent.heads.get(place) for parent in before]
        links = list(dict.fromkeys(link for link in chains if link is not None))
        if now is None:
            path = next(side[place][0] for side in sides if place in side)
            blob = next(parent.files[path] for parent in before if path in parent.files)
            return Link(Event(commit, place, UNSET, path, blob, files.get(path, ""), merge=True), tuple(links))
        path = now[0]
        # What keeps the data key of the result keeps its text; a value of the other side had to be sealed anew.
        sealed = [
            link
            for link, found, side in zip(chains, comparisons, sides, strict=True)
            if link is not None and place in side and found[path].full_rewrap
        ]
        if sealed:
            event = Event(commit, place, REENCRYPTED, path, files[path], files[path], merge=True)
            return Link(event, tuple(dict.fromkeys([*sealed, *links])))
        what = SET_ANEW if any(place in side for side in sides) else SET
        return Link(Event(commit, place, what, path, files[path], files[path], merge=True), tuple(links))

    def _leaves(self, files: Mapping[str, str]) -> dict[Place, tuple[str, str]]:
        """Key → (file, text)."""
        found: dict[Place, tuple[str, str]] = {}
        for path in sorted(files):
            outline = self._outline(files, path)
            for place, leaf in outline.leaves.items() if outline is not None else ():
                found.setdefault(place, (path, f"{leaf[3].__class__.__name__}:{leaf[3]}"))
        return found

    def _uncommitted(self, tip: _At, work: Mapping[str, bytes | None], shown: list[Commit], head: Commit | None) -> _At:
        """The work tree as a commit on top, if it differs from the newest one."""
        commit = Commit(WORK_TREE, () if head is None else (head.id,), 0, "", "", "")
        files = dict(tip.files)
        for number, (path, data) in enumerate(sorted(work.items())):
            if path not in self.paths:
                continue
            blob = f"work:{number}"
            if data is None:
                files.pop(path, None)
                continue
            made, old = self.outlines.pin(blob, path, data), self._outline(files, path)
            if made is None:
                self.file_events.append(FileEvent(commit, path, None))
            elif old is None or (old.scan.text, old.scan.prefix) != (made.scan.text, made.scan.prefix):
                files[path] = blob
        top = tip if files == tip.files else self._changed(commit, tip, files)
        if top is not tip or any(event.commit is commit for event in self.file_events):
            shown.insert(0, commit)
        return top


def _chain(parent: _At, place: Place) -> tuple[Link, ...]:
    link = parent.heads.get(place)
    return () if link is None else (link,)


def _text(found: tuple[str, str] | None) -> str | None:
    return None if found is None else found[1]
