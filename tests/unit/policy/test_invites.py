"""A21, S37, S38: the life of an invite, and what kills it."""

from __future__ import annotations

import pytest

from tests.unit.policy.world import ACME, API, BOB, World, acme, invite_data, key, redeem_data, refused
from zopp.policy.roles import Role


@pytest.fixture
def w() -> World:
    return acme()


# --- A21 and the life of invites (S37, S38)


def test_a21_invite_lets_a_person_in(w: World) -> None:
    w.do("alice-laptop", "invite.create", invite_data("i1", "write", tag="a" * 64))
    by = "invite/i1"
    refused(w, "email", by, "invite.redeem", redeem_data(w, "i1", "dan-1", "dan"), signer=key("i1"))
    refused(w, "email", by, "invite.redeem", redeem_data(w, "i1", "dan-1", "dan", tag="b" * 64), signer=key("i1"))
    refused(w, "signature", by, "invite.redeem", redeem_data(w, "i1", "dan-1", "dan", tag="a" * 64), signer=key("eve"))
    refused(w, "name", by, "invite.redeem", redeem_data(w, "i1", "dan-1", "bob", tag="a" * 64), signer=key("i1"))  # S38
    good = redeem_data(w, "i1", "dan-1", "dan", tag="a" * 64)
    refused(w, "expired", by, "invite.redeem", good, signer=key("i1"), at=5001)
    w.do(by, "invite.redeem", good, signer=key("i1"))
    assert w.state.role("dan-1", "api/dev") == Role.WRITE
    assert w.state.users["dan"].email_tag == "a" * 64 and w.state.user_by_tag("a" * 64) == "dan"
    again = redeem_data(w, "i1", "eve-1", "eve", tag="a" * 64)
    refused(w, "invite_used", by, "invite.redeem", again, signer=key("i1"))
    assert w.fold() == w.state


def test_a21_disabling_the_device_kills_its_invites(w: World) -> None:
    w.enrol("alice-desk", "alice")
    w.do("alice-desk", "invite.create", invite_data("i1", "read"))
    w.do("alice-laptop", "invite.create", invite_data("i2", "read"))
    w.do("alice-laptop", "principal.disable", {"principal": "alice-desk"})
    refused(w, "invite_dead", "invite/i1", "invite.redeem", redeem_data(w, "i1", "dan-1", "dan"), signer=key("i1"))
    w.do("alice-laptop", "principal.enable", {"principal": "alice-desk", "vouch": None})
    refused(w, "invite_dead", "invite/i1", "invite.redeem", redeem_data(w, "i1", "dan-1", "dan"), signer=key("i1"))
    w.do("invite/i2", "invite.redeem", redeem_data(w, "i2", "dan-1", "dan"), signer=key("i2"))


@pytest.mark.parametrize("how", ["demoted", "capped", "user", "rekeyed", "revoked"])
def test_a21_judged_by_the_creators_rights_of_now(w: World, how: str) -> None:
    w.bind(BOB, "admin", ACME)
    w.do("bob-laptop", "invite.create", invite_data("i1", "read"))
    rule = "authority"
    if how == "demoted":
        w.unbind(BOB, ACME)
    elif how == "capped":
        w.do("alice-laptop", "cap.set", {"principal": "bob-laptop", "cap": "write", "vouch": None})
    elif how == "user":
        w.do("alice-laptop", "user.disable", {"user": "bob"})
        rule = "invite_dead"
    elif how == "rekeyed":
        data = {**w.request("bob-laptop", "bob", label="bob2")}
        w.do("bob-phone", "principal.rekey", {**data, "vouch": None})
        rule = "invite_dead"
    else:
        w.do("alice-laptop", "invite.revoke", {"invite": "i1"})
        refused(w, "invite_revoked", "alice-laptop", "invite.revoke", {"invite": "i1"})
        rule = "invite_revoked"
    refused(w, rule, "invite/i1", "invite.redeem", redeem_data(w, "i1", "dan-1", "dan"), signer=key("i1"))


def test_a20_invite_that_confers_admin_is_countersigned(w: World) -> None:
    w.do("alice-laptop", "invite.create", invite_data("i1", "admin", scope=ACME))
    refused(w, "countersign", "invite/i1", "invite.redeem", redeem_data(w, "i1", "dan-1", "dan"), signer=key("i1"))
    refused(w, "claim", "alice-laptop", "invite.redeem", redeem_data(w, "i1", "dan-1", "dan"))
    bad = redeem_data(w, "i1", "dan-1", "dan", countersigned=True, signer=key("eve"))
    refused(w, "signature", "alice-laptop", "invite.redeem", bad)
    good = redeem_data(w, "i1", "dan-1", "dan", countersigned=True)
    refused(w, "authority", "bob-laptop", "invite.redeem", good)
    w.bind({"service": "ci"}, "admin", ACME)
    refused(w, "not_human", "ci", "invite.redeem", good)
    refused(w, "claim", "invite/i1", "invite.redeem", good, signer=key("i1"))
    w.do("alice-laptop", "invite.redeem", good)
    assert w.state.role("dan-1", "acme") == Role.ADMIN


def test_invite_for_what_is_gone_or_for_a_service(w: World) -> None:
    w.do("alice-laptop", "invite.create", invite_data("i1", "read"))
    data = redeem_data(w, "i1", "dan-1", "dan")
    service = {**w.request("dan-1", None), "invite": "i1", "email_tag": None, "claim": None}
    refused(w, "request", "invite/i1", "invite.redeem", service, signer=key("i1"))
    w.do("alice-laptop", "env.archive", {"env": "api/dev"})
    refused(w, "scope", "invite/i1", "invite.redeem", data, signer=key("i1"))
    refused(w, "name", "alice-laptop", "invite.create", invite_data("i1", "read", scope=API))
    w.do("alice-laptop", "invite.create", invite_data("i2", "none", scope=ACME))
    w.do("invite/i2", "invite.redeem", redeem_data(w, "i2", "dan-1", "dan"), signer=key("i2"))
    assert w.state.role("dan-1", "acme") == Role.NONE
