"""Many buyers, few keys, and processes that die meanwhile: nobody is sold what somebody else has (CASES D01, K)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
from redis.exceptions import RedisError

from domain.core import bell
from domain.core import db as core
from domain.core.errors import DomainError
from tests import make
from tests.journeys import checker
from tests.journeys.shoppers import Shoppers, Trip, at_rest, owners, shoppers
from tests.live import LiveServer

BUYERS = 200
KEYS = 20


@pytest.fixture
async def crowd(live_server: LiveServer) -> AsyncIterator[Shoppers]:
    async with shoppers(live_server) as found:
        yield found


async def goods_of(crowd: Shoppers, trips: list[Trip]) -> list[str]:
    """What every buyer with an order finds on the order's page."""
    orders = await asyncio.gather(
        *(crowd.order(trip.order_id, trip.access_key) for trip in trips if trip.order_id)
    )
    return [good["content"] for order in orders for good in order["goods"] if not good["revoked"]]


async def test_d01_two_hundred_buyers_and_twenty_keys(
    live_server: LiveServer, live_db: None, crowd: Shoppers
) -> None:
    of = await make.shop(keys=KEYS)

    trips = await asyncio.gather(*(crowd.buy(of) for _ in range(BUYERS)))
    await at_rest(of)

    told = Counter(trip.outcome for trip in trips)
    goods = await goods_of(crowd, trips)
    # A callback may be faster than the answer of pay: then it says CAPTURED at once.
    assert told["REQUIRES_ACTION"] + told["CAPTURED"] == KEYS, told
    assert told["OUT_OF_STOCK"] == BUYERS - KEYS, told
    assert len(goods) == len(set(goods)) == KEYS
    assert set((await owners(of)).values()) == {1}
    assert (
        await core.value("SELECT count(*) FROM capture WHERE merchant_id = $1", of.merchant_id)
        == KEYS
    )
    assert set(crowd.errors) <= {"UNAVAILABLE"}  # two busy cores may say: not now, try again
    assert await checker.faults() == []


async def test_d01_an_order_of_five_with_four_left_takes_none(
    live_server: LiveServer, live_db: None, crowd: Shoppers
) -> None:
    of = await make.shop(keys=4)

    refused = await crowd.buy(of, quantity=5)
    trips = await asyncio.gather(*(crowd.buy(of, quantity=3) for _ in range(4)))
    await at_rest(of)

    assert refused.outcome == "OUT_OF_STOCK"
    assert Counter(trip.outcome for trip in trips)["OUT_OF_STOCK"] == 3
    assert list((await owners(of)).values()) == [3]
    open_keys = "SELECT count(*) FROM card_key WHERE merchant_id = $1 AND open"
    assert await core.value(open_keys, of.merchant_id) == 1
    assert await checker.faults() == []


async def test_k01_k02_k11_k12_c13_a_storm_of_kills_and_flushes(
    own_live_server: Callable[..., LiveServer],
) -> None:
    seed = secrets.randbelow(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    live = own_live_server(KAMI_SANDBOX_AUTOCONFIRM_MS="150")
    await core.open(live.database_url, minsize=1, maxsize=4)
    bell.open(live.redis_url)
    try:
        of = await make.shop(keys=KEYS)
        async with shoppers(live) as crowd:
            plan = ["api-1", "worker", "flush", "api-2", "valkey", "worker", "flush", "api-1"]
            trips, done = await _storm(live, crowd, of, chance, plan)
            await at_rest(of)
            await _judge(crowd, of, trips)
        assert done["kill"] >= 4 and done["flush"] == 2, done
    finally:
        await bell.close()
        await core.close()


async def test_k05_l30_the_database_restarts_at_once_and_nothing_acknowledged_is_gone(
    own_live_server: Callable[..., LiveServer],
) -> None:
    seed = secrets.randbelow(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    live = own_live_server(KAMI_DATABASE_URL="", KAMI_SANDBOX_AUTOCONFIRM_MS="150")
    await core.open(live.database_url, minsize=1, maxsize=4)
    bell.open(live.redis_url)
    try:
        of = await make.shop(keys=KEYS)
        async with shoppers(live) as crowd:
            trips, done = await _storm(live, crowd, of, chance, ["postgres", "worker", "postgres"])
            await _until_back()
            await at_rest(of)
            await _judge(crowd, of, trips)
        assert done["postgres"] == 2, done
    finally:
        await bell.close()
        await core.close()


async def test_g25_the_queue_server_dies_again_and_again_and_no_money_event_is_lost_or_reordered(
    own_live_server: Callable[..., LiveServer],
) -> None:
    live = own_live_server(KAMI_SANDBOX_AUTOCONFIRM_MS="50")
    await core.open(live.database_url, minsize=1, maxsize=4)
    bell.open(live.redis_url)
    over = asyncio.Event()

    async def harm() -> int:
        deaths = 0
        while not over.is_set():
            deaths += await asyncio.to_thread(_kill, live, "valkey")
            await asyncio.sleep(0.4)
        return deaths

    async def come(number: int) -> Trip:
        await asyncio.sleep(number * 0.15)
        return await crowd.buy(of)

    try:
        of = await make.shop(keys=60, reserve_bps=500)
        async with shoppers(live) as crowd:
            harming = asyncio.create_task(harm())
            trips = await asyncio.gather(*(come(number) for number in range(40)))
            await at_rest(of)
            over.set()
            assert await harming >= 4
            orders = await asyncio.gather(
                *(crowd.until(trip, "DELIVERED", timeout_s=60) for trip in trips)
            )
        for order in orders:
            kinds = [event["kind"] for event in order["timeline"]]
            sequences = [event["sequence"] for event in order["timeline"]]
            assert sequences == list(range(1, len(kinds) + 1))
            assert (kinds[0], kinds[-2:]) == ("PLACED", ["PAID", "DELIVERED"]), kinds
        assert sum((await owners(of)).values()) == 40
        sales = "SELECT count(*) FROM ledger_journal WHERE kind = 'sale'"
        assert await core.value(sales) == 40
        assert await checker.faults() == []
    finally:
        over.set()
        await bell.close()
        await core.close()


async def _until_back() -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await core.value("SELECT 1")
            except (*core.LOST, DomainError, asyncpg.PostgresError):
                await asyncio.sleep(0.2)
            else:
                return


async def _storm(
    live: LiveServer, crowd: Shoppers, of: make.Shop, chance: random.Random, plan: list[str]
) -> tuple[list[Trip], Counter[str]]:
    """Buyers come over six seconds while processes are killed and the queue server forgets everything."""
    done: Counter[str] = Counter()

    async def come(delay_s: float) -> Trip:
        await asyncio.sleep(delay_s)
        return await crowd.buy(of)

    async def harm() -> None:
        chance.shuffle(plan)
        for what in plan:
            await asyncio.sleep(chance.uniform(0.2, 1.2))
            if what == "flush":
                await _forget_all()
                done["flush"] += 1
            elif what == "postgres":
                await asyncio.sleep(
                    1.5
                )  # as `pg_ctl -m immediate`; it needs a moment to be one again
                done[what] += await asyncio.to_thread(_kill, live, what, signal.SIGQUIT)
            elif await asyncio.to_thread(_kill, live, what):
                done["kill"] += 1

    # In bursts, so that something is always under way when a process dies.
    delays = [chance.randrange(16) * 0.4 for _ in range(BUYERS)]
    harming = asyncio.create_task(harm())
    trips = await asyncio.gather(*(come(delay_s) for delay_s in delays))
    await harming
    return trips, done


async def _forget_all() -> None:
    """FLUSHALL, as soon as the queue server is there."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(RedisError, OSError):
                await bell.server().flushall()
                return
            await asyncio.sleep(0.1)


def _kill(live: LiveServer, name: str, number: int = signal.SIGKILL) -> bool:
    try:
        live.kill(name, number)
    except (KeyError, ProcessLookupError):  # on its way back from the last time
        return False
    return True


async def _judge(crowd: Shoppers, of: make.Shop, trips: list[Trip]) -> None:
    orders = await asyncio.gather(
        *(crowd.order(trip.order_id, trip.access_key) for trip in trips if trip.order_id)
    )
    ends = Counter(order["status"] for order in orders)
    goods = [good["content"] for order in orders for good in order["goods"] if not good["revoked"]]
    print(
        f"{ends} told {Counter(trip.outcome for trip in trips)} waited out {Counter(crowd.errors)}"
    )
    assert len(trips) == BUYERS
    assert set(ends) <= {"DELIVERED", "REFUNDED", "AWAITING_PAYMENT", "SHORT", "HELD"}, ends
    assert len(goods) == len(set(goods)) == ends["DELIVERED"] == sum((await owners(of)).values())
    assert len(goods) <= KEYS
    # Whoever was never charged owes nothing and holds nothing; whoever was has goods or the money in view.
    for order in orders:
        if order["status"] == "AWAITING_PAYMENT":
            assert order["paymentState"] == "NOT_CHARGED", order
    assert await checker.faults() == []
