"""The entries of the audit log: canonical JSON, written once and hashed as bytes (policy-server.md §5.2).

An entry says who asked for what, what was decided and why, under which policy seq, and carries the caller's own request
signature, so that a server cannot make up a request. `ACTIONS` is the table of what is recorded; what a release adds is
brokered-grants.md §4.5. A random 128-bit `id` (the request's, else one of its own) makes leaf hashes unguessable.

Only form is judged here, not whether the decision is right (the replay) or the signature true (`protocol.signing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zopp.errors import FormatError, ZoppError
from zopp.policy import canonical, fields as f, names, statement
from zopp.policy.manifest import is_path
from zopp.tlog.merkle import leaf_hash
from zopp.tlog.tiles import MAX_ENTRY

MAX_BODY = MAX_ENTRY
"""65,535 bytes: what a tlog-tiles bundle can say, one less than 64 KiB."""

MAX_REQUEST = 32768
PURPOSES = ("read", "edit", "rotate", "review")
OUTCOMES = ("allow", "deny", "fact")
"""`fact`: nothing was asked for and decided (a summary, an operator's action)."""

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


def _where(good: Callable[[Any], bool], reason: str) -> f.Field:
    def check(value: Any, place: str, out: list[f.Problem]) -> None:
        if not good(value):
            out.append((place, reason))

    return f.Field(check, {})


def _ascii(limit: int) -> f.Field:
    return _where(
        lambda v: type(v) is str and 0 < len(v) <= limit and v.isascii() and v.isprintable(),
        f"not 1 to {limit} printable ASCII characters",
    )


def _is_line(value: Any) -> bool:
    try:
        statement.parse(canonical.encode(value))
    except ZoppError:
        return False
    return True


def _is_request(value: Any) -> bool:
    if type(value) is not str or len(value) * 3 // 4 > MAX_REQUEST:
        return False
    try:
        canonical.unb64(value, len(value) * 3 // 4)
    except (FormatError, UnicodeError):
        return False
    return True


def _is_claims(value: Any) -> bool:
    return (
        type(value) is dict
        and len(value) <= 64
        and all(
            type(wanted) is str and 0 < len(name) <= 64 and set(name) <= _LOWER and len(wanted) <= 1024
            for name, wanted in value.items()
        )
    )


_CODE = _where(lambda v: type(v) is str and 0 < len(v) <= 64 and set(v) <= _LOWER, "not a code")
_PATH = _where(lambda v: type(v) is str and is_path(v), "not a path that a manifest may list")
_LINE = _where(_is_line, "not a statement")
_REQUEST_BODY = _where(_is_request, "not base64url of at most 32 KiB")
_CLAIMS = _where(_is_claims, "not an object of claims")
_JWKS = _where(lambda v: type(v) is str and 0 < len(v.encode("utf-8", "replace")) <= 49152, "not 1 byte to 48 KiB")
_ACTOR = _where(
    lambda v: type(v) is str and (statement.is_by(v) or (v.startswith("ci/") and names.is_typed_name(v[3:]))),
    "not a principal, invite or CI job",
)


@dataclass(frozen=True, slots=True)
class Action:
    """What the log records under one name: the fields of `data`, the outcomes there are, whether a signed request and a
    typed scope of a kind ("" = any or none) must stand with it."""

    data: Mapping[str, f.Field]
    outcomes: tuple[str, ...]
    signed: bool
    scope: str = ""


_ASKED = ("allow", "deny")
_FACT = ("fact",)

ACTIONS: Mapping[str, Action] = {
    # One per stanza. `stanza` is the hex SHA-256 of (ephemeral share || body), `item` its place in the request, `path`
    # and `purpose` the caller's claims, `again` a redelivery under the same `idem`. `body` is the exact request body,
    # base64url because any bytes then fit, with the first entry of a request; null with the others.
    "release": Action(
        {
            "again": f.BOOL,
            "body": f.nullable(_REQUEST_BODY),
            "generation": f.integer(1, 2**31),
            "item": f.integer(0, 99),
            "path": f.nullable(_PATH),
            "purpose": f.enum(*PURPOSES),
            "stanza": f.HEX32,
        },
        _ASKED,
        True,
        "env",
    ),
    # `line` is the statement as a JSON value: both forms are canonical, so its exact bytes stand in the body.
    "statement": Action({"line": _LINE}, _ASKED, True),
    "manifest": Action({"generation": f.integer(1, canonical.MAX_INT), "hash": f.HEX32}, _ASKED, True, "env"),
    # A CI job's registration (policy-server.md §3.3); `token` is the SHA-256 of the JWT, which is never kept.
    "oidc": Action(
        {
            "claims": _CLAIMS,
            "issuer": f.ISSUER,
            "key": f.KEY,
            "kid": _ascii(256),
            "not_after": f.TIME,
            "rule": f.nullable(f.ID),
            "token": f.HEX32,
        },
        _ASKED,
        False,
    ),
    "jwks": Action({"document": _JWKS, "issuer": f.ISSUER}, _FACT, False),
    # A valid signature that was refused (replayed, stale, disabled): it may be a stolen key.
    "auth": Action({}, ("deny",), True),
    "audit.read": Action({"query": _ascii(1024)}, _ASKED, True),
    "audit.export": Action({"first": f.SEQ, "last": f.SEQ}, _ASKED, True),
    # What is counted instead of logged one by one, since `since` (milliseconds).
    "summary": Action(
        {
            "count": f.integer(1, canonical.MAX_INT),
            "since": f.TIME,
            "what": f.enum("unauthenticated", "denied", "unmatched", "quota"),
        },
        _FACT,
        False,
    ),
    "key": Action(
        {
            "event": f.enum("create", "activate", "retire", "destroy", "kek_rotate", "log_rotate"),
            "generation": f.nullable(f.integer(1, 2**31)),
            "recipient": f.nullable(f.X25519),
        },
        _FACT,
        False,
    ),
    "prune": Action({"before": f.SEQ, "export": f.HEX32}, _FACT, False),
    "operator": Action({"detail": _ascii(1024), "event": _CODE}, _FACT, False),
}
_DATA = {name: f.record(action.data) for name, action in ACTIONS.items()}

_REQ = {
    "content-digest": _ascii(128),
    "method": f.enum("GET", "POST", "PUT", "DELETE"),
    "signature": _ascii(128),
    "signature-input": _ascii(512),
    "target": _ascii(2048),
}
_BODY = f.record(
    {
        "action": f.enum(*ACTIONS),
        "actor": f.nullable(_ACTOR),
        "data": _where(lambda v: type(v) is dict, "not an object"),
        "id": f.ID128,
        "ip": f.nullable(f.BYTES32),
        "on_behalf": f.nullable(f.NAME),
        "outcome": f.enum(*OUTCOMES),
        "policy_seq": f.nullable(f.SEQ),
        "reason": f.nullable(_CODE),
        "req": f.nullable(f.record(_REQ)),
        "role": f.nullable(f.CAP),
        "scope": f.nullable(f.SCOPE),
        "ts": f.TIME,
        "v": f.integer(1, 1),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """The signed request behind an entry, as it came: `method`, target URI, and the values of the three header fields.
    Together with the body's digest this is all that its signature covers."""

    method: str
    target: str
    content_digest: str
    signature_input: str
    signature: str

    def json(self) -> dict[str, str]:
        """As it stands in an entry."""
        return {
            "content-digest": self.content_digest,
            "method": self.method,
            "signature": self.signature,
            "signature-input": self.signature_input,
            "target": self.target,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A well-formed entry. `body` the exact bytes, `ts` Unix milliseconds by the server's clock, `id` 16 bytes, `actor`
    a principal, `invite/ID` or `ci/ID`, `on_behalf` the service a CI job acts for, `role` what was held on the scope,
    `policy_seq` the newest statement when it was decided (an accepted one's own), `ip` 32 bytes of a keyed hash,
    `data` the fields of ACTIONS[action], read-only."""

    body: bytes
    action: str
    outcome: str
    reason: str | None
    ts: int
    id: bytes
    actor: str | None
    on_behalf: str | None
    scope: names.Scope | None
    role: str | None
    policy_seq: int | None
    request: SignedRequest | None
    ip: bytes | None
    data: Mapping[str, Any]

    @property
    def leaf(self) -> bytes:
        """The leaf hash, from the body."""
        return leaf_hash(self.body)

    @property
    def line(self) -> bytes | None:
        """The exact policy line (no newline) of a `statement` entry; None in others."""
        return canonical.encode(canonical.thaw(self.data["line"])) if self.action == "statement" else None

    @property
    def request_body(self) -> bytes | None:
        """The exact request body that a `release` entry carries, or None."""
        text = self.data.get("body")
        return None if text is None else canonical.unb64(text, len(text) * 3 // 4)


def leaf(body: bytes) -> bytes:
    """The leaf hash of exact entry bytes, well formed or not."""
    return leaf_hash(body)


def build(
    action: str,
    data: Mapping[str, Any],
    *,
    ts: int,
    id: bytes,
    outcome: str,
    reason: str | None = None,
    actor: str | None = None,
    on_behalf: str | None = None,
    scope: names.Scope | None = None,
    role: str | None = None,
    policy_seq: int | None = None,
    request: SignedRequest | None = None,
    ip: bytes | None = None,
    checked: bool = False,
) -> bytes:
    """The body of an entry. `data` as ACTIONS[action] says, a statement's `line` as the value that
    `canonical.decode(line)` gives. `checked`: every value has been through this module's or the protocol's checks
    already, as those of a parsed release request have, and only the length is looked at. FormatError with every
    problem, or (`entry_size`) if it is longer than MAX_BODY: what cannot be recorded must not be done."""
    body = canonical.encode(
        {
            "action": action,
            "actor": actor,
            "data": canonical.thaw(data),
            "id": canonical.b64(id),
            "ip": None if ip is None else canonical.b64(ip),
            "on_behalf": on_behalf,
            "outcome": outcome,
            "policy_seq": policy_seq,
            "reason": reason,
            "req": None if request is None else request.json(),
            "role": role,
            "scope": None if scope is None else scope.json(),
            "ts": ts,
            "v": 1,
        }
    )
    if not checked:
        parse(body)
    elif len(body) > MAX_BODY:
        raise FormatError("an audit entry is longer than 65,535 bytes", code="entry_size")
    return body


def parse(body: bytes) -> Entry:
    """The entry whose exact bytes are `body`; FormatError with every problem for anything else."""
    if len(body) > MAX_BODY:
        raise FormatError("an audit entry is longer than 65,535 bytes", code="entry_size")
    value = canonical.decode(body)
    problems: list[f.Problem] = []
    _BODY.check(value, "entry", problems)
    if problems:
        raise _refuse(problems)
    action = ACTIONS[value["action"]]
    data, scope, outcome = value["data"], value["scope"], value["outcome"]
    _DATA[value["action"]].check(data, "data", problems)
    if outcome not in action.outcomes:
        problems.append(("entry.outcome", "not an outcome of this action"))
    if outcome == "deny" and value["reason"] is None:
        problems.append(("entry.reason", "a denial has a reason"))
    if action.signed and (value["req"] is None or value["actor"] is None):
        problems.append(("entry.req", "this action has a signed request and an actor"))
    if action.scope and (scope is None or action.scope not in scope):
        problems.append(("entry.scope", "not a scope of this action's kind"))
    accepted = not problems and value["action"] == "statement" and outcome == "allow"
    if accepted and value["policy_seq"] != data["line"]["policy"]["seq"]:
        problems.append(("entry.policy_seq", "not the accepted statement's own seq"))
    if problems:
        raise _refuse(problems)
    req = value["req"]
    return Entry(
        body=body,
        action=value["action"],
        outcome=outcome,
        reason=value["reason"],
        ts=value["ts"],
        id=canonical.unb64(value["id"], 16),
        actor=value["actor"],
        on_behalf=value["on_behalf"],
        scope=None if scope is None else names.Scope.of_json(scope),
        role=value["role"],
        policy_seq=value["policy_seq"],
        request=None if req is None else SignedRequest(**{key.replace("-", "_"): text for key, text in req.items()}),
        ip=None if value["ip"] is None else canonical.unb64(value["ip"], 32),
        data=statement.freeze(data),
    )


def _refuse(problems: list[f.Problem]) -> FormatError:
    made = f.refuse(problems, "audit entry")
    made.code = "entry"
    return made
