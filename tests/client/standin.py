"""A stand-in for the policy server, for tests of its client: one loopback HTTP server, everything in memory.

It speaks docs/reference/http.md with real signatures and a real Merkle tree (`zopp.tlog`), judges statements by
`zopp.policy.apply`, and can be told to lie: withhold, reorder, invent, hand out another receipt, lose an answer.

It does not do: nonces across requests (kept in a set, no window), rate limits, quotas, releases with keys, CI jobs,
manifests, durability. Whatever passes here has to pass against `zopp_server` too (`tests/server`).
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from zopp._fast import sha256
from zopp.errors import IntegrityError, ZoppError
from zopp.keys import signing as keys
from zopp.keys.signing import SigningKey
from zopp.policy import apply as policy_apply, canonical, decisions, log as policy_log, statement
from zopp.policy.names import Scope
from zopp.policy.state import State
from zopp.protocol import clock, messages, problem, signing
from zopp.protocol.receipt import Receipt
from zopp.tlog import checkpoint, entry, merkle, tiles
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.entry import SignedRequest
from zopp.tlog.note import Note
from zopp.tlog.proof import Proof


class Problem(Exception):
    """A refusal to be sent."""

    def __init__(self, code: str, detail: str = "no", **members: Any) -> None:
        super().__init__(code)
        self.code, self.detail, self.members = code, detail, members


class LostAnswer(Exception):
    """What was asked is done, and the answer is not sent."""


class Book:
    """The audit log of one workspace."""

    def __init__(self, origin: str, key: SigningKey) -> None:
        self.origin, self.key = origin, key
        self.bodies: list[bytes] = []
        self.leaves: list[bytes] = []
        self.frontier = merkle.EMPTY
        self.old_keys: list[SigningKey] = []

    def append(self, *bodies: bytes) -> list[int]:
        first = len(self.bodies)
        self.bodies += bodies
        self.leaves += [merkle.leaf_hash(body) for body in bodies]
        self.frontier = merkle.append(self.frontier, self.leaves[first:]).after
        return list(range(first, len(self.bodies)))

    def read(self, level: int, index: int) -> bytes:
        return merkle.root_of(self.leaves[index << level : (index + 1) << level])

    def note(self, size: int | None = None, key: SigningKey | None = None) -> Note:
        size = len(self.leaves) if size is None else size
        head = Checkpoint(self.origin, size, merkle.root_of(self.leaves[:size]))
        return checkpoint.sign(head, key or self.key)

    def receipt(self, index: int, size: int | None = None, key: SigningKey | None = None) -> Receipt:
        size = len(self.leaves) if size is None else size
        hashes = merkle.inclusion(self.read, index, size)
        return Receipt(self.bodies[index], Proof(index, tuple(hashes), self.note(size, key)).serialise())

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        new = len(self.leaves) if new is None else new
        return merkle.consistency(self.read, old, new) if 0 < old <= new else []


@dataclass
class Standin:
    """`tamper` maps a kind of answer to what is made of its fields before they are sent; `lose` counts answers that are
    lost after the act; `before` is called before a statement is judged, to let somebody else be first."""

    port: int = 0
    log_key: SigningKey = field(default_factory=keys.generate)
    next_log_key: SigningKey | None = None
    now: Callable[[], float] = time.time
    code: str = "once"
    state: State | None = None
    lines: list[bytes] = field(default_factory=list)
    where: list[int] = field(default_factory=list)
    """seq of a line -> index of its entry"""
    key_receipts: list[Receipt] = field(default_factory=list)
    book: Book | None = None
    nonces: set[bytes] = field(default_factory=set)
    tamper: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    lose: int = 0
    lose_before: int = 0
    before: Callable[[], None] | None = None
    seen: list[str] = field(default_factory=list)
    done: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer._serve(self, self.command, self.path, list(self.headers.items()), body)

            do_GET = do_POST = _do

        self._httpd = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._httpd.daemon_threads = True
        self.port = self._httpd.server_address[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join(10)

    @property
    def the_state(self) -> State:
        assert self.state is not None
        return self.state

    @property
    def the_book(self) -> Book:
        assert self.book is not None
        return self.book

    # --- HTTP

    def _serve(
        self, handler: BaseHTTPRequestHandler, method: str, path: str, fields: list[tuple[str, str]], body: bytes
    ) -> None:
        raw, _, query = path.partition("?")
        self.seen.append(f"{method} {raw}")
        with self._lock:
            try:
                if self.lose_before:
                    self.lose_before -= 1
                    raise LostAnswer
                status, kind, data = self._route(method, raw, query, fields, body)
            except LostAnswer:
                handler.close_connection = True
                return
            except Problem as exc:
                status, kind = problem.CODES[exc.code].status, problem.CONTENT_TYPE
                data = problem.build(exc.code, exc.detail, members=exc.members)
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _route(
        self, method: str, path: str, query: str, fields: list[tuple[str, str]], body: bytes
    ) -> tuple[int, str, bytes]:
        if path == "/v1/server":
            return self._answer("server", log_key=canonical.b64(self.log_key.public), origin=self.origin)
        parts = path.split("/")[2:]
        target = signing.target_uri(self.origin, path, query)
        try:
            presented = signing.read(fields, method=method, target=target, body=body)
        except ZoppError:
            raise Problem("bad_signature") from None
        if parts[0] == "workspaces":
            return self._adopt(presented, body)
        name, request = self._caller(presented), presented.request
        wanted = dict(parse_qsl(query))
        if parts[0] == "policy" and method == "GET":
            return self._policy(int(wanted["from"]), int(wanted.get("size", 0)))
        if parts[0] == "policy":
            return self._statement(name, request, body)
        if parts[0] == "audit":
            return self._audit(name, request, parts[2:], wanted, query)
        if parts[:1] == ["log"]:
            return self._log(parts[2:], wanted)
        raise Problem("not_found")

    def _answer(self, kind: str, status: int = 200, **values: Any) -> tuple[int, str, bytes]:
        if kind in self.tamper:
            values = self.tamper[kind](values)
        return status, "application/json", canonical.encode({**values, "v": 1})

    def _caller(self, presented: signing.Presented) -> str:
        if self.state is None:
            raise Problem("bad_signature")
        found = None
        for p in self.state.principals.values():
            if p.key is not None and signing.fingerprint(p.key) == presented.keyid:
                on = p.enabled and (p.user is None or self.state.users[p.user].enabled)
                found = (p.name, p.key) if on else None
        for invite in self.state.invites.values():
            if signing.fingerprint(invite.key) == presented.keyid:
                found = (f"invite/{invite.name}", invite.key)
        try:
            signing.verify(presented, None if found is None else found[1])
        except IntegrityError:
            raise Problem("bad_signature") from None
        try:
            signing.check_fresh(presented, now=int(self.now()))
        except ZoppError:
            raise Problem(
                "clock_skew", **clock.attest(self.log_key, nonce=presented.nonce, time=int(self.now()))
            ) from None
        if presented.nonce in self.nonces:
            raise Problem("replayed")
        self.nonces.add(presented.nonce)
        assert found is not None
        return found[0]

    # --- what is recorded

    def record(self, action: str, data: Mapping[str, Any], **more: Any) -> int:
        """Append an entry; its index."""
        more.setdefault("ts", int(self.now() * 1000))
        more.setdefault("id", os.urandom(16))
        return self.the_book.append(entry.build(action, data, **more))[0]

    def _record_line(
        self, by: str, request: SignedRequest, line: bytes, outcome: str, rule: str | None, **more: Any
    ) -> int:
        st = statement.parse(line)
        state = self.the_state
        return self.record(
            "statement",
            {"line": canonical.decode(line)},
            outcome=outcome,
            reason=rule,
            actor=by,
            scope=Scope("workspace", state.name),
            policy_seq=st.seq if outcome == "allow" else state.seq,
            request=request,
            **more,
        )

    # --- routes

    def _adopt(self, presented: signing.Presented, body: bytes) -> tuple[int, str, bytes]:
        fields = messages.parse_request("workspace", body)
        if fields["code"] != self.code:
            raise Problem("denied", "the one-time code is wrong, used or expired", rule="code")
        if self.state is not None:
            raise Problem("stale_prev", head={"hash": self.state.head, "seq": self.state.seq})
        lines = policy_log.split(fields["log"].encode())
        state = policy_log.fold(fields["log"].encode(), genesis=fields["ws"])
        last = statement.parse(lines[-1])
        if (
            last.type != "server.set"
            or last.data["origin"] != self.origin
            or last.data["log_key"] != canonical.b64(self.log_key.public)
        ):
            raise Problem("refused", rule="server")
        signer = state.principals[last.by]
        assert signer.key is not None
        signing.verify(presented, signer.key)
        self.state, self.lines = state, lines
        self.book = Book(checkpoint.origin_of(self.origin, state.name, state.ws), self.log_key)
        ident = os.urandom(16)  # one request, so one id
        self.where = [self._record_line(last.by, presented.request, line, "allow", None, id=ident) for line in lines]
        if self.lose:
            self.lose -= 1
            raise LostAnswer
        done = messages.done_fields(os.urandom(16), self.the_book.receipt(self.where[-1]), [])
        return self._answer("workspace", 201, **done, hash=state.head, seq=state.seq)

    def _policy(self, begin: int, size: int) -> tuple[int, str, bytes]:
        state, book = self.the_state, self.the_book
        if begin > state.seq + 1:
            raise Problem("not_found", "the policy log is not so long")
        return self._answer(
            "policy",
            consistency=messages.hashes(book.consistency(size)),
            head={"hash": state.head, "seq": state.seq},
            keys=[each.json() for each in self.key_receipts],
            lines=[line.decode() for line in self.lines[begin : begin + messages.MAX_LINES]],
            receipt=book.receipt(self.where[-1]).json(),
        )

    def accept(self, line: bytes, request: SignedRequest | None = None) -> None:
        """Take a line as if it had been sent, without asking who sends it."""
        st = statement.parse(line)
        self.state = policy_apply.apply(self.the_state, st)
        self.lines.append(line)
        if request is None:
            request = SignedRequest(
                method="POST",
                target=f"{self.origin}/v1/policy/{self.state.name}",
                content_digest="sha-256=:x:",
                signature_input="none",
                signature="none",
            )
        self.where.append(self._record_line(st.by, request, line, "allow", None))
        if st.type == "server.set":
            self.key_receipts.append(self.the_book.receipt(self.where[-1]))
            if self.next_log_key is not None:
                self.log_key, self.next_log_key = self.next_log_key, None
                self.the_book.key = self.log_key

    def _statement(self, by: str, request: SignedRequest, body: bytes) -> tuple[int, str, bytes]:
        fields = messages.parse_request("statement", body)
        if self.before is not None:
            first, self.before = self.before, None
            first()
        state = self.the_state
        line = fields["line"].encode()
        st = statement.parse(line)
        if fields["ws"] != state.ws or st.by != by:
            raise Problem("denied", rule="signer")
        known = st.seq <= state.seq and state.hash_at(st.seq) == st.hash
        if not known:
            rule = self._judge(st)
            if rule is not None:
                self._record_line(by, request, line, "deny", rule)
                if rule == "stale_prev":
                    raise Problem("stale_prev", head={"hash": state.head, "seq": state.seq})
                raise Problem("denied" if rule in ("authority", "I1", "I2", "A20") else "refused", rule=rule.lower())
            self.accept(line, request)
        if self.lose:
            self.lose -= 1
            raise LostAnswer
        book = self.the_book
        where = self.where[st.seq]
        receipt = book.receipt(where)
        if st.type == "server.set":
            receipt = self.key_receipts[-1]  # under the key that it replaces
        done = messages.done_fields(os.urandom(16), receipt, book.consistency(fields["size"]))
        return self._answer("statement", **done, hash=st.hash, seq=st.seq)

    def _judge(self, st: statement.Statement) -> str | None:
        state = self.the_state
        if st.prev != state.head:
            return "stale_prev"
        if abs(st.at - int(self.now())) > 60:
            return "at"
        if st.type == "server.set" and (
            self.next_log_key is None or st.data["log_key"] != canonical.b64(self.next_log_key.public)
        ):
            return "server"
        try:
            policy_apply.apply(state, st)
        except IntegrityError as exc:
            return str(exc.data.get("rule", "policy"))
        return None

    def _audit(
        self, by: str, request: SignedRequest, rest: list[str], wanted: dict[str, str], query: str
    ) -> tuple[int, str, bytes]:
        state, book = self.the_state, self.the_book
        scope = Scope("workspace", state.name)
        decision = decisions.decide(state, by, "audit.read", scope)
        refused = isinstance(decision, decisions.Deny)
        exporting = rest == ["export"]
        begin = int(wanted.get("from", 0))
        limit = min(int(wanted.get("limit", messages.MAX_PAGE)), messages.MAX_PAGE)
        self.record(
            "audit.export" if exporting else "audit.read",
            {"first": begin, "last": begin + limit - 1} if exporting else {"query": query or "all"},
            outcome="deny" if refused else "allow",
            reason=decision.rule if isinstance(decision, decisions.Deny) else None,
            actor=by,
            scope=scope,
            role=str(state.role(by, scope)),
            policy_seq=state.seq,
            request=request,
        )
        if isinstance(decision, decisions.Deny):
            raise Problem("denied", decision.reason, rule=decision.rule)
        size = int(wanted.get("size", 0))
        total = len(book.bodies)
        if exporting:
            page = list(range(begin, min(begin + limit, total)))
            following = page[-1] + 1 if page and page[-1] + 1 < total else None
        else:
            known = {"action", "outcome", "principal", "user", "project", "env", "since", "until"}
            if set(wanted) - known - {"before", "limit", "size"}:
                raise Problem("bad_request", "an unknown query parameter")
            found = [n for n in range(total) if self._fits(entry.parse(book.bodies[n]), wanted)]
            if rest == ["count"]:
                return self._answer("count", count=len(found))
            found = [n for n in reversed(found) if n < int(wanted.get("before", 2**53))]
            page = found[:limit]
            following = page[-1] if len(found) > limit else None
        return self._answer(
            "entries",
            checkpoint=book.note().serialise().decode(),
            consistency=messages.hashes(book.consistency(size)),
            entries=[{"body": book.bodies[n].decode(), "seq": n} for n in page],
            next=following,
        )

    def _fits(self, made: entry.Entry, wanted: dict[str, str]) -> bool:
        state = self.the_state
        scope = made.scope.name if made.scope is not None and made.scope.kind != "workspace" else ""
        if wanted.get("action", "release") not in entry.ACTIONS or wanted.get("outcome", "deny") not in entry.OUTCOMES:
            raise Problem("bad_request", "the filter has a value that nothing here can have")
        if wanted.get("user", "") not in {"", *state.users} or wanted.get("env", "") not in {"", *state.all_envs}:
            raise Problem("bad_request", "the filter has a value that nothing here can have")
        return all(
            (
                wanted.get("action", made.action) == made.action,
                wanted.get("outcome", made.outcome) == made.outcome,
                "principal" not in wanted or wanted["principal"] in (made.actor, made.on_behalf),
                "user" not in wanted or made.actor in state.devices(wanted["user"]),
                "project" not in wanted or scope.partition("/")[0] == wanted["project"],
                "env" not in wanted or scope == wanted["env"],
                made.ts >= int(wanted.get("since", 0)) * 1000,
                made.ts < int(wanted.get("until", 2**43)) * 1000,
            )
        )

    def _log(self, rest: list[str], wanted: dict[str, str]) -> tuple[int, str, bytes]:
        book = self.the_book
        if rest == ["checkpoint"]:
            fields = {"note": book.note().serialise().decode()}
            if "checkpoint" in self.tamper:
                fields = self.tamper["checkpoint"](fields)
            return 200, "text/plain", fields["note"].encode()
        if rest[0] == "tile":
            tile, _ = tiles.parse_path("/".join(rest))
            if tile.level != 0:
                raise Problem("not_found")
            begin = tile.n * tiles.WIDTH
            return 200, "application/octet-stream", b"".join(book.leaves[begin : begin + tile.width])
        size = int(wanted.get("size", 0)) or len(book.bodies)
        if rest == ["proof", "consistency"]:
            first = int(wanted["from"])
            if first > size or size > len(book.bodies):
                raise Problem("not_found")
            hashes = merkle.consistency(book.read, first, size)
        else:
            hashes = merkle.inclusion(book.read, int(wanted["index"]), size)
        note = book.note().serialise().decode()
        return self._answer("proof", checkpoint=note, hashes=messages.hashes(hashes))


def digest(body: bytes) -> str:
    """The hex SHA-256, for tests that compare."""
    return sha256(body).hex()
