"""Refusals as application/problem+json (RFC 9457) with stable codes and a next step (brokered-grants.md §4.6).

`type` is about:blank and `title` the status' own phrase, as the RFC has it for problems that are told apart otherwise:
by `code`. `detail` is a sentence, `next` what to do. All text is one printable line, because a terminal shows it.
Canonical JSON both ways; an unknown code or member is refused, since the path of every URL holds the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zopp.errors import Denied, FormatError, IntegrityError, NotFound, Unknown, UsageError, ZoppError
from zopp.policy import canonical, fields as f

CONTENT_TYPE = "application/problem+json"
MAX_BYTES = 65536

_RETRY = "try again; zopp retries with a new nonce and the same idempotency key"
_WAIT = f.integer(0, 86400)
_HEAD = f.record({"hash": f.HEX32, "seq": f.SEQ})


@dataclass(frozen=True, slots=True)
class Code:
    """A stable code: its HTTP `status`, the default `next` step, members that must and may stand with it."""

    status: int
    next: str
    must: Mapping[str, f.Field] = field(default_factory=dict)
    may: Mapping[str, f.Field] = field(default_factory=dict)


CODES: Mapping[str, Code] = {
    "bad_request": Code(400, "update zopp; this client and the server do not understand each other"),
    "bad_signature": Code(401, "check with `zopp principal list` that this device is enrolled and enabled"),
    "clock_skew": Code(
        401, "set this machine's clock", {"nonce": f.ID128, "sig": f.SIG, "time": f.integer(0, canonical.MAX_INT)}
    ),
    "replayed": Code(401, "run the command again"),
    "denied": Code(403, "ask an admin of the environment for the role", may={"env": f.ENV, "rule": f.TEXT}),
    "unmatched": Code(404, "check that the file belongs to an environment of this workspace"),
    "not_found": Code(404, "check the name and that you may see it"),
    "stale_prev": Code(409, "fetch the policy log and sign again", {"head": _HEAD}),
    "too_large": Code(413, "send less at once"),
    "refused": Code(422, "read the rule in the policy log's documentation", may={"rule": f.TEXT}),
    "quota": Code(429, "wait, or ask an admin why so much was asked for", may={"retry_after": _WAIT}),
    "internal": Code(500, "tell whoever runs the server; its log has the request's id"),
    "audit_unavailable": Code(503, _RETRY, may={"retry_after": _WAIT}),
    "busy": Code(503, _RETRY, may={"retry_after": _WAIT}),
    "recovery": Code(503, "ask whoever runs the server to finish its recovery"),
    "unknown_outcome": Code(503, _RETRY, may={"retry_after": _WAIT}),
}
PHRASES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict",
    413: "Content Too Large", 422: "Unprocessable Content", 429: "Too Many Requests",
    500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
_STANDARD = ("code", "detail", "next", "request", "status", "title", "type")


def _sentence(value: Any, place: str, out: list[f.Problem]) -> None:
    if type(value) is not str or not 0 < len(value) <= 1024 or not value.isprintable():
        out.append((place, "not one printable line"))


_SENTENCE = f.Field(_sentence, {"type": "string"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A refusal. `members` are those of its code, `request` the 16 bytes the log knows the request by, or None."""

    code: str
    detail: str
    next: str
    members: Mapping[str, Any] = field(default_factory=dict)
    request: bytes | None = None

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return CODES[self.code].status

    def error(self) -> ZoppError:
        """The same as an error of this library: exit 1 where the answer is no, 3 where there is none yet."""
        kind: type[ZoppError] = {
            400: UsageError, 401: Denied, 403: Denied, 404: NotFound, 409: IntegrityError, 413: UsageError, 422: Denied,
        }.get(self.status, Unknown)  # fmt: skip
        return kind(self.detail, code=self.code, hint=self.next, **self.members)


def build(
    code: str,
    detail: str,
    *,
    next: str = "",
    members: Mapping[str, Any] | None = None,
    request: bytes | None = None,
) -> bytes:
    """The body of a refusal; `next` by default the code's own. FormatError for an unknown code, members that do not go
    with it, or text that is not one printable line. Never put a request's own text into `detail`."""
    known = CODES.get(code)
    if known is None:
        raise FormatError("not a problem code", code="problem")
    body = canonical.encode(
        {
            "code": code,
            "detail": detail,
            "next": next or known.next,
            "request": None if request is None else canonical.b64(request),
            "status": known.status,
            "title": PHRASES[known.status],
            "type": "about:blank",
            **(members or {}),
        }
    )
    parse(body, known.status)
    return body


def parse(body: bytes, status: int) -> Problem:
    """The problem in an answer with this HTTP status; FormatError for anything else, as from a proxy in between."""
    if len(body) > MAX_BYTES:
        raise FormatError("an answer that is no problem of this protocol", code="problem")
    value = canonical.decode(body)
    code = value.get("code") if type(value) is dict else None
    known = CODES.get(code) if type(code) is str else None
    if type(code) is not str or known is None or known.status != status:
        raise FormatError("an answer that is no problem of this protocol", code="problem")
    members = {name: each for name, each in value.items() if name not in _STANDARD}
    optional = {name: check for name, check in known.may.items() if name in members}
    problems: list[f.Problem] = []
    f.record(
        {
            "code": f.enum(code),
            "detail": _SENTENCE,
            "next": _SENTENCE,
            "request": f.nullable(f.ID128),
            "status": f.integer(status, status),
            "title": f.enum(PHRASES[status]),
            "type": f.enum("about:blank"),
            **known.must,
            **optional,
        }
    ).check(value, "problem", problems)
    if problems:
        raise FormatError("an answer that is no problem of this protocol", code="problem", problems=tuple(problems))
    request = value["request"]
    return Problem(
        code=code,
        detail=value["detail"],
        next=value["next"],
        members=members,
        request=None if request is None else canonical.unb64(request, 16),
    )
