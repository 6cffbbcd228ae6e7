"""What the sources share: a file or standard input, a secret from where it may stand, and progress."""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from zopp.cli.context import Context
from zopp.cli.inputs import read_file
from zopp.errors import UsageError, ZoppError
from zopp.exchange import documents
from zopp.exchange.entry import Progress, Reading
from zopp.keys import keyfiles
from zopp.repo import layout

_SUFFIXES = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".csv": "csv", ".env": "dotenv"}


def add_file(parser: argparse.ArgumentParser, what: str) -> None:
    """The positional FILE."""
    parser.add_argument("file", metavar="FILE", help=f"{what}; - reads standard input")


def add_format(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """--format, for where neither name nor content tells."""
    parser.add_argument("--format", choices=formats, help="what is in it (default: as its name or its content says)")


def read_one(
    ctx: Context, path: str, read: Callable[[bytes, str], Reading], *, in_clear: bool, most: int = documents.MAX_BYTES
) -> Reading:
    """One file, or standard input, through `read(bytes, locator)`. `in_clear`: values lie in it as they are."""
    data, locator = read_source(ctx, path, most=most)
    with placed(path):
        reading = read(data, locator)
    return replace(reading, plaintext=path if in_clear and path != "-" else "")


class _Formats(Protocol):
    """A source whose exports come in several formats."""

    @property
    def FORMATS(self) -> Sequence[str]: ...

    def read(self, data: bytes, locator: str, *, form: str) -> Reading: ...


def read_format(ctx: Context, args: argparse.Namespace, source: _Formats) -> Reading:
    """FILE in one of the source's formats, as `add_format` has it; its values lie in it as they are."""

    def parse(data: bytes, locator: str) -> Reading:
        return source.read(data, locator, form=format_of(args.format, args.file, data, source.FORMATS))

    return read_one(ctx, args.file, parse, in_clear=True)


@contextmanager
def placed(path: str) -> Iterator[None]:
    """Name the file, as it was typed, in what goes wrong with its content."""
    try:
        yield
    except ZoppError as exc:
        line = exc.place.removeprefix("line ")
        exc.place = f"{path}:{line}" if line != exc.place else exc.place or path
        exc.hint = exc.hint.replace("FILE", keyfiles.quote(path))
        raise


def format_of(typed: str | None, path: str, data: bytes, formats: Sequence[str]) -> str:
    """Which of `formats` it is: as typed, as the name says, or JSON if it begins like it. UsageError if neither
    tells."""
    if typed is not None:
        return typed
    named = _SUFFIXES.get(os.path.splitext(path)[1].lower(), "")
    if named in formats:
        return named
    if "json" in formats and data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return "json"
    if len(formats) == 2:
        return next(form for form in formats if form != "json")
    raise UsageError("the format cannot be told", code="format", place=path, hint=f"say --format {'|'.join(formats)}")


def read_source(ctx: Context, path: str, *, most: int) -> tuple[bytes, str]:
    """(bytes, locator) of a typed path, `-` being standard input. The locator is the path below the git root; a path
    of this machine has no business in the repository, so beside it the base name says enough. UsageError if it cannot
    be read or has more than `most` bytes."""
    data = _limited(read_file(ctx.cwd, path, most + 1), most, "standard input" if path == "-" else path)
    if path == "-":
        return data, "-"
    full = os.path.join(ctx.cwd, path)
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
