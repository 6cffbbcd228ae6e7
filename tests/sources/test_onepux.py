"""1PUX files: hostile archives and exports first, then what is taken of every kind of field."""

from __future__ import annotations

import contextlib
import json
import stat
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.sources.onepassword_data import (
    ATTRIBUTES,
    CANARY,
    EVERY,
    PKCS8,
    VAULT,
    archive,
    export,
    field,
    item,
    login,
    login_field,
    patched,
    section,
    shop,
    uuid,
    vault,
)  # fmt: skip
from zopp.errors import FormatError, NotFound, ZoppError
from zopp.exchange import scalars
from zopp.exchange.entry import Left, Reading, Remaining
from zopp.exchange.sources import onepassword, onepux
from zopp.exchange.sources.onepassword import EXTRA, Take

ALL = Take(extra=frozenset(EXTRA), files=True, archived=True)


def read(data: bytes, *extra: str, files: bool = False, archived: bool = False, **options: Any) -> Reading:
    take = Take(extra=frozenset(extra), files=files, archived=archived)
    return onepux.read(data, "export.1pux", take=take, **options)


def refusal(data: bytes) -> ZoppError | None:
    """Why `data` is refused, None if it is not. Anything but an error of ours fails the test."""
    try:
        onepux.read(data, "export.1pux", take=ALL)
    except ZoppError as exc:
        return exc
    return None


def keys(reading: Reading) -> dict[str, Any]:
    return {".".join(entry.key): entry.value for entry in reading.entries}


def reasons(reading: Reading) -> dict[str, tuple[str, str]]:
    return {left.locator: (left.status, left.reason) for left in reading.left}


def everything_said(reading: Reading) -> str:
    """All of a reading but its values and notes."""
    return repr(reading)


# --- archives that are refused


def member(name: str, *, link: bool = False) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    if link:
        made.external_attr = (stat.S_IFLNK | 0o777) << 16
    return made


GOOD = shop(login(uuid(1), "db"))
HOSTILE: list[tuple[str, str, bytes]] = [
    ("empty", "not-zip", b""),
    ("no zip", "not-zip", CANARY.encode() * 50),
    ("truncated", "not-zip", GOOD[:-30]),
    ("directory cut", "not-zip", GOOD[: GOOD.index(b"PK\x01\x02") + 20]),
    ("absolute", "member-name", shop(more=[("/etc/passwd", b"x")])),
    ("parent", "member-name", shop(more=[("files/../../x", b"x")])),
    ("only parent", "member-name", shop(more=[("..", b"x")])),
    ("backslash", "member-name", shop(more=[("files\\..\\x", b"x")])),
    ("drive", "member-name", shop(more=[("C:x", b"x")])),
    ("symlink", "symlink", shop(more=[(member("files/a__b", link=True), b"/etc/passwd")])),
    ("encrypted", "encrypted-member", patched(GOOD, flags=1)),
    ("strongly encrypted", "encrypted-member", patched(GOOD, flags=1 | 1 << 6)),
    ("bzip2", "compression", shop(login(uuid(1), "db"), method=zipfile.ZIP_BZIP2)),
    ("lzma", "compression", shop(login(uuid(1), "db"), method=zipfile.ZIP_LZMA)),
    ("unknown method", "compression", patched(GOOD, method=77)),
    ("ratio", "ratio", shop(files={"a__zeros": bytes(4 << 20)})),
    ("bomb in the data", "ratio", archive(b" " * (8 << 20) + b"{}")),
    ("a lie about the size", "ratio", patched(GOOD, size=3 << 30)),
    ("no attributes", "no-member", archive(export(), attributes=None)),
    ("no data", "no-member", archive(None)),
    ("version 1", "version", archive(export(), attributes={**ATTRIBUTES, "version": 1})),
    ("version 4", "version", archive(export(), attributes={**ATTRIBUTES, "version": 4})),
    ("version true", "version", archive(export(), attributes={**ATTRIBUTES, "version": True})),
    ("version text", "version", archive(export(), attributes={**ATTRIBUTES, "version": "3"})),
    ("no version", "version", archive(export(), attributes={})),
    ("attributes a list", "version", archive(export(), attributes=[3])),
    ("attributes no JSON", "not-json", archive(export(), attributes=f"{{{CANARY}".encode())),
    ("data no JSON", "not-json", archive(f'{{"accounts": "{CANARY}'.encode())),
    ("data empty", "not-json", archive(b"")),
    ("two documents", "not-json", archive(b"{} {}")),
    ("NaN", "not-json", archive(b'{"accounts": [NaN]}')),
    ("a number of 5000 digits", "not-json", archive(b'{"accounts": ' + b"7" * 5000 + b"}")),
    ("not UTF-8", "not-utf8", archive(b'{"a": "\xff' + CANARY.encode() + b'"}')),
    ("key twice", "duplicate-key", archive(f'{{"accounts": [], "accounts": ["{CANARY}"]}}'.encode())),
    ("key twice below", "duplicate-key", archive(f'{{"accounts": [{{"{CANARY}": 1, "{CANARY}": 2}}]}}'.encode())),
    ("deep", "depth", archive(b'{"accounts": ' + b"[" * 40 + b"]" * 40 + b"}")),
    ("deeper than the stack", "depth", archive(b'{"accounts":' * 60_000)),
    ("a tower of lists", "depth", archive(b"[" * 500_000)),
    ("data a list", "structure", archive([CANARY])),
    ("no accounts", "structure", archive({CANARY: []})),
    ("accounts a text", "structure", archive({"accounts": CANARY})),
    ("account a text", "structure", archive({"accounts": [CANARY]})),
    ("vaults an object", "structure", archive({"accounts": [{"vaults": {CANARY: 1}}]})),
    ("vault a text", "structure", archive(export(CANARY))),
    ("attrs a text", "structure", archive(export({"attrs": CANARY}))),
    ("vault name a number", "structure", archive(export({"attrs": {"name": 7, "uuid": "x"}}))),
    ("items an object", "structure", archive(export({"attrs": {}, "items": {CANARY: 1}}))),
]


@pytest.mark.parametrize(("rule", "data"), [one[1:] for one in HOSTILE], ids=[one[0] for one in HOSTILE])
def test_an_archive_that_is_none_is_refused_by_its_rule(rule: str, data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        read(data)
    assert caught.value.data["rule"] == rule
    assert f"[{rule}]" in str(caught.value)
    assert str(caught.value).startswith("export.1pux")
    assert CANARY not in str(caught.value)
    # a traceback would show the text of whatever is chained to it
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = shop(login(uuid(1), "db"), more=[("export.data", b"{}")])
    with pytest.raises(FormatError, match="duplicate-member"):
        read(data)


def test_a_name_that_ends_in_a_null_is_no_other_name() -> None:
    data = shop(more=[("export.dataX", b"{}")]).replace(b"export.dataX", b"export.data\0")
    with pytest.raises(FormatError, match=r"duplicate-member|member-name"):
        read(data)


def test_a_member_count_that_is_past_all_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onepux, "MAX_MEMBERS", 5)
    assert keys(read(shop(login(uuid(1), "db"), files={f"{n}__x": b"" for n in range(3)})))
    with pytest.raises(FormatError, match="member-count"):
        read(shop(login(uuid(1), "db"), files={f"{n}__x": b"" for n in range(4)}))


def test_a_directory_of_many_entries_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onepux, "_MARKS", 5)
    monkeypatch.setattr(zipfile, "ZipFile", None)  # it would make an object of each
    with pytest.raises(FormatError, match="member-count"):
        onepux.read(b"PK\x01\x02" * 6, "export.1pux", take=Take())


def test_sizes_are_capped_each_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shop(login(uuid(1), "db"), files={"a__x": bytes(1000), "b__x": bytes(1000)})
    assert keys(read(data))
    monkeypatch.setattr(onepux, "MAX_TOTAL", 2000)
    with pytest.raises(FormatError, match="total-size"):
        read(data)
    monkeypatch.undo()
    monkeypatch.setattr(onepux, "MAX_DATA", 100)
    with pytest.raises(FormatError, match="data-size"):
        read(data)


def test_no_more_is_unpacked_than_the_cap_whatever_a_member_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    honest = zipfile.ZipExtFile.read

    def counted(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        asked.append(-1 if n is None else n)
        return honest(self, n)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    read(GOOD)
    assert asked
    assert all(0 <= n <= onepux.MAX_DATA + 1 for n in asked)


@pytest.mark.parametrize("flip", [0, 20, 60])
def test_damaged_data_is_refused_and_not_shown(flip: int) -> None:
    data = bytearray(shop(login(uuid(1), "db"), method=zipfile.ZIP_STORED))
    at = data.index(CANARY.encode()) - flip
    data[at] ^= 1
    with pytest.raises(FormatError, match="damaged-member") as caught:
        read(bytes(data))
    assert CANARY not in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_reading_or_an_error_of_ours(data: bytes) -> None:
    error = refusal(data)
    assert error is None or error.data["rule"] in onepux.RULES


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 10_000),
    st.booleans(),
)
def test_a_changed_archive_gives_a_reading_or_an_error_of_ours(
    changes: list[tuple[int, int]], cut: int, stored: bool
) -> None:
    data = bytearray(STORED if stored else FULL)
    for at, byte in changes:
        data[at % len(data)] = byte
    if cut < len(data) and cut % 3 == 0:
        del data[cut:]
    error = refusal(bytes(data))
    assert error is None or CANARY not in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(
        st.sampled_from(["uuid", "title", "details", "overview", "value", "concealed", "id", "item", "file", "x"]),
        below, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
NODES = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("uuid", "state", "trashed", "overview", "details", "item", "file", "categoryUuid"), JSON),
)  # fmt: skip
DETAILS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("loginFields", "notesPlain", "sections", "passwordHistory", "documentAttributes", "password"), JSON
    ),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(JSON | NODES | st.builds(lambda details: item("u", "t") | {"details": details}, DETAILS), max_size=3))
def test_any_items_give_a_reading_or_an_error_of_ours(items: list[Any]) -> None:
    try:
        reading = onepux.read(shop(*items), "export.1pux", take=ALL)
    except ZoppError:
        return
    places = {left.locator for left in reading.left if left.reason == "not-object"}
    assert {f"accounts[0].vaults[0].items[{n}]" for n, one in enumerate(items) if not isinstance(one, dict)} <= places
    assert all(isinstance(entry.value, str) and entry.value for entry in reading.entries)


# --- items that are refused alone

BAD_ITEMS: list[tuple[str, Any]] = [
    ("not-object", {"details": CANARY}),
    ("not-object", {"overview": [CANARY]}),
    ("not-list", {"details": {"sections": CANARY}}),
    ("not-object", {"details": {"sections": [CANARY]}}),
    ("not-list", {"details": {"sections": [{"fields": {CANARY: 1}}]}}),
    ("not-object", {"details": {"sections": [{"fields": [{"value": CANARY}]}]}}),
    ("two-values", {"details": {"sections": [{"fields": [field("a", "a", {"concealed": CANARY, "string": "x"})]}]}}),
    ("not-text", {"details": {"sections": [{"fields": [field("a", "a", {"concealed": 7})]}]}}),
    ("not-text", {"details": {"sections": [{"fields": [{"id": 7, "value": {"concealed": CANARY}}]}]}}),
    ("title-size", {"details": {"sections": [{"fields": [field("a", CANARY * 50, {"concealed": "x"})]}]}}),
    ("odd-id", {"details": {"sections": [{"fields": [field("x" * 200, "a", {"concealed": CANARY})]}]}}),
    ("not-list", {"details": {"loginFields": CANARY}}),
    ("two-values", {"details": {"loginFields": [login_field("password", {"concealed": CANARY, "x": 1})]}}),
    ("not-text", {"details": {"loginFields": [login_field("password", [CANARY])]}}),
    ("not-text", {"details": {"notesPlain": [CANARY]}}),
    ("not-text", {"overview": {"title": [CANARY]}}),
    ("title-size", {"overview": {"title": CANARY * 50}}),
    ("not-text", {"state": 7}),
    ("unknown-state", {"state": CANARY}),
]


@pytest.mark.parametrize(("rule", "change"), BAD_ITEMS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_item_is_reported_by_its_uuid_and_the_rule_alone(rule: str, change: dict[str, Any]) -> None:
    bad = {**login(uuid(1), f"title {CANARY}"), **change}
    reading = read(shop(bad, login(uuid(2), "db", "other")), *EXTRA)
    assert [entry.value for entry in reading.entries if entry.name == "password"] == ["other"]
    rejected = [left for left in reading.left if left.status == "rejected"]
    assert rejected == [
        Left(
            locator=f"op://{VAULT}/{uuid(1)}", reason=rule, status="rejected", name=f"{VAULT}/{uuid(1)}",
            id=f"op://{VAULT}/{uuid(1)}/",
        )
    ]  # fmt: skip
    assert CANARY not in everything_said(reading)


@pytest.mark.parametrize("bad", [CANARY, 7, None, [CANARY], {"uuid": f"{CANARY} x"}, {"uuid": "-rf"}, {"uuid": 7}])
def test_a_bad_item_without_a_uuid_is_reported_by_its_place(bad: Any) -> None:
    reading = read(shop(login(uuid(1), "db", "other"), bad))
    assert [(left.locator, left.status, left.id) for left in reading.left if left.status == "rejected"] == [
        ("accounts[0].vaults[0].items[1]", "rejected", "")
    ]
    assert CANARY not in everything_said(reading)


def test_what_is_in_the_trash_or_the_archive_need_not_be_well_formed() -> None:
    bad = {"uuid": uuid(1), "trashed": True, "overview": {"title": "old"}, "details": CANARY}
    assert reasons(read(shop(bad))) == {"op://Shop/old": ("skipped", "trashed")}


# --- what is taken


def every() -> dict[str, Any]:
    return item(
        uuid(1), "db", section("main", *[one for one, _ in EVERY]), category="102", notesPlain="a note",
        overview={"url": "https://shop.example"}, passwordHistory=[{"value": CANARY, "time": 1}],
    )  # fmt: skip


FULL = shop(every(), login(uuid(2), "web"), files={"doc1__scan.png": b"\x89PNG"})
STORED = shop(
    every(), login(uuid(2), "web"), files={"doc1__scan.png": b"\x89PNG"}, method=zipfile.ZIP_STORED
)  # fmt: skip


def test_by_default_only_secrets_are_taken_and_the_rest_is_said() -> None:
    reading = read(shop(every(), files={"doc1__scan.png": b"\x89PNG"}))
    assert keys(reading) == {"DB_PIN": CANARY, "DB_PRIVATE_KEY": PKCS8}
    found = reasons(reading)
    assert all(status == "skipped" for status, _ in found.values())
    for one, kind in EVERY:
        said = found.get(f"op://Shop/db/{one['title']}", ("", ""))[1]
        if kind in EXTRA:
            assert said == f"not asked for (--with {kind})"
        elif kind == "file":
            assert said == "attachment (--files)"
        elif kind != "secret":
            assert said == kind
    assert found["op://Shop/db/password history"] == ("skipped", "old passwords")
    assert found["op://Shop/db/notes"] == ("skipped", "not asked for (--with note)")
    assert found["op://Shop/db/url"] == ("skipped", "not asked for (--with url)")
    assert CANARY not in everything_said(reading)


def test_every_line_that_is_left_keeps_its_key_from_being_pruned() -> None:
    for left in read(FULL).left:
        assert left.id.startswith(f"op://{VAULT}/"), left


@pytest.mark.parametrize(
    ("extra", "more"),
    [
        (("url",), {"DB_SITE": "https://db.example", "DB_URL": "https://shop.example"}),
        (("note",), {"DB_NOTES": "a note"}),
        (
            ("string",),
            {
                "DB_HOST": "db.example", "DB_TEL": "000", "DB_TYPE": "postgresql", "DB_MAIL": "db@example.org",
                "DB_OLDMAIL": "old@example.org", "DB_CCNUM": "0000", "DB_CCTYPE": "mc", "DB_SEX": "x",
            },
        ),
        (("username",), {}),
    ],
)  # fmt: skip
def test_more_is_taken_where_it_is_asked_for(extra: tuple[str, ...], more: dict[str, str]) -> None:
    assert keys(read(shop(every()), *extra)) == {"DB_PIN": CANARY, "DB_PRIVATE_KEY": PKCS8, **more}


def test_a_login_gives_its_password_and_on_request_its_name() -> None:
    assert keys(read(shop(login(uuid(1), "Shop API")))) == {"SHOP_API": CANARY}
    assert keys(read(shop(login(uuid(1), "Shop API")), "username", "url")) == {
        "SHOP_API_USERNAME": "shop",
        "SHOP_API_PASSWORD": CANARY,
        "SHOP_API_URL": "https://shop.example",
    }


@pytest.mark.parametrize("value", [{"concealed": CANARY}, {"string": CANARY}])
def test_the_value_of_a_login_may_be_an_object(value: Any) -> None:
    assert keys(read(shop(login(uuid(1), "db", value)))) == {"DB": CANARY}


def test_a_login_by_other_means_is_said_and_not_taken() -> None:
    reading = read(shop(login(uuid(1), "db", {"sso": {"x": CANARY}}, {})))
    assert not reading.entries
    assert reasons(reading)["op://Shop/db/password"] == ("skipped", "unknown kind sso")


def test_fields_of_web_forms_are_told_apart_by_their_type() -> None:
    fields = [
        login_field("password", "one", kind="P"), login_field("", "two", name="second", kind="P"),
        login_field("", "three", name="city", kind="T"), login_field("", "✓", name="remember", kind="C"),
    ]  # fmt: skip
    reading = read(shop(item(uuid(1), "db", loginFields=fields)))
    assert keys(reading) == {"DB_PASSWORD": "one", "DB_SECOND": "two"}
    assert reasons(reading) == {
        "op://Shop/db/city": ("skipped", "not asked for (--with string)"),
        "op://Shop/db/remember": ("skipped", "button or box of a form"),
    }


def test_password_items_and_api_credentials_are_taken() -> None:
    api = section(
        "", field("username", "username", {"string": "x"}), field("credential", "credential", {"string": "c"})
    )
    made = shop(
        item(uuid(1), "Wifi", category="005", password="w1"),
        item(uuid(2), "Payments", api, category="112"),
        item(uuid(3), "Other", api, category="110"),
        item(uuid(4), "No password", category="001", password=CANARY),
    )
    assert keys(read(made)) == {"WIFI": "w1", "PAYMENTS": "c"}


def test_the_user_name_of_a_database_is_one() -> None:
    fields = (field("username", "user", {"string": "shop"}), field("password", "password", {"concealed": CANARY}))
    made = shop(item(uuid(1), "db", section("", *fields), category="102"))
    assert keys(read(made, "username")) == {"DB_USER": "shop", "DB_PASSWORD": CANARY}
    assert keys(read(made, "string")) == {"DB": CANARY}


def test_an_ssh_key_without_its_pkcs8_form_is_rejected_and_an_empty_one_skipped() -> None:
    odd = field("private_key", "private key", {"sshKey": {"privateKey": CANARY}})
    none = field("private_key", "private key", {"sshKey": None})
    reading = read(shop(item(uuid(1), "a", section("", odd)), item(uuid(2), "b", section("", none))))
    assert reasons(reading) == {
        "op://Shop/a/private key": ("rejected", "ssh-key"),
        "op://Shop/b/private key": ("skipped", "empty"),
    }
    assert CANARY not in everything_said(reading)


def test_empty_fields_are_said_where_they_would_be_taken() -> None:
    reading = read(shop(item(uuid(1), "a", section("", field("k", "key", {"concealed": ""}), field("h", "h", {})))))
    assert reasons(reading) == {"op://Shop/a/key": ("skipped", "empty")}


def test_archived_items_are_taken_on_request_and_trashed_ones_never() -> None:
    made = shop(
        {**login(uuid(1), "old"), "state": "archived"},
        {**login(uuid(2), "gone"), "trashed": True},
        {**login(uuid(3), "gone too"), "state": "trashed"},
        login(uuid(4), "here"),
    )
    reading = read(made)
    assert keys(reading) == {"HERE": CANARY}
    assert reasons(reading) == {
        "op://Shop/old": ("skipped", "archived (--archived)"),
        "op://Shop/gone": ("skipped", "trashed"),
        "op://Shop/gone too": ("skipped", "trashed"),
    } | {"op://Shop/here/username": ("skipped", "not asked for (--with username)")} | {
        "op://Shop/here/url": ("skipped", "not asked for (--with url)")
    }
    assert [left.id for left in reading.left][:1] == [f"op://{VAULT}/{uuid(1)}/"]
    again = read(made, archived=True)
    assert keys(again) == {"OLD": CANARY, "HERE": CANARY}
    assert [entry.remarks for entry in again.entries] == [("archived",), ()]


# --- attachments


def document(id_: str = "doc1", name: str = "key.p12", title: str = "keystore") -> dict[str, Any]:
    attributes = {"fileName": name, "documentId": id_, "decryptedSize": 3}
    return item(uuid(7), title, category="006", documentAttributes=attributes)


@pytest.mark.parametrize("member", ["doc1__key.p12", "doc1__", "doc1", "doc1__other name"])
def test_an_attachment_is_found_by_its_id_and_its_bytes_come_out_again(member: str) -> None:
    content = bytes(range(256))
    reading = read(shop(document(), files={member: content}), files=True)
    assert [entry.key for entry in reading.entries] == [("KEYSTORE",)]
    assert scalars.to_bytes(reading.entries[0].value) == content
    assert reading.entries[0].id == f"op://{VAULT}/{uuid(7)}/doc1"
    assert reading.entries[0].name == "key.p12"


def test_an_attachment_that_is_text_stays_text() -> None:
    reading = read(shop(document(), files={"doc1__key.p12": "té\n".encode()}), files=True)
    assert keys(reading) == {"KEYSTORE": "té\n"}


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({}, "attachment"),
        ({"doc1__a": b"x", "doc1__b": b"y"}, "attachment"),
        ({"doc1__a": bytes((1 << 20) + 1)}, "value-size"),
        ({"doc1__a": b""}, "empty"),
    ],
)
def test_an_attachment_that_cannot_be_read_is_said(files: dict[str, bytes], rule: str) -> None:
    reading = read(shop(document(), files=files, method=zipfile.ZIP_STORED), files=True)
    assert [left.reason for left in reading.left] == [rule]
    assert not reading.entries


def test_a_damaged_attachment_is_rejected_alone() -> None:
    data = bytearray(shop(document(), login(uuid(1), "db"), files={"doc1__a": b"abcabc"}, method=zipfile.ZIP_STORED))
    data[data.index(b"abcabc")] ^= 1
    reading = read(bytes(data), files=True)
    assert keys(reading) == {"DB": CANARY}
    assert [left.reason for left in reading.left if left.status == "rejected"] == ["damaged-member"]


# --- older exports


def test_items_of_older_exports_stand_in_an_object_of_their_own() -> None:
    old = {"item": {**login(uuid(1), "db"), "trashed": False}}
    gone = {"item": {**login(uuid(2), "gone"), "trashed": True}}
    del old["item"]["state"], gone["item"]["state"]
    file = {"file": {"attrs": {"uuid": uuid(3), "name": "key.pem", "type": "U"}, "path": "files/doc9__key.pem"}}
    made = archive(
        export(vault(old, gone, file)), {"doc9__key.pem": b"pem"}, attributes={**ATTRIBUTES, "version": 2}
    )  # fmt: skip
    assert keys(read(made, files=True)) == {"DB": CANARY, "KEY_PEM": "pem"}
    assert reasons(read(made))["op://Shop/key.pem/key.pem"] == ("skipped", "attachment (--files)")


def test_items_may_have_no_uuid_no_state_and_no_sections() -> None:
    bare = {"overview": {"title": "bare"}, "details": {"loginFields": [{"designation": "password", "value": CANARY}]}}
    reading = read(shop(bare, {"details": {}}, {}))
    assert keys(reading) == {"BARE": CANARY}
    assert reading.entries[0].id == f"op://{VAULT}/title:bare/password"
    assert reading.entries[0].remarks == ("no uuid: known by its title",)


def test_two_items_that_nobody_can_tell_apart_are_rejected() -> None:
    bare = item(None, "bare", loginFields=[login_field("password", CANARY)])
    reading = read(shop(bare, bare, login(uuid(1), "a"), login(uuid(1), "b"), login(uuid(2), "bare")))
    assert keys(reading) == {"BARE": CANARY}
    assert [left.reason for left in reading.left if left.status == "rejected"] == [
        "same-title", "same-title", "same-uuid", "same-uuid",
    ]  # fmt: skip


# --- names and ids


def test_a_section_tells_equal_labels_apart() -> None:
    made = item(
        uuid(1), "Shop",
        section("Live", field("a1", "key", {"concealed": "1"}), field("a2", "url", {"concealed": "2"})),
        section("Test", field("b1", "Key", {"concealed": "3"})),
    )  # fmt: skip
    reading = read(shop(made))
    assert keys(reading) == {"SHOP_LIVE_KEY": "1", "SHOP_URL": "2", "SHOP_TEST_KEY": "3"}
    assert [entry.alone for entry in reading.entries] == [("LIVE_KEY",), ("URL",), ("TEST_KEY",)]
    assert [entry.address for entry in reading.entries] == ["Shop/Shop/Live/key", "Shop/Shop/url", "Shop/Shop/Test/Key"]
    assert [entry.id for entry in reading.entries] == [f"op://{VAULT}/{uuid(1)}/{one}" for one in ("a1", "a2", "b1")]


def test_equal_ids_are_told_apart_by_their_sections_or_rejected() -> None:
    one, two = field("k", "a", {"concealed": "1"}), field("k", "b", {"concealed": "2"})
    apart = read(shop(item(uuid(1), "x", section("s", one, name="s1"), section("t", two, name="s2"))))
    assert [entry.id for entry in apart.entries] == [f"op://{VAULT}/{uuid(1)}/{one}" for one in ("s1/k", "s2/k")]
    same = read(shop(item(uuid(1), "x", section("s", one, two))))
    assert [(left.status, left.reason) for left in same.left] == [("rejected", "same-field")] * 2
    assert not same.entries


@pytest.mark.parametrize(
    ("title", "key", "alone"),
    [("a/b c", "A_B_C", "PASSWORD"), ("2fa", "_2FA", "PASSWORD"), ("密码", "", "PASSWORD"), ("", "", "PASSWORD")],
)
def test_titles_become_names_or_none(title: str, key: str, alone: str) -> None:
    entry = read(shop(login(uuid(1), title))).entries[0]
    assert (entry.key, entry.alone) == ((key,), (alone,))
    assert entry.path == f"Shop/{title}"


def test_a_title_that_makes_no_name_lends_none_to_its_fields() -> None:
    reading = read(shop(login(uuid(1), "密码")), "username")
    assert [(entry.key, entry.alone) for entry in reading.entries] == [(("",), ("USERNAME",)), (("",), ("PASSWORD",))]


def test_what_a_terminal_would_obey_is_not_in_a_locator() -> None:
    made = item(uuid(1), "a\x1b[2Jb\u202e", section("", field("", "k\ud800\n", {"concealed": "1"})))
    entry = read(shop(made)).entries[0]
    assert entry.locator.isprintable()
    assert entry.id.isascii()
    assert entry.id.isprintable()


def test_an_id_cannot_reach_into_another_item() -> None:
    made = shop(
        item("a", "x", section("", field("b/c", "k", {"concealed": "1"}))),
        item(None, "a", section("", field("b", "k", {"concealed": "2"}), field("title:b", "l", {"concealed": "3"}))),
    )
    assert [entry.id for entry in read(made).entries] == [
        f"op://{VAULT}/a/b%2Fc", f"op://{VAULT}/title:a/b", f"op://{VAULT}/title:a/title%3Ab",
    ]  # fmt: skip


# --- one vault, some items


def test_one_vault_or_some_items_of_a_file() -> None:
    made = archive(
        export(
            vault(login(uuid(1), "a"), login(uuid(2), "b")),
            vault(login(uuid(3), "a"), name="Private", id_="private"),
        )
    )
    assert read(made).covers == (f"op://{VAULT}/", "op://private/")
    for name in ("Private", "private"):
        reading = read(made, vault=name)
        assert [entry.path for entry in reading.entries] == ["Private/a"]
        assert reading.covers == ("op://private/",)
        assert not any("Shop" in left.locator for left in reading.left)
    for name in (uuid(2), "b"):
        reading = read(made, items=[name])
        assert [entry.path for entry in reading.entries] == ["Shop/b"]
        assert reading.covers == (f"op://{VAULT}/{uuid(2)}/",)
    with pytest.raises(NotFound, match="no vault"):
        read(made, vault="Shopp")
    with pytest.raises(NotFound, match="every item"):
        read(made, vault="Private", items=["b"])


def test_a_file_lay_in_plaintext_and_so_did_each_value() -> None:
    reading = read(GOOD)
    assert not reading.one_file
    assert [(one.todo, one.place) for one in reading.remains] == [("delete", "export.1pux")]
    assert reading.entries[0].remains == (
        Remaining(todo="change", place="op://Shop/db/password", why="lay in plaintext in export.1pux"),
        Remaining(todo="delete", place="op://Shop/db/password"),
    )
    assert onepux.read(GOOD, "-", take=Take()).remains == ()


def test_json_of_any_depth_costs_no_stack() -> None:
    assert onepassword.documents(b"[1] {}\n 2", "x") == [[1], {}, 2]
    limit = onepassword.MAX_DEPTH
    assert onepassword.documents(b"[" * limit + b"]" * limit, "x")
    for data in (b"[" * (limit + 1) + b"]" * (limit + 1), b'{"a":' * 100_000, b"[" * 1_000_000):
        with pytest.raises(FormatError, match="depth"):
            onepassword.documents(data, "x")


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps(text).encode()))
def test_any_bytes_are_documents_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert isinstance(onepassword.documents(data, "x"), list)
