"""Three files into one: values by key, ciphertext kept, markers around what both changed (review-and-ci.md §2)."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from zopp.errors import FormatError, IntegrityError
from zopp.sopsfile import Comment, Mapping, Selector, Tree, from_plain, read, replace_groups, replace_tree, rotate
from zopp.sopsfile.merging import WHOLE, Merged, Side, Target, merge, side
from zopp.sopsfile.threeway import BASE, OURS, THEIRS, Choice, Given, Place

from .samples import FLAT, KEY, LATER, NOW, OTHER, encrypted, entry, shape, tree

EARLY, THIRD = "2023-01-01T00:00:00Z", bytes(range(64, 96))
SAME = Target(KEY, FLAT, None)


def opened(data: bytes, fmt: str = "yaml", key: bytes = KEY) -> Side:
    return side(read(data, fmt), key)


def made(value: dict[str, Any] | Tree, fmt: str = "yaml", **options: Any) -> Side:
    return opened(encrypted(value, fmt, **options), fmt)


def changed(before: Side, value: dict[str, Any] | Tree, when: str = NOW) -> Side:
    """`before` edited so that it holds `value`: what did not change keeps its ciphertext."""
    to = value if isinstance(value, Tree) else tree(value)
    data = replace_tree(before.file, before.key, to, lastmodified=when, allow_clear=True)
    return opened(data, before.file.fmt, before.key)


def three(base: Any, ours: Any, theirs: Any, fmt: str = "yaml") -> tuple[Side, Side, Side]:
    start = made(base, fmt)
    return start, changed(start, ours), changed(start, theirs)


def run(sides: tuple[Side | None, Side, Side], target: Target = SAME, **options: Any) -> Merged:
    return merge(*sides, target, now=options.pop("now", LATER), **options)


def values(merged: Merged) -> Any:
    from zopp.sopsfile import to_plain

    return to_plain(merged.tree.documents[0])


def texts(found: Side) -> dict[tuple[Any, ...], str]:
    return {item.path: item.text for item in found.file.items()}


# --- rule 2: what is a conflict


@pytest.mark.parametrize("fmt", ["yaml", "json"])
@pytest.mark.parametrize(
    ("base", "ours", "theirs", "wanted"),
    [
        ({"a": "1", "b": "1"}, {"a": "2", "b": "1"}, {"a": "1", "b": "2"}, {"a": "2", "b": "2"}),
        ({"a": "1"}, {"a": "2"}, {"a": "2"}, {"a": "2"}),
        ({"a": "1"}, {"a": 1}, {"a": "1"}, {"a": 1}),
        ({"a": "1", "b": "1"}, {"b": "1"}, {"a": "1", "b": "2"}, {"b": "2"}),
        ({"a": "1", "b": "1"}, {"a": "1"}, {"a": "1"}, {"a": "1"}),
        ({"a": "1"}, {"a": "1", "n": "x"}, {"a": "1", "n": "x"}, {"a": "1", "n": "x"}),
        ({"m": {"x": "1", "y": "1"}}, {"m": {"x": "2", "y": "1"}}, {"m": {"x": "1"}}, {"m": {"x": "2"}}),
        ({"k": "0", "m": {"x": "1", "y": "1"}}, {"k": "0", "m": {"x": "1"}}, {"k": "0", "m": {"y": "1"}}, {"k": "0"}),
        ({"k": "0", "m": {"x": "1"}}, {"k": "0"}, {"k": "0", "m": {"x": "1"}}, {"k": "0"}),
        ({"l": ["1", "2"]}, {"l": ["1", "2", "3"]}, {"l": ["1", "2"], "n": "1"}, {"l": ["1", "2", "3"], "n": "1"}),
    ],
)
def test_no_conflict(fmt: str, base: Any, ours: Any, theirs: Any, wanted: Any) -> None:
    merged = run(three(base, ours, theirs, fmt))
    assert not merged.conflicts
    assert values(merged) == wanted
    assert shape(opened(merged.data, fmt).tree) == shape(merged.tree)


@pytest.mark.parametrize("fmt", ["yaml", "json"])
@pytest.mark.parametrize(
    ("base", "ours", "theirs", "places"),
    [
        ({"a": "1"}, {"a": "2"}, {"a": "3"}, [("a",)]),
        ({"a": "1"}, {"a": 1}, {"a": True}, [("a",)]),
        ({"a": "1", "b": "1"}, {"b": "1"}, {"a": "2", "b": "1"}, [("a",)]),
        ({"a": "1", "b": "1"}, {"a": "2", "b": "1"}, {"b": "1"}, [("a",)]),
        ({"a": "1"}, {"a": "1", "n": "x"}, {"a": "1", "n": "y"}, [("n",)]),
        ({"l": ["1"]}, {"l": ["1", "2"]}, {"l": ["0", "1"]}, [("l",)]),
        (
            {"m": {"x": "1", "y": "1"}},
            {"m": {"x": "2", "y": "2"}},
            {"m": {"x": "3", "y": "3"}},
            [("m", "x"), ("m", "y")],
        ),
        ({"k": "0", "m": {"x": "1", "y": "1"}}, {"k": "0"}, {"k": "0", "m": {"x": "2", "y": "1"}}, [("m", "x")]),
        ({"m": {"x": "1"}}, {"m": "flat"}, {"m": {"x": "2"}}, [("m",)]),
    ],
)
def test_conflict(fmt: str, base: Any, ours: Any, theirs: Any, places: Any) -> None:
    """The marked file is read by nobody, and any settling of the conflicts by name gives a file that opens."""
    sides = three(base, ours, theirs, fmt)
    merged = run(sides)
    assert [conflict.place for conflict in merged.conflicts] == [(0, place) for place in places]
    with pytest.raises(FormatError):
        read(merged.data, fmt, strict=False)
    marked = merged.data.decode()
    assert marked.count("<<<<<<< ours\n") == marked.count(">>>>>>> theirs\n") == marked.count("=======\n") >= 1
    for choice, wanted in ((OURS, ours), (THEIRS, theirs)):
        settled = run(sides, chosen={(0, place): choice for place in places})
        assert not settled.conflicts
        found = values(settled)
        for place in places:
            assert _at(found, place) == _at(wanted, place)
    given_value = run(sides, chosen={(0, place): Given("typed") for place in places})
    assert all(_at(values(given_value), place) == "typed" for place in places)
    back = run(sides, chosen={(0, place): BASE for place in places})
    assert all(_at(values(back), place) == _at(base, place) for place in places)


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def test_the_clean_part_of_a_marked_file_is_merged_and_each_key_has_its_markers() -> None:
    sides = three(
        {"a": "1", "b": "1", "c": "1", "d": "1"},
        {"a": "2", "b": "2", "c": "2", "d": "1"},
        {"a": "1", "b": "3", "c": "3", "d": "2"},
    )
    merged = run(sides, marker=9)
    lines = merged.data.decode().splitlines()
    ours, theirs = texts(sides[1]), texts(sides[2])
    assert lines[:12] == [
        f"a: {ours[('a',)]}",
        *("<<<<<<<<< ours", f"b: {ours[('b',)]}", "=========", f"b: {theirs[('b',)]}", ">>>>>>>>> theirs"),
        *("<<<<<<<<< ours", f"c: {ours[('c',)]}", "=========", f"c: {theirs[('c',)]}", ">>>>>>>>> theirs"),
        f"d: {theirs[('d',)]}",
    ]
    assert "ENC[" not in repr(merged) and "'2'" not in repr(merged)


def test_both_add_the_file() -> None:
    """Without a base all keys are new: equal ones are clean, others a conflict, and the rest is joined."""
    ours, theirs = made({"a": "1", "b": "x"}), made({"a": "1", "b": "y", "c": "2"})
    merged = run((None, ours, theirs))
    assert [conflict.place for conflict in merged.conflicts] == [(0, ("b",))]
    settled = run((None, ours, theirs), chosen={(0, ("b",)): THEIRS})
    assert values(settled) == {"a": "1", "b": "y", "c": "2"}


# --- rules 2 and 3: comments and order


def noted(*items: tuple[str, str] | str) -> Tree:
    """A document of (key, value) pairs and comment texts."""
    return Tree([Mapping([(Comment(i), None) if isinstance(i, str) else i for i in items])])


def test_comments_go_with_the_key_they_stand_above() -> None:
    base = made(noted(" about a", ("a", "1"), " about b", ("b", "1"), " the end"))
    ours = changed(base, noted(" about a", ("a", "1"), ("n", "1"), " about b", ("b", "1"), " the very end"))
    theirs = changed(base, noted(" more about a", ("a", "1"), " about b", ("b", "2"), " of m", ("m", "1"), " the end"))
    merged = run((base, ours, theirs))
    assert not merged.conflicts
    assert not merged.both
    wanted = noted(
        *(" more about a", ("a", "1"), ("n", "1"), " about b", ("b", "2"), " of m", ("m", "1"), " the very end")
    )
    assert shape(merged.tree) == shape(wanted)
    assert shape(opened(merged.data).tree) == shape(wanted)


def test_a_comment_that_both_changed_is_kept_twice_and_is_no_conflict() -> None:
    base = made(noted(" old", ("a", "1")))
    merged = run((base, changed(base, noted(" ours", ("a", "1"))), changed(base, noted(" theirs", ("a", "2")))))
    assert not merged.conflicts
    assert merged.both == ((0, ("a",)),)
    assert shape(merged.tree) == shape(noted(" ours", " theirs", ("a", "2")))


def test_a_comment_changed_above_what_the_other_side_removed_is_a_conflict() -> None:
    base = made(noted(" old", ("a", "1"), ("b", "1")))
    merged = run((base, changed(base, noted(("b", "1"))), changed(base, noted(" new", ("a", "1"), ("b", "1")))))
    assert [conflict.place for conflict in merged.conflicts] == [(0, ("a",))]


def test_order() -> None:
    """Ours, and what is new in theirs behind the neighbour that it followed there."""
    merged = run(
        three(
            {"a": "1", "b": "1", "c": "1"},
            {"c": "1", "x": "1", "a": "1", "b": "1"},
            {"n": "1", "a": "1", "m": "1", "l": "1", "b": "1", "c": "1", "o": "1"},
        )
    )
    assert list(values(merged)) == ["n", "c", "o", "x", "a", "m", "l", "b"]


# --- rule 3: documents, rule 6: metadata


def several(*documents: dict[str, Any]) -> Tree:
    found = [from_plain(document) for document in documents]
    assert all(isinstance(document, Mapping) for document in found)
    return Tree(found)  # type: ignore[arg-type]


def test_documents_pair_up_by_position() -> None:
    base = made(several({"a": "1"}, {"a": "1"}))
    ours, theirs = changed(base, several({"a": "2"}, {"a": "1"})), changed(base, several({"a": "1"}, {"a": "3"}))
    merged = run((base, ours, theirs))
    assert not merged.conflicts
    assert shape(opened(merged.data).tree) == shape(several({"a": "2"}, {"a": "3"}))


def test_another_number_of_documents_is_a_conflict_of_the_whole_file() -> None:
    base, theirs = made(several({"a": "1"})), made(several({"a": "1"}, {"b": "1"}))
    merged = run((base, base, theirs))
    assert [(c.place, c.why) for c in merged.conflicts] == [(WHOLE, "the number of documents")]
    with pytest.raises(FormatError):
        read(merged.data, "yaml", strict=False)
    assert shape(run((base, base, theirs), chosen={WHOLE: THEIRS}).tree) == shape(theirs.tree)


def with_selector(value: dict[str, Any], selector: Selector) -> Side:
    return made(value, selector=selector, allow_clear=True)


ONLY_A, ONLY_B = Selector("encrypted_regex", "^a$"), Selector("encrypted_regex", "^b$")


def test_a_selector_that_one_side_changed_is_taken() -> None:
    base, wider = made({"a": "1", "b": "1"}), with_selector({"a": "1", "b": "1", "c": "1"}, ONLY_A)
    for sides in ((base, base, wider), (base, wider, base)):
        merged = run(sides)
        assert not merged.conflicts
        assert read(merged.data, "yaml").metadata.selector == ONLY_A


def test_a_selector_that_both_changed_is_a_conflict() -> None:
    base = made({"a": "1", "b": "1"})
    merged = run((base, with_selector({"a": "1", "b": "1"}, ONLY_A), with_selector({"a": "1", "b": "1"}, ONLY_B)))
    assert [conflict.place for conflict in merged.conflicts] == [WHOLE]


def test_a_narrower_selector_bares_no_value_of_the_other_side() -> None:
    """Theirs sets a secret while ours leaves all but `a` in the clear: it would lie in the open, so nothing is made."""
    base = made({"a": "1"})
    narrowed = with_selector({"a": "1"}, ONLY_A)
    with pytest.raises(FormatError) as caught:
        run((base, narrowed, changed(base, {"a": "1", "secret": "x"})))
    assert caught.value.code == "clear_value"


# --- rules 4 and 5: ciphertext, data keys, recipients


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_ciphertext_is_kept_from_either_side(fmt: str) -> None:
    sides = three(
        {"a": "1", "b": "1", "c": "1"}, {"a": "2", "b": "1", "c": "1"}, {"a": "1", "b": "2", "c": "1", "d": "1"}, fmt
    )
    found = texts(opened(run(sides).data, fmt))
    base, ours, theirs = map(texts, sides)
    assert found[("a",)] == ours[("a",)] != base[("a",)]
    assert found[("b",)] == theirs[("b",)] != base[("b",)]
    assert found[("c",)] == base[("c",)]
    assert found[("d",)] == theirs[("d",)]


NEW = ((entry("age1new"), entry("age1other")),)


@pytest.mark.parametrize("rotated", ["ours", "theirs", "fresh"])
def test_the_result_has_the_key_it_is_given_and_no_text_of_another(rotated: str) -> None:
    base, ours, theirs = three(
        {"a": "1", "b": "1", "c": "1"}, {"a": "2", "b": "1", "c": "1"}, {"a": "1", "b": "2", "c": "1"}
    )
    key = {"ours": OTHER, "theirs": OTHER, "fresh": THIRD}[rotated]
    if rotated == "ours":
        ours = opened(rotate(ours.file, KEY, OTHER, FLAT, lastmodified=NOW), key=OTHER)
    if rotated == "theirs":
        theirs = opened(rotate(theirs.file, KEY, OTHER, FLAT, lastmodified=NOW), key=OTHER)
    merged = run((base, ours, theirs), Target(key, NEW, None))
    result = opened(merged.data, key=key)
    assert values(merged) == {"a": "2", "b": "2", "c": "1"}
    assert result.file.metadata.groups == NEW
    with pytest.raises(IntegrityError):
        result.file.decrypt(KEY)
    found = texts(result)
    kept = {"ours": ours, "theirs": theirs, "fresh": None}[rotated]
    for other in (base, ours, theirs):
        for path, text in texts(other).items():
            expected = other is kept and {"ours": path != ("b",), "theirs": path != ("a",)}[rotated]
            assert (found[path] == text) is expected, path


def test_time_and_mac_are_new_and_never_earlier() -> None:
    base, ours, theirs = three({"a": "1", "b": "1"}, {"a": "2", "b": "1"}, {"a": "1", "b": "2"})
    assert read(run((base, ours, theirs)).data, "yaml").metadata.lastmodified == LATER
    late = changed(base, {"a": "1", "b": "2"}, "2027-01-01T00:00:00Z")
    assert read(run((base, ours, late)).data, "yaml").metadata.lastmodified == "2027-01-01T00:00:00Z"
    assert read(run((base, ours, theirs), now=EARLY).data, "yaml").metadata.lastmodified == NOW


def test_what_both_did_alike_is_not_written_anew() -> None:
    base = made({"a": "1"})
    ours = changed(base, {"a": "2"})
    assert run((base, ours, changed(base, {"a": "2"}))).data == ours.file.data


# --- refusals


def test_a_wrong_mac_or_key_is_refused() -> None:
    good = made({"a": "1", "b": "2"})
    lines = good.file.data.decode().splitlines(keepends=True)
    blank = "".join(["".join(lines[1:2]), *lines[2:]]).encode()
    with pytest.raises(IntegrityError):
        side(read(blank, "yaml"), KEY)
    with pytest.raises(IntegrityError):
        side(good.file, OTHER)


def test_a_store_that_cannot_be_written_is_refused() -> None:
    """Of dotenv and INI, which zopp reads only: no merge, and no file of another store in its place."""
    found = three({"a": "1", "b": "1"}, {"a": "2", "b": "1"}, {"a": "1", "b": "2"})
    for each in found:
        each.file.scan.fmt = "dotenv"
    with pytest.raises(FormatError, match="cannot be written"):
        run(found)


# --- a thousand merges against a model


@dataclass(frozen=True)
class Cell:
    value: Any
    note: tuple[str, ...]


Model = dict[tuple[str, ...], Cell]
NAMES = [("a",), ("b",), ("c",), ("d",), ("m", "x"), ("m", "y"), ("m", "z"), ("n", "p", "q"), ("n", "r")]
SCALARS = st.one_of(
    st.sampled_from(["", "one", "two", "ENC[no", "multi\nline", "- x", "# no comment", "ü"]),
    st.integers(-3, 3), st.booleans(), st.none(), st.sampled_from([1.5, -0.0]),
    st.lists(st.sampled_from(["p", "q", 1]), max_size=3).map(tuple),
)  # fmt: skip
NOTES = st.lists(st.sampled_from([" about it", " two", " more words"]), max_size=2, unique=True).map(tuple)
CELLS = st.builds(Cell, SCALARS, NOTES)


@st.composite
def edits(draw: st.DrawFn, model: Model) -> Model:
    out = dict(model)
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True)):
        how = draw(st.sampled_from(["set", "set", "note", "drop"]))
        if how == "drop" or name not in out:
            out.pop(name, None)
            if how != "drop":
                out[name] = draw(CELLS)
        elif how == "set":
            out[name] = Cell(draw(SCALARS), out[name].note)
        else:
            out[name] = Cell(out[name].value, draw(NOTES))
    return out


def typed(value: Any) -> Any:
    return type(value).__name__, repr(value)


def as_tree(model: Model, fmt: str) -> Tree:
    root = Mapping()
    for name, cell in model.items():
        node = root
        for part in name[:-1]:
            if part not in node:
                node.items.append((part, Mapping()))
            node = node.get(part)
        if fmt == "yaml":
            node.items += [(Comment(text), None) for text in cell.note]
        node.items.append((name[-1], from_plain(list(cell.value) if isinstance(cell.value, tuple) else cell.value)))
    return Tree([root])


def union(b: tuple[str, ...], o: tuple[str, ...], t: tuple[str, ...]) -> tuple[str, ...]:
    if o == t or b == t:
        return o
    if b == o:
        return t
    kept = [line for line in o if line in t or line not in b]
    return (*kept, *(line for line in t if line not in b and line not in o))


def expected(base: Model, ours: Model, theirs: Model) -> tuple[Model, set[tuple[str, ...]]]:
    """The whole of rule 2, for leaves by name."""
    out: Model = {}
    conflicts: set[tuple[str, ...]] = set()
    for name in {*base, *ours, *theirs}:
        b, o, t = base.get(name), ours.get(name), theirs.get(name)
        note = union(b.note if b else (), o.note, t.note) if o and t else (o or t or Cell(0, ())).note
        values = [typed(side.value) if side else None for side in (b, o, t)]
        if o is None or t is None:
            kept = o or t
            if kept is None or b is None:
                take = kept
            elif kept.note == b.note and typed(kept.value) == typed(b.value):  # False is not 0
                take = None
            else:
                conflicts.add(name)
                take = o
        elif values[1] == values[2] or values[0] == values[2]:
            take = o
        elif values[0] == values[1]:
            take = t
        else:
            conflicts.add(name)
            take = o
        if take is not None:
            out[name] = Cell(take.value, note)
    return out, conflicts


def as_model(found: Tree) -> Model:
    out: Model = {}

    def walk(node: Mapping, path: tuple[str, ...]) -> None:
        note: list[str] = []
        for key, value in node.items:
            if isinstance(key, Comment):
                note.append(key.text)
            elif isinstance(value, Mapping):
                # A comment above a mapping is that of its first key, as written by `as_tree`.
                assert not note
                walk(value, (*path, key))
            else:
                plain = tuple(value.nodes()) if hasattr(value, "nodes") else value
                out[(*path, key)] = Cell(plain, tuple(note))
                note = []

    walk(found.documents[0], ())
    return out


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, Model | None, Model, Model, tuple[bytes, bytes, bytes], bool]:
    fmt = draw(st.sampled_from(["yaml", "yaml", "json"]))
    start = {("k",): Cell("always", ())}
    base = start | {name: draw(CELLS) for name in draw(st.lists(st.sampled_from(NAMES), unique=True))}
    if fmt == "json":
        base = {name: Cell(cell.value, ()) for name, cell in base.items()}
    ours, theirs = draw(edits(base)), draw(edits(base))
    if fmt == "json":
        ours, theirs = ({n: Cell(c.value, ()) for n, c in side.items()} for side in (ours, theirs))
    keys = draw(st.sampled_from([(KEY, KEY, KEY), (OTHER, KEY, OTHER), (KEY, OTHER, OTHER), (KEY, KEY, THIRD)]))
    return fmt, base if draw(st.integers(0, 9)) else None, ours, theirs, keys, draw(st.booleans())


@settings(max_examples=1000, deadline=None)
@given(histories())
def test_merges_as_the_model_does(
    history: tuple[str, Model | None, Model, Model, tuple[bytes, bytes, bytes], bool],
) -> None:
    fmt, base, ours, theirs, keys, regroup = history
    start = made(as_tree(base or {("k",): Cell("always", ())}, fmt), fmt)
    sides = []
    for model, key in zip((ours, theirs), keys, strict=False):
        found = changed(start, as_tree(model, fmt)) if base is not None else made(as_tree(model, fmt), fmt)
        if key != KEY:
            found = opened(rotate(found.file, KEY, key, FLAT, lastmodified=NOW), fmt, key)
        sides.append(found)
    groups = NEW if regroup else FLAT
    if regroup:
        sides[0] = opened(replace_groups(sides[0].file, NEW), fmt, sides[0].key)
    target = Target(keys[2], groups, None)
    merged = merge(None if base is None else start, sides[0], sides[1], target, now=LATER)
    wanted, conflicts = expected(base or {}, ours, theirs)
    places: dict[Place, Choice] = {(0, name): OURS for name in conflicts}
    assert {c.place for c in merged.conflicts} == set(places)
    settled = merge(None if base is None else start, sides[0], sides[1], target, now=LATER, chosen=places)
    result = opened(settled.data, fmt, keys[2])
    found_model = as_model(result.tree)
    assert {n: (typed(c.value), c.note) for n, c in found_model.items()} == {
        n: (typed(c.value), c.note) for n, c in wanted.items()
    }
    assert result.file.metadata.groups == groups
    # Rule 4: every text of a side that has the result's key is kept.
    here, there, now = texts(sides[0]), texts(sides[1]), texts(result)
    for name, cell in wanted.items():
        if isinstance(cell.value, tuple):
            continue
        if keys[0] == keys[2] and name in ours and typed(ours[name].value) == typed(cell.value):
            assert now[name] == here[name]
        elif keys[1] == keys[2] and name in theirs and typed(theirs[name].value) == typed(cell.value):
            assert now[name] == there[name]
    if conflicts:
        with pytest.raises(FormatError):
            read(merged.data, fmt, strict=False)
    # Rule 3: ours stay in their order, what is new in theirs follows what it followed there.
    tops = [list(dict.fromkeys(n[0] for n in model)) for model in (found_model, ours, theirs)]
    assert [n for n in tops[0] if n in tops[1]] == [n for n in tops[1] if n in tops[0]]
    for at, name in enumerate(tops[2]):
        if at and name not in tops[1] and name in tops[0] and tops[2][at - 1] in tops[0]:
            assert tops[0][tops[0].index(name) - 1] == tops[2][at - 1]
