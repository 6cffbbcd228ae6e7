"""`zopp env kind`, `serverkey`, `breakglass` and `show`: what makes an environment brokered, and what it then has."""

import argparse
from typing import Any

from zopp.cli.context import Context, table
from zopp.cli.parser import add_action, add_change, add_project
from zopp.cli.policychange import conclude, nothing
from zopp.errors import IntegrityError, UsageError
from zopp.keys import agefile, identity
from zopp.repo import layout
from zopp.repo.draft import Draft
from zopp.repo.environment import open_environment, people_name, scope_of
from zopp.repo.signer import require
from zopp.repo.unlock import my_principals

ACTIONS = ("kind", "serverkey", "breakglass", "plugin-identity")


def configure(actions: Any) -> None:
    """Their parsers, below `zopp env`."""
    sub = add_action(
        actions, "kind", "make it brokered or direct",
        "Make an environment brokered (reading needs a release by the policy server, which records it) or direct (a "
        "reader's key suffices, offline). Either way its files get new data keys.",
    )  # fmt: skip
    sub.add_argument("name", metavar="ENV", help="the environment")
    sub.add_argument("kind", metavar="KIND", choices=("brokered", "direct"), help="brokered or direct")
    add_project(sub)
    add_change(sub)
    sub = add_action(
        actions, "serverkey", "give it another server key",
        "Give a brokered environment another server key; with --leaked also new data keys.",
    )  # fmt: skip
    sub.add_argument("name", metavar="ENV", help="the environment")
    add_project(sub)
    sub.add_argument("--leaked", action="store_true", help="the old one leaked: also new data keys")
    add_change(sub)
    sub = add_action(
        actions, "breakglass", "name an offline key for the day the server is lost",
        "Name an offline key that opens the server's half of a brokered environment if the server is lost, or take it "
        "away with --remove.",
    )  # fmt: skip
    sub.add_argument("name", metavar="ENV", help="the environment")
    sub.add_argument("recipient", nargs="?", metavar="RECIPIENT", help="its public half, age1…")
    sub.add_argument("--remove", action="store_true", help="none from now on; new data keys")
    add_project(sub)
    add_change(sub)
    sub = add_action(
        actions, "plugin-identity", "for age-plugin-zopp",
        "Print the identity lines by which age-plugin-zopp opens brokered files in stock sops.",
    )  # fmt: skip
    sub.add_argument("name", nargs="?", metavar="ENV", help="default: every brokered one that a key of yours may read")
    add_project(sub)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.action == "plugin-identity":
        return _plugin_identity(ctx, args)
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        scope = scope_of(draft.ws, args.name, args.project)
        require(draft.state, draft.signer.principal, f"env.{args.action}", scope)
        if args.action == "kind":
            return _kind(ctx, args, draft, scope)
        if draft.state.envs[scope].kind != "brokered":
            raise UsageError(
                f"{people_name(scope)} is direct",
                code="direct",
                hint=f"make it brokered with: zopp env kind {args.name} brokered",
            )
        if args.action == "serverkey":
            return _serverkey(ctx, args, draft, scope)
        return _breakglass(ctx, args, draft, scope)


def _kind(ctx: Context, args: argparse.Namespace, draft: Draft, scope: str) -> int:
    shown, env = people_name(scope), draft.state.envs[scope]
    if env.kind == args.kind:
        return nothing(ctx, f"{shown} is {args.kind} already")
    if args.kind == "brokered" and env.server_key is None:
        draft.statement("env.serverkey", {"env": scope, "recipient": _new_key(ctx, args, draft, scope)})
    draft.statement("env.kind", {"env": scope, "kind": args.kind})
    code = conclude(ctx, args, draft, whole=scope)
    server = draft.state.server
    if args.kind == "brokered":
        where = server.origin if server is not None else "the policy server"
        ctx.note(f"{shown}: reading needs a reader's key and a release by {where}, which records each")
    else:
        ctx.note(f"{shown}: a reader's key suffices, offline; reading is recorded nowhere")
    ctx.note("older commits stay as they were: readable to whoever held their keys")
    _say_left_out(ctx, draft, scope)
    return code


def _serverkey(ctx: Context, args: argparse.Namespace, draft: Draft, scope: str) -> int:
    draft.statement("env.serverkey", {"env": scope, "recipient": _new_key(ctx, args, draft, scope)})
    code = conclude(ctx, args, draft, whole=scope, rotate={scope} if args.leaked else ())
    if args.leaked:
        ctx.note(
            f"the old key together with a reader's key opens what was committed before: change the values of "
            f"{people_name(scope)} at their source; on other branches run: zopp rekey --all {people_name(scope)}"
        )
    return code


def _breakglass(ctx: Context, args: argparse.Namespace, draft: Draft, scope: str) -> int:
    shown, present = people_name(scope), draft.state.envs[scope].break_glass
    if args.remove == (args.recipient is not None):
        raise UsageError("give a RECIPIENT, or --remove", hint="zopp env breakglass --help")
    recipient = None if args.remove else agefile.canonical_recipient(args.recipient)
    if recipient is not None and not recipient.startswith("age1"):
        raise UsageError("a break-glass key is an age1… recipient", code="recipient_kind")
    if recipient == present:
        return nothing(ctx, f"{shown} has {'this' if recipient else 'no'} break-glass key already")
    draft.statement("env.breakglass", {"env": scope, "recipient": recipient})
    code = conclude(ctx, args, draft, whole=scope)
    if recipient is not None:
        ctx.note(
            f"whoever holds it and a reader's key of {shown} reads without the server, and no log shows it: "
            "keep it offline, apart from the recovery device, and try it now and then"
        )
    return code


def _new_key(ctx: Context, args: argparse.Namespace, draft: Draft, scope: str) -> str:
    """The server's next key for the environment. A dry run asks nobody and works with a key that nothing keeps."""
    from zopp.client import connect, serverkeys
    from zopp.repo import userdirs

    ws = draft.ws
    with connect.server_of(ws.state, draft.signer.key, ctx.env) as server:
        if args.dry_run:
            ctx.note(f"{server.origin} would be asked for the key; the one shown here is nobody's")
            return identity.generate()[1]
        return serverkeys.new_key(server, connect.log_of(ws.state, userdirs.state(ctx.env)), ws.state, scope)


def _plugin_identity(ctx: Context, args: argparse.Namespace) -> int:
    from zopp.client import pinned

    ws = ctx.workspace()
    if args.name is not None:
        scopes = [scope_of(ws, args.name, args.project)]
        if ws.state.envs[scopes[0]].kind != "brokered":
            raise UsageError(
                f"{people_name(scopes[0])} is direct: stock sops needs your own key only",
                code="direct",
                hint="zopp principal current",
            )
    else:
        mine = set(my_principals(ws, ctx.keyring))
        scopes = [s for s, env in ws.state.envs.items() if env.kind == "brokered" and mine & set(ws.state.readers(s))]
    found = {people_name(scope): pinned.of(ws.state, scope) for scope in scopes}
    lines = {shown: each.line() for shown, each in found.items() if each is not None}
    if len(lines) < len(scopes):
        raise IntegrityError(
            f"the policy of workspace {ws.state.name} names no policy server", code="server.none",
            hint="an admin of the workspace has to run: zopp server adopt URL",
        )  # fmt: skip
    if ctx.as_json:
        ctx.data([{"environment": shown, "identity": line} for shown, line in lines.items()])
        return 0
    for shown, line in lines.items():
        ctx.out(f"# zopp {ws.state.name} {shown}")
        ctx.out(line)
    ctx.note(
        "put these behind your own AGE-SECRET-KEY-1… line in the key file of sops; they hold no secret"
        if lines
        else "none of your keys may read a brokered environment here"
    )
    return 0


def _say_left_out(ctx: Context, draft: Draft, scope: str) -> None:
    for name, why in draft.state.left_out(scope).items():
        ctx.warn(f"{name} may read {people_name(scope)} but {why}: it is no recipient there")


def show(ctx: Context, args: argparse.Namespace) -> int:
    """`zopp env show`: from the signed policy and manifest, without a key."""
    ws = ctx.workspace()
    scope = scope_of(ws, args.name, args.project)
    env = ws.state.envs[scope]
    found = open_environment(ws, scope)
    readers, left = ws.state.readers(scope), ws.state.left_out(scope)
    if ctx.as_json:
        ctx.data(
            {
                "environment": people_name(scope),
                "kind": env.kind,
                "protected": env.protected,
                "server_key": env.server_key,
                "break_glass": env.break_glass,
                "readers": dict(readers),
                "left_out": dict(left),
                "files": list(found.files),
                "manifest": layout.manifest_path(scope),
            }
        )
        return 0
    server = ws.state.server
    rows = [("environment", people_name(scope)), ("kind", env.kind), ("protected", "yes" if env.protected else "no")]
    if env.kind == "brokered":
        rows.append(("server", server.origin if server else "none: zopp server adopt URL"))
        rows.append(("server key", env.server_key or f"none: zopp env serverkey {args.name}"))
        rows.append(("break-glass", env.break_glass or "none"))
    rows += [("file", path) for path in found.files] or [("file", "none yet")]
    for name in readers:
        rows.append(("reader", f"{name}, {ws.state.role(name, scope)}"))
    rows += [("left out", f"{name} {why}") for name, why in left.items()]
    for line in table(rows):
        ctx.out(line)
    return 0
