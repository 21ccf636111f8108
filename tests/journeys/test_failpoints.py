"""A process dies at every step of a sale, and again while it recovers: each order ends once, in goods, money or view.

CASES K01, K02, C04, L20, acceptance of kill -9. One platform, every failpoint armed for two deaths; a small crowd
buys until all of them have happened. What a minute of waiting would do (leases that end) is done at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from itertools import chain
from pathlib import Path

import pytest

from domain.core import bell, failpoint
from domain.core import db as core
from domain.core.money import Money
from domain.merchants import Speed
from tests import make
from tests.database import as_owner
from tests.journeys import checker
from tests.journeys.shoppers import Shoppers, Trip, at_rest, owners, shoppers
from tests.live import LiveServer

# Every place, and at which visit of a process it is deadly: the busy ones a little later, so that work goes on.
OF_API = {
    "place.in_tx": 3,
    "place.after_commit": 4,
    "open.in_tx": 3,
    "reserve.in_tx": 4,
    "charge.before_call": 3,
    "charge.after_call": 4,
    "record.in_tx": 3,
    "record.after_commit": 4,
    "inbox.before_tx": 3,
    "inbox.after_commit": 4,
}
OF_WORKER = {
    "fulfil.claimed": 1,
    "fulfil.in_tx": 2,
    "fulfil.after_commit": 2,
    "refund.ask.in_tx": 1,
    "refund.before_call": 1,
    "refund.after_call": 1,
    "refund.in_tx": 1,
    "refund.after_record": 1,
    "notify.in_tx": 1,
    "notify.after_call": 1,
    "release.in_tx": 1,
    "release.after_commit": 1,
    "promise.leased": 1,
    "promise.before_mark": 1,
    "promise.kept": 1,
}
POINTS = OF_API | OF_WORKER
# No part of a sale: tests/workers/test_bulk.py dies there.
OF_BULK = {"bulk.read", "bulk.ran", "bulk.in_tx", "bulk.after_commit"}
TIMES = 2
BUYERS, PART_BUYERS = 12, 4
PAUSE_S = 0.3
LONGEST_S, REST_S = 75.0, 60.0


def test_every_failpoint_of_the_code_is_armed_here() -> None:
    placed = set()
    for tree in ("domain", "workers", "resolvers", "server"):
        for path in Path(failpoint.__file__).parents[2].joinpath(tree).rglob("*.py"):
            for line in path.read_text("utf-8").splitlines():
                if "failpoint.reach(" in line:
                    placed.add(line.split('"')[1])

    assert placed == set(POINTS) | OF_BULK


@pytest.mark.timeout(240)
async def test_k01_k02_c04_l20_a_process_that_dies_at_any_step_loses_and_doubles_nothing(
    own_live_server: Callable[..., LiveServer], tmp_path: Path
) -> None:
    armed = " ".join(f"{name}:kill9@{at}x{TIMES}" for name, at in POINTS.items())
    live = own_live_server(
        KAMI_SANDBOX_AUTOCONFIRM_MS="50",
        KAMI_FAILPOINTS=armed,
        KAMI_FAILPOINTS_DIR=str(tmp_path),
    )
    await core.open(live.database_url, minsize=1, maxsize=4)
    bell.open(live.redis_url)
    try:
        whole = await make.shop(keys=2_000, reserve_bps=500, speed=Speed.T1)
        part = await make.shop(keys=500, price=Money(1_006, "USD"))  # the provider takes half of it
        async with shoppers(live) as crowd, impatient(part):
            trips, parts = await _crowds(crowd, whole, part, tmp_path)
            await at_rest(whole)
            taken = "SELECT count(*) FROM orders WHERE merchant_id = $1 AND captured_minor > 0"
            back = f"{taken} AND returned_minor = captured_minor"
            await _until(back, part, await core.value(taken, part.merchant_id))
            await at_rest(part)
            await _judge(crowd, whole, trips)
            await _judge_parts(crowd, parts)
        assert _missing(tmp_path) == set()
    finally:
        await bell.close()
        await core.close()


def _missing(folder: Path) -> set[str]:
    """Deaths that have not happened."""
    wanted = {f"{name}.{number}" for name in POINTS for number in range(1, TIMES + 1)}
    return wanted - {path.name for path in folder.iterdir()}


async def _crowds(
    crowd: Shoppers, whole: make.Shop, part: make.Shop, folder: Path
) -> tuple[list[Trip], list[Trip]]:
    """Buyers come one after the other in several queues until every death has happened."""
    began = time.monotonic()

    async def queue(of: make.Shop) -> list[Trip]:
        trips = []
        while _missing(folder) and time.monotonic() < began + LONGEST_S:
            trips.append(await crowd.buy(of))
            await asyncio.sleep(PAUSE_S)
        return trips

    shops = [whole] * BUYERS + [part] * PART_BUYERS
    found = await asyncio.gather(*(queue(of) for of in shops))
    print(f"{time.monotonic() - began:.0f} s, not happened: {sorted(_missing(folder))}")
    return list(chain(*found[:BUYERS])), list(chain(*found[BUYERS:]))


@contextlib.asynccontextmanager
async def impatient(part: make.Shop) -> AsyncIterator[None]:
    """Time passes faster: leases of the dead end, the day of release comes, half-paid orders run out."""

    async def hurry() -> None:
        while True:
            for sql in _HURRY:
                await as_owner(sql, *([part.merchant_id] if "$1" in sql else []))
            await asyncio.sleep(0.7)

    hurrying = asyncio.create_task(hurry())
    try:
        yield
    finally:
        hurrying.cancel()
        await asyncio.gather(hurrying, return_exceptions=True)


_HURRY = (
    # Taken more than five seconds ago; its fence refuses whoever still works on it.
    "UPDATE promise SET lease_until = clock_timestamp() WHERE state = 'leased'"
    " AND lease_until < clock_timestamp() + interval '45 s'",
    # A call that died with its process: nobody charges for longer than eight seconds.
    "UPDATE idempotency SET lease_until = clock_timestamp()"
    " WHERE lease_until BETWEEN clock_timestamp() AND clock_timestamp() + interval '20 s'",
    "UPDATE notification SET lease_until = clock_timestamp() WHERE state = 'leased'",
    "UPDATE timetable SET lease_until = clock_timestamp() WHERE done_at IS NULL"
    " AND begun_at < clock_timestamp() - interval '3 s'",
    "DELETE FROM timetable WHERE name IN ('settlement.release', 'mails.sweep', 'orders.expire')"
    " AND begun_at < clock_timestamp() - interval '2 s' AND done_at IS NOT NULL",
    "UPDATE settlement_item SET available_on = current_date WHERE available_on > current_date",
    "UPDATE orders SET expires_at = clock_timestamp() - interval '1 h' WHERE merchant_id = $1"
    " AND status = 'awaiting_payment' AND captured_minor > 0",
)


async def _until(sql: str, of: make.Shop, count: int) -> None:
    """Wait until `sql` counts `count` rows of a merchant, and not more."""
    limit = time.monotonic() + REST_S
    while (found := await core.value(sql, of.merchant_id)) < count:
        owed = await core.fetch(
            "SELECT task, state, tries, error, due_at - clock_timestamp() AS due FROM promise"
            " WHERE state <> 'done'"
        )
        assert time.monotonic() < limit, (sql, found, count, [tuple(row) for row in owed])
        await asyncio.sleep(0.25)
    assert found == count, sql


async def _judge(crowd: Shoppers, of: make.Shop, trips: list[Trip]) -> None:
    orders = await asyncio.gather(
        *(crowd.order(trip.order_id, trip.access_key) for trip in trips if trip.order_id)
    )
    ends = Counter(order["status"] for order in orders)
    goods = [good["content"] for order in orders for good in order["goods"] if not good["revoked"]]
    print(f"{ends}, waited out {Counter(crowd.errors)}")
    assert ends["DELIVERED"] >= 20, ends
    assert set(ends) <= {"DELIVERED", "AWAITING_PAYMENT"}, ends
    assert len(goods) == len(set(goods)) == ends["DELIVERED"] == sum((await owners(of)).values())
    for order in orders:
        if order["status"] == "AWAITING_PAYMENT":
            assert order["paymentState"] == "NOT_CHARGED", order
    # Each was charged once at the provider, and every mail is written once.
    captures = "SELECT count(*) FROM capture WHERE merchant_id = $1"
    assert await core.value(captures, of.merchant_id) == ends["DELIVERED"]
    # And told once: a mail is a row per event, whoever died while reading the log.
    told = "SELECT count(*) FROM notification WHERE merchant_id = $1 AND template = 'delivered'"
    await _until(told, of, ends["DELIVERED"])
    assert await checker.faults() == []


async def _judge_parts(crowd: Shoppers, parts: list[Trip]) -> None:
    orders = await asyncio.gather(
        *(crowd.order(trip.order_id, trip.access_key) for trip in parts if trip.order_id)
    )
    ends = Counter((order["status"], order["paymentState"]) for order in orders)
    print(f"in part: {ends}")
    assert set(ends) <= {
        ("REFUNDED", "FULLY_REFUNDED"),
        ("AWAITING_PAYMENT", "NOT_CHARGED"),
    }, ends
    assert ends["REFUNDED", "FULLY_REFUNDED"] >= 5, ends
    assert [good for order in orders for good in order["goods"]] == []
