"""Every parser behind every command on hostile bytes: exit 1, 2 or 3 with words, in bounded time, nothing changed."""

import random
import time
from collections.abc import Iterator

import pytest

from tests.support import Team

TARGETS = (
    "zopp.toml",
    ".zopp/policy.jsonl",
    ".zopp/manifest/api/dev.json",
    ".zopp/manifest/api/dev.json.sig",
    "secrets/dev.yaml",
    ".sops.yaml",
    ".gitattributes",
    ".zopp/exposure/bob-1.json",
    ".zopp/provenance/api/dev.json",
)
# Those whose damage every command has to notice; the others are nobody's trust.
TRUSTED = TARGETS[:5]

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("get", "BASE"), ("get", "BASE", "--json"), ("list", "-e", "dev"), ("export", "-e", "dev"), ("inject", "-"),
    ("run", "--", "true"),
    ("set", "K"), ("set", "K", "--json"), ("import", "-"), ("rekey", "--all"), ("sign", "--dry-run"), ("verify",),
    ("grant", "bob", "read", "api"), ("whoknows", "BASE"), ("access",), ("policy", "log"), ("exposure",), ("doctor",),
    ("trust",), ("completion", "--words", "keys"), ("env", "list"), ("offboard", "carol", "--dry-run"),
)  # fmt: skip


# Exit 1 is these commands' answer, or they go on where others are not concerned, and warn.
ANSWERS_NO = ("verify", "doctor", "sign", "exposure", "rekey", "grant", "trust", "completion", "offboard")

# These write nothing into the work tree.
QUIET = (
    "get",
    "list",
    "export",
    "inject",
    "run",
    "verify",
    "whoknows",
    "access",
    "policy",
    "exposure",
    "doctor",
    "env",
)


def hostile(data: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "truncated", data[: len(data) // 2]
    yield "last-byte-gone", data[:-2]
    yield "random", rng.randbytes(4096)
    yield "nul", data[:20] + b"\0" * 50 + data[20:]
    yield "not-utf8", data[:10] + b"\xff\xfe\xc0\x80" + data[10:]
    yield "utf16", data.decode().encode("utf-16")
    yield "bom", b"\xef\xbb\xbf" + data
    yield "conflict", b"<<<<<<< HEAD\n" + data + b"=======\n" + data + b">>>>>>> other\n"
    yield "json-deep", b"[" * 100_000
    yield "json-deep-closed", b'{"a":' * 20_000 + b"1" + b"}" * 20_000
    yield "yaml-deep", b"a: " + b"[" * 20_000 + b"]" * 20_000 + b"\n" + data
    yield "yaml-deep-block", b"".join(b" " * n + b"a:\n" for n in range(600))
    yield (
        "yaml-bomb",
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(20)),
    )
    yield "huge-number", b'{"a":' + b"9" * 20_000 + b"}"
    yield "huge-line", b"x" * 2_000_000
    yield "many-lines", b"a = 1\n" * 50_000
    yield "toml-deep", b"a = " + b"[" * 20_000 + b"]" * 20_000
    yield "toml-dots", b".".join([b"a"] * 5_000) + b" = 1\n"
    for n in range(3):
        at = rng.randrange(len(data))
        yield f"flipped-{n}", data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_files(team: Team, target: str) -> None:
    alice = team.alice
    whole = alice.read(target) if alice.path(target).exists() else b'{"v":1}\n'
    for name, data in hostile(whole, random.Random(target)):
        alice.write(target, data)
        before = alice.tree()
        for argv in COMMANDS if target in TRUSTED else COMMANDS[5:16]:
            began = time.monotonic()
            done = alice.zopp(*argv, stdin="A=b\n")
            assert time.monotonic() - began < 10, (name, argv)
            assert done.code in (0, 1, 2, 3, 125), (name, argv, done.text)
            if done.code not in (0, 1) or (done.code and argv[0] not in ANSWERS_NO):
                assert "zopp: error: " in done.err, (name, argv, done.text)
            if done.code:
                after = alice.tree()
                assert argv[0] in ("rekey", "grant") or after == before, (name, argv)
            if argv[0] in ("rekey", "grant") or (done.code == 0 and argv[0] not in QUIET):
                alice.git("checkout", "-q", ".")
                alice.git("clean", "-qfd")
                alice.write(target, data)
        if target in TRUSTED and not (target == "zopp.toml" and name.startswith("flipped")):  # it has comments
            assert alice.zopp("verify").code in (1, 3), name
            assert alice.zopp("get", "BASE", "--json").code in (1, 3) or target == "zopp.toml", name
    alice.git("checkout", "-q", ".")
    alice.git("clean", "-qfd")
    alice.ok("verify")


ARGUMENTS: tuple[tuple[str, ...], ...] = (
    ("principal", "add", "-"),
    ("import", "-"),
    ("import", "-", "--dialect", "shell"),
    ("import", "-", "--dialect", "sops"),
    ("set", "K"),
    ("set", "K", "--type", "int"),
    ("set", "K", "--type", "float"),
)


@pytest.mark.parametrize("argv", ARGUMENTS, ids=" ".join)
def test_hostile_standard_input(team: Team, argv: tuple[str, ...]) -> None:
    alice = team.alice
    sample = b'{"proof":null,"request":{"id":"x"}}' if argv[0] == "principal" else b"A=1\nB='two'\n"
    for name, data in hostile(sample, random.Random(1)):
        before = alice.tree()
        done = alice.zopp(*argv, stdin=data)
        assert done.code in (0, 1, 2, 3), (name, done.text)
        if done.code:
            assert "zopp: error: " in done.err and alice.tree() == before, name
        alice.git("checkout", "-q", ".")


WORDS = (
    "", "-", "--", "/", "..", "a" * 5000, "\n", "é", "\udcff", "${x}", "a.b.c.d", '"', '"a"."b"', "*", "api/", "@",
    "x@y",
)  # fmt: skip


@pytest.mark.parametrize("word", WORDS, ids=ascii)
def test_hostile_arguments(team: Team, word: str) -> None:
    alice = team.alice
    before = alice.tree()
    for argv in (
        ("get", word), ("set", word), ("unset", word), ("get", "BASE", "-e", word), ("get", "BASE", "-p", word),
        ("grant", word, "read", "api"), ("grant", "bob", "read", word), ("revoke", word, word), ("access", word),
        ("access", "bob", word), ("whoknows", word), ("offboard", word), ("rekey", word), ("env", "add", word),
        ("env", "archive", word), ("group", "create", word), ("principal", "add", word), ("import", word),
        ("trust", "--genesis", word),
        ("principal", "adopt", word, "--name", word), ("policy", "rebase", "--onto", word), (word,), ("exposure", word),
        ("-C", word, "list"), ("export", "--format", word), ("run", "--only", word, "--", "true"),
    ):  # fmt: skip
        done = alice.zopp(*argv, stdin="")
        assert done.code in (0, 1, 2, 3, 125), (argv, done.text)
        if done.code == 0:
            alice.git("checkout", "-q", ".")
            alice.git("clean", "-qfd")
        else:
            assert alice.tree() == before, argv


@pytest.mark.parametrize("where", ["clones", "cache"])
def test_hostile_memory(team: Team, where: str) -> None:
    """A damaged pin is no licence: it is 'could not tell'. A damaged cache costs time only."""
    alice = team.alice
    folder = alice.home / (".local/state/zopp/clones" if where == "clones" else ".cache/zopp/policy")
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for name, data in (
        hostile(whole, random.Random(2)) if where == "clones" else (("random", b"\xff" * 99), ("empty", b""))
    ):
        if name.startswith("flipped"):
            continue  # may be another valid pin, and then is that of somebody with this user's rights
        path.write_bytes(data)
        for argv in (("get", "BASE"), ("set", "K"), ("verify",)):
            done = alice.zopp(*argv, stdin="v")
            if where == "clones":
                assert done.code in (1, 3), (name, argv, done.text)
            else:
                assert done.code == 0, (name, argv, done.text)
        alice.git("checkout", "-q", ".")
    path.write_bytes(whole)
    alice.ok("verify")


def test_a_name_that_zopp_would_not_read_is_said_where_secrets_lie(team: Team) -> None:
    """A line end in it prints no line of its own, and elsewhere it is nobody's business."""
    alice = team.alice
    data = alice.read("secrets/dev.yaml") if (alice.repo / "secrets/dev.yaml").exists() else b"x: 1\n"
    alice.write("secrets/a\nok: all is well.yaml", data)
    alice.write("elsewhere/a\nb.yaml", data)
    alice.commit("odd names")
    done = alice.ok("verify")
    odd = [line for line in done.out.split("\n") if "path.unsafe" in line]
    assert odd == [
        "warn: secrets/a\\nok: all is well.yaml: lies where secrets files do, and zopp would not read it [path.unsafe]"
    ]
    assert not any(line.startswith("ok: all is well") for line in done.out.split("\n"))
