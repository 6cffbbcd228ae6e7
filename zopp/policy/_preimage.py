"""Stand-ins for `zopp.keys` (SSHSIG preimage, key checks) until that package is here; lean.

To be replaced one for one: `preimage` by `zopp.keys.sshsig.preimage`, `check_public` by
`zopp.keys.signing.check_public`, `canonical_recipient` by `zopp.keys.agefile.canonical_recipient`.
"""

from zopp._fast import sha512
from zopp.errors import FormatError

_P = 2**255 - 19
_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUE = {char: i for i, char in enumerate(_CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_SSH_PREFIX = b"\0\0\0\x0bssh-ed25519\0\0\0 "

# u-coordinates of order 1, 2, 4 and 8 on Curve25519 and its twist (RFC 7748 §6.1: contributory behaviour).
_LOW_ORDER_U = frozenset(
    (
        0,
        1,
        _P - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
)

# y-coordinates of the eight torsion points of edwards25519: 1, -1, 0 and the two of order 8.
_SMALL_Y = frozenset(
    (
        0,
        1,
        _P - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    )
)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def preimage(namespace: str, message: bytes) -> bytes:
    """The bytes that an SSHSIG (sha512) of `namespace` over `message` signs (OpenSSH PROTOCOL.sshsig)."""
    return b"SSHSIG" + _string(namespace.encode()) + b"\0\0\0\0\0\0\0\x06sha512" + b"\0\0\0\x40" + sha512(message)


def check_public(public: bytes) -> None:
    """FormatError if the Ed25519 key is not 32 bytes, not canonical, or of small order (A8)."""
    if len(public) != 32:
        raise FormatError("an Ed25519 key has 32 bytes")
    y = int.from_bytes(public, "little") & ((1 << 255) - 1)
    if y >= _P:
        raise FormatError("the Ed25519 key is not in its canonical encoding")
    if y in _SMALL_Y:
        raise FormatError("the Ed25519 key has small order")


def _polymod(values: "list[int]", check: int = 1) -> int:
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i in range(5):
            if top >> i & 1:
                check ^= _GENERATOR[i]
    return check


_HRP_STATE = _polymod([ord(c) >> 5 for c in "age"] + [0] + [ord(c) & 31 for c in "age"])


def canonical_recipient(text: str) -> str:
    """`text` itself if it is a canonical lower-case, contributory `age1…` or a plain `ssh-ed25519 AAAA…`, else
    FormatError (A3). Checked before pyrage sees it."""
    if text.startswith("age1"):
        if len(text) != 62:
            raise FormatError("not an age recipient")
        try:
            values = [_VALUE[char] for char in text[4:]]
        except KeyError:
            raise FormatError("not an age recipient") from None
        if _polymod(values, _HRP_STATE) != 1:
            raise FormatError("the age recipient's checksum is wrong")
        number = 0
        for value in values[:52]:
            number = number << 5 | value
        if number & 15:
            raise FormatError("the age recipient is not canonical")
        u = int.from_bytes((number >> 4).to_bytes(32, "big"), "little")
        if u >= _P:
            raise FormatError("the age recipient is not canonical")
        if u in _LOW_ORDER_U:
            raise FormatError("the age recipient is a low-order point")
        return text
    if text.startswith("ssh-ed25519 "):
        from binascii import a2b_base64, b2a_base64

        body = text[12:]
        try:
            blob = a2b_base64(body.encode("ascii"))
        except ValueError:
            raise FormatError("not an ssh-ed25519 recipient") from None
        if len(blob) != 51 or not blob.startswith(_SSH_PREFIX) or b2a_base64(blob, newline=False).decode() != body:
            raise FormatError("not a plain ssh-ed25519 recipient")
        check_public(blob[19:])
        return text
    raise FormatError("not an age or ssh-ed25519 recipient")


def ssh_key(recipient: str) -> bytes:
    """The Ed25519 key (32 bytes) of a canonical `ssh-ed25519 AAAA…` recipient."""
    from binascii import a2b_base64

    return a2b_base64(recipient[12:].encode("ascii"))[19:]
