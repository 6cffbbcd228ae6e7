"""Show the workspace that lies here: name, fingerprint, who is in it."""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import epilog
from zopp.repo import subjects

EXAMPLES = epilog("zopp workspace", "zopp workspace --json")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp workspace`."""
    parser.add_argument(
        "action", metavar="ACTION", nargs="?", choices=("show", "list"), default="show", help=argparse.SUPPRESS
    )


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    ws = ctx.workspace()
    state = ws.state
    body = {
        "workspace": state.name,
        "genesis": state.ws,
        "policy": {"seq": state.seq, "head": state.head},
        "place": ws.place,
        "projects": [subjects.shown(p) for p in state.projects],
        "environments": [subjects.shown(e) for e in state.envs],
        "users": [name for name, user in state.users.items() if user.enabled],
        "services": [n for n, p in state.principals.items() if p.user is None and p.enabled],
    }
    if ctx.as_json:
        ctx.data(body)
        return 0
    ctx.out(f"workspace {state.name}, fingerprint {state.ws}")
    ctx.out(f"policy: {state.seq + 1} statements, head {state.head[:16]}…, {ws.place}")
    for key in ("projects", "environments", "users", "services"):
        value = body[key]
        assert isinstance(value, list)
        ctx.out(f"{key}: {', '.join(value) or 'none'}")
    return 0
