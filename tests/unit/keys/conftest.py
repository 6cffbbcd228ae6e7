"""Keys for these tests are made while they run; none is stored, and none opens anything outside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SSH_KEYGEN = shutil.which("ssh-keygen")
assert SSH_KEYGEN, "OpenSSH is a named need of these tests"


def keygen(*words: str | Path, data: bytes = b"") -> bytes:
    """What `ssh-keygen` prints."""
    done = subprocess.run([str(SSH_KEYGEN), *map(str, words)], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
