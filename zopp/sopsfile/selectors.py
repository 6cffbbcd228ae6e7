"""Which values of a file are encrypted (spec sops-compat 5). Lean: RE2 is imported only when a pattern needs it.

An invalid pattern is an error here; sops swallows it and writes the file in the clear.
"""

from zopp.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KINDS = (
    "unencrypted_suffix",
    "encrypted_suffix",
    "unencrypted_regex",
    "encrypted_regex",
    "unencrypted_comment_regex",
    "encrypted_comment_regex",
)


class _Words:
    """`^(one|two)$` with plain words, which most files have: the same answers as RE2's without its import."""

    __slots__ = ("_words",)

    def __init__(self, words: "frozenset[str]") -> None:
        self._words = words

    def search(self, text: str) -> "_Words | None":
        """Itself if the whole text is one of the words."""
        return self if text in self._words else None


def _words(pattern: str) -> "frozenset[str] | None":
    inner = pattern[1:-1]
    if len(pattern) < 3 or pattern[0] != "^" or pattern[-1] != "$":
        return None
    if inner[0] == "(" and inner[-1] == ")":
        inner = inner[1:-1]
    elif "|" in inner:
        return None  # the anchors bind closer than the bar
    words = inner.split("|")
    plain = all(word and word.isascii() and word.replace("_", "a").replace("-", "a").isalnum() for word in words)
    return frozenset(words) if plain else None


def compile_pattern(pattern: str) -> "Any":
    """An RE2 pattern; FormatError (`bad_regex`) if it is not one. The pattern is not quoted."""
    words = _words(pattern)
    if words is not None:
        return _Words(words)
    import re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeError):
        raise FormatError("the selector is not a valid RE2 pattern", code="bad_regex") from None


class Selector:
    """One rule, `kind` (a name of KINDS) and `pattern`, and whether the MAC covers encrypted values only.

    Regexes search unanchored, as in Go. `pattern` is compiled at first use; `check()` does it at once."""

    __slots__ = ("_regex", "kind", "mac_only_encrypted", "pattern")

    def __init__(self, kind: str = KINDS[0], pattern: str = "_unencrypted", mac_only_encrypted: bool = False) -> None:
        if kind not in KINDS or not pattern:
            raise FormatError("a selector needs a known kind and a pattern", code="bad_selector")
        self.kind = kind
        self.pattern = pattern
        self.mac_only_encrypted = mac_only_encrypted
        self._regex: "Any" = None

    @property
    def by_comment(self) -> bool:
        return "comment" in self.kind

    def check(self) -> "Selector":
        """The selector itself, its pattern compiled; FormatError (`bad_regex`)."""
        if self._regex is None and self.kind.endswith("_regex"):
            self._regex = compile_pattern(self.pattern)
        return self

    def matches(self, text: str) -> bool:
        """Whether one path component (or comment text) matches."""
        if self.kind.endswith("suffix"):
            return text.endswith(self.pattern)
        self.check()
        return self._regex.search(text) is not None

    def selects(self, path: "tuple[object, ...]", comments: "tuple[str, ...] | list[str]" = ()) -> bool:
        """Whether a leaf is encrypted. `path`: its keys and indices (a comment's: its container's). `comments`: the
        texts
        on the comment stack, without the leaf's own when it is a comment and the kind is `encrypted_comment_regex`."""
        parts = comments if self.by_comment else [part for part in path if isinstance(part, str)]
        found = any(map(self.matches, parts))
        return found == (self.kind[0] == "e")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> "tuple[str, str, bool]":
        return self.kind, self.pattern, self.mac_only_encrypted

    def __repr__(self) -> str:
        return f"Selector({self.kind!r}, {self.pattern!r}, mac_only_encrypted={self.mac_only_encrypted})"


DEFAULT_SELECTOR = Selector()
