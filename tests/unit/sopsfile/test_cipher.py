"""Values, MAC and shares against the vectors of the specification (sops-compat 3, 4, 9)."""

import itertools
import math

import pytest
from hypothesis import given, strategies as st

from zopp import _fast
from zopp.errors import FormatError, IntegrityError
from zopp.sopsfile import Comment, Timestamp, cipher, join_key, mac, split_key

from .samples import KEY

AEAD = _fast.aesgcm(KEY)
VECTORS = [
    (1, ":", "comment", Comment(" note"), "mcrGk7w=", "u3/7DjTmjXUc7Dr8mPLsgg=="),
    (2, "a:", "str", "hello", "Bx6VKSU=", "OklkUWAgxu00y4e5JhXG4Q=="),
    (3, "n:", "int", -5, "R0E=", "+CJrQJqc2YUkPIehFJ9wiA=="),
    (4, "f:", "float", 0.00000015, "XiJfWQLObQlS7g==", "mmyOWFXNZgnHbHgm9KSeqw=="),
    (5, "b:", "bool", True, "pMiN2Q==", "f30Gv3Ic5M44MQ/omZhjmw=="),
    (6, "t:", "time", Timestamp("2024-01-01T00:00:00Z"), "iqGBS5X8QuHdefDZbWkRBOGksVw=", "MPTFqCdzqV2MB7VLJpBebQ=="),
    (7, "l:", "str", "x", "QQ==", "UCzZvPMv6Zv7Z/fD5QyYLg=="),
    (8, "l:k:", "str", "y", "7w==", "7xgLpEbZrnjSepSBXvY2PA=="),
]


@pytest.mark.parametrize(("n", "aad", "kind", "value", "data", "tag"), VECTORS)
def test_vectors(n: int, aad: str, kind: str, value: object, data: str, tag: str) -> None:
    """The vectors of 3.4, both ways."""
    text = cipher.encrypt(AEAD, value, aad, lambda size: bytes([n]) * size)
    fields = text.removeprefix("ENC[").removesuffix("]").split(",")
    assert fields[0] == "AES256_GCM"
    assert fields[1] == "data:" + data
    assert fields[3:] == ["tag:" + tag, "type:" + kind]
    assert cipher.value_of(*cipher.open_text(AEAD, text, aad.encode())) == value


def test_mac_vector() -> None:
    """The MAC input of 3.4 and its digest."""
    pieces = [cipher.canonical(value)[1] for value in ("hello", -5, 1.5e-7, True)]
    pieces += [b"2024-01-01T00:00:00Z", b"x", b"y", b"", cipher.canonical(1.0)[1]]
    assert b"".join(pieces) == b"hello-50.00000015True2024-01-01T00:00:00Zxy1"
    digest = mac.digest(pieces)
    assert len(digest) == 128
    assert digest.startswith("7549BC394EAB6E41")
    assert digest.endswith("CE37D533")
    assert mac.digest(pieces, True) != digest


@pytest.mark.parametrize("stamp", ["2024-01-02T03:04:05Z", "2024-01-02T03:04:05+00:00", "2024-01-02T03:04:05.9Z"])
def test_lastmodified_spellings_verify(stamp: str) -> None:
    """The MAC's additional data is the time in whole seconds."""
    sealed = mac.seal(AEAD, [b"x"], False, "2024-01-02T03:04:05Z", lambda n: bytes(n))
    mac.check(AEAD, [b"x"], False, stamp, sealed)


def test_mac_refusals() -> None:
    sealed = mac.seal(AEAD, [b"x"], False, "2024-01-02T03:04:05Z", lambda n: bytes(n))
    for pieces, stamp, text in (
        ([b"y"], "2024-01-02T03:04:05Z", sealed),
        ([b"x"], "2024-01-02T03:04:06Z", sealed),
        ([b"x"], "2024-01-02T03:04:05Z", ""),
    ):
        with pytest.raises(IntegrityError):
            mac.check(AEAD, pieces, False, stamp, text)
    lower = cipher.seal(AEAD, "str", mac.digest([b"x"]).lower().encode(), "2024-01-02T03:04:05Z")
    with pytest.raises(IntegrityError):
        mac.check(AEAD, [b"x"], False, "2024-01-02T03:04:05Z", lower)
    with pytest.raises(FormatError):
        mac.check(AEAD, [b"x"], False, "2024-01-02", sealed)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (1e10, "10000000000"),
        (1.5e-7, "0.00000015"),
        (-0.0, "-0"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
        (1.2345678901234568e29, "123456789012345680000000000000"),
        (5e-324, "0." + "0" * 323 + "5"),
        (123.456, "123.456"),
    ],
)
def test_float_text(value: float, text: str) -> None:
    assert cipher.float_text(value) == text


@given(st.floats(allow_nan=False))
def test_float_text_is_the_decimal_form(value: float) -> None:
    """The same digits as `format(Decimal(repr(f)), "f")` without a final `.0`, and they read back."""
    from decimal import Decimal

    if math.isinf(value):
        return
    text = cipher.float_text(value)
    assert text == format(Decimal(repr(value)), "f").removesuffix(".0")
    assert repr(cipher.go_float(text)) == repr(value)


@pytest.mark.parametrize(
    ("kind", "plain", "value"),
    [
        ("int", b"+5", 5), ("int", b"007", 7), ("int", b"-9223372036854775808", -(2**63)),
        ("float", b"1.0", 1.0), ("float", b"1e3", 1000.0), ("float", b"0x1p4", 16.0), ("float", b"inf", math.inf),
        ("bool", b"t", True), ("bool", b"1", True), ("bool", b"FALSE", False),
        ("time", b"2024-01-01T00:00:00+00:00", Timestamp("2024-01-01T00:00:00Z")),
        ("time", b"2024-01-01T00:00:00.500+02:00", Timestamp("2024-01-01T00:00:00.5+02:00")),
        ("bytes", b"x", "x"), ("str", b"\xff", b"\xff"),
    ],
)  # fmt: skip
def test_lenient_spellings(kind: str, plain: bytes, value: object) -> None:
    """What sops also reads (3.3)."""
    assert cipher.value_of(kind, plain) == value


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        ("int", b"9223372036854775808"), ("int", b"5.0"), ("int", b""), ("int", b"1_0"), ("bool", b"yes"),
        ("float", b"1_0"), ("float", b"x"), ("float", b"1e999"), ("time", b"2024-01-01"), ("time", b"2024-02-30T00:00:00Z"),  # noqa: E501
        ("time", b"2024-01-01T00:00:60Z"), ("other", b"x"), ("comment", b"\xff"),
    ],
)  # fmt: skip
def test_plaintext_that_does_not_fit(kind: str, plain: bytes) -> None:
    with pytest.raises(IntegrityError):
        cipher.value_of(kind, plain)


@pytest.mark.parametrize("length", [12, 16, 32])
def test_other_iv_lengths_are_read(length: int) -> None:
    nonce = bytes(length)
    sealed = AEAD.encrypt(nonce, b"x", b"a:")
    from base64 import b64encode as b64

    text = f"ENC[AES256_GCM,data:{b64(sealed[:-16]).decode()},iv:{b64(nonce).decode()},tag:{b64(sealed[-16:]).decode()},type:str]"  # noqa: E501
    assert cipher.open_text(AEAD, text + "ignored", b"a:") == ("str", b"x")
    with pytest.raises(IntegrityError):
        cipher.open_text(AEAD, "x" + text, b"a:")
    with pytest.raises(IntegrityError):
        cipher.open_text(AEAD, text, b"b:")


def test_emitted_iv_is_32_random_bytes() -> None:
    asked: list[int] = []
    cipher.encrypt(AEAD, "x", "a:", lambda n: asked.append(n) or bytes(n))  # type: ignore[func-returns-value]
    assert asked == [32]
    assert cipher.encrypt(AEAD, "x", "a:") != cipher.encrypt(AEAD, "x", "a:")


def test_empty_text_stays_empty() -> None:
    assert cipher.encrypt(AEAD, "", "a:") == ""
    assert cipher.encrypt(AEAD, Comment(""), ":") == ""


@pytest.mark.parametrize(
    ("path", "aad"),
    [
        (("a",), "a:"),
        (("a", "b"), "a:b:"),
        (("l", 0, 1), "l:"),
        (("l", 0, "k"), "l:k:"),
        ((), ":"),
        (("a:b", ""), "a:b::"),
    ],
)
def test_additional_data(path: tuple[object, ...], aad: str) -> None:
    assert cipher.aad_of(path) == aad


@given(st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_any_text_opens_or_is_refused(text: str) -> None:
    for candidate in (text, cipher.PREFIX + text, f"ENC[AES256_GCM,data:{text},iv:YQ==,tag:YQ==,type:str]"):
        with pytest.raises(IntegrityError):
            cipher.open_text(AEAD, candidate, b"a:")


def test_shamir_example() -> None:
    """Section 9: threshold 2, every slope 0x53."""
    shares = split_key(KEY, 3, 2, lambda n: b"\x53" * n)
    for x, mask in ((1, 0x53), (2, 0xA6), (3, 0xF5)):
        assert shares[x - 1] == bytes(b ^ mask for b in KEY) + bytes([x])
    for pair in itertools.permutations(shares, 2):
        assert join_key(list(pair)) == KEY
    assert join_key(shares[::-1]) == KEY


def test_field_against_schoolbook() -> None:
    """All 65,536 products of GF(2^8) modulo 0x11B, and division undoes each."""
    from zopp.sopsfile import shamir

    def slow(a: int, b: int) -> int:
        product = 0
        while b:
            if b & 1:
                product ^= a
            a = (a << 1) ^ (0x11B if a & 0x80 else 0)
            b >>= 1
        return product

    for a in range(256):
        for b in range(256):
            assert shamir._mul(a, b) == slow(a, b)
            if b:
                assert shamir._div(slow(a, b), b) == a


@given(st.binary(min_size=32, max_size=32), st.integers(2, 6), st.data())
def test_shares_round_trip(key: bytes, n: int, data: st.DataObject) -> None:
    threshold = data.draw(st.integers(2, n))
    shares = split_key(key, n, threshold)
    chosen = data.draw(st.permutations(shares))[: data.draw(st.integers(threshold, n))]
    assert join_key(chosen) == key


@pytest.mark.parametrize(("n", "threshold"), [(1, 1), (3, 1), (2, 3), (256, 2)])
def test_impossible_thresholds(n: int, threshold: int) -> None:
    with pytest.raises(FormatError):
        split_key(KEY, n, threshold)


def test_bad_shares() -> None:
    shares = split_key(KEY, 3, 2)
    for bad in (
        [],
        shares[:1],
        [shares[0], shares[0]],
        [shares[0][:-1], shares[1]],
        [shares[0], shares[1][:32] + b"\0"],
    ):
        with pytest.raises(IntegrityError):
            join_key(bad)
