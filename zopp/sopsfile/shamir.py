"""Splitting a data key over groups, as sops does (spec sops-compat 9). Lean.

A share is 33 bytes: one polynomial over GF(2^8) modulo x^8+x^4+x^3+x+1 per key byte, evaluated at x, then x itself, the
1-based index of its group. Not constant time: shares are made and joined in the caller's own process.
"""

from os import urandom

from zopp.errors import FormatError, IntegrityError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

KEY_LENGTH = 32


def _tables() -> "tuple[bytes, bytes]":
    exp, log, value = bytearray(510), bytearray(256), 1
    for power in range(255):
        exp[power] = exp[power + 255] = value
        log[value] = power
        value ^= (value << 1) ^ (0x11B if value & 0x80 else 0)  # times the generator x + 1
    return bytes(exp), bytes(log)


_EXP, _LOG = _tables()


def _mul(a: int, b: int) -> int:
    return _EXP[_LOG[a] + _LOG[b]] if a and b else 0


def _div(a: int, b: int) -> int:
    return _EXP[_LOG[a] - _LOG[b] + 255] if a else 0


def split_key(data_key: bytes, n: int, threshold: int, rand: "Callable[[int], bytes]" = urandom) -> "list[bytes]":
    """`n` shares of 33 bytes, any `threshold` of which give the 32-byte key back. FormatError unless 2 ≤ threshold ≤
    n ≤ 255."""
    if len(data_key) != KEY_LENGTH:
        raise FormatError("a data key is 32 bytes", code="key_length")
    if not 2 <= threshold <= n <= 255:
        raise FormatError("the threshold must be at least 2 and at most the number of groups", code="threshold")
    slopes = [rand(KEY_LENGTH) for _ in range(threshold - 1)]
    shares = []
    for x in range(1, n + 1):
        share = bytearray()
        for index, secret in enumerate(data_key):
            value = 0
            for coefficients in reversed(slopes):
                value = _mul(value, x) ^ coefficients[index]
            share.append(_mul(value, x) ^ secret)
        share.append(x)
        shares.append(bytes(share))
    return shares


def join_key(shares: "list[bytes]") -> bytes:
    """The 32-byte key from shares in any order; more than the threshold are fine. IntegrityError if they cannot be
    shares of one key; too few shares of a higher threshold give a wrong key, which the values' tags show."""
    points = [share[-1] for share in shares if len(share) == KEY_LENGTH + 1]
    if len(points) != len(shares) or len(points) < 2 or len(set(points)) != len(points) or 0 in points:
        raise IntegrityError("the shares do not belong to one key", code="bad_shares")
    weights = []
    for j, xj in enumerate(points):
        weight = 1
        for m, xm in enumerate(points):
            if m != j:
                weight = _mul(weight, _div(xm, xj ^ xm))
        weights.append(weight)
    key = bytearray(KEY_LENGTH)
    for weight, share in zip(weights, shares, strict=True):
        for index in range(KEY_LENGTH):
            key[index] ^= _mul(weight, share[index])
    return bytes(key)
