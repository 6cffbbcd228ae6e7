"""Migrations: each file once and whole, in order, whatever is killed in between; history is not edited."""

import asyncio
import re
import subprocess
import sys
import time

import asyncpg
import pytest

from tests.server.conftest import Database
from zopp.errors import IntegrityError, Unknown, UsageError
from zopp_server import embedded
from zopp_server.db import migrate
from zopp_server.db.migrate import Migration


def file(number: int, sql: str) -> Migration:
    return Migration(number=number, name=f"{number:04}_test.sql", sql=sql)


ONE = file(1, "CREATE TABLE one (n int);")
TWO = file(2, "CREATE TABLE two (n int); INSERT INTO two VALUES (2);")
BROKEN = file(2, "CREATE TABLE two (n int); SELECT 1 / 0;")


def apply(database: Database, *files: Migration) -> list[str]:
    # The schema public is closed, and these files are not ours.
    database.execute(embedded.SUPERUSER, "GRANT ALL ON SCHEMA public TO zopp_migrate")
    return list(database.run("zopp_migrate", lambda connection: migrate.migrate(connection, list(files))))


def tables(database: Database) -> set[str]:
    found = database.run(
        "zopp_migrate", lambda c: c.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    )
    return {row[0] for row in found}


def test_all_files_are_applied_once(empty: Database) -> None:
    names = [migration.name for migration in migrate.shipped()]
    assert names[0] == "0001_audit.sql"
    assert empty.run("zopp_migrate", migrate.migrate) == names
    assert empty.run("zopp_migrate", migrate.migrate) == []
    assert empty.value("zopp_app", "SELECT array_agg(name ORDER BY number) FROM meta.migration") == names


def test_new_files_are_added_to_those_applied(empty: Database) -> None:
    assert apply(empty, ONE) == [ONE.name]
    assert apply(empty, ONE, TWO) == [TWO.name]
    assert tables(empty) == {"one", "two"}


def test_a_changed_file_is_refused_and_nothing_is_applied(empty: Database) -> None:
    apply(empty, ONE)
    with pytest.raises(IntegrityError, match=r"0001_test\.sql was applied and has changed") as caught:
        apply(empty, file(1, ONE.sql + " "), TWO)
    assert caught.value.hint
    assert tables(empty) == {"one"}


def test_a_renamed_file_is_refused(empty: Database) -> None:
    apply(empty, ONE)
    with pytest.raises(IntegrityError, match="has changed"):
        apply(empty, Migration(number=1, name="0001_other.sql", sql=ONE.sql))


def test_a_missing_file_is_refused(empty: Database) -> None:
    """An older version of zopp on a newer database."""
    apply(empty, ONE, TWO)
    with pytest.raises(IntegrityError, match=r"0002_test\.sql was applied and is missing here"):
        apply(empty, ONE)


def test_a_line_taken_out_of_the_table_is_refused(empty: Database) -> None:
    apply(empty, ONE, TWO)
    empty.execute("zopp_migrate", "DELETE FROM meta.migration WHERE number = 1")
    with pytest.raises(IntegrityError, match="migration 1 is not among those applied"):
        apply(empty, ONE, TWO)


def test_a_file_that_fails_leaves_nothing_and_those_before_it_stay(empty: Database) -> None:
    with pytest.raises(Unknown, match="division by zero") as caught:
        apply(empty, ONE, BROKEN)
    assert caught.value.place == BROKEN.name
    assert tables(empty) == {"one"}
    assert apply(empty, ONE, TWO) == [TWO.name]


def test_runs_at_the_same_time_apply_each_file_once(empty: Database) -> None:
    async def both() -> list[list[str]]:
        async def one() -> list[str]:
            async with empty.connect("zopp_migrate") as connection:
                return await migrate.migrate(connection)

        return list(await asyncio.gather(*(one() for _ in range(4))))

    names = [migration.name for migration in migrate.shipped()]
    assert sorted(asyncio.run(both()), key=len) == [[], [], [], names]


def test_a_run_that_waits_too_long_says_so(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_MS", 100)

    async def blocked() -> None:
        async with empty.connect("zopp_migrate") as other, empty.connect("zopp_migrate") as connection:
            await other.execute("SELECT pg_advisory_lock($1)", migrate.LOCK)
            await migrate.migrate(connection)

    with pytest.raises(Unknown, match="another migration") as caught:
        asyncio.run(blocked())
    assert caught.value.hint


CHILD = """
import asyncio, asyncpg, os, sys
from zopp_server.db import migrate
async def main():
    connection = await asyncpg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="zopp_migrate",
                                       password=os.environ["WORD"], database=sys.argv[2])
    await migrate.migrate(connection)
asyncio.run(main())
"""


@pytest.mark.parametrize("table", ["audit.tile", "policy.grp", "rt.client_addr", "keys.server_key"])
def test_a_run_killed_inside_a_file_is_gone_on_with(empty: Database, table: str) -> None:
    """kill -9 while the file that makes `table` is at work; its transaction is undone, the next run makes it."""
    number = {"audit": 1, "policy": 2, "rt": 3, "keys": 4}[table.partition(".")[0]]

    async def killed() -> int:
        async with empty.connect(embedded.SUPERUSER) as admin:
            # An event trigger holds the file up in its middle, and lets go when the lock below is free.
            await admin.execute(
                f"""
                CREATE FUNCTION public.hold() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
                BEGIN
                  IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = '{table}') THEN
                    PERFORM pg_advisory_xact_lock(1);
                  END IF;
                END $$;
                CREATE EVENT TRIGGER hold ON ddl_command_end EXECUTE FUNCTION public.hold();
                SELECT pg_advisory_lock(1);
                """
            )
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(empty.postgres.port), empty.name],
                env={"WORD": empty.postgres.password("zopp_migrate"), "PYTHONPATH": ":".join(sys.path)},
            )
            waiting = (
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 1"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            end = time.monotonic() + 30
            while not await admin.fetchval(waiting):
                assert time.monotonic() < end
                assert child.poll() is None
                await asyncio.sleep(0.02)
            child.kill()
            child.wait(20)
            await admin.execute("SELECT pg_advisory_unlock(1)")
            while await admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'zopp_migrate' AND datname = current_database()"
            ):
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            await admin.execute("DROP EVENT TRIGGER hold; DROP FUNCTION public.hold()")
            return int(await admin.fetchval("SELECT count(*) FROM meta.migration"))

    assert asyncio.run(killed()) == number - 1
    assert empty.value(embedded.SUPERUSER, "SELECT to_regclass($1)::text", table) is None
    names = [migration.name for migration in migrate.shipped()]
    assert empty.run("zopp_migrate", migrate.migrate) == names[number - 1 :]


@pytest.mark.parametrize(
    "names",
    [
        ["0002_a.sql"],
        ["0001_a.sql", "0003_b.sql"],
        ["0001_a.sql", "0001_b.sql"],
        ["1_a.sql"],
        ["0001_a.sql", "readme.txt"],
        ["0001-a.sql"],
    ],
)
def test_files_that_are_not_numbered_without_a_gap_are_refused(names: list[str]) -> None:
    with pytest.raises(IntegrityError):
        migrate.ordered((name, "") for name in names)


def test_no_file_ends_its_own_transaction() -> None:
    for migration in migrate.shipped():
        code = re.sub(r"--.*|\$\$.*?\$\$", "", migration.sql)
        assert not re.search(r"^\s*(COMMIT|ROLLBACK|START|ABORT)\b", code, re.IGNORECASE | re.MULTILINE)


def test_in_a_transaction_it_refuses(empty: Database) -> None:
    async def inside(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            await migrate.migrate(connection)

    with pytest.raises(UsageError):
        empty.run("zopp_migrate", inside)


def test_prepare_gives_passwords_that_no_log_sees(empty: Database) -> None:
    log = (empty.postgres.folder / "postgres.log").read_text()
    stored = empty.value(embedded.SUPERUSER, "SELECT rolpassword FROM pg_authid WHERE rolname = 'zopp_app'")
    assert stored.startswith("SCRAM-SHA-256$4096:")
    assert empty.postgres.password("zopp_app") not in log + stored
    assert empty.value("zopp_app", "SELECT session_user") == "zopp_app"


@pytest.mark.parametrize("password", ["", "naïve", "a\nb", "'\x00"])
def test_a_password_that_postgres_would_read_otherwise_is_refused(password: str) -> None:
    with pytest.raises(UsageError):
        migrate.scram(password)


def test_prepare_knows_its_roles_only(empty: Database) -> None:
    with pytest.raises(UsageError):
        empty.run(embedded.SUPERUSER, lambda c: migrate.prepare(c, {"zopp": "x"}))
