"""`.zopp/policy.receipt`: whatever bytes it has, the log is proven or an error says that it is not (A6)."""

import contextlib

import pytest
from hypothesis import given, strategies as st

from tests.unit.protocol.test_replay import BOOKS, ORIGIN, books
from zopp.errors import FormatError, IntegrityError, ZoppError
from zopp.keys import signing as keys
from zopp.keys.signing import SigningKey
from zopp.policy import canonical
from zopp.protocol import mirror
from zopp.protocol.mirror import Mirror
from zopp.protocol.receipt import Receipt
from zopp.tlog import checkpoint, entry, merkle
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.proof import Proof


def receipt(made: object, index: int, key: SigningKey | None = None) -> Receipt:
    """The receipt of a record of `books()`."""
    bodies, log_key, note = made.bodies, made.log_key, made.note()  # type: ignore[attr-defined]
    leaves = [merkle.leaf_hash(body) for body in bodies]
    hashes = merkle.inclusion(
        lambda level, n: merkle.root_of(leaves[n << level : (n + 1) << level]), index, len(leaves)
    )
    head = Checkpoint(note.origin, note.size, note.root)
    return Receipt(bodies[index], Proof(index, tuple(hashes), checkpoint.sign(head, key or log_key)).serialise())


def last_line(made: object) -> int:
    """The record of the last accepted statement."""
    found = [
        n for n, body in enumerate(made.bodies)  # type: ignore[attr-defined]
        if (e := entry.parse(body)).action == "statement" and e.outcome == "allow"
    ]  # fmt: skip
    return found[-1]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_file_or_an_error(data: bytes) -> None:
    with contextlib.suppress(ZoppError):
        assert mirror.parse(data).serialise() == data


def test_the_last_line_is_proven() -> None:
    data = Mirror((), receipt(BOOKS, last_line(BOOKS))).serialise()
    assert mirror.parse(data).serialise() == data
    checked = mirror.check(BOOKS.now, BOOKS.lines, data)
    assert checked is not None
    assert checked.entry.policy_seq == BOOKS.now.seq


@pytest.mark.parametrize("case", ["none", "garbage", "older", "refused", "other key", "changed"])
def test_a6_what_does_not_prove_it(case: str) -> None:
    at = last_line(BOOKS)
    refused = next(
        n for n, body in enumerate(BOOKS.bodies)
        if (e := entry.parse(body)).action == "statement" and e.outcome == "deny"
    )  # fmt: skip
    changed = receipt(BOOKS, at)
    body = canonical.encode({**canonical.decode(changed.body), "ts": 1})
    data = {
        "none": None,
        "garbage": b"{}\n",
        "older": Mirror((), receipt(BOOKS, 2)).serialise(),
        "refused": Mirror((), receipt(BOOKS, refused)).serialise(),
        "other key": Mirror((), receipt(BOOKS, at, keys.generate())).serialise(),
        "changed": Mirror((), Receipt(body, changed.proof)).serialise(),
    }[case]
    with pytest.raises(IntegrityError) as caught:
        mirror.check(BOOKS.now, BOOKS.lines, data)
    assert caught.value.code == "policy.receipt"


def test_without_a_server_nothing_is_to_be_proven() -> None:
    from zopp.policy import log as policy_log

    state = policy_log.fold(b"".join(line + b"\n" for line in BOOKS.lines[:3]))
    assert mirror.check(state, BOOKS.lines[:3], None) is None
    assert mirror.proven(state, BOOKS.lines.__getitem__, ()) == ()


def test_a6_a_new_log_key_counts_with_a_receipt_under_the_old_one() -> None:
    made = books()
    new = keys.generate()
    made.do("alice-laptop", "server.set", log_key=canonical.b64(new.public), origin=ORIGIN)
    changed = last_line(made)
    under_old, under_new = receipt(made, changed), receipt(made, changed, new)
    assert mirror.check(made.now, made.lines, Mirror((), under_old).serialise()) is not None
    with pytest.raises(IntegrityError) as caught:
        mirror.check(made.now, made.lines, Mirror((), under_new).serialise())
    assert caught.value.code == "policy.log_key"
    with pytest.raises(IntegrityError):
        mirror.check(made.now, made.lines, Mirror((under_new,), under_new).serialise())
    assert mirror.check(made.now, made.lines, Mirror((under_old,), under_new).serialise()) is not None
    made.do("alice-laptop", "group.create", group="ops")
    after = last_line(made)
    # from then on the old key proves nothing more
    for key, good in ((None, False), (new, True)):
        data = Mirror((under_old,), receipt(made, after, key)).serialise()
        if good:
            assert mirror.check(made.now, made.lines, data) is not None
        else:
            with pytest.raises(IntegrityError):
                mirror.check(made.now, made.lines, data)
    every = (receipt(made, 1), under_old, receipt(made, after, new))
    assert mirror.keys_of(made.now, made.lines.__getitem__, every) == (under_old,)


def test_too_long() -> None:
    with pytest.raises(FormatError):
        mirror.parse(b"x" * (mirror.MAX_FILE + 1))
