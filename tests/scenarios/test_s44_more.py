"""S44-S50 further: what others keep, unmerged branches, interruptions, ways of losing read, old commits.

The first look at each is in `test_s44_removal.py`."""

import shutil
from collections.abc import Callable

import pytest

from tests.robustness.test_crash import attempt
from tests.support import ENVIRONMENTS, Team, User, refused
from zopp import sopsfile
from zopp.errors import ZoppError
from zopp.keys import agefile


def data_key(user: User, env: str) -> bytes | None:
    """The data key that `user`'s own keys open with no tool at all; None if they open nothing."""
    file = sopsfile.read(user.read(f"secrets/{env}.yaml"), "yaml")
    for group in file.metadata.groups:
        for entry in group:
            try:
                return agefile.unwrap(entry.enc, user.identities)
            except ZoppError:
                continue
    return None


def exposed(user: User, who: str) -> set[tuple[str, str]]:
    return {(row["environment"], row["key"]) for row in user.zopp("exposure", who, "--json").json}


def test_s44_the_others_keep_reading(team: Team) -> None:
    """One command: new data keys, the reader's keys open nothing, every value listed until it is changed."""
    alice, bob = team.alice, team.bob
    team.grant("bob", "read", "api")
    team.grant("carol", "read", "api")
    alice.git("checkout", "-q", "-b", "side")
    alice.set("ONLY_ON_SIDE", "x")
    alice.commit("side")
    alice.git("checkout", "-q", "main")
    before = {env: data_key(bob, env) for env in ENVIRONMENTS}
    assert all(before.values())
    said = alice.ok("revoke", "bob", "api", "-m", "bob out").err
    for env in ENVIRONMENTS:
        assert f"api/{env}: new data key in secrets/{env}.yaml" in said
        assert f"  api/{env} BASE" in said
    assert "  api/dev ONLY_ON_SIDE" in said
    assert "side" in said
    assert "other branches and repositories are not rekeyed" in said
    alice.push()
    bob.pull()
    for env in ENVIRONMENTS:
        assert data_key(bob, env) is None
        assert data_key(alice, env) not in (None, before[env])
        refused(bob.zopp("get", "BASE", "-e", env), 1, words=["bob-laptop", "read", f"api/{env}"])
    team.carol.pull()
    assert team.carol.get("BASE") == "base-dev"
    alice.ok("verify")
    assert len(exposed(alice, "bob")) == 4
    alice.set("BASE", "new at its source")
    assert ("api/dev", "BASE") not in exposed(alice, "bob")
    assert len(exposed(alice, "bob")) == 3


def test_s44_other_branches_fail_verify_and_say_what_to_do(team: Team) -> None:
    alice = team.alice
    team.grant("bob", "read", "api/dev")
    alice.git("checkout", "-q", "-b", "side")
    alice.set("SIDE", "x")
    alice.commit("side")
    alice.ok("verify")
    alice.git("checkout", "-q", "main")
    alice.ok("revoke", "bob", "api/dev", "-m", "bob out")
    alice.ok("verify")
    alice.git("checkout", "-q", "side")
    done = alice.zopp("verify", "--require-latest")
    refused(done, 1, words=["older"])
    # The new policy on the side branch, with its old files: an environment that was not rekeyed.
    alice.git("checkout", "-q", "main", "--", ".zopp/policy.jsonl")
    done = alice.zopp("verify")
    refused(done, 1, words=["stale", "not_rotated"])
    refused(alice.zopp("set", "K", "-e", "dev", stdin="x"), 1, words=["zopp rekey api/dev"])
    refused(alice.zopp("rekey", "api/dev"), 1, words=["merge the default branch", "--on-old-base"])
    alice.ok("rekey", "api/dev", "--on-old-base")
    alice.ok("verify")
    assert data_key(team.bob, "dev") is not None  # his clone is older
    shutil.copy(alice.path("secrets/dev.yaml"), team.bob.path("secrets/dev.yaml"))
    assert data_key(team.bob, "dev") is None


@pytest.mark.parametrize("how", ["gone", "garbled"])
def test_s44_an_environment_that_could_not_be_rekeyed_is_named(team: Team, how: str) -> None:
    """Its manifest is gone or unreadable: the removal says that it is not done there, and exits 1."""
    alice, path = team.alice, ".zopp/manifest/api/dev.json"
    team.grant("bob", "read", "api")
    kept = {name: alice.read(name) for name in (path, path + ".sig")}
    for name in kept:
        alice.path(name).unlink() if how == "gone" else alice.write(name, "{}")
    alice.commit(how)
    for argv in (("get", "--reveal"), ("run", "--", "true"), ("list",)):
        done = alice.zopp(argv[0], "-e", "dev", *argv[1:])
        refused(done, 1, 125)
        assert done.exec is None and done.out == ""
    done = alice.zopp("revoke", "bob", "api", code=1)
    assert "api/dev is not done" in done.err
    assert "api/staging: new data key in secrets/staging.yaml" in done.err
    refused(alice.zopp("verify"), 1)
    for name, data in kept.items():
        alice.write(name, data)
    refused(alice.zopp("verify"), 1, words=["not_rotated"])
    alice.ok("rekey", "api/dev")
    alice.ok("verify")
    assert data_key(team.bob, "dev") is not None  # his clone, from before
    shutil.copy(alice.path("secrets/dev.yaml"), team.bob.path("secrets/dev.yaml"))
    assert data_key(team.bob, "dev") is None


def test_s45_offboard_dry_run_then_just_that(team: Team) -> None:
    alice, bob = team.alice, team.bob
    alice.ok("group", "create", "devs")
    alice.ok("grant", "devs", "write", "api/dev")
    alice.ok("group", "add", "devs", "bob")
    team.grant("bob", "read", "api/staging")
    before = alice.tree()
    plan = alice.ok("offboard", "bob", "--dry-run", "--json").json
    assert alice.tree() == before
    assert set(plan["removed"]) == {
        "role read on api/staging", "member of group devs", "device bob-laptop", "user bob",
    }  # fmt: skip
    assert {row["file"] for row in plan["exposed"]} == {"secrets/dev.yaml", "secrets/staging.yaml"}
    done = alice.ok("offboard", "bob", "--json", "-m", "bob left").json
    for field in ("removed", "effect", "rekeyed", "exposed"):
        assert done[field] == plan[field], field
    alice.push()
    bob.pull()
    assert [data_key(bob, env) for env in ENVIRONMENTS] == [None] * 3
    alice.ok("verify")
    after = alice.tree()
    assert "nothing left" in alice.ok("offboard", "bob").err
    assert alice.tree() == after


def test_s45_interrupted_it_finishes(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between two of its writes; the next command finishes, and the offboarding has nothing left to do."""
    alice = team.alice
    team.grant("bob", "read", "api")
    died = 0
    for number in (6, 12, 18, 24):
        died += attempt(alice, number, monkeypatch, "offboard", "bob")
    assert died
    alice.zopp("offboard", "bob", code=0)
    done = alice.ok("offboard", "bob")
    assert "nothing left" in done.err
    alice.ok("verify")
    shutil.copytree(alice.path("secrets"), team.bob.path("secrets"), dirs_exist_ok=True)
    assert [data_key(team.bob, env) for env in ENVIRONMENTS] == [None] * 3


def second_device(team: Team) -> User:
    """Bob's phone, enrolled."""
    phone = team.fresh(team.bob, "phone")
    for path in (phone.home / ".config/zopp/keys").iterdir():
        path.unlink()
    phone.ok("trust", "--genesis", team.alice.state().ws)
    asked = phone.ok("principal", "request", "--user", "bob", "--name", "bob-phone").out
    team.alice.ok("principal", "add", "-", stdin=asked)
    team.sync()
    phone.pull()
    phone.ok("verify")
    return phone


def test_s46_disabling_a_device_is_real(team: Team) -> None:
    alice, bob = team.alice, team.bob
    team.grant("bob", "write", "api/dev")
    phone = second_device(team)
    assert (bob.get("BASE"), phone.get("BASE")) == ("base-dev", "base-dev")
    bob.set("SIGNED_BY_LAPTOP", "x")
    bob.commit("his")
    done = alice.ok("principal", "disable", "bob-laptop", "--json", "-m", "stolen").json
    assert {row["subject"] for row in done["exposed"]} == {"bob-laptop"}
    alice.set("LATER", "y")
    alice.share()
    phone.pull()
    assert phone.get("LATER") == "y"
    phone.set("FROM_PHONE", "z")
    phone.ok("verify")
    manifest = alice.manifest("dev")
    recipients = {r for group in manifest.groups for r in group}
    assert bob.recipient not in recipients
    assert phone.recipient in recipients
    # What the laptop signed does not hold on top of the new policy.
    bob.git("fetch", "-q", "origin")
    bob.git("checkout", "-q", "origin/main", "--", ".zopp/policy.jsonl")
    refused(bob.zopp("verify"), 1, words=["bob-laptop", "dev.json"])
    bob.pull()
    refused(bob.zopp("set", "K", "-e", "dev", stdin="x"), 1, words=["bob-laptop"])
    bob.sign_manifest("dev")
    bob.share("forged")
    alice.pull()
    refused(alice.zopp("verify"), 1, words=["dev.json"])
    refused(alice.zopp("get", "BASE", "-e", "dev"), 1)


def _group(team: Team) -> None:
    team.alice.ok("group", "create", "devs")
    team.alice.ok("group", "add", "devs", "bob")
    team.grant("devs", "read", "api/dev")


LOSSES: dict[str, tuple[Callable[[Team], None], tuple[str, ...]]] = {
    "group binding": (_group, ("revoke", "devs", "api/dev")),
    "deleted group": (_group, ("group", "delete", "devs")),
    "protecting": (lambda team: team.grant("bob", "read", "api"), ("env", "protect", "dev")),
    "offboarding": (lambda team: team.grant("bob", "read", "api/dev"), ("offboard", "bob")),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_s47_keyless_from_one_commit(team: Team, loss: str) -> None:
    """However read is lost: a new data key, the values listed; and `verify` is red from the commit alone, without a
    key, where only the policy came along."""
    prepare, argv = LOSSES[loss]
    prepare(team)
    alice, bob = team.alice, team.bob
    key, old = data_key(bob, "dev"), alice.git("rev-parse", "HEAD")
    assert key is not None
    done = alice.ok(*argv, "--json", "-m", "loss").json
    assert {(row["environment"], row["key"]) for row in done["exposed"]} >= {("api/dev", "BASE")}
    alice.push()
    bob.pull()
    assert data_key(bob, "dev") is None
    assert data_key(alice, "dev") != key
    keyless = team.fresh(team.carol, "keyless")
    shutil.rmtree(keyless.home / ".config/zopp/keys")
    keyless.extra["ZOPP_TRUST"] = team.trust()
    keyless.ok("verify")
    for path in ("secrets/dev.yaml", ".zopp/manifest/api/dev.json", ".zopp/manifest/api/dev.json.sig"):
        keyless.git("checkout", "-q", old, "--", path)
    keyless.commit("files from before")
    refused(keyless.zopp("verify"), 1, words=["stale", "not_rotated", "api/dev"])


def test_s47_a_service_binding_counts_too(team: Team) -> None:
    team.grant("ci", "read", "api/dev")
    assert data_key(team.ci, "dev") is not None
    team.alice.ok("revoke", "ci", "api/dev")
    team.sync()
    assert data_key(team.ci, "dev") is None
    assert exposed(team.alice, "ci") == {("api/dev", "BASE")}


def test_s48_let_in_again_it_has_the_new_role_only(team: Team) -> None:
    alice, ci = team.alice, team.ci
    for role, scope in (("admin", "acme"), ("write", "api"), ("read", "api/dev")):
        alice.ok("grant", "ci", role, scope)
    team.sync()
    ci.set("BY_CI", "x")
    ci.git("checkout", "-q", "--", ".")
    alice.ok("offboard", "ci")
    team.sync()
    refused(ci.zopp("get", "BASE", "-e", "dev"), 1)
    assert alice.zopp("access", "ci", "api/dev").code == 1
    alice.ok("principal", "enable", "ci")
    alice.ok("grant", "ci", "read", "api/dev")
    team.sync()
    assert ci.get("BASE") == "base-dev"
    refused(ci.zopp("set", "K", "-e", "dev", stdin="x"), 1, words=["write"])
    refused(ci.zopp("get", "BASE", "-e", "prod"), 1)


def test_s49_signed_all_the_same(team: Team) -> None:
    """The same command signs again what he had signed last; what he signs from now on fails."""
    alice, bob = team.alice, team.bob
    team.grant("bob", "write", "api/dev")
    bob.set("HIS", "x")
    bob.share("his")
    old_commit = bob.git("rev-parse", "HEAD")
    alice.pull()
    key = data_key(alice, "dev")
    done = alice.ok("grant", "bob", "read", "api/dev", "--json").json
    assert done["exposed"] == []
    assert data_key(alice, "dev") == key
    assert alice.manifest("dev").signer == "alice-laptop"
    team.sync()
    assert bob.get("HIS") == "x"
    refused(bob.zopp("set", "K", "-e", "dev", stdin="x"), 1)
    bob.sign_manifest("dev")
    bob.share("signed all the same")
    alice.pull()
    refused(alice.zopp("verify"), 1, words=["bob-laptop"])
    refused(alice.zopp("get", "HIS", "-e", "dev"), 1, words=["zopp sign"])
    alice.zopp("sign", "-e", "dev", "--only", "BASE", "HIS", code=0)
    alice.ok("verify")
    assert alice.get("HIS") == "x"
    # An old commit is judged by its own log.
    then = team.fresh(team.carol, "then")
    then.ok("trust", "--genesis", alice.state().ws)
    then.git("checkout", "-q", old_commit)
    then.ok("verify")


def test_s50_whoknows_says_since_when(team: Team) -> None:
    alice = team.alice
    team.grant("bob", "read", "api/dev")
    said = alice.ok("whoknows", "BASE", "-e", "dev", "--json").json
    assert {row["principal"] for row in said} == {"alice-laptop", "bob-laptop"}
    assert all(row["since"] for row in said)
    since = next(row["since"] for row in said if row["principal"] == "bob-laptop")
    assert alice.git("log", "-1", "--format=%s", since) == "bob read api/dev"
    said = alice.ok("revoke", "bob", "api/dev").err
    assert "older commits stay readable to whoever held a key" in said
    alice.share("out")
    done = alice.ok("whoknows", "BASE", "-e", "dev")
    assert "bob" not in done.out
    assert "former readers keep what they could read" in done.err
    assert exposed(alice, "bob") == {("api/dev", "BASE")}
