"""The line reader for plain YAML says what the parser says, or nothing."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.unit.sopsfile.samples import shape
from zopp import sopsfile
from zopp.errors import ZoppError
from zopp.sopsfile import yaml_lines
from zopp.sopsfile.file import unplace
from zopp.sopsfile.stores import yaml_read, yaml_write

# One line each, some of them in every dress that the line reader must not take for its own.
LINES = """
a: 1 | b: text | c: 'q' | d: "q" | e: | f: [1, 2] | g: {} | h: [] | i: &x 1 | j: *x | k: > |   z | - 1 | - a: 1 |   b: 2
- - x | - | a: b: c | # c |   # c |     # c | l: a # c | m: null | n: ~ | o: 2024-01-02
p: 1e3 | q: 0x1F | r: 01 | s: .5 | t: yes | u: true | v: '' | w: "\\u0041" | x: a  b | y:  two | --- | ... |
    aa: 1 |     bb: 2 |         cc: 3 | 'k': 1
"k k": 1 | ? a | : b | a | 1: x | true: x | <<: 1 | sops: 1 | a.b: 1 | a-b: 1 | A/b: 1 | u\u00e4: 1 | z: \u00e4
z: a\u2028b | %YAML 1.1 | z: !!str 1 | z: > | z: 9223372036854775808 | z: -9223372036854775808 | z: 18446744073709551616
z: 1_000 | z: a: b | z: - | z: - x | z: ?x | z: @x | z: `x | z: %x | z: x: | z: x#y | z: # | z: 'a''b' | z: ENC[x]
"""
PIECES = st.sampled_from(
    [line for row in LINES.strip("\n").split("\n") for line in row.split(" | ")] + ["", " ", "\ta: 1"]
)


def both(text: str) -> None:
    quick = yaml_lines.plain(text)
    if quick is None:
        return
    parsed = yaml_read.parse(text, strict=True)
    assert not parsed.duplicates
    assert [shape(quick)] == [shape(unplace(document)) for document in parsed.documents]


@settings(max_examples=3000, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=8), st.sampled_from(["\n", "", "\n\n", "\r\n"]))
def test_lines_in_any_order(lines: list[str], end: str) -> None:
    both("\n".join(lines) + end)


keys = st.text("ab_-. :#'\"0\u00e4", min_size=1, max_size=4) | st.sampled_from(["null", "true", "a", "b", "<<", "1"])
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=12)
    | st.text("ab :#-'\"[]{},0\n", max_size=10)
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=10
)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(keys, values, max_size=5))
def test_what_the_emitter_writes(value: dict[str, Any]) -> None:
    tree = sopsfile.from_plain(value)
    assert isinstance(tree, sopsfile.Mapping)
    try:
        text = yaml_write.dump([tree])
    except ZoppError:
        return
    both(text)


@settings(max_examples=1000, deadline=None)
@given(st.text("ab: -#'\"\n[]{}0", max_size=30).map(lambda text: text + "\n"))
def test_any_text(text: str) -> None:
    both(text)


def test_the_usual_file_is_read() -> None:
    """Else the tests above would compare nothing."""
    text = "# top\nA: 1\nB: some text, with a comma\nnest:\n    # about c\n    C: x\nlist:\n    - a\n    - b: 1\n"
    assert yaml_lines.plain(text) is not None
    both(text)
    assert yaml_lines.plain(text + "D: [1]\n") is None


@pytest.mark.parametrize(
    "text", ["", "\n", "{}\n", "a\n", "a: b", "sops:\n    a: 1\n", "a: 1\na: 2\n", "a: ENC[AES256_GCM,x]\n"]
)
def test_what_is_left_to_the_parser(text: str) -> None:
    assert yaml_lines.plain(text) is None
