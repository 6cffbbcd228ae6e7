"""Files that were named on the line: reading them, and what to say where that fails."""

import errno
import os
import shlex

from zopp.cli import fast
from zopp.cli.nearest import nearest
from zopp.errors import UsageError


def read_file(cwd: str, path: str, most: int = -1) -> bytes:
    """At most `most` bytes of the file `path`, `-` being standard input. UsageError `file` that says what is near."""
    if path == "-":
        data = fast.stdin_bytes()
        return data if most < 0 else data[:most]
    try:
        with open(os.path.join(cwd, path), "rb") as file:
            return file.read(most)
    except (OSError, ValueError) as exc:
        raise unreadable(exc, path, cwd) from None


def unreadable(exc: OSError | ValueError, path: str, cwd: str = "", code: str = "file") -> UsageError:
    """Why a named file could not be read: the system's reason, and the next thing to type."""
    if isinstance(exc, ValueError):  # open has no other for a path
        return UsageError("cannot be read (no file has a NUL byte in its name)", code=code)
    if exc.errno == errno.EISDIR:
        hint = f"name a file in it: ls {shlex.quote(path)}"
    elif exc.errno == errno.EACCES:
        hint = f"see who may read it with: ls -l {shlex.quote(path)}"
    else:
        hint = near_path(cwd, path)
    return UsageError(f"cannot be read ({exc.strerror})", code=code, place=path, hint=hint)


def near_path(cwd: str, path: str) -> str:
    """What to say about a path that leads nowhere: the name that is most like it, or where to look."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        names = os.listdir(os.path.join(cwd, folder) or ".")
    except (OSError, ValueError):
        return f"there is no folder {folder}"
    near = nearest(name, names)
    if near is not None:
        return f"did you mean {shlex.quote(os.path.join(folder, near))}?"
    return f"see what is there with: ls {shlex.quote(folder or '.')}"
