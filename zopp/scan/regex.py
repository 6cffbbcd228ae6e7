"""RE2 patterns on Python's `re` where both engines agree, else on google-re2 (spec guard 5, 9).

`agrees` is a small grammar: what it accepts means the same in both. Anything it does not know goes to RE2.
"""

from zopp.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LITERAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/ ,:;=@~%&!<>\"'#`")
_ESCAPED = frozenset(".+*?()|[]{}^$\\/-_ ")


def agrees(pattern: str) -> "str | None":
    """The pattern for `re`, if it means the same there; None if that is not certain."""
    out: "list[str]" = []
    at, depth, size = 0, 0, len(pattern)
    atom = False  # whether a quantifier may follow
    while at < size:
        char = pattern[at]
        if char in _LITERAL:
            out.append("\\#" if char == "#" else char)
            atom = True
        elif char == ".":
            out.append(".")
            atom = True
        elif char == "\\":
            at += 1
            escaped = pattern[at : at + 1]
            if escaped == "d":
                out.append("[0-9]")
            elif escaped == "w":
                out.append("[0-9A-Za-z_]")
            elif escaped and escaped in _ESCAPED:
                out.append("\\" + escaped)
            else:
                return None
            atom = True
        elif char == "^":
            out.append(r"\A")
            atom = False
        elif char == "$":
            out.append(r"\Z")
            atom = False
        elif char == "(":
            if pattern[at + 1 : at + 2] == "?":
                if pattern[at + 1 : at + 3] != "?:":
                    return None
                at += 2
            out.append("(?:")
            depth += 1
            atom = False
        elif char == ")":
            if not depth:
                return None
            depth -= 1
            out.append(")")
            atom = True
        elif char == "|":
            out.append("|")
            atom = False
        elif char in "*+?":
            if not atom:
                return None
            out.append(char)
            atom = False
            if pattern[at + 1 : at + 2] == "?":
                out.append("?")
                at += 1
        elif char == "[":
            end = _class(pattern, at)
            if end < 0:
                return None
            out.append(pattern[at:end])
            at = end - 1
            atom = True
        else:
            return None
        at += 1
    return None if depth else "".join(out)


def _class(pattern: str, at: int) -> int:
    """The end of a simple class at `at`, -1 for one that is not simple."""
    at += 1
    if pattern[at : at + 1] == "^":
        at += 1
    first = True
    while at < len(pattern):
        char = pattern[at]
        if char == "]":
            return -1 if first else at + 1
        if char == "\\":
            if pattern[at + 1 : at + 2] not in (".", "-", "/", "_", "\\", "]"):
                return -1
            at += 2
        elif char in "-&|~" and pattern[at + 1 : at + 2] == char:
            return -1  # set operations of a later `re`
        elif char in _LITERAL or char in ".+*?()|{}$":
            if pattern[at + 1 : at + 2] == "-" and pattern[at + 2 : at + 3] not in ("]", ""):
                low, high = char, pattern[at + 2]
                if not (low.isalnum() and high.isalnum() and low <= high and low.isascii() and high.isascii()):
                    return -1
                at += 3
            elif char == "-" and not first and pattern[at + 1 : at + 2] != "]":
                return -1
            else:
                at += 1
        else:
            return -1
        first = False
    return -1


def compiled(pattern: str) -> "Any":
    """An object with `search(text)`. FormatError `bad_regex` if RE2 refuses the pattern."""
    mine = agrees(pattern)
    if mine is not None:
        import re

        return re.compile(mine)
    from zopp.sopsfile.selectors import compile_pattern

    return compile_pattern(pattern)


def check(pattern: object) -> str:
    """The pattern itself; FormatError `bad_regex` if RE2 refuses it."""
    if not isinstance(pattern, str) or not pattern:
        raise FormatError("the pattern is no text", code="bad_regex")
    compiled(pattern)
    return pattern
