"""The self-check: the database as the migrations make it passes, and each weakening of it is refused."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.conftest import Database, prepared
from zopp.errors import IntegrityError
from zopp_server import embedded
from zopp_server.db import check, migrate


def findings(database: Database, role: str = "zopp_app") -> list[str]:
    return list(database.run(role, check.findings))


def test_what_the_migrations_make_passes(database: Database) -> None:
    assert findings(database) == []
    assert database.run("zopp_app", check.check) is None


def test_the_expected_lines_are_those_of_the_migrations(database: Database) -> None:
    assert database.run("zopp_app", check.facts) == check.expected()


def test_a_finding_is_an_error_that_names_it_and_a_next_step(database: Database) -> None:
    database.execute("zopp_migrate", "GRANT DELETE ON audit.entry TO zopp_app")
    with pytest.raises(IntegrityError, match=r"grant table audit\.entry DELETE to zopp_app") as caught:
        database.run("zopp_app", check.check)
    assert caught.value.code == "database.weakened"
    assert caught.value.hint


# (what is done to the database, what the finding must say); by a superuser
WEAKENED = [
    ("GRANT INSERT ON audit.entry TO zopp_app", "not expected: grant table audit.entry INSERT to zopp_app"),
    ("GRANT UPDATE ON audit.log TO zopp_app", "not expected: grant table audit.log UPDATE to zopp_app"),
    ("GRANT TRUNCATE ON audit.tile TO zopp_app", "not expected: grant table audit.tile TRUNCATE to zopp_app"),
    ("GRANT TRIGGER ON audit.entry TO zopp_app", "not expected: grant table audit.entry TRIGGER to zopp_app"),
    (
        "GRANT UPDATE (body) ON audit.entry TO zopp_app",
        "not expected: grant column audit.entry.body UPDATE to zopp_app",
    ),
    ("GRANT INSERT ON audit.entry TO PUBLIC", "not expected: grant table audit.entry INSERT to PUBLIC"),
    ("GRANT SELECT ON keys.server_key TO zopp_read", "not expected: grant table keys.server_key SELECT to zopp_read"),
    ("GRANT UPDATE ON policy.statement TO zopp_app", "not expected: grant table policy.statement UPDATE to zopp_app"),
    ("GRANT CREATE ON SCHEMA audit TO zopp_app", "not expected: grant schema audit CREATE to zopp_app"),
    ("GRANT CREATE ON SCHEMA public TO PUBLIC", "not expected: grant schema public CREATE to PUBLIC"),
    ("GRANT TEMP ON DATABASE {name} TO PUBLIC", "not expected: grant database TEMPORARY to PUBLIC"),
    ("GRANT SELECT ON audit.log TO zopp_app WITH GRANT OPTION", "SELECT to zopp_app with grant option"),
    ("GRANT SELECT ON pg_catalog.pg_authid TO zopp_app", "not expected: touches table pg_catalog.pg_authid zopp_app"),
    (
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO zopp_app",
        "not expected: touches function pg_catalog.pg_read_file",
    ),
    (
        "GRANT EXECUTE ON FUNCTION audit.refuse TO PUBLIC",
        "not expected: grant function audit.refuse() EXECUTE to PUBLIC",
    ),
    ("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO zopp_app", "not expected: default privilege in all schemas r"),
    ("REVOKE EXECUTE ON FUNCTION audit.lock_heads FROM zopp_app", "missing: grant function audit.lock_heads"),
    ("REVOKE SELECT ON meta.migration FROM zopp_app", "missing: grant table meta.migration SELECT to zopp_app"),
    ("ALTER TABLE audit.entry OWNER TO zopp_app", "relation audit.entry kind r persistence p owner zopp_app"),
    ("ALTER TABLE audit.entry OWNER TO zopp_migrate", "relation audit.entry kind r persistence p owner zopp_migrate"),
    ("ALTER SCHEMA audit OWNER TO zopp_app", "not expected: schema audit owner zopp_app"),
    ("ALTER SCHEMA audit RENAME TO audit_old", "missing: schema audit owner zopp_audit_owner"),
    ("ALTER FUNCTION audit.refuse OWNER TO zopp_app", "not expected: function audit.refuse()"),
    ("ALTER DATABASE {name} OWNER TO zopp_app", "not expected: database owner zopp_app"),
    ("CREATE DOMAIN public.mine AS int; ALTER DOMAIN public.mine OWNER TO zopp_app", "as owner zopp_app"),
    ("ALTER TABLE audit.entry DISABLE TRIGGER entry_change", "trigger D CREATE TRIGGER entry_change"),
    ("ALTER TABLE audit.entry DISABLE TRIGGER entry_truncate", "trigger D CREATE TRIGGER entry_truncate"),
    ("ALTER TABLE audit.log ENABLE TRIGGER log_update", "trigger O CREATE TRIGGER log_update"),
    ("ALTER TABLE audit.log ENABLE REPLICA TRIGGER log_delete", "trigger R CREATE TRIGGER log_delete"),
    ("ALTER TABLE audit.tile DISABLE TRIGGER ALL", "foreign key trigger not enabled on audit.tile"),
    ("DROP TRIGGER tile_change ON audit.tile", "missing: trigger A CREATE TRIGGER tile_change"),
    (
        "CREATE TRIGGER mine BEFORE INSERT ON audit.entry FOR EACH ROW EXECUTE FUNCTION audit.refuse()",
        "not expected: trigger O CREATE TRIGGER mine",
    ),
    (
        "CREATE OR REPLACE FUNCTION audit.refuse() RETURNS trigger LANGUAGE plpgsql"
        " SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'",
        "not expected: function audit.refuse()",
    ),
    (
        "CREATE OR REPLACE FUNCTION audit.lock_heads(log_ids text[]) RETURNS SETOF audit.log LANGUAGE sql"
        " SECURITY DEFINER SET search_path = pg_catalog, pg_temp BEGIN ATOMIC SELECT * FROM audit.log; END",
        "not expected: function audit.lock_heads",
    ),
    ("ALTER FUNCTION audit.append SECURITY INVOKER", "missing: function audit.append"),
    ("ALTER FUNCTION audit.append SET search_path = public", "not expected: function audit.append"),
    ("ALTER FUNCTION audit.lock_heads RESET search_path", "not expected: function audit.lock_heads"),
    ("ALTER FUNCTION audit.lock_heads IMMUTABLE", "not expected: function audit.lock_heads"),
    (
        "CREATE FUNCTION audit.append(x int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "not expected: function audit.append(x integer)",
    ),
    ("CREATE RULE quiet AS ON UPDATE TO audit.log DO INSTEAD NOTHING", "not expected: rule O CREATE RULE quiet"),
    ("ALTER TABLE audit.entry ENABLE ROW LEVEL SECURITY", "owner zopp_audit_owner row security"),
    ("CREATE POLICY open ON audit.entry USING (true)", "not expected: policy audit.entry.open"),
    ("CREATE VIEW public.peek AS SELECT * FROM keys.server_key", "not expected: relation public.peek kind v"),
    ("ALTER TABLE audit.entry DROP CONSTRAINT entry_pkey", "missing: constraint audit.entry.entry_pkey"),
    ("ALTER TABLE audit.log DROP CONSTRAINT log_root_check", "missing: constraint audit.log.log_root_check"),
    ("ALTER TABLE policy.principal DROP CONSTRAINT principal_ws_ed25519_key", "missing: constraint policy.principal"),
    (
        "ALTER TABLE policy.environment DROP CONSTRAINT environment_ws_project_fkey, ADD CONSTRAINT"
        " environment_ws_project_fkey FOREIGN KEY (ws, project) REFERENCES policy.project ON DELETE CASCADE",
        "ON DELETE CASCADE",
    ),
    ("ALTER TABLE policy.environment ALTER protected DROP NOT NULL", "missing: column policy.environment.protected"),
    ("ALTER TABLE policy.environment ALTER protected SET DEFAULT false", "protected boolean not null default false"),
    ("ALTER TABLE audit.entry ADD COLUMN note text", "not expected: column audit.entry.note text"),
    ("ALTER TABLE rt.idempotency SET UNLOGGED", "relation rt.idempotency kind r persistence u"),
    ("ALTER TABLE rt.replay DETACH PARTITION rt.replay_3", "missing: partition or child rt.replay_3 of"),
    (
        "CREATE TABLE public.mine () INHERITS (audit.entry)",
        "not expected: partition or child public.mine of audit.entry",
    ),
    (
        "CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        " CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION public.watch()",
        "not expected: event trigger watch",
    ),
    ("DROP TABLE rt.replay_3", "missing: relation rt.replay_3"),
    ("DELETE FROM meta.migration WHERE number = 4", "schema: 0004_keys.sql has not been applied"),
    ("UPDATE meta.migration SET sha256 = sha256('x') WHERE number = 1", "0001_audit.sql was applied and has changed"),
    (
        "INSERT INTO meta.migration VALUES (5, '0005_next.sql', sha256('x'))",
        "0005_next.sql was applied and is missing here",
    ),
    ("ALTER ROLE zopp_app IN DATABASE {name} SET synchronous_commit = off", "setting: synchronous_commit is off"),
    ("ALTER DATABASE {name} SET synchronous_commit = off", "not expected: setting of all synchronous_commit=off"),
    (
        "ALTER ROLE zopp_app IN DATABASE {name} SET session_replication_role = replica",
        "setting: session_replication_role is replica",
    ),
]


@pytest.mark.parametrize(("sql", "finding"), WEAKENED, ids=[sql[:70] for sql, _ in WEAKENED])
def test_refused_after(database: Database, sql: str, finding: str) -> None:
    database.execute(embedded.SUPERUSER, sql.format(name=database.name))
    found = findings(database)
    assert any(finding in line for line in found), found


# What concerns the whole cluster, so that it is undone: (done, finding, undone)
CLUSTER = [
    ("ALTER ROLE zopp_app SUPERUSER", "role: zopp_app is above every privilege", "ALTER ROLE zopp_app NOSUPERUSER"),
    ("ALTER ROLE zopp_app BYPASSRLS", "role zopp_app login bypassrls", "ALTER ROLE zopp_app NOBYPASSRLS"),
    ("ALTER ROLE zopp_app CREATEROLE", "role zopp_app login createrole", "ALTER ROLE zopp_app NOCREATEROLE"),
    ("ALTER ROLE zopp_app CREATEDB", "role zopp_app login createdb", "ALTER ROLE zopp_app NOCREATEDB"),
    ("ALTER ROLE zopp_app REPLICATION", "role zopp_app login replication", "ALTER ROLE zopp_app NOREPLICATION"),
    ("ALTER ROLE zopp_read SUPERUSER", "role zopp_read login superuser", "ALTER ROLE zopp_read NOSUPERUSER"),
    ("ALTER ROLE zopp_audit_owner LOGIN", "role zopp_audit_owner login", "ALTER ROLE zopp_audit_owner NOLOGIN"),
    (
        "GRANT zopp_audit_owner TO zopp_app",
        "not expected: member zopp_app of zopp_audit_owner",
        "REVOKE zopp_audit_owner FROM zopp_app",
    ),
    (
        "GRANT zopp_migrate TO zopp_app",
        "not expected: member zopp_app of zopp_migrate",
        "REVOKE zopp_migrate FROM zopp_app",
    ),
    (
        "GRANT pg_write_all_data TO zopp_app",
        "not expected: member zopp_app of pg_write_all_data",
        "REVOKE pg_write_all_data FROM zopp_app",
    ),
    (
        "GRANT SET ON PARAMETER session_replication_role TO zopp_app",
        "not expected: parameter session_replication_role SET to zopp_app",
        "REVOKE SET ON PARAMETER session_replication_role FROM zopp_app",
    ),
    (
        "ALTER ROLE zopp_app SET statement_timeout = '5s'",
        "not expected: setting zopp_app statement_timeout=5s",
        "ALTER ROLE zopp_app RESET statement_timeout",
    ),
]


@pytest.mark.parametrize(("sql", "finding", "undo"), CLUSTER, ids=[sql for sql, _, _ in CLUSTER])
def test_refused_in_the_cluster_after(database: Database, sql: str, finding: str, undo: str) -> None:
    database.execute(embedded.SUPERUSER, sql)
    try:
        found = findings(database)
    finally:
        database.execute(embedded.SUPERUSER, undo)
    assert any(finding in line for line in found), found
    assert findings(database) == []


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_refused_with_a_postgres_that_does_not_write_safely(database: Database, setting: str) -> None:
    async def changed(value: str, until: str) -> None:
        async with database.connect(embedded.SUPERUSER) as admin:
            await admin.execute(f"ALTER SYSTEM {value}")
            await admin.execute("SELECT pg_reload_conf()")
            for _ in range(500):
                async with database.connect(embedded.SUPERUSER) as fresh:
                    if await fresh.fetchval(f"SHOW {setting}") == until:
                        return
                await asyncio.sleep(0.02)
            raise AssertionError("the setting did not change")

    asyncio.run(changed(f"SET {setting} = off", "off"))
    try:
        found = findings(database)
    finally:
        asyncio.run(changed(f"RESET {setting}", "on"))
    assert found == [f"setting: {setting} is off"]


@pytest.mark.parametrize("role", [embedded.SUPERUSER, "zopp_migrate"])
def test_refused_as_another_role(database: Database, role: str) -> None:
    assert any(line.startswith(f"role: the server runs as {role}") for line in findings(database, role))


def test_a_database_without_the_schema_is_refused(empty: Database) -> None:
    assert "schema: 0001_audit.sql has not been applied" in findings(empty)


def test_a_search_path_does_not_change_the_facts(database: Database) -> None:
    async def facts(connection: object) -> list[str]:
        await connection.execute("SET search_path = audit, policy, rt")  # type: ignore[attr-defined]
        return await check.facts(connection)

    assert database.run("zopp_app", facts) == check.expected()


OLDEST = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture
def oldest() -> Iterator[Database]:
    with embedded.temporary(bin_folder=OLDEST) as running:
        yield prepared(running, "template0")


@pytest.mark.slow
@pytest.mark.skipif(not OLDEST.is_dir(), reason="Debian's PostgreSQL 15 is not here")
def test_the_oldest_supported_postgres_has_the_same_facts(oldest: Database) -> None:
    oldest.run("zopp_migrate", migrate.migrate)
    assert findings(oldest) == []
    oldest.execute("zopp_migrate", "GRANT INSERT ON audit.entry TO zopp_app")
    assert len(findings(oldest)) == 1
