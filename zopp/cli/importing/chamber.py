"""Import what `chamber export` wrote.

Formats json, yaml and csv. Keys become upper case with `_` for `-`, as `chamber exec` has them."""

import argparse

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, add_format, read_format
from zopp.cli.parser import epilog
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import chamber as source

HELP = "what chamber export wrote"
EXAMPLES = epilog(
    "chamber export api | zopp import chamber - -e production",
    "zopp import chamber api.json --dry-run",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import chamber`."""
    add_file(parser, "an export")
    add_format(parser, source.FORMATS)


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Read the file."""
    return read_format(ctx, args, source)
