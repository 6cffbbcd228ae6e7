"""What the owner of a database can do: change one row of the audit log, triggers or not. For the demo.

owner.py DATA SEQ      DATA: the folder of `zopp server dev`; SEQ: which entry of the workspace's log
"""

import asyncio
import json
import sys
from pathlib import Path

import asyncpg


async def main(data: Path, seq: int) -> None:
    """Make the entry say that another device asked."""
    folder = data / "embedded"
    port = int((folder / "postgres" / "postmaster.pid").read_text().splitlines()[3])
    password = json.loads((folder / "passwords.json").read_text())["zopp"]
    connection = await asyncpg.connect(
        host="127.0.0.1", port=port, user="zopp", password=password, database="zopp", timeout=20
    )
    try:
        await connection.execute("ALTER TABLE audit.entry DISABLE TRIGGER ALL")
        done = await connection.execute(
            "UPDATE audit.entry SET body = convert_to(regexp_replace(convert_from(body, 'UTF8'),"
            " '\"actor\":\"[a-z-]+\"', '\"actor\":\"mallory-laptop\"'), 'UTF8') WHERE seq = $1 AND log_id <> 'system'",
            seq,
        )
    finally:
        await connection.close(timeout=20)
    print(f"owner: {done.removeprefix('UPDATE ')} row changed, in place")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
