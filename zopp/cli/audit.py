"""The audit log of the policy server: who asked for what, and what was decided.

list     entries that fit the filters, newest first
get      one entry by its index, proven to be in the log
count    how many entries fit
export   all of it as JSONL (which can be verified) or CSV
witness  write the newest checkpoint to .zopp/checkpoint, so that git keeps it
verify   rebuild the log from its records and judge it again, without trusting server or database

For admins of the workspace and auditors (zopp grant SUBJECT auditor WORKSPACE). Reading is recorded as well.
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import Parser, add_action, epilog

EXAMPLES = epilog(
    "zopp audit list --action release --env api/production --since 7d",
    "zopp audit count --user bob --outcome deny",
    "zopp audit get 1041",
    "zopp audit export > audit.jsonl",
    "zopp audit export --format csv --out audit.csv",
    "zopp audit witness -m 'audit checkpoint'",
    "zopp audit verify --replay",
    "zopp audit verify --replay --from-export audit.jsonl --checkpoint kept.note",
)
FORMATS = ("jsonl", "csv")


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `zopp audit`."""
    actions = parser.add_subparsers(dest="action_", metavar="ACTION", required=True, parser_class=Parser)
    show = add_action(
        actions,
        "list",
        "entries, newest first",
        "List the entries of the audit log that fit the filters, newest first.",
    )
    _filters(show)
    show.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default: 50)")
    get = add_action(actions, "get", "one entry", "Show one entry by its index, proven to be in the log.")
    get.add_argument("index", type=int, metavar="INDEX", help="its place in the log, as list shows it")
    _filters(add_action(actions, "count", "how many fit", "Print how many entries fit the filters."))
    export = add_action(
        actions, "export", "JSONL or CSV", "Write the whole log as JSONL, which can be verified, or as CSV."
    )
    export.add_argument("--format", choices=FORMATS, default="jsonl", help="jsonl can be verified (default)")
    export.add_argument("--out", metavar="FILE", help="write to FILE (default: standard output)")
    export.add_argument("--from", dest="begin", type=int, default=0, metavar="INDEX", help="begin there")
    witness = add_action(
        actions, "witness", "write .zopp/checkpoint",
        "Write the newest checkpoint of the log to .zopp/checkpoint, so that git keeps it: a log that is cut back or "
        "written anew does not fit it.",
    )  # fmt: skip
    witness.add_argument("-m", "--message", metavar="MSG", help="make a git commit of it")
    check = add_action(
        actions, "verify", "judge it again",
        "Rebuild the log from its records and judge it again, without trusting server or database.",
    )  # fmt: skip
    source = check.add_mutually_exclusive_group()
    source.add_argument("--online", action="store_true", help="fetch the log from the server (default)")
    source.add_argument("--from-export", metavar="FILE", help="a JSONL export; needs no server")
    check.add_argument("--checkpoint", action="append", default=[], metavar="NOTE", help="a checkpoint that you kept")
    check.add_argument("--replay", action="store_true", help="also make every decision and signature check again")


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--action", metavar="ACTION", help="release, statement, audit.read, …")
    parser.add_argument("--outcome", metavar="OUTCOME", help="allow, deny or fact")
    parser.add_argument("--principal", metavar="NAME", help="a device or service, invite/ID or ci/ID")
    parser.add_argument("--user", metavar="USER", help="a user's devices, by handle or e-mail")
    parser.add_argument("-p", "--project", metavar="PROJECT", help="in this project")
    parser.add_argument("-e", "--env", metavar="ENV", help="PROJECT/ENV, or ENV of this project")
    parser.add_argument(
        "--since", metavar="TIME", help="2026-11-24, 2026-11-24T08:00:00Z, Unix seconds, or 7d, 12h, 30m ago"
    )
    parser.add_argument("--until", metavar="TIME", help="before this time")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    from zopp.cli import auditing  # only here the network is needed

    return auditing.run(ctx, args)
