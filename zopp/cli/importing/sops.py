"""Import an encrypted sops file of elsewhere.

It is opened with the age keys that zopp and sops would find, and its MAC must hold. Types and comments are kept; its
recipients are not taken over but printed, to be let in with `zopp grant`. To go on using a sops repository in place,
see `zopp init --adopt`.
"""

import argparse
import os

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, placed, read_source
from zopp.cli.parser import epilog
from zopp.errors import Unknown, UsageError, ZoppError
from zopp.exchange import documents
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import sops as source
from zopp.policy import manifest as manifests
from zopp.repo import layout
from zopp.repo.environment import people_name
from zopp.repo.workspace import open_workspace
from zopp.sopsfile import format_of

HELP = "an encrypted sops file of elsewhere"
EXAMPLES = epilog(
    "zopp import sops ../old/secrets.yaml -e production --dry-run",
    "SOPS_AGE_KEY_FILE=old.key zopp import sops ../old/secrets.enc.json -m 'import the old secrets'",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import sops`."""
    add_file(parser, "an encrypted file")
    parser.add_argument(
        "--input-type", choices=source.FORMATS, help="its format (default: as its name says, as in sops)"
    )


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Open the file."""
    if args.file == "-" and args.input_type is None:
        raise UsageError("standard input has no name that says its format", code="format", hint="say --input-type yaml")
    data, locator = read_source(ctx, args.file, most=documents.MAX_BYTES)
    _refuse_own(ctx, args.file, locator)
    with placed(args.file):
        try:
            return source.read(data, args.input_type or format_of(args.file), locator, ctx.keyring.matching)
        except Unknown as exc:
            if exc.code == "key.none":
                tried = [f"{place}: {outcome}" for place, outcome in ctx.keyring.found.tried if outcome != "not there"]
                exc.message += f" (tried {'; '.join(tried) or 'nothing'})"
            raise


def _refuse_own(ctx: Context, path: str, locator: str) -> None:
    """Importing a file into the workspace that it belongs to would copy one environment's values into another's."""
    ws = open_workspace(ctx.cwd, ctx.env)
    if path == "-" or os.path.realpath(os.path.join(ctx.cwd, path)) != os.path.join(ws.root, locator):
        return
    for scope in ws.state.envs:
        data = ws.read(layout.manifest_path(scope))
        try:
            listed = data is not None and locator in manifests.parse(data).files
        except ZoppError:
            continue  # `verify` says what is wrong with it
        if listed:
            name = people_name(scope)
            raise UsageError(
                f"is a file of {name} in this repository",
                code="import.own",
                place=path,
                hint=f"to copy values from it: zopp export -e {name.partition('/')[2]} --format env | zopp import -",
            )
