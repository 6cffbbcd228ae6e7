"""What a plain YAML scalar means, and which texts may be written plain: go-yaml v3's rules (spec 6.1, 6.5). Lean.

Only plain scalars come here; quoted ones are text. These rules differ from PyYAML's on most rows.
"""

from zopp.errors import FormatError
from zopp.sopsfile.cipher import check_date
from zopp.sopsfile.tree import Timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WORDS: "dict[str, Any]" = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
# YAML 1.1 booleans: text to go-yaml v3, but it quotes them for the sake of others.
_OLD_BOOL = frozenset(
    word for base in ("y", "n", "yes", "no", "on", "off") for word in (base, base.capitalize(), base.upper())
)
_SAFE_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/")
_SAFE_REST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+=,[]()"
# Indicators that cannot begin a plain scalar as sops writes it.
_INDICATORS = frozenset("#,[]{}&*!|>'\"%@`")
UINT64_MAX = (1 << 64) - 1


def resolve(text: str) -> "Any":
    """The value of a plain scalar. FormatError for an integer from 2^63 to 2^64-1, which sops cannot encrypt."""
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first not in "0123456789+-.":
        return text
    if first in "0123456789":
        stamp = timestamp(text)
        if stamp is not None:
            return Timestamp(stamp)
    if first == ".":
        value = _float(text)  # here go-yaml does not strip underscores
        return text if value is None else value
    bare = text.replace("_", "")
    number = _integer(bare)
    if number is not None:
        if -(1 << 63) <= number < (1 << 63):
            return number
        if 0 < number <= UINT64_MAX and bare[0] != "+":
            raise FormatError("an integer does not fit 64 bits", code="int_range")
    value = _float(bare)
    return text if value is None else value


def _integer(text: str) -> "int | None":
    """Go's ParseInt with base 0, the range left to the caller; None if it is no integer."""
    sign = text[:1] in ("+", "-")
    digits = text[1:] if sign else text
    if not digits or len(digits) > 400 or not digits.isascii() or not digits.isalnum():
        return None
    prefix = digits[:2].lower()
    try:
        if prefix == "0x":
            number = int(digits[2:], 16)
        elif prefix == "0b":
            number = int(digits[2:], 2)
        elif prefix == "0o":
            number = int(digits[2:], 8)
        elif digits[0] == "0" and len(digits) > 1:
            number = int(digits[1:], 8)
        elif digits.isdigit():
            number = int(digits)
        else:
            return None
    except ValueError:
        return None
    return -number if text[0] == "-" else number


def _float(text: str) -> "float | None":
    """The value if `text` is `[-+]?(\\.\\d+|\\d+(\\.\\d*)?)([eE][-+]?\\d+)?` and finite."""
    body = text[1:] if text[:1] in ("+", "-") else text
    mantissa, mark, exponent = body.partition("e") if "e" in body else body.partition("E")
    if mark and not _digits(exponent[1:] if exponent[:1] in ("+", "-") else exponent):
        return None
    whole, dot, fraction = mantissa.partition(".")
    if (whole and not _digits(whole)) or (fraction and not _digits(fraction)) or not (whole or (dot and fraction)):
        return None
    value = float(text)
    return None if value in (float("inf"), float("-inf")) else value


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def timestamp(text: str) -> "str | None":
    """RFC 3339 text of a YAML time as go-yaml reads it, else None. A date is midnight UTC."""
    if len(text) < 8 or text[4] != "-" or not _digits(text[:4]):
        return None
    rest = text[5:]
    month, dash, rest = rest.partition("-")
    if not dash or not 1 <= len(month) <= 2 or not _digits(month):
        return None
    end = 0
    while end < len(rest) and end < 2 and _digits(rest[end]):
        end += 1
    day, rest = rest[:end], rest[end:]
    if not day:
        return None
    try:
        check_date(int(text[:4]), int(month), int(day))
    except ValueError:
        return None
    date = f"{text[:4]}-{int(month):02}-{int(day):02}"
    if not rest:
        return date + "T00:00:00Z"
    mark, rest = rest[0], rest[1:]
    if mark not in "Tt ":
        return None
    if mark == " ":
        rest = rest.lstrip(" ")
    hour, _, rest = rest.partition(":")
    minute, _, rest = rest.partition(":")
    end = 0
    while end < len(rest) and _digits(rest[end]):
        end += 1
    second, rest = rest[:end], rest[end:]
    if not all(1 <= len(part) <= 2 and _digits(part) for part in (hour, minute, second)):
        return None
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59:
        return None
    fraction = ""
    if rest[:1] == ".":
        end = 1
        while end < len(rest) and _digits(rest[end]):
            end += 1
        if end == 1:
            return None
        fraction, rest = rest[1:end][:9].rstrip("0"), rest[end:]
    zone = _zone(rest) if mark != " " else ("" if rest else "Z")
    if not zone:
        return None
    tail = f".{fraction}{zone}" if fraction else zone
    return f"{date}T{int(hour):02}:{int(minute):02}:{int(second):02}{tail}"


def _zone(text: str) -> str:
    if text == "Z":
        return "Z"
    if len(text) != 6 or text[0] not in "+-" or text[3] != ":" or not _digits(text[1:3]) or not _digits(text[4:]):
        return ""
    if int(text[1:3]) > 23 or int(text[4:]) > 59:
        return ""
    return "Z" if text[1:] == "00:00" else text


def is_plain(text: str) -> bool:
    """Whether sops writes this one-line text without quotes, so that it reads back as the same text."""
    return style(text) == "plain"


def style(text: str) -> str:
    """`plain`, `double` or `single`, as sops' emitter chooses for a text without line breaks."""
    if text[:20] == "ENC[AES256_GCM,data:" and text[-1] == "]" and text.isascii() and " " not in text:
        # By far the most frequent text: base64 and `,:=[]`, which are plain behind a letter.
        return "plain" if text.isprintable() else "double"
    if text and text[0] in _SAFE_FIRST and not text.strip(_SAFE_REST):
        return "double" if text in _WORDS or text in _OLD_BOOL else "plain"
    if text in _WORDS or text in _OLD_BOOL or _base60(text) or _resolves(text):
        return "double"
    if text == "<<":
        return "double"
    single = False
    if text[0] in " " or text[-1] == " " or text[:3] in ("---", "..."):
        single = True
    if text[0] in _INDICATORS or (text[0] in "-?:" and (len(text) == 1 or text[1] in " \t")):
        single = True
    if ": " in text or " #" in text or text[-1] == ":":
        single = True
    # The loop is for what ASCII text that prints cannot hold.
    for char in () if text.isascii() and text.isprintable() else text:
        code = ord(char)
        if code < 0x20 or code in (0x7F, 0x85, 0xFEFF) or 0x80 <= code < 0xA0 or code > 0xFFFD:
            return "double"
        if code in (0x2028, 0x2029):
            single = True
    return "single" if single else "plain"


def _resolves(text: str) -> bool:
    try:
        return not isinstance(resolve(text), str)
    except FormatError:
        return True


def _base60(text: str) -> bool:
    """YAML 1.1's `190:20:30` and `1:30.5`, which older readers take for numbers."""
    body = text[1:] if text[:1] in ("+", "-") else text
    parts = body.split(":")
    if len(parts) < 2 or not parts[0][:1].isdigit() or not text.isascii():
        return False
    last, dot, fraction = parts[-1].partition(".")
    parts[-1] = last
    if dot and fraction.strip("0123456789_"):
        return False
    if parts[0].strip("0123456789_"):
        return False
    return all(len(part) in (1, 2) and part.isdigit() and int(part) < 60 for part in parts[1:])
