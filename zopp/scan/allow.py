"""Exceptions for tokens: comments on a line, and the ignore list (spec guard 9). Lean.

They never except a file that should be encrypted, a leftover, or one of the project's own secrets.
"""

from zopp.errors import FormatError
from zopp.scan.finding import Finding
from zopp.scan.text import line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LIST = ".zopp/guard-ignore"
_HEAD = "zopp-guard-ignore-v1 "
_PLAIN = (b"gitleaks:allow", b"pragma: allowlist secret", b"pragma: whitelist secret")
_NEXT = (b"pragma: allowlist nextline secret", b"pragma: whitelist nextline secret")
_OURS = b"zopp:allow"


def by_comment(data: bytes, at: int, rule: str) -> bool:
    """Whether a comment allows a finding of `rule` at an offset. `zopp:allow RULE reason` names its rule; without one
    it allows all of them on its line."""
    line = line_of(data, at)
    if any(mark in line for mark in _PLAIN):
        return True
    found = line.find(_OURS)
    if found >= 0:
        words = line[found + len(_OURS) :].split()
        named = words[0].decode("ascii", "replace").strip("[]") if words else ""
        # A first word that is no rule's name begins the reason.
        if named == rule or not _is_rule(named):
            return True
    start = max(data.rfind(b"\n", 0, at), data.rfind(b"\r", 0, at))
    if start > 0:
        before = line_of(data, start - 1 if data[start - 1 : start] == b"\r" else start)
        return any(mark in before for mark in _NEXT)
    return False


def _is_rule(name: str) -> bool:
    from zopp.scan import generic, kubernetes
    from zopp.scan._table import RULES

    return name in (generic.RULE, kubernetes.RULE, "binary-key") or any(rule[0] == name for rule in RULES)


class IgnoreList:
    """`.zopp/guard-ignore`: a header with the repository's key, then sorted lines `RULE HASH [PATH] # REASON`.

    `key` is 32 bytes, None where there is no list yet. It is no secret: it keeps hashes from being looked up or
    compared across repositories."""

    __slots__ = ("entries", "key")

    def __init__(self, key: "bytes | None", entries: "Iterable[tuple[str, str, str, str]]" = ()) -> None:
        self.key = key
        self.entries = sorted(entries)

    def allows(self, finding: Finding) -> bool:
        """Whether an entry is for this very text under this rule (and path)."""
        return any(
            rule == finding.rule and fingerprint == finding.fingerprint and (not path or _matches(path, finding.path))
            for rule, fingerprint, path, _ in self.entries
        )

    def render(self) -> str:
        """The file's text."""
        lines = [_HEAD + (self.key or b"").hex()]
        for rule, fingerprint, path, reason in sorted(self.entries):
            lines.append(" ".join([rule, fingerprint, *([path] if path else []), "#", reason or "no reason given"]))
        return "\n".join(lines) + "\n"


def _matches(pattern: str, path: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(path, pattern)


def parse(data: bytes) -> IgnoreList:
    """The list; FormatError `ignore_list` with the line for anything that is none."""
    text = data.decode("utf-8", "replace")
    lines = text.split("\n")
    head = lines[0].strip()
    if not head.startswith(_HEAD) or len(head) != len(_HEAD) + 64 or not _hex(head[len(_HEAD) :]):
        raise FormatError("does not begin with its header", code="ignore_list", place=f"{LIST}:1")
    entries = []
    for number, line in enumerate(lines[1:], 2):
        body, _, reason = line.partition(" # ")
        words = body.split()
        if not words or words[0] == "#":
            continue
        if len(words) not in (2, 3) or len(words[1]) != 32 or not _hex(words[1]):
            raise FormatError("is no entry: RULE HASH [PATH] # REASON", code="ignore_list", place=f"{LIST}:{number}")
        entries.append((words[0], words[1], words[2] if len(words) == 3 else "", reason.strip()))
    return IgnoreList(bytes.fromhex(head[len(_HEAD) :]), entries)


def _hex(text: str) -> bool:
    return bool(text) and not text.strip("0123456789abcdef")


def fingerprint(key: bytes, rule: str, secret: bytes) -> str:
    """The keyed hash of a matched text under its rule, 32 hex digits."""
    from zopp import _fast

    return _fast.hmac_sha256(key, rule.encode() + b"\0" + secret)[:16].hex()
