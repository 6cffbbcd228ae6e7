"""Masking: every form that the spec names, at every alignment and split, as one text would be."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import urllib.parse

import pytest
from hypothesis import example, given, settings, strategies as st

from zopp.exchange import masking
from zopp.exchange.masking import Redactor

VALUE = "s3cr'et/+\"pa ss$%word\\"
PEM = (
    "-----BEGIN TEST KEY-----\n"
    + "\n".join(["QUJD" * 16 + str(line) for line in range(6)])
    + "\n-----END TEST KEY-----\n"
)


def redact(found: dict[bytes, str], *chunks: bytes) -> bytes:
    redactor = Redactor(found)
    return b"".join([redactor.feed(chunk) for chunk in chunks]) + redactor.finish()


def reference(found: dict[bytes, str], text: bytes) -> bytes:
    """Leftmost, then longest, by looking at every place."""
    made, at = b"", 0
    while at < len(text):
        fitting = [form for form in found if text.startswith(form, at)]
        if fitting:
            form = max(fitting, key=len)
            made += b"[redacted:" + found[form].encode() + b"]"
            at += len(form)
        else:
            made += text[at : at + 1]
            at += 1
    return made


FORMS = st.dictionaries(st.text("ab", min_size=4, max_size=9).map(str.encode), st.sampled_from(["A", "B"]), max_size=6)


@given(FORMS, st.lists(st.text("abc", max_size=12).map(str.encode), max_size=8))
@settings(max_examples=3000)
@example({b"aaaa": "A", b"aaaaaaab": "B"}, [b"aaaaaaa", b"aaaaab"])
@example({b"abab": "A", b"babaa": "B"}, [b"aba", b"baa"])
def test_any_split_is_as_no_split(found: dict[bytes, str], chunks: list[bytes]) -> None:
    assert redact(found, *chunks) == reference(found, b"".join(chunks))


@given(FORMS, st.lists(st.text("abc", max_size=12).map(str.encode), max_size=8))
@settings(max_examples=1000)
def test_only_what_could_begin_a_pattern_is_held_back(found: dict[bytes, str], chunks: list[bytes]) -> None:
    redactor = Redactor(found)
    for chunk in chunks:
        redactor.feed(chunk)
        rest = redactor._rest
        assert not rest or any(form.startswith(rest) and form != rest for form in found)


@given(st.binary(min_size=4, max_size=30), st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 200))
@settings(max_examples=500)
def test_bytes_of_any_kind_go_through(form: bytes, before: bytes, after: bytes, cut: int) -> None:
    text = before + form + after
    made = redact({form: "A"}, text[:cut], text[cut:])
    assert made == reference({form: "A"}, text)
    assert not any(form in piece for piece in made.split(b"[redacted:A]"))


def masked(*outputs: bytes, value: str = VALUE) -> None:
    found = dict(masking.patterns([("NAME", value)]).found)
    for output in outputs:
        for cut in range(0, len(output), max(1, len(output) // 40)):
            made = redact(found, b"<<" + output[:cut], output[cut:] + b">>")
            assert b"[redacted:NAME]" in made, output
            assert len(made.replace(b"[redacted:NAME]", b"")) <= 4 + 8, made


def test_the_forms_of_one_line() -> None:
    masked(
        VALUE.encode(),
        base64.b64encode(VALUE.encode()),
        base64.urlsafe_b64encode(VALUE.encode()).rstrip(b"="),
        VALUE.encode().hex().encode(),
        VALUE.encode().hex().upper().encode(),
        urllib.parse.quote(VALUE, safe="").encode(),
        urllib.parse.quote(VALUE).encode(),
        urllib.parse.quote_plus(VALUE).encode(),
        urllib.parse.quote(VALUE, safe="").lower().encode(),
        json.dumps(VALUE)[1:-1].encode(),
        shlex.quote(VALUE)[1:-1].encode(),
    )


def test_what_bash_and_node_and_printf_make_of_it() -> None:
    quoted = subprocess.run(["bash", "-c", 'printf %q "$1"', "x", VALUE], capture_output=True, check=True).stdout
    assert quoted != VALUE.encode()
    masked(quoted)
    traced = subprocess.run(["bash", "-xc", 'true "$1"', "x", VALUE], capture_output=True, check=True).stderr
    assert b"[redacted:NAME]" in redact(dict(masking.patterns([("NAME", VALUE)]).found), traced)


@pytest.mark.parametrize("before", ["", "u", "us", "user:", "user:x", "user:xy"])
@pytest.mark.parametrize("after", ["", "@", "@h", "@ho"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_inside_longer_text_at_every_alignment(before: str, after: str, encode) -> None:
    value = "correct-horse-battery?>~"
    found = dict(masking.patterns([("NAME", value)]).found)
    made = redact(found, encode((before + value + after).encode()))
    assert b"[redacted:NAME]" in made
    # what is left are the characters that the value shares with its neighbours
    left = made.replace(b"[redacted:NAME]", b"").rstrip(b"=")
    assert len(left) <= 4 * (len(before) // 3 + 1) + 4 * (len(after) // 3 + 1)


def test_each_line_of_a_longer_value_is_masked_on_its_own() -> None:
    found = dict(masking.patterns([("KEY", PEM)]).found)
    for line in PEM.strip().split("\n"):
        assert redact(found, b"  | " + line.encode() + b"\r\n") == b"  | [redacted:KEY]\r\n"
    assert redact(found, PEM.encode()) == b"[redacted:KEY]"
    wrapped = subprocess.run(["base64"], input=PEM.encode(), capture_output=True, check=True).stdout
    assert len(wrapped.split()) > 2
    assert redact(found, wrapped).replace(b"[redacted:KEY]", b"").strip() == b""


def test_short_and_common_values_are_left_out_by_name() -> None:
    made = masking.patterns(
        [("A", "abc"), ("B", "12345"), ("C", "true"), ("D", "Production"), ("E", "123456"), ("F", "abcd"), ("G", "")]
    )
    assert made.left_out == ("A", "B", "C", "D")
    assert {b"123456", b"abcd"} <= made.found.keys()
    assert b"abc" not in made.found


def test_a_text_that_several_have_names_the_first() -> None:
    made = masking.patterns([("FIRST", "hunter22"), ("SECOND", "hunter22"), ("THIRD", "hunter22x")])
    assert redact(dict(made.found), b"hunter22 hunter22x") == b"[redacted:FIRST] [redacted:THIRD]"


def test_many_and_long_values_take_no_time_worth_mentioning() -> None:
    made = masking.patterns([(f"K{number}", f"value-{number}-" + "x" * (number % 90)) for number in range(300)])
    redactor = Redactor(made.found)
    line = b"an ordinary line of a build, with base64 QUJDREVGR0g= and value- in it\n"
    for _ in range(2000):
        assert redactor.feed(line) == line


def test_masks_for_a_job_are_one_line_each_and_hide_lines_and_forms() -> None:
    made = masking.add_masks([("KEY", PEM), ("A", "100%\tsure"), ("SHORT", "abc")]).decode()
    lines = made.splitlines()
    assert all(line.startswith("::add-mask::") and len(line) > len("::add-mask::") + 3 for line in lines)
    bodies = {line.removeprefix("::add-mask::") for line in lines}
    assert "100%25\tsure" in bodies
    assert PEM.replace("\n", "%0A") in bodies
    assert set(PEM.strip().split("\n")) <= bodies
    assert base64.b64encode(b"100%\tsure").decode() in bodies
    assert not any(body == "abc" for body in bodies)
