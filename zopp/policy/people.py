"""Statements about users, their devices, services, caps and invites. Private to `apply`; see `act`.

**An admin's devices (A20).** A new device, new keys, a re-enabled device or a lifted cap of somebody who is admin
anywhere needs one enabled device of that person: it signs the statement, or vouches (`requests.vouch_to_sign`) for its
exact data. Whoever lost every device is demoted, enrolled and promoted: three visible statements. A disabled user who
holds admin cannot be enabled for the same reason, as no device of theirs could vouch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from zopp import _fast
from zopp.keys import signing
from zopp.policy import canonical, requests
from zopp.policy.act import Act
from zopp.policy.roles import LEVEL, Invite, Principal, Role, User
from zopp.policy.tables import ADMIN


def _user_add(act: Act) -> None:
    act.need("")
    d = act.st._data
    _new_user(act, d["user"], d["email_tag"])


def _new_user(act: Act, name: str, email_tag: str | None) -> None:
    t = act.t
    act.take_name(name, "user")
    _take_email(act, email_tag, name)
    t.users[name] = User(name, email_tag, True, act.st.seq)
    t.devices[name] = ()


def _take_email(act: Act, tag: str | None, user: str) -> None:
    if tag is not None and act.t.emails.setdefault(tag, user) != user:
        raise act.no("email", "another user has this e-mail address")


def _user(act: Act, *, enabled: bool) -> User:
    name = act.st._data["user"]
    user = act.t.users.get(name)
    if user is None:
        raise act.no("subject", f"there is no user {name}")
    if user.enabled != enabled:
        raise act.no("no_change", f"the user {name} is {'disabled' if enabled else 'enabled'} already")
    return user


def _admin_anywhere(act: Act, user: str) -> bool:
    return ADMIN in act.t.direct(user).values()


def _user_disable(act: Act) -> None:
    act.need("")
    user = _user(act, enabled=True)
    t = act.t
    devices = t.devices[user.name]

    def change() -> None:
        t.users[user.name] = replace(user, enabled=False)

    act.limits(devices, change)
    if user.email_tag is not None:
        del t.emails[user.email_tag]
    for device in devices:
        _kill_invites(act, device)


def _user_enable(act: Act) -> None:
    act.need("")
    user = _user(act, enabled=False)
    act.latest(user.name)
    t = act.t
    if _admin_anywhere(act, user.name):
        raise act.no("A20", f"{user.name} is bound as admin: remove that, enable, and grant it again")
    _take_email(act, user.email_tag, user.name)

    def change() -> None:
        t.users[user.name] = replace(user, enabled=True)

    act.limits(t.devices[user.name], change)


def _kill_invites(act: Act, device: str) -> None:
    t = act.t
    for name in t.open_invites.get(device, ()):
        t.invites[name] = replace(t.invites[name], status="dead")
    t.open_invites.pop(device, None)


# --- keys


def _use_request(act: Act, request: dict[str, Any], proof: str | None) -> bytes | None:
    """The key of a request after everything that makes it good here and now; its proof is queued for checking."""
    t, st = act.t, act.st
    if request["ws"] != t.ws:
        raise act.no("request", "the request is for another workspace")
    if request["not_after"] < st.at:
        raise act.no("expired", "the request has expired")
    if (request["key"] is None) != (proof is None):
        raise act.no("request", "a proof goes with a signing key and only with one")
    _use_once(act, "request/" + request["id"], "the request")
    if request["key"] is None or proof is None:
        return None
    key = canonical.unb64(request["key"], 32)
    signed = requests.to_sign(canonical.encode(request))
    act.checks.append((st.seq, "the request's proof", key, canonical.unb64(proof, 64), signed))
    return key


def _use_once(act: Act, what: str, noun: str) -> None:
    if act.t.used.setdefault(what, act.st.seq) != act.st.seq:
        raise act.no("used", f"{noun} has been used before")


def _take_keys(act: Act, name: str, key: bytes | None, recipient: str, old: Principal | None = None) -> None:
    """Keys are unique in the workspace for ever, disabled ones included, and no server key (A3). A rekey may keep one
    of its own two."""
    t = act.t
    if key is not None and not (old and old.key == key):
        if key in t.keys:
            raise act.no("key_reuse", "the signing key is or was in use")
        t.keys[key] = name
    if not (old and old.recipient == recipient):
        if recipient in t.recipients:
            raise act.no("key_reuse", "the recipient is or was in use")
        t.recipients[recipient] = name
        if recipient.startswith("ssh-"):
            # Signing key and age identity are two secrets (brokered-grants.md §2), also when one is an SSH key.
            ssh_key = signing.parse_public_line(recipient)
            if ssh_key in t.keys:
                raise act.no("key_reuse", "the recipient's key is or was a signing key")
            t.keys[ssh_key] = name


def _vouched(act: Act, user: str, *, but: str | None = None) -> None:
    """A20. `but`: a device that cannot vouch for itself."""
    t, st = act.t, act.st
    vouch = st._data["vouch"]
    if vouch is not None:
        d = t.principals.get(vouch["device"])
        if d is None or d.user != user or d.key is None or not d.enabled or not t.users[user].enabled or d.name == but:
            raise act.no("A20", "the vouch is not by an enabled device of that user")
        if vouch["not_after"] < st.at:
            raise act.no("expired", "the vouch has expired")
        signed = requests.vouch_to_sign(
            st.type, st._data, ws=t.ws, device=vouch["device"], not_after=vouch["not_after"]
        )
        _use_once(act, "vouch/" + _fast.sha256(signed).hex(), "the vouch")
        act.checks.append((st.seq, "its vouch", d.key, canonical.unb64(vouch["sig"], 64), signed))
        return
    if _admin_anywhere(act, user) and act.actor.user != user:
        raise act.no("A20", f"{user} is an admin: one of {user}'s present devices has to sign or vouch")


def _enrol(act: Act) -> None:
    act.need("")
    d = act.st._data
    request = d["request"]
    user = request["user"]
    if user is None:
        if d["cap"] is not None or d["vouch"] is not None:
            raise act.no("subject", "a service has neither cap nor vouch")
    else:
        _enabled_user(act, user)
        _vouched(act, user)
    key = _use_request(act, request, d["proof"])
    _add_principal(act, request, key, None if d["cap"] is None else Role(LEVEL[d["cap"]]))


def _enabled_user(act: Act, name: str) -> None:
    user = act.t.users.get(name)
    if user is None or not user.enabled:
        raise act.no("subject", f"there is no enabled user {name}")


def _add_principal(act: Act, request: dict[str, Any], key: bytes | None, cap: Role | None) -> None:
    t = act.t
    name, user = request["name"], request["user"]
    act.take_name(name, "principal")
    _take_keys(act, name, key, request["recipient"])

    def change() -> None:
        t.principals[name] = Principal(name, user, key, request["recipient"], cap, True, act.st.seq)
        if user is not None:
            t.devices[user] = (*t.devices[user], name)

    act.limits((name,), change)


def _principal(act: Act, name: str) -> Principal:
    p = act.t.principals.get(name)
    if p is None:
        raise act.no("subject", f"there is no principal {name}")
    return p


def _rekey(act: Act) -> None:
    act.need("")
    d, t = act.st._data, act.t
    request = d["request"]
    p = _principal(act, request["name"])
    if request["user"] != p.user:
        raise act.no("subject", "the request is for another user's device")
    if not p.enabled:
        raise act.no("subject", f"{p.name} is disabled")
    if p.user is not None:
        _enabled_user(act, p.user)
        _vouched(act, p.user)
    elif d["vouch"] is not None:
        raise act.no("subject", "a service has no vouch")
    key = _use_request(act, request, d["proof"])
    recipient = request["recipient"]
    if (key, recipient) == (p.key, p.recipient):
        raise act.no("no_change", f"{p.name} has these keys already")
    _take_keys(act, p.name, key, recipient, p)
    if t.limit(p.name):
        # The old recipient opened what it could read: a loss of read for rotation (S47). So is becoming unfit for a
        # brokered environment, whose files are encrypted to signing X25519 principals only.
        unfit = key is None or not recipient.startswith("age1")
        for scope in t.below(t.direct(p.holder), ""):
            if "/" in scope and (recipient != p.recipient or (unfit and t.envs[scope].kind == "brokered")):
                act.lost.add(scope)

    def change() -> None:
        t.principals[p.name] = replace(p, key=key, recipient=recipient)

    act.limits((p.name,), change)
    _kill_invites(act, p.name)


def _disable(act: Act) -> None:
    p = _principal(act, act.st._data["principal"])
    if not act.own(p.name):
        act.need("")
    if not p.enabled:
        raise act.no("no_change", f"{p.name} is disabled already")

    def change() -> None:
        act.t.principals[p.name] = replace(p, enabled=False)

    act.limits((p.name,), change)
    _kill_invites(act, p.name)


def _enable(act: Act) -> None:
    act.need("")
    d = act.st._data
    p = _principal(act, d["principal"])
    if p.enabled:
        raise act.no("no_change", f"{p.name} is enabled already")
    act.latest(p.name)
    if p.user is not None:
        _enabled_user(act, p.user)
        _vouched(act, p.user, but=p.name)
    elif d["vouch"] is not None:
        raise act.no("subject", "a service has no vouch")

    def change() -> None:
        act.t.principals[p.name] = replace(p, enabled=True)

    act.limits((p.name,), change)


def _cap_set(act: Act) -> None:
    act.need("")
    d = act.st._data
    p = _principal(act, d["principal"])
    if p.user is None:
        raise act.no("subject", "a service has no cap")
    cap = None if d["cap"] is None else Role(LEVEL[d["cap"]])
    if cap == p.cap:
        raise act.no("no_change", f"{p.name} has this cap already")
    lifts = (ADMIN if cap is None else cap) > (ADMIN if p.cap is None else p.cap)
    # No device lifts its own cap: a capped one is no workspace admin and did not get past `need` (S23).
    if lifts or d["vouch"] is not None:
        _enabled_user(act, p.user)
        _vouched(act, p.user, but=p.name)

    def change() -> None:
        act.t.principals[p.name] = replace(p, cap=cap)

    act.limits((p.name,), change)


# --- invites


def _human(act: Act) -> None:
    act.need("")
    if act.actor.user is None:
        raise act.no("not_human", "only people create, revoke and countersign invites")


def _invite_create(act: Act) -> None:
    _human(act)
    d, t = act.st._data, act.t
    scope = act.scope(d["scope"])
    if d["invite"] in t.invites:
        raise act.no("name", "an invite of this id exists")
    if d["not_after"] < act.st.at:
        raise act.no("expired", "the invite expires before it begins")
    if d["email_tag"] is not None and d["email_tag"] in t.emails:
        raise act.no("email", "a user has this e-mail address already")
    key = canonical.unb64(d["key"], 32)
    if key in t.keys:
        raise act.no("key_reuse", "the invite's key is or was in use")
    t.keys[key] = "invite/" + d["invite"]
    by = act.actor.name
    t.invites[d["invite"]] = Invite(
        d["invite"], key, d["email_tag"], scope, Role(LEVEL[d["role"]]), by, d["not_after"], act.st.seq
    )
    t.open_invites[by] = t.open_invites.get(by, frozenset()) | {d["invite"]}


def _invite(act: Act) -> Invite:
    invite = act.t.invites.get(act.st._data["invite"])
    if invite is None:
        raise act.no("invite", "there is no such invite")
    if invite.status != "open":
        raise act.no("invite_" + invite.status, f"the invite is {invite.status}", invite=invite.name)
    return invite


def _close(act: Act, invite: Invite, status: str) -> None:
    t = act.t
    t.invites[invite.name] = replace(invite, status=status)
    t.open_invites[invite.created_by] = t.open_invites.get(invite.created_by, frozenset()) - {invite.name}


def _invite_revoke(act: Act) -> None:
    _human(act)
    _close(act, _invite(act), "revoked")


def _redeem(act: Act) -> None:
    """The creator's rights of now are what counts; a countersignature adds an admin who compared fingerprints."""
    d, t, st = act.st._data, act.t, act.st
    invite = _invite(act)
    by_invite = st.by.startswith("invite/")
    if not by_invite:
        _human(act)
    if (d["claim"] is None) != by_invite:
        raise act.no("claim", "the invite signs the statement, or its claim when an admin does")
    if by_invite and invite.role == Role.ADMIN:
        raise act.no("countersign", "an invite that confers admin is countersigned by an admin")
    request = d["request"]
    if d["claim"] is not None:
        signed = requests.claim_to_sign(canonical.encode(request))
        act.checks.append((st.seq, "the invite's claim", invite.key, canonical.unb64(d["claim"], 64), signed))
    if invite.not_after < st.at:
        raise act.no("expired", "the invite has expired")
    if d["email_tag"] != invite.email_tag:
        raise act.no("email", "the invite is for another e-mail address")
    creator = t.principals[invite.created_by]
    act.act_as(creator)
    act.need("")
    if request["user"] is None:
        raise act.no("request", "an invite lets a person in, not a service")
    if not t.exists(invite.scope):
        raise act.no("scope", "what the invite was for is gone")
    _new_user(act, request["user"], invite.email_tag)
    key = _use_request(act, request, d["proof"])
    if invite.role:
        t.set_binding(invite.scope, request["user"], int(invite.role))
    _add_principal(act, request, key, None)
    _close(act, invite, "used")


HANDLERS: dict[str, Callable[[Act], Any]] = {
    "genesis": lambda act: _again(act),
    "user.add": _user_add,
    "user.disable": _user_disable,
    "user.enable": _user_enable,
    "principal.enrol": _enrol,
    "principal.rekey": _rekey,
    "principal.disable": _disable,
    "principal.enable": _enable,
    "cap.set": _cap_set,
    "invite.create": _invite_create,
    "invite.redeem": _redeem,
    "invite.revoke": _invite_revoke,
}


def _again(act: Act) -> None:
    raise act.no("genesis", "there is one genesis")
