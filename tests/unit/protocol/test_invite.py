"""Invite codes survive copying, and a mistyped one is refused without being printed."""

import pickle

import pytest
from hypothesis import given, strategies as st

from zopp.errors import FormatError, ZoppError
from zopp.keys import bech32, signing
from zopp.protocol import invite

SEED = bytes(range(32))
MADE = invite.Invite(SEED, "ab" * 32, 118, "cd" * 32)
CODE = MADE.code()


def test_a_code_carries_all_four() -> None:
    made = invite.parse(CODE)
    assert (made.genesis, made.seq, made.head) == ("ab" * 32, 118, "cd" * 32)
    assert made.key().public == signing.from_seed(SEED).public
    assert made.code() == CODE
    assert CODE.startswith("zopp-invite-1")
    assert CODE.lower() == CODE
    assert len(CODE) < 200
    assert set(CODE) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize(
    "change", [lambda t: f"  {t}\n", lambda t: "\n".join([t[:70], t[70:]]), lambda t: t[:9] + " \t" + t[9:]]
)
def test_broken_lines_are_mended(change) -> None:  # type: ignore[no-untyped-def]
    assert invite.parse(change(CODE)).code() == CODE


def test_each_character_counts() -> None:
    for at in range(len(CODE)):
        for char in "qz1-x0bX":
            if CODE[at] != char:
                with pytest.raises(FormatError) as caught:
                    invite.parse(CODE[:at] + char + CODE[at + 1 :])
                assert CODE[20:30] not in str(caught.value)
    for end in range(len(CODE)):
        with pytest.raises(FormatError):
            invite.parse(CODE[:end])


@pytest.mark.parametrize(
    "text",
    ["", "zopp-invite-1", CODE + "q", CODE + CODE, CODE.upper(), CODE[1:], "x" * 5000,
     bech32.encode("zopp-invite-", b"\2" + bytes(103)), bech32.encode("zopp-invite-", b"\1" + bytes(102)),
     bech32.encode("zopp-invite-", b"\1" + bytes(104)), bech32.encode("age", bytes([1]) + bytes(103)),
     bech32.encode("zopp-invite-", b"\1" + bytes(64) + b"\xff" * 7 + bytes(32))],
)  # fmt: skip
def test_other_texts_are_no_codes(text: str) -> None:
    with pytest.raises(FormatError):
        invite.parse(text)


def test_the_seed_hides() -> None:
    for text in (repr(MADE), str(MADE), f"{MADE}"):
        assert SEED.hex() not in text
        assert repr(SEED) not in text
        assert CODE not in text
    with pytest.raises(TypeError):
        pickle.dumps(MADE)
    for arguments in (
        (bytes(31), "ab" * 32, 0, "cd" * 32), (SEED, "AB" * 32, 0, "cd" * 32), (SEED, "ab" * 32, -1, "cd" * 32),
        (SEED, "ab" * 32, 2**53, "cd" * 32), (SEED, "ab" * 32, 0, "cd"),
    ):  # fmt: skip
        with pytest.raises(FormatError):
            invite.Invite(*arguments)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32))
def test_every_invite_goes_round(seed: bytes, seq: int, head: bytes) -> None:
    made = invite.parse(invite.Invite(seed, head[::-1].hex(), seq, head.hex()).code())
    assert (made.seq, made.head, made.genesis) == (seq, head.hex(), head[::-1].hex())
    assert made.key().public == signing.from_seed(seed).public


@given(
    st.text(max_size=60)
    | st.builds(lambda at, junk: CODE[:at] + junk + CODE[at:], st.integers(0, 170), st.text(min_size=1, max_size=3))
)
def test_any_text_gives_an_invite_or_a_zopp_error(text: str) -> None:
    try:
        made = invite.parse(text)
    except ZoppError:
        return
    assert made.code() == "".join(text.split())
