"""The fold's other refusals: own power, own devices, nothing to change, nothing there; and its purity."""

from __future__ import annotations

import pytest

from tests.unit.policy.world import ACME, API, BOB, DEV, World, acme, refused
from zopp.errors import FormatError, IntegrityError, NotFound
from zopp.policy import statement
from zopp.policy.apply import apply


@pytest.fixture
def w() -> World:
    return acme()


def test_a_statement_never_lends_its_signer_the_power_to_make_it(w: World) -> None:
    """Rights are those before the statement: raising oneself, adding oneself to a group, protecting from a superior."""
    w.do("alice-laptop", "group.create", {"group": "g"})
    w.bind({"group": "g"}, "admin", ACME)
    refused(w, "authority", "bob-laptop", "group.member.add", {"group": "g", "member": BOB})
    refused(w, "authority", "bob-laptop", "binding.set", {"role": "admin", "scope": ACME, "subject": BOB})


def test_own_device(w: World) -> None:
    """A person may disable any own device, also with a capped one; nobody else's."""
    w.do("alice-laptop", "cap.set", {"principal": "bob-phone", "cap": "none", "vouch": None})
    w.do("bob-phone", "principal.disable", {"principal": "bob-laptop"})
    refused(w, "authority", "bob-phone", "principal.disable", {"principal": "carol-desktop"})
    refused(w, "authority", "ci", "principal.disable", {"principal": "ci"})
    refused(w, "authority", "bob-phone", "principal.enable", {"principal": "bob-laptop", "vouch": None})


def test_statements_that_change_nothing_are_refused(w: World) -> None:
    by = "alice-laptop"
    w.bind(BOB, "read", DEV)
    w.do(by, "group.create", {"group": "g"})
    for type, data in (
        ("binding.set", {"role": "read", "scope": DEV, "subject": BOB}),
        ("binding.remove", {"scope": API, "subject": BOB}),
        ("group.member.remove", {"group": "g", "member": BOB}),
        ("env.unprotect", {"env": "api/dev"}),
        ("env.kind", {"env": "api/dev", "kind": "direct"}),
        ("env.breakglass", {"env": "api/dev", "recipient": None}),
        ("user.enable", {"user": "bob"}),
        ("principal.enable", {"principal": "bob-laptop", "vouch": None}),
        ("cap.set", {"principal": "bob-laptop", "cap": None, "vouch": None}),
        ("flag.remove", {"flag": "auditor", "subject": BOB}),
        ("oidc_rule.remove", {"rule": "none"}),
    ):
        refused(w, "no_change", by, type, data)


def test_what_does_not_exist(w: World) -> None:
    by = "alice-laptop"
    for rule, type, data in (
        ("scope", "env.create", {"env": "nope/dev", "kind": "direct", "protected": False}),
        ("scope", "env.protect", {"env": "api/nope"}),
        ("scope", "project.archive", {"project": "nope"}),
        ("subject", "group.delete", {"group": "nope"}),
        ("subject", "group.member.add", {"group": "nope", "member": BOB}),
        ("subject", "user.disable", {"user": "nope"}),
        ("subject", "principal.disable", {"principal": "nope"}),
        ("subject", "cap.set", {"principal": "nope", "cap": None, "vouch": None}),
        ("subject", "cap.set", {"principal": "ci", "cap": "read", "vouch": None}),
        ("invite", "invite.revoke", {"invite": "nope"}),
        ("subject", "principal.enrol", w.enrol_data("x", "nope")),
        ("subject", "principal.rekey", {**w.request("bob-phone", "carol", label="z"), "vouch": None}),
        ("subject", "principal.enrol", w.enrol_data("y", None, cap="read")),
    ):
        refused(w, rule, by, type, data)
    with pytest.raises(IntegrityError):
        apply(None, statement.parse(w.lines[1]))
    refused(w, "prev", by, "group.create", {"group": "g"}, prev="0" * 64)


def test_apply_is_pure(w: World) -> None:
    """A new state leaves the old one as it was, and copies share nothing that changes."""
    w.bind(BOB, "read", DEV)
    s = w.state
    before = (s.seq, s.bindings, dict(s.readers("api/dev")), s.role("bob-laptop", "api/dev"), dict(s.groups))
    a = apply(s, statement.parse(w.line("alice-laptop", "binding.remove", {"scope": DEV, "subject": BOB})))
    b = apply(
        s, statement.parse(w.line("alice-laptop", "binding.set", {"scope": DEV, "subject": BOB, "role": "admin"}))
    )
    c = apply(
        s,
        statement.parse(
            w.line("alice-laptop", "binding.set", {"scope": DEV, "subject": {"user": "carol"}, "role": "admin"})
        ),
    )
    assert (s.seq, s.bindings, dict(s.readers("api/dev")), s.role("bob-laptop", "api/dev"), dict(s.groups)) == before
    assert [str(x.role("bob-laptop", "api/dev")) for x in (a, b, c)] == ["none", "admin", "read"]
    with pytest.raises(AttributeError):
        s.anything = 1
    with pytest.raises(TypeError):
        s.users["eve"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        s.readers("api/dev")["eve"] = "x"  # type: ignore[index]


def test_what_people_type(w: World) -> None:
    """Typed names find the latest making, of the right kind."""
    s = w.state
    assert s.principal("bob-laptop").user == "bob" and s.principal("ci").user is None
    assert [s.subject(n).kind for n in ("bob", "ci")] == ["user", "service"]
    assert [str(s.scope(n)) for n in ("acme", "api", "api/dev")] == ["acme", "api", "api/dev"]
    for bad in ("nobody", "api"):
        with pytest.raises(NotFound):
            s.subject(bad)
    for bad in ("bob", "nobody"):
        with pytest.raises(NotFound):
            s.principal(bad)
    w.do("alice-laptop", "principal.disable", {"principal": "bob-laptop"})
    w.enrol("bob-laptop@2", "bob")
    assert w.state.principal("bob-laptop").name == "bob-laptop@2"
    with pytest.raises(FormatError):
        w.state.principal("bob-laptop@2")


def test_a8_a_signature_that_is_not_needed(w: World) -> None:
    """Valid or not, in order or not: one statement has one signature, by the key of `by`."""
    by = "alice-laptop"
    policy = statement.parse(w.line(by, "group.create", {"group": "g"})).policy
    own = w.keys[by].sign(statement.to_sign(policy))
    for other in (w.keys["bob-laptop"].sign(statement.to_sign(policy)), bytes(64), b"\xff" * 64):
        with pytest.raises(IntegrityError) as caught:
            apply(w.state, statement.parse(statement.seal(policy, [own, other])))
        assert caught.value.data["rule"] == "surplus_signature"
    genesis = statement.parse(w.lines[0])
    with pytest.raises(IntegrityError) as caught:
        apply(None, statement.parse(statement.seal(genesis.policy, [genesis.sigs[0], bytes(64)])))
    assert caught.value.data["rule"] == "surplus_signature"
    assert apply(w.state, statement.parse(statement.seal(policy, [own]))).groups["g"] == frozenset()
