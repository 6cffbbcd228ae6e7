"""age's arithmetic against pyrage: what it wraps opens here, and nothing that was touched does."""

import base64

import pytest
from hypothesis import given, settings, strategies as st

from zopp.errors import FormatError, IntegrityError, ZoppError
from zopp.keys import agefile, bech32, curve, filekey, identity, wire

SECRET, RECIPIENT = identity.generate()
SERVER = filekey.PrivateKey(bech32.decode("age-secret-key-", SECRET.lower()) or b"")


def opened(armored: str) -> bytes:
    share, body = filekey.stanza_of(agefile.dearmor(armored))
    key = SERVER.open(share, body)
    assert key is not None
    return filekey.payload(agefile.dearmor(armored), key)


def test_a_server_key_is_the_recipient_s_and_hides_itself() -> None:
    assert SERVER.recipient == RECIPIENT
    assert repr(SERVER) == f"<PrivateKey {RECIPIENT}>"
    with pytest.raises(TypeError):
        SERVER.__reduce__()
    with pytest.raises(FormatError):
        filekey.PrivateKey(bytes(31))


@pytest.mark.parametrize("size", [0, 1, 33, 65535, 65536, 65537, 131072, 200000])
def test_what_pyrage_wraps_opens(size: int) -> None:
    """Chunk edges included."""
    plain = bytes(number * 7 % 256 for number in range(size))
    armored = agefile.wrap(RECIPIENT, plain)
    assert opened(armored) == plain
    assert agefile.unwrap(armored, [identity.from_secret(SECRET, "test")]) == plain


def test_hkdf_is_rfc_5869_s() -> None:
    """Appendix A.3 (no salt, no info), first 32 bytes; and cryptography's own on other inputs."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    assert filekey.hkdf(b"\x0b" * 22, b"", b"").hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    )
    for key, salt, info in ((b"k" * 32, b"s" * 64, b"info"), (b"k" * 16, b"", b"header"), (b"", b"n" * 16, b"payload")):
        assert filekey.hkdf(key, salt, info) == HKDF(hashes.SHA256(), 32, salt or None, info).derive(key)


def test_a_stanza_for_another_key_does_not_open() -> None:
    _, other = identity.generate()
    assert SERVER.open(*filekey.stanza_of(agefile.dearmor(agefile.wrap(other, b"x")))) is None


def test_each_byte_of_a_stanza_counts() -> None:
    share, body = filekey.stanza_of(agefile.dearmor(agefile.wrap(RECIPIENT, b"x")))
    for at in range(32):
        for bit in range(8):
            flip = bytes(32)[:at] + bytes([1 << bit]) + bytes(31 - at)
            changed = bytes(a ^ b for a, b in zip(body, flip, strict=True))
            assert SERVER.open(share, changed) is None
            changed = bytes(a ^ b for a, b in zip(share, flip, strict=True))
            if curve.x25519_ok(changed):
                assert SERVER.open(changed, body) is None
            else:
                with pytest.raises(FormatError):
                    SERVER.open(changed, body)


def test_low_order_and_non_canonical_shares_are_refused() -> None:
    points = [u.to_bytes(32, "little") for u in curve.LOW_ORDER_U]
    points += [(u + curve.P).to_bytes(32, "little") for u in (0, 1)] + [b"\xff" * 32, bytes(31), bytes(33), b""]
    for point in points:
        with pytest.raises(FormatError):
            SERVER.open(point, bytes(32))
    for body in (b"", bytes(31), bytes(33)):
        with pytest.raises(FormatError):
            SERVER.open(b"\x09" + bytes(31), body)


def test_a_wrong_file_key_is_refused_by_the_header() -> None:
    """brokered-grants R1, §11.1: random, zero, foreign, short or empty answers fail; the server cannot substitute."""
    armored = agefile.wrap(RECIPIENT, b"share")
    foreign = SERVER.open(*filekey.stanza_of(agefile.dearmor(agefile.wrap(RECIPIENT, b"other"))))
    assert foreign is not None
    for key in (bytes(16), b"\xff" * 16, foreign):
        with pytest.raises(IntegrityError) as caught:
            filekey.payload(agefile.dearmor(armored), key)
        assert caught.value.code == "file_key"
    for key in (b"", bytes(15), bytes(17), bytes(32)):
        with pytest.raises(FormatError):
            filekey.payload(agefile.dearmor(armored), key)


def rearmor(data: bytes) -> str:
    return wire.pem_encode(data, agefile.LABEL, 64)


def test_each_byte_of_an_age_file_counts() -> None:
    armored = agefile.wrap(RECIPIENT, b"a share of thirty-three bytes ...")
    key = SERVER.open(*filekey.stanza_of(agefile.dearmor(armored)))
    assert key is not None
    data = agefile.dearmor(armored)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(ZoppError):
            filekey.payload(agefile.dearmor(rearmor(changed)), key)
    for end in range(len(data)):
        with pytest.raises(ZoppError):
            filekey.payload(agefile.dearmor(rearmor(data[:end]) if end else ""), key)
    for tail in (b"\0", bytes(16), bytes(32), data[-16:]):
        with pytest.raises(ZoppError):
            filekey.payload(agefile.dearmor(rearmor(data + tail)), key)


def test_chunks_cut_moved_or_added_are_refused() -> None:
    """STREAM: whole chunks dropped at the end, swapped, repeated, or an empty one put behind a full one."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    plain = b"x" * 65536 * 2
    armored = agefile.wrap(RECIPIENT, plain)
    key = SERVER.open(*filekey.stanza_of(agefile.dearmor(armored)))
    assert key is not None
    data = agefile.dearmor(armored)
    start = len(data) - 2 * 65552
    head, one, two = data[:start], data[start : start + 65552], data[start + 65552 :]
    assert filekey.payload(agefile.dearmor(rearmor(head + one + two)), key) == plain
    for stream in (one, two, two + one, one + one, one + two + two, one + two[:-1], one + two + bytes(16)):
        with pytest.raises(IntegrityError):
            filekey.payload(agefile.dearmor(rearmor(head + stream)), key)
    # An empty last chunk that is properly sealed: age refuses it behind a full one, so must we.
    nonce = head[-16:]
    cipher = ChaCha20Poly1305(filekey.hkdf(key, nonce, b"payload"))
    full = cipher.encrypt(bytes(12), b"x" * 65536, None)
    empty = cipher.encrypt((1).to_bytes(11, "big") + b"\1", b"", None)
    with pytest.raises(IntegrityError):
        filekey.payload(agefile.dearmor(rearmor(head + full + empty)), key)
    with pytest.raises(ZoppError):
        agefile.unwrap(rearmor(head + full + empty), [identity.from_secret(SECRET, "test")])


def test_only_one_x25519_stanza_is_taken() -> None:
    from zopp.keys import signing

    armored = agefile.wrap(RECIPIENT, b"x")
    data = agefile.dearmor(armored)
    start = data.index(b"-> X25519")
    end = data.index(b"\n", data.index(b"\n", start) + 1) + 1
    stanza = data[start:end]
    for bad in (
        rearmor(data[:start] + stanza + data[start:]), rearmor(data.replace(b"-> X25519 ", b"-> X25519 x ")),
        rearmor(data.replace(b"-> X25519 ", b"-> x25519 ")), "", "x", armored[:100],
        agefile.wrap(signing.public_line(signing.from_seed(b"\1" * 32).public), b"x"),
    ):  # fmt: skip
        with pytest.raises(FormatError):
            filekey.stanza_of(agefile.dearmor(bad))


@settings(max_examples=60)
@given(st.binary(max_size=80), st.binary(min_size=16, max_size=16), st.integers(0, 500), st.binary(max_size=4))
def test_any_bytes_give_a_zopp_error(data: bytes, key: bytes, at: int, junk: bytes) -> None:
    whole = agefile.dearmor(agefile.wrap(RECIPIENT, b"x"))
    changed = whole[:at] + junk + whole[at:]
    for text in (data.decode("latin-1"), base64.b64encode(data).decode(), rearmor(data or b"x"), rearmor(changed)):
        with pytest.raises(ZoppError):
            filekey.payload(agefile.dearmor(text), key)
