"""The self-check: a database that is weaker than the migrations made it is not served.

Three things are compared: what the running role is, how Postgres is set, and the catalogue. Of the catalogue every fact
that protects the log (owners, privileges, columns, constraints, triggers, function bodies, rules, policies) is written
as one line of text, and the lines must be exactly those of `expected.txt`. What is unexpected is as wrong as what is
missing, so an extra grant is found the same way as a dropped trigger. 'touches' lines name whatever the two running
roles own or were granted, of any kind and in any schema, Postgres' own catalogue included.

It defends against mistakes and against whoever holds a lesser role. A superuser can forge a catalogue; against that
stand the checkpoints that others keep. The heads of the logs are looked at, too (`heads`), if the catalogue is sound.
Not done here: the policy projections, and the high-water file.
"""

from __future__ import annotations

from importlib import resources

import asyncpg

from zopp.errors import IntegrityError
from zopp_server.db import heads, migrate

APP = "zopp_app"
OLDEST, NEWEST = 15, 18
SCHEMAS = ("audit", "keys", "meta", "policy", "rt")

_FACTS = r"""
WITH ours AS (
  SELECT oid, nspname, nspowner, nspacl FROM pg_namespace
  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
), rel AS (
  SELECT c.*, n.nspname FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
), fun AS (
  SELECT p.*, n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name
  FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace
), acl AS (
  SELECT 'schema ' || nspname AS what, nspowner AS owner, nspacl AS given, acldefault('n', nspowner) AS usual FROM ours
  UNION ALL
  SELECT 'table ' || nspname || '.' || relname, relowner, relacl, acldefault('r', relowner) FROM rel
  WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
  UNION ALL
  SELECT 'sequence ' || nspname || '.' || relname, relowner, relacl, acldefault('s', relowner) FROM rel
  WHERE relkind = 'S'
  UNION ALL
  SELECT 'column ' || nspname || '.' || relname || '.' || attname, relowner, attacl, '{}' FROM rel
  JOIN pg_attribute ON attrelid = rel.oid WHERE attacl IS NOT NULL AND NOT attisdropped
  UNION ALL
  SELECT 'function ' || name, proowner, proacl, acldefault('f', proowner) FROM fun
  UNION ALL
  SELECT 'database', datdba, datacl, acldefault('d', datdba) FROM pg_database WHERE datname = current_database()
)
SELECT 'schema ' || nspname || ' owner ' || nspowner::regrole FROM ours
UNION ALL
SELECT 'database owner ' || datdba::regrole FROM pg_database WHERE datname = current_database()
UNION ALL
SELECT 'grant ' || what || ' ' || privilege_type || ' to '
  || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
  || CASE WHEN is_grantable THEN ' with grant option' ELSE '' END
FROM acl, aclexplode(coalesce(given, usual)) WHERE grantee <> owner
UNION ALL
SELECT 'default privilege in ' || coalesce(n.nspname, 'all schemas') || ' ' || defaclobjtype::text || ' '
  || privilege_type || ' to ' || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
FROM pg_default_acl LEFT JOIN ours n ON n.oid = defaclnamespace, aclexplode(defaclacl)
UNION ALL
SELECT 'relation ' || nspname || '.' || relname || ' kind ' || relkind::text || ' persistence ' || relpersistence::text
  || ' owner ' || relowner::regrole || CASE WHEN relrowsecurity THEN ' row security' ELSE '' END
  || CASE WHEN relforcerowsecurity THEN ' forced' ELSE '' END
FROM rel WHERE relkind <> 'c'
UNION ALL
SELECT 'partition or child ' || c.nspname || '.' || c.relname || ' of ' || p.nspname || '.' || p.relname
  || coalesce(' ' || pg_get_expr(c.relpartbound, c.oid), '')
FROM pg_inherits i JOIN rel c ON c.oid = i.inhrelid JOIN rel p ON p.oid = i.inhparent
UNION ALL
SELECT 'column ' || nspname || '.' || relname || '.' || attname || ' ' || format_type(atttypid, atttypmod)
  || CASE WHEN attnotnull THEN ' not null' ELSE '' END
  || coalesce(' default ' || pg_get_expr(adbin, adrelid), '')
FROM rel JOIN pg_attribute ON attrelid = rel.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT 'constraint ' || nspname || '.' || relname || '.' || conname || ' '
  || CASE WHEN convalidated THEN '' ELSE 'not valid ' END || pg_get_constraintdef(con.oid)
FROM pg_constraint con JOIN rel ON rel.oid = conrelid WHERE contype <> 'n'
UNION ALL
SELECT 'index ' || CASE WHEN indisvalid THEN '' ELSE 'invalid ' END || pg_get_indexdef(indexrelid)
FROM pg_index JOIN rel ON rel.oid = indrelid
UNION ALL
SELECT 'trigger ' || tgenabled::text || ' ' || pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN rel ON rel.oid = tgrelid
WHERE NOT tgisinternal
UNION ALL
SELECT 'foreign key trigger not enabled on ' || nspname || '.' || relname FROM pg_trigger JOIN rel ON rel.oid = tgrelid
WHERE tgisinternal AND tgenabled <> 'O'
UNION ALL
SELECT 'rule ' || ev_enabled::text || ' ' || pg_get_ruledef(r.oid) FROM pg_rewrite r JOIN rel ON rel.oid = ev_class
UNION ALL
SELECT 'policy ' || nspname || '.' || relname || '.' || polname FROM pg_policy JOIN rel ON rel.oid = polrelid
UNION ALL
SELECT 'function ' || name || ' returns ' || pg_get_function_result(fun.oid) || ' language ' || lanname || ' owner '
  || proowner::regrole || CASE WHEN prosecdef THEN ' security definer' ELSE '' END || ' ' || provolatile::text
  || coalesce(' set ' || array_to_string(proconfig, ' set '), '')
  || ' body ' || encode(sha256(convert_to(coalesce(pg_get_function_sqlbody(fun.oid), prosrc), 'UTF8')), 'hex')
FROM fun JOIN pg_language l ON l.oid = prolang
UNION ALL
SELECT 'touches ' || o.type || ' ' || o.identity || CASE deptype WHEN 'o' THEN ' as owner ' ELSE ' ' END || rolname
FROM pg_shdepend JOIN pg_roles r ON r.oid = refobjid, pg_identify_object(classid, objid, objsubid) o
WHERE refclassid = 'pg_authid'::regclass AND rolname IN ('zopp_app', 'zopp_read')
  AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND o.type NOT LIKE '%column'
UNION ALL
SELECT 'event trigger ' || evtname FROM pg_event_trigger
UNION ALL
SELECT 'member ' || member::regrole || ' of ' || roleid::regrole FROM pg_auth_members
WHERE member::regrole::text LIKE 'zopp\_%' OR roleid::regrole::text LIKE 'zopp\_%'
UNION ALL
SELECT 'role ' || rolname || CASE WHEN rolcanlogin THEN ' login' ELSE '' END
  || CASE WHEN rolsuper THEN ' superuser' ELSE '' END || CASE WHEN rolbypassrls THEN ' bypassrls' ELSE '' END
  || CASE WHEN rolcreaterole THEN ' createrole' ELSE '' END || CASE WHEN rolcreatedb THEN ' createdb' ELSE '' END
  || CASE WHEN rolreplication THEN ' replication' ELSE '' END
FROM pg_roles WHERE rolname LIKE 'zopp\_%'
UNION ALL
SELECT 'setting ' || CASE setrole WHEN 0 THEN 'of all' ELSE setrole::regrole::text END || ' ' || setting
FROM pg_db_role_setting, unnest(setconfig) setting
WHERE (setdatabase = 0 OR setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND (setrole = 0 OR setrole::regrole::text LIKE 'zopp\_%')
UNION ALL
SELECT 'parameter ' || parname || ' ' || privilege_type || ' to '
  || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
FROM pg_parameter_acl, aclexplode(paracl)
WHERE grantee = 0 OR grantee::regrole::text LIKE 'zopp\_%'
"""


async def facts(connection: asyncpg.Connection) -> list[str]:
    """What protects this database, a line each, sorted. Names are written in full, whatever the search path is."""
    async with connection.transaction(readonly=True):
        await connection.execute("SET LOCAL search_path = pg_catalog")
        return sorted(row[0] for row in await connection.fetch(_FACTS))


def expected() -> list[str]:
    """The lines of `expected.txt`."""
    return resources.files("zopp_server.db").joinpath("expected.txt").read_text("utf-8").splitlines()


async def findings(connection: asyncpg.Connection) -> list[str]:
    """Everything that is wrong, for a connection of the running server; nothing if all is as it must be."""
    found = await _role(connection)
    found += await _settings(connection)
    done = await migrate.applied(connection) if await _may_read_meta(connection) else []
    shipped = migrate.shipped()
    if problems := migrate.differences(done, shipped):
        found += [f"schema: {problem}" for problem in problems]
    elif len(done) < len(shipped):
        found.append(f"schema: {shipped[len(done)].name} has not been applied")
    have, want = await facts(connection), expected()
    found += [f"not expected: {line}" for line in have if line not in want]
    found += [f"missing: {line}" for line in want if line not in have]
    return found or await heads.findings(connection)


async def check(connection: asyncpg.Connection) -> None:
    """IntegrityError `database.weakened` with every finding. Nothing is served then."""
    if found := await findings(connection):
        raise IntegrityError(
            "this database is not as the migrations made it:\n  " + "\n  ".join(found),
            code="database.weakened",
            hint="run zopp server migrate, and undo by hand what it does not",
            findings=found,
        )


async def _role(connection: asyncpg.Connection) -> list[str]:
    row = await connection.fetchrow(
        "SELECT current_user AS now, session_user AS login, rolsuper, rolbypassrls"
        " FROM pg_roles WHERE rolname = session_user"
    )
    found = []
    if row["login"] != APP or row["now"] != APP:
        found.append(f"role: the server runs as {row['login']}, and must run as {APP}")
    if row["rolsuper"] or row["rolbypassrls"]:
        found.append(f"role: {row['login']} is above every privilege")
    return found


async def _settings(connection: asyncpg.Connection) -> list[str]:
    found = []
    major = connection.get_server_version().major
    if not OLDEST <= major <= NEWEST:
        found.append(f"setting: Postgres {major} is none of {OLDEST} to {NEWEST}")
    wanted: dict[str, tuple[str, ...]] = {
        "fsync": ("on",),
        "full_page_writes": ("on",),
        "session_replication_role": ("origin",),
    }
    wanted["synchronous_commit"] = ("on", "local", "remote_write", "remote_apply")
    for name, values in wanted.items():
        value = await connection.fetchval("SELECT current_setting($1)", name)
        if value not in values:
            found.append(f"setting: {name} is {value}")
    return found


async def _may_read_meta(connection: asyncpg.Connection) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT coalesce(has_table_privilege(to_regclass('meta.migration')::oid, 'SELECT'), false)"
        )
    )
