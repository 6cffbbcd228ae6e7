"""S47 and S49: every way to lose read counts, what does not, and who could write when."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.policy.world import API, BOB, DEV, World, acme, key, recipient
from zopp.policy.apply import supposed
from zopp.policy.roles import Role

CI = {"service": "ci"}


@pytest.fixture
def w() -> World:
    return acme()


def losses() -> dict[str, tuple[list[tuple[str, dict[str, Any]]], list[tuple[str, dict[str, Any]]]]]:
    """name -> (setup that lets Bob or ci read api/dev, statements by which they lose it)."""
    read_bob = ("binding.set", {"role": "read", "scope": DEV, "subject": BOB})
    group = [
        ("group.create", {"group": "devs"}),
        ("group.member.add", {"group": "devs", "member": BOB}),
        ("binding.set", {"role": "read", "scope": DEV, "subject": {"group": "devs"}}),
    ]
    return {
        "user binding": ([read_bob], [("binding.remove", {"scope": DEV, "subject": BOB})]),
        "service binding": (
            [("binding.set", {"role": "read", "scope": DEV, "subject": CI})],
            [("binding.remove", {"scope": DEV, "subject": CI})],
        ),
        "group binding": (group, [("binding.remove", {"scope": DEV, "subject": {"group": "devs"}})]),
        "membership": (group, [("group.member.remove", {"group": "devs", "member": BOB})]),
        "group deleted": (group, [("group.delete", {"group": "devs"})]),
        "cap none": ([read_bob], [("cap.set", {"principal": "bob-phone", "cap": "none", "vouch": None})]),
        "device": ([read_bob], [("principal.disable", {"principal": "bob-phone"})]),
        "user": ([read_bob], [("user.disable", {"user": "bob"})]),
        "protecting": (
            [("binding.set", {"role": "read", "scope": API, "subject": BOB})],
            [("env.protect", {"env": "api/dev"})],
        ),
        "kind": ([], [("env.kind", {"env": "api/dev", "kind": "brokered"})]),
        "kind back": (
            [("env.kind", {"env": "api/dev", "kind": "brokered"})],
            [("env.kind", {"env": "api/dev", "kind": "direct"})],
        ),
        "break-glass": (
            [("env.breakglass", {"env": "api/dev", "recipient": recipient("bg")})],
            [("env.breakglass", {"env": "api/dev", "recipient": None})],
        ),
        "break-glass replaced": (
            [("env.breakglass", {"env": "api/dev", "recipient": recipient("bg")})],
            [("env.breakglass", {"env": "api/dev", "recipient": recipient("bg2")})],
        ),
    }


@pytest.mark.parametrize("name", losses())
def test_s47_every_loss_of_read_counts(w: World, name: str) -> None:
    setup, lose = losses()[name]
    for type, data in setup:
        w.do("alice-laptop", type, data)
    for type, data in lose:
        w.do("alice-laptop", type, data)
    assert w.state.read_lost_seq("api/dev") == w.state.seq
    assert w.state.read_lost_seq("web/dev") == 0


def test_s47_rekey_takes_read_from_the_old_recipient(w: World) -> None:
    w.bind(BOB, "read", DEV)
    w.do("alice-laptop", "principal.rekey", {**w.request("bob-phone", "bob", label="phone2"), "vouch": None})
    assert w.state.read_lost_seq("api/dev") == w.state.seq
    assert w.state.readers("api/dev")["bob-phone"] == recipient("phone2")
    seq = w.state.seq
    # other signing key, same recipient: nobody lost read
    same = w.request("bob-phone", "bob", label="phone3", recip=recipient("phone2"))
    w.do("alice-laptop", "principal.rekey", {**same, "vouch": None})
    assert w.state.read_lost_seq("api/dev") == seq
    assert w.state.principal_by_key(key("phone3").public) == w.state.principals["bob-phone"]
    assert w.state.principal_by_key(key("phone2").public) is None


def test_s47_what_takes_no_read(w: World) -> None:
    w.bind(BOB, "write", API)
    w.bind(BOB, "read", DEV)
    w.unbind(BOB, API)  # S49: write to read keeps the data key
    assert w.state.role("bob-phone", "api/dev") == Role.READ
    assert w.state.read_lost_seq("api/dev") == 0
    assert w.state.read_lost_seq("api/prod") == w.state.seq
    w.do("alice-laptop", "env.serverkey", {"env": "api/dev", "recipient": recipient("srv")})
    w.do("alice-laptop", "env.breakglass", {"env": "api/dev", "recipient": recipient("bg")})
    assert w.state.read_lost_seq("api/dev") == 0


def test_s49_write_history(w: World) -> None:
    assert not w.state.wrote_at("bob-phone", "api/dev", w.state.seq)
    gained = w.bind(BOB, "write", DEV).seq
    lost = w.bind(BOB, "read", DEV).seq
    again = w.bind(BOB, "admin", DEV).seq
    s = w.state
    got = [s.wrote_at("bob-phone", "api/dev", n) for n in (gained - 1, gained, lost - 1, lost, again - 1, again)]
    assert got == [False, True, True, False, False, True]
    assert s.writer_since("bob-phone", "api/dev") == again and s.writer_since("carol-desktop", "api/dev") is None
    w.env("api/later")
    assert w.state.writer_since("alice-laptop", "api/later") == w.state.seq
    assert not w.state.wrote_at("alice-laptop", "api/later", w.state.seq - 1)


def test_s47_a_reader_that_becomes_unfit_for_a_brokered_environment(w: World) -> None:
    """Without a signing key it is no recipient there any more, though its role says read."""
    w.bind(BOB, "read", DEV)
    w.do("alice-laptop", "env.kind", {"env": "api/dev", "kind": "brokered"})
    w.bind(BOB, "read", {"env": "api/prod"})
    keyless = w.request("bob-phone", "bob", signing=False, recip=recipient("bob-phone"))
    w.do("alice-laptop", "principal.rekey", {**keyless, "vouch": None})
    assert w.state.left_out("api/dev") == {"bob-phone": "has no signing key"}
    assert w.state.read_lost_seq("api/dev") == w.state.seq
    assert w.state.read_lost_seq("api/prod") == 0
    assert w.state.readers("api/prod")["bob-phone"] == recipient("bob-phone")


@pytest.mark.parametrize("name", [name for name in losses() if not name.startswith(("kind", "break"))])
def test_s50_what_would_be_lost_elsewhere(w: World, name: str) -> None:
    """The same statements, supposed on a log that has gone on: as if signed there, and the state stays as it is."""
    setup, lose = losses()[name]
    for type, data in setup:
        w.do("alice-laptop", type, data)
    w.do("alice-laptop", "group.create", {"group": "further"})
    before = w.state
    made = supposed(before, lose, "alice-laptop")
    for type, data in lose:
        w.do("alice-laptop", type, data)
    assert made.readers("api/dev") == w.state.readers("api/dev") != before.readers("api/dev")
    assert before.seq == made.seq - len(lose)


def test_s50_what_would_be_refused_is_left_out(w: World) -> None:
    """By one who has no say there, and of what is not there: the rest counts."""
    w.bind(BOB, "read", DEV)
    disable = ("principal.disable", {"principal": "bob-phone"})
    assert supposed(w.state, [("user.disable", {"user": "alice"})], "bob-phone") == w.state
    assert supposed(w.state, [disable], "nobody") == w.state
    nothing = ("binding.remove", {"scope": API, "subject": BOB})
    made = supposed(w.state, [nothing, ("no.such", {}), disable], "alice-laptop")
    assert made.seq == w.state.seq + 1 and "bob-phone" not in made.readers("api/dev")
