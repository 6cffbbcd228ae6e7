"""Import what `infisical export` wrote.

Best as json, which has comments and ids. The formats dotenv, csv and yaml lose line breaks in some values."""

import argparse

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, add_format, read_format
from zopp.cli.parser import epilog
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import infisical as source

HELP = "what infisical export wrote"
EXAMPLES = epilog(
    "infisical export --env=prod --format=json --secret-overriding=false | zopp import infisical - -e production",
    "zopp import infisical secrets.json --dry-run",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import infisical`."""
    add_file(parser, "an export")
    add_format(parser, source.FORMATS)


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Read the file."""
    return read_format(ctx, args, source)
