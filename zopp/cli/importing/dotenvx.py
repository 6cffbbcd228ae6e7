"""Import a .env file with values encrypted by dotenvx.

Private keys are taken from DOTENV_PRIVATE_KEY, DOTENV_PRIVATE_KEY_PRODUCTION and so on, and from .env.keys beside the
file. Values are stored as they decrypt: $NAME is not expanded and nothing is run. Values that are not encrypted are
imported, too, and listed as to be changed.
"""

import argparse
import os

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, placed, read_one
from zopp.cli.inputs import unreadable
from zopp.cli.parser import epilog
from zopp.exchange import dotenv
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import dotenvx as source

HELP = "a .env file encrypted by dotenvx"
EXAMPLES = epilog(
    "zopp import dotenvx .env.production -e production --dry-run",
    "zopp import dotenvx .env --keys ../vault/.env.keys -m 'import .env'",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import dotenvx`."""
    add_file(parser, "a .env file")
    parser.add_argument("--keys", metavar="FILE", help="the file with private keys (default: .env.keys beside it)")


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Open the file."""
    keys = {name: value for name, value in ctx.env.items() if name.startswith(source.PRIVATE)}
    beside = "" if args.file == "-" else os.path.join(os.path.dirname(args.file), ".env.keys")
    path = args.keys or beside
    found = _keys(ctx, path, wanted=args.keys is not None) if path else {}
    # The environment's come first, as in dotenvx; a comma separates keys that are tried in turn.
    both = {name: ",".join([keys.get(name, ""), found.get(name, "")]) for name in {*keys, *found}}
    return read_one(
        ctx, args.file, lambda data, locator: source.read(data, locator, both, keys_place=path if found else ""),
        in_clear=False, most=dotenv.MAX_BYTES,
    )  # fmt: skip


def _keys(ctx: Context, path: str, *, wanted: bool) -> dict[str, str]:
    try:
        with open(os.path.join(ctx.cwd, path), "rb") as file:
            data = file.read(dotenv.MAX_BYTES + 1)
    except OSError as exc:
        if isinstance(exc, FileNotFoundError) and not wanted:
            return {}
        raise unreadable(exc, path, ctx.cwd) from None
    with placed(path):
        return source.keys_of(data)
