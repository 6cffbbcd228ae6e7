"""Running a child whose output goes through the redactor: pipes or pseudo-terminals, signals, and how it ends.

Standard output and standard error are filtered apart and never merged, unless they are one terminal. Where one is a
terminal the child gets a pseudo-terminal for it, so that colours and progress bars stay; where standard input is one
too, what is typed is handed on as it comes. Whatever fails here stops the output and ends the child: nothing goes past
the filter. Source: review-and-ci.md §10, points 3 to 5.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType

from zopp.exchange.masking import Redactor

_CHUNK = 1 << 16
# How long a child may take to end once nobody reads what it writes, or the filter failed. Seconds.
_GRACE = 5.0
# How long output is waited for that a child of the child may still hold open after the child has ended. Seconds.
_LINGER = 0.5
_FORWARDED = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT,
)  # fmt: skip


class _Stream:
    """One of the child's outputs: `source` is read, what the filter releases goes to `sink`."""

    def __init__(self, source: int, sink: int, found: Mapping[bytes, str]) -> None:
        self.source, self.sink = source, sink
        self.redactor = Redactor(found)
        self.open = True

    def pump(self) -> None:
        """Hand on what is there. OSError where the sink is gone."""
        try:
            data = os.read(self.source, _CHUNK)
        except OSError:  # how a pseudo-terminal ends
            data = b""
        if data:
            _write(self.sink, self.redactor.feed(data))
        else:
            self.finish()

    def finish(self) -> None:
        if self.open:
            self.open = False
            _write(self.sink, self.redactor.finish())
            os.close(self.source)


def run(command: Sequence[str], environ: Mapping[str, str], found: Mapping[bytes, str]) -> int:
    """Run `command`; its exit code, 128 + n for signal n, 141 where nobody reads the output any more, 125 where the
    filter failed, 126 and 127 where the command cannot be run or is not there."""
    streams: list[_Stream] = []
    ends: list[int] = []
    for sink in (1, 2):
        if sink == 2 and _is_one_terminal():
            ends.append(ends[0])
            continue
        source, end = _terminal(sink) if os.isatty(sink) else os.pipe()
        streams.append(_Stream(source, sink, found))
        ends.append(end)
    terminals = [end if os.isatty(end) else -1 for end in ends]
    own = any(end >= 0 for end in terminals)
    typed = own and _in_foreground()
    # What is typed reaches the child through the terminal that it writes to.
    stdin = next((end for end in terminals if end >= 0), None) if typed else None

    def prepare() -> None:
        os.setsid()
        fcntl.ioctl(next(end for end in terminals if end >= 0), termios.TIOCSCTTY, 0)

    masters = [stream.source for stream in streams if os.isatty(stream.source)]
    from zopp.cli.run import not_run  # which calls this

    with _signals(masters) as begun:
        try:
            child = subprocess.Popen(
                list(command), env=dict(environ), stdin=stdin, stdout=ends[0], stderr=ends[1],
                preexec_fn=prepare if own else None,
            )  # fmt: skip
        except FileNotFoundError:
            raise not_run(command[0]) from None
        except OSError as exc:
            raise not_run(command[0], exc) from None
        finally:
            for end in set(ends):
                os.close(end)
        begun(child)
        with _raw(typed):
            return _relay(child, streams, next(s for s in streams if s.source == masters[0]) if typed else None)


def _relay(child: subprocess.Popen[bytes], streams: list[_Stream], keys: _Stream | None) -> int:
    try:
        ended = 0.0
        while any(stream.open for stream in streams):
            reads = [stream.source for stream in streams if stream.open]
            if keys is not None:
                reads.append(0)
            ready = select.select(reads, [], [], 0.1)[0]
            for stream in streams:
                if stream.open and stream.source in ready:
                    stream.pump()
            if 0 in ready and keys is not None:
                data = _typed()
                if not data or not keys.open or not _hand_over(keys.source, data):
                    keys = None
            if child.poll() is None:
                continue
            ended = ended or time.monotonic()
            if not ready and time.monotonic() - ended > _LINGER:
                # A child of the child that lives on, holding the output open, is not waited for.
                for stream in streams:
                    stream.finish()
    except BrokenPipeError:
        _end(child)
        return 128 + signal.SIGPIPE
    except Exception as exc:
        _end(child)
        sys.stderr.write(
            f"zopp: error: the filter of the output failed ({type(exc).__name__}); nothing more is shown\n"
        )
        return 125
    code = child.wait()
    return code if code >= 0 else 128 - code


def _typed() -> bytes:
    """What was typed; nothing once the terminal is gone."""
    try:
        return os.read(0, _CHUNK)
    except OSError:
        return b""


def _hand_over(fd: int, data: bytes) -> bool:
    """Whether what was typed could be given to the child's terminal, which may be gone."""
    try:
        _write(fd, data)
    except OSError:
        return False
    return True


def _in_foreground() -> bool:
    """Whether what is typed is ours to read, and the terminal's settings ours to change."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _is_one_terminal() -> bool:
    """Whether standard output and standard error are the same terminal: then they are one to the child, too, as shells
    look for theirs behind standard error, and as their lines keep their order."""
    try:
        return os.ttyname(1) == os.ttyname(2)
    except OSError:
        return False


def _terminal(like: int) -> tuple[int, int]:
    """A pseudo-terminal as wide and with the settings of `like`: (our end, the child's)."""
    ours, theirs = os.openpty()
    termios.tcsetattr(theirs, termios.TCSANOW, termios.tcgetattr(like))
    _resize(like, ours)
    return ours, theirs


def _resize(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(source, termios.TIOCGWINSZ, b"\0" * 8))


@contextlib.contextmanager
def _signals(masters: Sequence[int]) -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Hand signals on to the child, once it is told which that is; those that came before, then. What a terminal sends
    to everyone in the foreground the child gets without us."""
    everyone = not masters and os.isatty(0)
    children: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if not children:
            early.append(number)
        elif not (everyone and number in (signal.SIGINT, signal.SIGQUIT)):
            with contextlib.suppress(ProcessLookupError):
                children[0].send_signal(number)

    def resized(number: int, frame: FrameType | None) -> None:
        for master in masters:
            _resize(1 if os.isatty(1) else 2, master)

    def begun(child: subprocess.Popen[bytes]) -> None:
        children.append(child)
        for number in early:
            forward(number, None)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, resized)
    try:
        yield begun
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _raw(typed: bool) -> Iterator[None]:
    """The own terminal hands every key on; the child's decides what it means."""
    if not typed:
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
