"""S1-S8 by exact bytes: every awkward value through every door, offline under an audit hook, JSON of every command."""

import json
import os
import random
import re
import shutil
import subprocess
import sys

import pytest

from tests.attacks.test_a14_worktree import sops as sops
from tests.support import ROOT, Team, refused
from zopp.cli.verbs import VERBS

VALUES = {
    "PLAIN": "plain",
    "EMPTY": "",
    "NEWLINE": "a\nb\n",
    "CRLF": "a\r\nb",
    "QUOTES": 'it\'s "quoted" `x`',
    "HASH": "a #b # c",
    "DOLLAR": "$HOME ${HOME} $(id) $$",
    "BACKSLASH": "a\\nb\\\\c\\",
    "SPACES": "  outer  ",
    "UNICODE": "zażółć \u2028 😀",
    "EQUALS": "a=b=c",
    "TRUE": "true",
    "NUMBER": "007",
    "NULL": "null",
    "TAB": "\ta\t",
    "PEM": "-----BEGIN X-----\nAAAA\n-----END X-----\n",
    "JSON": '{"a": [1, "b"]}',
}


def test_s1_two_people_share(team: Team) -> None:
    team.grant("bob", "write", "api/dev")
    team.bob.set("K", "from bob \t\n")
    team.bob.share()
    team.alice.pull()
    assert team.alice.get("K") == "from bob \t\n"
    team.alice.set("K", "from alice")
    team.alice.share()
    team.bob.pull()
    assert team.bob.get("K") == "from alice"


@pytest.mark.parametrize("name", VALUES)
def test_s1_exact_bytes(team: Team, name: str) -> None:
    team.alice.set(name, VALUES[name])
    assert team.alice.get(name) == VALUES[name]
    assert team.alice.ok("get", name, "--json").json["value"] == VALUES[name]


def test_s2_copy_an_environment(team: Team) -> None:
    alice = team.alice
    for name, value in VALUES.items():
        alice.set(name, value)
    dump = team.base / "dump.env"
    # The strictest form names what .env readers would not agree on; the shell's carries every value.
    refused(alice.zopp("export", "-e", "dev", "-o", str(dump)), 1, words=["CRLF", "QUOTES"])
    assert not dump.exists()
    alice.ok("export", "-e", "dev", "--format", "shell", "-o", str(dump))
    assert dump.stat().st_mode & 0o777 == 0o600
    alice.ok("env", "add", "copy")
    # A carriage return is what import refuses by name instead of changing it; it goes by `set`.
    refused(alice.zopp("import", str(dump), "-e", "copy", "--dialect", "shell"), 1, words=["CRLF"])
    alice.ok("import", str(dump), "-e", "copy", "--dialect", "shell", "--exclude", "CRLF")
    alice.set("CRLF", alice.get("CRLF"), "copy")
    for name, value in (VALUES | {"BASE": "base-dev"}).items():
        assert alice.get(name, "copy") == value, name
    alice.share()
    alice.ok("verify")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("form", ["env", "json", "yaml"])
def test_s3_round_trip(team: Team, form: str, seed: int) -> None:
    """Any map of names to text; what a format cannot carry is refused by name, never altered."""
    rng = random.Random(seed)
    alphabet = "ab Z09'\"`$\\{}()#=\n\r\t!;&|<>*?~%^@é\u00a0\u2028😀-_."
    values = {f"K{i}": "".join(rng.choice(alphabet) for _ in range(rng.randrange(12))) for i in range(25)}
    alice = team.alice
    for name, value in values.items():
        alice.set(name, value)
    environment = {"HOME_X": "leak", "b": "leak"}
    done = alice.zopp("export", "--format", form, env=environment)
    if form == "env" and done.code:
        named = set(re.findall(r"^  (K\d+) ", done.err, re.MULTILINE))
        assert done.out == "" and named and not any(v and len(v) > 4 and v in done.err for v in values.values())
        alice.ok("unset", *named)
        values = {name: value for name, value in values.items() if name not in named}
    out = alice.ok("export", "--format", form, env=environment).out
    if form == "env":
        alice.ok("env", "add", "copy")
        alice.ok("import", "-", "-e", "copy", stdin=out)
        found = {name: alice.get(name, "copy") for name in values}
    elif form == "json":
        found = {k: v for k, v in json.loads(out).items() if k != "BASE"}
    else:
        import yaml

        found = {k: v for k, v in yaml.safe_load(out).items() if k != "BASE"}
    assert found == values


def test_s3_a_shell_reads_the_same(team: Team) -> None:
    alice = team.alice
    for name, value in VALUES.items():
        alice.set(name, value)
    out = alice.ok("export", "--format", "shell").out
    script = out + "\n" + sys.executable + " -c 'import json,os;print(json.dumps(dict(os.environ)))'"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, env={"PATH": os.environ["PATH"]}, check=True)
    got = json.loads(done.stdout)
    assert {name: got.get(name) for name in VALUES} == VALUES


def test_s4_nothing_expands(team: Team) -> None:
    team.alice.ok("import", "-", "--dialect", "docker", stdin="X=$HOME-${USER}-`id`\n", env={"USER": "leak"})
    assert team.alice.get("X") == "$HOME-${USER}-`id`"


def test_s5_run(team: Team) -> None:
    alice = team.alice
    alice.set("GREETING", "hello\nthere")
    show = "import os,sys; print(os.environ['GREETING'], os.environ['OWN'], sys.argv[1:]); sys.exit(7)"
    done = alice.child(
        "run", "--", sys.executable, "-c", show, "--json", "-e", "prod", env={"OWN": "mine", "GREETING": "x"}
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout.decode() == "hello\nthere mine ['--json', '-e', 'prod']\n"
    assert alice.child("run", "-e", "prod", "--", "sh", "-c", "kill -TERM $$").returncode in (143, -15)
    assert alice.child("run", "--", "no-such-program-zopp").returncode == 127
    assert alice.child("run", "--", "/etc/passwd").returncode == 126
    assert alice.child("run").returncode == 125
    assert alice.child("run", "-e", "nowhere", "--", "true").returncode == 125


def test_s5_nothing_is_left_of_a_mapping_that_unset_emptied(team: Team) -> None:
    """`PATH.extra` becomes PATH_extra; an empty PATH left behind would be a name that `run` refuses."""
    alice = team.alice
    alice.set("PATH.extra.dir", "v")
    alice.ok("run", "-e", "dev", "--", "true")
    alice.ok("unset", "PATH.extra.dir", "-e", "dev", "--yes")
    assert alice.ok("list", "-e", "dev").out == "BASE\n"
    alice.ok("run", "-e", "dev", "--", "true")
    alice.set("DB.host", "h")
    alice.set("DB.port", "p")
    alice.ok("unset", "DB.host", "DB.port", "-e", "dev", "--yes")
    assert b"DB:" not in alice.read("secrets/dev.yaml")
    alice.ok("unset", "BASE", "-e", "dev", "--yes")
    assert alice.ok("list", "-e", "dev").out == ""
    alice.ok("verify")


def test_s5_denied_never_starts(team: Team) -> None:
    mark = team.base / "started"
    done = team.bob.child("run", "--", "touch", str(mark))
    assert done.returncode == 125 and b"bob" in done.stderr and not mark.exists()
    team.grant("bob", "read", "api/dev")
    assert team.bob.child("run", "--", "touch", str(mark)).returncode == 0 and mark.exists()


def test_s7_reads_need_no_git_and_no_network(team: Team) -> None:
    alice = team.alice
    tools = team.base / "tools"
    tools.mkdir()
    (tools / "true").symlink_to(shutil.which("true") or "/bin/true")
    guard = team.base / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(
        "import sys\n"
        "def hook(event, args):\n"
        "    started = ('subprocess.Popen', 'os.system', 'os.posix_spawn', 'os.fork')\n"
        "    if event.startswith('socket.') or event in started:\n"
        "        raise RuntimeError('not offline: ' + event)\n"
        "sys.addaudithook(hook)\n"
    )
    env = {"PATH": str(tools), "PYTHONPATH": f"{guard}:{ROOT}"}
    for argv in (
        ("get", "BASE"), ("get", "BASE", "--json"), ("list",), ("list", "--json"), ("export",),
        ("export", "--format", "json"),
        ("access",), ("access", "alice", "api/dev", "--explain"), ("get",), ("policy", "show"), ("env", "list"),
        ("group", "list"), ("principal", "list"), ("run", "--", "true"),
    ):  # fmt: skip
        done = alice.child(*argv, env=env)
        assert done.returncode == 0, (argv, done.stderr)
    done = alice.child("verify", env=env)  # needs git, and says so
    assert done.returncode == 3, done.stderr


def test_s7_changes_need_no_network(team: Team) -> None:
    guard = team.base / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(
        "import sys\ndef hook(event, args):\n    if event.startswith('socket.'):\n        raise RuntimeError(event)\n"
        "sys.addaudithook(hook)\n"
    )
    shutil.rmtree(team.base / "origin.git")
    env = {"PYTHONPATH": f"{guard}:{ROOT}"}
    for argv in (
        ("set", "K"),
        ("grant", "bob", "read", "api"),
        ("revoke", "bob", "api"),
        ("rekey", "--all"),
        ("verify",),
    ):
        done = team.alice.child(*argv, stdin=b"v", env=env)
        assert done.returncode == 0, (argv, done.stderr)


PRINTING = (
    ("get", "BASE"), ("get",), ("list",), ("verify",), ("access",), ("access", "bob"), ("access", "bob", "api/dev"),
    ("whoknows", "BASE"), ("exposure",), ("env", "list"), ("principal", "list"), ("principal", "current"),
    ("group", "list"), ("project", "list"), ("workspace",), ("policy", "show"), ("policy", "log"), ("doctor",),
    ("trust",),
    ("set", "K"), ("unset", "BASE"), ("import", "-"), ("rekey",), ("rekey", "--all"), ("sign",),
    ("grant", "bob", "read", "api"), ("revoke", "bob", "api"), ("offboard", "bob"), ("env", "add", "x"),
    ("env", "protect", "dev"), ("group", "create", "g"), ("project", "create", "p"),
    ("principal", "disable", "bob-laptop"),
    ("principal", "cap", "bob-laptop", "read"),
)  # fmt: skip


@pytest.mark.parametrize("argv", PRINTING, ids=" ".join)
def test_s8_json(team: Team, argv: tuple[str, ...]) -> None:
    """One JSON value on standard output, also of a refusal; no value in that of a write."""
    done = team.alice.zopp(*argv, "--json", stdin="K=canary-json" if argv[0] == "import" else "canary-json")
    if done.out:
        json.loads(done.out)
    elif argv not in (("revoke", "bob", "api"), ("sign",)):
        assert done.code == 0, done.text
    assert "canary-json" not in done.text
    if done.code:
        assert json.loads(done.out), done.text


@pytest.mark.parametrize("verb", [verb for verb, _, _ in VERBS])
def test_s8_help(team: Team, verb: str) -> None:
    done = team.alice.child(verb, "--help")
    assert done.returncode == 0 and b"usage: zopp" in done.stdout and b"examples:" in done.stdout, done.stderr
