"""Import a TOML file of names and values.

Tables keep their path; for a flat target file it is joined with `_`. An array is one value. Comments are not kept, and
a date without quotes is rejected by name."""

import argparse

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, read_one
from zopp.cli.parser import epilog
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import files

HELP = "a TOML file of names and values"
EXAMPLES = epilog(
    "zopp import toml secrets.toml -e production --dry-run",
    "zopp import toml config/secrets.toml --exclude port -m 'import secrets.toml'",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import toml`."""
    add_file(parser, "a TOML file")


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Read the file."""
    return read_one(ctx, args.file, lambda data, locator: files.read(data, "toml", locator), in_clear=True)
