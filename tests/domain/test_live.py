"""The hub of live listeners: read together, told once each, in order, bounded, and kept awake.

CASES C21, L33.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import pytest

from domain.core import ids, live
from domain.core.errors import Unavailable
from domain.core.live import Hub, Listener, SlowConsumer, TooManyListeners
from domain.core.settings import settings


class Fact(NamedTuple):
    """An event of the log below."""

    sequence: int


@dataclass
class Log:
    """What the database would hold; every look is noted, and may be held up or fail."""

    newest: dict[UUID, int] = field(default_factory=dict)
    looks: list[tuple[dict[UUID, int], set[UUID]]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    async def look(
        self, after: Mapping[UUID, int], unmet: Collection[UUID]
    ) -> dict[UUID, tuple[str, list[Fact]]]:
        self.looks.append((dict(after), set(unmet)))
        found = {
            order_id: (
                f"v{self.newest[order_id]}",
                [Fact(no) for no in range(sequence + 1, self.newest[order_id] + 1)],
            )
            for order_id, sequence in after.items()
            if order_id in self.newest and (self.newest[order_id] > sequence or order_id in unmet)
        }
        error = self.error  # what was so when the look began
        await self.gate.wait()
        if error is not None:
            raise error
        return found


@pytest.fixture
async def log() -> Log:
    made = Log()
    made.gate.set()
    return made


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """A hub that is rung by hand."""
    monkeypatch.setattr(live, "RETRY_S", 0.01)
    monkeypatch.setenv("KAMI_LIVE_HEARTBEAT_S", "0.3")
    settings.cache_clear()
    made = Hub()
    settings.cache_clear()
    tasks = [asyncio.create_task(made._serve()), asyncio.create_task(made._beat())]
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def told(listener: Listener[str, Fact], count: int) -> list[int]:
    """The next sequences, heartbeats passed over."""
    found: list[int] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            one = await listener.next()
            if one is not None:
                found.append(one.sequence)
    return found


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_wave_of_many_orders_is_one_look(hub: Hub, log: Log) -> None:
    orders = [ids.uuid7() for _ in range(50)]
    log.newest = dict.fromkeys(orders, 1)

    async def watch(order_id: UUID) -> tuple[str | None, list[int]]:
        async with hub.listen(order_id, after=0, look=log.look) as listener:
            first = await listener.first()
            return first, await told(listener, 2)

    watching = [asyncio.create_task(watch(order_id)) for order_id in orders]
    await turns()
    assert [len(after) for after, _ in log.looks] == [50]
    log.newest = dict.fromkeys(orders, 2)
    hub._touch(orders)
    seen = await asyncio.gather(*watching)

    assert seen == [("v1", [1, 2])] * 50
    assert log.looks[1:] == [(dict.fromkeys(orders, 1), set())]
    assert hub.count == 0
    assert not hub._listeners
    assert not hub.expected


async def test_l33_who_joins_while_an_order_is_read_for_others_misses_nothing(
    hub: Hub, log: Log
) -> None:
    order_id = ids.uuid7()
    log.newest[order_id] = 4
    async with hub.listen(order_id, after=4, look=log.look) as early:
        await early.first()
        log.newest[order_id] = 5
        log.gate.clear()
        hub._touch([order_id])
        await turns()
        async with hub.listen(order_id, after=0, look=log.look) as late:
            log.gate.set()

            assert await told(early, 1) == [5]
            assert await told(late, 5) == [1, 2, 3, 4, 5]
            assert not early._queue  # nothing twice


async def test_c21_every_listener_of_an_order_is_told_from_where_it_stands(
    hub: Hub, log: Log
) -> None:
    order_id = ids.uuid7()
    log.newest[order_id] = 3
    async with (
        hub.listen(order_id, after=0, look=log.look) as whole,
        hub.listen(order_id, after=2, look=log.look) as rest,
        hub.listen(order_id, after=3, look=log.look) as nothing,
    ):
        assert await told(whole, 3) == [1, 2, 3]
        assert await told(rest, 1) == [3]
        assert await nothing.first() == "v3"
        assert await nothing.next() is None  # a heartbeat


async def test_the_order_is_kept_for_its_events_only(hub: Hub, log: Log) -> None:
    order_id = ids.uuid7()
    log.newest[order_id] = 2
    async with hub.listen(order_id, after=0, look=log.look) as listener:
        assert await told(listener, 1) == [1]
        assert listener.value == "v2"
        log.newest[order_id] = 3
        hub._touch([order_id])
        await turns()
        assert await told(listener, 1) == [2]
        assert listener.value == "v3"  # the newest, whatever event it is shown with
        assert await told(listener, 1) == [3]
        waiting = asyncio.create_task(listener.next())
        await turns()
        assert listener.value is None
        waiting.cancel()


async def test_what_does_not_exist_is_none_and_a_failed_first_look_is_raised(
    hub: Hub, log: Log
) -> None:
    async with hub.listen(ids.uuid7(), after=0, look=log.look) as missing:
        assert await missing.first() is None
    order_id = ids.uuid7()
    log.newest[order_id] = 1
    log.error = Unavailable(what="database")
    async with hub.listen(order_id, after=0, look=log.look) as refused:
        with pytest.raises(Unavailable):
            await refused.first()
    log.error = None
    async with hub.listen(order_id, after=0, look=log.look) as listener:
        assert await told(listener, 1) == [1]


async def test_a_look_that_fails_later_is_taken_again(hub: Hub, log: Log) -> None:
    order_id = ids.uuid7()
    log.newest[order_id] = 1
    async with hub.listen(order_id, after=0, look=log.look) as listener:
        assert await told(listener, 1) == [1]
        log.error = Unavailable(what="database")
        log.newest[order_id] = 2
        hub._touch([order_id])
        await turns()
        log.error = None

        assert await told(listener, 1) == [2]


async def test_u02_who_does_not_read_is_cut_and_comes_back_with_its_cursor(
    hub: Hub, log: Log
) -> None:
    order_id = ids.uuid7()
    log.newest[order_id] = 1
    async with hub.listen(order_id, after=0, look=log.look) as slow:
        assert await told(slow, 1) == [1]
        for more in (live.QUEUE_MAX + 2, live.QUEUE_MAX + 3):
            assert not slow.is_cut
            log.newest[order_id] = more
            hub._touch([order_id])
            await turns()
        with pytest.raises(SlowConsumer):
            await slow.next()
    async with hub.listen(order_id, after=live.QUEUE_MAX + 1, look=log.look) as back:
        assert await told(back, 2) == [live.QUEUE_MAX + 2, live.QUEUE_MAX + 3]


async def test_a_past_longer_than_the_queue_is_told_whole(hub: Hub, log: Log) -> None:
    order_id = ids.uuid7()
    log.newest[order_id] = 3 * live.QUEUE_MAX
    async with hub.listen(order_id, after=0, look=log.look) as listener:
        assert await told(listener, 3 * live.QUEUE_MAX) == list(range(1, 3 * live.QUEUE_MAX + 1))


async def test_c21_a_heartbeat_comes_while_nothing_happens_and_not_before(
    hub: Hub, log: Log
) -> None:
    order_id = ids.uuid7()
    log.newest[order_id] = 0
    async with hub.listen(order_id, after=0, look=log.look) as listener:
        await listener.first()
        beats = asyncio.create_task(listener.next())
        await turns()
        hub._touch([order_id])  # a ring with nothing behind it is no heartbeat
        await turns()

        assert len(log.looks) == 2
        assert not beats.done()
        async with asyncio.timeout(5):
            assert await beats is None


async def test_a_process_has_a_bound_for_listeners(
    hub: Hub, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LISTENERS_MAX", 1)
    async with hub.listen(ids.uuid7(), after=0, look=log.look):
        with pytest.raises(TooManyListeners):
            async with hub.listen(ids.uuid7(), after=0, look=log.look):
                pass
    assert hub.count == 0
