"""Bytes of a file to the texts in which secrets are looked for. Lean.

Matching works on bytes: nothing is dropped or replaced, and an offset is an offset. Only UTF-16 and UTF-32, told by a
byte order mark or by where their NUL bytes stand, are rewritten as UTF-8; the bytes themselves are then searched too,
so that a byte order mark in front hides nothing.
"""

_SAMPLE = 4096


def encoding(data: bytes) -> "tuple[str, int]":
    """(codec, length of the mark) of UTF-16 or UTF-32 bytes, ("", 0) for all else."""
    head = data[:4]
    if head == b"\xff\xfe\0\0":
        return "utf-32-le", 4
    if head == b"\0\0\xfe\xff":
        return "utf-32-be", 4
    if head[:2] == b"\xff\xfe":
        return "utf-16-le", 2
    if head[:2] == b"\xfe\xff":
        return "utf-16-be", 2
    sample = data[:_SAMPLE]
    if b"\0" not in sample:
        return "", 0
    lanes = [sample[i::4] for i in range(4)]
    if len(sample) < 8:
        return "", 0
    # The share of NUL bytes in each of four lanes: text in Latin letters leaves a clear pattern.
    high = [lane.count(0) * 4 >= len(lane) * 3 for lane in lanes]
    low = [lane.count(0) * 4 <= len(lane) for lane in lanes]
    if low[0] and high[1] and high[2] and high[3]:
        return "utf-32-le", 0
    if high[0] and high[1] and high[2] and low[3]:
        return "utf-32-be", 0
    if low[0] and high[1] and low[2] and high[3]:
        return "utf-16-le", 0
    if high[0] and low[1] and high[2] and low[3]:
        return "utf-16-be", 0
    return "", 0


def views(data: bytes) -> "list[bytes]":
    """What is to be searched: the bytes, and before them their UTF-8 form where they are UTF-16 or UTF-32."""
    codec, mark = encoding(data)
    if not codec:
        return [data]
    unit = 4 if "32" in codec else 2
    end = mark + (len(data) - mark) // unit * unit
    try:
        return [data[mark:end].decode(codec, "surrogatepass").encode("utf-8", "surrogatepass"), data]
    except UnicodeDecodeError:
        return [data]  # no such text after all


def position(data: bytes, at: int) -> "tuple[int, int]":
    """(line, column) of an offset, both from 1, the column in characters; a lone CR ends a line too."""
    before = data[:at]
    line = before.count(b"\n") + 1
    start = before.rfind(b"\n") + 1
    if b"\r" in before:
        lone = before.count(b"\r") - before.count(b"\r\n")
        if before.endswith(b"\r") and data[at : at + 1] == b"\n":
            lone -= 1
        line += lone
        start = max(start, before.rfind(b"\r") + 1)
    return line, len(before[start:].decode("utf-8", "replace")) + 1


def line_of(data: bytes, at: int) -> bytes:
    """The line that holds an offset, without its end."""
    start = max(data.rfind(b"\n", 0, at), data.rfind(b"\r", 0, at)) + 1
    ends = [end for end in (data.find(b"\n", at), data.find(b"\r", at)) if end >= 0]
    return data[start : min(ends, default=len(data))]


class Places:
    """Lines and columns of offsets in one text, asked in rising order: the text is counted through once."""

    __slots__ = ("_at", "_cr", "_data", "_line")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._cr = b"\r" in data
        self._at = 0
        self._line = 1

    def of(self, at: int) -> "tuple[int, int]":
        """(line, column) of an offset that is not before the last one asked."""
        if self._cr:
            return position(self._data, at)
        self._line += self._data.count(b"\n", self._at, at)
        self._at = at
        start = self._data.rfind(b"\n", 0, at) + 1
        return self._line, len(self._data[max(start, at - 100_000) : at].decode("utf-8", "replace")) + 1
