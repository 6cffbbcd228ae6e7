"""A stand-in for the policy server: the routes a client of brokered files needs, in memory, on the loopback interface.

Signatures, receipts, tree and sealing are real, by the protocol modules; there is no database, no batch and no limit.
The policy log is read from a file for every request, as if each statement had been accepted at once. `wrong` changes
each file key on its way out, `lie` an answer as a whole, `propose` is a server key of somebody else's choice: what a
hostile server would do.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from zopp.errors import ZoppError
from zopp.keys import agefile, signing as keys
from zopp.keys.filekey import PrivateKey
from zopp.policy import canonical, decisions, log
from zopp.policy.names import Scope
from zopp.policy.state import State
from zopp.protocol import messages, problem, release, signing
from zopp.protocol.receipt import Receipt
from zopp.protocol.release import Released, Response, Result
from zopp.tlog import checkpoint, entry, merkle
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.entry import SignedRequest
from zopp.tlog.proof import Proof


class Refuse(Exception):
    """A problem to answer with."""

    def __init__(self, code: str, detail: str, **members: Any) -> None:
        self.body = problem.build(code, detail, members=members)
        self.status = problem.CODES[code].status


class StandIn:
    """`requests` holds every release request that was answered, with the principal."""

    def __init__(self, policy: Path) -> None:
        self.policy = policy
        self.key = keys.generate()
        self.server_keys: dict[str, list[tuple[bytes, PrivateKey]]] = {}
        self.entries: list[bytes] = []
        self.nonces: set[bytes] = set()
        self.requests: list[tuple[str, release.Request]] = []
        self.wrong: Callable[[bytes], bytes] = lambda key: key
        self.lie: Callable[[Response], Response] = lambda response: response
        self.fail: list[Refuse] = []
        self.down = False
        self.propose: str | None = None
        self.delay = 0.0
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"standin": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()

    @property
    def state(self) -> State:
        return log.fold(self.policy.read_bytes())

    def lines(self) -> list[str]:
        return self.policy.read_text().splitlines()

    def releases(self) -> int:
        """How many stanzas were asked for."""
        return sum(len(request.items) for _, request in self.requests)

    # --- the log

    def record(self, bodies: list[bytes], size: int) -> tuple[list[Receipt], tuple[bytes, ...]]:
        first = len(self.entries)
        self.entries += bodies
        tree = merkle.append(merkle.EMPTY, [entry.leaf(body) for body in self.entries])
        state = self.state
        origin = checkpoint.origin_of(self.origin, state.name, state.ws)
        note = checkpoint.sign(Checkpoint(origin, len(self.entries), tree.root), self.key)
        receipts = [
            Receipt(body, Proof(first + n, tuple(tree.inclusion(first + n)), note).serialise())
            for n, body in enumerate(bodies)
        ]
        return receipts, tuple(merkle.consistency(tree.node, size, len(self.entries)))

    # --- routes

    def handle(self, method: str, path: str, query: str, fields: list[tuple[str, str]], body: bytes) -> bytes:
        with self._lock:
            if self.fail:
                raise self.fail.pop(0)
            state = self.state
            presented = signing.read(
                fields, method=method, target=signing.target_uri(self.origin, path, query), body=body
            )
            found = next(
                (p for p in state.principals.values() if p.key and signing.fingerprint(p.key) == presented.keyid), None
            )
            signing.verify(presented, found.key if found else None)
            signing.check_fresh(presented, now=int(time.time()))
            assert found is not None
            if method == "POST":
                if presented.nonce in self.nonces:
                    raise Refuse("replayed", "the request was sent before")
                self.nonces.add(presented.nonce)
            match (method, path.removesuffix("/" + state.name)):
                case ("GET", "/v1/policy"):
                    return self._policy(int(query.removeprefix("from=")))
                case ("POST", "/v1/releases"):
                    return self._release(state, found.name, presented.request, body)
                case ("POST", "/v1/keys"):
                    return self._key(state, found.name, presented.request, body)
            raise Refuse("not_found", "there is no such route")

    def _policy(self, start: int) -> bytes:
        lines, state = self.lines(), self.state
        made = entry.build(
            "statement", {"line": canonical.decode(lines[-1].encode())}, ts=1, id=os.urandom(16), outcome="allow",
            actor="alice-laptop", policy_seq=state.seq, request=_NOBODY,
        )  # fmt: skip
        receipts, consistency = self.record([made], 0)
        return messages.build_answer(
            "policy", lines=lines[start:], head={"hash": state.head, "seq": state.seq}, keys=[],
            receipt=receipts[0].json(), consistency=messages.hashes(consistency),
        )  # fmt: skip

    def _key(self, state: State, who: str, sent: SignedRequest, body: bytes) -> bytes:
        asked = messages.parse_request("key", body)
        env = asked["env"]
        decision = decisions.decide(state, who, "env.serverkey", Scope("env", env))
        if isinstance(decision, decisions.Deny):
            raise Refuse("denied", decision.reason, env=env, rule=decision.rule)
        have = self.server_keys.setdefault(env, [])
        if not have or state.recipient_owner(have[-1][1].recipient) is not None:
            secret = os.urandom(32)
            have.append((secret, PrivateKey(secret)))
        recipient = self.propose or have[-1][1].recipient
        id = os.urandom(16)
        made = entry.build(
            "key", {"event": "create", "generation": len(have), "recipient": recipient}, ts=1, id=id,
            outcome="fact", actor=who, scope=Scope("env", env), policy_seq=state.seq, request=sent,
        )  # fmt: skip
        receipts, consistency = self.record([made], asked["size"])
        return messages.build_answer(
            "key", env=env, generation=len(have), recipient=recipient,
            **messages.done_fields(id, receipts[0], consistency),
        )  # fmt: skip

    def _release(self, state: State, who: str, sent: SignedRequest, body: bytes) -> bytes:
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
                    ts=1, id=id, outcome="deny" if reason else "allow", reason=reason, actor=who, scope=scope,
                    role=str(state.role(who, scope)), policy_seq=state.seq, request=sent,
                )
            )  # fmt: skip
            if reason is None:
                released.append(
                    Released(env=request.env, generation=match[0], stanza=item.stanza, key=self.wrong(match[1]))
                )
        receipts, consistency = self.record(bodies, request.size)
        if not released:
            if any(kind == "denied" for kind, _ in kinds):
                raise Refuse("denied", f"{who} may not read {request.env}", env=request.env)
            raise Refuse("unmatched", "no key of the server opens it")
        rest = iter(receipts)
        response = Response(
            id=id,
            policy_seq=state.seq,
            policy_hash=state.head,
            results=tuple(Result(kind, why, None if kind == "unmatched" else next(rest)) for kind, why in kinds),
            consistency=consistency,
            sealed=_seal(state.principals[who].recipient, id, released),
        )
        return release.build_response(self.lie(response))


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


_NOBODY = SignedRequest(
    method="POST", target="http://127.0.0.1/", content_digest="x", signature_input="x", signature="x"
)


class _Handler(BaseHTTPRequestHandler):
    standin: StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        if self.standin.delay:
            time.sleep(self.standin.delay)
        if self.standin.down:
            self.close_connection = True
            return
        try:
            status, answer = 200, self.standin.handle(self.command, path, query, list(self.headers.items()), body)
            kind = "application/json"
        except Refuse as exc:
            status, answer, kind = exc.status, exc.body, problem.CONTENT_TYPE
        except ZoppError as exc:
            known = exc.code if exc.code in ("bad_signature", "bad_request") else "bad_signature"
            status, answer, kind = problem.CODES[known].status, problem.build(known, exc.message), problem.CONTENT_TYPE
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()

    do_GET = do_POST = _do

    def log_message(self, *args: Any) -> None:
        pass
