"""KV version 2, the real OpenBao and the stand-in held to the same expectations."""

from __future__ import annotations

import pytest

from tests.sources.servers import Bao, Standin
from zopp.errors import Denied, NotFound, UsageError, ZoppError
from zopp.exchange.entry import Reading
from zopp.exchange.sources import vault as source
from zopp.exchange.sources.vault_http import Server

Vault = Bao | Standin


def read(server: Server, path: str, *, mount: str = "", kv: int = 0, **options: object) -> Reading:
    engine, below = source.find_engine(server, mount, path, kv)
    return source.read(server, engine, below, **options)  # type: ignore[arg-type]


def keys(reading: Reading) -> dict[str, object]:
    return {".".join(entry.key): entry.value for entry in reading.entries}


def left(reading: Reading) -> list[tuple[str, str, str]]:
    return sorted([(one.locator, one.status, one.reason) for one in reading.left])


def as_token(vault: Vault, caps: dict[str, list[str]]) -> Server:
    made = Server(vault.address)
    made.use_token(vault.token(caps))
    return made


def test_a_secret_with_its_fields(vault: Vault, kv: str, server: Server) -> None:
    vault.put(kv, "api/production", {"DATABASE_URL": "postgres://x", "db-password": "pw", "token": "t\n"})
    reading = read(server, f"{kv}/api/production")
    assert keys(reading) == {"DATABASE_URL": "postgres://x", "DB_PASSWORD": "pw", "token": "t\n"}
    first = next(entry for entry in reading.entries if entry.name == "db-password")
    assert first.address == first.locator == f"{kv}/api/production/db-password"
    assert first.id == f"{vault.address}/{kv}/api/production#db-password"
    assert (first.version, first.env, first.alone) == ("1", "", ("DB_PASSWORD",))
    assert {one.todo for one in first.remains} == {"delete"}
    assert reading.covers == (f"{vault.address}/{kv}/api/production#", f"{vault.address}/{kv}/api/production/")
    assert not reading.left and not reading.warnings


def test_a_deep_tree_flat_and_by_path(vault: Vault, kv: str, server: Server) -> None:
    vault.put(kv, "api/dev/db", {"password": "1"})
    vault.put(kv, "api/dev/eu/west/cache", {"url": "2"})
    vault.put(kv, "api/prod/db", {"password": "3"})
    vault.put(kv, "other", {"x": "4"})
    deep = "/".join(["d"] * 40)
    vault.put(kv, f"api/{deep}", {"end": "5"})
    assert keys(read(server, f"{kv}/api")) == {
        "DEV_DB_PASSWORD": "1", "DEV_EU_WEST_CACHE_URL": "2", "PROD_DB_PASSWORD": "3", "D_" * 40 + "END": "5",
    }  # fmt: skip
    placed = {(entry.env, entry.key[0]): entry.value for entry in read(server, f"{kv}/api", layout="path").entries}
    assert placed == {
        ("dev", "DB_PASSWORD"): "1", ("dev", "EU_WEST_CACHE_URL"): "2", ("prod", "DB_PASSWORD"): "3",
        ("d", "D_" * 39 + "END"): "5",
    }  # fmt: skip
    assert len(read(server, kv).entries) == 5


def test_a_name_that_is_a_secret_and_a_folder(vault: Vault, kv: str, server: Server) -> None:
    vault.put(kv, "app", {"top": "1"})
    vault.put(kv, "app/app", {"top": "2"})
    vault.put(kv, "app2", {"top": "3"})
    assert keys(read(server, kv)) == {"APP_TOP": "1", "APP_APP_TOP": "2", "APP2_TOP": "3"}
    assert keys(read(server, f"{kv}/app")) == {"top": "1", "APP_TOP": "2"}


def test_what_is_deleted_is_skipped_with_the_reason(vault: Vault, kv: str, server: Server) -> None:
    for name in ("kept", "soft", "hard", "purged"):
        vault.put(kv, f"app/{name}", {"a": name})
    vault.delete(kv, "app/soft")
    vault.destroy(kv, "app/hard", 1)
    vault.purge(kv, "app/purged")
    reading = read(server, f"{kv}/app")
    assert keys(reading) == {"KEPT_A": "kept"}
    assert left(reading) == [
        (f"{kv}/app/hard", "skipped", "destroyed"),
        (f"{kv}/app/soft", "skipped", "deleted (soft)"),
    ]
    # what is deleted at the source is gone from it, and --prune may say so
    assert [one.id for one in reading.left] == ["", ""]
    assert left(read(server, f"{kv}/app/soft")) == [(f"{kv}/app/soft", "skipped", "deleted (soft)")]


def test_one_branch_that_may_not_be_seen(vault: Vault, kv: str) -> None:
    vault.put(kv, "app/open", {"a": "1"})
    vault.put(kv, "app/closed", {"a": "2"})
    vault.put(kv, "app/team/secret", {"a": "3"})
    vault.put(kv, "app/team2/x", {"a": "4"})
    server = as_token(
        vault,
        {
            f"{kv}/metadata/*": ["list"], f"{kv}/data/*": ["read"],
            f"{kv}/data/app/closed": ["deny"], f"{kv}/metadata/app/team/*": ["deny"],
        },
    )  # fmt: skip
    reading = read(server, f"{kv}/app")
    server.close()
    assert keys(reading) == {"OPEN_A": "1", "TEAM2_X_A": "4"}
    assert left(reading) == [(f"{kv}/app/closed", "rejected", "denied"), (f"{kv}/app/team/", "rejected", "denied")]
    ids = sorted([one.id for one in reading.left])
    assert ids == [f"{vault.address}/{kv}/app/closed#", f"{vault.address}/{kv}/app/team/"]
    assert not any(entry.id.startswith(tuple(ids)) for entry in reading.entries)


def test_only_one_secret_may_be_read(vault: Vault, kv: str) -> None:
    vault.put(kv, "app/db", {"a": "1"})
    vault.put(kv, "app/db/below", {"a": "2"})
    server = as_token(vault, {f"{kv}/data/app/db": ["read"]})
    reading = read(server, f"{kv}/app/db")
    assert keys(reading) == {"a": "1"}
    assert reading.covers == (f"{vault.address}/{kv}/app/db#",)
    assert reading.warnings == ("may not be listed, so only what stands at this very path is read",)
    with pytest.raises(ZoppError) as raised:
        read(server, f"{kv}/app", kv=2)
    server.close()
    assert isinstance(raised.value, Denied) and f"{kv}/data/app" in raised.value.hint


def test_a_folder_that_may_be_read_below_only(vault: Vault, kv: str) -> None:
    vault.put(kv, "app/db", {"a": "1"})
    server = as_token(vault, {f"{kv}/data/app/*": ["read"], f"{kv}/metadata/app/*": ["list"]})
    reading = read(server, f"{kv}/app")
    server.close()
    assert keys(reading) == {"DB_A": "1"}
    assert not reading.left
    assert f"{vault.address}/{kv}/app#" not in reading.covers
    assert len(reading.warnings) == 1


def test_values_that_are_no_texts(vault: Vault, kv: str, server: Server) -> None:
    vault.put(kv, "app", {"n": 5432, "b": True, "z": None, "l": [1, "x"], "m": {"b": 1, "a": "ü"}, "f": 1.5, "e": ""})
    reading = read(server, f"{kv}/app")
    assert keys(reading) == {
        "n": "5432", "b": "true", "z": "null", "l": '[1,"x"]', "m": '{"a":"ü","b":1}', "f": "1.5", "e": "",
    }  # fmt: skip
    remarks = {entry.name: entry.remarks for entry in reading.entries}
    assert (
        remarks["n"] == ("a number as JSON text",) and remarks["e"] == () and remarks["l"] == ("a list as JSON text",)
    )


def test_a_number_that_the_server_cannot_hold_is_warned_of(vault: Vault, kv: str, server: Server) -> None:
    vault.put(kv, "app", {"account": 12345678901234567890123, "fine": 9007199254740991})
    reading = read(server, f"{kv}/app")
    assert reading.warnings == (
        f"the server holds numbers as floats, so these may not be what was stored: {kv}/app/account",
    )
    if vault.real:  # measured: OpenBao itself changes it
        assert keys(reading)["account"] == "1.2345678901234568e+22"


def test_custom_metadata_is_the_note(vault: Vault, kv: str, server: Server) -> None:
    vault.put(kv, "app", {"a": "1"})
    vault.note(kv, "app", {"owner": "payments", "about": "the key of it"})
    (entry,) = read(server, f"{kv}/app").entries
    assert entry.note == "about: the key of it\nowner: payments"


def test_versions_are_steps_oldest_first(vault: Vault, kv: str, server: Server) -> None:
    for number in range(1, 6):
        vault.put(kv, "app/five", {"a": f"five-{number}"})
    vault.put(kv, "app/one", {"a": "one-1"})
    for number in range(1, 4):
        vault.put(kv, "app/gaps", {"a": f"gaps-{number}"})
    vault.destroy(kv, "app/gaps", 2)
    reading = read(server, f"{kv}/app", versions=4)
    assert keys(reading) == {"FIVE_A": "five-5", "ONE_A": "one-1", "GAPS_A": "gaps-3"}
    steps = [[(entry.key[0], entry.version, entry.value) for entry in step] for step in reading.older]
    assert steps == [
        [("FIVE_A", "2", "five-2")],
        [("FIVE_A", "3", "five-3"), ("GAPS_A", "1", "gaps-1")],
        [("FIVE_A", "4", "five-4")],
    ]
    assert left(reading) == [(f"{kv}/app/gaps (version 2)", "skipped", "destroyed")]
    assert {entry.id for step in reading.older for entry in step} <= {entry.id for entry in reading.entries}


@pytest.mark.parametrize("spelling", ["{kv}/app", "/{kv}/app/", "{kv}/data/app", "{kv}/metadata/app"])
def test_what_people_paste(vault: Vault, kv: str, server: Server, spelling: str) -> None:
    vault.put(kv, "app", {"a": "1"})
    for version in (0, 2):
        reading = read(server, spelling.format(kv=kv), kv=version)
        assert [entry.id for entry in reading.entries] == [f"{vault.address}/{kv}/app#a"]
        below = spelling.format(kv="").strip("/")
        assert read(server, below, mount=kv, kv=version).entries == reading.entries


def test_a_secret_that_is_really_called_data(vault: Vault, kv: str, server: Server) -> None:
    vault.put(kv, "data/app", {"a": "1"})
    vault.put(kv, "app", {"a": "2"})
    assert keys(read(server, f"{kv}/data/app")) == {"a": "1"}


def test_names_that_must_be_quoted(vault: Vault, kv: str, server: Server) -> None:
    """What would mean something in an address, and to a terminal, is a name like others."""
    for number, name in enumerate(("a b", "a%20b", "a#b", "a?b", "ü", "a+b", "a;b")):
        vault.put(kv, f"app/{_quoted(vault, name)}", {f"f{number}#/x": "1"})
    reading = read(server, f"{kv}/app")
    found = sorted([entry.path.rpartition("/")[2] for entry in reading.entries])
    assert found == sorted(["a b", "a%20b", "a#b", "a?b", "ü", "a+b", "a;b"])
    assert len({entry.id for entry in reading.entries}) == 7
    assert all(entry.id.count("#") == 1 for entry in reading.entries)


def _quoted(vault: Vault, name: str) -> str:
    from urllib.parse import quote

    return quote(name) if vault.real else name


@pytest.mark.parametrize("path", ["", "/", "..", "{kv}/../sys", "{kv}/a//b", "{kv}/./a", "{kv}/a\nb"])
def test_paths_that_mean_another_are_refused(vault: Vault, kv: str, server: Server, path: str) -> None:
    with pytest.raises(UsageError):
        read(server, path.format(kv=kv))


def test_nothing_there(vault: Vault, kv: str, server: Server) -> None:
    vault.put(kv, "app", {"a": "1"})
    with pytest.raises(NotFound) as raised:
        read(server, f"{kv}/appp")
    assert raised.value.code == "vault.empty"
    with pytest.raises((NotFound, UsageError)):
        read(server, "no-such-mount/app")
    with pytest.raises(NotFound):
        read(server, "no-such-mount/app", kv=2)


def test_the_wrong_version_said_by_hand(vault: Vault, kv: str, server: Server) -> None:
    vault.put(kv, "app", {"a": "1"})
    with pytest.raises(ZoppError) as raised:
        read(server, f"{kv}/app", kv=1)
    assert raised.value.hint == "say --kv 2"


def test_without_a_word_of_the_server_the_version_has_to_be_said(vault: Vault, kv: str) -> None:
    vault.put(kv, "app", {"a": "1"})
    server = as_token(vault, {"nothing/here": ["read"]})
    if not vault.real:  # it answers everyone who has a token
        del vault.mounts[kv]
    with pytest.raises(UsageError) as raised:
        read(server, f"{kv}/app")
    server.close()
    assert "--kv 2" in raised.value.hint


def test_version_1(vault: Vault, server: Server) -> None:
    vault.mount("kv-old", 1)
    vault.put("kv-old", "app", {"a": "1", "n": 5}, version=1)
    vault.put("kv-old", "app/db/x", {"b-c": "2"}, version=1)
    reading = read(server, "kv-old/app", versions=3)
    assert keys(reading) == {"a": "1", "n": "5", "DB_X_B_C": "2"}
    assert {entry.version for entry in reading.entries} == {""}
    assert reading.older == ()
    assert reading.warnings == ("a KV engine of version 1 keeps no earlier versions",)


def test_a_secret_without_fields(vault: Vault, kv: str, server: Server) -> None:
    vault.put(kv, "app/empty", {})
    assert left(read(server, f"{kv}/app")) == [(f"{kv}/app/empty", "skipped", "has no fields")]
