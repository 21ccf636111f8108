"""One PostgreSQL and one Valkey for a whole test run: `python -m tests.keeper FOLDER PID`, gone when PID is gone.

The first test that needs a database starts it, all xdist workers share it, and it ends with the pytest process
that the run belongs to, even when that is killed. The template database is migrated once.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import asyncpg

from domain.core import migrate
from server import processes
from server.embedded import PostgresServer, ValkeyServer

TEMPLATE = "kami_template"
REFERENCE = "kami_reference"  # schema of the template: copies of the rows that migrations bring
_LOOK_S = 0.3
_UNSAFE = {  # a test run that loses power is run again
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "200",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "1h",
}


def main(folder: Path, pid: int) -> None:
    """Serve until process `pid` ends or somebody sends SIGTERM; then leave nothing behind."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    postgres = PostgresServer(folder / "servers", _UNSAFE)
    valkey = ValkeyServer(folder / "servers", {"appendonly": "no"})
    try:
        postgres.start()
        redis_url = valkey.start()
        asyncio.run(_make_template(postgres))
        dsn = postgres.dsn("DATABASE")
        _tell(folder, "ready.json", json.dumps({"dsn": dsn, "redis_url": redis_url}))
        while not stopping and processes.alive(pid):
            time.sleep(_LOOK_S)
    except BaseException:
        _tell(folder, "failed.txt", traceback.format_exc())
        raise
    finally:
        valkey.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=not stopping)


def _tell(folder: Path, name: str, text: str) -> None:
    draft = folder / f"{name}.new"
    draft.write_text(text, "utf-8")
    draft.rename(folder / name)


async def _make_template(postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    await connection.close()
    await migrate.migrate(postgres.dsn(TEMPLATE))
    connection = await asyncpg.connect(postgres.dsn(TEMPLATE))
    await connection.execute(f"CREATE SCHEMA {REFERENCE}")
    for row in await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        " AND pg_relation_size(oid) > 0"
    ):
        name = row["relname"]
        await connection.execute(f"CREATE TABLE {REFERENCE}.{name} AS TABLE public.{name}")
    await connection.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
