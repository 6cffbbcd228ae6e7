"""The audit log judged again from its bytes: any change to any record of a small log is found (S63, A29, I4)."""

import os
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from zopp import _fast
from zopp.keys import identity, signing as keys
from zopp.keys.signing import SigningKey
from zopp.policy import apply as policy_apply, canonical, requests, statement
from zopp.policy.names import Scope
from zopp.policy.state import State
from zopp.protocol import release, replay, signing
from zopp.protocol.release import Item
from zopp.protocol.replay import Found, Replay
from zopp.tlog import checkpoint, entry, merkle
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.entry import SignedRequest
from zopp.tlog.note import Verifier

ORIGIN = "https://zopp.example.org"
START = 1_795_000_000


class Books:
    """A server's log made by the library alone: every record honest unless told otherwise."""

    def __init__(self) -> None:
        self.log_key = keys.generate()
        self.keys: dict[str, SigningKey] = {}
        self.state: State | None = None
        self.lines: list[bytes] = []
        self.bodies: list[bytes] = []
        self.clock = START

    @property
    def now(self) -> State:
        assert self.state is not None
        return self.state

    def key(self, name: str) -> tuple[SigningKey, str]:
        self.keys[name] = keys.generate()
        return self.keys[name], identity.generate()[1]

    def line(self, by: str, type_: str, data: dict[str, Any]) -> bytes:
        state = self.state
        body = statement.draft(
            type_, data, ws=None if state is None else state.ws, seq=0 if state is None else state.seq + 1,
            prev=None if state is None else state.head, at=self.clock, by=by,
        )  # fmt: skip
        return statement.seal(body, [self.keys[by].sign(statement.to_sign(body))])

    def take(self, line: bytes) -> None:
        self.state = policy_apply.apply(self.state, statement.parse(line))
        self.lines.append(line)

    def signed(self, by: str, path: str, body: bytes = b"", *, created: int | None = None) -> SignedRequest:
        return signing.sign(
            self.keys[by], method="POST" if body else "GET", target=ORIGIN + path, body=body,
            created=self.clock if created is None else created, nonce=os.urandom(16),
        )  # fmt: skip

    def record(self, action: str, data: dict[str, Any], **more: Any) -> None:
        self.clock += 1
        more.setdefault("ts", self.clock * 1000)
        more.setdefault("id", os.urandom(16))
        self.bodies.append(entry.build(action, data, **more))

    def record_line(self, by: str, line: bytes, request: SignedRequest, **more: Any) -> None:
        st_ = statement.parse(line)
        more = {"outcome": "allow", "policy_seq": st_.seq, **more}
        self.record(
            "statement", {"line": canonical.decode(line)}, actor=by, scope=Scope("workspace", "acme"), request=request,
            **more,
        )  # fmt: skip

    def do(self, by: str, type_: str, **data: Any) -> None:
        line = self.line(by, type_, data)
        self.take(line)
        self.record_line(by, line, self.signed(by, "/v1/policy/acme", line))

    def released(self, by: str, env: str, outcome: str = "allow", reason: str | None = None, count: int = 1) -> None:
        items = tuple(Item(os.urandom(31) + b"\1", os.urandom(32), None) for _ in range(count))
        asked = release.Request(ws=self.now.ws, env=env, purpose="read", size=0, idem=os.urandom(16), items=items)
        body = release.build_request(asked)
        request, ident = self.signed(by, "/v1/releases/acme", body), os.urandom(16)
        for number, item in enumerate(items):
            self.record(
                "release",
                {
                    "again": False, "body": None if number else canonical.b64(body), "generation": 1, "item": number,
                    "path": None, "purpose": "read", "stanza": item.stanza,
                },
                outcome=outcome, reason=reason, actor=by, scope=Scope("env", env), request=request, id=ident,
                role=str(self.now.role(by, Scope("env", env))), policy_seq=self.now.seq,
            )  # fmt: skip

    def note(self, size: int | None = None) -> Checkpoint:
        size = len(self.bodies) if size is None else size
        origin = checkpoint.origin_of(ORIGIN, "acme", self.now.ws)
        return Checkpoint(origin, size, merkle.root_of([merkle.leaf_hash(body) for body in self.bodies[:size]]))

    def judge(self, bodies: list[bytes] | None = None, **more: Any) -> list[Found]:
        more.setdefault("checkpoints", [(self.note(), "kept")])
        made = Replay(self.now.ws, self.lines, **more)
        for body in self.bodies if bodies is None else bodies:
            made.add(body)
        return made.end()


def books() -> Books:
    """acme: alice admin, bob write and carol nothing on api/dev; uploaded, then releases and denials."""
    made = Books()
    key, recipient = made.key("alice-laptop")
    made.take(
        made.line(
            "alice-laptop",
            "genesis",
            {
                "email_tag": None, "key": canonical.b64(key.public), "principal": "alice-laptop",
                "recipient": recipient, "salt": canonical.b64(bytes(32)), "user": "alice", "workspace": "acme",
            },
        )
    )  # fmt: skip
    made.take(made.line("alice-laptop", "project.create", {"project": "api"}))
    made.take(made.line("alice-laptop", "env.create", {"env": "api/dev", "kind": "direct", "protected": False}))
    data = {"log_key": canonical.b64(made.log_key.public), "origin": ORIGIN}
    made.take(made.line("alice-laptop", "server.set", data))
    request, ident = made.signed("alice-laptop", "/v1/workspaces/acme", b"upload"), os.urandom(16)
    for line in made.lines:
        made.record_line("alice-laptop", line, request, id=ident)
    for user in ("bob", "carol"):
        made.do("alice-laptop", "user.add", email_tag=None, user=user)
        device, recipient = made.key(f"{user}-laptop")
        body = requests.draft(
            ws=made.now.ws, name=f"{user}-laptop", user=user, key=device.public, recipient=recipient,
            id=_fast.sha256(user.encode())[:16], not_after=made.clock + 3600,
        )  # fmt: skip
        proof = canonical.b64(device.sign(requests.to_sign(body)))
        made.do("alice-laptop", "principal.enrol", cap=None, proof=proof, request=canonical.decode(body), vouch=None)
    made.do("alice-laptop", "binding.set", role="write", scope={"env": "api/dev"}, subject={"user": "bob"})
    made.released("bob-laptop", "api/dev", count=3)
    made.released("carol-laptop", "api/dev", "deny", "role")
    refused = made.line("carol-laptop", "group.create", {"group": "mine"})
    made.record_line(
        "carol-laptop", refused, made.signed("carol-laptop", "/v1/policy/acme", refused), outcome="deny",
        reason="authority", policy_seq=made.now.seq,
    )  # fmt: skip
    made.do("alice-laptop", "binding.remove", scope={"env": "api/dev"}, subject={"user": "bob"})
    made.released("bob-laptop", "api/dev", "deny", "role")
    made.do("alice-laptop", "principal.disable", principal="bob-laptop")
    made.record(
        "auth", {}, outcome="deny", reason="disabled", actor="bob-laptop", policy_seq=made.now.seq,
        request=made.signed("bob-laptop", "/v1/policy/acme"),
    )  # fmt: skip
    return made


BOOKS = books()
COUNT = len(BOOKS.bodies)


def codes(found: list[Found]) -> set[str]:
    return {each.code for each in found}


def test_an_honest_log_has_no_findings() -> None:
    assert BOOKS.judge() == []
    assert BOOKS.judge(decide=False) == []
    assert BOOKS.judge(checkpoints=[(BOOKS.note(size), "one") for size in range(COUNT + 1)]) == []


places = st.integers(0, COUNT - 1)


@given(places, st.data())
@settings(max_examples=60, deadline=None)
def test_s63_any_changed_byte_is_found(at: int, data: st.DataObject) -> None:
    body = bytearray(BOOKS.bodies[at])
    spot = data.draw(st.integers(0, len(body) - 1))
    body[spot] ^= data.draw(st.integers(1, 255))
    bodies = [*BOOKS.bodies[:at], bytes(body), *BOOKS.bodies[at + 1 :]]
    assert BOOKS.judge(bodies, decide=False)


@given(places)
@settings(max_examples=30, deadline=None)
def test_s63_a_deleted_record_is_found(at: int) -> None:
    bodies = BOOKS.bodies[:at] + BOOKS.bodies[at + 1 :]
    assert "rollback" in codes(BOOKS.judge(bodies, decide=False))


@given(places, places)
@settings(max_examples=40, deadline=None)
def test_s63_a_record_inserted_again_is_found(at: int, which: int) -> None:
    bodies = [*BOOKS.bodies[:at], BOOKS.bodies[which], *BOOKS.bodies[at:]]
    assert BOOKS.judge(bodies, decide=False)
    assert BOOKS.judge(bodies, checkpoints=[]), "also where no checkpoint covers it"


@given(places, places)
@settings(max_examples=40, deadline=None)
def test_s63_swapped_records_are_found(one: int, other: int) -> None:
    bodies = list(BOOKS.bodies)
    bodies[one], bodies[other] = bodies[other], bodies[one]
    if one != other:
        assert BOOKS.judge(bodies, decide=False)


@given(st.integers(0, COUNT - 1))
@settings(max_examples=30, deadline=None)
def test_s63_a_log_that_was_cut_back_is_found(size: int) -> None:
    assert "rollback" in codes(BOOKS.judge(BOOKS.bodies[:size], decide=False))


def test_the_first_bad_record_is_between_two_checkpoints() -> None:
    """With a checkpoint after every record the one that was changed is named."""
    body = canonical.decode(BOOKS.bodies[7])
    bodies = [*BOOKS.bodies[:7], canonical.encode({**body, "ip": canonical.b64(bytes(32))}), *BOOKS.bodies[8:]]
    every = [(BOOKS.note(size), "each") for size in range(1, COUNT + 1)]
    found = BOOKS.judge(bodies, checkpoints=every)
    assert replay.first(found) == 7
    assert codes(found) == {"root"}


# --- a log that is a tree all right, and lies: the server has the log key, so only the replay tells


def changed(at: int, **fields: Any) -> list[Found]:
    """The findings when record `at` has other fields, in a tree that was signed with them."""
    made = books()
    body = canonical.decode(made.bodies[at])
    made.bodies[at] = canonical.encode({**body, **fields})
    return made.judge()


def find(action: str, nth: int = 0, outcome: str = "") -> int:
    at = [
        n for n, body in enumerate(BOOKS.bodies)
        if (made := entry.parse(body)).action == action and outcome in ("", made.outcome)
    ]  # fmt: skip
    return at[nth]


def test_i4_a_release_that_policy_denies_is_found() -> None:
    at = find("release", outcome="deny")
    found = changed(at, outcome="allow", reason=None)
    assert (at, "decision") in {(each.index, each.code) for each in found}


def test_a_denial_that_policy_does_not_give_is_found() -> None:
    at = find("release")
    assert (at, "decision") in {(e.index, e.code) for e in changed(at, outcome="deny", reason="role")}


def test_a_denial_for_a_reason_of_the_servers_own_is_allowed() -> None:
    """A server may refuse more than policy says; it never releases more."""
    assert changed(find("release"), outcome="deny", reason="quota") == []


def test_another_role_is_found() -> None:
    at = find("release")
    assert "role" in codes(changed(at, role="admin"))


def test_another_actor_is_found() -> None:
    at = find("release", outcome="deny")
    assert "request" in codes(changed(at, actor="alice-laptop"))


def test_the_request_before_in_another_name_is_found() -> None:
    """A signature that was verified for one actor says nothing for the next."""
    made = books()
    request = made.signed("alice-laptop", "/v1/audit/acme")
    common = {"outcome": "allow", "scope": Scope("workspace", "acme"), "policy_seq": made.now.seq, "request": request}
    made.record("audit.read", {"query": "all"}, actor="alice-laptop", role="admin", **common)
    made.record("audit.read", {"query": "all"}, actor="carol-laptop", **common)
    assert "request" in codes(made.judge())


def test_another_environment_or_stanza_is_found() -> None:
    at = find("release")
    body = canonical.decode(BOOKS.bodies[at])
    data = dict(body["data"])
    assert "request" in codes(changed(at, data={**data, "stanza": "0" * 64}))
    assert "request" in codes(changed(at, data={**data, "purpose": "edit"}))
    assert "request" in codes(changed(at, data={**data, "item": 2}))
    assert "request" in codes(changed(at, data={**data, "body": None}))


def test_another_policy_seq_is_found() -> None:
    at = find("release")
    body = canonical.decode(BOOKS.bodies[at])
    assert "policy_seq" in codes(changed(at, policy_seq=body["policy_seq"] - 1))


def test_a29_a_record_far_from_its_request_is_found() -> None:
    made = books()
    made.clock += 3600
    made.record(
        "audit.read", {"query": "all"}, outcome="allow", actor="alice-laptop", scope=Scope("workspace", "acme"),
        role="admin", policy_seq=made.now.seq,
        request=made.signed("alice-laptop", "/v1/audit/acme", created=made.clock - 61),
    )  # fmt: skip
    assert codes(made.judge()) == {"created"}


def test_a29_a_request_that_acts_twice_is_found() -> None:
    made = books()
    request = made.signed("alice-laptop", "/v1/audit/acme")
    for _ in range(2):
        made.record(
            "audit.read", {"query": "all"}, outcome="allow", actor="alice-laptop", scope=Scope("workspace", "acme"),
            role="admin", policy_seq=made.now.seq, request=request,
        )  # fmt: skip
    found = made.judge()
    assert [(each.index, each.code) for each in found] == [(len(made.bodies) - 1, "nonce")]


def test_a29_a_record_of_a_batch_written_twice_is_found() -> None:
    at = find("release", 2)
    made = books()
    made.bodies.insert(at + 1, made.bodies[at])
    assert "again" in codes(made.judge())


def test_a_request_to_another_server_is_found() -> None:
    made = books()
    request = signing.sign(
        made.keys["alice-laptop"], method="GET", target="https://other.example.org/v1/audit/acme", body=b"",
        created=made.clock, nonce=bytes(16),
    )  # fmt: skip
    made.record(
        "audit.read", {"query": "all"}, outcome="allow", actor="alice-laptop", scope=Scope("workspace", "acme"),
        role="admin", policy_seq=made.now.seq, request=request,
    )  # fmt: skip
    assert codes(made.judge()) == {"request"}


def test_a_key_that_was_not_enrolled_yet_is_found() -> None:
    """Carol's device signs before the statement that lets it in."""
    made = books()
    at = find("statement", 4)
    body = entry.build(
        "audit.read", {"query": "all"}, ts=(START + 10) * 1000, id=bytes(16), outcome="deny",
        reason="unknown_principal", actor="carol-laptop", scope=Scope("workspace", "acme"), policy_seq=3,
        request=made.signed("carol-laptop", "/v1/audit/acme", created=START + 10),
    )  # fmt: skip
    made.bodies.insert(at, body)
    assert "request" in codes(made.judge())


def test_a_refused_statement_that_policy_accepts_is_found() -> None:
    made = books()
    line = made.line("alice-laptop", "group.create", {"group": "ops"})
    for reason, findings in (("authority", {"decision"}), ("stale_prev", {"decision"}), ("at", set())):
        fresh = books()
        line = fresh.line("alice-laptop", "group.create", {"group": "ops"})
        fresh.record_line(
            "alice-laptop", line, fresh.signed("alice-laptop", "/v1/policy/acme", line), outcome="deny",
            reason=reason, policy_seq=fresh.now.seq,
        )  # fmt: skip
        assert codes(fresh.judge()) == findings


def test_git_must_be_a_part_of_the_log() -> None:
    """Shorter is normal lag; longer or other is not."""
    assert BOOKS.judge() == []
    made = Replay(BOOKS.now.ws, BOOKS.lines[:-1], [(BOOKS.note(), "kept")])
    for body in BOOKS.bodies:
        made.add(body)
    assert made.end() == []
    longer = Replay(BOOKS.now.ws, [*BOOKS.lines, b"{}"], [(BOOKS.note(), "kept")])
    for body in BOOKS.bodies:
        longer.add(body)
    assert codes(longer.end()) == {"policy"}
    other = Replay("0" * 64, BOOKS.lines, [(BOOKS.note(), "kept")])
    for body in BOOKS.bodies:
        other.add(body)
    assert "genesis" in codes(other.end())


def test_time_and_gaps() -> None:
    made = books()
    at = find("auth")
    body = canonical.decode(made.bodies[at])
    made.bodies[at] = canonical.encode({**body, "ts": START * 1000 - 61_000})
    assert "time" in codes(made.judge())
    gap = Replay(BOOKS.now.ws, BOOKS.lines)
    for number, each in enumerate(BOOKS.bodies):
        gap.add(each, number + (number > 3))
    assert gap.end()[0].index == 4


def test_what_is_no_entry_is_a_finding() -> None:
    for body in (b"", b"{}", b"\xff", b"x" * 70_000):
        found = BOOKS.judge([*BOOKS.bodies, body], checkpoints=[])
        assert codes(found) == {"entry"}


def test_notes_of_other_keys_are_findings() -> None:
    head = BOOKS.note()
    good = checkpoint.sign(head, BOOKS.log_key).serialise()
    bad = checkpoint.sign(head, keys.generate()).serialise()
    log = Verifier(head.origin, BOOKS.log_key.public)
    kept, found = replay.check_notes([(good, "a"), (bad, "b"), (b"", "c")], [log])
    assert [words for _, words in kept] == ["a"]
    assert codes(found) == {"checkpoint"}
    assert len(found) == 2


def test_findings_end() -> None:
    """A log of rubbish does not fill the memory."""
    found = BOOKS.judge([b"x"] * 5000, checkpoints=[])
    assert len(found) <= replay.MAX_FINDINGS + 1


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 9000])
def test_long_logs_lead_to_their_roots(size: int) -> None:
    """Leaves are taken in batches; every checkpoint on the way is compared."""
    bodies = [str(n).encode() for n in range(size)]
    leaves = [merkle.leaf_hash(body) for body in bodies]
    sizes = {1, size // 2, size - 1, size}
    heads = [(Checkpoint("x", n, merkle.root_of(leaves[:n])), str(n)) for n in sizes]
    made = Replay("0" * 64, (), heads, decide=False)
    for body in bodies:
        made.add(body)
    assert not {"root", "rollback"} & codes(made.end())
    assert made.covered == size


# --- CI jobs: the server attests them, so the log has to say all that let them in

CLAIMS = {"environment": "production", "ref": "refs/heads/main", "repository_id": "7", "repository_owner_id": "70"}
ISSUER = "https://token.actions.githubusercontent.com"


def trust(made: Books, rule: str = "deploy", service: str = "ci", **changes: Any) -> None:
    data = {"audience": ORIGIN, "claims": CLAIMS, "issuer": ISSUER, "max_ttl": 900, "rule": rule, "service": service}
    made.do("alice-laptop", "oidc_rule.set", **{**data, **changes})


def job_books() -> Books:
    """The same with the services ci and other, which both read api/dev, and a rule for each."""
    made = books()
    for name in ("ci", "other"):
        key, recipient = made.key(name)
        body = requests.draft(
            ws=made.now.ws, name=name, user=None, key=key.public, recipient=recipient,
            id=_fast.sha256(name.encode())[:16], not_after=made.clock + 3600,
        )  # fmt: skip
        proof = canonical.b64(key.sign(requests.to_sign(body)))
        made.do("alice-laptop", "principal.enrol", cap=None, proof=proof, request=canonical.decode(body), vouch=None)
        made.do("alice-laptop", "binding.set", role="read", scope={"env": "api/dev"}, subject={"service": name})
        trust(made, "deploy" if name == "ci" else "elsewhere", name)
    return made


def register(made: Books, job: str = "ci/one", *, data: dict[str, Any] | None = None, **more: Any) -> None:
    """A registration by rule `deploy`, honest unless told otherwise."""
    key = keys.generate()
    made.keys[job] = key
    fields = {
        "claims": CLAIMS, "issuer": ISSUER, "key": canonical.b64(key.public), "kid": "k1",
        "not_after": made.clock + 600, "rule": "deploy", "token": "0" * 64,
    }  # fmt: skip
    common = {"outcome": "allow", "actor": job, "on_behalf": "ci", "scope": Scope("workspace", "acme")}
    common |= {"policy_seq": made.now.seq, "request": made.signed(job, "/v1/oidc/acme", b"token")}
    made.record("oidc", {**fields, **(data or {})}, **{**common, **more})


def read_by(made: Books, job: str = "ci/one", on_behalf: str | None = "ci", role: str = "read") -> None:
    item = Item(os.urandom(31) + b"\1", os.urandom(32), None)
    asked = release.Request(ws=made.now.ws, env="api/dev", purpose="read", size=0, idem=os.urandom(16), items=(item,))
    body = release.build_request(asked)
    made.record(
        "release",
        {
            "again": False, "body": canonical.b64(body), "generation": 1, "item": 0, "path": None, "purpose": "read",
            "stanza": item.stanza,
        },
        outcome="allow", actor=job, on_behalf=on_behalf, scope=Scope("env", "api/dev"), role=role,
        policy_seq=made.now.seq, request=made.signed(job, "/v1/releases/acme", body),
    )  # fmt: skip


def test_an_honest_job_has_no_findings() -> None:
    """Also one that was refused, which signed with a key of its own all the same."""
    made = job_books()
    register(made)
    read_by(made)
    register(made, "ci/two", outcome="deny", reason="claims", on_behalf=None)
    assert made.judge() == []


def _anew(made: Books, **changes: Any) -> None:
    """The rule is set again under its name, for something else."""
    trust(made, "deploy", **changes)
    read_by(made)


def _removed_and_made_again(made: Books) -> None:
    made.do("alice-laptop", "oidc_rule.remove", rule="deploy")
    trust(made)
    read_by(made)


def _moved(made: Books) -> None:
    trust(made, "deploy", "other")
    read_by(made, on_behalf="other")


def _disabled(made: Books) -> None:
    made.do("alice-laptop", "principal.disable", principal="ci")
    read_by(made, role="none")


def _late(made: Books) -> None:
    made.clock += 700
    read_by(made)


FORGED: dict[str, Any] = {
    "the rule says other claims since": lambda m: _anew(m, claims={**CLAIMS, "ref": "refs/heads/release"}),
    "the rule was made again, equal": _removed_and_made_again,
    "the rule is another service's since": _moved,
    "for another service than the rule's": lambda m: read_by(m, on_behalf="other"),
    "for nobody": lambda m: read_by(m, on_behalf=None),
    "the service is disabled": _disabled,
    "after its end": _late,
    "a job that nobody registered": lambda m: (m.key("ci/none"), read_by(m, "ci/none")),
}


@pytest.mark.parametrize("name", FORGED)
def test_a25_a_release_to_a_job_that_is_none_any_more_is_found(name: str) -> None:
    made = job_books()
    register(made)
    before = len(made.bodies)
    FORGED[name](made)
    at = len(made.bodies) - 1
    assert at >= before
    assert (at, "decision") in {(each.index, each.code) for each in made.judge()}


def test_another_role_of_a_job_is_found() -> None:
    made = job_books()
    register(made)
    read_by(made, role="admin")
    assert codes(made.judge()) == {"role"}


REGISTERED: dict[str, dict[str, Any]] = {
    "for another service": {"on_behalf": "other"},
    "for nobody": {"on_behalf": None},
    "by a rule that is not there": {"data": {"rule": "nothing"}},
    "by no rule": {"data": {"rule": None}},
    "with a claim that differs": {"data": {"claims": {**CLAIMS, "ref": "refs/heads/feature"}}},
    "with a claim that is not there": {"data": {"claims": {"ref": "refs/heads/main"}}},
    "by another issuer": {"data": {"issuer": "https://evil.example"}},
    "for longer than the rule": {"data": {"not_after": START + 86400}},
    "as a device": {"actor": "bob-laptop"},
}


@pytest.mark.parametrize("name", REGISTERED)
def test_a25_a_forged_registration_is_found(name: str) -> None:
    made = job_books()
    register(made, **REGISTERED[name])
    found = {(each.index, each.code) for each in made.judge()}
    assert (len(made.bodies) - 1, "decision") in found
    if "actor" not in REGISTERED[name]:
        read_by(made)
        assert len(made.bodies) - 1 in {each.index for each in made.judge()}, "nor may it read"


def test_a_job_registered_twice_is_found() -> None:
    """A second record with another key would let that key act for the first job."""
    made = job_books()
    register(made)
    register(made)
    assert (len(made.bodies) - 1, "decision") in {(each.index, each.code) for each in made.judge()}


def test_a_registration_signed_by_another_key_is_found() -> None:
    made = job_books()
    register(made, data={"key": canonical.b64(keys.generate().public)})
    assert "request" in codes(made.judge())
