"""H33: a Redis command that is cancelled takes its connection with it; nobody reads the reply that was meant for it.

CVE-2023-28858 and -28859: a client that was cancelled between sending and reading gave its connection back, and the
next one read somebody else's reply. Cost buckets and heartbeats go through the client of `bell`, jobs through arq's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from domain.core import bell
from domain.core.settings import settings
from server.graphql.limits import Size
from server.graphql.shared import SharedBuckets
from workers import queue

CUTS = {"bell": 4_000, "arq": 3_000, "pipelines": 3_000}  # ten thousand in all
AT_ONCE = 40
AFTER = 200

Ask = Callable[[int], Awaitable[int]]


async def _echo(client: Redis, number: int) -> int:
    return int(await client.echo(str(number)))


async def _pipelined(client: Redis, number: int) -> int:
    """What the buckets send: several commands at once, without a transaction."""
    async with client.pipeline(transaction=False) as pipe:
        pipe.hincrby(f"kami:crossed:{number}", "0", number)
        pipe.hgetall(f"kami:crossed:{number}")
        pipe.expire(f"kami:crossed:{number}", 5)
        added, held, kept = await pipe.execute()
    return number if (added, held, kept) == (number, {b"0": b"%d" % number}, True) else -1


@dataclass
class Scissors:
    """Cuts a command off when its bytes are out and its reply is not in: at once, or some turns of the loop later."""

    random: Random = field(default_factory=lambda: Random(33))
    meant: set[Any] = field(default_factory=set)  # tasks
    done: int = 0

    def cut(self) -> None:
        """Called where a command has been sent."""
        task = asyncio.current_task()
        if task in self.meant:
            self.meant.discard(task)
            self._later(task, self.random.randrange(4))

    def _later(self, task: Any, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._later, task, turns - 1)
        else:
            self.done += task.cancel()

    async def count(self, ask: Ask, cut: int) -> int:
        """Ask until `cut` questions were cut off; how many of the others got a wrong answer."""
        wrong = number = was_cut = 0
        while was_cut < cut:
            tasks = [asyncio.ensure_future(ask(number + place)) for place in range(AT_ONCE)]
            self.meant = set(tasks[::2])
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for place, answer in enumerate(answers):
                if isinstance(answer, asyncio.CancelledError):
                    was_cut += 1
                else:
                    wrong += int(answer != number + place)
            number += AT_ONCE
        after = [await ask(number + place) for place in range(AFTER)]
        return wrong + sum(answer != number + place for place, answer in enumerate(after))


@pytest.fixture
def scissors(monkeypatch: pytest.MonkeyPatch) -> Scissors:
    made, send = Scissors(), AbstractConnection.send_packed_command

    async def sent(self: AbstractConnection, *args: Any, **more: Any) -> None:
        await send(self, *args, **more)
        made.cut()

    monkeypatch.setattr(AbstractConnection, "send_packed_command", sent)
    return made


@asynccontextmanager
async def _client(name: str) -> AsyncIterator[Redis]:
    if name == "bell":
        yield bell.server()
        return
    url = settings().redis_url
    assert url is not None
    pool = queue.create_pool(url)
    try:
        yield pool
    finally:
        await pool.aclose(close_connection_pool=True)


@pytest.mark.parametrize("name", ["bell", "arq"])
async def test_h33_cancelled_commands_cross_no_replies(
    db: None, scissors: Scissors, name: str
) -> None:
    async with _client(name) as client:
        wrong = await scissors.count(lambda number: _echo(client, number), CUTS[name])

    assert wrong == 0


async def test_h33_cancelled_pipelines_cross_no_replies(db: None, scissors: Scissors) -> None:
    client = bell.server()

    assert await scissors.count(lambda number: _pipelined(client, number), CUTS["pipelines"]) == 0


async def test_h33_buckets_that_are_cut_off_in_mid_word_never_follow_another_callers(
    db: None, scissors: Scissors
) -> None:
    size = Size(1_000, 0.000_001)
    rich, poor = SharedBuckets(size, wall=lambda: 1e9), SharedBuckets(size, wall=lambda: 1e9)
    for number in range(300):
        await rich.take("rich", 0.001)
        await poor.take("poor", 0.001)
        rich._loud.add("rich")
        poor._loud.add("poor")
        tasks = [asyncio.ensure_future(one.sync()) for one in (rich, poor)]
        scissors.meant = {tasks[number % 2]}
        await asyncio.gather(*tasks, return_exceptions=True)
    assert scissors.done > 100  # some have answered before they are cut off

    await poor.take("poor", 900)
    await poor.sync()
    rich._loud.add("rich")
    await rich.sync()

    assert (await poor.take("poor", 0)).status()["currentlyAvailable"] <= 100
    assert (await rich.take("rich", 0)).status()["currentlyAvailable"] >= 999


async def test_h33_listeners_that_are_cut_off_hear_their_own_topic(db: None) -> None:
    heard: list[tuple[str, list[str]]] = []

    async def listen(topic: str) -> None:
        async for said, ids in bell.listen(topic):
            heard.append((topic, [said, *ids]))

    for number in range(60):
        tasks = [asyncio.ensure_future(listen(topic)) for topic in ("a", "b")]
        await asyncio.sleep(0.001 * (number % 4))
        await bell.ring("a", f"a{number}")
        await bell.ring("b", f"b{number}")
        await asyncio.sleep(0.001 * (number % 5))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    said = [words for _, words in heard if words != [""]]
    assert len(said) > 10
    assert all(topic == said[0] for topic, said in heard if said != [""])
    assert all(word[0] == topic for topic, said in heard for word in said[1:])


async def test_a_client_that_keeps_its_connection_would_be_seen_here(
    db: None, scissors: Scissors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault of the advisories, made by hand: what is cut off stays connected."""

    async def stays(self: AbstractConnection, nowait: bool = False) -> None:
        return None

    client = bell.server()
    assert await _echo(client, 1) == 1
    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "disconnect", stays)
        try:
            wrong = await scissors.count(lambda number: _echo(client, number), 200)
        except RedisError:  # a connection that still had somebody's reply in it
            wrong = 1
    await client.connection_pool.disconnect()

    assert wrong > 0
