"""A5-A7, A13: the anchor changed, lost or nested; forks and rollbacks of policy and manifests."""

import base64
import json
import shutil
import textwrap
from collections.abc import Callable

import pytest

from tests.support import Team, User, refused
from zopp.keys import sshsig
from zopp.policy import log, manifest as manifests, statement
from zopp.repo.clock import now

# --- A5: four commits by somebody without any key, on three kinds of clone


def _own_genesis(team: Team, victim: User) -> None:
    """Mallory's own workspace with the same names, laid over the repository."""
    mallory = User("mallory", "alice-laptop", team.base)
    mallory.home.mkdir(parents=True)
    (mallory.home / ".gitconfig").write_text("[user]\nname=m\nemail=m@example.org\n")
    mallory.repo.mkdir(parents=True)
    mallory.git("init", "-q", "-b", "main")
    mallory.ok(
        *("init", "--workspace", "acme", "--project", "api", "--user", "alice", "--device", "alice-laptop"),
        "--no-recovery",
    )
    mallory.ok("env", "add", "dev")
    shutil.rmtree(victim.path(".zopp"))
    shutil.copytree(mallory.path(".zopp"), victim.path(".zopp"))
    shutil.copy(mallory.path("zopp.toml"), victim.path("zopp.toml"))


def _nested(team: Team, victim: User) -> None:
    """A second zopp.toml for the same project, where people work."""
    text = victim.read("zopp.toml").decode().replace('default_env = "dev"', 'default_env = "prod"')
    victim.write("service/zopp.toml", text)


def _nested_own(team: Team, victim: User) -> None:
    text = victim.read("zopp.toml").decode()
    victim.write("service/zopp.toml", text.replace(victim.state().ws, "0" * 64))


def _nested_folder(team: Team, victim: User) -> None:
    shutil.copytree(victim.path(".zopp"), victim.path("service/.zopp"))


def _deleted(team: Team, victim: User) -> None:
    victim.path("zopp.toml").unlink()


def _policy_deleted(team: Team, victim: User) -> None:
    shutil.rmtree(victim.path(".zopp"))


def _all_deleted(team: Team, victim: User) -> None:
    shutil.rmtree(victim.path(".zopp"))
    victim.path("zopp.toml").unlink()


def _environment_dropped(team: Team, victim: User) -> None:
    """prod vanishes: its table, its file, its manifest."""
    text = victim.read("zopp.toml").decode()
    victim.write("zopp.toml", text.replace('\n[env.prod]\nfiles = ["secrets/prod.yaml"]\n', ""))
    for path in ("secrets/prod.yaml", ".zopp/manifest/api/prod.json", ".zopp/manifest/api/prod.json.sig"):
        victim.path(path).unlink()


STRIPPED: dict[str, Callable[[Team, User], None]] = {
    "own-genesis": _own_genesis,
    "nested": _nested,
    "nested-own": _nested_own,
    "nested-folder": _nested_folder,
    "deleted": _deleted,
    "policy-deleted": _policy_deleted,
    "all-deleted": _all_deleted,
    "environment-dropped": _environment_dropped,
}


@pytest.mark.parametrize("clone", ["known", "known-elsewhere", "fresh", "job"])
@pytest.mark.parametrize("attack", STRIPPED)
def test_a5_anchor_stripping(team: Team, attack: str, clone: str) -> None:
    victim = {
        "known": lambda: team.alice,
        "known-elsewhere": lambda: team.alice,
        "fresh": lambda: team.fresh(team.alice),
        "job": team.job,
    }[clone]()
    if clone != "fresh":
        victim.ok("verify")  # the twin
    if clone == "known-elsewhere":  # a second clone of a known remote
        shutil.rmtree(victim.home / ".local/state/zopp/clones")
        victim.ok("verify")
    STRIPPED[attack](team, victim)
    victim.commit("innocent")
    folder = "service" if attack in ("nested", "nested-own") else ""
    for where in {"", folder}:
        refused(victim.zopp("verify", cwd=where), 1, 3)
        before = victim.tree()
        # What a fresh clone cannot know it may not write to either.
        env = "prod" if attack == "environment-dropped" else "dev"
        if where or not attack.startswith("nested"):
            for more in ((), ("--strip",)):  # the short way and the full one
                refused(victim.zopp("set", "NEW", "-e", env, *more, stdin="canary", cwd=where), 1, 3)
            refused(victim.zopp("rekey", "--all", f"api/{env}", cwd=where), 1, 3)
        assert victim.tree() == before


def test_a5_environments_come_from_the_policy(team: Team) -> None:
    """A table taken out of zopp.toml takes nothing out of `verify`, `list` or `rekey`."""
    alice = team.alice
    text = alice.read("zopp.toml").decode()
    alice.write("zopp.toml", text.replace('\n[env.prod]\nfiles = ["secrets/prod.yaml"]\n', ""))
    assert alice.ok("verify", "--json").json["environments"] == 3
    assert alice.get("BASE", "prod") == "base-prod"
    alice.replace("secrets/prod.yaml", "BASE: ENC", "BASX: ENC")
    refused(alice.zopp("verify"), 1, words=["secrets/prod.yaml"])


def test_a5_an_environment_that_lost_its_manifest(team: Team) -> None:
    """Only prod's manifest and file go; nothing new may be started in their place, with memory or with history."""
    alice = team.alice
    for path in ("secrets/prod.yaml", ".zopp/manifest/api/prod.json", ".zopp/manifest/api/prod.json.sig"):
        alice.path(path).unlink()
    refused(alice.zopp("verify"), 1, words=["prod"])
    refused(alice.zopp("set", "K", "-e", "prod", stdin="v"), 1)
    job = team.job()
    for path in ("secrets/prod.yaml", ".zopp/manifest/api/prod.json", ".zopp/manifest/api/prod.json.sig"):
        job.path(path).unlink()
    job.commit("drop")
    refused(job.zopp("verify"), 1, words=["prod"])


def test_a5_a_manifest_and_its_file_gone_and_committed(team: Team) -> None:
    """Who has seen them reads nothing there, is told what happened, and says so if it was meant."""
    alice, bob = team.alice, team.bob
    team.grant("bob", "read")
    for path in ("secrets/dev.yaml", ".zopp/manifest/api/dev.json", ".zopp/manifest/api/dev.json.sig"):
        alice.path(path).unlink()
    alice.share("gone")
    alice.commit("and more")
    alice.push()
    bob.pull()
    for user in (alice, bob):
        for argv in (("get", "BASE"), ("get",), ("list",), ("run", "--", "true"), ("export",)):
            done = user.zopp(*argv)
            refused(
                done, 1, 125, words=["the manifest is gone, which this clone has seen", "git log -- .zopp/manifest"]
            )
            assert done.exec is None
        refused(user.zopp("verify"), 1, words=["the manifest is gone"])
    refused(alice.zopp("set", "K", stdin="v"), 1, words=["--on-old-base"])
    bob.ok("trust", "--accept", "--yes")
    assert bob.ok("list").out == ""


def test_a5_raw_files_are_no_way_round(team: Team) -> None:
    alice = team.alice
    alice.path("zopp.toml").unlink()
    for argv in (("get", "BASE"), ("export",), ("run", "--", "true"), ("list",)):
        done = alice.zopp(*argv)
        assert done.code in (1, 125) and "pinned" in done.err, done.text
    refused(alice.zopp("init", "--no-recovery"), 2)
    shutil.rmtree(alice.path(".zopp"))
    refused(alice.zopp("init", "--no-recovery"), 1, words=["pinned"])


def test_a5_init_over_an_unpinned_workspace(team: Team) -> None:
    refused(team.fresh(team.bob).zopp("init", "--no-recovery"), 2)


# --- A6: a former admin's fork


def craft(user: User, data: bytes, type_: str, body: dict[str, object], *, at: int | None = None) -> bytes:
    """A statement on top of the log `data`, signed with `user`'s key, whatever the policy says of it."""
    lines = log.split(data)
    last = statement.parse(lines[-1])
    state_ws = statement.parse(lines[0]).hash
    drafted = statement.draft(
        type_, body, ws=state_ws, seq=last.seq + 1, prev=last.hash, at=at or max(now(), last.at), by=user.principal
    )
    return statement.seal(drafted, [user.key.sign(statement.to_sign(drafted))]) + b"\n"


BOB = {"user": "bob"}
ACME = {"workspace": "acme"}


def _former_admin(team: Team) -> bytes:
    """Bob was admin and is not. Returns the log from when he was."""
    team.grant("bob", "admin", "acme")
    then = team.alice.read(".zopp/policy.jsonl")
    team.alice.ok("revoke", "bob", "acme")
    team.sync("bob is no admin")
    return then


def _fork(team: Team, then: bytes) -> bytes:
    ci = {"service": "ci"}
    return then + craft(team.bob, then, "binding.set", {"role": "read", "scope": ACME, "subject": ci})


def test_a6_former_admin_forks_the_log(team: Team) -> None:
    then = _former_admin(team)
    alice = team.alice
    fork = _fork(team, then)
    log.fold(fork)  # the fork is a valid log: only memory tells it from the real one
    alice.write(".zopp/policy.jsonl", fork)
    alice.commit("fork")
    refused(alice.zopp("verify"), 1, words=["policy"])
    before = alice.tree()
    refused(alice.zopp("set", "K", stdin="v"), 1)
    refused(alice.zopp("grant", "carol", "read", "api"), 1)
    refused(alice.zopp("rekey", "--all"), 1)
    assert alice.tree() == before
    job = team.job()
    job.extra["ZOPP_TRUST"] = team.bob.ok("trust", "--print").out.strip()
    job.write(".zopp/policy.jsonl", fork)
    job.commit("fork")
    refused(job.zopp("verify"), 1)


def test_a6_back_again_after_the_fork_was_looked_at(team: Team) -> None:
    """Reading the fork must not put it into the cache or the pin in place of the real log."""
    fork = _fork(team, _former_admin(team))
    alice = team.alice
    real = alice.read(".zopp/policy.jsonl")
    alice.git("checkout", "-q", "-b", "fork")
    alice.write(".zopp/policy.jsonl", fork)
    alice.commit("fork")
    for argv in (("verify",), ("access",), ("get", "BASE"), ("policy", "show")):
        alice.zopp(*argv)
    alice.git("checkout", "-q", "main")
    assert alice.read(".zopp/policy.jsonl") == real
    alice.ok("verify")
    assert alice.get("BASE") == "base-dev"
    alice.set("K", "v")
    assert "bob" not in alice.ok("access", "acme").out.split()


def test_a6_a_removed_admin_adds_to_the_real_log(team: Team) -> None:
    _former_admin(team)
    alice = team.alice
    data = alice.read(".zopp/policy.jsonl")
    line = craft(team.bob, data, "binding.set", {"role": "admin", "scope": ACME, "subject": BOB})
    alice.write(".zopp/policy.jsonl", data + line)
    for argv in (("verify",), ("get", "BASE"), ("set", "K"), ("access",), ("run", "--", "true")):
        done = alice.zopp(*argv, stdin="v")
        assert done.code in (1, 125), done.text
    good = craft(alice, data, "binding.set", {"role": "admin", "scope": ACME, "subject": BOB})
    alice.write(".zopp/policy.jsonl", data + good)
    alice.zopp("get", "BASE", code=0)


# --- A7: rollback, with and without memory


def _removed_writer(team: Team) -> tuple[dict[str, bytes], User]:
    """Bob had write and was removed; the work tree from before, and bob."""
    team.grant("bob", "write", "api/dev")
    team.bob.set("BOBS", "1")
    team.bob.share()
    team.alice.pull()
    team.alice.ok("verify")
    before = {p: d for p, d in team.alice.tree().items() if p.startswith((".zopp", "secrets", ".sops", ".gitattr"))}
    team.alice.ok("revoke", "bob", "api/dev")
    team.alice.share("bob is out")
    team.alice.ok("verify")
    return before, team.bob


def _put_back(user: User, files: dict[str, bytes]) -> None:
    shutil.rmtree(user.path(".zopp"))
    for path, data in files.items():
        user.write(path, data)


@pytest.mark.parametrize("more", [False, True], ids=["as-it-was", "with-new-content"])
def test_a7_policy_from_before_a_removal(team: Team, more: bool) -> None:
    before, bob = _removed_writer(team)
    alice = team.alice
    trust = team.trust()
    bob.pull()
    _put_back(bob, before)
    if more:  # the revoked writer signs under the old policy
        bob.zopp("set", "MORE", "--on-old-base", stdin="2")
    bob.share("rollback")
    alice.pull()
    refused(alice.zopp("verify"), 1, words=["older"])
    done = alice.zopp("get", "BOBS")
    assert done.code == 0 and "older" in done.err  # reads warn
    tree = alice.tree()
    for argv in (("set", "K"), ("rekey", "--all"), ("grant", "carol", "read", "api"), ("sign", "--unchanged")):
        refused(alice.zopp(*argv, stdin="v"), 1, words=["--on-old-base"])
    assert alice.tree() == tree
    # A verifier that got the head from outside.
    job = team.fresh(team.ci, "job")
    job.extra |= {"CI": "true", "ZOPP_TRUST": trust}
    refused(job.zopp("verify"), 1, words=["older"])
    refused(job.zopp("set", "K", stdin="v"), 1, 3)
    job.git("checkout", "-q", "--detach")
    refused(job.zopp("verify"), 1, words=["older"])
    # One without memory cannot know, and may not write.
    fresh = team.fresh(team.carol)
    refused(fresh.zopp("verify"), 1, 3, words=["not pinned"])
    refused(fresh.zopp("set", "K", stdin="v"), 3)


def test_a7_one_environment_put_back(team: Team) -> None:
    """File and manifest of dev as they were, policy and the rest current."""
    alice = team.alice
    old = {
        path: alice.read(path)
        for path in ("secrets/dev.yaml", ".zopp/manifest/api/dev.json", ".zopp/manifest/api/dev.json.sig")
    }
    alice.set("K", "new")
    team.sync()
    for path, data in old.items():
        alice.write(path, data)
    refused(alice.zopp("verify"), 1, words=["generation"])
    refused(alice.zopp("set", "K2", stdin="v"), 1)
    alice.commit("put back")
    refused(alice.zopp("verify"), 1, words=["generation"])
    done = alice.zopp("get", "BASE")
    assert done.code == 0 and "older" in done.err
    refused(alice.zopp("set", "K2", stdin="v"), 1, words=["generation"])
    job = team.job()  # no memory of manifests, but git's history
    for path, data in old.items():
        job.write(path, data)
    job.commit("put back")
    refused(job.zopp("verify"), 1, words=["generation"])
    # `git revert` of an honest change and a signature later it holds again.
    alice.ok("sign", "--only", "K")
    alice.share("signed")
    alice.ok("verify")


def test_a7_a_twin_of_the_newest_generation(team: Team) -> None:
    """Another manifest of the remembered number, by a writer: beside, not newer."""
    team.grant("bob", "write", "api/dev")
    alice = team.alice
    head = alice.git("rev-parse", "HEAD")
    alice.set("K", "1")
    team.sync()
    team.bob.git("reset", "-q", "--hard", head)
    team.bob.sign_manifest("dev", meta={"beside": True})
    assert team.bob.manifest("dev").generation == alice.manifest("dev").generation
    team.bob.commit("beside")
    team.bob.push()
    alice.pull()
    refused(alice.zopp("verify"), 1, words=["another generation"])
    refused(alice.zopp("set", "X", stdin="v"), 1)


# --- A13: zopp.toml without a key


def test_a13_default_environment_changed(team: Team) -> None:
    """dev becomes prod by an unsigned line: a write without -e is not silently another environment's."""
    alice = team.alice
    assert "api/dev" in alice.ok("set", "K", stdin="1").err
    alice.share()
    alice.replace("zopp.toml", 'default_env = "dev"', 'default_env = "prod"')
    alice.commit("innocent")
    before = alice.tree()
    for argv in (
        ("set", "K2", "--strip"), ("get", "BASE", "--json"), ("run", "--shell", "true"), ("export",),
        ("set", "K2"), ("get", "BASE"), ("run", "--", "true"), ("list",),
    ):  # fmt: skip
        done = alice.zopp(*argv, stdin="2")
        assert done.code in (1, 125) and "default environment" in done.err, done.text
    assert alice.tree() == before
    assert "api/prod" in alice.ok("set", "K2", "-e", "prod", stdin="2").err  # said, it works
    assert alice.ok("get", "BASE", "--json", env={"ZOPP_ENV": "dev"}).json["value"] == "base-dev"
    alice.ok("trust", "--yes")  # asked once
    assert "api/prod" in alice.ok("set", "K3", "--strip", stdin="3").err


def test_a13_other_project(team: Team) -> None:
    alice = team.alice
    alice.ok("project", "create", "web")
    alice.share()
    alice.replace("zopp.toml", 'project = "api"', 'project = "web"')
    for argv in (("verify",), ("get", "BASE", "-p", "api"), ("set", "K", "-p", "api"), ("list", "-p", "api")):
        refused(alice.zopp(*argv, stdin="v"), 1, words=["project"])


def test_a13_set_says_where_and_for_how_many(team: Team) -> None:
    team.grant("bob", "read", "api/dev")
    err = team.alice.ok("set", "K", stdin="1").err
    assert "api/dev" in err and "2 readers" in err
    err = team.alice.ok("set", "K", "--note", "x", stdin="2").err
    assert "api/dev" in err and "2 readers" in err


@pytest.mark.parametrize("line", ['server = "https://evil.example"', '[server]\nurl = "x"', "remote = 1"])
def test_a13_no_server_address_in_it(team: Team, line: str) -> None:
    team.alice.write("zopp.toml", team.alice.read("zopp.toml") + line.encode() + b"\n")
    refused(team.alice.zopp("get", "BASE"), 1, words=["zopp.toml", "line"])


# --- what an unsigned or forged manifest may not do


def test_a12_generation_poisoning_on_a_branch(team: Team) -> None:
    """Bob, a writer, signs generation 2^53-1 on a branch. Alice looks at it and goes back to main: all works."""
    team.grant("bob", "write", "api/dev")
    bob, alice = team.bob, team.alice
    bob.git("checkout", "-q", "-b", "hostile")
    bob.sign_manifest("dev", generation=2**53 - 1)
    bob.share()
    alice.git("fetch", "-q", "origin", "hostile")
    alice.git("checkout", "-q", "FETCH_HEAD")
    for argv in (("verify",), ("get", "BASE"), ("list",), ("whoknows", "api"), ("sign", "--unchanged", "--dry-run")):
        alice.zopp(*argv)
    alice.git("checkout", "-q", "-b", "local-hostile")
    alice.zopp("verify")
    alice.zopp("get", "BASE")
    alice.git("checkout", "-q", "main")
    alice.ok("verify")
    assert alice.get("BASE") == "base-dev"
    alice.set("K", "v")
    alice.share()
    alice.ok("verify")


@pytest.mark.parametrize("by", ["nobody", "reader"])
def test_a12_generation_poisoning_on_main_by_someone_who_may_not_write(team: Team, by: str) -> None:
    """A manifest nobody accepts, with generation 2^53-1, is committed on main. A writer puts the good one back."""
    team.grant("bob", "read", "api/dev")
    bob, alice = team.bob, team.alice
    good = {path: alice.read(path) for path in (".zopp/manifest/api/dev.json", ".zopp/manifest/api/dev.json.sig")}
    if by == "reader":
        bob.sign_manifest("dev", generation=2**53 - 1)
    else:
        body = json.loads(good[".zopp/manifest/api/dev.json"])
        body["generation"] = 2**53 - 1
        bob.write(".zopp/manifest/api/dev.json", json.dumps(body, sort_keys=True, separators=(",", ":")))
    bob.share("poison")
    alice.pull()
    refused(alice.zopp("verify"), 1)
    refused(alice.zopp("set", "K", stdin="v"), 1)
    for path, data in good.items():
        alice.write(path, data)
    alice.commit("put back")
    alice.ok("verify")
    alice.set("K", "v")
    alice.share()
    alice.ok("verify")


@pytest.mark.parametrize("by", ["nobody", "reader"])
def test_a12_sign_takes_nothing_over_from_a_forged_manifest(team: Team, by: str) -> None:
    """`sign` after such a commit starts from the last good manifest: not its generation, not its `meta`."""
    team.grant("bob", "read", "api/dev")
    bob, alice = team.bob, team.alice
    good = alice.manifest("dev")
    if by == "reader":
        bob.sign_manifest("dev", generation=2**53 - 1, meta={"note": "planted"})
    else:
        body = json.loads(alice.read(".zopp/manifest/api/dev.json"))
        body |= {"generation": 2**53 - 1, "meta": {"note": "planted"}}
        bob.write(".zopp/manifest/api/dev.json", json.dumps(body, sort_keys=True, separators=(",", ":")))
    bob.share("poison")
    alice.pull()
    alice.ok("sign", "--unchanged")
    alice.share("signed")
    alice.ok("verify")
    made = alice.manifest("dev")
    assert made.generation < good.generation + 10 and dict(made.meta) == dict(good.meta)
    assert made.signer == "alice-laptop"


def test_a8_signatures_in_other_clothes(team: Team) -> None:
    """Variants of a line that mean the same change its hash, so each is refused."""
    alice = team.alice
    path = ".zopp/policy.jsonl"
    lines = alice.read(path).split(b"\n")[:-1]
    last = json.loads(lines[-1])
    sig = last["sigs"][0]
    variants = {
        "space": lines[-1].replace(b'"sigs":', b'"sigs": '),
        "padding": lines[-1].replace(sig.encode(), sig.encode() + b"=="),
        "twice": lines[-1].replace(f'["{sig}"]'.encode(), f'["{sig}","{sig}"]'.encode()),
        "other-alphabet": lines[-1].replace(sig.encode(), sig.replace("-", "+").replace("_", "/").encode() + b" "),
        "none": lines[-1].replace(f'["{sig}"]'.encode(), b"[]"),
        "order": json.dumps({"sigs": [sig], "policy": last["policy"]}, separators=(",", ":")).encode(),
        "junk": lines[-1][:-1] + b',"x":1}',
        "trailing-blank": lines[-1] + b" ",
        "carriage-return": lines[-1] + b"\r",
        "escaped": lines[-1].replace(b'"by":"alice', b'"by":"\\u0061lice'),
    }
    for name, line in variants.items():
        assert line != lines[-1], name
        alice.write(path, b"\n".join([*lines[:-1], line]) + b"\n")
        refused(alice.zopp("verify"), 1)
        refused(alice.zopp("access"), 1)
        refused(alice.zopp("get", "BASE"), 1)
    for tail in (b"\n", b" ", b"{}", b"\x00"):
        alice.write(path, b"\n".join(lines) + b"\n" + tail)
        refused(alice.zopp("verify"), 1)
        refused(alice.zopp("get", "BASE", "--json"), 1)
    alice.write(path, b"\n".join(lines))  # without its last newline: a truncated write
    refused(alice.zopp("verify"), 1)
    alice.write(path, b"\n".join(lines) + b"\n")
    alice.ok("verify")


def _other_algorithm(text: str) -> str:
    """The same signature, said to be over a SHA-256."""
    body = base64.b64decode("".join(text.split("\n")[1:-2])).replace(b"sha512", b"sha256")
    lines = base64.b64encode(body).decode()
    return text.split("\n")[0] + "\n" + "\n".join(textwrap.wrap(lines, 70)) + "\n" + text.split("\n")[-2] + "\n"


@pytest.mark.parametrize("what", ["armor", "namespace", "algorithm", "other-key", "flipped", "junk-after"])
def test_a8_manifest_signatures(team: Team, what: str) -> None:
    alice = team.alice
    path = ".zopp/manifest/api/dev.json.sig"
    data = alice.read(".zopp/manifest/api/dev.json")
    text = alice.read(path).decode()
    public, namespace, _, raw = sshsig.parse(text)
    forged = {
        "armor": text.replace("\n", "\n\n", 2),
        "namespace": sshsig.armor(public, "git", alice.key.sign(sshsig.preimage("git", data))),
        "algorithm": _other_algorithm(text),
        "other-key": sshsig.armor(team.bob.key.public, namespace, team.bob.key.sign(manifests.to_sign(data))),
        "flipped": sshsig.armor(public, namespace, bytes([raw[0] ^ 1]) + raw[1:]),
        "junk-after": text + "x",
    }[what]
    assert forged != text
    alice.write(path, forged)
    refused(alice.zopp("verify"), 1)
    refused(alice.zopp("get", "BASE"), 1)
    refused(alice.zopp("set", "K", stdin="v"), 1)
    alice.write(path, text)
    alice.ok("verify")
