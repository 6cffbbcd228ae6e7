"""List the keys of an environment. Needs no key: names are not secret."""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import add_env, epilog
from zopp.cli.reading import open_for_reading
from zopp.repo.exposure import dotted

EXAMPLES = epilog("zopp list", "zopp list -e production --json")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp list`."""
    add_env(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    _, env = open_for_reading(ctx, args)
    found = [(path, dotted(leaf)) for path, file in env.files.items() if file.sops for leaf in file.sops.paths()]
    if ctx.as_json:
        ctx.data({"environment": f"{env.project}/{env.name}", "keys": [{"key": k, "file": p} for p, k in found]})
    else:
        for _, key in found:
            ctx.out(key)
    return 0
