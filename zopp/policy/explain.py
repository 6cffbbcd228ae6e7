"""Why a role is what it is: every binding that counts, every one stopped, and what reduced the result (S18)."""

from __future__ import annotations

from dataclasses import dataclass

from zopp.errors import NotFound
from zopp.policy.names import Scope, Subject
from zopp.policy.roles import Role
from zopp.policy.state import State
from zopp.policy.tables import ADMIN, parents


@dataclass(frozen=True, slots=True)
class Path:
    """A binding and how it reaches: `via` is the group, or None for the holder's own."""

    subject: Subject
    scope: Scope
    role: Role
    via: str | None
    stopped: str
    """"" if it counts, else `protected_boundary`"""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`role` is the answer: effective for a principal, what bindings give for a user, group or service. `winning` is
    the first of the strongest bindings that count; `reduced` says what lowered it: "" or `cap`, `keyless`,
    `disabled`."""

    who: str
    scope: Scope
    role: Role
    winning: Path | None
    counted: tuple[Path, ...]
    stopped: tuple[Path, ...]
    cap: Role | None
    reduced: str


def explain(state: State, who: str, scope: Scope | str) -> Explanation:
    """NotFound if there is no such scope or nobody of that name."""
    t = state._tables
    key = state._key(scope)
    if key is None:
        raise NotFound("there is no such scope", code="scope")
    principal = t.principals.get(who)
    if principal is None and who not in t.users and who not in t.groups:
        raise NotFound("there is no such user, group or principal", code="subject")
    holder = principal.holder if principal else who
    closed = "/" in key and t.envs[key].protected
    paths: list[Path] = []
    for subject in (holder, *sorted(t.member_of.get(holder, ()))):
        via = None if subject == holder else subject
        for place in (key, *parents(key)):
            role = t.bind.get(place, {}).get(subject)
            if role:
                stop = "protected_boundary" if closed and place != key and role != ADMIN else ""
                paths.append(Path(state._subject(subject), state._scope_of(place), Role(role), via, stop))
    counted = tuple(sorted((p for p in paths if not p.stopped), key=lambda p: -p.role))
    base = counted[0].role if counted else Role.NONE
    role, reduced = base, ""
    if principal:
        role = Role(min(base, t.limit(who)))
        if role < base:
            on = principal.enabled and (principal.user is None or t.users[principal.user].enabled)
            capped = principal.cap is not None and principal.cap <= role
            reduced = "disabled" if not on else "cap" if capped else "keyless"
    return Explanation(
        who,
        state._scope_of(key),
        role,
        counted[0] if counted else None,
        counted,
        tuple(p for p in paths if p.stopped),
        principal.cap if principal else None,
        reduced,
    )
