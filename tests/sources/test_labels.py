"""Labels of people as names of variables."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from zopp.exchange.labels import label


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("password", "PASSWORD"),
        ("API key", "API_KEY"),
        ("  db--main / replica ", "DB_MAIN_REPLICA"),
        ("2nd key", "_2ND_KEY"),
        ("_x_", "X"),
        ("ﬁle №1", "FILE_NO1"),
        ("café", "CAFE"),
        ("straße", "STRASSE"),
        ("密码", ""),
        ("", ""),
        ("…", ""),
        ("a\0b\nc", "A_B_C"),
    ],
)
def test_a_label_becomes_a_name(text: str, name: str) -> None:
    assert label(text) == name


@given(st.text())
def test_every_label_is_a_name_or_nothing_and_stays_what_it_is(text: str) -> None:
    name = label(text)
    assert re.fullmatch("([A-Z_][A-Z0-9_]*)?", name)
    assert "__" not in name
    assert label(name) == name
