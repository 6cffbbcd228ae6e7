"""A distinctive secret goes through every command and every error: only its ciphertext may be left anywhere."""

import base64
import json
import zlib
from pathlib import Path

import pytest

from tests.support import Done, Team, User

CANARY = "canary7Qz9hunter2"
READS = {"get", "export", "inject"}  # they print values: that is what they are for


def forms(text: str) -> list[bytes]:
    """The secret as it is, and as it would look in JSON, base64 or hex."""
    raw = text.encode()
    encoded = {base64.b64encode(b"x" * pad + raw)[4:-4] for pad in range(3)}
    return [raw, raw.hex().encode(), raw[::-1], *encoded]


def leaks(data: bytes) -> list[bytes]:
    return [form for form in forms(CANARY) if form in data]


def everywhere(team: Team) -> list[tuple[Path, bytes]]:
    """Every file below the team's folder, git's objects unpacked."""
    found = []
    for path in team.base.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        if "objects" in path.parts and len(path.parent.name) == 2:
            data = zlib.decompress(data)
        found.append((path, data))
    return found


def silent(done: Done, argv: tuple[str, ...]) -> None:
    assert not leaks(done.err.encode("utf-8", "surrogateescape")), (argv, done.err)
    if argv[0] not in READS:
        assert not leaks(done.out.encode("utf-8", "surrogateescape")), (argv, done.out)


def plant(team: Team) -> User:
    alice = team.alice
    alice.ok("set", "TOKEN", "-e", "dev", stdin=CANARY)
    alice.ok("set", "nested.deep.token", "-e", "dev", stdin=CANARY)
    alice.ok("import", "-", "-e", "dev", stdin=f"# a note\nIMPORTED={CANARY}\n")
    return alice


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("get", "TOKEN"), ("get",), ("get", "--reveal", "--json"), ("get", "NONE"), ("list",), ("list", "--json"),
    ("export",), ("export", "--format", "json"), ("export", "--format", "example"),
    ("export", "--format", "k8s", "--name", CANARY + "_"),
    ("inject", "-"), ("inject", "-", "--check"), ("inject", "nowhere"), ("run", "--", "true"),
    ("run", "--require", "NONE", "--", "true"), ("run", "--", "no-such-program"),
    ("run", "--prefix", "LD_", "--", "true"),
    ("set", "TOKEN"), ("set", "TOKEN", "--json"), ("set", "TOKEN", "--type", "int"), ("set", "TOKEN", "--type", "bool"),
    ("set", "TOKEN", "--type", "float", "--json"), ("set", "BASH_ENV"), ("set", "A b"), ("set", 'a."b'),
    ("set", "TOKEN.below"),
    ("set", "X_unencrypted"), ("set", f"TOKEN={CANARY}"), ("set", "TOKEN", CANARY), ("set", "TOKEN", "--", CANARY),
    ("set", "TOKEN", f"--{CANARY}"), ("set", "TOKEN", f"-{CANARY}"), ("set", "TOKEN", f"--json={CANARY}"),
    ("set", "TOKEN", "--type", CANARY), ("set", "TOKEN", "--file", "nowhere.yaml"), ("set", "-e", "nowhere", "TOKEN"),
    ("secret", "set", "TOKEN", CANARY), ("unset", "NONE"), ("unset", "nested.deep.token"), ("import", "-"),
    ("import", "-", "--json"), ("import", "-", "--dry-run"), ("import", "-", "--on-conflict", "fail"),
    ("import", "-", "--dialect", "shell"), ("import", "-", "--dialect", "docker"), ("edit",), ("sign", "--dry-run"),
    ("sign", "--unchanged"), ("verify",), ("verify", "--json"), ("rekey", "--all", "--json"),
    ("grant", "bob", "read", "api"),
    ("whoknows", "TOKEN"), ("revoke", "bob", "api"), ("revoke", "bob", "api", "--json"), ("exposure",),
    ("exposure", "--json"),
    ("offboard", "bob", "--dry-run"), ("access",), ("policy", "log"), ("policy", "show"), ("doctor",), ("workspace",),
    ("completion", "--words", "keys"), ("trust",), ("principal", "list"), ("env", "list"),
    ("import", "-", "-m", "import"), ("set", "TOKEN", "-m", "message"),
)  # fmt: skip
INPUTS = (
    CANARY,
    f"K={CANARY}\n",
    f"K='{CANARY}\n",
    f"{CANARY}\n=\n",
    f"K={CANARY} 'x\n",
    f"K=$({CANARY})\n",
    f"K=\udcff{CANARY}\n",
)


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_canary_through_every_command_and_error(team: Team, debug: bool) -> None:
    alice = plant(team)
    alice.share("planted")
    for argv in COMMANDS:
        for stdin in INPUTS if argv[0] in ("set", "import") else INPUTS[:1]:
            words = (*argv, "--debug") if debug and "--" not in argv else argv
            env = {"EDITOR": f"sed -i s/{CANARY}/{CANARY}x/"} if argv[0] == "edit" else {}
            silent(alice.zopp(*words, stdin=stdin.encode("utf-8", "surrogateescape"), env=env), argv)
    alice.commit("after")
    kept = [str(path) for path, data in everywhere(team) if leaks(data)]
    assert not kept


def test_canary_twin_the_search_finds_it(team: Team) -> None:
    """The search itself works: a committed plaintext is found as a file and as an object."""
    team.alice.write("leak.txt", f"x {CANARY}")
    team.alice.commit("leak")
    found = {path.name for path, data in everywhere(team) if leaks(data)}
    assert "leak.txt" in found and len(found) == 2
    assert leaks(json.dumps({"a": base64.b64encode(CANARY.encode()).decode()}).encode())


DAMAGE = {
    "value-flipped": lambda text: text.replace("data:", "data:AAAA", 1),
    "mac-gone": lambda text: text.replace("    mac: ", "    mad: ", 1),
    "clear-value": lambda text: f"PLAIN: {CANARY}\n" + text,
    "clear-nested": lambda text: f"PLAIN:\n  - [{CANARY}, {{a: {CANARY}]\n" + text,
    "conflict": lambda text: f"<<<<<<< HEAD\nA: {CANARY}\n=======\nA: {CANARY}2\n>>>>>>> other\n" + text,
    "bad-indent": lambda text: f" A: {CANARY}\nB: 1\n" + text,
    "tab": lambda text: f"A:\t{CANARY}\n\tB: {CANARY}\n" + text,
    "unclosed-quote": lambda text: f'A: "{CANARY}\n' + text,
    "plain-file": lambda text: f"A: {CANARY}\n",
    "comment": lambda text: f"# {CANARY}\n" + text,
    "anchor": lambda text: f"A: *{CANARY}\n" + text,
    "tag": lambda text: f"A: !!python/object:{CANARY} x\n" + text,
    "duplicate": lambda text: f"{CANARY}: 1\n{CANARY}: 2\n" + text,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_canary_in_a_damaged_file_is_not_quoted(team: Team, how: str) -> None:
    """The input of a parser may be the secret: errors locate it and do not quote it."""
    alice = plant(team)
    alice.share()
    alice.write("secrets/dev.yaml", DAMAGE[how](alice.read("secrets/dev.yaml").decode()))
    for argv in (
        ("get", "BASE"), ("get", "BASE", "--json"), ("list",), ("list", "--json"), ("export",), ("run", "--", "true"),
        ("set", "K"), ("set", "K", "--json"), ("unset", "BASE"), ("edit",), ("import", "-"), ("rekey", "--all"),
        ("sign", "--dry-run"), ("sign", "--only", "A"), ("verify",), ("verify", "--json"), ("whoknows", "BASE"),
        ("grant", "bob", "read", "api"), ("revoke", "bob", "api"), ("doctor",), ("get", "BASE", "--debug"),
    ):  # fmt: skip
        done = alice.zopp(*argv, stdin="A=b\n", env={"EDITOR": "true"})
        if how == "duplicate":  # here it stands where a key's name does, and names are not secret
            continue
        assert not leaks(done.text.encode("utf-8", "surrogateescape")), (argv, done.text)


SETTINGS = ("zopp.toml", ".sops.yaml", ".gitattributes", ".zopp/policy.jsonl", ".zopp/manifest/api/dev.json")


@pytest.mark.parametrize("path", SETTINGS)
@pytest.mark.parametrize(
    "text", ['x = "{}\n', "{}: [\n", '{{"{}": \n', "<<<<<<< {}\n"], ids=["toml", "yaml", "json", "conflict"]
)
def test_canary_in_a_file_of_settings_is_not_quoted(team: Team, path: str, text: str) -> None:
    """Somebody pastes a secret into the wrong file."""
    alice = team.alice
    alice.write(path, text.format(CANARY))
    for argv in (
        ("get", "BASE", "--json"),
        ("verify",),
        ("set", "K", "--json"),
        ("rekey",),
        ("grant", "bob", "read", "api"),
    ):
        done = alice.zopp(*argv, stdin="v")
        assert not leaks(done.text.encode("utf-8", "surrogateescape")), (argv, done.text)


def test_canary_private_keys_are_printed_by_nothing(team: Team) -> None:
    alice = team.alice
    secret = next(line for line in alice.age_file.read_text().split("\n") if line.startswith("AGE-SECRET-KEY"))
    signing = alice.age_file.with_suffix(".ssh").read_text().split("\n")[2]
    env = {"ZOPP_AGE_KEY": secret + "x", "SOPS_AGE_KEY": secret[:-1], "ZOPP_SIGNING_KEY": signing}
    for argv in COMMANDS:
        for extra in ({}, env):
            done = alice.zopp(*argv, stdin="v", env=extra)
            assert secret[:40] not in done.text and signing not in done.text, argv
    for bad in (secret.lower(), secret[:-1], secret.replace("1", "2"), "AGE-SECRET-KEY-1" + "Q" * 58):
        done = alice.zopp("get", "BASE", "--json", env={"ZOPP_AGE_KEY": bad})
        assert bad[16:40] not in done.text, done.text
