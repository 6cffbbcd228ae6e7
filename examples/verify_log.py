#!/usr/bin/env python3
"""An auditor's own look at an export of zopp's audit log. It imports nothing of zopp.

    python verify_log.py EXPORT.jsonl CHECKPOINT ORIGIN LOG_KEY [GENESIS]

EXPORT      what `zopp audit export` wrote: one {"body","index"} a line
CHECKPOINT  a signed note that somebody kept (`.zopp/checkpoint`, or the last line of the export; - takes that line)
ORIGIN      the log's name, `HOST/WORKSPACE/FIRST-16-HEX-DIGITS-OF-THE-GENESIS`
LOG_KEY     the log key as `server.set` in the policy log has it (base64url, 43 characters)
GENESIS     the workspace's fingerprint (64 hex digits), to check that the policy lines in the log are one chain

Checked: the note is signed by the log key (Ed25519, c2sp.org/signed-note); the records, hashed as RFC 6962 says, lead
to its root; indices have no gap; accepted policy lines are linked by their hashes and begin with the genesis.
Not checked: decisions, and the signatures of requests and statements: that is `zopp audit verify --replay`.
Exit 0: all holds. 1: something does not. 2: usage.
"""

import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Bad(Exception):
    """What does not hold."""


def unbase64url(text: str) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def checkpoint(note: str, origin: str, key: bytes) -> "tuple[int, bytes]":
    """(size, root) of a note that the log key signed under the log's name."""
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    lines = text.split("\n")
    if lines[0] != origin:
        raise Bad(f"the checkpoint is of {lines[0]}")
    key_id = hashlib.sha256(origin.encode() + b"\n\x01" + key).digest()[:4]
    for line in signatures.splitlines():
        dash, name, blob = line.split(" ")
        raw = base64.b64decode(blob, validate=True)
        if dash == "\u2014" and name == origin and raw[:4] == key_id:
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(raw[4:], text.encode())
            except InvalidSignature:
                raise Bad("the checkpoint's signature does not verify") from None
            return int(lines[1]), base64.b64decode(lines[2], validate=True)
    raise Bad("the checkpoint is not signed by this log key")


class Tree:
    """A Merkle tree that keeps one hash for each 1 bit of its size."""

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[bytes] = []

    def add(self, body: bytes) -> None:
        """Append a record."""
        made = hashlib.sha256(b"\0" + body).digest()
        at = self.size
        while at & 1:
            made = hashlib.sha256(b"\1" + self.peaks.pop() + made).digest()
            at >>= 1
        self.peaks.append(made)
        self.size += 1

    def root(self) -> bytes:
        """The root of all records so far."""
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        made = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            made = hashlib.sha256(b"\1" + peak + made).digest()
        return made


class Chain:
    """The accepted policy lines: each names the SHA-256 of the one before."""

    def __init__(self, genesis: "str | None") -> None:
        self.genesis, self.seq, self.head = genesis, -1, None

    def add(self, body: bytes, index: int) -> None:
        """Look at a record."""
        value = json.loads(body)
        if value["action"] != "statement" or value["outcome"] != "allow":
            return
        line = json.dumps(value["data"]["line"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        policy = value["data"]["line"]["policy"]
        digest = hashlib.sha256(line).hexdigest()
        if policy["seq"] != self.seq + 1 or policy["prev"] != self.head:
            raise Bad(f"record {index}: statement {policy['seq']} does not follow statement {self.seq}")
        if self.genesis is not None and self.seq < 0 and digest != self.genesis:
            raise Bad(f"record {index}: the policy begins with another genesis")
        self.seq, self.head = policy["seq"], digest


def main(argv: "list[str]") -> int:
    """Do it."""
    if len(argv) not in (4, 5):
        sys.stderr.write(__doc__)
        return 2
    export, where, origin, key = argv[0], argv[1], argv[2], unbase64url(argv[3])
    tree, chain, last = Tree(), Chain(argv[4] if len(argv) == 5 else None), None
    roots: dict[int, bytes] = {}
    try:
        size = root = None
        if where != "-":
            with open(where, encoding="utf-8", newline="") as file:
                size, root = checkpoint(file.read(), origin, key)
        with open(export, "rb") as lines:
            for line in lines:
                value = json.loads(line)
                if "checkpoint" in value:
                    last = value["checkpoint"]
                    continue
                if value["index"] != tree.size:
                    raise Bad(f"record {value['index']} stands where {tree.size} belongs")
                body = value["body"].encode()
                chain.add(body, tree.size)
                tree.add(body)
                if tree.size == size:
                    roots[tree.size] = tree.root()
        if where == "-":
            if last is None:
                raise Bad("the export has no checkpoint")
            size, root = checkpoint(last, origin, key)
            roots[tree.size] = tree.root()
        if size not in roots and size != 0:
            raise Bad(f"the checkpoint covers {size} records, and the export has {tree.size}")
        if size and roots[size] != root:
            raise Bad(f"the first {size} records do not lead to the checkpoint's root: one of them was changed")
    except (Bad, ValueError, KeyError) as exc:
        print(f"failed: {exc}")
        return 1
    print(
        f"ok: {size} of {tree.size} records are as the checkpoint says, {chain.seq + 1} policy statements in one chain"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
