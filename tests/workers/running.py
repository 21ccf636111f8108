"""A worker inside the test: real PostgreSQL, real Valkey, the relay and arq's workers of some queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from domain.core import db, promises
from domain.core.ids import uuid7
from domain.core.settings import settings
from tests.receiver import collected
from workers import queue
from workers.loops import keep_running
from workers.webhooks import Dispatcher

WITHIN_S = 20.0
seen: list[UUID] = []


async def note(subject_id: UUID) -> None:
    """A task that only remembers its subjects, in `seen`."""
    seen.append(subject_id)


async def tries_of(subject_id: UUID) -> tuple[str, int, str | None]:
    """State, tries and error of the promise for one subject."""
    row = await db.row("SELECT state, tries, error FROM promise WHERE subject_id = $1", subject_id)
    assert row is not None
    return row["state"], row["tries"], row["error"]


@asynccontextmanager
async def working(*queues: str) -> AsyncIterator[queue.Runners]:
    """Relay and workers of `queues` until the block ends; they are stopped as by SIGTERM."""
    until = asyncio.Event()
    url = settings().redis_url
    assert url is not None
    runners = queue.Runners(queue.create_pool(url), list(queues))
    running = [
        asyncio.create_task(runners.keep_running(until)),
        asyncio.create_task(keep_running([runners.relay.loop], until)),
    ]
    try:
        yield runners
    finally:
        until.set()
        await asyncio.gather(*running)


async def owe(task: str, *, queue: str = "general", count: int = 1) -> list[UUID]:
    """Promise `task` for new subjects; their ids."""
    subjects = [uuid7() for _ in range(count)]
    async with db.transaction():
        await promises.promise_many(queue, task, [(subject, None) for subject in subjects])
    return subjects


async def until_true(check: Callable[[], Awaitable[object]], what: str = "it") -> None:
    """Wait until `check()` holds; fails after WITHIN_S."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WITHIN_S
    while not await check():
        assert loop.time() < end, f"{what} never came true"
        await asyncio.sleep(0.01)


async def states() -> dict[str, int]:
    """How many promises are in which state."""
    rows = await db.fetch("SELECT state, count(*) AS n FROM promise GROUP BY state")
    return {row["state"]: row["n"] for row in rows}


async def all_done(count: int) -> None:
    """Wait until `count` promises are done and no other is left."""

    async def check() -> bool:
        return await states() == {"done": count}

    await until_true(check, f"{count} kept promises")


async def leases_end() -> None:
    """Every lease is over and swept, as after a minute."""
    await db.execute("UPDATE promise SET lease_until = clock_timestamp() - interval '1 s'")
    await promises.sweep()


async def sent(dispatcher: Dispatcher) -> None:
    """Everything that is owed now has been tried."""
    await collected()
    await dispatcher.idle()
