"""Import a CSV file of names and values.

The first line names the columns: one is `key` or `name`, one is `value`, and one may be `note`, `comment` or
`description`. Others are not read."""

import argparse

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, read_one
from zopp.cli.parser import epilog
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import files

HELP = "a CSV file with the columns key and value"
EXAMPLES = epilog(
    "zopp import csv secrets.csv -e production --dry-run",
    "zopp import csv export.csv --map import.toml -m 'import export.csv'",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import csv`."""
    add_file(parser, "a CSV file")


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Read the file."""
    return read_one(ctx, args.file, lambda data, locator: files.read(data, "csv", locator), in_clear=True)
