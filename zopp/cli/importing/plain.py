"""Files of names and values in forms that many programs write: JSON, YAML, TOML, CSV. A source for each."""

import argparse
import textwrap

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, read_one
from zopp.cli.parser import epilog
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import files


class PlainFile:
    """What a module is for the other sources."""

    def __init__(self, form: str, help: str, about: str, *examples: str) -> None:
        self.HELP, self.EXAMPLES = help, epilog(*examples)
        self.__doc__ = f"Import {help}.\n\n{textwrap.fill(about, 119)}"
        self._form = form

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """The flags of `zopp import FORM`."""
        add_file(parser, f"a {self._form.upper()} file")

    def read(self, ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
        """Read the file."""
        return read_one(ctx, args.file, lambda data, locator: files.read(data, self._form, locator), in_clear=True)


json = PlainFile(
    "json",
    "a JSON file of names and values",
    "Nested objects keep their path; for a flat target file it is joined with `_`. A list is one value. A key "
    "that stands twice is an error, and a number that would not be written again as it stands is rejected by name.",
    "zopp import json secrets.json -e production --dry-run",
    "jq '.database' config.json | zopp import json -",
)
yaml = PlainFile(
    "yaml",
    "a YAML file of names and values",
    "Nested maps keep their path; for a flat target file it is joined with `_`. A list is one value, comments "
    "above a key become its note. What YAML readers take for different things without quotes (dates, yes, 0123) is "
    "rejected by name.",
    "zopp import yaml secrets.yaml -e production --dry-run",
    "sops decrypt old.yaml | zopp import yaml -",
)
toml = PlainFile(
    "toml",
    "a TOML file of names and values",
    "Tables keep their path; for a flat target file it is joined with `_`. An array is one value. Comments are "
    "not kept, and a date without quotes is rejected by name.",
    "zopp import toml secrets.toml -e production --dry-run",
    "zopp import toml config/secrets.toml --exclude port -m 'import secrets.toml'",
)
csv = PlainFile(
    "csv",
    "a CSV file with the columns key and value",
    "The first line names the columns: one is `key` or `name`, one is `value`, and one may be `note`, `comment` or "
    "`description`. Others are not read.",
    "zopp import csv secrets.csv -e production --dry-run",
    "zopp import csv export.csv --map import.toml -m 'import export.csv'",
)
