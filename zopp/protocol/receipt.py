"""Receipts: the exact audit entry and its tlog-proof, for a client to make up its own mind (policy-server.md §1.3).

The client hashes the entry body itself, requires that the entry is about *its* request and says what it was told
(A22), and only then follows the proof to a checkpoint signed by the log key of the policy log. Whether that checkpoint
extends the remembered one is `checkpoint.consistent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zopp.errors import FormatError, IntegrityError
from zopp.policy import canonical, names, statement
from zopp.tlog import entry, proof
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.entry import Entry, SignedRequest
from zopp.tlog.note import Verifier

MAX_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Receipt:
    """`body` the exact entry bytes, `proof` the exact tlog-proof. Nothing is verified."""

    body: bytes
    proof: bytes

    def json(self) -> dict[str, str]:
        """As it stands in answers: both are UTF-8 text. FormatError if they are not."""
        try:
            return {"body": self.body.decode(), "proof": self.proof.decode()}
        except UnicodeDecodeError:
            raise FormatError("not a receipt", code="receipt") from None

    def serialise(self) -> bytes:
        """The receipt as one canonical line, without newline, for `.zopp/policy.receipt`."""
        return canonical.encode(self.json())


def of_json(value: object) -> Receipt:
    """From the parsed JSON form; FormatError for anything else."""
    if not isinstance(value, Mapping) or value.keys() != {"body", "proof"}:
        raise FormatError("not a receipt", code="receipt")
    body, text = value["body"], value["proof"]
    if type(body) is not str or type(text) is not str:
        raise FormatError("not a receipt", code="receipt")
    try:
        return Receipt(body.encode(), text.encode())
    except UnicodeEncodeError:
        raise FormatError("not a receipt", code="receipt") from None


def parse(data: bytes) -> Receipt:
    """The receipt that one line is; FormatError for anything else. Entry and proof are parsed by `check`."""
    if len(data) > MAX_BYTES:
        raise FormatError("not a receipt", code="receipt")
    return of_json(canonical.decode(data))


@dataclass(frozen=True, slots=True)
class Checked:
    """A receipt that holds: the `entry`, its `index` in the log, and the verified `checkpoint` it is under."""

    entry: Entry
    index: int
    checkpoint: Checkpoint


def check(receipt: Receipt, *logs: Verifier) -> Checked:
    """Require that one of `logs` signed a tree that holds exactly this entry body. FormatError or IntegrityError. That
    the entry is the right one is for `check_release` and `check_line` to say."""
    made = proof.parse(receipt.proof)
    recorded = entry.parse(receipt.body)
    return Checked(recorded, made.index, made.verify(recorded.leaf, *logs))


def _other(reason: str) -> IntegrityError:
    return IntegrityError(reason, code="receipt")


def check_release(
    receipt: Receipt,
    *logs: Verifier,
    sent: SignedRequest,
    item: int,
    stanza: str,
    env: str | None,
    purpose: str,
    path: str | None,
    outcome: str,
    policy_seq: int,
    id: bytes,
) -> Checked:
    """Require that the entry is the record of item number `item` of the request `sent`: its very signature and digest,
    this stanza hash (hex), environment (None: the request named none), claims, this answer (`allow` or `deny`), decided
    under `policy_seq`, under the request `id` of the answer. FormatError, IntegrityError (`receipt` where the entry is
    a true one of something else)."""
    checked = check(receipt, *logs)
    made = checked.entry
    if made.action != "release" or made.request != sent:
        raise _other("the receipt is of another request")
    data = made.data
    if (data["item"], data["stanza"], data["purpose"], data["path"]) != (item, stanza, purpose, path):
        raise _other("the receipt is of another item")
    if env is not None and made.scope != names.Scope("env", env):
        raise _other("the receipt names another environment")
    if (made.outcome, made.policy_seq, made.id) != (outcome, policy_seq, id):
        raise _other("the receipt says another decision than the answer")
    return checked


def check_line(receipt: Receipt, line: bytes, *logs: Verifier) -> Checked:
    """Require that the log holds exactly this policy line (no newline) as *accepted*, at its own seq (A6): the record
    of a refused line, or of another one, proves nothing. FormatError, IntegrityError (`receipt`)."""
    checked = check(receipt, *logs)
    made = checked.entry
    if made.action != "statement" or made.line != line:
        raise _other("the receipt is of another line")
    if made.outcome != "allow" or made.policy_seq != statement.parse(line).seq:
        raise _other("the receipt does not say that the line was accepted")
    return checked
