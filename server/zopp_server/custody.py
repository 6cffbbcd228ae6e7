"""Where the server's secrets are: the key encryption key, data encryption keys, environment keys (policy-server.md §6).

An environment's server key is a random X25519 key, encrypted (AES-256-GCM) under the data encryption key of its
workspace, which is wrapped by the key encryption key (KEK). The additional data names the genesis, the environment, the
generation and the KEK, so rows that a database owner swaps do not open. The KEK never enters the database, and the log
key is another secret in another file.

Python cannot reliably wipe memory. What is here lives as long as the process.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from zopp import _fast
from zopp.errors import FormatError, IntegrityError, Unknown, UsageError
from zopp.keys import signing, wire
from zopp.keys.filekey import PrivateKey
from zopp.policy import canonical

_NONCE = 12
_CANARY = b"zopp-canary-v1"


class Kek(Protocol):
    """A key encryption key: a file's here, a key service's in an extra. `id` names it for ever."""

    @property
    def id(self) -> str:
        """Stable and unique, without a secret."""

    def wrap(self, plain: bytes, context: bytes) -> bytes:
        """`plain` (32 bytes) so that only `unwrap` with the same `context` opens it."""

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The inverse. IntegrityError (`kek`) if it does not open."""


def _seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    sealed: bytes = _fast.aesgcm(key).encrypt(nonce, plain, context)
    return nonce + sealed


def _open(key: bytes, sealed: bytes, context: bytes, what: str) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        plain: bytes = _fast.aesgcm(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], context)
    except (InvalidTag, ValueError):
        raise IntegrityError(f"{what} does not open", code="kek") from None
    return plain


class FileKek:
    """32 random bytes in a file that only its owner can read. `repr` shows the id."""

    __slots__ = ("_key", "id")

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise FormatError("a key encryption key has 32 bytes", code="kek")
        self._key = key
        self.id = "file:" + _fast.hmac_sha256(key, b"zopp-kek-id-v1").hex()[:16]

    def __repr__(self) -> str:
        return f"<FileKek {self.id}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a key encryption key is not copied or pickled")

    def wrap(self, plain: bytes, context: bytes) -> bytes:
        """See `Kek`."""
        return _seal(self._key, plain, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See `Kek`."""
        return _open(self._key, wrapped, context, "a data encryption key")


def read_secret(path: Path, what: str) -> bytes:
    """The bytes of a secret's file. Unknown if it is absent, a link, not a file, or open to others than its owner."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        raise Unknown(f"the {what} cannot be read ({exc.strerror})", code="secret.file", place=str(path)) from None
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_mode & 0o007:
            raise Unknown(
                f"the {what} can be read by everybody on this machine, or is no file",
                code="secret.file",
                place=str(path),
                hint=f"chmod 600 {path}",
            )
        return file.read(65536)


def write_secret(path: Path, data: bytes) -> None:
    """A new file with mode 0600. UsageError if there is one: a secret is never overwritten."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError("exists, and a secret is not overwritten", code="secret.exists", place=str(path)) from None
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)


def load_kek(path: Path) -> FileKek:
    """The KEK in a file: 44 characters of base64 (a last newline is ignored). FormatError for anything else."""
    key = wire.base64_decode(read_secret(path, "key encryption key").decode("ascii", "replace").removesuffix("\n"))
    if key is None or len(key) != 32:
        raise FormatError("is not the base64 of 32 bytes", code="kek", place=str(path), hint="openssl rand -base64 32")
    return FileKek(key)


def make_kek(path: Path) -> FileKek:
    """A new KEK in a new file."""
    key = os.urandom(32)
    write_secret(path, wire.base64_encode(key).encode() + b"\n")
    return FileKek(key)


def load_log_key(path: Path) -> signing.SigningKey:
    """The log key: an unprotected OpenSSH Ed25519 key file."""
    return signing.load_openssh(read_secret(path, "log key"))


def make_log_key(path: Path) -> signing.SigningKey:
    """A new log key in a new file."""
    key = signing.generate()
    write_secret(path, signing.dump_openssh(key, "zopp log key"))
    return key


class Dek:
    """The data encryption key of one workspace (`genesis` hex)."""

    __slots__ = ("_genesis", "_key")

    def __init__(self, key: bytes, genesis: str) -> None:
        self._key = key
        self._genesis = genesis

    def __repr__(self) -> str:
        return f"<Dek of {self._genesis[:16]}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a data encryption key is not copied or pickled")

    def _context(self, env: str, generation: int) -> bytes:
        return canonical.encode(["zopp-server-key-v1", self._genesis, env, generation])

    def new_key(self, env: str, generation: int) -> tuple[PrivateKey, bytes]:
        """A new server key of `env` and its sealed form."""
        secret = os.urandom(32)
        return PrivateKey(secret), _seal(self._key, secret, self._context(env, generation))

    def open_key(self, sealed: bytes, env: str, generation: int) -> PrivateKey:
        """The server key that was sealed for exactly this environment and generation. IntegrityError (`kek`)."""
        return PrivateKey(_open(self._key, sealed, self._context(env, generation), f"the server key of {env}"))

    def wrapped(self, kek: Kek) -> bytes:
        """This key under `kek`."""
        return kek.wrap(self._key, _dek_context(self._genesis, kek.id))

    def canary(self) -> bytes:
        """A text known beforehand, sealed: what `check_canary` opens."""
        return _seal(self._key, _CANARY, self._genesis.encode())

    def check_canary(self, sealed: bytes) -> None:
        """IntegrityError (`kek`) unless this is the key that sealed the canary."""
        if _open(self._key, sealed, self._genesis.encode(), "the canary") != _CANARY:
            raise IntegrityError("the canary is another text", code="kek")


def _dek_context(genesis: str, kek: str) -> bytes:
    return canonical.encode(["zopp-dek-v1", genesis, kek])


def new_dek(genesis: str) -> Dek:
    """A new random one."""
    return Dek(os.urandom(32), genesis)


def open_dek(kek: Kek, wrapped: bytes, canary: bytes, genesis: str, kek_id: str) -> Dek:
    """A wrapped one, its canary checked. Unknown if it is under another KEK, IntegrityError if it does not open."""
    if kek_id != kek.id:
        raise Unknown(
            f"the server's keys are under another key encryption key ({kek_id}, and this one is {kek.id})",
            code="kek.other",
            hint="start with that key, or finish: zopp server kek rotate",
        )
    made = Dek(kek.unwrap(wrapped, _dek_context(genesis, kek_id)), genesis)
    made.check_canary(canary)
    return made
