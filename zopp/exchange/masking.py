"""Secret values in a stream of bytes: which forms they may take, and a filter that puts names in their place.

Pure: bytes in, bytes out, in chunks of any size. It prevents accidents, not theft: a value that is split by colour
codes, compressed, or transformed in another way than those below is not found. Source: review-and-ci.md §9, §10.
"""

from __future__ import annotations

import base64
import bisect
import json
import re
import shlex
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import re2

SHORTEST = 4  # characters; anything shorter stands in every output by chance
_SHORTEST_NUMBER = 6  # digits
# Values that say nothing, and that would make every log unreadable.
_WORDS_TEXT = """
    true false null none yes no on off dev test prod development staging production default debug info warn warning
    error admin root user localhost postgres mysql redis http https main master latest example
"""
_WORDS = frozenset(_WORDS_TEXT.split())
# At which columns the usual programs break base64: base64(1) and MIME, PEM.
_WRAPPED = (76, 64)
# RE2 falls back to a slower engine beyond it, and stays right.
_MEMORY = 256 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Patterns:
    """`found`: every form of every value → the first name that has it. `left_out`: names whose values are too short or
    too common to be looked for."""

    found: Mapping[bytes, str]
    left_out: tuple[str, ...]


def is_maskable(text: str) -> bool:
    """Whether `text` can be looked for without hiding half of every log."""
    if len(text) < SHORTEST or (text.isascii() and text.isdigit() and len(text) < _SHORTEST_NUMBER):
        return False
    return text.lower() not in _WORDS and bool(text.strip())


def patterns(values: Iterable[tuple[str, str]]) -> Patterns:
    """The patterns of (name, value) pairs. A text that several have names the first. An empty value is no secret."""
    found: dict[bytes, str] = {}
    left_out = []
    for name, value in values:
        if not value:
            continue
        if not is_maskable(value):
            left_out.append(name)
            continue
        for form in forms(value):
            found.setdefault(form, name)
    return Patterns(found=found, left_out=tuple(left_out))


def parts(value: str) -> list[str]:
    """The value, and each of its lines that is long enough: outputs and runners split at line ends."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", value)]
    found = [value, value.strip(), value.replace("\r\n", "\n"), value.replace("\n", "\r\n"), *lines]
    return list(dict.fromkeys([part for part in found if is_maskable(part)]))


def forms(value: str) -> list[bytes]:
    """How `value` and its lines may look in an output, each once."""
    found: dict[bytes, None] = {}
    for part in parts(value):
        raw = part.encode("utf-8", "surrogateescape")
        for form in (raw, *_base64(raw), raw.hex().encode(), raw.hex().upper().encode(), *_text_forms(part)):
            if len(form) >= SHORTEST:
                found[form] = None
    return list(found)


def _text_forms(text: str) -> Iterator[bytes]:
    encoded = [
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        json.dumps(text)[1:-1].replace("/", "\\/"),
        text.replace("'", "'\\''"),
        text.replace("'", "'\"'\"'"),
        shlex.quote(text).strip("'"),
        re.sub(r"([^A-Za-z0-9_\-.,:/@+=%\n])", r"\\\1", text),
        re.sub(r'(["\\$`])', r"\\\1", text),
        *_url(text),
    ]
    for form in encoded:
        yield form.encode("utf-8", "surrogateescape")


def _url(text: str) -> Iterator[str]:
    """RFC 3986, with and without slashes, as JavaScript's encodeURIComponent, and as a form has it; %2F and %2f."""
    for safe in ("", "/", "!'()*", "!#$&'()*+,/:;=?@"):
        form = urllib.parse.quote(text, safe=safe, errors="surrogateescape")
        yield form
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), form)
    form = urllib.parse.quote_plus(text, errors="surrogateescape")
    yield form
    yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), form)


def _base64(raw: bytes) -> Iterator[bytes]:
    """Standard and URL-safe: alone, inside longer text at each of the three alignments (RFC 4648 §4: three bytes are
    four characters, so that what stands beside a value reaches into its first and last), and broken into lines."""
    for altchars in (b"+/", b"-_"):
        whole = base64.b64encode(raw, altchars)
        yield whole
        yield whole.rstrip(b"=")
        for offset in range(3):
            encoded = base64.b64encode(b"\0" * offset + raw, altchars)
            first = (0, 2, 3)[offset]
            yield encoded[first : (offset + len(raw)) * 8 // 6]
        for width in _WRAPPED:
            if len(whole) > width:
                yield from (whole[at : at + width] for at in range(0, len(whole), width))


class Redactor:
    """Puts `[redacted:NAME]` where a pattern stands: leftmost first, longest first, as if the stream were one text.

    What is held back is exactly the longest tail that could still begin a pattern; the rest is released at once."""

    def __init__(self, found: Mapping[bytes, str]) -> None:
        self._names = {form: f"[redacted:{name}]".encode("utf-8", "replace") for form, name in found.items()}
        self._sorted = sorted(self._names)
        self._longest = max(map(len, self._sorted), default=0)
        self._regex = _regex(self._sorted)
        # Where a pattern may begin, by its first bytes; fewer are at hand at the very end of a chunk.
        self._heads = _regex(sorted({form[:SHORTEST] for form in self._sorted}))
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """What of the stream can be released once `data` is there."""
        return self._run(self._rest + data, last=False)

    def finish(self) -> bytes:
        """The rest, at the end of the stream."""
        return self._run(self._rest, last=True)

    def _run(self, text: bytes, *, last: bool) -> bytes:
        if not self._names:
            return text
        made: list[bytes] = []
        at = 0
        hold = len(text) if last else self._tail(text, 0)
        while True:
            found = self._regex.search(text, at)
            # One that begins before the tail cannot become longer: else the tail would begin with it.
            if found is None or found.start() >= hold:
                break
            made += [text[at : found.start()], self._names[found.group()]]
            at = found.end()
            if at > hold:
                hold = len(text) if last else self._tail(text, at)
        made.append(text[at:hold])
        self._rest = text[hold:]
        return b"".join(made)

    def _tail(self, text: bytes, start: int) -> int:
        """The first offset from `start` on from which all the rest of `text` is the beginning of a longer pattern."""
        at = max(start, len(text) - self._longest + 1)
        while at <= len(text) - SHORTEST:
            found = self._heads.search(text, at)
            if found is None:
                break
            if self._begins(text[found.start() :]):
                return int(found.start())
            at = found.start() + 1
        for near in range(max(at, len(text) - SHORTEST + 1), len(text)):
            if self._begins(text[near:]):
                return near
        return len(text)

    def _begins(self, tail: bytes) -> bool:
        at = bisect.bisect_right(self._sorted, tail)
        return at < len(self._sorted) and self._sorted[at].startswith(tail)


def _regex(texts: Sequence[bytes]) -> re2._Regexp[bytes]:
    options = re2.Options()
    options.longest_match = True
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    options.log_errors = False
    options.max_mem = _MEMORY
    return re2.compile(b"|".join([re2.escape(text) for text in texts]), options)


def add_masks(values: Iterable[tuple[str, str]]) -> bytes:
    """GitHub's workflow commands that hide `values` in the log of the job from here on: whole, line by line and in
    the forms of `forms`. They have to be printed before anything else is."""
    lines: dict[bytes, None] = {}
    for _, value in values:
        for part in [value, *parts(value)] if is_maskable(value) else []:
            for form in [part.encode("utf-8", "surrogateescape"), *forms(part)]:
                escaped = form.replace(b"%", b"%25").replace(b"\r", b"%0D").replace(b"\n", b"%0A")
                lines[b"::add-mask::" + escaped + b"\n"] = None
    return b"".join(lines)
