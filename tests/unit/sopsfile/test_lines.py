"""The line reader: what it answers, what it leaves to the parser, what it must not import."""

import subprocess
import sys

import pytest

from zopp.errors import FormatError, IntegrityError
from zopp.sopsfile import Drop, Put, Selector, edit, lines, load_plain, read
from zopp.sopsfile.file import read_full

from .samples import GROUPED, KEY, LATER, NOW, changed_lines, encrypted, shape

PLAIN = b"""# h
a: x
m:
  # i
  k: one
  # f
l:
- x
# j
- n: y
  o: 1
- - deep
  - 2
- []
z:
e: ''
c_unencrypted: [1, a b, 1.5, true]
"""
HEAVY = [
    *("dataclasses", "typing", "enum", "re", "json", "hashlib", "base64", "pathlib", "contextlib", "datetime"),
    *("logging", "tempfile", "yaml", "re2", "difflib"),
]


@pytest.mark.parametrize("fmt", ["yaml", "json"])
@pytest.mark.parametrize("grouped", [False, True])
def test_agrees_with_the_parser(fmt: str, grouped: bool) -> None:
    """It answers for what sops writes (lists, comments, clear scalars) and says exactly what the parser says."""
    data = encrypted(load_plain(PLAIN, "yaml"), fmt, **({"groups": GROUPED} if grouped else {}))
    found = lines.scan(data, fmt)
    assert found is not None
    full = read_full(data, fmt).scan
    assert found.leaves == full.leaves
    assert found.blocks == full.blocks
    assert found.metadata.plain == full.metadata.plain
    assert shape(read(data, fmt).decrypt(KEY)) == shape(read_full(data, fmt).decrypt(KEY))


def test_inline_comments_of_3_13() -> None:
    """`key: ENC[…] #ENC[…]` is read by both."""
    data = encrypted(load_plain(b"# c\na: x\nl:\n- y\n", "yaml"))
    comment, rest = data.split(b"\n", 1)
    inline = rest.replace(b",type:str]\nl:", b",type:str] " + comment + b"\nl:")
    assert inline != rest
    found = lines.scan(inline, "yaml")
    assert found is not None
    assert found.leaves == read_full(inline, "yaml").scan.leaves
    assert lines.decrypt(found, KEY) == [(("a",), "x"), (("l", 0), "y")]
    after = lines.replace(found, KEY, ("a",), "new", LATER)
    assert after is not None
    assert comment in after


PREFIXES = [
    b"---\n", b"q: &x y\n", b"q: [a]\n", b"q:\n", b"sops: x\n", b"a: x\na: y\n", b"q: |\n  x\n", b"q: a # c\n",
    b"q: 'a''b'\n", b"q:\n- x\n", b"\t", b"1: x\n", b"q: x\n  y\n", b"q: \xe2\x80\xa8\n", b"\xef\xbb\xbf",
    b"? q\n: x\n", b"q: !!s x\n",
]  # fmt: skip
CHANGES = [
    *[lambda d, p=prefix: p + d for prefix in PREFIXES],
    lambda d: d.replace(b"\n", b"\r\n"),
    lambda d: d + b"---\nb: 1\n",
    lambda d: d[:-1],
    lambda d: d.replace(b"    mac:", b"    zopp: x\n    mac:"),
    lambda d: d.replace(b"    mac:", b"    mac: x\n    mac:"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_leaves_the_rest_to_the_parser(change: object) -> None:
    data = encrypted({"b": "x", "m": {"k": "v"}})
    assert lines.scan(data, "yaml") is not None
    assert lines.scan(change(data), "yaml") is None  # type: ignore[operator]


def test_decrypt_checks_everything() -> None:
    data = encrypted(load_plain(PLAIN, "yaml"))
    found = lines.scan(data, "yaml")
    assert found is not None
    values = dict(lines.decrypt(found, KEY))
    assert values[("m", "k")] == "one"
    assert values[("l", 1, "o")] == 1
    assert values[("c_unencrypted", 1)] == "a b"
    for wrong in (data.replace(NOW.encode(), LATER.encode()), data.replace(b"- a b", b"- a c")):
        broken = lines.scan(wrong, "yaml")
        assert broken is not None
        with pytest.raises(IntegrityError):
            lines.decrypt(broken, KEY)
        with pytest.raises(IntegrityError):
            lines.replace(broken, KEY, ("a",), "new", LATER)
        with pytest.raises(IntegrityError):
            lines.insert(broken, KEY, "new", "v", LATER)
    with pytest.raises(FormatError):
        lines.decrypt(found, b"short")


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_replace_and_insert_do_what_edit_does(fmt: str) -> None:
    data = encrypted(load_plain(PLAIN, "yaml"), fmt)
    found = lines.scan(data, fmt)
    assert found is not None
    fixed = {"lastmodified": LATER, "iv": lambda n: b"\1" * n}
    for path in (("a",), ("m", "k"), ("l", 1, "n"), ("l", 2, 0)):
        quick = lines.replace(found, KEY, path, "new", **fixed)  # type: ignore[arg-type]
        assert quick == edit(read_full(data, fmt), KEY, [Put(path, "new")], **fixed)  # type: ignore[arg-type]
        assert quick is not None
        assert len(changed_lines(data, quick)[0]) == 3
    note = None if fmt == "json" else "why\nthus"
    quick = lines.insert(found, KEY, "key_2", "v", note=note, **fixed)  # type: ignore[arg-type]
    assert quick == edit(read_full(data, fmt), KEY, [Put(("key_2",), "v", note=note)], **fixed)  # type: ignore[arg-type]
    assert lines.replace(found, KEY, ("a",), "x", LATER) == data
    for refused in (("e",), ("z",), ("l", 1, "o"), ("c_unencrypted", 1), ("nope",), ("m",)):
        assert lines.replace(found, KEY, refused, "new", LATER) is None
    for key in ("a", "sops", "x_unencrypted", "m"):
        assert lines.insert(found, KEY, key, "new", LATER) is None
    assert edit(read(data, fmt), KEY, [Drop(("a",)), Put(("a",), "x")], lastmodified=LATER) != data


def test_comment_selectors_go_to_the_parser() -> None:
    data = encrypted(load_plain(b"# sec\na: x\nb: y\n", "yaml"), selector=Selector("encrypted_comment_regex", "sec"))
    assert lines.scan(data, "yaml") is None
    assert shape(read(data, "yaml").decrypt(KEY)) == shape(load_plain(b"# sec\na: x\nb: y\n", "yaml"))


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_lean_path_loads_no_heavy_module(fmt: str) -> None:
    """Scanning, opening, replacing, inserting, rotating and splitting keys import nothing that costs time."""
    data = encrypted(load_plain(PLAIN, "yaml"), fmt)
    program = f"""
import sys
before = set(sys.modules)
import zopp.sopsfile
from zopp.sopsfile import lines, shamir, rekeying, metadata, cipher, mac
data = {data!r}
key = bytes(range(32))
found = lines.scan(data, {fmt!r})
assert lines.decrypt(found, key)
assert lines.replace(found, key, ("a",), "new", {LATER!r})
assert lines.insert(found, key, "new", "v", {LATER!r})
group = found.metadata.groups
assert rekeying.replace_groups(found, ((metadata.Entry("age1b", "x\\n"),),), None)
assert rekeying.rotate(found, key, bytes(32), group, None, {LATER!r})
assert shamir.join_key(shamir.split_key(key, 3, 2)[1:]) == key
heavy = set({HEAVY!r}) & (set(sys.modules) - before)
assert not heavy, heavy
"""
    start = f"import sys; sys.path[:0] = {sys.path!r}\n"
    done = subprocess.run([sys.executable, "-S", "-c", start + program], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
