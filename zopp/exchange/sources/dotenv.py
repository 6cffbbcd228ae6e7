"""A .env file as a source. The reading itself is `zopp.exchange.dotenv`."""

from __future__ import annotations

from collections.abc import Mapping

from zopp.exchange import dotenv, names
from zopp.exchange.entry import Entry, Left, Reading, Remaining


def read(
    data: bytes, locator: str, *, dialect: str = "auto", choices: Mapping[str, str] | None = None, expand: bool = False
) -> Reading:
    """The assignments of one file; lines without one meaning are `rejected`. `locator`: the file's path below the git
    root, or its base name. FormatError as `dotenv.parse`."""
    parsed = dotenv.parse(data, dialect=dialect, choices=choices, expand=expand)
    # Placeholders are in the plan of every source.
    warnings = [str(warning) for warning in parsed.warnings if warning.rule != "placeholder"]
    if dotenv.is_example_path(locator):
        warnings.insert(0, "looks like an example file; its values may be placeholders")
    left = [
        Left(
            locator=f"{locator}:{problem.line}", name=problem.key, reason=problem.rule, status="rejected",
            id=f"{locator}#{problem.key}" if problem.key else "", says=str(problem),
        )
        for problem in parsed.problems
    ]  # fmt: skip
    # Of duplicates the last one counts, and was warned of.
    found = {assignment.name: assignment for assignment in parsed.assignments}
    entries = [
        Entry(
            locator=f"{locator}:{assignment.line}", id=f"{locator}#{assignment.name}", name=assignment.name,
            key=(assignment.name,), value=assignment.value, note=assignment.note,
            remarks=("expands " + ", ".join(assignment.expanded),) if assignment.expanded else (),
            remains=(Remaining(todo="change", place=_shown(assignment.name), why=f"lay in plaintext in {locator}"),),
        )
        for assignment in found.values()
    ]  # fmt: skip
    delete = (Remaining(todo="delete", place=locator, why="it may stay on the disk and in git's history"),)
    return Reading(
        kind="dotenv", place=locator, entries=tuple(entries), left=tuple(left), warnings=tuple(warnings),
        covers=(f"{locator}#",), one_file=True, remains=delete if locator != "-" else (),
    )  # fmt: skip


def _shown(name: str) -> str:
    return name if names.is_target(name) else "a key"
