"""Take everything from someone who leaves: bindings, groups, devices; rekey what they could read; list the values.

Run again it finds nothing to do. --dry-run shows all of it and changes nothing.
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import add_change, epilog
from zopp.cli.policychange import conclude, nothing
from zopp.errors import NotFound, UsageError
from zopp.policy.names import Subject
from zopp.policy.state import State
from zopp.repo import subjects
from zopp.repo.signer import require

EXAMPLES = epilog("zopp offboard bob --dry-run", "zopp offboard bob -m 'bob left'")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp offboard`."""
    parser.add_argument("subject", metavar="SUBJECT", help="user, e-mail or service")
    add_change(parser, yes=True)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        state = draft.state
        subject = _who(state, args.subject)
        if subject.kind == "group":
            raise UsageError(f"{subject.name} is a group", hint=f"zopp group delete {subject.name}")
        require(draft.state, draft.signer.principal, "user.disable", state.name)
        plan: list[tuple[str, dict[str, object]]] = []
        lines: list[str] = []
        for who, scope, role in state.bindings:
            if who == subject:
                plan.append(("binding.remove", {"scope": scope.json(), "subject": subject.json()}))
                lines.append(f"role {role} on {subjects.shown(scope)}")
        for group in sorted(state.groups_of(subject.name)):
            plan.append(("group.member.remove", {"group": group, "member": subject.json()}))
            lines.append(f"member of group {group}")
        if subject in state.auditors:
            plan.append(("flag.remove", {"flag": "auditor", "subject": subject.json()}))
            lines.append("the auditor flag")
        devices = state.devices(subject.name) if subject.kind == "user" else (subject.name,)
        for device in devices:
            if state.principals[device].enabled:
                plan.append(("principal.disable", {"principal": device}))
                lines.append(f"{'device' if subject.kind == 'user' else 'service'} {device}")
        if subject.kind == "user" and state.users[subject.name].enabled:
            plan.append(("user.disable", {"user": subject.name}))
            lines.append(f"user {subject.name}")
        if not plan:
            return nothing(ctx, f"{subject.name} has nothing left")
        ctx.note(f"{subject.name} {'would lose' if args.dry_run else 'loses'}:")
        for line in lines:
            ctx.note(f"  {line}")
        if ctx.interactive() and not args.dry_run and not ctx.confirm(f"offboard {subject.name}?", otherwise=""):
            return 1
        for type_, data in plan:
            draft.statement(type_, data)
        code = conclude(ctx, args, draft, extra={"subject": subject.name, "removed": lines})
    if not args.dry_run:
        from zopp.cli import reindex

        reindex.renew(ctx, ctx.workspace())
    return code


def _who(state: State, typed: str) -> Subject:
    try:
        return subjects.subject(state, typed)
    except NotFound:
        if typed in state.users:
            return Subject("user", typed)
        raise
