"""One value: its canonical bytes, its type tag and its `ENC[…]` text (spec sops-compat 3). Lean.

Here: AES-256-GCM under a 32-byte data key with a 32-byte IV, and the additional data that binds a value to its path.
Left to the caller: which values are encrypted (`selectors`) and whether they belong together (`mac`).
"""

from binascii import Error as _Base64Error, a2b_base64, b2a_base64
from os import urandom

from zopp.errors import FormatError, IntegrityError
from zopp.sopsfile.tree import Comment, Timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PREFIX = "ENC[AES256_GCM,data:"
IV_LENGTH = 32
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
_TRUE = frozenset((b"1", b"t", b"T", b"TRUE", b"true", b"True"))
_FALSE = frozenset((b"0", b"f", b"F", b"FALSE", b"false", b"False"))
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def aad_of(path: "tuple[object, ...]") -> str:
    """The additional data of a leaf: every mapping key of its path and a colon after each; list indices add nothing.
    A comment has the path of its container; at the top that gives `:`, as sops joins an empty path."""
    keys = [part for part in path if isinstance(part, str)]
    return ":".join(keys) + ":"


def float_text(value: float) -> str:
    """Shortest round-trip digits, never an exponent, no trailing `.0`; `+Inf`, `-Inf`, `NaN` as Go writes them."""
    text = repr(value)
    if text[-1] in "fn":
        return "NaN" if text == "nan" else "-Inf" if text[0] == "-" else "+Inf"
    sign = ""
    if text[0] == "-":
        sign, text = "-", text[1:]
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    if exponent:
        shift = int(exponent)
        if shift >= 0:
            digits = fraction.ljust(shift, "0")
            whole, fraction = whole + digits[:shift], digits[shift:]
        else:
            digits = whole.rjust(1 - shift, "0")
            whole, fraction = digits[:shift], digits[shift:] + fraction
        whole = whole.lstrip("0") or "0"
    return f"{sign}{whole}.{fraction}" if fraction else sign + whole


def canonical(value: "Any") -> "tuple[str, bytes]":
    """(type tag, canonical plaintext bytes) of a leaf. FormatError for what sops cannot hold."""
    kind = type(value)
    if kind is str:
        try:
            return "str", value.encode()
        except UnicodeEncodeError:
            raise FormatError("a value holds half of a surrogate pair", code="lone_surrogate") from None
    if kind is bool:
        return "bool", b"True" if value else b"False"
    if kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise FormatError("an integer does not fit 64 bits", code="int_range")
        return "int", b"%d" % value
    if kind is float:
        return "float", float_text(value).encode()
    if kind is bytes:
        return "str", value
    if kind is Timestamp:
        return "time", value.text.encode()
    if kind is Comment:
        try:
            return "comment", value.text.encode()
        except UnicodeEncodeError:
            raise FormatError("a comment holds half of a surrogate pair", code="lone_surrogate") from None
    raise FormatError("a value has a type that a sops file cannot hold", code="value_type")


def value_of(kind: str, plain: bytes) -> "Any":
    """The value behind a type tag and plaintext; IntegrityError if the two do not fit."""
    try:
        if kind in ("str", "bytes"):
            try:
                return plain.decode()
            except UnicodeDecodeError:
                return plain
        if kind == "int":
            return _go_int(plain)
        if kind == "bool":
            if plain in _TRUE:
                return True
            if plain in _FALSE:
                return False
        elif kind == "float":
            return go_float(plain.decode("ascii"))
        elif kind == "time":
            return Timestamp(rfc3339(plain.decode("ascii")))
        elif kind == "comment":
            return Comment(plain.decode())
    except ValueError:
        pass
    raise IntegrityError("a decrypted value does not fit its type", code="value_type")


def _go_int(plain: bytes) -> int:
    digits = plain[1:] if plain[:1] in (b"+", b"-") else plain
    if not digits.isdigit() or len(digits) > 4000:
        raise ValueError
    number = int(plain)
    if not INT_MIN <= number <= INT_MAX:
        raise ValueError
    return number


def go_float(text: str) -> float:
    """Go's ParseFloat: decimal, hexadecimal with `p`, `inf`, `infinity`, `nan` in any case. ValueError otherwise."""
    bare = text[1:] if text[:1] in ("+", "-") else text
    low = bare.lower()
    if low in ("inf", "infinity"):
        return float(text)
    if low == "nan" and bare == text:
        return float("nan")
    if low[:2] == "0x":
        if "p" not in low or "_" in low:
            raise ValueError
        number = _hex_float(text)
    else:
        if not bare or bare[0] not in "0123456789." or "_" in bare or low.strip("0123456789.e+-"):
            raise ValueError
        number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError
    return number


def _hex_float(text: str) -> float:
    try:
        return float.fromhex(text)
    except OverflowError:
        raise ValueError from None


def rfc3339(text: str) -> str:
    """The canonical form of an RFC 3339 time: fraction cut at nanoseconds and without trailing zeros, `+00:00` as `Z`.
    ValueError for anything else, a bare date or second 60 included."""
    if len(text) < 20 or not text.isascii() or text[4] + text[7] + text[10] + text[13] + text[16] != "--T::":
        raise ValueError
    head = text[:19]
    parts = (head[:4], head[5:7], head[8:10], head[11:13], head[14:16], head[17:19])
    if not all(part.isdigit() for part in parts):
        raise ValueError
    year, month, day, hour, minute, second = map(int, parts)
    rest = text[19:]
    fraction = ""
    if rest[0] in ".,":
        end = 1
        while end < len(rest) and rest[end].isdigit():
            end += 1
        if end == 1:
            raise ValueError
        fraction, rest = rest[1:end][:9].rstrip("0"), rest[end:]
    if rest in ("Z", "+00:00", "-00:00"):
        zone = "Z"
    elif len(rest) == 6 and rest[0] in "+-" and rest[3] == ":" and rest[1:3].isdigit() and rest[4:].isdigit():
        if int(rest[1:3]) > 23 or int(rest[4:]) > 59:
            raise ValueError
        zone = rest
    else:
        raise ValueError
    check_date(year, month, day)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError
    return f"{head}.{fraction}{zone}" if fraction else head + zone


def check_date(year: int, month: int, day: int) -> None:
    """ValueError unless the day exists in the (proleptic Gregorian) calendar."""
    if not 1 <= month <= 12 or not 1 <= day <= _DAYS[month - 1]:
        raise ValueError
    if month == 2 and day == 29 and (year % 4 or (year % 100 == 0 and year % 400)):
        raise ValueError


def seal(aead: "Any", kind: str, plain: bytes, aad: str, iv: "Callable[[int], bytes]" = urandom) -> str:
    """`plain` (not empty) as `ENC[…]` text."""
    nonce = iv(IV_LENGTH)
    sealed = aead.encrypt(nonce, plain, aad.encode())
    data = b2a_base64(sealed[:-16], newline=False).decode()
    tag = b2a_base64(sealed[-16:], newline=False).decode()
    return f"{PREFIX}{data},iv:{b2a_base64(nonce, newline=False).decode()},tag:{tag},type:{kind}]"


def encrypt(aead: "Any", value: "Any", aad: str, iv: "Callable[[int], bytes]" = urandom) -> str:
    """`value` as `ENC[…]` text; an empty string or comment stays empty, as in sops."""
    kind, plain = canonical(value)
    return seal(aead, kind, plain, aad, iv) if plain else ""


def open_text(aead: "Any", text: str, aad: bytes) -> "tuple[str, bytes]":
    """(type tag, plaintext) of `ENC[…]` text; what follows the bracket is ignored, as sops does.
    IntegrityError if the text is not of that form or its tag does not hold."""
    # The common case first and without a search: the five fields split at their commas.
    fields = text.split(",", 4)
    if len(fields) != 5 or fields[0] != "ENC[AES256_GCM":
        raise IntegrityError("a value that should be encrypted is not", code="not_encrypted")
    _, data, iv, tag, kind = fields
    if data[:5] != "data:" or iv[:3] != "iv:" or tag[:4] != "tag:" or kind[:5] != "type:":
        raise IntegrityError("a value that should be encrypted is not", code="not_encrypted")
    end = kind.find("]")
    if end < 0 or len(data) == 5:
        raise IntegrityError("a value that should be encrypted is not", code="not_encrypted")
    try:
        sealed = a2b_base64(data[5:]) + a2b_base64(tag[4:])
        return kind[5:end], aead.decrypt(a2b_base64(iv[3:]), sealed, aad)
    except (_Base64Error, ValueError):
        raise IntegrityError("an encrypted value is damaged", code="bad_value") from None
    except Exception as exc:  # InvalidTag lives in cryptography.exceptions, which costs an import to name
        if type(exc).__name__ != "InvalidTag":
            raise
        raise IntegrityError("an encrypted value does not belong to its place or key", code="bad_value") from None


def looks_encrypted(text: object) -> bool:
    """Whether `text` has the outer form of an encrypted value."""
    return isinstance(text, str) and text.startswith(PREFIX)
