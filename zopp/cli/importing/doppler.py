"""Import what `doppler secrets download` wrote.

Formats json and yaml. The format env goes through `zopp import dotenv`; dotnet-json and env-no-quotes are refused,
since they change names or cannot be read back."""

import argparse

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, add_format, read_format
from zopp.cli.parser import epilog
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import doppler as source

HELP = "what doppler secrets download wrote"
EXAMPLES = epilog(
    "doppler secrets download --no-file --format json | zopp import doppler - -e production",
    "zopp import doppler doppler.json --dry-run",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import doppler`."""
    add_file(parser, "a download")
    add_format(parser, source.FORMATS)


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Read the file."""
    return read_format(ctx, args, source)
