"""Where a merge may begin and go on: a bare repository, another repository in GIT_DIR, a detached HEAD, and states of
git that name no commit.
"""

import subprocess
from pathlib import Path

import pytest

from tests.attacks.test_a01_files import data_key, sops_of
from tests.merge.conftest import branch, clean, disenrol, parents, run_git
from tests.merge.test_continue import values
from tests.support import Done, Team, User, refused
from zopp import sopsfile
from zopp.repo.hooks import MERGE_HOOKS
from zopp.sopsfile import Put

COMMANDS = [
    ("merge", "feature"), ("merge", "--dry-run", "feature"), ("merge", "--continue"), ("merge", "--abort"),
    ("resolve",), ("resolve", "A", "--ours"), ("resolve", "A", "--edit"),
]  # fmt: skip


def two_branches(pair: Team) -> User:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    return bob


def one_error(done: Done, *words: str) -> None:
    refused(done, 1, 2, words=words)
    assert done.out == ""
    assert [line.split(":")[1] for line in done.err.strip().split("\n")] == [" error", " hint"], done.err


def refs(folder: Path) -> bytes:
    return subprocess.run(["git", "-C", folder, "show-ref", "--head"], check=True, capture_output=True).stdout


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_a_bare_repository(pair: Team, argv: tuple[str, ...]) -> None:
    bob = two_branches(pair)
    bob.git("push", "-q", "origin", "feature", "work:main")
    bare = bob.base / "origin.git"
    before = refs(bare)
    for folder in (bare, bare / "refs"):
        one_error(bob.zopp(*argv, cwd=folder, stdin="x"), "a bare repository, without a work tree", "clone")
    assert refs(bare) == before


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_a_folder_whose_repository_is_bare(pair: Team, argv: tuple[str, ...]) -> None:
    bob = two_branches(pair)
    bob.git("config", "core.bare", "true")
    before = refs(bob.repo)
    one_error(bob.zopp(*argv, stdin="x"), "a bare repository, without a work tree", "clone")
    assert refs(bob.repo) == before


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("where", ["clone", "outside"])
def test_another_repository_in_git_dir(pair: Team, argv: tuple[str, ...], where: str) -> None:
    """git would merge there; zopp would have merged here."""
    bob = two_branches(pair)
    bob.git("push", "-q", "origin", "feature", "work")
    before = bob.tree()
    folder = bob.repo if where == "clone" else bob.base
    for env in (
        {"GIT_DIR": str(bob.base / "origin.git")},
        {"GIT_DIR": str(pair.alice.repo / ".git"), "GIT_WORK_TREE": str(pair.alice.repo)},
    ):
        one_error(bob.zopp(*argv, cwd=folder, env=env, stdin="x"), "GIT_DIR", "unset")
    if where == "clone":
        one_error(bob.zopp(*argv, env={"GIT_WORK_TREE": str(pair.alice.repo)}, stdin="x"), "GIT_WORK_TREE", "unset")
    assert bob.tree() == before


def test_git_dir_and_work_tree_of_this_very_clone(pair: Team) -> None:
    bob = two_branches(pair)
    bob.ok("merge", "feature", env={"GIT_DIR": ".git", "GIT_WORK_TREE": "."})
    assert values(bob, "A", "B") == ["a1", "b1"]
    clean(bob)


def test_a_linked_work_tree_of_a_bare_repository(pair: Team) -> None:
    """There is a work tree, so it merges."""
    bob = two_branches(pair)
    bob.git("push", "-q", "origin", "feature", "work")
    bare = bob.base / "origin.git"
    subprocess.run(["git", "-C", bare, "worktree", "add", "-q", bob.base / "linked", "work"], check=True, env=bob.env)
    linked = User("bob", bob.principal, bob.base, dict(bob.extra), folder="linked")
    linked.ok("trust", "--genesis", bob.state().ws)
    linked.ok("merge", "feature")
    assert values(linked, "A", "B") == ["a1", "b1"]
    linked.ok("verify")


# --- a detached HEAD


@pytest.mark.parametrize("how", ["zopp merge", "git merge", "hooks", "rebase", "cherry-pick"])
def test_a_detached_head(pair: Team, how: str) -> None:
    bob = two_branches(pair)
    ours = bob.git("rev-parse", "work")
    bob.git("checkout", "-q", "--detach", "work")
    if how == "hooks":
        bob.ok("hooks", "install", *MERGE_HOOKS)
    if how == "zopp merge":
        bob.ok("merge", "feature")
    else:
        argv = {"rebase": ("rebase", "feature"), "cherry-pick": ("cherry-pick", "feature")}.get(
            how, ("merge", "--no-edit", "feature")
        )
        code, said = run_git(bob, *argv)
        assert code == (0 if how == "hooks" else 1), said
        if code:
            bob.ok("merge", "--continue")
    assert values(bob, "A", "B") == ["a1", "b1"]
    assert bob.git("rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
    assert bob.git("rev-parse", "work") == ours
    assert parents(bob)[0] == (bob.git("rev-parse", "feature") if how == "rebase" else ours)
    clean(bob)


def test_a_detached_head_is_merged_into_a_branch(pair: Team) -> None:
    """What is merged need be no branch either."""
    bob = two_branches(pair)
    bob.git("checkout", "-q", "--detach", "feature")
    bob.set("C", "c1")
    theirs = bob.commit("beside")
    bob.git("checkout", "-q", "work")
    bob.ok("merge", theirs)
    assert values(bob, "A", "B", "C") == ["a1", "b1", "c1"]
    clean(bob)


def test_abort_on_a_detached_head(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("A", "a2"))
    bob.git("checkout", "-q", "--detach", "work")
    before = bob.tree()
    bob.zopp("merge", "feature", code=1)
    bob.ok("merge", "--abort")
    assert bob.tree() == before
    clean(bob)


# --- git keeps no record of the other side


@pytest.mark.parametrize("enrolled", [True, False], ids=["drivers", "no-drivers"])
def test_picked_without_a_commit(pair: Team, enrolled: bool) -> None:
    """No file of git's names the commit; the versions in its index are those of one commit and its parent."""
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"), ("X", "x1"), ("Y", "y1"))
    branch(bob, "work", ("B", "b1"))
    head = bob.git("rev-parse", "HEAD")
    if not enrolled:
        disenrol(bob)
    code, said = run_git(bob, "cherry-pick", "--no-commit", "feature~1")
    assert code == 1, said
    done = bob.ok("merge", "--continue", "--json")
    assert done.json["operation"] == "cherry-pick --no-commit" and "git commit" in done.err
    assert bob.git("rev-parse", "HEAD") == head
    assert values(bob, "A", "B", "X") == ["a0", "b1", "x1"]
    assert bob.zopp("get", "Y", "-e", "dev").code == 1
    bob.git("commit", "-q", "-m", "picked")
    assert parents(bob) == [head]
    clean(bob)


@pytest.mark.parametrize("enrolled", [True, False], ids=["drivers", "no-drivers"])
def test_reverted_without_a_commit(pair: Team, enrolled: bool) -> None:
    """git keeps a record of it, the same as with a commit: so it ends in one."""
    bob = pair.bob
    branch(bob, "work", ("A", "a1"), ("B", "b1"))
    if not enrolled:
        disenrol(bob)
    assert run_git(bob, "revert", "--no-commit", "HEAD~1")[0] == 1
    bob.ok("merge", "--continue")
    assert values(bob, "A", "B") == ["a0", "b1"]
    clean(bob)


def test_picked_without_a_commit_and_in_conflict(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("A", "a2"))
    disenrol(bob)
    assert run_git(bob, "cherry-pick", "--no-commit", "feature")[0] == 1
    assert "conflict: api/dev A" in bob.zopp("merge", "--continue", code=1).err
    assert bob.zopp("resolve").out.startswith("api/dev  A  ")
    bob.ok("resolve", "A", "--theirs")
    bob.ok("merge", "--continue")
    bob.git("commit", "-q", "-m", "picked")
    assert bob.get("A") == "a1"
    clean(bob)


def test_given_up_without_a_commit(pair: Team) -> None:
    bob = two_branches(pair)
    before = bob.tree()
    disenrol(bob)
    assert run_git(bob, "cherry-pick", "--no-commit", "feature")[0] == 1
    bob.ok("merge", "--abort")
    assert bob.tree() == before
    clean(bob)


def test_two_commits_picked_into_one(pair: Team) -> None:
    """What the first one brought is staged and in no commit: nothing is signed that was not merged from two commits."""
    bob = pair.bob
    branch(bob, "feature", ("S", "s1"), ("X", "x1"))
    branch(bob, "work", ("B", "b1"))
    disenrol(bob)
    assert run_git(bob, "cherry-pick", "--no-commit", "feature~1", "feature")[0] == 1
    before = bob.read(".zopp/manifest/api/dev.json")
    bob.ok("merge", "--continue")
    assert run_git(bob, "cherry-pick", "--no-commit", "feature")[0] == 1
    done = bob.zopp("merge", "--continue")
    refused(done, 1, words=["staged with changes that are not committed"])
    assert bob.read(".zopp/manifest/api/dev.json") != before


def test_versions_that_are_no_commits(pair: Team) -> None:
    """An index that somebody made: the third version is in no commit, so nobody says that a writer made it."""
    bob = two_branches(pair)
    disenrol(bob)
    assert run_git(bob, "cherry-pick", "--no-commit", "feature")[0] == 1
    head = bob.git("rev-parse", "HEAD")
    bob.git("checkout", "-q", "--theirs", "secrets/dev.yaml")
    data = sopsfile.edit(
        sops_of(bob, "dev"), data_key(bob, "dev"), [Put(("A",), "forged")], lastmodified="2030-01-01T00:00:00Z"
    )
    forged = bob.git("hash-object", "-w", "--stdin", stdin=data)
    bob.git("update-index", "--index-info", stdin=f"100644 {forged} 3\tsecrets/dev.yaml\n".encode())
    before = bob.tree()
    for argv in (("merge", "--continue"), ("resolve",), ("resolve", "A", "--theirs")):
        one_error(bob.zopp(*argv), "git keeps no record of what it merges here", "git reset --merge")
    assert bob.tree() == before and bob.git("rev-parse", "HEAD") == head
