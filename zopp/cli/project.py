"""Projects of the workspace: one per repository, or per folder of a monorepo."""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import Parser, add_action, add_change, epilog
from zopp.cli.policychange import apply
from zopp.errors import NotFound
from zopp.repo import layout, settings as settings_module, subjects
from zopp.repo.settings import Settings
from zopp.repo.signer import require

EXAMPLES = epilog("zopp project list", "zopp project create web --folder web")


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `zopp project`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    add_action(actions, "list", "list the projects", "List the projects of the workspace. Needs no key.")
    sub = add_action(
        actions,
        "create",
        "make one",
        "Make a project of the workspace; with --folder also the zopp.toml that names it.",
    )
    sub.add_argument("name", metavar="PROJECT", help="its name")
    sub.add_argument("--folder", metavar="DIR", help="write its zopp.toml into this folder of the repository")
    add_change(sub)
    sub = add_action(
        actions, "archive", "close one", "Close a project with its environments.",
        aliases=["delete"],
    )  # fmt: skip
    sub.add_argument("name", metavar="PROJECT", help="its name")
    add_change(sub)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.action == "list":
        state = ctx.workspace().state
        rows = {subjects.shown(p): [subjects.shown(e) for e in envs] for p, envs in state.projects.items()}
        if ctx.as_json:
            ctx.data(rows)
        else:
            for name in rows:
                ctx.out(name)
        return 0
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        ws = draft.ws
        if args.action == "create":
            require(draft.state, draft.signer.principal, "project.create", draft.state.name)
            if args.folder is not None:
                folder = args.folder.strip("/")
                place = f"{folder}/{layout.SETTINGS}" if folder not in ("", ".") else layout.SETTINGS
                made = Settings(workspace=ws.state.name, genesis=ws.state.ws, project=args.name)
                draft.put(place, settings_module.render(made, folder=folder).encode())
                if ws.pin is not None:
                    ws.pin.projects[folder] = args.name
            code = apply(ctx, args, draft, [("project.create", {"project": draft.state.next_name(args.name)})])
            if args.folder is not None and ws.pin is not None and not args.dry_run:
                from zopp.repo import pins, userdirs

                pins.save(userdirs.state(ctx.env), ws.checkout, ws.pin)
            return code
        scope = subjects.scope(draft.state, args.name)
        if scope.kind != "project":
            known = [subjects.shown(name) for name in draft.state.projects]
            raise NotFound(f"there is no project {args.name}", code="project.unknown", candidates=known)
        require(draft.state, draft.signer.principal, "project.archive", draft.state.name)
        return apply(ctx, args, draft, [("project.archive", {"project": scope.name})])
