"""Field validators of statements, each with its JSON Schema, so that the published schema cannot drift.

A validator is called with a value, its place (`data.scope`) and a list to which it adds every problem; it never raises
and never quotes the value. What one statement alone cannot show (whether a name exists) is `apply`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zopp.errors import FormatError
from zopp.keys import agefile, signing
from zopp.policy import names
from zopp.policy.canonical import MAX_INT, unb64

Problem = tuple[str, str]
"""(place, reason)"""


class Field:
    """A check and the JSON Schema (2020-12) that says the same as far as a schema can."""

    __slots__ = ("check", "schema")

    def __init__(self, check: Callable[[Any, str, list[Problem]], None], schema: dict[str, Any]) -> None:
        self.check = check
        self.schema = schema


# `$` also matches before a last newline in some engines; the lookahead closes that.
_END = "$(?!\\n)"
_NAME = "[a-z0-9][a-z0-9-]{0,62}(@([2-9]|[1-9][0-9]{1,5}))?"


def _text(good: Callable[[str], bool], reason: str, schema: dict[str, Any]) -> Field:
    def check(value: Any, place: str, out: list[Problem]) -> None:
        if type(value) is not str or not good(value):
            out.append((place, reason))

    return Field(check, {"type": "string", **schema})


def _holds(check: Callable[[str], object]) -> Callable[[str], bool]:
    def good(value: str) -> bool:
        try:
            check(value)
        except (FormatError, UnicodeError):
            return False
        return True

    return good


def _b64(size: int) -> Callable[[str], bool]:
    return _holds(lambda value: unb64(value, size))


NAME = _text(names.is_name, "not a name", {"pattern": f"^{_NAME}{_END}"})
ID = _text(names.is_typed_name, "not an id", {"pattern": f"^[a-z0-9][a-z0-9-]{{0,62}}{_END}"})
ENV = _text(names.is_env, "not PROJECT/ENV", {"pattern": f"^{_NAME}/{_NAME}{_END}"})
HEX32 = _text(
    lambda v: len(v) == 64 and not v.strip("0123456789abcdef"),
    "not 64 lower-case hex digits",
    {"pattern": f"^[0-9a-f]{{64}}{_END}"},
)
SIG = _text(_b64(64), "not base64url of 64 bytes", {"pattern": f"^[A-Za-z0-9_-]{{85}}[AQgw]{_END}"})
BYTES32 = _text(_b64(32), "not base64url of 32 bytes", {"pattern": f"^[A-Za-z0-9_-]{{42}}[AEIMQUYcgkosw048]{_END}"})
ID128 = _text(_b64(16), "not base64url of 16 bytes", {"pattern": f"^[A-Za-z0-9_-]{{21}}[AQgw]{_END}"})


def public_key(text: str) -> bytes:
    """The 32 bytes of an Ed25519 key as statements carry it; FormatError unless canonical and not of small order."""
    key = unb64(text, 32)
    signing.check_public(key)
    return key


KEY = _text(_holds(public_key), "not an acceptable Ed25519 key", dict(BYTES32.schema))


def _spelled(text: str) -> None:
    """FormatError unless `text` is the one spelling of a recipient: `canonical_recipient` also drops a comment."""
    if agefile.canonical_recipient(text) != text:
        raise FormatError("the recipient is not in its one spelling", code="recipient")


_AGE_SCHEMA = {"pattern": f"^age1[02-9ac-hj-np-z]{{58}}{_END}"}
_AGE_OR_SSH = {"pattern": f"^(age1[02-9ac-hj-np-z]{{58}}|ssh-ed25519 [A-Za-z0-9+/]{{68}}){_END}"}
RECIPIENT = _text(_holds(_spelled), "not an acceptable recipient", _AGE_OR_SSH)
X25519 = _text(
    lambda v: v.startswith("age1") and _holds(_spelled)(v),
    "not an acceptable X25519 recipient",
    _AGE_SCHEMA,
)


def _origin(value: str) -> bool:
    scheme, sep, rest = value.partition("://")
    host, colon, port = rest.partition(":")
    if scheme not in ("https", "http") or not sep or not 0 < len(host) <= 253:
        return False
    if scheme == "http" and host not in ("localhost", "127.0.0.1"):
        return False
    if not all(
        0 < len(label) <= 63 and not label.strip("abcdefghijklmnopqrstuvwxyz0123456789-") for label in host.split(".")
    ):
        return False
    return not colon or (0 < len(port) <= 5 and not port.strip("0123456789") and port[0] != "0")


_HOST = "[a-z0-9-]{1,63}(\\.[a-z0-9-]{1,63})*"
ORIGIN = _text(
    _origin,
    "not an origin (https://HOST[:PORT], lower case; http only for localhost)",
    {"pattern": f"^(https://{_HOST}|http://(localhost|127\\.0\\.0\\.1))(:[1-9][0-9]{{0,4}})?{_END}", "maxLength": 267},
)


_SEGMENT = "[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,62}"


def _issuer(value: str) -> bool:
    scheme, _, rest = value.partition("://")
    host, *segments = rest.split("/")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"
    return (
        _origin(f"{scheme}://{host}")
        and len(segments) <= 4
        and all(0 < len(each) <= 63 and not each.strip(letters) and each[0] != "." for each in segments)
    )


ISSUER = _text(
    _issuer,
    "not an issuer (https://HOST[:PORT][/PATH], no slash at the end; http only for localhost)",
    {
        "pattern": f"^(https://{_HOST}|http://(localhost|127\\.0\\.0\\.1))(:[1-9][0-9]{{0,4}})?(/{_SEGMENT}){{0,4}}{_END}",
        "maxLength": 523,
    },
)
"""`iss` of a CI provider: an origin, or one with a path (GitHub Enterprise Server's, a GitLab below a path)."""


def _clean(limit: int) -> Callable[[str], bool]:
    return lambda v: 0 < len(v) <= limit and all(" " <= c <= "~" for c in v)


TEXT = _text(_clean(256), "not 1 to 256 printable ASCII characters", {"pattern": f"^[ -~]{{1,256}}{_END}"})


def enum(*values: str) -> Field:
    """Exactly one of these strings."""

    def check(value: Any, place: str, out: list[Problem]) -> None:
        if type(value) is not str or value not in values:
            out.append((place, "not one of " + ", ".join(values)))

    return Field(check, {"enum": list(values)})


ROLE = enum("read", "write", "admin")
CAP = enum("none", "read", "write", "admin")
KIND = enum("direct", "brokered")
FLAG = enum("auditor")


def integer(low: int, high: int) -> Field:
    """An integer from `low` to `high`."""

    def check(value: Any, place: str, out: list[Problem]) -> None:
        if type(value) is not int or not low <= value <= high:
            out.append((place, f"not an integer from {low} to {high}"))

    return Field(check, {"type": "integer", "minimum": low, "maximum": high})


TIME = integer(0, MAX_INT)
SEQ = integer(0, MAX_INT)
TTL = integer(1, 900)


def _bool(value: Any, place: str, out: list[Problem]) -> None:
    if type(value) is not bool:
        out.append((place, "not true or false"))


BOOL = Field(_bool, {"type": "boolean"})


def nullable(field: Field) -> Field:
    """null, or what `field` accepts."""
    inner = field.check

    def check(value: Any, place: str, out: list[Problem]) -> None:
        if value is not None:
            inner(value, place, out)

    return Field(check, {"anyOf": [{"type": "null"}, field.schema]})


def record(fields: Mapping[str, Field]) -> Field:
    """An object with exactly these fields."""
    wanted = frozenset(fields)
    checks = [(name, field.check) for name, field in fields.items()]

    def check(value: Any, place: str, out: list[Problem]) -> None:
        if type(value) is not dict:
            out.append((place, "not an object"))
            return
        if value.keys() != wanted:
            out.extend((f"{place}.{name}", "missing") for name in sorted(wanted - value.keys()))
            if value.keys() - wanted:
                out.append((place, "an unknown field"))
        for name, inner in checks:
            if name in value:
                inner(value[name], f"{place}.{name}", out)

    schema = {
        "type": "object",
        "properties": {name: field.schema for name, field in fields.items()},
        "required": sorted(fields),
        "additionalProperties": False,
    }
    return Field(check, schema)


def list_of(field: Field) -> Field:
    """A list of what `field` accepts."""

    def check(value: Any, place: str, out: list[Problem]) -> None:
        if type(value) is not list:
            out.append((place, "not a list"))
            return
        for number, item in enumerate(value):
            field.check(item, f"{place}[{number}]", out)

    return Field(check, {"type": "array", "items": field.schema})


def tagged(options: Mapping[str, Field]) -> Field:
    """An object with exactly one of these fields: a typed scope or subject."""

    def check(value: Any, place: str, out: list[Problem]) -> None:
        if type(value) is not dict or len(value) != 1 or next(iter(value)) not in options:
            out.append((place, "not an object with exactly one of " + ", ".join(options)))
            return
        ((kind, name),) = value.items()
        options[kind].check(name, f"{place}.{kind}", out)

    return Field(check, {"oneOf": [record({kind: field}).schema for kind, field in options.items()]})


SCOPE = tagged({"workspace": NAME, "project": NAME, "env": ENV})
SUBJECT = tagged({"user": NAME, "group": NAME, "service": NAME})
MEMBER = tagged({"user": NAME, "service": NAME})

REQUEST = record(
    {
        "id": ID128,
        "key": nullable(KEY),
        "name": NAME,
        "not_after": TIME,
        "recipient": RECIPIENT,
        "user": nullable(NAME),
        "v": integer(1, 1),
        "ws": HEX32,
    }
)
VOUCH = record({"device": NAME, "not_after": TIME, "sig": SIG})


def _claims(value: Any, place: str, out: list[Problem]) -> None:
    if type(value) is not dict or not 0 < len(value) <= 32:
        out.append((place, "not an object of 1 to 32 claims"))
        return
    for claim, wanted in value.items():
        if not 0 < len(claim) <= 64 or claim.strip("abcdefghijklmnopqrstuvwxyz0123456789_"):
            out.append((place, "a claim's name is not 1 to 64 of a-z, 0-9, _"))
        elif type(wanted) is not str or not _clean(256)(wanted) or "*" in wanted:
            out.append((f"{place}.{claim}", "not 1 to 256 printable ASCII characters without '*'"))
    if "ref" not in value:
        out.append((place, "no exact ref"))
    # ids, because names recycle: who gets a freed repository name would get the role (policy-server.md §3.3)
    if "repository_id" not in value and "project_id" not in value:
        out.append((place, "neither repository_id nor project_id"))


CLAIMS = Field(
    _claims,
    {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 32,
        "propertyNames": {"pattern": f"^[a-z0-9_]{{1,64}}{_END}"},
        "additionalProperties": {"type": "string", "pattern": f"^[ -)+-~]{{1,256}}{_END}"},
        "required": ["ref"],
        "anyOf": [{"required": ["repository_id"]}, {"required": ["project_id"]}],
    },
)


def refuse(problems: Iterable[Problem], what: str) -> FormatError:
    """One FormatError that carries every problem; its text names the first."""
    found = sorted(problems)
    place, reason = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return FormatError(f"{what}: {place}: {reason}{more}", code="statement", problems=tuple(found))
