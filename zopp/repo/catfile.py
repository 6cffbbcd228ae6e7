"""One `git cat-file --batch`, started before it is needed, so that git gets ready while zopp works. Lean.

Without the subprocess module, whose import costs more than git does.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class CatFile:
    """A running `git cat-file --batch` in `root`, asked once. OSError if git cannot be started. Whoever makes one
    calls `close`, which also ends a git that was never asked."""

    __slots__ = ("_asked", "_child", "_in", "_out")

    def __init__(self, root: str, environ: "Mapping[str, str]") -> None:
        self._asked: list[bytes] = []
        self._child = 0
        in_read, self._in = os.pipe()
        self._out, out_write = os.pipe()
        actions = [
            (os.POSIX_SPAWN_DUP2, in_read, 0),
            (os.POSIX_SPAWN_DUP2, out_write, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        # A hook's GIT_DIR or GIT_INDEX_FILE would point git at another repository.
        env = {name: value for name, value in environ.items() if not name.startswith("GIT_")}
        # Without replacements, which show other bytes than those that were committed and signed.
        argv = ["git", "--no-replace-objects", "-C", root, "cat-file", "--batch"]
        try:
            self._child = os.posix_spawnp("git", argv, env, file_actions=actions)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(in_read)
            os.close(out_write)

    def ask(self, objects: "list[bytes]") -> None:
        """Ask, once, for `objects` (revisions, and `REV:PATH` for blobs, without a newline; a few hundred bytes)."""
        self._asked = objects
        try:
            os.write(self._in, b"".join([name + b"\n" for name in objects]))  # fits the pipe: never blocks
        except BrokenPipeError:
            self._asked = []  # git ended by itself; its status is no 0
        os.close(self._in)
        self._in = -1

    def answers(self) -> "list[bytes | None] | None":
        """What each object asked for holds, None for what does not exist; None as a whole if git says anything else."""
        parts = []
        while part := os.read(self._out, 1 << 16):
            parts.append(part)
        if self.close() != 0:
            return None
        try:
            return _parse(self._asked, b"".join(parts))
        except ValueError:
            return None

    def close(self) -> int:
        """End it; git's wait status, 0 also when it has been closed before."""
        for fd in (self._in, self._out):
            if fd >= 0:
                os.close(fd)
        self._in = self._out = -1
        child, self._child = self._child, 0
        return os.waitpid(child, 0)[1] if child else 0


def _parse(objects: "list[bytes]", data: bytes) -> "list[bytes | None] | None":
    """ValueError or None if `data` is not an answer for each of `objects`."""
    answers: list[bytes | None] = []
    at = 0
    for name in objects:
        end = data.index(b"\n", at)
        header = data[at:end]
        at = end + 1
        if header == name + b" missing":
            answers.append(None)
            continue
        _, kind, size = header.split(b" ")
        if kind != (b"blob" if b":" in name else b"commit"):
            return None
        answers.append(data[at : at + int(size)])
        at += int(size) + 1
    return answers if at == len(data) else None
