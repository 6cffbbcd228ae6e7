"""fnox.toml: profiles, providers, parts of values, imports; what is not in the file is named, not imported."""

from __future__ import annotations

import json

import pytest

from tests.sources.made import AgeKey
from zopp.errors import FormatError
from zopp.exchange.entry import Reading
from zopp.exchange.sources import fnox
from zopp.keys import identity

CANARY = "kanarienvogel7"
KEY = AgeKey()
OTHER = AgeKey()
PROVIDERS = f"""
[providers.age]
type = "age"
recipients = ["{KEY.recipient}"]
[providers.clear]
type = "plain"
[providers.op]
type = "1password"
vault = "Shop"
"""


def identities(key_file: str) -> list[identity.Identity]:
    return identity.parse(KEY.secret, "test")


def read(text: str, *only: str, imported: str = "") -> Reading:
    config = fnox.parse(text.encode())
    if imported:
        config = config.over(fnox.parse(imported.encode()))
    return fnox.read(config, "fnox.toml", identities, only=only)


def values(reading: Reading) -> dict[str, object]:
    return {f"{entry.env}/{entry.name}": entry.value for entry in reading.entries}


def one(fields: str) -> Reading:
    return read(f"[secrets]\nA = {{ {fields} }}\n{PROVIDERS}")


def test_a_value_of_age_opens() -> None:
    reading = one(f'provider = "age", value = "{KEY.seal("x")}", description = "of the team"')
    assert values(reading) == {"/A": "x"}
    (entry,) = reading.entries
    assert (entry.id, entry.path, entry.note, entry.remains) == ("fnox.toml#default/A", "default", "of the team", ())
    assert not reading.one_file and reading.covers == ("fnox.toml#default/",)


def test_profiles_are_environments_with_the_top_below_them() -> None:
    text = f"""
default_provider = "age"
[secrets]
A = {{ value = "{KEY.seal("a")}" }}
B = {{ value = "{KEY.seal("b")}" }}
[profiles.prod.secrets]
B = {{ value = "{KEY.seal("B")}" }}
C = {{ provider = "clear", value = "C" }}
{PROVIDERS}"""
    assert values(read(text)) == {"/A": "a", "/B": "b", "prod/A": "a", "prod/B": "B", "prod/C": "C"}
    reading = read(text, "prod")
    assert values(reading) == {"prod/A": "a", "prod/B": "B", "prod/C": "C"}
    assert [entry.remarks for entry in reading.entries] == [("from the profile default",), (), ()]
    assert values(read(text, "default")) == {"/A": "a", "/B": "b"}
    with pytest.raises(FormatError):
        read(text, "staging")


def test_the_only_provider_is_the_default_one() -> None:
    text = f'[secrets]\nA = {{ value = "{KEY.seal("x")}" }}\n[providers.a]\ntype = "age"\nrecipients = []\n'
    assert values(read(text)) == {"/A": "x"}


def test_what_lay_in_the_clear_is_to_be_changed() -> None:
    for fields in ('provider = "clear", value = "x"', 'default = "x"', 'provider = "op", default = "x"'):
        reading = one(fields)
        assert values(reading) == {"/A": "x"}
        assert [remaining.todo for remaining in reading.entries[0].remains] == ["change"]


def test_other_providers_are_live_and_a_synced_copy_is_taken() -> None:
    reading = one('provider = "op", value = "Database/password"')
    assert [(left.name, left.reason, left.status) for left in reading.left] == [
        ("A", "a live reference to 1password", "skipped")
    ]
    reading = one(
        f'provider = "op", value = "Database/password", sync = {{ provider = "age", value = "{KEY.seal("x")}" }}'
    )
    assert values(reading) == {"/A": "x"}
    assert [(one.todo, one.why) for one in reading.entries[0].remains] == [("stale", "kept by 1password")]


def test_what_only_the_environment_has_is_skipped() -> None:
    assert [left.status for left in one('description = "x"').left] == ["skipped"]


JSON = json.dumps({"a": {"b.c": "deep", "n": 5, "l": [1, {"x": None}], "null": None}, "s": CANARY})


@pytest.mark.parametrize(
    ("path", "value"),
    [("s", CANARY), ("a.b\\\\.c", "deep"), ("a.n", "5"), ("a.l", '[1,{"x":null}]'), ("a.null", "null")],
)
def test_json_path(path: str, value: str) -> None:
    assert values(one(f'provider = "age", value = "{KEY.seal(JSON)}", json_path = "{path}"')) == {"/A": value}


def test_line() -> None:
    for number, value in ((1, "one"), (2, "two"), (3, "")):
        assert values(
            one(f'provider = "age", value = "{KEY.seal("one" + chr(10) + "two" + chr(10))}", line = {number}')
        ) == {"/A": value}


REJECTED = [
    (f'provider = "age", value = "{OTHER.seal(CANARY)}"', "no-identity"),
    (f'provider = "age", value = "{CANARY}"', "damaged"),
    (f'provider = "age", value = "{KEY.seal(CANARY)[:-8]}"', "damaged"),
    (f'provider = "age", value = "{KEY.seal(CANARY)[:200]}"', "damaged"),
    ('provider = "age", value = "YWdl"', "damaged"),
    ('provider = "age", value = ""', "damaged"),
    (f'provider = "nowhere", value = "{CANARY}"', "no-provider"),
    (f'provider = "age", value = ["{CANARY}"]', "not-text"),
    (f'sync = {{ provider = "age", value = 5 }}, default = "{CANARY}"', "not-text"),
    (f'default = "{CANARY}", json_path = "a"', "json-path"),
    (f'default = "{{\\"a\\": \\"{CANARY}\\"}}", json_path = "b"', "json-path"),
    (f'default = "{{\\"a\\": 1.10}}", json_path = "a", description = "{CANARY}"', "json-path"),
    (f'default = "{CANARY}", json_path = ""', "json-path"),
    (f'default = "{CANARY}", line = 0', "line"),
    (f'default = "{CANARY}", line = 2', "line"),
    (f'default = "{CANARY}", line = true', "line"),
    (f'default = "{CANARY}", line = 1, json_path = "a"', "two-parts"),
]


@pytest.mark.parametrize(("fields", "reason"), REJECTED, ids=range(len(REJECTED)))
def test_what_is_rejected_shows_no_value(fields: str, reason: str) -> None:
    reading = one(fields)
    assert [(left.name, left.reason, left.status) for left in reading.left] == [("A", reason, "rejected")]
    assert reason in fnox.SAYS and fnox.SAYS[reason] in reading.left[0].says
    assert CANARY not in repr(reading)


def test_a_secret_that_is_no_table() -> None:
    reading = read(f'[secrets]\nA = "{CANARY}"\n')
    assert [left.reason for left in reading.left] == ["not-text"]
    assert CANARY not in repr(reading)


def test_an_import_lies_below_the_file() -> None:
    text = 'import = ["base.toml"]\n[secrets]\nA = { provider = "clear", value = "own" }\n'
    base = (
        'age_key_file = "k"\n[secrets]\nA = { default = "base" }\nB = { default = "b" }\n'
        f'[profiles.p.secrets]\nC = {{ default = "c" }}\n{PROVIDERS}'
    )
    assert fnox.parse(text.encode()).imports == ("base.toml",)
    assert values(read(text, imported=base)) == {"/A": "own", "/B": "b", "p/A": "own", "p/B": "b", "p/C": "c"}


@pytest.mark.parametrize(
    "text",
    ['import = "x"', "import = [1]", 'import = [""]', f"import = {['x'] * 40}", "secrets = 5", "providers = [1]",
     "profiles = 1", "[profiles]\np = 1", "[profiles.p]\nsecrets = 1", f'[profiles."{CANARY} x"]\n', "providers.a = 1"],
)  # fmt: skip
def test_a_file_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as raised:
        fnox.parse(text.encode())
    assert CANARY not in str(raised.value)


def test_an_export_is_one_profile() -> None:
    text = json.dumps(
        {
            "secrets": {"A": "x", "B": "/tmp/fnox-export-B-x1", "C": 5},
            "metadata": {"profile": "prod", "exported_at": "now", "total_secrets": 3},
        }
    )
    reading = fnox.read_export(text.encode(), "export.json")
    assert values(reading) == {"/A": "x"}
    assert [(left.name, left.reason) for left in reading.left] == [("B", "a-file"), ("C", "not-text")]
    assert reading.one_file and reading.covers == ("export.json#prod/",)
    for bad in (b"[]", b'{"a": 1}', b'{"secrets": []}'):
        with pytest.raises(FormatError):
            fnox.read_export(bad, "x")
