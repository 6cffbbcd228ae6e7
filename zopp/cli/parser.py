"""argparse with zopp's contract: usage errors are exit 2, never quote a value, and end in the next thing to type."""

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from zopp.cli.nearest import nearest
from zopp.errors import UsageError

GLOBAL_FLAGS = ("--json", "-q", "--quiet", "-C", "--debug")
# What argparse says → what zopp says; the rest of its sentence may hold what was typed, and is dropped.
_SAID = (
    (re.compile(r"expected .*argument"), "needs a value"),
    (re.compile(r"invalid int value"), "must be a whole number"),
    (re.compile(r"invalid \w+ value"), "cannot have this value"),
    (re.compile(r"ignored explicit argument"), "takes no value"),
)


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError instead of exiting, and keeps what was typed out of the message."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Nothing stays unknown: an action judges what is its own, and not the command above it."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            raise self._surplus(rest)
        return found, rest

    def _surplus(self, words: Sequence[str]) -> UsageError:
        # A password may begin with a dash too: only what zopp itself knows is named.
        flags = [word.partition("=")[0] for word in words if word.startswith("-") and len(word) > 1]
        if not flags:
            return UsageError("too many arguments", hint=f"{self.prog} --help")
        near = dict.fromkeys(filter(None, (near_flag(flag, self._option_string_actions) for flag in flags)))
        said = f"; did you mean {', '.join(near)}?" if near else ""
        return UsageError(f"unknown option{said}", hint=f"{self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        below = isinstance(action, argparse._SubParsersAction)
        known = _choices(action)
        near = nearest(str(value), list(map(str, action.choices)))
        name = "/".join(action.option_strings) or str(action.metavar or action.dest)
        hint = f"{self.prog} --help"
        if near is not None:
            before = f"{self.prog} " if below else f"{action.option_strings[-1]} " if action.option_strings else ""
            hint = f"did you mean {before}{near}?"
        raise UsageError(f"must be {one_of(known)}", place=name, hint=hint)

    def error(self, message: str) -> NoReturn:
        place, text = "", message
        if message.startswith("argument "):
            place, _, text = message.removeprefix("argument ").partition(": ")
        missing = message.partition("the following arguments are required: ")[2]
        if missing:
            text = self._missing(missing.split(", "))
        text = next((said for pattern, said in _SAID if pattern.match(text)), text)
        if text.startswith("one of the arguments "):
            names = text.removeprefix("one of the arguments ").removesuffix(" is required").split(" ")
            text = f"say {' or '.join(names)}"
        text = text.replace("not allowed with argument ", "cannot stand together with ")
        raise UsageError(text, place=place, hint=f"{self.prog} --help")

    def _missing(self, names: Sequence[str]) -> str:
        """argparse also counts what may be left out."""
        optional = {str(a.metavar or a.dest) for a in self._actions if not a.option_strings and a.nargs in ("*", "?")}
        names = [name for name in names if name not in optional] or names
        for action in self._actions:
            if names == [action.metavar] and action.choices is not None:
                return f"{names[0]} is missing: {one_of(_choices(action))}"
        return ", ".join(names) + (" is missing" if len(names) == 1 else " are missing")


def _choices(action: argparse.Action) -> list[str]:
    """What may be typed for it, each once: aliases are left out."""
    if isinstance(action, argparse._SubParsersAction):
        return [each.dest for each in action._choices_actions]
    return [str(each) for each in action.choices or ()]


def one_of(known: Sequence[str]) -> str:
    """`one of a, b`, for what must be one of them."""
    return known[0] if len(known) == 1 else f"one of {', '.join(known)}"


def near_flag(typed: str, known: Iterable[str]) -> str | None:
    """The option that `typed` was meant to be: a near one, or one of which it is a longer or shorter form."""
    known = [*known, *GLOBAL_FLAGS]
    longer = [flag for flag in known if flag.startswith("--") and len(typed) > 4]
    begun = [flag for flag in longer if flag.startswith(typed) or typed.startswith(flag)]
    return nearest(typed, known, cutoff=0.7) or (max(begun, key=len) if begun else None)


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


def add_action(
    actions: Any, name: str, text: str, said: str, *, aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """One action of a command: `text` stands in the list of the command's own help, `said` in the action's."""
    made: argparse.ArgumentParser = actions.add_parser(name, aliases=list(aliases), help=text, description=said)
    return made


def add_project(parser: argparse.ArgumentParser) -> None:
    """-p."""
    parser.add_argument("-p", "--project", metavar="PROJECT", help="project (default: ZOPP_PROJECT, then zopp.toml)")


def add_env(parser: argparse.ArgumentParser) -> None:
    """-e and -p."""
    parser.add_argument("-e", "--env", metavar="ENV", help="environment (default: ZOPP_ENV, then zopp.toml)")
    add_project(parser)


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
