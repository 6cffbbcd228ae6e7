"""Import a YAML file of names and values.

Nested maps keep their path; for a flat target file it is joined with `_`. A list is one value, comments above a key
become its note. What YAML readers take for different things without quotes (dates, yes, 0123) is rejected by name."""

import argparse

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, read_one
from zopp.cli.parser import epilog
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import files

HELP = "a YAML file of names and values"
EXAMPLES = epilog(
    "zopp import yaml secrets.yaml -e production --dry-run",
    "sops decrypt old.yaml | zopp import yaml -",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import yaml`."""
    add_file(parser, "a YAML file")


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Read the file."""
    return read_one(ctx, args.file, lambda data, locator: files.read(data, "yaml", locator), in_clear=True)
