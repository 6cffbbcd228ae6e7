"""c2sp.org/tlog-checkpoint: the signed head of a log: origin, size, root (policy-server.md §5.2).

A log is known by its origin *and* key, both from a `server.set` statement; the key's name is the origin. Extension
lines, which this log never writes, are parsed and kept. Whether a newer checkpoint extends an older one: `consistent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zopp.errors import FormatError, IntegrityError
from zopp.keys import signing, wire
from zopp.tlog import merkle
from zopp.tlog.note import Note, Signature, Verifier, check_name, parse as parse_note, sign as sign_note


def origin_of(server: str, workspace: str, genesis: str) -> str:
    """The origin line of a workspace's log: `HOST/WORKSPACE/FIRST-16-HEX-DIGITS`. `server` is the origin in
    `server.set` (`https://HOST[:PORT]`), `genesis` the hex hash."""
    return check_name(f"{server.partition('://')[2]}/{workspace}/{genesis[:16]}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a tree. From `read` it is verified; from `parse_text` it is only well formed. `root` has 32 bytes."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The note text."""
        lines = [self.origin, str(self.size), wire.base64_encode(self.root), *self.extensions]
        return "\n".join(lines) + "\n"


def parse_text(text: str) -> Checkpoint:
    """The checkpoint that a note's text is; FormatError for anything else, so for another spelling of a number."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() != "" or "" in lines:
        raise FormatError("not a checkpoint", code="checkpoint")
    origin, number, root, *extensions = lines
    size = number_of(number)
    hashed = wire.base64_decode(root)
    if size is None or hashed is None or len(hashed) != merkle.HASH:
        raise FormatError("not a checkpoint", code="checkpoint")
    if size == 0 and hashed != merkle.EMPTY_ROOT:
        raise FormatError("the checkpoint of an empty log has another root", code="checkpoint")
    return Checkpoint(origin, size, hashed, tuple(extensions))


def number_of(text: str) -> int | None:
    """The decimal number `text` is, without sign or leading zeros and at most MAX_SIZE; None otherwise."""
    if not (0 < len(text) <= 16 and text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0"):
        return None
    return int(text) if int(text) <= merkle.MAX_SIZE else None


def sign(checkpoint: Checkpoint, key: signing.SigningKey, *cosignatures: Signature) -> Note:
    """The signed note of a checkpoint under its origin as the key's name. FormatError for one that does not parse."""
    if parse_text(checkpoint.text()) != checkpoint:
        raise FormatError("not a checkpoint", code="checkpoint")
    return sign_note(checkpoint.text(), checkpoint.origin, key, *cosignatures)


def verify(note: Note, *logs: Verifier) -> Checkpoint:
    """The checkpoint in `note`, signed by one of `logs`, under whose name it must stand. During a change of the log key
    both keys may be given (policy-server.md §6). IntegrityError (`note_signature`, `origin`) otherwise."""
    made = parse_text(note.text)
    # of keys with different names, one whose name stands in the first line must have signed
    named = [log for log in logs if log.name == made.origin]
    if not named:
        raise IntegrityError("the checkpoint is of another log", code="origin")
    note.verify(*named)
    return made


def read(data: bytes, *logs: Verifier) -> Checkpoint:
    """`verify` of the note that the bytes are; FormatError for other bytes."""
    return verify(parse_note(data), *logs)


def consistent(old: Checkpoint | None, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """Require that `new` extends `old` (None: nothing is remembered; then only the empty proof holds). Both verified
    before. IntegrityError: `origin`, or `split_view` for two heads that no log can have signed honestly, or `proof`."""
    if old is None:
        old = Checkpoint(new.origin, 0, merkle.EMPTY_ROOT)
    if old.origin != new.origin:
        raise IntegrityError("the checkpoint is of another log", code="origin")
    if old.size == new.size and old.root != new.root:
        raise IntegrityError("two checkpoints of one size have different roots", code="split_view")
    if new.size < old.size:
        raise IntegrityError("the log is smaller than remembered", code="rollback")
    merkle.verify_consistency(old.size, old.root, new.size, new.root, proof)
