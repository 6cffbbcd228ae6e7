"""The stand-in of `tests.client` with what brokered files need: server keys and releases, in memory.

Signatures, receipts, tree and sealing are real, by the protocol modules; there is no database, no batch and no limit.
`wrong` changes each file key on its way out, `lie` an answer as a whole: what a hostile server would do. `fail` holds
refusals to be given first, `down` leaves requests without an answer, `delay` keeps each one waiting.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.client.standin import LostAnswer, Problem, Standin
from zopp.keys import agefile
from zopp.keys.filekey import PrivateKey
from zopp.policy import canonical, decisions
from zopp.policy.names import Scope
from zopp.policy.state import State
from zopp.protocol import messages, release, signing
from zopp.protocol.receipt import Receipt
from zopp.protocol.release import Released, Response, Result
from zopp.tlog import entry
from zopp.tlog.entry import SignedRequest


@dataclass
class StandIn(Standin):
    """`requests` holds every release request that was answered, with the principal."""

    server_keys: dict[str, list[tuple[bytes, PrivateKey]]] = field(default_factory=dict)
    requests: list[tuple[str, release.Request]] = field(default_factory=list)
    wrong: Callable[[bytes], bytes] = lambda key: key
    lie: Callable[[Response], Response] = lambda response: response
    fail: list[Problem] = field(default_factory=list)
    down: bool = False
    propose: str | None = None
    """A server key of somebody else's choice."""
    delay: float = 0.0
    stopped: bool = False

    def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            super().stop()

    def releases(self) -> int:
        """How many stanzas were asked for."""
        return sum(len(request.items) for _, request in self.requests)

    def _serve(
        self, handler: BaseHTTPRequestHandler, method: str, path: str, fields: list[tuple[str, str]], body: bytes
    ) -> None:
        if self.delay:
            time.sleep(self.delay)
        super()._serve(handler, method, path, fields, body)

    def _route(
        self, method: str, path: str, query: str, fields: list[tuple[str, str]], body: bytes
    ) -> tuple[int, str, bytes]:
        if self.down:
            raise LostAnswer
        if self.fail:
            raise self.fail.pop(0)
        kind = path.split("/")[2]
        if kind not in ("releases", "keys"):
            return super()._route(method, path, query, fields, body)
        target = signing.target_uri(self.origin, path, query)
        presented = signing.read(fields, method=method, target=target, body=body)
        name = self._caller(presented)
        answer = self._release if kind == "releases" else self._key
        return answer(self.the_state, name, presented.request, body)

    def _ms(self) -> int:
        return int(self.now() * 1000)

    def _receipts(self, bodies: list[bytes], size: int) -> tuple[list[Receipt], tuple[bytes, ...]]:
        book = self.the_book
        found = [book.receipt(index) for index in book.append(*bodies)]
        return found, tuple(book.consistency(size))

    def _key(self, state: State, who: str, sent: SignedRequest, body: bytes) -> tuple[int, str, bytes]:
        asked = messages.parse_request("key", body)
        env = asked["env"]
        decision = decisions.decide(state, who, "env.serverkey", Scope("env", env))
        if isinstance(decision, decisions.Deny):
            raise Problem("denied", decision.reason, env=env, rule=decision.rule)
        have = self.server_keys.setdefault(env, [])
        if not have or state.recipient_owner(have[-1][1].recipient) is not None:
            secret = os.urandom(32)
            have.append((secret, PrivateKey(secret)))
        recipient = self.propose or have[-1][1].recipient
        id = os.urandom(16)
        made = entry.build(
            "key", {"event": "create", "generation": len(have), "recipient": recipient}, ts=self._ms(), id=id,
            outcome="fact", actor=who, scope=Scope("env", env), policy_seq=state.seq, request=sent,
        )  # fmt: skip
        receipts, consistency = self._receipts([made], asked["size"])
        return self._answer(
            "key", env=env, generation=len(have), recipient=recipient,
            **messages.done_fields(id, receipts[0], consistency),
        )  # fmt: skip

    def _release(self, state: State, who: str, sent: SignedRequest, body: bytes) -> tuple[int, str, bytes]:
        request = release.parse_request(body)
        self.requests.append((who, request))
        assert request.env is not None
        bodies: list[bytes] = []
        kinds: list[tuple[str, str | None]] = []
        released: list[Released] = []
        id = os.urandom(16)
        scope = Scope("env", request.env)
        decision = decisions.decide(state, who, "release", scope)
        reason = decision.rule if isinstance(decision, decisions.Deny) else None
        for number, item in enumerate(request.items):
            match = None
            for generation, (_, key) in enumerate(self.server_keys.get(request.env, []), 1):
                opened = key.open(item.share, item.body)
                if opened is not None:
                    match = (generation, opened)
            if match is None:
                kinds.append(("unmatched", None))
                continue
            kinds.append(("denied", reason) if reason else ("released", None))
            bodies.append(
                entry.build(
                    "release",
                    {
                        "again": False, "body": None if bodies else canonical.b64(body), "generation": match[0],
                        "item": number, "path": item.path, "purpose": request.purpose, "stanza": item.stanza,
                    },
                    ts=self._ms(), id=id, outcome="deny" if reason else "allow", reason=reason, actor=who, scope=scope,
                    role=str(state.role(who, scope)), policy_seq=state.seq, request=sent,
                )
            )  # fmt: skip
            if reason is None:
                released.append(
                    Released(env=request.env, generation=match[0], stanza=item.stanza, key=self.wrong(match[1]))
                )
        receipts, consistency = self._receipts(bodies, request.size)
        if not released:
            if any(kind == "denied" for kind, _ in kinds):
                raise Problem("denied", f"{who} may not read {request.env}", env=request.env)
            raise Problem("unmatched", "no key of the server opens it")
        rest = iter(receipts)
        response = Response(
            id=id,
            policy_seq=state.seq,
            policy_hash=state.head,
            results=tuple(Result(kind, why, None if kind == "unmatched" else next(rest)) for kind, why in kinds),
            consistency=consistency,
            sealed=_seal(state.principals[who].recipient, id, released),
        )
        return 200, "application/json", release.build_response(self.lie(response))


def _seal(recipient: str, id: bytes, keys: list[Released]) -> str:
    """As `release.seal`, for file keys of any length."""
    plain = {
        "id": canonical.b64(id),
        "keys": [
            {"env": k.env, "generation": k.generation, "key": canonical.b64(k.key), "stanza": k.stanza} for k in keys
        ],
        "v": 1,
    }
    return agefile.wrap(recipient, canonical.encode(plain))
