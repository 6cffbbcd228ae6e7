"""The pure parts of scenarios S10-S36 and S44-S49, by number; S12 as a table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.policy.world import ACME, API, BOB, DEV, PROD, World, acme, key, recipient, refused
from zopp.errors import FormatError, IntegrityError, NotFound
from zopp.policy import canonical, log, statement
from zopp.policy.decisions import Allow, Deny, decide, effect, oidc_matches, oidc_role
from zopp.policy.roles import Role

CAROL = {"user": "carol"}
CI = {"service": "ci"}


@pytest.fixture
def w() -> World:
    return acme()


def test_s10_default_deny(w: World) -> None:
    for action in ("read", "write", "release", "env.protect"):
        got = decide(w.state, "bob-laptop", action, "api/dev")
        assert got == Deny("role", got.reason, "admin" if "." in action else action.replace("release", "read"))
        assert "bob-laptop" in got.reason and "api/dev" in got.reason
    assert set(w.state.readers("api/dev")) == {"alice-laptop"}
    assert set(w.state.writers("api/dev")) == {"alice-laptop"}


def test_s11_role_ladder(w: World) -> None:
    for role, can in (("read", {"read"}), ("write", {"read", "write"}), ("admin", {"read", "write", "env.protect"})):
        w.bind(BOB, role, DEV)
        for action in ("read", "write", "env.protect"):
            assert isinstance(decide(w.state, "bob-laptop", action, "api/dev"), Allow) == (action in can)


def test_s14_inheritance(w: World) -> None:
    w.bind(BOB, "admin", API)
    w.bind(CAROL, "admin", DEV)
    w.env("api/later", protected=True)
    assert w.state.role("bob-laptop", "api/later") == Role.ADMIN
    refused(w, "authority", "carol-desktop", "env.archive", {"env": "api/dev"})
    refused(w, "authority", "carol-desktop", "env.create", {"env": "api/x", "kind": "direct", "protected": False})
    refused(w, "authority", "carol-desktop", "binding.set", {"role": "read", "scope": API, "subject": BOB})
    w.project("later", "dev")
    assert w.state.role("alice-laptop", "later/dev") == Role.ADMIN
    assert w.state.role("bob-laptop", "later/dev") == Role.NONE


def test_s15_isolation(w: World) -> None:
    w.bind(BOB, "read", API)
    w.bind(CAROL, "write", DEV)
    assert w.state.role("bob-laptop", "web/dev") == Role.NONE
    assert w.state.role("carol-desktop", "api/staging") == w.state.role("carol-desktop", "api/prod") == Role.NONE


def test_s16_highest_wins(w: World) -> None:
    w.bind(BOB, "read", ACME)
    w.bind(BOB, "write", API)
    w.bind(BOB, "admin", DEV)
    assert [str(w.state.role("bob-laptop", s)) for s in ("api/dev", "api/prod", "web/dev")] == [
        "admin",
        "write",
        "read",
    ]


def test_s17_groups(w: World) -> None:
    for group, role in (("one", "read"), ("two", "write")):
        w.do("alice-laptop", "group.create", {"group": group})
        w.bind({"group": group}, role, DEV)
        for member in (BOB, CI):
            w.do("alice-laptop", "group.member.add", {"group": group, "member": member})
    assert w.state.role("bob-laptop", "api/dev") == w.state.role("ci", "api/dev") == Role.WRITE
    w.do("alice-laptop", "group.member.remove", {"group": "two", "member": BOB})
    assert w.state.role("bob-laptop", "api/dev") == Role.READ
    assert w.state.role("ci", "api/dev") == Role.WRITE
    w.unbind({"group": "two"}, DEV)
    assert w.state.role("ci", "api/dev") == Role.READ
    w.do("alice-laptop", "group.delete", {"group": "one"})
    assert w.state.role("ci", "api/dev") == w.state.role("bob-laptop", "api/dev") == Role.NONE
    assert w.state.read_lost_seq("api/dev") == w.state.seq


def test_s18_protected_environment(w: World) -> None:
    w.bind(BOB, "write", API)
    w.bind(CAROL, "write", API)
    w.bind(BOB, "read", PROD)
    w.do("alice-laptop", "env.protect", {"env": "api/prod"})
    assert w.state.role("bob-laptop", "api/prod") == Role.READ
    assert w.state.role("bob-laptop", "api/dev") == Role.WRITE
    assert w.state.role("carol-desktop", "api/prod") == Role.NONE
    why = w.state.explain("bob-laptop", "api/prod")
    assert (str(why.role), str(why.winning.scope), why.winning.via) == ("read", "api/prod", None)  # type: ignore[union-attr]
    assert [(str(p.scope), str(p.role), p.stopped) for p in why.stopped] == [("api", "write", "protected_boundary")]
    # An admin binding from above counts, also through a group.
    w.do("alice-laptop", "group.create", {"group": "ops"})
    w.do("alice-laptop", "group.member.add", {"group": "ops", "member": CAROL})
    w.bind({"group": "ops"}, "admin", API)
    why = w.state.explain("carol-desktop", "api/prod")
    assert why.role == Role.ADMIN and why.winning is not None and why.winning.via == "ops"


def test_s19_unprotected_stays_a_maximum(w: World) -> None:
    w.bind(BOB, "write", API)
    before = w.state
    after = w.bind(BOB, "read", PROD)
    assert effect(before, after) == []
    assert after.role("bob-laptop", "api/prod") == Role.WRITE
    why = after.explain("bob", "api/prod")
    assert [(str(p.scope), str(p.role)) for p in why.counted] == [("api", "write"), ("api/prod", "read")]


def test_s20_protecting(w: World) -> None:
    w.bind(BOB, "write", API)
    refused(w, "authority", "bob-laptop", "env.protect", {"env": "api/prod"})
    before = w.state
    after = w.do("alice-laptop", "env.protect", {"env": "api/prod"})
    lost = [(c.principal, str(c.was), str(c.now)) for c in effect(before, after)]
    assert lost == [("bob-laptop", "write", "none"), ("bob-phone", "write", "none")]
    assert after.read_lost_seq("api/prod") == after.seq and after.read_lost_seq("api/dev") == 0
    refused(w, "authority", "bob-laptop", "env.unprotect", {"env": "api/prod"})
    gained = effect(after, w.do("alice-laptop", "env.unprotect", {"env": "api/prod"}))
    assert [(c.principal, str(c.was), str(c.now)) for c in gained] == [
        ("bob-laptop", "none", "write"),
        ("bob-phone", "none", "write"),
    ]
    assert w.state.read_lost_seq("api/prod") == after.seq


def test_s21_device_cap(w: World) -> None:
    w.do("alice-laptop", "group.create", {"group": "devs"})
    w.do("alice-laptop", "group.member.add", {"group": "devs", "member": BOB})
    w.bind({"group": "devs"}, "write", API)
    w.do("alice-laptop", "cap.set", {"principal": "bob-laptop", "cap": "read", "vouch": None})
    assert str(w.state.role("bob-laptop", "api/dev")) == "read"
    assert str(w.state.role("bob-phone", "api/dev")) == "write"
    got = decide(w.state, "bob-laptop", "write", "api/dev")
    assert isinstance(got, Deny) and got.rule == "capped" and got.missing == "write"
    assert w.state.explain("bob-laptop", "api/dev").reduced == "cap"
    w.do("alice-laptop", "cap.set", {"principal": "bob-laptop", "cap": None, "vouch": None})
    assert str(w.state.role("bob-laptop", "api/dev")) == "write"


def test_s22_a_cap_gives_nothing(w: World) -> None:
    w.do("alice-laptop", "cap.set", {"principal": "bob-laptop", "cap": "admin", "vouch": None})
    assert w.state.role("bob-laptop", "api/dev") == Role.NONE
    w.bind(BOB, "read", DEV)
    assert w.state.role("bob-laptop", "api/dev") == Role.READ


@pytest.mark.parametrize("cap", ["write", "read", "none"])
def test_s23_no_way_round_a_cap(w: World, cap: str) -> None:
    w.enrol("alice-desk", "alice")
    w.do("alice-desk", "cap.set", {"principal": "alice-laptop", "cap": cap, "vouch": None})
    by = "alice-laptop"
    for new in (None, "admin"):
        refused(w, "authority", by, "cap.set", {"principal": "alice-laptop", "cap": new, "vouch": None})
        data = w.vouched("cap.set", {"principal": "alice-laptop", "cap": new}, "alice-laptop")
        refused(w, "authority", by, "cap.set", data)
        # nor does an admin lift it on the device's own word
        w.bind(BOB, "admin", ACME, by="alice-desk")
        refused(w, "A20", "bob-laptop", "cap.set", w.vouched("cap.set", {"principal": "alice-laptop", "cap": new}, by))
        w.unbind(BOB, ACME, by="bob-laptop")
    refused(w, "authority", by, "principal.enrol", w.enrol_data("alice-new", "alice"))
    refused(w, "authority", by, "principal.enrol", w.enrol_data("robot", None))
    rule = {
        "rule": "r",
        "service": "ci",
        "issuer": "https://ci.example.org",
        "audience": "zopp",
        "claims": {"ref": "main", "project_id": "1"},
        "max_ttl": 60,
    }
    refused(w, "authority", by, "oidc_rule.set", rule)
    w.do(by, "principal.disable", {"principal": by})
    with pytest.raises(IntegrityError):
        w.do(by, "principal.enable", {"principal": by, "vouch": None})


def _carol_grants(by: str) -> list[tuple[str, dict[str, Any], str]]:
    return [
        (by, {"role": "read", "scope": scope, "subject": subject}, name)
        for scope, name in ((ACME, "ws"), (API, "api"), (DEV, "dev"))
        for subject in (CAROL, {"group": "devs"}, CI)
    ]


@pytest.mark.parametrize(
    ("role", "scope", "reach"),
    [
        ("read", ACME, ""),
        ("write", ACME, ""),
        ("read", DEV, ""),
        ("write", API, ""),
        ("admin", DEV, "dev"),
        ("admin", API, "api dev"),
        ("admin", ACME, "ws api dev"),
    ],
)
def test_s24_only_admins_grant(w: World, role: str, scope: dict[str, str], reach: str) -> None:
    w.do("alice-laptop", "group.create", {"group": "devs"})
    w.bind(BOB, role, scope)
    for by, data, name in _carol_grants("bob-laptop"):
        if name in reach.split():
            w.do(by, "binding.set", data)
            w.do(by, "binding.remove", {"scope": data["scope"], "subject": data["subject"]})
        else:
            refused(w, "authority", by, "binding.set", data)
            w.do("alice-laptop", "binding.set", data)
            refused(w, "authority", by, "binding.remove", {"scope": data["scope"], "subject": data["subject"]})
            w.do("alice-laptop", "binding.remove", {"scope": data["scope"], "subject": data["subject"]})


def test_s25_everything_that_lets_someone_in_is_a_grant(w: World) -> None:
    w.bind(BOB, "admin", API)
    w.do("alice-laptop", "group.create", {"group": "devs"})
    w.do("alice-laptop", "group.create", {"group": "empty"})
    add = {"group": "devs", "member": CAROL}
    refused(w, "authority", "bob-laptop", "group.member.add", {"group": "empty", "member": CAROL})
    w.bind({"group": "devs"}, "read", API)
    w.do("bob-laptop", "group.member.add", add)
    w.do("bob-laptop", "group.member.remove", add)
    w.bind({"group": "devs"}, "read", {"project": "web"})
    refused(w, "authority", "bob-laptop", "group.member.add", add)
    w.unbind({"group": "devs"}, {"project": "web"})
    w.bind({"group": "devs"}, "read", ACME)
    refused(w, "authority", "bob-laptop", "group.member.add", add)
    w.unbind({"group": "devs"}, ACME)
    # the auditor flag counts as a role on the workspace
    w.do("alice-laptop", "flag.set", {"flag": "auditor", "subject": {"group": "devs"}})
    refused(w, "authority", "bob-laptop", "group.member.add", add)
    refused(w, "authority", "bob-laptop", "principal.enrol", w.enrol_data("bob-new", "bob"))
    refused(w, "authority", "bob-laptop", "cap.set", {"principal": "carol-desktop", "cap": "read", "vouch": None})
    refused(w, "authority", "bob-laptop", "user.add", {"user": "dan", "email_tag": None})
    refused(w, "authority", "bob-laptop", "flag.set", {"flag": "auditor", "subject": BOB})
    refused(w, "authority", "bob-laptop", "server.set", {"origin": "https://x.example", "log_key": key("l").text})
    rule = {
        "rule": "r",
        "service": "ci",
        "issuer": "https://ci.example.org",
        "audience": "zopp",
        "claims": {"ref": "main", "project_id": "1"},
        "max_ttl": 60,
    }
    refused(w, "authority", "bob-laptop", "oidc_rule.set", rule)
    w.bind(CI, "read", API)
    w.do("bob-laptop", "oidc_rule.set", rule)
    # through a group as well: what a rule hands out is all that its service has
    w.bind({"group": "empty"}, "read", {"project": "web"})
    w.do("alice-laptop", "group.member.add", {"group": "empty", "member": CI})
    refused(w, "authority", "bob-laptop", "oidc_rule.set", {**rule, "rule": "s"})
    refused(w, "authority", "bob-laptop", "oidc_rule.remove", {"rule": "r"})


def test_s26_superiors(w: World) -> None:
    w.bind(BOB, "admin", API)
    refused(w, "authority", "bob-laptop", "binding.remove", {"scope": ACME, "subject": {"user": "alice"}})
    before = w.state
    after = w.bind({"user": "alice"}, "read", API, by="bob-laptop")
    after = w.unbind({"user": "alice"}, API, by="bob-laptop")
    assert effect(before, after) == [] and after.role("alice-laptop", "api") == Role.ADMIN


def test_s27_group_roles(w: World) -> None:
    w.do("alice-laptop", "group.create", {"group": "devs"})
    w.bind(BOB, "write", ACME)
    refused(w, "authority", "bob-laptop", "group.delete", {"group": "devs"})
    for scope in (ACME, API, DEV):
        refused(
            w, "authority", "bob-laptop", "binding.set", {"role": "read", "scope": scope, "subject": {"group": "devs"}}
        )
    w.bind(CAROL, "admin", API)
    w.bind({"group": "devs"}, "write", API, by="carol-desktop")
    refused(
        w,
        "authority",
        "carol-desktop",
        "binding.set",
        {"role": "read", "scope": {"project": "web"}, "subject": {"group": "devs"}},
    )


def test_s28_signed_linked_ordered(w: World) -> None:
    data = {"group": "g"}
    by = "alice-laptop"
    refused(w, "signature", by, "group.create", data, signer=key("eve"))
    refused(w, "signature", by, "group.create", data, signer=w.keys["bob-laptop"])
    refused(w, "authority", "bob-laptop", "group.create", data)
    refused(w, "workspace", by, "group.create", data, ws="0" * 64)
    refused(w, "prev", by, "group.create", data, prev=w.state.hash_at(3))
    refused(w, "at", by, "group.create", data, at=w.state.at - 1)
    before = w.state
    line = w.line(by, "group.create", data, seq=w.state.seq + 2)
    from zopp.policy.apply import apply

    with pytest.raises(IntegrityError) as caught:
        apply(before, statement.parse(line))
    assert caught.value.data["rule"] == "seq"
    refused(w, "signer", "nobody", "group.create", data, signer=key("eve"))
    refused(
        w,
        "signer",
        "invite/x",
        "invite.redeem",
        {**w.request("n", "n"), "invite": "x", "claim": None, "email_tag": None},
        signer=key("eve"),
    )
    w.do(by, "principal.disable", {"principal": "bob-phone"})
    refused(w, "signer", "bob-phone", "principal.disable", {"principal": "bob-laptop"})
    w.enrol("old", "bob", signing=False)
    refused(w, "signer", "old", "principal.disable", {"principal": "bob-laptop"})
    # dropped, reordered, repeated lines
    lines = w.lines
    for bad in (
        lines[:4] + lines[5:],
        [*lines[:4], lines[5], lines[4], *lines[6:]],
        [*lines[:5], *lines[4:]],
        lines[1:],
    ):
        with pytest.raises(IntegrityError):
            log.fold(b"".join(x + b"\n" for x in bad))
    assert w.fold() == w.state


def test_s29_always_one_human_admin(w: World) -> None:
    by = "alice-laptop"
    w.bind(CI, "admin", ACME)  # does not count
    w.bind(BOB, "admin", API)  # neither does this
    refused(w, "I5", by, "binding.remove", {"scope": ACME, "subject": {"user": "alice"}})
    refused(w, "I5", "ci", "binding.remove", {"scope": ACME, "subject": {"user": "alice"}})
    refused(w, "I5", by, "binding.set", {"scope": ACME, "subject": {"user": "alice"}, "role": "write"})
    refused(w, "I5", by, "user.disable", {"user": "alice"})
    refused(w, "I5", by, "principal.disable", {"principal": by})
    refused(w, "I5", by, "cap.set", {"principal": by, "cap": "write", "vouch": None})
    keyless = w.request(by, "alice", signing=False, label="fresh")
    refused(w, "I5", by, "principal.rekey", {**keyless, "vouch": None})
    # admin by a group only
    w.do(by, "group.create", {"group": "admins"})
    w.do(by, "group.member.add", {"group": "admins", "member": {"user": "alice"}})
    w.bind({"group": "admins"}, "admin", ACME)
    w.unbind({"user": "alice"}, ACME)
    refused(w, "I5", by, "group.member.remove", {"group": "admins", "member": {"user": "alice"}})
    refused(w, "I5", by, "group.delete", {"group": "admins"})
    refused(w, "I5", by, "binding.remove", {"scope": ACME, "subject": {"group": "admins"}})
    w.do(by, "group.member.add", {"group": "admins", "member": BOB})
    w.do(by, "group.member.remove", {"group": "admins", "member": {"user": "alice"}})
    assert w.state.role(by, "acme") == Role.NONE and w.state.role("bob-phone", "acme") == Role.ADMIN


def test_s30_two_admins_at_once(w: World) -> None:
    w.bind(BOB, "admin", ACME)
    a = w.line("alice-laptop", "binding.remove", {"scope": ACME, "subject": BOB})
    b = w.line("bob-laptop", "binding.remove", {"scope": ACME, "subject": {"user": "alice"}})
    for first, second in ((a, b), (b, a)):
        state = log.extend(w.state, [first])
        with pytest.raises(IntegrityError) as caught:
            log.extend(state, [second])
        assert caught.value.data["rule"] == "seq"
    # and re-signed on the new head it is without authority
    w.do("alice-laptop", "binding.remove", {"scope": ACME, "subject": BOB})
    refused(w, "authority", "bob-laptop", "binding.remove", {"scope": ACME, "subject": {"user": "alice"}})


def test_s31_creator_has_no_bypass(w: World) -> None:
    w.bind(BOB, "admin", ACME)
    w.unbind({"user": "alice"}, ACME)
    assert w.state.role("alice-laptop", "api/dev") == Role.NONE
    refused(w, "authority", "alice-laptop", "group.create", {"group": "g"})


def test_s32_service_life(w: World) -> None:
    refused(w, "authority", "bob-laptop", "principal.enrol", w.enrol_data("robot", None))
    assert w.state.role("ci", "api/dev") == Role.NONE
    w.bind(CI, "read", DEV)
    assert w.state.readers("api/dev")["ci"] == recipient("ci")
    w.bind(CI, "write", DEV)
    assert "ci" in w.state.writers("api/dev")
    w.unbind(CI, DEV)
    assert "ci" not in w.state.readers("api/dev")
    w.enrol("mute", None, signing=False)
    w.bind({"service": "mute"}, "admin", ACME)
    assert w.state.role("mute", "api/dev") == Role.READ
    got = decide(w.state, "mute", "write", "api/dev")
    assert isinstance(got, Deny) and got.rule == "keyless"
    assert w.state.explain("mute", "api/dev").reduced == "keyless"
    assert "mute" in w.state.readers("api/dev")
    w.do("alice-laptop", "env.kind", {"env": "api/dev", "kind": "brokered"})
    assert "mute" not in w.state.readers("api/dev")
    assert w.state.left_out("api/dev") == {"mute": "has no signing key"}


def test_s33_two_workspaces(w: World) -> None:
    other = World("olga", "olga-laptop", ws="other")
    data = w.enrol_data("visitor", None)
    refused_by = pytest.raises(IntegrityError)
    with refused_by as caught:
        other.do("olga-laptop", "principal.enrol", data)
    assert caught.value.data["rule"] == "request"
    other.enrol("ci", None, by="olga-laptop")
    w.bind(CI, "read", DEV)
    assert other.state.role("ci", "other") == Role.NONE
    assert w.state.role("ci", "other") == Role.NONE


def test_s34_invites_stay_human(w: World) -> None:
    w.bind(CI, "admin", ACME)
    make = {"invite": "i1", "key": key("i1").text, "email_tag": None, "scope": DEV, "role": "read", "not_after": 5000}
    refused(w, "not_human", "ci", "invite.create", make)
    w.do("alice-laptop", "invite.create", make)
    refused(w, "not_human", "ci", "invite.revoke", {"invite": "i1"})
    w.do("ci", "group.create", {"group": "made-by-ci"})


def test_s36_no_ghosts(w: World) -> None:
    by = "alice-laptop"
    w.bind(BOB, "write", {"env": "api/staging"})
    w.do(by, "env.protect", {"env": "api/staging"})
    w.do(by, "env.archive", {"env": "api/staging"})
    assert w.state.read_lost_seq("api/staging") == w.state.seq
    with pytest.raises(NotFound):
        w.state.scope("api/staging")
    fresh = {"kind": "direct", "protected": False}
    refused(w, "name", by, "env.create", {"env": "api/staging", **fresh})
    refused(w, "name", by, "env.create", {"env": "api/staging@3", **fresh})
    assert w.state.next_name("staging", "api") == "api/staging@2"
    w.do(by, "env.create", {"env": "api/staging@2", **fresh})
    assert str(w.state.scope("api/staging")) == "api/staging@2"
    assert w.state.role("bob-laptop", "api/staging@2") == Role.NONE
    assert not w.state.envs["api/staging@2"].protected
    refused(w, "scope", by, "binding.set", {"role": "read", "subject": BOB, "scope": {"env": "api/staging"}})
    refused(w, "name", by, "env.create", {"env": "api/staging@3", **fresh})
    # groups, projects, people, principals
    w.do(by, "group.create", {"group": "devs"})
    w.do(by, "group.member.add", {"group": "devs", "member": BOB})
    w.bind({"group": "devs"}, "write", API)
    w.do(by, "flag.set", {"flag": "auditor", "subject": {"group": "devs"}})
    w.do(by, "group.delete", {"group": "devs"})
    refused(w, "name", by, "group.create", {"group": "devs"})
    w.do(by, "group.create", {"group": "devs@2"})
    assert w.state.groups["devs@2"] == frozenset() and w.state.role("bob-laptop", "api/dev") == Role.NONE
    assert w.state.auditors == frozenset()
    w.bind(BOB, "admin", API)
    w.do(by, "project.archive", {"project": "api"})
    w.do(by, "project.create", {"project": "api@2"})
    w.env("api@2/dev")
    assert w.state.role("bob-laptop", "api@2/dev") == Role.NONE
    assert str(w.state.scope("api/dev")) == "api@2/dev"
    w.do(by, "cap.set", {"principal": "bob-phone", "cap": "read", "vouch": None})
    w.do(by, "principal.disable", {"principal": "bob-phone"})
    w.enrol("bob-phone@2", "bob")
    assert w.state.principals["bob-phone@2"].cap is None
    refused(w, "name", by, "principal.enable", {"principal": "bob-phone", "vouch": None})
    w.do(by, "user.disable", {"user": "carol"})
    w.do(by, "user.add", {"user": "carol@2", "email_tag": None})
    refused(w, "name", by, "user.enable", {"user": "carol"})


@pytest.mark.parametrize("name", ["x@2", "acme", "bob", "ci", "bob-laptop", "api"])
def test_s36_names_that_are_taken_or_numbered(w: World, name: str) -> None:
    for type, data in (
        ("group.create", {"group": name}),
        ("project.create", {"project": name}),
        ("user.add", {"user": name, "email_tag": None}),
        ("principal.enrol", w.enrol_data(name, "bob", label="fresh-" + name)),
    ):
        refused(w, "name", "alice-laptop", type, data)


@pytest.mark.parametrize("name", ["Bob", "a/b", "a b", "", "..", "a@b"])
def test_s36_names_with_no_form(w: World, name: str) -> None:
    with pytest.raises(FormatError):
        w.do("alice-laptop", "group.create", {"group": name})


def test_s41_oidc_rule(w: World) -> None:
    claims = {"ref": "refs/heads/main", "repository_id": "7"}
    rule = {
        "rule": "deploy",
        "service": "ci",
        "issuer": "https://ci.example.org",
        "audience": "zopp",
        "claims": claims,
        "max_ttl": 600,
    }
    w.bind(CI, "read", DEV)
    w.bind(CI, "read", PROD)
    w.do("alice-laptop", "oidc_rule.set", rule)
    made = w.state.oidc_rules["deploy"]
    good = {**claims, "sub": "x"}
    assert oidc_matches(made, "https://ci.example.org", good)
    for bad in ({**good, "ref": "refs/heads/feature"}, {**good, "repository_id": 7}, {"ref": "refs/heads/main"}, {}):
        assert not oidc_matches(made, "https://ci.example.org", bad)
    assert not oidc_matches(made, "https://evil.example.org", good)
    assert oidc_role(w.state, "deploy", "api/dev") == oidc_role(w.state, "deploy", "api/prod") == Role.READ
    # A25: a protected environment also needs `environment` or `job_workflow_ref`
    w.do("alice-laptop", "env.protect", {"env": "api/prod"})
    assert oidc_role(w.state, "deploy", "api/prod") == Role.NONE
    assert oidc_role(w.state, "deploy", "api/dev") == Role.READ
    for extra in ("environment", "job_workflow_ref", "ci_config_ref_uri"):
        w.do("alice-laptop", "oidc_rule.set", {**rule, "claims": {**claims, extra: "production"}})
        assert oidc_role(w.state, "deploy", "api/prod") == Role.READ
        assert not oidc_matches(w.state.oidc_rules["deploy"], "https://ci.example.org", good)
    w.do("alice-laptop", "oidc_rule.remove", {"rule": "deploy"})
    assert oidc_role(w.state, "deploy", "api/dev") == Role.NONE


def test_s45_offboard_leaves_nothing(w: World) -> None:
    w.bind(CI, "admin", ACME)
    w.bind(CI, "write", API)
    w.bind(CI, "read", DEV)
    for scope in (ACME, API, DEV):
        w.unbind(CI, scope)
    w.bind(CI, "read", DEV)  # S48: no ghost rights
    assert w.state.role("ci", "api/dev") == Role.READ and w.state.role("ci", "api") == Role.NONE


def test_s39_new_device(w: World) -> None:
    w.bind(BOB, "write", DEV)
    refused(w, "authority", "bob-laptop", "principal.enrol", w.enrol_data("bob-desk", "bob"))
    data = w.enrol_data("bob-desk", "bob", cap="read")
    w.do("alice-laptop", "principal.enrol", data)
    assert w.state.role("bob-desk", "api/dev") == Role.READ
    refused(w, "used", "alice-laptop", "principal.enrol", data)
    w.do("alice-laptop", "principal.disable", {"principal": "bob-desk"})
    refused(w, "used", "alice-laptop", "principal.enrol", data)
    late = w.enrol_data("bob-tab", "bob", not_after=w.at + 5)
    refused(w, "expired", "alice-laptop", "principal.enrol", late, at=w.at + 6)
    w.do("alice-laptop", "principal.enrol", late, at=w.at + 5)
    reused = w.enrol_data("bob-tab2", "bob")
    reused["request"] = {**reused["request"], "id": late["request"]["id"]}
    from zopp.policy import requests

    raw = canonical.encode(reused["request"])
    reused["proof"] = canonical.b64(key("bob-tab2").sign(requests.to_sign(raw)))
    refused(w, "used", "alice-laptop", "principal.enrol", reused)
