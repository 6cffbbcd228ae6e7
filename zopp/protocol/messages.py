"""Requests and answers of the policy server other than releases (docs/reference/http.md; policy-server.md §3, §4, §5).

Every request body is JSON without a key twice; `ws` in it is the genesis hash and must be that of the workspace in the
URL (A10). Mutations carry `size`, the tree size of the newest checkpoint the client keeps (0: none), and `idem`, 16
random bytes that a retry repeats. Answers are canonical JSON. One table below describes each message; `build` and
`parse` are its two directions, so that client and server cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zopp import _fast
from zopp.errors import FormatError
from zopp.policy import canonical, fields as f
from zopp.protocol import receipt as receipts
from zopp.protocol.receipt import Receipt
from zopp.tlog.note import MAX_NOTE

MAX_LINES = 1000
"""Policy lines in one answer."""

MAX_PAGE = 500
"""Audit entries in one answer."""

MAX_LOG = 1 << 26
"""Bytes of a policy log that may be uploaded."""


def _text(limit: int) -> f.Field:
    def check(value: Any, place: str, out: list[f.Problem]) -> None:
        if type(value) is not str or not 0 < len(value) <= limit:
            out.append((place, f"not a text of 1 to {limit} characters"))

    return f.Field(check, {"type": "string", "minLength": 1, "maxLength": limit})


_LINE = _text(65535)
_ENTRY = _text(65535)
_NOTE = _text(MAX_NOTE)
_RECEIPT = f.record({"body": _ENTRY, "proof": _text(receipts.MAX_BYTES)})
_V = f.integer(1, 1)
_MUTATION = {"idem": f.ID128, "size": f.SEQ, "v": _V, "ws": f.HEX32}
_DONE = {"consistency": f.list_of(f.BYTES32), "id": f.ID128, "receipt": _RECEIPT, "v": _V}

REQUESTS: Mapping[str, Mapping[str, f.Field]] = {
    # a statement, as its exact line without newline
    "statement": {**_MUTATION, "line": _LINE},
    # a whole log (lines with newlines) whose last line is the `server.set` that names this server
    "workspace": {"code": _text(64), "log": _text(MAX_LOG), "v": _V, "ws": f.HEX32},
    # the head of an environment's manifests on the default branch
    "manifest": {**_MUTATION, "env": f.ENV, "generation": f.integer(1, canonical.MAX_INT), "hash": f.HEX32},
    # a new server key for an environment, to be named in `env.serverkey`
    "key": {**_MUTATION, "env": f.ENV},
    # a CI job; the request is signed by `key`, which is the proof of possession
    "oidc": {"jwt": _text(16384), "key": f.KEY, "recipient": f.X25519, "v": _V, "ws": f.HEX32},
}
"""What `POST` bodies hold, beside releases."""

ANSWERS: Mapping[str, Mapping[str, f.Field]] = {
    "server": {"log_key": f.KEY, "origin": f.ORIGIN, "v": _V},
    "statement": {**_DONE, "hash": f.HEX32, "seq": f.SEQ},
    "workspace": {**_DONE, "hash": f.HEX32, "seq": f.SEQ},
    # lines from the asked-for seq on, the head of the whole log, the receipt of the head's line, and the receipts of
    # every `server.set` that replaced another (under the key it replaced), oldest first
    "policy": {
        "consistency": f.list_of(f.BYTES32),
        "head": f.record({"hash": f.HEX32, "seq": f.SEQ}),
        "keys": f.list_of(_RECEIPT),
        "lines": f.list_of(_LINE),
        "receipt": _RECEIPT,
        "v": _V,
    },
    "manifest": _DONE,
    "manifests": {
        "heads": f.list_of(
            f.record({"env": f.ENV, "generation": f.integer(1, canonical.MAX_INT), "hash": f.HEX32, "seq": f.SEQ})
        ),
        "v": _V,
    },
    "key": {**_DONE, "env": f.ENV, "generation": f.integer(1, 2**31), "recipient": f.X25519},
    "oidc": {**_DONE, "not_after": f.TIME, "principal": _text(128)},
    # entries newest first (`list`) or oldest first (`export`); `next` is the seq to go on from, null at the end
    "entries": {
        "checkpoint": _NOTE,
        "consistency": f.list_of(f.BYTES32),
        "entries": f.list_of(f.record({"body": _ENTRY, "seq": f.SEQ})),
        "next": f.nullable(f.SEQ),
        "v": _V,
    },
    "count": {"count": f.SEQ, "v": _V},
    "proof": {"checkpoint": _NOTE, "hashes": f.list_of(f.BYTES32), "v": _V},
}
"""What a 200 holds, by kind."""

_CHECK_REQUEST = {kind: f.record(fields) for kind, fields in REQUESTS.items()}
_CHECK_ANSWER = {kind: f.record(fields) for kind, fields in ANSWERS.items()}


@dataclass(frozen=True, slots=True)
class Done:
    """What every answer to a mutation carries: the request's `id` in the log (16 bytes), the `receipt` of its entry,
    and the hashes that prove consistency from the `size` of the request. Nothing is verified."""

    id: bytes
    receipt: Receipt
    consistency: tuple[bytes, ...]


def build_request(kind: str, **values: Any) -> bytes:
    """The body of a request; bytes are given as base64url, `v` is added. FormatError for what `parse_request`
    refuses."""
    body = canonical.encode({**values, "v": 1})
    parse_request(kind, body)
    return body


def parse_request(kind: str, body: bytes) -> dict[str, Any]:
    """The fields of a request of this kind. FormatError (`bad_request`) for anything else; its problems name places and
    reasons and never quote a value."""
    try:
        value = _fast.json_parse(body.decode())
    except (ValueError, RecursionError):
        raise FormatError("not JSON, or a key stands twice", code="bad_request") from None
    problems: list[f.Problem] = []
    _CHECK_REQUEST[kind].check(value, kind, problems)
    if problems:
        raise FormatError("not a request of this kind", code="bad_request", problems=tuple(problems))
    found: dict[str, Any] = value
    return found


def build_answer(kind: str, **values: Any) -> bytes:
    """The body of an answer; `v` is added. FormatError for what `parse_answer` refuses."""
    body = canonical.encode({**values, "v": 1})
    parse_answer(kind, body)
    return body


def parse_answer(kind: str, body: bytes) -> dict[str, Any]:
    """The fields of an answer of this kind; FormatError (`answer`) for anything else. Nothing is verified."""
    value = canonical.decode(body)
    problems: list[f.Problem] = []
    _CHECK_ANSWER[kind].check(value, kind, problems)
    if problems:
        raise FormatError("not an answer of this protocol", code="answer", problems=tuple(problems))
    found: dict[str, Any] = value
    return found


def done_fields(id: bytes, receipt: Receipt, consistency: Sequence[bytes]) -> dict[str, Any]:
    """The fields of `Done` as `build_answer` takes them."""
    return {
        "consistency": hashes(consistency),
        "id": canonical.b64(id),
        "receipt": receipt.json(),
    }


def done(answer: Mapping[str, Any]) -> Done:
    """The `Done` of a parsed answer to a mutation."""
    return Done(
        canonical.unb64(answer["id"], 16), receipts.of_json(answer["receipt"]), hashes_of(answer["consistency"])
    )


def hashes(found: Sequence[bytes]) -> list[str]:
    """Hashes as they stand in JSON."""
    return [canonical.b64(each) for each in found]


def hashes_of(found: Sequence[str]) -> tuple[bytes, ...]:
    """The inverse of `hashes`."""
    return tuple([canonical.unb64(each, 32) for each in found])


def schema(kind: str, *, answer: bool) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a message, for the OpenAPI document."""
    made: dict[str, Any] = (_CHECK_ANSWER if answer else _CHECK_REQUEST)[kind].schema
    return made
