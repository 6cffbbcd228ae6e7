"""S13-S33 and S54-S56 further: who may change the policy, forged statements, swaps by someone without a key."""

import base64
import json
import random
from collections.abc import Callable

import pytest

from tests.scenarios.test_s11_roles import may
from tests.support import ENVIRONMENTS, Team, User, refused
from zopp.policy import log, statement
from zopp.repo.clock import now

POLICY = ".zopp/policy.jsonl"
DEV = ("secrets/dev.yaml", ".zopp/manifest/api/dev.json", ".zopp/manifest/api/dev.json.sig")


def clean(*users: User) -> None:
    for user in users:
        user.git("checkout", "-q", "--", ".")
        user.git("clean", "-qfd")


# --- S13, S14, S17, S20


@pytest.mark.parametrize("seed", range(4))
def test_s13_access_equals_what_happens_in_generated_policies(team: Team, seed: int) -> None:
    rng, alice = random.Random(seed), team.alice
    alice.ok("group", "create", "g")
    subjects, scopes = ["bob", "carol", "ci", "g"], ["acme", "api", "api/dev", "api/staging", "api/prod"]
    for member in rng.sample(subjects[:3], 2):
        alice.ok("group", "add", "g", member)
    for _ in range(5):
        alice.ok("grant", rng.choice(subjects), rng.choice(["read", "write", "admin"]), rng.choice(scopes))
    alice.ok("env", "protect", rng.choice(ENVIRONMENTS))
    alice.ok("principal", "cap", "carol-desktop", rng.choice(["none", "read", "write"]))
    team.sync()
    for user in (team.bob, team.carol, team.ci):
        for env in ENVIRONMENTS:
            said = user.zopp("access", user.principal, f"api/{env}", "--json")
            role = said.json["role"]
            assert (said.code == 0) == (role != "none")
            assert may(user, env) == (role != "none", role in ("write", "admin")), (user.name, env, said.out)


def test_s14_later_environments_and_projects(team: Team) -> None:
    team.grant("bob", "admin", "acme")
    team.grant("carol", "read", "api")
    team.alice.ok("env", "add", "later")
    team.alice.set("BASE", "base-later", "later")
    team.alice.ok("project", "create", "web")
    team.sync()
    assert team.bob.get("BASE", "later") == "base-later"
    assert team.carol.get("BASE", "later") == "base-later"
    roles = team.bob.ok("access", "bob", "--json").json["roles"]
    assert roles["web"] == roles["api/later"] == "admin"
    assert team.carol.ok("access", "carol", "--json").json["roles"]["web"] == "none"  # S15


def test_s20_unprotecting_lists_who_gains_before_anything_is_signed(team: Team) -> None:
    alice = team.alice
    alice.ok("env", "protect", "prod")
    team.grant("bob", "write", "api")
    before = alice.tree()
    said = alice.ok("env", "unprotect", "prod", "--dry-run")
    assert "bob on bob-laptop may now write api/prod" in said.err
    assert alice.tree() == before
    team.grant("carol", "admin", "api/prod")  # admin of that environment is enough, of the project's it is, too
    team.carol.ok("env", "unprotect", "prod", "--yes")
    team.carol.ok("env", "protect", "prod")


# --- S23, S24, S27


def test_s23_a_capped_device_cannot_come_back_as_another(team: Team) -> None:
    alice, bob = team.alice, team.bob
    team.grant("bob", "admin", "acme")
    alice.ok("principal", "cap", "bob-laptop", "read")
    team.sync()
    phone = team.fresh(bob, "phone")
    for path in (phone.home / ".config/zopp/keys").iterdir():
        path.unlink()
    phone.ok("trust", "--genesis", alice.state().ws)
    asked = phone.ok("principal", "request", "--user", "bob", "--name", "bob-phone").out
    before = bob.tree()
    for argv in (
        ("principal", "add", "-"), ("principal", "add", "-", "--cap", "admin"),
        ("principal", "cap", "bob-laptop", "none"),
        ("principal", "cap", "bob-laptop", "clear"), ("principal", "enable", "bob-laptop"),
        ("principal", "adopt", alice.recipient, "--name", "x"), ("group", "create", "g"),
    ):  # fmt: skip
        done = bob.zopp(*argv, stdin=asked)
        assert bob.tree() == before, argv
        if argv[1] != "enable":
            refused(done, 1)
    # He may always take his own device out; that way back is closed too.
    bob.zopp("principal", "disable", "bob-laptop")
    refused(bob.zopp("principal", "enable", "bob-laptop"), 1)


def test_s24_an_environment_admin_grants_there_and_a_project_admin_in_the_project(team: Team) -> None:
    team.grant("bob", "admin", "api/dev")
    team.alice.ok("project", "create", "web")
    team.grant("carol", "admin", "api")
    for user, here, elsewhere in (
        (team.bob, ["api/dev"], ["api/prod", "api", "web", "acme"]),
        (team.carol, ["api/dev", "api/prod", "api"], ["web", "acme"]),
    ):
        for scope in here:
            user.ok("grant", "ci", "read", scope)
            user.ok("revoke", "ci", scope)
        clean(user)
        for scope in elsewhere:
            refused(user.zopp("grant", "ci", "read", scope), 1, words=[user.principal, "admin"])


def test_s27_a_project_admin_sets_group_roles_there_only(team: Team) -> None:
    team.alice.ok("group", "create", "g")
    team.alice.ok("project", "create", "web")
    team.grant("bob", "admin", "api")
    team.bob.ok("grant", "g", "write", "api")
    team.bob.ok("grant", "g", "read", "api/dev")
    refused(team.bob.zopp("grant", "g", "read", "web"), 1)
    refused(team.bob.zopp("group", "delete", "g"), 1)
    team.bob.ok("revoke", "g", "api")


# --- S28: statements that a hand, or the wrong key, put there


def crafted(user: User, data: bytes, type_: str, body: dict[str, object], **over: object) -> bytes:
    """`data` with one more statement on top, signed with `user`'s key, whatever the policy says of it."""
    lines = log.split(data)
    last = statement.parse(lines[-1])
    fields: dict[str, object] = {
        "ws": statement.parse(lines[0]).hash, "seq": last.seq + 1, "prev": last.hash, "at": max(now(), last.at),
        "by": user.principal, **over,
    }  # fmt: skip
    drafted = statement.draft(type_, body, **fields)  # type: ignore[arg-type]
    return data + statement.seal(drafted, [user.key.sign(statement.to_sign(drafted))]) + b"\n"


GRANT: dict[str, object] = {"role": "admin", "scope": {"workspace": "acme"}, "subject": {"user": "bob"}}


@pytest.mark.parametrize(
    "how", ["by a writer", "by a revoked key", "for another workspace", "dated before", "by nobody"]
)
def test_s28_a_statement_by_the_wrong_hand(team: Team, how: str) -> None:
    alice, bob = team.alice, team.bob
    team.grant("bob", "admin" if how == "by a revoked key" else "write", "acme")
    if how == "by a revoked key":
        alice.ok("principal", "disable", "bob-laptop")
        team.sync()
    data = alice.read(POLICY)
    last = statement.parse(log.split(data)[-1])
    made = {
        "by a writer": lambda: crafted(bob, data, "binding.set", GRANT),
        "by a revoked key": lambda: crafted(bob, data, "binding.set", GRANT),
        "for another workspace": lambda: crafted(alice, data, "binding.set", GRANT, ws="0" * 64),
        "dated before": lambda: crafted(alice, data, "binding.set", GRANT, at=last.at - 1),
        "by nobody": lambda: crafted(bob, data, "binding.set", GRANT, by="alice-laptop"),
    }[how]()
    alice.write(POLICY, made)
    place = f"statement {last.seq + 1}"
    for argv in (("verify",), ("get", "BASE", "-e", "dev", "--json"), ("access",), ("set", "K", "-e", "dev")):
        refused(alice.zopp(*argv, stdin="x"), 1, words=["policy.jsonl"])
    assert place in alice.zopp("verify").text
    # The twin: the same statement by an admin, for this workspace, and now.
    alice.write(POLICY, crafted(alice, data, "group.create", {"group": "g"}))
    alice.ok("verify")


def test_s28_every_line_is_covered(team: Team) -> None:
    """Each line dropped, swapped with the next, doubled, or one character of its body or signature changed."""
    team.grant("bob", "read", "api/dev")
    alice = team.alice
    rows = alice.read(POLICY).splitlines(keepends=True)
    alice.ok("verify")
    tampered: list[tuple[str, list[bytes]]] = []
    for n, row in enumerate(rows):
        if n + 1 < len(rows):
            tampered.append((f"drop {n}", rows[:n] + rows[n + 1 :]))
            tampered.append((f"swap {n}", [*rows[:n], rows[n + 1], row, *rows[n + 2 :]]))
        tampered.append((f"twice {n}", [*rows[: n + 1], row, *rows[n + 1 :]]))
        at = row.index(b'"at":') + 5
        tampered.append((f"date {n}", [*rows[:n], row[:at] + (b"2" if row[at:][:1] != b"2" else b"3") + row[at + 1 :]]))
        sig = row.rindex(b'"]')
        old = base64.urlsafe_b64decode(row[sig - 86 : sig] + b"==")
        new = base64.urlsafe_b64encode(bytes([old[0] ^ 1]) + old[1:]).rstrip(b"=")
        tampered.append((f"sig {n}", [*rows[:n], row[: sig - 86] + new + row[sig:], *rows[n + 1 :]]))
    for what, lines in tampered:
        alice.write(POLICY, b"".join(lines))
        done = alice.zopp("verify")
        assert done.code == 1 and "policy.jsonl" in done.out, (what, done.text)
        assert alice.zopp("set", "K", "-e", "dev", stdin="x").code == 1, what
    alice.write(POLICY, b"".join(rows))
    alice.ok("verify")


# --- S30, S33


def test_s30_whoever_comes_second_is_refused(team: Team) -> None:
    """Bob's came first this time. Alice's cannot be laid on top, and one admin remains."""
    team.grant("bob", "admin", "acme")
    alice, bob = team.alice, team.bob
    bob.ok("revoke", "alice", "acme", "-m", "alice out")
    bob.push()
    alice.ok("revoke", "bob", "acme", "-m", "bob out")
    alice.git("fetch", "-q", "origin")
    alice.git("merge", "-q", "origin/main", check=False)
    before = alice.read(POLICY)
    refused(alice.zopp("policy", "rebase"), 1, words=["alice-laptop"])
    assert alice.read(POLICY) == before
    fresh = team.fresh(team.carol)
    fresh.ok("trust", "--genesis", bob.state().ws)
    fresh.ok("verify")
    assert fresh.ok("access", "bob", "acme", "--json").json["role"] == "admin"
    assert fresh.zopp("access", "alice", "acme").code == 1


def test_s33_a_request_for_one_workspace_is_none_for_another(
    team: Team, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Only an admin of `other` lets ci in there, by a request made there; its roles are independent."""
    fresh = Team(tmp_path_factory.mktemp("other"))
    fresh._build()
    assert fresh.alice.state().ws != team.alice.state().ws
    asked = team.ci.ok("principal", "request", "--service", "ci-two", "--out-keys", str(team.base / "two")).out
    refused(fresh.alice.zopp("principal", "add", "-", stdin=asked), 1)
    team.alice.ok("principal", "add", "-", stdin=asked)
    team.grant("ci-two", "read", "api/dev")
    keys = {
        "ZOPP_AGE_KEY_FILE": str(team.base / "two/age.key"),
        "ZOPP_SIGNING_KEY_FILE": str(team.base / "two/signing.key"),
    }
    assert team.ci.ok("get", "BASE", "-e", "dev", env=keys).out == "base-dev"
    refused(fresh.ci.zopp("get", "BASE", "-e", "dev", env=keys), 1, 3)


# --- S54-S56


def _other_manifest(alice: User) -> None:
    for suffix in ("", ".sig"):
        alice.write(DEV[1] + suffix, alice.read(".zopp/manifest/api/staging.json" + suffix))


def _sig_of_another(alice: User) -> None:
    alice.write(DEV[2], alice.read(".zopp/manifest/api/staging.json.sig"))


def _whole_environment(alice: User) -> None:
    _other_manifest(alice)
    alice.write(DEV[0], alice.read("secrets/staging.yaml"))


def _value_of_another_file(alice: User) -> None:
    there = next(r for r in alice.read("secrets/staging.yaml").decode().split("\n") if r.startswith("BASE: "))
    here = next(r for r in alice.read(DEV[0]).decode().split("\n") if r.startswith("BASE: "))
    alice.replace(DEV[0], here, there)


def _mac_gone(alice: User) -> None:
    text = alice.read(DEV[0]).decode()
    alice.write(DEV[0], "\n".join(row for row in text.split("\n") if not row.strip().startswith("mac:")))


def _comment(alice: User) -> None:
    alice.write(DEV[0], b"# innocent\n" + alice.read(DEV[0]))


def _file_gone(alice: User) -> None:
    alice.path(DEV[0]).unlink()


def _manifest_gone(alice: User) -> None:
    for path in DEV[1:]:
        alice.path(path).unlink()


def _link(alice: User) -> None:
    alice.path("secrets/dev.real").write_bytes(alice.read(DEV[0]))
    alice.path(DEV[0]).unlink()
    alice.path(DEV[0]).symlink_to("dev.real")


SWAPS: dict[str, Callable[[User], None]] = {
    "manifest of another": _other_manifest,
    "signature of another": _sig_of_another,
    "whole environment": _whole_environment,
    "value of another file": _value_of_another_file,
    "mac gone": _mac_gone,
    "comment": _comment,
    "file gone": _file_gone,
    "manifest gone": _manifest_gone,
    "link": _link,
}


@pytest.mark.parametrize("what", SWAPS)
def test_s55_swaps_without_a_key(team: Team, what: str) -> None:
    """Pushed by someone who can only write to git: no reading command prints, no command encrypts, CI blocks."""
    team.grant("ci", "read", "api/dev")
    alice, mallory = team.alice, team.carol
    job = team.job("before")
    assert job.get("BASE") == "base-dev"
    job.ok("verify")
    SWAPS[what](mallory)
    mallory.share("innocent")
    alice.pull()
    before = alice.tree()
    for argv in (
        ("get", "BASE", "-e", "dev"), ("get", "--reveal", "-e", "dev"), ("export", "-e", "dev"), ("verify",),
        ("run", "-e", "dev", "--", "true"), ("set", "K", "-e", "dev"), ("unset", "BASE", "-e", "dev", "--yes"),
        ("import", "-", "-e", "dev"), ("rekey", "--all", "api/dev"),
    ):  # fmt: skip
        done = alice.zopp(*argv, stdin="A=b\n")
        assert done.code in (1, 3, 125), (argv, done.text)
        assert "base-" not in done.out and done.exec is None, argv
        assert alice.tree() == before, argv
    # The policy may change; what does not verify is named and not encrypted to anyone.
    done = alice.zopp("grant", "bob", "read", "api/dev")
    assert "api/dev" in done.err and (done.code == 1 or what == "manifest gone"), done.text
    assert all(alice.read(p) == before[p] for p in DEV if p in before)
    for name in ("get", "verify"):
        refused(team.job(f"job-{name}").zopp(*((name,) if name == "verify" else (name, "BASE", "-e", "dev"))), 1, 3)
    # The other environments are as good as before.
    assert alice.get("BASE", "staging") == "base-staging"


def test_s55_an_older_state_reads_warns_and_is_written_to_on_request_only(team: Team) -> None:
    alice = team.alice
    head = alice.git("rev-parse", "HEAD")
    alice.set("BASE", "newer")
    alice.ok("group", "create", "g")
    team.sync()
    alice.git("checkout", "-q", "-b", "side", head)
    done = alice.ok("get", "BASE", "-e", "dev")
    assert done.out == "base-dev" and "older" in done.err
    alice.ok("verify")  # a side branch may be behind
    refused(alice.zopp("verify", "--require-latest"), 1, words=["older"])
    before = alice.tree()
    refused(alice.zopp("set", "K", "-e", "dev", stdin="x"), 1, words=["--on-old-base"])
    assert alice.tree() == before
    alice.ok("set", "K", "-e", "dev", "--on-old-base", stdin="x")
    alice.ok("verify")
    clean(alice)
    alice.git("checkout", "-q", "main")
    alice.git("reset", "-q", "--hard", head)
    refused(alice.zopp("verify"), 1, words=["older"])
    alice.pull()
    alice.ok("verify")


def test_s54_nothing_signs_a_readers_edit_unasked(team: Team) -> None:
    """A reader who is a writer elsewhere: every command that signs for him or after him leaves the edit unsigned."""
    team.grant("bob", "read", "api/dev")
    team.grant("bob", "write", "api/staging")
    alice, bob = team.alice, team.bob
    value = next(row for row in bob.read(DEV[0]).decode().split("\n") if row.startswith("BASE: "))
    bob.replace(DEV[0], value, value.replace("ENC[", "ENC[", 1).replace("BASE", "OTHER"))
    bob.share("renamed")
    alice.pull()
    signed = alice.read(DEV[1])
    for user in (bob, alice):
        user.set("K", "x", "staging")
        user.zopp("rekey")
        user.zopp("sign", "-e", "staging", "--unchanged")
        user.zopp("doctor")
        assert user.read(DEV[1]) == signed
        refused(user.zopp("verify"), 1, words=[DEV[0]])
        clean(user)
    refused(bob.zopp("sign", "-e", "dev", "--only", "OTHER", "BASE"), 1, words=["bob-laptop", "write"])
    alice.git("revert", "--no-edit", "HEAD")
    alice.ok("verify")


def test_s56_a_request_changed_on_its_way_lets_nobody_in(team: Team) -> None:
    """Whoever carries it may name another key, role or person for Bob: it bears no proof then."""
    alice, carol = team.alice, team.carol
    dave = team.fresh(carol, "dave")
    for path in (dave.home / ".config/zopp/keys").iterdir():
        path.unlink()
    dave.ok("trust", "--genesis", alice.state().ws)
    asked = json.loads(dave.ok("principal", "request", "--user", "dave", "--name", "dave-laptop").out)
    before = alice.tree()
    for field, value in (
        ("recipient", carol.recipient), ("user", "alice"), ("name", "dave-phone"), ("ws", "0" * 64), ("id", "A" * 22),
        ("not_after", asked["request"]["not_after"] + 1), ("role", "admin"),
    ):  # fmt: skip
        forged = {**asked, "request": {**asked["request"], field: value}}
        refused(alice.zopp("principal", "add", "-", stdin=json.dumps(forged)), 1, 2)
        assert alice.tree() == before
    alice.ok("principal", "add", "-", stdin=json.dumps(asked, sort_keys=True, separators=(",", ":")))
    assert alice.ok("access", "dave", "--json").json["roles"]["acme"] == "none"
