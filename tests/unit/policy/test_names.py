"""Names, scopes, subjects: one grammar (A10)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from zopp.errors import FormatError
from zopp.policy import names
from zopp.policy.names import Scope, Subject

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(@([2-9]|[1-9][0-9]{1,5}))?")


@given(st.text(alphabet="ab0-@1/_A\n\u00e9", max_size=8) | st.text(max_size=70))
def test_grammar(text: str) -> None:
    assert names.is_name(text) == bool(NAME.fullmatch(text))
    assert names.is_typed_name(text) == (bool(NAME.fullmatch(text)) and "@" not in text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-a",
        "A",
        "a_b",
        "a b",
        "a/b",
        "a.b",
        "..",
        "a" * 64,
        "a@",
        "a@0",
        "a@1",
        "a@02",
        "a@-2",
        "a@2@3",
        "a@1000000",
        "é",
        "a\n",
        "\u0430",
        "@2",
        "a@2x",
        "a@²",
    ],
)
def test_not_names(text: str) -> None:
    assert not names.is_name(text)
    with pytest.raises(FormatError):
        Scope("project", text)
    with pytest.raises(FormatError):
        Subject("user", text)


def test_what_people_may_type() -> None:
    assert names.check_name("staging") == "staging"
    with pytest.raises(FormatError):
        names.check_name("staging@2")


def test_numbers() -> None:
    assert names.split("staging@12") == ("staging", 12)
    assert names.split("staging") == ("staging", 1)
    assert names.numbered("staging", 1) == "staging"
    assert names.numbered("staging", 2) == "staging@2"


def test_scopes() -> None:
    assert Scope.parse("acme", "acme").json() == {"workspace": "acme"}
    assert Scope.parse("api", "acme").json() == {"project": "api"}
    assert Scope.parse("api/production", "acme").json() == {"env": "api/production"}
    assert str(Scope.of_json({"env": "api@2/staging@3"})) == "api@2/staging@3"
    assert Scope("workspace", "acme").key == ""
    assert len({Scope("project", "api"), Scope("project", "api"), Scope("workspace", "api")}) == 2
    with pytest.raises(AttributeError):
        Scope("project", "api").name = "web"
    with pytest.raises(AttributeError):
        Subject("user", "bob").name = "eve"


@pytest.mark.parametrize(
    "value",
    [
        "api",
        {},
        {"project": "api", "env": "api/dev"},
        {"project": "api/dev"},
        {"env": "api"},
        {"env": "a/b/c"},
        {"env": "/a"},
        {"env": "a/"},
        {"env": 1},
        {"team": "api"},
        None,
        ["project", "api"],
        {"project": "API"},
    ],
)
def test_bad_scopes(value: Any) -> None:
    with pytest.raises(FormatError):
        Scope.of_json(value)


def test_s35_any_spelling_of_an_address_is_one_user() -> None:
    salt = b"s" * 32
    tag = names.email_tag(salt, "bob@example.org")
    assert names.email_tag(salt, "Bob@Example.ORG") == tag
    assert names.email_tag(salt, "bo\u0308b@example.org") == names.email_tag(salt, "B\u00d6B@example.org")
    assert names.email_tag(b"t" * 32, "bob@example.org") != tag
    assert "bob" not in tag and len(tag) == 64
