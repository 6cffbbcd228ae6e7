"""The only place that reaches past a library's public door for speed, with a public fallback for each reach.

Cold start is a feature and imports are its cost: `hashlib` is 3-5 ms, `json` 7-10, cryptography's public AEAD path
19, on a machine where bare Python takes 12. The objects used here are the very ones behind the public names
(`tests/unit/test_fast.py` holds both branches to the same answers). Nothing outside this module may import a private
name of another package.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:  # the extension modules behind hashlib; present in CPython builds, absent elsewhere
    try:
        from _sha2 import sha256 as _sha256, sha512 as _sha512  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found, unused-ignore]
        from _sha512 import sha512 as _sha512  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    from hashlib import sha256 as _sha256, sha512 as _sha512

# Above this size OpenSSL's assembly wins back hashlib's import.
_HASHLIB_FROM = 1 << 20


def sha256(data: bytes) -> bytes:
    """SHA-256 of `data`, 32 bytes."""
    if len(data) > _HASHLIB_FROM:
        import hashlib

        return hashlib.sha256(data).digest()
    return bytes(_sha256(data).digest())


def sha512(data: bytes) -> bytes:
    """SHA-512 of `data`, 64 bytes."""
    if len(data) > _HASHLIB_FROM:
        import hashlib

        return hashlib.sha512(data).digest()
    return bytes(_sha512(data).digest())


# RFC 2104's two pads, as tables: byte -> byte xor pad.
_IPAD = bytes([byte ^ 0x36 for byte in range(256)])
_OPAD = bytes([byte ^ 0x5C for byte in range(256)])


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256 (RFC 2104), 32 bytes; `key` of at most 64 bytes, which every caller's is."""
    if len(key) > 64:
        raise ValueError("HMAC keys here are at most one block")
    block = key.ljust(64, b"\0")
    return sha256(block.translate(_OPAD) + sha256(block.translate(_IPAD) + message))


def constant_time_equal(a: bytes, b: bytes) -> bool:
    """Whether `a` equals `b`, in time that depends on the lengths only."""
    try:
        from _operator import _compare_digest
    except ImportError:
        from hmac import compare_digest

        return compare_digest(a, b)
    return _compare_digest(a, b)


def aesgcm(key: bytes) -> "Any":
    """An AES-GCM object with `encrypt(nonce, data, aad)` and `decrypt(nonce, data, aad)`; the same class as
    `cryptography.hazmat.primitives.ciphers.aead.AESGCM`. `decrypt` raises `InvalidTag`."""
    try:
        from cryptography.hazmat.bindings._rust import openssl

        return openssl.aead.AESGCM(key)
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(key)


_ed25519_keys: "dict[bytes, Any]" = {}


def _ed25519_public(public: bytes) -> "Any":
    """The key object, None for what is no point; kept, since a server and a verifier meet the same few again."""
    key = _ed25519_keys.get(public)
    if key is None:
        try:
            from cryptography.hazmat.bindings._rust import openssl

            load: Any = openssl.ed25519.from_public_bytes
        except (ImportError, AttributeError):
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

            load = Ed25519PublicKey.from_public_bytes
        try:
            key = load(public)
        except ValueError:
            return None
        if len(_ed25519_keys) >= 1024:
            _ed25519_keys.clear()
        _ed25519_keys[public] = key
    return key


def ed25519_verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` (64 bytes) of `message` is by the Ed25519 key `public` (32 bytes). One acceptance rule
    everywhere: OpenSSL's as `cryptography` exposes it (RFC 8032, cofactorless)."""
    key = _ed25519_public(public)
    if key is None:
        return False
    try:
        key.verify(signature, message)
    except Exception as exc:  # InvalidSignature lives in cryptography.exceptions, which costs an import to name
        if type(exc).__name__ != "InvalidSignature":
            raise
        return False
    return True


def ed25519_private(seed: bytes) -> "Any":
    """An Ed25519 private key object (`sign(message)`, `public_key().public_bytes_raw()`) from its 32-byte seed."""
    try:
        from cryptography.hazmat.bindings._rust import openssl

        return openssl.ed25519.from_private_bytes(seed)
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(seed)


def x25519_private(secret: bytes) -> "Any":
    """An X25519 private key object (`exchange(public)`, `public_key().public_bytes_raw()`) from its 32 bytes."""
    try:
        from cryptography.hazmat.bindings._rust import openssl

        return openssl.x25519.from_private_bytes(secret)
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return X25519PrivateKey.from_private_bytes(secret)


def x25519_public(point: bytes) -> "Any":
    """An X25519 public key object from its 32 bytes, for `exchange`, which raises ValueError for a low-order point."""
    try:
        from cryptography.hazmat.bindings._rust import openssl

        return openssl.x25519.from_public_bytes(point)
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        return X25519PublicKey.from_public_bytes(point)


def open_chacha20(key: bytes, nonce: bytes, data: bytes) -> bytes:
    """ChaCha20-Poly1305 (RFC 8439) decryption without additional data; ValueError if the tag does not hold."""
    aead: Any
    try:
        from cryptography.hazmat.bindings._rust import openssl

        aead = openssl.aead.ChaCha20Poly1305(key)
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        aead = ChaCha20Poly1305(key)
    try:
        opened: bytes = aead.decrypt(nonce, data, None)
    except Exception as exc:  # InvalidTag lives in cryptography.exceptions, which costs an import to name
        if type(exc).__name__ != "InvalidTag":
            raise
        raise ValueError("the tag does not hold") from None
    return opened


def _unique(pairs: "list[tuple[str, Any]]") -> "dict[str, Any]":
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("duplicate key")
    return made


def _no_constant(name: str) -> "Any":
    raise ValueError("NaN and infinities are not JSON")


class _ScannerContext:
    """What `_json.make_scanner` reads from `json.JSONDecoder`."""

    __slots__ = ("memo", "object_hook", "object_pairs_hook", "parse_constant", "parse_float", "parse_int", "strict")

    def __init__(self) -> None:
        self.strict = True
        self.object_hook = None
        self.object_pairs_hook = _unique
        self.parse_float = float
        self.parse_int = int
        self.parse_constant = _no_constant
        self.memo: dict[str, str] = {}


def json_parse(text: str) -> "Any":
    """Parse one JSON value that spans the whole text; duplicate keys, NaN, nesting beyond the interpreter's
    recursion limit and anything before or after it are errors. Raises ValueError whose text never quotes the input."""
    try:
        from _json import make_scanner
    except ImportError:
        import json

        if text != text.strip(" \t\n\r"):
            raise ValueError("not a JSON value") from None
        try:
            return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise ValueError("not a JSON value") from None
    try:
        value, end = make_scanner(_ScannerContext())(text, 0)  # type: ignore[arg-type]
    except StopIteration:
        raise ValueError("not a JSON value") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError("not a JSON value") from None
    if end != len(text):
        raise ValueError("text after the JSON value")
    return value


_encoder: "Any" = None


def json_text(value: "Any") -> str:
    """JSON of None, bool, int, str, list, tuple and dict with string keys: keys sorted by code point, no whitespace,
    nothing escaped but `"`, `\\` and controls (`\\b \\t \\n \\f \\r`, else `\\u00xx`). Other types are not checked."""
    global _encoder
    if _encoder is None:
        try:
            from _json import encode_basestring, make_encoder

            c_encode = make_encoder(None, _no_default, encode_basestring, None, ":", ",", True, False, False)

            def encode(value: "Any") -> str:
                return "".join(c_encode(value, 0))

            _encoder = encode
        except (ImportError, TypeError):
            import json

            _encoder = json.JSONEncoder(
                ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False
            ).encode
    text: str = _encoder(value)
    return text


def _no_default(value: "Any") -> "Any":
    raise TypeError("not a JSON value")


def blake2b(data: bytes, *, key: bytes, size: int) -> bytes:
    """Keyed BLAKE2b of `data`, `size` bytes."""
    try:
        from _blake2 import blake2b as made
    except ImportError:
        from hashlib import blake2b as made
    return bytes(made(data, key=key, digest_size=size).digest())


def shake256(data: bytes, size: int) -> bytes:
    """`size` bytes of SHAKE256 (FIPS 202) of `data`."""
    try:
        from _sha3 import shake_256 as made  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        from hashlib import shake_256 as made
    return bytes(made(data).digest(size))
