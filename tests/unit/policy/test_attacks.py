"""Rows of attacks.md that are pure: A3, A4, A6 (part), A8-A11, A20, A21, A25 (part), and keys that are used once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.policy.world import (
    ACME,
    API,
    BOB,
    DEV,
    RULE,
    World,
    acme,
    age_text,
    invite_data,
    key,
    recipient,
    redeem_data,
    refused,
    ssh_recipient,
)
from zopp.errors import FormatError, IntegrityError
from zopp.keys import agefile, signing
from zopp.policy import canonical, fields, log, requests, statement
from zopp.policy.apply import apply
from zopp.policy.decisions import effect
from zopp.policy.roles import Role
from zopp.policy.statement import TYPES

P = 2**255 - 19
ALICE = {"user": "alice"}


@pytest.fixture
def w() -> World:
    return acme()


# --- A3: recipients


@pytest.mark.parametrize(
    "u",
    [
        0,
        1,
        P - 1,
        P,
        P + 1,
        2**255 - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        5 + 2**255,
    ],
)
def test_a3_points_that_do_not_contribute_or_have_two_spellings(u: int) -> None:
    with pytest.raises(FormatError):
        agefile.canonical_recipient(age_text(u.to_bytes(32, "little")))


def problems(text: str) -> list[tuple[str, str]]:
    """What a statement's validator has against a recipient."""
    found: list[tuple[str, str]] = []
    fields.RECIPIENT.check(text, "recipient", found)
    return found


def test_a3_spellings() -> None:
    good = recipient("x")
    assert problems(good) == []
    for bad in (
        good.upper(),
        good.title(),
        good[:-1],
        good + "q",
        good[:-1] + ("q" if good[-1] != "q" else "p"),
        " " + good,
        good + "\n",
        "age1",
        "",
        "age1pq1xxxx",
        ssh_recipient("x") + " comment",
        ssh_recipient("x") + "\n",
        ssh_recipient("x").replace("ssh-ed25519 ", "ssh-ed25519  "),
        "ssh-rsa AAAA",
    ):
        assert problems(bad) != []
    assert problems(ssh_recipient("x")) == []


@pytest.mark.parametrize(
    "y",
    [
        0,
        1,
        P - 1,
        P,
        P + 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
        1 + 2**255,
    ],
)
def test_a8_keys_of_small_order_or_with_two_spellings(y: int) -> None:
    public = y.to_bytes(32, "little")
    with pytest.raises(FormatError):
        signing.check_public(public)
    with pytest.raises(FormatError):
        statement.draft(
            "server.set",
            {"origin": "https://x.example", "log_key": canonical.b64(public)},
            ws="0" * 64,
            seq=1,
            prev="0" * 64,
            at=1,
            by="a",
        )


def test_a3_keys_are_unique_for_ever(w: World) -> None:
    """Across people, services, invites, server and log keys, disabled and replaced ones included."""
    by = "alice-laptop"
    w.do(by, "env.serverkey", {"env": "api/dev", "recipient": recipient("srv")})
    w.do(by, "env.breakglass", {"env": "api/dev", "recipient": recipient("bg")})
    w.do(by, "principal.disable", {"principal": "bob-phone"})
    w.do(by, "principal.rekey", {**w.request("carol-desktop", "carol", label="carol2"), "vouch": None})
    w.do(by, "server.set", {"origin": "https://zopp.example.org", "log_key": key("log").text})
    w.do(
        by,
        "invite.create",
        {"invite": "i1", "key": key("i1").text, "email_tag": None, "scope": DEV, "role": "read", "not_after": 9000},
    )
    for label in ("bob-phone", "carol-desktop", "alice-laptop", "ci", "log", "i1"):
        data = w.enrol_data("fresh", "bob", label=label, recip=recipient("fresh"))
        refused(w, "key_reuse", by, "principal.enrol", data)
    for label in ("bob-phone", "carol-desktop", "carol2", "alice-laptop", "srv", "bg"):
        refused(w, "key_reuse", by, "principal.enrol", w.enrol_data("fresh", "bob", recip=recipient(label)))
        if label != "bg":
            refused(w, "key_reuse", by, "env.breakglass", {"env": "api/prod", "recipient": recipient(label)})
        refused(w, "key_reuse", by, "env.serverkey", {"env": "api/prod", "recipient": recipient(label)})
    w.do(by, "env.breakglass", {"env": "api/prod", "recipient": recipient("bg")})
    refused(w, "key_reuse", by, "server.set", {"origin": "https://b.example", "log_key": key("ci").text})
    # a signing key under the guise of an SSH recipient, and the other way round
    refused(w, "key_reuse", by, "principal.enrol", w.enrol_data("fresh", "bob", recip=ssh_recipient("ci")))
    refused(w, "key_reuse", by, "principal.enrol", w.enrol_data("fresh", "bob", recip=ssh_recipient("fresh")))
    w.do(by, "principal.enrol", w.enrol_data("adopted", None, signing=False, recip=ssh_recipient("adopted")))
    refused(w, "key_reuse", by, "principal.enrol", w.enrol_data("fresh", "bob", label="adopted", recip=recipient("f")))
    # back to an own old key
    refused(w, "key_reuse", by, "principal.rekey", {**w.request("carol-desktop", "carol"), "vouch": None})


# --- A4, A6, A8, A9


def test_a4_lines_are_split_on_newline_only(w: World) -> None:
    for sep in ("\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"):
        data = w.data.replace(b"\n", sep.encode(), 1)
        with pytest.raises((FormatError, IntegrityError)):
            log.fold(data)
    for data in (b"", w.data[:-1], w.data + b"\n", b"\n" + w.data, w.data.replace(b"\n", b"\n\n", 1)):
        with pytest.raises(FormatError):
            log.fold(data)


def test_a6_other_genesis_same_names(w: World) -> None:
    fake = World()  # same names, same keys even, other time
    other = World(at=1001)
    assert fake.state.ws == w.state.ws != other.state.ws
    with pytest.raises(IntegrityError) as caught:
        log.fold(other.data, genesis=w.state.ws)
    assert caught.value.data["rule"] == "genesis"
    with pytest.raises(IntegrityError):
        log.fold(b"".join(x + b"\n" for x in [other.lines[0], *w.lines[1:]]))


def test_a8_the_earliest_fault_is_named(w: World) -> None:
    """A forged line that leads the fold astray is named, not what follows from it; nothing is answered in part."""
    lines = list(w.lines)
    forged = w.line("alice-laptop", "group.create", {"group": "g"}, signer=key("eve"))
    with pytest.raises(IntegrityError) as caught:
        log.fold(b"".join(x + b"\n" for x in [*lines, forged, forged]))
    assert caught.value.data["rule"] == "signature" and caught.value.data["seq"] == len(lines)


def test_a8_threads_agree(w: World) -> None:
    for n in range(30):
        w.do("alice-laptop", "group.create", {"group": f"g{n}"})
    for threads in (1, 2, 4):
        assert log.fold(w.data, threads=threads) == w.state
    bad = bytearray(w.data)
    at = w.data.rindex(b'"sigs":["') + 9
    bad[at] = ord("A") if bad[at] != ord("A") else ord("B")
    for threads in (1, 2, 4):
        with pytest.raises(IntegrityError) as caught:
            log.fold(bytes(bad), threads=threads)
        assert caught.value.data["seq"] == w.state.seq


def test_a9_expiry_is_judged_by_the_statement(w: World) -> None:
    data = w.enrol_data("bob-desk", "bob", not_after=w.at + 10)
    refused(w, "expired", "alice-laptop", "principal.enrol", data, at=w.at + 11)
    first = w.at
    w.do("alice-laptop", "group.create", {"group": "later"}, at=first + 20)
    refused(w, "at", "alice-laptop", "principal.enrol", data, at=first + 10)
    refused(w, "expired", "alice-laptop", "principal.enrol", data)
    assert w.fold() == w.state


# --- A10


def test_a10_names_do_not_collide(w: World) -> None:
    by = "alice-laptop"
    for name in ("acme", "bob", "ci", "api"):
        refused(w, "name", by, "project.create", {"project": name})
        refused(w, "name", by, "group.create", {"group": name})
        refused(w, "name", by, "user.add", {"user": name, "email_tag": None})
    refused(w, "name", by, "group.create", {"group": "staging@2"})
    with pytest.raises(FormatError):
        w.state.scope("api@2/dev")
    with pytest.raises(FormatError):
        w.state.scope("Api/dev")
    # typed: the same word of another kind is not found
    for subject in (
        {"group": "bob"},
        {"service": "bob"},
        {"user": "ci"},
        {"service": "bob-laptop"},
        {"user": "bob-laptop"},
    ):
        refused(w, "subject", by, "binding.set", {"role": "read", "scope": API, "subject": subject})
    for scope in ({"project": "acme"}, {"workspace": "api"}, {"env": "api/api"}, {"project": "bob"}):
        refused(w, "scope", by, "binding.set", {"role": "read", "scope": scope, "subject": BOB})
    # an environment may be called like anything: it lives within its project
    w.env("api/bob")
    assert w.state.role("bob-laptop", "api/bob") == Role.NONE


def test_a10_a_key_in_two_workspaces(w: World) -> None:
    """Neither a statement nor a request of one workspace passes in the other."""
    other = World(ws="beta", at=999)
    line = w.line("alice-laptop", "group.create", {"group": "g"}, seq=1, prev=other.state.head)
    with pytest.raises(IntegrityError) as caught:
        apply(other.state, statement.parse(line))
    assert caught.value.data["rule"] == "workspace"
    refused(w, "request", "alice-laptop", "principal.enrol", w.enrol_data("x", "bob", ws=other.state.ws))


# --- A11


def test_a11_effect_shows_a_changed_rebase(w: World) -> None:
    by = "alice-laptop"
    w.do(by, "group.create", {"group": "g"})
    pending = ("binding.set", {"role": "write", "scope": {"env": "api/prod"}, "subject": {"group": "g"}})
    base = w.state
    planned = effect(base, log.extend(base, [w.line(by, *pending)]))
    w.do(by, "group.member.add", {"group": "g", "member": BOB})
    now = effect(w.state, log.extend(w.state, [w.line(by, *pending)]))
    assert planned == [] != now
    assert {c.principal for c in now} == {"bob-laptop", "bob-phone"}


# --- A20


def two_admins() -> World:
    w = acme()
    w.bind(BOB, "admin", API)  # admin anywhere counts
    return w


def bob_cases(w: World) -> dict[str, tuple[str, dict[str, Any]]]:
    """What a single admin key could do to gain a device of Bob's."""
    fresh = w.enrol_data("bob-new", "bob")
    return {
        "enrol": ("principal.enrol", fresh),
        "rekey": ("principal.rekey", {**w.request("bob-phone", "bob", label="evil"), "vouch": None}),
        "enable": ("principal.enable", {"principal": "bob-old", "vouch": None}),
        "lift": ("cap.set", {"principal": "bob-capped", "cap": None, "vouch": None}),
    }


def a20_world() -> World:
    w = acme()
    w.enrol("bob-old", "bob")
    w.do("alice-laptop", "principal.disable", {"principal": "bob-old"})
    w.enrol("bob-capped", "bob", cap="read")
    w.bind(BOB, "admin", API)
    return w


@pytest.mark.parametrize("case", ["enrol", "rekey", "enable", "lift"])
def test_a20_one_admin_alone_gains_no_device_of_a_colleague(case: str) -> None:
    w = a20_world()
    type, data = bob_cases(w)[case]
    refused(w, "A20", "alice-laptop", type, data)
    # vouches that do not count: somebody else's device, a disabled one, a forged one, an expired one, for other data
    refused(w, "A20", "alice-laptop", type, w.vouched(type, data, "alice-laptop"))
    refused(w, "A20", "alice-laptop", type, w.vouched(type, data, "bob-old"))
    forged = w.vouched(type, data, "bob-laptop")
    forged["vouch"] = {**forged["vouch"], "sig": canonical.b64(key("eve").sign(b"x"))}
    refused(w, "signature", "alice-laptop", type, forged)
    refused(w, "expired", "alice-laptop", type, w.vouched(type, data, "bob-laptop", not_after=w.at - 1))
    for other_type, other in bob_cases(w).values():
        if other != data:
            moved = {**data, "vouch": w.vouched(other_type, other, "bob-laptop")["vouch"]}
            refused(w, "signature", "alice-laptop", type, moved)
    later = w.vouched(type, data, "bob-laptop")
    later["vouch"] = {**later["vouch"], "not_after": later["vouch"]["not_after"] + 1}
    refused(w, "signature", "alice-laptop", type, later)
    # with Bob's own word it passes
    good = w.vouched(type, data, "bob-laptop")
    w.do("alice-laptop", type, good)
    assert w.fold() == w.state


def test_a20_a_vouch_is_used_once() -> None:
    w = a20_world()
    data = w.vouched("cap.set", {"principal": "bob-capped", "cap": None}, "bob-laptop")
    w.do("alice-laptop", "cap.set", data)
    w.do("alice-laptop", "cap.set", {"principal": "bob-capped", "cap": "read", "vouch": None})
    refused(w, "used", "alice-laptop", "cap.set", data)


def test_a20_own_device_may_sign() -> None:
    w = acme()
    w.enrol("alice-desk", "alice")  # signed by alice-laptop, a device of hers
    w.bind(BOB, "admin", ACME)
    w.enrol("bob-desk", "bob", by="bob-phone")
    refused(w, "A20", "bob-phone", "principal.enrol", w.enrol_data("alice-x", "alice"))


def test_a20_lost_every_device_is_three_visible_statements() -> None:
    w = acme()
    w.bind(BOB, "admin", API)
    for device in ("bob-laptop", "bob-phone"):
        w.do("alice-laptop", "principal.disable", {"principal": device})
    refused(w, "A20", "alice-laptop", "principal.enrol", w.enrol_data("bob-new", "bob"))
    w.unbind(BOB, API)
    w.enrol("bob-new", "bob")
    w.bind(BOB, "admin", API)
    assert w.state.role("bob-new", "api") == Role.ADMIN


def test_a20_enabling_a_user_who_is_bound_as_admin() -> None:
    w = acme()
    w.bind(BOB, "admin", API)
    w.do("alice-laptop", "user.disable", {"user": "bob"})
    refused(w, "A20", "alice-laptop", "user.enable", {"user": "bob"})
    refused(w, "subject", "alice-laptop", "principal.enrol", w.enrol_data("bob-new", "bob"))
    w.unbind(BOB, API)
    w.do("alice-laptop", "user.enable", {"user": "bob"})
    assert w.state.role("bob-laptop", "api") == Role.NONE


def admin_keys(w: World) -> set[tuple[str, bytes]]:
    s = w.state
    return {
        (p.name, p.key)
        for p in s.principals.values()
        if p.key is not None and any(s.role(p.name, x) == Role.ADMIN for x in ("acme", *s.projects, *s.envs))
    }


@pytest.mark.parametrize("type", [t for t in TYPES if t != "genesis"])
def test_a20_no_statement_hides_a_new_admin_identity(type: str) -> None:
    """For every type: what Alice's key alone can do adds no key that is admin anywhere without a Change that names it,
    and never one under a colleague who is admin already."""
    w = a20_world()
    by = "alice-laptop"
    w.do(by, "group.create", {"group": "g"})
    w.bind({"group": "g"}, "admin", {"env": "web/dev"})
    w.bind({"service": "ci"}, "admin", DEV)
    w.do(by, "user.add", {"user": "dan", "email_tag": None})
    w.do(by, "user.disable", {"user": "dan"})
    w.do(by, "oidc_rule.set", RULE)
    w.do(by, "flag.set", {"flag": "auditor", "subject": BOB})
    w.do(by, "env.protect", {"env": "api/prod"})
    w.do(by, "invite.create", invite_data("i0", "admin"))
    w.do(by, "principal.disable", {"principal": "carol-desktop"})
    tries: dict[str, list[dict[str, Any]]] = {
        "server.set": [{"origin": "https://x.example", "log_key": key("log").text}],
        "user.add": [{"user": "mallory", "email_tag": None}],
        "user.disable": [{"user": "bob"}],
        "user.enable": [{"user": "dan"}],
        "principal.enrol": [w.enrol_data("evil-1", u) for u in ("alice", "bob", "carol", None)],
        "principal.rekey": [
            {**w.request(n, u, label="evil"), "vouch": None}
            for n, u in (("bob-phone", "bob"), ("ci", None), ("alice-laptop", "alice"))
        ],
        "principal.disable": [{"principal": "bob-laptop"}],
        "principal.enable": [{"principal": n, "vouch": None} for n in ("bob-old", "carol-desktop")],
        "group.create": [{"group": "h"}],
        "group.delete": [{"group": "g"}],
        "group.member.add": [{"group": "g", "member": m} for m in (BOB, {"user": "carol"}, {"service": "ci"})],
        "group.member.remove": [{"group": "g", "member": BOB}],
        "binding.set": [
            {"role": "admin", "scope": s, "subject": x}
            for s in (ACME, API)
            for x in (BOB, {"group": "g"}, {"service": "ci"})
        ],
        "binding.remove": [{"scope": API, "subject": BOB}],
        "cap.set": [{"principal": n, "cap": "write", "vouch": None} for n in ("bob-capped", "carol-desktop")],
        "flag.set": [{"flag": "auditor", "subject": {"service": "ci"}}],
        "flag.remove": [{"flag": "auditor", "subject": BOB}],
        "project.create": [{"project": "new"}],
        "project.archive": [{"project": "web"}],
        "env.create": [{"env": "api/new", "kind": "direct", "protected": True}],
        "env.archive": [{"env": "api/dev"}],
        "env.kind": [{"env": "api/dev", "kind": "brokered"}],
        "env.protect": [{"env": "api/dev"}],
        "env.unprotect": [{"env": "api/prod"}],
        "env.serverkey": [{"env": "api/dev", "recipient": recipient("srv")}],
        "env.breakglass": [{"env": "api/dev", "recipient": recipient("bg")}],
        "invite.create": [invite_data("i1", "admin")],
        "invite.redeem": [redeem_data(w, "i0", "mallory-1", "mallory", countersigned=True)],
        "invite.revoke": [{"invite": "i0"}],
        "oidc_rule.set": [{**RULE, "rule": "other"}],
        "oidc_rule.remove": [{"rule": "deploy"}],
    }
    colleagues = {"bob"}
    passed = 0
    for data in tries[type]:
        before, had = w.state, admin_keys(w)
        try:
            state = apply(before, statement.parse(w.line(by, type, data)))
        except IntegrityError as exc:
            if exc.data["rule"] not in ("A20", "no_change"):
                raise
            continue
        passed += 1
        w2 = World.__new__(World)
        w2.state = state
        shown = {c.principal for c in effect(before, state) if c.now == Role.ADMIN}
        for name, _ in admin_keys(w2) - had:
            assert name in shown, "a new admin key that no Change names"
            p = state.principals[name]
            if p.user in colleagues:
                # only raising a device that was Bob's all along, never a key that Alice could have made
                assert before.principals.get(name) == p and p.enabled
    assert passed or type in ("group.member.remove",)


def test_request_files() -> None:
    w = acme()
    raw = requests.draft(
        ws=w.state.ws, name="d", user="bob", key=key("d").public, recipient=recipient("d"), id=b"i" * 16, not_after=9
    )
    data = requests.seal(raw, key("d").sign(requests.to_sign(raw)))
    made = requests.parse(data + b"\n")
    assert made.request["name"] == "d" and len(made.digest) == 64
    with pytest.raises(AttributeError):
        made.proof = None
    for proof in (
        None,
        key("eve").sign(requests.to_sign(raw)),
        key("d").sign(raw),
        key("d").sign(requests.claim_to_sign(raw)),
    ):
        with pytest.raises(FormatError):
            requests.seal(raw, proof)
    for bad in (data[:-1], data + b"\n\n", data.replace(b'"v":1', b'"v":2'), b"{}", b"", data.replace(b"bob", b"eve")):
        with pytest.raises(FormatError):
            requests.parse(bad)
    keyless = requests.draft(
        ws=w.state.ws, name="d", user=None, key=None, recipient=ssh_recipient("d"), id=b"i" * 16, not_after=9
    )
    assert requests.parse(requests.seal(keyless, None)).proof is None
