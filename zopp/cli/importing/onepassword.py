"""Import from 1Password: a 1PUX export, or the items of a vault through the op command.

Passwords, concealed fields, API credentials and SSH keys are taken; --with adds more. An item with one taken field
becomes ITEM, with several ITEM_FIELD; a map file with names = "field" takes an item as a whole environment. Without a
file, op is asked, which must be on PATH and signed in; 1Password records what it reads.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from zopp.cli.context import Context
from zopp.cli.importing.reading import progress, read_source
from zopp.cli.parser import epilog
from zopp.errors import UsageError
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.printable import printable

HELP = "a 1PUX export of 1Password, or a vault through op"
EXAMPLES = epilog(
    "zopp import 1password export.1pux --vault Shop --dry-run",
    "zopp import 1password --vault Shop -e production --yes -m 'import Shop'",
    "zopp import 1password --vault Shop --item database --with username,url",
)

# As `zopp.exchange.sources.onepassword` has it, which is not loaded for a line of help.
EXTRA = ("url", "username", "string", "note")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import 1password`."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="a .1pux file; - reads standard input; none asks op")
    parser.add_argument("--vault", metavar="VAULT", help="only this vault, by its name or id")
    parser.add_argument(
        "--item", action="append", default=[], metavar="ITEM", help="only this item, by its title or id (repeatable)"
    )
    parser.add_argument(
        "--with", dest="extra", action="append", default=[], metavar="KINDS",
        help=f"take these kinds of fields too: {','.join(EXTRA)}",
    )  # fmt: skip
    parser.add_argument("--files", action="store_true", help="take attachments too")
    parser.add_argument("--archived", action="store_true", help="take archived items too")
    parser.add_argument("--reveal", action="store_true", help="pass --reveal to op, where it gives no value without")


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Read the file, or ask op."""
    from zopp.exchange.sources import onepassword, onepux

    take = onepassword.Take(extra=_kinds(args.extra), files=args.files, archived=args.archived)
    if args.file is not None:
        data, locator = read_source(ctx, args.file, most=onepux.MAX_BYTES)
        reading = onepux.read(data, locator, take=take, vault=args.vault or "", items=args.item)
        return replace(reading, plaintext=args.file if args.file != "-" else "")
    if not args.vault:
        raise UsageError(
            "say which file or which vault", code="onepassword.source",
            hint="zopp import 1password FILE.1pux, or zopp import 1password --vault VAULT",
        )  # fmt: skip
    from zopp.cli.importing import opcommand
    from zopp.exchange.sources import op

    run = opcommand.runner(ctx.env)
    ctx.note(f"asking op for items of {printable(args.vault)}; 1Password records what is read")
    return op.read(
        run, vault=args.vault, take=take, items=args.item, reveal=args.reveal,
        progress=progress(ctx, "reading items"),
    )  # fmt: skip


def _kinds(lists: Sequence[str]) -> frozenset[str]:
    kinds = [kind for given in lists for kind in given.replace(" ", "").split(",") if kind]
    if not set(kinds) <= set(EXTRA):
        raise UsageError(f"--with: must be of {', '.join(EXTRA)}", code="onepassword.with")
    return frozenset(kinds)
