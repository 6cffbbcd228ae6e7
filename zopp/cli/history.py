"""Show what happened to a key, or to every key of an environment: who, when, in which commit, signed by whom.

Needs no key. A new ciphertext is a change, if perhaps to the same value; with --keyed zopp opens the versions and says
which were only encrypted anew and which went back to an older value; --reveal shows the values too.
The signer is whom the manifest in that commit names, checked against the policy log; the author is what git says.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from zopp.cli import ahead
from zopp.cli.parser import add_env, epilog
from zopp.errors import UsageError

if TYPE_CHECKING:
    from zopp.cli.context import Context

EXAMPLES = epilog(
    "zopp history DATABASE_URL -e production",
    "zopp history DATABASE_URL --reveal     with every value that it had",
    "zopp history                           every change of the environment",
    "zopp history OLD_TOKEN --json          keys that are gone have a history too",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp history`."""
    parser.add_argument("key", nargs="?", metavar="KEY", help="a name, or a dotted path")
    parser.add_argument("--keyed", action="store_true", help="open the versions to tell what changed its value")
    parser.add_argument("--reveal", action="store_true", help="show the values of KEY")
    parser.add_argument("-n", "--number", type=int, metavar="N", help="the newest N only")
    add_env(parser)


def start(env: Mapping[str, str], cwd: str, args: argparse.Namespace) -> ahead.Started | None:
    """Before the rest is loaded."""
    return ahead.start(env, cwd, args)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.key is None and args.reveal:
        raise UsageError("--reveal shows one key at a time", hint="zopp history KEY --reveal")
    if args.number is not None and args.number < 1:
        raise UsageError("-n takes a number above 0", hint="zopp history -n 10")
    from zopp.cli import events

    return events.tell(ctx, args)
