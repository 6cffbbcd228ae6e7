"""Random histories through the HTTP API: the server and the pure model never disagree, I0 to I5 hold after each step.

The statements are those of `tests.unit.policy.test_machine`, here with every signature real. After the run the whole
log is judged again from its bytes (`protocol.replay`), releases included (I4). ZOPP_HTTP_STATEMENTS says how many.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest

from tests.server.conftest import Database, code
from tests.server.live import Live, Office, stanza
from tests.unit.policy.model import Model
from tests.unit.policy.test_machine import GENESIS, Chooser, Machine
from tests.unit.policy.world import Key, key, recipient, rid
from zopp.client.transport import Server, idem
from zopp.errors import IntegrityError, ZoppError
from zopp.keys.signing import SigningKey
from zopp.policy import apply as policy_apply, canonical, decisions, requests, statement
from zopp.policy.names import Scope
from zopp.policy.state import State
from zopp.protocol import messages, release
from zopp.protocol.replay import Replay
from zopp.tlog import checkpoint

STATEMENTS = int(os.environ.get("ZOPP_HTTP_STATEMENTS", "300"))
ENV = "p/a"
HOUR = 3600


class Wire(Machine):
    """The machine's choices and its judgement; every statement goes over the wire."""

    def __init__(self, origin: str, log_key: bytes) -> None:
        super().__init__()
        self.origin, self.log_key = origin, log_key
        self.keys: dict[bytes, Key] = {}
        self.servers: dict[bytes, Server] = {}
        self.lines: list[bytes] = []
        self.state: State | None = None
        self.model = Model(GENESIS)
        self.serial = 0
        self.trail: list[str] = []
        self.verdicts = {"accepted": 0, "refused": 0, "released": 0, "denied": 0}

    def known(self, label: str) -> Key:
        made = key(label)
        self.keys[made.public] = made
        return made

    def server(self, made: Key) -> Server:
        if made.public not in self.servers:
            self.servers[made.public] = Server(self.origin, self.log_key, SigningKey(made.public, made.sign))
        return self.servers[made.public]

    def close(self) -> None:
        for server in self.servers.values():
            server.close()

    # --- real signatures

    def real(self, type: str, data: dict[str, Any]) -> dict[str, Any]:
        """The machine's data with dates of now and true signatures."""
        data = canonical.thaw(data)
        later = int(time.time()) + HOUR
        if "not_after" in data:
            data["not_after"] = later
        if "request" in data:
            data["request"]["not_after"] = later
            raw = canonical.encode(data["request"])
            if data["request"]["key"] is not None:
                signer = self.keys[canonical.unb64(data["request"]["key"], 32)]
                data["proof"] = canonical.b64(signer.sign(requests.to_sign(raw)))
            if data.get("claim") is not None:
                claim = self.known("i" + data["invite"]).sign(requests.claim_to_sign(raw))
                data["claim"] = canonical.b64(claim)
        if data.get("vouch") is not None:
            vouch = data["vouch"]
            assert self.state is not None
            p = self.state.principals[vouch["device"]]
            voucher = self.known("nobody") if p.key is None else self.keys[p.key]
            vouch["not_after"] = later + self.serial
            signed = requests.vouch_to_sign(
                type, data, ws=self.state.ws, device=vouch["device"], not_after=vouch["not_after"]
            )
            vouch["sig"] = canonical.b64(voucher.sign(signed))
        return data

    def line(self, type: str, data: dict[str, Any], by: str, signer: Key) -> bytes:
        state = self.state
        policy = statement.draft(
            type,
            data,
            ws=None if state is None else state.ws,
            seq=len(self.lines),
            prev=None if state is None else state.head,
            at=int(time.time()),
            by=by,
        )
        return statement.seal(policy, [signer.sign(statement.to_sign(policy))])

    def take(self, line: bytes) -> None:
        self.state = policy_apply.apply(self.state, statement.parse(line))
        self.lines.append(line)
        self.t = self.state._tables

    # --- the beginning, made here and uploaded

    def begin_log(self, once: str) -> None:
        ann = self.known("ann-1")
        self.take(self.line("genesis", GENESIS, "ann-1", ann))

        def do(type: str, data: dict[str, Any]) -> None:
            data = self.real(type, data)
            self.take(self.line(type, data, "ann-1", ann))
            self.model.told(type, data)

        def enrol(name: str, user: str | None) -> None:
            raw = requests.draft(
                ws=self.t.ws,
                name=name,
                user=user,
                key=self.known(name).public,
                recipient=recipient(name),
                id=rid(name),
                not_after=9,
            )
            do("principal.enrol", {"request": canonical.decode(raw), "proof": "", "cap": None, "vouch": None})

        enrol("ann-2", "ann")
        for user in ("ben", "cat"):
            do("user.add", {"user": user, "email_tag": None})
            enrol(user + "-1", user)
        enrol("sue", None)
        for project, envs in (("p", "ab"), ("q", "a")):
            do("project.create", {"project": project})
            for env in envs:
                do("env.create", {"env": f"{project}/{env}", "kind": "direct", "protected": env == "b"})
        for group in ("g", "h"):
            do("group.create", {"group": group})
        server_set = {"log_key": canonical.b64(self.log_key), "origin": self.origin}
        self.take(self.line("server.set", server_set, "ann-1", ann))
        assert self.state is not None
        log = b"".join(line + b"\n" for line in self.lines).decode()
        body = messages.build_request("workspace", code=once, log=log, ws=self.state.ws)
        self.server(ann).post("/v1/workspaces/acme", body)
        self.matrix = self.model.matrix()

    # --- one step

    def send(self, line: bytes, signer: Key) -> str:
        assert self.state is not None
        body = messages.build_request(
            "statement", idem=canonical.b64(idem()), line=line.decode(), size=0, ws=self.state.ws
        )
        try:
            self.server(signer).post("/v1/policy/acme", body)
        except ZoppError as exc:
            return exc.code
        return "ok"

    def one(self, actor: str, kind: int, x: int, y: int) -> None:
        self.serial += 1
        assert self.state is not None
        label = f"new-{self.serial}"
        self.known(label)
        type, data = Chooser(self.t, self.model, self.serial).build(kind % 32, x, y)
        if type == "invite.create":
            self.known("i" + data["invite"])
        by_invite = type == "invite.redeem" and data["claim"] is None
        if by_invite:
            actor = "invite/" + data["invite"]
            signer = self.known("i" + data["invite"])
        else:
            own = self.state.principals[actor].key
            if own is None:
                return
            signer = self.keys[own]
        data = self.real(type, data)
        line = self.line(type, data, actor, signer)
        try:
            after = policy_apply.apply(self.state, statement.parse(line))
        except IntegrityError:
            after = None
        said = self.send(line, signer)
        assert (said == "ok") == (after is not None), f"{actor} {type}: the server says {said}"
        if after is None:
            assert said in ("denied", "refused", "bad_signature"), said
            self.verdicts["refused"] += 1
            return
        self.verdicts["accepted"] += 1
        self.trail.append(f"{actor} {type}")
        if by_invite or type == "invite.redeem":
            actor = self.t.invites[data["invite"]].created_by
        before = self.matrix
        self.take(line)
        self.model.told(type, data)
        now = self.matrix = self.model.matrix()
        self.agree()
        self.judge(actor, before, now)

    def agree(self) -> None:
        """As the machine's own; of a brokered environment only who can ask for a release is a recipient."""
        assert self.state is not None
        for (name, scope), role in self.matrix.items():
            assert self.t.eff(name, scope) == role, (name, scope)
        for env in self.model.envs:
            brokered = self.state.envs[env].kind == "brokered"
            readers = {
                name
                for name in self.model.principals
                if self.matrix[name, env] >= 1 and not (brokered and self.state.principals[name].key is None)
            }
            assert set(self.state.readers(env)) == readers

    def release(self, who: str, item: release.Item) -> None:
        """I4: what the server says is what the pure decision says."""
        assert self.state is not None
        p = self.state.principals[who]
        if p.key is None:
            return
        made = release.Request(ws=self.state.ws, env=ENV, purpose="read", size=0, idem=idem(), items=(item,))
        allowed = isinstance(decisions.decide(self.state, who, "release", Scope("env", ENV)), decisions.Allow)
        try:
            self.server(self.keys[p.key]).post("/v1/releases/acme", release.build_request(made))
            said = "ok"
        except ZoppError as exc:
            said = exc.code
        assert (said == "ok") == allowed, f"{who} on {ENV}: the server says {said}"
        self.verdicts["released" if allowed else "denied"] += 1


def run(server: Live, database: Database, seed: int, statements: int) -> Wire:
    """A random history, checked at every step."""
    choice = random.Random(seed)
    wire = Wire(server.origin, server.log_key)
    try:
        wire.begin_log(code(database))
        item = _brokered(wire)
        for number in range(statements):
            actor = wire.signer(choice.randrange(256))
            wire.one(actor, choice.randrange(256), choice.randrange(256), choice.randrange(256))
            if number % 3 == 0:
                assert wire.state is not None
                # Few of all may read, and a history that archives the environment has none from then on.
                readers = sorted(wire.state.readers(ENV)) if ENV in wire.state.envs and choice.random() < 0.5 else []
                wire.release(choice.choice(readers or sorted(wire.model.principals)), item)
    finally:
        wire.close()
    return wire


def _brokered(wire: Wire) -> release.Item:
    ann = wire.known("ann-1")
    assert wire.state is not None
    body = messages.build_request("key", env=ENV, idem=canonical.b64(idem()), size=0, ws=wire.state.ws)
    made = messages.parse_answer("key", wire.server(ann).post("/v1/keys/acme", body).body)
    for type, data in (
        ("env.serverkey", {"env": ENV, "recipient": made["recipient"]}),
        ("env.kind", {"env": ENV, "kind": "brokered"}),
    ):
        line = wire.line(type, data, "ann-1", ann)
        assert wire.send(line, ann) == "ok"
        wire.take(line)
    item, _ = stanza(made["recipient"])
    return item


def judged(database: Database, genesis: str, lines: list[bytes], office: Office | None = None) -> list[str]:
    """What the replay finds in the whole log; nothing if all is well."""
    rows = database.run(
        "zopp_app", lambda c: c.fetch("SELECT seq, body FROM audit.entry WHERE log_id = $1 ORDER BY seq", genesis)
    )
    made = Replay(genesis, lines, [], decide=True)
    for row in rows:
        made.add(row["body"], row["seq"])
    return [f"{each.index}: {each.code}: {each.message}" for each in made.end()]


def _run_and_judge(server: Live, database: Database, seed: int, statements: int) -> dict[str, int]:
    wire = run(server, database, seed, statements)
    assert wire.state is not None
    note = database.value("zopp_app", "SELECT checkpoint FROM audit.log WHERE log_id = $1", wire.state.ws)
    assert checkpoint.origin_of(server.origin, "acme", wire.state.ws) == note.partition("\n")[0]
    assert judged(database, wire.state.ws, wire.lines) == []
    return wire.verdicts


@pytest.mark.parametrize("seed", [1, 2])
def test_s13_the_server_and_the_model_never_disagree(server: Live, database: Database, seed: int) -> None:
    verdicts = _run_and_judge(server, database, seed, STATEMENTS)
    assert min(verdicts.values()) > 2, verdicts


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 13))
def test_s13_the_server_and_the_model_never_disagree_whatever_the_history(
    server: Live, database: Database, seed: int
) -> None:
    verdicts = _run_and_judge(server, database, seed, STATEMENTS)
    assert min(verdicts.values()) > 0, verdicts


@pytest.mark.slow
def test_s13_the_server_and_the_model_never_disagree_for_long(server: Live, database: Database) -> None:
    verdicts = _run_and_judge(server, database, 20261124, STATEMENTS * 10)
    # In so long a history the environment is archived early; the shorter ones have the releases.
    assert min(verdicts["accepted"], verdicts["refused"], verdicts["denied"]) > 50, verdicts
