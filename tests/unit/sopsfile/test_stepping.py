"""A version read from the one before it is what a full reading gives, places in the text aside."""

from typing import Any

from hypothesis import given, settings, strategies as st

from zopp.sopsfile import Drop, Put, edit, read, replace_groups, rotate
from zopp.sopsfile.comparing import Outline, compare
from zopp.sopsfile.stepping import Sheet, sheet, step

from .samples import KEY, LATER, OTHER, encrypted, entry

VALUE: dict[str, Any] = {"a": "hello", "m": {"x": "1", "y": 2}, "l": ["p", "q"], "c_unencrypted": "clear", "e": ""}


def start(data: bytes, fmt: str) -> Sheet:
    made = sheet(Outline.read(data, fmt))
    assert made is not None
    return made


def check(before: bytes, after: bytes, fmt: str) -> bool:
    """Whether it stepped; what it says then is what a full reading says."""
    stepped = step(start(before, fmt), after)
    if stepped is None:
        return False
    made, found = stepped
    full = Outline.read(after, fmt)
    assert {p: x[:4] for p, x in made.outline.leaves.items()} == {p: x[:4] for p, x in full.leaves.items()}
    assert [x[:4] for x in made.outline.scan.leaves] == [x[:4] for x in full.scan.leaves]
    assert made.outline.comments == full.comments
    one, other = made.outline.scan.metadata, full.scan.metadata
    names = ("plain", "groups", "mac", "lastmodified", "selector", "threshold", "flat", "unknown", "version")
    assert all(getattr(one, name) == getattr(other, name) for name in names)
    assert found == compare(Outline.read(before, fmt), full)
    assert made.lines == after.decode().split("\n")
    return True


def test_what_is_stepped_over() -> None:
    for fmt in ("yaml", "json"):
        before = encrypted(VALUE, fmt)
        for change in (Put(("a",), "other"), Put(("m", "y"), 3), Put(("l", 1), "longer than before"), Put(("a",), 1)):
            assert check(before, edit(read(before, fmt), KEY, [change], lastmodified=LATER), fmt)
        assert check(before, before, fmt)


def test_what_is_read_anew() -> None:
    for fmt in ("yaml", "json"):
        before = encrypted(VALUE, fmt)
        file = read(before, fmt)
        assert not check(before, edit(file, KEY, [Put(("new",), "x")], lastmodified=LATER), fmt)
        assert not check(before, edit(file, KEY, [Drop(("a",))], lastmodified=LATER), fmt)
        assert not check(before, rotate(file, KEY, OTHER, ((entry("age1x"),),), lastmodified=LATER), fmt)
        assert not check(before, replace_groups(file, ((entry(), entry("age1b")),), threshold=None), fmt)
        clear = edit(file, KEY, [Put(("c_unencrypted",), "other")], lastmodified=LATER, allow_clear=True)
        assert not check(before, clear, fmt)


LINES = st.sampled_from(
    ["a: x", "b: ENC[AES256_GCM,data:x,type:str]", "a: ENC[AES256_GCM,data:x,type:str] # c", "", "# c", "    mac: x",
     "a: 'ENC[AES256_GCM,data:x,type:str]'", "    lastmodified: \"2025-01-01T00:00:00Z\"", "    version: 3.9.0",
     "    unencrypted_suffix: _x", "a: ENC[AES256_GCM,data:\\x,type:comment]",
     "    mac: ENC[AES256_GCM,data:y,type:str]"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(at=st.lists(st.tuples(st.integers(0, 40), LINES), max_size=3), fmt=st.sampled_from(["yaml", "json"]))
def test_any_other_lines(at: list[tuple[int, str]], fmt: str) -> None:
    """Whatever stands in a line: either a full reading, or the same answer."""
    before = encrypted(VALUE, fmt)
    lines = before.decode().split("\n")
    for number, line in at:
        lines[number % len(lines)] = line
    check(before, "\n".join(lines).encode(), fmt)
