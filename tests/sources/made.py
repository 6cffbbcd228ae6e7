"""Files as dotenvx and fnox write them, made by a few lines of their own: other arithmetic than the product's.

Every key here is generated for the test that asks, and opens nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

import pyrage
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
Point = tuple[int, int] | None


def add(a: Point, b: Point) -> Point:
    """The group law of secp256k1, from the book."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = 3 * a[0] ** 2 * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope**2 - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(number: int, point: Point) -> Point:
    found: Point = None
    while number:
        if number & 1:
            found = add(found, point)
        point, number = add(point, point), number >> 1
    return found


def uncompressed(point: Point) -> bytes:
    assert point is not None
    return b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def hkdf(secret: bytes) -> bytes:
    """RFC 5869 with SHA-256, no salt, no info, one block."""
    prk = hmac.digest(bytes(32), secret, hashlib.sha256)
    return hmac.digest(prk, b"\x01", hashlib.sha256)


class DotenvxKey:
    """A generated key pair of dotenvx'."""

    def __init__(self) -> None:
        self.number = int.from_bytes(os.urandom(32), "big") % (N - 1) + 1
        self.private = self.number.to_bytes(32, "big").hex()
        point = times(self.number, G)
        assert point is not None
        self.public = (b"\x03" if point[1] & 1 else b"\x02").hex() + point[0].to_bytes(32, "big").hex()
        self._point = point

    def seal(self, value: str | bytes) -> str:
        """What dotenvx writes for `value`, with its prefix."""
        plain = value.encode() if isinstance(value, str) else value
        once = int.from_bytes(os.urandom(32), "big") % (N - 1) + 1
        sender, nonce = uncompressed(times(once, G)), os.urandom(16)
        sealed = AESGCM(hkdf(sender + uncompressed(times(once, self._point)))).encrypt(nonce, plain, None)
        return "encrypted:" + base64.b64encode(sender + nonce + sealed[-16:] + sealed[:-16]).decode()


def dotenvx(key: DotenvxKey, values: dict[str, str], *, suffix: str = "", clear: str = "") -> bytes:
    """A whole file, as the command line lays it out."""
    head = f'#/---[DOTENV_PUBLIC_KEY]---/\nDOTENV_PUBLIC_KEY{suffix}="{key.public}"\n\n# .env\n'
    return (head + "".join([f'{name}="{key.seal(value)}"\n' for name, value in values.items()]) + clear).encode()


class AgeKey:
    """A generated age identity."""

    def __init__(self) -> None:
        self.identity = pyrage.x25519.Identity.generate()
        self.secret, self.recipient = str(self.identity), str(self.identity.to_public())

    def seal(self, value: str | bytes) -> str:
        """What fnox writes for `value`: base64 of a binary age file."""
        plain = value.encode() if isinstance(value, str) else value
        return base64.b64encode(pyrage.encrypt(plain, [self.identity.to_public()])).decode()
