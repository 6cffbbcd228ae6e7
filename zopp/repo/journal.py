"""Several files changed as one: a journal that the next command finishes (DESIGN.md, 'contract'). Lean.

The journal holds the new bytes and the hashes of old and new. Once it is durable the change is decided: a crash at any
later moment leaves it to be finished, by writing what was recorded and never by signing what is found. A crash before
that leaves the old state. A file that is neither the recorded old nor the recorded new was touched by someone else in
between; then nothing is overwritten and the command says what to do.
"""

import fcntl
import os

from zopp import _fast
from zopp.errors import FormatError, IntegrityError, Unknown
from zopp.repo import files
from zopp.repo.layout import journal_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from zopp.repo.layout import Checkout

_MAGIC = b"zopp-journal-v1\n"


def _folder(checkout: "Checkout") -> str:
    return os.path.dirname(journal_file(checkout))


class lock:
    """Hold this work tree's lock while files are changed; another zopp waits, or gets Unknown `locked`."""

    def __init__(self, checkout: "Checkout", *, wait: bool = True) -> None:
        self._checkout = checkout
        self._wait = wait
        self._fd = -1

    def __enter__(self) -> None:
        _make_folder(self._checkout)
        path = os.path.join(_folder(self._checkout), "lock")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if self._wait else fcntl.LOCK_NB))
        except BaseException as exc:
            os.close(self._fd)
            if not isinstance(exc, OSError):
                raise
            raise Unknown("another zopp command is changing this working copy", code="locked") from None

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


class settled(lock):
    """The lock, with what an interrupted command left finished first. Errors of `lock` and `recover`."""

    def __enter__(self) -> None:
        super().__enter__()
        try:
            if pending(self._checkout):
                recover(self._checkout)
        except BaseException:
            os.close(self._fd)
            raise


def _encode(changes: "Mapping[str, tuple[bytes | None, bytes | None]]") -> bytes:
    """Records of path, old hash, new length, new bytes; a SHA-256 of all of it ends the file, so a torn write is seen.
    A length of -1 means that the file is removed; an old hash of '-' that there was none."""
    out = [_MAGIC]
    for path, (old, new) in changes.items():
        name = path.encode()
        before = "-" if old is None else _fast.sha512(old).hex()
        out.append(b"%d %s %d\n%s\n" % (len(name), before.encode(), -1 if new is None else len(new), name))
        out.append(new or b"")
        out.append(b"\n")
    body = b"".join(out)
    return body + b"end " + _fast.sha256(body).hex().encode() + b"\n"


def _decode(data: bytes) -> "dict[str, tuple[str, bytes | None]]":
    tail = 4 + 64 + 1
    body, end = data[:-tail], data[-tail:]
    if not body.startswith(_MAGIC) or end != b"end " + _fast.sha256(body).hex().encode() + b"\n":
        raise FormatError("the journal is incomplete", code="journal.torn")
    found: dict[str, tuple[str, bytes | None]] = {}
    at = len(_MAGIC)

    def take(count: int) -> bytes:
        nonlocal at
        taken, end = body[at : at + count], body[at + count : at + count + 1]
        at += count + 1
        if count < 0 or end != b"\n":
            raise FormatError("the journal is incomplete", code="journal.torn")
        return taken

    while at < len(body):
        name_length, before, length = take(body.index(b"\n", at) - at).split(b" ")
        name = take(int(name_length)).decode()
        new = take(max(int(length), 0))
        found[name] = (before.decode(), None if int(length) < 0 else new)
    return found


def _is(data: "bytes | None", recorded: str) -> bool:
    return recorded == ("-" if data is None else _fast.sha512(data).hex())


def write(checkout: "Checkout", changes: "Mapping[str, tuple[bytes | None, bytes | None]]") -> None:
    """Carry out `changes` (path below the root → (old bytes, new bytes); None = absent) as one durable change. The
    caller holds the lock and has read the old bytes under it."""
    changes = {path: pair for path, pair in changes.items() if pair[0] != pair[1]}
    if not changes:
        return
    where = journal_file(checkout)
    _make_folder(checkout)
    if os.path.lexists(where):
        raise Unknown("an interrupted change has to be finished first", code="journal.pending", place=where)
    # Before anything is decided: an editor or git may have been here, or a folder became a link.
    for path, (old, _) in changes.items():
        if files.read_if_there(checkout.root, path) != old:
            raise IntegrityError(
                "was changed while zopp worked on it; nothing is written", code="journal.raced", place=path
            )
    temporary = where + ".new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(_encode(changes))
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, where)
    _sync(_folder(checkout))
    files.replace_all(checkout.root, {path: new for path, (_, new) in changes.items()})
    os.unlink(where)


def _make_folder(checkout: "Checkout") -> None:
    try:
        os.mkdir(_folder(checkout), 0o755)
    except FileExistsError:
        return
    _sync(checkout.git_dir)


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def pending(checkout: "Checkout") -> bool:
    """Whether an unfinished change is recorded."""
    return os.path.exists(journal_file(checkout))


def recover(checkout: "Checkout") -> "list[str]":
    """Finish an unfinished change and return the paths it concerned ([] if there was none). The caller holds the lock.
    IntegrityError `journal.foreign` if a file is neither what the change found nor what it wrote."""
    where = journal_file(checkout)
    try:
        os.unlink(where + ".new")  # a journal that was never decided: the old state stands
    except FileNotFoundError:
        pass
    try:
        with open(where, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return []
    try:
        recorded = _decode(data)
    except (FormatError, ValueError, IndexError):
        raise Unknown(
            "is damaged; compare the files with git, then delete it", code="journal.damaged", place=where
        ) from None
    todo: dict[str, bytes | None] = {}
    for path, (before, new) in recorded.items():
        found = files.read_if_there(checkout.root, path)
        if found != new and not _is(found, before):
            raise IntegrityError(
                "was changed after an interrupted zopp command; nothing is overwritten",
                code="journal.foreign",
                place=path,
                hint=f"look at it with `git diff {path}`, then either `git checkout {path}` or delete {where}",
            )
        # What is new already is written again: whether it was durable cannot be seen.
        todo[path] = new
    files.replace_all(checkout.root, todo)
    os.unlink(where)
    return list(recorded)
