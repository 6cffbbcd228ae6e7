"""Invite codes: what is handed over outside the server so that a person can join (policy-server.md §3.2, A21).

A code carries the 32-byte seed of a one-use Ed25519 key, the genesis hash to pin and the policy head of the moment. The
public half stands in `invite.create`; neither server nor repository ever sees the seed. Whoever holds the code joins.

One line `zopp-invite-1…`: Bech32 (no letter that looks like a digit, a checksum that finds typing errors), fixed
length, white space ignored because mail programs break lines.
"""

from __future__ import annotations

from zopp.errors import FormatError
from zopp.keys import bech32, signing

_PREFIX = "zopp-invite-"
_VERSION = 1
_SIZE = 1 + 32 + 32 + 7 + 32


class Invite:
    """`genesis` and `head` hex, `seq` of the head. The seed is in neither `repr` nor a pickle: ask for `key()`."""

    __slots__ = ("_seed", "genesis", "head", "seq")

    def __init__(self, seed: bytes, genesis: str, seq: int, head: str) -> None:
        if len(seed) != 32 or not 0 <= seq < 2**53 or not (_is_hash(genesis) and _is_hash(head)):
            raise FormatError("an invite has a seed, a genesis and a head", code="invite_code")
        self._seed = seed
        self.genesis = genesis
        self.seq = seq
        self.head = head

    def __repr__(self) -> str:
        return f"<Invite genesis={self.genesis[:16]} seq={self.seq}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an invite is not copied or pickled")

    def key(self) -> signing.SigningKey:
        """The invite's key, which signs the redemption or its claim."""
        return signing.from_seed(self._seed)

    def code(self) -> str:
        """The text to hand over: a secret until it is used. Never into argv, a log or an issue."""
        data = bytes([_VERSION]) + self._seed + bytes.fromhex(self.genesis) + self.seq.to_bytes(7, "big")
        return bech32.encode(_PREFIX, data + bytes.fromhex(self.head))


def _is_hash(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")


def parse(text: str) -> Invite:
    """The invite that a pasted code is; white space anywhere is dropped. FormatError, whose text does not quote the
    code, for anything else."""
    if len(text) > 4096:
        raise FormatError("not an invite code", code="invite_code")
    data = bech32.decode(_PREFIX, "".join(text.split()))
    if data is None:
        raise FormatError("not an invite code; was it copied whole?", code="invite_code")
    if len(data) != _SIZE or data[0] != _VERSION:
        raise FormatError("the invite code is of another version of zopp", code="invite_code")
    return Invite(data[1:33], data[33:65].hex(), int.from_bytes(data[65:72], "big"), data[72:].hex())
