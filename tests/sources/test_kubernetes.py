"""Secret manifests: bytes, names, several objects, and what is skipped by its kind."""

from __future__ import annotations

import base64
import json

import pytest
import yaml

from zopp.errors import FormatError
from zopp.exchange.entry import Reading
from zopp.exchange.scalars import to_bytes
from zopp.exchange.sources import kubernetes

CANARY = "kanarienvogel7"


def b64(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def secret(name: str = "api", **fields: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "prod"}, **fields}


def read(*objects: object, form: str = "yaml") -> Reading:
    if form == "json":
        return kubernetes.read(json.dumps(objects[0]).encode(), "in", form="json")
    return kubernetes.read(yaml.safe_dump_all(objects).encode(), "in")


def values(reading: Reading) -> dict[str, object]:
    return {".".join(entry.key): entry.value for entry in reading.entries}


def test_data_is_decoded_and_string_data_wins() -> None:
    reading = read(secret(data={"A": b64("x\n"), "B": b64("old")}, stringData={"B": "new", "C": ""}))
    assert values(reading) == {"A": "x\n", "B": "new", "C": ""}
    assert [(entry.path, entry.name, entry.id) for entry in reading.entries][:1] == [("prod/api", "A", "prod/api#A")]
    assert reading.covers == ("prod/api#",)
    assert not reading.one_file


def test_bytes_are_marked_and_come_back() -> None:
    raw = bytes(range(256))
    (entry,) = read(secret(data={"keystore.jks": b64(raw)})).entries
    assert to_bytes(entry.value) == raw
    assert (entry.key, entry.alone, entry.remarks) == (
        ("KEYSTORE_JKS",),
        ("KEYSTORE_JKS",),
        ("bytes, as marked base64",),
    )


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_with_several_secrets_the_name_stands_before_the_key(form: str) -> None:
    one, two = secret("db-main", data={"password": b64("x")}), secret("tls", data={"tls.crt": b64("y")})
    reading = (
        read(one, two) if form == "yaml" else read({"apiVersion": "v1", "kind": "List", "items": [one, two]}, form=form)
    )
    assert values(reading) == {"DB_MAIN_PASSWORD": "x", "TLS_TLS_CRT": "y"}
    assert [entry.alone for entry in reading.entries] == [("password",), ("TLS_CRT",)]


def test_a_list_in_yaml_and_an_empty_document_are_fine() -> None:
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "SecretList", "items": [secret(data={"A": b64("x")})]})
    assert values(kubernetes.read(f"---\n---\n{text}---\n".encode(), "in")) == {"A": "x"}


SKIPPED = [
    ({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "spec": {}}, "SealedSecret"),
    ({"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "spec": {}}, "ExternalSecret"),
    ({"apiVersion": "v1", "kind": "ConfigMap", "data": {"A": CANARY}}, "ConfigMap"),
    ({"apiVersion": "other/v1", "kind": "Secret", "data": {"A": CANARY}}, "not a Secret of v1"),
    ({"apiVersion": "v1", "kind": CANARY + " x"}, "another kind"),
    ({"a": 1}, "another kind"),
    (secret(type="kubernetes.io/service-account-token", data={"token": b64(CANARY)}), "service account"),
    (secret(type="helm.sh/release.v1", data={"release": b64(CANARY)}), "helm"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "reason"), SKIPPED)
def test_what_is_skipped_is_named_by_its_kind(found: object, reason: str) -> None:
    reading = read(found, secret(data={"A": b64("x")}))
    assert values(reading) == {"A": "x"}
    (left,) = reading.left
    assert left.status == "skipped" and reason in left.reason
    assert CANARY not in repr(reading)


REJECTED = [
    (secret(data={"A": CANARY + "!"}), "not-base64"),
    (secret(data={"A": 5}), "not-text"),
    (secret(data={"A": {"B": CANARY}}), "not-text"),
    (secret(stringData={"A": [CANARY]}), "not-text"),
    (secret(data=[CANARY]), "not-text"),
    (secret(data=CANARY), "not-text"),
    (secret(stringData={CANARY + " x": "y"}), "odd-key"),
    (secret(stringData={"": "y"}), "odd-key"),
    (secret("Not A Name", data={}), "odd-name"),
    ({"apiVersion": "v1", "kind": "Secret", "data": {"A": b64(CANARY)}}, "odd-name"),
]


@pytest.mark.parametrize(("found", "reason"), REJECTED)
def test_what_is_rejected_shows_no_value(found: object, reason: str) -> None:
    reading = read(found)
    assert [(left.reason, left.status) for left in reading.left] == [(reason, "rejected")]
    assert not reading.entries
    assert CANARY not in "".join([f"{left.says}{left.locator}{left.reason}" for left in reading.left])


def test_a_list_with_something_else_in_it() -> None:
    reading = read({"kind": "List", "items": [5, CANARY, secret(data={"A": None, "B": b64("x")})]})
    assert [left.reason for left in reading.left] == ["not-an-object", "not-an-object"]
    assert values(reading) == {"A": "", "B": "x"}


def test_a_value_that_yaml_readers_differ_about_is_rejected() -> None:
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  A: yes\n  B: 0123\n  C: 'yes'\n"
    reading = kubernetes.read(text.encode(), "in")
    assert [(left.name, left.reason) for left in reading.left] == [("A", "unquoted"), ("B", "unquoted")]
    assert values(reading) == {"C": "yes"}
    assert [entry.path for entry in reading.entries] == ["a"]


def test_a_manifest_encrypted_with_sops_is_refused_with_the_way() -> None:
    with pytest.raises(FormatError) as raised:
        read(secret(data={"A": "ENC[…]"}, sops={"mac": "x"}))
    assert raised.value.hint == "sops decrypt FILE | zopp import kubernetes -"


def test_a_secret_that_a_controller_writes_goes_stale() -> None:
    found = secret(data={"A": b64("x")})
    found["metadata"] = {"name": "api", "ownerReferences": [{"kind": "ExternalSecret", "name": "x"}]}
    reading = read(found)
    assert [(one.todo, one.place, one.why) for one in reading.remains if one.todo == "stale"] == [
        ("stale", "api", "its owner is of kind ExternalSecret")
    ]


@pytest.mark.parametrize("text", ["- a\n", "a", "[]", "5"])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    for form in kubernetes.FORMATS:
        with pytest.raises(FormatError):
            kubernetes.read(text.encode(), "in", form=form)
