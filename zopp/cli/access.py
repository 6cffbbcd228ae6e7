"""Show who may do what, from the signed policy alone; with --explain, which bindings count and why."""

import argparse

from zopp.cli.context import Context, table
from zopp.cli.parser import epilog
from zopp.errors import NotFound
from zopp.policy.explain import Explanation, Path
from zopp.policy.names import Scope
from zopp.policy.roles import Role
from zopp.policy.state import State
from zopp.repo import subjects

EXAMPLES = epilog("zopp access", "zopp access bob", "zopp access bob api/production --explain")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp access`."""
    parser.add_argument("subject", nargs="?", metavar="SUBJECT", help="user, e-mail, group, service or device")
    parser.add_argument("scope", nargs="?", metavar="SCOPE", help="WORKSPACE, PROJECT or PROJECT/ENV")
    parser.add_argument("--explain", action="store_true", help="say which bindings count and why")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it. With SUBJECT and SCOPE, exit 1 if the role is none."""
    state = ctx.workspace().state
    if args.subject is not None and args.scope is None:
        try:  # `zopp access api/production`: everyone on a scope
            scope = subjects.scope(state, args.subject)
        except NotFound:
            scope = None
        if scope is not None and not _is_somebody(state, args.subject):
            return _everyone(ctx, state, [scope])
    if args.subject is None:
        scopes = [Scope("workspace", state.name), *(Scope("project", p) for p in state.projects)]
        return _everyone(ctx, state, [*scopes, *(Scope("env", e) for e in state.envs)])
    who = _who(state, args.subject)
    if args.scope is None:
        scopes = [Scope("workspace", state.name), *(Scope("project", p) for p in state.projects)]
        rows = []
        for scope in [*scopes, *(Scope("env", e) for e in state.envs)]:
            rows.append((subjects.shown(scope), str(state.explain(who, scope).role)))
        if ctx.as_json:
            ctx.data({"subject": who, "roles": dict(rows)})
        else:
            for line in table(rows):
                ctx.out(line)
        return 0
    found = state.explain(who, subjects.scope(state, args.scope))
    if ctx.as_json:
        ctx.data(_json(found))
    else:
        ctx.out(f"{who} has {found.role} on {subjects.shown(found.scope)}")
        if args.explain:
            for line in _lines(found):
                ctx.out(line)
        _say_left_out(ctx, state, who, found.scope)
    return 0 if found.role > Role.NONE else 1


def _say_left_out(ctx: Context, state: State, who: str, scope: Scope) -> None:
    """A role does not make a device a recipient of a brokered environment."""
    if scope.kind != "env":
        return
    for name, why in state.left_out(scope).items():
        if who in (name, state.principals[name].holder):
            ctx.warn(f"{subjects.shown(scope)} is brokered, and {name} {why}: it is no recipient there")


def _who(state: State, typed: str) -> str:
    if typed in state.principals:
        return typed
    try:
        return subjects.subject(state, typed).name
    except NotFound as exc:
        known = exc.data.get("candidates")
        if isinstance(known, list):
            exc.data["candidates"] = [*known, *state.principals]
        raise


def _is_somebody(state: State, typed: str) -> bool:
    return typed in state.users or typed in state.groups or typed in state.principals


def _everyone(ctx: Context, state: State, scopes: list[Scope]) -> int:
    rows = []
    for scope in scopes:
        for user in state.users:
            role = max((state.role(d, scope) for d in state.devices(user)), default=Role.NONE)
            if role > Role.NONE:
                rows.append((subjects.shown(scope), user, str(role)))
        for name, principal in state.principals.items():
            if principal.user is None and (role := state.role(name, scope)) > Role.NONE:
                rows.append((subjects.shown(scope), name, str(role)))
    if ctx.as_json:
        ctx.data([{"scope": scope, "subject": who, "role": role} for scope, who, role in rows])
    else:
        for line in table(rows):
            ctx.out(line)
    return 0


def _lines(found: Explanation) -> list[str]:
    out = []
    for path in found.counted:
        via = f" through group {path.via}" if path.via else ""
        mark = "counts" if path == found.winning else "counts, but is not the highest"
        out.append(f"  {path.role} on {subjects.shown(path.scope)}{via}: {mark}")
    for path in found.stopped:
        via = f" through group {path.via}" if path.via else ""
        out.append(f"  {path.role} on {subjects.shown(path.scope)}{via}: stops at the protected boundary")
    if found.reduced == "cap":
        out.append(f"  reduced by the device's cap: {found.cap}")
    elif found.reduced:
        out.append({"keyless": "  at most read: no signing key", "disabled": "  none: disabled"}[found.reduced])
    if not found.counted and not found.stopped:
        out.append("  no binding reaches there")
    return out


def _json(found: Explanation) -> dict[str, object]:
    def path(p: Path) -> dict[str, object]:
        where, stopped = subjects.shown(p.scope), p.stopped or None
        return {"subject": p.subject.name, "scope": where, "role": str(p.role), "via": p.via, "stopped": stopped}

    return {
        "subject": found.who,
        "scope": subjects.shown(found.scope),
        "role": str(found.role),
        "counted": [path(p) for p in found.counted],
        "stopped": [path(p) for p in found.stopped],
        "cap": None if found.cap is None else str(found.cap),
        "reduced": found.reduced or None,
    }
