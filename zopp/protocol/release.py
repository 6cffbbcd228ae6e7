"""The release of file keys: request, answer, and the one age file in which the keys travel (brokered-grants.md §4).

`POST /v1/releases/<workspace>` with a signed request of 1 to 100 stanzas. The answer has one result an item, a receipt
for each that was decided, and every released file key in one age file sealed to the recipient that the *policy log*
has for the principal. `accept` is the client's half of §4.4: points 2 and 3. Point 1 (the policy head is the
remembered one or descends from it) is the caller's and comes first, point 4 (share, commitment, MAC) comes last.

Base64 here is base64url without padding, as everywhere in zopp's JSON. Requests may be any JSON without a key twice;
answers are canonical.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zopp import _fast
from zopp.errors import FormatError, IntegrityError
from zopp.keys import agefile, filekey
from zopp.keys.identity import Identity
from zopp.policy import canonical, fields as f, names
from zopp.policy.manifest import is_path
from zopp.protocol import receipt as receipts
from zopp.protocol.receipt import Receipt
from zopp.tlog import checkpoint
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.entry import MAX_REQUEST, PURPOSES, SignedRequest
from zopp.tlog.note import Verifier

MAX_ITEMS = 100
MAX_ITEMS_WITHOUT_ENV = 2
"""A28: without an environment the server tries all keys of the workspace."""

MAX_ANSWER = 1 << 23
RESULTS = ("released", "denied", "unmatched")


@dataclass(frozen=True, slots=True)
class Item:
    """A stanza to be opened: `share` and `body` (32 bytes each, public data from git), the `path` it is claimed to be
    from or None."""

    share: bytes
    body: bytes
    path: str | None = None

    @property
    def stanza(self) -> str:
        """Hex SHA-256 of share || body: how the log and the sealed answer name it."""
        return _fast.sha256(self.share + self.body).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A well-formed request. `ws` the genesis hash (hex), `env` `project/env` or None, `size` the tree size from which
    the answer must prove consistency, `idem` 16 bytes."""

    ws: str
    env: str | None
    purpose: str
    size: int
    idem: bytes
    items: tuple[Item, ...]


def build_request(request: Request) -> bytes:
    """The body to sign and send. FormatError for what `parse_request` refuses."""
    items = []
    for item in request.items:
        made = {"b": canonical.b64(item.body), "e": canonical.b64(item.share)}
        items.append(made if item.path is None else made | {"path": item.path})
    value: dict[str, Any] = {
        "idem": canonical.b64(request.idem),
        "items": items,
        "purpose": request.purpose,
        "size": request.size,
        "v": 1,
        "ws": request.ws,
    }
    if request.env is not None:
        value["env"] = request.env
    body = canonical.encode(value)
    parse_request(body)
    return body


_REQUEST = {
    "idem": f.ID128,
    "items": f.Field(lambda v, place, out: None, {}),
    "purpose": f.enum(*PURPOSES),
    "size": f.SEQ,
    "v": f.integer(1, 1),
    "ws": f.HEX32,
}
_ITEM = {"b": f.BYTES32, "e": f.BYTES32}
_CLAIM = f.Field(
    lambda v, place, out: None if type(v) is str and is_path(v) else out.append((place, "not a path")),
    {"type": "string"},
)


def _refuse(reason: str, problems: Sequence[f.Problem] = ()) -> FormatError:
    return FormatError(reason, code="bad_request", problems=tuple(problems))


_WITH_ENV, _WITHOUT_ENV = f.record({**_REQUEST, "env": f.ENV}), f.record(_REQUEST)
_WITH_PATH, _WITHOUT_PATH = f.record({**_ITEM, "path": _CLAIM}), f.record(_ITEM)


def parse_request(body: bytes) -> Request:
    """The request that exactly `body` is. FormatError (`bad_request`, every problem in `data['problems']`; `too_large`)
    for anything else: a key twice, an unknown field, a number that is no integer, a stanza twice, a low-order share,
    more than 100 items or 32 KiB, more than two items without an environment."""
    if len(body) > MAX_REQUEST:
        raise FormatError("a release request is longer than 32 KiB", code="too_large")
    try:
        value = _fast.json_parse(body.decode())
    except (ValueError, RecursionError):
        raise _refuse("not JSON, or a key stands twice") from None
    problems: list[f.Problem] = []
    if type(value) is not dict:
        raise _refuse("not an object")
    (_WITH_ENV if "env" in value else _WITHOUT_ENV).check(value, "request", problems)
    items = value.get("items")
    if type(items) is not list or not items:
        raise _refuse("items is a list that is not empty", problems)
    if len(items) > (MAX_ITEMS if "env" in value else MAX_ITEMS_WITHOUT_ENV):
        raise FormatError("a release request has too many items", code="too_large")
    for number, item in enumerate(items):
        has_path = type(item) is dict and "path" in item
        (_WITH_PATH if has_path else _WITHOUT_PATH).check(item, f"items[{number}]", problems)
    if problems:
        raise _refuse("not a release request", problems)
    made = tuple(
        [Item(canonical.unb64(item["e"], 32), canonical.unb64(item["b"], 32), item.get("path")) for item in items]
    )
    if len({item.stanza for item in made}) != len(made):
        raise _refuse("a stanza stands twice")
    for item in made:
        try:
            filekey.check_stanza(item.share, item.body)
        except FormatError:
            raise _refuse("the share of a stanza is a low-order or non-canonical point") from None
    return Request(
        ws=value["ws"],
        env=value.get("env"),
        purpose=value["purpose"],
        size=value["size"],
        idem=canonical.unb64(value["idem"], 16),
        items=made,
    )


# --- the answer


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one item: `released`, `denied` (with `reason`, a code) or `unmatched`; the `receipt` of the entry,
    which an unmatched item has not."""

    result: str
    reason: str | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A well-formed answer. `id` 16 bytes, the request's in the log; `policy_seq` and `policy_hash` the head it was
    decided under; `results` in the order of the items; `consistency` hashes from the request's size to the receipts'
    checkpoint; `sealed` the armored age file, None if nothing was released. Nothing is verified."""

    id: bytes
    policy_seq: int
    policy_hash: str
    results: tuple[Result, ...]
    consistency: tuple[bytes, ...]
    sealed: str | None


def build_response(response: Response) -> bytes:
    """The answer's body. Not checked here: what `parse_response` checks; a server makes thousands of these a second
    from values of its own."""
    return canonical.encode(
        {
            "consistency": [canonical.b64(each) for each in response.consistency],
            "id": canonical.b64(response.id),
            "items": [
                {
                    "reason": each.reason,
                    "receipt": None if each.receipt is None else each.receipt.json(),
                    "result": each.result,
                }
                for each in response.results
            ],
            "policy": {"hash": response.policy_hash, "seq": response.policy_seq},
            "sealed": response.sealed,
            "v": 1,
        }
    )


_ANY = f.Field(lambda v, place, out: None, {})
_RESPONSE = f.record(
    {
        "consistency": f.list_of(f.BYTES32),
        "id": f.ID128,
        "items": f.list_of(f.record({"reason": f.nullable(f.TEXT), "receipt": _ANY, "result": f.enum(*RESULTS)})),
        "policy": f.record({"hash": f.HEX32, "seq": f.SEQ}),
        "sealed": _ANY,
        "v": f.integer(1, 1),
    }
)


def parse_response(body: bytes) -> Response:
    """The answer that exactly `body` is; FormatError (`answer`) for anything else."""
    if len(body) > MAX_ANSWER:
        raise FormatError("the server's answer is too long", code="answer")
    value = canonical.decode(body)
    problems: list[f.Problem] = []
    _RESPONSE.check(value, "answer", problems)
    if problems:
        raise FormatError("not an answer to a release request", code="answer", problems=tuple(problems))
    results = []
    for item in value["items"]:
        kind, reason = item["result"], item["reason"]
        receipt = None if item["receipt"] is None else receipts.of_json(item["receipt"])
        if (reason is not None) != (kind == "denied") or (receipt is None) != (kind == "unmatched"):
            raise FormatError("an item of the answer contradicts itself", code="answer")
        results.append(Result(kind, reason, receipt))
    sealed = value["sealed"]
    released = any(each.result == "released" for each in results)
    if not 0 < len(results) <= MAX_ITEMS or len(value["consistency"]) > 128 or released != (type(sealed) is str):
        raise FormatError("not an answer to a release request", code="answer")
    return Response(
        id=canonical.unb64(value["id"], 16),
        policy_seq=value["policy"]["seq"],
        policy_hash=value["policy"]["hash"],
        results=tuple(results),
        consistency=tuple([canonical.unb64(each, 32) for each in value["consistency"]]),
        sealed=sealed if released else None,
    )


# --- the sealed keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """One file key (16 bytes, not in `repr`) with what it belongs to: the environment it was released under, the
    generation of the server key, the stanza's hash (hex)."""

    env: str
    generation: int
    stanza: str
    key: bytes = field(repr=False)


_SEALED = f.record(
    {
        "id": f.ID128,
        "keys": f.list_of(
            f.record({"env": f.ENV, "generation": f.integer(1, 2**31), "key": f.ID128, "stanza": f.HEX32})
        ),
        "v": f.integer(1, 1),
    }
)


def seal(recipient: str, *, id: bytes, keys: Iterable[Released]) -> str:
    """All file keys of an answer in one armored age file for `recipient`: the one registered in the policy log, never
    one that a request names. FormatError for two keys of one stanza, or of another length."""
    keys = list(keys)
    if len({each.stanza for each in keys}) != len(keys) or any(len(each.key) != filekey.FILE_KEY for each in keys):
        raise FormatError("a stanza has one file key, of 16 bytes", code="sealed")
    plain = canonical.encode(
        {
            "id": canonical.b64(id),
            "keys": [
                {
                    "env": each.env,
                    "generation": each.generation,
                    "key": canonical.b64(each.key),
                    "stanza": each.stanza,
                }
                for each in keys
            ],
            "v": 1,
        }
    )
    return agefile.wrap(recipient, plain)


def _plain(data: bytes) -> tuple[bytes, list[Released]]:
    try:
        value = canonical.decode(data)
    except FormatError:
        raise FormatError("the sealed answer is malformed", code="sealed") from None
    problems: list[f.Problem] = []
    _SEALED.check(value, "sealed", problems)
    if problems or len({each["stanza"] for each in value["keys"]}) != len(value["keys"]):
        raise FormatError("the sealed answer is malformed", code="sealed")
    keys = [
        Released(
            env=each["env"],
            generation=each["generation"],
            stanza=each["stanza"],
            key=canonical.unb64(each["key"], filekey.FILE_KEY),
        )
        for each in value["keys"]
    ]
    return canonical.unb64(value["id"], 16), keys


def unseal(sealed: str, identities: Iterable[Identity], *, id: bytes, recipient: str = "") -> Mapping[str, Released]:
    """The file keys of the answer with this request `id`, by stanza hash. Raises Unknown if no identity opens it,
    IntegrityError (`sealed`) if it belongs to another request, FormatError if it is malformed."""
    found, keys = _plain(agefile.unwrap(sealed, identities, recipient=recipient))
    if found != id:
        raise IntegrityError("the sealed answer belongs to another request", code="sealed")
    return {each.stanza: each for each in keys}


@dataclass(frozen=True, slots=True)
class Accepted:
    """An answer that holds: `keys` in the order of the items, None where nothing was released (see `reasons`), and the
    `checkpoint` to remember (None if no item was decided)."""

    keys: tuple[Released | None, ...]
    reasons: tuple[str | None, ...]
    checkpoint: Checkpoint | None


def accept(
    response: Response,
    request: Request,
    *logs: Verifier,
    sent: SignedRequest,
    body: bytes,
    kept: Checkpoint | None,
    identities: Iterable[Identity],
    recipient: str = "",
) -> Accepted:
    """What may be used of an answer to `request`, whose exact `body` was signed as `sent`. In this order: every receipt
    is of this request and says what the answer says, all under one checkpoint of one of `logs`; that checkpoint extends
    `kept` (the one whose size the request named; None for 0); the first record carries the exact body; then the keys
    are unsealed and belong to exactly the released items, with the environment and generation of their records.

    Raises IntegrityError, FormatError or Unknown; then nothing of the answer may be used, and `kept` stays."""
    if request.size != (kept.size if kept else 0):
        raise IntegrityError("the request named another tree size than that of the kept checkpoint", code="size")
    if len(response.results) != len(request.items):
        raise IntegrityError("the answer is not one to this request", code="answer")
    records = []
    for number, (item, result) in enumerate(zip(request.items, response.results, strict=True)):
        if result.receipt is None:
            continue
        checked = receipts.check_release(
            result.receipt,
            *logs,
            sent=sent,
            item=number,
            stanza=item.stanza,
            env=request.env,
            purpose=request.purpose,
            path=item.path,
            outcome="allow" if result.result == "released" else "deny",
            policy_seq=response.policy_seq,
            id=response.id,
        )
        if checked.entry.outcome == "deny" and checked.entry.reason != result.reason:
            raise IntegrityError("the receipt says another decision than the answer", code="receipt")
        records.append((item, checked))
    head = records[0][1].checkpoint if records else None
    if head is not None:
        if any(checked.checkpoint != head for _, checked in records):
            raise IntegrityError("the receipts are under different checkpoints", code="receipt")
        if [checked.entry.request_body for _, checked in records] != [body] + [None] * (len(records) - 1):
            raise IntegrityError("the record does not hold the exact request", code="receipt")
        checkpoint.consistent(kept, head, response.consistency)
        if any(checked.index < request.size for _, checked in records):
            raise IntegrityError("a record is older than the request", code="receipt")
    found: Mapping[str, Released] = {}
    if response.sealed is not None:
        found = unseal(response.sealed, identities, id=response.id, recipient=recipient)
    wanted = {
        item.stanza: (checked.entry.scope, checked.entry.data["generation"])
        for item, checked in records
        if checked.entry.outcome == "allow"
    }
    if {stanza: (names.Scope("env", key.env), key.generation) for stanza, key in found.items()} != wanted:
        raise IntegrityError("the sealed keys are not those that the records name", code="sealed")
    return Accepted(
        tuple([found.get(item.stanza) for item in request.items]),
        tuple([each.reason for each in response.results]),
        head,
    )
