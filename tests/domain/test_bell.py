"""The doorbell: rings of one moment leave as one message, and none of them is swallowed by another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from domain.core import bell
from domain.core.settings import settings

Heard = list[tuple[str, list[str]]]


@asynccontextmanager
async def hearing(*topics: str) -> AsyncIterator[tuple[Heard, Callable[[int], Awaitable[None]]]]:
    """What is heard on `topics` from now on, and a wait until as many messages have come."""
    heard: Heard = []
    came = asyncio.Event()

    async def listen() -> None:
        async for topic, ids in bell.listen(*topics):
            heard.append((topic, sorted(ids)))
            came.set()

    async def until(count: int) -> None:
        async with asyncio.timeout(10):
            while len(heard) < count:
                came.clear()
                await came.wait()

    task = asyncio.create_task(listen())
    await until(1)  # the first word of a listener: rings may have been missed
    heard.clear()
    try:
        yield heard, until
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.1)


async def test_rings_of_one_moment_are_one_message_per_topic(db: None) -> None:
    async with hearing("a", "b") as (heard, until):
        for number in range(20):
            await bell.ring("a", str(number % 5))
        await bell.ring("b", "x", "y")
        await until(2)
        await asyncio.sleep(0.05)

    assert sorted(heard) == [("a", ["0", "1", "2", "3", "4"]), ("b", ["x", "y"])]


async def test_a_ring_for_everybody_is_never_narrowed_by_one_for_somebody(db: None) -> None:
    async with hearing("a") as (heard, until):
        await bell.ring("a", "1")
        await bell.ring("a")
        await bell.ring("a", "2")
        await until(1)
        await asyncio.sleep(0.05)

    assert heard == [("a", [])]


async def test_more_ids_than_a_message_holds_are_all_told(db: None) -> None:
    ids = [f"{number:04d}" for number in range(2 * bell.IDS_MAX + 1)]
    async with hearing("a") as (heard, until):
        await bell.ring("a", *ids)
        await until(3)

    assert max(len(told) for _, told in heard) == bell.IDS_MAX
    assert sorted(one for _, told in heard for one in told) == ids


async def test_what_rang_before_the_bell_is_closed_is_heard(db: None) -> None:
    async with hearing("a") as (heard, until):  # on a connection of its own
        await bell.ring("a", "last")
        await bell.close()
        bell.open(str(settings().redis_url))
        await until(1)

    assert heard == [("a", ["last"])]
