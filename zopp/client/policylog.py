"""A server's policy log: fetched and verified against what we know, and statements handed in (policy-server.md §4.1).

Nothing that an answer says is taken on trust. Lines extend our own verified state; the head is the one that was said;
the last line has a receipt under the log key in force, and each change of that key one under the key before it (A6);
the receipt's checkpoint extends the one that this user keeps, which then advances. A server that shows less than we
have, another order, or a line of its own is found out here.

Not done here: who signs a request, what a clone remembers of git (`repo.pins`), and writing a repository.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zopp.client import remembered
from zopp.client.transport import Answer, Server, Tls, idem
from zopp.errors import IntegrityError, NotFound, Unknown, UsageError, ZoppError
from zopp.keys.signing import SigningKey
from zopp.policy import apply as policy_apply, canonical, log as policy_log, statement
from zopp.policy.state import State
from zopp.policy.statement import Statement
from zopp.protocol import messages, mirror, receipt as receipts
from zopp.protocol.mirror import Mirror
from zopp.protocol.receipt import Receipt
from zopp.repo import userdirs
from zopp.repo.workspace import Workspace
from zopp.tlog import checkpoint, proof
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.note import Verifier

SENDS = 3
"""How often one line is sent while no answer comes back."""

MAX_AGE = 30
"""Seconds after which a drafted line is signed again before it is sent."""

MAX_ROUNDS = 4
"""How often a statement is put behind others' that came first, before the command gives up."""

_LOST = ("server.unreachable", "server.foreign", "unknown_outcome")
"""After these it is not known whether the server has done what it was asked."""

Sign = Callable[[bytes], bytes]
Ask = Callable[[Statement, list[str], list[str]], bool]
Effect = Callable[[State, State], list[str]]


@dataclass(slots=True)
class Log:
    """A verified log as it stands at a server: `lines` without newlines, their `state`, the `mirror` that proves the
    last one, `logs` whose checkpoints the kept one may be. `state_dir`: where this user's checkpoint is kept."""

    server: Server
    state: State
    lines: list[bytes]
    mirror: Mirror | None
    state_dir: str
    logs: tuple[Verifier, ...]

    @property
    def data(self) -> bytes:
        """The bytes of `.zopp/policy.jsonl`."""
        return b"".join(line + b"\n" for line in self.lines)

    @property
    def path(self) -> str:
        """The path of the log at the server."""
        return f"/v1/policy/{self.state.name}"

    def kept(self) -> Checkpoint | None:
        """This user's checkpoint of the log. IntegrityError (`checkpoint.kept`)."""
        return remembered.load(self.state_dir, self.state.ws, *self.logs)

    # --- fetching

    def fetch(self, *, remember: tuple[int, str] | None = None) -> int:
        """Bring this up to the server's head; how many lines came. `remember`: (seq, hash) that must be among them.

        IntegrityError: `policy.withheld` if the server shows less than we have or remember, `policy.forked` if it shows
        another log, `policy.receipt` and `policy.log_key` if it cannot prove what it shows, `split_view` or `rollback`
        from the checkpoints; and what the fold says of a line. Unknown if it does not answer."""
        kept = self.kept()
        size = kept.size if kept else 0
        state, lines = self.state, list(self.lines)
        while True:
            fields = self._page(state, size)
            head = (fields["head"]["seq"], fields["head"]["hash"])
            if head[0] < state.seq:
                raise _withheld(self.server, head[0], state.seq)
            new = [line.encode() for line in fields["lines"]]
            if len(new) > head[0] - state.seq or (not new and head[0] > state.seq):
                raise IntegrityError(
                    "the server's answer has not the lines that its head speaks of",
                    code="policy.withheld",
                    place=self.server.origin,
                )
            if new:
                state = _extended(state, new, self.server)
                lines += new
            if state.seq == head[0]:
                break
        if state.head != head[1]:
            raise _forked(self.server, state.seq)
        if remember is not None:
            seq, digest = remember
            if seq > state.seq:
                raise _withheld(self.server, state.seq, seq)
            if state.hash_at(seq) != digest:
                raise _forked(self.server, seq)
        came = state.seq - self.state.seq
        self._prove(state, lines, fields, kept)
        return came

    def _page(self, state: State, size: int) -> dict[str, Any]:
        try:
            answer = self.server.get(f"{self.path}?from={state.seq + 1}&size={size}")
        except NotFound as exc:
            if exc.code != "not_found":
                raise
            raise IntegrityError(
                f"the server's policy log ends before statement {state.seq}, which is known here",
                code="policy.withheld",
                place=self.server.origin,
                hint="do not go on with this server; ask whoever runs it whether a backup was restored",
            ) from None
        return messages.parse_answer("policy", answer.body)

    def _prove(self, state: State, lines: list[bytes], fields: dict[str, Any], kept: Checkpoint | None) -> None:
        last = receipts.of_json(fields["receipt"])
        known = () if self.mirror is None else (*self.mirror.keys, self.mirror.last)
        every = (*known, *[receipts.of_json(each) for each in fields["keys"]], last)
        logs = mirror.walk(state, lines.__getitem__, every)
        try:
            checked = mirror.check_last(last, state, lines[-1], logs)
        except ZoppError as exc:
            raise IntegrityError(
                f"the server does not prove that it accepted statement {state.seq}: {exc.message}",
                code="policy.receipt",
                place=self.server.origin,
            ) from None
        self._advance(kept, checked.checkpoint, messages.hashes_of(fields["consistency"]), last, logs)
        self.state, self.lines, self.logs = state, lines, logs
        self.mirror = Mirror(mirror.keys_of(state, lines.__getitem__, every), last)

    def _advance(
        self,
        kept: Checkpoint | None,
        new: Checkpoint,
        hashes: Sequence[bytes],
        receipt: Receipt,
        logs: Sequence[Verifier],
    ) -> None:
        if kept is not None and kept.origin != new.origin and any(log.name == kept.origin for log in logs):
            kept = replace(kept, origin=new.origin)  # the log moved to another address, by a proven `server.set`
        try:
            checkpoint.consistent(kept, new, hashes)
        except IntegrityError as exc:
            exc.place = exc.place or self.server.origin
            exc.hint = exc.hint or "keep both checkpoints: together they prove that the server's log was changed"
            raise
        remembered.advance(self.state_dir, self.state.ws, proof.parse(receipt.proof).note)

    # --- handing in

    def submit(
        self, drafted: Sequence[bytes], *, by: str, sign: Sign, now: Callable[[], int], effect: Effect, ask: Ask
    ) -> int:
        """Have the drafted lines accepted, in their order; how many there are in the end beyond what was here (others'
        may have come first). A line that finds the policy moved on is signed again if its `effect` (in words, between
        two states) is the same there, else if `ask` (statement, effect then, effect now) says so (A11).

        Raises what the server refuses; IntegrityError (`rebase.effect`, `rebase.refused`) if a line does not hold any
        more or is not wanted so; Unknown (`policy.unknown_outcome`) if it cannot be told whether one was accepted. What
        was accepted before that is in `state`."""
        begin = self.state.seq
        before, wanted = self.state, []
        for line in drafted:
            st = statement.parse(line)
            after = policy_apply.apply(before, st)
            wanted.append((st, effect(before, after)))
            before = after
        for line, (st, then) in zip(drafted, wanted, strict=True):
            for _ in range(MAX_ROUNDS):
                made = statement.parse(line)
                # The server refuses what is not dated now: a question may have stood on the screen for long.
                if made.prev != self.state.head or abs(now() - made.at) > MAX_AGE:
                    line = self._again(st, then, by=by, sign=sign, now=now, effect=effect, ask=ask)
                if self._send(line):
                    break
            else:
                raise Unknown(
                    "others change the policy faster than this statement gets in",
                    code="policy.moving",
                    place=self.server.origin,
                    hint="run the command again",
                )
        return self.state.seq - begin

    def _again(
        self, st: Statement, then: list[str], *, by: str, sign: Sign, now: Callable[[], int], effect: Effect, ask: Ask
    ) -> bytes:
        state = self.state
        body = statement.draft(
            st.type, st.data, ws=state.ws, seq=state.seq + 1, prev=state.head, at=max(now(), state.at), by=by
        )
        line = statement.seal(body, [sign(statement.to_sign(body))])
        try:
            after = policy_apply.apply(state, statement.parse(line))
        except IntegrityError as exc:
            raise IntegrityError(
                f"{st.type} does not hold any more, as the policy has moved on meanwhile: {exc.message}",
                code="rebase.refused",
                hint="look at it with: zopp policy pull, then decide anew",
            ) from None
        here = effect(state, after)
        if here != then and not ask(st, then, here):
            raise IntegrityError(
                f"{st.type} means something else, as the policy has moved on meanwhile; it is not sent",
                code="rebase.effect",
                hint="look at it with: zopp policy pull, then decide anew",
            )
        return line

    def _send(self, line: bytes) -> bool:
        """True: accepted, and `state` moved on. False: the policy has moved on, and `state` with it."""
        kept = self.kept()
        size = kept.size if kept else 0
        st = statement.parse(line)
        body = messages.build_request(
            "statement", idem=canonical.b64(idem()), line=line.decode(), size=size, ws=self.state.ws
        )
        try:
            answer = self._until_answered(body)
        except IntegrityError as exc:
            if exc.code != "stale_prev":
                raise
            self.fetch()
            if self.state.seq >= st.seq and self.state.hash_at(st.seq) == st.hash:
                return True  # an answer was lost on the way: it was accepted after all
            if self.state.head == st.prev:
                raise IntegrityError(
                    "the server refuses the statement as stale and shows no newer one",
                    code="policy.withheld",
                    place=self.server.origin,
                ) from None
            return False
        except Unknown as exc:
            if exc.code not in _LOST or not self._accepted_after_all(st):
                raise
            return True
        fields = messages.parse_answer("statement", answer.body)
        done = messages.done(fields)
        state = policy_apply.apply(self.state, st)
        lines = [*self.lines, line]
        logs = self.logs
        if len(state.servers) > len(self.state.servers):
            every = (*((*self.mirror.keys, self.mirror.last) if self.mirror else ()), done.receipt)
            logs = mirror.walk(state, lines.__getitem__, every)
        if (fields["seq"], fields["hash"]) != (st.seq, st.hash):
            raise IntegrityError("the answer is one to another statement", code="receipt", place=self.server.origin)
        try:
            checked = mirror.check_last(done.receipt, state, line, logs)
        except ZoppError as exc:
            raise IntegrityError(
                f"the server does not prove that it accepted the statement: {exc.message}",
                code="policy.receipt",
                place=self.server.origin,
                hint="whether it counts says: zopp policy pull",
            ) from None
        self._advance(kept, checked.checkpoint, done.consistency, done.receipt, logs)
        known = () if self.mirror is None else (*self.mirror.keys, self.mirror.last)
        self.mirror = Mirror(mirror.keys_of(state, lines.__getitem__, (*known, done.receipt)), done.receipt)
        self.state, self.lines, self.logs = state, lines, logs
        return True

    def _until_answered(self, body: bytes) -> Answer:
        """Send the same body, with the same `idem`, until an answer comes: it is one act to the server, however often
        it arrives."""
        for left in reversed(range(SENDS)):
            try:
                return self.server.post(self.path, body)
            except Unknown as exc:
                if exc.code != "server.unreachable" or not left:
                    raise
                self.server.pause(0.2)
        raise AssertionError("unreachable: the last try raises or answers")

    def _accepted_after_all(self, st: Statement) -> bool:
        """After no answer came: what the log says. Unknown (`policy.unknown_outcome`) if that cannot be had either and
        the line may be there; the caller's own error stands where the log has not taken it."""
        try:
            self.fetch()
        except Unknown as exc:
            raise Unknown(
                f"no answer came, so whether the server has accepted the statement is not known ({exc.message})",
                code="policy.unknown_outcome",
                place=self.server.origin,
                hint="nothing is written here; when the server answers again: zopp policy pull",
            ) from None
        return self.state.seq >= st.seq and self.state.hash_at(st.seq) == st.hash


def _withheld(server: Server, seq: int, known: int) -> IntegrityError:
    return IntegrityError(
        f"the server shows the policy up to statement {seq}, and {known} is known here: it withholds or lost some",
        code="policy.withheld",
        place=server.origin,
        hint="do not go on with this server; ask whoever runs it whether a backup was restored",
    )


def _forked(server: Server, seq: int) -> IntegrityError:
    return IntegrityError(
        f"the server's policy log has another statement {seq} than the one known here",
        code="policy.forked",
        place=server.origin,
        hint="one of the two is a fork: compare with a colleague (zopp policy log), keep both",
    )


def _extended(state: State, new: Sequence[bytes], server: Server) -> State:
    try:
        return policy_log.extend(state, new)
    except ZoppError as exc:
        if exc.data.get("rule") == "prev" and exc.data.get("seq") == state.seq + 1:
            raise _forked(server, state.seq) from None
        exc.place = exc.place or server.origin
        raise


# --- of a working copy


def of_workspace(ws: Workspace, key: SigningKey, *, whole: bool = False) -> Log:
    """The log of a working copy, to be brought up to its server's; requests are signed by `key`. `whole`: begin with
    the genesis, so that a log here which nothing proves is compared and not built upon. UsageError (`server.none`) if
    the policy names no server."""
    lines = policy_log.split(ws.log)
    if ws.state.server is None:
        raise UsageError(
            "the policy of this workspace names no server",
            code="server.none",
            hint="make one known with: zopp server adopt URL",
        )
    found = None
    if ws.receipt is not None:
        try:
            found = mirror.parse(ws.receipt)
        except ZoppError:
            found = None
    keys = () if found is None else (*found.keys, found.last)
    # Whom to ask is what is proven; what this user keeps was verified when it was kept, under whichever key.
    at = ws.state.servers[len(mirror.proven(ws.state, lines.__getitem__, keys)) - 1]
    logs = tuple([mirror.verifier(ws.state, each) for each in ws.state.servers])
    server = Server(at.origin, at.log_key, key, tls=Tls.of(ws.env))
    state_dir = userdirs.state(ws.env)
    if whole:
        first = policy_log.fold(lines[0] + b"\n", genesis=ws.settings.genesis)
        return Log(server, first, lines[:1], found, state_dir, logs)
    return Log(server, ws.state, lines, found, state_dir, logs)


def remembered_head(ws: Workspace) -> tuple[int, str] | None:
    """What this clone remembers of the policy, which a server must show too."""
    return None if ws.pin is None else (ws.pin.seq, ws.pin.head)
