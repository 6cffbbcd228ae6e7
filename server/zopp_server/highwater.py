"""The high-water file: what this server has made durable, on its own disk (policy-server.md §5.8, A23).

After each commit and before its answers one line a log is appended and fsynced: size, root, policy head. At start and
under the lock of each batch the database must equal it or consistently extend it; a database that is lower or differs
was rolled back, and nothing is released on it. The file lies outside the database's volume and its backups.

A torn last line belongs to a batch that was never answered and is dropped.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zopp.errors import FormatError, IntegrityError, Unknown
from zopp.policy import canonical, fields as f

COMPACT_AT = 1 << 20
"""Bytes from which on the file is written anew with one line a log."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What was durable of one log: its size, root (32 bytes), and the workspace's policy seq and head ("" if none)."""

    size: int
    root: bytes
    policy_seq: int
    policy_head: str


_LINE = f.record(
    {
        "log": f.Field(lambda v, place, out: None if type(v) is str else out.append((place, "not a text")), {}),
        "policy": f.record({"head": f.nullable(f.HEX32), "seq": f.SEQ}),
        "root": f.BYTES32,
        "size": f.SEQ,
    }
)


def _line(log: str, mark: Mark) -> bytes:
    return (
        canonical.encode(
            {
                "log": log,
                "policy": {"head": mark.policy_head or None, "seq": mark.policy_seq},
                "root": canonical.b64(mark.root),
                "size": mark.size,
            }
        )
        + b"\n"
    )


def _parse(line: bytes) -> tuple[str, Mark]:
    value = canonical.decode(line)
    problems: list[f.Problem] = []
    _LINE.check(value, "mark", problems)
    if problems:
        raise FormatError("not a high-water mark", code="highwater")
    policy = value["policy"]
    return value["log"], Mark(value["size"], canonical.unb64(value["root"], 32), policy["seq"], policy["head"] or "")


class HighWater:
    """The file, open and locked: one server a file. `marks`: log id -> the newest mark."""

    def __init__(self, path: Path, *, new: bool = False) -> None:
        """Open it; `new`: there must be none yet, and one is made. Unknown (`highwater.missing`) where there is none,
        Unknown (`highwater.busy`) if another server holds it, IntegrityError if a line is not one of ours."""
        self._path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags | (os.O_CREAT | os.O_EXCL if new else 0), 0o600)
        except FileNotFoundError:
            raise Unknown(
                "the high-water file is missing: this host cannot tell whether the database was rolled back",
                code="highwater.missing",
                place=str(path),
                hint="zopp server restore --checkpoint NOTE",
            ) from None
        except OSError as exc:
            raise Unknown(f"cannot be opened ({exc.strerror})", code="highwater", place=str(path)) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise Unknown("another server uses this data folder", code="highwater.busy", place=str(path)) from None
        self.marks: dict[str, Mark] = {}
        self._size = 0
        self._broken = False
        try:
            if new:
                self._sync_folder()
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        with open(self._path, "rb") as file:
            data = file.read()
        lines = data.split(b"\n")
        torn = lines.pop()
        for number, line in enumerate(lines, 1):
            try:
                log, mark = _parse(line)
            except FormatError:
                raise IntegrityError(
                    "a line of the high-water file is damaged",
                    code="highwater.damaged",
                    place=f"{self._path}:{number}",
                    hint="zopp server restore --checkpoint NOTE",
                ) from None
            self.marks[log] = mark
        if torn:
            os.ftruncate(self._fd, len(data) - len(torn))
            os.fsync(self._fd)
        self._size = len(data) - len(torn)

    def advance(self, marks: Mapping[str, Mark]) -> None:
        """Make `marks` durable: returns after fsync. If it fails (disk full), nothing counts as durable any more and
        every later call fails too until the server is started again: Unknown (`highwater.write`)."""
        if self._broken:
            raise Unknown("the high-water file could not be written before", code="highwater.write")
        data = b"".join(_line(log, mark) for log, mark in marks.items())
        try:
            if self._size + len(data) > COMPACT_AT:
                self._compact({**self.marks, **marks})
            else:
                if os.write(self._fd, data) != len(data):
                    raise OSError(28, "No space left on device")
                self._sync()
                self._size += len(data)
        except OSError as exc:
            self._mend()
            raise Unknown(f"the high-water file cannot be written ({exc.strerror})", code="highwater.write") from None
        self.marks.update(marks)

    def _sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError:
            self._broken = True  # after a failed fsync nobody knows what the disk has
            raise

    def _mend(self) -> None:
        """After a failed write: back to the last whole line, so that a full disk is no broken file. What was appended
        to the database stays ahead of the marks, which is the harmless side."""
        try:
            os.ftruncate(self._fd, self._size)
            os.fsync(self._fd)
        except OSError:
            self._broken = True

    def _compact(self, marks: Mapping[str, Mark]) -> None:
        fresh = self._path.with_name(self._path.name + ".new")
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = b"".join(_line(log, mark) for log, mark in marks.items())
            if os.write(fd, data) != len(data):
                raise OSError(28, "No space left on device")
            os.fsync(fd)
            os.rename(fresh, self._path)
            self._broken = True  # until the folder is durable: which of the two files is the one, nobody knows
            self._sync_folder()
            self._broken = False
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._size = fd, len(data)

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)
