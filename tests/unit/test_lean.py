"""Cold start is decided by imports: exactly these modules are loaded by the plain forms, on a real small workspace."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.repo.workshop import Workshop

ROOT = Path(__file__).resolve().parents[2]

# What the interpreter and `site` load differs between installations, so only what comes on top is compared.
PROGRAM = """
import os, sys
before = set(sys.modules)
report_to, sys.argv = sys.argv[1], [sys.argv[0], *sys.argv[2:]]
def reporting(leave):
    def wrapper(*args):
        loaded = sorted(set(sys.modules) - before)
        with open(report_to, "w") as file:
            file.write(repr(loaded))
        leave(*args)
    return wrapper
os._exit, os.execvpe = reporting(os._exit), reporting(os.execvpe)
from zopp.cli.main import main
sys.exit(main())
"""

# From outside zopp: extension modules of CPython, and cryptography's with what it imports.
FOREIGN_KEYLESS = {
    "__future__", "_cffi_backend", "_json", "_openssl", "_openssl.lib", "binascii", "cryptography",
    "cryptography.__about__", "cryptography.hazmat", "cryptography.hazmat.bindings",
    "cryptography.hazmat.bindings._rust", "gc", "types",
}  # fmt: skip
FOREIGN = FOREIGN_KEYLESS | {"_operator"}
# One of two by the version of Python.
HASHES = ({"_sha256", "_sha512"}, {"_sha2"})
LIST = {
    "zopp", "zopp._fast", "zopp.cli", "zopp.cli.fast", "zopp.cli.main", "zopp.errors", "zopp.keys",
    "zopp.keys.agefile", "zopp.keys.bech32", "zopp.keys.curve", "zopp.keys.find", "zopp.keys.identity",
    "zopp.keys.keyfiles", "zopp.keys.sshsig", "zopp.keys.wire", "zopp.policy",
    "zopp.policy.canonical", "zopp.policy.manifest", "zopp.policy.names", "zopp.policy.view", "zopp.repo",
    "zopp.repo.files", "zopp.repo.layout", "zopp.repo.pins", "zopp.repo.quick", "zopp.repo.userdirs",
    "zopp.sopsfile", "zopp.sopsfile.cipher", "zopp.sopsfile.lines", "zopp.sopsfile.mac", "zopp.sopsfile.metadata",
    "zopp.sopsfile.plainscalar", "zopp.sopsfile.scan", "zopp.sopsfile.selectors",
    "zopp.sopsfile.tree", "zopp.sopsfile.yaml_lines",
}  # fmt: skip
GET = LIST | {"zopp.keys.filekey"}
RUN = GET | {"zopp.exchange", "zopp.exchange.names"}
SET = RUN | {"fcntl", "time", "zopp.keys.signing", "zopp.repo.catfile", "zopp.repo.journal", "zopp.sopsfile.recipients"}

HEAVY = {
    "argparse", "base64", "contextlib", "dataclasses", "datetime", "enum", "hashlib", "json", "logging", "pathlib",
    "re", "subprocess", "tempfile", "tomllib", "typing", "yaml",
}  # fmt: skip
# No policy, no keys, no settings: a converter runs once for each side of each file of each commit.
TEXTCONV = {
    "zopp", "zopp._fast", "zopp.cli", "zopp.cli.fast", "zopp.cli.main", "zopp.cli.textconv", "zopp.errors",
    "zopp.printable", "zopp.sopsfile", "zopp.sopsfile.cipher", "zopp.sopsfile.lines", "zopp.sopsfile.mac",
    "zopp.sopsfile.metadata", "zopp.sopsfile.plainscalar", "zopp.sopsfile.redacting", "zopp.sopsfile.scan",
    "zopp.sopsfile.selectors", "zopp.sopsfile.tree", "zopp.sopsfile.yaml_lines",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("lean"))


def loaded(shop: Workshop, *args: str, data: bytes = b"") -> tuple[set[str], bytes]:
    out = shop.home / "loaded"
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, str(out), *args],
        cwd=shop.repo,
        env={**shop.env, "PYTHONPATH": ":".join([str(ROOT), *[p for p in sys.path if p.endswith("site-packages")]])},
        input=data,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return set(json.loads(out.read_text().replace("'", '"'))), done.stdout


def allowed(found: set[str], own: set[str], foreign: set[str]) -> None:
    assert not found & HEAVY
    rest = found - foreign
    hashes = {name for name in rest if name in HASHES[0] | HASHES[1]}
    assert hashes in HASHES
    # Some interpreters have these two loaded or built in before.
    assert rest - hashes - {"fcntl", "time"} == own - {"fcntl", "time"}
    assert rest & {"fcntl", "time"} <= own


def test_get(shop: Workshop) -> None:
    found, out = loaded(shop, "get", "ALPHA")
    assert out == b"one"
    allowed(found, GET, FOREIGN)


def test_get_of_a_named_environment(shop: Workshop) -> None:
    found, out = loaded(shop, "get", "OTHER", "-e", "staging", "-p", "api")
    assert out == b"x"
    allowed(found, GET, FOREIGN)


def test_list_loads_no_age_at_all(shop: Workshop) -> None:
    found, out = loaded(shop, "list")
    assert out == b"ALPHA\nBETA\nGAMMA\n"
    allowed(found, LIST, FOREIGN_KEYLESS)


def test_run(shop: Workshop) -> None:
    found, out = loaded(shop, "run", "--", "sh", "-c", "echo $ALPHA $BETA")
    assert out == b"one zwei\n"
    allowed(found, RUN, FOREIGN)


def test_set(shop: Workshop) -> None:
    found, out = loaded(shop, "set", "BETA", data=b"drei")
    assert out == b""
    allowed(found, SET, FOREIGN)
    assert loaded(shop, "get", "BETA")[1] == b"drei"


def test_textconv(shop: Workshop) -> None:
    found, out = loaded(shop, "textconv", "secrets/development.yaml")
    assert [line.partition(b":")[0] for line in out.split(b"\n")[:3]] == [b"ALPHA", b"BETA", b"GAMMA"]
    assert not found & HEAVY
    assert not found & (FOREIGN - {"binascii", "gc", "types", "_json", "_operator"})
    rest = {name for name in found if name.partition(".")[0] == "zopp"}
    assert rest == TEXTCONV
