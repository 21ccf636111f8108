"""The log of one merchant, read from a place on: nothing skipped, nothing twice, every order in its own order.

CASES C21, L33.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any
from uuid import UUID

import pytest

from domain.core import db as core
from domain.core import events, ids
from domain.core.events import Place
from tests import horizon

MERCHANT, OTHER = ids.uuid7(), ids.uuid7()
INSERT = (
    "INSERT INTO event_log (order_id, merchant_id, sequence, kind, facts_json)"
    " VALUES ($1, $2, $3, 'order.placed', '{}')"
)


async def happen(
    order_id: UUID, sequence: int, merchant_id: UUID = MERCHANT, connection: Any = None
) -> None:
    if connection is None:
        await core.execute(INSERT, order_id, merchant_id, sequence)
    else:
        await connection.execute(INSERT, order_id, merchant_id, sequence)


async def after(place: Place, *, limit: int = 500) -> events.Stretch:
    (found,) = await events.stretches([(MERCHANT, place)], limit=limit)
    return found


def told(found: events.Stretch) -> list[tuple[UUID, int]]:
    return [(event.order_id, event.sequence) for _, event in found.events]


async def test_l33_nothing_is_told_while_an_older_transaction_runs(db: None) -> None:
    slow, quick = ids.uuid7(), ids.uuid7()
    start = await events.edge()
    async with core.pool().acquire() as one:
        running = one.transaction()
        await running.start()
        await happen(slow, 1, connection=one)
        await happen(quick, 1)
        before = await after(start)
        await running.commit()
    await horizon.passed()
    behind = await after(before.upto)

    assert (told(before), before.is_waiting, before.upto) == ([], True, start)
    assert told(behind) == [(slow, 1), (quick, 1)]
    assert behind.is_waiting is False
    assert told(await after(behind.upto)) == []


async def test_l33_now_is_before_whatever_is_running(db: None) -> None:
    order_id = ids.uuid7()
    async with core.pool().acquire() as one:
        running = one.transaction()
        await running.start()
        await happen(order_id, 1, connection=one)
        now = await events.edge()
        await running.commit()
    past = ids.uuid7()
    await happen(past, 1)
    await horizon.passed()
    later = await events.edge()

    assert told(await after(now)) == [(order_id, 1), (past, 1)]
    assert told(await after(later)) == []


async def test_c21_an_order_keeps_its_order_when_the_older_transaction_writes_later(
    db: None,
) -> None:
    order_id, other = ids.uuid7(), ids.uuid7()
    start = await events.edge()
    async with core.pool().acquire() as one:
        waiting = one.transaction()
        await waiting.start()
        await one.fetchval("SELECT pg_current_xact_id()")
        await happen(order_id, 1)
        await happen(other, 1)
        await happen(order_id, 2, connection=one)
        await waiting.commit()
    await horizon.passed()
    whole = await after(start)

    assert told(whole) == [(order_id, 1), (order_id, 2), (other, 1)]
    (first, _), (second, _), (third, _) = whole.events
    assert first[:2] == second[:2] < third[:2]
    # Whoever comes back with any of the cursors is told exactly what is missing.
    assert told(await after(first)) == [(order_id, 2), (other, 1)]
    assert told(await after(second)) == [(other, 1)]
    assert told(await after(third)) == []


async def test_each_place_of_each_merchant_is_answered_for_itself(db: None) -> None:
    mine, theirs = ids.uuid7(), ids.uuid7()
    start = await events.edge()
    for sequence in (1, 2, 3):
        await happen(mine, sequence)
        await happen(theirs, sequence, OTHER)
    await horizon.passed()
    (second, _) = (await after(start)).events[1]

    async with core.statements() as sent:
        found = await events.stretches(
            [(MERCHANT, start), (OTHER, start), (MERCHANT, second), (ids.uuid7(), start)]
        )

    assert [told(one) for one in found] == [
        [(mine, 1), (mine, 2), (mine, 3)],
        [(theirs, 1), (theirs, 2), (theirs, 3)],
        [(mine, 3)],
        [],
    ]
    assert len(sent) == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_l33_a_follower_beside_many_writers_is_told_everything_once(
    db: None, seed: int
) -> None:
    """Writers take an order's lock after their transaction has begun, as the house does, and commit at any time."""
    chance = random.Random(seed)
    orders = [ids.uuid7() for _ in range(4)]
    locks = {order_id: asyncio.Lock() for order_id in orders}
    count = dict.fromkeys(orders, 0)
    start = await events.edge()

    async def write(plan: list[tuple[list[UUID], float]]) -> None:
        async with core.pool().acquire() as one:
            for wanted, pause_s in plan:
                running = one.transaction()
                await running.start()
                await one.fetchval("SELECT pg_current_xact_id()")
                await asyncio.sleep(pause_s)
                for order_id in sorted(wanted):
                    await locks[order_id].acquire()
                    count[order_id] += 1
                    await happen(order_id, count[order_id], connection=one)
                await asyncio.sleep(pause_s)
                await running.commit()
                for order_id in wanted:
                    locks[order_id].release()

    plans = [
        [
            (chance.sample(orders, chance.randint(1, 2)), chance.choice([0, 0.001, 0.004]))
            for _ in range(25)
        ]
        for _ in range(4)
    ]
    writing = asyncio.gather(*(write(plan) for plan in plans))
    seen: dict[UUID, list[int]] = defaultdict(list)
    place, cursors = start, []
    while True:
        is_over = writing.done()
        found = await after(place, limit=3)
        for at, event in found.events:
            seen[event.order_id].append(event.sequence)
            cursors.append(at)
        place = found.upto
        if is_over and not found.has_more and not found.is_waiting:
            break
        if chance.random() < 0.3 and cursors:  # dropped: back behind the last one told
            place = cursors[-1]
    await writing

    assert seen == {order_id: list(range(1, count[order_id] + 1)) for order_id in orders}
    assert len(set(cursors)) == len(cursors) == sum(count.values())
    everything = [at for at, _ in (await after(start)).events]
    assert everything == cursors == sorted(cursors)
