"""`zopp merge`: by itself from the start, and going on with whatever git stopped in."""

import pytest

from tests.merge.conftest import branch, clean, parents, run_git
from tests.support import Team, User, refused


def values(user: User, *keys: str) -> list[str]:
    return [user.get(key) for key in keys]


@pytest.mark.parametrize("enrolled", [True, False], ids=["drivers", "no-drivers"])
def test_zopp_merge_from_the_start(pair: Team, enrolled: bool) -> None:
    """With or without drivers in this clone: the merge is made from the two commits."""
    bob = pair.bob
    if not enrolled:
        (bob.repo / ".git/info/attributes").unlink()
    theirs = branch(bob, "feature", ("A", "a1"), ("NEW", "n1"))
    ours = branch(bob, "work", ("B", "b1"))
    done = bob.ok("merge", "feature")
    assert "~ A" in done.err and "+ NEW" in done.err and "b1" not in done.text and "a1" not in done.text
    assert values(bob, "A", "B", "NEW") == ["a1", "b1", "n1"]
    assert parents(bob) == [ours, theirs]
    assert bob.manifest().signer == "bob-laptop"
    clean(bob)


def test_json_and_dry_run(pair: Team) -> None:
    bob = pair.bob
    theirs = branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    before = bob.tree()
    dry = bob.ok("merge", "feature", "--dry-run", "--json").json
    assert dry["signed"] == [
        {"environment": "api/dev", "changed": {"secrets/dev.yaml": ["~ A"]}, "new_data_key": [], "theirs": theirs}
    ]
    assert dry["done"] is False and bob.tree() == before
    done = bob.ok("merge", "feature", "--json", "-m", "all together").json
    assert done["done"] is True and done["conflicts"] == [] and done["operation"] == "merge"
    assert bob.git("log", "-1", "--format=%s") == "all together"
    clean(bob)


def test_a_fast_forward_needs_no_signature(pair: Team) -> None:
    bob = pair.bob
    theirs = branch(bob, "feature", ("A", "a1"))
    bob.git("checkout", "-q", "main")
    bob.ok("merge", "feature")
    assert bob.git("rev-parse", "HEAD") == theirs
    clean(bob)


def test_a_plain_merge_stops_at_the_manifest_only(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    code, said = run_git(bob, "merge", "feature")
    assert code == 1 and "zopp merge --continue" in said
    conflicts = bob.git("diff", "--name-only", "--diff-filter=U").split()
    assert conflicts == [".zopp/manifest/api/dev.json", ".zopp/manifest/api/dev.json.sig"]
    bob.ok("merge", "--continue")
    assert values(bob, "A", "B") == ["a1", "b1"]
    clean(bob)


def test_rebase_goes_on_through_every_commit(pair: Team) -> None:
    bob = pair.bob
    upstream = branch(bob, "up", ("B", "b1"), ("B2", "b2"))
    branch(bob, "work", ("A", "a1"), ("A2", "a2"), ("A", "a3"))
    code, said = run_git(bob, "rebase", "up")
    assert code == 1 and "zopp merge --continue" in said
    done = bob.ok("merge", "--continue", "--json").json
    assert done["operation"] == "rebase" and len(done["signed"]) == 3
    assert values(bob, "A", "A2", "B", "B2") == ["a3", "a2", "b1", "b2"]
    assert bob.git("log", "--format=%s", "up..work").split("\n") == ["work: A", "work: A2", "work: A"]
    assert bob.git("merge-base", "up", "work") == upstream
    clean(bob)


def test_every_commit_of_a_rebase_verifies(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "up", ("B", "b1"))
    branch(bob, "work", ("A", "a1"), ("A2", "a2"))
    run_git(bob, "rebase", "up")
    bob.ok("merge", "--continue")
    for revision in bob.git("rev-list", "up..work").split():
        bob.git("checkout", "-q", revision)
        bob.ok("verify")


def test_cherry_pick_takes_what_that_commit_did(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"), ("X", "x1"), ("Y", "y1"))
    branch(bob, "work", ("B", "b1"))
    run_git(bob, "cherry-pick", "feature~1")
    bob.ok("merge", "--continue")
    assert values(bob, "A", "B", "X") == ["a0", "b1", "x1"]
    assert bob.zopp("get", "Y", "-e", "dev").code == 1
    assert bob.git("log", "-1", "--format=%s") == "feature: X"
    clean(bob)


def test_cherry_pick_of_several(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"), ("X", "x1"), ("Y", "y1"))
    branch(bob, "work", ("B", "b1"))
    run_git(bob, "cherry-pick", "main..feature")
    bob.ok("merge", "--continue")
    assert values(bob, "A", "B", "X", "Y") == ["a1", "b1", "x1", "y1"]
    clean(bob)


def test_revert(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "work", ("A", "a1"), ("B", "b1"))
    code, said = run_git(bob, "revert", "--no-edit", "HEAD~1")
    assert code == 1, said
    bob.ok("merge", "--continue")
    assert values(bob, "A", "B") == ["a0", "b1"]
    clean(bob)


def test_stash_pop(pair: Team) -> None:
    bob = pair.bob
    bob.git("checkout", "-q", "-b", "work")
    bob.set("A", "a1")
    bob.git("stash", "-q")
    bob.set("B", "b1")
    bob.commit("B")
    code, said = run_git(bob, "stash", "pop")
    assert code == 1 and "kept" in said
    done = bob.ok("merge", "--continue")
    assert "git stash drop" in done.err
    assert values(bob, "A", "B") == ["a1", "b1"]
    assert bob.git("diff", "--cached", "--name-only") == ""
    bob.ok("verify")
    bob.git("stash", "drop", "-q")
    bob.commit("A")
    clean(bob)


def test_squash(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    run_git(bob, "merge", "--squash", "feature")
    bob.ok("merge", "--continue")
    bob.git("commit", "-q", "-m", "squashed")
    assert values(bob, "A", "B") == ["a1", "b1"]
    assert len(parents(bob)) == 1
    clean(bob)


def test_nothing_under_way(pair: Team) -> None:
    refused(pair.bob.zopp("merge", "--continue"), 2, words=["no merge is under way"])
    refused(pair.bob.zopp("merge", "--abort"), 2)
    refused(pair.bob.zopp("resolve"), 2, words=["no merge is under way"])
    refused(pair.bob.zopp("merge"), 2)
    refused(pair.bob.zopp("merge", "nowhere"), 1, words=["no branch nowhere"])


def test_abort(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("A", "a2"))
    before = bob.tree()
    bob.zopp("merge", "feature", code=1)
    bob.ok("resolve", "A", "--theirs")
    bob.ok("merge", "--abort")
    assert bob.tree() == before
    clean(bob)


def test_other_conflicts_are_named_and_left(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    bob.write("code.txt", "theirs\n")
    bob.commit("code")
    branch(bob, "work", ("B", "b1"))
    bob.write("code.txt", "ours\n")
    bob.commit("code")
    done = bob.zopp("merge", "feature")
    refused(done, 1, words=["code.txt"])
    bob.write("code.txt", "both\n")
    bob.git("add", "code.txt")
    bob.ok("merge", "--continue")
    assert values(bob, "A", "B") == ["a1", "b1"]
    clean(bob)


# --- keys and rights


def test_without_a_key_it_stops_and_says_what_is_missing(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    keys = bob.home / ".config/zopp/keys"
    keys.rename(keys.with_name("elsewhere"))
    code, said = run_git(bob, "merge", "feature")
    assert code == 1 and "no key of yours" in said
    both_sides_marked(bob)
    before = bob.tree()
    refused(bob.zopp("merge", "--continue"), 3, words=["signing key"])
    assert bob.tree() == before
    keys.with_name("elsewhere").rename(keys)
    bob.ok("merge", "--continue")
    assert values(bob, "A", "B") == ["a1", "b1"]
    clean(bob)


def both_sides_marked(user: User, path: str = "secrets/dev.yaml", theirs: str = "feature") -> None:
    """What the driver leaves where it merges nothing: neither side can be lost by a blind `git add`."""
    wanted = [user.git("show", f"{revision}:{path}") for revision in ("HEAD", theirs)]
    assert user.read(path).decode() == "<<<<<<< ours\n{}\n=======\n{}\n>>>>>>> theirs\n".format(*wanted)


def test_who_may_only_read_is_told_who_can(team: Team) -> None:
    from tests.merge.conftest import enrol

    team.alice.ok("grant", "bob", "read", "api")
    team.sync()
    alice, bob = team.alice, team.bob
    branch(alice, "feature", ("A", "a1"))
    branch(alice, "work", ("B", "b1"))
    alice.git("push", "-q", "origin", "feature", "work")
    enrol(bob)
    bob.git("fetch", "-q", "origin")
    bob.git("checkout", "-q", "work")
    before = bob.tree()
    done = bob.zopp("merge", "origin/feature")
    refused(done, 1, words=["may not write api/dev", "alice-laptop"])
    bob.ok("merge", "--abort")
    assert bob.tree() == before


def test_an_unpinned_clone_does_not_merge(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    for kind in ("clones", "remotes"):
        for pin in (bob.home / ".local/state/zopp" / kind).glob("*.json"):
            pin.unlink()
    code, said = run_git(bob, "merge", "feature")
    assert code == 1 and "not pinned" in said
    refused(bob.zopp("merge", "--continue"), 3, words=["zopp trust"])


# --- recipients and data keys (rule 5)


def recipients(user: User, env: str = "dev") -> set[str]:
    state = user.state()
    names = {p.recipient: name for name, p in state.principals.items()}
    return {names[r] for r in user.manifest(env).groups[0]}


def test_a_removed_reader_does_not_come_back(pair: Team) -> None:
    """Main removes carol and rotates; a branch from before sets a value. The merge is for the readers of today, under
    the rotated key."""
    alice = pair.alice
    branch(alice, "feature", ("A", "a1"))
    alice.git("checkout", "-q", "main")
    alice.ok("revoke", "carol", "api", "-m", "carol leaves")
    rotated = alice.manifest().files["secrets/dev.yaml"]
    alice.ok("merge", "feature")
    assert recipients(alice) == {"alice-laptop", "bob-laptop"}
    now = alice.manifest().files["secrets/dev.yaml"]
    assert (now.kc, now.dk_seq, now.dk_by) == (rotated.kc, rotated.dk_seq, rotated.dk_by)
    assert values(alice, "A", "B") == ["a1", "b0"]
    clean(alice)


def test_a_key_that_a_removed_reader_may_have_held_is_not_kept(pair: Team) -> None:
    """One side rotates for no reason, the other removes a reader: the first key was wrapped for them, so neither stays
    but the newer."""
    alice = pair.alice
    branch(alice, "feature", ("A", "a1"))
    alice.ok("rekey", "--all", "api/dev", "-m", "rotated")
    alice.git("checkout", "-q", "main")
    alice.ok("revoke", "carol", "api", "-m", "carol leaves")
    theirs_key = alice.git("show", "feature:.zopp/manifest/api/dev.json")
    alice.ok("merge", "feature")
    assert recipients(alice) == {"alice-laptop", "bob-laptop"}
    assert alice.manifest().files["secrets/dev.yaml"].kc not in theirs_key
    clean(alice)


def test_the_rotating_sides_key_is_taken(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    bob.ok("rekey", "--all", "api/dev", "-m", "rotated")
    kc = bob.manifest().files["secrets/dev.yaml"].kc
    branch(bob, "work", ("B", "b1"))
    bob.ok("merge", "feature")
    assert bob.manifest().files["secrets/dev.yaml"].kc == kc
    assert values(bob, "A", "B") == ["a1", "b1"]
    clean(bob)


def test_a_new_reader_is_added(pair: Team) -> None:
    alice = pair.alice
    branch(alice, "feature", ("A", "a1"))
    alice.git("checkout", "-q", "main")
    alice.ok("grant", "ci", "read", "api/dev", "-m", "ci reads")
    alice.set("B", "b1")
    alice.commit("B")
    alice.ok("merge", "feature")
    assert "ci" in recipients(alice)
    clean(alice)
    alice.push()
    pair.ci.pull()
    assert pair.ci.get("A") == "a1"


def test_an_environment_of_one_side_is_brought_to_the_policy_of_the_other(pair: Team) -> None:
    """Theirs began qa, for carol too; ours removed her. Git takes their file as it is; zopp gives it a new key."""
    alice = pair.alice
    alice.ok("env", "add", "qa", "-m", "qa")
    branch(alice, "feature", ("A", "a1"), env="qa")
    alice.git("checkout", "-q", "main")
    alice.ok("revoke", "carol", "api", "-m", "carol leaves")
    alice.ok("merge", "feature")
    assert recipients(alice, "qa") == {"alice-laptop", "bob-laptop"}
    assert alice.get("A", "qa") == "a1"
    clean(alice)


def test_two_files_of_one_environment(pair: Team) -> None:
    """Each side changes another file: no file is in conflict, and one manifest covers both."""
    bob = pair.bob
    bob.replace("zopp.toml", '["secrets/dev.yaml"]', '["secrets/dev.yaml", "secrets/more.yaml"]')
    bob.set("A", "a1")
    bob.ok("set", "M", "-e", "dev", "--file", "secrets/more.yaml", stdin="m0")
    bob.commit("two files")
    branch(bob, "feature", ("A", "a2"), start="main")
    branch(bob, "work", ("M", "m1"), start="main")
    bob.ok("merge", "feature")
    assert values(bob, "A", "M") == ["a2", "m1"]
    clean(bob)


# --- the policy


def test_both_sides_changed_the_policy(pair: Team) -> None:
    """Alice's statements are signed again on top of bob's, and the files follow the policy of both."""
    alice, bob = pair.alice, pair.bob
    pair.grant("bob", "admin", "acme")
    bob.ok("grant", "ci", "read", "api/dev", "-m", "ci reads dev")
    bob.set("B", "b1")
    bob.commit("B")
    bob.push()
    alice.git("checkout", "-q", "-b", "work")
    alice.ok("group", "create", "ops", "-m", "ops")
    alice.set("A", "a1")
    alice.commit("A")
    alice.git("fetch", "-q", "origin")
    done = alice.ok("merge", "origin/main")
    assert "signed again" in done.err and "ops" in done.err
    assert "ops" in alice.ok("group", "list").out
    assert recipients(alice) >= {"ci", "bob-laptop", "alice-laptop"}
    assert values(alice, "A", "B") == ["a1", "b1"]
    clean(alice)


@pytest.mark.parametrize("how", ["merge", "rebase"])
def test_both_sides_changed_the_policy_and_signed_as_often(pair: Team, how: str) -> None:
    """Of two manifests of one generation the new one follows the one that can be checked: whose policy stands."""
    alice, bob = pair.alice, pair.bob
    pair.grant("bob", "admin", "acme")
    for user, key in ((bob, "B"), (alice, "A")):
        user.git("checkout", "-q", "-b", f"of-{user.name}", "main")
        user.ok("group", "create", f"{user.name}s", "-m", "group")
        user.set(key, "new")
        user.share(key)
    generations = [user.manifest().generation for user in (alice, bob)]
    assert generations[0] == generations[1]
    alice.git("fetch", "-q", "origin")
    if how == "merge":
        alice.ok("merge", "origin/of-bob")
    else:
        assert run_git(alice, "rebase", "origin/of-bob")[0] == 1
        alice.ok("merge", "--continue")
    assert values(alice, "A", "B") == ["new", "new"]
    assert sorted(alice.ok("group", "list", "--json").json) == ["alices", "bobs"]
    clean(alice)


def test_what_others_signed_they_sign_again(pair: Team) -> None:
    """On the side whose policy does not stand lies a statement of bob's: alice cannot merge that, and is told who."""
    alice, bob = pair.alice, pair.bob
    pair.grant("bob", "admin", "acme")
    bob.git("checkout", "-q", "-b", "feature")
    bob.ok("group", "create", "bobs", "-m", "bobs")
    alice.ok("group", "create", "alices", "-m", "alices")
    alice.push()
    alice.ok("verify")  # learns it, as main
    alice.git("fetch", "-q", str(bob.repo), "feature:feature")
    done = alice.zopp("merge", "feature")
    refused(done, 1, words=["bob-laptop has to do again"])
    alice.ok("merge", "--abort")
    clean(alice)


def parted(pair: Team, writer: User) -> User:
    """Bob's statement is on main. On `work` alice signed one, and behind it `writer` changed staging, which main did
    not; then somebody wrote code. Alice stands there."""
    alice, bob = pair.alice, pair.bob
    pair.grant("bob", "admin", "acme")
    bob.pull()
    alice.git("checkout", "-q", "-b", "work")
    alice.ok("group", "create", "ops", "-m", "ops")
    alice.git("push", "-q", "origin", "work")
    writer.git("fetch", "-q", "origin")
    writer.git("checkout", "-q", "-B", "work", "origin/work")
    writer.set("S", "s1", "staging")
    writer.commit("S")
    writer.write("code.txt", "code\n")
    writer.share("code")
    alice.git("fetch", "-q", "origin")
    alice.git("reset", "-q", "--hard", "origin/work")
    bob.git("checkout", "-q", "main")
    return alice


@pytest.mark.parametrize("how", ["rebase", "cherry-pick"])
def test_what_git_takes_as_it_is_behind_statements_signed_again(pair: Team, how: str) -> None:
    """No file of theirs is in conflict, so git asks nobody; but that manifest names a statement that is gone."""
    alice, bob = parted(pair, pair.alice), pair.bob
    bob.ok("grant", "ci", "read", "api/dev", "-m", "ci reads dev")
    bob.push()
    alice.git("fetch", "-q", "origin")
    if how == "cherry-pick":
        alice.git("checkout", "-q", "-b", "picked", "origin/main")
        assert run_git(alice, "cherry-pick", "main..work")[0] == 1
    else:
        assert run_git(alice, "rebase", "origin/main")[0] == 1
    done = alice.ok("merge", "--continue", "--json")
    assert [row["environment"] for row in done.json["signed"]][-1] == "api/staging"
    assert alice.get("S", "staging") == "s1" and alice.read("code.txt") == b"code\n"
    assert alice.git("log", "--format=%s", "origin/main..").split("\n") == ["code", "S", "ops"]
    assert "ops" in alice.ok("group", "list").out and "ci" in recipients(alice)
    clean(alice)


def test_what_git_took_and_another_has_to_sign_is_said(pair: Team) -> None:
    """Bob signed a statement about dev; behind it alice wrote staging, which he may only read."""
    alice, bob = pair.alice, pair.bob
    alice.ok("grant", "bob", "read", "api")
    pair.grant("bob", "admin", "api/dev")
    bob.git("checkout", "-q", "-b", "work")
    bob.ok("grant", "ci", "read", "api/dev", "-m", "ci reads dev")
    bob.git("push", "-q", "origin", "work")
    alice.git("fetch", "-q", "origin")
    alice.git("checkout", "-q", "work")
    alice.set("S", "s1", "staging")
    alice.share("S")
    alice.git("checkout", "-q", "main")
    alice.ok("group", "create", "ops", "-m", "ops")
    alice.push()
    bob.git("fetch", "-q", "origin")
    bob.git("reset", "-q", "--hard", "origin/work")
    assert run_git(bob, "rebase", "origin/main")[0] == 1
    done = bob.ok("merge", "--continue")
    assert "api/staging is not as the policy wants it: alice-laptop" in done.err
    assert bob.git("status", "--porcelain") == ""
    bob.git("push", "-q", "origin", "HEAD:refs/heads/rebased")
    alice.git("fetch", "-q", "origin")
    alice.git("checkout", "-q", "rebased")
    assert alice.zopp("verify").code == 1
    alice.ok("sign", "-e", "staging", "--only", "S", "-m", "S, looked at")
    assert alice.get("S", "staging") == "s1"
    clean(alice)


def test_a_commit_that_git_picks_without_stopping_is_for_a_writer_to_look_at(pair: Team) -> None:
    """Its statement stayed behind. No merge is under way, so nothing is signed until the keys are named."""
    alice = pair.alice
    alice.git("checkout", "-q", "-b", "feature")
    alice.ok("group", "create", "ops", "-m", "ops")
    alice.set("S", "s1", "staging")
    alice.commit("S")
    alice.git("checkout", "-q", "main")
    assert run_git(alice, "cherry-pick", "feature")[0] == 0
    assert alice.zopp("verify").code == 1
    refused(alice.zopp("merge", "--continue"), 2, words=["no merge is under way"])
    refused(alice.zopp("sign", "-e", "staging", "--unchanged"), 1, words=["S differs too"])
    alice.ok("sign", "-e", "staging", "--only", "S", "-m", "S, looked at")
    assert alice.get("S", "staging") == "s1"
    clean(alice)


def test_what_git_took_from_somebody_who_may_not_write_any_more_is_not_signed(pair: Team) -> None:
    """Carol wrote it, and main has taken write from her since."""
    alice = parted(pair, pair.carol)
    alice.git("checkout", "-q", "main")
    alice.ok("grant", "carol", "read", "api", "-m", "carol reads")
    alice.push()
    alice.git("checkout", "-q", "work")
    before = alice.read(".zopp/manifest/api/staging.json")
    assert run_git(alice, "rebase", "origin/main")[0] == 1
    refused(alice.zopp("merge", "--continue"), 1, words=["carol-desktop", "may not write api/staging now"])
    assert alice.read(".zopp/manifest/api/staging.json") == before
    assert alice.git("status", "--porcelain") == "" and alice.zopp("verify").code == 1


def test_exposure_lists_are_joined(pair: Team) -> None:
    """Carol was offboarded before both branches; each changes another exposed value. Both are marked."""
    alice = pair.alice
    alice.ok("offboard", "carol", "-m", "carol leaves")
    branch(alice, "feature", ("A", "a1"))
    branch(alice, "work", ("B", "b1"))
    alice.ok("merge", "feature")
    open_now = {
        row["key"] for row in alice.zopp("exposure", "carol", "--json").json if row.get("environment") == "api/dev"
    }
    assert not open_now & {"A", "B"} and "C" in open_now
    clean(alice)


def test_own_lines_of_both_sides_are_kept(pair: Team) -> None:
    """`.sops.yaml`: the users' parts are merged as text; where those are in conflict a person settles them."""
    alice = pair.alice
    own = "".join(f"    - path_regex: ^filler{n}$\n      age: {alice.recipient}\n" for n in range(4))
    alice.write(".sops.yaml", alice.read(".sops.yaml").decode() + own)
    alice.commit("own rules")
    alice.ok("env", "add", "qa", "-m", "qa")
    alice.ok("env", "add", "demo", "-m", "demo")
    for name, env, rules in (("feature", "qa", (0, 2)), ("work", "demo", (3, 2))):
        alice.git("checkout", "-q", "-b", name, "main")
        alice.set("K", name, env)
        for rule in rules:
            alice.replace(".sops.yaml", f"^filler{rule}$", f"^filler{rule}-of-{name}$")
        alice.commit(name)
    done = alice.zopp("merge", "feature")
    refused(done, 1, words=[".sops.yaml", "lines of your own"])
    text = alice.git("show", "HEAD:.sops.yaml")
    alice.write(".sops.yaml", text.replace("^filler0$", "^filler0-of-feature$") + "\n")
    alice.git("add", ".sops.yaml")
    alice.ok("merge", "--continue")
    config = alice.read(".sops.yaml").decode()
    assert "filler0-of-feature" in config and "filler3-of-work" in config and "filler2-of-work" in config
    assert "secrets/qa" in config and "secrets/demo" in config
    clean(alice)
