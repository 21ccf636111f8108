"""An export and the event stream behind its cursor: no gap between them, and memory that does not grow.

CASES J30, L33.
"""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from domain import bulk, orders
from domain.bulk import actions, rules
from domain.core import db as core
from domain.core import events, ids, live
from domain.orders import EventKind
from resolvers import page
from resolvers.context import Context
from schema.root import schema
from server.graphql import watch
from server.graphql.door import Door
from server.graphql.request import Asked
from server.graphql.watch import Stream
from tests import horizon, make
from tests.api import bulk_desk
from tests.api.bulk_desk import Caller, person, work

FOLLOW = """subscription ($id: ID!, $after: String!) { merchantEvents(merchantId: $id, after: $after) {
    __typename ... on OrderEvent { sequence order { id version status } } } }"""


async def stored(of: make.Shop) -> dict[str, tuple[int, str]]:
    """Every order of the merchant as it is."""
    rows = await core.fetch(
        "SELECT id, version, status FROM orders WHERE merchant_id = $1", of.merchant_id
    )
    return {ids.encode("ord", row["id"]): (row["version"], row["status"].upper()) for row in rows}


@pytest.fixture
async def hub(db: None) -> AsyncIterator[None]:
    live.forget()
    task = asyncio.create_task(live.hub().run())
    yield
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.2)
    live.forget()


async def followed(owner: Caller, cursor: str, of: make.Shop) -> list[dict[str, Any]]:
    """Every event behind the cursor, up to the last there is."""
    await horizon.passed()
    txid, no, sequence, _ = page.read(
        cursor, f"merchant.events:{of.merchant_id}", int, int, int, int
    )
    place = events.Place(txid, no, sequence)
    (rest,) = await events.stretches([(of.merchant_id, place)], limit=100_000)
    context = Context(request_id="t", address="203.0.113.9", viewer=owner.viewer)
    variables = {"id": owner.merchant, "after": cursor}
    stream = await watch.watch(Door(schema), Asked(FOLLOW, variables=variables), context)
    assert isinstance(stream, Stream)
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while len(found) < len(rest.events):
            frame = orjson.loads((await anext(stream)).body)["data"]["merchantEvents"]
            if frame["__typename"] == "OrderEvent":
                found.append(frame)
    await stream.close()
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_j30_an_export_and_the_stream_behind_its_cursor_are_the_final_state(
    hub: None, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders are placed and moved by several writers before, while and after the pages are read."""
    monkeypatch.setattr(rules, "TURN_S", 0.0)
    chance = random.Random(seed)
    of = await make.shop(keys=1)
    owner = await person(of)
    placed = [(await make.order(of)).id for _ in range(14)]
    stop = asyncio.Event()

    async def change() -> None:
        if chance.random() < 0.35:
            placed.append((await make.order(of)).id)
            return
        async with core.transaction():
            await core.value("SELECT pg_current_xact_id()")
            await asyncio.sleep(chance.choice([0, 0.002, 0.02]))
            held = await orders.lock_one(chance.choice(placed))
            assert held is not None
            if held.status is orders.OrderStatus.AWAITING_PAYMENT and chance.random() < 0.3:
                await orders.move(held, orders.OrderStatus.CANCELLED, EventKind.CANCELLED)
            else:
                await orders.tell(held, EventKind.HELD)
            await asyncio.sleep(chance.choice([0, 0.002, 0.02]))

    async def writer() -> None:
        while not stop.is_set():
            await change()
            await asyncio.sleep(0.001)

    writing = [asyncio.create_task(writer()) for _ in range(3)]
    await asyncio.sleep(0.05)
    begun = await owner.export()
    while await bulk.turn():
        await asyncio.sleep(0.005)
    for _ in range(5):
        await change()
    stop.set()
    await asyncio.gather(*writing)

    state = {
        line["id"]: (line["version"], line["status"]) for line in await owner.lines(begun["id"])
    }
    exported = dict(state)
    for event in await followed(owner, begun["eventCursor"], of):
        told = event["order"]
        if told["version"] >= state.get(told["id"], (0, ""))[0]:
            state[told["id"]] = (told["version"], told["status"])

    assert state == await stored(of)
    assert exported != state  # the writers were not asleep


async def test_memory_stays_flat_whatever_the_length_of_the_list(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "PAGE_MAX", 100)
    of = await make.shop()
    owner = await person(of)
    first = await make.order(of)
    await bulk_desk.clone(first.id, 9_999)
    begun = await owner.export(
        "query ($merchantId: ID!) { orders(merchantId: $merchantId) {"
        " nodes { id number status total { amount currency } createdAt } } }"
    )
    held: list[int] = []
    keep = actions.keep

    async def noted(*args: Any, **named: Any) -> Any:
        done = await keep(*args, **named)
        held.append(tracemalloc.get_traced_memory()[0])
        return done

    monkeypatch.setattr(actions, "keep", noted)
    tracemalloc.start()
    try:
        await work()
    finally:
        tracemalloc.stop()

    job = await owner.job(begun["id"])
    assert (job["state"], job["done"], job["total"]) == ("DONE", 10_000, 10_000)
    assert len(held) == 100
    assert job["size"] > 1_500_000
    # What is held after the last page is what was held after the tenth, give or take the caches.
    assert max(held[50:]) - min(held[10:]) < 500_000
    seen: set[str] = set()
    size = 0
    job_row = await bulk.find(ids.decode(begun["id"], "blk"), owner.asker)
    assert job_row is not None
    async for piece in bulk.result(job_row):
        size += len(piece)
        seen.update(orjson.loads(line)["id"] for line in piece.splitlines())
    assert (len(seen), size) == (10_000, job["size"])
