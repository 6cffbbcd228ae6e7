"""The project's own secrets, found in any text without holding one (spec guard 8). Lean.

The index lies in git's common folder, 0600, never committed: for each form of each value a keyed sum over its first
eight bytes (itself masked with a key stream), its length, and a keyed BLAKE2b hash of the whole. Its key lies outside
the repository, beside the user's keys: with both one can test guesses of weak values, with one of them nothing.

Looking: the sums of all eight-byte windows of a text are one multiplication of two long integers; where a sum is known,
the whole is hashed and compared.
"""

import os
import sys
from binascii import b2a_base64, hexlify

from zopp import _fast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

WINDOW = 8
# How much is multiplied at once: the integers are four times as long.
BLOCK = 64 << 10
LEAST_LINE = 16
MAX_LENGTH = 8192
_MAGIC = b"zopp-guard-index-2\n"
_RECORD = 20  # length 2, name 2, hash 16
_SHORT = 4
# The mark of values shorter than a window; no sum is as large.
_NO_WINDOW = 0xFFFFFFFF
_DENIED = frozenset(
    b"""
    localhost changeme password username postgres database development production staging default example undefined
    disabled enabled mongodb rabbitmq elasticsearch kubernetes 127.0.0.1 0.0.0.0 us-east-1 eu-west-1 eu-central-1
    us-west-2 application/json admin root test user none null true false yes info debug warning error
    """.split()
)


def index_path(common: str) -> str:
    """Where the index lies."""
    return os.path.join(common, "zopp", "guard-index")


def key_path(environ: "Mapping[str, str]", repository: str) -> str:
    """Where its key lies; `repository` names the index (hex, from its header)."""
    from zopp.repo import userdirs

    return os.path.join(userdirs.config(environ), "guard", f"{repository}.key")


def forms(value: bytes) -> "list[bytes]":
    """Every form in which a value may stand in a text, itself first. Only what is long enough."""
    found = {value: None}

    def add(form: bytes) -> None:
        if len(form) >= WINDOW and len(form) <= MAX_LENGTH:
            found.setdefault(form)

    for shift in range(3):
        # The characters that depend on this value alone, whatever stands before and behind it.
        text = b2a_base64(b"\0" * shift + value, newline=False)
        start = (0, 2, 3)[shift]
        end = (len(value) + shift) * 8 // 6
        inner = text[start:end]
        add(inner)
        add(inner.translate(bytes.maketrans(b"+/", b"-_")))
    add(hexlify(value))
    add(hexlify(value).upper())
    add(_json(value, False))
    add(_json(value, True))
    add(_json(value, False).replace(b"/", b"\\/"))
    add(_url(value, b"-_.~"))
    add(_url(value, b"-_.~/"))
    add(_url(value, b"-_.~").replace(b"%20", b"+"))
    add(_lower_escapes(_url(value, b"-_.~")))
    if b"\n" in value:
        for line in value.split(b"\n"):
            line = line.strip()
            if len(line) >= LEAST_LINE and not line.startswith(b"-----"):
                add(line)
    return list(found)


_ESCAPES = {34: b'\\"', 92: b"\\\\", 10: b"\\n", 13: b"\\r", 9: b"\\t", 8: b"\\b", 12: b"\\f"}


def _json(value: bytes, ascii_only: bool) -> bytes:
    text = value.decode("utf-8", "surrogateescape")
    out = []
    for char in text:
        code = ord(char)
        if code in _ESCAPES:
            out.append(_ESCAPES[code])
        elif code < 0x20 or (ascii_only and code > 0x7E and code < 0x10000 and not 0xDC80 <= code <= 0xDCFF):
            out.append(b"\\u%04x" % code)
        elif ascii_only and code >= 0x10000:
            code -= 0x10000
            out.append(b"\\u%04x\\u%04x" % (0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF)))
        else:
            out.append(char.encode("utf-8", "surrogateescape"))
    return b"".join(out)


def _url(value: bytes, safe: bytes) -> bytes:
    return b"".join(
        [bytes((byte,)) if (chr(byte).isalnum() and byte < 128) or byte in safe else b"%%%02X" % byte for byte in value]
    )


def _lower_escapes(text: bytes) -> bytes:
    parts = text.split(b"%")
    return parts[0] + b"".join([b"%" + part[:2].lower() + part[2:] for part in parts[1:]])


def is_kept(value: bytes) -> bool:
    """Whether a value is looked for at all."""
    low = value.lower()
    if len(value) < _SHORT or len(value) > MAX_LENGTH or low in _DENIED:
        return False
    if value.isdigit() and len(value) < 8:
        return False
    return len(set(value)) > 2


def build(
    key: bytes, values: "Iterable[tuple[str, bytes]]", environments: "Mapping[str, str]", clear: "list[str]"
) -> bytes:
    """The bytes of an index: `values` are (name, value), a name `SCOPE KEY`; `environments` says of each scope which
    manifest it was made from; `clear`: names of values that are left out because they stand in clear in the tree."""
    import json

    names: "list[str]" = []
    records: "dict[tuple[int, bytes], tuple[int, int]]" = {}
    sums = _Sums(key)
    for name, value in values:
        number = len(names)
        names.append(name)
        if number > 0xFFFF:
            raise ValueError("an index has at most 65,536 values")
        if len(value) < WINDOW:
            records.setdefault((_NO_WINDOW, _whole(key, value)), (len(value), number))
            continue
        for form in forms(value):
            records.setdefault((sums.of(form), _whole(key, form)), (len(form), number))
    rows = sorted((mark, size, number, digest) for (mark, digest), (size, number) in records.items())
    marks = b"".join([mark.to_bytes(4, sys.byteorder) for mark, _, _, _ in rows])
    nonce = _fast.hmac_sha256(key, b"zopp-guard-index-nonce" + marks)[:16]
    head = json.dumps(
        {
            "order": sys.byteorder,
            "count": len(rows),
            "names": names,
            "environments": dict(environments),
            "clear": sorted(clear),
            "repository": _name(key),
            "nonce": nonce.hex(),
        },
        separators=(",", ":"),
    ).encode()
    body = b"".join([size.to_bytes(2, "big") + number.to_bytes(2, "big") + digest for _, size, number, digest in rows])
    return _MAGIC + head + b"\n" + _masked(marks, key, nonce) + body


def _name(key: bytes) -> str:
    return _fast.hmac_sha256(key, b"zopp-guard-index-name")[:16].hex()


class _Sums:
    """The keyed sums over windows: each byte through a keyed table, times the factor of its place. Below 2**32."""

    __slots__ = ("_factors", "_lanes", "_table")

    def __init__(self, key: bytes, order: "Any" = sys.byteorder) -> None:
        drawn = _fast.hmac_sha256(key, b"zopp-guard-index-window")
        # 21 bits each: eight of them, times 255, fill 32 bits and no more.
        self._factors = [int.from_bytes(drawn[at : at + 3], "little") & 0x1FFFFF | 1 for at in range(0, 24, 3)]
        by = _stream(key, b"table", 512)
        self._table = bytes([byte for _, byte in sorted((by[2 * byte : 2 * byte + 2], byte) for byte in range(256))])
        places: "list[int]" = list(range(WINDOW)) if order == "big" else list(range(WINDOW))[::-1]
        self._lanes: int = sum(factor << (32 * place) for factor, place in zip(self._factors, places, strict=True))

    def of(self, form: bytes) -> int:
        """The sum over the first window of a form."""
        return sum(self._table[byte] * factor for byte, factor in zip(form, self._factors, strict=False))

    def all(self, text: bytes, order: "Any" = sys.byteorder) -> memoryview:
        """The sum over every window of a text, four bytes each in an order of bytes; the text is as long as one or
        longer."""
        count = len(text)
        wide = bytearray(4 * count)
        wide[3 if order == "big" else 0 :: 4] = text.translate(self._table)
        product = (int.from_bytes(wide, order) * self._lanes).to_bytes(4 * (count + WINDOW), order)
        first = WINDOW if order == "big" else WINDOW - 1
        return memoryview(product)[4 * first : 4 * (first + count - WINDOW + 1)]


def _stream(key: bytes, label: bytes, size: int) -> bytes:
    """`size` bytes that only a holder of the key can make. A key is of one length, so what is hashed is unambiguous."""
    return _fast.shake256(b"zopp-guard-index-stream" + key + label, size)


def _masked(marks: bytes, key: bytes, nonce: bytes) -> bytes:
    """The marks under a key stream of their own, or back."""
    stream = int.from_bytes(_stream(key, b"marks" + nonce, len(marks)), "little")
    return (int.from_bytes(marks, "little") ^ stream).to_bytes(len(marks), "little")


def _whole(key: bytes, form: bytes) -> bytes:
    return _fast.blake2b(form, key=key, size=16)


class Index:
    """An index that was read."""

    def __init__(self, head: "dict[str, Any]", data: bytes, start: int, key: bytes) -> None:
        self.head = head
        self.key = key
        self._sums = _Sums(key)
        count = head["count"]
        marks = _masked(data[start : start + 4 * count], key, bytes.fromhex(head["nonce"]))
        self._marks = memoryview(marks).cast("I")
        self._known = set(self._marks.tolist())
        self._records = data[start + 4 * count :]
        self._short = _NO_WINDOW in self._known
        self._known.discard(_NO_WINDOW)

    @property
    def environments(self) -> "dict[str, str]":
        """Scope -> the hash of the manifest that its values came from."""
        return dict(self.head["environments"])

    def look(self, data: bytes, known: "set[bytes]") -> "list[tuple[int, int, str]]":
        """(line, column, name) of each value that stands in a line of `data` that is not in `known`."""
        if not known:
            text, lines = data, None
        else:
            rows = data.split(b"\n")
            added = [(number, row) for number, row in enumerate(rows, 1) if row not in known]
            text = b"\n".join([row for _, row in added])
            lines = [number for number, _ in added]
        out: "list[tuple[int, int, str]]" = []
        for view in _views(text):
            for at, name in sorted(self.places(view).items()):
                line, column = _position(view, at)
                out.append((line if lines is None else lines[line - 1] if line <= len(lines) else 1, column, name))
        return out

    def places(self, view: bytes) -> "dict[int, str]":
        """Offset in a text -> the name of the value that begins there."""
        found = self._windows(view)
        if self._short:
            found.update(self._scalars(view))
        return found

    def _lookup(self, mark: int, data: bytes, at: int) -> "tuple[int, str] | None":
        """(length, name) of the value that begins at `at`, whose window's mark is known."""
        low, high = 0, len(self._marks)
        while low < high:
            middle = (low + high) // 2
            if self._marks[middle] < mark:
                low = middle + 1
            else:
                high = middle
        hashes: "dict[int, bytes]" = {}
        while low < len(self._marks) and self._marks[low] == mark:
            record = self._records[low * _RECORD : low * _RECORD + _RECORD]
            size = int.from_bytes(record[:2], "big")
            if at + size <= len(data):
                if size not in hashes:
                    hashes[size] = _whole(self.key, data[at : at + size])
                if hashes[size] == record[4:]:
                    return size, self.head["names"][int.from_bytes(record[2:4], "big")]
            low += 1
        return None

    def _windows(self, data: bytes) -> "dict[int, str]":
        out: "dict[int, str]" = {}
        known = self._known
        ends: "dict[str, int]" = {}
        for start in range(0, len(data) - WINDOW + 1, BLOCK):
            sums = self._sums.all(data[start : start + BLOCK + WINDOW - 1]).cast("I").tolist()
            if known.isdisjoint(sums):
                continue
            for number, mark in enumerate(sums):
                if mark in known:
                    hit = self._lookup(mark, data, start + number)
                    if hit is not None and start + number >= ends.get(hit[1], 0):
                        out[start + number] = hit[1]
                        ends[hit[1]] = start + number + hit[0]
        return out

    def _scalars(self, data: bytes) -> "dict[int, str]":
        """Values shorter than a window, as the whole of what stands behind `=` or `:`, or of a line."""
        out: "dict[int, str]" = {}
        at = 0
        for line in data.split(b"\n"):
            for sign in (b"=", b":"):
                head, found, value = line.partition(sign)
                text = value.strip().rstrip(b",;").strip(b"\"'")
                if found and _SHORT <= len(text) < WINDOW:
                    hit = self._lookup(_NO_WINDOW, text, 0)
                    if hit is not None and hit[0] == len(text):
                        out[at + len(head) + 1] = hit[1]
            at += len(line) + 1
        return out


class Stream:
    """Looks through a file that comes in blocks, holding little more than one: `through` hands them on, and then
    `found` is (line, column, name) of each value."""

    __slots__ = ("_codec", "_index", "_line", "_rest", "found")

    def __init__(self, index: Index) -> None:
        self.found: "list[tuple[int, int, str]]" = []
        self._index = index
        self._rest = b""
        self._line = 0
        self._codec: "str | None" = None

    def through(self, blocks: "Iterable[bytes]") -> "Iterator[bytes]":
        """The blocks, each after it was looked through as far as it goes."""
        for part in blocks:
            self._rest += part
            if len(self._rest) >= 16 * MAX_LENGTH:
                self._look(last=False)
            yield part
        self._look(last=True)

    def _look(self, *, last: bool) -> None:
        from zopp.scan import text

        data = self._rest
        if self._codec is None:
            self._codec, mark = text.encoding(data)
            data = data[mark:]
        # What begins behind the cut is looked for in the next round: no value is longer than what is kept for it.
        cut = len(data) if last else len(data) - MAX_LENGTH
        if self._codec:
            cut = cut if last else cut // 4 * 4
            view, end = _utf8(data, self._codec), len(_utf8(data[:cut], self._codec))
        else:
            # A line stays whole, since short values are told by what stands before them on it.
            cut = cut if last else data.rfind(b"\n", 0, cut) + 1 or cut
            view, end = data, cut
        for at, name in sorted(self._index.places(view).items()):
            if at < end or last:
                line, column = text.position(view, at)
                self.found.append((self._line + line, column, name))
        self._line += view.count(b"\n", 0, end)
        self._rest = data[cut:]


def _utf8(data: bytes, codec: str) -> bytes:
    return data.decode(codec, "replace").encode("utf-8", "surrogatepass")


def _views(data: bytes) -> "list[bytes]":
    from zopp.scan.text import views

    return views(data)[:1]


def _position(data: bytes, at: int) -> "tuple[int, int]":
    from zopp.scan.text import position

    return position(data, at)


def read(data: bytes, key: "bytes | None", environ: "Mapping[str, str] | None" = None) -> "Index":
    """An index from its bytes; `key` None: the one that lies where `environ` says. ValueError if it is damaged or is of
    another key."""
    end = data.find(b"\n", len(_MAGIC))
    if not data.startswith(_MAGIC) or end < 0:
        raise ValueError("no index")
    head = _fast.json_parse(data[len(_MAGIC) : end].decode())
    if head["order"] != sys.byteorder or len(data) != end + 1 + head["count"] * (4 + _RECORD):
        raise ValueError("a damaged index")
    if key is None:
        key = load_key(environ or {}, head["repository"])
    if key is None or _name(key) != head["repository"]:
        raise ValueError("an index of another key")
    return Index(head, data, end + 1, key)


def load(common: str, environ: "Mapping[str, str]") -> "Index | None":
    """The index of a clone, None if there is none, it is damaged, or its key is not at hand."""
    try:
        with open(index_path(common), "rb") as file:
            return read(file.read(), None, environ)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_key(environ: "Mapping[str, str]", repository: str) -> "bytes | None":
    """The key of an index, None if it is not there. A name that is no hex is none."""
    if len(repository) != 32 or repository.strip("0123456789abcdef"):
        return None
    try:
        with open(key_path(environ, repository), "rb") as file:
            key = file.read()
    except OSError:
        return None
    return key if len(key) == 32 else None


def save(common: str, environ: "Mapping[str, str]", key: bytes, data: bytes) -> None:
    """Write key and index, both 0600, the index last. OSError if one cannot be written."""
    _write(key_path(environ, _name(key)), key)
    _write(index_path(common), data)


def drop(common: str, environ: "Mapping[str, str]") -> bool:
    """Delete index and key; whether there was one."""
    path = index_path(common)
    try:
        with open(path, "rb") as file:
            head = _fast.json_parse(file.read().split(b"\n", 2)[1].decode())
        os.unlink(key_path(environ, str(head["repository"])))
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        pass
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _write(path: str, data: bytes) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    staged = f"{path}.{os.getpid()}"
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
    os.replace(staged, path)
