"""Import a .env file.

The reading is strict: lines that tools read in different ways stop the import, with line, key and rule, and the
dialects to choose from. $NAME is never expanded, nothing is run.
"""

import argparse
from dataclasses import replace

from zopp.cli.context import Context
from zopp.cli.importing.reading import read_source
from zopp.cli.nearest import nearest
from zopp.cli.parser import epilog
from zopp.errors import UsageError
from zopp.exchange import dotenv
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import dotenv as source

HELP = "a .env file; the source that is meant if none is named"
EXAMPLES = epilog(
    "zopp import .env",
    "zopp import .env.production -e production --dry-run",
    "zopp import dotenv legacy.env --dialect compose --exclude OLD_KEY -m 'import legacy.env'",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import dotenv`."""
    parser.add_argument("file", metavar="FILE", help="a .env file; - reads standard input")
    parser.add_argument(
        "--dialect", choices=dotenv.DIALECTS, default="auto", help="whose reading counts (default: auto)"
    )
    parser.add_argument("--expand", action="store_true", help="resolve $NAME from names earlier in the same file")


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Read the file."""
    try:
        data, locator = read_source(ctx, args.file, most=dotenv.MAX_BYTES)
    except UsageError as exc:
        near = nearest(args.file, args.sources)
        exc.hint = f"did you mean zopp import {near}?" if near else exc.hint
        raise
    reading = source.read(data, locator, dialect=args.dialect, choices=mapped.reading, expand=args.expand)
    mapped.read_as({entry.name for entry in reading.entries} | {left.name for left in reading.left})
    return replace(reading, plaintext="" if locator == "-" else args.file)
