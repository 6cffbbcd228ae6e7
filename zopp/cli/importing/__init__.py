"""The sources of `zopp import`, each with its flags and how it is reached."""

import argparse
from typing import Protocol

from zopp.cli.context import Context
from zopp.cli.importing import (
    aws_sm,
    chamber,
    doppler,
    dotenv,
    dotenvx,
    fnox,
    infisical,
    kubernetes,
    onepassword,
    plain,
    sops,
    vault,
)
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile


class Source(Protocol):
    """What a module has that is one: its docstring, too, is shown to people."""

    __doc__: str | None
    HELP: str
    EXAMPLES: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Its flags, beside those that all have."""

    def read(self, ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
        """What it says. It writes nothing and asks nobody whether to."""


# In the order of the help.
SOURCES: dict[str, Source] = {
    "dotenv": dotenv,
    "json": plain.json,
    "yaml": plain.yaml,
    "toml": plain.toml,
    "csv": plain.csv,
    "sops": sops,
    "dotenvx": dotenvx,
    "1password": onepassword,
    "aws-sm": aws_sm,
    "vault": vault,
    "doppler": doppler,
    "infisical": infisical,
    "fnox": fnox,
    "kubernetes": kubernetes,
    "chamber": chamber,
}
