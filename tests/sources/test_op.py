"""The `op` command as a source: everything that it may answer instead of an item, then what is taken of one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.sources.onepassword_data import CANARY, PKCS8, VAULT, op_field, op_item, uuid
from zopp.errors import FormatError, NotFound, Unknown, UsageError, ZoppError
from zopp.exchange import scalars
from zopp.exchange.entry import Reading
from zopp.exchange.sources import op
from zopp.exchange.sources.onepassword import EXTRA, Take

Answer = bytes | str | Any


class Op:
    """An op that holds `items`, and answers as `answers` say where an argument list begins with a key of it."""

    def __init__(self, *items: dict[str, Any], answers: dict[tuple[str, ...], Answer] | None = None) -> None:
        self.items = items
        self.answers = answers or {}
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, arguments: Sequence[str]) -> bytes:
        words = tuple(arguments)
        self.calls.append(words)
        for start, answer in self.answers.items():
            if words[: len(start)] == start:
                if isinstance(answer, str):
                    raise op.Failed(answer)
                return answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        archived = "--include-archive" in words
        there = [one for one in self.items if archived or one.get("state") != "ARCHIVED"]
        if words[:2] == ("item", "list"):
            return json.dumps([{k: v for k, v in one.items() if k != "fields"} for one in there]).encode()
        found = [one for one in there if words[2] in (one["id"], one["title"])]
        if not found:
            raise op.Failed(f'[ERROR] 2026/01/01 00:00:00 "{words[2]}" isn\'t an item in the "Shop" vault.')
        return json.dumps(found[0]).encode()


def read(run: Callable[[Sequence[str]], bytes], *extra: str, files: bool = False, archived: bool = False, **more: Any):
    take = Take(extra=frozenset(extra), files=files, archived=archived)
    return op.read(run, **{"vault": "Shop", "take": take, **more})


def keys(reading: Reading) -> dict[str, Any]:
    return {entry.key[0]: entry.value for entry in reading.entries}


def reasons(reading: Reading) -> dict[str, tuple[str, str]]:
    return {left.locator: (left.status, left.reason) for left in reading.left}


DB = op_item(1, "db", op_field("password", "password", purpose="PASSWORD"))
WEB = op_item(2, "web", op_field("password", "password", "other", purpose="PASSWORD"))


def error(message: str) -> str:
    return f"[ERROR] 2026/01/01 00:00:00 {message}\n"


# --- op cannot answer

STOPS: list[tuple[str, type[ZoppError], str]] = [
    (error("You are not currently signed in. Please run `op signin --help`"), Unknown, "op.signed_out"),
    ("No accounts configured for use with 1Password CLI.\n", Unknown, "op.signed_out"),
    (error("account is not signed in"), Unknown, "op.signed_out"),
    (error("session expired, sign in to create a new session"), Unknown, "op.signed_out"),
    (error("error initializing client: authorization prompt dismissed, please try again"), Unknown, "op.locked"),
    (error("error initializing client: authorization timeout"), Unknown, "op.locked"),
    (error("connecting to desktop app timed out, make sure it is installed"), Unknown, "op.locked"),
    (error("(429) Too Many Requests: You've reached the maximum number of this type of requests"), Unknown, "op.rate"),
    (error("rate limit exceeded"), Unknown, "op.rate"),
    (error('"Shop" isn\'t a vault in this account. Specify the vault with its ID or name.'), NotFound, "op.vault"),
    (error('"Shop" isn\u2019t a vault in this account.'), NotFound, "op.vault"),
    (error("a vault query must be provided when this command is called by a service account."), UsageError, "op.vault"),
    (error("dial tcp: lookup my.1password.com: no such host"), Unknown, "op.failed"),
    ("", Unknown, "op.failed"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "kind", "code"), STOPS)
@pytest.mark.parametrize("at", [("item", "list"), ("item", "get")])
def test_where_op_cannot_answer_the_import_stops(
    at: tuple[str, ...], said: str, kind: type[ZoppError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        read(Op(DB, WEB, answers={at: said}))
    assert caught.value.code == code
    assert str(caught.value).startswith("1password vault Shop: ")
    assert "2026/01/01" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_rate_limit_stops_after_the_items_that_were_read() -> None:
    run = Op(DB, WEB, answers={("item", "get", uuid(2)): error("(429) Too Many Requests")})
    with pytest.raises(Unknown, match="no more requests") as caught:
        read(run)
    assert caught.value.exit_code == 3
    assert len(run.calls) == 4


GARBAGE = [b"", b"[", CANARY.encode(), b"\xff", f'[{{"id": "{CANARY}", "id": 1}}]'.encode(), b"[" * 1000, b"[NaN]"]


@pytest.mark.parametrize("data", [*GARBAGE[1:], b"7", b'"x"', b"[7]", b"[[]]"])
def test_a_list_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        read(Op(DB, answers={("item", "list"): data}))
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("data", [*GARBAGE, b"7", b"{}", b"[{}]", b"{} {}", b"[]"])
def test_an_item_that_is_none_is_rejected_alone(data: bytes) -> None:
    reading = read(Op(DB, WEB, answers={("item", "get", uuid(1)): data}))
    assert keys(reading) == {"WEB": "other"}
    assert [left.status for left in reading.left] == ["rejected"]
    assert reading.left[0].id == f"op://{VAULT}/{uuid(1)}/"
    assert reading.left[0].locator == f"op://{VAULT}/{uuid(1)}"
    assert CANARY not in repr(reading)


@pytest.mark.parametrize(
    "other", [op_item(9, "db", op_field("password", "x")), {**DB, "vault": {"id": "another"}}, {**DB, "id": CANARY}]
)
def test_an_item_that_was_not_asked_for_is_rejected(other: dict[str, Any]) -> None:
    reading = read(Op(DB, answers={("item", "get", uuid(1)): other}))
    assert not reading.entries
    assert [left.reason for left in reading.left] == ["other-item"]


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (error(f'"{uuid(1)}" isn\'t an item. Specify the item with its UUID, name, or domain.'), "gone"),
        (error(f'"{uuid(1)}" isn\u2019t an item in the "Shop" vault.'), "gone"),
        (error("(403) Forbidden: You aren't authorized to perform this action"), "denied"),
    ],
)
def test_what_is_denied_or_deleted_meanwhile_is_rejected_alone(said: str, rule: str) -> None:
    reading = read(Op(DB, WEB, answers={("item", "get", uuid(1)): said}))
    assert keys(reading) == {"WEB": "other"}
    assert [(left.status, left.reason, left.id) for left in reading.left] == [
        ("rejected", rule, f"op://{VAULT}/{uuid(1)}/")
    ]
    assert uuid(1) in reading.left[0].says


@pytest.mark.parametrize("id_", ["", "-rf", "a b", "x/../y", "x" * 200, 7, None, [CANARY]])
def test_a_listed_id_that_is_none_reaches_no_argument(id_: Any) -> None:
    run = Op(WEB, answers={("item", "list"): [{**DB, "id": id_}, WEB]})
    reading = read(run)
    assert keys(reading) == {"WEB": "other"}
    assert [(left.status, left.id) for left in reading.left] == [("rejected", "")]
    assert [call[2] for call in run.calls if call[1] == "get"] == [uuid(2)]


@pytest.mark.parametrize("names", [{"vault": "--account"}, {"vault": "-x"}, {"vault": ""}, {"items": ["-f"]}])
def test_a_name_that_is_an_option_is_refused_before_op_is_asked(names: dict[str, Any]) -> None:
    run = Op(DB)
    with pytest.raises(UsageError):
        read(run, **names)
    assert not run.calls


def test_a_name_of_two_items_is_said() -> None:
    many = error('More than one item matches "db". Try again and specify the item by its ID:')
    with pytest.raises(UsageError, match="more than one"):
        read(Op(DB, answers={("item", "get", "db"): many}), items=["db"])
    with pytest.raises(NotFound, match="does not have an item"):
        read(Op(DB), items=["nope"])


# --- what is shown of its errors


def test_an_error_is_shown_without_the_values_that_were_read() -> None:
    values = [CANARY, 'quo"ted\nlines-of-it', "ünïcode-secret", "  padded-secret ", "ab", "totp-code", "old-password"]
    first = op_item(
        1, "db",
        *[op_field(f"f{n}", f"f{n}", value) for n, value in enumerate(values[:5])],
        op_field("otp", "otp", "otpauth", "OTP", totp=values[5]),
        op_field("h", "h", "x", password_details={"history": [values[6]]}),
    )  # fmt: skip
    for value in values:
        for said in (value, json.dumps(value), json.dumps(value, ensure_ascii=False), value.strip()):
            run = Op(first, WEB, answers={("item", "get", uuid(2)): error(f"cannot: <{said}> failed")})
            with pytest.raises(Unknown) as caught:
                read(run)
            assert caught.value.code == "op.failed"
            for line in (value, value.strip(), *value.splitlines(), json.dumps(value)[1:-1]):
                assert line not in str(caught.value).replace("vault", "")


def test_an_error_is_one_short_line_that_a_terminal_does_not_obey() -> None:
    shown = op.filtered("first\n" + error("x\x1b[2J" + "y" * 1000), [])
    assert "\x1b" not in shown
    assert shown.startswith("x\\x1b[2J")
    assert len(shown) < 220


@given(st.text("abé7-", min_size=1), st.text("abé7- \\n<"), st.text("abé7- \\n>"))
def test_no_value_is_ever_shown(value: str, before: str, after: str) -> None:
    shown = op.filtered(f"{before}<{value}>{after}", [value])
    assert value not in shown or (len(value) < 4 and f"<{value}>" not in shown)


# --- what is taken

FIELDS = [
    op_field("username", "username", "shop", "STRING", purpose="USERNAME"),
    op_field("password", "password", CANARY, purpose="PASSWORD"),
    op_field("notesPlain", "notesPlain", "a note", "STRING", purpose="NOTES"),
    op_field("pin", "pin", "0000", section={"id": "s1", "label": "main"}),
    op_field("host", "host", "db.example", "STRING"),
    op_field("site", "site", "https://db.example", "URL"),
    op_field("mail", "mail", "db@example.org", "EMAIL"),
    op_field("tel", "tel", "000", "PHONE"),
    op_field("kind", "kind", "postgresql", "MENU"),
    op_field("cc", "cc", "0000", "CREDIT_CARD_NUMBER"),
    op_field("private_key", "private key", PKCS8, "SSHKEY"),
    op_field("otp", "one-time password", "otpauth://x", "OTP", totp="123456"),
    op_field("linked", "linked", uuid(9), "REFERENCE"),
    op_field("since", "since", "2026-01-01", "DATE"),
    op_field("until", "until", "202601", "MONTH_YEAR"),
    op_field("home", "home", "x", "ADDRESS"),
    op_field("future", "future", CANARY, "PASSKEY"),
    op_field("odd", "odd", CANARY, f"{CANARY} x"),
    op_field("nothing", "nothing", None, "STRING"),
]
EVERY = op_item(1, "db", *FIELDS, urls=[{"href": "https://a.example"}, {"primary": True, "href": "https://b.example"}])


def test_by_default_only_secrets_are_taken_and_the_rest_is_said() -> None:
    reading = read(Op(EVERY))
    assert keys(reading) == {"DB_PASSWORD": CANARY, "DB_PIN": "0000", "DB_PRIVATE_KEY": PKCS8}
    found = {locator.rpartition("/")[2]: reason for locator, (_, reason) in reasons(reading).items()}
    assert found == {
        "username": "not asked for (--with username)",
        "notesPlain": "not asked for (--with note)",
        **dict.fromkeys(("host", "mail", "tel", "kind", "cc"), "not asked for (--with string)"),
        "site": "not asked for (--with url)",
        "url": "not asked for (--with url)",
        "one-time password": "one-time password",
        "linked": "reference",
        "since": "date",
        "until": "month and year",
        "home": "address",
        "future": "unknown kind PASSKEY",
        "odd": "unknown kind",
    }
    assert CANARY not in repr(reading)
    assert reading.entries[0].version == "3"
    assert reading.entries[0].id == f"op://{VAULT}/{uuid(1)}/password"
    assert reading.covers == (f"op://{VAULT}/",)
    assert reading.plaintext == ""
    assert not reading.one_file


def test_everything_is_taken_where_it_is_asked_for() -> None:
    assert set(keys(read(Op(EVERY), *EXTRA))) == {
        "DB_USERNAME", "DB_PASSWORD", "DB_NOTESPLAIN", "DB_PIN", "DB_HOST", "DB_SITE", "DB_MAIL", "DB_TEL", "DB_KIND",
        "DB_CC", "DB_PRIVATE_KEY", "DB_URL",
    }  # fmt: skip


def test_the_user_name_of_a_database_is_one() -> None:
    run = Op(op_item(1, "db", op_field("username", "user", "shop", "STRING"), op_field("password", "password")))
    assert keys(read(run, "username")) == {"DB_USER": "shop", "DB_PASSWORD": CANARY}
    assert keys(read(run, "string")) == {"DB": CANARY}


def test_calls_are_lists_of_ids_and_flags_and_hold_no_value() -> None:
    run = Op(EVERY, WEB)
    read(run, *EXTRA)
    assert run.calls == [
        ("item", "list", "--vault", "Shop", "--format", "json"),
        ("item", "list", "--vault", "Shop", "--format", "json", "--include-archive"),
        ("item", "get", uuid(1), "--vault", "Shop", "--format", "json"),
        ("item", "get", uuid(2), "--vault", "Shop", "--format", "json"),
    ]


def test_objects_one_after_another_are_as_good_as_a_list() -> None:
    stream = b"".join([json.dumps(one, indent=2).encode() + b"\n" for one in (DB, WEB)])
    reading = read(Op(DB, WEB, answers={("item", "list"): stream, ("item", "get", uuid(1)): [DB]}))
    assert keys(reading) == {"DB": CANARY, "WEB": "other"}
    assert keys(read(Op(answers={("item", "list"): b""}))) == {}


@pytest.mark.parametrize("value", [None, "[use 'op item get x --reveal' to reveal]"])
def test_a_concealed_field_without_a_value_is_an_error_that_says_what_to_try(value: str | None) -> None:
    run = Op(op_item(1, "db", op_field("password", "password", value)))
    left = read(run).left[0]
    assert (left.status, left.reason) == ("rejected", "no-value")
    assert "--reveal" in left.says
    again = read(run, reveal=True)
    assert "--reveal" in run.calls[-1]
    assert [left.reason for left in again.left] == ["empty" if value is None else "no-value"]
    assert not again.entries


def test_an_empty_concealed_field_is_skipped() -> None:
    reading = read(Op(op_item(1, "db", op_field("password", "password", ""))))
    assert reasons(reading) == {"op://Shop/db/password": ("skipped", "empty")}


@pytest.mark.parametrize("flag", [{}, {"state": "ARCHIVED"}])
def test_archived_items_are_known_but_neither_read_nor_pruned(flag: dict[str, str]) -> None:
    old = {**op_item(3, "old", op_field("password", "password", "x")), "state": "ARCHIVED"}
    shown = {k: v for k, v in old.items() if k != "state"} | flag
    answers = {
        ("item", "list", "--vault", "Shop", "--format", "json", "--include-archive"): [DB, shown],
        ("item", "get", uuid(3)): shown,
    }
    run = Op(DB, old, answers=answers)
    reading = read(run)
    assert keys(reading) == {"DB": CANARY}
    assert [(left.reason, left.id) for left in reading.left] == [("archived (--archived)", f"op://{VAULT}/{uuid(3)}/")]
    assert [call[2] for call in run.calls if call[1] == "get"] == [uuid(1)]
    assert keys(read(run, archived=True)) == {"DB": CANARY, "OLD": "x"}
    assert "--include-archive" in run.calls[-1]


def test_password_history_is_said_and_not_taken() -> None:
    field = op_field("password", "password", "new", password_details={"strength": "GOOD", "history": [CANARY]})
    reading = read(Op(op_item(1, "db", field)))
    assert keys(reading) == {"DB": "new"}
    assert reasons(reading) == {"op://Shop/db/password history": ("skipped", "old passwords")}


def test_equal_labels_in_two_sections_and_a_title_with_a_slash() -> None:
    made = op_item(
        1, "shop/live",
        op_field("a", "key", "1", section={"id": "s1", "label": "Live"}),
        op_field("b", "key", "2", section={"id": "s2", "label": "Test"}),
    )  # fmt: skip
    reading = read(Op(made))
    assert keys(reading) == {"SHOP_LIVE_LIVE_KEY": "1", "SHOP_LIVE_TEST_KEY": "2"}
    assert [entry.id for entry in reading.entries] == [f"op://{VAULT}/{uuid(1)}/a", f"op://{VAULT}/{uuid(1)}/b"]
    assert reading.entries[0].path == "Shop/shop/live"


def test_some_items_are_asked_for_by_title_or_id_once() -> None:
    run = Op(DB, WEB)
    reading = read(run, items=["db", uuid(1), "db"])
    assert keys(reading) == {"DB": CANARY}
    assert reading.covers == (f"op://{VAULT}/{uuid(1)}/",)
    assert {call[1] for call in run.calls} == {"get"}
    assert len(run.calls) == 2


def attachment(size: Any = 3, **more: Any) -> dict[str, Any]:
    return op_item(1, "keystore", files=[{"id": "file1", "name": "key.p12", "size": size, **more}], category="DOCUMENT")


def test_attachments_are_read_by_their_ids() -> None:
    run = Op(attachment(), answers={("read",): b"\x00\xff\n"})
    assert reasons(read(run)) == {"op://Shop/keystore/key.p12": ("skipped", "attachment (--files)")}
    reading = read(run, files=True)
    assert scalars.to_bytes(keys(reading)["KEYSTORE"]) == b"\x00\xff\n"
    assert run.calls[-1] == ("read", "--no-newline", f"op://{VAULT}/{uuid(1)}/file1")


@pytest.mark.parametrize(
    ("item", "answer", "rule"),
    [
        (attachment(), b"\x00\xff", "attachment-size"),
        (attachment(), b"\x00\xff\n\n", "attachment-size"),
        (attachment((1 << 20) + 1), b"", "value-size"),
        (attachment(-1), b"", "value-size"),
        (attachment("3"), b"", "value-size"),
        (attachment(), error('"x" isn\'t an item'), "gone"),
        (attachment(id="../x"), b"", "odd-id"),
    ],
)
def test_an_attachment_that_cannot_be_read_is_rejected(item: dict[str, Any], answer: Answer, rule: str) -> None:
    reading = read(Op(item, answers={("read",): answer}), files=True)
    assert not reading.entries
    assert [(left.status, left.reason) for left in reading.left] == [("rejected", rule)]


def test_a_rate_limit_at_an_attachment_stops_the_import() -> None:
    with pytest.raises(Unknown, match="no more requests"):
        read(Op(attachment(), answers={("read",): error("(429) Too Many Requests")}), files=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below, max_size=3),
    max_leaves=8,
)  # fmt: skip
PARTS = ("fields", "files", "urls", "title", "vault", "state", "version", "category")


@given(st.dictionaries(st.sampled_from(PARTS), JSON))
def test_any_item_is_read_or_rejected(changes: dict[str, Any]) -> None:
    changed = {**DB, **changes}
    reading = read(Op(WEB, answers={("item", "list"): [DB, WEB], ("item", "get", uuid(1)): changed}), *EXTRA)
    assert keys(reading)["WEB"] == "other"


FIELD = st.dictionaries(
    st.sampled_from(("id", "type", "purpose", "label", "value", "section", "password_details")), JSON
)


@given(st.lists(FIELD, max_size=3))
def test_any_fields_are_read_or_rejected(fields: list[dict[str, Any]]) -> None:
    reading = read(Op({**DB, "fields": fields}, WEB), *EXTRA)
    assert keys(reading)["WEB"] == "other"


@given(st.binary(max_size=80))
def test_any_bytes_of_op_give_a_reading_or_an_error_of_ours(data: bytes) -> None:
    for at in (("item", "list"), ("item", "get")):
        try:
            read(Op(DB, answers={at: data}))
        except ZoppError as exc:
            assert exc.code == "json"  # noqa: PT017  either is right
