"""age-plugin-zopp: the protocol by itself, and stock sops with it against a stand-in for the server."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
from hypothesis import given, settings, strategies as st

from tests.brokered.brokers import data_key, sops_of
from tests.brokered.conftest import Brokered
from tests.brokered.test_stock import sops
from tests.support import ROOT, User, refused
from zopp.client import pinned, plugin
from zopp.client.pinned import Pinned
from zopp.client.plugin import Session, Stanza, read_stanza, write_stanza
from zopp.errors import FormatError, ZoppError
from zopp.keys import bech32, wire
from zopp.repo import brokered

__all__ = ["sops"]

PATH = "secrets/prod.yaml"
PIN = Pinned(origin="https://zopp.example", log_key=b"\x58" + b"\x66" * 31, workspace="acme", genesis="a" * 64, env="api/prod")  # fmt: skip # noqa: E501


# --- identity lines


def test_an_identity_line_is_read_back() -> None:
    line = PIN.line()
    assert line.startswith("AGE-PLUGIN-ZOPP-1") and line == line.upper()
    assert pinned.parse(line) == PIN


@pytest.mark.parametrize(
    "bad",
    [
        PIN.line().lower(),
        PIN.line()[:-1] + "Q",
        PIN.line() + " ",
        bech32.encode("age-plugin-other-", b"{}").upper(),
        bech32.encode("age-plugin-zopp-", b"{}").upper(),
        bech32.encode("age-plugin-zopp-", b"[]").upper(),
        bech32.encode("age-plugin-zopp-", b"\xff").upper(),
        "",
    ],
)
def test_anything_else_is_no_identity(bad: str) -> None:
    with pytest.raises(FormatError):
        pinned.parse(bad)


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "http://evil.example"},
        {"env": "prod"},
        {"genesis": "b"},
        {"workspace": "a/b"},
        {"log_key": bytes(32)},
    ],
)
def test_an_identity_of_bad_fields_is_refused(change: dict[str, object]) -> None:
    from dataclasses import replace

    with pytest.raises(ZoppError):
        pinned.parse(replace(PIN, **change).line())  # type: ignore[arg-type]


# --- stanzas


@given(st.binary(max_size=400), st.lists(st.text("abcXYZ019+/", min_size=1, max_size=9), max_size=4))
def test_a_stanza_is_read_as_it_was_written(body: bytes, arguments: list[str]) -> None:
    stream = io.BytesIO()
    write_stanza(stream, Stanza("kind", tuple(arguments), body))
    stream.seek(0)
    assert read_stanza(stream) == Stanza("kind", tuple(arguments), body)
    assert all(len(line) <= 64 for line in stream.getvalue().split(b"\n")[1:])


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_bytes_are_a_stanza_or_an_error(data: bytes) -> None:
    for text in (data, b"-> " + data):
        with contextlib.suppress(FormatError):
            read_stanza(io.BytesIO(text))


# --- a session


def stanza_line(user: User, group: int, index: int = 0) -> bytes:
    entry = sops_of(user).metadata.groups[group - 1][index]
    found = brokered.stanza(PATH, entry)
    stream = io.BytesIO()
    share = wire.base64_encode(found.share).rstrip("=")
    write_stanza(stream, Stanza("recipient-stanza", ("0", "X25519", share), found.body))
    return stream.getvalue()


def session(
    user: User, *stanzas: bytes, identities: tuple[str, ...], answers: bytes = b"-> ok\n\n" * 4
) -> list[Stanza]:
    """What the plugin says."""
    head = b"".join(b"-> add-identity %s\n\n" % text.encode() for text in identities)
    sink = io.BytesIO()
    Session(
        io.BytesIO(head + b"-> x-grease 1\nAAAA\n" + b"".join(stanzas) + b"-> done\n\n" + answers), sink, user.env
    ).run()
    sink.seek(0)
    found = []
    while sink.tell() < len(sink.getvalue()):
        found.append(read_stanza(sink))
    return found


def lines_of(user: User, *argv: str) -> tuple[str, ...]:
    said = user.ok("env", "plugin-identity", *argv).out.splitlines()
    return tuple(line for line in said if not line.startswith("#"))


def test_the_server_s_stanza_gives_a_file_key(world: Brokered) -> None:
    bob = world.team.bob
    identities = lines_of(bob, "prod")
    assert identities == lines_of(bob) and len(identities) == 1
    first, last = session(bob, stanza_line(bob, 2), identities=identities)
    found = brokered.stanza(PATH, sops_of(bob).metadata.groups[1][0])
    expected = world.server.server_keys["api/prod"][0][1].open(found.share, found.body)
    assert first == Stanza("file-key", ("0",), expected or b"") and last.kind == "done"
    assert [r.env for _, r in world.server.requests] == ["api/prod"]


def test_a_stanza_of_our_own_is_not_sent(world: Brokered) -> None:
    bob = world.team.bob
    own = [e.recipient for e in sops_of(bob).metadata.groups[0]].index(bob.recipient)
    assert [s.kind for s in session(bob, stanza_line(bob, 1, own), identities=lines_of(bob))] == ["done"]
    assert not world.server.requests


def test_a_foreign_stanza_is_answered_with_nothing(world: Brokered) -> None:
    bob = world.team.bob
    other = 1 - [e.recipient for e in sops_of(bob).metadata.groups[0]].index(bob.recipient)
    assert [s.kind for s in session(bob, stanza_line(bob, 1, other), identities=lines_of(bob))] == ["done"]
    assert len(world.server.requests) == 1


def test_a_denial_is_an_error_with_its_words(world: Brokered) -> None:
    alice, bob = world.team.alice, world.team.bob
    identities, stanza = lines_of(bob), stanza_line(bob, 2)
    alice.ok("revoke", "bob", "api/prod")
    first, last = session(bob, stanza, identities=identities)
    assert first.kind == "error" and first.arguments == ("identity", "0")
    assert b"api/prod" in first.body and last.kind == "done"


def test_no_server_is_an_error(world: Brokered) -> None:
    bob = world.team.bob
    identities = lines_of(bob)
    world.server.stop()
    first, _ = session(bob, stanza_line(bob, 2), identities=identities)
    assert first.kind == "error" and b"does not answer" in first.body


def test_another_log_key_in_the_line_is_refused(world: Brokered) -> None:
    from dataclasses import replace

    bob = world.team.bob
    known = pinned.parse(lines_of(bob)[0])
    first, _ = session(bob, stanza_line(bob, 2), identities=(replace(known, log_key=bob.key.public).line(),))
    assert first.kind == "error"


def test_a_receipt_of_another_request_gives_no_key(world: Brokered) -> None:
    from dataclasses import replace

    bob = world.team.bob
    seen: list[object] = []

    def again(response: object) -> object:
        seen.append(response)
        return replace(response, results=seen[0].results)  # type: ignore[type-var, attr-defined]

    world.server.lie = again  # type: ignore[assignment]
    identities = lines_of(bob)
    assert session(bob, stanza_line(bob, 2), identities=identities)[0].kind == "file-key"
    assert session(bob, stanza_line(bob, 2), identities=identities)[0].kind == "error"


def test_people_get_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert plugin.main([]) == 2
    assert "plugin-identity" in capsys.readouterr().err


def test_who_may_not_read_gets_no_line(world: Brokered) -> None:
    assert lines_of(world.team.carol) == ()
    refused(world.team.carol.zopp("env", "plugin-identity", "dev"), 2)


# --- stock sops


@pytest.fixture
def bridge(world: Brokered, sops: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run stock sops as a user whose key file has the own key and the plugin's lines."""
    folder = world.team.base / "bin"
    folder.mkdir()
    script = folder / "age-plugin-zopp"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m zopp.client.plugin "$@"\n')
    script.chmod(0o755)

    def run(user: User, *argv: str, **env: str) -> subprocess.CompletedProcess[bytes]:
        keys = user.base / f"keys-{user.name}.txt"
        if not keys.exists():
            keys.write_text(user.age_file.read_text() + user.ok("env", "plugin-identity").out)
        full = {
            **user.env, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
            "SOPS_DISABLE_VERSION_CHECK": "1", "SOPS_AGE_KEY_FILE": str(keys), **env,
        }  # fmt: skip
        return subprocess.run([str(sops), *argv], cwd=user.repo, env=full, capture_output=True, check=False, timeout=60)

    return run


Bridge = Callable[..., subprocess.CompletedProcess[bytes]]


def test_stock_sops_reads_and_writes_through_the_plugin(world: Brokered, bridge: Bridge) -> None:
    bob = world.team.bob
    done = bridge(bob, "decrypt", "--extract", '["BASE"]', PATH)
    assert done.stdout == b"base-prod", done.stderr
    assert bridge(bob, "set", PATH, '["BASE"]', '"by stock"').returncode == 0
    bob.ok("sign", "-e", "prod", "--only", "BASE")
    bob.commit()
    assert bridge(bob, "rotate", "-i", PATH).returncode == 0
    bob.ok("sign", "-e", "prod", "--unchanged")
    bob.commit()
    assert bridge(bob, "updatekeys", "-y", PATH).returncode == 0
    editor = bob.base / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/by stock/by editor/' \"$1\"\n")
    editor.chmod(0o755)
    done = bridge(bob, "edit", PATH, EDITOR=str(editor), SOPS_EDITOR=str(editor))
    assert done.returncode == 0, done.stderr
    bob.ok("sign", "-e", "prod", "--only", "BASE")
    bob.ok("verify")
    assert bob.get("BASE", "prod") == "by editor"


def test_a_denial_reaches_the_user_of_stock_sops(world: Brokered, bridge: Bridge) -> None:
    bob = world.team.bob
    assert bridge(bob, "decrypt", PATH).returncode == 0
    world.team.alice.ok("revoke", "bob", "api/prod")
    done = bridge(bob, "decrypt", PATH)
    assert done.returncode == 128 and b"api/prod" in done.stderr, done.stderr


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda key: bytes([key[0] ^ 1]) + key[1:],
    "zero": lambda key: bytes(16),
    "foreign": lambda key: os.urandom(16),
    "short": lambda key: key[:8],
    "empty": lambda key: b"",
}


@pytest.mark.parametrize("how", WRONG)
def test_wrong_answers_change_nothing_for_stock_sops(world: Brokered, bridge: Bridge, how: str) -> None:
    """§11.1: exit 128 and the file untouched, `updatekeys` included."""
    alice = world.team.alice
    world.server.wrong = WRONG[how]
    alice.write(".sops.yaml", alice.read(".sops.yaml").replace(b"      - age:", b"      - age:\n            - " + str(pyrage.x25519.Identity.generate().to_public()).encode(), 1))  # fmt: skip # noqa: E501
    before = alice.read(PATH)
    for argv in (("decrypt", PATH), ("set", PATH, '["A"]', '"1"'), ("rotate", "-i", PATH), ("updatekeys", "-y", PATH)):
        done = bridge(alice, *argv)
        assert done.returncode == 128, (argv, done.returncode, done.stderr)
        assert b"base-prod" not in done.stdout
        assert alice.read(PATH) == before


def test_two_environments_in_one_key_file(world: Brokered, bridge: Bridge) -> None:
    """Each line asks under its own environment; the one that does not match gives nothing."""
    alice = world.team.alice
    alice.ok("env", "kind", "dev", "brokered")
    assert bridge(alice, "decrypt", "--extract", '["BASE"]', PATH).stdout == b"base-prod"
    assert bridge(alice, "decrypt", "--extract", '["BASE"]', "secrets/dev.yaml").stdout == b"base-dev"
    assert data_key(alice, world.server, "dev") != data_key(alice, world.server)
