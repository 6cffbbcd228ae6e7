"""What `zopp history` tells, event by event or commit by commit."""

import argparse
from collections.abc import Mapping

from zopp.cli import timeline
from zopp.cli.context import Context, table
from zopp.cli.timeline import Timeline, commit_words, event_json, what_words, when
from zopp.printable import printable
from zopp.repo import brokered
from zopp.repo.authors import Authors
from zopp.repo.history import Event, FileEvent
from zopp.repo.revealing import Revealed, reveal
from zopp.repo.values import plain
from zopp.sopsfile.comparing import name, selector_words


def tell(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    found = timeline.opened(ctx, args)
    timeline.require_history(found)
    places = list(found.history.heads) if args.key is None else found.matching(args.key)
    events = found.history.of(places)
    with Authors(found.ws, found.scope, found.history, found.work) as authors:
        told: list[Revealed] | None = None
        if args.keyed or args.reveal:
            told = reveal(found.ws, found.scope, found.history, events, authors, ctx.keyring, found.work)
            told = told[: args.number] if args.key else told
        if args.key is None:
            return _all(ctx, args, found, events, authors, told)
        events = events[: args.number]
        if ctx.as_json:
            rows = []
            for number, event in enumerate(events):
                row = event_json(event, authors.of(event), *_told(told, number))
                if told is not None and args.reveal:
                    row["value"] = plain(told[number].value)
                    row["hidden"] = told[number].hidden or None
                rows.append(row)
            ctx.data({"environment": found.where, "shallow": bool(found.history.edge), "events": rows})
            return 0
        several = len({event.place for event in events}) > 1
        lines = table(
            [
                (
                    commit_words(event.commit.id),
                    when(event.commit.at) if event.commit.id else "",
                    printable(event.commit.author),
                    authors.of(event).words(),
                    *([printable(name(event.place))] if several else []),
                    what_words(event, *_told(told, number)),
                    printable(event.commit.subject),
                )
                for number, event in enumerate(events)
            ]
        )
        for number, line in enumerate(lines):
            ctx.out(line)
            if told is not None and args.reveal:
                for text in _value(told[number]):
                    ctx.out(f"    {text}")
    return 0


def _told(told: list[Revealed] | None, number: int) -> tuple[str, str]:
    return ("", "") if told is None else (told[number].what, told[number].other)


def _value(found: Revealed) -> list[str]:
    if found.hidden:
        return [f"(not shown: {found.hidden})"]
    if found.value is None and found.what in ("removed", "renamed away"):
        return []
    lines = timeline.value_lines(found.value)
    return lines if found.signed else [*lines, "(no manifest of that commit lists this version: nobody signed it)"]


def _all(
    ctx: Context,
    args: argparse.Namespace,
    found: Timeline,
    events: list[Event],
    authors: Authors,
    told: list[Revealed] | None,
) -> int:
    """Commit by commit."""
    by_commit: dict[str, list[tuple[Event, tuple[str, str]]]] = {}
    for number, event in enumerate(events):
        by_commit.setdefault(event.commit.id, []).append((event, _told(told, number)))
    names = brokered.describe(found.ws.state, found.scope)
    files: dict[str, list[FileEvent]] = {}
    for each in found.history.files:
        if each.comparison is None or _outside(each, names) or not each.comparison.changes:
            files.setdefault(each.commit.id, []).append(each)
    rows = []
    shown = 0
    for commit in found.history.commits:
        mine, others = by_commit.get(commit.id, []), files.get(commit.id, [])
        lines = [f"  {printable(name(event.place))}: {what_words(event, *words)}" for event, words in mine]
        lines += [f"  {printable(each.path)}: {text}" for each in others for text in _outside(each, names)]
        if not lines:
            continue
        shown += 1
        if args.number is not None and shown > args.number:
            break
        author = authors.of(mine[0][0]).words() if mine else ""
        rows.append(
            {
                "commit": commit.id or None,
                "events": [event_json(event, authors.of(event), *words) for event, words in mine],
                "files": [{"file": each.path, "notes": _outside(each, names)} for each in others],
            }
        )
        if ctx.as_json:
            continue
        head = [commit_words(commit.id)]
        if commit.id:
            head += [when(commit.at), printable(commit.author)]
        ctx.out("  ".join([*head, *([author] if author else []), printable(commit.subject)]).rstrip())
        rekeyed = [event for event, words in mine if (words[0] or event.what) == "rekeyed"]
        if len(rekeyed) > 3:
            lines = [f"  {len(rekeyed)} keys: rekeyed"] + [line for line in lines if not line.endswith(": rekeyed")]
        for line in lines:
            ctx.out(line)
    if ctx.as_json:
        ctx.data({"environment": found.where, "shallow": bool(found.history.edge), "commits": rows})
    return 0


def _outside(found: FileEvent, names: Mapping[str, str]) -> list[str]:
    """What a commit did to a file beside its values."""
    if found.comparison is None:
        return ["is gone, or no regular file any more" if found.gone else "is no sops file that can be read here"]
    out = []
    compared = found.comparison
    if compared.shape is None or None not in compared.shape:
        out += [f"recipient added: {printable(names.get(r, r))}" for r in compared.recipients.added]
        out += [f"recipient removed: {printable(names.get(r, r))}" for r in compared.recipients.removed]
        if compared.shape is not None:
            out.append("key groups changed: " + " → ".join(s.words() for s in compared.shape if s is not None))
        if compared.selector is not None:
            words = " → ".join(printable(selector_words(s)) for s in compared.selector if s is not None)
            out.append(f"selector changed: {words}")
        if compared.mac == (True, False):
            out.append("the MAC is gone")
    return out
