"""What the reading commands share: opening an environment with its warnings, and scalars as text."""

import argparse
from decimal import Decimal

from zopp import sopsfile
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


def scalar_text(value: object) -> str:
    """A scalar as `get`, `run` and `export` print it: as sops does in YAML, without quotes; null is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return {"inf": "+Inf", "-inf": "-Inf"}.get(repr(value), "NaN")
        text = format(Decimal(repr(value)), "f")
        return text.removesuffix(".0")
    if isinstance(value, sopsfile.Timestamp):
        return value.text
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, (sopsfile.Mapping, sopsfile.Sequence)):
        return "{}" if isinstance(value, sopsfile.Mapping) else "[]"
    return str(value)
