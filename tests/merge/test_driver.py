"""The driver in real git: every row of review-and-ci.md §1.2."""

import subprocess

import pytest

from tests.merge.conftest import branch, clean, enrol, run_git
from tests.support import Team, User
from zopp.errors import FormatError
from zopp.keys import agefile
from zopp.policy import manifest as manifests
from zopp.policy.manifest import FileEntry
from zopp.sopsfile import read, to_plain

FILE = "secrets/dev.yaml"


def conflicts(user: User) -> list[str]:
    return user.git("diff", "--name-only", "--diff-filter=U").split("\n")


def plain(user: User, data: bytes) -> dict[str, object]:
    file = read(data, "yaml")
    entry = next(e for e in file.metadata.groups[0] if e.recipient == user.recipient)
    found: dict[str, object] = to_plain(file.decrypt(agefile.unwrap(entry.enc, user.identities)).documents[0])
    return found


def merged(user: User, *wanted: tuple[str, str]) -> None:
    """The file in the work tree is the merge, without markers, and its MAC holds."""
    found = plain(user, user.read(FILE))
    for key, value in wanted:
        assert found[key] == value
    assert FILE not in conflicts(user)


# --- called when both sides changed the file


ROWS = {
    "merge": (("merge", "feature"),),
    "no-commit": (("merge", "--no-commit", "feature"),),
    "squash": (("merge", "--squash", "feature"),),
    "cherry-pick": (("cherry-pick", "feature"),),
    "rebase": (("rebase", "feature"),),
    "rebase-apply": (("rebase", "--apply", "feature"),),
}


@pytest.mark.parametrize("row", ROWS)
def test_called_when_both_changed(pair: Team, row: str) -> None:
    """Each operation merges the values, and stops at the manifest alone."""
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    for argv in ROWS[row]:
        code, said = run_git(bob, *argv)
        assert code != 0, said
    merged(bob, ("A", "a1"), ("B", "b1"))
    assert conflicts(bob) == [".zopp/manifest/api/dev.json", ".zopp/manifest/api/dev.json.sig"]


def test_called_by_stash_pop(pair: Team) -> None:
    bob = pair.bob
    bob.set("A", "a1")
    bob.git("stash", "-q")
    bob.set("B", "b1")
    bob.commit("B")
    assert run_git(bob, "stash", "pop")[0] == 1
    merged(bob, ("A", "a1"), ("B", "b1"))


@pytest.mark.parametrize("how", [("am", "-3"), ("apply", "-3")], ids=["am", "apply"])
def test_called_for_a_patch_of_a_known_commit(pair: Team, how: tuple[str, str]) -> None:
    """git rebuilds the blobs of a patch; the commit that they came from is here, so a writer stands behind them."""
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    patch = subprocess.run(
        ["git", "format-patch", "--stdout", "--full-index", "--binary", "-1"],
        cwd=bob.repo, env=bob.env, check=True, capture_output=True,
    ).stdout  # fmt: skip
    branch(bob, "work", ("B", "b1"))
    (bob.base / "patch").write_bytes(patch)
    assert run_git(bob, *how, str(bob.base / "patch"))[0] != 0
    merged(bob, ("A", "a1"), ("B", "b1"))


def test_checkout_with_uncommitted_changes_loses_nothing(pair: Team) -> None:
    """`checkout -m` calls it for what is in no commit, so nobody's signature stands behind that. git keeps no stages
    there: both sides are in the file."""
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    bob.git("checkout", "-q", "main")
    bob.set("B", "b1")
    mine = bob.read(FILE)
    code, said = run_git(bob, "checkout", "-m", "feature")
    assert "no commit here lists their version" in said, (code, said)
    now = bob.read(FILE)
    assert now.startswith(b"<<<<<<< ours\n") and mine in now
    assert bob.zopp("verify").code == 1


def test_called_by_merge_tree(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    done = subprocess.run(
        ["git", "merge-tree", "--write-tree", "work", "feature"],
        cwd=bob.repo, env=bob.env, check=False, capture_output=True, text=True,
    )  # fmt: skip
    tree = done.stdout.split("\n")[0]
    assert done.returncode == 1, done.stderr
    blob = subprocess.run(
        ["git", "cat-file", "blob", f"{tree}:{FILE}"], cwd=bob.repo, env=bob.env, check=True, capture_output=True
    ).stdout
    assert plain(bob, blob) == {"BASE": "base-dev", "A": "a1", "B": "b1", "C": "c0"}


def test_not_called_when_one_side_changed(pair: Team) -> None:
    """Git takes that side's file and manifest as they are signed; there is nothing to do."""
    bob = pair.bob
    theirs = branch(bob, "feature", ("A", "a1"))
    bob.git("checkout", "-q", "-b", "work", "main")
    bob.write("code.txt", "x\n")
    bob.commit("code")
    code, said = run_git(bob, "merge", "-q", "--no-edit", "feature")
    assert code == 0, said
    assert bob.git("rev-parse", f"HEAD:{FILE}") == bob.git("rev-parse", f"{theirs}:{FILE}")
    clean(bob)


def test_strategy_ours_does_not_call_it(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    assert run_git(bob, "merge", "-q", "--no-edit", "-s", "ours", "feature")[0] == 0
    assert bob.get("A") == "a0"
    bob.ok("verify")


@pytest.mark.parametrize("option", ["ours", "theirs"])
def test_strategy_options_lose_nothing(pair: Team, option: str) -> None:
    """`-X ours` reaches the driver no more than any other merge: the same key is a conflict all the same."""
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"), ("B", "b1"))
    branch(bob, "work", ("A", "a2"))
    assert run_git(bob, "merge", "-X", option, "feature")[0] == 1
    assert FILE in conflicts(bob)
    assert bob.read(FILE).count(b"<<<<<<<") == 1


def test_modify_against_delete_is_left_to_a_choice(pair: Team) -> None:
    """Theirs took the file out of the environment, ours set a value: git calls nobody, and zopp asks by file."""
    bob = pair.bob
    bob.replace("zopp.toml", '["secrets/dev.yaml"]', '["secrets/dev.yaml", "secrets/more.yaml"]')
    bob.ok("set", "M", "-e", "dev", "--file", "secrets/more.yaml", stdin="m0")
    bob.commit("two files")
    branch(bob, "work", ("M", "m1"))
    bob.git("checkout", "-q", "-b", "feature", "main")
    bob.git("rm", "-q", "secrets/more.yaml")
    entries = {p: e for p, e in bob.manifest().files.items() if p != "secrets/more.yaml"}
    bob.sign_manifest("dev", files=entries)
    bob.commit("file removed")
    bob.git("checkout", "-q", "work")
    assert run_git(bob, "merge", "feature")[0] == 1
    done = bob.zopp("merge", "--continue", code=1)
    assert "secrets/more.yaml" in done.err and "removed" in done.err
    bob.ok("resolve", "secrets/more.yaml", "--ours")
    bob.ok("merge", "--continue")
    assert bob.get("M") == "m1"


def test_both_sides_add_the_file(pair: Team) -> None:
    """Git calls the driver with an empty base."""
    alice, bob = pair.alice, pair.bob
    alice.ok("env", "add", "qa", "-m", "qa")
    pair.sync()
    enrol(bob, paths=("secrets/qa.yaml",))
    for name, key in (("feature", "X"), ("work", "Y")):
        bob.git("checkout", "-q", "-B", name, "origin/main")
        bob.set(key, "1", "qa")
        bob.set("SAME", "1", "qa")
        bob.commit(name)
    code, said = run_git(bob, "merge", "feature")
    assert code == 1 and "secrets/qa.yaml" not in conflicts(bob), said
    bob.ok("merge", "--continue")
    assert [bob.get(key, "qa") for key in ("X", "Y", "SAME")] == ["1", "1", "1"]
    bob.ok("verify")


def test_a_rename_by_zopp_is_followed(pair: Team) -> None:
    """Theirs renamed the file and signed it, which gives it a new data key: git sees one file go and another come.
    zopp merges by key all the same."""
    bob = pair.bob
    bob.git("checkout", "-q", "-b", "feature", "main")
    bob.git("mv", FILE, NEW)
    bob.replace("zopp.toml", FILE, NEW)
    entries = signed_as(bob, NEW)
    bob.sign_manifest("dev", files={NEW: entries})
    bob.ok("rekey", "--all", "api/dev")
    bob.set("A", "a1")
    bob.commit("renamed")
    branch(bob, "work", ("B", "b1"))
    assert run_git(bob, "merge", "feature")[0] == 1
    bob.ok("merge", "--continue")
    assert [bob.get("A"), bob.get("B")] == ["a1", "b1"]
    assert list(bob.manifest().files) == [NEW] and not bob.path(FILE).exists()
    clean(bob)


NEW = "secrets/develop.yaml"


def signed_as(user: User, path: str) -> FileEntry:
    """The entry of dev's file under another name: its data key committed to for that name."""
    old = user.manifest().files[FILE]
    kc = manifests.commitment(data_key_of(user, path), user.state().ws, "api/dev", path)
    return FileEntry(old.sha512, kc, old.dk_seq, old.dk_by)


def data_key_of(user: User, path: str) -> bytes:
    entry = next(e for e in read(user.read(path), "yaml").metadata.groups[0] if e.recipient == user.recipient)
    return agefile.unwrap(entry.enc, user.identities)


def test_a_rename_that_git_sees_is_followed(pair: Team) -> None:
    """Both changed the file and one renamed it under its old data key: the driver is called, `%P` is the new path."""
    bob = pair.bob
    enrol(bob, paths=(NEW,))
    bob.git("checkout", "-q", "-b", "feature", "main")
    bob.git("mv", FILE, NEW)
    bob.replace("zopp.toml", FILE, NEW)
    bob.sign_manifest("dev", files={NEW: signed_as(bob, NEW)})
    bob.set("A", "a1")
    bob.commit("renamed")
    branch(bob, "work", ("B", "b1"))
    code, said = run_git(bob, "merge", "feature")
    assert code == 1 and NEW not in conflicts(bob), said
    assert not bob.path(FILE).exists()
    found = plain(bob, bob.read(NEW))
    assert (found["A"], found["B"]) == ("a1", "b1")
    bob.ok("merge", "--continue")
    assert [bob.get("A"), bob.get("B")] == ["a1", "b1"]
    assert list(bob.manifest().files) == [NEW]
    clean(bob)


def test_criss_cross_is_merged_once_with_the_true_ancestor(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "left", ("A", "a1"))
    branch(bob, "right", ("B", "b1"))
    bob.git("branch", "right-tip")
    bob.ok("merge", "left", "-m", "left into right")
    bob.git("checkout", "-q", "left")
    bob.ok("merge", "right-tip", "-m", "right into left")
    bob.set("C", "c1")
    bob.commit("C")
    bob.git("checkout", "-q", "right")
    bob.set("D", "d1")
    bob.commit("D")
    assert len(bob.git("merge-base", "--all", "left", "right").split()) == 2
    code, said = run_git(bob, "merge", "left")
    assert code == 1 and FILE not in conflicts(bob), said
    bob.ok("merge", "--continue")
    assert [bob.get(key) for key in "ABCD"] == ["a1", "b1", "c1", "d1"]
    clean(bob)


def test_in_a_rebase_ours_is_the_upstream(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "up", ("A", "upstream"))
    branch(bob, "work", ("A", "mine"))
    assert run_git(bob, "rebase", "up")[0] == 1
    found = bob.zopp("resolve", "--json", "--reveal", code=1).json["open"]
    assert [(row["ours_value"], row["theirs_value"], row["base_value"]) for row in found] == [
        ("upstream", "mine", "a0")
    ]
    bob.ok("resolve", "A", "--theirs")
    bob.ok("merge", "--continue")
    assert bob.get("A") == "mine"
    clean(bob)


def test_a_bare_repository_merges_as_text_and_says_so(pair: Team) -> None:
    """Attributes are not read there: the two sides conflict, and nothing is merged behind anyone's back."""
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    bob.git("push", "-q", "origin", "feature", "work")
    bare = bob.base / "origin.git"
    done = subprocess.run(
        ["git", "merge-tree", "--write-tree", "work", "feature"],
        cwd=bare,
        env=bob.env,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1 and FILE in done.stdout.decode()


def test_a_clone_without_the_definition_is_put_right_by_continue(pair: Team) -> None:
    """A text merge leaves markers in mac and lastmodified; zopp makes the merge from the two commits."""
    bob = pair.bob
    bob.git("config", "--remove-section", "merge.zopp")
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    assert run_git(bob, "merge", "feature")[0] == 1
    assert b"<<<<<<<" in bob.read(FILE)
    bob.ok("merge", "--continue")
    assert [bob.get("A"), bob.get("B")] == ["a1", "b1"]
    clean(bob)


def test_a_missing_program_is_a_conflict_and_is_put_right(pair: Team) -> None:
    bob = pair.bob
    bob.git("config", "merge.zopp.driver", "no-such-program %O %A %B")
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("B", "b1"))
    assert run_git(bob, "merge", "feature")[0] == 1
    assert FILE in conflicts(bob)
    bob.ok("merge", "--continue")
    assert [bob.get("A"), bob.get("B")] == ["a1", "b1"]
    clean(bob)


# --- what a conflict looks like (rule 7)


def test_a_conflict_leaves_markers_that_nothing_reads(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "canary-theirs"), ("B", "b1"))
    branch(bob, "work", ("A", "canary-ours"), ("C", "c1"))
    code, said = run_git(bob, "merge", "feature")
    assert code == 1
    assert "both sides changed A" in said and "zopp resolve A" in said
    data = bob.read(FILE)
    with pytest.raises(FormatError):
        read(data, "yaml", strict=False)
    text = data.decode()
    assert text.count("<<<<<<< ours\nA: ENC[") == 1
    assert "canary" not in text + said
    for row in text.split("\n"):
        assert row.count("B: ") + row.count("C: ") == 0 or not row.startswith(("<", ">"))
    assert bob.zopp("get", "B", "-e", "dev").code == 1
    assert bob.zopp("verify").code == 1
    bob.ok("resolve", "A", "--ours")
    bob.ok("merge", "--continue")
    assert [bob.get(key) for key in "ABC"] == ["canary-ours", "b1", "c1"]
    clean(bob)


def test_a_blind_add_of_the_marked_file_is_refused(pair: Team) -> None:
    bob = pair.bob
    branch(bob, "feature", ("A", "a1"))
    branch(bob, "work", ("A", "a2"))
    run_git(bob, "merge", "feature")
    bob.git("add", "--all")
    done = bob.zopp("merge", "--continue", code=1)
    assert "conflict: api/dev A" in done.err
    bob.git("commit", "-q", "-m", "blind")
    assert bob.zopp("verify").code == 1


def test_rerere_keeps_no_plaintext(pair: Team) -> None:
    bob = pair.bob
    bob.git("config", "rerere.enabled", "true")
    branch(bob, "feature", ("A", "canary-theirs"))
    branch(bob, "work", ("A", "canary-ours"))
    run_git(bob, "merge", "feature")
    bob.ok("resolve", "A", "--edit", stdin="canary-typed")
    bob.ok("merge", "--continue")
    assert bob.get("A") == "canary-typed"
    kept = [path for path in (bob.repo / ".git/rr-cache").rglob("*") if path.is_file()]
    assert kept, "rerere recorded the conflict"
    for path in (bob.repo / ".git").rglob("*"):
        if path.is_file():
            assert b"canary" not in path.read_bytes(), path
    clean(bob)


# --- the hidden verb


def test_the_help_does_not_list_it(pair: Team) -> None:
    assert "merge-driver" not in pair.bob.ok("--help").out
    assert b"%O" in pair.bob.child("merge-driver", "--help").stdout
    assert "merge-driver" not in pair.bob.zopp("nonsense").err


def test_a_criss_cross_of_definitions_is_binary(pair: Team) -> None:
    for name in ("zopp", "zopp-manifest", "zopp-policy"):
        assert pair.bob.git("config", f"merge.{name}.recursive") == "binary"
        assert pair.bob.git("config", f"merge.{name}.driver").endswith(" %O %A %B %L %P")
