"""A9-A11, A17-A20, A26, A27, A30: removal, blind signing, second identities, what a child may see."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.attacks.test_a01_files import data_key, list_file, sops_of
from tests.attacks.test_a05_anchor import craft
from tests.attacks.test_a14_worktree import sops as sops, stock
from tests.support import Team, User, refused
from zopp import sopsfile
from zopp._fast import sha512
from zopp.exchange import names
from zopp.keys import agefile
from zopp.keys.find import KEY_VARIABLES
from zopp.policy import log, manifest as manifests, statement
from zopp.policy.manifest import FileEntry
from zopp.repo import journal, layout
from zopp.sopsfile import Entry, Put

# --- A9: time


def test_a9_time_goes_forward(team: Team) -> None:
    alice = team.alice
    data = alice.read(".zopp/policy.jsonl")
    last = statement.parse(log.split(data)[-1])
    body = {"group": "late"}
    alice.write(".zopp/policy.jsonl", data + craft(alice, data, "group.create", body, at=last.at - 1))
    refused(alice.zopp("verify"), 1, words=["policy.jsonl"])
    alice.write(".zopp/policy.jsonl", data + craft(alice, data, "group.create", body, at=last.at))
    alice.ok("verify")


def test_a9_an_expired_request_is_refused(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    dave = User("dave", "dave-laptop", team.base)
    dave.home.mkdir()
    shutil.copy(team.bob.home / ".gitconfig", dave.home)
    team._clone(dave)
    asked = dave.ok("principal", "request", "--user", "dave", "--name", "dave-laptop").out
    then = time.time()
    monkeypatch.setattr(time, "time", lambda: then + 15 * 24 * 3600)
    refused(team.alice.zopp("principal", "add", "-", stdin=asked), 1)
    monkeypatch.setattr(time, "time", lambda: then + 60)
    team.alice.ok("principal", "add", "-", stdin=asked)
    refused(team.alice.zopp("principal", "add", "-", stdin=asked), 1, 2)  # a request works once


def test_a9_a_clock_that_fell_back_does_not_lock_anyone_out(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    then = time.time()
    monkeypatch.setattr(time, "time", lambda: then - 3600)
    team.alice.ok("group", "create", "ops")
    team.alice.ok("verify")


# --- A10: names


@pytest.mark.parametrize(
    "argv",
    [
        ("project", "create", "acme"),
        ("project", "create", "api"),
        ("project", "create", "API"),
        ("project", "create", "a/b"),
        ("env", "add", "dev@2"),
        ("env", "add", "Prod"),
        ("env", "add", "dev"),
        ("env", "add", "../x"),
        ("env", "add", ".git"),
        ("group", "create", "bob"),
        ("group", "create", "ci"),
        ("group", "create", "acme"),
        ("group", "create", "alice-laptop"),
        ("group", "create", "Bob"),
        ("group", "create", "x@2"),
        ("group", "create", ""),
        ("group", "create", "-x"),
        ("group", "create", "b\u043eb"),
    ],
    ids=" ".join,
)
def test_a10_names_do_not_collide(team: Team, argv: tuple[str, ...]) -> None:
    before = team.alice.tree()
    refused(team.alice.zopp(*argv), 1, 2)
    assert team.alice.tree() == before


def test_a10_scopes_have_one_reading(team: Team) -> None:
    alice = team.alice
    for typed in ("api/dev@1", "api/dev@2", "API/dev", "api/Dev", "/dev", "api/", "api//dev", "acme/api/dev", "*"):
        refused(alice.zopp("grant", "bob", "read", typed), 1, 2)
        refused(alice.zopp("access", "bob", typed), 1, 2)
    alice.ok("grant", "bob", "read", "api/dev")


def test_a10_a_device_is_no_subject(team: Team) -> None:
    refused(team.alice.zopp("grant", "bob-laptop", "admin", "acme"), 1, 2)
    refused(team.alice.zopp("grant", "alice-laptop", "read", "api"), 1, 2)


# --- A11: rebase


def test_a11_rebase_signs_only_what_means_the_same(team: Team) -> None:
    """Carol joins ops on the other side while alice binds ops to prod: the binding now also lets carol in."""
    alice = team.alice
    alice.ok("group", "create", "ops")
    alice.ok("group", "add", "ops", "bob")
    team.sync()
    team.grant("bob", "admin", "acme")
    team.bob.pull()
    team.bob.ok("group", "add", "ops", "carol", "-m", "carol is in ops")
    team.bob.push()
    alice.ok("grant", "ops", "read", "api/prod", "-m", "ops reads prod")
    alice.git("fetch", "-q", "origin")
    before = alice.tree()
    done = alice.zopp("policy", "rebase", "--onto", "origin/main")
    refused(done, 1, words=["carol-desktop"])
    assert alice.tree() == before


def test_a11_twin_an_unrelated_change_is_signed_again(team: Team) -> None:
    alice = team.alice
    team.grant("bob", "admin", "acme")
    team.bob.ok("group", "create", "other", "-m", "other")
    team.bob.push()
    alice.ok("grant", "carol", "read", "api/dev", "-m", "carol reads dev")
    alice.git("fetch", "-q", "origin")
    alice.zopp("policy", "rebase", "--onto", "origin/main")
    assert "carol" in alice.ok("access", "api/dev").out
    assert "other" in alice.ok("group", "list").out
    bob_line = [s for s in alice.ok("policy", "log", "--json").json if s["type"] == "group.create"]
    assert bob_line[-1]["by"] == "bob-laptop"  # theirs stands as they signed it


def test_a11_nobody_elses_statement_is_signed(team: Team) -> None:
    """On our side stands a statement of bob's: rebase names him and does not sign it in alice's name."""
    alice = team.alice
    team.grant("bob", "admin", "acme")
    alice.ok("group", "create", "theirs", "-m", "theirs")
    alice.push()
    bob = team.bob
    bob.ok("group", "create", "bobs", "-m", "bobs")
    alice.git("fetch", "-q", str(bob.repo), "main")
    alice.git("reset", "-q", "--hard", "FETCH_HEAD")
    alice.git("fetch", "-q", "origin")
    done = alice.zopp("policy", "rebase", "--onto", "origin/main")
    assert done.code == 1 and "bob-laptop has to do again" in done.text
    assert "bobs" not in alice.ok("group", "list").out


# --- A17


def test_a17_made_not_released(team: Team) -> None:
    """Bob may write dev. He rotates it on a branch that is never merged and is offboarded: what he made is listed."""
    team.grant("bob", "write", "api/dev")
    bob, alice = team.bob, team.alice
    bob.git("checkout", "-q", "-b", "side")
    bob.set("ON_SIDE", "1")
    bob.ok("rekey", "--all", "api/dev")
    bob.share()
    alice.git("fetch", "-q", "origin")
    done = alice.ok("offboard", "bob")
    assert "api/dev ON_SIDE" in done.err and "api/dev BASE" in done.err and "origin/side" in done.err
    assert "api/prod" not in done.err
    team.alice.share()
    assert {row["key"] for row in alice.zopp("exposure", "bob", "--json", code=1).json} == {"BASE", "ON_SIDE"}


def test_a17_who_omits_himself_is_listed_all_the_same(team: Team) -> None:
    """Bob, a writer with a back door in mind, makes the key of a file that does not name him as a recipient."""
    team.grant("bob", "write", "api/dev")
    bob, alice = team.bob, team.alice
    key = b"k" * 32
    others = [r for r in bob.manifest("dev").groups[0] if r != bob.recipient]
    data = sopsfile.rotate(
        sops_of(bob, "dev"),
        data_key(bob, "dev"),
        key,
        (tuple(Entry(r, agefile.wrap(r, key)) for r in others),),
        threshold=None,
        lastmodified="2030-01-01T00:00:00Z",
    )
    path = "secrets/dev.yaml"
    kc = manifests.commitment(key, bob.state().ws, "api/dev", path)
    entry = FileEntry(sha512(data).hex(), kc, bob.state().seq, "bob-laptop")
    bob.write(path, data)
    bob.sign_manifest("dev", files={path: entry}, groups=[others])
    bob.share()
    alice.pull()
    done = alice.zopp("offboard", "bob")
    assert "api/dev BASE" in done.text, done.text


# --- A18: keyless verify is red until rotated


def _red_until_rekeyed(team: Team) -> None:
    alice = team.alice
    alice.commit("removal")
    alice.push()
    keyless = team.fresh(team.carol, "keyless")
    shutil.rmtree(keyless.home / ".config/zopp/keys")
    depth = User("shallow", "-", team.base)
    shutil.copytree(keyless.home, depth.home)
    url = f"file://{team.base}/origin.git"
    subprocess.run(["git", "clone", "-q", "--depth", "1", url, str(depth.repo)], check=True, env=depth.env)
    for user in (keyless, depth):
        user.extra["ZOPP_TRUST"] = team.trust()
        refused(user.zopp("verify"), 1, words=["not_rotated"])
    alice.ok("rekey", "api")
    alice.commit("rekeyed")
    alice.push()
    keyless.pull()
    keyless.ok("verify")


LOSSES = {
    "binding": ("binding.remove", {"scope": {"env": "api/dev"}, "subject": {"user": "bob"}}),
    "member": ("group.member.remove", {"group": "ops", "member": {"user": "bob"}}),
    "group": ("group.delete", {"group": "ops"}),
    "device": ("principal.disable", {"principal": "bob-laptop"}),
    "user": ("user.disable", {"user": "bob"}),
    "cap": ("cap.set", {"principal": "bob-laptop", "cap": "none", "vouch": None}),
    "protect": ("env.protect", {"env": "api/dev"}),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a18_a_removal_that_did_not_rotate(team: Team, loss: str) -> None:
    """Only the statement is signed, as an admin without write or an old tool would; the recipient may be gone too."""
    alice = team.alice
    if loss in ("member", "group"):
        alice.ok("group", "create", "ops")
        alice.ok("group", "add", "ops", "bob")
        team.grant("ops", "read", "api/dev")
    elif loss == "protect":
        team.grant("bob", "read", "api")
    else:
        team.grant("bob", "read", "api/dev")
    data = alice.read(".zopp/policy.jsonl")
    alice.write(".zopp/policy.jsonl", data + craft(alice, data, *LOSSES[loss]))
    # Taken out of the recipients without a new data key: what `sops updatekeys` would leave.
    key = data_key(alice, "dev")
    state = alice.state()
    readers = set(state.readers("api/dev").values())
    assert team.bob.recipient not in readers
    for env in ("dev", "staging", "prod"):
        bobs = team.bob.recipient in alice.manifest(env).groups[0]
        if not bobs or team.bob.recipient in state.readers(f"api/{env}").values():
            continue
        key, path = data_key(alice, env), f"secrets/{env}.yaml"
        body = sops_of(alice, env)
        kept = tuple(e for group in body.metadata.groups for e in group if e.recipient != team.bob.recipient)
        new = sopsfile.replace_groups(body, (kept,), threshold=None)
        old = alice.manifest(env).files[path]
        kc = manifests.commitment(key, state.ws, f"api/{env}", path)
        alice.write(path, new)
        readers = set(state.readers(f"api/{env}").values())
        entry = FileEntry(sha512(new).hex(), kc, old.dk_seq, old.dk_by)
        alice.sign_manifest(env, files={path: entry}, groups=[sorted(readers)])
    _red_until_rekeyed(team)


def test_a18_adopted_files_start_unknown(team: Team, sops: Path) -> None:
    """A file that stock sops made is taken in by `sign` under a new data key."""
    alice = team.alice
    alice.ok("env", "add", "old")
    alice.share()
    flags = ("--age", alice.recipient, "--input-type", "yaml", "--output-type", "yaml")
    made = stock(
        sops, alice, "--config", "/dev/null", "encrypt", *flags, "/dev/stdin", stdin=b"LEGACY: hello\n"
    )  # fmt: skip
    alice.write("secrets/old.yaml", made.stdout)
    alice.commit("legacy")
    refused(alice.zopp("verify"), 1, words=["api/old"])
    refused(alice.zopp("set", "K", "-e", "old", stdin="v"), 1)
    before = data_key(alice, "old")
    alice.ok("sign", "-e", "old", "--only", "LEGACY")
    assert data_key(alice, "old") != before and alice.get("LEGACY", "old") == "hello"
    alice.share()
    alice.ok("verify")


@pytest.mark.parametrize("committed", [False, True], ids=["worktree", "committed"])
def test_a18_a_claimed_rotation(team: Team, committed: bool) -> None:
    """dk_seq says 'rotated', and the values are those under the old data key: found without any key."""
    team.grant("bob", "write", "api/dev")
    bob, alice = team.bob, team.alice
    path = "secrets/dev.yaml"
    kc = manifests.commitment(b"x" * 32, bob.state().ws, "api/dev", path)
    claimed = FileEntry(sha512(bob.read(path)).hex(), kc, bob.state().seq, "bob-laptop")
    bob.sign_manifest("dev", files={path: claimed})
    if committed:
        bob.share()
        alice.pull()
        refused(alice.zopp("verify"), 1, words=["data key"])
    else:
        refused(bob.zopp("verify"), 1, words=["data key"])


# --- A19: nothing is signed blind


def _foreign_edit(team: Team, key: str = "BASE", value: str = "forged") -> None:
    """Bob may only read dev. He edits the file with its data key, MAC and all, and leaves the manifest."""
    team.grant("bob", "read", "api/dev")
    bob = team.bob
    data = sopsfile.edit(
        sops_of(bob, "dev"), data_key(bob, "dev"), [Put((key,), value)], lastmodified="2030-01-01T00:00:00Z"
    )
    bob.write("secrets/dev.yaml", data)
    bob.share("innocent")
    team.alice.pull()


EVERYTHING = (
    ("get", "BASE"), ("list",), ("export",), ("run", "--", "true"), ("set", "K"), ("unset", "BASE"),
    ("import", "-"), ("rekey", "--all", "api/dev"), ("sign",), ("sign", "--unchanged"), ("sign", "--only", "K"),
    ("grant", "carol", "read", "api/dev"), ("whoknows", "BASE"), ("verify",), ("doctor",), ("exposure",),
)  # fmt: skip


def test_a19_no_command_signs_a_foreign_edit(team: Team) -> None:
    _foreign_edit(team)
    alice = team.alice
    forged = alice.read("secrets/dev.yaml")
    for argv in EVERYTHING:
        alice.zopp(*argv, stdin="K=v\n")
        listed = alice.manifest("dev").files["secrets/dev.yaml"].sha512
        assert listed != sha512(forged).hex(), argv
        assert alice.read("secrets/dev.yaml") == forged, argv
    # Twin: looked at and named, it is signed.
    assert "~ BASE" in alice.zopp("sign", "--dry-run").err
    alice.git("checkout", "-q", ".")
    alice.ok("sign", "--only", "BASE")
    assert alice.get("BASE") == "forged"


def test_a19_a_faked_crash_state(team: Team) -> None:
    """The edit comes with a journal that looks like an interrupted change: recovery writes only what was recorded for
    exactly the bytes that are there, and signs nothing."""
    _foreign_edit(team)
    alice = team.alice
    checkout = layout.find_checkout(str(alice.repo))
    good = alice.git("show", "HEAD~1:secrets/dev.yaml").encode() + b"\n"
    forged = alice.read("secrets/dev.yaml")
    signed = alice.manifest("dev").raw
    # (old bytes as recorded, new bytes): neither is what is there.
    Path(journal.journal_file(checkout)).parent.mkdir(exist_ok=True)
    Path(journal.journal_file(checkout)).write_bytes(
        journal._encode({"secrets/dev.yaml": (good, good.replace(b"BASE", b"BASF"))})
    )
    for argv in EVERYTHING:
        done = alice.zopp(*argv, stdin="K=v\n")
        assert alice.read("secrets/dev.yaml") == forged and alice.manifest("dev").raw == signed, argv
        if argv[0] not in ("doctor",):
            assert done.code in (1, 3, 125), (argv, done.text)
    for torn in (b"", b"zopp-journal-v1\n", b"\xff" * 100, b"x" * 69):
        Path(journal.journal_file(checkout)).write_bytes(torn)
        refused(alice.zopp("set", "K", stdin="v"), 1, 3)
        assert alice.read("secrets/dev.yaml") == forged and alice.manifest("dev").raw == signed


@pytest.mark.parametrize("how", ["--unchanged", "--only"])
def test_a19_a_narrowed_selector_is_not_signed_unseen(team: Team, how: str) -> None:
    """The MAC does not cover the selector: with it narrowed stock sops writes the next value in clear."""
    alice = team.alice
    alice.replace("secrets/dev.yaml", "unencrypted_suffix: _unencrypted", "encrypted_regex: ^BASE$")
    alice.commit("innocent")
    refused(alice.zopp("verify"), 1)
    before = alice.tree()
    refused(alice.zopp("sign", *((how,) if how == "--unchanged" else (how, "BASE"))), 1, words=["selector"])
    assert alice.tree() == before


def test_a19_sign_shows_recipients_and_older_versions(team: Team) -> None:
    alice = team.alice
    old = alice.read("secrets/dev.yaml")
    alice.set("K", "2")
    alice.share()
    alice.write("secrets/dev.yaml", old)
    said = alice.zopp("sign", "--dry-run", code=1).err
    assert "- K" in said and "this is the version of commit" in said
    refused(alice.zopp("sign", "--unchanged"), 1)
    refused(alice.zopp("sign"), 2)


# --- A20: serverless part


def test_a20_no_second_identity_for_an_admin(team: Team) -> None:
    """Bob is admin too. He alone cannot enrol 'alice's new laptop', nor lift a cap of hers, nor enable her device."""
    team.grant("bob", "admin", "acme")
    bob = team.bob
    mallory = User("mallory", "alice-phone", team.base)
    mallory.home.mkdir()
    shutil.copy(bob.home / ".gitconfig", mallory.home)
    team._clone(mallory)
    asked = mallory.ok("principal", "request", "--user", "alice", "--name", "alice-phone").out
    before = bob.tree()
    refused(bob.zopp("principal", "add", "-", stdin=asked), 1)
    assert bob.tree() == before
    # Twin: alice lets her own device in.
    team.alice.pull()
    team.alice.ok("principal", "add", "-", stdin=asked)
    assert "alice-phone" in team.alice.ok("principal", "list").out


# --- A26: what the child sees


def test_a26_no_key_variable_reaches_the_child(team: Team) -> None:
    alice = team.alice
    planted = {name: f"canary-{name}" for name in KEY_VARIABLES}
    own = {"ZOPP_AGE_KEY_FILE": str(alice.age_file), "ZOPP_AGE_KEY": ""}
    for argv in (("run", "--", "env"), ("run", "--prefix", "", "--", "env"), ("run", "--shell", "env")):
        done = alice.child(*argv, env={**planted, **own})
        assert done.returncode == 0, done.stderr
        assert b"BASE=base-dev" in done.stdout
        assert b"canary-" not in done.stdout and str(alice.age_file).encode() not in done.stdout
    assert b"AGE-SECRET-KEY" not in done.stdout
    kept = alice.child("run", "--keep-keys", "--", "env", env={**planted, **own})
    assert b"canary-CI_JOB_TOKEN" in kept.stdout


def test_a26_known_providers_are_covered() -> None:
    """The tokens with which a job could get the environment by itself."""
    for name in (
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "CI_JOB_TOKEN", "SOPS_AGE_KEY",
        "ZOPP_ID_TOKEN",
    ):  # fmt: skip
        assert name in KEY_VARIABLES


# --- A27: names that are code

CODE = (
    "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "BASH_ENV", "BASH_FUNC_x", "ENV", "PATH", "IFS", "NODE_OPTIONS",
    "PYTHONSTARTUP", "PYTHONPATH", "PERL5OPT", "RUBYOPT", "JAVA_TOOL_OPTIONS", "GIT_CONFIG_COUNT", "GIT_SSH_COMMAND",
    "SOPS_AGE_KEY", "ZOPP_TRUST", "HTTP_PROXY", "https_proxy", "NO_PROXY", "npm_config_registry", "PS4",
)  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_a27_refused_where_it_would_come_in(team: Team, name: str) -> None:
    assert names.is_code(name)
    alice = team.alice
    before = alice.tree()
    refused(alice.zopp("set", name, stdin="canary-value"), 1, 2, words=[name])
    refused(alice.zopp("set", name, "--type", "int", stdin="1"), 1, 2)
    refused(alice.zopp("import", "-", stdin=f"{name}=canary-value\n"), 1, 2, words=[name])
    assert alice.tree() == before


def _planted(team: Team, name: str) -> User:
    """A dev writer with tools of his own puts the name into dev and signs it."""
    team.grant("bob", "write", "api/dev")
    bob = team.bob
    path: tuple[str | int, ...] = tuple(name.split("."))
    key = data_key(bob, "dev")
    data = sopsfile.edit(sops_of(bob, "dev"), key, [Put(path, "evil")], lastmodified="2030-01-01T00:00:00Z")
    list_file(bob, "dev", data, key)
    bob.share()
    team.alice.pull()
    team.alice.ok("verify")
    return team.alice


@pytest.mark.parametrize("name", [*CODE[:10], "LD.PRELOAD", "BASH.ENV", "NODE.OPTIONS", "GIT.DIR"])
def test_a27_child_not_started(team: Team, name: str) -> None:
    alice = _planted(team, name)
    flat = name.replace(".", "_")
    for argv in (("run", "--", "true"), ("run", "--no-inherit", "--", "true"), ("run", "--shell", "true")):
        done = alice.zopp(*argv)
        assert done.code == 125 and done.exec is None and flat in done.err, done.text
    for form in ("env", "docker", "shell"):
        refused(alice.zopp("export", "--format", form), 1, 2, words=[flat])
    assert alice.zopp("run", "--only", "BASE", "--", "true").exec is not None
    assert alice.get(name) == "evil"  # the owner can look at it, and take it out
    alice.ok("unset", name)
    assert alice.zopp("run", "--", "true").exec is not None


def test_a27_prefixes_make_no_code(team: Team) -> None:
    alice = team.alice
    alice.set("PRELOAD", "evil")
    done = alice.zopp("run", "--prefix", "LD_", "--", "true")
    assert done.code == 125 and done.exec is None
    assert alice.zopp("run", "--prefix", "APP_", "--", "true").exec is not None


# --- A30: stock commands


@pytest.mark.parametrize("command", ["updatekeys", "rotate", "rotate-add", "set"])
def test_a30_stock_sops(team: Team, sops: Path, command: str) -> None:
    """After the real command verify is red; `rekey` or `sign` brings back what policy says."""
    team.grant("bob", "read", "api/dev")
    alice = team.alice
    outsider = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
    if command == "updatekeys":
        alice.write(".sops.yaml", alice.read(".sops.yaml").replace(b"age: '", f"age: '{outsider},".encode()))
        done = stock(sops, alice, "updatekeys", "-y", "secrets/dev.yaml")
    elif command == "set":
        done = stock(sops, alice, "set", "secrets/dev.yaml", '["BASE"]', '"by stock"')
    else:
        add = ("--add-age", outsider) if command == "rotate-add" else ()
        done = stock(sops, alice, "rotate", "-i", *add, "secrets/dev.yaml")
    assert done.returncode == 0, done.stderr
    alice.commit("stock")
    refused(alice.zopp("verify"), 1, words=["secrets/dev.yaml"])
    for argv in (("get", "BASE"), ("set", "K"), ("run", "--", "true")):
        assert alice.zopp(*argv, stdin="v").code in (1, 125)
    stolen = data_key(alice, "dev")
    alice.ok("sign", *(("--only", "BASE") if command == "set" else ("--unchanged",)))
    alice.share()
    alice.ok("verify")
    have = {e.recipient for group in sops_of(alice, "dev").metadata.groups for e in group}
    assert have == {alice.recipient, team.bob.recipient}
    if command != "set":
        assert data_key(alice, "dev") != stolen
    assert alice.get("BASE") == ("by stock" if command == "set" else "base-dev")
    assert stock(sops, alice, "decrypt", "secrets/dev.yaml").returncode == 0


def test_a30_rekey_restores_a_missing_recipient(team: Team, sops: Path) -> None:
    """`updatekeys` under a rule that forgot bob: the manifest does not hold; `sign` gives him his entry back."""
    team.grant("bob", "read", "api/dev")
    alice = team.alice
    text = alice.read(".sops.yaml").decode()
    alice.write(".sops.yaml", text.replace(f",{team.bob.recipient}", "").replace(f"{team.bob.recipient},", ""))
    assert stock(sops, alice, "updatekeys", "-y", "secrets/dev.yaml").returncode == 0
    refused(alice.zopp("verify"), 1)
    alice.ok("sign", "--unchanged")
    alice.share()
    alice.ok("verify")
    team.bob.pull()
    assert team.bob.get("BASE") == "base-dev"
