"""Whether a file is encrypted where it must be, leaf by leaf, without a key (spec guard 5). Lean.

This is what every judged file passes: most carry no sops metadata and are demanded by no rule, and are done. The rest
goes to `leaves`. Form only: whether a MAC holds or a recipient is allowed is `zopp verify`'s.
"""

from binascii import Error as _Base64Error, a2b_base64

from zopp.sopsfile.formats import format_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from zopp.sopsfile.selectors import Selector

_TYPES = frozenset(("str", "int", "float", "bool", "bytes", "time", "comment"))
_LFS = b"version https://git-lfs.github.com/spec/"


class Demand:
    """Why a path must be encrypted: `source` in words; `selector` of the rule, None: the file's own decides;
    `only_secrets`: of documents with apiVersion and kind only those of kind Secret (a rule as wide as `.*\\.yaml$`)."""

    __slots__ = ("only_secrets", "selector", "source")

    def __init__(self, source: str, selector: "Selector | None", only_secrets: bool = False) -> None:
        self.source = source
        self.selector = selector
        self.only_secrets = only_secrets


class Verdict:
    """`faults`: (rule id, line, what) of each; `unknown`: why it could not be told; `sops`: the file has sops metadata
    and no fault, so its ciphertext may be masked; `carries`: it has sops metadata."""

    __slots__ = ("carries", "faults", "sops", "unknown")

    def __init__(self) -> None:
        self.faults: "list[tuple[str, int, str]]" = []
        self.unknown = ""
        self.sops = False
        self.carries = False

    def add(self, rule: str, line: int, what: str) -> None:
        """One more fault."""
        self.faults.append((rule, line, what))


def is_ciphertext(text: str) -> bool:
    """Whether the *whole* text is an encrypted value as sops writes it. sops ignores what stands behind the bracket;
    here that is none."""
    if text[:15] != "ENC[AES256_GCM," or text[-1] != "]":
        return False
    fields = text[15:-1].split(",")
    if len(fields) != 4:
        return False
    data, iv, tag, kind = fields
    if data[:5] != "data:" or iv[:3] != "iv:" or tag[:4] != "tag:" or kind[:5] != "type:" or kind[5:] not in _TYPES:
        return False
    try:
        return (
            len(a2b_base64(data[5:], strict_mode=True)) > 0
            and len(a2b_base64(iv[3:], strict_mode=True)) >= 12
            and len(a2b_base64(tag[4:], strict_mode=True)) == 16
        )
    except (_Base64Error, ValueError):
        return False


def carries_metadata(data: bytes, fmt: str) -> bool:
    """Whether the file has what makes sops take it for its own, as far as bytes tell. A binary file must be JSON."""
    if b"sops" not in data:
        return False
    if fmt == "yaml":
        head = data[:5] == b"sops:" or b"\nsops:" in data or b'"sops"' in data or b"'sops'" in data
        return head and (b"lastmodified" in data or b"mac:" in data)
    if fmt == "dotenv":
        lines_ = b"\n" + data
        return b"\nsops_mac=" in lines_ or b"\nsops_version=" in lines_ or b"\nsops_lastmodified=" in lines_
    if fmt == "ini":
        return b"[sops]" in data and (b"lastmodified" in data or b"mac" in data)
    return data.lstrip()[:1] == b"{" and b'"sops"' in data and (b'"lastmodified"' in data or b'"mac"' in data)


def judge(path: str, data: bytes, demands: "list[Demand]", *, link: bool = False) -> Verdict:
    """The verdict on a file's bytes. `demands` empty: only if it carries sops metadata is anything asked of it.
    `link`: the bytes are the target of a symbolic link."""
    verdict = Verdict()
    fmt = format_of(path)
    verdict.carries = not link and carries_metadata(data, fmt)
    if not demands and not verdict.carries:
        return verdict
    if link:
        verdict.add("link", 1, f"is a link, where {demands[0].source} wants an encrypted file")
        return verdict
    if data.startswith(_LFS):
        verdict.add(
            "lfs-pointer", 1, "is a Git LFS pointer: the file itself cannot be judged, and LFS keeps it as it is"
        )
        return verdict
    if not data.strip():
        return verdict
    from zopp.scan import leaves

    leaves.read(verdict, data, fmt, demands)
    verdict.sops = not verdict.faults and not verdict.unknown
    return verdict


def mask(data: bytes) -> bytes:
    """The bytes with every `ENC[…]` and every age armor blotted out, same length: for files that pass only."""
    if b"ENC[AES256_GCM," in data:
        parts, at = [], 0
        while (start := data.find(b"ENC[AES256_GCM,", at)) >= 0:
            end = data.find(b"]", start)
            if end < 0:
                break
            parts.append(data[at:start])
            parts.append(b" " * (end + 1 - start))
            at = end + 1
        parts.append(data[at:])
        data = b"".join(parts)
    return mask_messages(data)


_MESSAGES = (
    (b"-----BEGIN AGE ENCRYPTED FILE-----", b"-----END AGE ENCRYPTED FILE-----"),
    (b"-----BEGIN PGP MESSAGE-----", b"-----END PGP MESSAGE-----"),
)


def mask_messages(data: bytes) -> bytes:
    """The bytes with age and PGP messages blotted out, each only if it decodes to that format."""
    for begin, end in _MESSAGES:
        at = 0
        while (start := data.find(begin, at)) >= 0:
            stop = data.find(end, start)
            at = start + len(begin)
            if stop < 0:
                break
            stop += len(end)
            if _is_message(data[at : stop - len(end)], pgp=b"PGP" in begin):
                data = data[:start] + b" " * (stop - start) + data[stop:]
                at = stop
    return data


def _is_message(body: bytes, *, pgp: bool) -> bool:
    rows = body.replace(b"\\n", b"\n").split(b"\n")
    text = b"".join(
        row.strip()
        for row in rows
        if b": " not in row and not (pgp and row.strip()[:1] == b"=" and len(row.strip()) == 5)
    )
    try:
        plain = a2b_base64(text, strict_mode=True)
    except (_Base64Error, ValueError):
        return False
    if not pgp:
        return plain.startswith(b"age-encryption.org/v1\n-> ")
    if len(plain) < 10 or not plain[0] & 0x80:
        return False
    tag = plain[0] & 0x3F if plain[0] & 0x40 else plain[0] >> 2 & 0x0F
    return tag in (1, 3, 9, 18, 20)  # session keys and encrypted data, never a key
