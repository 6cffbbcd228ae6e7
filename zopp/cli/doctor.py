"""Check this machine and clone: git, keys and where they were looked for, pin, policy, admins, leftovers.

Prints no secret. Exit 1 if something needs your hand.
"""

import argparse
import os
import shutil
import stat
import sys
from collections.abc import Callable

from zopp._version import __version__
from zopp.cli.context import Context
from zopp.cli.parser import epilog
from zopp.errors import Denied, ZoppError
from zopp.keys import find
from zopp.policy.names import Scope
from zopp.policy.roles import Role
from zopp.repo import attributes, drivers, exposure, git, hooks, journal, layout, pins, userdirs
from zopp.repo.environment import people_name
from zopp.repo.signer import CI_NEEDS
from zopp.repo.workspace import Workspace, in_ci, open_workspace, require_receipt

Say = Callable[[str, str], None]

EXAMPLES = epilog("zopp doctor", "zopp doctor --json")


def configure(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    rows: list[tuple[str, str]] = []

    def say(level: str, text: str) -> None:
        rows.append((level, text))

    say("ok", f"zopp {__version__}, Python {sys.version.split()[0]}")
    say(*(("ok", "git found") if shutil.which("git") else ("fail", "git is not installed")))
    _keys(ctx, say)
    _hooks(ctx, say)
    try:
        ws = open_workspace(ctx.cwd, ctx.env, recover=False, ci_needs_pin=False, needs_receipt=False)
    except ZoppError as exc:
        say("fail", f"workspace: {exc}" + (f" ({exc.hint})" if exc.hint else ""))
    else:
        _workspace(ctx, ws, say)
    if ctx.as_json:
        ctx.data([{"level": level, "text": text} for level, text in rows])
    else:
        for level, text in rows:
            ctx.out(f"{level.ljust(4)}  {text}")
    return 1 if any(level == "fail" for level, _ in rows) else 0


def _hooks(ctx: Context, say: Say) -> None:
    """Whether the guard's hooks are there and reached."""
    try:
        checkout = layout.find_checkout(ctx.cwd)
    except ZoppError:
        return  # said below
    for level, text in hooks.faults(checkout):
        say(level, text)


def _keys(ctx: Context, say: Say) -> None:
    found = ctx.keyring.found
    for source, outcome in found.tried:
        say("ok" if "key" in outcome and outcome[:1].isdigit() else "info", f"age identity: {source}: {outcome}")
    signer = find.signing_key(ctx.env, userdirs.config(ctx.env))
    for source, outcome in signer.tried:
        say("ok" if outcome == "1 key" else "info", f"signing key: {source}: {outcome}")
    if not found.identities and not found.locked:
        say("fail", "no age identity: make one with `zopp principal request`, or `zopp init` in a new repository")
    folder = os.path.join(userdirs.config(ctx.env), "keys")
    if os.path.isdir(folder) and stat.S_IMODE(os.stat(folder).st_mode) & 0o077:
        say("fail", f"{folder} is open to others: chmod 700 {folder}")


def _server(ctx: Context, say: Say) -> None:
    """What the server's log says to those who may read it."""
    from zopp.cli import auditing  # the network, for workspaces that have a server

    try:
        found = auditing.alarms(ctx)
    except Denied:
        return
    except ZoppError as exc:
        say("warn", f"the policy server's log cannot be read: {exc.message}")
        return
    for text in found:
        say("warn", f"{text}: see zopp audit list --outcome deny --since {auditing.ALARM_DAYS}d")


def _workspace(ctx: Context, ws: Workspace, say: Say) -> None:
    state = ws.state
    say("ok", f"workspace {state.name}, project {ws.project}, {state.seq + 1} statements")
    if ws.place == "unpinned":
        say("fail", "this clone is not pinned: compare the fingerprint with a colleague, then: zopp trust")
    elif ws.place in ("older", "beside"):
        say("fail", f"the policy here is {ws.place} the one seen on the default branch")
    else:
        say("ok", f"pinned ({ws.place}), heads are learned on branch {ws.pin.default_branch if ws.pin else None}")
    if state.server is not None:
        try:
            require_receipt(ws)
            say("ok", f"policy server {state.server.origin}, which accepted statement {state.seq}")
        except ZoppError as exc:
            say("fail", f"{exc.message}: {exc.hint}")
        _server(ctx, say)
    mine = ctx.keyring.recipients()
    me = [name for name, p in state.principals.items() if p.recipient in mine]
    if me:
        say("ok", "you are " + ", ".join(me))
    else:
        say("fail", "none of your keys belongs to a principal here")
    for name in me:
        for scope in state.envs:
            role = state.role(name, Scope("env", scope))
            if role > Role.NONE:
                say("info", f"{name}: {role} on {people_name(scope)}")
    admins = [
        d for user in state.users for d in state.devices(user)
        if state.role(d, Scope("workspace", state.name)) == Role.ADMIN
    ]  # fmt: skip
    if len(admins) < 2:
        say("warn", "only one admin device: if it is lost, so is the workspace; enrol another")
    if journal.pending(ws.checkout):
        say("warn", "an interrupted command is to be finished; the next command does it")
    open_keys = sum(len(e.open_keys()) for e in exposure.load_all(ws))
    if open_keys:
        say("warn", f"{open_keys} exposed values are still to be changed: zopp exposure")
    if not in_ci(ctx.env):
        from zopp.cli import reindex

        for level, text in reindex.faults(ctx, ws, me):
            say(level, text)
    if git.config(ws.root, "core.autocrlf") == "true":
        say("info", "core.autocrlf is on; .gitattributes keeps it off the signed files")
    if ws.pin is not None and ws.pin.origin == "clone":
        fault = attributes.fault(ws.checkout, attributes.managed(ws))
        say(
            "warn" if fault else "ok",
            f"{fault}: zopp trust" if fault else "git's info/attributes protects signed files",
        )
    faults = drivers.faults(ws.checkout, attributes.managed(ws)) if not in_ci(ctx.env) else []
    for each in faults:
        say(each.level, f"{each.text}: {each.fix}")
    if not faults and not in_ci(ctx.env):
        say("ok", "git's drivers for secrets files are set up")
    if pins.TRUST_VARIABLE in ctx.env:
        say("info", f"{pins.TRUST_VARIABLE} is set and wins over this clone's own pin")
    _ci(ctx, ws, me, say)
    for scope in state.envs:
        left = state.left_out(scope)
        for name, why in left.items():
            say("warn", f"{name} may read {people_name(scope)} but {why}")


def _ci(ctx: Context, ws: Workspace, me: list[str], say: Say) -> None:
    """What this job can prove, and what the rules for jobs leave open (A25)."""
    state = ws.state
    if state.oidc_rules:
        from zopp.cli import citrust

        for text in citrust.warnings(state):
            say("warn", text)
    signs = find.signing_key(ctx.env, userdirs.config(ctx.env)).key is not None
    brokered = [s for s, env in state.envs.items() if env.kind == "brokered" and any(m in state.readers(s) for m in me)]
    source = find.token_source(ctx.env)
    if source:
        how = "is not needed, as there is a signing key" if signs else "lets this job read brokered environments"
        say("ok", f"OIDC token: {source} {how}")
    elif in_ci(ctx.env) and brokered and not signs:
        names = ", ".join(people_name(scope) for scope in brokered)
        say("warn", f"this job cannot read {names}, brokered: {CI_NEEDS.removesuffix('; see zopp doctor')}")
