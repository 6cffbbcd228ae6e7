"""Reading and replacing files below a root without following a link (attack A16). Lean.

Every component is opened with O_NOFOLLOW, so a folder exchanged for a symlink fails instead of leading outside; a file
is read once and callers hash and parse those same bytes. A replaced file appears whole or not at all.
"""

import os

from zopp.errors import IntegrityError, NotFound, Unknown

# A secrets file beyond this is refused, not read: the largest supported is about 50,000 values.
MAX_BYTES = 64 << 20

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
    elif "\\" in path or any(ord(ch) < 0x20 or ord(ch) == 0x7F for ch in path):
        why = "holds a backslash or a control character"
    elif any(part.rstrip(". ").casefold() in (".git", "git~1") for part in parts):
        why = "leads into git's own folder"
    elif not path.isascii():
        import unicodedata

        if unicodedata.normalize("NFC", path) != path:
            why = "is not in Unicode normal form C"
    if why:
        raise IntegrityError(f"path {path!r} {why}", code="path.unsafe")


def _open_parent(root: str, path: str, *, create: bool) -> "tuple[int, str]":
    """A descriptor of the folder that holds `path` below `root`, and the last component."""
    check_path(path)
    *folders, name = path.split("/")
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            try:
                below = os.open(folder, _DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(folder, 0o777, dir_fd=fd)
                below = os.open(folder, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
    except OSError as exc:
        os.close(fd)
        if isinstance(exc, FileNotFoundError):
            raise NotFound("no such file", code="file.missing", place=path) from None
        # ELOOP on Linux, ENOTDIR when O_DIRECTORY meets a link
        raise IntegrityError("a folder on the way is a symlink or no folder", code="path.link", place=path) from None
    return fd, name


def read(root: str, path: str) -> bytes:
    """The bytes of the regular file `path` below `root`. NotFound `file.missing`; IntegrityError `path.link` if it or
    a folder on the way is a symlink; Unknown if it cannot be read or is larger than MAX_BYTES."""
    parent, name = _open_parent(root, path, create=False)
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
    try:
        info = os.fstat(fd)
        if (info.st_mode & 0o170000) != 0o100000:
            raise IntegrityError("is no regular file", code="path.link", place=path)
        if info.st_size > MAX_BYTES:
            raise Unknown("is larger than zopp reads (64 MiB)", code="file.too_large", place=path)
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
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


def replace(root: str, path: str, data: bytes, *, durable: bool = True, mode: int = 0o666) -> None:
    """Put `data` at `path`: a temporary file beside it, fsync (if `durable`), rename. An existing file keeps its mode;
    a new one gets `mode` less the umask. The folder is not synced: `sync_folders` does that once for many files."""
    parent, name = _open_parent(root, path, create=True)
    # One name per file: the caller holds the lock, and a crash leaves at most one, which the next write takes away.
    temporary = f".{name}.zopp-new"
    try:
        try:
            os.unlink(temporary, dir_fd=parent)
        except FileNotFoundError:
            pass
        try:
            old = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if (old.st_mode & 0o170000) != 0o100000:
                raise IntegrityError("is a symlink or no regular file", code="path.link", place=path)
            mode = old.st_mode & 0o777
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=parent)
            os.fchmod(fd, mode)
        except FileNotFoundError:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=parent)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(temporary, dir_fd=parent)
            raise
    except OSError as exc:
        raise Unknown(f"cannot be written ({exc.strerror})", code="file.unwritable", place=path) from None
    finally:
        os.close(parent)


def remove(root: str, path: str) -> None:
    """Delete `path` if it is there."""
    try:
        parent, name = _open_parent(root, path, create=False)
    except NotFound:
        return
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    finally:
        os.close(parent)


def sync_folders(root: str, paths: "list[str]") -> None:
    """fsync each folder that holds one of `paths`, so that the renames survive a power cut."""
    for folder in sorted({path.rpartition("/")[0] for path in paths}):
        full = os.path.join(root, folder) if folder else root
        try:
            fd = os.open(full, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
