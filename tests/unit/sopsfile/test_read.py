"""Reading: metadata in every layout, what a strict reader refuses (attack A4, sops-compat 12 and 16), any bytes."""

import json
from contextlib import suppress

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from zopp.errors import FormatError, IntegrityError, ZoppError
from zopp.sopsfile import Mapping, Sequence, Timestamp, Tree, dump_plain, format_of, load_plain, read
from zopp.sopsfile.file import read_full

from .samples import GROUPED, KEY, NOW, encrypted, shape, tree

VALUE = {
    "a": "hello",
    "n": -5,
    "f": 1.5,
    "b": True,
    "z": None,
    "e": "",
    "m": {"k": ["x", [1], {"j": "y"}]},
    "u_unencrypted": 1,
}
CANARY = "canary5ecret"


def code_of(data: bytes, fmt: str = "yaml", strict: bool = True) -> str:
    with pytest.raises(FormatError) as caught:
        read(data, fmt, strict=strict)
    assert CANARY not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    ("path", "fmt"),
    [
        ("a.yaml", "yaml"), ("x/a.yml", "yaml"), ("a.json", "json"), (".env", "dotenv"), ("a.env", "dotenv"), ("a.ini", "ini"),  # noqa: E501
        ("a.ENV", "binary"), (".env.local", "binary"), ("a.YAML", "binary"), ("a.json5", "binary"), ("a", "binary"),
    ],
)  # fmt: skip
def test_format_of(path: str, fmt: str) -> None:
    assert format_of(path) == fmt


@pytest.mark.parametrize("fmt", ["yaml", "json"])
@pytest.mark.parametrize("groups", [((GROUPED[0][0],),), GROUPED])
def test_metadata(fmt: str, groups: object) -> None:
    found = read(encrypted(VALUE, fmt, groups=groups, threshold=None), fmt)
    meta = found.metadata
    assert meta.groups == groups
    assert meta.flat == (len(meta.groups) == 1)
    assert meta.threshold == (None if meta.flat else 3)
    assert meta.lastmodified == NOW
    assert meta.version == "3.13.3"
    assert (meta.selector.kind, meta.selector.pattern) == ("unencrypted_suffix", "_unencrypted")
    assert meta.unknown == meta.foreign == ()
    assert list(meta.plain) == sorted(meta.plain)


def test_items_and_paths() -> None:
    found = read(encrypted(VALUE), "yaml")
    assert found.paths() == [
        ("a",), ("n",), ("f",), ("b",), ("z",), ("e",), ("m", "k", 0), ("m", "k", 1, 0), ("m", "k", 2, "j"), ("u_unencrypted",),  # noqa: E501
    ]  # fmt: skip
    items = {item.path: item for item in found.items()}
    assert items[("a",)].encrypted
    assert items[("a",)].text.startswith("ENC[")
    assert items[("a",)].line == 1
    assert not items[("z",)].encrypted
    assert (items[("u_unencrypted",)].text, items[("u_unencrypted",)].encrypted) == ("1", False)


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_round_trip(fmt: str) -> None:
    assert shape(read(encrypted(VALUE, fmt), fmt).decrypt(KEY)) == shape(tree(VALUE))


scalars = st.one_of(
    st.text(max_size=12),
    st.text(alphabet=" \t\n\"'#:-\x85\u2028aé1😀\\.|>%@&*!", max_size=8),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=True),
    st.booleans(),
    st.none(),
)
nodes = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
documents = st.dictionaries(st.text(max_size=8).filter(lambda key: key != "sops"), nodes, max_size=5)


@given(documents, st.sampled_from(["yaml", "json"]))
@settings(max_examples=150, deadline=None)
def test_any_tree_round_trips(value: dict[str, object], fmt: str) -> None:
    """What can be encrypted comes back, types included; the line reader says what the parser says."""
    try:
        data = encrypted(value, fmt, allow_clear=True)
    except FormatError as exc:
        assert exc.code in ("value_type", "lone_surrogate", "not_round_trip")  # noqa: PT017
        return
    assert shape(read(data, fmt).decrypt(KEY)) == shape(tree(value))
    assert shape(read_full(data, fmt).decrypt(KEY)) == shape(tree(value))


@given(documents)
@settings(max_examples=100, deadline=None)
def test_plain_yaml_round_trips(value: dict[str, object]) -> None:
    made = tree(value)
    try:
        data = dump_plain(made, "yaml")
    except FormatError as exc:
        assert exc.code in ("lone_surrogate", "not_round_trip")  # noqa: PT017
        return
    loose = json.dumps(shape(load_plain(data, "yaml"))).replace('"int"', '"float"')
    assert len(loose) > 0
    assert dump_plain(load_plain(data, "yaml"), "yaml") == data


def reordered(data: bytes) -> bytes:
    """The file as PyYAML would print it: other order, other indentation, `sops` first."""
    value = yaml.load(data, Loader=yaml.BaseLoader)
    value["n"], value["u_unencrypted"] = value["n"], int(value["u_unencrypted"])
    return yaml.safe_dump({"sops": value.pop("sops"), **value, "z": None, "e": ""}, sort_keys=False).encode()


def test_other_layouts_are_read() -> None:
    """PyYAML-dumped with `sops` first, minified JSON, CRLF, a byte order mark, a `%YAML` line."""
    data = encrypted(VALUE)
    expected = shape(tree(VALUE))
    assert dict(shape(read(reordered(data), "yaml").decrypt(KEY))[0]) == dict(expected[0])
    for other in (data.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + data, b"%YAML 1.1\n---\n" + data):
        assert shape(read(other, "yaml").decrypt(KEY)) == expected
    small = json.dumps(json.loads(encrypted(VALUE, "json")), separators=(",", ":")).encode()
    assert shape(read(small, "json").decrypt(KEY)) == expected


def test_unquoted_lastmodified_and_old_order() -> None:
    data = encrypted(VALUE).replace(f'"{NOW}"'.encode(), NOW.encode())
    assert read(data, "yaml").decrypt(KEY)


def in_block(line: bytes, data: bytes | None = None) -> bytes:
    data = encrypted(VALUE) if data is None else data
    return data.replace(b"    lastmodified:", line + b"\n    lastmodified:")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (in_block(b"    zopp: x"), "unknown_field"),
        (
            encrypted(VALUE).replace(b"          recipient:", b"          note: x\n          recipient:"),
            "unknown_field",
        ),
        (in_block(b"    encrypted_regex: x"), "several_selectors"),
        (
            in_block(b"    key_groups:\n        - age:\n            - enc: x\n              recipient: age1x"),
            "flat_and_grouped",
        ),
        (in_block(b'    lastmodified: "2024-01-02T03:04:05Z"'), "duplicate_key"),
        (b"a: " + CANARY.encode() + b"\n" + encrypted(VALUE), "duplicate_key"),
        (encrypted(VALUE) + b"---\n" + encrypted({"b": "x"}), "metadata_differs"),
        (encrypted(VALUE) + b"---\nb: x\n", "metadata_differs"),
        (b"x_unencrypted: a\xe2\x80\xa8\n" + encrypted(VALUE), "line_end"),
        (b"# \xc2\x85\n" + encrypted(VALUE), "line_end"),
        (b"a: x\n", "no_metadata"),
        (b"a: x\nsops: 1\n", "bad_metadata"),
        (encrypted(VALUE).replace(b"3.13.3", b"3.9"), "bad_metadata"),
        (encrypted(VALUE).replace(b"3.13.3", b"zopp-1"), "bad_version"),
        (encrypted(VALUE).replace(b"    version: 3.13.3\n", b""), "bad_metadata"),
        (b"a: \xff" + CANARY.encode() + b"\n", "not_utf8"),
        (b"a: \xed\xa0\x80\n", "lone_surrogate"),
        (b"- a\n", "not_a_mapping"),
        (b"1: " + CANARY.encode() + b"\n", "key_type"),
        (b"? [a]\n: " + CANARY.encode() + b"\n", "key_type"),
        (b"a: *x\n", "bad_alias"),
        (b"a: &x [*x]\n", "bad_alias"),
        (b"a: 18446744073709551615\n", "int_range"),
        (b"a: [" + CANARY.encode(), "bad_yaml"),
        (b"a: !!int " + CANARY.encode() + b"\n", "bad_tag"),
        (b"a: !!binary " + CANARY.encode() + b"!\n", "bad_tag"),
        (b"a: " + b"[" * 5000, "too_deep"),
        (b"", "no_document"),
        (b"a: \0\n", "bad_yaml"),
    ],
)
def test_refused_yaml(data: bytes, code: str) -> None:
    assert code_of(data) == code


def json_in_block(text: str) -> bytes:
    return encrypted(VALUE, "json").replace(b'"lastmodified"', text.encode() + b', "lastmodified"', 1)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (json_in_block('"zopp": "x"'), "unknown_field"),
        (json_in_block('"encrypted_regex": "x"'), "several_selectors"),
        (json_in_block('"version": "3.13.3"'), "duplicate_key"),
        (encrypted(VALUE, "json").replace(b"{", b'{"a": "' + CANARY.encode() + b'",', 1), "duplicate_key"),
        (encrypted(VALUE, "json") + b"x", "trailing"),
        (encrypted(VALUE, "json").replace(b'"e": ""', b'"e": "\\ud800"'), "lone_surrogate"),
        (b'{"a":{"b":1},"c":[1,2', "truncated"),
        (b'{"a":', "truncated"),
        (b'{"a": "' + CANARY.encode(), "truncated"),
        (b"[1]", "not_a_mapping"),
        (b'{"a": 01}', "bad_json"),
        (b'{"a": NaN}', "bad_json"),
        (b'{"a": 1,}', "bad_json"),
        (b'\xef\xbb\xbf{"a": 1}', "bad_json"),
        (b'{"a": "b"}', "no_metadata"),
        (b'{"a":' * 5000, "too_deep"),
        (b"", "truncated"),
    ],
)
def test_refused_json(data: bytes, code: str) -> None:
    assert code_of(data, "json") == code


def test_lax_reader_takes_what_sops_takes() -> None:
    """Unknown fields, differing later blocks, duplicates in JSON: kept by strict=False."""
    assert read(in_block(b"    zopp: x"), "yaml", strict=False).metadata.unknown == ("zopp",)
    assert read(json_in_block('"zopp": "x"'), "json", strict=False).decrypt(KEY)
    twice = encrypted({"a": "x"}) + b"---\nb: 1\nb: 2\n"
    assert len(read(twice, "yaml", strict=False).parsed.documents) == 2


def test_foreign_entries_are_kept() -> None:
    data = in_block(b"    pgp:\n        - fp: ABCD\n          enc: x")
    assert read(data, "yaml").metadata.foreign == ((0, "pgp", [{"fp": "ABCD", "enc": "x"}]),)


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_tampering_is_noticed(fmt: str) -> None:
    """A changed, swapped, blanked or clear value; a MAC of another file; a missing MAC."""
    value = {"a": "hello", "b": "world", "l": ["x", "y"]}
    data = encrypted(value, fmt)
    items = {item.path: item.text.encode() for item in read(data, fmt).items()}
    other = read(encrypted(value, fmt), fmt).metadata.mac.encode()
    mac = read(data, fmt).metadata.mac.encode()
    a, b, x, y = items[("a",)], items[("b",)], items[("l", 0)], items[("l", 1)]
    blank = b'""' if fmt == "yaml" else b""
    clear = CANARY.encode()
    changes = [
        data.replace(a, a[:25] + (b"A" if a[25:26] != b"A" else b"B") + a[26:]),
        data.replace(a, b"@").replace(b, a).replace(b"@", b),
        data.replace(x, b"@").replace(y, x).replace(b"@", y),
        data.replace(a, blank),
        data.replace(a, clear),
        data.replace(mac, other[:30] + mac[30:]),
        data.replace(mac, blank),
        data.replace(NOW.encode(), b"2024-01-02T03:04:06Z"),
    ]
    if fmt == "json":
        changes.append(data.replace(b'"' + a + b'"', b"5"))
    for changed in changes:
        assert changed != data
        with pytest.raises(IntegrityError) as caught:
            read(changed, fmt).decrypt(KEY)
        assert CANARY not in str(caught.value)
    with pytest.raises(IntegrityError):
        read(data, fmt).decrypt(bytes(32))


def test_ignoring_the_mac_still_checks_values() -> None:
    data = encrypted({"a": "x", "b": "y"})
    swapped = data.replace(NOW.encode(), b"2024-01-02T03:04:06Z")
    assert read(swapped, "yaml").decrypt(KEY, check_mac=False) == tree({"a": "x", "b": "y"})


def test_comment_that_does_not_open_is_kept_as_text() -> None:
    source = load_plain(b"# c\na: x\n", "yaml")
    data = encrypted(source)
    moved = (
        data.replace(b"#ENC", b"m:\n    k: 1\n    #ENC")
        if b"m:" in data
        else data.replace(b"type:comment]", b"type:comment]x")
    )
    opened = read(data.replace(b"#ENC[AES256_GCM,data:", b"#ENC[AES256_GCM,data:AAAA"), "yaml").decrypt(KEY)
    assert opened.warnings == [(1, "bad_comment")]
    assert moved


def test_binary_round_trip() -> None:
    raw = bytes(range(256))
    data = encrypted(load_plain(raw, "binary"), "binary")
    assert b"unencrypted_suffix" not in data
    assert dump_plain(read(data, "binary").decrypt(KEY), "binary") == raw
    empty = encrypted(load_plain(b"", "binary"), "binary")
    assert b'"data": ""' in empty
    assert dump_plain(read(empty, "binary").decrypt(KEY), "binary") == b""


def test_reserved_and_unwritable() -> None:
    for data, fmt, code in (
        (b"sops: 1\n", "yaml", "reserved"),
        (b"a: 1\n---\nsops: 1\n", "yaml", "reserved"),
        (b"a: 1\n---\nb: 1\nb: 2\n", "yaml", "duplicate_key"),
        (b'{"a": 9223372036854775808}', "json", "int_range"),
        (b"A=1\n", "dotenv", "unsupported_write"),
    ):
        with pytest.raises(FormatError) as caught:
            load_plain(data, fmt)
        assert caught.value.code == code
    with pytest.raises(FormatError) as caught:
        dump_plain(Tree([Mapping(), Mapping()]), "json")
    assert caught.value.code == "several_documents"
    for value in ({"a": object()}, {"a": 2**63}, {"a": "\ud800"}):
        with pytest.raises(FormatError):
            encrypted(value)


def test_times_and_bytes() -> None:
    value = Tree(
        [Mapping([("t", Timestamp("2024-01-01T00:00:00.5+02:00")), ("b", b"\xff"), ("l", Sequence([b"\xfe"]))])]
    )
    assert shape(read(encrypted(value), "yaml").decrypt(KEY)) == shape(value)
    assert dump_plain(value, "yaml") == b"t: 2024-01-01T00:00:00.5+02:00\nb: !!binary /w==\nl:\n    - !!binary /g==\n"


PIECES = [
    "a", "b", ": ", ":\n", "\n", "  ", "- ", "# c", "|", ">", "'", '"', "[", "]", "{", "}", ",", "&x ", "*x", "!!int ", "!y ", "---\n",  # noqa: E501
    "...\n", "%YAML 1.1\n", "?", "\t", "\r\n", "sops:\n", "ENC[AES256_GCM,data:YQ==,iv:YQ==,tag:YQ==,type:str]", "\x85", "\ufeff",  # noqa: E501
    "age", "enc", "\\", "\\u", "=", ";", "[s]\n", "sops_", "__map_", "__list_", "0", "1e5", '"a":', "null", "true", "\ud7ff", "é",  # noqa: E501
]  # fmt: skip


@given(
    st.sampled_from(["yaml", "json", "dotenv", "ini", "binary"]),
    st.lists(st.sampled_from(PIECES), max_size=30),
    st.booleans(),
)
@settings(max_examples=1500, deadline=None)
def test_any_text_is_read_or_refused(fmt: str, pieces: list[str], strict: bool) -> None:
    """Each parser gives a value or a ZoppError."""
    data = "".join(pieces).encode()
    for blob in (data, data + b"\n" + BLOCK):
        with suppress(ZoppError):
            read(blob, fmt, strict=strict).decrypt(KEY, check_mac=False)
    if fmt in ("yaml", "json", "binary"):
        with suppress(ZoppError):
            load_plain(data, fmt)


BLOCK = encrypted({"a": "x"}).split(b"\n", 1)[1]


@given(st.sampled_from(["yaml", "json", "dotenv", "ini", "binary"]), st.binary(max_size=60))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_read_or_refused(fmt: str, data: bytes) -> None:
    with pytest.raises(ZoppError):
        read(data, fmt)


@given(st.sampled_from(["yaml", "json"]), st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_files_are_read_or_refused(fmt: str, draw: st.DataObject) -> None:
    """A real file with pieces cut, doubled or replaced; and the line reader never disagrees with the parser."""
    from zopp.sopsfile import lines

    data = MUTANTS[fmt]
    start = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(start, min(len(data), start + 40)))
    new = draw.draw(st.sampled_from([piece.encode() for piece in PIECES]) | st.just(data[start:end] * 2) | st.just(b""))
    mutant = data[:start] + new + data[end:]
    found = lines.scan(mutant, fmt)
    try:
        full = read_full(mutant, fmt)
    except ZoppError:
        assert found is None
        return
    if found is not None:
        assert found.leaves == full.scan.leaves
        assert found.blocks == full.scan.blocks
        assert found.metadata.plain == full.metadata.plain


def test_a_key_that_is_cut_to_its_last_quote_is_no_empty_key() -> None:
    """`": "value"` is half of a line, `"": "value"` the key that is empty."""
    from zopp.sopsfile import lines

    whole = encrypted({"first": "x", "": "y"}, "json")
    found = lines.scan(whole, "json")
    assert found is not None and [leaf[1] for leaf in found.leaves] == [("first",), ("",)]
    at = whole.index(b'"":')
    mutant = whole[:at] + whole[at + 1 :]
    assert lines.scan(mutant, "json") is None
    with pytest.raises(ZoppError):
        read(mutant, "json")


MUTANTS = {
    "yaml": encrypted(load_plain(b"# h\na: x\nm:\n  # i\n  k: 1\n  l:\n  - x\n  # j\n  - n: y\n    o: z\n  # f\nz:\nc_unencrypted: [1, a]\n", "yaml")),  # noqa: E501
    "json": encrypted(VALUE, "json"),
}  # fmt: skip
