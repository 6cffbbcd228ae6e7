"""The tree against RFC 6962's own recursion, and proofs that must not hold."""

import hashlib
import random

import pytest
from hypothesis import given, settings, strategies as st

from tests.unit.tlog.brute import mth, path, subproof
from zopp.errors import FormatError, IntegrityError, UsageError, ZoppError
from zopp.tlog import merkle, tiles


def leaves(count: int, seed: int = 0) -> list[bytes]:
    return [merkle.leaf_hash(b"%d/%d" % (seed, number)) for number in range(count)]


def reader(data: list[bytes]) -> merkle.Reader:
    def read(level: int, index: int) -> bytes:
        part = data[index << level : (index + 1) << level]
        assert len(part) == 1 << level, "only complete nodes are asked for"
        return mth(part)

    return read


# Certificate Transparency's classic eight leaves; the recursion confirms each root before it is used.
CT_LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
CT_ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def test_published_roots() -> None:
    hashed = [hashlib.sha256(b"\0" + leaf).digest() for leaf in CT_LEAVES]
    assert [merkle.leaf_hash(leaf) for leaf in CT_LEAVES] == hashed
    for size, root in CT_ROOTS.items():
        assert mth(hashed[:size]).hex() == root == merkle.root_of(hashed[:size]).hex()
    assert merkle.EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle.EMPTY.root == merkle.root_of([]) == mth([]) == merkle.EMPTY_ROOT


def test_every_root_and_proof_of_small_trees_is_the_recursion_s() -> None:
    """All sizes to 70, every leaf, every older size: made, equal to the recursion, accepted."""
    data = leaves(70)
    roots = [mth(data[:size]) for size in range(71)]
    for size in range(1, 71):
        read = reader(data[:size])
        assert merkle.root_of(data[:size]) == roots[size]
        for index in range(size):
            proof = merkle.inclusion(read, index, size)
            assert proof == path(index, data[:size])
            merkle.verify_inclusion(data[index], index, size, proof, roots[size])
        for old in range(1, size + 1):
            proof = merkle.consistency(read, old, size)
            assert proof == subproof(old, data[:size])
            merkle.verify_consistency(old, roots[old], size, roots[size], proof)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=5), st.integers(0, 2**32))
def test_batches_equal_the_whole(batches: list[int], seed: int) -> None:
    """However entries are cut into batches: the same root, frontier, proofs and full tiles, and no old entry read."""
    data: list[bytes] = []
    frontier = merkle.EMPTY
    kept: dict[tiles.Tile, bytes] = {}
    rng = random.Random(seed)
    for count in batches:
        new = leaves(count, len(data))
        made = merkle.append(frontier, new)
        before, data = len(data), data + new
        assert made.root == made.after.root == mth(data)
        assert made.after.size == len(data)
        assert merkle.Frontier.unpack(len(data), made.after.pack()) == made.after
        for index in rng.sample(range(before, len(data)), min(8, count)):
            proof = made.inclusion(index)
            assert proof == path(index, data)
            merkle.verify_inclusion(data[index], index, len(data), proof, made.root)
        if before:
            assert made.consistency() == subproof(before, data)
        asked: list[tuple[int, int]] = []

        def old(
            level: int, index: int, asked: list[tuple[int, int]] = asked, data: list[bytes] = data[:before]
        ) -> bytes:
            asked.append((level, index))
            assert (index + 1) << level <= len(data)
            return reader(data)(level, index)

        kept.update(tiles.full_tiles(made, old))
        assert len(asked) <= 255 * 2
        frontier = made.after
    full = {tiles.Tile(0, n): b"".join(data[n * 256 : n * 256 + 256]) for n in range(len(data) // 256)}
    assert {tile: data for tile, data in kept.items() if tile.level == 0} == full


def test_a_batch_over_a_huge_frontier() -> None:
    """Sizes near the largest: only the frontier is known, and the proofs still lead to the root."""
    rng = random.Random(5)
    for size in (2**52 + 12345, 2**53 - 200, 2**31 - 1, 2**40):
        before = merkle.Frontier(size, tuple(rng.randbytes(32) for _ in range(size.bit_count())))
        new = leaves(100)
        made = merkle.append(before, new)
        for offset in range(100):
            merkle.verify_inclusion(new[offset], size + offset, size + 100, made.inclusion(size + offset), made.root)
        merkle.verify_consistency(size, before.root, size + 100, made.root, made.consistency())
    with pytest.raises(UsageError):
        merkle.append(merkle.Frontier(2**53 - 1, (bytes(32),) * 53), leaves(1))


def test_inclusion_refuses() -> None:
    """Each byte flipped, other leaf, index or size, a hash more or less at either end, wrong lengths."""
    data = leaves(23)
    for size in (1, 2, 3, 7, 8, 9, 23):
        root = mth(data[:size])
        for index in range(size):
            proof = path(index, data[:size])
            bad: list[tuple[bytes, int, int, list[bytes], bytes]] = [
                (data[index], index, size, [*proof, bytes(32)], root),
                (data[index], index, size, [bytes(32), *proof], root),
                (data[index], index, size, [*proof, root], root),
                (merkle.leaf_hash(b"other"), index, size, proof, root),
                (data[index], size, size, proof, root),
                (data[index], -1, size, proof, root),
                (data[index], index, 0, proof, root),
                (data[index], index, 2**53, proof, root),
                (data[index], index, size, proof, merkle.EMPTY_ROOT),
                (data[index], index, size, proof, root[:31]),
                (data[index] + b"\0", index, size, proof, root),
            ]
            if proof:
                bad += [
                    (data[index], index, size, proof[1:], root),
                    (data[index], index, size, proof[:-1], root),
                    (data[index], index, size, [], root),
                    (data[index], index, size, [proof[0][:31], *proof[1:]], root),
                ]
            bad += [(data[index], other, size, proof, root) for other in range(size) if other != index]
            for at in range(len(proof)):
                for byte in range(32):
                    flipped = bytearray(proof[at])
                    flipped[byte] ^= 1
                    bad.append((data[index], index, size, [*proof[:at], bytes(flipped), *proof[at + 1 :]], root))
            for arguments in bad:
                with pytest.raises(IntegrityError):
                    merkle.verify_inclusion(*arguments)


def test_a_longer_proof_that_leads_to_the_root_is_too_long() -> None:
    """The root itself was made to fit one hash more than the size allows."""
    data = leaves(13)
    for size in (1, 2, 7, 8, 13):
        root = mth(data[:size])
        for above in (merkle.node_hash(root, data[0]), merkle.node_hash(data[0], root)):
            for index in range(size):
                with pytest.raises(IntegrityError, match="too long"):
                    merkle.verify_inclusion(data[index], index, size, [*path(index, data[:size]), data[0]], above)
        for old in range(1, size):
            made_old, made_new = merkle.node_hash(data[0], mth(data[:old])), merkle.node_hash(data[0], root)
            with pytest.raises(IntegrityError):
                merkle.verify_consistency(old, made_old, size, made_new, [*subproof(old, data[:size]), data[0]])


def test_a_node_is_no_leaf() -> None:
    """An inner node passed off as a leaf of a smaller tree: the prefixes 0x00 and 0x01 keep the two apart."""
    data = leaves(4)
    left, right = data[0] + data[1], data[2] + data[3]
    with pytest.raises(IntegrityError):
        merkle.verify_inclusion(merkle.leaf_hash(left), 0, 2, [merkle.leaf_hash(right)], mth(data))


def test_consistency_refuses() -> None:
    """Another old or new root, flipped bytes, surplus and missing hashes, sizes swapped or shifted."""
    data = leaves(23)
    roots = [mth(data[:size]) for size in range(24)]
    for new in (1, 2, 3, 8, 13, 16, 23):
        for old in range(1, new + 1):
            proof = subproof(old, data[:new])
            good = (old, roots[old], new, roots[new])
            bad: list[tuple[int, bytes, int, bytes, list[bytes]]] = [
                (*good, [*proof, bytes(32)]),
                (*good, [bytes(32), *proof]),
                (*good, [*proof, roots[new]]),
                (old, bytes(32), new, roots[new], proof),
                (old, roots[old], new, bytes(32), proof),
                (new + 1, roots[new], new, roots[new], proof),
                (old, roots[old], 2**53, roots[new], proof),
                (-1, roots[old], new, roots[new], proof),
            ]
            if proof:
                bad += [(*good, proof[1:]), (*good, proof[:-1]), (*good, []), (*good, [proof[0] + b"\0", *proof[1:]])]
                bad += [(new, roots[new], old, roots[old], proof)]
                bad += [(other, roots[old], new, roots[new], proof) for other in range(1, new) if other != old]
            for at in range(len(proof)):
                for byte in (0, 15, 31):
                    flipped = bytearray(proof[at])
                    flipped[byte] ^= 0x80
                    bad.append((*good, [*proof[:at], bytes(flipped), *proof[at + 1 :]]))
            for arguments in bad:
                with pytest.raises(IntegrityError):
                    merkle.verify_consistency(*arguments)


def test_the_empty_tree_and_equal_sizes() -> None:
    root = mth(leaves(3))
    merkle.verify_consistency(0, merkle.EMPTY_ROOT, 0, merkle.EMPTY_ROOT, [])
    merkle.verify_consistency(0, merkle.EMPTY_ROOT, 3, root, [])
    merkle.verify_consistency(3, root, 3, root, [])
    for arguments in (
        (0, root, 3, root, []), (0, merkle.EMPTY_ROOT, 0, root, []), (0, merkle.EMPTY_ROOT, 3, root, [root]),
        (3, root, 3, mth(leaves(3, 1)), []), (3, root, 3, root, [root]), (0, bytes(32), 0, bytes(32), []),
    ):  # fmt: skip
        with pytest.raises(IntegrityError):
            merkle.verify_consistency(*arguments)
    read = reader(leaves(3))
    assert merkle.consistency(read, 0, 3) == merkle.consistency(read, 3, 3) == []
    for call in (lambda: merkle.inclusion(read, 3, 3), lambda: merkle.inclusion(read, 0, 0),
                 lambda: merkle.inclusion(read, -1, 3), lambda: merkle.consistency(read, 3, 2)):  # fmt: skip
        with pytest.raises(UsageError):
            call()


@given(
    st.integers(-2, 70),
    st.integers(-2, 70),
    st.lists(st.binary(max_size=40) | st.binary(min_size=32, max_size=32), max_size=8),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)
def test_hostile_proofs_give_only_zopp_errors(a: int, b: int, proof: list[bytes], one: bytes, two: bytes) -> None:
    if not (b == a + 1 == 1 and one == two and not proof):
        with pytest.raises(ZoppError):
            merkle.verify_inclusion(one, a, b, proof, two)
    if not (a == b > 0 and one == two and not proof):
        with pytest.raises(ZoppError):
            merkle.verify_consistency(a, one, b, two, proof)


def test_a_frontier_is_what_its_size_says() -> None:
    for size, data in ((1, b""), (0, bytes(32)), (3, bytes(32)), (2, bytes(33)), (-1, b""), (2**53, bytes(32))):
        with pytest.raises(FormatError):
            merkle.Frontier.unpack(size, data)
    with pytest.raises(FormatError):
        merkle.append(merkle.EMPTY, [b"short"])
    made = merkle.append(merkle.EMPTY, leaves(5))
    with pytest.raises(UsageError):
        made.inclusion(5)
    with pytest.raises(UsageError):
        made.node(1, 2)
    with pytest.raises(UsageError):
        merkle.append(made.after, leaves(1)).inclusion(4)


# --- tiles


@pytest.mark.parametrize(
    ("tile", "entries", "path"),
    [
        (tiles.Tile(0, 0), False, "tile/0/000"),
        (tiles.Tile(0, 1234067), False, "tile/0/x001/x234/067"),
        (tiles.Tile(1, 5, 17), False, "tile/1/005.p/17"),
        (tiles.Tile(0, 273, 112), True, "tile/entries/273.p/112"),
        (tiles.Tile(63, 1000), False, "tile/63/x001/000"),
    ],
)
def test_tile_paths(tile: tiles.Tile, entries: bool, path: str) -> None:
    assert tile.path(entries=entries) == path
    assert tiles.parse_path(path) == (tile, entries)


@pytest.mark.parametrize(
    "path",
    ["", "tile", "tile/0", "tile/0/", "tile/0/0", "tile/0/0000", "tile/00/000", "tile/64/000", "tile/0/000.p/0",
     "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/x000/001", "tile/0/001/001", "tile/0/x001/x001", "/tile/0/000",
     "tile/0/000/", "tile/-1/000", "tile/0/٠٠٠", "tile/0/000.p", "tile/entries/x/000",
     "tile/0/x999/x999/x999/x999/x999/x999/999"],
)  # fmt: skip
def test_other_paths_are_no_tiles(path: str) -> None:
    with pytest.raises(FormatError):
        tiles.parse_path(path)


@given(st.text(alphabet="tile/entrisx.p0123456789-", max_size=40) | st.text(max_size=40))
def test_a_path_has_one_spelling(path: str) -> None:
    try:
        tile, entries = tiles.parse_path(path)
    except FormatError:
        return
    assert tile.path(entries=entries) == path


def all_tiles(data: list[bytes]) -> dict[tiles.Tile, bytes]:
    """Straight from the formal definition of tlog-tiles."""
    found = {}
    for level in range(3):
        span = 256**level
        nodes = [mth(data[at : at + span]) for at in range(0, len(data) - span + 1, span)]
        for n in range(0, len(nodes), 256):
            row = nodes[n : n + 256]
            found[tiles.Tile(level, n // 256, len(row))] = b"".join(row)
    return found


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 700, 1024])
def test_proofs_from_tiles(size: int) -> None:
    """Planned, fetched, proven: equal to the recursion, also where only the full tile is left of a partial one."""
    data = leaves(size)
    store = all_tiles(data)
    rng = random.Random(size)
    for index in rng.sample(range(size), min(size, 20)):
        wanted = tiles.needed(lambda read, index=index: merkle.inclusion(read, index, size), size)
        fetched = {tile: store[tile] for tile in wanted}
        assert merkle.inclusion(tiles.reader(fetched, size), index, size) == path(index, data)
        old = index + 1
        wanted = tiles.needed(lambda read, old=old: merkle.consistency(read, old, size), size)
        fetched = {tile: store[tile] for tile in wanted}
        assert merkle.consistency(tiles.reader(fetched, size), old, size) == subproof(old, data)


def test_a_full_tile_stands_in_for_a_partial_one_and_others_are_refused() -> None:
    data = leaves(256)
    full = {tiles.Tile(0, 0): b"".join(data)}
    assert merkle.inclusion(tiles.reader(full, 200), 7, 200) == path(7, data[:200])
    with pytest.raises(UsageError):
        merkle.inclusion(tiles.reader({}, 200), 7, 200)
    with pytest.raises(FormatError):
        merkle.inclusion(tiles.reader({tiles.Tile(0, 0, 200): bytes(32 * 199)}, 200), 7, 200)
    with pytest.raises(UsageError):
        tiles.of_node(3, 25, 200 + 7)


def test_full_tiles_of_level_one() -> None:
    """A level-1 tile fills at 65,536 entries; the batch that crosses the edge makes both levels' tiles."""
    data = leaves(65536)
    first = merkle.append(merkle.EMPTY, data[:65500])
    made = merkle.append(first.after, data[65500:])
    got = dict(tiles.full_tiles(made, first.node))
    level1 = b"".join(first.node(8, n) if n < 255 else made.node(8, n) for n in range(256))
    assert got == {tiles.Tile(0, 255): b"".join(data[65280:]), tiles.Tile(1, 0): level1}
    assert made.root == mth(data)


def test_bundles() -> None:
    entries = [b"", b"a", b"x" * 65535]
    assert tiles.unpack_entries(tiles.pack_entries(entries)) == entries
    for bad in ([], [b""] * 257, [b"x" * 65536]):
        with pytest.raises(FormatError):
            tiles.pack_entries(bad)
    whole = tiles.pack_entries([b"abc", b"de"])
    for data in (b"", b"\0", whole[:-1], whole + b"\0", b"\0\0" * 257):
        with pytest.raises(FormatError):
            tiles.unpack_entries(data)
