"""An import's plan and what it leaves to be done, for people and as JSON. Names only."""

from collections.abc import Iterable

from zopp.cli.context import table
from zopp.exchange.entry import TODOS, Reading, Remaining, Todo
from zopp.exchange.plan import Plan
from zopp.printable import printable

# More names than these are counted: a list that nobody reads hides the line that matters.
_NAMED = 8


def plan_lines(plan: Plan) -> list[str]:
    """One entry a line, aligned, and a last line that counts."""
    many = len({line.env for line in plan.lines if line.env}) > 1
    rows = [
        (
            line.status,
            *map(printable, (f"{line.env} {line.key}".strip() if many else line.key, line.source, line.reason)),
        )
        for line in plan.lines
    ]
    counts = ", ".join([f"{count} {status}" for status, count in plan.counts().items()])
    return [*(table(rows) if rows else []), counts or "nothing to import"]


def remaining(reading: Reading, plan: Plan) -> list[Remaining]:
    """What is left to do once the plan is carried out, each thing once."""
    found = [*reading.remains]
    for entry in plan.taken:
        found += entry.remains
    return list(dict.fromkeys(found))


def remaining_lines(remains: Iterable[Remaining]) -> list[str]:
    """A line for each thing to do and each reason, with the places that it is about."""
    groups: dict[tuple[Todo, str], list[str]] = {}
    for one in remains:
        groups.setdefault((one.todo, one.why), []).append(one.place)
    lines = []
    for (todo, why), places in groups.items():
        named = ", ".join(map(printable, places[:_NAMED])) + (
            f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
        )
        lines.append(f"  {TODOS[todo]}: {named}" + (f" ({printable(why)})" if why else ""))
    return lines
