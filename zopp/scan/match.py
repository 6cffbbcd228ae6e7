"""The token rules over one text: keywords first, then each rule's pattern on the windows round them (spec guard 4.3,
4.4). Loads `re` when a keyword was found.

Most rules are for tokens that stand in a run of 16 or more token characters, or right before one. Such runs are a small
part of any text, so their keywords are searched there alone.
"""

from zopp.scan import generic, predicates
from zopp.scan._table import NEAR, RULES, RUNS, TEXTS
from zopp.scan.finding import Hit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

RUN = 16
BEFORE = 64
# Letters, digits and `_+/=-` become `x`, all else a space: a run is then found by one search of the C library's kind,
# without a list of all words.
_TOKEN = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_+/=-"
_MARKS = bytes(0x78 if byte in _TOKEN else 0x20 for byte in range(256))
_MARK = b"x" * RUN
_compiled: "dict[int, Any]" = {}


def compiled() -> int:
    """How many patterns have been compiled in this process."""
    return len(_compiled)


def runs_of(data: bytes) -> "tuple[bytes, bytes]":
    """The runs of token characters in `data` that are long enough for a token, and the same with what stands within
    `BEFORE` characters before them; each once, a line each."""
    runs: "set[bytes]" = set()
    near: "set[bytes]" = set()
    marks = data.translate(_MARKS)
    at = marks.find(_MARK)
    while at >= 0:
        end = marks.find(b" ", at + RUN)
        if end < 0:
            end = len(data)
        runs.add(data[at:end])
        near.add(data[at - BEFORE if at > BEFORE else 0 : end])
        at = marks.find(_MARK, end)
    return b"\n".join(sorted(runs)), b"\n".join(near)


def tokens(data: bytes, runs: "tuple[bytes, bytes]", low: bytes) -> "list[Hit]":
    """Every match of a provider's rule. `runs` is `runs_of(data)`, `low` is `data.lower()`."""
    wanted: "dict[int, list[bytes]]" = {}
    if runs[0]:
        for keywords, text in ((RUNS, runs[0].lower()), (NEAR, runs[1].lower())):
            for keyword, rules in keywords.items():
                if keyword in text:
                    for rule in rules:
                        wanted.setdefault(rule, []).append(keyword)
    for gate, behind in TEXTS.items():
        if gate in low:
            for keyword, rules in behind:
                if keyword in low:
                    for rule in rules:
                        wanted.setdefault(rule, []).append(keyword)
    hits: "list[Hit]" = []
    for rule in sorted(wanted):
        _run(rule, wanted[rule], data, low, hits)
    return hits


def places_of(keywords: "list[bytes]", low: bytes) -> "list[int]":
    """Where each keyword stands, in order."""
    places: "list[int]" = []
    for keyword in keywords:
        at = low.find(keyword)
        while at >= 0:
            places.append(at)
            at = low.find(keyword, at + len(keyword))
    if len(keywords) > 1:
        places.sort()
    return places


def windows(places: "list[int]", before: int, behind: int) -> "list[tuple[int, int]]":
    """Where a match may lie: round each place, overlapping ones merged."""
    found: "list[tuple[int, int]]" = []
    start = end = -1
    for at in places:
        if end < 0 or at - before > end:
            if end >= 0:
                found.append((start, end))
            start = max(0, at - before)
        end = at + behind
    if end >= 0:
        found.append((start, end))
    return found


def pattern(number: int) -> "Any":
    """A rule's pattern, compiled when it is first needed."""
    found = _compiled.get(number)
    if found is None:
        import re

        found = _compiled[number] = re.compile(RULES[number][2], re.DOTALL if RULES[number][8] else 0)
    return found


def matches(number: int, places: "list[int]", data: bytes) -> "Iterator[Any]":
    """The matches of a rule's pattern: tried at its keywords where every match begins with one, else in windows."""
    *_, before, behind, _, needs, anchored = RULES[number]
    if anchored:
        end = 0
        regex = pattern(number)
        for at in places:
            if at >= end:
                match = regex.match(data, at, at + behind)
                if match is not None:
                    end = match.end()
                    yield match
    elif not needs or needs in data:
        for start, stop in windows(places, before, behind):
            if not needs or data.find(needs, start, stop) >= 0:
                yield from pattern(number).finditer(data, start, stop)


def _run(number: int, keywords: "list[bytes]", data: bytes, low: bytes, hits: "list[Hit]") -> None:
    rule, title, _, floor, check, shown, *_ = RULES[number]
    predicate = predicates.CHECKS[check] if check else None
    for match in matches(number, places_of(keywords, low), data):
        group = match.lastindex or 0
        secret = match.group(group)
        if predicates.published(secret) or (floor and predicates.entropy(secret) < floor) or predicates.dull(secret):
            continue
        if predicate is not None and not predicate(secret, match.group(), data, match.start(group)):
            continue
        hits.append(Hit(match.start(group), rule, title, secret, f"{shown}…" if shown else ""))


def all_of(data: bytes, runs: "tuple[bytes, bytes]", low: bytes) -> "list[Hit]":
    """Provider rules and the generic one; where two mean the same text the more special one stays."""
    hits = tokens(data, runs, low)
    taken = [(hit.at, hit.at + len(hit.secret)) for hit in hits]
    for hit in generic.hits(data, low):
        end = hit.at + len(hit.secret)
        if not any(start < end and hit.at < stop for start, stop in taken):
            hits.append(hit)
    return merged(hits)


def merged(hits: "list[Hit]") -> "list[Hit]":
    """Without those that lie wholly inside another one's text, whose hash then covers them; of two on the same text the
    first. What was decoded is covered by no other one's text and stays: an exception for one token in a base64 text is
    none for another beside it."""
    out: "list[Hit]" = []
    seen: "set[tuple[int, str, bytes]]" = set()
    end = -1
    for hit in sorted(hits, key=lambda h: (h.at, -len(h.secret))):
        key = hit.at, hit.rule, hit.secret
        if key in seen or (not hit.decoded and hit.at + len(hit.secret) <= end):
            continue
        seen.add(key)
        if not hit.decoded:
            end = max(end, hit.at + len(hit.secret))
        out.append(hit)
    return out
