"""One statement on top of a state: header, authority, judgement by effect, invariants (policy-server.md §4.3).

`apply` is pure and has no clock: expiries are judged by the statement's own `at`. Every refusal is an IntegrityError
with `rule` and `seq` in its data. Signatures are collected while folding and checked before anything is answered
(`log.fold` does so for many at once); nothing here is state before they hold.

Three layers, each enough alone against its class of mistake: the table of who must be admin where (`changes`), the
effect (who gains or loses what, I1 and I2), and the human admin who must remain (I5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zopp import _fast
from zopp.errors import IntegrityError, ZoppError
from zopp.policy import canonical, changes, people
from zopp.policy.act import Act
from zopp.policy.roles import Principal, Role, User
from zopp.policy.state import State
from zopp.policy.statement import Statement, draft, parse, seal, to_sign
from zopp.policy.tables import ADMIN, READ, WRITE, Tables

HANDLERS = {**changes.HANDLERS, **people.HANDLERS}

Check = tuple[int, str, bytes, bytes, bytes]
"""A signature still to be verified: (seq, what it is, key, signature, signed bytes)."""


def refuse(st: Statement, rule: str, message: str, **data: Any) -> IntegrityError:
    """A refusal of a statement."""
    return IntegrityError(f"statement {st.seq} ({st.type}): {message}", code="policy", rule=rule, seq=st.seq, **data)


def verify_one(check: Check) -> None:
    """IntegrityError unless the signature holds."""
    seq, what, key, sig, message = check
    if not _fast.ed25519_verify(key, sig, message):
        raise IntegrityError(f"statement {seq}: {what} does not verify", code="policy", rule="signature", seq=seq)


def apply(state: State | None, statement: Statement) -> State:
    """The state after `statement`, all signatures verified; `state` stays as it is. None: the genesis comes first."""
    tables = Tables() if state is None else state._tables.copy()
    checks: list[Check] = []
    step(tables, statement, checks)
    for check in checks:
        verify_one(check)
    return State._of(tables)


def supposed(state: State, said: Iterable[tuple[str, Mapping[str, Any]]], by: str) -> State:
    """What would hold if `by` said the same (type, data) on top of `state`; what would be refused there is left out.
    No signature is made or asked for: it tells what someone would lose, and nothing may be judged by it."""
    for type_, data in said:
        tables = state._tables.copy()
        try:
            body = draft(type_, data, ws=state.ws, seq=state.seq + 1, prev=state.head, at=state.at, by=by)
            step(tables, parse(seal(body, [bytes(64)])), [])
        except ZoppError:
            continue
        state = State._of(tables)
    return state


def step(t: Tables, st: Statement, checks: list[Check]) -> None:
    """Fold one statement into `t`, which is rubbish if this raises; signatures to verify go to `checks`."""
    if not t.hashes:
        _genesis(t, st, checks)
        return
    if st.seq != len(t.hashes):
        raise refuse(st, "seq", f"the next statement is number {len(t.hashes)}")
    if st.prev != t.hashes[-1]:
        raise refuse(st, "prev", "does not follow the line before it")
    if st.ws != t.ws:
        raise refuse(st, "workspace", "is for another workspace")
    if st.at < t.at:
        raise refuse(st, "at", "is dated before its predecessor")
    if len(st.sigs) != 1:
        raise refuse(st, "surplus_signature", "has a signature that is not needed")
    act = Act(t, st, checks)
    if st.by.startswith("invite/"):
        invite = t.invites.get(st.by[7:])
        if invite is None or st._data["invite"] != st.by[7:]:
            raise refuse(st, "signer", "is signed by an unknown invite")
        key = invite.key
    else:
        key = _signer(t, st)
        act.act_as(t.principals[st.by])
    checks.append((st.seq, "its signature", key, st.sigs[0], to_sign(st.policy)))
    HANDLERS[st.type](act)
    _judge(t, act)
    t.hashes.append(st.hash)
    t.at = st.at


def _signer(t: Tables, st: Statement) -> bytes:
    p = t.principals.get(st.by)
    if p is None:
        raise refuse(st, "signer", "is signed by an unknown principal")
    if p.key is None:
        raise refuse(st, "signer", "is by a principal without a signing key")
    if not p.enabled or (p.user is not None and not t.users[p.user].enabled):
        raise refuse(st, "signer", f"is by {p.name}, which is disabled")
    return p.key


def _genesis(t: Tables, st: Statement, checks: list[Check]) -> None:
    if st.type != "genesis":
        raise refuse(st, "genesis", "the first statement is not a genesis")
    if len(st.sigs) != 1:
        raise refuse(st, "surplus_signature", "has a signature that is not needed")
    d = st._data
    ids = [d["workspace"], d["user"], d["principal"]]
    if len(set(ids)) != 3 or any("@" in name for name in ids):
        raise refuse(st, "name", "workspace, user and device need three different first names")
    if st.by != d["principal"]:
        raise refuse(st, "signer", "is not by the device that it enrols")
    key = canonical.unb64(d["key"], 32)
    if d["recipient"].startswith("ssh-"):
        raise refuse(st, "recipient", "the first device needs an X25519 recipient")
    # The device's signature over these bytes is its proof of possession and covers the recipient.
    checks.append((0, "its signature", key, st.sigs[0], to_sign(st.policy)))
    t.ws, t.name, t.salt, t.at = st.hash, d["workspace"], canonical.unb64(d["salt"], 32), st.at
    for name, kind in zip(ids, ("workspace", "user", "principal"), strict=True):
        t.names[name] = (1, kind)
    user, device = d["user"], d["principal"]
    t.users[user] = User(user, d["email_tag"], True, 0)
    t.principals[device] = Principal(device, user, key, d["recipient"], None, True, 0)
    t.devices[user] = (device,)
    if d["email_tag"] is not None:
        t.emails[d["email_tag"]] = user
    t.keys[key] = device
    t.recipients[d["recipient"]] = device
    t.set_binding("", user, ADMIN)
    t.hashes.append(st.hash)


def _judge(t: Tables, act: Act) -> None:
    """I1, I2 and I5 by effect, whatever the table said; and the history that manifests are judged by."""
    st, seq = act.st, act.st.seq
    lost_admin = False
    for (name, scope), (was, now) in act.effect.items():
        if not (act.rights(scope) or (now < was and act.own(name))):
            raise refuse(
                st,
                "I1" if now > was else "I2",
                f"would {'raise' if now > was else 'lower'} {name} on {scope or t.name} without admin there",
                principal=name,
                scope=scope or t.name,
                missing=str(Role.ADMIN),
            )
        if "/" in scope:
            if was >= READ > now:
                t.lost[scope] = seq
            if (was >= WRITE) != (now >= WRITE):
                key = (scope, name)
                t.writes[key] = (*t.writes.get(key, ()), seq)
        elif not scope and was == ADMIN:
            lost_admin = True
    for scope in act.lost:
        t.lost[scope] = seq
    if lost_admin and not t.human_admin_left():
        raise refuse(st, "I5", "would leave the workspace without an enabled human admin")
