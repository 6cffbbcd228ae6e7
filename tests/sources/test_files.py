"""Plain files, and exports of chamber, Doppler and Infisical, made from what their published code writes."""

from __future__ import annotations

import json

import pytest

from zopp.errors import FormatError
from zopp.exchange.entry import Reading
from zopp.exchange.sources import chamber, doppler, files, infisical

CANARY = "kanarienvogel7"


def values(reading: Reading) -> dict[str, object]:
    return {".".join(entry.key): entry.value for entry in reading.entries}


def rejected(reading: Reading) -> dict[str, str]:
    return {left.name: left.reason for left in reading.left if left.status == "rejected"}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("json", '{"A": "x", "db": {"port": 5432, "hosts": ["a", "b"]}}'),
        ("yaml", "A: x\ndb:\n  port: 5432\n  hosts: [a, b]\n"),
        ("toml", 'A = "x"\n[db]\nport = 5432\nhosts = ["a", "b"]\n'),
    ],
)
def test_nested_maps_keep_their_path_and_lists_are_one_value(form: str, text: str) -> None:
    reading = files.read(text.encode(), form, "in")
    assert values(reading) == {"A": "x", "db.port": 5432, "db.hosts": ["a", "b"]}
    assert reading.one_file and reading.covers == ("in#",) and reading.kind == form
    assert {remaining.todo for entry in reading.entries for remaining in entry.remains} == {"change"}
    assert [remaining.todo for remaining in reading.remains] == ["delete"]
    assert [entry.id for entry in reading.entries] == ["in#A", "in#db.port", "in#db.hosts"]


def test_csv_takes_its_columns_by_name() -> None:
    text = b'Id,Name,Value,Comment\n1,A,"x,\ny",first\n2,B,,\n'
    reading = files.read(text, "csv", "in.csv")
    assert values(reading) == {"A": "x,\ny", "B": ""}
    assert [entry.note for entry in reading.entries] == ["first", ""]
    assert [entry.locator for entry in reading.entries] == ["in.csv:2", "in.csv:4"]


@pytest.mark.parametrize("text", ["", "a,b\n", "key,key,value\n", "key\nA\n", "key,value\nA\n", "key,value\nA,b,c\n"])
def test_csv_without_its_columns_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        files.read(text.encode(), "csv", "in.csv")


def test_what_has_no_one_meaning_is_rejected_by_name_with_its_line() -> None:
    reading = files.read(f"A: x\nB: 0123\nC: !vault {CANARY}\n".encode(), "yaml", "in.yaml")
    assert values(reading) == {"A": "x"}
    assert rejected(reading) == {"B": "unquoted", "C": "tag"}
    assert [left.locator for left in reading.left] == ["in.yaml:2", "in.yaml:3"]
    assert CANARY not in repr(reading)


def test_a_sops_file_is_sent_to_its_own_reader() -> None:
    with pytest.raises(FormatError) as raised:
        files.read(b"A: ENC[x]\nsops:\n  mac: ENC[y]\n", "yaml", "in.yaml")
    assert raised.value.hint == "zopp import sops FILE"


def test_a_dotenv_file_is_sent_to_its_own_reader() -> None:
    with pytest.raises(FormatError) as raised:
        files.read(b"A=x\nB=y\n", "json", "in.json")
    assert "zopp import dotenv" in raised.value.hint


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("json", '{"db-password":"x","tf_var_a":""}'),
        ("yaml", 'db-password: x\ntf_var_a: ""\n'),
        ("csv", "db-password,x\ntf_var_a,\n"),
    ],
)
def test_chamber_names_are_those_of_chamber_exec(form: str, text: str) -> None:
    assert values(chamber.read(text.encode(), "in", form=form)) == {"DB_PASSWORD": "x", "TF_VAR_A": ""}


def test_chamber_holds_texts_only() -> None:
    reading = chamber.read(b'{"a": 1, "b": {"c": "x"}, "d": "y"}', "in")
    assert values(reading) == {"D": "y"}
    assert rejected(reading) == {"a": "not-text", "b.c": "not-text"}


DOWNLOAD = {"A": "x", "DOPPLER_PROJECT": "shop", "DOPPLER_CONFIG": "prd", "DOPPLER_ENVIRONMENT": "prd", "HOME": "/h"}


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_doppler_says_where_it_comes_from(form: str) -> None:
    text = (
        json.dumps(DOWNLOAD) if form == "json" else "".join([f'{key}: "{value}"\n' for key, value in DOWNLOAD.items()])
    )
    reading = doppler.read(text.encode(), "in", form=form)
    assert values(reading) == {"A": "x"}
    assert [entry.id for entry in reading.entries] == ["shop/prd#A"]
    assert reading.covers == ("shop/prd#",)
    assert [(left.name, left.status) for left in reading.left] == [("HOME", "skipped")]
    assert doppler.read(b'{"A": "x"}', "in").covers == ("in#",)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"Foo:Bar": "x"}', "doppler.names"),
        ('{"fooBar": "x"}', "doppler.names"),
        ('{"A": {"computed": "x", "note": ""}}', "doppler"),
        ('A="x"\nB="y"\n', "doppler.env"),
        ("A=x\nB=y\n", "doppler.env"),
        ("# made\nA=x\n", "doppler.env"),
    ],
)
def test_doppler_formats_that_do_not_read_back_are_refused(text: str, code: str) -> None:
    with pytest.raises(FormatError) as raised:
        doppler.read(text.encode(), "in")
    assert raised.value.code == code
    assert "doppler secrets download" in raised.value.hint


def infisical_row(**fields: object) -> dict[str, object]:
    """As `models.SingleEnvironmentVariable` is written."""
    return {
        "key": "A", "workspace": "w1", "value": "x", "type": "shared", "_id": "id1", "secretPath": "/", "tags": [],
        "comment": "", "Etag": "", "skipMultilineEncoding": False, **fields,
    }  # fmt: skip


def test_infisical_takes_shared_values_with_comment_id_and_folder() -> None:
    rows = [
        infisical_row(comment="of the team"),
        infisical_row(key="B", _id="id2", secretPath="/db/main", value="a\nb"),
        infisical_row(key="C", _id="id3", type="personal", value=CANARY),
    ]
    reading = infisical.read(json.dumps(rows).encode(), "in")
    assert values(reading) == {"A": "x", "B": "a\nb"}
    assert [(entry.id, entry.path, entry.note) for entry in reading.entries] == [
        ("w1:/#id1", "", "of the team"), ("w1:/db/main#id2", "db/main", ""),
    ]  # fmt: skip
    assert [(left.name, left.reason, left.status) for left in reading.left] == [("C", "a personal override", "skipped")]
    assert set(reading.covers) == {"w1:/#", "w1:/db/main#"}
    assert "--secret-overriding=false" in reading.warnings[0]
    assert CANARY not in repr(reading)


def test_infisical_items_without_key_or_value_are_rejected() -> None:
    rows = [
        infisical_row(value=None),
        infisical_row(key=""),
        5,
        infisical_row(value=CANARY + "1", key=7),
        infisical_row(key="Z"),
    ]
    reading = infisical.read(json.dumps(rows).encode(), "in")
    assert [left.status for left in reading.left] == ["rejected"] * 4
    assert values(reading) == {"Z": "x"}
    assert CANARY not in repr(reading)


@pytest.mark.parametrize(
    ("form", "text"),
    [("dotenv", "A='x'\nB='a\\nb'\n"), ("csv", "Key,Value\nA,x\nB,a\\nb\n"), ("yaml", "A: x\nB: a\\nb\n")],
)
def test_infisicals_other_formats_come_with_a_warning(form: str, text: str) -> None:
    reading = infisical.read(text.encode(), "in", form=form)
    assert values(reading) == {"A": "x", "B": "a\\nb"}
    assert "--format json" in reading.warnings[0]
    assert reading.kind == "infisical"


def test_infisical_wants_its_array() -> None:
    with pytest.raises(FormatError):
        infisical.read(b'{"A": "x"}', "in")
