"""Fixtures for every test: a clean database (`db`), the whole running platform (`live_server`, `live_db`).

Nothing is started until a test asks for it; one PostgreSQL and one Valkey serve the whole run.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from domain import identity, ledger, merchants
from domain.core import bell
from domain.core import db as core_db
from domain.core.settings import settings
from server import processes
from tests import database
from tests.live import LiveServer, start

_RUN = "TEST_RUN_FOLDER"
_PID = "TEST_RUN_PID"
_STOP_S = 20.0


def pytest_configure(config: pytest.Config) -> None:
    """Forget the caller's configuration; the run's folder belongs to the process that was started first."""
    for name in list(os.environ):
        if name.startswith("KAMI_"):
            del os.environ[name]
    if not hasattr(config, "workerinput"):
        run = Path(tempfile.mkdtemp(prefix="kami-test-"))
        run.chmod(0o711)  # as root the servers run as somebody else
        os.environ[_RUN], os.environ[_PID] = str(run), str(os.getpid())
    data_dir = Path(os.environ[_RUN]) / f"data-{_worker()}"
    os.environ["KAMI_ENV"] = "test"
    os.environ["KAMI_DATA_DIR"] = str(data_dir)
    settings.cache_clear()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers of the run and wait for them, so that nothing is left when the prompt is back."""
    if hasattr(config, "workerinput"):
        return
    run = Path(os.environ[_RUN])
    pid_file = run / "keeper.pid"
    if pid_file.exists():
        pid = int(pid_file.read_text("ascii"))
        processes.stop(pid, [(signal.SIGTERM, _STOP_S), (signal.SIGKILL, 5.0)])
    shutil.rmtree(run, ignore_errors=True)


def _worker() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session")
def servers() -> database.Servers:
    """The run's PostgreSQL and Valkey."""
    return database.servers(Path(os.environ[_RUN]), int(os.environ[_PID]))


@pytest.fixture(scope="session")
def _own(servers: database.Servers) -> tuple[str, str, database.Cleaner]:
    """This process's DSN and Redis URL; a Redis database number each, so a FLUSHDB hurts nobody."""
    dsn = database.create_now(servers, f"kami_{_worker()}")
    number = int(_worker().removeprefix("gw")) + 1 if _worker().startswith("gw") else 0
    return dsn, servers.redis_url.replace("db=0", f"db={number}"), database.Cleaner()


@pytest.fixture
async def db(
    _own: tuple[str, str, database.Cleaner], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """An empty migrated database and an empty Redis, with the pool and the bell open on them."""
    dsn, redis_url, cleaner = _own
    monkeypatch.setenv("KAMI_DATABASE_URL", dsn)
    monkeypatch.setenv("KAMI_REDIS_URL", redis_url)
    settings.cache_clear()
    await core_db.open(dsn, minsize=1, maxsize=10)
    bell.open(redis_url)
    try:
        async with core_db.pool().acquire() as connection:
            await connection.execute("SET ROLE NONE")  # emptying is the owner's
            await cleaner.clean(connection)
            await connection.execute("RESET ROLE")  # back to the application's
        await bell.server().flushdb()
        identity.forget_viewers()
        ledger.forget()
        merchants.forget()
        yield
    finally:
        await bell.close()
        await core_db.close()
        settings.cache_clear()


@pytest.fixture(scope="session")
def live_server(servers: database.Servers) -> Iterator[LiveServer]:
    """The real platform as processes (API ×2, worker, sandbox) with the demo shop, shared by all tests of this
    pytest process. Tests that kill or flush take `own_live_server`."""
    with start(servers, f"kami_live_{_worker()}") as live:
        yield live


@pytest.fixture
def own_live_server(servers: database.Servers) -> Iterator[Callable[..., LiveServer]]:
    """`own_live_server(**environment)` starts a platform for this test alone; stopped at its end."""
    with _Started(servers) as started:
        yield started


class _Started:
    def __init__(self, servers: database.Servers) -> None:
        self._servers = servers
        self._open: list[LiveServer] = []

    def __call__(self, **environment: str) -> LiveServer:
        name = f"kami_own_{_worker()}_{time.monotonic_ns()}"
        live = start(self._servers, name, **environment)
        self._open.append(live)
        return live

    def __enter__(self) -> _Started:
        return self

    def __exit__(self, *_: object) -> None:
        for live in self._open:
            live.stop()


@pytest.fixture
async def live_db(live_server: LiveServer) -> AsyncIterator[None]:
    """The pool of this process on the live server's database, to look at what happened; nothing is emptied."""
    await core_db.open(live_server.database_url, minsize=1, maxsize=4)
    bell.open(live_server.redis_url)
    try:
        yield
    finally:
        await bell.close()
        await core_db.close()
