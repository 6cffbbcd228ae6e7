"""Manifests: exact bytes, and each refusal of brokered-grants.md §6 by the rule that must make it, one vector each."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings, strategies as st

from tests.unit.policy.world import BOB, DEV, World, acme, key, quotes_nothing, recipient
from zopp import _fast
from zopp.errors import FormatError, ZoppError
from zopp.policy import canonical, manifest as m
from zopp.policy.findings import Finding
from zopp.policy.manifest import FileEntry
from zopp.policy.state import State

SCHEMA = json.loads((Path(__file__).parents[3] / "policies/schema/manifest.schema.json").read_text())
VALID = jsonschema.Draft202012Validator(SCHEMA)
KC = canonical.b64(bytes(32))
PATH = "api/secrets/dev.yaml"
Sig = tuple[bytes, str, str, bytes]


@pytest.fixture
def w() -> World:
    return brokered()


def direct() -> World:
    w = acme()
    w.bind(BOB, "write", DEV)
    w.bind({"user": "carol"}, "read", DEV)
    return w


def brokered() -> World:
    w = direct()
    w.env("web/prod", kind="brokered")
    w.do("alice-laptop", "env.serverkey", {"env": "web/prod", "recipient": recipient("srv")})
    w.do("alice-laptop", "env.breakglass", {"env": "web/prod", "recipient": recipient("bg")})
    w.bind(BOB, "write", {"env": "web/prod"})
    return w


def facts(s: State, env: str = "api/dev", signer: str = "bob-laptop") -> dict[str, Any]:
    groups: list[list[str]] = [list(s.readers(env).values()) or [recipient("nobody")]]
    brokered = s.all_envs[env].kind == "brokered"
    if brokered:
        groups.append([r for r in (s.all_envs[env].server_key, s.all_envs[env].break_glass) if r])
    entry = FileEntry(_fast.sha512(b"body").hex(), KC, s.seq, signer, KC if brokered else None)
    return {
        "ws": s.ws,
        "env": env,
        "generation": 3,
        "prev": None,
        "policy_seq": s.seq,
        "policy_hash": s.head,
        "signer": signer,
        "groups": groups,
        "files": {PATH: entry},
    }


def entry(of: FileEntry, **change: Any) -> FileEntry:
    return FileEntry(**{name: getattr(of, name) for name in FileEntry.__slots__} | change)


def sign(data: bytes, by: str = "bob-laptop", namespace: str = m.NAMESPACE, algorithm: str = "sha512") -> Sig:
    return key(by).public, namespace, algorithm, key(by).sign(m.to_sign(data))


def codes(found: list[Finding]) -> set[str]:
    return {f.code for f in found}


def judge(s: State, f: dict[str, Any], sig: Sig | None = None, **more: Any) -> list[Finding]:
    data = m.build(**f)
    return m.check(m.parse(data), sig or sign(data, f["signer"]), s, **{"env": f["env"], "ws": s.ws, **more})


@pytest.mark.parametrize("env", ["api/dev", "web/prod"])
def test_a_good_manifest(w: World, env: str) -> None:
    f = facts(w.state, env)
    data = m.build(**f, meta={"import": {"from": "x"}})
    VALID.validate(json.loads(data))
    made = m.parse(data)
    assert made.raw == data and made.hash == _fast.sha256(data).hex() and made.brokered == (env == "web/prod")
    assert made.files[PATH] == f["files"][PATH] and hash(made.files[PATH]) == hash(f["files"][PATH])
    assert made.meta["import"] == {"from": "x"}
    assert judge(w.state, f) == []
    with pytest.raises(AttributeError):
        made.env = "x"
    with pytest.raises(TypeError):
        made.files["x"] = made.files[PATH]  # type: ignore[index]
    with pytest.raises(AttributeError):
        made.files[PATH].kc = "x"


def test_exact_bytes() -> None:
    """The form that other implementations must produce."""
    data = m.build(
        ws="0" * 64,
        env="api/dev",
        generation=1,
        prev=None,
        policy_seq=2,
        policy_hash="1" * 64,
        signer="bob",
        groups=[["age1b", "age1a"]],
        files={"b.yaml": FileEntry("2" * 128, KC, None, None)},
    )
    assert data == (
        b'{"env":"api/dev","files":{"b.yaml":{"dk_by":null,"dk_seq":null,"kc":"'
        + KC.encode()
        + b'","sha512":"'
        + b"2" * 128
        + b'"}},"generation":1,"groups":{"1":["age1a","age1b"]},"meta":{},"policy":{"hash":"'
        + b"1" * 64
        + b'","seq":2},"prev":null,"signer":"bob","v":1,"ws":"'
        + b"0" * 64
        + b'"}'
    )


def test_commitments_bind_everything() -> None:
    base = ("a" * 64, "api/dev", "x.yaml")
    kc = m.commitment(b"k" * 32, *base)
    assert len(kc) == 43
    import hashlib
    import hmac

    text = b"zopp-kc-v1\0" + b"a" * 64 + b"\0api/dev\0x.yaml"
    assert canonical.unb64(kc, 32) == hmac.new(b"k" * 32, text, hashlib.sha256).digest()
    others = [
        m.commitment(b"l" * 32, *base),
        m.commitment(b"k" * 32, "b" * 64, *base[1:]),
        m.commitment(b"k" * 32, "a" * 64, "api/prod", "x.yaml"),
        m.commitment(b"k" * 32, *base[:2], "y.yaml"),
        m.share_commitment(b"k" * 33, *base),
    ]
    assert len({kc, *others}) == 6
    with pytest.raises(FormatError):
        m.share_commitment(b"k" * 32, *base)


# --- form (rule 4: unknown v or field, duplicate keys; structure of 7)


def variants(good: dict[str, Any]) -> dict[str, Any]:
    """Broken copies of a manifest's JSON."""
    made: dict[str, Any] = {}

    def put(name: str, change: Callable[[dict[str, Any]], None]) -> None:
        copy = deepcopy(good)
        change(copy)
        made[name] = copy

    for name in good:
        put(f"no {name}", lambda v, name=name: v.pop(name))
        for bad in (None, 1.0, [], {}, "x", True, -1):
            fine = (name == "prev" and bad is None) or (name in ("meta", "files") and bad == {})
            if not fine and not (name == "signer" and bad == "x"):
                put(f"{name}={bad!r}", lambda v, name=name, bad=bad: v.__setitem__(name, bad))
    put("field", lambda v: v.update(note=1))
    put("v", lambda v: v.update(v=2))
    put("v true", lambda v: v.update(v=True))
    put("generation 0", lambda v: v.update(generation=0))
    put("group 3", lambda v: v["groups"].update({"3": ["age1x"]}))
    put("empty group", lambda v: v["groups"].update({"1": []}))
    put("unsorted", lambda v: v["groups"].update({"1": ["age1b", "age1a"]}))
    put("twice", lambda v: v["groups"].update({"1": ["age1a", "age1a"]}))
    put("recipient", lambda v: v["groups"].update({"1": ["pgp1"]}))
    put("policy field", lambda v: v["policy"].update(x=1))
    put("policy seq", lambda v: v["policy"].update(seq=-1))
    for field in ("sha512", "kc", "dk_seq", "dk_by"):
        put(f"file no {field}", lambda v, field=field: v["files"][PATH].pop(field))
        for bad in ("x", 1.5, [], -1):
            put(f"file {field}={bad}", lambda v, field=field, bad=bad: v["files"][PATH].__setitem__(field, bad))
    made.pop("file dk_by=x")  # a principal may be called x
    put("file field", lambda v: v["files"][PATH].update(note=1))
    put("half known", lambda v: v["files"][PATH].update(dk_by=None))
    for path in BAD_PATHS:
        put(f"path {path!r}", lambda v, path=path: v["files"].update({path: v["files"][PATH]}))
    put("case twins", lambda v: v["files"].update({PATH.upper(): v["files"][PATH]}))
    return made


BAD_PATHS = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "./a",
    ".git/config",
    "a/.GIT/x",
    ".zopp/x",
    ".ZOPP/x",
    "a\\b",
    "C:x",
    "a\nb",
    "a\x00b",
    "a\x7f",
    "x" * 1025,
    "cafe\u0301.yaml",
    "a./b",
    "a /b",
    ".git /x",
    ".git./x",
    "a\u202eb",
    "a\u2028b",
]


@pytest.mark.parametrize("env", ["api/dev", "web/prod"])
def test_form(env: str) -> None:
    good = json.loads(m.build(**facts(brokered().state, env)))
    if env == "web/prod":
        for bad in (1, 3, "2", None):
            with pytest.raises(FormatError):
                m.parse(canonical.encode({**good, "threshold": bad}))
        both = {**good, "groups": {"1": good["groups"]["1"], "2": good["groups"]["1"][:1]}}
        with pytest.raises(FormatError):
            m.parse(canonical.encode(both))
    else:
        with pytest.raises(FormatError):
            m.parse(canonical.encode({**good, "threshold": 2}))
    # what a schema cannot say
    codeonly = {
        "unsorted",
        "case twins",
        "path 'cafe\u0301.yaml'",
        "path 'a./b'",
        "path 'a /b'",
        "path '.git /x'",
        "path '.git./x'",
        "path 'a\\u202eb'",
        "path 'a\\u2028b'",
    }
    names = variants(good)
    assert len(names) > 100
    for name, value in names.items():
        floats = "1.0" in name or "1.5" in name
        raw = json.dumps(value).encode() if floats else canonical.encode(value)
        with pytest.raises(FormatError):
            m.parse(raw)
        # JSON Schema takes 1.0 for an integer and `True == 1` for const; canonical form has neither
        if name not in codeonly and name not in ("v=1.0", "v=True", "generation=1.0", "v true"):
            assert not VALID.is_valid(value), name


def test_form_is_one_spelling() -> None:
    data = m.build(**facts(direct().state))
    for bad in (
        data + b"\n",
        b" " + data,
        data.replace(b'"v":1', b'"v": 1'),
        data.replace(b'"v":1', b'"v":1,"v":1'),
        data.replace(b"api/dev", b"api\\/dev"),
        data.replace(b'"generation":3', b'"generation":3.0'),
        data[:-1],
        b"",
        b"[]",
        b"null",
        b"\xff",
    ):
        with pytest.raises(FormatError):
            m.parse(bad)


def test_all_errors_at_once() -> None:
    good = json.loads(m.build(**facts(direct().state)))
    with pytest.raises(FormatError) as caught:
        m.parse(canonical.encode({**good, "ws": "x", "generation": 0, "signer": "B"}))
    assert [place for place, _ in caught.value.data["problems"]] == ["ws", "generation", "signer"]


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        m.parse(data)
    except ZoppError as exc:
        text = data.decode("utf-8", "ignore")
        if len(text) >= 12:
            quotes_nothing(exc, text)


# --- rules 1-5, 7-10 by `check`


def test_rule_1_signature(w: World) -> None:
    s, f = w.state, facts(w.state)
    data = m.build(**f)
    made = m.parse(data)

    def got(sig: Sig) -> set[str]:
        return codes(m.check(made, sig, s))

    public, namespace, algorithm, raw = sign(data)
    assert got((public, "git", algorithm, raw)) == {"namespace"}
    assert got((public, namespace, "sha256", raw)) == {"namespace"}
    assert got((public, namespace, algorithm, key("bob-laptop").sign(data))) == {"signature"}
    git = key("bob-laptop").sign(b"SSHSIG" + data)
    assert got((public, namespace, algorithm, git)) == {"signature"}
    assert got((public, namespace, algorithm, raw[:-1])) == {"signature"}
    assert got(sign(data, "bob-phone")) == {"signer_key"}
    assert got(sign(data, "eve")) == {"signer_key"}
    stolen = facts(s) | {"signer": "mallory"}
    assert {"signer_unknown", "not_writer_then", "not_writer_now"} == codes(judge(s, stolen))
    assert codes(m.check(m.parse(data + b""), sign(m.build(**f, meta={"x": 1})), s)) == {"signature"}


def test_rule_1_disabled_and_rekeyed(w: World) -> None:
    f = facts(w.state)
    w.do("alice-laptop", "principal.rekey", {**w.request("bob-laptop", "bob", label="bob2"), "vouch": None})
    assert "signer_key" in codes(judge(w.state, f))
    w.do("alice-laptop", "principal.disable", {"principal": "bob-laptop"})
    assert {"signer_disabled", "not_writer_now"} <= codes(judge(w.state, f))


def test_rule_2_writer_then_and_now(w: World) -> None:
    reader = facts(w.state, signer="carol-desktop")
    assert codes(judge(w.state, reader)) == {"not_writer_then", "not_writer_now", "dk_by"}
    f = facts(w.state)
    lost = w.bind(BOB, "read", DEV)
    found = judge(w.state, f)
    assert codes(found) == {"not_writer_now"}
    assert found[0].data["writers"] == ("alice-laptop",) and found[0].rule == 2
    # a back-dated manifest fails too, and so does one between two terms of office
    w.bind(BOB, "write", DEV)
    assert judge(w.state, f) == []
    between = facts(w.state) | {"policy_seq": lost.seq, "policy_hash": lost.head, "files": {}}
    assert codes(judge(w.state, between)) == {"not_writer_then"}


def test_rule_3_chain(w: World) -> None:
    s, f = w.state, facts(w.state)
    assert codes(judge(s, f | {"policy_hash": "0" * 64})) == {"policy_unknown"}
    ahead = f | {"policy_seq": s.seq + 1}
    assert "policy_ahead" in codes(judge(s, ahead))
    newer = m.parse(m.build(**f))
    older = f | {"policy_seq": s.seq - 1, "policy_hash": s.hash_at(s.seq - 1), "generation": 4, "files": {}}
    assert codes(judge(s, older | {"prev": newer.hash}, previous=newer)) == {"policy_lower"}
    assert codes(judge(s, older, parents=[newer])) == {"policy_lower"}


def test_rule_4_place(w: World) -> None:
    s, f = w.state, facts(w.state)
    assert codes(judge(s, f, env="api/prod")) == {"wrong_environment"}
    assert codes(judge(s, f, ws="0" * 64)) == {"wrong_workspace"}
    assert codes(judge(s, f | {"ws": "0" * 64})) == {"wrong_workspace"}
    w.do("alice-laptop", "env.archive", {"env": "api/dev"})
    assert "no_environment" in codes(judge(w.state, f))


def test_rule_5_generation(w: World) -> None:
    s, f = w.state, facts(w.state)
    made = m.parse(m.build(**f))
    high = m.parse(m.build(**f | {"generation": 2**53 - 1}))
    assert codes(judge(s, f | {"meta": {"x": 1}}, parents=[made])) == {"generation"}
    assert codes(judge(s, f | {"generation": 2}, parents=[made])) == {"generation"}
    assert judge(s, f, parents=[made]) == []  # byte-equal to one
    assert judge(s, f, parents=[made, high]) == []
    assert judge(s, f | {"generation": 4, "prev": made.hash}, parents=[made], previous=made) == []
    assert codes(judge(s, f | {"generation": 4}, previous=made)) == {"prev"}
    assert codes(judge(s, f | {"generation": 4, "prev": "0" * 64}, previous=made)) == {"prev"}


def test_rule_7_kind(w: World) -> None:
    s = w.state
    flat = facts(s, "web/prod")
    flat["groups"] = flat["groups"][:1]
    flat["files"] = {PATH: entry(flat["files"][PATH], kc1=None)}
    assert codes(judge(s, flat)) == {"kind"}
    w.do("alice-laptop", "env.kind", {"env": "web/prod", "kind": "direct"})
    assert codes(judge(w.state, facts(s, "web/prod"))) == {"kind", "not_rotated"}


def test_rule_8_group_2(w: World) -> None:
    s = w.state
    one = facts(s, "web/prod")
    found = judge(s, one | {"groups": [one["groups"][0], [recipient("srv")]]})
    assert codes(found) == {"group2_stale"} and found[0].severity == "error" and found[0].reads_warn
    for second in (
        [recipient("bg")],
        [recipient("srv"), recipient("bg"), recipient("eve")],
        [recipient("srv"), recipient("eve")],
    ):
        f = facts(s, "web/prod")
        assert codes(judge(s, f | {"groups": [f["groups"][0], second]})) == {"group2"}
    w.env("web/bare", kind="brokered")
    w.bind(BOB, "write", {"env": "web/bare"})
    f = facts(w.state, "web/bare")
    f["groups"] = [f["groups"][0], [recipient("srv")]]
    assert codes(judge(w.state, f)) == {"no_server_key"}


def test_rule_9_group_1(w: World) -> None:
    s, f = w.state, facts(w.state)
    eve = [[*f["groups"][0], recipient("eve")]]
    assert codes(judge(s, f | {"groups": eve})) == {"foreign"}
    server = [[*f["groups"][0], recipient("srv")]]
    assert codes(judge(s, f | {"groups": server})) == {"foreign"}
    stale = [[*f["groups"][0], recipient("ci")]]
    found = judge(s, f | {"groups": stale})
    assert codes(found) == {"stale"} and found[0].severity == "error" and found[0].reads_warn
    behind = [[r for r in f["groups"][0] if r != recipient("carol-desktop")]]
    found = judge(s, f | {"groups": behind})
    assert codes(found) == {"behind"} and found[0].severity == "warn"
    w.do("alice-laptop", "principal.rekey", {**w.request("carol-desktop", "carol", label="c2"), "vouch": None})
    assert codes(judge(w.state, f)) == {"stale", "behind", "not_rotated"}


def test_rule_10_not_rotated(w: World) -> None:
    """A17, A18: found without a key, from a single commit."""
    f = facts(w.state)
    lost = w.unbind({"user": "carol"}, DEV)
    fresh = facts(w.state)
    kept = fresh | {"files": f["files"]}  # Bob lists the right recipients and keeps the old data key
    found = judge(w.state, kept)
    assert codes(found) == {"not_rotated"} and found[0].data["since"] == lost.seq and found[0].reads_warn
    assert judge(w.state, fresh) == []
    old = fresh["files"][PATH]
    unknown = fresh | {"files": {PATH: entry(old, dk_seq=None, dk_by=None)}}
    assert codes(judge(w.state, unknown)) == {"not_rotated"}
    assert codes(judge(w.state, fresh | {"files": {PATH: entry(old, dk_seq=w.state.seq + 1)}})) == {"dk_ahead"}
    assert codes(judge(w.state, fresh | {"files": {PATH: entry(old, dk_by="carol-desktop")}})) == {"dk_by"}
    assert codes(judge(w.state, fresh | {"files": {PATH: entry(old, dk_by="nobody")}})) == {"dk_by"}


def test_rule_10_dk_changed_without_a_new_key(w: World) -> None:
    """A leaver's mark cannot be wiped: dk_seq and dk_by move with kc only."""
    f = facts(w.state)
    before = m.parse(m.build(**f | {"files": {PATH: entry(f["files"][PATH], dk_seq=w.state.seq - 1)}}))
    f["generation"], f["prev"] = 4, before.hash
    assert codes(judge(w.state, f, previous=before)) == {"dk_changed"}
    assert codes(judge(w.state, f, parents=[before])) == {"dk_changed"}
    other = canonical.b64(b"n" * 32)
    rotated = f | {"files": {PATH: entry(f["files"][PATH], kc=other)}}
    assert judge(w.state, rotated, previous=before, parents=[before]) == []


# --- files


def sops(groups: list[list[str]], *, flat: bool, threshold: int | None, data: bytes = b"body", **more: Any) -> Any:
    meta = {"unknown": (), "foreign": (), "selector": "default", **{k: v for k, v in more.items() if k != "texts"}}
    entries = tuple(tuple(SimpleNamespace(recipient=r, enc="age " + r) for r in group) for group in groups)
    items = [SimpleNamespace(text=t, encrypted=True) for t in more.get("texts", ())]
    return SimpleNamespace(
        data=data, metadata=SimpleNamespace(groups=entries, flat=flat, threshold=threshold, **meta), items=lambda: items
    )


def no_check(enc: str, recipient: str, *, ssh_allowed: bool) -> None:
    if "bad" in enc:
        raise FormatError("a second stanza")


def file_codes(w: World, env: str, file: Any, **more: Any) -> set[str]:
    made = m.parse(m.build(**facts(w.state, env)))
    return codes(m.check_file(made, PATH, file, w.state, check_stanza=no_check, **more))


def test_check_file(w: World) -> None:
    for env in ("api/dev", "web/prod"):
        f = facts(w.state, env)
        groups = f["groups"]
        flat = env == "api/dev"
        shape: dict[str, Any] = {"flat": flat, "threshold": None if flat else 2}
        good = sops(groups, **shape)
        assert file_codes(w, env, good) == set()
        assert file_codes(w, env, sops(groups, **shape, data=b"other")) == {"bytes"}
        assert file_codes(w, env, sops(groups, **{**shape, "threshold": 1})) == {"groups"}
        assert file_codes(w, env, sops(groups, **{**shape, "flat": not flat})) == {"groups"}
        assert file_codes(w, env, sops([groups[0][1:], *groups[1:]], **shape)) == {"recipients"}
        assert file_codes(w, env, sops([[*groups[0], recipient("eve")], *groups[1:]], **shape)) == {"recipients"}
        assert file_codes(w, env, sops([[*groups[0], groups[0][0]], *groups[1:]], **shape)) == {"twice"}
        assert file_codes(w, env, sops(groups, **shape, unknown=("x",))) == {"unknown_field"}
        assert file_codes(w, env, sops(groups, **shape, foreign=("kms",))) == {"other_keys"}
        hidden = sops(groups, **shape)
        hidden.metadata.groups[0][0].enc = "bad"
        assert file_codes(w, env, hidden) == {"stanza"}
        assert file_codes(w, env, good, previous=sops(groups, **shape, selector="none")) == {"selector"}
        was = entry(f["files"][PATH], kc=canonical.b64(b"o" * 32))
        old = sops(groups, **shape, texts=("ENC[1]", "ENC[2]"))
        new = sops(groups, **shape, texts=("ENC[2]",))
        assert file_codes(w, env, new, previous=old, before=was) == {"kc_changed"}
        assert file_codes(w, env, sops(groups, **shape, texts=("ENC[3]",)), previous=old, before=was) == set()
    # A30: stock updatekeys under a flat rule
    g = facts(w.state, "web/prod")["groups"]
    assert file_codes(w, "web/prod", sops([[*g[0], *g[1]]], flat=True, threshold=None)) == {"groups", "recipients"}
    # A18: server and reader change sides
    assert file_codes(w, "web/prod", sops([g[1], g[0]], flat=False, threshold=2)) == {"recipients"}
    made = m.parse(m.build(**facts(w.state)))
    assert codes(m.check_file(made, "other.yaml", good, w.state, check_stanza=no_check)) == {"unlisted"}
    w.do("alice-laptop", "env.archive", {"env": "api/dev"})
    found = m.check_file(made, PATH, sops(g[:1], flat=True, threshold=None), w.state, check_stanza=no_check)
    assert codes(found) == {"no_environment"}
