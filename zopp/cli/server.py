"""The policy server of this workspace.

adopt   upload this workspace's log to a server, which orders its policy from then on; or change its log key
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import Parser, add_change, epilog

EXAMPLES = epilog(
    "zopp server adopt https://zopp.example.org                   the one-time code is asked for",
    "zopp server adopt https://zopp.example.org --code - < code   or read from standard input",
    "zopp server adopt https://zopp.example.org --log-key KEY     a new log key, as the server's operator says it",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `zopp server`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    configure_adopt(
        actions.add_parser("adopt", help="have it order this policy", description="have a server order this policy")
    )


def configure_adopt(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp server adopt`."""
    parser.add_argument("url", metavar="URL", help="https://HOST[:PORT]")
    parser.add_argument("--code", choices=("-",), help="- reads the one-time code from standard input")
    parser.add_argument("--log-key", metavar="KEY", help="change to this log key, which the server has prepared")
    add_change(parser, yes=True)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    from zopp.cli import serveradopt

    return serveradopt.run(ctx, args)
