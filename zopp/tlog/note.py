"""c2sp.org/signed-note: text signed by keys that have names. Ed25519 (type 0x01) is the only kind that is verified.

Signatures of unknown keys are kept as they stand and mean nothing; one by a known key that does not verify refuses the
note. A note has one spelling here: what `parse` takes, `serialise` gives back byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass

from zopp import _fast
from zopp.errors import FormatError, IntegrityError
from zopp.keys import signing, wire

ED25519 = 1
MAX_NOTE = 1 << 20
MAX_SIGNATURES = 64
_DASH = "\u2014 "


def check_name(name: str) -> str:
    """`name` if it may name a key: not empty, no space or control of any script, no `+`. FormatError otherwise."""
    if not name or "+" in name or len(name) > 1024 or name != "".join(name.split()) or not name.isprintable():
        raise FormatError("not the name of a note's key", code="key_name")
    return name


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that is trusted under a name: `public` is a checked Ed25519 point, 32 bytes. FormatError otherwise."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        signing.check_public(self.public)

    @property
    def key_id(self) -> bytes:
        """The 4 bytes SHA-256(name || LF || 0x01 || key) starts with: a hint, no proof."""
        return _fast.sha256(self.name.encode() + b"\n" + bytes([ED25519]) + self.public)[:4]

    def text(self) -> str:
        """The verifier key `NAME+HEX+BASE64` that note tools read."""
        return f"{self.name}+{self.key_id.hex()}+{wire.base64_encode(bytes([ED25519]) + self.public)}"


def parse_verifier(text: str) -> Verifier:
    """The inverse of `Verifier.text`; FormatError for another spelling, another key type or an id that does not fit."""
    name, _, rest = text.partition("+")
    data = wire.base64_decode(rest.partition("+")[2])
    if data is None or len(data) != 33 or data[0] != ED25519:
        raise FormatError("not an Ed25519 verifier key (NAME+ID+KEY)", code="vkey")
    made = Verifier(name, data[1:])
    if made.text() != text:
        raise FormatError("the verifier key's id does not fit its name and key", code="vkey")
    return made


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: the key's `name`, `key_id` (4 bytes) and the algorithm's own bytes, not empty."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A well-formed note: `text` ends in a newline. Nothing is verified; do not act on `text` before `verify`."""

    text: str
    signatures: tuple[Signature, ...]

    def serialise(self) -> bytes:
        """The exact bytes."""
        lines = [f"{_DASH}{each.name} {wire.base64_encode(each.key_id + each.signature)}\n" for each in self.signatures]
        return (self.text + "\n" + "".join(lines)).encode()

    def verify(self, *verifiers: Verifier) -> None:
        """Require at least one valid signature by `verifiers`, and no invalid one that bears the name and id of one of
        them. IntegrityError (`note_signature`) otherwise."""
        found = False
        for each in self.signatures:
            for key in verifiers:
                if (each.name, each.key_id) == (key.name, key.key_id):
                    if len(each.signature) != 64 or not _fast.ed25519_verify(
                        key.public, each.signature, self.text.encode()
                    ):
                        raise IntegrityError("a signature of the note does not verify", code="note_signature")
                    found = True
        if not found:
            raise IntegrityError("no signature of the note is by a trusted key", code="note_signature")


def sign(text: str, name: str, key: signing.SigningKey, *more: Signature) -> Note:
    """A note over `text` (ends in a newline) signed by `key` under `name`, with signatures of others behind it."""
    made = Signature(name, Verifier(name, key.public).key_id, key.sign(text.encode()))
    note = Note(text, (made, *more))
    if parse(note.serialise()) != note:
        raise FormatError("not a text that a note can hold", code="note")
    return note


def parse(data: bytes) -> Note:
    """The note that `data` is. FormatError for anything else: not UTF-8, a control character, no or more than 64
    signatures, a malformed line, one key's signature twice, more than a megabyte."""
    try:
        text = data.decode() if len(data) <= MAX_NOTE else ""
    except UnicodeDecodeError:
        text = ""
    # NEL, LS and PS are no line ends here; controls below U+0020 are none of a note's
    if not text or any(char < " " and char != "\n" for char in text):
        raise FormatError("not a signed note", code="note")
    cut = text.rfind("\n\n")
    lines = text[cut + 2 :].split("\n")
    if cut < 0 or lines.pop() != "" or not 0 < len(lines) <= MAX_SIGNATURES:
        raise FormatError("not a signed note", code="note")
    signatures = []
    for line in lines:
        name, space, rest = line.removeprefix(_DASH).partition(" ")
        blob = wire.base64_decode(rest)
        if not line.startswith(_DASH) or not space or blob is None or len(blob) < 5:
            raise FormatError("a signature line of the note is malformed", code="note")
        signatures.append(Signature(check_name(name), blob[:4], blob[4:]))
    if len({(each.name, each.key_id) for each in signatures}) != len(signatures):
        raise FormatError("a key's signature stands twice in the note", code="note")
    return Note(text[: cut + 1], tuple(signatures))
