"""Cost buckets of several processes over a real Valkey: one bucket per caller, no message per request."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from domain.core import bell
from domain.core.settings import settings
from server.app import App, create_app
from server.graphql import shared
from server.graphql.limits import STRICT, LocalBuckets, Size
from server.graphql.shared import SharedBuckets, replay
from tests.server import graphql_toy

STEP_S = 0.5  # of STRICT: 1,000 points, 100 a second
WALL = 1_800_000_000.0


class Clocks:
    """Time of several processes, moved by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def buckets(self, size: Size = STRICT, server: Callable[[], Redis] | None = None) -> Any:
        return SharedBuckets(
            size, server or bell.server, now=lambda: self.at, wall=lambda: WALL + self.at
        )


async def spend(buckets: SharedBuckets, key: str, cost: float) -> bool:
    return (await buckets.take(key, cost)).retry_after_s is None


async def settled(*all_of: SharedBuckets) -> None:
    """Let every process tell, and then hear what the others told."""
    for _ in range(2):
        for buckets in all_of:
            buckets._loud.update(buckets._kept)
            await buckets.sync()


async def test_what_is_spent_in_one_process_is_missing_in_the_others(db: None) -> None:
    clocks = Clocks()
    one, two = clocks.buckets(), clocks.buckets()

    assert await spend(one, "a", 600)
    await spend(two, "a", 1)
    await settled(one, two)

    assert await spend(two, "a", 500) is False
    assert await spend(two, "a", 399)
    assert await spend(two, "b", 1_000)  # somebody else


async def test_four_processes_give_one_bucket_and_what_comes_back(db: None) -> None:
    clocks = Clocks()
    processes = [clocks.buckets() for _ in range(4)]
    taken = 0
    for _ in range(100):  # ten seconds
        for buckets in processes:
            taken += 10 * sum([await spend(buckets, "a", 10) for _ in range(10)])
        await settled(*processes)
        clocks.at += 0.1

    # One bucket and ten seconds of refill; what four processes give before they have told each other comes on top.
    once = 1_000 + 10 * 100
    assert once * 0.95 <= taken <= once + 3 * 100 + STRICT.capacity / shared.SHARE
    assert taken < 4 * once / 2


async def test_it_tells_by_itself_and_only_of_those_who_spend_much(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "SYNC_EVERY_S", 0.01)
    buckets, other = SharedBuckets(STRICT), SharedBuckets(STRICT)

    for number in range(300):
        assert await spend(buckets, f"buyer {number}", 40)
    await asyncio.sleep(0.05)
    assert await bell.server().keys("kami:cost:*") == []

    assert await spend(buckets, "greedy", 900)
    await _until(lambda: not buckets._loud and buckets._teller is not None)
    await _until(lambda: buckets._teller is not None and buckets._teller.done())
    names = await bell.server().keys("kami:cost:*")
    assert len(names) == 1
    assert b"greedy" not in names[0]
    assert 0 < await bell.server().ttl(names[0]) <= 20

    assert await spend(other, "greedy", 60)  # it does not know yet
    await _until(lambda: other._teller is not None and other._teller.done())
    assert await spend(other, "greedy", 500) is False
    await buckets.close()
    await other.close()


async def test_redis_away_leaves_each_process_its_own_bucket_and_is_told_of_later(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "SYNC_EVERY_S", 0.01)
    monkeypatch.setattr(shared, "AWAY_S", 0.02)
    nowhere = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2)
    server = [nowhere]
    one = SharedBuckets(STRICT, lambda: server[0])
    two = SharedBuckets(STRICT)

    assert await spend(one, "a", 900)
    await _until(lambda: one.is_alone)
    # Nothing waits for Redis, and the bound of a process holds as it would alone.
    assert await spend(one, "a", 500) is False
    assert await spend(one, "b", 1_000)
    assert await bell.server().keys("kami:cost:*") == []

    server[0] = bell.server()
    await _until(lambda: not one.is_alone)
    assert await spend(two, "a", 60)
    await _until(lambda: two._teller is not None and two._teller.done())
    assert await spend(two, "a", 500) is False
    await one.close()
    await two.close()
    await nowhere.aclose()


async def test_the_teller_ends_with_the_process(db: None) -> None:
    buckets = SharedBuckets(STRICT)
    await spend(buckets, "a", 500)
    task = buckets._teller

    await buckets.close()

    assert task is not None
    assert task.done()


async def test_what_is_given_back_is_given_back_everywhere(db: None) -> None:
    clocks = Clocks()
    one, two = clocks.buckets(), clocks.buckets()

    await spend(one, "a", 900)
    await one.settle("a", -800)
    await spend(two, "a", 1)
    await settled(one, two)

    assert await spend(two, "a", 898)


async def test_history_is_pruned_and_untold_small_change_is_bounded(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.graphql.limits.BUCKETS_MAX", 100)
    monkeypatch.setattr(shared, "SYNC_MAX", 50)
    clocks = Clocks()
    buckets = clocks.buckets()
    for _ in range(200):
        await spend(buckets, "a", 50)
        buckets._loud.add("a")
        await buckets.sync()
        clocks.at += STEP_S

    (name,) = await bell.server().keys("kami:cost:*")
    assert len(await cast("Any", bell.server().hgetall(name))) <= shared.STEPS * 2 + 2
    for number in range(1_000):
        await spend(buckets, str(number), 1)
    assert len(buckets._untold) <= 100 + 50 + 1
    await buckets.close()


@given(
    costs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 300)), max_size=40),
    seconds=st.floats(16, 40),
)
def test_replay_is_never_below_the_bucket_it_stands_for(
    costs: list[tuple[int, int]], seconds: float
) -> None:
    """Spending at any moments, replayed from its slices, leaves what the bucket has, or one slice's refill more."""
    times = itertools.count()
    moments = sorted((at / 2 + next(times) % 5 / 10, cost) for at, cost in costs)
    available, now = STRICT.capacity, 0.0
    spent: dict[int, int] = {}
    for at, cost in moments:
        available, now = min(STRICT.capacity, available + (at - now) * STRICT.refill), at
        if cost > available:
            continue
        available -= cost
        step = int(at / STEP_S)
        spent[step] = spent.get(step, 0) + cost
    available = min(STRICT.capacity, available + (seconds - now) * STRICT.refill)

    found = replay(spent, seconds / STEP_S, STEP_S, STRICT)

    assert available - 1e-6 <= found <= available + STRICT.refill * STEP_S + 1e-6


def test_replay_forgets_nothing_of_a_debt_and_bounds_it() -> None:
    now = WALL / STEP_S

    assert replay({int(now): 5_000}, now, STEP_S, STRICT) == -1_000
    assert replay({int(now) - 10: 1_500}, now, STEP_S, STRICT) == 0
    assert replay({int(now) - 41: 9_000}, now, STEP_S, STRICT) == 1_000
    assert replay({}, now, STEP_S, STRICT) == 1_000
    # A clock that runs ahead takes nothing back.
    assert replay({int(now) + 4: 100}, now, STEP_S, STRICT) == 900


def test_only_a_process_that_has_redis_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept() is LocalBuckets

    monkeypatch.setenv("KAMI_REDIS_URL", "redis://127.0.0.1:1/0")
    settings.cache_clear()
    try:
        assert kept() is SharedBuckets
    finally:
        monkeypatch.delenv("KAMI_REDIS_URL")
        settings.cache_clear()


def kept() -> type:
    """What the application keeps its buckets in."""
    app = cast("App", create_app(graphql_toy.schema).app)
    return type(app.graphql.door.buckets)


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.005)
