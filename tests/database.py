"""A database per pytest process, cloned from the template, and clean before every test within a millisecond or two."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from domain.core import db
from tests.keeper import REFERENCE, TEMPLATE

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 90
LOCK_TIMEOUT_MS = 1_000
_TOUCHED = """
SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relkind = 'r'
AND c.relnamespace = 'public'::regnamespace AND pg_relation_size(c.oid) > 0 AND c.relname <> ALL($1)
"""
_REFERENCE = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = $1::regnamespace"
COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""


@dataclass(frozen=True)
class Servers:
    """The run's PostgreSQL and Valkey."""

    dsn_pattern: str
    redis_url: str

    def dsn(self, database: str) -> str:
        """The DSN of one database."""
        return self.dsn_pattern.replace("/DATABASE?", f"/{database}?")


def servers(run: Path, pid: int) -> Servers:
    """The servers of the run `run`, started by whoever comes first; they end with process `pid`."""
    with open(run / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (run / "ready.json").exists():
            _start(run, pid)
    facts = json.loads((run / "ready.json").read_text("utf-8"))
    return Servers(facts["dsn"], facts["redis_url"])


def _start(run: Path, pid: int) -> None:
    with open(run / "keeper.log", "ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.keeper", str(run), str(pid)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (run / "keeper.pid").write_text(str(keeper.pid), "ascii")
    keeper.returncode = 0  # it outlives this process: no complaint about a child that still runs
    until = time.monotonic() + START_TIMEOUT_S
    while not (run / "ready.json").exists():
        failed = run / "failed.txt"
        if failed.exists():
            raise RuntimeError(f"the test database does not start:\n{failed.read_text('utf-8')}")
        if time.monotonic() > until:
            raise RuntimeError(f"the test database does not start, see {run / 'keeper.log'}")
        time.sleep(0.02)


async def create(servers: Servers, name: str) -> str:
    """A new database `name` from the template (replacing an old one); its DSN."""
    connection = await asyncpg.connect(servers.dsn("postgres"))
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    finally:
        await connection.close()
    return servers.dsn(name)


def create_now(servers: Servers, name: str) -> str:
    """`create` for those who cannot wait; works inside and outside of an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(create(servers, name))).result()


@asynccontextmanager
async def owner() -> AsyncIterator[None]:
    """A transaction of the pool with the rights of the tables' owner, for what the application never does."""
    async with db.transaction():
        await db.execute("SET LOCAL ROLE NONE")
        yield


async def as_owner(sql: str, *args: Any) -> int:
    """Run `sql` as the owner of the tables, in a transaction of its own; the rows it touched."""
    async with owner():
        return await db.execute(sql, *args)


@dataclass
class Cleaner:
    """Empties what a test has filled; rows that migrations brought stay, or come back."""

    _names: list[str] = field(default_factory=list)
    _marks: str = ""
    _before: list[tuple[int, int]] = field(default_factory=list)

    async def clean(self, connection: Any) -> None:
        """Run on a connection of the test's own database. Triggers and foreign keys are off meanwhile."""
        if not self._marks:
            await self._look(connection)
        await connection.execute(
            f"SET session_replication_role = replica; SET lock_timeout = {LOCK_TIMEOUT_MS}"
        )
        try:
            await self._empty(connection)
        except asyncpg.LockNotAvailableError:
            # A task of an earlier test still holds a transaction open.
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await self._empty(connection)
        finally:
            await connection.execute("RESET session_replication_role; RESET lock_timeout")

    async def _look(self, connection: Any) -> None:
        self._names = [row[0] for row in await connection.fetch(_REFERENCE, REFERENCE)]
        parts = [
            f"SELECT {no}, count(*), coalesce(max(xmin::text::bigint), 0) FROM {name}"
            for no, name in enumerate(self._names)
        ]
        self._marks = " UNION ALL ".join(parts) or "SELECT 0, 0, 0 WHERE false"
        self._before = await self._read(connection)

    async def _read(self, connection: Any) -> list[tuple[int, int]]:
        """(rows, youngest transaction) of each table with rows of its own: any change shows in one of them."""
        rows = await connection.fetch(self._marks)
        return [(row[1], row[2]) for row in sorted(rows, key=lambda row: row[0])]

    async def _empty(self, connection: Any) -> None:
        touched = [row["name"] for row in await connection.fetch(_TOUCHED, self._names)]
        if touched:
            await connection.execute(f"TRUNCATE {', '.join(touched)} RESTART IDENTITY CASCADE")
        now = await self._read(connection)
        if now == self._before:
            return
        for name, old, new in zip(self._names, self._before, now, strict=True):
            if old != new:
                columns = await connection.fetchval(COLUMNS, name)
                await connection.execute(
                    f"DELETE FROM {name}; INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE"
                    f" SELECT {columns} FROM {REFERENCE}.{name}"
                )
        self._before = await self._read(connection)
