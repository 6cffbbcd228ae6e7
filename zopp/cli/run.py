"""Run a command with an environment's values as environment variables.

The command gets your own variables too, less the key variables of zopp, sops and the CI provider. Its exit code is
zopp's; zopp's own failures are 125, and 126 or 127 if the command cannot be run or is not there. Where there is no
/proc (macOS), LC_CTYPE may be set though it was not: Python does that under the C locale.

With --redact, which is on where CI is true, the command's output is filtered: values become [redacted:NAME], also line
by line, in base64, hex, URL, JSON and shell form. It prevents accidents, not theft: a value that is split by colour
codes or changed in another way, what goes to files, sockets and /dev/tty, secrets from elsewhere, and other processes
that read the command's environment are not covered.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from zopp.cli.context import Context
from zopp.cli.parser import add_env, epilog
from zopp.cli.reading import chosen, open_for_reading
from zopp.errors import IntegrityError, UsageError, ZoppError
from zopp.exchange.names import check_name
from zopp.exchange.scalars import scalar_text
from zopp.keys.find import KEY_VARIABLES
from zopp.repo import values
from zopp.repo.environment import Environment

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
    parser.add_argument(
        "--redact", action=argparse.BooleanOptionalAction, default=None,
        help="hide the values in the command's output (default: where CI is true)",
    )  # fmt: skip
    parser.add_argument(
        "--show", metavar="NAMES", help="with --redact: names whose values are no secrets, separated by commas"
    )
    parser.add_argument("--keep-keys", action="store_true", help="leave zopp's and sops' key variables to the command")
    add_env(parser)


def is_ci(env: Mapping[str, str]) -> bool:
    """Whether this is a CI job, as GitHub, GitLab and most others say it."""
    return env.get("CI", "").lower() in ("true", "1")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Replace this process by the command."""
    command = ["/bin/sh", "-c", args.shell] if args.shell is not None else list(args.command)
    if args.shell is not None and args.command:
        raise UsageError("--shell takes no further command", hint="zopp run --shell STRING")
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
    redact = is_ci(ctx.env) if args.redact is None else args.redact
    if redact:
        return _redacted(ctx, env, found, args, command, child)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(command[0], command, child)  # noqa: S606 - the point of the command; no shell is involved
    except FileNotFoundError:
        raise not_run(command[0]) from None
    except OSError as exc:
        raise not_run(command[0], exc) from None


def not_run(command: str, exc: OSError | None = None) -> ZoppError:
    """Why a command did not start; env(1)'s exit codes."""
    if exc is None:
        return UsageError("command not found", code="run.not_found", place=command, exit_code=127)
    return UsageError(str(exc.strerror), code="run.not_started", place=command, exit_code=126)


def _redacted(
    ctx: Context,
    env: Environment,
    found: Mapping[str, object],
    args: argparse.Namespace,
    command: Sequence[str],
    child: Mapping[str, str],
) -> int:
    from zopp.cli import redacting
    from zopp.exchange import masking

    shown = chosen(found, args.show or "", env)
    clear = {
        "_".join(map(str, item.path))
        for file in env.files.values()
        if file.sops is not None
        for item in file.sops.items()
        if not item.encrypted
    }
    secret = [(name, scalar_text(value)) for name, value in found.items() if name not in shown and name not in clear]
    made = masking.patterns(secret)
    if made.left_out:
        ctx.warn(f"too short or too common to be hidden in the output: {', '.join(made.left_out)}")
    sys.stdout.flush()
    sys.stderr.flush()
    return redacting.run(command, child, made.found)
