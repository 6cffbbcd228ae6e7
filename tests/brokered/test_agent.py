"""The key service agent: its messages, its refusals, and stock sops with it against a stand-in for the server."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pyrage
import pytest
from hypothesis import given, strategies as st

from tests.brokered.brokers import shares_of, sops_of
from tests.brokered.conftest import Brokered
from tests.brokered.test_stock import sops
from tests.support import User
from zopp.client import agent, keyservice
from zopp.client.agent import Agent
from zopp.errors import FormatError, UsageError

__all__ = ["sops"]

PATH = "secrets/prod.yaml"


# --- messages


def request_of(recipient: str, ciphertext: bytes, *, key: int = 6) -> bytes:
    inner = keyservice.bytes_field(1, recipient.encode())
    return keyservice.bytes_field(1, keyservice.bytes_field(key, inner)) + keyservice.bytes_field(2, ciphertext)


@given(st.text("age1qpz", max_size=300), st.binary(max_size=1000))
def test_a_request_is_read_back(recipient: str, ciphertext: bytes) -> None:
    found = keyservice.parse_decrypt(request_of(recipient, ciphertext))
    assert (found.recipient, found.ciphertext) == (recipient, ciphertext)


def test_another_kind_of_key_is_no_age_key() -> None:
    assert keyservice.parse_decrypt(request_of("AB12", b"x", key=2)).recipient is None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_an_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        keyservice.parse_decrypt(data)


def test_a_field_that_stands_twice_is_refused() -> None:
    good = request_of("age1x", b"x")
    with pytest.raises(FormatError):
        keyservice.parse_decrypt(good + keyservice.bytes_field(2, b"y"))


# --- the socket


def test_a_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    with pytest.raises(UsageError, match="open to others"):
        agent.prepare(str(folder / "agent.sock"))
    os.chmod(folder, 0o700)
    agent.prepare(str(folder / "agent.sock"))
    (folder / "agent.sock").write_text("a file")
    with pytest.raises(UsageError, match="no socket"):
        agent.prepare(str(folder / "agent.sock"))
    with pytest.raises(UsageError):
        agent.prepare("relative.sock")
    with pytest.raises(UsageError):
        agent.prepare(str(folder / ("x" * 200)))


# --- answering


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Start an agent for a user; its address."""
    running: list[Agent] = []

    def start(user: User, **more: Any) -> str:
        folder = tmp_path_factory.mktemp("a")
        os.chmod(folder, 0o700)
        path = str(folder / "s")
        agent.prepare(path)
        made = Agent(str(user.repo), user.env, **more)
        made.warm()
        made.start(path)
        running.append(made)
        assert os.stat(path).st_mode & 0o077 == 0
        return f"unix://{path}"

    yield start
    for made in running:
        made.stop()


Serve = Callable[..., str]


def call(address: str, method: str, body: bytes) -> bytes:
    with grpc.insecure_channel(address.replace("unix://", "unix:")) as channel:
        ask = channel.unary_unary(f"/KeyService/{method}")
        answer: bytes = ask(body, timeout=30)
        return answer


def refused(address: str, method: str, body: bytes) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(address, method, body)
    return raised.value.code().name, raised.value.details()


def test_a_server_entry_is_answered_with_share_2(world: Brokered, serve: Serve) -> None:
    bob = world.team.bob
    entry = sops_of(bob).metadata.groups[1][0]
    answer = call(serve(bob), "Decrypt", request_of(entry.recipient, entry.enc.encode()))
    assert answer == keyservice.build_decrypted(shares_of(bob, world.server)[1])
    assert [(r.env, r.items[0].path) for _, r in world.server.requests] == [("api/prod", None)]


def test_encrypt_is_refused(world: Brokered, serve: Serve) -> None:
    code, text = refused(serve(world.team.bob), "Encrypt", b"")
    assert code == "UNIMPLEMENTED" and "never encrypts" in text


@pytest.mark.parametrize("whose", ["reader", "outsider", "own"])
def test_other_recipients_are_refused_and_nobody_is_asked(world: Brokered, serve: Serve, whose: str) -> None:
    bob = world.team.bob
    entry = sops_of(bob).metadata.groups[1][0]
    recipient = {
        "reader": world.team.alice.recipient,
        "outsider": str(pyrage.x25519.Identity.generate().to_public()),
        "own": bob.recipient,
    }[whose]
    assert refused(serve(bob), "Decrypt", request_of(recipient, entry.enc.encode()))[0] == "NOT_FOUND"
    assert not world.server.requests


def test_a_denial_has_its_words(world: Brokered, serve: Serve) -> None:
    alice, bob = world.team.alice, world.team.bob
    address, entry = serve(bob), sops_of(bob).metadata.groups[1][0]
    alice.ok("revoke", "bob", "api/prod")
    code, text = refused(address, "Decrypt", request_of(entry.recipient, entry.enc.encode()))
    assert code == "PERMISSION_DENIED" and "api/prod" in text


def test_a_stalled_server_ends_within_the_deadline(world: Brokered, serve: Serve) -> None:
    bob = world.team.bob
    world.server.delay = 3.0
    address, entry = serve(bob, deadline=0.5), sops_of(bob).metadata.groups[1][0]
    began = time.monotonic()
    code, _ = refused(address, "Decrypt", request_of(entry.recipient, entry.enc.encode()))
    assert code == "DEADLINE_EXCEEDED" and time.monotonic() - began < 2.5


# --- stock sops


def stock(sops: Path, user: User, address: str, *argv: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    full = {
        **user.env, "SOPS_DISABLE_VERSION_CHECK": "1", "SOPS_AGE_KEY_FILE": str(user.age_file),
        "SOPS_KEYSERVICE": address, **env,
    }  # fmt: skip
    return subprocess.run([str(sops), *argv], cwd=user.repo, env=full, capture_output=True, check=False, timeout=60)


def test_stock_sops_reads_and_writes_through_the_agent(world: Brokered, serve: Serve, sops: Path) -> None:
    bob = world.team.bob
    address = serve(bob)
    done = stock(sops, bob, address, "decrypt", "--extract", '["BASE"]', PATH)
    assert done.stdout == b"base-prod", done.stderr
    assert stock(sops, bob, address, "set", PATH, '["BASE"]', '"by stock"').returncode == 0
    bob.ok("sign", "-e", "prod", "--only", "BASE")
    bob.commit()
    assert stock(sops, bob, address, "rotate", "-i", PATH).returncode == 0
    bob.ok("sign", "-e", "prod", "--unchanged")
    bob.ok("verify")


def test_stock_sops_without_its_local_service_fails_closed(world: Brokered, serve: Serve, sops: Path) -> None:
    """Both shares would go to the agent in plaintext; it takes neither."""
    bob = world.team.bob
    address, before = serve(bob), bob.read(PATH)
    bob.write("plain.yaml", "A: canary\n")
    done = stock(
        sops, bob, address, "encrypt", "--enable-local-keyservice=false", "--filename-override", PATH, "plain.yaml"
    )
    assert done.returncode != 0 and b"never encrypts" in done.stderr, done.stderr
    done = stock(sops, bob, address, "rotate", "-i", "--enable-local-keyservice=false", PATH)
    assert done.returncode != 0 and bob.read(PATH) == before


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda key: bytes([key[0] ^ 1]) + key[1:],
    "zero": lambda key: bytes(16),
    "foreign": lambda key: os.urandom(16),
    "short": lambda key: key[:8],
    "empty": lambda key: b"",
}


@pytest.mark.parametrize("how", WRONG)
def test_wrong_answers_change_nothing(world: Brokered, serve: Serve, sops: Path, how: str) -> None:
    alice = world.team.alice
    world.server.wrong = WRONG[how]
    address, before = serve(alice), alice.read(PATH)
    alice.write(".sops.yaml", alice.read(".sops.yaml").replace(world.team.bob.recipient.encode(), b""))
    for argv in (("decrypt", PATH), ("set", PATH, '["A"]', '"1"'), ("updatekeys", "-y", PATH)):
        done = stock(sops, alice, address, *argv)
        assert done.returncode == 128, (argv, done.returncode, done.stderr)
        assert alice.read(PATH) == before


def test_the_command_serves_and_ends(world: Brokered, sops: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    import signal
    import sys

    from tests.support import ROOT

    bob = world.team.bob
    folder = tmp_path_factory.mktemp("cmd")
    os.chmod(folder, 0o700)
    child = subprocess.Popen(
        [sys.executable, "-m", "zopp.cli.main", "agent", "--socket", str(folder / "s")],
        cwd=bob.repo, env={**bob.env, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        address = child.stdout.readline().decode().strip()
        assert address == f"unix://{folder / 's'}"
        assert stock(sops, bob, address, "decrypt", PATH).returncode == 0
    finally:
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=20)
    assert child.returncode == 0, err
