"""Typed KEYs, and trees flattened to names."""

import pytest
from hypothesis import given, strategies as st

from zopp import sopsfile
from zopp.errors import IntegrityError, UsageError
from zopp.repo import exposure, values
from zopp.repo.values import Opened
from zopp.sopsfile import Put


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("A", ("A",)),
        ("a.b.c", ("a", "b", "c")),
        ('"a.b".c', ("a.b", "c")),
        ('a."b.c"', ("a", "b.c")),
        ("l.0", ("l", "0")),
    ],
)
def test_keys_are_parsed(text: str, path: tuple[str, ...]) -> None:
    assert values.parse_key(text) == path


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", '"a', '"a"b', 'a."b"c'])
def test_malformed_keys_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError):
        values.parse_key(text)


@given(st.lists(st.text("ab.c", min_size=1, max_size=4), min_size=1, max_size=4))
def test_what_is_shown_is_read_back(parts: list[str]) -> None:
    assert values.parse_key(exposure.dotted(parts)) == tuple(parts)


def opened(plain: dict[str, object]) -> Opened:
    tree = sopsfile.Tree([sopsfile.from_plain(plain)])
    return Opened("f.yaml", tree, [leaf for (_, leaf) in values.leaf_map(tree)])


def test_nested_names_are_joined() -> None:
    assert values.flatten([opened({"a": {"b": "1", "l": ["x", "y"]}, "c": 2})]) == {
        "a_b": "1",
        "a_l_0": "x",
        "a_l_1": "y",
        "c": 2,
    }


def test_two_leaves_with_one_name_are_refused() -> None:
    with pytest.raises(IntegrityError) as caught:
        values.flatten([opened({"a": {"b": "1"}, "a_b": "2"})])
    assert caught.value.code == "name.twice"


def test_leaf_maps_tell_types_and_empty_containers_apart() -> None:
    one = values.leaf_map(sopsfile.Tree([sopsfile.from_plain({"a": 1, "b": {}, "c": [], "d": None})]))
    other = values.leaf_map(sopsfile.Tree([sopsfile.from_plain({"a": "1", "b": [], "c": {}, "d": ""})]))
    assert one.keys() == other.keys()
    assert all(one[k] != other[k] for k in one)


@pytest.mark.parametrize(
    ("puts", "code"),
    [
        ([Put(("a", "b"), 1), Put(("a", "c"), 2), Put(("d",), {"e": 3}), Put(("d", "f"), 4)], ""),
        ([Put(("a",), 1), Put(("a",), 2)], "key.twice"),
        ([Put(("a", "b"), 1), Put(("a",), 2)], "key.twice"),
        ([Put(("a",), {"b": {"c": 1}}), Put(("a", "b", "c"), 2)], "key.twice"),
        ([Put(("a",), 1), Put(("a", "b"), 2)], "through_scalar"),
        ([Put(("a",), [1]), Put(("a", "0"), 2)], "through_scalar"),
    ],
)
def test_a_new_file_has_each_key_once(puts: list[Put], code: str) -> None:
    if code:
        with pytest.raises(UsageError) as raised:
            values._new_tree("x.yaml", puts, allow_clear=False)
        assert raised.value.code == code
    else:
        made = values._new_tree("x.yaml", puts, allow_clear=False)
        assert sopsfile.to_plain(made.documents[0]) == {"a": {"b": 1, "c": 2}, "d": {"e": 3, "f": 4}}
