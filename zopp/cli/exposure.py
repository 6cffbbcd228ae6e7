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

EXAMPLES = epilog("zopp exposure", "zopp exposure bob --all", "zopp exposure bob --json")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp exposure`."""
    parser.add_argument("subject", nargs="?", metavar="SUBJECT", help="only the values of one who left")
    parser.add_argument("--all", action="store_true", help="also those that were changed since")


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
    rows = [(e, *row) for e in found for row in e.every_key() if args.all or row[3] == exposure.OPEN]
    still = sum(mark == exposure.OPEN for *_, mark in rows)
    if ctx.as_json:
        ctx.data([_row(*row, commits=args.subject is not None) for row in rows])
    else:
        lines = [(e.subject, env, key, _about(e, env, path, key, mark)) for e, env, path, key, mark in rows]
        for line in table(row if any(about for *_, about in lines) else row[:3] for row in lines):
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
        ctx.note(f"{still} value{'s' * (still != 1)} still to be changed" if still else "nothing left to change")
    return 1 if still else 0


def _about(e: exposure.Exposure, env: str, path: str, key: str, mark: str) -> str:
    words = ["changed since"] if mark != exposure.OPEN else []
    words += [WORDS[each] for each in e.reasons(env, path, key) if each in WORDS]
    return ", ".join([*words, *commit_words(e.commits_of(env, path, key))])


def _row(e: exposure.Exposure, env: str, path: str, key: str, mark: str, *, commits: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "subject": e.subject, "statement": e.seq, "environment": env, "file": path, "key": key,
        "changed": mark != exposure.OPEN, "why": e.reasons(env, path, key),
    }  # fmt: skip
    return found | ({"commits": e.commits_of(env, path, key)} if commits else {})
