"""Templates: filled exactly, or not at all."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess

import pytest
from hypothesis import given, settings, strategies as st

from zopp.errors import FormatError
from zopp.exchange import template

CANARY = "kanarienvogel7"


def filled(text: str, **values: str) -> str:
    return template.fill(*template.references(text.encode(), place="t"), values)


def test_references_are_replaced_and_nothing_else() -> None:
    text = "a {{ zopp.A }}{{zopp.B}} {{ .Values.x }} ${A} {{ zoppelin.A }} {{ other }} }} {{\n"
    assert filled(text, A="1", B="2") == "a 12 {{ .Values.x }} ${A} {{ zoppelin.A }} {{ other }} }} {{\n"


def test_values_are_not_read_again() -> None:
    assert filled("{{ zopp.A }}{{ zopp.B }}", A="{{ zopp.B }}", B="{{") == "{{ zopp.B }}{{"


def test_keys_are_as_get_takes_them() -> None:
    _, found = template.references(b'{{ zopp.db.password }}\n{{ zopp."a b".c|json }} {{ zopp."x|y" }}', place="t")
    assert [(each.key, each.filters, each.line) for each in found] == [
        ("db.password", (), 1), ('"a b".c', ("json",), 2), ('"x|y"', (), 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "{{ zopp }}", "{{ zopp. }}", "{{ zopp.A", "{{ zopp.A }", "{{ zopp.A B }}", "{{ zopp.A | }}",
        "{{ zopp.A |json| }}",
        "{{- zopp.A }}", "{{~ zopp.A -}}", "{{ zopp.A -}}", "{{ ZOPP.A }}", "{{\nzopp.A }}", "{{ zopp.A\n}}",
        "{{ zopp.A | upper }}", '{{ zopp."A }}', "{{ zopp.{A} }}", "{{ zopp.A | json x }}", "{{ zopp:A }}",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_reference_is_an_error(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        template.references(f"{CANARY}\n{text} {CANARY}\n{{{{ zopp.A }}}}".encode(), place="t")
    said = str(caught.value)
    assert "line 2: " in said and "line 3" not in said and CANARY not in said


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(FormatError) as caught:
        template.references(b"{{ zopp }}\n\n{{ zopp.A | upper }}", place="t")
    assert "line 1" in str(caught.value) and "line 3: there is no filter upper" in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff", b"x" * (template.MAX_BYTES + 1)])
def test_no_text_or_too_large(data: bytes) -> None:
    with pytest.raises(FormatError):
        template.references(data, place="t")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
@settings(max_examples=60, deadline=None)
def test_filters_hold_any_text(value: str) -> None:
    assert base64.b64decode(filled("{{ zopp.A | base64 }}", A=value)).decode() == value
    assert json.loads(filled('{"a": {{ zopp.A | json }}}', A=value)) == {"a": value}
    bash = shutil.which("bash")
    assert bash is not None
    script = filled("printf %s {{ zopp.A | shell }}", A=value)
    done = subprocess.run([bash, "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert done.stdout.decode() == value


def test_filters_in_their_order() -> None:
    assert filled("{{ zopp.A | json | base64 }}", A="x") == base64.b64encode(b'"x"').decode()


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_text_without_references_stays(text: str) -> None:
    data = text.encode("utf-8", "replace")
    if b"zopp" not in data.lower():
        assert template.fill(*template.references(data, place="t"), {}) == data.decode()
