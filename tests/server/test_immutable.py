"""The log in Postgres: what the running role cannot do, what not even the owner does unasked, and how it grows."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from tests.server.conftest import Database
from zopp.tlog import merkle, tiles
from zopp_server import embedded

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
APPEND = "SELECT audit.append(" + ", ".join(f"${n}" for n in range(1, 20)) + ")"


class Log:
    """A log as the server will keep it: the tree in Python, the rows in Postgres."""

    def __init__(self, name: str = "system") -> None:
        self.name = name
        self.frontier = merkle.EMPTY
        self.nodes: dict[tuple[int, int], bytes] = {}

    def batch(self, bodies: Sequence[bytes], **changes: Any) -> list[Any]:
        """The arguments of audit.append for these bodies; `changes` replaces some by name."""
        appended = merkle.append(self.frontier, [merkle.leaf_hash(body) for body in bodies])
        for index, body in enumerate(bodies, self.frontier.size):
            self.nodes[0, index] = merkle.leaf_hash(body)
        for level in range(8):
            for index in range(appended.after.size >> (level + 1)):
                left, right = self.nodes[level, 2 * index], self.nodes[level, 2 * index + 1]
                self.nodes.setdefault((level + 1, index), merkle.node_hash(left, right))
        full = []
        for level in range(2):
            width = 256 ** (level + 1)
            for n in range(self.frontier.size // width, appended.after.size // width):
                data = b"".join(self.nodes[8 * level, 256 * n + i] for i in range(256))
                full.append((level, n, data))
        count = len(bodies)
        arguments = {
            "log": self.name,
            "origin": f"origin of {self.name}",
            "size": self.frontier.size,
            "ts": [NOW] * count,
            "action": ["release"] * count,
            "outcome": [0] * count,
            "actor": ["laptop"] * count,
            "on_behalf": [None] * count,
            "project": ["api"] * count,
            "env": ["dev"] * count,
            "req_id": [uuid.uuid4() for _ in bodies],
            "body": list(bodies),
            "root": appended.root,
            "frontier": b"".join(appended.after.hashes),
            "checkpoint": "a note",
            "signed_at": NOW,
            "levels": [tile[0] for tile in full],
            "ns": [tile[1] for tile in full],
            "datas": [tile[2] for tile in full],
        }
        self.after = appended.after
        assert not set(changes) - set(arguments)
        return list((arguments | changes).values())

    def grow(self, database: Database, bodies: Sequence[bytes]) -> int:
        first = database.value("zopp_app", APPEND, *self.batch(bodies))
        self.frontier = self.after
        return int(first)


def bodies(count: int, word: str = "entry") -> list[bytes]:
    return [f"{word} {n}".encode() for n in range(count)]


@pytest.fixture
def log(database: Database) -> Log:
    made = Log()
    made.grow(database, bodies(3))
    return made


ESCAPES = [
    "INSERT INTO audit.entry SELECT log_id, seq + 100, ts, action, outcome, actor, on_behalf, project, env, req_id,"
    " leaf, body FROM audit.entry",
    "INSERT INTO audit.log SELECT 'other', 'other', size, root, frontier, checkpoint, signed_at FROM audit.log",
    "INSERT INTO audit.tile VALUES ('system', 0, 0, '')",
    "INSERT INTO audit.entry SELECT * FROM audit.entry ON CONFLICT (log_id, seq) DO UPDATE SET body = ''",
    "UPDATE audit.entry SET body = 'x'",
    "UPDATE audit.log SET size = 1",
    "UPDATE audit.log SET checkpoint = 'x'",
    "DELETE FROM audit.entry",
    "DELETE FROM audit.log",
    "TRUNCATE audit.entry",
    "TRUNCATE audit.log CASCADE",
    "SELECT * FROM audit.log FOR UPDATE",
    "SELECT * FROM audit.entry FOR SHARE",
    "BEGIN; LOCK TABLE audit.entry IN ACCESS EXCLUSIVE MODE",
    "ALTER TABLE audit.entry DISABLE TRIGGER ALL",
    "ALTER TABLE audit.entry DISABLE TRIGGER entry_change",
    "DROP TRIGGER entry_change ON audit.entry",
    "SET session_replication_role = replica",
    "ALTER TABLE audit.entry OWNER TO zopp_app",
    "DROP TABLE audit.entry CASCADE",
    "DROP SCHEMA audit CASCADE",
    "CREATE TABLE audit.mine (n int)",
    "CREATE TABLE public.mine (n int)",
    "CREATE SCHEMA mine",
    "CREATE TEMP TABLE log (n int)",
    "CREATE OR REPLACE FUNCTION audit.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "ALTER FUNCTION audit.lock_heads SECURITY INVOKER",
    "SET ROLE zopp_audit_owner",
    "SET ROLE zopp_migrate",
    "SET SESSION AUTHORIZATION zopp_migrate",
    "GRANT zopp_audit_owner TO zopp_app",
    "ALTER ROLE zopp_app SUPERUSER",
    "CREATE ROLE mine",
    "CREATE RULE quiet AS ON INSERT TO audit.entry DO INSTEAD NOTHING",
    "CREATE INDEX ON audit.entry (body)",
    "UPDATE policy.statement SET line = 'x'",
    "DELETE FROM policy.statement",
    "UPDATE rt.replay SET nonce = nonce",
    "DELETE FROM rt.replay",
    "TRUNCATE rt.replay",
    "DELETE FROM keys.server_key",
    "DELETE FROM meta.migration",
    "COPY audit.entry TO PROGRAM 'cat'",
    "SELECT pg_read_file('PG_VERSION')",
    "ALTER SYSTEM SET fsync = off",
    "SET fsync = off",
]


@pytest.mark.parametrize("sql", ESCAPES)
def test_the_running_role_cannot(database: Database, log: Log, sql: str) -> None:
    refused = (asyncpg.InsufficientPrivilegeError, asyncpg.CantChangeRuntimeParamError)
    with pytest.raises(refused):
        database.execute("zopp_app", sql)
    assert database.value("zopp_app", "SELECT count(*) FROM audit.entry") == 3


def test_the_running_role_grants_itself_nothing(database: Database) -> None:
    """Postgres only warns here, since the role has some privilege on the table."""
    database.execute("zopp_app", "GRANT INSERT ON audit.entry TO zopp_app")
    assert database.value("zopp_app", "SELECT has_table_privilege('audit.entry', 'INSERT')") is False


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT audit.lock_heads(ARRAY['system'])",
        "SELECT * FROM keys.server_key",
        "SELECT * FROM policy.statement",
        "SELECT * FROM rt.replay",
        "INSERT INTO audit.tile VALUES ('system', 0, 0, '')",
    ],
)
def test_the_reading_role_cannot(database: Database, log: Log, sql: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        database.execute("zopp_read", sql)
    assert database.value("zopp_read", "SELECT count(*) FROM audit.entry") == 3


def test_nobody_logs_in_as_the_owner_of_the_log(database: Database) -> None:
    assert database.value("zopp_read", "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'zopp_audit_owner'") is False


@pytest.mark.parametrize("mode", ["origin", "replica"])
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit.entry SET body = 'x'",
        "DELETE FROM audit.entry",
        "TRUNCATE audit.entry",
        "DELETE FROM audit.tile",
        "UPDATE audit.tile SET data = data",
        "TRUNCATE audit.tile",
        "DELETE FROM audit.log",
        "TRUNCATE audit.log CASCADE",
        "UPDATE audit.log SET size = 1, frontier = substr(frontier, 1, 32)",
        "UPDATE audit.log SET origin = 'x', size = 7, frontier = frontier || root",
        "UPDATE audit.log SET checkpoint = 'x'",
    ],
)
def test_not_even_a_superuser_does_it_unasked(database: Database, sql: str, mode: str) -> None:
    """The triggers hold whatever the replication role is; who disables them is found by the self-check."""
    log = Log()
    log.grow(database, bodies(259))
    with pytest.raises(asyncpg.PostgresError) as caught:
        database.execute(embedded.SUPERUSER, f"SET session_replication_role = {mode}; {sql}")
    assert caught.value.sqlstate == "ZP001"
    assert database.value("zopp_app", "SELECT size FROM audit.log") == 259


def test_batches_make_the_tree_of_the_pure_code(database: Database) -> None:
    """Heads, leaves, seq and tiles of 700 entries, over tile borders, equal those of `zopp.tlog`."""
    log = Log()
    firsts = [log.grow(database, bodies(count, f"batch {count}")) for count in (1, 255, 256, 100, 88)]
    assert firsts == [0, 1, 256, 512, 612]
    rows = database.run("zopp_app", lambda c: c.fetch("SELECT seq, leaf, body FROM audit.entry ORDER BY seq"))
    assert [row["seq"] for row in rows] == list(range(700))
    assert all(row["leaf"] == merkle.leaf_hash(row["body"]) for row in rows)
    head = database.run("zopp_app", lambda c: c.fetchrow("SELECT * FROM audit.log"))
    assert head["size"] == 700
    assert head["root"] == merkle.root_of([row["leaf"] for row in rows])
    kept = database.run("zopp_app", lambda c: c.fetch("SELECT level, n, data FROM audit.tile ORDER BY level, n"))
    assert [(row["level"], row["n"]) for row in kept] == [(0, 0), (0, 1)]
    assert kept[1]["data"] == b"".join(row["leaf"] for row in rows[256:512])
    assert len(kept[0]["data"]) == tiles.WIDTH * merkle.HASH


FORGED = {
    "an old size below the head": {"size": 2},
    "an old size beyond the head": {"size": 5},
    "another origin": {"origin": "x"},
    "a log that is not there": {"log": "nowhere"},
    "no entry": {"body": []},
    "no entries at all": {"body": None},
    "an entry that is NULL": {"body": [b"a", None]},
    "an empty body": {"body": [b"a", b""]},
    "a body beyond 64 KiB": {"body": [b"a", bytes(65536)]},
    "more bodies than actors": {"body": [b"a", b"b", b"c"]},
    "a short root": {"root": b"x"},
    "a frontier of another size": {"frontier": bytes(32)},
    "a tile too many": {"levels": [0], "ns": [0], "datas": [bytes(8192)]},
    "no list of tiles": {"levels": None},
    "no checkpoint": {"checkpoint": None},
}


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED)
def test_a_batch_is_refused_with(database: Database, log: Log, changes: dict[str, Any]) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        database.value("zopp_app", APPEND, *log.batch([b"a", b"b"], **changes))
    assert caught.value.sqlstate.startswith(("ZP", "23"))
    assert database.value("zopp_app", "SELECT array_agg(seq ORDER BY seq) FROM audit.entry") == [0, 1, 2]
    assert database.value("zopp_app", "SELECT size FROM audit.log") == 3


TILES = {
    "missing": {"levels": [], "ns": [], "datas": []},
    "not of these leaves": {"datas": [bytes(8192)]},
    "too short": {"datas": [bytes(8191)]},
    "of a later place": {"ns": [1]},
    "of a level that is not full": {"levels": [1]},
    "of a level that there is not": {"levels": [7]},
    "given twice": {"levels": [0, 0], "ns": [0, 0], "datas": [bytes(8192)] * 2},
}


@pytest.mark.parametrize("changes", TILES.values(), ids=TILES)
def test_a_tile_is_refused_that_is(database: Database, changes: dict[str, Any]) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        database.value("zopp_app", APPEND, *Log().batch(bodies(256), **changes))
    assert caught.value.sqlstate.startswith(("ZP", "23"))
    assert database.value("zopp_app", "SELECT count(*) FROM audit.log") == 0


def test_a_batch_is_all_or_nothing_with_its_transaction(database: Database, log: Log) -> None:
    async def undone(connection: asyncpg.Connection) -> None:
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetchval(APPEND, *log.batch([b"a"]))
        await transaction.rollback()

    database.run("zopp_app", undone)
    assert database.value("zopp_app", "SELECT size FROM audit.log") == 3
    assert log.grow(database, [b"b"]) == 3


def test_lock_heads_gives_the_heads_in_order_and_holds_them(database: Database) -> None:
    for name in ("b", "a", "system"):
        Log(name).grow(database, bodies(2, name))

    async def held() -> list[str]:
        async with database.connect("zopp_app") as first, database.connect("zopp_app") as second, first.transaction():
            rows = await first.fetch("SELECT * FROM audit.lock_heads($1)", ["system", "a", "gone"])
            await second.execute("SET lock_timeout = 100")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await second.fetch("SELECT * FROM audit.lock_heads($1)", ["a"])
            assert len(await second.fetch("SELECT * FROM audit.lock_heads($1)", ["b"])) == 1
            return [row["log_id"] for row in rows]

    assert asyncio.run(held()) == ["a", "system"]


def test_the_replay_table_survives_a_crash_and_refuses_a_nonce_twice(database: Database) -> None:
    insert = "INSERT INTO rt.replay VALUES (3, 'acme', 'key', $1) ON CONFLICT DO NOTHING RETURNING 1"
    assert database.value("zopp_app", insert, bytes(16)) == 1
    assert database.value("zopp_app", insert, bytes(16)) is None
    unlogged = "SELECT count(*) FROM pg_class WHERE relpersistence <> 'p' AND relnamespace = 'rt'::regnamespace"
    assert database.value("zopp_app", unlogged) == 0
    database.execute("zopp_app", "TRUNCATE rt.replay_3")
    assert database.value("zopp_app", insert, bytes(16)) == 1
