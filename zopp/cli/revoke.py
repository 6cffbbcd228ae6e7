"""Take a role away. Whoever loses read: every file of this work tree that they could read gets a new data key, and
the values they could have read are listed until each is changed at its source.
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import add_change, epilog
from zopp.cli.policychange import apply
from zopp.errors import NotFound
from zopp.repo import subjects
from zopp.repo.signer import require

EXAMPLES = epilog(
    "zopp revoke bob api/production", "zopp revoke bob api --dry-run", "zopp revoke auditors acme --auditor"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp revoke`."""
    parser.add_argument("subject", metavar="SUBJECT", help="user, e-mail, group or service")
    parser.add_argument("scope", metavar="SCOPE", help="WORKSPACE, PROJECT or PROJECT/ENV: where the role was given")
    parser.add_argument("--auditor", action="store_true", help="take the auditor flag instead of a role")
    add_change(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        state = draft.state
        scope = subjects.scope(state, args.scope)
        subject = subjects.subject(state, args.subject)
        if args.auditor:
            require(draft.state, draft.signer.principal, "flag.remove", scope.name)
            return apply(ctx, args, draft, [("flag.remove", {"flag": "auditor", "subject": subject.json()})])
        require(draft.state, draft.signer.principal, "binding.remove", str(scope))
        held = [subjects.shown(where) for who, where, _ in state.bindings if who == subject]
        if subjects.shown(scope) not in held:
            have = state.subject_role(subject.name, scope)
            how = (
                f" (its {have} there comes from elsewhere: zopp access {subject.name} {args.scope} --explain)"
                if have
                else ""
            )
            raise NotFound(
                f"{subject.name} has no role given on {args.scope}{how}",
                code="binding.none",
                hint=f"{subject.name} has roles on: {', '.join(held)}"
                if held
                else f"{subject.name} has no role at all",
            )
        return apply(ctx, args, draft, [("binding.remove", {"scope": scope.json(), "subject": subject.json()})])
