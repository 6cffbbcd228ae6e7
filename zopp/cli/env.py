"""Environments of a project.

list        the environments, with kind, protection and number of readers
show        one of them: its keys, its readers, and who is left out
add         make one; --protect from the start, so that there is no open window
protect     only its own bindings, and admin from above, count from now on; who loses read is rekeyed out
unprotect   roles from above count again; who gains what is shown first
kind        brokered: reading needs a reader's key and a release by the policy server, which records it;
            direct: a reader's key suffices, offline. Either way every file gets a new data key
serverkey   give a brokered environment another server key; --leaked also makes new data keys, which other
            branches need too: there, zopp rekey --all
breakglass  name an offline key that opens the server's half if the server is lost, or --remove it
plugin-identity  print what age-plugin-zopp needs, so that stock sops opens a brokered environment
archive     close it; its files are no longer managed
"""

import argparse
import os

from zopp.cli import brokering
from zopp.cli.context import Context, table
from zopp.cli.parser import Parser, add_action, add_change, add_project, epilog
from zopp.cli.policychange import apply, conclude, effect_lines, nothing
from zopp.errors import UsageError
from zopp.policy import decisions, manifest as manifests, names
from zopp.repo import layout, settings as settings_module
from zopp.repo.environment import open_environment, people_name, project_of, require_changeable, scope_of
from zopp.repo.signer import require

EXAMPLES = epilog(
    "zopp env list", "zopp env add staging", "zopp env add production --protect", "zopp env unprotect staging",
    "zopp env kind production brokered --dry-run", "zopp env serverkey production --leaked",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `zopp env`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    sub = add_action(
        actions, "list", "list the environments",
        "List the environments, with kind, protection and number of readers. Needs no key.",
    )  # fmt: skip
    sub.add_argument("-p", "--project", metavar="PROJECT", help="only those of this project")
    sub = add_action(
        actions, "add", "make one",
        "Make an environment of this project: a statement in the policy, and its table in zopp.toml.",
        aliases=["create"],
    )  # fmt: skip
    sub.add_argument("name", metavar="ENV", help="its name")
    sub.add_argument("--protect", action="store_true", help="protected from its first statement on")
    sub.add_argument("--file", metavar="PATH", help="where its secrets go (default: secrets/ENV.yaml)")
    add_change(sub)
    sub = add_action(
        actions, "show", "show one",
        "Show an environment: its keys by name, who reads it, and who may but is left out. Needs no key.",
    )  # fmt: skip
    sub.add_argument("name", metavar="ENV", help="its name")
    add_project(sub)
    brokering.configure(actions)
    for name, text, said in (
        (
            "protect", "let only its own bindings and admin from above count",
            "Protect an environment: only roles given on it, and admin from above, count from now on. Whoever loses "
            "read is rekeyed out.",
        ),
        (
            "unprotect", "let roles from above count again",
            "Take the protection away: roles from above count again. Who gains what is shown first.",
        ),
        (
            "archive", "close it",
            "Close an environment: its files leave the work tree and are no longer managed. What git has stays.",
        ),
    ):  # fmt: skip
        sub = add_action(actions, name, text, said, aliases=["delete"] if name == "archive" else [])
        sub.add_argument("name", metavar="ENV", help="its name")
        add_project(sub)
        add_change(sub, yes=True)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.action == "list":
        return _list(ctx, args)
    if args.action in ("add", "create"):
        return _add(ctx, args)
    if args.action == "show":
        return brokering.show(ctx, args)
    if args.action in brokering.ACTIONS:
        return brokering.run(ctx, args)
    action = "archive" if args.action == "delete" else args.action
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        scope = scope_of(draft.ws, args.name, args.project)
        require(draft.state, draft.signer.principal, f"env.{action}", scope)
        if action != "archive" and draft.state.envs[scope].protected == (action == "protect"):
            return nothing(ctx, f"{people_name(scope)} is {action}ed already")
        if action == "archive":
            opened = open_environment(draft.ws, scope, history=True)
            # What a forged manifest lists is not the environment's to remove.
            require_changeable(opened, on_old_base=args.on_old_base, rekeying=True)
            paths = list(opened.files)
            for path in (layout.manifest_path(scope), layout.manifest_path(scope) + ".sig", *paths):
                draft.put(path, None)
            question = (
                f"archive {people_name(scope)} and remove {', '.join(paths) or 'its manifest'} from the work tree?"
            )
            if ctx.interactive() and not args.dry_run and not ctx.confirm(question, otherwise=""):
                return 1
        draft.statement(f"env.{action}", {"env": scope})
        if action == "unprotect" and not args.dry_run:
            for line in effect_lines(draft, decisions.effect(draft.ws.state, draft.state)):
                ctx.note(line)
            if ctx.interactive() and not ctx.confirm("sign this?", otherwise=""):
                return 1
        return conclude(ctx, args, draft)


def _listed(data: bytes | None) -> list[str]:
    return [] if data is None else list(manifests.parse(data).files)


def _add(ctx: Context, args: argparse.Namespace) -> int:
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        ws = draft.ws
        names.check_name(args.name)
        project = next(p for p in ws.state.projects if p.partition("@")[0] == ws.project)
        require(draft.state, draft.signer.principal, "env.create", project)
        if any(people_name(scope) == f"{ws.project}/{args.name}" for scope in ws.state.envs):
            raise UsageError(
                f"{ws.project} has an environment {args.name} already", code="exists", hint=f"zopp env show {args.name}"
            )
        scope = draft.state.next_name(args.name, project)
        formerly = [
            s for s, env in ws.state.all_envs.items() if people_name(s) == f"{ws.project}/{args.name}" and env.protected
        ]
        if formerly and not args.protect:
            ctx.warn(f"{args.name} was protected before it was archived, and is not now; say --protect to protect it")
        local = args.file or f"secrets/{args.name}.yaml"
        path = f"{ws.folder}/{local}" if ws.folder else local
        if os.path.lexists(os.path.join(ws.root, path)):
            ctx.warn(f"{path} exists; a writer can take it in with: zopp sign -e {args.name}")
        place = f"{ws.folder}/{layout.SETTINGS}" if ws.folder else layout.SETTINGS
        text = (ws.read(place) or b"").decode("utf-8")
        draft.put(place, settings_module.add_environment(text, args.name, (local,)).encode())
        return apply(ctx, args, draft, [("env.create", {"env": scope, "kind": "direct", "protected": args.protect})])


def _list(ctx: Context, args: argparse.Namespace) -> int:
    ws = ctx.workspace()
    if args.project is not None:
        project_of(ws, args.project)
    rows = []
    default = (ws.project, ws.settings.default_env)
    for scope, env in ws.state.envs.items():
        project, _, name = people_name(scope).partition("/")
        if args.project not in (None, project):
            continue
        files = _listed(ws.read(layout.manifest_path(scope)))
        rows.append(
            {"environment": f"{project}/{name}", "kind": env.kind, "protected": env.protected, "files": files,
             "readers": len(ws.state.readers(scope)), "default": (project, name) == default}
        )  # fmt: skip
    if ctx.as_json:
        ctx.data(rows)
        return 0
    for line in table(
        (
            str(r["environment"]),
            f"{r['readers']} readers",
            ", ".join(
                [str(r["kind"])]
                + ["protected"] * bool(r["protected"])
                + ["default"] * bool(r["default"])
                + ["no file yet"] * (not r["files"])
            ),
        )
        for r in rows
    ):
        ctx.out(line)
    return 0
