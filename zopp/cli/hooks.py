"""Git hooks of this clone: install, uninstall, status.

`pre-commit` and `pre-push` stop what must not enter git or leave this machine (zopp scan). Neither signs anything. A
hook of somebody else's is kept and run first with --chain.
"""

import argparse
import os

from zopp.cli.context import Context, table
from zopp.cli.parser import epilog
from zopp.repo import hooks, layout

EXAMPLES = epilog(
    "zopp hooks install",
    "zopp hooks install pre-commit --chain",
    "zopp hooks status --json",
    "zopp hooks uninstall",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp hooks`."""
    parser.add_argument("action", choices=("install", "uninstall", "status"))
    parser.add_argument("names", nargs="*", metavar="HOOK", help="which (default: all): " + ", ".join(hooks.HOOKS))
    parser.add_argument("--chain", action="store_true", help="install: keep a hook that is there and run it first")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    checkout = layout.find_checkout(os.getcwd())
    names = args.names or list(hooks.HOOKS)
    if args.action == "install":
        found = hooks.install(checkout, names, chain=args.chain)
    elif args.action == "uninstall":
        found = hooks.uninstall(checkout, names)
    else:
        found = hooks.status(checkout, names)
    if ctx.as_json:
        ctx.data([{"name": s.name, "state": s.state, "path": s.path, "chained": s.chained} for s in found])
    elif args.action == "status":
        for line in table([s.name, s.state + (", after one from before" if s.chained else ""), s.path] for s in found):
            ctx.out(line)
    else:
        for each in found:
            what = {"missing": "is taken out", "foreign": "is somebody else's and stays"}.get(
                each.state, "is installed"
            )
            ctx.note(f"hook {each.name} {what}: {hooks.HOOKS[each.name].what}")
    return 1 if args.action == "status" and any(s.state != "installed" for s in found) else 0
