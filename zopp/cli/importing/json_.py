"""Import a JSON file of names and values.

Nested objects keep their path; for a flat target file it is joined with `_`. A list is one value. A key that stands
twice is an error, and a number that would not be written again as it stands is rejected by name."""

import argparse

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, read_one
from zopp.cli.parser import epilog
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import files

HELP = "a JSON file of names and values"
EXAMPLES = epilog(
    "zopp import json secrets.json -e production --dry-run",
    "jq '.database' config.json | zopp import json -",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import json`."""
    add_file(parser, "a JSON file")


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Read the file."""
    return read_one(ctx, args.file, lambda data, locator: files.read(data, "json", locator), in_clear=True)
