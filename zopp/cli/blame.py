"""Show for each key of an environment which commit gave it its present value, and who signed it.

Needs no key. New data keys, merges that only encrypt anew, and renames are passed over, as they keep the value.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from zopp.cli import ahead
from zopp.cli.parser import add_env, epilog

if TYPE_CHECKING:
    from zopp.cli.context import Context

EXAMPLES = epilog("zopp blame", "zopp blame DATABASE_URL -e production", "zopp blame --json")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp blame`."""
    parser.add_argument("key", nargs="?", metavar="KEY", help="a name, or a dotted path")
    add_env(parser)


def start(env: Mapping[str, str], cwd: str, args: argparse.Namespace) -> ahead.Started | None:
    """Before the rest is loaded."""
    return ahead.start(env, cwd, args)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    from zopp.cli import timeline
    from zopp.cli.context import table
    from zopp.cli.timeline import commit_words, event_json, what_words, when
    from zopp.printable import printable
    from zopp.repo.authors import Authors
    from zopp.sopsfile.comparing import name

    found = timeline.opened(ctx, args)
    timeline.require_history(found)
    present = found.history.present
    places = list(present) if args.key is None else found.matching(args.key)
    events = [(place, event) for place in places if (event := found.history.last(place)) is not None]
    with Authors(found.ws, found.scope, found.history, found.work) as authors:
        if ctx.as_json:
            rows = [{**event_json(event, authors.of(event)), "key": name(place)} for place, event in events]
            ctx.data({"environment": found.where, "shallow": bool(found.history.edge), "keys": rows})
            return 0
        for line in table(
            (
                printable(name(place)),
                commit_words(event.commit.id),
                when(event.commit.at) if event.commit.id else "",
                printable(event.commit.author),
                authors.of(event).words(),
                what_words(event),
                printable(event.commit.subject),
            )
            for place, event in events
        ):
            ctx.out(line)
    return 0
