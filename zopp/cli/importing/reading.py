"""What the sources share: a file or standard input, a secret from where it may stand, and progress."""

import os
import sys

from zopp.cli.context import Context
from zopp.errors import UsageError
from zopp.exchange.entry import Progress
from zopp.repo import layout


def read_source(ctx: Context, path: str, *, most: int) -> tuple[bytes, str]:
    """(bytes, locator) of a typed path, `-` being standard input. The locator is the path below the git root; a path
    of this machine has no business in the repository, so beside it the base name says enough. UsageError if it cannot
    be read or has more than `most` bytes."""
    if path == "-":
        return _limited(sys.stdin.buffer.read(most + 1), most, "standard input"), "-"
    full = os.path.join(ctx.cwd, path)
    try:
        with open(full, "rb") as file:
            data = _limited(file.read(most + 1), most, path)
    except OSError as exc:
        raise UsageError(f"cannot be read ({exc.strerror})", code="file", place=path) from None
    root = layout.find_checkout(ctx.cwd).root
    real = os.path.realpath(full)
    return data, os.path.relpath(real, root) if real.startswith(root + os.sep) else os.path.basename(real)


def _limited(data: bytes, most: int, place: str) -> bytes:
    if len(data) > most:
        raise UsageError(f"has more than {most >> 20} MiB", code="file.size", place=place)
    return data


def progress(ctx: Context, what: str) -> Progress:
    """Shows `what 340 of 1200` on a terminal."""

    def shown(done: int, of: int) -> None:
        ctx.progress(f"{what} {done} of {of}" if of else f"{what} {done}")

    return shown


def extra_missing(extra: str) -> UsageError:
    """What to say where the libraries of a source are not installed."""
    return UsageError(
        f"needs the extra {extra}, which is not installed", code="extra", hint=f"pip install 'zopp[{extra}]'"
    )


def quiet_libraries() -> None:
    """Keep the network libraries from logging, whoever configured it: at level DEBUG they print bodies."""
    import logging

    for name in ("boto3", "botocore", "hvac", "requests", "s3transfer", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
