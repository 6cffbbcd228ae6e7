"""Old values as a new change: encrypted to today's recipients under today's data key (S57, S58).

Only plaintext comes from the older version; its recipients, data key, selector and comments stay where they are. The
version has to be one that a writer signed then: else whoever can push would choose what a rollback writes.

Documents of a file pair up by position, as in a merge. A typed key is one of the first document, as everywhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from zopp import sopsfile
from zopp.errors import IntegrityError, NotFound, UsageError
from zopp.repo import exposure, git, layout, versions
from zopp.repo.draft import Draft
from zopp.repo.environment import Environment
from zopp.repo.history import KEEPS_VALUE, RENAMED_AWAY, UNSET, WORK_TREE, Event, History, Link
from zopp.repo.unlock import Keyring
from zopp.repo.values import Edited, Path, apply, check_writable
from zopp.repo.versions import File, Version
from zopp.sopsfile import Drop, Put, Tree
from zopp.sopsfile.comparing import Outline, Place, name


@dataclass(frozen=True, slots=True)
class Target:
    """Where a rollback goes: a commit, and the name that the key had there."""

    commit: str
    place: Place | None = None


@dataclass(slots=True)
class Rollback:
    """What was drafted. `knew`: former readers, as people name them, who could read what is written back; `could`: of a
    brokered environment, where they could have asked for it. `removed`: keys that did not exist then."""

    edited: Edited
    commit: str
    knew: list[str] = field(default_factory=list)
    could: bool = False
    removed: list[str] = field(default_factory=list)
    reopened: list[str] = field(default_factory=list)


def steps_back(history: History, place: Place, steps: int) -> Target:
    """The value that a key had `steps` changes ago. NotFound where it had not so many."""
    line = list(_line(history.heads[place]))
    at = [n for n, event in enumerate(line) if event.what not in (*KEEPS_VALUE, RENAMED_AWAY)]
    if steps >= len(at):
        raise NotFound(
            f"{name(place)} had {len(at)} value{'s' * (len(at) != 1)} so far, counting what is removed",
            code="version.none", hint=f"see them with: zopp history {name(place)}",
        )  # fmt: skip
    ended = line[at[steps - 1]].commit
    if len(ended.parents) != 1:
        return Target(line[at[steps]].commit.id, line[at[steps]].place)
    # The last version that had the value is encrypted to more of today's readers than the one that set it.
    return Target(ended.parents[0], line[at[steps - 1] + 1].place)


def _line(link: Link | None) -> Iterable[Event]:
    """The events that led to what is there, newest first."""
    while link is not None:
        if link.event is not None:
            yield link.event
        link = link.before[0] if link.before else None


def all_steps_back(history: History, steps: int) -> Target:
    """The state before the last `steps` commits that changed a value of the environment, along the line of first
    parents."""
    changing = {e.commit.id for e in history.events() if e.what not in KEEPS_VALUE and e.what != RENAMED_AWAY}
    at = {commit.id: commit for commit in history.commits}
    here = history.commits[0].id if history.commits else None
    left = steps
    while here is not None and here in at:
        commit = at[here]
        here = commit.parents[0] if commit.parents else None
        left -= commit.id in changing
        if left == 0 and here is not None:
            return Target(here)
    raise NotFound(
        f"the environment has not had {steps} change{'s' * (steps != 1)}",
        code="version.none",
        hint="see them with: zopp history",
    )


def then_called(history: History, version: Version, place: Place) -> Place:
    """The name under which a version has a key that may have had another since. NotFound if it has none."""
    there = {p for file in version.files.values() if (outline := file.outline) is not None for p in outline.leaves}
    if place in there:
        return place
    older = [event.place for event in history.of([place]) if event.place in there]
    if not older:
        raise NotFound(
            f"{name(place)} is not there in {(version.commit or '')[:12]}",
            code="key.missing", hint=f"see when it was with: zopp history {name(place)}",
        )  # fmt: skip
    return older[0]


def roll_back(
    draft: Draft,
    env: Environment,
    keyring: Keyring,
    history: History,
    version: Version,
    key: Path | None,
    then: Path | None,
    *,
    on_old_base: bool = False,
) -> Rollback:
    """Draft `key` (None: everything) as `version` has it, there under the name `then`. Denied for who may not write,
    and for who cannot open the version; IntegrityError if nobody signed it."""
    check_writable(draft, env, on_old_base=on_old_base)
    ws = draft.ws
    files = [file for file in version.files.values() if key is None or then is None or _holds(file, then)]
    for file in files:
        _require_signed(file, version)
    wanted: list[versions.Wanted] = [(f.path, f.sops, f.author.entry) for f in files if f.sops is not None]
    current = [
        (path, f.sops, env.manifest.files[path])
        for path, f in env.files.items()
        if f.sops is not None and env.manifest is not None
    ]
    opened = versions.keys(ws, env.scope, [*wanted, *current], keyring, "edit")
    old = [versions.decrypt(w[0], w[1], k) for w, k in zip(wanted, opened, strict=False)]
    now: dict[str, Tree] = {}
    for (path, sops, _), each in zip(current, opened[len(wanted) :], strict=True):
        draft.keys[path] = each.data
        now[path] = versions.decrypt(path, sops, each)
    if key is not None and not files:
        _only_elsewhere(now, version, key, key if then is None else then)
    changes, removed = _changes(env, files, old, now, key, then)
    edited = Edited({})
    for home, clear, todo in changes:
        if not todo:
            continue
        goes_to = None if home is None else _typed(draft, home)
        part = apply(draft, env, keyring, todo, file=goes_to, allow_clear=clear, on_old_base=on_old_base)
        for where, keys in part.changed.items():
            edited.changed.setdefault(where, []).extend(keys)
        _read_again(draft, env)
    for marked, data in exposure.mark_changed(ws, env.scope, edited.changed).items():
        draft.put(marked, data)
    made = Rollback(edited, version.commit or WORK_TREE, removed=[name(place) for place in removed])
    if edited:
        brokered = ws.state.envs[env.scope].kind == "brokered"
        recipients = _knew(ws.root, history, files, then)
        readers = set(draft.state.readers(env.scope).values())
        made.knew = sorted(_person(draft, r) for r in recipients - readers if _person(draft, r))
        made.could = brokered
        made.reopened = _reopen(draft, env, edited, recipients - readers)
    return made


def _typed(draft: Draft, path: str) -> str:
    folder = draft.ws.folder
    return path[len(folder) + 1 :] if folder and path.startswith(folder + "/") else path


def _holds(file: File, path: Path) -> bool:
    outline = file.outline
    return outline is not None and any(_below(place, path) for place in outline.leaves)


def _below(place: Place, path: Path) -> bool:
    """Whether a leaf is what a typed key names: itself, or below it, in the first document."""
    return place[0] == 0 and [str(part) for part in place[1][: len(path)]] == [str(part) for part in path]


def _require_signed(file: File, version: Version) -> None:
    if file.author.status == "verified" and file.sops is not None:
        return
    why = file.author.why or "it cannot be read"
    raise IntegrityError(
        f"nobody who could write then is known to have signed it in {(version.commit or '')[:12]} ({why}); "
        "a rollback writes only what was signed",
        code="version.unsigned", place=file.path,
        hint="look at the value with `zopp show REV KEY --reveal` and set it yourself: zopp set KEY",
    )  # fmt: skip


def _changes(
    env: Environment,
    files: Sequence[File],
    old: Sequence[Tree],
    now: Mapping[str, Tree],
    key: Path | None,
    then: Path | None,
) -> tuple[list[tuple[str | None, bool, list[Put | Drop]]], list[Place]]:
    """(file, in the clear, what brings it back), in this order; and what is removed. The file is that of new keys: the
    one that had them, if the environment has it still; what is there is changed where it stands. In another document
    than the first everything stays in its file."""
    out: dict[tuple[str | None, bool], list[Put | Drop]] = {}
    drops: dict[str | None, list[Put | Drop]] = {None: []}
    removed: list[Place] = []
    before = dict(zip([file.path for file in files], old, strict=True))
    if key is None:
        _paired(now, before)
    at: dict[tuple[str | None, Place], str] = {}
    for path, tree in now.items():
        for place in _places(tree, key):
            at.setdefault((path if place[0] else None, place), path)
    there: set[tuple[str | None, Place]] = set()
    for file in files:
        outline = file.outline
        assert outline is not None
        for number, leaf in _places(before[file.path], then):
            if then is not None and not _meant(leaf, then):
                continue
            value = sopsfile.lookup(before[file.path].documents[number], leaf)
            goal = leaf if key is None or then is None else (*key[: len(leaf)], *leaf[len(then) :])
            owner = file.path if number else None
            there.add((owner, (number, goal)))
            stands = at.get((owner, (number, goal)))
            if stands is not None and sopsfile.same(sopsfile.lookup(now[stands].documents[number], goal), value):
                continue
            clear = _in_the_clear(outline, (number, leaf))
            home = owner or (file.path if stands is None and file.path in env.files else None)
            out.setdefault((home, clear), []).append(Put(goal, value, document=number))
    for (owner, (number, leaf)), _ in at.items():
        if (owner, (number, leaf)) not in there and (key is None or _below((number, leaf), key)):
            drops.setdefault(owner, []).append(Drop(leaf, prune=True, document=number))
            removed.append((number, leaf))
    # What goes, goes first: where a mapping stood a value may have to stand, and the other way round.
    gone = [(owner, False, todo) for owner, todo in drops.items()]
    return [*gone, *((*where, todo) for where, todo in out.items())], removed


def _only_elsewhere(now: Mapping[str, Tree], version: Version, key: Path, then: Path) -> None:
    """Refuse a key that only another document than the first has, now or then: nothing that is typed names it."""
    numbers: set[int] = set()
    for tree in now.values():
        for number, document in enumerate(tree.documents):
            numbers.update(number for leaf in _leaves(document) if _below((0, leaf), key))
    for file in version.files.values():
        outline = file.outline
        numbers.update(place[0] for place in (outline.leaves if outline else ()) if _below((0, place[1]), then))
    if numbers and 0 not in numbers:
        raise UsageError(
            f"{exposure.dotted(key)} stands in another document than the first, and a typed key is one of the first",
            code="documents", hint="bring back all keys: zopp rollback --all, with the same --to or --steps",
        )  # fmt: skip


def _paired(now: Mapping[str, Tree], before: Mapping[str, Tree]) -> None:
    """Refuse where documents do not pair up: a file of several then or now that has another number on the other side,
    or is not there."""
    for path in sorted({*now, *before}):
        counts = [len(side[path].documents) if path in side else 0 for side in (before, now)]
        if max(counts) > 1 and counts[0] != counts[1]:
            was, has = (f"{count} documents" if count > 1 else ("one", "no file")[not count] for count in counts)
            raise UsageError(
                f"had {was} then and has {has} now, so which of them belong together cannot be told",
                code="documents", place=path,
                hint="bring back single keys of the first document (zopp rollback KEY …), or write the file: zopp edit",
            )  # fmt: skip


def _places(tree: Tree, typed: Path | None) -> Iterable[Place]:
    """What is set as one, in all documents, or in the first one where a key is typed."""
    for number, document in enumerate(tree.documents[: None if typed is None else 1]):
        for leaf in _leaves(document):
            yield number, leaf


def _in_the_clear(outline: Outline, at: Place) -> bool:
    from zopp.sopsfile.comparing import kind_of

    return any(
        kind_of(leaf).clear
        for place, leaf in outline.leaves.items()
        if place[0] == at[0] and place[1][: len(at[1])] == at[1]
    )


def _leaves(node: object, path: Path = ()) -> Iterable[Path]:
    """What is set as one: scalars, and lists as a whole, since their items have no names of their own."""
    if isinstance(node, sopsfile.Mapping) and (node.keys() or not path):
        for name_ in list(node.keys()):
            yield from _leaves(node.get(name_), (*path, name_))
    else:
        yield path


def _meant(leaf: Path, then: Path) -> bool:
    """Whether what is set as one is what a typed key names."""
    return [str(part) for part in leaf[: len(then)]] == [str(part) for part in then] or _leads_to(leaf, then)


def _leads_to(leaf: Path, then: Path) -> bool:
    """Whether a leaf is the list in which the key stands: that goes back as a whole."""
    return len(leaf) < len(then) and [str(p) for p in leaf] == [str(p) for p in then[: len(leaf)]]


def _read_again(draft: Draft, env: Environment) -> None:
    """What was just drafted is what the next change stands on."""
    from dataclasses import replace

    for path, (_, data) in draft.changes.items():
        if data is not None and path in env.files:
            sops = sopsfile.read(data, sopsfile.format_of(path), strict=True)
            env.files[path] = replace(env.files[path], sops=sops)


def _knew(root: str, history: History, files: Sequence[File], then: Path | None) -> set[str]:
    """The recipients of every version in which what is written back stood with the same ciphertexts."""
    wanted: dict[Place, set[str]] = {}
    for file in files:
        outline = file.outline
        for place, leaf in outline.leaves.items() if outline is not None else ():
            if then is None or _below(place, then):
                wanted.setdefault(place, set()).add(str(leaf[3]))
    _through_new_keys(history, wanted, root)
    found: set[str] = set()
    for file in files:
        if file.sops is not None:
            found |= {entry.recipient for entry in file.sops.metadata.groups[0]}
    paths = {path for event in history.events() for path in (event.path,)} | {file.path for file in files}
    with git.Batch(root) as batch:
        seen: set[str] = set()
        for commit in history.commits:
            for path, blob in commit.changed.items():
                if path not in paths or blob is None or blob in seen:
                    continue
                seen.add(blob)
                answer = batch.get(blob)
                outline = None if answer is None else _read(path, answer[1])
                if outline is None:
                    continue
                if any(str(leaf[3]) in wanted.get(place, ()) for place, leaf in outline.leaves.items()):
                    found |= {entry.recipient for entry in outline.scan.metadata.groups[0]}
    return found


def _through_new_keys(history: History, wanted: dict[Place, set[str]], root: str) -> None:
    """Add the ciphertexts that the same values had before and after they were only encrypted anew."""
    with git.Batch(root) as batch:

        def text(event: Event) -> tuple[Place, str] | None:
            answer = batch.get(event.blob) if event.blob and event.commit.id != WORK_TREE else None
            outline = None if answer is None else _read(event.path, answer[1])
            leaf = None if outline is None else outline.leaves.get(event.place)
            return None if leaf is None else (event.place, str(leaf[3]))

        for place in list(wanted):
            runs: list[list[Event]] = [[]]
            for event in _line(history.heads.get(place)):
                if event.what in (UNSET, RENAMED_AWAY):
                    runs.append([])
                    continue
                runs[-1].append(event)
                if event.what not in KEEPS_VALUE:
                    runs.append([])
            for run in runs:
                if len(run) < 2:
                    continue
                texts = [found for event in run if (found := text(event)) is not None]
                if any(value in wanted.get(at, ()) for at, value in texts):
                    for at, value in texts:
                        wanted.setdefault(at, set()).add(value)


def _read(path: str, data: bytes) -> Outline | None:
    from zopp.errors import FormatError

    try:
        return Outline.read(data, sopsfile.format_of(path))
    except FormatError:
        return None


def _person(draft: Draft, recipient: str) -> str:
    """Whose a recipient was: the user and device, or the service; '' for the server's own keys."""
    owner = draft.state.recipient_owner(recipient)
    if owner is None:
        return f"somebody unknown ({recipient[:12]}…)"
    principal = draft.state.principals.get(owner)
    if ":" in owner:
        return ""
    return owner if principal is None or principal.user is None else f"{principal.user} ({owner})"


def _reopen(draft: Draft, env: Environment, edited: Edited, recipients: set[str]) -> list[str]:
    """An exposed value that is back is no longer changed at its source: mark it open again for those who had it."""
    from zopp.repo.environment import people_name

    holders = set()
    for recipient in recipients:
        owner = draft.state.recipient_owner(recipient)
        principal = draft.state.principals.get(owner or "")
        holders |= {owner} | ({principal.holder} if principal is not None else set())
    out = []
    for found in exposure.load_all(draft.ws):
        if found.subject not in holders:
            continue
        path = f"{layout.EXPOSURE}/{found.name}"
        drafted = draft.changes[path][1] if path in draft.changes else None
        if drafted is not None:
            found = exposure.parse(drafted, path)
        hit = False
        for where, keys in edited.changed.items():
            listed = found.keys.get(people_name(env.scope), {}).get(where, {})
            for key in keys:
                if key in listed and listed[key] != exposure.OPEN:
                    listed[key] = exposure.OPEN
                    hit = True
                    out.append(key)
                elif key in listed:
                    out.append(key)
        if hit:
            draft.put(path, found.dump())
    return sorted(set(out))
