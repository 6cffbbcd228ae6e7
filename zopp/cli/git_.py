"""git's drivers for secrets files in this clone: `git diff` shows names instead of ciphertext, and values are merged by
key.

enroll defines them in this clone's configuration and writes zopp's lines to git's own info/attributes; leave takes both
out again; status says what is there. Nothing in the repository can change what they run.
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import epilog
from zopp.errors import ZoppError
from zopp.repo import attributes, drivers, layout
from zopp.repo.workspace import open_workspace

EXAMPLES = epilog(
    "zopp git enroll       once in each clone; zopp init does it",
    "zopp git status       what is set, and what is wrong with it",
    "zopp git leave        take it out again",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `zopp git`."""
    parser.add_argument(
        "action", metavar="ACTION", choices=("enroll", "status", "leave"), help="enroll, status or leave"
    )


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    checkout = layout.find_checkout(ctx.cwd)
    if args.action == "leave":
        gone = drivers.leave(checkout)
        if ctx.as_json:
            ctx.data({"removed": gone})
        ctx.note("took out " + ", ".join(gone) if gone else "there was nothing to take out")
        return 0
    paths: list[str] = []
    try:
        ws = open_workspace(ctx.cwd, ctx.env, recover=False, ci_needs_pin=False, needs_receipt=False)
        paths = attributes.managed(ws)
    except ZoppError as exc:
        ctx.warn(f"which files are secrets files cannot be told: {exc}")
    if args.action == "enroll":
        changed = drivers.enroll(checkout)
        if paths:
            attributes.protect(checkout, paths)
        if ctx.as_json:
            ctx.data({"set": changed, "files": paths})
        ctx.note("git's drivers are set up in this clone" if changed else "git's drivers were set up already")
        ctx.note("see the difference with: git diff, git log -p, git show; take it out with: zopp git leave")
        return 0
    found = drivers.faults(checkout, paths)
    if ctx.as_json:
        ctx.data(
            {
                "enrolled": drivers.is_enrolled(checkout),
                "files": paths,
                "faults": [{"level": f.level, "text": f.text, "fix": f.fix} for f in found],
            }
        )
    else:
        for fault in found:
            ctx.out(f"{fault.level}  {fault.text}: {fault.fix}")
        if not found:
            ctx.out("ok    git's drivers are set up in this clone")
    return 1 if any(fault.level == "fail" for fault in found) else 0
