"""Values of Kubernetes Secrets, found in the whole document (spec guard 7). YAML as people write it, and JSON.

The YAML is read line by line, since Helm's templates are no YAML; flow style inside `data` goes to the parser.
"""

from binascii import Error as _Base64Error, a2b_base64

from zopp.scan import predicates
from zopp.scan.finding import Hit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RULE = "kubernetes-secret"
WHAT = "a value of a Kubernetes Secret"
_PLAIN_KEYS = tuple(
    b"""
    user username host hostname port url type name database dbname db project region bucket endpoint email
    issuer tenant organization enabled insecure ca.crt tls.crt namespace login server proxy
    """.split()
)


def hits(data: bytes) -> "list[Hit]":
    """Every value of a Secret in `data` that is no placeholder."""
    if b"Secret" not in data or b"kind" not in data:
        return []
    return [
        Hit(at, RULE, f"{WHAT} ({section.decode()}.{key.decode('utf-8', 'replace')})", value)
        for section, key, value, at in _values(data)
        if _counts(section, key, value)
    ]


def _counts(section: bytes, key: bytes, value: bytes) -> bool:
    if predicates.reference(value) or b"<path:" in value or not value:
        return False
    plain = value
    if section == b"data":
        text = b"".join(value.split())
        try:
            plain = a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
        except _Base64Error:
            return not predicates.placeholder(value)  # a value that will not apply, and may be plain
    if not plain or predicates.reference(plain):
        return False
    low = plain.strip().lower()
    if low in (b"true", b"false", b"yes", b"no", b"on", b"off", b"null", b"none") or (low.isdigit() and len(low) < 8):
        return False
    if predicates.stopped(plain.strip()) or predicates.dull(plain.strip()):
        return False
    name = key.lower().replace(b"-", b"_").rsplit(b"_", 1)[-1]
    if name in _PLAIN_KEYS and not (b"://" in plain and b"@" in plain):
        return False
    return not plain.lstrip().startswith((b"-----BEGIN CERTIFICATE", b"-----BEGIN PUBLIC", b"ssh-", b"age1"))


def _values(data: bytes) -> "Iterator[tuple[bytes, bytes, bytes, int]]":
    """(section, key, value, offset) of every entry below `data` and `stringData` of a Secret."""
    if data.lstrip()[:1] in (b"{", b"["):
        yield from _json(data)
        return
    start = 0
    while True:
        end = data.find(b"\n---", start)
        document = data[start : len(data) if end < 0 else end + 1]
        if b"Secret" in document:
            yield from _document(document, start)
        if end < 0:
            return
        start = end + 1


def _split(line: bytes) -> "tuple[int, bytes, bytes]":
    """(column, key, rest) of a `key: rest` line; the dashes before a list item's key count as indentation."""
    body = line.lstrip(b" ")
    column = len(line) - len(body)
    while body[:2] == b"- ":
        inner = body[2:].lstrip(b" ")
        column += len(body) - len(inner)
        body = inner
    key, colon, rest = body.partition(b":")
    if not colon or (rest and rest[:1] not in (b" ", b"\t")):
        return column, b"", b""
    return column, key.strip(b" \"'"), rest.strip()


def _scalar(text: bytes) -> bytes:
    """A one-line scalar without its quotes and comment."""
    if text[:1] in (b'"', b"'"):
        end = text.find(text[:1], 1)
        return text[1:end] if end > 0 else text[1:]
    cut = text.find(b" #")
    return text if cut < 0 else text[:cut].rstrip()


def _document(document: bytes, base: int) -> "Iterator[tuple[bytes, bytes, bytes, int]]":
    lines: "list[tuple[int, int, bytes, bytes, bytes]]" = []
    at = 0
    for line in document.split(b"\n"):
        body = line.rstrip(b"\r")
        lines.append((at, *_split(body), body))
        at += len(line) + 1
    columns = [column for _, column, key, rest, _ in lines if key == b"kind" and _scalar(rest) == b"Secret"]
    for column in dict.fromkeys(columns):
        for number, (offset, here, key, rest, _) in enumerate(lines):
            if here != column or key not in (b"data", b"stringData") or not _same_object(lines, number, column):
                continue
            if rest and rest[:1] != b"#":
                if rest[:1] == b"{" and rest != b"{}":
                    yield from _flow(key, rest, base + offset)
                continue
            yield from _entries(key, lines, number + 1, column, base)


def _same_object(lines: "list[tuple[int, int, bytes, bytes, bytes]]", number: int, column: int) -> bool:
    """Whether the mapping that holds line `number` says `kind: Secret`: its lines reach to the next shallower one, or
    to the dash that begins another item."""
    for step in (-1, 1):
        at = number
        while 0 <= at < len(lines):
            _, here, key, rest, body = lines[at]
            if body.strip() and body.lstrip()[:1] != b"#" and at != number:
                if here < column:
                    break
                dash = body.lstrip(b" ")[:2] == b"- " and here == column
                if step == 1 and dash:
                    break
                if here == column and key == b"kind":
                    return _scalar(rest) == b"Secret"
                if step == -1 and dash:
                    break
            at += step
    return False


def _entries(
    section: bytes, lines: "list[tuple[int, int, bytes, bytes, bytes]]", at: int, column: int, base: int
) -> "Iterator[tuple[bytes, bytes, bytes, int]]":
    inner = -1
    while at < len(lines):
        offset, here, key, rest, body = lines[at]
        at += 1
        if not body.strip() or body.lstrip()[:1] == b"#":
            continue
        if here <= column:
            return
        inner = here if inner < 0 else inner
        if here != inner or not key:
            continue
        place = base + offset + body.find(rest, len(body) - len(rest) - 1 if rest else 0)
        if rest[:1] in (b"|", b">"):
            block = []
            while at < len(lines) and (not lines[at][4].strip() or _indent(lines[at][4]) > here):
                block.append(lines[at][4].strip())
                at += 1
            yield section, key, b"\n".join(block).strip(), place
        elif rest:
            yield section, key, _scalar(rest), place


def _indent(line: bytes) -> int:
    return len(line) - len(line.lstrip(b" "))


def _flow(section: bytes, rest: bytes, at: int) -> "Iterator[tuple[bytes, bytes, bytes, int]]":
    """`data: {a: b}` on one line."""
    for pair in rest.strip(b"{}").split(b","):
        key, colon, value = pair.partition(b":")
        if colon:
            yield section, key.strip(b" \"'"), value.strip(b" \"'}"), at


def _json(data: bytes) -> "Iterator[tuple[bytes, bytes, bytes, int]]":
    from zopp import _fast

    try:
        top = _fast.json_parse(data.decode().strip(" \t\r\n"))
    except (ValueError, RecursionError):
        return
    stack = [top]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            if node.get("kind") == "Secret":
                for section in ("data", "stringData"):
                    found = node.get(section)
                    for key, value in found.items() if isinstance(found, dict) else ():
                        if isinstance(value, str):
                            text = value.encode("utf-8", "surrogatepass")
                            at = data.find(text.split(b"\n")[0])
                            yield section.encode(), key.encode("utf-8", "surrogatepass"), text, max(at, 0)
            stack += [value for value in node.values() if isinstance(value, (dict, list))]
