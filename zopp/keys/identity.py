"""age identities: read from text, made, and kept from being printed. Lean for unprotected ones.

Sources: sops-compat §13.6 (the form of a key file).
"""

from zopp.errors import FormatError, Unknown, ZoppError
from zopp.keys import agefile, bech32, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from zopp.keys.filekey import PrivateKey

_PREFIX = "age-secret-key-"
_PLUGIN_PREFIX = "AGE-PLUGIN-"
_OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----"
_ARMORED = f"-----BEGIN {agefile.LABEL}-----"


class Identity:
    """One private age key. `recipient` is its canonical public text, `source` says where it came from. Neither `repr`
    nor `str`, nor pickling or copying, shows the key. For `agefile` only: `x25519`, the key itself if it is of that
    kind, and `opener()`, the library's object."""

    __slots__ = ("opener", "recipient", "source", "x25519")

    def __init__(
        self, recipient: str, source: str, opener: "Callable[[], Any]", x25519: "PrivateKey | None" = None
    ) -> None:
        self.recipient = recipient
        self.source = source
        self.opener = opener
        self.x25519 = x25519

    def __repr__(self) -> str:
        return f"<Identity {self.recipient} from {self.source}>"

    def __reduce__(self) -> "tuple[Any, ...]":
        raise TypeError("an identity is not copied or pickled")


def generate() -> "tuple[str, str]":
    """A new X25519 identity: (its secret text `AGE-SECRET-KEY-1…`, its recipient). The caller keeps the text safe."""
    from zopp.keys import _pyrage

    return _pyrage.generate()


def from_secret(text: str, source: str) -> Identity:
    """The identity in one `AGE-SECRET-KEY-1…` text, exact: upper case, no blanks. Raises FormatError."""
    # Bech32 allows either case, not both; age writes and reads identities in upper case.
    secret = bech32.decode(_PREFIX, text.lower()) if text.isascii() and text == text.upper() else None
    if secret is None or len(secret) != 32:
        raise FormatError("not a valid AGE-SECRET-KEY-1… text", code="identity", place=source)
    from zopp.keys.filekey import PrivateKey

    key = PrivateKey(secret)

    def opener() -> "Any":
        from zopp.keys import _pyrage

        return _pyrage.x25519_identity(text)

    return Identity(key.recipient, source, opener, key)


def from_openssh(data: bytes, source: str, passphrase: "Callable[[], str] | None" = None) -> Identity:
    """The age identity that an OpenSSH Ed25519 private key file is. A protected key needs `passphrase`, without which
    it is Unknown (`locked`)."""
    from zopp.keys import signing

    try:
        key = signing.load_openssh(data, passphrase)
    except ZoppError as exc:
        exc.place = exc.place or source
        raise
    from zopp.keys import _pyrage

    opener = _pyrage.ssh_identity(signing.dump_openssh(key, ""))
    return Identity("ssh-ed25519 " + wire.base64_encode(wire.public_blob(key.public)), source, lambda: opener)


def from_rsa(data: bytes, source: str) -> Identity:
    """The identity that an unprotected ssh-rsa private key is, for old sops files only: zopp admits no such recipient.
    Its recipient text is not derived and reads `ssh-rsa`. Raises FormatError."""
    from zopp.keys import _pyrage

    if data.startswith((_OPENSSH.encode(), b"-----BEGIN RSA PRIVATE KEY-----")):
        try:
            opener = _pyrage.ssh_identity(data)
            return Identity("ssh-rsa", source, lambda: opener)
        except _pyrage.AgeError:
            pass
    raise FormatError("not an unprotected ssh-rsa private key", code="identity", place=source)


def is_protected(data: bytes) -> bool:
    """Whether `data` is an age file, which a key file may be to be opened by a passphrase."""
    return data.startswith((_ARMORED.encode(), agefile.MAGIC))


def parse(
    text: "str | bytes", source: str, passphrase: "Callable[[], str] | None" = None, *, ssh: bool = True
) -> "list[Identity]":
    """The identities in a key file: `AGE-SECRET-KEY-1…` one a line, comments and empty lines skipped, LF or CRLF;
    or one OpenSSH private key (if `ssh`); or either of them inside a passphrase-encrypted age file.

    Raises FormatError naming the line, never its text: a blank before or after a key, anything else on a line, or no
    key at all. Raises Unknown (`locked`) where a passphrase is needed and none is given, or it is wrong. Plugin
    identities are skipped, since age tools of others own them; a file of nothing else is a FormatError.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if is_protected(data):
        return parse(unprotect(data, source, passphrase), source, ssh=ssh)
    if ssh and data.startswith(_OPENSSH.encode()):
        return [from_openssh(data, source, passphrase)]
    found: list[Identity] = []
    plugins = 0
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = raw.removesuffix(b"\r").decode("ascii", "replace")
        if line == "" or line.startswith("#"):
            continue
        if line.startswith(_PLUGIN_PREFIX):
            plugins += 1
            continue
        found.append(from_secret(line, f"{source}:{number}"))
        found[-1].source = source
    if not found:
        holds = "plugin identities only, which zopp cannot use" if plugins else "no identity"
        raise FormatError(f"the key text holds {holds}", code="no_key", place=source)
    return found


def secret_text(data: bytes, source: str, passphrase: "Callable[[], str] | None" = None) -> str:
    """The `AGE-SECRET-KEY-1…` text of a key file that holds exactly one, for a recovery file. Errors as in `parse`."""
    plain = unprotect(data, source, passphrase) if is_protected(data) else data
    lines = [line for line in plain.decode("ascii", "replace").splitlines() if line and not line.startswith("#")]
    if len(lines) != 1:
        raise FormatError("the key file does not hold exactly one identity", code="identity", place=source)
    from_secret(lines[0], source)
    return lines[0]


def unprotect(data: bytes, source: str, passphrase: "Callable[[], str] | None") -> bytes:
    """What a passphrase-encrypted age file holds. Errors as in `parse`. pyrage bounds the work factor (seconds)."""
    if not is_protected(data):
        raise FormatError("not a passphrase-encrypted age file", code="identity", place=source)
    binary = data
    if not data.startswith(agefile.MAGIC):
        binary = agefile.dearmor(data.replace(b"\r\n", b"\n").decode("ascii", "replace"))
    if [kind for kind, _, _ in agefile.stanzas(binary)] != ["scrypt"]:
        raise FormatError("the key file is encrypted to keys, not to a passphrase", code="identity", place=source)
    if passphrase is None:
        raise Unknown("the key file is protected by a passphrase", code="locked", place=source)
    secret = passphrase()
    from zopp.keys import _pyrage

    try:
        plain = _pyrage.decrypt_passphrase(binary, secret)
    except _pyrage.AgeError:
        raise Unknown("the passphrase does not open the key file", code="locked", place=source) from None
    if is_protected(plain):
        raise FormatError("the key file is encrypted twice", code="identity", place=source)
    return plain


def protect(text: str, passphrase: str) -> bytes:
    """`text` as an armored age file under `passphrase` (scrypt, about a second), which sops and age open too."""
    if not passphrase:
        raise FormatError("a passphrase may not be empty", code="passphrase")
    from zopp.keys import _pyrage

    return _pyrage.encrypt_passphrase(text.encode(), passphrase)
