"""The strict readers: one meaning or a rule, lines, bounds, and nothing but FormatError."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
import yaml
from hypothesis import example, given, settings, strategies as st

from zopp.errors import FormatError, ZoppError
from zopp.exchange import documents
from zopp.exchange.documents import Leaf
from zopp.exchange.scalars import flat_text

CANARY = "kanarienvogel7"
MEBI = 1 << 20


def of_yaml(text: str) -> dict[str, Leaf]:
    return {".".join(leaf.key): leaf for leaf in documents.leaves(documents.one_yaml(text.encode()))}


def of_json(text: str) -> dict[str, Leaf]:
    table = documents.json(text.encode())
    assert isinstance(table, documents.Table)
    return {".".join(leaf.key): leaf for leaf in documents.leaves(table)}


# text of one YAML value -> value, or the rule
SCALARS: list[tuple[str, object]] = [
    ("x", "x"), ('"5"', "5"), ("'yes'", "yes"), ("5", 5), ("-1", -1), ("0", 0), ("1.5", 1.5), ("true", True),
    ("False", False), ("~", None), ("", None), ("null", None), ("10.0.0.1", "10.0.0.1"), ("deadbeef", "deadbeef"),
    ("!!str 0123", "0123"), ("!!binary aGVsbG8=", "hello"), ("&a x", "x"), ("&a !!str 7", "7"),
    ("!!int \"5\"", 5), ("[1, x]", [1, "x"]), ("{}", {}), ("[]", []), ('"2024-01-01"', "2024-01-01"),
]  # fmt: skip
REFUSED = {
    "unquoted": [
        "yes", "No", "on", "OFF", "y", "n", "0123", "0o17", "0x1F", "1_000", "1.10", "1.0", "1e3", "+1", "2024-01-01",
        "2024-01-01T00:00:00Z", "2024-01-01 10:00:00", "12:30", "190:20:30", ".inf", ".nan", ".5", "1.",
        "123456789012345678901234567890", "[1, 2024-01-01]", "{a: yes}",
    ],
    "tag": ["!vault abc", "!Ref x", "!!python/name:os.system x", "!Foo [a]", "!Foo {a: b}", "[!Foo a]", "&a !Foo x"],
    "merge-key": ["{<<: {a: b}}", "[{<<: {a: b}}]"],
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_yaml_values_with_one_meaning_are_taken(text: str, value: object) -> None:
    leaf = of_yaml(f"k: {text}\n")["k"]
    assert (leaf.value, type(leaf.value), leaf.rule, leaf.line) == (value, type(value), "", 1)


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in REFUSED.items() for text in texts])
def test_yaml_values_that_readers_differ_about_get_a_rule(rule: str, text: str) -> None:
    assert {leaf.rule for leaf in of_yaml(f"k: {text}\n").values()} == {rule}


def test_what_yaml_1_1_reads_otherwise_is_never_taken() -> None:
    """The other reader is PyYAML's own loader: where both read a value, they read the same one."""
    for text, value in SCALARS:
        read = yaml.load(f"k: {text}", Loader=yaml.SafeLoader)["k"]
        assert (read.decode() if isinstance(read, bytes) else read) == value, text


def test_an_alias_is_its_anchor_and_a_merge_is_said() -> None:
    found = of_yaml("a: &x {p: q}\nb: *x\nc:\n  <<: *x\n  d: e\n")
    assert found["b.p"].value == "q" and not found["b.p"].rule
    assert found["c.d"].rule == "merge-key"


def test_comments_beside_a_key_are_its_note_and_headings_are_none() -> None:
    found = of_yaml("# heading\n\n# ---\n# one\n# two\nA: x # three\nB: y\nm:\n  # inner\n  C: z\n")
    assert [found[key].note for key in ("A", "B", "m.C")] == ["one\ntwo\nthree", "", "inner"]


def test_lines_are_those_of_the_file() -> None:
    assert [leaf.line for leaf in of_yaml("a: 1\nb:\n  c: |\n    x\n    y\n  d: e\n").values()] == [1, 3, 6]
    assert [leaf.line for leaf in of_json('{"a": 1,\n "b": {\n "c": "x"}}').values()] == [1, 3]


@pytest.mark.parametrize("text", ["1.0", "1e3", "1.10", "12345678901234567890123", "1E400e", "[1, 2.50]"])
def test_json_numbers_that_would_be_written_otherwise_get_a_rule(text: str) -> None:
    try:
        assert of_json(f'{{"k": {text}}}')["k"].rule == "number"
    except FormatError:
        assert text == "1E400e"


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("-5", -5), ("1.5", 1.5), ('"1.0"', "1.0"), ("[1, null]", [1, None])]
)
def test_json_values(text: str, value: object) -> None:
    leaf = of_json(f'{{"k": {text}}}')["k"]
    assert (leaf.value, leaf.rule) == (value, "")


def test_toml_values_dates_and_numbers() -> None:
    text = 'a = 1\nb = "x"\n[c]\nd = [1, {e = 2}]\nf = 1979-05-27\ng = inf\nh = 9223372036854775808\ni = 07:32:00\n'
    found = {".".join(leaf.key): leaf for leaf in documents.leaves(documents.toml(text.encode()))}
    assert (found["a"].value, found["b"].value, found["c.d"].value) == (1, "x", [1, {"e": 2}])
    assert [found[key].rule for key in ("c.f", "c.g", "c.h", "c.i")] == ["date", "number", "number", "date"]


CSV = 'key,value\r\nA,"x ""y"",\nz"\n\nB,\n"",""\nC,last'


def test_csv_by_the_letter() -> None:
    assert documents.csv(CSV.encode()) == [
        (1, ["key", "value"]), (2, ["A", 'x "y",\nz']), (5, ["B", ""]), (6, ["", ""]), (7, ["C", "last"]),
    ]  # fmt: skip
    assert documents.csv(b"a,") == [(1, ["a", ""])]


@pytest.mark.parametrize("text", ['a,"b', 'a,b"c', 'a,"b"c', "a,b\rc", '"', '\n"b', '"a""'])
def test_csv_that_is_not_rfc_4180_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        documents.csv(text.encode())


def test_csv_agrees_with_pythons_reader() -> None:
    import csv
    import io

    assert [fields for _, fields in documents.csv(CSV.encode())] == [
        fields for fields in csv.reader(io.StringIO(CSV, newline=""), strict=True) if fields
    ]


@pytest.mark.parametrize(
    ("read", "text", "code"),
    [
        (documents.json, '{"a": 1, "a": 2}', "duplicate_key"),
        (documents.json, '{"a": {"b": 1, "b": 2}}', "duplicate_key"),
        (documents.json, '{"a": "' + "\\ud800" + '"}', "lone_surrogate"),
        (documents.json, '{"a": NaN}', "bad_json"),
        (documents.json, '{"a": 1} x', "trailing"),
        (documents.json, "", "truncated"),
        (documents.yaml, "a: 1\nb: 2\na: 3\n", "duplicate_key"),
        (documents.yaml, "a: 1\n---\nb: 1\nb: 2\n", "duplicate_key"),
        (documents.yaml, "- a\n", "not_a_mapping"),
        (documents.yaml, "a: *b\n", "bad_alias"),
        (documents.yaml, "a: &a\n  b: *a\n", "bad_alias"),
        (documents.yaml, "1: a\n", "key_type"),
        (documents.yaml, "a: \0", "bad_yaml"),
        (documents.yaml, "a: 'b\n", "bad_yaml"),
        (documents.one_yaml, "a: 1\n---\nb: 2\n", "several_documents"),
        (documents.toml, "a = 1\na = 2\n", "bad_toml"),
        (documents.toml, "a = '", "bad_toml"),
        (documents.toml, ".".join(["a"] * 200) + " = 1", "too_deep"),
        (documents.toml, "x = {" + ".".join(['"a"'] * 200) + " = 1}", "too_deep"),
    ],
)
def test_what_is_refused(read: object, text: str, code: str) -> None:
    with pytest.raises(FormatError) as raised:
        read(text.encode("utf-8", "surrogatepass"))  # type: ignore[operator]
    assert raised.value.code == code


@pytest.mark.parametrize("read", [documents.json, documents.yaml, documents.toml, documents.csv])
def test_what_is_not_utf8_or_too_large_is_refused_and_a_byte_order_mark_dropped(read: object) -> None:
    for data, code in ((b'{"a": "\n\xff"}', "not_utf8"), (b" " * (documents.MAX_BYTES + 1), "document_size")):
        with pytest.raises(FormatError) as raised:
            read(data)  # type: ignore[operator]
        assert raised.value.code == code
    samples = {documents.json: b"{}", documents.yaml: b"{}", documents.toml: b"", documents.csv: b"a"}
    read(b"\xef\xbb\xbf" + samples[read])  # type: ignore[operator, index]


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)]
)
HUGE = {
    "comments": (documents.yaml, "# c\n" * (MEBI // 4) + "a: 1\n"),
    "comments-in-a-list": (documents.yaml, "l:\n" + "# c\n" * (MEBI // 4) + "- a: 1\n"),
    "comments-beside": (documents.yaml, "l: {" + "".join([f"a{n}: 1, # c\n" for n in range(MEBI // 16)]) + "}\n"),
    "alias-bomb": (documents.yaml, BOMB),
    "text-bomb": (documents.yaml, "a: &a " + "x" * MEBI + "\nb: [" + ",".join(["*a"] * 10_000) + "]\n"),
    "deep-yaml": (documents.yaml, "[" * MEBI),
    "deep-json": (documents.json, "[" * MEBI),
    "deep-toml": (documents.toml, "a=" + "[" * 100_000),
    "dotted-toml": (documents.toml, ".".join(["a"] * 200_000) + "=1"),
    "integer-json": (documents.json, '{"a": ' + "9" * MEBI + "}"),
    "integer-yaml": (documents.yaml, "a: " + "9" * MEBI),
    "integer-toml": (documents.toml, "a = " + "9" * 100_000),
    "unclosed-csv": (documents.csv, '"' + 'a""' * (MEBI // 3)),
    "commas-csv": (documents.csv, "," * MEBI),
}


@pytest.mark.parametrize("name", HUGE)
def test_nothing_costs_a_square(name: str) -> None:
    """A mebibyte of each is read or refused in seconds; the comments took five minutes before."""
    read, text = HUGE[name]
    start = time.process_time()
    with contextlib.suppress(FormatError):
        read(text.encode())  # type: ignore[operator]
    assert time.process_time() - start < 20


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.text(st.characters(codec="utf-8"), max_size=9),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), PLAIN, max_size=4))
@settings(max_examples=300, deadline=None)
def test_json_is_read_as_it_was_written(value: dict[str, object]) -> None:
    assert documents.plain(documents.json(json.dumps(value).encode())) == value
    assert documents.plain(documents.json(json.dumps(value, ensure_ascii=False, indent=1).encode())) == value


READERS = {
    "json": documents.json, "yaml": documents.yaml, "one_yaml": documents.one_yaml, "toml": documents.toml,
    "csv": documents.csv,
}  # fmt: skip
NASTY = st.text(alphabet="ab1:,-=[]{}\"'#&*!|>%@`\n\r\t .\\<~\0é\ufeff\u2028", max_size=40)


@pytest.mark.parametrize("name", READERS)
@given(st.one_of(st.binary(max_size=120), NASTY.map(str.encode)))
@example(b"a: &a !!binary '!!'")
@example(b"? a\n: b")
@example(b"a: |\n # b\n")
@example(b"--- #c\n...\n# d")
@settings(max_examples=500, deadline=None)
def test_any_bytes_give_a_document_or_a_zopp_error(name: str, data: bytes) -> None:
    try:
        found = READERS[name](data)  # type: ignore[operator]
    except ZoppError:
        return
    for table in found if isinstance(found, list) else [found]:
        if isinstance(table, documents.Table):
            for leaf in documents.leaves(table):
                flat_text(leaf.value).encode()  # no surrogates, nothing that JSON cannot say


@pytest.mark.parametrize("name", READERS)
@given(NASTY, NASTY)
@settings(max_examples=300, deadline=None)
def test_no_error_shows_what_was_read(name: str, before: str, after: str) -> None:
    error: ZoppError | None = None
    found: object = None
    try:
        found = READERS[name](f"{before}{CANARY}{after}".encode())  # type: ignore[operator]
    except ZoppError as exc:
        error = exc
    if error is not None:
        assert CANARY not in f"{error} {error.hint} {error.place} {error.data} {error.__cause__!r}"
        assert error.__suppress_context__ or CANARY not in repr(error.__context__)
        return
    tables = [table for table in (found if isinstance(found, list) else [found]) if isinstance(table, documents.Table)]
    leaves = [leaf for table in tables for leaf in documents.leaves(table)]
    shown = [repr(leaf).replace(repr(leaf.key), "") for leaf in leaves]
    assert CANARY not in "".join(shown) + "".join(map(repr, tables))
