"""The exact form of a line: every type, every field, and no second spelling (A8); the published schema agrees."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings, strategies as st

from tests.unit.policy.world import World, acme, key, recipient, ssh_recipient
from zopp.errors import FormatError, ZoppError
from zopp.policy import canonical, statement
from zopp.policy.statement import TYPES, parse

SCHEMA = json.loads((Path(__file__).parents[3] / "policies/schema/statement.schema.json").read_text())
VALID = jsonschema.Draft202012Validator(SCHEMA)
SIG = canonical.b64(bytes(64))
HEX = "0" * 64
REQUEST = {
    "id": canonical.b64(bytes(16)),
    "key": key("x").text,
    "name": "bob-laptop",
    "not_after": 5,
    "recipient": recipient("x"),
    "user": "bob",
    "v": 1,
    "ws": HEX,
}
VOUCH = {"device": "bob-phone", "not_after": 7, "sig": SIG}
CLAIMS = {"ref": "refs/heads/main", "repository_id": "12"}

EXAMPLES: dict[str, dict[str, Any]] = {
    "genesis": {
        "workspace": "acme",
        "salt": canonical.b64(bytes(32)),
        "user": "alice",
        "email_tag": None,
        "principal": "alice-laptop",
        "key": key("a").text,
        "recipient": recipient("a"),
    },
    "server.set": {"origin": "https://zopp.example.org:8443", "log_key": key("log").text},
    "user.add": {"user": "bob", "email_tag": HEX},
    "user.disable": {"user": "bob"},
    "user.enable": {"user": "bob"},
    "principal.enrol": {"request": REQUEST, "proof": SIG, "cap": "write", "vouch": VOUCH},
    "principal.rekey": {"request": {**REQUEST, "key": None, "user": None}, "proof": None, "vouch": None},
    "principal.disable": {"principal": "bob-laptop"},
    "principal.enable": {"principal": "bob-laptop", "vouch": None},
    "group.create": {"group": "developers"},
    "group.delete": {"group": "developers@2"},
    "group.member.add": {"group": "developers", "member": {"user": "bob"}},
    "group.member.remove": {"group": "developers", "member": {"service": "ci"}},
    "binding.set": {"role": "write", "scope": {"env": "api/production"}, "subject": {"user": "bob"}},
    "binding.remove": {"scope": {"workspace": "acme"}, "subject": {"group": "developers"}},
    "cap.set": {"principal": "bob-laptop", "cap": "none", "vouch": None},
    "flag.set": {"flag": "auditor", "subject": {"user": "bob"}},
    "flag.remove": {"flag": "auditor", "subject": {"service": "ci"}},
    "project.create": {"project": "api"},
    "project.archive": {"project": "api"},
    "env.create": {"env": "api/staging@2", "kind": "brokered", "protected": True},
    "env.archive": {"env": "api/dev"},
    "env.kind": {"env": "api/dev", "kind": "direct"},
    "env.protect": {"env": "api/dev"},
    "env.unprotect": {"env": "api/dev"},
    "env.serverkey": {"env": "api/dev", "recipient": recipient("s")},
    "env.breakglass": {"env": "api/dev", "recipient": None},
    "invite.create": {
        "invite": "k3",
        "key": key("i").text,
        "email_tag": None,
        "scope": {"project": "api"},
        "role": "none",
        "not_after": 9,
    },
    "invite.redeem": {"invite": "k3", "request": REQUEST, "proof": SIG, "claim": None, "email_tag": None},
    "invite.revoke": {"invite": "k3"},
    "oidc_rule.set": {
        "rule": "deploy",
        "service": "ci",
        "issuer": "https://token.actions.githubusercontent.com",
        "audience": "zopp",
        "claims": CLAIMS,
        "max_ttl": 900,
    },
    "oidc_rule.remove": {"rule": "deploy"},
}


def policy_of(kind: str, data: Any) -> dict[str, Any]:
    first = kind == "genesis"
    return {
        "at": 1,
        "by": "alice-laptop",
        "data": data,
        "prev": None if first else HEX,
        "seq": 0 if first else 3,
        "type": kind,
        "ws": None if first else HEX,
    }


def line_of(policy: Any, sigs: Any = (SIG,)) -> bytes:
    return canonical.encode({"policy": policy, "sigs": list(sigs)})


def both(policy: Any, sigs: Any = (SIG,)) -> bool:
    """Whether the code accepts; the schema must too, whenever the code does."""
    value = {"policy": policy, "sigs": list(sigs)}
    try:
        parse(canonical.encode(value))
    except FormatError:
        return False
    VALID.validate(value)
    return True


def test_examples_cover_every_type() -> None:
    assert list(EXAMPLES) == list(TYPES)


def test_schema_is_what_the_code_says() -> None:
    assert statement.schema() == SCHEMA
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_parses_and_fits_the_schema(kind: str) -> None:
    line = line_of(policy_of(kind, EXAMPLES[kind]))
    made = parse(line)
    assert made.type == kind
    assert made.policy == canonical.encode(policy_of(kind, EXAMPLES[kind]))
    assert canonical.thaw(made.data) == EXAMPLES[kind]
    assert statement.seal(made.policy, list(made.sigs)) == line
    VALID.validate(json.loads(line))


@pytest.mark.parametrize("kind", TYPES)
def test_exact_fields(kind: str) -> None:
    """A field less, a field more, a field of another type: refused by code and schema."""
    for field in EXAMPLES[kind]:
        for bad in ("drop", 1.5, [], "", "\u00e9", True, {"x": 1}, -1, "A", "a\n"):
            data = deepcopy(EXAMPLES[kind])
            if bad == "drop":
                del data[field]
            elif (field, bad) in (("protected", True), ("audience", "A")):  # these are fine
                continue
            else:
                data[field] = bad
            policy = policy_of(kind, data)
            if bad != 1.5:
                assert not both(policy), (field, bad)
            schema_says = VALID.is_valid({"policy": policy, "sigs": [SIG]})
            assert not schema_says, (field, bad)
    assert not both(policy_of(kind, {**EXAMPLES[kind], "zzz": 1}))
    assert not VALID.is_valid({"policy": policy_of(kind, {**EXAMPLES[kind], "zzz": 1}), "sigs": [SIG]})


@pytest.mark.parametrize("kind", TYPES)
def test_schema_never_refuses_what_the_code_accepts(kind: str) -> None:
    """Exchange each leaf of each example for odd values: where code accepts, so does the schema (`both`)."""
    odd = [
        None,
        0,
        7,
        "x",
        "ci@2",
        "api/dev",
        SIG,
        HEX,
        recipient("z"),
        ssh_recipient("z"),
        key("z").text,
        "admin",
        "none",
    ]

    def walk(value: Any, put: Any) -> None:
        for other in odd:
            put(other)
            both(policy_of(kind, data))
        put(value)
        if isinstance(value, dict):
            for name in list(value):
                walk(value[name], lambda v, name=name: value.__setitem__(name, v))

    data = deepcopy(EXAMPLES[kind])
    for name in list(data):
        walk(data[name], lambda v, name=name: data.__setitem__(name, v))
    assert both(policy_of(kind, data))


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("at", -1),
        ("at", True),
        ("at", "1"),
        ("at", None),
        ("by", "Alice"),
        ("by", "invite/x"),
        ("by", 1),
        ("prev", None),
        ("prev", HEX.upper()[:-1] + "A"),
        ("seq", 0),
        ("seq", -1),
        ("seq", 2**53),
        ("type", "role.set"),
        ("type", None),
        ("ws", None),
        ("ws", "acme"),
        ("data", None),
        ("data", []),
    ],
)
def test_header(field: str, bad: Any) -> None:
    policy = policy_of("group.create", EXAMPLES["group.create"])
    assert both(policy)
    policy[field] = bad
    assert not both(policy) if bad != 2**53 else True
    with pytest.raises(FormatError):
        statement.draft(policy.pop("type"), policy.pop("data"), **policy)


def test_only_a_redemption_is_signed_by_an_invite() -> None:
    for kind in TYPES:
        policy = policy_of(kind, EXAMPLES[kind])
        policy["by"] = "invite/k3"
        assert both(policy) == (kind == "invite.redeem")


def test_all_errors_at_once() -> None:
    with pytest.raises(FormatError) as caught:
        parse(line_of({**policy_of("binding.set", {"role": "owner", "subject": {"user": "B"}}), "at": -1}))
    assert [place for place, _ in caught.value.data["problems"]] == [
        "data.role",
        "data.scope",
        "data.subject.user",
        "policy.at",
    ]


def test_a_statement_does_not_change() -> None:
    made = parse(line_of(policy_of("binding.set", EXAMPLES["binding.set"])))
    with pytest.raises(AttributeError):
        made.seq = 4
    with pytest.raises(TypeError):
        made.data["role"] = "admin"  # type: ignore[index]
    with pytest.raises(TypeError):
        made.data["scope"]["env"] = "api/dev"


def test_a8_no_second_spelling() -> None:
    """Whoever has no key cannot give a line another hash."""
    w = acme()
    line = w.lines[3]
    text = line.decode()
    sig = json.loads(line)["sigs"][0]
    value = json.loads(line)
    last = sig[-1]
    sibling = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = sig[:-1] + sibling[sibling.index(last) + 1]  # same bytes, trailing bits set
    variants = {
        "space": text.replace(":", ": ", 1),
        "lead": " " + text,
        "trail": text + " ",
        "cr": text + "\r",
        "nl": text + "\n",
        "order": '{"sigs":["' + sig + '"],"policy":' + json.dumps(value["policy"], separators=(",", ":")) + "}",
        "escape": text.replace("alice", "\\u0061lice", 1),
        "float": text.replace('"at":1000', '"at":1000.0', 1),
        "exponent": text.replace('"at":1000', '"at":1e3', 1),
        "key twice": text.replace('{"policy":', '{"policy":1,"policy":', 1),
        "field": text.replace('"sigs":', '"note":1,"sigs":', 1),
        "padding": text.replace(sig, sig + "=="),
        "bits": text.replace(sig, other),
        "standard alphabet": text.replace(sig, sig.replace("-", "+").replace("_", "/") + "="),
        "surplus": text.replace(f'"{sig}"', f'"{sig}","{SIG}"'),
        "twice": text.replace(f'"{sig}"', f'"{sig}","{sig}"'),
        "none": text.replace(f'["{sig}"]', "[]"),
        "null": text.replace(f'["{sig}"]', "null"),
        "armor": text.replace(sig, "-----BEGIN SSH SIGNATURE-----"),
        "bom": "\ufeff" + text,
        "case": text.replace('"ws":"', '"ws":"A', 1),
        "surrogate": text.replace("alice", "\\ud800", 1),
    }
    for name, variant in variants.items():
        assert variant != text, name
        with pytest.raises(FormatError):
            parse(variant.encode())


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.integers(1, 255), st.integers(0, 3))
def test_a8_every_changed_byte_is_refused(where: int, xor: int, line: int) -> None:
    """Any one byte of a log exchanged: refused, and never by a crash."""
    from zopp.policy import log

    data = bytearray(FOUR)
    data[where % len(data)] ^= xor
    with pytest.raises(ZoppError):
        log.fold(bytes(data))


def _four() -> bytes:
    w = World()
    w.user("bob", "bob-laptop")
    w.do("alice-laptop", "project.create", {"project": "api"})
    return w.data


FOUR = _four()


@given(st.binary(max_size=300) | st.integers(0, len(FOUR)).map(lambda n: FOUR[:n]))
def test_any_bytes_give_a_statement_or_an_error(data: bytes) -> None:
    with suppress(ZoppError):
        assert parse(data).line == data


def test_line_length() -> None:
    with pytest.raises(FormatError):
        parse(b'"' + b"a" * 70000 + b'"')


@pytest.mark.parametrize(
    "origin",
    [
        "https://Example.org",
        "http://example.org",
        "https://example.org/",
        "https://user@example.org",
        "https://",
        "ftp://x",
        "https://example.org:",
        "https://example.org:0",
        "https://example.org:123456",
        "https://exa mple.org",
        "https://[::1]",
        "https://a..b",
        "https://a?b",
        "https://a#b",
        "example.org",
        "https://a\n",
    ],
)
def test_bad_origins(origin: str) -> None:
    data = {"origin": origin, "log_key": key("log").text}
    assert not both(policy_of("server.set", data))
    assert not VALID.is_valid({"policy": policy_of("server.set", data), "sigs": [SIG]})


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"ref": "x"},
        {"repository_id": "1"},
        {"ref": "*", "repository_id": "1"},
        {"ref": "", "repository_id": "1"},
        {"ref": 1, "repository_id": "1"},
        {"ref": "x", "repository_id": "1", "Sub": "x"},
        {"ref": "refs/*", "project_id": "1"},
    ],
)
def test_a25_claims_are_exact_and_have_a_ref_and_an_id(claims: Any) -> None:
    data = {**EXAMPLES["oidc_rule.set"], "claims": claims}
    assert not both(policy_of("oidc_rule.set", data))
    assert not VALID.is_valid({"policy": policy_of("oidc_rule.set", data), "sigs": [SIG]})
