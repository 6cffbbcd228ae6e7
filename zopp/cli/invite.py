"""Invites: let a person join by a code that is handed over outside the repository.

create       make one and print its code, once. Whoever holds the code joins
list         every invite and what became of it
revoke       end one, by its id
countersign  let in who joined by an invite that confers admin, after comparing fingerprints
"""

import argparse
import os

from zopp.cli import vouch
from zopp.cli.context import Context, table
from zopp.cli.nearest import nearest
from zopp.cli.parser import Parser, add_action, add_change, epilog
from zopp.cli.policychange import conclude
from zopp.errors import NotFound, UsageError
from zopp.keys import signing
from zopp.policy import canonical, names
from zopp.policy.roles import Invite
from zopp.protocol.invite import Invite as Code
from zopp.repo import joining, subjects
from zopp.repo.clock import now, timestamp
from zopp.repo.signer import require, signer

EXAMPLES = epilog(
    "zopp invite create bob@example.org write api          prints the code; bob runs zopp join",
    "zopp invite create --any read api/dev --expires 2h    whoever has the code",
    "zopp invite list",
    "zopp invite revoke k3f9q2xa -m 'not needed'",
    "zopp invite countersign bob.join                      for an invite that confers admin",
)
_UNITS = {"m": 60, "h": 3600, "d": 86400}
LONGEST = 90 * 86400


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `zopp invite`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    make = add_action(
        actions, "create", "make one, print its code",
        "Make an invite and print its code, which is a secret until it is used: hand it over outside the repository.",
    )  # fmt: skip
    make.add_argument("words", nargs="+", metavar="EMAIL ROLE SCOPE", help="for whom, and what they may")
    make.add_argument("--any", action="store_true", help="for no e-mail address in particular: ROLE SCOPE")
    make.add_argument("--expires", default="7d", metavar="TIME", help="30m, 12h, 7d (default: 7d)")
    make.add_argument("--id", metavar="ID", help="its name in the log (default: a random one)")
    add_change(make)
    add_action(actions, "list", "every invite", "List every invite: for whom, with which role, and what became of it.")
    end = add_action(actions, "revoke", "end one", "End an invite that nobody has used: its code opens nothing.")
    end.add_argument("id", metavar="ID", help="its name, as list shows it")
    add_change(end)
    sign = add_action(
        actions, "countersign", "let an admin in",
        "Countersign the use of an invite that confers admin: let in who printed the text with zopp join.",
    )  # fmt: skip
    sign.add_argument("file", metavar="FILE", help="what zopp join printed; - reads standard input")
    sign.add_argument("--digest", metavar="HASH", help="refuse a request with another fingerprint")
    add_change(sign, yes=True)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    return {"create": _create, "list": _list, "revoke": _revoke, "countersign": _countersign}[args.action](ctx, args)


def seconds(text: str) -> int:
    """The seconds that `30m`, `12h` or `7d` are; UsageError otherwise."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit() and 0 < len(number) <= 6):
        raise UsageError("is not a time like 30m, 12h or 7d", code="expires", place="--expires")
    found = int(number) * _UNITS[unit]
    if not 0 < found <= LONGEST:
        raise UsageError("an invite lasts at most 90d", code="expires", place="--expires")
    return found


def _create(ctx: Context, args: argparse.Namespace) -> int:
    if len(args.words) != (2 if args.any else 3):
        raise UsageError("say EMAIL ROLE SCOPE, or --any ROLE SCOPE", hint="zopp invite create --help")
    email = None if args.any else args.words[0]
    role, typed = args.words[-2:]
    if role not in ("none", "read", "write", "admin"):
        near = nearest(role, ("none", "read", "write", "admin"))
        raise UsageError(
            "must be one of none, read, write, admin", place="ROLE",
            hint=f"did you mean {near}?" if near else "zopp invite create --help",
        )  # fmt: skip
    if email is not None and "@" not in email:
        raise UsageError("that is no e-mail address", code="email", hint="or --any: whoever has the code")
    lasts = seconds(args.expires)
    ident = args.id or "".join("abcdefghijkmnpqrstuvwxyz23456789"[byte % 32] for byte in os.urandom(8))
    names.check_name(ident)
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        state = draft.state
        require(state, draft.signer.principal, "invite.create", state.name)
        scope = subjects.scope(state, typed)
        seed = os.urandom(32)
        not_after = max(draft.now, state.at) + lasts
        draft.statement(
            "invite.create",
            {
                "email_tag": None if email is None else names.email_tag(state.salt, email),
                "invite": ident,
                "key": canonical.b64(signing.from_seed(seed).public),
                "not_after": not_after,
                "role": role,
                "scope": scope.json(),
            },
        )
        commit = None if args.dry_run else draft.commit(args.message)
    # Of the head after it: a clone that has less than that cannot know the invite.
    code = None if args.dry_run else Code(seed, draft.state.ws, draft.state.seq, draft.state.head).code()
    if ctx.as_json:
        ctx.data(
            {
                "invite": ident, "code": code, "role": role, "scope": subjects.shown(scope), "not_after": not_after,
                "dry_run": args.dry_run, "commit": commit,
            }
        )  # fmt: skip
    elif code is not None:
        ctx.out(code)
    ctx.note(f"invite {ident}: {role} on {subjects.shown(scope)}, until {timestamp(not_after)}")
    if args.dry_run:
        ctx.note("dry run, nothing is changed")
        return 0
    ctx.note("whoever holds the code joins: hand it over where nobody else reads, not by the repository; shown once")
    if role == "admin":
        ctx.note(
            "it confers admin: who joins sends you what zopp join prints, and you run: zopp invite countersign FILE"
        )
    if draft.state.server is None:
        ctx.note("commit and push .zopp first: the clone of whom you invite has to know the invite")
    return 0


def status(invite: Invite, at: int) -> str:
    """What became of it, by the clock `at`."""
    return "expired" if invite.status == "open" and invite.not_after < at else invite.status


def _list(ctx: Context, args: argparse.Namespace) -> int:
    ws = ctx.workspace()
    state = ws.state
    require(state, signer(ws, ctx.passphrase).principal, "invite.revoke", state.name)
    at = max(now(), state.at)
    rows = [
        {
            "invite": i.name, "status": status(i, at), "role": str(i.role),
            "scope": subjects.shown(i.scope or state.name),
            "email_bound": i.email_tag is not None, "by": i.created_by, "since": i.since, "not_after": i.not_after,
        }
        for i in state.invites.values()
    ]  # fmt: skip
    if ctx.as_json:
        ctx.data(rows)
        return 0
    for line in table(
        (
            str(r["invite"]), str(r["status"]), f"{r['role']} on {r['scope']}", f"by {r['by']}",
            "for one e-mail" if r["email_bound"] else "for anybody", f"until {timestamp(int(str(r['not_after'])))}",
        )
        for r in rows
    ):  # fmt: skip
        ctx.out(line)
    return 0


def _revoke(ctx: Context, args: argparse.Namespace) -> int:
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        state = draft.state
        require(state, draft.signer.principal, "invite.revoke", state.name)
        found = state.invites.get(args.id)
        if found is None:
            raise NotFound(f"there is no invite {args.id}", code="invite.unknown", candidates=list(state.invites))
        if found.status != "open":
            raise UsageError(f"invite {args.id} is {found.status} already", code=f"invite.{found.status}")
        draft.statement("invite.revoke", {"invite": args.id})
        return conclude(ctx, args, draft, extra={"invite": args.id})


def _countersign(ctx: Context, args: argparse.Namespace) -> int:
    with vouch.sent(args.file, "what zopp join prints where the invite confers admin is countersigned"):
        data, asked = joining.parse(vouch.read_text(ctx, args.file))
    if args.digest and args.digest != asked.digest:
        raise UsageError("the request has another fingerprint", code="digest", place=args.file)
    user, device = asked.request["user"], asked.request["name"]
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        state = draft.state
        require(state, draft.signer.principal, "invite.redeem", state.name)
        invite = state.invites.get(data["invite"])
        if invite is None:
            raise NotFound(f"there is no invite {data['invite']}", code="invite.unknown")
        joining.refuse(state, invite, now=draft.now)
        ctx.note(f"{user}, on device {device}, joins by invite {invite.name} of {invite.created_by}")
        ctx.note(f"  {invite.role} on {subjects.shown(invite.scope or state.name)}")
        ctx.note(f"  fingerprint {asked.digest}")
        again = f"compare it with {user}, then: zopp invite countersign FILE --digest HASH"
        if not args.dry_run and not args.digest and not ctx.confirm("is it theirs?", otherwise=again):
            return 1
        draft.statement("invite.redeem", data)
        return conclude(ctx, args, draft, extra={"invite": invite.name, "user": user, "principal": device})
