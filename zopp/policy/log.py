"""The policy log: bytes -> lines -> verified state.

Lines are split on `\\n` only (A4), each linked to the one before by its hash. Signatures are collected while folding
and verified in threads afterwards; nothing is answered before every one holds, and of two faults the earlier statement
is named. Not checked here: that the log is the newest (`repo`'s remembered heads) and receipts of `server.set` (A6).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Thread

from zopp import _fast
from zopp.errors import FormatError, IntegrityError, ZoppError
from zopp.policy.apply import Check, step, verify_one
from zopp.policy.state import State
from zopp.policy.statement import Statement, parse
from zopp.policy.tables import Tables


def split(data: bytes) -> list[bytes]:
    """The lines of a log, without newlines. FormatError for an empty log or line, or a last line cut short."""
    if not data.endswith(b"\n"):
        raise FormatError("a policy log is not empty and ends with a newline", code="log")
    lines = data[:-1].split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            raise FormatError("an empty line", code="log", place=f"line {number}")
    return lines


def fold(
    data: bytes, *, genesis: str | None = None, threads: int = 2, verified: tuple[int, str] | None = None
) -> State:
    """The state after all lines of `data`. `genesis`: the pinned hash (hex) that the first line must have; without it
    the caller must not trust the workspace. FormatError or IntegrityError (with rule and seq) for a log that breaks
    off the truth anywhere: there is no partial answer.

    `verified`: (seq, head) of a log that this user has verified before. Lines are hash-linked, so where line `seq` has
    that hash the signatures up to it need no second look; where it has another, all are checked."""
    tables = Tables()
    lines = split(data)
    if genesis is not None and _fast.sha256(lines[0]).hex() != genesis:
        raise IntegrityError("the policy log starts with another genesis", code="policy", rule="genesis", seq=0)
    return _extend(tables, lines, threads, verified)


def extend(state: State, lines: bytes | Iterable[bytes], *, threads: int = 2) -> State:
    """The state after further lines (whole log bytes to be split, or lines without newline) on top of `state`."""
    more = split(lines) if isinstance(lines, bytes) else list(lines)
    return _extend(state._tables.copy(), more, threads)


def _extend(tables: Tables, lines: Sequence[bytes], threads: int, verified: tuple[int, str] | None = None) -> State:
    checks: list[Check] = []
    first = len(tables.hashes)
    try:
        for number, line in enumerate(lines):
            try:
                statement: Statement = parse(line)
            except FormatError as exc:
                place = f"line {first + number + 1}"
                problems = exc.data.get("problems", ())
                raise FormatError(
                    exc.message, code=exc.code, place=place, seq=first + number, problems=problems
                ) from None
            step(tables, statement, checks)
            if verified is not None and (first + number, tables.hashes[-1]) == verified:
                checks.clear()
    except ZoppError:
        # A forged line may have led the fold here: name it rather than what followed from it.
        _verify(checks, threads)
        raise
    _verify(checks, threads)
    return State._of(tables)


def _verify(checks: list[Check], threads: int) -> None:
    """Raise for the first signature (in log order) that does not hold."""
    threads = min(threads, len(checks) // 16)
    if threads < 2:
        for check in checks:
            verify_one(check)
        return
    bad: list[int] = []
    errors: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for i in range(start, len(checks), threads):
                _, _, key, sig, message = checks[i]
                if not _fast.ed25519_verify(key, sig, message):
                    bad.append(i)
                    return
        except BaseException as exc:  # handed to the caller's thread: a check that did not run is no check
            errors.append(exc)

    workers = [Thread(target=work, args=(i,)) for i in range(1, threads)]
    for worker in workers:
        worker.start()
    work(0)
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    if bad:
        verify_one(checks[min(bad)])
        raise IntegrityError("a signature does not verify", code="policy", rule="signature")
