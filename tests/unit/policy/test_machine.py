"""I0-I3 and I5 over random histories, each accepted step compared with the brute-force model.

A block of bytes is a run of statements: four bytes choose signer, type and two operands. Signatures are left out (they
have their own tests); everything else is `apply`'s own path. ZOPP_POLICY_TRANSITIONS says how many statements to try.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.unit.policy.model import ORDER, Model
from tests.unit.policy.world import key, recipient, rid
from zopp.errors import IntegrityError
from zopp.policy import canonical, requests, statement
from zopp.policy.apply import step
from zopp.policy.state import State
from zopp.policy.tables import Tables

TRANSITIONS = int(os.environ.get("ZOPP_POLICY_TRANSITIONS", "100000"))
BLOCK = 32
STEPS = 20
ROLES = ("read", "write", "admin")
CAPS = (None, "none", "read", "write", "admin")
count = {"tried": 0, "accepted": 0, "coalitions": 0, "types": set()}
SIG = canonical.b64(bytes(64))


def make(t: Tables, type: str, data: dict[str, Any], by: str) -> Tables:
    """The tables after the statement, signatures not looked at; IntegrityError if refused."""
    first = not t.hashes
    policy = statement.draft(
        type, data, ws=None if first else t.ws, seq=len(t.hashes), prev=None if first else t.hashes[-1], at=5, by=by
    )
    after = t.copy()
    step(after, statement.parse(statement.seal(policy, [bytes(64)])), [])
    return after


GENESIS = {
    "workspace": "acme",
    "salt": canonical.b64(b"s" * 32),
    "user": "ann",
    "email_tag": None,
    "principal": "ann-1",
    "key": key("ann-1").text,
    "recipient": recipient("ann-1"),
}


def request(t: Tables, name: str, user: str | None, label: str, signing: bool = True) -> dict[str, Any]:
    raw = requests.draft(
        ws=t.ws,
        name=name,
        user=user,
        key=key(label).public if signing else None,
        recipient=recipient(label),
        id=rid(label),
        not_after=9,
    )
    return {"request": canonical.decode(raw), "proof": SIG if signing else None}


def start() -> tuple[Tables, Model]:
    t, model = make(Tables(), "genesis", GENESIS, "ann-1"), Model(GENESIS)

    def do(type: str, data: dict[str, Any]) -> None:
        nonlocal t
        t = make(t, type, data, "ann-1")
        model.told(type, data)

    def enrol(name: str, user: str | None, signing: bool = True) -> None:
        vouch = None
        do("principal.enrol", {**request(t, name, user, name, signing), "cap": None, "vouch": vouch})

    enrol("ann-2", "ann")
    for user in ("ben", "cat"):
        do("user.add", {"user": user, "email_tag": None})
        enrol(user + "-1", user)
    enrol("ben-2", "ben")
    enrol("sue", None)
    enrol("tom", None, signing=False)
    for project, envs in (("p", "ab"), ("q", "a")):
        do("project.create", {"project": project})
        for env in envs:
            do("env.create", {"env": f"{project}/{env}", "kind": "direct", "protected": env == "b"})
    for group in ("g", "h"):
        do("group.create", {"group": group})
    return t, model


BEGIN = start()


class Chooser:
    """Statements from bytes: names out of what exists, sometimes of what does not."""

    def __init__(self, t: Tables, model: Model, serial: int) -> None:
        self.t, self.m, self.serial = t, model, serial

    def pick(self, things: Any, x: int) -> Any:
        things = sorted(things)
        return things[x % len(things)] if things else "nobody"

    def scope(self, x: int) -> dict[str, str]:
        name = self.pick(self.m.scopes(), x)
        return {"env": name} if "/" in name else {"project": name} if name else {"workspace": "acme"}

    def services(self) -> list[str]:
        return [n for n, p in self.m.principals.items() if p["user"] is None]

    def subject(self, x: int) -> dict[str, str]:
        every = (
            [("user", n) for n in self.m.users]
            + [("service", n) for n in self.services()]
            + [("group", n) for n in self.m.groups] * 2
        )
        return dict([self.pick(every, x)])

    def member(self, x: int) -> dict[str, str]:
        every = [("user", n) for n in self.m.users] + [("service", n) for n in self.services()]
        return dict([self.pick(every, x)])

    def vouch(self, type: str, data: dict[str, Any], user: str | None, x: int) -> dict[str, Any]:
        """Half the time a vouch by some device of that user."""
        devices = [n for n, p in self.m.principals.items() if user and p["user"] == user]
        if not devices or x % 2:
            return {**data, "vouch": None}
        return {**data, "vouch": {"device": self.pick(devices, x // 2), "not_after": 9 + self.serial, "sig": SIG}}

    def build(self, kind: int, x: int, y: int) -> tuple[str, dict[str, Any]]:
        t, m = self.t, self.m
        env = self.pick(m.envs, x)
        device = self.pick(m.principals, x)
        user = m.principals[device]["user"]
        label = f"new-{self.serial}"
        if kind < 6:
            return "binding.set", {"subject": self.subject(x), "scope": self.scope(y), "role": ROLES[(x + y) % 3]}
        if kind < 9:
            have = self.pick([(s, p) for s, p in m.bindings], x)
            what = "group" if have[0] in m.groups else "user" if have[0] in m.users else "service"
            at = {"env": have[1]} if "/" in have[1] else {"project": have[1]} if have[1] else {"workspace": "acme"}
            return "binding.remove", {"subject": {what: have[0]}, "scope": at}
        if kind < 12:
            return "group.member.add", {"group": self.pick(m.groups, x), "member": self.member(y)}
        if kind < 14:
            group = self.pick(m.groups, x)
            inside = self.pick(m.groups.get(group, ()), y)
            what = "user" if inside in m.users else "service"
            return "group.member.remove", {"group": group, "member": {what: inside}}
        if kind == 14:
            return "env.protect", {"env": env if env != "nobody" else "p/none"}
        if kind == 15:
            return "env.unprotect", {"env": env if env != "nobody" else "p/none"}
        if kind == 16:
            project = self.pick(m.projects, x)
            return "env.create", {"env": _next(t, "abc"[y % 3], project), "kind": "direct", "protected": y % 2 == 1}
        if kind == 17:
            return "env.archive", {"env": env if env != "nobody" else "p/none"}
        if kind == 18 and y % 4 == 0:
            return "project.archive", {"project": self.pick(m.projects, x)}
        if kind == 18:
            return "project.create", {"project": _next(t, "pq"[y % 2])}
        if kind == 19:
            return "group.create", {"group": _next(t, "gh"[y % 2])}
        if kind == 20:
            return "group.delete", {"group": self.pick(m.groups, x)}
        if kind == 21:
            return ("user.disable" if y % 2 else "user.enable"), {"user": self.pick(m.users, x)}
        if kind == 22:
            return "principal.disable", {"principal": device}
        if kind == 23:
            return "principal.enable", self.vouch("principal.enable", {"principal": device}, user, y)
        if kind < 26:
            data = {"principal": device, "cap": CAPS[y % 5]}
            return "cap.set", self.vouch("cap.set", data, user, y // 5)
        if kind == 26:
            # A person's device or a service, sometimes without a signing key.
            owner = None if y % 5 == 0 else self.pick(m.users, y)
            data = {**request(t, label, owner, label, x % 4 != 0), "cap": CAPS[x % 5] if owner else None}
            return "principal.enrol", self.vouch("principal.enrol", data, owner, x // 5)
        if kind == 27:
            data = request(t, device, user, label, x % 4 != 0)
            return "principal.rekey", self.vouch("principal.rekey", data, user, y)
        if kind == 28:
            return "invite.create", {
                "invite": label,
                "key": key("i" + label).text,
                "email_tag": None,
                "not_after": 9,
                "role": ("none", *ROLES)[y % 4],
                "scope": self.scope(x),
            }
        if kind == 29:
            invite = self.pick(m.invites, x)
            return "invite.redeem", {
                "invite": invite,
                "email_tag": None,
                "claim": SIG if y % 2 else None,
                **request(t, label, "u" + label, label),
            }
        if kind == 30:
            return "user.add", {"user": label, "email_tag": None}
        return "invite.revoke", {"invite": self.pick(m.invites, x)}


def _next(t: Tables, typed: str, project: str = "") -> str:
    return State._of(t).next_name(typed, project)


class Machine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.t = BEGIN[0].copy()
        self.model = Model(GENESIS)
        self.model.__dict__.update({k: _copy(v) for k, v in BEGIN[1].__dict__.items()})
        self.matrix = self.model.matrix()
        self.serial = 0
        self.trail: list[str] = []

    def one(self, actor: str, kind: int, x: int, y: int) -> None:
        self.serial += 1
        count["tried"] += 1
        type, data = Chooser(self.t, self.model, self.serial).build(kind % 32, x, y)
        if type == "invite.redeem" and data["claim"] is None:
            actor = "invite/" + data["invite"]
        try:
            after = make(self.t, type, data, actor)
        except IntegrityError as refused:
            if refused.data["rule"] in ("I1", "I2"):
                raise AssertionError("the table of authority let through what the effect refuses") from refused
            return
        count["accepted"] += 1
        count["types"].add(type)
        if len(self.trail) < 400:
            self.trail.append(f"{actor} {type}")
        if actor.startswith("invite/") or type == "invite.redeem":
            actor = self.t.invites[data["invite"]].created_by
        before = self.matrix
        self.t = after
        self.model.told(type, data)
        now = self.matrix = self.model.matrix()
        self.agree()
        self.judge(actor, before, now)

    def agree(self) -> None:
        """The fold's incremental answers equal the model's, roles, readers and history alike."""
        t, seq = self.t, len(self.t.hashes) - 1
        for (name, scope), role in self.matrix.items():
            assert t.eff(name, scope) == role, (name, scope)
        state = State._of(t)
        for env in self.model.envs:
            readers = {n for n in self.model.principals if self.matrix[n, env] >= 1}
            assert set(state.readers(env)) == readers
            for name in self.model.principals:
                assert state.wrote_at(name, env, seq) == (self.matrix[name, env] >= 2)
        assert {n for n in self.model.principals if self.matrix[n, ""]} == {n for n, _ in t.principals_at("")}

    def judge(self, actor: str, before: dict[tuple[str, str], int], now: dict[tuple[str, str], int]) -> None:
        people, seq = self.model.principals, len(self.t.hashes) - 1
        for (name, scope), role in now.items():
            # I0: admin closes downwards
            if role == 3:
                for below in self.model.scopes():
                    if scope == "" or below.startswith(scope + "/"):
                        assert now[name, below] == 3, "I0"
        for pair in before.keys() | now.keys():
            name, scope = pair
            was, is_ = before.get(pair, 0), now.get(pair, 0)
            # a scope that is new is judged where it was made
            place = scope if (actor, scope) in before else scope.partition("/")[0]
            place = place if (actor, place) in before else ""
            if is_ > was:
                assert before[actor, place] == 3, "I1"
            if is_ < was:
                own = people[name]["user"] is not None and people[name]["user"] == people[actor]["user"]
                assert before[actor, place] == 3 or own, "I2"
            if "/" in scope and was >= 1 > is_ and scope in self.model.envs:
                assert self.t.lost[scope] == seq, "a loss of read goes unnoticed"
        assert self.model.human_admin(), "I5"

    def signer(self, x: int) -> str:
        people = sorted(self.model.principals)
        admins = [n for n in people if self.matrix[n, ""] == 3]
        strong = admins if x % 4 < 2 else [n for n in people if any(self.matrix[n, e] == 3 for e in self.model.envs)]
        return (strong or people)[x // 4 % len(strong or people)] if x % 4 < 3 else people[x // 4 % len(people)]

    @rule(block=st.binary(min_size=BLOCK * 4, max_size=BLOCK * 4))
    def anyone(self, block: bytes) -> None:
        for i in range(0, len(block), 4):
            a, kind, x, y = block[i : i + 4]
            self.one(self.signer(a), kind, x, y)

    @rule(block=st.binary(min_size=BLOCK * 4, max_size=BLOCK * 4), members=st.integers(1, 255))
    def coalition(self, block: bytes, members: int) -> None:
        """I3: a set of principals never raises its own best role on a scope where none of it is admin."""
        people = sorted(self.model.principals)
        chosen = [name for i, name in enumerate(people) if members >> (i % 8) & 1]
        best = {s: max((self.matrix[n, s] for n in chosen), default=0) for s in self.model.scopes()}
        weak = {s: role for s, role in best.items() if role < 3}
        if not chosen or not weak:
            return
        count["coalitions"] += 1
        for i in range(0, len(block), 4):
            a, kind, x, y = block[i : i + 4]
            if kind % 32 == 29:
                continue  # an invite's signature is its creator's power, who may be outside the coalition
            self.one(chosen[a % len(chosen)], kind, x, y)
            for scope, role in weak.items():
                if scope in self.model.scopes():
                    assert max(self.matrix[n, scope] for n in chosen) <= role, "I3"


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return set(value) if isinstance(value, set) else value


def test_invariants() -> None:
    """At least ZOPP_POLICY_TRANSITIONS statements tried, of every type that moves roles: no invariant breaks."""
    count.update(tried=0, accepted=0, coalitions=0, types=set())
    config = settings(
        max_examples=40,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    while count["tried"] < TRANSITIONS:
        run_state_machine_as_test(Machine, settings=config)
    print(f"\ntransitions {count['tried']}, accepted {count['accepted']}, coalition runs {count['coalitions']}")
    assert count["tried"] >= TRANSITIONS
    assert count["accepted"] >= count["tried"] // 10
    assert count["coalitions"] > 0
    if TRANSITIONS >= 100_000:
        moving = {
            "binding.set",
            "binding.remove",
            "group.create",
            "group.delete",
            "group.member.add",
            "group.member.remove",
            "env.create",
            "env.archive",
            "env.protect",
            "env.unprotect",
            "project.create",
            "project.archive",
            "user.add",
            "user.disable",
            "user.enable",
            "principal.enrol",
            "principal.rekey",
            "principal.disable",
            "principal.enable",
            "cap.set",
            "invite.create",
            "invite.redeem",
            "invite.revoke",
        }
        assert count["types"] == moving


def test_model_knows_the_words() -> None:
    assert list(ORDER) == ["none", "read", "write", "admin"]
    with pytest.raises(KeyError):
        ORDER["owner"]
