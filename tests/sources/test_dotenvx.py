"""dotenvx: values sealed by other arithmetic open here, and what does not open is named, never shown."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings, strategies as st

from tests.sources.made import DotenvxKey, dotenvx
from zopp.errors import Unknown
from zopp.exchange.entry import Reading
from zopp.exchange.scalars import to_bytes
from zopp.exchange.sources import dotenvx as source

CANARY = "kanarienvogel7"
KEY = DotenvxKey()
OTHER = DotenvxKey()
NAME = "DOTENV_PRIVATE_KEY"


def read(data: bytes, locator: str = ".env", **keys: str) -> Reading:
    return source.read(data, locator, keys or {NAME: KEY.private})


def values(reading: Reading) -> dict[str, object]:
    return {entry.name: entry.value for entry in reading.entries}


def test_values_open_and_public_keys_are_dropped() -> None:
    reading = read(dotenvx(KEY, {"A": "x", "B": "a\nb\n", "C": "", "D": "ünïcode"}))
    assert values(reading) == {"A": "x", "B": "a\nb\n", "C": "", "D": "ünïcode"}
    assert [entry.remains for entry in reading.entries] == [()] * 4
    assert [entry.note for entry in reading.entries] == [""] * 4  # "# .env" is the command line's, not a note
    assert reading.kind == "dotenvx" and reading.one_file and reading.covers == (".env#",)
    assert len([text for text in reading.warnings if "no signature" in text]) == 1


@given(st.binary(max_size=64))
@settings(max_examples=40, deadline=None)
def test_any_bytes_open(data: bytes) -> None:
    """Both parities of the shared point occur."""
    key = DotenvxKey()
    (entry,) = read(dotenvx(key, {}, clear=f"A={key.seal(data)}\n"), **{NAME: key.private}).entries
    assert entry.value == (data.decode() if to_bytes(entry.value) is None else entry.value)
    assert (to_bytes(entry.value) or entry.value.encode()) == data


def test_clear_values_and_plain_names_are_to_be_changed() -> None:
    reading = read(dotenvx(KEY, {"A": "x", "B_PLAIN": "y"}, clear=f"C={CANARY}\nD_PLAIN=z\n"))
    assert values(reading) == {"A": "x", "B_PLAIN": "y", "C": CANARY, "D_PLAIN": "z"}
    todo = {entry.name: [one.todo for one in entry.remains] for entry in reading.entries}
    assert todo == {"A": [], "B_PLAIN": ["change"], "C": ["change"], "D_PLAIN": ["change"]}


def test_a_file_without_a_sealed_value_needs_no_key() -> None:
    reading = source.read(b"A=x\n", ".env", {})
    assert values(reading) == {"A": "x"} and not reading.warnings


def test_a_dollar_is_kept_and_said() -> None:
    reading = read(dotenvx(KEY, {"A": "pa$word", "B": "$(id)", "C": "x"}, clear="D=$A\n"))
    assert values(reading) == {"A": "pa$word", "B": "$(id)", "C": "x", "D": "$A"}
    assert [entry.remarks for entry in reading.entries] == [("dollar-kept",), ("dollar-kept",), (), ("dollar-kept",)]


def test_keys_are_tried_in_turn() -> None:
    data = dotenvx(KEY, {"A": "x"}, clear=f"B={OTHER.seal('y')}\n")
    assert values(read(data, **{NAME: f"{OTHER.private},{KEY.private}"})) == {"A": "x", "B": "y"}
    assert values(read(data, **{NAME: f" ,{KEY.private.upper()},"})) == {"A": "x"}


@pytest.mark.parametrize(
    ("locator", "suffix", "name"),
    [
        (".env", "", NAME), (".env.production", "_PRODUCTION", f"{NAME}_PRODUCTION"),
        ("a/.env.production", "", NAME), ("-", "_CI", f"{NAME}_CI"), (".env.x", "_Y", f"{NAME}_Y"),
    ],
)  # fmt: skip
def test_the_public_key_says_which_private_key_it_is(locator: str, suffix: str, name: str) -> None:
    assert values(read(dotenvx(KEY, {"A": "x"}, suffix=suffix), locator, **{name: KEY.private})) == {"A": "x"}


def test_without_a_public_key_the_files_name_says_it() -> None:
    """As dotenvx' conventions have it."""
    for locator, name in (
        (".env.production", f"{NAME}_PRODUCTION"), (".env.local.production", f"{NAME}_LOCAL_PRODUCTION"),
        (".env.production.txt", f"{NAME}_PRODUCTION"), (".env1", f"{NAME}_DEVELOPMENT1"), (".env", NAME),
    ):  # fmt: skip
        assert source.key_names(locator, [])[0] == name
        assert values(read(f"A={KEY.seal('x')}\n".encode(), locator, **{name: KEY.private})) == {"A": "x"}


def test_no_key_at_all_is_an_error_that_names_the_variable() -> None:
    with pytest.raises(Unknown) as raised:
        source.read(dotenvx(KEY, {"A": CANARY}, suffix="_CI"), ".env.ci", {})
    assert raised.value.code == "key.none"
    assert "DOTENV_PRIVATE_KEY_CI" in raised.value.hint


def test_a_wrong_key_rejects_each_value_by_name() -> None:
    reading = read(dotenvx(KEY, {"A": CANARY, "B": "y"}), **{NAME: OTHER.private})
    assert [(left.name, left.reason, left.status) for left in reading.left] == [
        ("A", "no-private-key", "rejected"), ("B", "no-private-key", "rejected"),
    ]  # fmt: skip
    assert not reading.entries


def damaged() -> dict[str, str]:
    sealed = base64.b64decode(KEY.seal(CANARY).partition(":")[2])

    def text(data: bytes) -> str:
        return "encrypted:" + base64.b64encode(data).decode()

    flipped = {
        f"flip-{at}": text(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]) for at in (0, 1, 40, 65, 81, 97)
    }
    cut = {f"cut-{size}": text(sealed[:size]) for size in (0, 1, 64, 65, 81, 96, 97)}
    return {
        **flipped, **cut, "empty": "encrypted:", "not-base64": f"encrypted:{CANARY}!",
        "compressed": text(b"\2" + sealed[1:]), "infinity": text(bytes(97) + sealed[97:]),
        "off-curve": text(b"\4" + b"\1" * 64 + sealed[65:]),
    }  # fmt: skip


@pytest.mark.parametrize("how", damaged())
def test_a_damaged_value_is_rejected_by_name(how: str) -> None:
    reading = read(f"A='{damaged()[how]}'\nB={KEY.seal('y')}\n".encode())
    assert values(reading) == {"B": "y"}
    (left,) = reading.left
    assert (left.name, left.status) == ("A", "rejected") and left.reason in source.SAYS
    assert CANARY not in repr(reading)


BAD_KEYS = ["", "zz", "0" * 64, "f" * 64, "g" * 64, KEY.private[:-1], KEY.private + "0", "0x" + "1" * 62]


# workers of one run make other keys: their text is no name of a test
@pytest.mark.parametrize("text", BAD_KEYS, ids=range(len(BAD_KEYS)))
def test_what_is_no_private_key_is_said_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        source.PrivateKey(text)
    assert not text or text not in str(raised.value)
    reading = read(dotenvx(KEY, {"A": "x"}), **{NAME: f"{text},{KEY.private}"})
    assert values(reading) == {"A": "x"}
    assert any("DOTENV_PRIVATE_KEY holds something" in text for text in reading.warnings) == bool(text)


def test_a_key_shows_nothing() -> None:
    assert KEY.private not in repr(source.PrivateKey(KEY.private))


def test_live_references_are_skipped() -> None:
    reading = read(dotenvx(KEY, {"A": "x"}, clear="B=op://vault/item/field\nC=bw://id\n"))
    assert [(left.name, left.status) for left in reading.left] == [("B", "skipped"), ("C", "skipped")]


def test_lines_that_do_not_read_are_rejected_without_another_dialect() -> None:
    reading = read(dotenvx(KEY, {"A": "x"}, clear=f'B="{CANARY}\nC\n'))
    assert [left.reason for left in reading.left] == ["unterminated", "no-equals"]
    assert "could be read as" not in "".join([left.says for left in reading.left])
    assert CANARY not in repr(reading)


def test_env_keys_gives_private_keys_only() -> None:
    text = f'#/---/\n# .env\nDOTENV_PRIVATE_KEY={KEY.private}\nDOTENV_PRIVATE_KEY_CI="a,b"\nOTHER=x\n'
    assert source.keys_of(text.encode()) == {NAME: KEY.private, f"{NAME}_CI": "a,b"}
