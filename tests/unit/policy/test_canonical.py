"""One byte form: what encodes, decodes; every other spelling of the same value is refused (A8)."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, strategies as st

from zopp.errors import FormatError, ZoppError
from zopp.policy import canonical

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-canonical.MAX_INT, canonical.MAX_INT) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_round_trip(value: Any) -> None:
    try:
        data = canonical.encode(value)
    except FormatError:
        text = json.dumps(value)
        assert "\\ud" in text or text.count("[") + text.count("{") > canonical.MAX_DEPTH
        return
    assert canonical.decode(data) == value
    assert data == json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',  # order
        b'{"a": 1}',
        b' {"a":1}',
        b'{"a":1} ',
        b'{"a":1}\n',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":-0}',
        b'{"a":01}',
        b"[9007199254740992]",
        b"[-9007199254740992]",
        b'"\\/"',
        b'"\\u0041"',
        b'"\\u000A"',
        b'"\\u000a"',  # has a short form
        b'"\\u001F"',
        b'"\\ud800"',
        b'"\\ud83d\\ude00"',
        b'"\xff"',
        b'"\xc0\xaf"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf1",
        b"NaN",
        b"Infinity",
        b"nul",
        b"",
        b"[1,]",
        b"{}{}",
        b"[" * 17 + b"]" * 17,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" + b"9" * 5000 + b"]",
        b'"\n"',
        b"'a'",
        b"\x00",
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        canonical.decode(data)


@pytest.mark.parametrize("value", [1.5, b"x", {1: 2}, {"a": {2, 3}}, object(), float("nan"), {None: 1}, {1: 1, "a": 2}])
def test_no_canonical_form(value: Any) -> None:
    with pytest.raises(FormatError):
        canonical.encode(value)


def test_exact_strings() -> None:
    """The one spelling: short escapes, \\u00xx in lower case, all else as UTF-8, U+2028 and DEL included."""
    assert canonical.encode('a"\\\b\t\n\f\r\x00\x1f\x7f\u2028é😀') == (
        b'"a\\"\\\\\\b\\t\\n\\f\\r\\u0000\\u001f\x7f\xe2\x80\xa8\xc3\xa9\xf0\x9f\x98\x80"'
    )


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_an_error(data: bytes) -> None:
    with suppress(ZoppError):
        assert canonical.encode(canonical.decode(data)) == data


@given(st.binary(max_size=80))
def test_base64url(data: bytes) -> None:
    text = canonical.b64(data)
    assert "=" not in text
    assert canonical.unb64(text, len(data)) == data


@pytest.mark.parametrize(
    "text", ["AB", "AA=", "AA==", "A A", "AA\n", "A+", "A/", "", "A", "AAA", "ÄA", "\ud800A", "AA-"]
)
def test_base64url_has_one_spelling(text: str) -> None:
    with pytest.raises((FormatError, UnicodeError)):
        canonical.unb64(text, 1)


def test_thaw() -> None:
    from types import MappingProxyType

    assert canonical.thaw(MappingProxyType({"a": ({"b": 1},)})) == {"a": [{"b": 1}]}
