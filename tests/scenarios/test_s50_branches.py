"""S45 and S50 on branches that were never merged: what their own policy logs let someone read counts as well."""

import json

import pytest

from tests.support import Team, User

CANARY = "canary-7f3a91c2"


def side(user: User, name: str = "side") -> None:
    user.git("checkout", "-q", "-b", name)


def back(user: User) -> None:
    user.git("checkout", "-q", "main")


def plan(user: User, *argv: str) -> dict[str, object]:
    """A dry run, which changes nothing and shows no value."""
    before = user.tree()
    done = user.zopp(*argv, "--dry-run", "--json")
    assert user.tree() == before
    assert CANARY not in done.text
    found: dict[str, object] = done.json
    return found


def exposed(found: dict[str, object]) -> set[tuple[str, str]]:
    return {(row["environment"], row["key"]) for row in found["exposed"]}  # type: ignore[attr-defined]


def test_s50_a_role_that_only_a_branch_gives(team: Team) -> None:
    """Bob has no role on main; a branch gave him one, and another took it away again."""
    alice = team.alice
    side(alice)
    alice.ok("grant", "bob", "read", "api/prod")
    alice.set("ONLY", CANARY, env="prod")
    commit = alice.commit("bob reads prod")
    back(alice)
    side(alice, "other")
    alice.ok("grant", "bob", "read", "api/staging", "-m", "bob reads staging")
    alice.ok("revoke", "bob", "api/staging", "-m", "and no more")
    back(alice)
    found = plan(alice, "offboard", "bob")
    assert exposed(found) == {("api/prod", "BASE"), ("api/prod", "ONLY"), ("api/staging", "BASE")}
    rows = {(row["environment"], row["key"]): row for row in found["exposed"]}  # type: ignore[attr-defined]
    assert rows["api/prod", "ONLY"]["commits"] == [commit]
    assert rows["api/prod", "BASE"]["why"] == ["direct"]
    said = alice.ok("offboard", "bob", "--dry-run").err
    assert f"  api/prod ONLY   (in {commit[:12]})" in said and "refs/heads/side" in said
    alice.ok("offboard", "bob", "-m", "bob left")
    done = alice.zopp("exposure", "bob", code=1)
    assert f"ONLY  in {commit[:12]}" in done.out
    assert alice.zopp("exposure", "bob", "--json").json[0]["commits"]
    alice.set("BASE", "new", env="prod")
    left = {(row["environment"], row["key"]) for row in alice.zopp("exposure", "--json").json}
    assert left == {("api/prod", "ONLY"), ("api/staging", "BASE")}
    every = {(r["environment"], r["key"]): r["changed"] for r in alice.zopp("exposure", "--all", "--json").json}
    assert every == {**dict.fromkeys(left, False), ("api/prod", "BASE"): True}
    assert "api/prod     BASE  changed since, in " in alice.zopp("exposure", "bob", "--all", code=1).out


def test_s50_a_group_and_an_environment_of_a_branch(team: Team) -> None:
    alice = team.alice
    side(alice)
    alice.ok("group", "create", "ops")
    alice.ok("group", "add", "ops", "bob")
    alice.ok("env", "add", "qa")
    alice.ok("grant", "ops", "read", "api/qa")
    alice.set("Q", CANARY, env="qa")
    alice.commit("qa")
    back(alice)
    assert exposed(plan(alice, "offboard", "bob")) == {("api/qa", "Q")}


def test_s50_a_device_of_a_branch(team: Team) -> None:
    """A phone that only a branch knows: offboarding its user counts it, disabling another device does not."""
    alice = team.alice
    team.grant("bob", "read", "api/dev")
    phone = team.fresh(team.bob, "phone")
    for path in (phone.home / ".config/zopp/keys").iterdir():
        path.unlink()
    phone.ok("trust", "--genesis", alice.state().ws)
    asked = phone.ok("principal", "request", "--user", "bob", "--name", "bob-phone").out
    side(alice)
    alice.ok("principal", "add", "-", stdin=asked)
    alice.ok("principal", "disable", "bob-laptop")
    alice.set("FOR_PHONE", CANARY)
    alice.commit("phone")
    back(alice)
    assert exposed(plan(alice, "offboard", "bob")) == {("api/dev", "BASE"), ("api/dev", "FOR_PHONE")}
    assert exposed(plan(alice, "principal", "disable", "bob-laptop")) == {("api/dev", "BASE")}


def test_s50_only_what_is_taken_away_counts(team: Team) -> None:
    """Revoking dev says nothing of the prod that a branch gives; revoking the project does of its new environment."""
    alice = team.alice
    team.grant("bob", "read", "api")
    side(alice)
    alice.ok("env", "add", "qa")
    alice.set("Q", CANARY, env="qa")
    alice.commit("qa")
    back(alice)
    side(alice, "more")
    alice.ok("grant", "bob", "write", "api/prod")
    alice.commit("more")
    back(alice)
    keys = {("api/dev", "BASE"), ("api/staging", "BASE"), ("api/prod", "BASE")}
    assert exposed(plan(alice, "revoke", "bob", "api")) == {*keys, ("api/qa", "Q")}
    alice.ok("grant", "bob", "read", "api/dev")
    alice.commit("dev of his own")
    alice.ok("revoke", "bob", "api", "-m", "project")
    assert exposed(plan(alice, "revoke", "bob", "api/dev")) == {("api/dev", "BASE")}


def forge(user: User) -> None:
    """The grant's signature is another."""
    lines = user.read(".zopp/policy.jsonl").decode().splitlines()
    body = json.loads(lines[-1])
    sig = body["sigs"][0]
    lines[-1] = lines[-1].replace(sig, ("A" if sig[0] != "A" else "B") + sig[1:])
    user.write(".zopp/policy.jsonl", "\n".join(lines) + "\n")


def cut(user: User) -> None:
    user.write(".zopp/policy.jsonl", user.read(".zopp/policy.jsonl")[:-10])


def cut_within_ours(user: User) -> None:
    user.write(".zopp/policy.jsonl", user.read(".zopp/policy.jsonl")[:40])


def foreign(user: User) -> None:
    user.write(".zopp/policy.jsonl", b"".join(user.read(".zopp/policy.jsonl").splitlines(keepends=True)[1:]))


def noise(user: User) -> None:
    user.write(".zopp/policy.jsonl", b"<<<<<<< \xff\x00 " + CANARY.encode() + b"\n")


@pytest.mark.parametrize("harm", [forge, cut, cut_within_ours, foreign, noise])
def test_s50_a_log_that_does_not_verify_is_said(team: Team, harm: object) -> None:
    alice = team.alice
    team.grant("bob", "read", "api/dev")
    side(alice)
    alice.ok("grant", "bob", "read", "api/prod")
    harm(alice)  # type: ignore[operator]
    alice.commit("broken")
    back(alice)
    found = plan(alice, "offboard", "bob")
    assert set(found["branches_unverified"]) == {"refs/heads/side"}  # type: ignore[call-overload]
    assert exposed(found) == {("api/dev", "BASE")}
    said = alice.ok("offboard", "bob", "--dry-run").err
    assert "refs/heads/side: its policy log does not verify" in said
    alice.ok("offboard", "bob", "-m", "out")
    assert "refs/heads/side: its policy log did not verify" in alice.zopp("exposure", "bob", code=1).err


def test_s50_branches_that_only_the_remote_has(team: Team) -> None:
    alice = team.alice
    side(alice)
    alice.ok("grant", "bob", "read", "api/prod", "-m", "prod")
    alice.git("push", "-q", "origin", "side")
    back(alice)
    alice.git("branch", "-q", "-D", "side")
    assert exposed(plan(alice, "offboard", "bob")) == {("api/prod", "BASE")}


def test_s50_branches_without_a_log_and_behind_say_nothing(team: Team) -> None:
    alice = team.alice
    alice.git("branch", "behind")
    empty = alice.git("commit-tree", "-m", "pages", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
    alice.git("branch", "pages", empty)
    team.grant("bob", "read", "api/dev")
    found = plan(alice, "offboard", "bob")
    assert found["branches_unverified"] == {} and exposed(found) == {("api/dev", "BASE")}


def test_s50_who_did_not_leave_has_no_list(team: Team) -> None:
    team.grant("bob", "read", "api/dev")
    done = team.alice.ok("exposure", "bob-laptop")
    assert "zopp offboard bob --dry-run" in done.err and not done.out
    assert team.alice.ok("exposure", "bob", "--json").json == []
