"""`.zopp/policy.receipt`: what proves, offline too, that the server accepted the log beside it (policy-server.md §4.1).

One receipt a line: first those of the statements that changed the server, each under the log key which it replaced,
oldest first; the last one is that of the log's last line, under the log key in force. A former admin can sign a fork of
the log with an old key, and may run a log of his own; no receipt under the key that the first `server.set` named then
says that his lines were accepted (A6).

Bytes in, verdict out. Where the file lies, and that the first `server.set` is the right one (the pin), is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from zopp import _fast
from zopp.errors import FormatError, IntegrityError, ZoppError
from zopp.policy.roles import Server
from zopp.policy.state import State
from zopp.protocol import receipt as receipts
from zopp.protocol.receipt import Checked, Receipt
from zopp.tlog import checkpoint, entry
from zopp.tlog.note import Verifier

MAX_FILE = 1 << 22
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """A well-formed receipt file: `keys` of the changes of the server, `last` of the last line. Nothing is verified."""

    keys: tuple[Receipt, ...]
    last: Receipt

    def serialise(self) -> bytes:
        """The exact bytes of the file."""
        return b"".join(each.serialise() + b"\n" for each in (*self.keys, self.last))


def parse(data: bytes) -> Mirror:
    """The receipts of a file; FormatError (`receipt`) for anything else."""
    if len(data) > MAX_FILE or not data.endswith(b"\n"):
        raise FormatError("not a file of receipts", code="receipt")
    made = tuple([receipts.parse(line) for line in data[:-1].split(b"\n")])
    return Mirror(made[:-1], made[-1])


def verifier(state: State, server: Server) -> Verifier:
    """The verifier of this workspace's log at a server of its policy."""
    return Verifier(checkpoint.origin_of(server.origin, state.name, state.ws), server.log_key)


def proven(state: State, line_at: Callable[[int], bytes], keys: Iterable[Receipt]) -> tuple[Verifier, ...]:
    """The log's verifiers, oldest first, as far as the receipts among `keys` prove them: each `server.set` after the
    first counts only with a receipt of that very line under the verifier before it. `line_at` gives the line of a seq.
    () if the log names no server."""
    known: dict[str, list[Receipt]] = {}
    for each in keys:
        try:
            line = entry.parse(each.body).line
        except FormatError:
            continue
        if line is not None:
            known.setdefault(_fast.sha256(line).hex(), []).append(each)
    found: list[Verifier] = []
    for server in state.servers:
        if found:
            line = line_at(server.since)
            if not any(_holds(each, line, found[-1]) for each in known.get(state.hash_at(server.since), ())):
                break
        found.append(verifier(state, server))
    return tuple(found)


def walk(state: State, line_at: Callable[[int], bytes], keys: Iterable[Receipt]) -> tuple[Verifier, ...]:
    """All of the log's verifiers, each proven; the last one is in force. IntegrityError (`policy.log_key`) where a
    receipt is missing or does not hold."""
    found = proven(state, line_at, keys)
    if len(found) < len(state.servers):
        since = state.servers[len(found)].since
        raise IntegrityError(
            f"statement {since} names another server or log key, and no receipt under the key that it replaces says "
            "that it was accepted",
            code="policy.log_key",
            seq=since,
        )
    return found


def _holds(each: Receipt, line: bytes, log: Verifier) -> bool:
    try:
        receipts.check_line(each, line, log)
    except ZoppError:
        return False
    return True


def check_last(receipt: Receipt, state: State, line: bytes, logs: Sequence[Verifier]) -> Checked:
    """Require a receipt of the log's last `line` under the verifier in force, as `walk` gave them; of a `server.set`
    also under the one that it replaces, since its own key comes into use after it. FormatError, IntegrityError."""
    return receipts.check_line(receipt, line, *in_force(state, logs))


def in_force(state: State, logs: Sequence[Verifier]) -> Sequence[Verifier]:
    """Of the verifiers that `walk` gave those whose word counts now: the last one; right after a `server.set`, before
    anything follows it, also the one that it replaces."""
    return logs[-2:] if state.servers and state.servers[-1].since == state.seq else logs[-1:]


def check(state: State, lines: Sequence[bytes], data: bytes | None) -> Checked | None:
    """Require that the receipt file `data` proves the whole log: `lines` (without newlines) fold to `state`. None if
    the log names no server and there is no such file to prove anything. IntegrityError (`policy.receipt`,
    `policy.log_key`) otherwise."""
    if state.server is None:
        return None
    if data is None:
        raise IntegrityError(
            "the policy names a server, and nothing here proves that it accepted the last statement",
            code="policy.receipt",
        )
    try:
        mirror = parse(data)
        logs = walk(state, lines.__getitem__, (*mirror.keys, mirror.last))
        return check_last(mirror.last, state, lines[-1], logs)
    except ZoppError as exc:
        if exc.code == "policy.log_key":
            raise
        raise IntegrityError(
            f"the receipt does not prove that the server accepted statement {state.seq}: {exc.message}",
            code="policy.receipt",
            seq=state.seq,
        ) from None


def keys_of(state: State, line_at: Callable[[int], bytes], receipts_: Iterable[Receipt]) -> tuple[Receipt, ...]:
    """Of all these receipts those that `walk` needs, one a change of the server, oldest first."""
    found = []
    logs: list[Verifier] = []
    for server in state.servers:
        if logs:
            line = line_at(server.since)
            found += [each for each in receipts_ if _holds(each, line, logs[-1])][:1]
        logs.append(verifier(state, server))
    return tuple(found)
