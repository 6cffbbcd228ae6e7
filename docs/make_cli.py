"""Makes `docs/reference/cli.md` from the parsers themselves: `make docs`. The tests compare it.

python docs/make_cli.py > docs/reference/cli.md
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from zopp.cli.parser import Parser
from zopp.cli.verbs import ALIASES, SECRET, VERBS

INTRO = """# The command line

Made by `make docs` from the commands' own help; `tests/unit/test_docs.py` compares it. Every command also takes

    --json      print the answer as JSON
    -q          do not say what was done
    -C DIR      run as if started in DIR: paths, and the command of `run`, count from there
    --debug     show where an error came from, values left out

stdout is data, everything else is stderr. Exit codes: 0 yes; 1 no (denied, found, drifted, differs); 2 usage; 3 could
not tell. `run` gives the command's own, and 125 to 127 for its own failures.
"""


def parser_of(verb: str, module: str) -> Parser:
    """The parser of one command, without the global flags."""
    loaded = importlib.import_module(f"zopp.cli.{module}")
    parser = Parser(prog=f"zopp {verb}", description=loaded.__doc__, epilog=loaded.EXAMPLES)
    loaded.configure(parser)
    return parser


def rows(parser: argparse.ArgumentParser) -> list[str]:
    """What a parser takes, one line each: names, then help."""
    found = []
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)) or action.help == argparse.SUPPRESS:
            continue
        names = ", ".join(action.option_strings)
        meta = action.metavar if isinstance(action.metavar, str) else ""
        if action.choices is not None:
            meta = "|".join(map(str, action.choices)) if len(list(action.choices)) < 12 else meta or "CHOICE"
        elif not meta and action.nargs != 0 and action.option_strings:
            meta = action.dest.upper()
        text = (action.help or "").replace("%%", "%").replace("\n", " ")
        shown = f"{names} {meta}".strip() if action.nargs != 0 else names
        found.append(f"    {shown:<28}  {text}".rstrip())
    return found


def subcommands(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser, str]]:
    """(name, parser, help) of what stands below a command, aliases left out."""
    found = []
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        seen: set[int] = set()
        for name, below in action.choices.items():
            if id(below) not in seen:
                seen.add(id(below))
                found.append((name, below, helps.get(name, "")))
    return found


def section(depth: int, title: str, parser: argparse.ArgumentParser) -> list[str]:
    """One command with everything below it."""
    out = ["", f"{'#' * depth} {title}", ""]
    described = (parser.description or "").strip()
    head, _, rest = described.partition("\n\n")
    # What is laid out in columns stays so.
    for block in [head, *rest.split("\n\n")]:
        laid_out = any("  " in line.strip() for line in block.split("\n"))
        out += ["\n".join([f"    {line}" for line in block.split("\n")]) if laid_out else block, ""] if block else []
    taken = rows(parser)
    if taken:
        out += [*taken, ""]
    examples = (parser.epilog or "").removeprefix("examples:\n")
    if examples.strip():
        out += ["Examples:", "", *[f"    {line.strip()}" for line in examples.split("\n")], ""]
    for name, below, _ in subcommands(parser):
        out += section(depth + 1, f"{title} {name}", below)
    return out


def page() -> str:
    """The whole page."""
    out = [INTRO]
    out += ["| command | |", "|---|---|"]
    out += [f"| [`{verb}`](#zopp-{verb}) | {text} |" for verb, _, text in VERBS]
    out += ["", "From habit: " + ", ".join([f"`{word}` is `{means[0]}`" for word, means in ALIASES.items()]) + "; "]
    out[-1] += "`secret " + "|".join(SECRET) + "` is the command without `secret`."
    for verb, module, _ in VERBS:
        out += section(2, f"zopp {verb}", parser_of(verb, module))
    text = "\n".join(out)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.rstrip() + "\n"


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "120")
    sys.stdout.write(page())
