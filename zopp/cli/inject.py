"""Fill a template: {{ zopp.KEY }} becomes the value, all other text stays as it is.

KEY is a name or a dotted path. Filters: {{ zopp.KEY | base64 }}, json (a quoted string), shell (one word). A key that
is not there, and what only looks like a reference, is an error; nothing is written then.
"""

import argparse
import difflib

from zopp import sopsfile
from zopp.cli import writing
from zopp.cli.context import Context
from zopp.cli.inputs import read_file
from zopp.cli.parser import add_env, epilog
from zopp.cli.reading import open_for_reading
from zopp.errors import FormatError, UsageError, ZoppError
from zopp.exchange import template
from zopp.exchange.scalars import scalar_text
from zopp.exchange.template import Reference
from zopp.repo import values
from zopp.repo.environment import Environment
from zopp.repo.exposure import dotted
from zopp.repo.values import Path

EXAMPLES = epilog(
    "zopp inject config.tmpl.json -o config.json",
    "zopp inject app.conf.tmpl -e production | ssh host 'cat > app.conf'",
    "zopp inject config.tmpl.json --check -e production",
)

Place = tuple[str, Path]


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp inject`."""
    parser.add_argument("template", metavar="TEMPLATE", help="a text with references; - reads standard input")
    parser.add_argument("--check", action="store_true", help="only say which keys it names and whether they are there")
    writing.add_output(parser)
    add_env(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.check and args.output is not None:
        raise UsageError("--check writes nothing", hint="leave -o out")
    if not args.check:
        writing.check_terminal(args)
    text, found = template.references(_read(ctx, args.template), place=args.template)
    ws, env = open_for_reading(ctx, args)
    where = f"{env.project}/{env.name}"
    places = _places(env, found, args.template, where)
    if args.check:
        if ctx.as_json:
            ctx.data({"environment": where, "keys": list(places)})
        for key in () if ctx.as_json else places:
            ctx.out(key)
        return 0
    opened = {file.path: file.tree for file in values.open_all(ws, env, ctx.keyring)} if places else {}
    filled = template.fill(text, found, {key: _value(opened, place, key) for key, place in places.items()})
    writing.write(ctx, args, ws, filled.encode())
    if ctx.as_json and args.output is not None:
        ctx.data({"file": args.output, "environment": where, "keys": list(places)})
    return 0


def _read(ctx: Context, name: str) -> bytes:
    return read_file(ctx.cwd, name, template.MAX_BYTES + 1)


def _places(env: Environment, found: list[Reference], place: str, where: str) -> dict[str, Place]:
    """Key as written → file and exact path. FormatError with every key that is not there or is no single value."""
    known = sorted({dotted(leaf) for file in env.files.values() if file.sops for leaf in file.sops.paths()})
    places: dict[str, Place] = {}
    problems = []
    for each in found:
        if each.key in places:
            continue
        try:
            path = values.parse_key(each.key)
            at = values.locate(env, path)
        except ZoppError as exc:
            problems.append(f"line {each.line}: {exc.message}")
            continue
        if at is None:
            near = difflib.get_close_matches(each.key, known, n=1, cutoff=0.6)
            meant = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"line {each.line}: {where} has no key {dotted(path)}{meant}")
        elif dotted(at[1]) not in known:
            problems.append(f"line {each.line}: {dotted(path)} holds several values, name one of them")
        else:
            places[each.key] = at
    if problems:
        raise FormatError("\n  ".join(["cannot be filled in", *problems]), code="template.key", place=place)
    return places


def _value(opened: dict[str, sopsfile.Tree], place: Place, key: str) -> str:
    text = scalar_text(sopsfile.lookup(opened[place[0]], place[1]))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FormatError(f"{key} is not text in UTF-8", code="template.value") from None
    return text
