"""Ed25519 signing keys in OpenSSH's own file format, or held by ssh-agent. Lean for keys without a passphrase.

The unprotected format is read by hand: it is 60 lines against 19 ms for cryptography's parser, and stricter (one
spelling of the same key). Protected keys go through cryptography, which needs the `bcrypt` package for OpenSSH's key
derivation. Source: OpenSSH PROTOCOL.key; attacks.md A8.
"""

import os

from zopp import _fast
from zopp.errors import FormatError, Unknown
from zopp.keys import curve, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LABEL = "OPENSSH PRIVATE KEY"
_MAGIC = b"openssh-key-v1\0"
_WHAT = "unprotected OpenSSH Ed25519 private key"


class SigningKey:
    """An Ed25519 key that can sign. `public` is its 32 bytes; `repr` shows no more, and it is not copied or pickled."""

    __slots__ = ("_seed", "_signer", "public")

    def __init__(self, public: bytes, signer: "Callable[[bytes], bytes]", seed: "bytes | None" = None) -> None:
        self.public = public
        self._signer = signer
        self._seed = seed

    def sign(self, message: bytes) -> bytes:
        """The raw 64-byte signature of exactly `message`. From an agent it may raise Unknown."""
        return self._signer(message)

    def __repr__(self) -> str:
        return f"<SigningKey {public_line(self.public)}>"

    def __reduce__(self) -> "tuple[Any, ...]":
        raise TypeError("a signing key is not copied or pickled")


def from_seed(seed: bytes) -> SigningKey:
    """The key of a 32-byte seed (RFC 8032)."""
    private = _fast.ed25519_private(seed)
    return SigningKey(private.public_key().public_bytes_raw(), private.sign, seed)


def generate() -> SigningKey:
    """A new key from the system's randomness."""
    return from_seed(os.urandom(32))


def check_public(public: bytes) -> None:
    """FormatError unless `public` is 32 bytes that canonically encode a point on the curve, not of small order: under
    such a key one signature verifies for many messages (A8). One rule, wherever a key enters."""
    if not curve.ed25519_ok(public):
        raise FormatError("the Ed25519 public key is a small-order, non-canonical or invalid point", code="public_key")


def public_line(public: bytes, comment: str = "") -> str:
    """`ssh-ed25519 AAAA… comment`, without a newline; `comment` must be printable."""
    if not (comment == "" or comment.isprintable()):
        raise FormatError("a key comment must be one printable line", code="comment")
    line = "ssh-ed25519 " + wire.base64_encode(wire.public_blob(public))
    return f"{line} {comment}" if comment else line


def parse_public_line(line: str) -> bytes:
    """The checked 32 bytes of an `ssh-ed25519 AAAA… comment` line, which may end in a newline."""
    kind, _, rest = line.removesuffix("\n").partition(" ")
    text, _, comment = rest.partition(" ")
    blob = wire.base64_decode(text)
    if kind != "ssh-ed25519" or blob is None or not (comment == "" or comment.isprintable()):
        raise FormatError("not a valid ssh-ed25519 public key line", code="public_key")
    public = wire.parse_public_blob(blob, "ssh-ed25519 public key line")
    check_public(public)
    return public


def load_openssh(data: bytes, passphrase: "Callable[[], str] | None" = None) -> SigningKey:
    """The Ed25519 key in an OpenSSH private key file; `passphrase` is asked only if the file is protected.

    Raises FormatError (not such a file, another key type, public and private half that differ), Unknown (`locked`) if
    it is protected and `passphrase` is None or wrong.
    """
    # ssh-keygen reads CRLF files too, and a CI variable often loses or gains final newlines.
    text = data.replace(b"\r\n", b"\n").rstrip(b"\n").decode("ascii", "replace")
    if len(text) > 1 << 16:
        raise FormatError(f"not a valid {_WHAT}", code="signing_key")
    blob = wire.pem_decode(text, _LABEL, 70, "OpenSSH private key")
    if not blob.startswith(_MAGIC):
        raise FormatError("not a valid OpenSSH private key", code="signing_key")
    outer = wire.Reader(blob[len(_MAGIC) :], _WHAT)
    cipher, kdf, options = outer.string(), outer.string(), outer.string()
    if outer.uint32() != 1:
        raise FormatError("the key file must hold exactly one key", code="signing_key")
    public_blob = outer.string()
    if not public_blob.startswith(wire.string(wire.ED25519)):
        raise FormatError("the key is not of type ssh-ed25519", code="signing_key_type")
    public = wire.parse_public_blob(public_blob, _WHAT)
    if cipher != b"none":
        key = _load_protected(text.encode() + b"\n", passphrase)
    else:
        if kdf != b"none" or options:
            raise outer.fail()
        key = from_seed(_unprotected_seed(outer.string(), public))
        outer.end()
    # OpenSSH signs with the public half it finds in the file: a wrong one would leak the private one.
    if key.public != public:
        raise FormatError("public and private half of the key file differ", code="signing_key")
    return key


def _unprotected_seed(section: bytes, public: bytes) -> bytes:
    inner = wire.Reader(section, _WHAT)
    if inner.take(4) != inner.take(4):
        raise inner.fail()
    inner.expect(wire.ED25519)
    inner.expect(public)
    both = inner.string()
    inner.string()  # the comment
    padding = inner.rest()
    if len(both) != 64 or both[32:] != public or len(section) % 8 or len(padding) > 7:
        raise inner.fail()
    if padding != bytes(range(1, len(padding) + 1)):
        raise inner.fail()
    return both[:32]


def _load_protected(data: bytes, passphrase: "Callable[[], str] | None") -> SigningKey:
    if passphrase is None:
        raise Unknown("the key file is protected by a passphrase", code="locked")
    secret = passphrase().encode()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        private = load_ssh_private_key(data, secret)
    except UnsupportedAlgorithm:
        raise Unknown(
            "the key file's protection is not supported (without the package bcrypt none is)", code="bcrypt"
        ) from None
    except (ValueError, TypeError):
        raise Unknown("the passphrase does not open the key file", code="locked") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise FormatError("the key is not of type ssh-ed25519", code="signing_key_type")
    return from_seed(private.private_bytes_raw())


def dump_openssh(key: SigningKey, comment: str = "", passphrase: "str | None" = None) -> bytes:
    """`key` as an OpenSSH private key file, protected if `passphrase` is given (never an empty one; the comment is
    then left out, since cryptography cannot write one). A key in an agent cannot be dumped: FormatError."""
    if key._seed is None:
        raise FormatError("a key held by ssh-agent cannot be written to a file", code="agent_key")
    public_line(key.public, comment)
    if passphrase is not None:
        return _dump_protected(key._seed, passphrase)
    blob = wire.public_blob(key.public)
    check = os.urandom(4)
    inner = check + check + blob + wire.string(key._seed + key.public) + wire.string(comment.encode())
    inner += bytes(range(1, 1 + -len(inner) % 8))
    none = wire.string(b"none")
    outer = _MAGIC + none + none + wire.string(b"") + (1).to_bytes(4, "big") + wire.string(blob) + wire.string(inner)
    return wire.pem_encode(outer, _LABEL, 70).encode("ascii")


def _dump_protected(seed: bytes, passphrase: str) -> bytes:
    if not passphrase:
        raise FormatError("a passphrase may not be empty", code="passphrase")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    try:
        made = Ed25519PrivateKey.from_private_bytes(seed).private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(passphrase.encode())
        )
    except UnsupportedAlgorithm:
        raise Unknown("a protected OpenSSH key needs the package bcrypt", code="bcrypt") from None
    # cryptography wraps at 76 columns, OpenSSH at 70: one form on disk.
    body = "".join(made.decode("ascii").strip().split("\n")[1:-1])
    decoded = wire.base64_decode(body)
    assert decoded is not None
    return wire.pem_encode(decoded, _LABEL, 70).encode("ascii")


def from_agent(public: bytes, path: "str | None" = None) -> SigningKey:
    """The key `public` held by the ssh-agent at socket `path` (default: SSH_AUTH_SOCK). Raises Unknown if there is no
    agent, it does not answer within seconds, or it does not hold the key. Each `sign` asks the agent anew and checks
    the answer."""
    from zopp.keys import agent

    check_public(public)
    path = os.environ.get("SSH_AUTH_SOCK", "") if path is None else path
    if public not in agent.list_keys(path):
        raise Unknown("ssh-agent does not hold the signing key", code="agent")
    return SigningKey(public, lambda message: agent.sign(path, public, message))
