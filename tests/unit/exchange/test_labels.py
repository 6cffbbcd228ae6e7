"""Labels as names of variables."""

import pytest
from hypothesis import given, strategies as st

from zopp.exchange import names
from zopp.exchange.labels import label


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("db-password", "DB_PASSWORD"),
        ("  API key (live) ", "API_KEY_LIVE"),
        ("a//b..c", "A_B_C"),
        ("2fa", "_2FA"),
        ("Schlüssel", "SCHLU_SSEL"),
        ("ﬁle №1", "FILE_NO1"),
        ("straße", "STRASSE"),
        ("---", ""),
        ("秘密", ""),
        ("A_B", "A_B"),
    ],
)
def test_label(text: str, name: str) -> None:
    assert label(text) == name


@given(st.text(max_size=200))
def test_every_label_is_a_name_or_nothing(text: str) -> None:
    made = label(text)
    assert not made or names.is_target(made) or len(made) > 256
    assert label(made) == made
