"""Import Secrets from Kubernetes manifests.

YAML with any number of documents, or JSON; Secrets and Lists of them. Bytes that are no text become base64 with a
marker that export undoes. SealedSecrets, ExternalSecrets and what a cluster makes for itself are skipped by kind. With
several Secrets in one file the Secret's name stands before each key, unless a map file sends each where it belongs."""

import argparse

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, add_format, read_format
from zopp.cli.parser import epilog
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import kubernetes as source

HELP = "Secret manifests of Kubernetes"
EXAMPLES = epilog(
    "kubectl get secret api -n prod -o yaml | zopp import kubernetes - -e production --dry-run",
    "zopp import kubernetes secrets.yaml --map import.toml --yes",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import kubernetes`."""
    add_file(parser, "a manifest")
    add_format(parser, source.FORMATS)


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Read the file."""
    return read_format(ctx, args, source)
