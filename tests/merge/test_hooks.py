"""The hooks in real git (review-and-ci.md §1.3): a plain `git merge` that finishes by itself, signed."""

import subprocess
from pathlib import Path

import pytest

from tests.merge.conftest import branch, clean, parents, run_git
from tests.support import Team, User, refused
from zopp.repo.hooks import MERGE_HOOKS


def test_a_plain_merge_finishes_by_itself_signed(hooked: Team) -> None:
    bob = hooked.bob
    theirs = branch(bob, "feature", ("A", "a1"), ("NEW", "n1"))
    ours = branch(bob, "work", ("B", "b1"))
    code, said = run_git(bob, "merge", "--no-edit", "feature")
    assert code == 0, said
    assert "signed by bob-laptop" in said and "a1" not in said
    assert [bob.get(key) for key in ("A", "B", "NEW")] == ["a1", "b1", "n1"]
    assert parents(bob) == [ours, theirs]
    assert bob.git("log", "-1", "--format=%s %an") == "Merge branch 'feature' into work bob"
    assert bob.manifest().signer == "bob-laptop"
    clean(bob)


def test_the_exchanged_commit_keeps_message_author_and_reflog(hooked: Team) -> None:
    bob = hooked.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    bob.extra["GIT_AUTHOR_DATE"] = "2001-02-03T04:05:06+0000"
    run_git(bob, "merge", "-m", "first\n\nsecond #3", "feature")
    del bob.extra["GIT_AUTHOR_DATE"]
    assert bob.git("log", "-1", "--format=%B").strip() == "first\n\nsecond #3"
    assert bob.git("log", "-1", "--format=%aI") == "2001-02-03T04:05:06+00:00"
    assert "signed manifests" in bob.git("reflog", "-1", "HEAD")
    clean(bob)


def test_pull(hooked: Team) -> None:
    bob, carol = hooked.bob, hooked.carol
    carol.set("A", "a1")
    carol.share("A")
    bob.set("B", "b1")
    bob.commit("B")
    code, said = run_git(bob, "pull", "--no-rebase", "--no-edit", "origin", "main")
    assert code == 0, said
    assert [bob.get("A"), bob.get("B")] == ["a1", "b1"]
    clean(bob)
    bob.push()
    carol.pull()
    carol.ok("verify")


def test_a_linked_work_tree(hooked: Team) -> None:
    bob = hooked.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    bob.git("checkout", "-q", "main")
    bob.git("worktree", "add", "-q", "../linked", "work")
    linked = User("bob", bob.principal, bob.base, dict(bob.extra), "clone/linked")
    code, said = run_git(linked, "merge", "--no-edit", "feature")
    assert code == 0, said
    assert [linked.get("A"), linked.get("B")] == ["a1", "b1"]
    assert linked.git("status", "--porcelain") == ""
    linked.ok("verify")


def test_a_signed_merge_commit_is_signed_anew(hooked: Team) -> None:
    bob = hooked.bob
    key = bob.home / "commit-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    allowed = bob.home / "allowed"
    allowed.write_text(f"bob@example.org {key.with_suffix('.pub').read_text()}")
    for name, value in (
        ("gpg.format", "ssh"), ("user.signingkey", str(key)), ("gpg.ssh.allowedSignersFile", str(allowed)),
    ):  # fmt: skip
        bob.git("config", name, value)
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    code, said = run_git(bob, "merge", "-S", "--no-edit", "feature")
    assert code == 0, said
    assert bob.git("log", "-1", "--format=%G?") == "G"
    clean(bob)


def test_a_conflict_stops_as_everywhere(hooked: Team) -> None:
    bob = hooked.bob
    branch(bob, "feature", ("A", "a1"), ("B", "b1"))
    branch(bob, "work", ("A", "a2"))
    assert run_git(bob, "merge", "feature")[0] == 1
    bob.ok("resolve", "A", "--theirs")
    bob.ok("merge", "--continue")
    assert [bob.get("A"), bob.get("B")] == ["a1", "b1"]
    clean(bob)


def test_without_an_unlocked_key_git_stops_before_the_commit(hooked: Team) -> None:
    """The hook asks nobody: it says so, git keeps the merge, and `zopp merge --continue` ends it."""
    bob = hooked.bob
    branch(bob, "feature", ("A", "a1"))
    ours = branch(bob, "work", ("B", "b1"))
    (secret,) = (bob.home / ".config/zopp/keys").glob("*.ssh")
    aside = bob.home / "aside"
    secret.rename(aside)
    code, said = run_git(bob, "merge", "--no-edit", "feature")
    assert code != 0 and "signing key" in said, said
    assert bob.git("rev-parse", "HEAD") == ours and (bob.repo / ".git/MERGE_HEAD").exists()
    aside.rename(secret)
    bob.ok("merge", "--continue")
    assert [bob.get("A"), bob.get("B")] == ["a1", "b1"]
    clean(bob)


def test_after_no_verify_the_commit_fails_verify_and_sign_mends_it(hooked: Team) -> None:
    bob = hooked.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    assert run_git(bob, "merge", "--no-verify", "--no-edit", "feature")[0] == 0
    refused(bob.zopp("verify"), 1)
    bob.ok("sign", "-e", "dev", "--only", "A")
    bob.commit("signed")
    clean_but_history = bob.ok("verify")
    assert clean_but_history.out.startswith("ok")


@pytest.mark.parametrize("how", ["--no-commit", "--squash"])
def test_stopped_merges_are_ended_by_continue(hooked: Team, how: str) -> None:
    """Neither hook runs there; what the driver merged is staged, the manifest is still ours."""
    bob = hooked.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    assert run_git(bob, "merge", how, "feature")[0] == 0
    bob.ok("merge", "--continue")
    if how == "--squash":
        bob.git("commit", "-q", "-m", "squashed")
    assert [bob.get("A"), bob.get("B")] == ["a1", "b1"]
    clean(bob)


@pytest.mark.parametrize("operation", ["rebase", "cherry-pick"])
def test_rebase_and_cherry_pick_run_neither_hook(hooked: Team, operation: str) -> None:
    bob = hooked.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    assert run_git(bob, operation, "feature")[0] == 1
    bob.ok("merge", "--continue")
    assert [bob.get("A"), bob.get("B")] == ["a1", "b1"]
    clean(bob)


def test_killed_between_the_two_hooks(hooked: Team) -> None:
    """post-merge never ran: the signed manifest is staged, and `zopp merge --continue` puts it into the commit."""
    bob = hooked.bob
    (bob.repo / ".git/hooks/post-merge").write_text("#!/bin/sh\n# zopp hooks run post-merge, and it dies\nexit 1\n")
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    run_git(bob, "merge", "--no-edit", "feature")
    assert bob.git("diff", "--cached", "--name-only") != ""
    bob.ok("merge", "--continue")
    assert len(parents(bob)) == 2
    clean(bob)


def test_a_removed_reader_is_not_let_in_by_a_hook(hooked: Team) -> None:
    """Theirs began qa, for carol too; ours removed her. Git takes the file as it is, and no hook decides that."""
    alice = hooked.alice
    alice.ok("env", "add", "qa", "-m", "qa")
    branch(alice, "feature", ("A", "a1"), env="qa")
    alice.git("checkout", "-q", "main")
    alice.ok("revoke", "carol", "api", "-m", "carol leaves")
    code, said = run_git(alice, "merge", "--no-edit", "feature")
    assert code != 0 and "zopp merge --continue" in said, said
    alice.ok("merge", "--continue")
    assert hooked.carol.recipient not in alice.manifest("qa").groups[0]
    clean(alice)


def test_blocks_and_own_lines_of_both_sides(hooked: Team) -> None:
    """Each side begins an environment and has a rule of its own in .sops.yaml: all of it is in the merge."""
    alice = hooked.alice
    alice.ok("env", "add", "qa")
    alice.ok("env", "add", "demo")
    alice.write("notes.txt", "x\n")
    own = "".join(f"    - path_regex: ^filler{n}$\n      age: {alice.recipient}\n" for n in range(4))
    alice.write(".sops.yaml", alice.read(".sops.yaml").decode() + own)
    alice.write(".gitattributes", "*.a text\n\n\n\n*.b text\n" + alice.read(".gitattributes").decode())
    alice.commit("two more")
    for name, env, rule, line in (("feature", "qa", "filler0", "*.a"), ("work", "demo", "filler3", "*.b")):
        alice.git("checkout", "-q", "-b", name, "main")
        alice.set("K", name, env)
        alice.replace(".sops.yaml", f"^{rule}$", f"^{rule}-of-{name}$")
        alice.replace(".gitattributes", f"{line} text", f"{line} -text")
        alice.commit(name)
    code, said = run_git(alice, "merge", "--no-edit", "feature")
    assert code == 0, said
    config, attributes = alice.read(".sops.yaml").decode(), alice.read(".gitattributes").decode()
    assert "filler0-of-feature" in config and "filler3-of-work" in config
    assert "secrets/qa" in config and "secrets/demo" in config
    assert "*.a -text" in attributes and "*.b -text" in attributes
    assert [alice.get("K", "qa"), alice.get("K", "demo")] == ["feature", "work"]
    clean(alice)


def test_a_repository_without_zopp_is_left_alone(hooked: Team, tmp_path: Path) -> None:
    """Hooks of the user for all repositories run in others, too."""
    bob = hooked.bob
    other = User("bob", bob.principal, bob.base, dict(bob.extra), "elsewhere")
    other.repo.mkdir()
    other.git("init", "-q")
    for name in ("main", "side"):
        other.git("checkout", "-q", "-b", name, check=False)
        other.write(f"{name}.txt", "x\n")
        other.commit(name)
    other.ok("hooks", "install")
    other.git("checkout", "-q", "main")
    other.write("more.txt", "x\n")
    other.commit("more")
    code, said = run_git(other, "merge", "--no-edit", "side")
    assert code == 0 and "zopp" not in said, said


# --- installing


def states(user: User) -> dict[str, str]:
    return {row["name"]: row["state"] for row in user.zopp("hooks", "status", *MERGE_HOOKS, "--json").json}


def test_install_status_uninstall(pair: Team) -> None:
    bob = pair.bob
    hooks = bob.repo / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    assert states(bob) == {"pre-merge-commit": "missing", "post-merge": "missing"}
    bob.ok("hooks", "install", *MERGE_HOOKS)
    once = {name: (hooks / name).read_text() for name in MERGE_HOOKS}
    bob.ok("hooks", "install", *MERGE_HOOKS)
    assert {name: (hooks / name).read_text() for name in once} == once
    assert states(bob) == {"pre-merge-commit": "installed", "post-merge": "installed"}
    bob.ok("hooks", "uninstall")
    assert not (hooks / "post-merge").exists() and not (hooks / "pre-merge-commit").exists()


def test_a_hook_that_was_there_runs_first_and_comes_back(pair: Team) -> None:
    bob = pair.bob
    hooks = bob.repo / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    own = '#!/bin/sh\necho "own $0 $*" >> "$(git rev-parse --git-dir)/own"\n'
    for name in ("pre-merge-commit", "post-merge"):
        (hooks / name).write_text(own)
        (hooks / name).chmod(0o755)
    refused(bob.zopp("hooks", "install"), 2, words=["--chain"])
    bob.ok("hooks", "install", *MERGE_HOOKS, "--chain")
    assert "after one from before" in bob.ok("hooks", "status", *MERGE_HOOKS).out
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    code, said = run_git(bob, "merge", "--no-edit", "feature")
    assert code == 0, said
    log = (bob.repo / ".git/own").read_text()
    assert "pre-merge-commit" in log and "post-merge" in log and log.rstrip().endswith(" 0")
    clean(bob)
    bob.ok("hooks", "uninstall")
    assert (hooks / "post-merge").read_text() == own


def test_a_hook_that_fails_stops_the_merge_before_zopp(pair: Team) -> None:
    bob = pair.bob
    hook = bob.repo / ".git/hooks/pre-merge-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 7\n")
    hook.chmod(0o755)
    bob.ok("hooks", "install", *MERGE_HOOKS, "--chain")
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    before = bob.read(".zopp/manifest/api/dev.json")
    assert run_git(bob, "merge", "--no-edit", "feature")[0] != 0
    assert bob.read(".zopp/manifest/api/dev.json") == before


def test_two_foreign_hooks_are_never_written_over(pair: Team) -> None:
    bob = pair.bob
    hooks = bob.repo / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "post-merge").write_text("#!/bin/sh\nfirst\n")
    (hooks / "post-merge.before-zopp").write_text("#!/bin/sh\nsecond\n")
    refused(bob.zopp("hooks", "install", *MERGE_HOOKS, "--chain"), 2, words=["post-merge"])
    assert (hooks / "post-merge").read_text() == "#!/bin/sh\nfirst\n"
    assert (hooks / "post-merge.before-zopp").read_text() == "#!/bin/sh\nsecond\n"
    assert not (hooks / "pre-merge-commit").exists()


def test_hooks_path_of_the_user_outside_the_tree_is_respected(pair: Team) -> None:
    bob = pair.bob
    own = bob.home / "githooks"
    bob.git("config", "--global", "core.hooksPath", str(own))
    bob.ok("hooks", "install", *MERGE_HOOKS)
    assert (own / "post-merge").exists() and not (bob.repo / ".git/hooks/post-merge").exists()
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    assert run_git(bob, "merge", "--no-edit", "feature")[0] == 0
    clean(bob)


@pytest.mark.parametrize("where", [".husky/_", "hooks", "."])
def test_a_hooks_path_in_the_tree_is_refused(pair: Team, where: str) -> None:
    bob = pair.bob
    bob.git("config", "core.hooksPath", where)
    before = bob.tree()
    refused(bob.zopp("hooks", "install"), 3, words=["work tree", "zopp hooks run pre-merge-commit"])
    assert bob.tree() == before
