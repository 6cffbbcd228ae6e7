"""RE2 patterns for Python's `re`, where google-re2 is not installed (spec guard 9).

Go's syntax is not Python's: flags in the middle, `\\z`, POSIX classes, `\\Q…\\E`, `(?U)`, `\\p{…}`. What can be said in
Python is translated, the rest is refused by name. Bytes in, `re.ASCII` meaning.
"""

import re
import signal
import threading
from collections.abc import Callable
from typing import Any

from zopp.errors import FormatError

_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": "\\x00-\\x7f", "blank": "\\t ", "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~",
    "space": "\\t\\n\\v\\f\\r ",    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip


_in_use: list[bool] = []


def in_use() -> bool:
    """Whether patterns run on `re`."""
    if not _in_use:
        try:
            import re2  # noqa: F401
        except ImportError:
            _in_use.append(True)
        else:
            _in_use.append(False)
    return _in_use[0]


def _refused(what: str) -> FormatError:
    return FormatError(f"{what} cannot be said in Python's re: install google-re2", code="bad_regex")


def translated(pattern: str) -> str:
    """The pattern for `re`. FormatError `bad_regex` names what cannot be translated."""
    out: list[str] = []
    at, size = 0, len(pattern)
    # For each open group: how many scoped flag groups were opened inside it, to close with it and reopen behind `|`.
    scopes: list[list[str]] = [[]]
    while at < size:
        char = pattern[at]
        if char == "\\":
            at = _escape(pattern, at, out, inside=False)
        elif char == "[":
            at = _class(pattern, at, out)
        elif char == "(" and pattern[at + 1 : at + 2] == "?":
            found = re.match(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])", pattern[at:])
            name = re.match(r"\(\?P?<([A-Za-z_]\w*)>", pattern[at:])
            if name:
                out.append(f"(?P<{name.group(1)}>")
                scopes.append([])
                at += name.end()
            elif found:
                on, off, end = found.groups()
                if "U" in on + (off or ""):
                    raise _refused("(?U)")
                if not on and not off and end == ":":
                    opened = "(?:"
                else:
                    opened = "(?" + on + (f"-{off}" if off else "") + ":"
                if end == ":":
                    out.append(opened)
                    scopes.append([])
                elif on or off:
                    # A flag from here to the end of the group, past every `|`.
                    out.append(opened)
                    scopes[-1].append(opened)
                at += found.end()
            else:
                raise FormatError("a group that RE2 does not have (lookaround, conditional)", code="bad_regex")
        elif char == "(":
            out.append(char)
            scopes.append([])
            at += 1
        elif char == ")":
            if len(scopes) == 1:
                raise FormatError("a bracket is closed that was not opened", code="bad_regex")
            out.append(")" * (len(scopes.pop()) + 1))
            at += 1
        elif char == "|":
            out.append(")" * len(scopes[-1]) + "|" + "".join(scopes[-1]))
            at += 1
        elif char == "$":
            out.append("$" if any("m" in flag for scope in scopes for flag in scope) else r"\Z")
            at += 1
        elif char in "*+?}" and pattern[at + 1 : at + 2] == "+":
            raise FormatError("a possessive repeat, which RE2 does not have", code="bad_regex")
        else:
            out.append(char)
            at += 1
    return "".join(out) + ")" * len(scopes[0])


def _escape(pattern: str, at: int, out: list[str], *, inside: bool) -> int:
    char = pattern[at + 1 : at + 2]
    if char == "z":
        out.append(r"\Z")
    elif char == "Q":
        end = pattern.find("\\E", at)
        end = len(pattern) if end < 0 else end
        out.append(re.escape(pattern[at + 2 : end]))
        return min(end + 2, len(pattern))
    elif char in ("p", "P"):
        raise _refused(f"\\{char}{{…}}")
    elif char == "s":
        out.append(r"\t\n\f\r " if inside else r"[\t\n\f\r ]")
    elif char == "S":
        if inside:
            raise _refused(r"\S in a class")
        out.append(r"[^\t\n\f\r ]")
    elif char == "C":
        raise _refused(r"\C")
    elif char == "x" and pattern[at + 2 : at + 3] == "{":
        end = pattern.find("}", at)
        code = int(pattern[at + 3 : end] or "0", 16) if end > 0 else 0x110000
        if code > 0x7F:
            raise _refused(r"\x{…} beyond ASCII")
        out.append(f"\\x{code:02x}")
        return end + 1
    elif char.isdigit() and char != "0":
        raise FormatError("a back-reference, which RE2 does not have", code="bad_regex")
    elif char == "":
        raise FormatError("it ends in a backslash", code="bad_regex")
    elif char.isalpha() and char not in "abBdDwWfnrtvxA":
        raise FormatError(f"\\{char}, which RE2 does not have", code="bad_regex")
    else:
        out.append("\\" + char)
    return at + 2


def _class(pattern: str, at: int, out: list[str]) -> int:
    out.append("[")
    at += 1
    if pattern[at : at + 1] == "^":
        out.append("^")
        at += 1
    first = True
    while at < len(pattern):
        char = pattern[at]
        if char == "]" and not first:
            out.append("]")
            return at + 1
        first = False
        if pattern.startswith("[:", at):
            end = pattern.find(":]", at)
            name = pattern[at + 2 : end]
            if name.startswith("^") or name not in _POSIX:
                raise _refused(f"[:{name}:]")
            out.append(_POSIX[name])
            at = end + 2
        elif char == "\\":
            at = _escape(pattern, at, out, inside=True)
        elif not char.isascii():
            raise _refused("a class with letters beyond ASCII")
        else:
            out.append("\\" + char if char in "[]&|~" else char)
            at += 1
    raise FormatError("a class is not closed", code="bad_regex")


def compiled(pattern: str) -> Any:
    """A bytes pattern of `re`. FormatError `bad_regex`."""
    text = translated(pattern)
    try:
        return re.compile(text.encode())
    except (re.error, OverflowError, RecursionError):
        raise FormatError("the pattern is none", code="bad_regex") from None


def timed(work: Callable[[], Any], limit: float) -> Any:
    """`work()`; TimeoutError after `limit` seconds. A timer signal interrupts `re`; elsewhere than in the main thread
    nothing can, so there it is not bounded."""
    if threading.current_thread() is not threading.main_thread():
        return work()

    def stop(_signal: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
