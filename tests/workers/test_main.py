"""The worker as a process: killed in the middle, ended in order, alive for readiness."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from domain.core import bell, heartbeat
from domain.core import db as database
from domain.core.settings import ROOT
from tests.workers.running import all_done, owe, until_true

Start = Callable[[], Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start(db: None) -> AsyncIterator[Start]:
    async with AsyncExitStack() as ended:

        async def begin() -> asyncio.subprocess.Process:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.workers.child",
                cwd=ROOT,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )

            async def end() -> None:
                if process.returncode is None:
                    process.kill()
                await process.wait()

            ended.push_async_callback(end)
            return process

        yield begin


async def marks() -> list[str]:
    rows = await database.fetch("SELECT name FROM event_reader ORDER BY name")
    return [row["name"].partition(" ")[2] for row in rows]


async def has_begun() -> bool:
    return "begun 0" in await marks()


async def test_k01_a_worker_killed_in_a_task_is_followed_by_another(start: Start) -> None:
    first = await start()
    await owe("mark")
    await until_true(has_begun)

    os.kill(first.pid, signal.SIGKILL)
    await first.wait()
    await start()
    await all_done(1)

    assert await marks() == ["begun 0", "begun 1", "ended 1"]
    assert await database.value("SELECT tries FROM promise") == 2


async def test_k03_sigterm_lets_the_task_end_and_leaves_nothing_behind(start: Start) -> None:
    worker = await start()
    await owe("mark")
    await until_true(has_begun)

    worker.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(worker.wait(), 10)

    assert code == 0
    assert await marks() == ["begun 0", "ended 0"]
    rows = await database.fetch("SELECT state, tries FROM promise")
    assert [tuple(row) for row in rows] == [("done", 1)]


async def test_a_stopped_worker_takes_nothing_more_and_the_next_one_does(start: Start) -> None:
    worker = await start()
    await owe("mark", count=40)
    await until_true(has_begun)
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(worker.wait(), 10) == 0

    await start()

    await all_done(40)
    assert await database.value("SELECT max(tries) FROM promise") == 1


async def test_the_poll_loop_shows_that_it_lives(start: Start) -> None:
    assert (await heartbeat.ages_s())["general"] is None

    await start()

    async def is_alive() -> bool:
        age_s = (await heartbeat.ages_s())["general"]
        return age_s is not None and age_s < heartbeat.LATE_S

    await until_true(is_alive)
    assert (await heartbeat.ages_s())["settlement"] is None


async def test_k15_a_worker_outlives_a_silent_redis(start: Start) -> None:
    await start()

    async def is_alive() -> bool:
        return (await heartbeat.ages_s())["general"] is not None

    await until_true(is_alive)
    await bell.server().client_pause(3_000)
    await owe("mark")

    await all_done(1)
