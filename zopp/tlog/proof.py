"""c2sp.org/tlog-proof@v1: an inclusion proof with its checkpoint in one text, for whoever wants to check offline.

The optional `extra` line is not authenticated and this log never writes it; it is parsed and means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from zopp.errors import FormatError
from zopp.keys import wire
from zopp.tlog import checkpoint, merkle
from zopp.tlog.note import Note, Verifier, parse as parse_note

_FIRST = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 64


@dataclass(frozen=True, slots=True)
class Proof:
    """A well-formed proof: leaf `index`, the sibling `hashes` from the leaf upwards, the signed checkpoint's `note`,
    the `extra` bytes or None. Nothing is verified."""

    index: int
    hashes: tuple[bytes, ...]
    note: Note
    extra: bytes | None = None

    def serialise(self) -> bytes:
        """The exact bytes."""
        lines = [_FIRST]
        if self.extra is not None:
            lines.append("extra " + wire.base64_encode(self.extra))
        lines.append(f"index {self.index}")
        lines += [wire.base64_encode(each) for each in self.hashes]
        return "\n".join(lines).encode() + b"\n\n" + self.note.serialise()

    def verify(self, leaf: bytes, *logs: Verifier) -> checkpoint.Checkpoint:
        """The checkpoint, after requiring that one of `logs` signed it and that the leaf hash (which the caller made
        from the entry itself, A22) is in its tree at `index`. IntegrityError otherwise."""
        head = checkpoint.verify(self.note, *logs)
        merkle.verify_inclusion(leaf, self.index, head.size, self.hashes, head.root)
        return head


def parse(data: bytes) -> Proof:
    """The proof that `data` is; FormatError for anything else, so for another spelling of one."""
    top, cut, rest = data.partition(b"\n\n")
    try:
        lines = top.decode("ascii").split("\n")
    except UnicodeDecodeError:
        lines = []
    if not cut or not lines or lines.pop(0) != _FIRST:
        raise FormatError("not a transparency log proof", code="tlog_proof")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = wire.base64_decode(lines.pop(0)[6:])
        if extra is None:
            raise FormatError("the extra line of the proof is malformed", code="tlog_proof")
    index = checkpoint.number_of(lines.pop(0)[6:]) if lines and lines[0].startswith("index ") else None
    hashes = [wire.base64_decode(line) for line in lines[:MAX_HASHES]]
    if index is None or len(lines) > MAX_HASHES or any(each is None or len(each) != merkle.HASH for each in hashes):
        raise FormatError("not a transparency log proof", code="tlog_proof")
    note = parse_note(rest)
    checkpoint.parse_text(note.text)
    return Proof(index, tuple([each for each in hashes if each is not None]), note, extra)
