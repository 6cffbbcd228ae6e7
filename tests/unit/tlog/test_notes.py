"""Notes, checkpoints and proofs: one spelling each, and nothing believed that the log's key did not sign."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given, strategies as st

from tests.unit.tlog.brute import mth, path, subproof
from zopp.errors import FormatError, IntegrityError, ZoppError
from zopp.keys import signing
from zopp.tlog import checkpoint, merkle, note, proof

KEY = signing.from_seed(b"\1" * 32)
OTHER = signing.from_seed(b"\2" * 32)
ORIGIN = "zopp.example.test/acme/0123456789abcdef"
LOG = note.Verifier(ORIGIN, KEY.public)
DATA = [merkle.leaf_hash(b"%d" % number) for number in range(13)]


def head(size: int = 13, data: list[bytes] = DATA) -> checkpoint.Checkpoint:
    return checkpoint.Checkpoint(ORIGIN, size, mth(data[:size]))


SIGNED = checkpoint.sign(head(), KEY)


def test_the_key_id_is_the_specification_s() -> None:
    """The public key of the Go checksum database, whose id anyone can look up."""
    text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    made = note.parse_verifier(text)
    assert made.name == "sum.golang.org"
    assert made.key_id.hex() == "033de0ae"
    assert made.text() == text
    assert made.key_id == hashlib.sha256(b"sum.golang.org\n\x01" + made.public).digest()[:4]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-1], lambda t: t + "A", lambda t: t.replace("+033d", "+033e"), lambda t: t.upper(),
        lambda t: t.replace("033de0ae", "033DE0AE"), lambda t: "x" + t, lambda t: t + "\n", lambda t: "",
        lambda t: t.replace("+Ac", "+Bc"), lambda t: t.replace("sum.", "su m."), lambda t: "+" + t,
    ],
)  # fmt: skip
def test_other_verifier_keys_are_refused(change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FormatError):
        note.parse_verifier(change("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"))


def test_a_low_order_log_key_is_refused() -> None:
    with pytest.raises(FormatError):
        note.Verifier(ORIGIN, bytes(32))


def test_a_note_goes_round() -> None:
    made = note.sign("one\n\n\ntwo — ü\n", "example.test/log", KEY)
    assert note.parse(made.serialise()) == made
    made.verify(note.Verifier("example.test/log", KEY.public))
    assert KEY.sign("one\n\n\ntwo — ü\n".encode()) == made.signatures[0].signature


def test_unknown_signatures_are_ignored_and_bad_ones_of_known_keys_are_not() -> None:
    text = head().text()
    stranger = note.sign(text, "witness.example.test/w", OTHER).signatures[0]
    same_name = note.Signature(ORIGIN, b"\0\1\2\3", b"?" * 72)
    same_id = note.Signature("other.test", LOG.key_id, bytes(64))
    cosignature = note.Signature("witness.example.test/x", b"abcd", bytes(72))
    made = note.sign(text, ORIGIN, KEY, stranger, same_name, same_id, cosignature)
    assert checkpoint.read(made.serialise(), LOG) == head()
    for bad in (bytes(64), b"x", SIGNED.signatures[0].signature[:-1], SIGNED.signatures[0].signature + b"\0"):
        forged = note.Note(text, (stranger, note.Signature(ORIGIN, LOG.key_id, bad)))
        with pytest.raises(IntegrityError):
            checkpoint.verify(forged, LOG, note.Verifier("witness.example.test/w", OTHER.public))
    for verifiers in ((), (note.Verifier(ORIGIN, OTHER.public),), (note.Verifier("other.test", KEY.public),)):
        with pytest.raises(IntegrityError):
            note.Note(text, (SIGNED.signatures[0],)).verify(*verifiers)


WHOLE = SIGNED.serialise()
LINE = WHOLE.split(b"\n\n")[1]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", b"\n\n", WHOLE[:-1], WHOLE + b"\n", WHOLE + b"x", WHOLE.replace(b"\n\n", b"\n"),
        WHOLE.replace(b"\n", b"\r\n"), WHOLE.replace(b"13\n", b"13\t\n"), WHOLE.replace(b"13\n", b"1\x003\n"),
        WHOLE + LINE, WHOLE.replace("—".encode(), b"-"), WHOLE.replace("— ".encode(), "—".encode()),
        WHOLE.replace("— ".encode(), "—  ".encode()), WHOLE[:-2] + b"\n", WHOLE.replace(b"\n\n", b"\n\n\xff"),
        head().text().encode() + b"\n", head().text().encode() + b"\n" + "— a AAAA\n".encode(),
        head().text().encode() + b"\n" + "— a b AAAAAAA=\n".encode(),
        head().text().encode() + b"\n" + "— a+b AAAAAAA=\n".encode(),
        head().text().encode() + b"\n" + "— a\u00a0b AAAAAAA=\n".encode(),
        head().text().encode() + b"\n" + "— a AAAAAAB=\n".encode(), b"\xef\xbb" + WHOLE,
        head().text().encode() + b"\n" + b"".join(f"— k{n} AAAAAAA=\n".encode() for n in range(65)),
        b"x" * (1 << 20) + WHOLE,
    ],
)  # fmt: skip
def test_malformed_notes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        note.parse(data)


def test_sixteen_signatures_are_accepted() -> None:
    more = [note.Signature(f"w{number}.test", b"abcd", bytes(72)) for number in range(15)]
    assert checkpoint.read(note.sign(head().text(), ORIGIN, KEY, *more).serialise(), LOG) == head()


@pytest.mark.parametrize("text", ["", "no end", "tab\t\n", "nul\0\n", "x" * (1 << 20) + "\n"])
def test_no_note_is_signed_that_would_not_parse(text: str) -> None:
    with pytest.raises(FormatError):
        note.sign(text, ORIGIN, KEY)


def test_each_byte_of_a_checkpoint_counts() -> None:
    """Flip every bit of every byte: refused, or (in a signature line only) never a different checkpoint."""
    for at in range(len(WHOLE)):
        for bit in range(8):
            data = WHOLE[:at] + bytes([WHOLE[at] ^ 1 << bit]) + WHOLE[at + 1 :]
            with pytest.raises(ZoppError):
                checkpoint.read(data, LOG)


@pytest.mark.parametrize(
    "text",
    ["", "o\n13\n", "o\n13\nAAAA\n", "o\n013\n{r}\n", "o\n+13\n{r}\n", "o\n-1\n{r}\n", "o\n1_3\n{r}\n", "o\n13 \n{r}\n",
     "o\n٣\n{r}\n", "o\n13\n{r}", "o\n13\n{r}\n\n", "\n13\n{r}\n", "o\n\n13\n{r}\n", "o\n13\n{r}\n\nx\n",
     "o\n13\n {r}\n",
     "o\n9007199254740992\n{r}\n", "o\n99999999999999999999\n{r}\n", "o\n0\n{r}\n", "o\n00\n{r}\n", "o\n13\n{short}\n"],
)  # fmt: skip
def test_malformed_checkpoints_are_refused(text: str) -> None:
    root = SIGNED.text.split("\n")[2]
    text = text.format(r=root, short=root[:-1])
    with pytest.raises(FormatError):
        checkpoint.parse_text(text)


def test_extension_lines_are_kept() -> None:
    made = checkpoint.Checkpoint(ORIGIN, 13, mth(DATA), ("one", "two"))
    assert checkpoint.read(checkpoint.sign(made, KEY).serialise(), LOG) == made
    empty = checkpoint.Checkpoint(ORIGIN, 0, merkle.EMPTY_ROOT)
    assert checkpoint.read(checkpoint.sign(empty, KEY).serialise(), LOG) == empty
    for bad in (
        checkpoint.Checkpoint(ORIGIN, 0, mth(DATA)), checkpoint.Checkpoint(ORIGIN, 1, b"short"),
        checkpoint.Checkpoint(ORIGIN, 13, mth(DATA), ("",)), checkpoint.Checkpoint("a\nb", 13, mth(DATA)),
        checkpoint.Checkpoint(ORIGIN, 2**53, mth(DATA)),
    ):  # fmt: skip
        with pytest.raises(FormatError):
            checkpoint.sign(bad, KEY)


def test_another_origin_or_key_is_another_log() -> None:
    """The log's key under another name, another key under the log's name, and a note of the key about another log."""
    elsewhere = checkpoint.Checkpoint("zopp.example.test/other/0123456789abcdef", 13, mth(DATA))
    for signed in (
        checkpoint.sign(head(), OTHER), checkpoint.sign(elsewhere, KEY),
        note.sign(elsewhere.text(), ORIGIN, KEY), note.sign(head().text(), elsewhere.origin, KEY),
    ):  # fmt: skip
        with pytest.raises(IntegrityError):
            checkpoint.verify(signed, LOG)
    with pytest.raises(IntegrityError) as caught:
        checkpoint.verify(checkpoint.sign(elsewhere, KEY), LOG)
    assert caught.value.code == "origin"
    # With two keys trusted, the one whose name stands in the first line must have signed.
    second = note.Verifier(elsewhere.origin, OTHER.public)
    with pytest.raises(IntegrityError):
        checkpoint.verify(note.sign(elsewhere.text(), ORIGIN, KEY), LOG, second)
    assert checkpoint.verify(checkpoint.sign(elsewhere, OTHER), LOG, second) == elsewhere


def test_the_origin_names_host_workspace_and_genesis() -> None:
    assert checkpoint.origin_of("https://zopp.example.test", "acme", "0123456789abcdef" * 4) == ORIGIN
    assert checkpoint.origin_of("http://localhost:8443", "a", "f" * 64) == "localhost:8443/a/" + "f" * 16


def test_newer_checkpoints_extend_older_ones() -> None:
    for old in range(1, 14):
        for new in range(old, 14):
            checkpoint.consistent(head(old), head(new), subproof(old, DATA[:new]))
    checkpoint.consistent(None, head(), [])
    fork = [*DATA[:12], merkle.leaf_hash(b"fork")]
    bad: list[tuple[checkpoint.Checkpoint | None, checkpoint.Checkpoint, list[bytes], str]] = [
        (head(13), head(12), [], "rollback"),
        (head(13), head(13, fork), [], "split_view"),
        (head(12), head(13), [], "proof"),
        (None, head(13), [bytes(32)], "proof"),
        (head(13, fork), head(13), [], "split_view"),
        (head(8, [merkle.leaf_hash(b"fork"), *DATA[1:]]), head(13), subproof(8, DATA), "proof"),
        (checkpoint.Checkpoint("other.test", 8, mth(DATA[:8])), head(13), subproof(8, DATA), "origin"),
    ]
    for older, newer, hashes, code in bad:
        with pytest.raises(IntegrityError) as caught:
            checkpoint.consistent(older, newer, hashes)
        assert caught.value.code == code


# --- tlog-proof


def proven(index: int = 5, extra: bytes | None = None) -> proof.Proof:
    return proof.Proof(index, tuple(path(index, DATA)), SIGNED, extra)


def test_the_proof_s_text_is_the_specification_s() -> None:
    made = proven(5, b"hello")
    lines = made.serialise().decode().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra aGVsbG8=", "index 5"]
    assert lines[3 + len(made.hashes)] == ""
    assert made.serialise().endswith(b"\n\n" + WHOLE)
    for index in range(13):
        for extra in (None, b"", b"\0" * 99):
            one = proven(index, extra)
            assert proof.parse(one.serialise()) == one
            assert one.verify(DATA[index], LOG) == head()
    single = proof.Proof(0, (), checkpoint.sign(head(1), KEY))
    assert proof.parse(single.serialise()).verify(DATA[0], LOG) == head(1)


def test_a_proof_of_something_else_does_not_verify() -> None:
    """A22: another leaf, another index, proofs cut or lengthened, another log's key or origin."""
    made = proven()
    cut = proof.Proof(5, made.hashes[:-1], SIGNED)
    longer = proof.Proof(5, (*made.hashes, bytes(32)), SIGNED)
    shifted = proof.Proof(4, made.hashes, SIGNED)
    beyond = proof.Proof(13, made.hashes, SIGNED)
    swapped = proof.Proof(5, made.hashes, checkpoint.sign(head(12), KEY))
    forged = proof.Proof(5, made.hashes, checkpoint.sign(head(), OTHER))
    for one, leaf in (
        (made, DATA[4]), (made, merkle.leaf_hash(b"other")), (cut, DATA[5]), (longer, DATA[5]), (shifted, DATA[5]),
        (beyond, DATA[5]), (swapped, DATA[5]), (forged, DATA[5]),
    ):  # fmt: skip
        with pytest.raises(IntegrityError):
            one.verify(leaf, LOG)


def edits() -> Iterator[bytes]:
    whole = proven(5, b"hello").serialise()
    hashed = whole.split(b"\n")[3]
    yield from (whole[:-1], whole + b"\n", b"\n" + whole, whole.replace(b"@v1", b"@v2"), whole.replace(b"\n", b"\r\n"))
    yield whole.replace(b"index 5", b"index 05")
    yield whole.replace(b"index 5", b"index  5")
    yield whole.replace(b"index 5", b"index +5")
    yield whole.replace(b"index 5\n", b"")
    yield whole.replace(b"index 5\n", b"index 5\nindex 5\n")
    yield whole.replace(b"extra aGVsbG8=\n", b"extra aGVsbG8=\nextra aGVsbG8=\n")
    yield whole.replace(b"extra aGVsbG8=\nindex 5\n", b"index 5\nextra aGVsbG8=\n")
    yield whole.replace(b"extra aGVsbG8=", b"extra aGVsbG9=")
    yield whole.replace(b"extra aGVsbG8=", b"extra aGVsbG8")
    yield whole.replace(hashed + b"\n", hashed[:-2] + b"\n")
    yield whole.replace(hashed + b"\n", hashed + b" \n")
    yield whole.replace(hashed + b"\n", (hashed + b"\n") * 65)
    yield whole.replace(hashed, hashed.replace(b"=", b"A"))
    yield whole.partition(b"\n\n")[0]
    yield whole.partition(b"\n\n")[0] + b"\n\n" + note.sign("not a checkpoint\n", ORIGIN, KEY).serialise()


@pytest.mark.parametrize("data", list(edits()))
def test_malformed_proofs_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        proof.parse(data)


def test_each_byte_of_a_proof_counts() -> None:
    whole = proven().serialise()
    for at in range(len(whole)):
        for bit in (0, 3, 5, 7):
            data = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
            with pytest.raises(ZoppError):
                proof.parse(data).verify(DATA[5], LOG)


HOSTILE = st.binary(max_size=200) | st.builds(
    lambda whole, at, junk, cut: whole[: at % len(whole)] + junk + whole[(at + cut) % len(whole) :],
    st.sampled_from([WHOLE, proven(5, b"x").serialise()]), st.integers(0, 2000), st.binary(max_size=4),
    st.integers(0, 9),
)  # fmt: skip


@given(HOSTILE)
def test_any_bytes_give_a_value_of_one_spelling_or_a_zopp_error(data: bytes) -> None:
    for parse in (note.parse, proof.parse):
        try:
            made = parse(data)
        except ZoppError:
            continue
        assert made.serialise() == data
    try:
        text = data.decode()
        made_checkpoint = checkpoint.parse_text(text)
    except (ZoppError, UnicodeDecodeError):
        return
    assert made_checkpoint.text() == text
