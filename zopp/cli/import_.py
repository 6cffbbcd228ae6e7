"""Import values from elsewhere into environments, as one change.

First comes a plan, in names only. On a terminal it is shown and confirmed; a script says --yes, except for one file
into one environment. Existing keys are updated, none is removed without --prune. A key remembers where it came from,
so that importing again updates it whatever it is called by then.
"""

import argparse
import os

from zopp.cli.context import Context
from zopp.cli.importing import SOURCES
from zopp.cli.importing.applying import Importing
from zopp.cli.inputs import read_file
from zopp.cli.nearest import nearest
from zopp.cli.parser import Parser, add_change, add_env, epilog
from zopp.errors import FormatError, UsageError, ZoppError
from zopp.exchange import mapfile
from zopp.exchange.mapfile import MapFile
from zopp.repo.workspace import open_workspace

EXAMPLES = epilog(
    "zopp import .env",
    "zopp import .env.production -e production --dry-run",
    "zopp import dotenv --help",
)


# What a file of another format, an empty one or one that was cut off looks like.
_NOT_IT = ("truncated", "no_document", "not_utf8", "csv_header", "onepux")


def configure(parser: argparse.ArgumentParser) -> None:
    """The sources of `zopp import`."""
    parser.set_defaults(sources=tuple(SOURCES))
    sources = parser.add_subparsers(dest="source", metavar="SOURCE", required=True, parser_class=Parser)
    for name, module in SOURCES.items():
        sub = sources.add_parser(name, help=module.HELP, description=module.__doc__, epilog=module.EXAMPLES)
        module.configure(sub)
        _common(sub)


def _common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what goes where")
    group.add_argument("--map", metavar="FILE", help="a map file: patterns, prefixes, renames, environments")
    group.add_argument("--exclude", action="append", default=[], metavar="NAME", help="leave NAME out (repeatable)")
    group.add_argument(
        "--on-conflict",
        choices=("fail", "skip", "overwrite"),
        help="a key that exists with another value (default: overwrite for one file, else fail)",
    )
    group.add_argument("--partial", action="store_true", help="leave out what cannot be imported, and exit with 1")
    group.add_argument("--prune", action="store_true", help="remove keys that this source made and has no more")
    group.add_argument("--no-notes", action="store_true", help="do not keep comments")
    group.add_argument("--no-provenance", action="store_true", help="do not record where keys came from")
    group.add_argument("--file", dest="into", metavar="PATH", help="the file of the environment that new keys go to")
    group.add_argument("--clear", action="store_true", help="allow names that the file leaves unencrypted")
    add_env(parser)
    add_change(parser, yes=True)


def arguments(words: list[str]) -> list[str]:
    """The words with the source named: without one it is a .env file."""
    parser = Parser(prog="zopp import", add_help=False)
    SOURCES["dotenv"].configure(parser)
    _common(parser)
    takes_value = {
        flag
        for action in parser._actions
        if action.nargs is None and not action.const
        for flag in action.option_strings
    }
    at = 0
    while at < len(words):
        word = words[at]
        if word in SOURCES:
            return [word, *words[:at], *words[at + 1 :]]
        if word in ("-h", "--help") and at == 0:
            return words
        if not word.startswith("-") or word in ("-", "--"):
            near = None if "." in word or os.path.exists(word) else nearest(word, SOURCES, cutoff=0.75)
            if near is not None:
                raise UsageError(
                    f"must be a FILE or one of {', '.join(SOURCES)}",
                    place="SOURCE",
                    hint=f"did you mean zopp import {near}?",
                )
            break
        at += 2 if word in takes_value else 1
    return ["dotenv", *words] if words else words


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    mapped = _map_file(ctx, args.map)
    # A source may keep a record of who reads it: where nothing can be written nothing is asked.
    open_workspace(ctx.cwd, ctx.env, needs_receipt=False)
    try:
        reading = SOURCES[args.source].read(ctx, args, mapped)
    except FormatError as exc:
        if exc.code in _NOT_IT and not exc.hint:
            exc.hint = "is it of another format? zopp import --help lists what can be read"
        raise
    finally:
        ctx.progress_done()
    return Importing(ctx, args, reading, mapped).run()


def _map_file(ctx: Context, path: str | None) -> MapFile:
    if path is None:
        return MapFile()
    data = read_file(ctx.cwd, path, mapfile.MAX_BYTES + 1)
    try:
        return mapfile.parse(data)
    except ZoppError as exc:
        exc.place = path
        raise
