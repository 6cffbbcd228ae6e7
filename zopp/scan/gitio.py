"""git for the guard: plumbing started without the subprocess module, in the environment that a hook gave. Lean.

Other than `zopp.repo.git` this keeps GIT_DIR, GIT_INDEX_FILE and the quarantine's variables: in a hook they say what is
being judged (spec guard 2). What could show other bytes than git stores is turned off (spec guard 4.1).
"""

import os

from zopp.errors import Unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_DROPPED = ("GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_PAGER", "GIT_LITERAL_PATHSPECS", "GIT_ICASE_PATHSPECS",
            "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ATTR_SOURCE", "GIT_REPLACE_REF_BASE")  # fmt: skip
# How much is asked of `cat-file` before its answers are read: less than a pipe holds, so neither side ever waits.
_ASK = 30_000
_READ = 1 << 20
# Bytes of an object that is handed over in one piece; a larger one is streamed (spec guard 4.8).
WHOLE = 4 << 20


def environment(environ: "Mapping[str, str]") -> "dict[str, str]":
    """The environment for git."""
    env = {name: value for name, value in environ.items() if name not in _DROPPED}
    env.update(GIT_NO_REPLACE_OBJECTS="1", GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0", GIT_NO_LAZY_FETCH="1",
               LC_ALL="C")  # fmt: skip
    return env


class Git:
    """git in `folder` (None: where this process stands)."""

    __slots__ = ("_env", "_head", "started")

    def __init__(self, folder: "str | None", environ: "Mapping[str, str]") -> None:
        self._env = environment(environ)
        self._head = ["git", "--no-pager"] + ([] if folder is None else ["-C", folder])
        self.started = 0

    def start(self, *args: str, stdin: "int | None" = None, quiet: bool = False) -> "tuple[int, int]":
        """(pid, reading end of its stdout). `stdin`: a descriptor, closed here; None: /dev/null. Its stderr is ours
        unless `quiet`. Unknown `git.missing` without git."""
        out_read, out_write = os.pipe()
        actions: "list[Any]" = [(os.POSIX_SPAWN_DUP2, out_write, 1)]
        if stdin is None:
            actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, stdin, 0))
        if quiet:
            actions.append((os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0))
        try:
            child = os.posix_spawnp("git", [*self._head, *args], self._env, file_actions=actions)
        except OSError:
            os.close(out_read)
            raise Unknown("git is not installed", code="git.missing") from None
        finally:
            os.close(out_write)
            if stdin is not None:
                os.close(stdin)
        self.started += 1
        return child, out_read

    def finish(self, running: "tuple[int, int]", what: str, *, check: bool = True) -> "bytes | None":
        """All that a started git prints. Unknown `git.failed` if it fails (None without `check`)."""
        child, out = running
        parts = []
        try:
            while part := os.read(out, _READ):
                parts.append(part)
        finally:
            os.close(out)
            status = os.waitpid(child, 0)[1]
        if status != 0:
            if check:
                raise Unknown(f"git {what} failed", code="git.failed")
            return None
        return b"".join(parts)

    def output(self, *args: str, data: "bytes | None" = None) -> bytes:
        """What git prints. `data` (less than a pipe holds, 64 KB) is its standard input."""
        found = self.finish(self.start(*args, stdin=None if data is None else _fed(data)), args[0])
        assert found is not None
        return found

    def asked(self, *args: str) -> "bytes | None":
        """What git prints, None if it says no; its stderr is dropped."""
        return self.finish(self.start(*args, quiet=True), args[0], check=False)

    def config(self, key: str) -> "str | None":
        """A configuration value, None if unset."""
        found = self.asked("config", "--get", key)
        return None if found is None else found.decode("utf-8", "replace").rstrip("\n")


def _fed(data: bytes) -> int:
    """A descriptor from which `data` can be read: a pipe where it fits, else an unlinked file."""
    if len(data) <= _ASK:
        ends = os.pipe()
        os.write(ends[1], data)
        os.close(ends[1])
        return ends[0]
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return os.dup(file.fileno())


class Object:
    """One object: hex `id`, `kind` (blob, tree, commit, tag), its `data`."""

    __slots__ = ("data", "id", "kind")

    def __init__(self, object_id: str, kind: str, data: bytes) -> None:
        self.id = object_id
        self.kind = kind
        self.data = data


class Objects:
    """One `git cat-file --batch`, for a whole run. Whoever makes one calls `close`."""

    __slots__ = ("_at", "_buffer", "_busy", "_child", "_git", "_in", "_out")

    def __init__(self, git: Git) -> None:
        self._git = git
        self._child = 0
        self._in = self._out = -1
        # What was read of the answers, and up to where it has been used.
        self._buffer = b""
        self._at = 0
        self._busy = False

    def start(self) -> None:
        """Start it before it is needed, so that git gets ready while zopp works."""
        if self._child == 0:
            in_read, self._in = os.pipe()
            self._child, self._out = self._git.start("cat-file", "--batch", stdin=in_read)

    def get(self, names: "list[bytes]", large: "Callable[[int, str, int, Any], None] | None" = None) -> "list[Any]":
        """An Object for each name (ids or revisions like `:path`, without a newline), None for what does not exist.
        A blob larger than `WHOLE` is given to `large(index, id, size, blocks)` as an iterator of blocks and stands as
        None in the list; without `large` it is Unknown. Unknown `git.failed` if git says anything else."""
        if self._busy:
            raise RuntimeError("asked while an object streams")
        self.start()
        answers: "list[Any]" = []
        at = 0
        while at < len(names):
            end, size = at, 0
            while end < len(names) and (end == at or size + len(names[end]) < _ASK):
                size += len(names[end]) + 1
                end += 1
            asked = b"".join([name + b"\n" for name in names[at:end]])
            if asked.count(b"\n") != end - at:
                raise Unknown("a name with a line end was asked of git", code="git.failed")
            try:
                os.write(self._in, asked)
            except BrokenPipeError:
                raise Unknown("git cat-file failed", code="git.failed") from None
            for name in names[at:end]:
                answers.append(self._answer(name, len(answers), large))
            at = end
        return answers

    def _more(self, size: int = _READ) -> None:
        part = os.read(self._out, size)
        if not part:
            raise Unknown("git cat-file ended early", code="git.failed")
        self._buffer = self._buffer[self._at :] + part
        self._at = 0

    def _answer(self, name: bytes, index: int, large: "Any") -> "Object | None":
        while (end := self._buffer.find(b"\n", self._at)) < 0:
            self._more()
        header = self._buffer[self._at : end]
        self._at = end + 1
        if header == name + b" missing":
            return None
        fields = header.split(b" ")
        if len(fields) != 3 or not fields[2].isdigit():
            raise Unknown("git cat-file answered something unexpected", code="git.failed")
        object_id, kind, size = fields[0].decode(), fields[1].decode(), int(fields[2])
        if size > WHOLE:
            if large is None or kind != "blob":
                raise Unknown("an object is too large to be read whole", code="git.failed")
            blocks = self._blocks(size)
            self._busy = True
            try:
                large(index, object_id, size, blocks)
            finally:
                for _ in blocks:
                    pass
                self._busy = False
            return None
        have = len(self._buffer) - self._at
        if have <= size:
            parts = [self._buffer[self._at :]]
            while have <= size:
                part = os.read(self._out, max(_READ, size - have + 1))
                if not part:
                    raise Unknown("git cat-file ended early", code="git.failed")
                parts.append(part)
                have += len(part)
            self._buffer, self._at = b"".join(parts), 0
        data = self._buffer[self._at : self._at + size]
        self._at += size + 1
        return Object(object_id, kind, data)

    def _blocks(self, size: int) -> "Any":
        left = size
        while left:
            if self._at == len(self._buffer):
                self._more()
            part = self._buffer[self._at : self._at + left]
            self._at += len(part)
            left -= len(part)
            yield part
        if self._at == len(self._buffer):
            self._more()
        self._at += 1  # the line end behind every object

    def close(self) -> None:
        """End it."""
        for fd in (self._in, self._out):
            if fd >= 0:
                os.close(fd)
        self._in = self._out = -1
        child, self._child = self._child, 0
        if child:
            os.waitpid(child, 0)
