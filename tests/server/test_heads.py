"""The heads of the logs against their rows: what an owner who disables triggers does unseen by Postgres."""

import pytest

from tests.server.conftest import Database
from tests.server.test_immutable import Log, bodies
from zopp_server import embedded
from zopp_server.db import check, heads


def findings(database: Database) -> list[str]:
    return list(database.run("zopp_app", heads.findings))


@pytest.mark.parametrize("sizes", [(), (1,), (255,), (256,), (257,), (200, 200, 200), (256, 256, 3)])
def test_honest_heads_pass(database: Database, sizes: tuple[int, ...]) -> None:
    log = Log()
    for size in sizes:
        log.grow(database, bodies(size))
    Log("other").grow(database, bodies(2))
    assert findings(database) == []
    assert database.run("zopp_app", check.findings) == []


def test_a_head_over_a_full_tile_of_tiles_passes(database: Database) -> None:
    """65,536 entries fill a tile of level 1; each place of the edge is at another level."""
    log = Log()
    for size in [4096] * 16 + [257]:
        log.grow(database, bodies(size))
    assert findings(database) == []


TAMPERED = {
    "an entry's body": "UPDATE audit.entry SET body = 'x' WHERE seq = 300",
    "an entry's body and leaf": "UPDATE audit.entry SET body = 'x', leaf = sha256('\\x0078') WHERE seq = 300",
    "an entry that is gone": "DELETE FROM audit.entry WHERE seq = 299",
    "the last entry gone": "DELETE FROM audit.entry WHERE seq = 300",
    "an entry beyond the head": "INSERT INTO audit.entry SELECT log_id, 301, ts, action, outcome, actor, on_behalf,"
    " project, env, req_id, leaf, body FROM audit.entry WHERE seq = 300",
    "two entries exchanged": "UPDATE audit.entry SET seq = -seq - 1 + 1000 WHERE seq IN (299, 300)",
    "a tile": "UPDATE audit.tile SET data = sha256('x') || substr(data, 33)",
    "a tile that is gone": "DELETE FROM audit.tile",
    "a tile elsewhere": "UPDATE audit.tile SET n = 1",
    "the head's root": "UPDATE audit.log SET root = sha256('x')",
    "the head's frontier": "UPDATE audit.log SET frontier = sha256('x') || substr(frontier, 33)",
    "the head set back": "UPDATE audit.log SET size = 256, frontier = substr(frontier, 1, 32),"
    " root = substr(frontier, 1, 32)",
    "a head that is gone": "DELETE FROM audit.log",
}


@pytest.mark.parametrize("sql", TAMPERED.values(), ids=TAMPERED)
def test_an_owner_who_changes_is_found(database: Database, sql: str) -> None:
    log = Log()
    log.grow(database, bodies(301))
    tables = ("audit.entry", "audit.tile", "audit.log")
    off = "".join(f"ALTER TABLE {table} DISABLE TRIGGER ALL;" for table in tables)
    database.execute(embedded.SUPERUSER, f"{off} {sql}")
    found = findings(database)
    assert found
    assert all(line.startswith("log system: ") for line in found)
