"""What the reading commands share: opening an environment with its warnings."""

import argparse

from zopp.cli.context import Context
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
