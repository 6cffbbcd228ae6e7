"""List values that someone who lost access could have read and that were not changed since.

Change each at its source and `zopp set` the new one: it is then marked by itself. With SUBJECT also the commits in
which git has them, unmerged branches included. Exit 1 while any is open.
"""

import argparse

from zopp.cli.context import Context, table
from zopp.cli.parser import epilog
from zopp.cli.policychange import commit_words
from zopp.errors import NotFound
from zopp.repo import exposure

WORDS = {
    exposure.RELEASED: "released to them",
    exposure.MADE: "its key made by them",
    exposure.RECIPIENT: "a recipient",
}
"""Reasons that are worth a column; that a reader of a direct file could read it goes without saying."""

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
        holder = args.subject if args.subject in ws.state.users else ws.state.principals[args.subject].holder
        ctx.note(f"nothing is listed for {args.subject}; what they can read now: zopp offboard {holder} --dry-run")
        if ctx.as_json:
            ctx.data([])
        return 0
    if args.subject is not None:
        exposure.find_commits(ws, found)
    rows = [(e.subject, e.seq, *key) for e in found for key in e.open_keys()]
    why = {(e.subject, e.seq, *key): e.reasons(*key) for e in found for key in e.open_keys()}
    commits = {(e.subject, e.seq, *key): e.commits_of(*key) for e in found for key in e.open_keys()}
    if ctx.as_json:
        ctx.data(
            [
                {
                    "subject": r[0],
                    "statement": r[1],
                    "environment": r[2],
                    "file": r[3],
                    "key": r[4],
                    "why": why[r],
                    **({} if args.subject is None else {"commits": commits[r]}),
                }
                for r in rows
            ]
        )
    else:
        said = {
            row: ", ".join([*(WORDS[each] for each in why[row] if each in WORDS), *commit_words(commits[row])])
            for row in rows
        }
        for line in table((r[0], r[2], r[4], *([said[r]] if any(said.values()) else [])) for r in rows):
            ctx.out(line)
        for each in found:
            if each.wider:
                ctx.warn(f"{each.subject}: the audit log was not read ({each.wider}), so this list is the wider one")
            for branch, reason in each.unverified.items():
                ctx.warn(
                    f"{branch}: its policy log did not verify ({reason}), so what only it let them read is not listed"
                )
            if closed := each.closed_keys():
                ctx.note(f"{each.subject} could have asked for {len(closed)} more and did not; they stay closed")
        ctx.note(f"{len(rows)} value{'s' * (len(rows) != 1)} still to be changed" if rows else "nothing left to change")
    return 1 if rows else 0
