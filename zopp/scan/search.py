"""All token checks over the bytes of one file: texts, what is encoded inside them, binary keys, Kubernetes Secrets.

A file is searched whole up to `gitio.WHOLE` bytes and in overlapping blocks beyond, with the same result (a property
test holds it to that).
"""

from zopp.scan import allow, binkeys, encoded, kubernetes, match, text
from zopp.scan.finding import Hit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from zopp.scan.userrules import Bound

DEPTH = 2
BLOCK = 4 << 20
# More than any pattern reaches; half of it belongs to the block before, half to the one behind.
OVERLAP = 96 << 10


class Placed:
    """A hit with its line and column; `suppressed`: what allows it (a comment, an allow list), "" if nothing does."""

    __slots__ = ("at", "column", "hit", "line", "suppressed")

    def __init__(self, hit: Hit, at: int, line: int, column: int, suppressed: str) -> None:
        self.hit = hit
        self.at = at
        self.line = line
        self.column = column
        self.suppressed = suppressed


def hits(data: bytes, depth: int = 0, user: "Bound | None" = None) -> "list[Hit]":
    """Every match in one text."""
    runs = match.runs_of(data)
    low = data.lower()
    found = match.all_of(data, runs, low)
    found += kubernetes.hits(data)
    if user is not None:
        found = [hit for hit in found if not user.disabled(hit.rule)] + user.hits(data, low)
    if depth < DEPTH:
        for at, plain, how in encoded.texts(data, runs[0]):
            kind = binkeys.what(plain) if how == "base64" else None
            if kind is not None:
                found.append(Hit(at, "binary-key", f"{kind}, inside {how}", plain, decoded=True))
                continue
            for view in text.views(plain)[:1]:
                for inner in hits(view, depth + 1):
                    found.append(
                        Hit(
                            at,
                            inner.rule,
                            f"{inner.what.split(', inside ')[0]}, inside {how}",
                            inner.secret,
                            inner.shown,
                            decoded=True,
                        )
                    )
    return match.merged(found)


def _allowed(data: bytes, hit: Hit, user: "Bound | None") -> str:
    if allow.by_comment(data, hit.at, hit.rule):
        return "comment"
    return "allow list" if user is not None and user.allowed(data, hit) else ""


def placed(data: bytes, user: "Bound | None" = None) -> "list[Placed]":
    """Every match in a file's bytes, by place."""
    out: "list[Placed]" = []
    kind = binkeys.what(data)
    if kind is not None:
        out.append(Placed(Hit(0, "binary-key", kind, data), 0, 1, 1, ""))
    seen: "set[tuple[str, bytes]]" = set()
    views = text.views(data)
    for view in views:
        places = text.Places(view)
        for hit in hits(view, 0, user):
            if view is not views[0] and (hit.rule, hit.secret) in seen:
                continue
            seen.add((hit.rule, hit.secret))
            line, column = places.of(hit.at)
            out.append(Placed(hit, hit.at, line, column, _allowed(view, hit, user)))
    return out


def streamed(blocks: "Iterable[bytes]", user: "Bound | None" = None) -> "list[Placed]":
    """The same for a file that comes in pieces; holds little more than one block of it."""
    out: "list[Placed]" = []
    pending: "list[bytes]" = []
    have = start = line = 0
    first = True
    codec = ""
    for part in blocks:
        pending.append(part)
        have += len(part)
        if have < BLOCK + OVERLAP:
            continue
        data = b"".join(pending)
        if first:
            codec = text.encoding(data)[0]
            kind = binkeys.what(data)
            if kind is not None:
                out.append(Placed(Hit(0, "binary-key", kind, data[:64]), 0, 1, 1, ""))
        # Whole code units, so that UTF-16 is cut between two.
        cut = (len(data) - OVERLAP) // 4 * 4
        line += _block(data, cut, start, line, codec, first, False, user, out)
        pending, have, start, first = (
            [data[cut - OVERLAP // 2 :]],
            len(data) - cut + OVERLAP // 2,
            start + cut - OVERLAP // 2,
            False,
        )
    data = b"".join(pending)
    if first:
        return placed(data, user)
    _block(data, len(data), start, line, codec, False, True, user, out)
    return out


def _block(
    data: bytes, cut: int, start: int, line: int, codec: str, first: bool, last: bool, user: "Bound | None",
    out: "list[Placed]",
) -> int:  # fmt: skip
    """Judge one block whose own part is from half an overlap (the first: from 0) to `cut`; the lines before the next
    block's begin."""
    low = 0 if first else OVERLAP // 2
    next_start = len(data) if last else cut - OVERLAP // 2
    views = [(data, low, cut)]
    if codec:
        mark = text.encoding(data)[1] if first else 0
        views.insert(0, (_utf8(data[mark:], codec), len(_utf8(data[:low], codec)), len(_utf8(data[mark:cut], codec))))
    seen: "set[tuple[str, bytes]]" = set()
    for view, begin, end in views:
        places = text.Places(view)
        for hit in hits(view, 0, user):
            if hit.at < begin or (hit.at >= end and not last) or (view is data and (hit.rule, hit.secret) in seen):
                continue
            if len(views) > 1:
                seen.add((hit.rule, hit.secret))
            number, column = places.of(hit.at)
            out.append(Placed(hit, start + hit.at, line + number, column, _allowed(view, hit, user)))
    return data.count(b"\n", 0, next_start)


def _utf8(data: bytes, codec: str) -> bytes:
    return data.decode(codec, "replace").encode("utf-8", "surrogatepass")
