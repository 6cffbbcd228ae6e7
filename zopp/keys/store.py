"""The key store of one user: several named keys, one in use. Not lean; reading a key on the fast path is `find`.

Files are made 0600 in a 0700 folder, appear whole or not at all, and are never overwritten. A key is an age identity
and an OpenSSH Ed25519 key of one name (`keyfiles` has the layout). What can be read by others is refused (S40).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zopp.errors import NotFound, Unknown, UsageError, ZoppError
from zopp.keys import agefile, identity, keyfiles, recovery, signing


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyInfo:
    """The public side of a stored key. `signing_public` is None if there is no readable signing key."""

    name: str
    recipient: str
    signing_public: bytes | None
    in_use: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedKey:
    """A stored key, opened. Neither part shows itself when printed."""

    name: str
    identity: identity.Identity
    signing: signing.SigningKey | None


class Store:
    """The keys under `config_dir`, which is zopp's own (usually ~/.config/zopp)."""

    def __init__(self, config_dir: str) -> None:
        self._config_dir = config_dir
        self._folder = Path(keyfiles.folder(config_dir))

    def names(self) -> list[str]:
        """The names of complete keys, sorted."""
        return keyfiles.listed(self._config_dir)

    def current(self) -> str | None:
        """The name in use; the only key counts as chosen."""
        return keyfiles.current(self._config_dir)

    def list(self) -> list[KeyInfo]:
        """What is public about every key. Opens nothing; a public half that is missing or damaged is Unknown."""
        current = self.current()
        return [self._info(name, current) for name in self.names()]

    def _info(self, name: str, current: str | None) -> KeyInfo:
        path = self._folder / f"{name}.age.pub"
        try:
            recipient = agefile.canonical_recipient(self._public(path))
        except ZoppError:
            # an unprotected key says it itself
            recipient = self._identity(name, None).recipient
        try:
            public = signing.parse_public_line(self._public(self._folder / f"{name}.ssh.pub"))
        except NotFound:
            public = None
        return KeyInfo(name=name, recipient=recipient, signing_public=public, in_use=name == current)

    def _public(self, path: Path) -> str:
        return keyfiles.read_private(str(path), strict=False).decode("utf-8", "replace").removesuffix("\n")

    def create(self, name: str, passphrase: str | None = None, *, signing_passphrase: str | None = None) -> KeyInfo:
        """Make a new identity and signing key as `name`; the first key made is in use. `passphrase` protects the
        identity, `signing_passphrase` the signing key (give the same one for both if that is wanted).

        Raises UsageError for a bad name and if a file of that name is there, Unknown if the folder is unsafe.
        """
        secret, _ = identity.generate()
        return self.add(name, secret, signing.generate(), passphrase, signing_passphrase=signing_passphrase)

    def add(
        self,
        name: str,
        secret: str,
        signer: signing.SigningKey | None,
        passphrase: str | None = None,
        *,
        signing_passphrase: str | None = None,
    ) -> KeyInfo:
        """Store an identity (`AGE-SECRET-KEY-1…`) and a signing key that exist already; otherwise as `create`."""
        keyfiles.check_name(name)
        made = identity.from_secret(secret, name)
        text = f"# public key: {made.recipient}\n{secret}\n"
        files = {".age.pub": made.recipient.encode() + b"\n"}
        if signer is not None:
            files[".ssh.pub"] = signing.public_line(signer.public, f"zopp {name}").encode() + b"\n"
            files[".ssh"] = signing.dump_openssh(signer, f"zopp {name}", signing_passphrase)
        # last: it is what makes the key exist
        files[".age"] = text.encode() if passphrase is None else identity.protect(text, passphrase)
        self._prepare(name)
        first = not self.names()
        for suffix, data in files.items():
            self._write_new(self._folder / (name + suffix), data)
        if first:
            self.use(name)
        return self._info(name, self.current())

    def use(self, name: str) -> None:
        """Make `name` the key in use. Raises NotFound with the names there are."""
        self._require(name)
        self._safe_folder()
        beside = self._temporary(self._folder / keyfiles.CURRENT, name.encode() + b"\n")
        os.replace(beside, self._folder / keyfiles.CURRENT)
        self._sync()

    def load(self, name: str | None = None, ask: Callable[[str], str] | None = None) -> LoadedKey:
        """Open `name` (None: the key in use); `ask` is called with the file's path for each passphrase needed.

        Raises NotFound, Unknown (`locked`, `key_mode` with the fix as hint), FormatError for a damaged file.
        """
        name = name if name is not None else self.current()
        if name is None:
            raise NotFound("no key in use", code="no_key", candidates=self.names())
        self._require(name)
        return LoadedKey(name=name, identity=self._identity(name, ask), signing=self._signer(name, ask))

    def _signer(self, name: str, ask: Callable[[str], str] | None) -> signing.SigningKey | None:
        path = str(self._folder / f"{name}.ssh")
        try:
            return signing.load_openssh(keyfiles.read_private(path), None if ask is None else lambda: ask(path))
        except NotFound:
            return None
        except ZoppError as exc:
            exc.place = exc.place or path
            raise

    def _identity(self, name: str, ask: Callable[[str], str] | None) -> identity.Identity:
        path = str(self._folder / f"{name}.age")
        data = keyfiles.read_private(path)
        return identity.parse(data, path, None if ask is None else lambda: ask(path), ssh=False)[0]

    def export_recovery(self, name: str, passphrase: str, ask: Callable[[str], str] | None = None) -> bytes:
        """Both private keys of `name` in one passphrase-encrypted file to keep offline (its form: `recovery`)."""
        path = str(self._folder / f"{keyfiles.check_name(name)}.age")
        self._require(name)
        data = keyfiles.read_private(path)
        secret = identity.secret_text(data, path, None if ask is None else lambda: ask(path))
        return recovery.seal(secret, self._signer(name, ask), name, passphrase)

    def import_recovery(
        self,
        data: bytes,
        recovery_passphrase: Callable[[], str],
        name: str,
        passphrase: str | None = None,
        *,
        signing_passphrase: str | None = None,
    ) -> KeyInfo:
        """Store the keys of a recovery file as `name`, protected as in `create`."""
        secret, signer = recovery.open_sealed(data, recovery_passphrase)
        return self.add(name, secret, signer, passphrase, signing_passphrase=signing_passphrase)

    def _require(self, name: str) -> None:
        keyfiles.check_name(name)
        if name not in self.names():
            raise NotFound(f"no key named {name}", code="no_key", candidates=self.names())

    def _prepare(self, name: str) -> None:
        """The folder, made if need be, with no file of `name` in it."""
        os.makedirs(self._config_dir, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._folder, 0o700)
        self._safe_folder()
        for suffix in (".age", ".age.pub", ".ssh", ".ssh.pub"):
            path = self._folder / (name + suffix)
            if os.path.lexists(path):
                whole = (
                    "there is a key of that name" if suffix == ".age" else "a file of an unfinished key is in the way"
                )
                raise UsageError(whole, code="key_exists", place=str(path))

    def _safe_folder(self) -> None:
        """Only its owner may change what is in the key folder, or a key could be swapped for another."""
        try:
            mode = os.lstat(self._folder).st_mode
        except OSError:
            raise NotFound("there is no key folder", code="no_key", place=str(self._folder)) from None
        if not stat.S_ISDIR(mode) or mode & 0o077:
            raise Unknown(
                "the key folder must be a folder that is open to its owner only",
                code="key_mode",
                place=str(self._folder),
                hint=f"chmod 700 {keyfiles.quote(str(self._folder))}",
            )

    def _temporary(self, target: Path, data: bytes) -> Path:
        beside = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(file.fileno(), 0o600)  # a umask may have taken from it; it never adds
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            os.unlink(beside)
            raise
        return beside

    def _write_new(self, target: Path, data: bytes) -> None:
        beside = self._temporary(target, data)
        try:
            os.link(beside, target)  # unlike a rename, fails if somebody made the name meanwhile
        except FileExistsError:
            raise UsageError("there is a key of that name", code="key_exists", place=str(target)) from None
        finally:
            os.unlink(beside)
        self._sync()

    def _sync(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
