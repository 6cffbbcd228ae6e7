"""Plaintext that leaves for a terminal, a pipe or a file: what `export` and `inject` share."""

import argparse
import os
import sys

from zopp.cli.context import Context
from zopp.errors import UsageError
from zopp.repo import files, git
from zopp.repo.workspace import Workspace


def add_output(parser: argparse.ArgumentParser) -> None:
    """-o, --reveal and --force."""
    parser.add_argument("-o", "--output", metavar="FILE", help="write FILE instead of standard output")
    parser.add_argument("--reveal", action="store_true", help="print to a terminal")
    parser.add_argument("--force", action="store_true", help="write a file that git does not ignore")


def check_terminal(args: argparse.Namespace) -> None:
    """UsageError where plaintext would end on a terminal and nobody said --reveal: before anything is decrypted."""
    if args.output is None and sys.stdout.isatty() and not args.reveal:
        raise UsageError("this would print secrets on a terminal", code="terminal", hint="say --reveal, or -o FILE")


def write(ctx: Context, args: argparse.Namespace, ws: Workspace, data: bytes, *, secret: bool = True) -> None:
    """To standard output, or to -o FILE: 0600, whole or not at all, never through a link; and where it is `secret`, not
    where git would take it in, but for --force. UsageError for either."""
    if args.output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    target = os.path.abspath(os.path.join(ctx.cwd, args.output))
    inside = secret and not args.force and target.startswith(ws.root + os.sep)
    if inside and git.run(ws.root, "check-ignore", "-q", target, check=False).returncode != 0:
        raise UsageError(
            "would lie in the repository, not ignored by git",
            code="not_ignored",
            place=args.output,
            hint="add it to .gitignore, or say --force",
        )
    if os.path.islink(target):
        raise UsageError("is a symlink", code="path.link", place=args.output)
    files.replace_private(target, data)
    ctx.note(f"wrote {args.output} (0600)")
