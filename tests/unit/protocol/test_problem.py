"""Refusals: stable codes, one byte form, text that a terminal can show."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from zopp.errors import Denied, FormatError, IntegrityError, NotFound, Unknown, UsageError, ZoppError
from zopp.policy import canonical
from zopp.protocol import problem

MUST: dict[str, dict[str, Any]] = {
    "clock_skew": {"nonce": "AAECAwQFBgcICQoLDA0ODw", "sig": canonical.b64(bytes(64)), "time": 1795305600},
    "stale_prev": {"head": {"hash": "ab" * 32, "seq": 7}},
}
STATUS = {
    "bad_signature": 401, "clock_skew": 401, "replayed": 401, "denied": 403, "unmatched": 404, "quota": 429,
    "recovery": 503, "busy": 503, "audit_unavailable": 503, "unknown_outcome": 503, "stale_prev": 409,
}  # fmt: skip


def test_the_specification_s_codes_and_status() -> None:
    assert {code: problem.CODES[code].status for code in STATUS} == STATUS


@pytest.mark.parametrize("code", list(problem.CODES))
def test_every_code_goes_round(code: str) -> None:
    members = MUST.get(code, {})
    body = problem.build(code, "it is so", members=members, request=b"\1" * 16)
    made = problem.parse(body, problem.CODES[code].status)
    assert (made.code, made.detail, made.members, made.request) == (code, "it is so", members, b"\1" * 16)
    assert made.next == problem.CODES[code].next
    assert made.next
    plain = json.loads(body)
    assert plain["type"] == "about:blank"
    assert plain["title"] == problem.PHRASES[plain["status"]]
    error = made.error()
    assert (error.code, error.hint, error.message) == (code, made.next, "it is so")


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [("denied", Denied, 1), ("bad_signature", Denied, 1), ("unmatched", NotFound, 1), ("busy", Unknown, 3),
     ("quota", Unknown, 3), ("stale_prev", IntegrityError, 1), ("too_large", UsageError, 2), ("refused", Denied, 1)],
)  # fmt: skip
def test_what_it_is_to_the_command_line(code: str, kind: type[ZoppError], exit_code: int) -> None:
    body = problem.build(code, "no", members=MUST.get(code))
    error = problem.parse(body, problem.CODES[code].status).error()
    assert type(error) is kind
    assert error.exit_code == exit_code


def test_optional_members() -> None:
    body = problem.build("denied", "role too low on api/production", members={"env": "api/production", "rule": "role"})
    assert problem.parse(body, 403).members == {"env": "api/production", "rule": "role"}
    assert problem.parse(problem.build("busy", "no", members={"retry_after": 2}), 503).error().data == {
        "retry_after": 2
    }


@pytest.mark.parametrize(
    ("code", "detail", "members"),
    [
        ("nonsense", "x", {}), ("denied", "", {}), ("denied", "a\nb", {}), ("denied", "\x1b[31m", {}),
        ("denied", "x" * 1025, {}), ("denied", "x", {"env": "api"}), ("denied", "x", {"other": 1}),
        ("busy", "x", {"env": "a/b"}),
        ("clock_skew", "x", {}), ("clock_skew", "x", {"nonce": "A", "sig": "B", "time": 1}), ("stale_prev", "x", {}),
        ("stale_prev", "x", {"head": {"seq": 1}}), ("denied", "x", {"status": 200}),
        ("busy", "x", {"retry_after": True}),
    ],
)  # fmt: skip
def test_what_a_problem_may_not_say(code: str, detail: str, members: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        problem.build(code, detail, members=members)


GOOD = problem.build("denied", "no", members={"env": "api/production"})


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"<html>", GOOD + b"\n", GOOD.replace(b"403", b"404"),
     GOOD.replace(b"denied", b"dented"),
     GOOD.replace(b"about:blank", b"about:other"), GOOD.replace(b"Forbidden", b"Fine"), b'{"code":["denied"]}',
     GOOD.replace(b'"detail":"no",', b""), GOOD.replace(b"{", b'{"a":1,'), b" " * 70000],
)  # fmt: skip
def test_other_answers_are_no_problems(body: bytes) -> None:
    with pytest.raises(FormatError):
        problem.parse(body, 403)


def test_the_status_is_the_code_s() -> None:
    with pytest.raises(FormatError):
        problem.parse(GOOD, 404)


@given(
    st.binary(max_size=100)
    | st.builds(
        lambda at, junk, cut: GOOD[:at] + junk + GOOD[at + cut :],
        st.integers(0, len(GOOD)), st.binary(max_size=3), st.integers(0, 5),
    ),
    st.sampled_from(sorted(problem.PHRASES)),
)  # fmt: skip
def test_any_bytes_give_a_problem_or_a_zopp_error(body: bytes, status: int) -> None:
    try:
        made = problem.parse(body, status)
    except ZoppError:
        return
    assert problem.build(made.code, made.detail, next=made.next, members=made.members, request=made.request) == body
