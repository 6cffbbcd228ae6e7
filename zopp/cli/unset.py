"""Remove a key from an environment, and the mappings above it that are empty then. Its old values stay in git's
history."""

import argparse

from zopp.cli.changing import Change, report_change
from zopp.cli.context import Context
from zopp.cli.parser import add_change, add_env, epilog
from zopp.repo import values
from zopp.repo.environment import open_environment, scope_of
from zopp.sopsfile import Drop

EXAMPLES = epilog("zopp unset OLD_TOKEN", "zopp unset OLD_TOKEN -e production --yes -m 'drop the old token'")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp unset`."""
    parser.add_argument("keys", nargs="+", metavar="KEY", help="names or dotted paths")
    add_env(parser)
    add_change(parser, yes=True)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    paths = [values.parse_key(key) for key in args.keys]
    what = ", ".join(args.keys)
    scope = scope_of(ctx.workspace(), args.env, args.project)
    if ctx.interactive() and not args.dry_run and not ctx.confirm(f"remove {what} from {scope}?", otherwise=""):
        return 1
    with ctx.changing(on_old_base=args.on_old_base) as draft:
        env = open_environment(draft.ws, scope, history=True)
        changes = [Drop(path, prune=True) for path in paths]
        edited = values.apply(draft, env, ctx.keyring, changes, on_old_base=args.on_old_base)
        return report_change(ctx, args, draft, env, edited, Change("unset", what))
