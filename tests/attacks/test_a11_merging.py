"""A1, A11, A12, A16, A17, A19 where they concern merging: what a merge must not sign, wrap or let in."""

import json
from pathlib import Path

import pytest

from tests.attacks.test_a01_files import data_key, sops_of
from tests.attacks.test_a05_anchor import craft
from tests.merge.conftest import branch, clean, enrol, on_path, run_git
from tests.merge.test_continue import both_sides_marked
from tests.support import Team, User, refused
from zopp import sopsfile
from zopp._fast import sha512
from zopp.keys import agefile
from zopp.policy import manifest as manifests
from zopp.policy.manifest import FileEntry
from zopp.sopsfile import Entry, Put

FILE = "secrets/dev.yaml"


def _roles(team: Team) -> None:
    team.alice.ok("grant", "bob", "write", "api/dev")
    team.alice.ok("grant", "bob", "write", "api/staging")
    team.alice.ok("grant", "carol", "read", "api/dev")
    team.alice.set("A", "a0")
    team.sync("roles")
    for user in (team.alice, team.bob, team.carol):
        enrol(user, hooks=True)


@pytest.fixture
def pair(tmp_path: Path) -> Team:
    """Bob may write dev and staging, carol may read them; all clones have drivers and hooks."""
    team = Team.make(tmp_path, "merging-roles", _roles)
    for user in (team.alice, team.bob, team.carol):
        on_path(user)
    return team


def nothing_signed(user: User, before: bytes, head: str) -> None:
    assert user.git("rev-parse", "HEAD") == head
    assert user.read(".zopp/manifest/api/dev.json") == before


def forged_side(pair: Team, value: str = "forged") -> None:
    """Carol may only read dev. On a branch she edits the file with its data key, MAC and all."""
    carol = pair.carol
    carol.git("checkout", "-q", "-b", "innocent")
    data = sopsfile.edit(
        sops_of(carol, "dev"), data_key(carol, "dev"), [Put(("A",), value)], lastmodified="2030-01-01T00:00:00Z"
    )
    carol.write(FILE, data)
    carol.commit("innocent")
    carol.git("push", "-q", "origin", "innocent")
    pair.alice.git("fetch", "-q", "origin")


# --- A19: nothing is signed blind


@pytest.mark.parametrize("how", ["git", "zopp"])
def test_a19_an_unsigned_side_is_not_merged(pair: Team, how: str) -> None:
    alice = pair.alice
    forged_side(pair)
    alice.set("B", "b1")
    alice.commit("B")
    head, before = alice.git("rev-parse", "HEAD"), alice.read(".zopp/manifest/api/dev.json")
    if how == "git":
        code, said = run_git(alice, "merge", "--no-edit", "origin/innocent")
        assert code == 1 and "not what a manifest of that commit lists" in said, said
        both_sides_marked(alice, theirs="origin/innocent")
        alice.zopp("merge", "--continue", code=1)
    else:
        alice.zopp("merge", "origin/innocent", code=1)
    nothing_signed(alice, before, head)
    alice.ok("merge", "--abort")
    assert alice.get("A") == "a0"
    clean(alice)


def test_a19_an_unsigned_one_sided_edit_is_not_signed_by_the_hook(pair: Team) -> None:
    """Theirs alone touched the file, so no driver is called; ours changed the manifest with another environment's."""
    alice = pair.alice
    forged_side(pair)
    branch(alice, "work", ("B", "b1"), env="staging")
    run_git(alice, "merge", "--no-edit", "origin/innocent")
    assert alice.zopp("verify").code == 1
    assert alice.zopp("get", "A", "-e", "dev").code == 1


def stopped_merge(user: User) -> str:
    branch(user, "feature", ("A", "a1"))
    return branch(user, "work", ("B", "b1"))


@pytest.mark.parametrize("edit", ["value", "same-key-file", "text"])
def test_a19_a_foreign_edit_in_the_middle_of_a_merge(pair: Team, edit: str) -> None:
    """Somebody edits the merged file before it is signed: neither --continue nor the hook signs it."""
    alice = pair.alice
    head = stopped_merge(alice)
    assert run_git(alice, "merge", "--no-commit", "feature")[0] == 0
    before = alice.read(".zopp/manifest/api/dev.json")
    if edit == "text":
        alice.write(FILE, alice.read(FILE) + b"# a line\n")
    else:
        key = data_key(alice, "dev")
        put = Put(("A",), "forged") if edit == "value" else Put(("EXTRA",), "forged")
        alice.write(FILE, sopsfile.edit(sops_of(alice, "dev"), key, [put], lastmodified="2030-01-01T00:00:00Z"))
    found = alice.read(FILE)
    refused(alice.zopp("merge", "--continue"), 1, words=["changed since git began"])
    nothing_signed(alice, before, head)
    assert alice.read(FILE) == found
    alice.git("add", "--all")
    refused(alice.zopp("merge", "--continue"), 1, words=["changed since git began"])
    nothing_signed(alice, before, head)


@pytest.mark.parametrize("where", ["continue", "hook"])
def test_a19_a_forged_journal(pair: Team, where: str) -> None:
    """The edit is noted as the driver's own work: the merge is made again from the two sides, and it is not that."""
    alice = pair.alice
    head = stopped_merge(alice)
    if where == "hook":
        # A hook of somebody else's that runs first plays the attacker between driver and signature.
        before_hook = alice.repo / ".git/hooks/pre-merge-commit.before-zopp"
        before_hook.write_text(
            f'#!/bin/sh\ncp "{alice.base}/forged" {FILE}\ncp "{alice.base}/journal" .git/zopp/merge.json\n'
        )
        before_hook.chmod(0o755)
    assert run_git(alice, "merge", "--no-commit", "feature")[0] == 0
    before = alice.read(".zopp/manifest/api/dev.json")
    key = data_key(alice, "dev")
    forged = sopsfile.edit(sops_of(alice, "dev"), key, [Put(("A",), "forged")], lastmodified="2030-01-01T00:00:00Z")
    journal = alice.repo / ".git/zopp/merge.json"
    noted = json.loads(journal.read_text())
    noted["files"][FILE]["results"] = [sha512(forged).hex()]
    if where == "hook":
        (alice.base / "forged").write_bytes(forged)
        (alice.base / "journal").write_text(json.dumps(noted))
        alice.git("merge", "--abort")
        code, said = run_git(alice, "merge", "--no-edit", "feature")
        assert code != 0 and "is not the merge of the two sides" in said, said
    else:
        alice.write(FILE, forged)
        journal.write_text(json.dumps(noted))
        refused(alice.zopp("merge", "--continue"), 1, words=["is not the merge of the two sides"])
    nothing_signed(alice, before, head)


def removed_without_a_new_key(alice: User, who: str) -> None:
    """Only the statement, as an admin without write or an old tool would leave it."""
    data = alice.read(".zopp/policy.jsonl")
    lost = {"scope": {"env": "api/dev"}, "subject": {"user": who}}
    alice.write(".zopp/policy.jsonl", data + craft(alice, data, "binding.remove", lost))


def test_a19_a_forged_fresh_key_is_thrown_away(pair: Team) -> None:
    """Where the merge needs a new data key, what lies there under one is never kept: its maker might know it."""
    alice = pair.alice
    branch(alice, "feature", ("A", "a1"))
    alice.git("checkout", "-q", "main")
    alice.set("B", "b1")
    removed_without_a_new_key(alice, "carol")
    alice.commit("carol leaves")
    assert run_git(alice, "merge", "--no-commit", "feature")[0] == 0
    drivers_key, known = data_key(alice, "dev"), b"k" * 32
    assert pair.carol.recipient not in [e.recipient for e in sops_of(alice, "dev").metadata.groups[0]]
    group = tuple(
        Entry(e.recipient, agefile.wrap(e.recipient, known)) for e in sops_of(alice, "dev").metadata.groups[0]
    )
    forged = sopsfile.rotate(
        sops_of(alice, "dev"), drivers_key, known, (group,), threshold=None, lastmodified="2030-01-01T00:00:00Z"
    )
    journal = alice.repo / ".git/zopp/merge.json"
    noted = json.loads(journal.read_text())
    noted["files"][FILE]["results"] = [sha512(forged).hex()]
    alice.write(FILE, forged)
    journal.write_text(json.dumps(noted))
    alice.ok("merge", "--continue")
    assert data_key(alice, "dev") not in (known, drivers_key)
    assert [alice.get("A"), alice.get("B")] == ["a1", "b1"]
    clean(alice)


# --- A1: a transplant does not get through a merge


def test_a1_a_transplanted_side_is_refused(pair: Team) -> None:
    """Bob writes dev and may not read prod. On a branch he puts prod's body into the dev file with the victim's own
    entry and signs a dev manifest; the victim's merge would hand him prod."""
    alice, bob = pair.alice, pair.bob
    bob.git("checkout", "-q", "-b", "side")
    body = sops_of(bob, "prod")
    entries = tuple(e for e in body.metadata.groups[0])
    mine = Entry(bob.recipient, agefile.wrap(bob.recipient, b"j" * 32))
    carols = next(e for e in sops_of(bob, "dev").metadata.groups[0] if e.recipient == pair.carol.recipient)
    data = sopsfile.replace_groups(
        body, (tuple(sorted((*entries, mine, carols), key=lambda e: e.recipient)),), threshold=None
    )
    kc = manifests.commitment(b"j" * 32, bob.state().ws, "api/dev", FILE)
    bob.write(FILE, data)
    bob.sign_manifest("dev", files={FILE: FileEntry(sha512(data).hex(), kc, bob.state().seq, "bob-laptop")})
    bob.commit("side")
    bob.git("push", "-q", "origin", "side")
    alice.git("fetch", "-q", "origin")
    alice.set("B", "b1")
    alice.commit("B")
    head, before = alice.git("rev-parse", "HEAD"), alice.read(".zopp/manifest/api/dev.json")
    code, said = run_git(alice, "merge", "--no-edit", "origin/side")
    assert code == 1 and "transplanted" in said, said
    refused(alice.zopp("merge", "--continue"), 1, words=["transplanted"])
    nothing_signed(alice, before, head)


# --- A11: statements are signed again only if they mean the same


def test_a11_merge_signs_only_what_means_the_same(pair: Team) -> None:
    alice, bob = pair.alice, pair.bob
    alice.ok("group", "create", "ops")
    alice.ok("group", "add", "ops", "bob")
    alice.ok("grant", "bob", "admin", "acme")
    pair.sync()
    bob.ok("group", "add", "ops", "carol", "-m", "carol is in ops")
    bob.push()
    alice.git("checkout", "-q", "-b", "work")
    alice.ok("grant", "ops", "read", "api/prod", "-m", "ops reads prod")
    head = alice.git("rev-parse", "HEAD")
    alice.git("fetch", "-q", "origin")
    done = alice.zopp("merge", "origin/main")
    refused(done, 1, words=["carol-desktop", "means something else now"])
    assert alice.git("rev-parse", "HEAD") == head
    alice.ok("merge", "--abort")
    assert alice.git("rev-parse", "HEAD") == head
    clean(alice)


# --- A12: generations


def test_a12_a_poisoned_generation_does_not_lock_a_merge(pair: Team) -> None:
    """A writer's branch claims generation 2^53 - 2, the last but one. Others can be merged without it, and it itself
    can be merged, too: nothing after that."""
    alice, bob = pair.alice, pair.bob
    bob.git("checkout", "-q", "-b", "huge")
    bob.set("B", "b1")
    bob.sign_manifest("dev", generation=2**53 - 2)
    bob.share("huge")
    alice.git("fetch", "-q", "origin")
    alice.git("checkout", "-q", "origin/huge")
    alice.zopp("get", "B", "-e", "dev")
    alice.git("checkout", "-q", "main")
    branch(alice, "feature", ("C", "c1"))
    alice.git("checkout", "-q", "main")
    alice.set("D", "d1")
    alice.commit("D")
    alice.ok("merge", "feature")
    assert alice.manifest().generation < 1000
    clean(alice)
    alice.ok("merge", "origin/huge")
    assert alice.manifest().generation == 2**53 - 1
    assert [alice.get(key) for key in "BCD"] == ["b1", "c1", "d1"]
    clean(alice)


def test_a12_an_unsigned_generation_counts_for_nothing(pair: Team) -> None:
    """Carol, who may not write, signs one: the side is refused, and no later generation has to be above it."""
    alice, carol = pair.alice, pair.carol
    carol.git("checkout", "-q", "-b", "huge")
    carol.sign_manifest("dev", generation=2**53 - 2)
    carol.share("huge")
    alice.git("fetch", "-q", "origin")
    alice.set("D", "d1")
    alice.commit("D")
    refused(alice.zopp("merge", "origin/huge"), 1, words=["carol-desktop"])
    alice.ok("merge", "--abort")
    alice.set("E", "e1")
    assert alice.manifest().generation < 1000


# --- A17: who makes a key by merging made it


def test_a17_made_by_merge(pair: Team) -> None:
    """Bob's merge needs a new data key. Nothing was released to him for it and he rotated nothing: he made it."""
    alice, bob = pair.alice, pair.bob
    branch(alice, "feature", ("A", "a1"))
    removed_without_a_new_key(alice, "carol")
    alice.commit("carol leaves")
    alice.git("push", "-q", "origin", "feature")
    bob.git("fetch", "-q", "origin")
    branch(bob, "work", ("C", "c1"))
    before = bob.manifest().files[FILE]
    bob.ok("merge", "origin/feature")
    entry, state = bob.manifest().files[FILE], bob.state()
    assert entry.kc != before.kc and (entry.dk_by, entry.dk_seq) == ("bob-laptop", state.seq)
    clean(bob)
    bob.git("push", "-q", "origin", "work:main")
    alice.pull()
    done = alice.ok("offboard", "bob")
    assert "api/dev A" in done.err and "api/dev C" in done.err


# --- A15, A16: what git or a commit may do to the files of a merge


@pytest.mark.parametrize("line", ["* merge=union", "secrets/* merge=ours", ".zopp/** merge=binary"])
def test_a15_attributes_of_the_tree_do_not_choose_another_driver(pair: Team, line: str) -> None:
    """git's own info/attributes win over the tree's; and what another driver made is not signed."""
    alice = pair.alice
    branch(alice, "feature", ("A", "a1"))
    alice.git("checkout", "-q", "main")
    alice.write("secrets/.gitattributes", line.replace("secrets/", "") + "\n")
    alice.write("code.txt", "x")
    alice.commit("attributes")
    alice.set("B", "b1")
    alice.commit("B")
    alice.zopp("merge", "feature")
    assert [alice.get("A"), alice.get("B")] == ["a1", "b1"]


def test_a16_a_file_of_another_environment_is_not_taken_in(pair: Team) -> None:
    """Bob's branch lists staging's file under dev, too: merging dev would sign that."""
    alice, bob = pair.alice, pair.bob
    bob.git("checkout", "-q", "-b", "side")
    other = "secrets/staging.yaml"
    key = data_key(bob, "staging")
    kc = manifests.commitment(key, bob.state().ws, "api/dev", other)
    mine = bob.manifest("staging").files[other]
    bob.sign_manifest("dev", files={**bob.manifest().files, other: FileEntry(mine.sha512, kc, mine.dk_seq, mine.dk_by)})
    bob.commit("both")
    bob.git("push", "-q", "origin", "side")
    alice.git("fetch", "-q", "origin")
    alice.set("B", "b1")
    alice.commit("B")
    head, before = alice.git("rev-parse", "HEAD"), alice.read(".zopp/manifest/api/dev.json")
    refused(alice.zopp("merge", "origin/side"), 1)
    nothing_signed(alice, before, head)
