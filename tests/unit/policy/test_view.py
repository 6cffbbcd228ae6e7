"""The lean view of a verified head, and its quick check against the full one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.unit.policy.test_manifest import PATH, brokered, entry, facts, sign
from tests.unit.policy.world import ACME, BOB, DEV, World, key, recipient
from zopp.errors import FormatError, NotFound, ZoppError
from zopp.policy import manifest as m
from zopp.policy.manifest import Manifest
from zopp.policy.view import View, dump, quick_manifest


@pytest.fixture
def w() -> World:
    return brokered()


def test_view_says_what_the_state_says(w: World) -> None:
    s = w.state
    v = View(dump(s))
    assert (v.ws, v.name, v.seq, v.head, v.at) == (s.ws, s.name, s.seq, s.head, s.at)
    assert [v.hash_at(n) for n in range(s.seq + 1)] == [s.hash_at(n) for n in range(s.seq + 1)]
    assert set(v.envs) == set(s.envs)
    for name, env in s.envs.items():
        e = v.env(name)
        assert (e.kind, e.protected, e.server_key, e.break_glass) == (
            env.kind,
            env.protected,
            env.server_key,
            env.break_glass,
        )
        assert e.readers == {r: p for p, r in s.readers(name).items()}
        assert {p: k for p, (k, _) in e.writers.items()} == dict(s.writers(name))
        assert all(since == s.writer_since(p, name) for p, (_, since) in e.writers.items())
        assert e.read_lost_seq == s.read_lost_seq(name)
    assert v.principals()["bob-laptop"] == (key("bob-laptop").public, recipient("bob-laptop"), "bob")
    for bad in (-1, s.seq + 1):
        with pytest.raises(NotFound):
            v.hash_at(bad)
    with pytest.raises(NotFound):
        v.env("api/nope")
    with pytest.raises(NotFound):
        v.resolve("api/nope")
    with pytest.raises(FormatError):
        v.resolve("api/dev@2")
    w.do("alice-laptop", "env.archive", {"env": "api/dev"})
    w.env("api/dev@2")
    assert View(dump(w.state)).resolve("api/dev") == "api/dev@2" == str(w.state.scope("api/dev"))


def test_a_view_knows_its_log(w: World) -> None:
    """Each byte counts, and so does the length; a view without a log does not know this one."""
    log = w.data
    v = View(dump(w.state, log))
    assert v.is_of(log)
    for at in range(0, len(log), 11):
        assert not v.is_of(log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :])
    assert not v.is_of(log[:-1])
    assert not v.is_of(log + b"\n")
    assert not View(dump(w.state)).is_of(log)
    # The key is fresh each time, so nothing that was seen of one cache helps against another.
    assert dump(w.state, log) != dump(w.state, log)
    assert dump(w.state, log, key=bytes(32)) == dump(w.state, log, key=bytes(32))


def test_a_torn_view_is_no_view(w: World) -> None:
    data = dump(w.state)
    for cut in range(0, len(data), 7):
        with pytest.raises(FormatError):
            View(data[:cut])
    for bad in (data + b"x", b"x" + data, b"", data[:-32], data + bytes(32)):
        with pytest.raises(FormatError):
            View(bad)
    hashes = len(data) - 32 * (w.state.seq + 1)
    for at in range(0, hashes, 5):
        torn = bytearray(data)
        torn[at] ^= 1
        with pytest.raises(FormatError):
            View(bytes(torn))


HISTORY: list[tuple[str, dict[str, Any]]] = [
    ("binding.set", {"role": "read", "scope": DEV, "subject": BOB}),
    ("binding.set", {"role": "write", "scope": DEV, "subject": BOB}),
    ("binding.remove", {"scope": DEV, "subject": {"user": "carol"}}),
    ("binding.set", {"role": "write", "scope": DEV, "subject": {"user": "carol"}}),
    ("env.protect", {"env": "api/dev"}),
    ("env.unprotect", {"env": "api/dev"}),
    ("cap.set", {"principal": "bob-laptop", "cap": "read", "vouch": None}),
    ("cap.set", {"principal": "bob-laptop", "cap": None, "vouch": None}),
    ("principal.disable", {"principal": "bob-phone"}),
    ("principal.enable", {"principal": "bob-phone", "vouch": None}),
    ("binding.set", {"role": "write", "scope": ACME, "subject": BOB}),
    ("binding.remove", {"scope": ACME, "subject": BOB}),
    ("env.kind", {"env": "web/prod", "kind": "direct"}),
    ("env.kind", {"env": "web/prod", "kind": "brokered"}),
    ("env.breakglass", {"env": "web/prod", "recipient": None}),
    ("env.serverkey", {"env": "web/prod", "recipient": recipient("srv2")}),
    ("env.archive", {"env": "web/prod"}),
]


def rare(one_in: int) -> st.SearchStrategy[bool]:
    return st.sampled_from([False] * (one_in - 1) + [True])


seen = {"quick": 0, "asked": 0, "clean": 0}


@settings(max_examples=250, deadline=None)
@given(st.data())
def agree(data: st.DataObject) -> None:
    """What the quick check takes, the full one has nothing against; and it takes what is plainly good."""
    w = brokered()
    states = [w.state]
    for type, change in data.draw(st.lists(st.sampled_from(HISTORY), max_size=4)):
        try:
            states.append(w.do("alice-laptop", type, change))
        except ZoppError:
            continue
    s = w.state
    v = View(dump(s))
    env = data.draw(st.sampled_from(["api/dev", "web/prod"]))
    people = ["bob-laptop", "alice-laptop", "carol-desktop", "bob-phone"]
    then = data.draw(st.sampled_from([s, s, s, *states]))
    f = facts(then, env, data.draw(st.sampled_from(people)))
    file = f["files"][PATH]
    if data.draw(rare(3)):
        f["files"] = {
            PATH: entry(file, dk_seq=data.draw(st.integers(0, s.seq + 1)), dk_by=data.draw(st.sampled_from(people)))
        }
    if data.draw(rare(6)):
        f["files"] = {PATH: entry(file, dk_seq=None, dk_by=None)}
    if data.draw(rare(6)):
        f["policy_seq"] = data.draw(st.integers(0, s.seq + 2))
        f["policy_hash"] = s.hash_at(min(f["policy_seq"], s.seq))
    if data.draw(rare(6)):
        f["groups"][0].append(recipient(data.draw(st.sampled_from(["eve", "ci", "bob-phone2"]))))
    if data.draw(rare(9)):
        f["ws"] = "0" * 64
    raw = m.build(**f)
    sig = sign(
        raw,
        data.draw(st.sampled_from([f["signer"]] * 6 + ["eve"])),
        data.draw(st.sampled_from([m.NAMESPACE] * 6 + ["git"])),
    )
    at = data.draw(st.sampled_from([env] * 6 + ["api/prod"]))
    quick = quick_manifest(v, raw, sig, env=at)
    full = m.check(m.parse(raw), sig, s, ws=s.ws, env=at)
    if quick is not None:
        assert full == [] and isinstance(quick, Manifest) and quick.raw == raw
        seen["quick"] += 1
    elif not full:
        # asking is allowed only where office was interrupted: signer or maker wrote then, was out, and is back
        turns = s._tables.writes
        makers = {f["signer"], *(x.dk_by for x in f["files"].values())}
        assert any(len(turns.get((env, who), ())) > 1 or s.writer_since(who, env) is None for who in makers if who)
        seen["clean"] += 1
    else:
        seen["asked"] += 1


def test_quick_agrees_with_full() -> None:
    """In one test, so that the count does not depend on where and in which order tests run."""
    seen.update(quick=0, asked=0, clean=0)
    agree()
    assert seen["quick"] >= 20 and seen["asked"] >= 20


def test_quick_asks_for_rubbish(w: World) -> None:
    v = View(dump(w.state))
    data = m.build(**facts(w.state))
    assert quick_manifest(v, data, sign(data), env="api/dev") is not None
    assert quick_manifest(v, b"{}", sign(data), env="api/dev") is None
    assert quick_manifest(v, data, sign(data), env="api/nope") is None
    assert quick_manifest(v, data, sign(b"other"), env="api/dev") is None


def asks(w: World, f: dict[str, Any]) -> bool:
    """Whether the quick check leaves it to the full one, which then has something against it."""
    data = m.build(**f)
    sig = sign(data, f["signer"])
    quick = quick_manifest(View(dump(w.state)), data, sig, env=f["env"])
    full = m.check(m.parse(data), sig, w.state, env=f["env"])
    assert (quick is None) == bool(full)
    return quick is None


def test_quick_asks_about_each_fact(w: World) -> None:
    """One doubt at a time, all else being good."""
    before = w.state
    w.bind({"user": "carol"}, "write", DEV)
    f = facts(w.state)
    assert not asks(w, f) and not asks(w, f | {"files": {}})
    # a signer who became writer after the policy head, with no file to give it away
    early = {"policy_seq": before.seq, "policy_hash": before.head, "files": {}}
    assert asks(w, f | early | {"signer": "carol-desktop"})
    assert not asks(w, f | early)
    file = f["files"][PATH]
    for change in (
        {"dk_by": "carol-desktop", "dk_seq": before.seq},
        {"dk_by": "ci"},
        {"dk_by": None, "dk_seq": None},
        {"dk_seq": w.state.seq + 1},
    ):
        assert asks(w, f | {"files": {PATH: entry(file, **change)}})
    assert not asks(w, f | {"files": {PATH: entry(file, dk_by="carol-desktop")}})
    w.unbind({"user": "carol"}, DEV)
    assert asks(w, facts(w.state) | {"files": {PATH: entry(file, dk_seq=w.state.seq - 1)}})
    assert not asks(w, facts(w.state))


def test_quick_asks_where_only_break_glass_is_left(w: World) -> None:
    w.env("web/bare", kind="brokered")
    w.do("alice-laptop", "env.breakglass", {"env": "web/bare", "recipient": recipient("bg3")})
    assert asks(w, facts(w.state, "web/bare", "alice-laptop"))
