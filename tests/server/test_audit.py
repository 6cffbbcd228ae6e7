"""Reading the audit log: who may, what the filters say, that reading is recorded (S60, S61, S62)."""

import time
from typing import Any

import pytest

from tests.server.conftest import Database, code
from tests.server.live import Live, Office, stanza
from zopp.errors import Denied, UsageError, ZoppError
from zopp.protocol import messages
from zopp.tlog import checkpoint, entry, merkle, tiles

PROD = "api/production"


@pytest.fixture
def busy(office: Office) -> Office:
    """Two releases allowed, one denied."""
    sealed = office.brokered("alice-laptop", PROD)
    office.release("bob-laptop", [stanza(sealed)[0]], PROD)
    office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    office.do("alice-laptop", "binding.remove", scope={"env": PROD}, subject={"user": "carol"})
    with pytest.raises(Denied):
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    return office


def read(office: Office, query: str = "", who: str = "alice-laptop", path: str = "") -> dict[str, Any]:
    kind = "count" if path == "/count" else "entries"
    answer = office.members[who].server.get(f"/v1/audit/{office.name}{path}" + (f"?{query}" if query else ""))
    return messages.parse_answer(kind, answer.body)


def entries(found: dict[str, Any]) -> list[entry.Entry]:
    return [entry.parse(each["body"].encode()) for each in found["entries"]]


FILTERS = {
    "action=release": lambda e: e.action == "release",
    "outcome=deny": lambda e: e.outcome == "deny",
    "principal=bob-laptop": lambda e: e.actor == "bob-laptop",
    "user=carol": lambda e: e.actor == "carol-laptop",
    "project=api": lambda e: e.scope is not None and e.scope.kind != "workspace",
    "env=api/production": lambda e: str(e.scope) == PROD,
    "action=release&outcome=deny&user=carol&env=api/production": lambda e: (
        (e.action, e.outcome, e.actor, str(e.scope)) == ("release", "deny", "carol-laptop", PROD)
    ),
}


@pytest.mark.parametrize("query", FILTERS)
def test_s62_each_filter_alone_and_together(busy: Office, query: str) -> None:
    everything = entries(read(busy, "limit=500"))
    wanted = [e.id for e in everything if FILTERS[query](e)]
    found = entries(read(busy, f"{query}&limit=500"))
    assert wanted
    assert [e.id for e in found if e.action not in ("audit.read",)] == [
        id
        for id, e in zip(wanted, [e for e in everything if FILTERS[query](e)], strict=True)
        if e.action != "audit.read"
    ]


def test_time_is_a_filter(busy: Office) -> None:
    later = int(time.time()) + 100
    assert entries(read(busy, f"since={later}")) == []
    assert len(entries(read(busy, f"until={later}&limit=500"))) > 10


def test_count_agrees_with_list(busy: Office) -> None:
    for query in ("action=release", "outcome=deny&action=release", "user=bob"):
        assert read(busy, query, path="/count")["count"] == len(read(busy, query)["entries"])


def test_pages_go_on_without_gap(busy: Office) -> None:
    whole = read(busy, "limit=500&action=statement")["entries"]
    pages: list[Any] = []
    before = ""
    while True:
        page = read(busy, f"limit=3&action=statement{before}")
        pages += page["entries"]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert pages == whole


def test_the_export_is_the_whole_log_in_order(busy: Office) -> None:
    found: list[Any] = []
    begin = 0
    for _ in range(100):
        page = read(busy, f"from={begin}&limit=5", path="/export")
        found += page["entries"]
        if page["next"] is None:
            break
        begin = page["next"]
    assert [each["seq"] for each in found] == list(range(len(found)))
    head = checkpoint.read(page["checkpoint"].encode(), busy.log)
    leaves = [merkle.leaf_hash(each["body"].encode()) for each in found]
    assert merkle.root_of(leaves[: head.size]) == head.root


def test_tiles_and_bundles_lead_to_the_checkpoint(busy: Office) -> None:
    server = busy.members["alice-laptop"].server
    note = server.get("/v1/log/acme/checkpoint").body
    head = checkpoint.read(note, busy.log)
    hashes = server.get(f"/v1/log/acme/{tiles.Tile(0, 0, head.size).path()}").body
    leaves = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
    assert merkle.root_of(leaves) == head.root
    bundle = server.get(f"/v1/log/acme/{tiles.Tile(0, 0, head.size).path(entries=True)}").body
    assert [merkle.leaf_hash(body) for body in tiles.unpack_entries(bundle)] == leaves
    made = messages.parse_answer("proof", server.get("/v1/log/acme/proof/inclusion?index=3").body)
    now = checkpoint.read(made["checkpoint"].encode(), busy.log)
    merkle.verify_inclusion(leaves[3], 3, now.size, messages.hashes_of(made["hashes"]), now.root)
    made = messages.parse_answer("proof", server.get(f"/v1/log/acme/proof/consistency?from={head.size}").body)
    now = checkpoint.read(made["checkpoint"].encode(), busy.log)
    checkpoint.consistent(head, now, messages.hashes_of(made["hashes"]))


@pytest.mark.parametrize(
    "query",
    ["action=relaese", "outcome=maybe", "principal=nobody", "user=nobody", "project=nope", "env=api/nope", "colour=red",
     "action=release&action=release", "limit=-1", "since=yesterday"],
)  # fmt: skip
def test_an_unknown_filter_or_value_is_an_error(busy: Office, query: str) -> None:
    """S62: a mistake is no empty answer."""
    with pytest.raises(UsageError):
        read(busy, query)


@pytest.mark.parametrize("path", ["", "/count", "/export"])
def test_s61_others_may_not_read_and_that_is_recorded(busy: Office, path: str) -> None:
    """S61."""
    for who in ("bob-laptop", "carol-laptop"):
        with pytest.raises(Denied, match=who):
            read(busy, who=who, path=path)
    action = "audit.export" if path == "/export" else "audit.read"
    denied = entries(read(busy, f"action={action}&outcome=deny"))
    assert {e.actor for e in denied} == {"bob-laptop", "carol-laptop"}


def test_bundles_are_for_admins_and_auditors(busy: Office) -> None:
    with pytest.raises(Denied):
        busy.members["bob-laptop"].server.get("/v1/log/acme/tile/entries/000.p/2")
    busy.do("alice-laptop", "flag.set", flag="auditor", subject={"user": "bob"})
    assert busy.members["bob-laptop"].server.get("/v1/log/acme/tile/entries/000.p/2").body
    assert entries(read(busy, who="bob-laptop"))


def test_no_entry_of_another_workspace_is_returned(busy: Office, server: Live, database: Database) -> None:
    other = Office(server.origin, server.log_key, "other")
    other.genesis("zoe", "zoe-laptop")
    other.take(other.server_set("zoe-laptop"))
    other.upload(code(database), "zoe-laptop")
    found = entries(read(other, "limit=500", who="zoe-laptop"))
    assert {e.actor for e in found} == {"zoe-laptop"}
    with pytest.raises(ZoppError) as refused:
        other.members["zoe-laptop"].server.get("/v1/audit/acme")
    assert refused.value.code == "bad_signature"
    other.close()
