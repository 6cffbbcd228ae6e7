"""Import fnox.toml, or what `fnox export --format json` wrote.

Each profile goes to the environment of its name, the top of the file to the one that -e says. What age encrypted is
opened with FNOX_AGE_KEY, the provider's key_file, fnox's own key file, or zopp's keys. Values of other providers live
elsewhere and are listed, not imported.
"""

import argparse
import os

from zopp.cli.context import Context
from zopp.cli.importing.reading import add_file, placed, read_one
from zopp.cli.parser import epilog
from zopp.errors import UsageError, ZoppError
from zopp.exchange import documents
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import fnox as source
from zopp.keys import identity, keyfiles
from zopp.keys.identity import Identity
from zopp.repo import userdirs

HELP = "fnox.toml: values that its age provider encrypted"
EXAMPLES = epilog(
    "zopp import fnox fnox.toml --dry-run",
    "zopp import fnox fnox.toml --profile production --yes -m 'import fnox.toml'",
    "fnox export --format json --profile production | zopp import fnox - -e production",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import fnox`."""
    add_file(parser, "fnox.toml, or an export in JSON")
    parser.add_argument(
        "--profile", action="append", default=[], metavar="NAME", help="only this one; default is the top (repeatable)"
    )


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Read the file and what it imports."""
    folder = os.path.dirname(os.path.join(ctx.cwd, "" if args.file == "-" else args.file))
    keys = _Keys(ctx, folder)

    def parse(data: bytes, locator: str) -> Reading:
        # TOML never begins so.
        if data.lstrip()[:1] == b"{":
            return source.read_export(data, locator)
        config = source.parse(data)
        for number, path in enumerate(config.imports, 1):
            config = config.over(_imported(folder, path, number))
        keys.general = config.key_file
        return source.read(config, locator, keys.of, only=args.profile)

    reading = read_one(ctx, args.file, parse, in_clear=False)
    for warning in keys.warnings:
        ctx.warn(warning)
    return reading


def _imported(folder: str, path: str, number: int) -> source.Config:
    """A file that fnox.toml names; fnox, too, leaves its own imports alone. Only a path that leads somewhere is shown:
    any other is text of the file."""
    try:
        with open(os.path.join(folder, path), "rb") as file:
            data = file.read(documents.MAX_BYTES + 1)
    except (OSError, ValueError):
        raise UsageError(f"what it imports, number {number}, cannot be read", code="fnox.import") from None
    with placed(path):
        return source.parse(data)


class _Keys:
    """Identities in fnox's order; zopp's own are tried after them."""

    def __init__(self, ctx: Context, folder: str) -> None:
        self.ctx, self.folder = ctx, folder
        self.general = ""  # the file's own age_key_file
        self.warnings: list[str] = []

    def of(self, key_file: str) -> list[Identity]:
        """Those for a provider with this key file ('' for none)."""
        env = self.ctx.env
        home = userdirs.home(env)
        named = key_file or env.get("FNOX_AGE_KEY_FILE", "") or self.general
        config = env.get("FNOX_CONFIG_DIR") or os.path.join(keyfiles.config_home(env, home), "fnox")
        path = os.path.join(self.folder, _from_home(named, home)) if named else os.path.join(config, "age.txt")
        found: list[Identity] = []
        try:
            if text := env.get("FNOX_AGE_KEY", ""):
                found = identity.parse(text, "FNOX_AGE_KEY")
            elif named or os.path.exists(path):
                found = identity.parse(keyfiles.read_private(path, strict=False), path)
        except ZoppError as exc:
            self.warnings.append(str(exc))
        return [*found, *self.ctx.keyring.found.identities]


def _from_home(path: str, home: str) -> str:
    return os.path.join(home, path[2:]) if path.startswith("~/") else path
