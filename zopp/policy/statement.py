"""A statement: one signed policy change, its exact bytes and fields (policy-server.md §4.1).

`parse` checks form only: canonical bytes, known type, exact fields, signatures that are well formed, sorted and
distinct. It does *not* check a signature, the chain or authority: that is `apply` and `log`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from zopp import _fast
from zopp.errors import FormatError
from zopp.keys.sshsig import preimage
from zopp.policy import canonical, fields as f, names

NAMESPACE = "zopp-policy-v1"
MAX_LINE = 65536

_HEAD = b'{"policy":'
_TAIL = b',"sigs":['

TYPES: Mapping[str, Mapping[str, f.Field]] = MappingProxyType(
    {
        "genesis": {
            "email_tag": f.nullable(f.HEX32),
            "key": f.KEY,
            "principal": f.NAME,
            "recipient": f.RECIPIENT,
            "salt": f.BYTES32,
            "user": f.NAME,
            "workspace": f.NAME,
        },
        "server.set": {"log_key": f.KEY, "origin": f.ORIGIN},
        "user.add": {"email_tag": f.nullable(f.HEX32), "user": f.NAME},
        "user.disable": {"user": f.NAME},
        "user.enable": {"user": f.NAME},
        "principal.enrol": {
            "cap": f.nullable(f.CAP),
            "proof": f.nullable(f.SIG),
            "request": f.REQUEST,
            "vouch": f.nullable(f.VOUCH),
        },
        "principal.rekey": {"proof": f.nullable(f.SIG), "request": f.REQUEST, "vouch": f.nullable(f.VOUCH)},
        "principal.disable": {"principal": f.NAME},
        "principal.enable": {"principal": f.NAME, "vouch": f.nullable(f.VOUCH)},
        "group.create": {"group": f.NAME},
        "group.delete": {"group": f.NAME},
        "group.member.add": {"group": f.NAME, "member": f.MEMBER},
        "group.member.remove": {"group": f.NAME, "member": f.MEMBER},
        "binding.set": {"role": f.ROLE, "scope": f.SCOPE, "subject": f.SUBJECT},
        "binding.remove": {"scope": f.SCOPE, "subject": f.SUBJECT},
        "cap.set": {"cap": f.nullable(f.CAP), "principal": f.NAME, "vouch": f.nullable(f.VOUCH)},
        "flag.set": {"flag": f.FLAG, "subject": f.SUBJECT},
        "flag.remove": {"flag": f.FLAG, "subject": f.SUBJECT},
        "project.create": {"project": f.NAME},
        "project.archive": {"project": f.NAME},
        "env.create": {"env": f.ENV, "kind": f.KIND, "protected": f.BOOL},
        "env.archive": {"env": f.ENV},
        "env.kind": {"env": f.ENV, "kind": f.KIND},
        "env.protect": {"env": f.ENV},
        "env.unprotect": {"env": f.ENV},
        "env.serverkey": {"env": f.ENV, "recipient": f.X25519},
        "env.breakglass": {"env": f.ENV, "recipient": f.nullable(f.X25519)},
        "invite.create": {
            "email_tag": f.nullable(f.HEX32),
            "invite": f.ID,
            "key": f.KEY,
            "not_after": f.TIME,
            "role": f.CAP,
            "scope": f.SCOPE,
        },
        "invite.redeem": {
            "claim": f.nullable(f.SIG),
            "email_tag": f.nullable(f.HEX32),
            "invite": f.ID,
            "proof": f.SIG,
            "request": f.REQUEST,
        },
        "invite.revoke": {"invite": f.ID},
        "oidc_rule.set": {
            "audience": f.TEXT,
            "claims": f.CLAIMS,
            "issuer": f.ISSUER,
            "max_ttl": f.TTL,
            "rule": f.ID,
            "service": f.NAME,
        },
        "oidc_rule.remove": {"rule": f.ID},
    }
)
_DATA = {kind: f.record(fields) for kind, fields in TYPES.items()}


def is_by(text: str) -> bool:
    """Whether `text` may stand in `by`: a principal's name, or `invite/ID` (no principal's name has a slash)."""
    kind, slash, ident = text.partition("/")
    return kind == "invite" and names.is_typed_name(ident) if slash else names.is_name(text)


_BY = f.Field(
    lambda v, place, out: None if type(v) is str and is_by(v) else out.append((place, "not a principal or invite")),
    {"anyOf": [f.NAME.schema, {"type": "string", "pattern": "^invite/[a-z0-9][a-z0-9-]{0,62}$(?!\\n)"}]},
)
_POLICY = {
    "at": f.TIME,
    "by": _BY,
    "data": f.Field(lambda v, place, out: None, {}),
    "prev": f.nullable(f.HEX32),
    "seq": f.SEQ,
    "type": f.enum(*TYPES),
    "ws": f.nullable(f.HEX32),
}
_POLICY_RECORD = f.record(_POLICY)


def freeze(value: Any) -> Any:
    """A read-only view of parsed JSON, all the way down."""
    if type(value) is dict:
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    return tuple(freeze(item) for item in value) if type(value) is list else value


class Statement:
    """A well-formed statement. `line` is the exact line without newline, `policy` the signed bytes, `hash` the hex
    SHA-256 of the line, `sigs` the raw signatures; the other attributes are the fields. `data` is read-only."""

    __slots__ = ("_data", "at", "by", "hash", "line", "policy", "prev", "seq", "sigs", "type", "ws")
    line: bytes
    policy: bytes
    hash: str
    sigs: tuple[bytes, ...]
    type: str
    at: int
    by: str
    seq: int
    prev: str | None
    ws: str | None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a statement does not change")

    @property
    def data(self) -> Mapping[str, Any]:
        """The type's fields, read-only all the way down."""
        view: Mapping[str, Any] = freeze(self._data)
        return view

    _data: dict[str, Any]

    def __repr__(self) -> str:
        return f"Statement(seq={self.seq}, type={self.type!r}, by={self.by!r})"


_set = object.__setattr__


def _check_policy(policy: Any) -> None:
    problems: list[f.Problem] = []
    _POLICY_RECORD.check(policy, "policy", problems)
    if type(policy) is dict:
        kind = policy.get("type")
        if type(kind) is str and kind in _DATA:
            _DATA[kind].check(policy.get("data"), "data", problems)
            first = kind == "genesis"
            for field in ("prev", "ws"):
                if (policy.get(field, "") is None) != first:
                    problems.append((f"policy.{field}", "null in the genesis and only there"))
            if (policy.get("seq") == 0) != first:
                problems.append(("policy.seq", "0 in the genesis and only there"))
            if type(policy.get("by")) is str and "/" in policy["by"] and kind != "invite.redeem":
                problems.append(("policy.by", "only invite.redeem is signed by an invite"))
    if problems:
        raise f.refuse(problems, "statement")


def parse(line: bytes) -> Statement:
    """The statement that `line` (no newline) is; FormatError with every problem otherwise. The byte form is unique:
    any other spelling of the same statement is refused (A8)."""
    if len(line) > MAX_LINE:
        raise FormatError("a statement is longer than 64 KiB", code="statement")
    value = canonical.decode(line)
    if type(value) is not dict or value.keys() != {"policy", "sigs"}:
        raise FormatError("a statement is an object of policy and sigs", code="statement")
    policy, sigs = value["policy"], value["sigs"]
    _check_policy(policy)
    if type(sigs) is not list or not sigs or not all(type(sig) is str for sig in sigs):
        raise FormatError("sigs is a list of signatures", code="statement", place="sigs")
    if sigs != sorted(set(sigs)):
        raise FormatError("signatures are sorted and distinct", code="statement", place="sigs")
    raw = tuple([canonical.unb64(sig, 64) for sig in sigs])
    made = Statement.__new__(Statement)
    _set(made, "line", line)
    # canonical, and "sigs" sorts last: the policy bytes are what stands between the two fixed parts
    _set(made, "policy", line[len(_HEAD) : len(line) - len(_TAIL) - 2 - sum(len(s) + 2 for s in sigs) - len(sigs) + 1])
    _set(made, "hash", _fast.sha256(line).hex())
    _set(made, "sigs", raw)
    _set(made, "_data", policy["data"])
    for name in ("type", "at", "by", "seq", "prev", "ws"):
        _set(made, name, policy[name])
    return made


def draft(type: str, data: Mapping[str, Any], *, ws: str | None, seq: int, prev: str | None, at: int, by: str) -> bytes:
    """The `policy` bytes to sign (SSHSIG preimage of NAMESPACE over them, see `to_sign`); FormatError with every
    problem of form. `at` is Unix seconds, `prev` the hex hash of the last line."""
    policy = {"at": at, "by": by, "data": canonical.thaw(data), "prev": prev, "seq": seq, "type": type, "ws": ws}
    _check_policy(policy)
    return canonical.encode(policy)


def to_sign(policy: bytes) -> bytes:
    """What the Ed25519 key signs: the SSHSIG preimage of NAMESPACE over the `policy` bytes."""
    return preimage(NAMESPACE, policy)


def seal(policy: bytes, sigs: list[bytes] | tuple[bytes, ...]) -> bytes:
    """The line (no newline) of `policy` bytes from `draft` and its raw 64-byte signatures. Not verified here."""
    texts = sorted(canonical.b64(sig) for sig in sigs)
    line = _HEAD + policy + _TAIL + ",".join(f'"{text}"' for text in texts).encode() + b"]}"
    parse(line)
    return line


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a line, from the same table as the validators. What it cannot say: canonical
    bytes, checksums of recipients, order of sigs, key points."""
    variants = [
        {
            "properties": {
                "type": {"const": kind},
                "data": _DATA[kind].schema,
                **(
                    {"prev": {"type": "null"}, "ws": {"type": "null"}, "seq": {"const": 0}}
                    if kind == "genesis"
                    else {"prev": f.HEX32.schema, "ws": f.HEX32.schema, "seq": {"minimum": 1}}
                ),
                **({} if kind == "invite.redeem" else {"by": f.NAME.schema}),
            }
        }
        for kind in TYPES
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "zopp policy statement: one line of .zopp/policy.jsonl",
        "type": "object",
        "properties": {
            "policy": {**_POLICY_RECORD.schema, "oneOf": variants},
            "sigs": {"type": "array", "items": f.SIG.schema, "minItems": 1, "uniqueItems": True},
        },
        "required": ["policy", "sigs"],
        "additionalProperties": False,
    }
