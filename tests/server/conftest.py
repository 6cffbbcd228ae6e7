"""One Postgres a test run (and worker), and a database of its own for each test."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.server.live import Live, Office, live, team
from zopp_server import embedded
from zopp_server.bootstrap import new_code
from zopp_server.db import migrate
from zopp_server.embedded import Embedded

_numbers = itertools.count()

BINARIES = Path(os.environ["ZOPP_TEST_POSTGRES"]) if "ZOPP_TEST_POSTGRES" in os.environ else None


@dataclass(frozen=True)
class Database:
    """One database of the running Postgres."""

    postgres: Embedded
    name: str

    @asynccontextmanager
    async def connect(self, role: str) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=self.postgres.port,
            user=role,
            password=self.postgres.password(role),
            database=self.name,
            timeout=20,
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=20)

    def run(self, role: str, work: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
        async def once() -> Any:
            async with self.connect(role) as connection:
                return await work(connection)

        return asyncio.run(once())

    def execute(self, role: str, sql: str) -> None:
        self.run(role, lambda connection: connection.execute(sql))

    def value(self, role: str, sql: str, *arguments: object) -> Any:
        return self.run(role, lambda connection: connection.fetchval(sql, *arguments))


def _prepare(database: Database) -> None:
    words = {role: database.postgres.password(role) for role in embedded.ROLES[1:]}
    database.run(embedded.SUPERUSER, lambda connection: migrate.prepare(connection, words))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Embedded]:
    """The embedded one, or that of ZOPP_TEST_POSTGRES (a folder of binaries): the same tests hold on both."""
    with embedded.temporary(bin_folder=BINARIES) as running:
        yield running


@pytest.fixture(scope="session")
def template(postgres: Embedded) -> str:
    """The name of a migrated database to copy."""
    admin = Database(postgres, "postgres")
    admin.execute(embedded.SUPERUSER, "CREATE DATABASE zopp_migrated TEMPLATE template0")
    made = Database(postgres, "zopp_migrated")
    _prepare(made)
    made.run("zopp_migrate", migrate.migrate)
    return made.name


def prepared(postgres: Embedded, template: str) -> Database:
    """A new database, copied from `template`, with roles and passwords."""
    database = Database(postgres, f"test_{next(_numbers)}")
    admin = Database(postgres, "postgres")
    admin.execute(embedded.SUPERUSER, f"CREATE DATABASE {database.name} TEMPLATE {template}")
    _prepare(database)
    return database


@pytest.fixture
def database(postgres: Embedded, template: str) -> Database:
    """As the migrations make it."""
    return prepared(postgres, template)


@pytest.fixture
def empty(postgres: Embedded) -> Database:
    """Prepared, and no migration applied."""
    return prepared(postgres, "template0")


def url(database: Database, role: str = "zopp_app") -> str:
    """The URL under which the server reaches it."""
    return f"postgresql://{role}:{database.postgres.password(role)}@127.0.0.1:{database.postgres.port}/{database.name}"


@pytest.fixture
def server(database: Database, tmp_path: Path) -> Iterator[Live]:
    """The real server on a fresh database. What it did not foresee fails the test."""
    with live(url(database), tmp_path / "server") as running:
        yield running
        assert not running.causes


def code(database: Database) -> str:
    """A one-time code."""
    made: str = database.run("zopp_app", new_code)
    return made


@pytest.fixture
def office(server: Live, database: Database) -> Iterator[Office]:
    """acme with alice (admin), bob (write) and carol (read) on the protected api/production; see `live.team`."""
    made = Office(server.origin, server.log_key)
    team(made, code(database))
    yield made
    made.close()
