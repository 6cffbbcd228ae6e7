"""argparse with zopp's contract: usage errors are exit 2, never quote a value, and end in the next thing to type."""

import argparse
import difflib
from typing import Any, NoReturn

from zopp.errors import UsageError


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError instead of exiting, and keeps what was typed out of the message."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        # "unrecognized arguments: X" would print a secret that was typed in the wrong place.
        head, colon, tail = message.partition(": ")
        if head == "unrecognized arguments":
            # A password may begin with a dash too: only what zopp itself knows is named.
            flags = [word.partition("=")[0] for word in tail.split(" ") if word.startswith("-") and len(word) > 1]
            near = [n for flag in flags for n in difflib.get_close_matches(flag, self._option_string_actions, n=1)]
            message = "unknown option" if flags else "too many arguments"
            message += f"; did you mean {', '.join(dict.fromkeys(near))}?" if near else ""
        elif "invalid choice" in message:
            choices = message.partition("(choose from ")[2].rstrip(")").replace("'", "")
            message = f"{head}: must be one of {choices}"
        elif colon and ("invalid" in tail and "value" in tail):
            message = f"{head}: invalid value"
        elif "ignored explicit argument" in message:
            message = f"{head}: takes no value"
        raise UsageError(message, hint=f"{self.prog} --help")


def global_flags() -> argparse.ArgumentParser:
    """The flags that every command takes, anywhere on its line."""
    shared = Parser(add_help=False)
    group = shared.add_argument_group("everywhere")
    group.add_argument("--json", dest="as_json", action="store_true", help="print the answer as JSON")
    group.add_argument("-q", "--quiet", action="store_true", help="do not say what was done")
    group.add_argument(
        "-C", dest="cwd", action="append", default=[], metavar="DIR",
        help="run as if started in DIR: paths, and the command of run, count from there",
    )  # fmt: skip
    group.add_argument("--debug", action="store_true", help="show where an error came from, values left out")
    return shared


def add_env(parser: argparse.ArgumentParser) -> None:
    """-e and -p."""
    parser.add_argument("-e", "--env", metavar="ENV", help="environment (default: ZOPP_ENV, then zopp.toml)")
    parser.add_argument("-p", "--project", metavar="PROJECT", help="project (default: ZOPP_PROJECT, then zopp.toml)")


def add_change(parser: argparse.ArgumentParser, *, dry_run: bool = True, yes: bool = False) -> None:
    """What every changing command takes."""
    parser.add_argument("-m", "--message", metavar="MSG", help="make a git commit of the change")
    parser.add_argument("--on-old-base", action="store_true", help="write although this branch is behind what was seen")
    if dry_run:
        parser.add_argument("--dry-run", action="store_true", help="show what would be done and change nothing")
    if yes:
        add_yes(parser)


def add_yes(parser: argparse.ArgumentParser) -> None:
    """-y."""
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def epilog(*examples: str) -> str:
    """The examples at the end of a help text."""
    return "examples:\n" + "\n".join(f"  {example}" for example in examples)
