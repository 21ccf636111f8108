"""Receivers that fail: tried for three days, waited for, switched off, told of by mail (H24, M29)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from domain import notifications, webhooks
from domain.core import db
from domain.webhooks import EndpointState, Wish
from domain.webhooks.rules import TRIES_MAX, WAITS_S
from tests import make
from tests.receiver import (
    ACTOR,
    Receiver,
    collected,
    due_now,
    endpoint,
    find,
    happen,
    receiving,
    states,
)
from tests.workers.running import sent
from workers import webhooks as work
from workers.webhooks import Dispatcher


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 404, 429, 500, 503])
async def test_h24_anything_but_2xx_is_a_failure_and_no_redirect_is_followed(
    at: Receiver, dispatcher: Dispatcher, status: int
) -> None:
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a")
    await make.order(shop)
    at.says("/a", status, Location=f"{at.url}/elsewhere")

    await sent(dispatcher)

    assert [one["path"] for one in at.got] == ["/a"]
    row = await db.row(
        "SELECT state, tries, code, due_at - clock_timestamp() AS wait FROM webhook_delivery"
    )
    assert row is not None
    assert (row["state"], row["tries"], row["code"]) == ("ready", 1, status)
    assert timedelta(seconds=4) < row["wait"] <= timedelta(seconds=5.5)
    assert (await find(to.id)).state is EndpointState.FAILING


async def test_h24_retry_after_is_waited_for_and_bounded(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    """A 429 pauses the whole endpoint; a wish beyond a day is granted for a day; another status has no wish."""
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a")
    await make.order(shop)
    waits = []
    for status, wish in ((429, "600"), (503, "9999999"), (500, "600")):
        at.says("/a", status, Retry_After=wish)
        await due_now()
        await sent(dispatcher)
        row = await db.row(
            "SELECT d.due_at - clock_timestamp() AS wait, e.paused_until - clock_timestamp() AS pause"
            " FROM webhook_delivery d JOIN webhook_endpoint e ON e.id = d.endpoint_id"
        )
        assert row is not None
        waits.append((row["wait"], row["pause"]))
    at.got.clear()
    assert timedelta(seconds=590) < waits[0][0] <= timedelta(seconds=600)
    assert timedelta(seconds=590) < waits[0][1] <= timedelta(seconds=600)
    assert timedelta(hours=23) < waits[1][0] <= timedelta(hours=24)
    assert timedelta(minutes=26) < waits[2][0] <= timedelta(minutes=33)

    await db.execute(
        "UPDATE webhook_endpoint SET paused_until = clock_timestamp() + interval '1 h' WHERE id = $1",
        to.id,
    )
    await make.order(shop)
    await sent(dispatcher)

    assert at.got == []


async def test_m29_410_disables_at_once_and_its_owner_activates_it_again(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a")
    order = await make.order(shop)
    at.says("/a", 410)

    await sent(dispatcher)
    await make.order(shop)
    await happen(order, "order.paid")
    await sent(dispatcher)

    found = await find(to.id)
    assert (found.state, found.reason) == (EndpointState.DISABLED, "gone")
    assert len(at.got) == 1
    assert await states(to.id) == [(1, "dead")]  # nothing new is owed either
    await told_by_mail(to.id, "410")
    at.says("/a", 204)
    await webhooks.change(
        shop.merchant_id,
        to.id,
        found.terms,
        wish=Wish.ACTIVATE,
        sees_split=True,
        expected_version=found.version,
        actor=ACTOR,
    )
    await happen(order, "order.delivered")
    await sent(dispatcher)

    assert (await find(to.id)).state is EndpointState.ACTIVE
    assert [one["data"]["sequence"] for one in at.got] == [1, 3]


async def told_by_mail(endpoint_id: Any, word: str) -> None:
    """The promise of a mail is there once, and keeping it twice owes one mail."""
    rows = await db.fetch("SELECT task, subject_id FROM promise WHERE task = 'webhooks.disabled'")
    assert [row["subject_id"] for row in rows] == [endpoint_id]
    await work.tell_disabled(endpoint_id)
    await work.tell_disabled(endpoint_id)
    (mail,) = await db.fetch(
        "SELECT template, audience, facts_json, locale, recipient FROM notification WHERE order_id = $1",
        endpoint_id,
    )
    assert (mail["template"], mail["audience"]) == ("webhook_disabled", "merchant")
    assert mail["facts_json"]["url"] == (await find(endpoint_id)).terms.url
    written = notifications.rules.words(
        mail["template"], mail["audience"], "en", mail["facts_json"], None
    )
    assert word in written.text


async def test_m29_a_delivery_that_used_up_its_tries_disables(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a")
    await make.order(shop)
    at.says("/a", 500)
    seen = []

    for _ in range(TRIES_MAX):
        await due_now()
        await sent(dispatcher)
        seen.append((await find(to.id)).state)

    assert len(at.got) == TRIES_MAX == len(WAITS_S) == 10
    assert len({one["headers"]["webhook-id"] for one in at.got}) == 1
    assert len({one["body"] for one in at.got}) == 1
    assert seen == [EndpointState.FAILING] * 9 + [EndpointState.DISABLED]
    assert await states(to.id) == [(1, "dead")]
    assert (await find(to.id)).reason == "failures"
    await told_by_mail(to.id, "three days")


async def test_m29_ten_dead_in_a_row_disable_and_one_success_starts_anew(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    """Deliveries that cannot even be written die at once; the contract here lost a field."""
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a")

    async def broken(count: int) -> None:
        await db.execute("UPDATE webhook_endpoint SET selection = '{ gone }' WHERE id = $1", to.id)
        for _ in range(count):
            await make.order(shop)
        await sent(dispatcher)
        await db.execute("UPDATE webhook_endpoint SET selection = NULL WHERE id = $1", to.id)

    await broken(9)
    assert (await find(to.id)).state is EndpointState.FAILING
    await make.order(shop)
    await sent(dispatcher)
    assert (await find(to.id)).state is EndpointState.ACTIVE
    await broken(9)
    assert (await find(to.id)).state is EndpointState.FAILING
    await broken(1)

    assert (await find(to.id)).state is EndpointState.DISABLED
    assert [state for _, state in sorted(await states(to.id))].count("dead") == 19
    assert len(at.got) == 1


async def test_h24_hanging_flooding_and_breaking_receivers_are_failures_within_bounds(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3)
        return web.Response()

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            flooded.append(1)

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def headers(request: web.Request) -> web.StreamResponse:
        return web.Response(headers={"X": "y" * 20_000})

    flooded: list[int] = []
    errors = {}
    async with receiving(monkeypatch, timeout_s=0.5) as at:
        dispatcher = Dispatcher()
        at.answers |= {"/hang": hang, "/flood": flood, "/cut": cut, "/headers": headers}
        for path in at.answers:
            shop = await make.shop()
            to = await endpoint(shop.merchant_id, f"{at.url}{path}")
            await make.order(shop)
            await sent(dispatcher)
            (delivery,) = await webhooks.deliveries(to.id, limit=2)
            (attempt,) = (await webhooks.attempts([delivery.id]))[delivery.id]
            assert delivery.state == "ready"
            errors[path] = (attempt.code, attempt.error, len(attempt.answer))
        await dispatcher.close()

    assert errors == {
        "/hang": (None, "timeout", 0),
        "/flood": (500, "", 2_000),
        "/cut": (None, "broken", 0),
        "/headers": (None, "broken", 0),
    }
    assert len(flooded) < 200  # not read: the sender's buffers filled, then the connection was cut


async def test_nothing_is_sent_to_a_deleted_endpoint_and_its_keys_are_gone(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a")
    await make.order(shop)
    await collected()

    await webhooks.remove(shop.merchant_id, to.id, expected_version=1, actor=ACTOR)
    await make.order(shop)
    await sent(dispatcher)

    assert at.got == []
    row = await db.row("SELECT keys_cipher, old_cipher FROM webhook_endpoint")
    assert row is not None and (row["keys_cipher"], row["old_cipher"]) == (b"", None)
    assert await webhooks.prune() == 1
    assert await db.value("SELECT count(*) FROM webhook_delivery") == 0
    await db.execute("UPDATE webhook_endpoint SET deleted_at = deleted_at - interval '31 days'")
    assert await webhooks.prune() == 1
    assert await db.value("SELECT count(*) FROM webhook_endpoint") == 0


async def test_deliveries_and_tries_are_forgotten_after_thirty_days(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    await endpoint(shop.merchant_id, f"{at.url}/a")
    await make.order(shop)
    await make.order(shop)
    await sent(dispatcher)
    await db.execute(
        "UPDATE webhook_delivery SET created_at = created_at - interval '31 days'"
        " WHERE id = (SELECT min(id::text)::uuid FROM webhook_delivery)"
    )

    assert await webhooks.prune() == 1
    assert await db.value("SELECT count(*) FROM webhook_delivery") == 1
    assert await db.value("SELECT count(*) FROM webhook_attempt") == 2
    assert await webhooks.prune(days=-1) >= 2
    assert await db.value("SELECT count(*) FROM webhook_attempt") == 0
