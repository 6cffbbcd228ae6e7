"""git hooks of this clone: install, uninstall, status.

With `pre-merge-commit` and `post-merge` a plain `git merge` of branches that set different keys finishes by itself,
signed. A hook of yours that is there already is kept and runs first. Nothing is installed into the work tree.
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import Parser, epilog
from zopp.repo import hooks, layout, mergehooks, mergework

EXAMPLES = epilog("zopp hooks install", "zopp hooks status --json", "zopp hooks uninstall")


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `zopp hooks`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    for name, text in (
        ("install", "install zopp's hooks in this clone"),
        ("uninstall", "take them away, and put back what stood there"),
        ("status", "what is installed; exit 1 if something is not"),
    ):
        actions.add_parser(name, help=text, description=text)
    sub = actions.add_parser("run", description="what the installed hooks call")
    sub.add_argument("hook", choices=hooks.MERGE_HOOKS)
    sub.add_argument("rest", nargs="*", help="what git passes to the hook")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    checkout = layout.find_checkout(ctx.cwd)
    if args.action == "run":
        return {"pre-merge-commit": _pre_merge_commit, "post-merge": _post_merge}[args.hook](ctx, checkout)
    if args.action == "uninstall":
        gone = hooks.uninstall(checkout)
        if ctx.as_json:
            ctx.data({"uninstalled": gone})
        ctx.note(f"uninstalled {', '.join(gone)}" if gone else "no hook of zopp's is installed here")
        return 0
    found = hooks.install(checkout) if args.action == "install" else hooks.look(checkout)
    if ctx.as_json:
        ctx.data({"hooks": [{"name": h.name, "path": h.path, "installed": h.runs, "after": h.chained} for h in found]})
    for hook in found:
        state = "installed" if hook.runs else "not installed"
        line = f"{hook.name}: {state}" + (", after a hook that was there before" if hook.chained and hook.ours else "")
        ctx.note(line) if args.action == "install" else None if ctx.as_json else ctx.out(line)
    return 0 if all(hook.runs for hook in found) else 1


def _pre_merge_commit(ctx: Context, checkout: layout.Checkout) -> int:
    work = mergehooks.pre_merge_commit(checkout, ctx.env, ctx.unasked())
    if work is not None:
        for line in mergework.lines(work):
            ctx.note(f"zopp: {line}")
        for text in work.warnings:
            ctx.warn(text)
    return 0


def _post_merge(ctx: Context, checkout: layout.Checkout) -> int:
    mergehooks.exchange(checkout, ctx.env)
    return 0
