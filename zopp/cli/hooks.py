"""Git hooks of this clone: install, uninstall, status.

`pre-commit` and `pre-push` stop what must not enter git or leave this machine (zopp scan); neither signs anything.
`pre-merge-commit` and `post-merge` let a plain `git merge` of branches that set different keys finish by itself, signed
(zopp merge). A hook of somebody else's is kept and run first with --chain.
"""

import argparse

from zopp.cli.context import Context, table
from zopp.cli.parser import epilog
from zopp.errors import UsageError
from zopp.repo import hooks, layout

EXAMPLES = epilog(
    "zopp hooks install",
    "zopp hooks install pre-commit --chain",
    "zopp hooks status --json",
    "zopp hooks uninstall",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp hooks`."""
    parser.add_argument("action", choices=("install", "uninstall", "status", "run"), metavar="ACTION",
                        help="install, uninstall or status (run: what installed hooks call)")  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="HOOK", help="which (default: all): " + ", ".join(hooks.HOOKS))
    parser.add_argument("--chain", action="store_true", help="install: keep a hook that is there and run it first")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    checkout = layout.find_checkout(ctx.cwd)
    if args.action == "run":
        return _run(ctx, checkout, args.names[0] if args.names else "")
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


def _run(ctx: Context, checkout: layout.Checkout, name: str) -> int:
    from zopp.repo import mergehooks, mergework  # a guard's hook needs none of it

    if name == "post-merge":  # git adds whether it was a squash merge
        mergehooks.exchange(checkout, ctx.env)
    elif name == "pre-merge-commit":
        work = mergehooks.pre_merge_commit(checkout, ctx.env, ctx.unasked())
        for line in mergework.lines(work) if work is not None else ():
            ctx.note(f"zopp: {line}")
        for text in work.warnings if work is not None else ():
            ctx.warn(text)
    else:
        raise UsageError(f"no hook {name} is run by zopp", code="usage", candidates=list(hooks.MERGE_HOOKS))
    return 0
