"""S57-S59 and the rollback parts of S11: versions, rolling back, who knew."""

import json

import pytest

from tests.support import Team, User, refused
from zopp import sopsfile
from zopp.keys import agefile


def events(user: User, *argv: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = user.ok("history", *argv, "--json").json["events"]
    return found


def told(user: User, *argv: str) -> list[tuple[object, object]]:
    return [(row["what"], row["signer"]) for row in events(user, *argv)]


@pytest.fixture
def written(team: Team) -> Team:
    """v1 by alice, v2 by bob, then unset by alice; each committed and pulled."""
    team.grant("bob", "write", "api/dev")
    team.alice.ok("set", "K", "-m", "first", stdin="value-one")
    team.sync()
    team.bob.ok("set", "K", "-m", "second", stdin="value-two")
    team.bob.push()
    team.alice.pull()
    team.alice.ok("unset", "K", "--yes", "-m", "third")
    team.sync()
    return team


def test_s57_history_blame_and_rollback(written: Team) -> None:
    """Who signed each version and when; values only on request; a rollback is a new change and takes nothing away."""
    alice, bob = written.alice, written.bob
    assert told(bob, "K") == [("removed", "alice-laptop"), ("changed", "bob-laptop"), ("set", "alice-laptop")]
    rows = events(bob, "K")
    assert [row["signature"] for row in rows] == ["verified"] * 3
    assert [row["subject"] for row in rows] == ["third", "second", "first"]
    assert [row["author"] for row in rows] == ["alice", "bob", "alice"]
    text = bob.ok("history", "K").text
    assert "value-one" not in text
    assert "value-two" not in text
    shown = bob.ok("history", "K", "--reveal").out
    assert shown.index("value-two") < shown.index("value-one")
    heads = {row["key"]: row for row in bob.ok("blame", "--json").json["keys"]}
    assert set(heads) == {"BASE"}
    first = str(rows[2]["commit"])
    bob.ok("rollback", "K", "--to", first, "-m", "back")
    assert bob.get("K") == "value-one"
    bob.ok("verify")
    assert told(bob, "K")[0] == ("set", "bob-laptop")
    assert [row["what"] for row in events(bob, "K")] == ["set", "removed", "changed", "set"]
    assert events(bob, "K", "--keyed")[0]["what"] == "rolled back"
    assert events(bob, "K", "--keyed")[0]["other"] == first
    bob.push()
    alice.pull()
    (row,) = alice.ok("blame", "K", "--json").json["keys"]
    assert (row["signer"], row["subject"]) == ("bob-laptop", "back")


def test_s57_without_any_key(written: Team) -> None:
    """History, blame, show and diff need no key."""
    stranger = written.fresh(written.carol, "stranger")
    for key in (stranger.home / ".config/zopp/keys").iterdir():
        key.unlink()
    first = str(events(written.bob, "K")[2]["commit"])
    assert stranger.zopp("history", "K").code == 0
    assert stranger.zopp("blame").code == 0
    assert "K" in stranger.zopp("show", first).out
    assert stranger.zopp("diff", f"{first}..HEAD").code == 1
    for argv in (("history", "K", "--reveal"), ("show", first, "--reveal"), ("diff", f"{first}..HEAD", "--reveal")):
        refused(stranger.zopp(*argv))


def test_s57_steps_and_all(written: Team) -> None:
    alice = written.alice
    alice.ok("rollback", "K", "--steps", "1", "-m", "again")
    assert alice.get("K") == "value-two"
    alice.ok("rollback", "K", "--steps", "1", "-m", "gone again")  # to what it was before: removed
    assert "K" not in alice.ok("list").out
    alice.set("X", "x1")
    alice.set("BASE", "changed")
    alice.commit("two at once")
    alice.ok("rollback", "--all", "--steps", "1", "-m", "undo")
    assert alice.get("BASE") == "base-dev"
    assert "X" not in alice.ok("list").out
    alice.ok("verify")
    refused(alice.zopp("rollback", "K", "--steps", "40"), words=["values so far"])
    assert alice.zopp("rollback", "K", "--steps", "0").code == 2
    assert alice.zopp("rollback", "K").code == 2
    assert alice.zopp("rollback", "--all", "K", "--steps", "1").code == 2


def test_s57_dry_run_and_nothing_to_do(written: Team) -> None:
    alice = written.alice
    before = alice.tree()
    done = alice.ok("rollback", "K", "--steps", "1", "--dry-run")
    assert "would roll back to" in done.err
    assert "value-two" not in done.text
    assert alice.tree() == before
    assert "nothing written" in alice.ok("rollback", "BASE", "--to", "HEAD").err
    assert alice.tree() == before


def test_s57_types_structures_and_clear_values(team: Team) -> None:
    """What comes back is what was there: types, nested keys, lists as a whole, clear values where they were clear."""
    alice = team.alice
    alice.ok("set", "port", "--type", "int", stdin="5432")
    alice.ok("set", "db.user", stdin="u1")
    alice.ok("set", "db.pass", stdin="p1")
    alice.ok("set", "shown_unencrypted", "--clear", stdin="seen")
    first = alice.commit("first")
    alice.ok("set", "port", "--type", "int", stdin="1")
    alice.ok("set", "db.user", stdin="u2")
    alice.ok("unset", "db.pass", "--yes")
    alice.ok("set", "db.more", stdin="m")
    alice.ok("set", "shown_unencrypted", "--clear", stdin="other")
    alice.commit("second")
    alice.ok("rollback", "db", "--to", first)
    assert alice.ok("get", "--json", "--reveal").json["keys"]
    assert alice.get("db.user") == "u1"
    assert alice.get("db.pass") == "p1"
    assert "db.more" not in alice.ok("list").out
    alice.ok("rollback", "--all", "--to", first)
    values = {row["key"]: row["value"] for row in alice.ok("get", "--json", "--reveal").json["keys"]}
    assert values == {
        "BASE": "base-dev", "port": 5432, "db.user": "u1", "db.pass": "p1", "shown_unencrypted": "seen",
    }  # fmt: skip
    alice.ok("verify")


def test_s58_rollback_does_not_readmit(team: Team) -> None:
    """Carol was removed after v1; the result is for today's readers under today's data key, and says that she knew."""
    team.grant("bob", "write", "api/dev")
    team.grant("carol", "read", "api/dev")
    alice, bob, carol = team.alice, team.bob, team.carol
    alice.ok("set", "K", "-m", "v1", stdin="value-one")
    first = alice.git("rev-parse", "HEAD")
    alice.ok("set", "K", "-m", "v2", stdin="value-two")
    alice.ok("revoke", "carol", "api/dev", "-m", "carol out")
    team.sync()
    assert not carol.opens(bob.read("secrets/dev.yaml"))
    before = bob.manifest().files["secrets/dev.yaml"]
    done = bob.ok("rollback", "K", "--to", first)
    assert bob.get("K") == "value-one"
    after = bob.manifest().files["secrets/dev.yaml"]
    assert (after.kc, after.dk_seq) == (before.kc, before.dk_seq)
    assert not carol.opens(bob.read("secrets/dev.yaml"))
    recipients = {e.recipient for g in sopsfile.read(bob.read("secrets/dev.yaml"), "yaml").metadata.groups for e in g}
    assert recipients == {alice.recipient, bob.recipient}
    assert "carol (carol-desktop) knew that value" in done.err
    bob.ok("verify")


def test_s58_an_exposed_value_that_is_back_is_open_again(team: Team) -> None:
    """It was changed at its source after carol left; a rollback to what she knew undoes that."""
    team.grant("carol", "read", "api/dev")
    alice = team.alice
    first = alice.git("rev-parse", "HEAD")
    alice.ok("revoke", "carol", "api/dev")
    alice.commit("carol out")

    def still_open() -> set[str]:
        return {row["key"] for row in json.loads(alice.zopp("exposure", "--json").out)}

    assert still_open() == {"BASE"}
    alice.set("BASE", "new at the source")
    alice.commit("changed")
    assert still_open() == set()
    done = alice.ok("rollback", "BASE", "--to", first)
    assert still_open() == {"BASE"}
    assert "open again in: zopp exposure" in done.err
    alice.set("BASE", "new once more")
    assert still_open() == set()


def test_s58_who_knew_is_told_through_new_data_keys(team: Team) -> None:
    """Carol read the value before the data key was another; rolling back to the version after that still names her."""
    team.grant("carol", "read", "api/dev")
    alice = team.alice
    alice.ok("revoke", "carol", "api/dev", "-m", "carol out")  # BASE is under a new data key, and the same
    second = alice.git("rev-parse", "HEAD")
    alice.ok("set", "BASE", "-m", "new", stdin="new")
    assert "carol (carol-desktop) knew" in alice.ok("rollback", "BASE", "--to", second).err


def test_s58_denied(team: Team) -> None:
    """A reader; and a writer whose keys do not open the version."""
    team.grant("carol", "read", "api/dev")
    alice, bob = team.alice, team.bob
    first = alice.git("rev-parse", "HEAD")
    alice.ok("set", "BASE", "-m", "new", stdin="new")
    team.grant("bob", "write", "api/dev")
    before = team.carol.tree()
    refused(team.carol.zopp("rollback", "BASE", "--to", first), 1, words=["write"])
    assert team.carol.tree() == before
    before = bob.tree()
    refused(bob.zopp("rollback", "BASE", "--to", first), 1, words=["not encrypted to you then"])
    assert bob.tree() == before
    # What a version that is for him has, he may bring back.
    bob.ok("set", "BASE", "-m", "bob's", stdin="bobs")
    bob.ok("rollback", "BASE", "--steps", "1")
    assert bob.get("BASE") == "new"


def test_s11_rollback_needs_write(team: Team) -> None:
    """read: no change. write: also rollback."""
    alice, bob = team.alice, team.bob
    alice.ok("set", "BASE", "-m", "v2", stdin="v2")
    team.grant("bob", "read", "api/dev")
    refused(bob.zopp("rollback", "BASE", "--steps", "1"), 1, words=["write"])
    refused(bob.zopp("rollback", "--all", "--to", "HEAD~1"), 1, words=["write"])
    team.grant("bob", "write", "api/dev")
    alice.ok("set", "BASE", "-m", "v3", stdin="v3")
    alice.push()
    bob.pull()
    bob.ok("rollback", "BASE", "--steps", "1")
    assert bob.get("BASE") == "v2"


def test_a_version_that_nobody_signed_is_not_written_back(team: Team) -> None:
    """Whoever can push puts a file of their own on a branch: it can be looked at, and a rollback does not take it."""
    team.grant("bob", "read", "api/dev")
    alice, bob = team.alice, team.bob
    data = bob.read("secrets/dev.yaml")
    file = sopsfile.read(data, "yaml")
    entry = next(e for g in file.metadata.groups for e in g if e.recipient == bob.recipient)
    key = agefile.unwrap(entry.enc, bob.identities)
    forged = sopsfile.edit(file, key, [sopsfile.Put(("BASE",), "bob's")], lastmodified="2026-01-01T00:00:00Z")
    bob.write("secrets/dev.yaml", forged)
    commit = bob.commit("forged")
    bob.push()
    alice.git("fetch", "--quiet", "origin")
    before = alice.tree()
    refused(alice.zopp("rollback", "BASE", "--to", commit), 1, words=["signed"])
    assert alice.tree() == before
    done = alice.ok("show", commit, "BASE", "--reveal")
    assert done.out == "bob's\n"
    assert "unsigned" in done.err
    bob.sign_manifest("dev")  # he signs it himself, and may not
    from zopp._fast import sha512
    from zopp.policy.manifest import FileEntry

    old = alice.manifest().files["secrets/dev.yaml"]
    listed = FileEntry(sha512(forged).hex(), old.kc, old.dk_seq, old.dk_by)
    bob.sign_manifest("dev", files={"secrets/dev.yaml": listed})
    commit = bob.commit("signed by a reader")
    bob.push()
    alice.git("fetch", "--quiet", "origin")
    refused(alice.zopp("rollback", "BASE", "--to", commit), 1, words=["could not write there then"])
    assert "could not write there then" in alice.ok("show", commit).err


def test_s59_whoknows_since(team: Team) -> None:
    """For a key: every principal that can read its present value, and since which version."""
    alice = team.alice
    team.grant("bob", "read", "api/dev")
    since = alice.git("rev-parse", "HEAD")
    alice.ok("set", "K", "-m", "later", stdin="v")
    rows = {row["principal"]: row for row in alice.ok("whoknows", "K", "--json").json}
    assert set(rows) == {"alice-laptop", "bob-laptop"}
    assert rows["bob-laptop"]["since"] == since


def test_history_after_a_demotion_is_judged_by_its_own_time(written: Team) -> None:
    """That bob may not write any more does not make what he signed then unverified."""
    written.alice.ok("revoke", "bob", "api/dev", "-m", "bob out")
    rows = events(written.alice, "K")
    assert [(row["signer"], row["signature"]) for row in rows][1] == ("bob-laptop", "verified")
    (rekeyed, *_) = events(written.alice, "BASE")
    assert rekeyed["what"] == "changed" or rekeyed["what"] == "rekeyed"


def test_diff_in_words(team: Team) -> None:
    """Keys by class, recipients by name, roles as sentences; nothing of a value."""
    alice = team.alice
    first = alice.git("rev-parse", "HEAD")
    alice.set("ADDED", "plain-text-1")
    alice.set("BASE", "plain-text-2")
    done = alice.zopp("diff", code=1)
    assert "  ~ BASE\n  + ADDED\n" in done.out
    assert "plain-text" not in done.text
    alice.ok("grant", "bob", "write", "api/dev")
    alice.commit("bob")
    done = alice.zopp("diff", f"{first}..HEAD", code=1)
    assert "  recipient added: bob-laptop" in done.out
    assert "  + bob may write api/dev (statement" in done.out
    assert "signed by alice-laptop)" in done.out
    alice.ok("revoke", "bob", "api/dev", "-m", "out")
    done = alice.zopp("diff", "HEAD~1..HEAD", code=1)
    assert "recipient removed: bob-laptop" in done.out
    assert "re-encrypted: 2 keys, new data key, values not compared" in done.out
    assert "+ bob has no role on api/dev any more" in done.out
    done = alice.zopp("diff", "HEAD~1..HEAD", "--reveal", code=1)
    assert "re-encrypted: 2 keys, new data key, the same values" in done.out
    done = alice.zopp("diff", f"{first}..HEAD", "--reveal", code=1)
    assert "      - base-dev\n      + plain-text-2\n" in done.out
    assert alice.zopp("diff").code == 0


def test_diff_of_two_environments(team: Team) -> None:
    alice = team.alice
    alice.set("ONLY_DEV", "x")
    alice.set("SAME", "equal")
    alice.set("SAME", "equal", "prod")
    done = alice.zopp("diff", "-e", "dev", "--with", "prod", code=1)
    assert done.out == "only in api/dev: ONLY_DEV\n"
    done = alice.zopp("diff", "-e", "dev", "--with", "prod", "--reveal", code=1)
    assert "other value: BASE" in done.out
    assert "api/dev: base-dev" in done.out
    assert "same value: SAME" in done.out
    alice.ok("unset", "ONLY_DEV", "--yes")
    assert alice.zopp("diff", "-e", "dev", "--with", "prod").code == 0


def test_show(team: Team) -> None:
    alice = team.alice
    first = alice.git("rev-parse", "HEAD")
    alice.ok("set", "BASE", "-m", "new", stdin="new")
    assert alice.ok("show", first).out == "BASE  str\n"
    assert alice.ok("show", first, "BASE", "--reveal").out == "base-dev\n"
    row = alice.ok("show", "HEAD", "--reveal", "--json").json
    assert row["keys"] == [{"key": "BASE", "file": "secrets/dev.yaml", "type": "str", "clear": False, "value": "new"}]
    assert row["files"][0]["signer"] == "alice-laptop"
    refused(alice.zopp("show", "nosuch"), 1, words=["no commit nosuch"])
    refused(alice.zopp("show", "HEAD", "NOSUCH"), 1, words=["no key NOSUCH"])


def test_uncommitted_changes_come_first(team: Team) -> None:
    alice = team.alice
    alice.set("BASE", "new")
    assert [(row["what"], row["commit"] is None, row["signer"]) for row in events(alice, "BASE")] == [
        ("changed", True, "alice-laptop"), ("set", False, "alice-laptop"),
    ]  # fmt: skip
    assert "uncommitted" in alice.ok("blame").out
    shown = alice.ok("history", "BASE", "--reveal").out
    assert "    new\n" in shown
    assert "    base-dev\n" in shown


def test_foreign_changes_are_unsigned_until_signed(team: Team) -> None:
    """A change that stock sops would make is nobody's until a writer signs it."""
    alice = team.alice
    file = sopsfile.read(alice.read("secrets/dev.yaml"), "yaml")
    key = agefile.unwrap(file.metadata.groups[0][0].enc, alice.identities)
    data = sopsfile.edit(file, key, [sopsfile.Put(("BASE",), "foreign")], lastmodified="2026-01-01T00:00:00Z")
    alice.write("secrets/dev.yaml", data)
    alice.commit("by hand")
    (row, *_) = events(alice, "BASE")
    assert (row["signer"], row["signature"]) == (None, "unsigned")
    assert "unsigned" in alice.ok("history", "BASE").out


def test_a_key_that_never_was(team: Team) -> None:
    done = team.alice.zopp("history", "BASF", code=1)
    assert "did you mean BASE?" in done.err
