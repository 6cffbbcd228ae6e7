"""Every parser of what a server or a log may send, on hostile bytes: a value or a ZoppError, quickly."""

import random
import time
from collections.abc import Callable, Iterator

import pytest

from tests.robustness.test_hostile import hostile
from tests.unit.protocol.test_invite import CODE
from tests.unit.protocol.test_problem import GOOD
from tests.unit.protocol.test_release import ANSWER, Client
from tests.unit.tlog.test_entry import SAMPLE
from tests.unit.tlog.test_notes import LOG, WHOLE, proven
from zopp.errors import ZoppError
from zopp.protocol import invite, problem, receipt, release
from zopp.tlog import checkpoint, entry, note, proof, tiles


def text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "note": (note.parse, WHOLE),
    "checkpoint": (lambda data: checkpoint.read(data, LOG), WHOLE),
    "proof": (proof.parse, proven(5, b"extra").serialise()),
    "verifier": (text(note.parse_verifier), LOG.text().encode()),
    "entry": (entry.parse, SAMPLE),
    "bundle": (tiles.unpack_entries, tiles.pack_entries([b"abc", b"", b"d" * 40])),
    "tile path": (text(tiles.parse_path), b"tile/0/x001/x234/067.p/12"),
    "problem": (lambda data: problem.parse(data, 403), GOOD),
    "request": (release.parse_request, Client(None).body),
    "response": (release.parse_response, ANSWER),
    "receipt": (receipt.parse, receipt.Receipt(SAMPLE, proven().serialise()).serialise()),
    "invite": (text(invite.parse), CODE.encode()),
}


def samples(whole: bytes) -> Iterator[bytes]:
    yield from (data for _, data in hostile(whole, random.Random(1)))
    rng = random.Random(2)
    for _ in range(300):
        at, count = rng.randrange(len(whole)), rng.randrange(1, 9)
        yield whole[:at] + rng.randbytes(rng.randrange(4)) + whole[at + count :]
        yield whole[:at] + whole[at : at + count] * 2 + whole[at + count :]
        yield rng.randbytes(count * 20)


@pytest.mark.parametrize("name", list(PARSERS))
def test_hostile_bytes(name: str) -> None:
    parse, whole = PARSERS[name]
    assert parse(whole) is not None
    refused = 0
    for data in samples(whole):
        began = time.monotonic()
        try:
            parse(data)
        except ZoppError:
            refused += 1
        assert time.monotonic() - began < 2
    assert refused > 300
