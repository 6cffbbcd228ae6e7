"""Reading and replacing files below a root without following a link (attack A16). Lean.

Every component is opened with O_NOFOLLOW, so a folder exchanged for a symlink fails instead of leading outside; a file
is read once and callers hash and parse those same bytes. A replaced file appears whole or not at all.
"""

import os

from zopp.errors import IntegrityError, NotFound, Unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# A secrets file beyond this is refused, not read: the largest supported is about 50,000 values.
MAX_BYTES = 64 << 20

# Temporary files open at a time: macOS allows 256 descriptors.
_BATCH = 64
_WORKERS = 8

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def check_path(path: str) -> None:
    """Refuse what is no plain relative POSIX path: IntegrityError `path.unsafe`. Two spellings of one file (a
    trailing dot component, NFD, a backslash) are refused, so that a name in a manifest means one file."""
    why = ""
    parts = path.split("/")
    if not path or path.startswith("/"):
        why = "is not relative"
    elif any(part in ("", ".", "..") for part in parts):
        why = "has an empty, '.' or '..' component"
    elif "\\" in path or (not path.isprintable() and any(ord(ch) < 0x20 or ord(ch) == 0x7F for ch in path)):
        why = "holds a backslash or a control character"
    elif any(part.rstrip(". ").casefold() in (".git", "git~1") for part in parts):
        why = "leads into git's own folder"
    elif not path.isascii():
        import unicodedata

        if unicodedata.normalize("NFC", path) != path:
            why = "is not in Unicode normal form C"
    if why:
        raise IntegrityError(f"path {path!r} {why}", code="path.unsafe")


def _open_parent(root: str, path: str, *, made: "set[str] | None" = None) -> "tuple[int, str]":
    """A descriptor of the folder that holds `path` below `root`, and the last component. With `made`, missing folders
    are created and the folders that got them added to it."""
    check_path(path)
    *folders, name = path.split("/")
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for at, folder in enumerate(folders):
            try:
                below = os.open(folder, _DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                if made is None:
                    raise
                os.mkdir(folder, 0o777, dir_fd=fd)
                made.add("/".join(folders[:at]))
                below = os.open(folder, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
    except FileNotFoundError:
        os.close(fd)
        raise NotFound("no such file", code="file.missing", place=path) from None
    except PermissionError as exc:
        os.close(fd)
        raise Unknown(f"its folder cannot be entered ({exc.strerror})", code="file.unreadable", place=path) from None
    except OSError:
        os.close(fd)
        # ELOOP on Linux, ENOTDIR when O_DIRECTORY meets a link
        raise IntegrityError("a folder on the way is a symlink or no folder", code="path.link", place=path) from None
    except BaseException:
        os.close(fd)
        raise
    return fd, name


def _open_file(root: str, path: str) -> "tuple[int, int]":
    """(descriptor, size) of the regular file `path`; errors as in `read`, size included."""
    parent, name = _open_parent(root, path)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=parent)
    except FileNotFoundError:
        raise NotFound("no such file", code="file.missing", place=path) from None
    except OSError as exc:
        import errno

        if exc.errno in (errno.ELOOP, errno.EMLINK):
            raise IntegrityError("is a symlink", code="path.link", place=path) from None
        raise Unknown(f"cannot be read ({exc.strerror})", code="file.unreadable", place=path) from None
    finally:
        os.close(parent)
    info = os.fstat(fd)
    if (info.st_mode & 0o170000) != 0o100000:
        os.close(fd)
        raise IntegrityError("is no regular file", code="path.link", place=path)
    if info.st_size > MAX_BYTES:
        os.close(fd)
        raise Unknown("is larger than zopp reads (64 MiB)", code="file.too_large", place=path)
    return fd, info.st_size


def read(root: str, path: str) -> bytes:
    """The bytes of the regular file `path` below `root`. NotFound `file.missing`; IntegrityError `path.link` if it or
    a folder on the way is a symlink; Unknown if it cannot be read or is larger than MAX_BYTES."""
    fd, _ = _open_file(root, path)
    try:
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    except OSError as exc:
        raise Unknown(f"cannot be read ({exc.strerror})", code="file.unreadable", place=path) from None
    finally:
        os.close(fd)


def read_tail(root: str, path: str, count: int) -> bytes:
    """The last `count` bytes of a file, all of it if it is shorter; errors as in `read`."""
    fd, size = _open_file(root, path)
    try:
        return os.pread(fd, count, max(0, size - count))
    except OSError as exc:
        raise Unknown(f"cannot be read ({exc.strerror})", code="file.unreadable", place=path) from None
    finally:
        os.close(fd)


def read_if_there(root: str, path: str) -> "bytes | None":
    """Like `read`, with None for a missing file."""
    try:
        return read(root, path)
    except NotFound:
        return None


def replace_all(root: str, changes: "Mapping[str, bytes | None]") -> None:
    """Put every file's new bytes at its path, None removes it, all of it durable on return. In batches: temporary files
    beside their targets are written, then synced, then renamed, so that a power cut leaves each file old or new and
    never half. An existing file keeps its mode. Not atomic as a whole: that is the journal's work."""
    folders: set[str] = set()
    batch: list[tuple[str, bytes]] = []
    for path, data in changes.items():
        check_path(path)
        if data is None:
            remove(root, path)
            folders.add(path.rpartition("/")[0])
        else:
            batch.append((path, data))
            if len(batch) == _BATCH:
                _replace_batch(root, batch, folders)
                batch = []
    _replace_batch(root, batch, folders)
    _sync_folders(root, folders)


def replace(root: str, path: str, data: bytes) -> None:
    """Put `data` at `path`, durable; `replace_all` for one file."""
    replace_all(root, {path: data})


def _replace_batch(root: str, batch: "list[tuple[str, bytes]]", folders: "set[str]") -> None:
    """`folders` collects those whose entries changed."""
    parents: dict[str, int] = {}
    staged: list[tuple[int, str]] = []
    fds: list[int] = []
    path = ""
    try:
        for path, data in batch:
            folder, _, name = path.rpartition("/")
            if folder not in parents:
                parents[folder], _ = _open_parent(root, path, made=folders)
                folders.add(folder)
            staged.append((parents[folder], name))
            fds.append(_stage(parents[folder], name, data, path))
        _sync(fds)
        for parent, name in staged:
            os.rename(_beside(name), name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException as exc:
        for parent, name in staged:
            try:
                os.unlink(_beside(name), dir_fd=parent)
            except OSError:
                pass
        if isinstance(exc, OSError):
            raise Unknown(f"cannot be written ({exc.strerror})", code="file.unwritable", place=path) from None
        raise
    finally:
        for fd in fds:
            os.close(fd)
        for parent in parents.values():
            os.close(parent)


def _beside(name: str) -> str:
    """The temporary file of `name`. One name per file: the caller holds the lock, and what a crash leaves the next
    write takes away."""
    return f".{name}.zopp-new"


def _stage(parent: int, name: str, data: bytes, path: str) -> int:
    """A descriptor of the temporary file beside `name`, written and not yet synced."""
    try:
        os.unlink(_beside(name), dir_fd=parent)
    except FileNotFoundError:
        pass
    mode = -1
    try:
        old = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        if (old & 0o170000) != 0o100000:
            raise IntegrityError("is a symlink or no regular file", code="path.link", place=path)
        mode = old & 0o777
    except FileNotFoundError:
        pass
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(_beside(name), flags, 0o666 if mode < 0 else mode, dir_fd=parent)
    try:
        if mode >= 0:
            os.fchmod(fd, mode)
        _write(fd, data)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _sync(fds: "list[int]") -> None:
    """fsync every descriptor. Of many, eight at a time, since a file system commits together what waits together: a
    quarter of the time for 64 files."""
    if len(fds) < _WORKERS:
        # All are on their way before the first is waited for, so that the file system may commit them together.
        if hasattr(os, "posix_fadvise"):
            for fd in fds:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for fd in fds:
            os.fsync(fd)
        return
    from _thread import allocate_lock, start_new_thread

    failed: list[BaseException] = []

    def work(part: "list[int]") -> None:
        try:
            for fd in part:
                os.fsync(fd)
        except BaseException as exc:  # handed to the caller's thread
            failed.append(exc)

    def beside(part: "list[int]", done: "Any") -> None:
        try:
            work(part)
        finally:
            done.release()

    waiting = []
    for number in range(1, _WORKERS):
        done = allocate_lock()
        done.acquire()
        waiting.append(done)
        start_new_thread(beside, (fds[number::_WORKERS], done))
    work(fds[::_WORKERS])
    for done in waiting:
        done.acquire()
    if failed:
        raise failed[0]


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def remove(root: str, path: str) -> None:
    """Delete `path` if it is there."""
    try:
        parent, name = _open_parent(root, path)
    except NotFound:
        return
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    finally:
        os.close(parent)


def _sync_folders(root: str, folders: "set[str]") -> None:
    """fsync each folder, so that renames and removals in it survive a power cut."""
    for folder in sorted(folders):
        try:
            fd = os.open(os.path.join(root, folder) if folder else root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def replace_private(path: str, data: bytes) -> None:
    """Put `data` at an absolute `path` of the user's own folders: 0600 in 0700 folders, whole or not at all."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    temporary = f"{path}.zopp-{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            _write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
