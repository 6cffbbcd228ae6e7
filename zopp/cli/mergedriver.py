"""The merge driver that git calls; see `zopp merge` for people. It merges secrets by key on plaintext in memory.

Exit 0: merged, and read back. Exit 1: a conflict, or nothing could be merged; the reason stands on stderr.
"""

import argparse
import os
import sys

from zopp.cli.context import Context
from zopp.cli.parser import epilog
from zopp.errors import ZoppError
from zopp.repo import layout
from zopp.repo.mergedriver import Call, drive

EXAMPLES = epilog("git config merge.zopp.driver 'zopp merge-driver %O %A %B %L %P'")


def configure(parser: argparse.ArgumentParser) -> None:
    """What git passes."""
    parser.add_argument("base", metavar="%O", help="the common ancestor's version, in a temporary file")
    parser.add_argument("ours", metavar="%A", help="our version; the result goes here")
    parser.add_argument("theirs", metavar="%B", help="their version")
    parser.add_argument("marker", metavar="%L", type=int, help="length of conflict markers")
    parser.add_argument("path", metavar="%P", help="where the file lies")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it. Whatever is wrong is exit 1: git takes it as a conflict, and other codes in other ways."""
    call = Call(base=args.base, ours=args.ours, theirs=args.theirs, marker=args.marker, path=args.path)
    try:
        answer = drive(layout.find_checkout(os.getcwd()), ctx.env, ctx.unasked(), call)
    except ZoppError as exc:
        exc.place = exc.place or args.path
        sys.stderr.write(f"zopp: error: {exc}\n")
        if exc.hint:
            sys.stderr.write(f"zopp: hint: {exc.hint}\n")
        return 1
    for line in answer.said:
        sys.stderr.write(f"zopp: {line}\n")
    return 0 if answer.clean else 1
