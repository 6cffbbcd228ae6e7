"""The two encodings under everything here: SSH's length-prefixed strings and base64 in its one strict form. Lean."""

import binascii

from zopp.errors import FormatError

ED25519 = b"ssh-ed25519"


def string(data: bytes) -> bytes:
    """An SSH string (RFC 4251 §5): four bytes of length, big end first, then `data`."""
    return len(data).to_bytes(4, "big") + data


class Reader:
    """Takes SSH fields off the front of `data`; every field that is not there is a FormatError that names `what`."""

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    def fail(self) -> FormatError:
        return FormatError(f"not a valid {self._what}", code="wire")

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise self.fail()
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.uint32())

    def expect(self, field: bytes) -> None:
        """Take a string that must equal `field`."""
        if self.string() != field:
            raise self.fail()

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        if self._at != len(self._data):
            raise self.fail()


def public_blob(public: bytes) -> bytes:
    """An Ed25519 public key in SSH's wire form, 51 bytes."""
    return string(ED25519) + string(public)


def parse_public_blob(blob: bytes, what: str) -> bytes:
    """The 32 bytes of the only key type that zopp knows. The point is not checked."""
    reader = Reader(blob, what)
    reader.expect(ED25519)
    public = reader.string()
    reader.end()
    if len(public) != 32:
        raise reader.fail()
    return public


def base64_encode(data: bytes) -> str:
    """Standard alphabet, padded, one line."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def base64_decode(text: str, *, padded: bool = True) -> "bytes | None":
    """The bytes whose only spelling is `text`; None where there are none. Refuses what decoders let pass: white
    space, missing or surplus padding, bits left over in the last character."""
    if not padded:
        if "=" in text:
            return None
        text += "=" * (-len(text) % 4)
    try:
        data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError are both
        return None
    return data if base64_encode(data) == text else None


def pem_decode(text: str, label: str, width: int, what: str) -> bytes:
    """The bytes in one PEM block that is all of `text`: lines of exactly `width`, no header, one final newline or
    none. A block has one spelling, so nobody can change a file's hash without changing what it says."""
    begin, end = f"-----BEGIN {label}-----\n", f"\n-----END {label}-----"
    text = text.removesuffix("\n")
    if text.startswith(begin) and text.endswith(end) and len(text) > len(begin) + len(end):
        lines = text[len(begin) : -len(end)].split("\n")
        if all(len(line) == width for line in lines[:-1]) and 0 < len(lines[-1]) <= width:
            data = base64_decode("".join(lines))
            if data is not None:
                return data
    raise FormatError(f"not a valid {what}", code="armor")


def pem_encode(data: bytes, label: str, width: int) -> str:
    text = base64_encode(data)
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
