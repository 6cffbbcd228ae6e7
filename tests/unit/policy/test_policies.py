"""The data in `policies/` against the code, and what the package may import on the quick path."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.policy.world import ACME, World, acme
from zopp.errors import FormatError
from zopp.policy import templates
from zopp.policy.decisions import ACTIONS, Allow, Deny, decide
from zopp.policy.roles import Role
from zopp.policy.statement import TYPES

ROOT = Path(__file__).parents[3]
TABLE = json.loads((ROOT / "policies/roles.json").read_text())
TEMPLATES = sorted((ROOT / "policies/templates").glob("*.json"))


def test_role_table_is_what_decides() -> None:
    assert TABLE["roles"] == [str(role) for role in Role]
    assert TABLE["actions"] == {
        action: {"scope": n.scope, "role": str(n.role), "human": n.human} for action, n in ACTIONS.items()
    }


def test_every_statement_type_is_an_action() -> None:
    assert set(TYPES) - {"genesis"} == set(ACTIONS) - {"read", "release", "write", "policy.read", "audit.read"}
    assert set(TABLE["also"]) <= set(ACTIONS)


@pytest.mark.parametrize("action", TABLE["actions"])
def test_role_table_by_experiment(action: str) -> None:
    """Each action at each role: allowed from the named role on, at the named scope, and refused below it."""
    needs = TABLE["actions"][action]
    scope = {"workspace": "acme", "project": "api", "env": "api/dev", "any": "api/dev"}[needs["scope"]]
    typed = {"acme": ACME, "api": {"project": "api"}, "api/dev": {"env": "api/dev"}}[scope]
    for role in Role:
        for actor, subject in (("bob-laptop", {"user": "bob"}), ("ci", {"service": "ci"})):
            w = acme()
            if role:
                w.bind(subject, str(role), typed)
            got = decide(w.state, actor, action, scope)
            enough = role >= Role.parse(needs["role"])
            human = actor == "bob-laptop" or not needs["human"]
            assert isinstance(got, Allow) == (enough and human), (role, actor, got)


def test_decide_when_in_doubt() -> None:
    w = acme()
    for principal, action, scope, rule in (
        ("alice-laptop", "fly", "acme", "unknown_action"),
        ("nobody", "read", "api/dev", "unknown_principal"),
        ("alice", "read", "api/dev", "unknown_principal"),
        ("alice-laptop", "read", "api/nope", "no_such_scope"),
        ("alice-laptop", "read", "api", "no_such_scope"),
        ("alice-laptop", "read", "", "no_such_scope"),
        ("alice-laptop", "env.create", "acme", "no_such_scope"),
    ):
        got = decide(w.state, principal, action, scope)
        assert isinstance(got, Deny) and got.rule == rule
    assert isinstance(decide(w.state, "alice-laptop", "env.create", "api/dev"), Allow)
    assert isinstance(decide(w.state, "alice-laptop", "group.create", "api/dev"), Allow)
    w.do("alice-laptop", "principal.disable", {"principal": "bob-laptop"})
    got = decide(w.state, "bob-laptop", "policy.read", "acme")
    assert isinstance(got, Deny) and got.rule == "disabled"
    w.do("alice-laptop", "user.disable", {"user": "bob"})
    got = decide(w.state, "bob-phone", "policy.read", "acme")
    assert isinstance(got, Deny) and got.rule == "disabled"


def test_auditor_reads_the_audit_log_and_no_secret() -> None:
    w = acme()
    w.do("alice-laptop", "group.create", {"group": "auditors"})
    w.do("alice-laptop", "group.member.add", {"group": "auditors", "member": {"user": "bob"}})
    w.do("alice-laptop", "flag.set", {"flag": "auditor", "subject": {"group": "auditors"}})
    w.do("alice-laptop", "flag.set", {"flag": "auditor", "subject": {"service": "ci"}})
    for who in ("bob-laptop", "ci"):
        got = decide(w.state, who, "audit.read", "acme")
        assert isinstance(got, Allow) and got.rule == "auditor"
        assert w.state.role(who, "acme") == Role.NONE
    assert isinstance(decide(w.state, "carol-desktop", "audit.read", "acme"), Deny)
    w.do("alice-laptop", "group.member.remove", {"group": "auditors", "member": {"user": "bob"}})
    assert isinstance(decide(w.state, "bob-laptop", "audit.read", "acme"), Deny)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_templates_make_a_valid_policy(path: Path) -> None:
    t = templates.parse(path.read_bytes())
    assert t.name == path.stem
    w = World()
    for type, data in templates.statements(t, "shop"):
        w.do("alice-laptop", type, dict(data))
    for slot, envs in t.services:
        w.enrol(slot, None)
        for type, data in templates.service_statements(t, "shop", slot, slot):
            w.do("alice-laptop", type, dict(data))
        assert {e for e in w.state.envs if w.state.role(slot, e)} == {f"shop/{e}" for e in envs}
    assert w.fold() == w.state
    assert {e.name: (e.kind, e.protected) for e in w.state.envs.values()} == {
        f"shop/{n}": (k, p) for n, k, p in t.environments
    }
    # no template hands out anything on the workspace but the creator's own admin
    assert [str(s) for s, scope, _ in w.state.bindings if scope.kind == "workspace"] == ["alice"]


def test_templates_mean_what_they_say() -> None:
    made = {p.stem: templates.parse(p.read_bytes()) for p in TEMPLATES}
    assert set(made) == {"solo", "team", "regulated"}
    protected = {name: {n for n, _, p in t.environments if p} for name, t in made.items()}
    assert protected == {"solo": set(), "team": {"production"}, "regulated": {"staging", "production"}}
    assert made["regulated"].admins == 2 and made["regulated"].auditors == ("auditors",)
    w = World()
    for type, data in templates.statements(made["team"], "shop"):
        w.do("alice-laptop", type, dict(data))
    role = w.state.subject_role
    assert [str(role("developers", f"shop/{e}")) for e in ("development", "staging", "production")] == [
        "write",
        "write",
        "none",
    ]
    assert str(role("operators", "shop/production")) == "write"
    bound = {group for group, _, _ in made["regulated"].bindings}
    assert "auditors" not in bound


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"note": 1},
        {"admins": 0},
        {"groups": ["A"]},
        {"groups": "x"},
        {"auditors": ["nobody"]},
        {"bindings": [{"group": "nobody", "role": "read", "environment": None}]},
        {"bindings": [{"group": "developers", "role": "owner", "environment": None}]},
        {"services": [{"name": "ci", "environments": ["nowhere"]}]},
        {"environments": [{"name": "x", "kind": "direct"}]},
        {"title": "line\nbreak"},
    ],
)
def test_bad_templates(change: dict[str, object]) -> None:
    good = json.loads((ROOT / "policies/templates/team.json").read_text())
    with pytest.raises(FormatError):
        templates.parse(json.dumps({**good, **change}).encode())
    for bad in (b"", b"[]", b"{", b"\xff", b"[" * 100000):
        with pytest.raises(FormatError):
            templates.parse(bad)


HEAVY = frozenset(
    "dataclasses typing enum re json hashlib base64 pathlib contextlib datetime logging tempfile".split()  # noqa: SIM905
)


def test_quick_path_is_lean(tmp_path: Path) -> None:
    """Importing the package and running the quick check load none of the modules that cost a cold start."""
    from tests.unit.policy.test_manifest import brokered, facts, sign
    from zopp.policy import manifest
    from zopp.policy.view import dump

    w = brokered()
    data = manifest.build(**facts(w.state))
    public, _, _, raw = sign(data)
    (tmp_path / "view").write_bytes(dump(w.state))
    (tmp_path / "manifest").write_bytes(data)
    program = f"""
import sys
before = set(sys.modules)
import zopp.policy
from zopp.policy import view, canonical, names, manifest
v = view.View(open({str(tmp_path / "view")!r}, "rb").read())
m = open({str(tmp_path / "manifest")!r}, "rb").read()
sig = (bytes.fromhex({public.hex()!r}), "zopp-secrets-v1", "sha512", bytes.fromhex({raw.hex()!r}))
assert view.quick_manifest(v, m, sig, env=v.resolve("api/dev")) is not None
v.principals()
manifest.commitment(b"k" * 32, v.ws, "api/dev", "x")
manifest.build(ws=v.ws, env="api/dev", generation=1, prev=None, policy_seq=1, policy_hash=v.hash_at(1), signer="a",
               groups=[["age1a"]], files={{}})
print(" ".join(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "zopp.policy.view" in loaded
    assert not loaded & HEAVY, loaded & HEAVY


def test_lazy_names() -> None:
    import zopp.policy

    assert zopp.policy.Role is Role  # type: ignore[attr-defined]
    assert zopp.policy.decide is decide  # type: ignore[attr-defined]
    for name in zopp.policy._LAZY:
        getattr(zopp.policy, name)
    with pytest.raises(AttributeError):
        zopp.policy.nothing  # type: ignore[attr-defined]  # noqa: B018
