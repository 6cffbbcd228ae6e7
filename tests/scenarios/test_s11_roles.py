"""S11-S36, S39, S40: roles, changing the policy, joining, on real repositories. Pure cells are in tests/unit/policy."""

import json
import os
import stat

import pytest

from tests.support import Team, User, refused


def may(user: User, env: str) -> tuple[bool, bool]:
    """(read, write) by really trying; the tree is put back."""
    reads = user.zopp("get", "BASE", "-e", env).code == 0
    writes = user.zopp("set", "PROBE", "-e", env, stdin=os.urandom(4).hex()).code == 0
    user.git("checkout", "-q", "--", ".")
    return reads, writes


def test_s11_role_ladder(team: Team) -> None:
    bob = team.bob
    assert may(bob, "dev") == (False, False)
    team.grant("bob", "read", "api/dev")
    assert may(bob, "dev") == (True, False)
    bob.ok("export", "-e", "dev", "-f", "json")
    team.grant("bob", "write", "api/dev")
    assert may(bob, "dev") == (True, True)
    refused(bob.zopp("grant", "carol", "read", "api/dev"), 1, words=["bob-laptop", "admin"])
    team.grant("bob", "admin", "api/dev")
    bob.ok("grant", "carol", "read", "api/dev")
    refused(bob.zopp("grant", "carol", "read", "api"), 1)


@pytest.mark.parametrize("scope", ["acme", "api", "api/dev"])
@pytest.mark.parametrize("role", ["read", "write", "admin"])
def test_s12_matrix_black_box(team: Team, scope: str, role: str) -> None:
    """Read and write, in the environment of the binding (dev), in another (staging), and in a protected one (prod)."""
    team.alice.ok("env", "protect", "prod")
    team.sync()
    team.grant("bob", role, scope)
    writes = role != "read"
    assert may(team.bob, "dev") == (True, writes)
    above = scope != "api/dev"
    assert may(team.bob, "staging") == (above, above and writes)
    assert may(team.bob, "prod") == ((True, True) if above and role == "admin" else (False, False))
    env_create = team.bob.zopp("env", "add", "qa").code == 0
    assert env_create == (role == "admin" and above)


def test_s13_access_says_what_happens(team: Team) -> None:
    team.grant("bob", "write", "api/dev")
    for env, role in (("dev", "write"), ("staging", "none")):
        done = team.bob.zopp("access", "bob", f"api/{env}", "--json")
        assert json.loads(done.out)["role"] == role
        assert may(team.bob, env) == (role != "none", role == "write")


def test_s14_inheritance_reaches_later_environments(team: Team) -> None:
    team.grant("bob", "admin", "api")
    team.bob.ok("env", "add", "later")
    team.bob.zopp("set", "K", "-e", "later", stdin="x", code=0)
    assert team.bob.get("K", "later") == "x"
    refused(team.bob.zopp("project", "create", "web"), 1)


def test_s14_environment_admin_cannot_archive_or_create(team: Team) -> None:
    team.grant("bob", "admin", "api/dev")
    refused(team.bob.zopp("env", "archive", "dev", "--yes"), 1)
    refused(team.bob.zopp("env", "add", "more"), 1)
    refused(team.bob.zopp("grant", "carol", "read", "api"), 1)
    team.bob.ok("grant", "carol", "read", "api/dev")


def test_s15_isolation(team: Team) -> None:
    team.grant("bob", "write", "api/dev")
    assert may(team.bob, "dev") == (True, True)
    assert may(team.bob, "staging") == may(team.bob, "prod") == (False, False)


def test_s16_highest_level_wins(team: Team) -> None:
    team.grant("bob", "read", "acme")
    team.grant("bob", "write", "api")
    team.grant("bob", "admin", "api/dev")
    roles = json.loads(team.bob.ok("access", "bob", "--json").out)["roles"]
    assert roles == {"acme": "read", "api": "write", "api/dev": "admin", "api/staging": "write", "api/prod": "write"}


def test_s17_groups(team: Team) -> None:
    alice = team.alice
    for group, role in (("readers", "read"), ("writers", "write")):
        alice.ok("group", "create", group)
        alice.ok("grant", group, role, "api/dev")
        alice.ok("group", "add", group, "bob")
    alice.ok("group", "add", "readers", "ci")
    team.sync()
    assert may(team.bob, "dev") == (True, True)
    assert team.ci.get("BASE") == "base-dev"
    alice.ok("group", "remove", "writers", "bob")
    team.sync()
    assert may(team.bob, "dev") == (True, False)
    alice.ok("group", "delete", "readers")
    team.sync()
    assert may(team.bob, "dev") == may(team.ci, "dev") == (False, False)


def test_s18_protected_environment(team: Team) -> None:
    team.alice.ok("env", "protect", "prod")
    team.grant("bob", "write", "api")
    team.grant("bob", "read", "api/prod")
    team.grant("carol", "write", "api")
    assert may(team.bob, "prod") == (True, False)
    assert may(team.bob, "dev") == (True, True)
    assert may(team.carol, "prod") == (False, False)
    said = team.carol.zopp("access", "carol", "api/prod", "--explain").out
    assert "write on api: stops at the protected boundary" in said


def test_s19_unprotected_stays_a_maximum(team: Team) -> None:
    team.grant("bob", "write", "api")
    done = team.alice.ok("grant", "bob", "read", "api/prod")
    assert "bob has write on api/prod already from api" in done.err
    team.sync()
    assert may(team.bob, "prod") == (True, True)


def test_s20_protecting_is_a_removal(team: Team) -> None:
    team.grant("bob", "write", "api")
    refused(team.bob.zopp("env", "protect", "prod"), 1)
    before = team.alice.read("secrets/prod.yaml")
    done = team.alice.ok("env", "protect", "prod", "--json")
    said = json.loads(done.out)
    assert said["rekeyed"]["api/prod"][0]["new_data_key"] is True
    exposed = {
        "subject": "bob",
        "environment": "api/prod",
        "file": "secrets/prod.yaml",
        "key": "BASE",
        "why": ["direct"],
    }
    assert [exposed] == [{name: each[name] for name in exposed} for each in said["exposed"]]
    assert all(len(each["commits"]) >= 1 for each in said["exposed"])
    assert team.bob.recipient.encode() in before
    assert team.bob.recipient.encode() not in team.alice.read("secrets/prod.yaml")
    team.sync()
    refused(team.bob.zopp("env", "unprotect", "prod"), 1)
    assert "bob on bob-laptop may now write api/prod" in team.alice.ok("env", "unprotect", "prod").err


def test_s21_s22_device_cap(team: Team) -> None:
    team.alice.ok("principal", "cap", "bob-laptop", "admin")
    team.sync()
    assert may(team.bob, "dev") == (False, False)
    team.grant("bob", "write", "api/dev")
    assert may(team.bob, "dev") == (True, True)
    team.alice.ok("principal", "cap", "bob-laptop", "read")
    team.sync()
    assert may(team.bob, "dev") == (True, False)
    team.alice.ok("principal", "cap", "bob-laptop", "clear")
    team.sync()
    assert may(team.bob, "dev") == (True, True)


def test_s23_no_way_round_a_cap(team: Team) -> None:
    team.grant("bob", "admin", "acme")
    team.alice.ok("principal", "cap", "bob-laptop", "write")
    team.sync()
    bob, before = team.bob, team.bob.tree()
    asked = bob.ok(
        "principal", "request", "--service", "robot", "--out-keys", str(team.base / "robot"),
    ).out  # fmt: skip
    for argv in (
        ("principal", "cap", "bob-laptop", "clear"),
        ("principal", "cap", "bob-laptop", "admin"),
        ("principal", "add", "-"),
        ("grant", "ci", "admin", "acme"),
        ("grant", "bob", "admin", "api"),
    ):
        refused(bob.zopp(*argv, stdin=asked), 1)
    assert bob.tree() == before


@pytest.mark.parametrize("role", ["read", "write"])
def test_s24_only_admins_grant(team: Team, role: str) -> None:
    team.grant("bob", role, "acme")
    team.alice.ok("group", "create", "g")
    team.sync()
    for target in ("carol", "g", "ci"):
        for scope in ("acme", "api", "api/dev"):
            refused(team.bob.zopp("grant", target, "read", scope), 1)
    refused(team.bob.zopp("revoke", "bob", "acme"), 1)


def test_s25_letting_in_is_a_grant(team: Team) -> None:
    """An admin of api cannot add to a group that is also bound elsewhere, enrol, or cap."""
    alice, bob = team.alice, team.bob
    for group, scopes in (("here", ["api"]), ("wider", ["api", "acme"])):
        alice.ok("group", "create", group)
        for scope in scopes:
            alice.ok("grant", group, "read", scope)
    team.grant("bob", "admin", "api")
    bob.ok("group", "add", "here", "carol")
    bob.git("checkout", "-q", "--", ".")
    refused(bob.zopp("group", "add", "wider", "carol"), 1)
    refused(bob.zopp("principal", "cap", "carol-desktop", "read"), 1)
    refused(bob.zopp("env", "unprotect", "prod", "-p", "nowhere"), 1)


def test_s26_superiors(team: Team) -> None:
    team.grant("bob", "admin", "api")
    refused(team.bob.zopp("revoke", "alice", "acme"), 1)
    refused(team.bob.zopp("revoke", "alice", "api"), 1)
    refused(team.bob.zopp("principal", "disable", "alice-laptop"), 1)
    assert team.alice.ok("access", "alice", "api/dev", "--json").code == 0


def test_s27_writers_do_not_touch_groups(team: Team) -> None:
    team.alice.ok("group", "create", "g")
    team.grant("bob", "write", "acme")
    for argv in (("group", "delete", "g"), ("grant", "g", "read", "api"), ("group", "create", "h")):
        refused(team.bob.zopp(*argv), 1)


def lines(user: User) -> list[bytes]:
    return user.read(".zopp/policy.jsonl").splitlines(keepends=True)


@pytest.mark.parametrize("how", ["edited", "dropped", "reordered", "unsigned", "surplus", "truncated", "blank"])
def test_s28_a_changed_log_is_refused(team: Team, how: str) -> None:
    team.grant("bob", "read", "api/dev")
    bob, log = team.bob, lines(team.bob)
    assert bob.zopp("verify").code == 0
    made = {
        "edited": [*log[:-1], log[-1].replace(b'"read"', b'"admin"')],
        "dropped": [*log[:-2], log[-1]],
        "reordered": [*log[:-2], log[-1], log[-2]],
        "unsigned": [*log[:-1], log[-1].partition(b',"sigs"')[0] + b',"sigs":[]}\n'],
        "surplus": [*log[:-1], log[-1].replace(b'"sigs":["', b'"sigs":["' + b"A" * 86 + b'","')],
        "truncated": [*log[:-1], log[-1][:-9]],
        "blank": [*log, b"\n"],
    }[how]
    bob.write(".zopp/policy.jsonl", b"".join(made))
    refused(bob.zopp("verify"), 1, words=["policy"])
    refused(bob.zopp("get", "BASE", "-e", "dev"), 1)
    refused(bob.zopp("set", "K", "-e", "dev", stdin="x"), 1)


def test_s29_always_one_human_admin(team: Team) -> None:
    alice, before = team.alice, team.alice.tree()
    for argv in (
        ("revoke", "alice", "acme"), ("offboard", "alice"), ("principal", "disable", "alice-laptop"),
        ("principal", "cap", "alice-laptop", "write"), ("grant", "alice", "write", "acme"),
    ):  # fmt: skip
        refused(alice.zopp(*argv), 1)
    assert alice.tree() == before
    alice.ok("grant", "ci", "admin", "acme")
    refused(alice.zopp("revoke", "alice", "acme"), 1)


def test_s30_two_admins_at_once(team: Team) -> None:
    """Each demotes the other from the same point: one stands, the other does not hold on top of it."""
    team.grant("bob", "admin", "acme")
    alice, bob = team.alice, team.bob
    alice.ok("revoke", "bob", "acme", "-m", "bob out")
    bob.ok("revoke", "alice", "acme", "-m", "alice out")
    alice.push()
    bob.git("fetch", "-q", "origin")
    refused(bob.zopp("policy", "rebase", "--onto", "origin/main"), 1)
    assert alice.ok("access", "alice", "acme").code == 0


def test_s30_independent_statements_are_rebased(team: Team) -> None:
    team.grant("bob", "admin", "acme")
    alice, bob = team.alice, team.bob
    alice.ok("group", "create", "one", "-m", "one")
    alice.push()
    bob.ok("group", "create", "two", "-m", "two")
    bob.git("fetch", "-q", "origin")
    bob.git("merge", "origin/main", check=False)
    bob.ok("policy", "rebase")
    bob.commit("merged")
    bob.ok("verify")
    assert set(json.loads(bob.ok("group", "list", "--json").out)) == {"one", "two"}


def test_s31_a_creator_may_step_down(team: Team) -> None:
    team.grant("bob", "admin", "acme")
    # Who steps down cannot rekey what they lose: it stays open (exit 1) for the other admin.
    done = team.alice.zopp("revoke", "alice", "acme", code=1)
    # She signed everything there, so what helps is a look and a signature; `rekey` refuses.
    for env in ("dev", "staging", "prod"):
        assert f"a writer there has to run: zopp sign -e {env} --only KEY…" in done.err
    assert "zopp rekey" not in done.err.replace("until a writer runs: zopp rekey", "")
    team.alice.share("alice steps down")
    team.bob.pull()
    assert team.bob.zopp("verify").code == 1
    # Everything there was signed by somebody who may not write now, so Bob looks at every key before he signs.
    for env in ("dev", "staging", "prod"):
        refused(team.bob.zopp("sign", "-e", env, "--unchanged"), 1, words=["BASE"])
        team.bob.ok("sign", "-e", env, "--only", "BASE")
    team.bob.ok("verify")
    assert team.alice.recipient.encode() not in team.bob.read("secrets/dev.yaml")
    assert team.bob.ok("access", "bob", "acme").code == 0
    assert team.bob.zopp("access", "alice", "acme").code == 1


def test_s32_service_life(team: Team) -> None:
    ci = team.ci
    assert may(ci, "dev") == (False, False)
    team.grant("ci", "read", "api/dev")
    assert may(ci, "dev") == (True, False)
    team.grant("ci", "write", "api/dev")
    assert may(ci, "dev") == (True, True)
    team.alice.ok("revoke", "ci", "api/dev")
    team.sync()
    assert may(ci, "dev") == (False, False)


def test_s33_two_workspaces(team: Team, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Team.make(tmp_path_factory.mktemp("other"))
    team.grant("ci", "read", "api/dev")
    stranger = User("ci", "ci", other.base, dict(team.ci.extra))
    refused(stranger.zopp("get", "BASE", "-e", "dev"), 1, 3)
    assert team.ci.get("BASE") == "base-dev"


@pytest.mark.parametrize("typed", ["bob@example.org", "Bob@Example.ORG", "BOB@EXAMPLE.ORG"])
def test_s35_any_spelling_of_an_address_is_one_user(team: Team, typed: str) -> None:
    """In grant, access, offboard; the repository holds a handle and a keyed tag, never the address."""
    team.alice.ok("grant", typed, "read", "api/dev")
    team.sync()
    assert may(team.bob, "dev") == (True, False)
    assert team.alice.ok("access", typed, "api/dev").out.startswith("bob has read")
    assert "bob would lose" in team.alice.ok("offboard", typed, "--dry-run").err
    assert b"bob@example.org" not in b"".join(team.alice.tree().values()).lower()
    refused(team.alice.zopp("grant", "nobody@example.org", "read", "api/dev"), 1)


def test_s36_no_ghosts(team: Team) -> None:
    alice = team.alice
    team.grant("bob", "write", "api/staging")
    assert may(team.bob, "staging") == (True, True)
    alice.ok("env", "archive", "staging", "--yes")
    alice.ok("env", "add", "staging")
    alice.zopp("set", "BASE", "-e", "staging", stdin="again", code=0)
    team.sync()
    assert may(team.bob, "staging") == (False, False)
    assert alice.path(".zopp/manifest/api/staging@2.json").exists()
    for bad in ("a/b", "x@2", "Dev", "..", "dev"):
        assert alice.zopp("env", "add", bad).code in (1, 2)
    assert alice.zopp("project", "create", "acme").code in (1, 2)
    assert alice.zopp("group", "create", "bob").code in (1, 2)


def test_s39_a_second_device(team: Team) -> None:
    team.grant("bob", "write", "api/dev")
    phone = team.fresh(team.bob, "phone")
    keys = phone.home / ".config/zopp/keys"
    for path in keys.iterdir():
        path.unlink()
    phone.ok("trust", "--genesis", team.alice.state().ws)
    asked = phone.ok("principal", "request", "--user", "bob", "--name", "bob-phone").out
    refused(phone.zopp("get", "BASE", "-e", "dev"), 1, 3)
    team.alice.ok("principal", "add", "-", stdin=asked)
    team.sync()
    phone.pull()
    assert phone.get("BASE") == "base-dev"
    phone.set("FROM_PHONE", "x")
    phone.share("phone")
    team.bob.pull()
    assert team.bob.get("FROM_PHONE") == "x"
    refused(team.alice.zopp("principal", "add", "-", stdin=asked), 1)
    changed = asked.replace("bob-phone", "bob-tablet")
    refused(team.alice.zopp("principal", "add", "-", stdin=changed), 1)


def test_s40_key_files_are_private(team: Team) -> None:
    alice = team.alice
    for path in (alice.home / ".config/zopp/keys").glob("*.age"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
    done = alice.zopp("get", "BASE", "-e", "dev")
    refused(done, 1, 3, words=["chmod"])
    for path in (alice.home / ".config/zopp/keys").glob("*.age"):
        path.chmod(0o600)
    assert alice.get("BASE") == "base-dev"
