"""One-time codes: whoever sends one with a signed log may make a workspace here, and is admitted to nothing else."""

from __future__ import annotations

import base64
import os

import asyncpg

from zopp_server.routes.workspaces import code_hash

HOURS = 24


async def new_code(connection: asyncpg.Connection, *, hours: int = HOURS) -> str:
    """A new code, 26 characters of base32 (128 bits), good for `hours`; the database keeps its hash only."""
    code = base64.b32encode(os.urandom(16)).decode().rstrip("=").lower()
    await connection.execute(
        "INSERT INTO rt.bootstrap VALUES ($1, now() + make_interval(hours => $2))", code_hash(code), hours
    )
    return code
