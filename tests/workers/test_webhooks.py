"""Webhooks on their way: signed, in order, tried again, each endpoint at its own pace (C19, H24, H25, L33, M29)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from domain import webhooks
from domain.core import clock, db, events
from domain.core.events import Event
from domain.webhooks import EndpointState
from tests import horizon, make, receiver
from tests.receiver import (
    ACTOR,
    Receiver,
    collected,
    due_now,
    endpoint,
    find,
    happen,
    is_signed,
    states,
    until,
)
from tests.workers.running import sent
from workers import webhooks as work
from workers.registry import loops
from workers.webhooks import Dispatcher


async def test_c19_an_event_is_sent_once_signed_with_its_sequence_and_state(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a")
    other = await make.shop()
    order = await make.order(shop)
    await make.order(other)

    for _ in range(3):
        await collected()
    await dispatcher.idle()
    await dispatcher.idle()

    (got,) = at.got
    view = await webhooks.event(order.id, 1)
    assert view is not None
    assert got["headers"]["webhook-id"].startswith("evt_")
    assert got["headers"]["Content-Type"] == "application/json"
    assert is_signed(got, to.keys.shown_secret)
    assert list(got)[3:] == ["type", "timestamp", "data"]
    assert got["type"] == "order.placed"
    assert got["data"]["kind"] == "PLACED"
    assert got["data"]["sequence"] == 1
    assert got["data"]["state"] == "awaiting_payment"
    assert got["data"]["order"]["number"] == order.number
    assert got["data"]["order"]["total"] == {"amount": "100.00", "currency": "USD"}
    assert await states(to.id) == [(1, "delivered")]
    assert await db.value("SELECT count(*) FROM webhook_delivery") == 1
    assert await db.value("SELECT count(*) FROM webhook_attempt") == 1


async def test_c19_a_late_webhook_says_what_was_and_what_is(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    """Rendered after the order moved on: sequence and state are the event's, the order is as it is now."""
    shop = await make.shop()
    await endpoint(shop.merchant_id, f"{at.url}/a")
    order = await make.order(shop)
    await happen(order, "order.paid", "payment.unknown")
    await db.execute("UPDATE orders SET status = 'paid' WHERE id = $1", order.id)

    await sent(dispatcher)

    told = [(one["data"]["sequence"], one["data"]["state"]) for one in at.got]
    assert told == [(1, "awaiting_payment"), (2, "paid"), (3, "paid")]
    assert {one["data"]["order"]["status"] for one in at.got} == {"PAID"}


async def test_events_of_an_order_arrive_in_order_even_when_the_first_one_is_late(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a")
    first, second = await make.order(shop), await make.order(shop)
    await happen(first, "order.paid", "order.delivered")
    await happen(second, "order.paid")
    refused: list[Any] = []

    async def once(request: web.Request) -> web.Response:
        refused.append(request)
        return web.Response(status=500 if len(refused) == 1 else 200)

    at.answers["/a"] = once
    await sent(dispatcher)
    before = [(one["data"]["order"]["number"], one["data"]["sequence"]) for one in at.got]
    late = at.got[0]["data"]["order"]["number"]
    assert before.count((late, 1)) == 1
    assert (late, 2) not in before  # waits for the first one
    assert len(before) > 1  # the other order goes on

    await due_now()
    await dispatcher.idle()

    for order in (first, second):
        mine = [
            one["data"]["sequence"]
            for one in at.got
            if one["data"]["order"]["number"] == order.number
        ]
        assert sorted(set(mine)) == mine or mine[0] == mine[1] == 1, mine
    assert [state for _, state in await states(to.id)] == ["delivered"] * 5
    tries = [one for one in at.got if one["data"]["order"]["number"] == late][:2]
    assert tries[0]["headers"]["webhook-id"] == tries[1]["headers"]["webhook-id"]
    assert tries[0]["body"] == tries[1]["body"]


async def test_a_dead_delivery_no_longer_holds_back_its_order(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a")
    order = await make.order(shop)
    await happen(order, "order.paid")
    await collected()
    await db.execute("UPDATE webhook_delivery SET state = 'dead' WHERE sequence = 1")

    await dispatcher.idle()

    assert [one["data"]["sequence"] for one in at.got] == [2]
    assert await states(to.id) == [(1, "dead"), (2, "delivered")]


async def test_an_event_that_lies_earlier_in_the_log_never_overtakes_those_before_it(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    """A transaction that began first may write second: its place in the log is before, its sequence behind."""
    shop = await make.shop()
    await endpoint(shop.merchant_id, f"{at.url}/a")
    order = await make.order(shop)
    await collected()
    began, may_write = asyncio.Event(), asyncio.Event()

    async def early_but_slow() -> None:
        async with db.transaction():
            await db.value("SELECT pg_current_xact_id()")
            began.set()
            await may_write.wait()
            await events.record(Event(order.id, order.merchant_id, 3, "order.delivered"))

    slow = asyncio.create_task(early_but_slow())
    await began.wait()
    async with db.transaction():
        await events.record(Event(order.id, order.merchant_id, 2, "order.paid"))
    may_write.set()
    await slow
    rows = await db.fetch(
        "SELECT sequence FROM event_log WHERE order_id = $1 ORDER BY txid, no", order.id
    )
    assert [row["sequence"] for row in rows] == [1, 3, 2]

    await horizon.passed()
    assert await webhooks.collect(limit=1) == 1
    await dispatcher.idle()

    assert [one["data"]["sequence"] for one in at.got] == [1, 2, 3]
    assert await webhooks.collect() == 1  # seen again, owed once
    assert await db.value("SELECT count(*) FROM webhook_delivery") == 3


async def test_an_endpoint_is_told_the_kinds_it_asked_for(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    await endpoint(shop.merchant_id, f"{at.url}/a", kinds=("order.paid",))
    order = await make.order(shop)
    await happen(order, "payment.started", "order.paid", "order.delivered")

    await sent(dispatcher)

    assert [one["type"] for one in at.got] == ["order.paid"]


async def test_a_selection_shapes_the_payload_as_its_merchant_and_never_as_the_buyer(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    selection = (
        "{ what: kind order { n: number lines { title } goods { content }"
        " payments { nextAction { __typename } } savedMethods { id } } }"
    )
    await endpoint(shop.merchant_id, f"{at.url}/a", selection=selection)
    order = await make.order(shop)

    await sent(dispatcher)

    (got,) = at.got
    data = dict(got["data"])
    cursor = data.pop("cursor")
    assert data == {
        "what": "PLACED",
        "order": {
            "n": order.number,
            "lines": [{"title": "One"}],
            "goods": [],
            "payments": [],
            "savedMethods": [],
        },
        "sequence": 1,
        "state": "awaiting_payment",
    }
    assert webhooks.shaper().sequence(cursor, order.id) == 1


async def test_triggers_tell_only_when_a_watched_value_changed(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a", triggers=("order.status",))
    order = await make.order(shop)
    await sent(dispatcher)
    await happen(order, "payment.started")
    await sent(dispatcher)
    await db.execute("UPDATE orders SET status = 'paid' WHERE id = $1", order.id)
    await happen(order, "order.paid", "payment.overpaid")
    await sent(dispatcher)

    assert [one["data"]["order"]["status"] for one in at.got] == ["AWAITING_PAYMENT", "PAID"]
    assert await states(to.id) == [
        (1, "delivered"),
        (2, "skipped"),
        (3, "delivered"),
        (4, "skipped"),
    ]
    assert await db.value("SELECT count(*) FROM webhook_attempt") == 2


async def test_h25_old_and_new_receiver_verify_for_a_day(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    old = await endpoint(shop.merchant_id, f"{at.url}/a")

    await webhooks.rotate(shop.merchant_id, old.id, expected_version=1, actor=ACTOR)
    new = await find(old.id)
    await make.order(shop)
    await sent(dispatcher)
    clock.shift(timedelta(hours=24, seconds=1))
    try:
        await make.order(shop)
        await sent(dispatcher)
    finally:
        clock.shift(timedelta())

    within, after = at.got
    assert new.keys != old.keys
    assert new.old_keys == old.keys
    assert is_signed(within, old.keys.shown_secret) and is_signed(within, new.keys.shown_secret)
    assert len(within["headers"]["webhook-signature"].split(" ")) == 4
    assert is_signed(after, new.keys.shown_secret)
    assert not is_signed(after, old.keys.shown_secret)


async def test_a_receiver_that_hangs_delays_nobody_else(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    """Its slots are all it holds: everything for the fast one arrives while the slow one still hangs."""
    slow, fast = await receiver.shops(2)
    to_slow = await endpoint(slow.merchant_id, f"{at.url}/slow")
    to_fast = await endpoint(fast.merchant_id, f"{at.url}/fast")
    may_answer = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        await may_answer.wait()
        return web.Response(status=200)

    at.answers["/slow"] = hang
    for _ in range(30):
        await make.order(slow)
    for _ in range(60):
        await make.order(fast)
    await collected()
    working = asyncio.create_task(dispatcher.loop.keep_running())

    await until(lambda: len(at.at("/fast")) == 60)
    hanging = len(at.at("/slow"))
    left = [state for _, state in await states(to_slow.id)].count("ready")
    may_answer.set()
    dispatcher.loop.stop()
    await working
    await dispatcher.idle()  # what came back after the last turn is written too

    assert hanging == work.SLOTS
    assert left == 30 - work.SLOTS
    assert {state for _, state in await states(to_fast.id)} == {"delivered"}


async def test_a_worker_that_vanished_is_followed_by_another(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a")
    await make.order(shop)
    await collected()
    claimed = await webhooks.claim(10, free={}, each=8)
    await db.execute("UPDATE webhook_delivery SET lease_until = clock_timestamp() - interval '1 s'")

    assert await webhooks.sweep() == 1
    await dispatcher.idle()
    late = [webhooks.Result(one, webhooks.ports.Reply(500)) for one in claimed]

    assert await webhooks.finish(late) == 0  # the zombie's word comes too late
    assert len(at.got) == 1
    assert await states(to.id) == [(1, "delivered")]
    assert (await find(to.id)).state is EndpointState.ACTIVE


async def test_a_worker_that_stops_hands_on_what_it_holds(at: Receiver) -> None:
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a")
    for _ in range(20):
        await make.order(shop)
    await collected()
    first, may_answer = Dispatcher(), asyncio.Event()

    async def wait(request: web.Request) -> web.Response:
        await may_answer.wait()
        return web.Response(status=200)

    at.answers["/a"] = wait
    await first.turn()
    await until(lambda: len(at.got) == work.SLOTS)
    closing = asyncio.create_task(first.close())
    await asyncio.sleep(0)
    may_answer.set()
    await closing

    counts = [state for _, state in await states(to.id)]
    assert (counts.count("delivered"), counts.count("ready")) == (8, 12)
    assert await db.value("SELECT sum(tries) FROM webhook_delivery WHERE state = 'ready'") == 0
    assert len(at.got) == 8


def test_the_loops_belong_to_the_general_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loops, "general", [])
    monkeypatch.setattr(work, "_dispatcher", None)

    work.load()

    assert [loop.name for loop in loops["general"]] == ["webhooks.collect", "webhooks.send"]
