"""Bring a database to the schema of this version: an explicit command, never done at a server's start.

`prepare` needs a superuser and may be run again; `migrate` is run as zopp_migrate. One advisory lock keeps two runs
apart. Each file is one transaction with its line in `meta.migration`, so a run that is killed goes on where it stopped.
A file that was applied must be there, and the same to the byte: history is not edited, a new file is added.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

import asyncpg

from zopp.errors import IntegrityError, Unknown, UsageError

LOCK = 0x7A6F7070  # 'zopp'; advisory locks are the database's own
LOCK_TIMEOUT_MS = 60_000

_META = """
CREATE SCHEMA IF NOT EXISTS meta;
CREATE TABLE IF NOT EXISTS meta.migration (
  number     integer PRIMARY KEY,
  name       text NOT NULL,
  sha256     bytea NOT NULL CHECK (octet_length(sha256) = 32),
  applied_at timestamptz NOT NULL DEFAULT now()
);
GRANT USAGE ON SCHEMA meta TO zopp_app;
GRANT SELECT ON meta.migration TO zopp_app;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.sql.encode()).digest()


def shipped() -> list[Migration]:
    """The files of this version, in order."""
    folder = resources.files("zopp_server.db") / "migrations"
    return ordered((file.name, file.read_text("utf-8")) for file in folder.iterdir())


def ordered(files: Iterable[tuple[str, str]]) -> list[Migration]:
    """Files (name, SQL) as migrations. IntegrityError unless they are numbered 1, 2, 3 … without a gap."""
    found = []
    for name, sql in files:
        match = re.fullmatch(r"(\d{4})_[a-z0-9_]+\.sql", name)
        if match is None:
            raise IntegrityError("is no numbered migration", code="migration.name", place=name)
        found.append(Migration(number=int(match[1]), name=name, sql=sql))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise IntegrityError("the migrations are not numbered 1, 2, 3 …", code="migration.name")
    return found


async def prepare(connection: asyncpg.Connection, passwords: Mapping[str, str]) -> None:
    """Make the roles, give them their passwords (role to password; hashed here, so that no server log sees one), and
    make the database zopp's: owned by zopp_migrate, closed to everybody else. As a superuser, as often as you like."""
    if unknown := set(passwords) - {"zopp_migrate", "zopp_app", "zopp_read"}:
        raise UsageError(f"no role of the server: {', '.join(sorted(unknown))}", code="role")
    if connection.is_in_transaction():
        raise UsageError("prepare makes its own transaction", code="transaction")
    async with connection.transaction():
        # Advisory locks are a database's own and roles the cluster's: this keeps two runs for one database apart.
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        await connection.execute(resources.files("zopp_server.db").joinpath("roles.sql").read_text("utf-8"))
        for role, password in passwords.items():
            await connection.execute(f"ALTER ROLE {role} PASSWORD '{scram(password)}'")
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(
            f"""
            ALTER DATABASE {database} OWNER TO zopp_migrate;
            REVOKE ALL ON DATABASE {database} FROM PUBLIC;
            GRANT CONNECT ON DATABASE {database} TO zopp_app, zopp_read;
            REVOKE ALL ON SCHEMA public FROM PUBLIC;
            """
        )


def scram(password: str) -> str:
    """The verifier of a password in Postgres' own form (RFC 5803), with which nobody can log in. ASCII only, since
    SASLprep is not done here."""
    if not password.isascii() or not password.isprintable() or not password:
        raise UsageError("a database password is printable ASCII", code="password")
    return _scram(password, secrets.token_bytes(16))


def _scram(password: str, salt: bytes, iterations: int = 4096) -> str:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{text[0]}${text[1]}:{text[2]}"


async def migrate(connection: asyncpg.Connection, migrations: list[Migration] | None = None) -> list[str]:
    """Apply what is missing; gives the names of the files applied. `connection` is zopp_migrate's, in no transaction.

    IntegrityError if a file that was applied has changed or is missing, with nothing applied; Unknown if another run
    holds the lock for longer than a minute, or a file fails: what came before it stays, of itself nothing does."""
    files = shipped() if migrations is None else migrations
    if connection.is_in_transaction():
        raise UsageError("each file is a transaction of its own", code="transaction")
    await connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    except asyncpg.LockNotAvailableError:
        raise Unknown(
            "another migration of this database is running",
            code="migration.busy",
            hint="wait for it to end, then run: zopp server migrate",
        ) from None
    try:
        return await _apply(connection, files)
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _apply(connection: asyncpg.Connection, files: list[Migration]) -> list[str]:
    async with connection.transaction():
        # The tables of a first run; later ones find them (IF NOT EXISTS would be a notice each time).
        if await connection.fetchval("SELECT to_regclass('meta.migration') IS NULL"):
            await connection.execute(_META)
    done = await applied(connection)
    if problems := differences(done, files):
        raise IntegrityError("; ".join(problems), code="migration.changed", hint="install the version that applied it")
    names = []
    for migration in files[len(done) :]:
        try:
            async with connection.transaction():
                await connection.execute(migration.sql)
                # RESET: a file may act as another role, and its line is ours to write.
                await connection.execute("RESET ROLE")
                await connection.execute(
                    "INSERT INTO meta.migration (number, name, sha256) VALUES ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.sha256,
                )
        except asyncpg.PostgresError as exc:
            raise Unknown(f"failed: {exc}", code="migration.failed", place=migration.name) from exc
        names.append(migration.name)
    return names


async def applied(connection: asyncpg.Connection) -> list[tuple[int, str, bytes]]:
    """(number, name, sha256) of every file applied, in order. None where there is no such table."""
    if await connection.fetchval("SELECT to_regclass('meta.migration') IS NULL"):
        return []
    rows = await connection.fetch("SELECT number, name, sha256 FROM meta.migration ORDER BY number")
    return [(row["number"], row["name"], row["sha256"]) for row in rows]


def differences(done: list[tuple[int, str, bytes]], files: list[Migration]) -> list[str]:
    """Why `done` is not a beginning of `files`; nothing if it is."""
    problems = []
    for at, (number, name, digest) in enumerate(done, 1):
        if number != at:
            problems.append(f"migration {at} is not among those applied")
            break
        if at > len(files):
            problems.append(f"{name} was applied and is missing here")
        elif files[at - 1].name != name or files[at - 1].sha256 != digest:
            problems.append(f"{name} was applied and has changed since")
    return problems
