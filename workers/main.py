"""The worker process: one or several queues, the relay, their loops, the timetable."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Sequence

import structlog

from domain.core import bell, db
from domain.core.heartbeat import QUEUES
from domain.core.settings import WORKER_CONNECTIONS, settings
from plugins import installed
from workers import (
    audit,
    books,
    bulk,
    cron,
    delivery,
    notifications,
    queue,
    registry,
    sagas,
    sale,
    webhooks,
)
from workers.loops import keep_running

_log = structlog.get_logger(__name__)


def load() -> None:
    """Register every task and loop of this build, anew when called again."""
    registry.tasks.clear()
    for loops in registry.loops.values():
        loops.clear()
    sale.load()
    delivery.load()
    books.load()
    audit.load()
    notifications.load()
    webhooks.load()
    bulk.load()
    sagas.load()


async def run(queues: Sequence[str], *, stop: asyncio.Event | None = None) -> None:
    """Work on `queues` until SIGTERM or SIGINT (or `stop`), then end what runs within ten seconds.

    Errors: SettingsWrong; the driver's when the database cannot be reached at the start.
    """
    assert set(queues) <= set(QUEUES), queues
    found = settings()
    assert found.database_url is not None, "KAMI_DATABASE_URL is not set"
    assert found.redis_url is not None, "KAMI_REDIS_URL is not set"
    until = stop or asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, until.set)
    installed.load(found)
    load()
    await db.open(found.database_url, minsize=1, maxsize=WORKER_CONNECTIONS)
    bell.open(found.redis_url)
    calm_collector()
    try:
        await _work(list(queues), found.redis_url, until)
    finally:
        await installed.close()
        await bell.close()
        await db.close()
    _log.info("worker.stopped", queues=list(queues))


def calm_collector() -> None:
    """A set is thousands of short-lived rows: with Python's thresholds a fifth of its time goes to collections."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _work(queues: list[str], redis_url: str, until: asyncio.Event) -> None:
    runners = queue.Runners(queue.create_pool(redis_url), queues)
    timetable = cron.Timetable(cron.EVERY, cron.DAILY)
    loops = [runners.relay.loop, timetable.loop]
    for name in queues:
        loops += registry.loops[name]
    _log.info("worker.started", queues=queues, loops=[loop.name for loop in loops])
    relaying = asyncio.create_task(keep_running(loops, until))
    try:
        await runners.keep_running(until)
        await relaying
    finally:
        until.set()
        await asyncio.gather(relaying, return_exceptions=True)
        await timetable.stop()
        await webhooks.close()
