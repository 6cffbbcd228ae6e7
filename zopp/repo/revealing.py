"""What the events of a key's history mean once a key is at hand: values, and what only values tell.

A new ciphertext may hold the value that was there; a change may hide in a new data key; a value may be one that the key
had before. Each version that is needed is opened once, those of a brokered environment by one request.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from zopp import sopsfile
from zopp.errors import ZoppError
from zopp.policy.manifest import FileEntry
from zopp.repo import git, versions
from zopp.repo.authors import Authors
from zopp.repo.history import (
    REENCRYPTED,
    REKEYED,
    RENAMED,
    RENAMED_AWAY,
    ROLLED_BACK,
    SET,
    SET_ANEW,
    UNSET,
    WORK_TREE,
    Event,
    History,
    Link,
)
from zopp.repo.unlock import Keyring
from zopp.repo.workspace import Workspace
from zopp.sopsfile import SopsFile


@dataclass(frozen=True, slots=True)
class Revealed:
    """An event with what a key tells: `what` as in `history`, `other` the commit whose value this is again, `value` the
    node that stands there afterwards (None of a removal). `hidden` says why there is none: no key of ours opens that
    version. `signed`: a manifest of that commit lists the version."""

    event: Event
    what: str
    other: str
    value: object = field(repr=False)
    hidden: str = ""
    signed: bool = True


def reveal(
    ws: Workspace,
    scope: str,
    history: History,
    events: Sequence[Event],
    authors: Authors,
    keyring: Keyring,
    work: dict[str, bytes | None],
) -> list[Revealed]:
    """`events` in their order, newest first, opened. Versions that are not encrypted to us are left hidden; if none
    is, the error of the newest is raised."""
    wanted: dict[tuple[str, str], tuple[str, SopsFile, FileEntry | None]] = {}
    with git.Batch(ws.root) as batch:
        for event in events:
            key = (event.path, event.blob)
            if event.what in (UNSET, RENAMED_AWAY) or key in wanted:
                continue
            data = work.get(event.path) if event.commit.id == WORK_TREE else _blob(batch, event.blob)
            if data is None:
                continue
            sops = sopsfile.read(data, sopsfile.format_of(event.path), strict=False)
            wanted[key] = (event.path, sops, authors.of(event).entry)
    trees, hidden = _open(ws, scope, wanted, keyring)
    values: dict[int, object] = {}
    why: dict[int, str] = {}
    for event in events:
        key = (event.path, event.blob)
        if event.what in (UNSET, RENAMED_AWAY):
            continue
        if key in trees:
            document, path = event.place
            values[id(event)] = sopsfile.lookup(trees[key].documents[document], path)
        else:
            why[id(event)] = hidden.get(key, "this version is gone")
    before = _before(history, events)
    out = []
    for event in events:
        what, other = event.what, event.other
        if id(event) in values and what not in (RENAMED,):
            what, other = _told(event, values, before)
        signed = key_signed(authors, event)
        out.append(Revealed(event, what, other, values.get(id(event)), why.get(id(event), ""), signed))
    return out


def key_signed(authors: Authors, event: Event) -> bool:
    """Whether a manifest of the event's commit lists the version."""
    return authors.of(event).principal is not None


def _blob(batch: git.Batch, blob: str) -> bytes | None:
    answer = batch.get(blob)
    return None if answer is None else answer[1]


def _open(
    ws: Workspace,
    scope: str,
    wanted: dict[tuple[str, str], tuple[str, SopsFile, FileEntry | None]],
    keyring: Keyring,
) -> tuple[dict[tuple[str, str], sopsfile.Tree], dict[tuple[str, str], str]]:
    """All at once, so that one request carries them. Only where one of them is not for us, those that may be: by their
    recipients, again at once."""
    if not wanted:
        return {}, {}
    try:
        return dict(zip(wanted, versions.open_all(ws, scope, list(wanted.values()), keyring), strict=True)), {}
    except ZoppError as first:
        mine = keyring.recipients()
        ours = {
            key: each
            for key, each in wanted.items()
            if any(entry.recipient in mine for entry in each[1].metadata.groups[0])
        }
        if not ours or len(ours) == len(wanted):
            raise
        trees = dict(zip(ours, versions.open_all(ws, scope, list(ours.values()), keyring), strict=True))
        return trees, {key: first.message for key in wanted if key not in ours}


def _before(history: History, events: Sequence[Event]) -> dict[int, list[Event]]:
    """Event → the events of its own past, nearest first, of those that are shown."""
    shown = {id(event) for event in events}
    links: dict[int, Link] = {}
    todo = list(history.heads.values())
    seen: set[int] = set()
    while todo:
        link = todo.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        if link.event is not None and id(link.event) in shown:
            links[id(link.event)] = link
        todo += link.before
    out: dict[int, list[Event]] = {}
    for event in events:
        past: list[Event] = []
        done: set[int] = set()
        queue = list(links[id(event)].before)
        while queue:
            link = queue.pop(0)
            if id(link) in done:
                continue
            done.add(id(link))
            if link.event is not None and id(link.event) in shown:
                past.append(link.event)
            queue += link.before
        out[id(event)] = past
    return out


def _told(event: Event, values: dict[int, object], before: dict[int, list[Event]]) -> tuple[str, str]:
    """The class by plaintext: the same value sealed anew, a value from before, or another one."""
    past = before[id(event)]
    now = values[id(event)]
    known = [old for old in past if id(old) in values]
    if past and id(past[0]) in values and sopsfile.same(values[id(past[0])], now):
        return (REKEYED if event.what == REKEYED else REENCRYPTED), ""
    for old in known:
        if sopsfile.same(values[id(old)], now):
            return ROLLED_BACK, old.commit.id
    if event.what in (REKEYED, REENCRYPTED, ROLLED_BACK):
        return (SET_ANEW if past else SET), ""
    return event.what, event.other
