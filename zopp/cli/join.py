"""Join a workspace by an invite's code, in a clone of its repository.

Pins this clone to what the code says, makes this device's keys if there are none, and has the policy let them in. The
code is asked for, or read from standard input; it is a secret until it is used. Keys that are here already stay.

An invite that confers admin is countersigned: this prints what to send to an admin.
"""

import argparse
import socket
from typing import TYPE_CHECKING

from zopp.cli.context import Context, read_stdin
from zopp.cli.init import slug
from zopp.cli.parser import epilog
from zopp.errors import Denied, UsageError
from zopp.keys.signing import SigningKey
from zopp.keys.store import LoadedKey, Store
from zopp.policy import canonical, names, requests
from zopp.policy.names import Scope
from zopp.policy.roles import Invite
from zopp.policy.state import State
from zopp.protocol import invite as invites
from zopp.repo import create, git, joining, journal, layout, userdirs
from zopp.repo.clock import now
from zopp.repo.draft import Draft
from zopp.repo.environment import people_name
from zopp.repo.signer import Signer
from zopp.repo.workspace import Workspace, open_workspace, require_receipt, standing

if TYPE_CHECKING:
    from zopp.client.changing import Desk

EXAMPLES = epilog(
    "zopp join                                            asks for the code, and for your e-mail if it is bound to one",
    "zopp join --user bob --device bob-laptop -m 'bob joins'",
    "zopp join --email bob@example.org --code - < code    in a script",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp join`."""
    parser.add_argument("--code", choices=("-",), help="- reads the code from standard input")
    parser.add_argument("--email", metavar="ADDRESS", help="the address that the invite is for")
    parser.add_argument("--user", metavar="HANDLE", help="your handle, kept for ever (default: from git's user.name)")
    parser.add_argument("--device", metavar="NAME", help="name of this device (default: HANDLE-HOST)")
    parser.add_argument("-m", "--message", metavar="MSG", help="make a git commit of the change")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    checkout = layout.find_checkout(ctx.cwd)
    code = invites.parse(read_stdin() if args.code == "-" or not ctx.interactive() else ctx.secret("invite code"))
    key = code.key()
    with journal.settled(checkout):
        ws = open_workspace(ctx.cwd, ctx.env, recover=False, ci_needs_pin=False, new_project=True, needs_receipt=False)
        desk: "Desk | None" = None
        if ws.state.server is not None and ws.state.ws == code.genesis:
            from zopp.cli import served  # without a server nothing of a network is loaded

            desk = served.desk(ctx)
        try:
            if desk is not None:
                _fetch(ws, desk, key)
            joining.check_anchor(ws, code)
            require_receipt(ws)
            invite = joining.find(ws.state, key)
            joining.refuse(ws.state, invite, now=now())
            _email(ctx, args, ws.state, invite)
            user, device = _names(ctx, args, ws)
            joining.pin(ws, code)
            asked = _request(ctx, ws, user, device)
            if joining.confers_admin(invite):
                return _to_countersign(ctx, ws, invite, asked, key)
            draft = Draft(ws, Signer(f"invite/{invite.name}", key), now(), None if desk is None else desk.submit)
            draft.statement("invite.redeem", joining.data_of(invite, asked, None))
            commit = draft.commit(args.message)
        finally:
            if desk is not None:
                desk.close()
    return _joined(ctx, draft, user, asked.request["name"], commit)


def _fetch(ws: Workspace, desk: "Desk", key: SigningKey) -> None:
    try:
        found = desk.newest(ws, key=key)
    except Denied as exc:
        if exc.code != "bad_signature":
            raise
        raise Denied(
            "the server does not know this invite, or it is not open any more",
            code="invite.unknown",
            hint="ask who invited you for another",
        ) from None
    if found is not None:
        ws.state, ws.log, ws.receipt = found.state, found.log, found.receipt
        ws.place = standing(ws.state, ws.pin)


def _email(ctx: Context, args: argparse.Namespace, state: State, invite: Invite) -> None:
    if invite.email_tag is None:
        return
    address = args.email
    if not address:
        if not ctx.interactive():
            raise UsageError(
                "the invite is for one e-mail address", code="invite.email", hint="zopp join --email ADDRESS"
            )
        ctx.note("the invite is for one e-mail address; yours:")
        address = input().strip()
    joining.check_email(state, invite, address)


def _names(ctx: Context, args: argparse.Namespace, ws: Workspace) -> tuple[str, str]:
    user = args.user or slug(git.config(ws.root, "user.name") or ctx.env.get("USER", ""))
    if args.user:
        names.check_name(user)
    if not names.is_typed_name(user):
        raise UsageError("no handle for you could be found", hint="zopp join --user HANDLE")
    device = args.device or slug(f"{user}-{socket.gethostname().partition('.')[0]}")
    device = device if device != user else f"{user}-device"
    if not names.is_typed_name(device):
        raise UsageError("that is no name for a device", hint="zopp join --device NAME")
    known = ws.state.users.get(user)
    if known is not None and known.enabled:
        raise UsageError(
            f"there is a user {user} already",
            code="exists",
            hint=f"if that is you, enrol this device with: zopp principal request --user {user}; "
            "else choose another handle: zopp join --user HANDLE",
        )
    return ws.state.next_name(user), ws.state.next_name(device)


def _request(ctx: Context, ws: Workspace, user: str, device: str) -> requests.Request:
    loaded = _keys(ctx, ws, device)
    if loaded.signing is None:
        raise UsageError(f"key {loaded.name} has no signing key", hint="zopp principal use KEY, for one that has")
    return create.request(
        ws=ws.state.ws, name=device, user=user, recipient=loaded.identity.recipient, key=loaded.signing, now=now()
    )


def _keys(ctx: Context, ws: Workspace, device: str) -> LoadedKey:
    """The keys in use, unless they are somebody's here already: then new ones beside them (S40)."""
    store = Store(userdirs.config(ctx.env))
    current = store.current()
    if current is not None:
        loaded = store.load(ask=ctx.passphrase)
        taken = loaded.signing is not None and ws.state.key_owner(loaded.signing.public) is not None
        if not taken and ws.state.recipient_owner(loaded.identity.recipient) is None:
            return loaded
        ctx.note(
            f"the keys in use, {current}, belong to somebody here already; back to them: zopp principal use {current}"
        )
    name, number = device.partition("@")[0], 2
    base = name
    while name in store.names():
        name, number = f"{base}-{number}", number + 1
    store.create(name)
    store.use(name)
    ctx.note(f"made this device's keys: {name}")
    return store.load(name, ask=ctx.passphrase)


def _to_countersign(ctx: Context, ws: Workspace, invite: Invite, asked: requests.Request, key: SigningKey) -> int:
    claim = key.sign(requests.claim_to_sign(canonical.encode(dict(asked.request))))
    text = joining.seal(joining.data_of(invite, asked, claim)).decode()
    if ctx.as_json:
        ctx.data({"joined": False, "countersign": text, "fingerprint": asked.digest, "invite": invite.name})
    else:
        ctx.out(text)
    ctx.note(f"this invite confers admin: fingerprint {asked.digest}")
    ctx.note("send this to an admin, who compares the fingerprint with you and runs: zopp invite countersign FILE")
    return 0


def _joined(ctx: Context, draft: Draft, user: str, device: str, commit: str | None) -> int:
    state = draft.state
    readable = [scope for scope in state.envs if state.role(device, Scope("env", scope)) >= 1]
    writers = {
        scope: sorted({state.principals[p].holder for p in state.writers(scope) if state.principals[p].holder != user})
        for scope in readable
    }
    if ctx.as_json:
        ctx.data(
            {
                "joined": True, "user": user, "device": device, "commit": commit,
                "environments": {people_name(scope): {"rekey_by": writers[scope]} for scope in readable},
            }
        )  # fmt: skip
    ctx.note(f"you are {user}, this device is {device}")
    if state.server is None:
        ctx.note("push .zopp with git: it counts for others when they have it")
    for scope in readable:
        if draft.ws.read(layout.manifest_path(scope)) is None:
            continue  # it has no files that somebody could not open
        who = " or ".join(writers[scope][:3]) or "a writer"
        pull = "zopp policy pull && " if state.server is not None else "git pull && "
        ctx.note(
            f"the files of {people_name(scope)} are not encrypted to you yet; {who} runs: "
            f"{pull}zopp rekey {people_name(scope)}"
        )
    return 0
