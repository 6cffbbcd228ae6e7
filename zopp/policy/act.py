"""One statement under way: who acts with what rights, what may be named, and the effect so far. Private to `apply`.

A handler (`changes`, `people`) states authority and preconditions, changes the tables and records the effect: for every
principal whose role moves, (principal, scope) -> (was, now). Roles are recomputed only for whom it can touch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from zopp.errors import IntegrityError
from zopp.policy import names
from zopp.policy.roles import Env, Principal
from zopp.policy.statement import Statement
from zopp.policy.tables import ADMIN, Tables

Effect = dict[tuple[str, str], tuple[int, int]]


class Act:
    """One statement under way."""

    __slots__ = ("_direct", "_limit", "actor", "checks", "effect", "lost", "st", "t")
    actor: Principal
    """Whose rights count: the signer, for a redeemed invite the device that created it."""
    _direct: dict[str, int]
    _limit: int

    def __init__(self, t: Tables, st: Statement, checks: list[tuple[int, str, bytes, bytes, bytes]]) -> None:
        self.t = t
        self.st = st
        self.checks = checks
        self.effect: Effect = {}
        self.lost: set[str] = set()

    def act_as(self, actor: Principal) -> None:
        """Judge by what `actor` may do now. Frozen before anything changes, so that a statement never lends its signer
        the power to make it."""
        self.actor = actor
        self._direct = dict(self.t.direct(actor.holder))
        self._limit = self.t.limit(actor.name)

    # --- refusing

    def no(self, rule: str, message: str, **data: Any) -> IntegrityError:
        st, text = self.st, f"statement {self.st.seq} ({self.st.type}): {message}"
        return IntegrityError(text, code="policy", rule=rule, seq=st.seq, **data)

    # --- authority

    def rights(self, scope: str) -> bool:
        """Whether the actor was admin on `scope`, or for one that is new on what contains it, before this statement."""
        d = self._direct
        return self._limit == ADMIN and (
            d.get(scope) == ADMIN or d.get("") == ADMIN or d.get(scope.partition("/")[0]) == ADMIN
        )

    def own(self, principal: str) -> bool:
        """Whether the actor is a device of the user whose device `principal` is."""
        return self.actor.user is not None and self.t.principals[principal].user == self.actor.user

    def need(self, scope: str) -> None:
        if not self.rights(scope):
            where = scope or self.t.name
            raise self.no("authority", f"{self.actor.name} is not admin on {where}", scope=where, missing="admin")

    # --- looking up

    def scope(self, typed: dict[str, str]) -> str:
        ((kind, name),) = typed.items()
        if kind == "workspace":
            if name != self.t.name:
                raise self.no("scope", "names another workspace")
            return ""
        if not self.t.exists(name):
            raise self.no("scope", f"there is no {kind} {name}")
        return name

    def subject(self, typed: dict[str, str], *, enabled: bool) -> str:
        ((kind, name),) = typed.items()
        t = self.t
        if kind == "user":
            user = t.users.get(name)
            found, on = user is not None, user is not None and user.enabled
        elif kind == "group":
            found = on = name in t.groups
        else:
            p = t.principals.get(name)
            found = p is not None and p.user is None
            on = found and p is not None and p.enabled
        if not found:
            raise self.no("subject", f"there is no {kind} {name}")
        if enabled and not on:
            raise self.no("subject", f"the {kind} {name} is disabled")
        return name

    def env(self, name: str) -> Env:
        env = self.t.envs.get(name)
        if env is None or env.archived:
            raise self.no("scope", f"there is no environment {name}")
        return env

    # --- names

    def take_name(self, name: str, kind: str) -> None:
        """A name is free if it was never used, or if what bore it last is gone: then it is the next number (A10)."""
        project, slash, last = name.partition("/")
        base, number = names.split(last if slash else name)
        key = f"{project}/{base}" if slash else base
        before, what = self.t.names.get(key, (0, ""))
        if number != before + 1:
            taken = f"is taken by a {what}" if number <= before else "is not the next number"
            raise self.no("name", f"the name {name} {taken}")
        if before and not self._gone(names.numbered(key, before), what):
            raise self.no("name", f"the name {names.numbered(key, before)} is still in use")
        self.t.names[key] = (number, kind)

    def _gone(self, name: str, kind: str) -> bool:
        t = self.t
        if kind == "user":
            return not t.users[name].enabled
        if kind == "principal":
            return not t.principals[name].enabled
        if kind == "group":
            return name not in t.groups
        return kind != "workspace" and not t.exists(name)

    def latest(self, name: str) -> None:
        """Refuse to bring back what a later making of the same name has replaced."""
        base, number = names.split(name)
        if self.t.names[base][0] != number:
            raise self.no("name", f"{name} has been replaced by a later one of that name")

    # --- effect

    def note(self, principal: str, scope: str, was: int, now: int) -> None:
        if was != now:
            self.effect[principal, scope] = (was, now)

    def compare(self, holder: str, root: str, before: dict[str, int], after: dict[str, int]) -> None:
        """The effect of other direct bindings of a holder, from `root` down."""
        t = self.t
        limits = [(name, limit) for name in t.principals_of(holder) if (limit := t.limit(name))]
        if not limits:
            return
        was, now = t.below(before, root), t.below(after, root)
        if was == now:
            return
        for scope in was.keys() | now.keys():
            a, b = was.get(scope, 0), now.get(scope, 0)
            if a != b:
                for name, limit in limits:
                    self.note(name, scope, min(a, limit), min(b, limit))

    def limits(self, principals: Iterable[str], change: Callable[[], None]) -> None:
        """The effect of a change that moves only what principals may have at most."""
        t = self.t
        before = {name: t.limit(name) if name in t.principals else 0 for name in principals}
        change()
        for name, was in before.items():
            now = t.limit(name)
            if was != now:
                for scope, role in t.below(t.direct(t.principals[name].holder), "").items():
                    self.note(name, scope, min(role, was), min(role, now))

    def at_env(self, scope: str, change: Callable[[], None]) -> None:
        """The effect of a change of one environment's own state."""
        t = self.t
        before = dict(t.principals_at(scope)) if t.exists(scope) else {}
        change()
        after = dict(t.principals_at(scope)) if t.exists(scope) else {}
        for name in before.keys() | after.keys():
            self.note(name, scope, before.get(name, 0), after.get(name, 0))
