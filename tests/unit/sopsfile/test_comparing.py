"""Two versions of a file side by side, without a key: every class of change is told, no value ever is."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from zopp.sopsfile import Drop, Entry, Put, Selector, edit, from_plain, read, replace_groups, replace_tree, rotate
from zopp.sopsfile.comparing import (
    ADDED,
    CHANGED,
    REMOVED,
    Comparison,
    Kind,
    Outline,
    Recipients,
    Shape,
    compare,
    name,
    renamed,
)
from zopp.sopsfile.tree import Comment, Mapping, Tree

from .samples import KEY, LATER, OTHER, encrypted, entry, tree

VALUE = {"a": "hello", "m": {"x": "1", "y": 2}, "l": ["p", "q"], "c_unencrypted": "clear", "z": None}
NEW = ((Entry("age1test", "another wrapping"),),)


def outline(data: bytes, fmt: str = "yaml") -> Outline:
    return Outline.read(data, fmt)


def between(before: bytes, after: bytes, fmt: str = "yaml") -> Comparison:
    return compare(outline(before, fmt), outline(after, fmt))


def put(data: bytes, *changes: Put | Drop, fmt: str = "yaml", **options: Any) -> bytes:
    return edit(read(data, fmt), KEY, changes, lastmodified=LATER, **options)


def said(found: Comparison) -> list[tuple[str, str]]:
    return [(change.what, change.name) for change in found.changes]


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_each_class_of_change(fmt: str) -> None:
    before = encrypted(VALUE, fmt)
    after = put(before, Put(("a",), "other"), Drop(("l", 0)), Put(("new",), "x"), Drop(("m", "x")), fmt=fmt)
    found = between(before, after, fmt)
    # A list item has no name of its own: what stood second stands first now, with its own text.
    assert said(found) == [
        (REMOVED, "m.x"), (REMOVED, "l.1"), (CHANGED, "a"), (CHANGED, "l.0"), (ADDED, "new"),
    ]  # fmt: skip
    assert found.same_data_key
    assert not found.full_rewrap
    assert found.mac == (True, True)
    assert found.recipients == Recipients()
    assert (found.shape, found.selector, found.reordered, found.comments) == (None, None, False, ())


def test_nothing_differs() -> None:
    data = encrypted(VALUE)
    assert not between(data, data)
    assert not between(data, edit(read(data, "yaml"), KEY, [Put(("a",), "hello")], lastmodified=LATER))


def test_types() -> None:
    """A type is told by the ENC text; encrypted against clear is a change of type too."""
    before = encrypted(VALUE)
    found = between(before, put(before, Put(("a",), 7)))
    (change,) = found.changes
    assert change.other_type
    assert (change.was, change.now) == (Kind("str", False), Kind("int", False))
    (change,) = between(before, put(before, Put(("a",), "8"))).changes
    assert not change.other_type
    (change,) = between(before, put(before, Put(("z",), "was null"))).changes
    assert (change.was, change.now) == (Kind("null", False), Kind("str", False))


def test_clear_values_are_compared_and_not_kept() -> None:
    before = encrypted(VALUE)
    found = between(before, put(before, Put(("c_unencrypted",), "hunter2"), allow_clear=True))
    (change,) = found.changes
    assert change.clear
    assert not change.other_type
    assert "hunter2" not in repr(found)
    assert "clear" not in repr(outline(before)).replace("c_unencrypted", "")


def test_a_selected_value_that_is_no_ciphertext_stands_in_the_clear() -> None:
    before = encrypted({"a": "hello", "b": "x"})
    text = before.decode()
    line = next(line for line in text.split("\n") if line.startswith("a: "))
    after = text.replace(line, "a: plaintext").encode()
    (change,) = between(before, after).changes
    assert change.clear
    assert change.other_type
    assert "plaintext" not in repr(change)


def test_full_rewrap_is_another_data_key() -> None:
    before = encrypted(VALUE)
    after = rotate(read(before, "yaml"), KEY, OTHER, NEW, lastmodified=LATER)
    found = between(before, after)
    assert found.full_rewrap
    assert not found.same_data_key
    assert {change.name for change in found.of(CHANGED)} == {"a", "m.x", "m.y", "l.0", "l.1"}
    assert found.recipients.rewrapped == ("age1test",)


def test_the_only_value_set_anew_is_no_rewrap() -> None:
    """Its entries are as before: the same data key, though no value's text is in common."""
    before = encrypted({"a": "hello"})
    found = between(before, put(before, Put(("a",), "other")))
    assert found.same_data_key
    assert not found.full_rewrap
    assert said(found) == [(CHANGED, "a")]


def test_recipients_and_groups() -> None:
    before = encrypted(VALUE)
    more = (entry(), entry("age1more"))
    found = between(before, replace_groups(read(before, "yaml"), (more,), threshold=None))
    assert found.recipients == Recipients(added=("age1more",))
    assert said(found) == []
    assert found.shape is None
    assert found
    grouped = replace_groups(read(before, "yaml"), ((entry("age1more"),), (entry(),)), threshold=2)
    found = between(before, grouped)
    assert found.recipients == Recipients(added=("age1more",), regrouped=("age1test",))
    assert found.shape == (Shape(1, None, True), Shape(2, 2, False))
    assert found.same_data_key
    assert Shape(2, 2, False).words() == "2 key groups, threshold 2"


def test_selector_and_mac() -> None:
    before = encrypted({"a": "hello", "b": "x"})
    narrower = before.replace(b"unencrypted_suffix: _unencrypted", b"encrypted_regex: ^(a|b)$")
    found = between(before, narrower)
    assert found.selector is not None
    assert found.selector[1] == Selector("encrypted_regex", "^(a|b)$")
    assert said(found) == []
    lines = before.decode().split("\n")
    no_mac = "\n".join(line for line in lines if not line.strip().startswith("mac:")).encode()
    assert between(before, no_mac).mac == (True, False)
    assert between(before, no_mac)


def test_comments_and_order() -> None:
    before = b"# one\na: ENC[x,type:str]\n# two\nb: ENC[y,type:str]\n"
    tail = encrypted({"q": "r"}).partition(b"\nsops:\n")[2]
    whole = before + b"sops:\n" + tail
    found = between(whole, whole.replace(b"# two", b"# 2"))
    assert [name(place) for place in found.comments] == ["b"]
    assert found
    first, second = whole.partition(b"# two")[0], b"# two\nb: ENC[y,type:str]\n"
    swapped = second + first + b"sops:\n" + tail
    found = between(whole, swapped)
    assert found.reordered
    assert said(found) == []
    assert found.comments == ()


def test_a_comment_behind_the_last_key_of_a_mapping_is_not_the_next_ones() -> None:
    data = tree({"m": {"x": "1"}, "n": "2"})
    inner = data.documents[0].get("m")
    inner.items.append((Comment(" foot"), None))
    before = encrypted(data)
    inner.items.pop()
    after = replace_tree(read(before, "yaml"), KEY, data, lastmodified=LATER)
    found = between(before, after)
    assert [name(place) for place in found.comments] == ["m"]


def test_one_side_only() -> None:
    data = encrypted(VALUE)
    found = compare(None, outline(data))
    assert {change.what for change in found.changes} == {ADDED}
    assert found.recipients.added == ("age1test",)
    assert found.mac == (False, True)
    gone = compare(outline(data), None)
    assert {change.what for change in gone.changes} == {REMOVED}
    assert gone.recipients.removed == ("age1test",)
    assert not compare(None, None)


def test_documents_are_told_apart_and_repeated_keys_named() -> None:
    tail = encrypted({"q": "r"}).partition(b"\nsops:\n")[2]
    one = b"a: ENC[x,type:str]\nsops:\n" + tail
    two = one + b"---\na: ENC[y,type:str]\nsops:\n" + tail
    found = between(one, two)
    assert said(found) == [(ADDED, "[document 1] a")]
    twice = one + b"---\na: ENC[y,type:str]\na: ENC[z,type:str]\nsops:\n" + tail
    found = between(two, twice)
    assert found.repeated == ((1, ("a",)),)
    assert said(found) == [(CHANGED, "[document 1] a")]


def test_a_rename_in_place_is_told_and_an_exchange_is_not() -> None:
    before = encrypted({"first": "1", "old": "value", "last": "2"})
    after = tree({"first": "1", "new": "value", "last": "2"})
    data = replace_tree(read(before, "yaml"), KEY, after, lastmodified=LATER)
    one, other = outline(before), outline(data)
    assert renamed(one, other, compare(one, other)) == {(0, ("new",)): (0, ("old",))}
    for values in ({"first": "1", "new": "longer value", "last": "2"}, {"first": "1", "new": 12345, "last": "2"}):
        other = outline(replace_tree(read(before, "yaml"), KEY, tree(values), lastmodified=LATER))
        assert renamed(one, other, compare(one, other)) == {}
    # `unset` and `set` put the new key behind the others: nobody says that it is the old one.
    other = outline(put(before, Drop(("old",)), Put(("new",), "value")))
    assert renamed(one, other, compare(one, other)) == {}
    # Two in a row: which became which cannot be told.
    before = encrypted({"first": "1", "old": "value", "older": "value", "last": "2"})
    after = tree({"first": "1", "new": "value", "newer": "value", "last": "2"})
    one, other = outline(before), outline(replace_tree(read(before, "yaml"), KEY, after, lastmodified=LATER))
    assert renamed(one, other, compare(one, other)) == {}


NAMES = st.sampled_from(["a", "b", "c", "d", "e.f", "g h"])
VALUES = st.one_of(
    st.text(max_size=5), st.integers(-5, 5), st.booleans(), st.none(), st.lists(st.text(max_size=2), max_size=2)
)
DOCUMENTS = st.dictionaries(
    NAMES, st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=3)), min_size=1, max_size=5
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], tuple[str, Any]]:
    """path → (type, value) by plain recursion over plain values."""
    if isinstance(value, dict) and (value or not path):
        return {k: v for key, item in value.items() for k, v in leaves(item, (*path, key)).items()}
    if isinstance(value, list) and value:
        return {k: v for at, item in enumerate(value) for k, v in leaves(item, (*path, at)).items()}
    return {path: (type(value).__name__, value)}


@settings(max_examples=150, deadline=None)
@given(before=DOCUMENTS, after=DOCUMENTS, fmt=st.sampled_from(["yaml", "json"]))
def test_against_the_plaintexts(before: dict[str, Any], after: dict[str, Any], fmt: str) -> None:
    """What is added and removed is exactly so; what changed its value is told; what kept its text kept its value."""
    one = encrypted(before, fmt)
    made = from_plain(after)
    assert isinstance(made, Mapping)
    other = replace_tree(read(one, fmt), KEY, Tree([made]), lastmodified=LATER)
    found = between(one, other, fmt)
    then, now = leaves(before), leaves(after)
    paths = {what: {change.place[1] for change in found.of(what)} for what in (ADDED, REMOVED, CHANGED)}
    assert paths[ADDED] == now.keys() - then.keys()
    assert paths[REMOVED] == then.keys() - now.keys()
    assert {path for path in then.keys() & now.keys() if then[path] != now[path]} <= paths[CHANGED]
    # Items of a list may keep their text in another place; of all others an unchanged value is not set anew.
    for path in paths[CHANGED]:
        assert then[path] != now[path] or any(isinstance(part, int) for part in path), path
    assert found.same_data_key
    assert compare(outline(one, fmt), outline(one, fmt)) == Comparison(same_data_key=True, mac=(True, True))


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), value=DOCUMENTS)
def test_any_bytes_give_an_outline_or_a_format_error(data: bytes, value: dict[str, Any]) -> None:
    from zopp.errors import FormatError

    good = encrypted(value)
    for text in (data, good[: len(good) // 2] + data, good.replace(b"sops:", data[:3], 1)):
        for fmt in ("yaml", "json", "dotenv", "ini", "binary"):
            try:
                Outline.read(text, fmt)
            except FormatError:
                continue
