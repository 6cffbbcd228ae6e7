"""What the commands on git's history share: opening it, and its words."""

import argparse
import time
from dataclasses import dataclass
from typing import Any

from zopp.cli import ahead
from zopp.cli.context import Context
from zopp.errors import NotFound, Unknown, ZoppError
from zopp.exchange.scalars import scalar_text
from zopp.printable import printable
from zopp.repo import history, layout, values
from zopp.repo.authors import Author
from zopp.repo.clock import timestamp
from zopp.repo.environment import people_name, scope_of
from zopp.repo.history import Event, History
from zopp.repo.workspace import Workspace
from zopp.sopsfile import Mapping, Sequence
from zopp.sopsfile.comparing import Place

WORDS = {
    history.SET: "set",
    history.SET_ANEW: "changed",
    history.UNSET: "removed",
    history.RENAMED: "renamed from {}",
    history.RENAMED_AWAY: "renamed to {}",
    history.MOVED: "moved from {}",
    history.REKEYED: "rekeyed",
    history.REENCRYPTED: "re-encrypted",
    history.ROLLED_BACK: "rolled back to {}",
}


@dataclass(slots=True)
class Timeline:
    """The history of one environment, and its files in the work tree (path → bytes, None where there is none)."""

    ws: Workspace
    scope: str
    history: History
    work: dict[str, bytes | None]

    @property
    def where(self) -> str:
        """The environment as people name it."""
        return people_name(self.scope)

    def matching(self, typed: str) -> list[Place]:
        """The keys that are meant, of all that there ever were. NotFound with near names."""
        found = self.history.matching(values.parse_key(typed))
        if not found:
            from zopp.sopsfile.comparing import name

            raise NotFound(
                f"{self.where} never had a key {printable(typed)}", code="key.missing",
                candidates=sorted(printable(name(place)) for place in self.history.heads),
            )  # fmt: skip
        return found


def opened(ctx: Context, args: argparse.Namespace) -> Timeline:
    """The history of the environment of -e and -p, from what git was asked ahead where that is it. What is odd about it
    is said on stderr."""
    ws = ctx.workspace(needs_receipt=False)
    scope = scope_of(ws, args.env, args.project)
    listed = ahead.listed(ws.root, scope, ws.settings.files.get(people_name(scope).partition("/")[2], ()))
    wanted = (ws.root, layout.history_paths(scope, listed))
    started = ctx.ahead
    log = started.log if started is not None and (started.root, started.paths) == wanted else None
    work: dict[str, bytes | None] = {}
    for path in sorted(listed):
        try:
            work[path] = ws.read(path)
        except ZoppError as exc:
            ctx.warn(f"{printable(path)}: {exc.message}; only what is committed is shown")
    found = history.read(ws.root, scope, listed, log=log, work=work)
    if found.edge:
        ctx.note("this clone is shallow: history ends at " + ", ".join(sorted(c[:12] for c in found.edge)))
        ctx.note("what is older comes with: git fetch --unshallow")
    return Timeline(ws, scope, found, work)


def when(event_at: int) -> str:
    """A time for people, UTC."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(event_at))


def commit_words(id_: str) -> str:
    """A commit for people."""
    return id_[:12] if id_ else "uncommitted"


def what_words(event: Event, what: str = "", other: str = "") -> str:
    """What happened, in words; `what` and `other` where a key told more."""
    what, other = what or event.what, other if what else event.other
    if what == history.ROLLED_BACK:
        other = commit_words(other)
    text = WORDS[what].format(printable(other))
    if event.edge:
        text += " here or earlier"
    if event.merge:
        text += " in a merge"
    if event.other_type:
        text += ", another type"
    return text


def event_json(event: Event, author: Author, what: str = "", other: str = "") -> dict[str, Any]:
    """The stable form of an event."""
    from zopp.sopsfile.comparing import name

    commit = event.commit
    return {
        "key": name(event.place),
        "file": event.path,
        "what": what or event.what,
        "other": (other if what else event.other) or None,
        "merge": event.merge,
        "edge": event.edge,
        "commit": commit.id or None,
        "at": timestamp(commit.at) if commit.id else None,
        "author": commit.author or None,
        "email": commit.email or None,
        "subject": commit.subject or None,
        "signer": author.principal,
        "signature": author.status,
        "why": author.why or None,
    }


def value_lines(value: object) -> list[str]:
    """A value for people: a line as it is, several lines or a structure indented."""
    if isinstance(value, (Mapping, Sequence)) and value.items:
        import json

        return json.dumps(values.plain(value), ensure_ascii=False, indent=2).split("\n")
    return [printable(line) for line in scalar_text(value).split("\n")]


def require_history(found: Timeline) -> None:
    """Unknown where there is nothing to tell."""
    if not found.history.heads:
        raise Unknown(f"{found.where} has no history yet", code="history.none", hint="zopp set KEY")
