"""Many changes in one edit come out as the same changes one by one, whatever they do to each other's places."""

from __future__ import annotations

from hypothesis import given, strategies as st

from zopp import sopsfile
from zopp.errors import ZoppError
from zopp.sopsfile import Drop, Put, SopsFile
from zopp.sopsfile.tree import to_plain

from .samples import KEY, file

NAMES = st.sampled_from(["a", "b", "c", "d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
VALUES = st.one_of(st.text(max_size=3), st.integers(0, 9), st.just({}), st.just({"a": 1}), st.just({"b": {"c": "x"}}))
CHANGES = st.lists(
    st.one_of(
        st.builds(Put, PATHS, VALUES), st.builds(Drop, PATHS), st.builds(lambda path: Drop(path, prune=True), PATHS)
    ),
    max_size=8,
)
START = {"a": {"a": "1", "b": {"c": 2}}, "b": "x", "c": {"d": {}}}


def _plain(opened: SopsFile) -> object:
    return to_plain(opened.decrypt(KEY).documents[0])


def _apply(opened: SopsFile, changes: list[Put | Drop]) -> SopsFile | str:
    try:
        return sopsfile.read(sopsfile.edit(opened, KEY, changes, lastmodified="2026-01-02T00:00:00Z"), "yaml")
    except ZoppError as exc:
        return exc.code


@given(CHANGES)
def test_together_as_one_by_one(changes: list[Put | Drop]) -> None:
    # Pruning waits for the end of an edit, so that alone it would take more.
    changes = [change if isinstance(change, Put) else Drop(change.path) for change in changes]
    at_once = _apply(file(START), changes)
    done: SopsFile | str = file(START)
    for change in changes:
        assert isinstance(done, SopsFile)
        done = _apply(done, [change])
        if isinstance(done, str):
            break
    if isinstance(at_once, str) or isinstance(done, str):
        assert at_once == done
    else:
        assert _plain(at_once) == _plain(done)


@given(CHANGES)
def test_what_was_put_last_is_there(changes: list[Put | Drop]) -> None:
    done = _apply(file(START), [*changes, Put(("e",), "last"), Put(("f",), 1), Put(("e",), "more")])
    if isinstance(done, SopsFile):
        plain = _plain(done)
        assert isinstance(plain, dict)
        assert (plain["e"], plain["f"]) == ("more", 1)
