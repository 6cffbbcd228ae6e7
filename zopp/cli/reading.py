"""What the reading commands share: opening an environment with its warnings."""

import argparse
from collections.abc import Mapping

from zopp.cli.context import Context
from zopp.errors import NotFound
from zopp.repo.environment import Environment, scope_of
from zopp.repo.unlock import open_readable
from zopp.repo.workspace import Workspace


def open_for_reading(ctx: Context, args: argparse.Namespace) -> tuple[Workspace, Environment]:
    """The environment of -e and -p, checked; what only warns is said on stderr."""
    ws = ctx.workspace()
    env, findings = open_readable(ws, scope_of(ws, args.env, args.project), ctx.keyring)
    for finding in findings:
        ctx.warn(f"{finding.place}: {finding.message}" if finding.place else finding.message)
    return ws, env


def chosen(found: Mapping[str, object], only: str | None, env: Environment) -> Mapping[str, object]:
    """Of `found` the names in `only`, separated by commas; all if it is None. NotFound for one that is not there."""
    if only is None:
        return found
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in found:
            raise NotFound(f"{env.project}/{env.name} has no {name}", code="key.missing", candidates=list(found))
    return {name: found[name] for name in names}
