"""Bech32 as age uses it (BIP 173 without its limit of 90 characters). Strict and lean: one spelling per value."""

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUE = {letter: value for value, letter in enumerate(_ALPHABET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
# _STEP[t] = the generators picked by the five bits of t, so that a character costs one look-up
_STEP = [
    (t & 1) * _GENERATOR[0]
    ^ (t >> 1 & 1) * _GENERATOR[1]
    ^ (t >> 2 & 1) * _GENERATOR[2]
    ^ (t >> 3 & 1) * _GENERATOR[3]
    ^ (t >> 4 & 1) * _GENERATOR[4]
    for t in range(32)
]


def _polymod(prefix: str, values: "list[int]") -> int:
    check = 1
    for value in [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + values:
        check = (check & 0x1FFFFFF) << 5 ^ value ^ _STEP[check >> 25]
    return check


def encode(prefix: str, data: bytes) -> str:
    """`data` under the lower-case human-readable part `prefix`, in lower case."""
    bits = int.from_bytes(data, "big")
    count = -(-len(data) * 8 // 5)
    bits <<= count * 5 - len(data) * 8
    values = [bits >> 5 * i & 31 for i in range(count - 1, -1, -1)]
    check = _polymod(prefix, [*values, 0, 0, 0, 0, 0, 0]) ^ 1
    values += [check >> 5 * i & 31 for i in range(5, -1, -1)]
    return prefix + "1" + "".join([_ALPHABET[v] for v in values])


def decode(prefix: str, text: str) -> "bytes | None":
    """The bytes that `encode` gave for `text`, or None: wrong prefix, any upper-case letter, a foreign character, a
    bad checksum, and surplus or non-zero filling bits are all None. The caller says what it wanted."""
    body = text[len(prefix) + 1 :]
    if len(body) < 6 or text[: len(prefix) + 1] != prefix + "1":
        return None
    try:
        values = [_VALUE[c] for c in body]
    except KeyError:
        return None
    if _polymod(prefix, values) != 1:
        return None
    bits = 0
    for value in values[:-6]:
        bits = bits << 5 | value
    spare = (len(values) - 6) * 5 % 8
    if spare > 4 or bits & ((1 << spare) - 1):
        return None
    return (bits >> spare).to_bytes((len(values) - 6) * 5 // 8, "big")
