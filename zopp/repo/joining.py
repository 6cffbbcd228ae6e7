"""Joining by an invite: what the code pins, which invite it is, why it would not do, and the data of the redemption.

Whoever holds the code joins (policy-server.md §3.2, A21). Nothing is signed or sent here.
"""

from __future__ import annotations

from typing import Any

from zopp.errors import Denied, FormatError, IntegrityError, NotFound, Unknown
from zopp.keys.signing import SigningKey
from zopp.policy import canonical, fields as f, names, requests
from zopp.policy.roles import Invite, Role
from zopp.policy.state import State
from zopp.protocol.invite import Invite as Code
from zopp.repo import attributes, drivers, layout, pins, userdirs
from zopp.repo.workspace import Workspace, standing

_FILE = f.record(
    {
        "claim": f.SIG,
        "email_tag": f.nullable(f.HEX32),
        "invite": f.ID,
        "proof": f.SIG,
        "request": f.REQUEST,
    }
)


def check_anchor(ws: Workspace, code: Code) -> None:
    """IntegrityError unless the clone is of the workspace that the code is for, and has its policy up to the head that
    the code names (A5, A7)."""
    if ws.state.ws != code.genesis:
        raise IntegrityError(
            f"the invite is for a workspace that begins with {code.genesis[:16]}…, and this clone's with "
            f"{ws.state.ws[:16]}…",
            code="invite.workspace",
            place=layout.POLICY,
            hint="clone the repository that the invite is for; if this should be it, ask who invited you",
        )
    if ws.state.seq < code.seq:
        raise Unknown(
            f"the policy log here ends at statement {ws.state.seq}, before the invite was made ({code.seq})",
            code="policy.older",
            place=layout.POLICY,
            hint="git pull, then join again",
        )
    if ws.state.hash_at(code.seq) != code.head:
        raise IntegrityError(
            f"the policy log here has another statement {code.seq} than the one the invite was made after",
            code="policy.beside",
            place=layout.POLICY,
            hint="this may be a forged clone: ask who invited you where the repository is",
        )


def pin(ws: Workspace, code: Code) -> None:
    """Pin this clone to what the code says, if it is not pinned yet."""
    if ws.pin is not None and ws.pin.origin == "environment":
        return
    if ws.pin is None:
        ws.pin = pins.Pin(ws.state.name, code.genesis, code.seq, code.head, origin="clone")
    made = ws.pin
    made.origin = "clone"
    if code.seq > made.seq:
        made.seq, made.head = code.seq, code.head
    made.projects.setdefault(ws.folder, ws.project)
    made.default_envs.setdefault(ws.folder, ws.settings.default_env or "")
    made.default_branch = made.default_branch or ws.checkout.default_branch() or ws.checkout.head_branch()
    pins.save(userdirs.state(ws.env), ws.checkout, made)
    drivers.set_up(ws.checkout, attributes.managed(ws))
    ws.place = standing(ws.state, made)


def find(state: State, key: SigningKey) -> Invite:
    """The invite that a code's key belongs to; NotFound."""
    owner = state.key_owner(key.public) or ""
    found = state.invites.get(owner.removeprefix("invite/")) if owner.startswith("invite/") else None
    if found is None:
        raise NotFound(
            "the policy here has no such invite",
            code="invite.unknown",
            hint="git pull, then join again; if it stays so, ask who invited you",
        )
    return found


def refuse(state: State, invite: Invite, *, now: int) -> None:
    """Denied if the invite cannot be redeemed any more (S37): used, revoked, dead with its device, expired, or for
    something that is gone. `apply` judges the same again."""
    why = {
        "used": ("it was used already", "if that was not you, tell an admin at once: somebody else had the code"),
        "revoked": ("it was revoked", "ask an admin for another: zopp invite create"),
        "dead": (f"the device that made it, {invite.created_by}, is none any more", "ask an admin for another"),
    }.get(invite.status)
    if why is None and invite.not_after < max(now, state.at):
        why = ("it has expired", "ask an admin for another: zopp invite create")
    if why is not None:
        raise Denied(f"invite {invite.name}: {why[0]}", code=f"invite.{_status(invite)}", hint=why[1])


def _status(invite: Invite) -> str:
    return invite.status if invite.status != "open" else "expired"


def check_email(state: State, invite: Invite, address: str) -> None:
    """Denied unless the invite is for this address, however spelled (S35)."""
    if invite.email_tag is not None and names.email_tag(state.salt, address) != invite.email_tag:
        raise Denied(
            f"invite {invite.name} is for another e-mail address",
            code="invite.email",
            hint="say the address that it was sent to, or ask for one of your own",
        )


def confers_admin(invite: Invite) -> bool:
    """Whether an admin has to countersign (A20)."""
    return invite.role == Role.ADMIN


def data_of(invite: Invite, asked: requests.Request, claim: bytes | None) -> dict[str, Any]:
    """The data of `invite.redeem`."""
    return {
        "claim": None if claim is None else canonical.b64(claim),
        "email_tag": invite.email_tag,
        "invite": invite.name,
        "proof": asked.proof,
        "request": dict(asked.request),
    }


def seal(data: dict[str, Any]) -> bytes:
    """What a person sends to an admin to be countersigned, one line without newline."""
    text = canonical.encode(data)
    parse(text)
    return text


def parse(text: bytes) -> tuple[dict[str, Any], requests.Request]:
    """The data of a redemption to be countersigned, and the request in it, whose proof holds. FormatError otherwise;
    the invite's claim is judged by `apply`."""
    value = canonical.decode(text.removesuffix(b"\n"))
    problems: list[f.Problem] = []
    _FILE.check(value, "file", problems)
    if problems:
        raise FormatError("is not a redemption to countersign", code="redemption", problems=tuple(problems))
    asked = requests.parse(canonical.encode({"proof": value["proof"], "request": value["request"]}))
    return value, asked
