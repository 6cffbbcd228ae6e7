"""Audit entries: one table of actions, exact fields, one byte form."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.unit.policy.world import World
from zopp.errors import FormatError, ZoppError
from zopp.keys import signing
from zopp.policy import canonical, names, statement
from zopp.tlog import entry, merkle

REQ = entry.SignedRequest(
    method="POST", target="https://zopp.example.test/v1/releases/acme", content_digest="sha-256=:AAAA:",
    signature_input="zopp=()", signature="zopp=:AAAA:",
)  # fmt: skip
ENV = names.Scope("env", "api/production")
HASH = "ab" * 32


def line() -> Any:
    return canonical.decode(World().lines[0])


DATA: dict[str, Any] = {
    "release": {
        "again": False, "body": canonical.b64(b'{"v":1}\n \xff'), "generation": 1, "item": 0,
        "path": "api/secrets/production.yaml", "purpose": "read", "stanza": HASH,
    },
    "statement": {"line": line()},
    "manifest": {"generation": 42, "hash": HASH},
    "oidc": {
        "claims": {"ref": "refs/heads/main", "repository_id": "1"}, "issuer": "https://token.example.test",
        "key": canonical.b64(signing.from_seed(b"\3" * 32).public),
        "kid": "k1", "not_after": 1795305600, "rule": "deploy", "token": HASH,
    },
    "jwks": {"document": '{"keys":[]}', "issuer": "https://token.example.test"},
    "auth": {},
    "audit.read": {"query": "actor=bob-laptop"},
    "audit.export": {"first": 0, "last": 99},
    "summary": {"count": 7, "since": 1795305600000, "what": "unauthenticated"},
    "key": {"event": "create", "generation": 1, "recipient": None},
    "prune": {"before": 10, "export": HASH},
    "operator": {"detail": "hold", "event": "hold"},
}  # fmt: skip


def options(action: str, **change: Any) -> dict[str, Any]:
    what = entry.ACTIONS[action]
    made: dict[str, Any] = {"ts": 1795305600123, "id": b"\7" * 16, "outcome": what.outcomes[0], "policy_seq": 0}
    if what.signed:
        made |= {"request": REQ, "actor": "bob-laptop", "role": "read"}
    if what.scope:
        made["scope"] = ENV
    if made["outcome"] == "deny":
        made["reason"] = "replayed"
    return made | change


@pytest.mark.parametrize("action", list(entry.ACTIONS))
def test_every_action_goes_round(action: str) -> None:
    body = entry.build(action, DATA[action], **options(action))
    made = entry.parse(body)
    assert canonical.encode(canonical.decode(body)) == body == made.body
    assert made.action == action
    assert json.loads(json.dumps(canonical.thaw(made.data))) == DATA[action]
    assert entry.leaf(body) == made.leaf == merkle.leaf_hash(body)
    assert (made.ts, made.id, made.policy_seq) == (1795305600123, b"\7" * 16, 0)
    assert made.request == (REQ if entry.ACTIONS[action].signed else None)
    assert made.scope == (ENV if entry.ACTIONS[action].scope else None)


def test_the_table_has_a_sample_of_each_action() -> None:
    assert DATA.keys() == entry.ACTIONS.keys()


def test_a_statement_s_exact_line_and_a_request_s_exact_body_come_back() -> None:
    raw = World().lines[0]
    body = entry.build("statement", {"line": canonical.decode(raw)}, **options("statement"))
    assert entry.parse(body).line == raw
    assert raw in body
    release = entry.parse(entry.build("release", DATA["release"], **options("release")))
    assert release.request_body == b'{"v":1}\n \xff'
    assert release.line is None
    rest = entry.build("release", DATA["release"] | {"body": None, "item": 1}, **options("release"))
    assert entry.parse(rest).request_body is None


def test_the_largest_request_fits_and_more_does_not() -> None:
    worst = DATA["release"] | {"body": canonical.b64(b'"' * entry.MAX_REQUEST)}
    assert len(entry.build("release", worst, **options("release"))) < entry.MAX_BODY
    with pytest.raises(FormatError):
        entry.build("release", worst | {"body": canonical.b64(bytes(entry.MAX_REQUEST + 1))}, **options("release"))
    with pytest.raises(FormatError) as caught:
        entry.parse(b" " * 65536)
    assert caught.value.code == "entry_size"


@pytest.mark.parametrize(
    ("action", "data", "change"),
    [
        ("release", {}, {"outcome": "fact"}), ("release", {}, {"outcome": "maybe"}), ("release", {}, {"request": None}),
        ("release", {}, {"actor": None}), ("release", {}, {"scope": None}),
        ("release", {}, {"scope": names.Scope("project", "api")}), ("release", {}, {"outcome": "deny"}),
        ("release", {}, {"id": bytes(15)}), ("release", {}, {"ts": -1}), ("release", {}, {"ts": 1.5}),
        ("release", {}, {"ts": True}), ("release", {}, {"role": "owner"}), ("release", {}, {"policy_seq": -1}),
        ("release", {}, {"actor": "Bob"}), ("release", {}, {"actor": "ci/"}), ("release", {}, {"actor": "x/y"}),
        ("release", {}, {"reason": "Has Space"}), ("release", {}, {"ip": bytes(4)}),
        ("release", {}, {"on_behalf": "ci/x"}), ("release", {"item": 100}, {}), ("release", {"item": True}, {}),
        ("release", {"generation": 0}, {}), ("release", {"stanza": HASH.upper()}, {}),
        ("release", {"purpose": "steal"}, {}), ("release", {"path": "../x"}, {}), ("release", {"path": "a\x1bb"}, {}),
        ("release", {"body": "AB"}, {}), ("release", {"body": "A"}, {}), ("release", {"body": "ü"}, {}),
        ("release", {"more": 1}, {}), ("release", {"again": 0}, {}),
        ("statement", {}, {"policy_seq": 1}), ("statement", {"line": {}}, {}), ("statement", {"line": "x"}, {}),
        ("auth", {}, {"reason": None}), ("auth", {}, {"outcome": "allow"}), ("summary", {"count": 0}, {}),
        ("summary", {"what": "all"}, {}), ("operator", {"detail": "a\nb"}, {}), ("operator", {"event": "X"}, {}),
        ("oidc", {"claims": {"A": "x"}}, {}), ("oidc", {"claims": {"a": 1}}, {}), ("oidc", {"key": "A" * 43}, {}),
        ("jwks", {"document": ""}, {}), ("jwks", {"document": "x" * 49153}, {}), ("jwks", {"issuer": "http://x"}, {}),
        ("key", {"recipient": "age1x"}, {}), ("key", {"event": "print"}, {}),
    ],
)  # fmt: skip
def test_what_an_entry_may_not_say(action: str, data: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        entry.build(action, DATA[action] | data, **options(action, **change))


def test_a_refused_statement_may_have_any_seq() -> None:
    body = entry.build(
        "statement", DATA["statement"], **options("statement", outcome="deny", reason="stale_prev", policy_seq=9)
    )
    assert entry.parse(body).outcome == "deny"


def test_unknown_action_and_missing_fields() -> None:
    with pytest.raises(FormatError):
        entry.build("shred", {}, ts=0, id=bytes(16), outcome="fact")
    whole = canonical.decode(entry.build("auth", {}, **options("auth")))
    for field in whole:
        with pytest.raises(FormatError):
            entry.parse(canonical.encode({key: value for key, value in whole.items() if key != field}))
    with pytest.raises(FormatError):
        entry.parse(canonical.encode(whole | {"extra": 1}))
    for body in (b"", b"{}", b"[]", b"null", b'{"v":1,"v":1}', json.dumps(whole).encode()):
        with pytest.raises(FormatError):
            entry.parse(body)


SAMPLE = entry.build("release", DATA["release"], **options("release"))


@given(
    st.binary(max_size=100)
    | st.builds(
        lambda at, junk, cut: SAMPLE[:at] + junk + SAMPLE[at + cut :],
        st.integers(0, len(SAMPLE)), st.binary(max_size=3), st.integers(0, 5),
    )
)  # fmt: skip
def test_any_bytes_give_an_entry_of_one_spelling_or_a_zopp_error(data: bytes) -> None:
    try:
        made = entry.parse(data)
    except ZoppError:
        return
    assert made.body == data == canonical.encode(canonical.decode(data))


def test_line_is_a_statement() -> None:
    assert statement.parse(canonical.encode(line())).seq == 0
