"""List values that someone who lost access could have read and that were not changed since.

Change each at its source and `zopp set` the new one: it is then marked by itself. Exit 1 while any is open.
"""

import argparse

from zopp.cli.context import Context, table
from zopp.cli.parser import epilog
from zopp.errors import NotFound
from zopp.repo import exposure

EXAMPLES = epilog("zopp exposure", "zopp exposure bob --json")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp exposure`."""
    parser.add_argument("subject", nargs="?", metavar="SUBJECT", help="only the values of one who left")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    ws = ctx.workspace()
    found = [e for e in exposure.load_all(ws) if args.subject in (None, e.subject)]
    if args.subject is not None and not found:
        known = {*ws.state.users, *ws.state.principals}
        if args.subject not in known:
            raise NotFound(
                f"there is no user or principal {args.subject}", code="subject.unknown", candidates=sorted(known)
            )
    rows = [(e.subject, e.seq, *key) for e in found for key in e.open_keys()]
    if ctx.as_json:
        ctx.data([{"subject": s, "statement": n, "environment": env, "file": f, "key": k} for s, n, env, f, k in rows])
    else:
        for line in table((s, env, k) for s, _, env, _, k in rows):
            ctx.out(line)
        ctx.note(f"{len(rows)} values still to be changed" if rows else "nothing left to change")
    return 1 if rows else 0
