"""Commits: what a push, a range and a pre-push hook bring, each commit by itself."""

import time
from pathlib import Path

import pytest

from tests.scan.repo import Repo, sealed, token

TOKEN = token(21)


@pytest.fixture
def pushed(tmp_path: Path) -> Repo:
    """A repository whose main is on a server with the hook."""
    repo = Repo(tmp_path).start()
    repo.server()
    repo.git("push", "-q", "origin", "HEAD:main")
    return repo


def refused(repo: Repo, *argv: str, rule: str = "github-token") -> str:
    repo.git("push", "-q", "origin", *argv, code=1)
    said = repo.said
    assert f" {rule}: " in said, said
    assert TOKEN not in said
    return said


def test_added_and_removed_again_within_one_push(pushed: Repo) -> None:
    pushed.stage("a.txt", TOKEN + "\n")
    bad = pushed.commit()
    pushed.stage("a.txt", "clean\n")
    pushed.commit()
    assert f"{bad[:12]}:a.txt:1:1: github-token" in refused(pushed, "HEAD:main")
    refused(pushed, "HEAD:refs/heads/new-branch")


def test_deleting_a_branch_passes(pushed: Repo) -> None:
    pushed.git("push", "-q", "origin", "HEAD:refs/heads/other")
    pushed.git("push", "-q", "origin", ":refs/heads/other")


def test_a_deletion_beside_a_bad_branch_hides_nothing(pushed: Repo) -> None:
    pushed.git("push", "-q", "origin", "HEAD:refs/heads/other")
    pushed.stage("a.txt", TOKEN + "\n")
    pushed.commit()
    refused(pushed, "--atomic", ":refs/heads/other", "HEAD:refs/heads/new")


def test_forced_update(pushed: Repo) -> None:
    pushed.git("reset", "-q", "--soft", "HEAD")
    pushed.stage("a.txt", TOKEN + "\n")
    pushed.git("commit", "-q", "--amend", "--no-verify", "-m", "other start")
    refused(pushed, "--force", "HEAD:main")


def test_tags(pushed: Repo) -> None:
    """Of a commit, with a token in the message, of a blob, of a tree."""
    pushed.git("tag", "-a", "-m", f"the key is {TOKEN}", "v1")
    assert "(message)" in refused(pushed, "v1")
    blob = pushed.git("hash-object", "-w", "--stdin", data=TOKEN.encode())
    pushed.git("tag", "blob", blob)
    refused(pushed, "blob")
    pushed.stage("a.txt", TOKEN + "\n")
    tree = pushed.git("write-tree")
    pushed.git("tag", "-a", "-m", "x", "tree", tree)
    refused(pushed, "tree")
    pushed.git("reset", "-q", "--hard")
    pushed.git("tag", "-a", "-m", "good", "v2")
    pushed.git("push", "-q", "origin", "v2")


def test_a_token_in_a_commit_message(pushed: Repo) -> None:
    pushed.commit(f"use {TOKEN}")
    assert "(message)" in refused(pushed, "HEAD:main")


def test_a_merge_brings_nothing_of_its_own_unless_typed(pushed: Repo) -> None:
    """What a merge takes over from a parent was judged there; what is typed while resolving is judged."""
    pushed.git("checkout", "-q", "-b", "side")
    pushed.stage("b.txt", "b\n")
    pushed.commit()
    pushed.git("checkout", "-q", "main")
    pushed.stage("c.txt", "c\n")
    pushed.commit()
    pushed.git("merge", "-q", "--no-commit", "--no-ff", "side")
    pushed.stage("b.txt", f"b {TOKEN}\n")
    pushed.git("commit", "-q", "--no-verify", "-m", "evil merge")
    said = refused(pushed, "HEAD:main")
    assert "b.txt:1:3" in said


def test_an_old_token_that_is_on_the_server_passes(pushed: Repo, tmp_path: Path) -> None:
    hook = tmp_path / "server.git/hooks/pre-receive"
    pushed.stage("a.txt", f"x\n{TOKEN}\n")
    pushed.commit()
    hook.chmod(0o644)
    pushed.git("push", "-q", "origin", "HEAD:main")
    hook.chmod(0o755)
    pushed.stage("a.txt", f"y\n{TOKEN}\n")
    pushed.commit()
    pushed.git("push", "-q", "origin", "HEAD:main")


def test_exceptions_can_be_refused_by_the_server(pushed: Repo, tmp_path: Path) -> None:
    pushed.stage("a.txt", f"{TOKEN}  # zopp:allow it is an example\n")
    pushed.commit()
    pushed.git("config", "--file", str(tmp_path / "server.git/config"), "zopp.guardExceptions", "false")
    refused(pushed, "HEAD:main")
    pushed.git("config", "--file", str(tmp_path / "server.git/config"), "zopp.guardExceptions", "true")
    pushed.git("push", "-q", "origin", "HEAD:main")


def test_plaintext_under_a_rule_in_any_commit(pushed: Repo) -> None:
    pushed.stage(".sops.yaml", "creation_rules:\n  - path_regex: ^secrets/\n")
    pushed.stage("secrets/a.yaml", "level: info\n")
    pushed.commit()
    pushed.stage("secrets/a.yaml", sealed("level: info\n"))
    pushed.commit()
    refused(pushed, "HEAD:main", rule="not-encrypted")
    pushed.git("reset", "-q", "--soft", "origin/main")
    pushed.commit("as one")
    pushed.git("push", "-q", "origin", "HEAD:main")


def test_a_thousand_clean_commits(pushed: Repo) -> None:
    """Within the time of a push (5 s alone on a quiet machine; here only that processor time stays near it)."""
    stream = [b"reset refs/heads/bulk\nfrom refs/heads/main\n\n"]
    for number in range(1000):
        body = f"value = {number}\ndef f():\n    return {number}\n".encode() * 20
        stream.append(
            b"commit refs/heads/bulk\nmark :%d\ncommitter A <a@b.c> %d +0000\ndata 2\nx\n\n"
            b"M 100644 inline src/f%d.py\ndata %d\n%s\n"
            % (number + 1, 1_700_000_000 + number, number % 97, len(body), body)
        )
    pushed.git("fast-import", "--quiet", data=b"".join(stream))
    pushed.git("push", "-q", "origin", "bulk")
    assert "1000 commits" in pushed.said
    before = time.process_time()
    assert pushed.zopp("scan", "--range", "main..bulk").code == 0
    assert time.process_time() - before < 8


def test_no_python_no_push(pushed: Repo, tmp_path: Path) -> None:
    pushed.git("config", "--file", str(tmp_path / "server.git/config"), "zopp.guardPython", "/nowhere/python")
    pushed.commit("clean")
    pushed.git("push", "-q", "origin", "HEAD:main", code=1)
    assert "guardPython" in pushed.said


# --- ranges


def test_range(repo: Repo) -> None:
    repo.stage("a.txt", TOKEN + "\n")
    repo.commit()
    repo.stage("a.txt", "clean\n")
    repo.commit()
    said = repo.zopp("scan", "--range", "HEAD~1..HEAD")
    assert said.code == 0 and "1 commit, 1 file" in said.err
    said = repo.zopp("scan", "--range", "HEAD~2..HEAD")
    assert said.code == 1 and "a.txt:1:1: github-token" in said.out
    assert repo.zopp("scan", "--range", "HEAD").code == 1
    for wrong in ("nowhere..HEAD", "--all", "", "-n1"):
        assert repo.zopp("scan", f"--range={wrong}").code == 2, wrong


# --- pre-push


@pytest.fixture
def cloned(tmp_path: Path) -> Repo:
    """A repository with a server that has no hook, and the client's pre-push hook."""
    repo = Repo(tmp_path).start()
    repo.git("init", "-q", "--bare", str(tmp_path / "plain.git"))
    repo.git("remote", "add", "origin", str(tmp_path / "plain.git"))
    repo.hook("pre-push")
    repo.git("push", "-q", "origin", "HEAD:main")
    return repo


def test_pre_push_catches_what_skipped_the_other_hook(cloned: Repo) -> None:
    cloned.stage("a.txt", TOKEN + "\n")
    cloned.commit()
    cloned.stage("a.txt", "clean\n")
    cloned.commit()
    refused(cloned, "HEAD:main")
    refused(cloned, "HEAD:refs/heads/new")
    cloned.git("push", "-q", "origin", ":main", code=None)
    cloned.git("reset", "-q", "--hard", "HEAD~2")
    cloned.stage("b.txt", "fine\n")
    cloned.commit()
    cloned.git("push", "-q", "origin", "HEAD:main")


def test_pre_push_to_an_address_and_with_a_remote_id_that_is_not_here(cloned: Repo, tmp_path: Path) -> None:
    cloned.git("push", "-q", f"file://{tmp_path}/plain.git", "HEAD:refs/heads/again")
    said = cloned.guard(
        "--pre-push", "origin", "url",
        stdin=f"refs/heads/main {cloned.git('rev-parse', 'HEAD')} refs/heads/main {'1' * 40}\n".encode(),
    )  # fmt: skip
    assert said.code == 0


def test_input_that_is_none_is_usage(cloned: Repo) -> None:
    assert cloned.guard("--pre-push", "origin", stdin=b"nonsense\n").code == 2
    assert cloned.guard("--pre-receive", stdin=b"a b\n").code == 2
    assert cloned.guard("--wrong").code == 2
    assert cloned.guard("--pre-push", "origin", stdin=b"").code == 0
