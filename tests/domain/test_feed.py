"""Followers of whole logs in one process: read together by place, each at its own pace, kept awake, never cut.

CASES C21, L33.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from domain.core import feed, ids, live
from domain.core.errors import Unavailable
from domain.core.events import Place
from domain.core.feed import Batch, Feed, Follower
from domain.core.live import Hub, TooManyListeners
from domain.core.settings import settings

START = Place(0, 0, 0)
PER_READ = 3


@dataclass
class Log:
    """What the database would hold: numbers by merchant, those from `hidden` on behind a running transaction."""

    newest: dict[UUID, int] = field(default_factory=dict)
    hidden: dict[UUID, int] = field(default_factory=dict)
    looks: list[list[tuple[UUID, Place]]] = field(default_factory=list)
    error: Exception | None = None

    async def look(self, asked: Sequence[tuple[UUID, Place]]) -> list[Batch[int]]:
        self.looks.append(list(asked))
        if self.error is not None:
            raise self.error
        return [self._after(merchant_id, place) for merchant_id, place in asked]

    def _after(self, merchant_id: UUID, place: Place) -> Batch[int]:
        newest = self.newest.get(merchant_id, 0)
        until = min(newest, self.hidden.get(merchant_id, newest + 1) - 1)
        found = list(range(place.no + 1, until + 1))[:PER_READ]
        upto = Place(0, found[-1], 0) if found else place
        return Batch(found, upto, upto.no < until, until < newest)


@pytest.fixture
async def log() -> Log:
    return Log()


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """A hub whose feed is rung by hand."""
    monkeypatch.setattr(feed, "READ_EVERY_S", 0.001)
    monkeypatch.setattr(feed, "RETRY_S", 0.01)
    monkeypatch.setattr(feed, "WAITING_S", 0.01)
    monkeypatch.setenv("KAMI_LIVE_HEARTBEAT_S", "0.3")
    settings.cache_clear()
    made = Hub()
    settings.cache_clear()
    tasks = [asyncio.create_task(made.feed.run()), asyncio.create_task(made._beat())]
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def told(follower: Follower[int], count: int) -> list[int]:
    """The next events, heartbeats passed over."""
    found: list[int] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            one = await follower.next()
            if one is not None:
                found.append(one)
    return found


async def test_followers_at_one_place_are_read_for_once_and_others_with_them(
    hub: Hub, log: Log
) -> None:
    one, two = ids.uuid7(), ids.uuid7()
    log.newest = {one: 2, two: 1}
    async with (
        hub.feed.follow(one, START, log.look) as first,
        hub.feed.follow(one, START, log.look) as second,
        hub.feed.follow(one, Place(0, 1, 0), log.look) as later,
        hub.feed.follow(two, START, log.look) as other,
    ):
        hub.feed.look_again()
        found = await asyncio.gather(
            told(first, 2), told(second, 2), told(later, 1), told(other, 1)
        )

        assert list(found) == [[1, 2], [1, 2], [2], [1]]
        assert [sorted(look) for look in log.looks] == [
            sorted([(one, START), (one, Place(0, 1, 0)), (two, START)])
        ]
        log.newest[one] = 3
        hub.feed.ring()
        again = await asyncio.gather(told(first, 1), told(second, 1), told(later, 1))

        assert list(again) == [[3]] * 3
        # Those who have caught up are one place.
        assert sorted(log.looks[1]) == sorted([(one, Place(0, 2, 0)), (two, Place(0, 1, 0))])
    assert hub.count == 0
    assert not hub.feed._followers
    assert not hub.expected


async def test_a_long_past_is_read_when_what_was_read_is_taken(hub: Hub, log: Log) -> None:
    one = ids.uuid7()
    log.newest[one] = 8
    async with hub.feed.follow(one, START, log.look) as follower:
        assert await told(follower, 1) == [1]
        await asyncio.sleep(0.05)
        assert len(log.looks) == 1  # two wait to be taken
        assert await told(follower, 7) == [2, 3, 4, 5, 6, 7, 8]
    assert [look[0][1].no for look in log.looks] == [0, 3, 6]


async def test_l33_what_waits_for_an_older_transaction_comes_without_another_ring(
    hub: Hub, log: Log
) -> None:
    one = ids.uuid7()
    log.newest[one], log.hidden[one] = 2, 2
    async with hub.feed.follow(one, START, log.look) as follower:
        assert await told(follower, 1) == [1]
        waiting = asyncio.create_task(told(follower, 1))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        del log.hidden[one]

        assert await waiting == [2]


async def test_a_read_that_fails_is_made_again_and_nothing_is_lost(hub: Hub, log: Log) -> None:
    one = ids.uuid7()
    log.newest[one] = 2
    log.error = Unavailable(what="database")
    async with hub.feed.follow(one, START, log.look) as follower:
        waiting = asyncio.create_task(told(follower, 2))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert len(log.looks) > 1
        log.error = None

        assert await waiting == [1, 2]


async def test_nothing_for_the_time_of_a_heartbeat_is_said_and_nobody_is_read_for(
    hub: Hub, log: Log
) -> None:
    async with hub.feed.follow(ids.uuid7(), START, log.look) as follower:
        async with asyncio.timeout(5):
            assert [await follower.next() for _ in range(3)] == [None] * 3
        assert len(log.looks) == 1


async def test_followers_and_listeners_are_bounded_together(
    hub: Hub, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LISTENERS_MAX", 1)
    assert isinstance(hub.feed, Feed)
    async with hub.feed.follow(ids.uuid7(), START, log.look):
        with pytest.raises(TooManyListeners):
            async with hub.feed.follow(ids.uuid7(), START, log.look):
                pass
    assert hub.count == 0
