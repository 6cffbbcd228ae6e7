"""Run a command with an environment's values as environment variables.

The command gets your own variables too, less the key variables of zopp, sops and the CI provider. Its exit code is
zopp's; zopp's own failures are 125, and 126 or 127 if the command cannot be run or is not there. Where there is no
/proc (macOS), LC_CTYPE may be set though it was not: Python does that under the C locale.
"""

import argparse
import os
import sys

from zopp.cli.context import Context
from zopp.cli.parser import add_env, epilog
from zopp.cli.reading import chosen, open_for_reading
from zopp.errors import IntegrityError, UsageError
from zopp.exchange.names import check_name
from zopp.exchange.scalars import scalar_text
from zopp.keys.find import KEY_VARIABLES
from zopp.repo import values

EXAMPLES = epilog(
    "zopp run -- npm start",
    "zopp run -e production --only DATABASE_URL -- ./migrate",
    "zopp run --shell 'echo \"$GREETING\" | tr a-z A-Z'",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp run`."""
    parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="the command and its arguments")
    parser.add_argument("--shell", metavar="STRING", help="run STRING with /bin/sh instead")
    parser.add_argument("--only", metavar="NAMES", help="only these names, separated by commas")
    parser.add_argument("--prefix", metavar="TEXT", default="", help="put TEXT before every name")
    parser.add_argument("--require", metavar="NAMES", help="fail unless these names are there")
    parser.add_argument(
        "--no-inherit", action="store_true", help="start from an empty environment (PATH and HOME stay)"
    )
    parser.add_argument("--keep-existing", action="store_true", help="do not replace variables that are set already")
    parser.add_argument("--keep-keys", action="store_true", help="leave zopp's and sops' key variables to the command")
    add_env(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Replace this process by the command."""
    command = ["/bin/sh", "-c", args.shell] if args.shell is not None else list(args.command)
    if args.shell is not None and args.command:
        raise UsageError("--shell takes no further command")
    if not command:
        raise UsageError("no command given", hint="zopp run -- COMMAND")
    ws, env = open_for_reading(ctx, args)
    found = values.flatten(values.open_all(ws, env, ctx.keyring))
    found = dict(chosen(found, args.only, env))
    chosen(found, args.require, env)
    child = (
        {"PATH": ctx.env.get("PATH", os.defpath), "HOME": ctx.env.get("HOME", "")} if args.no_inherit else dict(ctx.env)
    )
    if not args.keep_keys:
        for name in KEY_VARIABLES:
            child.pop(name, None)
    for name, value in found.items():
        target = args.prefix + name
        check_name(target)
        if value is None or (args.keep_existing and target in child):
            continue
        text = scalar_text(value)
        if "\0" in text:
            raise IntegrityError(f"{name} holds a NUL byte, which no environment variable can", code="nul")
        child[target] = text
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(command[0], command, child)  # noqa: S606 - the point of the command; no shell is involved
    except FileNotFoundError:
        sys.stderr.write(f"zopp: error: {command[0]}: command not found\n")
        return 127
    except OSError as exc:
        sys.stderr.write(f"zopp: error: {command[0]}: {exc.strerror}\n")
        return 126
