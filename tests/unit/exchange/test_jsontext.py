"""JSON with numbers as they are spelled."""

import json

import pytest
from hypothesis import given, strategies as st

from zopp.exchange import jsontext

CANARY = "kanarienvogel7"


@pytest.mark.parametrize(
    ("text", "dumped", "kind", "inexact"),
    [
        ("5432", "5432", "a number", False),
        ("1.10", "1.10", "a number", False),
        ("-0", "-0", "a number", False),
        ("9007199254740991", "9007199254740991", "a number", False),
        ("9007199254740993", "9007199254740993", "a number", True),
        ("1.2345678901234568e+22", "1.2345678901234568e+22", "a number", True),
        ("1e999", "1e999", "a number", True),
        ("9" * 5000, "9" * 5000, "a number", True),
        ("true", "true", "true or false", False),
        ("null", "null", "null", False),
        ('"a"', '"a"', "", False),
        ('{"b": [1.0, {"a": null}], "a": "ü"}', '{"a":"ü","b":[1.0,{"a":null}]}', "a map", False),
        ("[]", "[]", "a list", False),
        ("{}", "{}", "a map", False),
        ('[{"a": [9007199254740993]}]', '[{"a":[9007199254740993]}]', "a list", True),
    ],
)
def test_what_is_read_and_written(text: str, dumped: str, kind: str, inexact: bool) -> None:
    node = jsontext.parse(text)
    assert (jsontext.dump(node), jsontext.kind(node), jsontext.inexact(node)) == (dumped, kind, inexact)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", '{"a":', f'{{"{CANARY}": {CANARY}}}', f'"{CANARY}', "NaN", "Infinity", "[1,]", "01", "'a'",
        "[" * 100_000, '{"a":' * 100_000, f"{CANARY}", "\ufeff1", "1 2",
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        jsontext.parse(text)
    assert CANARY not in str(raised.value)
    assert raised.value.__suppress_context__


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(jsontext.Duplicate) as raised:
        jsontext.parse(f'{{"a": {{"{CANARY}": 1, "{CANARY}": 2}}}}')
    assert CANARY not in str(raised.value)


def test_what_is_too_deep_to_write_is_refused() -> None:
    most = jsontext.MAX_DEPTH
    assert jsontext.dump(jsontext.parse("[" * most + "1" + "]" * most)).count("[") == most
    with pytest.raises(ValueError):
        jsontext.dump(jsontext.parse("[" * (most + 1) + "1" + "]" * (most + 1)))


_NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=4), below, max_size=4),
    max_leaves=12,
)


@given(_NODES)
def test_it_means_what_json_means(node: object) -> None:
    text = json.dumps(node)
    again = jsontext.dump(jsontext.parse(text))
    assert json.loads(again) == json.loads(text)
    assert jsontext.dump(jsontext.parse(again)) == again
