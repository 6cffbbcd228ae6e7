"""`zopp server dev`: everything in one folder, nothing to install. Postgres is the wheel's, as a child process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg

from zopp.errors import FormatError, UsageError
from zopp.protocol import signing
from zopp_server import bootstrap, custody, embedded, serve, startup
from zopp_server.config import Settings
from zopp_server.db import migrate
from zopp_server.embedded import Embedded
from zopp_server.limits import Settings as Limits

DATABASE = "zopp"
PORT = 8420


def run(
    data: Path,
    port: int | None,
    say: Callable[[str], None],
    tell_code: Callable[[str], None],
    limits: Limits | None = None,
) -> None:
    """Serve on 127.0.0.1 until interrupted. `data` is made if it is not there. The port is part of the origin, which
    the policy log names, so it is kept in the folder; UsageError if another one is asked for later."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    port = _port(data, port)
    with Embedded(data / "embedded") as postgres:
        asyncio.run(_prepared(postgres))
        if not (data / "kek").exists():
            custody.make_kek(data / "kek")
        if not (data / "log_key").exists():
            custody.make_log_key(data / "log_key")
        settings = Settings(
            database=url(postgres, "zopp_app"),
            origin=f"http://127.0.0.1:{port}",
            data=data,
            kek=data / "kek",
            log_key=data / "log_key",
            listen=("127.0.0.1", port),
            log_level="warning",  # a person reads along
        )
        made = asyncio.run(_code(settings))
        if made is not None:
            key = signing.fingerprint(custody.load_log_key(settings.log_key).public)
            say(f"no workspace yet. The log key, for who compares it: {key}")
            say(f"in the workspace's repository: zopp server adopt {settings.origin}")
            say("it asks for this one-time code, good for 24 hours:")
            tell_code(made)
        serve.main(
            settings, lambda service: say(f"serving {settings.origin}, data in {data}; stop with ctrl-C"), limits
        )


def _port(data: Path, wanted: int | None) -> int:
    path = data / "port"
    try:
        kept = int(path.read_text())
    except FileNotFoundError:
        kept = wanted or PORT
        path.write_text(f"{kept}\n")
    except ValueError:
        raise FormatError("does not hold a port", code="server.port", place=str(path)) from None
    if wanted not in (None, kept):
        raise UsageError(
            f"this data folder's server is http://127.0.0.1:{kept}: its workspaces' policy names that",
            code="server.port",
            place=str(path),
            hint=f"leave --port out, or take another folder with --data (kept port: {kept})",
        )
    return kept


def url(postgres: Embedded, role: str) -> str:
    """The URL of the database for a role."""
    return f"postgresql://{role}:{postgres.password(role)}@127.0.0.1:{postgres.port}/{DATABASE}"


async def _prepared(postgres: Embedded) -> None:
    """The database with its roles and the newest schema."""
    root = url(postgres, embedded.SUPERUSER)
    admin = await asyncpg.connect(root.rpartition("/")[0] + "/postgres", timeout=20)
    try:
        if not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
            await admin.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
    finally:
        await admin.close(timeout=20)
    admin = await asyncpg.connect(root, timeout=20)
    try:
        await migrate.prepare(admin, {role: postgres.password(role) for role in embedded.ROLES[1:]})
    finally:
        await admin.close(timeout=20)
    connection = await asyncpg.connect(url(postgres, "zopp_migrate"), timeout=20)
    try:
        await migrate.migrate(connection)
    finally:
        await connection.close(timeout=20)


async def _code(settings: Settings) -> str | None:
    """A one-time code where there is no workspace yet."""
    connection = await startup.connect(settings.database)
    try:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM policy.workspace)"):
            return None
        return await bootstrap.new_code(connection)
    finally:
        await connection.close(timeout=20)
