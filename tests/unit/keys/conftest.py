"""Keys for these tests are made while they run; none is stored, and none opens anything outside them."""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from zopp.keys import _pyrage, wire

SSH_KEYGEN = shutil.which("ssh-keygen")
assert SSH_KEYGEN, "OpenSSH is a named need of these tests"


def keygen(*words: str | Path, data: bytes = b"") -> bytes:
    """What `ssh-keygen` prints."""
    done = subprocess.run([str(SSH_KEYGEN), *map(str, words)], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def quick_passphrase_file(payload: bytes, passphrase: str) -> bytes:
    """What pyrage writes in seconds, at a work factor of 2^10: C2SP age.md, written from the specification."""

    def hkdf(salt: bytes, info: bytes, key: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt, info).derive(key)

    def b64(data: bytes) -> str:
        return wire.base64_encode(data).rstrip("=")

    file_key, salt, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
    wrap = hashlib.scrypt(
        passphrase.encode(), salt=b"age-encryption.org/v1/scrypt" + salt, n=1 << 10, r=8, p=1, dklen=32
    )
    body = ChaCha20Poly1305(wrap).encrypt(bytes(12), file_key, None)
    header = f"age-encryption.org/v1\n-> scrypt {b64(salt)} 10\n{b64(body)}\n---"
    mac = hmac.digest(hkdf(b"", b"header", file_key), header.encode(), "sha256")
    assert len(payload) < 1 << 16  # one chunk
    chunk = ChaCha20Poly1305(hkdf(nonce, b"payload", file_key)).encrypt(bytes(11) + b"\1", payload, None)
    binary = f"{header} {b64(mac)}\n".encode() + nonce + chunk
    return wire.pem_encode(binary, "AGE ENCRYPTED FILE", 64).encode()


@pytest.fixture(autouse=True)
def quick_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protect test keys quickly; `test_identity.PROTECTED`, made at import, is pyrage's own."""
    monkeypatch.setattr(_pyrage, "encrypt_passphrase", quick_passphrase_file)


@pytest.fixture(scope="session")
def ssh_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test key made by ssh-keygen, unprotected."""
    path = tmp_path_factory.mktemp("ssh") / "id_ed25519"
    keygen("-q", "-t", "ed25519", "-N", "", "-C", "test key", "-f", path)
    return path


@pytest.fixture(scope="session")
def locked_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test key made by ssh-keygen, under the passphrase 'pass phrase'."""
    path = tmp_path_factory.mktemp("ssh") / "id_locked"
    keygen("-q", "-t", "ed25519", "-N", "pass phrase", "-f", path)
    return path


@pytest.fixture(scope="session")
def rsa_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ssh") / "id_rsa"
    keygen("-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", path)
    return path


@pytest.fixture
def agent(ssh_key: Path) -> Iterator[str]:
    """The socket of a real ssh-agent that holds `ssh_key`."""
    binary = shutil.which("ssh-agent")
    assert binary, "OpenSSH is a named need of these tests"
    folder = tempfile.mkdtemp(prefix="za")  # a socket's path is short
    path = os.path.join(folder, "s")
    running = subprocess.Popen([binary, "-D", "-a", path], stdout=subprocess.PIPE)
    try:
        assert running.stdout is not None
        running.stdout.readline()  # it says where it listens once it does
        env = {"SSH_AUTH_SOCK": path, "PATH": os.environ["PATH"]}
        subprocess.run(["ssh-add", "-q", str(ssh_key)], env=env, check=True, capture_output=True)
        yield path
    finally:
        running.terminate()
        running.wait(10)
        if running.stdout is not None:
            running.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)
