"""Groups of users and services. What a group is bound to, its members have; removing one rekeys like revoke."""

import argparse

from zopp.cli.context import Context, table
from zopp.cli.parser import Parser, add_action, add_change, epilog
from zopp.cli.policychange import apply, nothing
from zopp.errors import NotFound
from zopp.repo import subjects
from zopp.repo.draft import Draft
from zopp.repo.signer import require

EXAMPLES = epilog("zopp group create developers", "zopp group add developers bob", "zopp grant developers write api")


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `zopp group`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    for name, text, said in (
        ("create", "make a group", "Make a group, empty and without a role."),
        (
            "delete", "delete a group and what it is bound to",
            "Delete a group and the roles given to it. Whoever loses read by that is rekeyed out.",
        ),
    ):  # fmt: skip
        sub = add_action(actions, name, text, said)
        sub.add_argument("group", metavar="GROUP", help="its name")
        add_change(sub)
    # `add-member` and `remove-member` are the upstream words
    for name, text, said in (
        ("add", "add a member", "Add a user or service to a group: it may at once what the group may."),
        ("remove", "take a member out", "Take a member out of a group. If it loses read, files get new data keys."),
    ):
        sub = add_action(actions, name, text, said, aliases=[f"{name}-member"])
        sub.add_argument("group", metavar="GROUP", help="its name")
        sub.add_argument("member", metavar="MEMBER", help="user, e-mail or service")
        add_change(sub)
    sub = add_action(actions, "list", "list groups and members", "List the groups and who is in them. Needs no key.")
    sub.add_argument("group", nargs="?", metavar="GROUP", help="only this one")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.action == "list":
        return _list(ctx, args)
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        action = args.action.partition("-")[0]
        if action == "create":
            require(draft.state, draft.signer.principal, "group.create", draft.state.name)
            return apply(ctx, args, draft, [("group.create", {"group": draft.state.next_name(args.group)})])
        group = _known(draft, args.group)
        if action == "delete":
            require(draft.state, draft.signer.principal, "group.delete", draft.state.name)
            return apply(ctx, args, draft, [("group.delete", {"group": group})])
        member = subjects.subject(draft.state, args.member)
        inside = member.name in draft.state.groups[group]
        if inside == (action == "add"):
            return nothing(ctx, f"{member.name} is {'' if inside else 'not '}in {args.group} already")
        bound = [str(scope) for who, scope, _ in draft.state.bindings if who.name == group]
        for scope in bound or [draft.state.name]:
            require(draft.state, draft.signer.principal, "binding.set", scope)
        return apply(ctx, args, draft, [(f"group.member.{action}", {"group": group, "member": member.json()})])


def _known(draft: Draft, typed: str) -> str:
    try:
        found = draft.state.subject(typed)
    except NotFound:
        found = None
    if found is None or found.kind != "group":
        raise NotFound(
            f"there is no group {typed}",
            code="group.unknown",
            candidates=[name.partition("@")[0] for name in draft.state.groups],
        )
    return found.name


def _list(ctx: Context, args: argparse.Namespace) -> int:
    state = ctx.workspace().state
    # `devs@2` in statements is `devs` to people.
    groups = {name.partition("@")[0]: sorted(members) for name, members in state.groups.items()}
    rows = {name: members for name, members in groups.items() if args.group in (None, name)}
    if args.group is not None and not rows:
        raise NotFound(f"there is no group {args.group}", code="group.unknown", candidates=list(groups))
    if ctx.as_json:
        ctx.data(rows)
    else:
        for line in table((name, ", ".join(members) or "(empty)") for name, members in rows.items()):
            ctx.out(line)
    return 0
