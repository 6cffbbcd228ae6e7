"""The audit log judged again from its own bytes: what `zopp audit verify` runs, and the server's tests after every run.

Entry bodies go in, in order; findings come out, each with the index of the record that it is about (policy-server.md
§5.4). One pass, with memory for the policy, the tree's frontier and the nonces of a few minutes, however long the log.

1. leaves lead to the root of every checkpoint that was given, at its size; none is beyond the end (A29: also old ones)
2. (the signatures and origins of checkpoints are the caller's: `check_notes`)
4. accepted statements are one chain from the pinned genesis, fold, and are those of the policy log in git
5. every decision is made again: releases (I4), statements, reads of the log; a refusal that policy gives must hold too
6. requests are signed by keys that were enrolled then, for this server and workspace; a nonce acts once (A29);
   |created - ts| <= 60 s
7. indices have no gap, and time does not fall back

What is *not* told: events that were never written, and what happened after the last checkpoint that somebody kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zopp.errors import FormatError, ZoppError
from zopp.policy import apply as policy_apply, canonical, decisions, statement
from zopp.policy.names import Scope
from zopp.policy.state import State
from zopp.protocol import release, signing
from zopp.tlog import checkpoint, entry, merkle
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.entry import Entry
from zopp.tlog.note import Verifier

WINDOW_MS = signing.WINDOW * 1000
BACKWARDS_MS = 60_000
"""How far `ts` may fall behind an earlier one: replicas have clocks of their own."""

MAX_FINDINGS = 100
_BATCH = 4096
_NONCES_MS = 600_000

_POLICY_RULES = frozenset(
    ("role", "protected_boundary", "capped", "keyless", "disabled", "unknown_principal", "no_such_scope", "not_human")
)
"""Reasons of denial that policy alone gives: `decisions.decide` must say no as well."""

_SERVER_RULES = frozenset(
    (
        "at",
        "server",
        "server_key",
        "hold",
        "quota",
        "recovery",
        "limit",
        "operator",
        "too_large",
        "refused",
        "bad_request",
    )
)
"""Reasons for which a server refuses a statement that policy would let pass (policy-server.md §4.1)."""

_DECIDED = {"audit.read": "audit.read", "audit.export": "audit.read", "manifest": "write", "release": "release"}


@dataclass(frozen=True, slots=True)
class Found:
    """A finding: `index` of the record (None: of the log as a whole), a stable `code`, a sentence."""

    index: int | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """A CI job that the log registered, by the `rule` of that name as statement `since` made it."""

    service: str
    rule: str
    since: int
    key: bytes
    not_after: int


@dataclass(slots=True)
class Replay:
    """Feed it with `add`, then ask `end`. `genesis` (hex) is pinned; `policy` are the lines of the policy log in git,
    of which the log must hold every one (it may have more); `checkpoints` are verified ones, in any order, with a word
    for people where each is from. `decide` False leaves 5 and 6 out."""

    genesis: str
    policy: Sequence[bytes] = ()
    checkpoints: Sequence[tuple[Checkpoint, str]] = ()
    decide: bool = True
    found: list[Found] = field(default_factory=list)
    state: State | None = None
    size: int = 0
    statements: int = 0
    _frontier: merkle.Frontier = merkle.EMPTY
    _leaves: list[bytes] = field(default_factory=list)
    _sizes: list[tuple[int, Checkpoint, str]] = field(default_factory=list)
    _good: int = 0
    _bad_root: bool = False
    _ts: int = 0
    _nonces: OrderedDict[tuple[str, bytes], tuple[bytes, int]] = field(default_factory=OrderedDict)
    _ids: OrderedDict[bytes, tuple[int, int]] = field(default_factory=OrderedDict)
    _parts: set[tuple[object, ...]] = field(default_factory=set)
    _keys: dict[str, bytes] = field(default_factory=dict)
    _jobs: dict[str, Job] = field(default_factory=dict)
    _first_id: bytes | None = None
    _waiting: list[tuple[int, Entry]] = field(default_factory=list)
    _verified: tuple[object, str | None] = (None, None)
    _sent: tuple[bytes, release.Request | None] = (b"", None)

    def __post_init__(self) -> None:
        self._sizes = sorted([(each.size, each, words) for each, words in self.checkpoints], key=lambda row: row[0])

    def say(self, index: int | None, code: str, message: str) -> None:
        """One more finding; after MAX_FINDINGS they are not kept."""
        if len(self.found) < MAX_FINDINGS:
            self.found.append(Found(index, code, message))

    # --- one entry

    def add(self, body: bytes, index: int | None = None) -> None:
        """The next entry. `index`: what the source says its place is."""
        here = self.size
        if index is not None and index != here:
            self.say(here, "gap", f"record {index} stands where {here} belongs")
        self.size += 1
        self._leaf(merkle.leaf_hash(body))
        try:
            made = entry.parse(body)
        except ZoppError as exc:
            self.say(here, "entry", f"is not an entry of this log: {exc.message}")
            return
        self._time(here, made)
        self._once(here, made)
        before = self.state
        self._policy(here, made)
        if self.decide:
            self._request(here, made, before)

    def _leaf(self, leaf: bytes) -> None:
        self._leaves.append(leaf)
        if len(self._leaves) >= _BATCH or (self._sizes and self._sizes[0][0] == self.size):
            self._flush()

    def _flush(self) -> None:
        self._frontier = merkle.append(self._frontier, self._leaves).after
        self._leaves.clear()
        while self._sizes and self._sizes[0][0] <= self.size:
            size, head, words = self._sizes.pop(0)
            if size not in (self._frontier.size, 0):
                continue
            root = merkle.EMPTY_ROOT if size == 0 else self._frontier.root
            if root == head.root:
                self._good = max(self._good, size)
            elif not self._bad_root:
                self._bad_root = True
                where = f"from {self._good} to {size - 1}" if size else "none"
                self.say(
                    self._good if size == self._good + 1 else None,
                    "root",
                    f"the records do not lead to the checkpoint of {size} ({words}): one {where} is not what it was",
                )

    def _once(self, here: int, made: Entry) -> None:
        """Records of one id stand together, each for another item or statement."""
        part = (made.action, made.data.get("item"), made.line)
        last, _ = self._ids.get(made.id, (None, 0))
        if last is None:
            self._parts = {part}
        elif last != here - 1 or part in self._parts:
            self.say(here, "again", "is a record that stands here before")
        self._parts.add(part)
        self._ids[made.id] = (here, made.ts)
        _forget(self._ids, made.ts)

    def _time(self, here: int, made: Entry) -> None:
        if made.ts < self._ts - BACKWARDS_MS:
            self.say(here, "time", f"is dated {(self._ts - made.ts) // 1000} s before a record that stands before it")
        self._ts = max(self._ts, made.ts)

    # --- policy

    def _policy(self, here: int, made: Entry) -> None:
        if made.action != "statement":
            self._ended_upload()
            if self.decide:
                self._decision(here, made)
            return
        if self._first_id is None:
            self._first_id = made.id
        line = made.line
        assert line is not None
        if made.outcome == "allow":
            self._accepted(here, line)
        elif self.decide:
            self._ended_upload()
            self._refused(here, made, line)

    def _accepted(self, here: int, line: bytes) -> None:
        before = self.state
        try:
            st = statement.parse(line)
            if before is None and st.hash != self.genesis:
                self.say(here, "genesis", "the log begins with another genesis than the one this clone is pinned to")
            self.state = policy_apply.apply(before, st)
        except ZoppError as exc:
            self.say(here, "statement", f"an accepted statement does not hold: {exc.message}")
            return
        if st.seq < len(self.policy) and self.policy[st.seq] != line:
            self.say(here, "policy", f"statement {st.seq} is another one than in the policy log in git")
        self.statements += 1
        for p in (self.state.principals.get(name) for name in _touched(st)):
            if p is not None and p.key is not None:
                self._keys[signing.fingerprint(p.key)] = p.key
        if st.type == "invite.create":
            key = self.state.invites[st.data["invite"]].key
            self._keys[signing.fingerprint(key)] = key

    def _refused(self, here: int, made: Entry, line: bytes) -> None:
        st, state, reason = statement.parse(line), self.state, made.reason or ""
        if state is None or reason in _SERVER_RULES:
            return
        if reason == "stale_prev":
            if st.prev == state.head:
                self.say(here, "decision", "a statement was refused as stale, and it followed the last one")
            return
        try:
            policy_apply.apply(state, st)
        except ZoppError:
            return
        self.say(here, "decision", f"a statement was refused ({reason}) that policy lets pass")

    # --- decisions

    def _decision(self, here: int, made: Entry) -> None:
        state = self.state
        if state is None:
            self.say(here, "decision", "was recorded before there was a policy")
            return
        if made.policy_seq is not None and made.policy_seq != state.seq:
            self.say(
                here, "policy_seq", f"says it was decided under statement {made.policy_seq}, and that was {state.seq}"
            )
            return
        if made.action == "oidc" and made.outcome == "allow":
            self._job(here, made, state)
        action = _DECIDED.get(made.action)
        if action is None or made.actor is None or made.scope is None:
            return
        reason = self._judge(made, state, action, made.scope)
        if made.outcome == "allow" and reason is not None:
            self.say(
                here, "decision", f"{made.actor} was let {_does(action)} on {made.scope}, and policy says no ({reason})"
            )
        elif made.outcome == "deny" and made.reason in _POLICY_RULES and reason is None:
            self.say(here, "decision", f"{made.actor} was refused ({made.reason}) on {made.scope}, and policy says yes")
        if made.role is not None and (role := self._role(made, state, made.scope)) not in (None, made.role):
            self.say(here, "role", f"says that {made.actor} had {made.role} on {made.scope}, and it had {role}")

    def _role(self, made: Entry, state: State, scope: Scope) -> str | None:
        """The role that the actor had, None where it cannot be told."""
        actor = made.actor or ""
        if actor.startswith("ci/"):
            job = self._jobs.get(actor)
            return None if job is None else str(decisions.oidc_role(state, job.rule, scope))
        holder = made.on_behalf or actor
        return str(state.role(holder, scope)) if holder in state.principals else None

    def _judge(self, made: Entry, state: State, action: str, scope: Scope) -> str | None:
        """Why policy says no, None if it says yes."""
        actor = made.actor or ""
        if actor.startswith("ci/"):
            job = self._jobs.get(actor)
            if job is None or job.service != made.on_behalf:
                return "no such CI job"
            if made.ts >= job.not_after * 1000:
                return "expired"
            # A rule of the same name may have been made anew since, for other claims or another service.
            rule = state.oidc_rules.get(job.rule)
            if rule is None or (rule.since, rule.service) != (job.since, job.service):
                return "rule"
            return None if decisions.oidc_role(state, job.rule, scope) >= 1 else "role"
        decision = decisions.decide(state, actor, action, scope)
        if isinstance(decision, decisions.Deny):
            return decision.rule
        if action == "release":
            p = state.principals[actor]
            env = state.all_envs.get(scope.name)
            if p.key is None:
                return "keyless"
            if env is None or env.archived:
                return "no_such_scope"
        return None

    def _job(self, here: int, made: Entry, state: State) -> None:
        """A registration: its rule is of this policy, matches the claims, and is for the service that the record names
        and that is enabled; the job lasts no longer than the rule lets it."""
        rule = state.oidc_rules.get(made.data["rule"] or "")
        if rule is None or not decisions.oidc_matches(rule, made.data["issuer"], made.data["claims"]):
            self.say(here, "decision", "a CI job was registered, and no rule of the policy matches its claims")
            return
        service = state.principals.get(rule.service)
        if made.on_behalf != rule.service or service is None or not service.enabled:
            self.say(here, "decision", f"a CI job was registered for another service than rule {rule.name} is for")
            return
        if made.data["not_after"] * 1000 > made.ts + rule.max_ttl * 1000 + WINDOW_MS:
            self.say(here, "decision", f"a CI job was registered for longer than rule {rule.name} lets it last")
            return
        if made.actor is None or not made.actor.startswith("ci/") or made.actor in self._jobs:
            self.say(here, "decision", "a CI job was registered under a name that is taken or no job's")
            return
        key = canonical.unb64(made.data["key"], 32)
        self._jobs[made.actor] = Job(rule.service, rule.name, rule.since, key, made.data["not_after"])
        self._keys[signing.fingerprint(key)] = key

    # --- requests

    def _ended_upload(self) -> None:
        """The first statements were uploaded as one, by a key that they enrol: judged when all are folded."""
        waiting, self._waiting = self._waiting, []
        for here, made in waiting:
            self._signed(here, made, self.state)

    def _request(self, here: int, made: Entry, before: State | None) -> None:
        if made.request is None:
            return
        if made.id == self._first_id:
            if not self._waiting:
                self._waiting.append((here, made))
            elif self._waiting[0][1].request != made.request:
                self.say(here, "request", "is of one request with the record before it, and signed otherwise")
            return
        self._ended_upload()
        self._signed(here, made, before)

    def _signed(self, here: int, made: Entry, state: State | None) -> None:
        request = made.request
        assert request is not None
        try:
            presented = signing.recorded(request)
        except ZoppError as exc:
            self.say(here, "request", exc.message)
            return
        if (request, made.actor) != self._verified:  # of a batch once
            key = self._key(here, made, presented.keyid, state)
            if key is None:
                return
            try:
                signing.verify(presented, key)
            except ZoppError:
                self.say(here, "request", f"its request is not signed by {made.actor}")
                return
            self._verified = (request, made.actor)
        self._target(here, request.target)
        if made.action == "auth":
            return  # a valid signature that was refused: its nonce may have acted before, or be too old
        if abs(presented.created * 1000 - made.ts) > WINDOW_MS:
            self.say(
                here, "created", f"was recorded {abs(presented.created - made.ts // 1000)} s from when it was signed"
            )
        self._nonce(here, made, presented)
        if made.action == "release":
            self._release(here, made)

    def _key(self, here: int, made: Entry, keyid: str, state: State | None) -> bytes | None:
        """The key that the actor had when it asked: `state` is the policy before this record."""
        actor = made.actor or ""
        key: bytes | None = None
        if actor.startswith("invite/"):
            invite = None if state is None else state.invites.get(actor[7:])
            key = None if invite is None else invite.key
        elif made.action == "oidc":
            # Its own new key signs a registration, the refused one too; that it is nobody else's is for `_job`.
            key = canonical.unb64(made.data["key"], 32)
        elif actor.startswith("ci/"):
            key = self._jobs[actor].key if actor in self._jobs else None
        elif state is not None and actor in state.principals:
            p = state.principals[actor]
            key = p.key if p.enabled and (p.user is None or state.users[p.user].enabled) else None
        if made.action == "auth":
            key = self._keys.get(keyid)  # of somebody who was disabled, or has other keys since
        if key is None or signing.fingerprint(key) != keyid:
            self.say(here, "request", f"its request is signed by a key that {actor} did not have then")
            return None
        return key

    def _target(self, here: int, target: str) -> None:
        state = self.state
        if state is None:
            return
        origins = {server.origin for server in state.servers}
        origin = "/".join(target.split("/", 3)[:3])
        parts = target.split("?", 1)[0].split("/")
        if origin not in origins or state.name not in parts:
            self.say(here, "request", "its request was not made to this server and workspace")

    def _nonce(self, here: int, made: Entry, presented: signing.Presented) -> None:
        """A request acts once: its records share one id, which stand together (`_once`)."""
        name = (presented.keyid, presented.nonce)
        ident, _ = self._nonces.setdefault(name, (made.id, made.ts))
        if ident != made.id:
            self.say(here, "nonce", "a request that acted before is recorded again")
        # `created` is within a minute of `ts`, so what is older cannot come again without being found by that
        _forget(self._nonces, made.ts)

    def _release(self, here: int, made: Entry) -> None:
        """The entry is what the request asked for: the exact body stands with the first of its records."""
        body = made.request_body
        request = made.request
        assert request is not None
        if body is not None:
            if signing.content_digest(body) != request.content_digest:
                self.say(here, "request", "the recorded body is not the one that was signed")
                return
            try:
                self._sent = (made.id, release.parse_request(body))
            except FormatError:
                self.say(here, "request", "the recorded body is no release request")
                return
        ident, sent = self._sent
        if ident != made.id or sent is None:
            self.say(here, "request", "no record of its request holds the body")
            return
        data, number = made.data, made.data["item"]
        item = sent.items[number] if number < len(sent.items) else None
        asked_env = sent.env is None or made.scope == Scope("env", sent.env)
        if (
            item is None
            or not asked_env
            or sent.ws != self.genesis
            or (item.stanza, item.path, sent.purpose) != (data["stanza"], data["path"], data["purpose"])
        ):
            self.say(here, "request", "records something else than the request asked for")

    # --- the end

    def end(self) -> list[Found]:
        """All findings, by record, those about the whole log last."""
        self._ended_upload()
        self._flush()
        for size, _, words in self._sizes:
            self.say(
                None, "rollback", f"the log ends after {self.size} records, and a checkpoint of {size} exists ({words})"
            )
        if self.state is None:
            if self.size:
                self.say(None, "genesis", "the log has no policy")
        elif len(self.policy) > self.state.seq + 1:
            self.say(
                None,
                "policy",
                f"the policy log in git goes up to statement {len(self.policy) - 1}, and this log to {self.state.seq}",
            )
        return sorted(self.found, key=lambda each: (each.index is None, each.index or 0))

    @property
    def covered(self) -> int:
        """How many records the largest checkpoint that held covers."""
        return self._good

    @property
    def root(self) -> bytes:
        """The root over all entries so far."""
        return merkle.append(self._frontier, self._leaves).root


def _forget(seen: "OrderedDict[Any, tuple[Any, int]]", ts: int) -> None:
    """Drop what is older than anything that can come again; memory stays flat."""
    while seen and next(iter(seen.values()))[1] < ts - _NONCES_MS:
        seen.popitem(last=False)


def _touched(st: statement.Statement) -> list[str]:
    data = st.data
    names = [data["request"]["name"]] if "request" in data else []
    if isinstance(data.get("principal"), str):
        names.append(data["principal"])
    return names


def _does(action: str) -> str:
    return {"release": "read", "write": "write", "audit.read": "read the log"}[action]


def check_notes(
    notes: Iterable[tuple[bytes, str]], logs: Sequence[Verifier]
) -> tuple[list[tuple[Checkpoint, str]], list[Found]]:
    """(the checkpoints of those notes that one of `logs` signed, findings about the others). Each note comes with a
    word where it is from."""
    good: list[tuple[Checkpoint, str]] = []
    bad: list[Found] = []
    for data, words in notes:
        try:
            good.append((checkpoint.read(data, *logs), words))
        except ZoppError as exc:
            bad.append(Found(None, "checkpoint", f"a checkpoint ({words}) is not of this log: {exc.message}"))
    return good, bad


def first(found: Sequence[Found]) -> int | None:
    """The index of the first bad record, None if no finding names one."""
    return min((each.index for each in found if each.index is not None), default=None)


def summary(found: Sequence[Found]) -> Mapping[str, int]:
    """How many findings of each code there are."""
    made: dict[str, int] = {}
    for each in found:
        made[each.code] = made.get(each.code, 0) + 1
    return made


__all__ = ["Found", "Job", "Replay", "check_notes", "first", "summary"]
