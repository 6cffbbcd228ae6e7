"""Decrypted copies, `.env` files with credentials, what editors and merges leave (spec guard 6). Lean."""

from zopp.scan import predicates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_MARKS = (".dec.", ".decrypted.", ".plain.")
_SAMPLES = ("example", "sample", "template", "dist", "defaults")
_CREDENTIAL = ("pass", "pwd", "secret", "token", "key", "credential", "auth", "private", "dsn")
_REMAINS = ("~", ".swp", ".swo", ".bak", ".orig", ".rej")
_MERGE = ("_BASE_", "_LOCAL_", "_REMOTE_", "_BACKUP_")
_NOT = ("public", "keyword", "author", "keyboard", "monkey", "passive", "bypass", "compass", "keymap")


def is_decrypted_copy(path: str) -> bool:
    """Whether a name says 'decrypted'."""
    name = path.rpartition("/")[2].lower()
    return any(mark in name for mark in _MARKS) or (name.endswith(".dec") and len(name) > 4)


def is_env_file(path: str) -> bool:
    """`.env`, `.env.*`, `*.env`, but no sample."""
    name = path.rpartition("/")[2].lower()
    if not (name == ".env" or name.startswith(".env.") or name.endswith(".env")):
        return False
    return not any(sample in name.split(".") for sample in _SAMPLES) and not name.endswith((".env.enc", ".env.age"))


def origins(path: str) -> "list[str]":
    """The paths that a file may be the remains of."""
    folder, slash, name = path.rpartition("/")
    names = [name[: -len(tail)] for tail in _REMAINS if name.endswith(tail) and len(name) > len(tail)]
    names += [inner[1:] for inner in names if inner.startswith(".")]  # vim: .prod.yaml.swp
    if name.startswith("#") and name.endswith("#") and len(name) > 2:
        names.append(name[1:-1])
    for mark in _MERGE:
        if mark in name:
            stem, _, rest = name.partition(mark)
            dot = rest.rfind(".")
            names.append(stem + (rest[dot:] if dot >= 0 else ""))
    return [folder + slash + each for each in dict.fromkeys(names) if each]


def _pairs(data: bytes) -> "list[tuple[int, str, bytes]]":
    """(line, key, value) of every assignment in a dotenv text."""
    found = []
    for number, line in enumerate(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), 1):
        body = line.strip()
        if body[:1] == b"#" or b"=" not in body:
            continue
        key, _, value = body.removeprefix(b"export ").partition(b"=")
        value = value.strip()
        if value[:1] in (b'"', b"'"):
            end = value.find(value[:1], 1)
            value = value[1:end] if end > 0 else value[1:]
        else:
            value = value.split(b" #")[0].strip()
        found.append((number, key.strip().decode("utf-8", "replace"), value))
    return found


def _literal(value: bytes) -> bool:
    """A value that stands for itself. Weak ones too; only what is plainly to be filled in does not count."""
    low = value.lower()
    if not value or predicates.reference(value) or (predicates.dull(value) and len(value) < 4):
        return False
    if low in (b"true", b"false", b"yes", b"no", b"on", b"off", b"null", b"none", b"0", b"1"):
        return False
    words = predicates.parts_of(value)
    hinting = (b"change", b"changeme", b"changeit", b"your", b"replace", b"placeholder", b"todo", b"fixme", b"insert",
               b"example", b"xxx", b"dummy", b"here", b"redacted")  # fmt: skip
    if any(word.startswith(hinting) for word in words) and predicates.stopped(value):
        return False
    return low.strip(b"x*.-_?") != b""


def env_credentials(data: bytes, known: "Collection[str]") -> "list[tuple[int, str]]":
    """(line, key) of each key with a credential word, or known from an encrypted file, that has a literal value."""
    out = []
    for line, key, value in _pairs(data):
        low = key.lower()
        named = any(word in low for word in _CREDENTIAL) and not any(word in low for word in _NOT)
        if (named or key in known) and _literal(value) and not low.endswith(("_file", "_path", "_url", "_id", "_name")):
            out.append((line, key))
    return out


def clear_leaf(path: str, data: bytes, format_of: "Callable[[str], str]") -> "int | None":
    """The line of the first non-empty leaf that is no placeholder and no ciphertext; None if there is none. A file that
    does not parse counts as text: any line that is no comment."""
    from zopp.errors import FormatError
    from zopp.scan.encrypted import is_ciphertext
    from zopp.sopsfile import scan as scans
    from zopp.sopsfile.cst import flatten
    from zopp.sopsfile.file import parse
    from zopp.sopsfile.selectors import DEFAULT_SELECTOR

    fmt = format_of(path)
    if not data.strip():
        return None
    if fmt != "binary":
        try:
            text, _ = scans.decode(data)
            for number, document in enumerate(parse(text, fmt, strict=False).documents):
                for kind, _, _, value, _, _, line, _ in flatten(document, DEFAULT_SELECTOR, number):
                    if kind & 2 or value is None or value == "" or isinstance(value, bool):
                        continue
                    if isinstance(value, (int, float)):
                        return int(line)
                    if not isinstance(value, str):
                        continue
                    if not is_ciphertext(value) and _literal(value.encode("utf-8", "surrogatepass")):
                        return int(line)
            return None
        except (FormatError, RecursionError):
            pass
    if data.lstrip()[:1] == b"{" and b'"sops"' in data:
        return None
    if data.startswith(
        (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED", b"-----BEGIN PGP MESSAGE", b"$ANSIBLE_VAULT")
    ):
        return None
    return 1
