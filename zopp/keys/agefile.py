"""age recipients and the age files in a sops block: one recipient, one armored file, one stanza. Lean.

pyrage does the cryptography. What stands here is what it does not promise: recipients in one spelling, points that
are not of low order (it panics on those), and no hidden second stanza (A2), which is what makes the recipient list
of a file say who can open it. That a stanza is really for the recipient it is listed under only the holder of the
key can check; for ssh-ed25519 the tag gives 32 bits of it.

Not done here: who may be a recipient (policy), and the key commitment of what was unwrapped (`policy.manifest`).
Sources: C2SP age.md; brokered-grants §3; sops-compat §9.
"""

from zopp import _fast
from zopp.errors import FormatError, IntegrityError, Unknown
from zopp.keys import bech32, curve, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from zopp.keys.identity import Identity

    Stanza = tuple[str, tuple[str, ...], bytes]  # kind, arguments, body

LABEL = "AGE ENCRYPTED FILE"
MAGIC = b"age-encryption.org/v1\n"
MAX_ARMORED = 1 << 20  # characters; a data key's file has about 600
_MAX_STANZAS = 32
_SSH = "ssh-ed25519 "


def canonical_recipient(text: str) -> str:
    """`text` in the one spelling that zopp stores: `age1…` as it is, `ssh-ed25519 AAAA…` without its comment.

    Raises FormatError for everything else: upper case, blanks around it, a wrong length or checksum, a point that is
    low-order or not canonical, and every other kind (ssh-rsa, plugins, post-quantum, passphrases).
    """
    if text.startswith("age1"):
        point = bech32.decode("age", text)
        if point is None or len(point) != 32:
            raise FormatError("not a canonical age1… recipient (lower case, 62 characters)", code="recipient")
        if not curve.x25519_ok(point):
            raise FormatError("the recipient is a low-order or non-canonical point", code="recipient_point")
        return text
    if text.startswith(_SSH):
        return _SSH + wire.base64_encode(_ssh_blob(text))
    raise FormatError("not an age recipient of a known kind (age1… or ssh-ed25519 …)", code="recipient_kind")


def _ssh_blob(line: str) -> bytes:
    """The wire form of the key in an `ssh-ed25519 AAAA… comment` line, its point checked."""
    text, _, comment = line[len(_SSH) :].partition(" ")
    blob = wire.base64_decode(text)
    if blob is None or not (comment == "" or comment.isprintable()):
        raise FormatError("not a valid ssh-ed25519 public key line", code="recipient")
    if not curve.ed25519_ok(wire.parse_public_blob(blob, "ssh-ed25519 public key line")):
        raise FormatError("the recipient is a low-order or non-canonical point", code="recipient_point")
    return blob


def dearmor(armored: str) -> bytes:
    """The binary age file in `armored`; the armor must be in its one strict form, a final newline or none."""
    if len(armored) > MAX_ARMORED:
        raise FormatError("an age file of more than a megabyte cannot hold a data key", code="age_size")
    return wire.pem_decode(armored, LABEL, 64, "armored age file")


def stanzas(data: bytes) -> "list[Stanza]":
    """The recipient stanzas of a binary age file, grease included. The header's MAC needs a key and is not checked."""
    if not data.startswith(MAGIC):
        raise FormatError("not an age file of version 1", code="age_header")
    found: list[Stanza] = []
    at = len(MAGIC)
    while True:
        line, at = _line(data, at)
        if line.startswith("--- "):
            mac = wire.base64_decode(line[4:], padded=False)
            # the payload: a 16-byte nonce and at least one, possibly empty, chunk with its 16-byte tag
            if mac is None or len(mac) != 32 or not found or len(data) - at < 32:
                raise FormatError("the age file is cut or its header ends badly", code="age_header")
            return found
        words = line[3:].split(" ")
        if not line.startswith("-> ") or "" in words or len(found) == _MAX_STANZAS:
            raise FormatError("the age header has a malformed stanza", code="age_header")
        text = ""
        while True:
            line, at = _line(data, at)
            text += line
            if len(line) != 64:
                break
        body = wire.base64_decode(text, padded=False)
        if body is None or len(line) > 64:
            raise FormatError("the age header has a malformed stanza", code="age_header")
        found.append((words[0], tuple(words[1:]), body))


def without_grease(found: "list[Stanza]") -> "list[Stanza]":
    """The stanzas that mean something: names ending in `-grease` are noise that age files may carry."""
    return [stanza for stanza in found if not stanza[0].endswith("-grease")]


def _line(data: bytes, at: int) -> "tuple[str, int]":
    end = data.find(b"\n", at, at + 4096)
    line = data[at:end]
    # VCHAR and space only, so that no two parsers can disagree about where a word or a line ends
    if end < 0 or not line.isascii() or not line.decode("ascii").isprintable():
        raise FormatError("the age header has a malformed line", code="age_header")
    return line.decode("ascii"), end + 1


def check(armored: str, recipient: str, *, ssh_allowed: bool = True) -> None:
    """Require of `armored` what a listed file may have: exactly one stanza, of the kind that `recipient` (canonical)
    asks for; stanzas named `*-grease` are ignored. With `ssh_allowed` false only X25519, as in brokered environments.

    Raises FormatError. Does not open anything, so it cannot tell whether an X25519 stanza is for this recipient.
    """
    real = without_grease(stanzas(dearmor(armored)))
    if len(real) != 1:
        raise FormatError(f"the age file has {len(real)} stanzas where one is allowed", code="age_stanzas")
    kind, arguments, body = real[0]
    if recipient.startswith("age1"):
        fits = kind == "X25519" and len(arguments) == 1
    elif recipient.startswith(_SSH):
        if not ssh_allowed:
            raise FormatError("ssh-ed25519 recipients are not allowed here", code="age_ssh")
        tag = _fast.sha256(_ssh_blob(recipient))[:4]
        fits = kind == "ssh-ed25519" and len(arguments) == 2 and wire.base64_decode(arguments[0], padded=False) == tag
    else:
        raise FormatError("not an age recipient of a known kind (age1… or ssh-ed25519 …)", code="recipient_kind")
    if not fits:
        raise FormatError("the age file's stanza is not of its recipient's kind, or not for it", code="age_kind")
    share = wire.base64_decode(arguments[-1], padded=False)
    if share is None or not curve.x25519_ok(share) or len(body) != 32:
        raise FormatError("the age file's stanza has a bad share or body", code="age_share")


_canonical: "set[str]" = set()
"""Recipients that were found canonical: a server seals to the same few, and the check costs a fifth of it."""


def wrap(recipient: str, payload: bytes) -> str:
    """`payload` as an armored age file for `recipient` alone, final newline included; sops and age open it.
    Raises FormatError for what `canonical_recipient` refuses."""
    if recipient not in _canonical:
        recipient = canonical_recipient(recipient)
        if len(_canonical) >= 1024:
            _canonical.clear()
        _canonical.add(recipient)
    from zopp.keys import _pyrage

    try:
        return _pyrage.encrypt(recipient, payload).decode("ascii")
    except _pyrage.AgeError:
        raise FormatError("age cannot encrypt to this recipient", code="recipient") from None


def unwrap(armored: str, identities: "Iterable[Identity]", *, recipient: str = "") -> bytes:
    """The payload of `armored`, opened by whichever of `identities` can; those of `recipient` are tried first.

    Raises Unknown (`no_identity`) if none of them opens it, FormatError if it is no age file, IntegrityError if one
    opens it and header or payload were changed. Stanza kinds and number are `check`'s business, so that files of
    others can be read. The payload is not to be trusted before its key commitment is checked.
    """
    return open_binary(dearmor(armored), identities, recipient=recipient)


def open_binary(data: bytes, identities: "Iterable[Identity]", *, recipient: str = "") -> bytes:
    """`unwrap` of an age file that has no armor."""
    parsed = stanzas(data)
    # A stable sort: own first, the rest in the order in which their sources were found.
    keys = sorted(identities, key=lambda identity: identity.recipient != recipient)
    if not keys:
        raise Unknown("no age identity to open it with", code="no_identity")
    plain = _unwrap_plain(data, parsed, keys)
    if plain is not None:
        return plain
    from zopp.keys import _pyrage

    try:
        return _pyrage.decrypt(data, [key.opener() for key in keys])
    except _pyrage.AgeError as exc:
        if exc.no_match:
            raise Unknown(f"none of {len(keys)} age identities opens it", code="no_identity") from None
        raise IntegrityError("the age file was changed or cut", code="age_damaged") from None


def _unwrap_plain(data: bytes, parsed: "list[Stanza]", keys: "list[Identity]") -> "bytes | None":
    """The payload in the plain case: one X25519 stanza, opened by an X25519 key among `keys`, header and payload whole.
    None is no verdict, but a question to pyrage, whose import costs a cold read a millisecond."""
    from zopp.keys import filekey

    try:
        share, body = filekey.stanza_among(parsed)
        for key in keys:
            file_key = None if key.x25519 is None else key.x25519.open(share, body)
            if file_key is not None:
                return filekey.payload_of(data, file_key)
    except (FormatError, IntegrityError):
        return None
    return None
