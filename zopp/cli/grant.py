"""Give a user, group or service a role: read, write or admin, on a workspace, a project or one environment.

Recipients follow: files of environments that the subject may now read are encrypted to their devices at once.
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import add_change, epilog
from zopp.cli.policychange import apply, nothing
from zopp.errors import UsageError
from zopp.policy import decisions
from zopp.policy.roles import Role
from zopp.repo import subjects
from zopp.repo.draft import Draft
from zopp.repo.signer import require

EXAMPLES = epilog(
    "zopp grant bob write api",
    "zopp grant carol@example.org read api/production -m 'carol may read production'",
    "zopp grant auditors auditor acme          the flag that lets read the audit log",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp grant`."""
    parser.add_argument("subject", metavar="SUBJECT", help="user, e-mail, group or service")
    parser.add_argument(
        "role", metavar="ROLE", choices=("read", "write", "admin", "auditor"), help="read, write, admin; or auditor"
    )
    parser.add_argument("scope", metavar="SCOPE", help="WORKSPACE, PROJECT or PROJECT/ENV")
    add_change(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        state = draft.state
        scope = subjects.scope(state, args.scope)
        subject = subjects.subject(state, args.subject)
        if args.role == "auditor":
            if scope.kind != "workspace":
                raise UsageError(
                    "the auditor flag is the workspace's", hint=f"zopp grant {args.subject} auditor {state.name}"
                )
            if subject in state.auditors:
                return nothing(ctx, f"{subject.name} is an auditor already")
            require(draft.state, draft.signer.principal, "flag.set", scope.name)
            return apply(ctx, args, draft, [("flag.set", {"flag": "auditor", "subject": subject.json()})])
        require(draft.state, draft.signer.principal, "binding.set", str(scope))
        role = Role.parse(args.role)
        if any(s == subject and w == scope and r == role for s, w, r in state.bindings):
            return nothing(ctx, f"{subject.name} has {role} on {subjects.shown(scope)} already")
        draft.statement("binding.set", {"role": args.role, "scope": scope.json(), "subject": subject.json()})
        if not decisions.effect(state, draft.state):
            _explain_nothing(ctx, draft, subject.name, str(scope), role)
        return apply(ctx, args, draft, [])


def _explain_nothing(ctx: Context, draft: Draft, subject: str, scope: str, role: Role) -> None:
    """S19: a binding that changes nothing says why."""

    state = draft.state
    have = state.subject_role(subject, scope)
    if have > role:
        winning = state.explain(subject, scope).winning
        source = f" from {subjects.shown(winning.scope)}" if winning else ""
        ctx.note(f"{subject} has {have} on {subjects.shown(scope)} already{source}, and the highest role counts")
    elif subject in state.users and not any(state.principals[d].enabled for d in state.devices(subject)):
        ctx.note(f"{subject} has no device yet; the role counts from the first one on")
    elif subject in state.groups and not state.groups[subject]:
        ctx.note(f"group {subject} is empty; the role counts for whoever is added")
