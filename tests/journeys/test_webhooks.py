"""Webhooks of the running platform: WebSocket, SSE and webhook tell the same; a killed worker loses none (L33)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from domain import identity
from domain.core import db, ids
from domain.identity import Role
from tests import database, make
from tests.journeys.shoppers import Shoppers, Trip, Watching
from tests.live import LiveServer, start
from tests.receiver import is_signed

PASSWORD = "correct horse battery"
CREATE = """
mutation ($input: CreateWebhookEndpointInput!, $key: String!) {
  createWebhookEndpoint(input: $input) @idempotent(key: $key) {
    ... on WebhookEndpointSecret { secret endpoint { id } }
    ... on Problem { code path message }
  }
}"""
SSE = """
subscription ($id: ID!, $key: String, $after: String) {
  orderEvents(orderId: $id, accessKey: $key, after: $after) {
    ... on OrderEvent { cursor sequence kind occurredAt }
  }
}"""


@pytest.fixture(scope="module")
def server(servers: database.Servers) -> Iterator[LiveServer]:
    """A platform that may call this machine."""
    with start(servers, "kami_hooks", KAMI_WEBHOOKS_TO_LOOPBACK="true") as live:
        yield live


class Sink:
    """A receiver of the test."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Note a request."""
        body = await request.read()
        self.got.append({"headers": dict(request.headers), "body": body, **orjson.loads(body)})
        return web.Response(status=204)

    def of(self, order_id: str) -> list[dict[str, Any]]:
        """What was told of an order, once each, as it came."""
        found: dict[str, dict[str, Any]] = {}
        for one in self.got:
            if one["data"]["order"]["id"] == order_id:
                found.setdefault(one["headers"]["webhook-id"], one)
        return list(found.values())

    async def until(self, order_id: str, count: int, timeout_s: float = 20) -> None:
        """Wait until `count` events of an order came."""
        async with asyncio.timeout(timeout_s):
            while len(self.of(order_id)) < count:
                await asyncio.sleep(0.02)


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    found = Sink()
    app = web.Application()
    app.router.add_post("/kami", found.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/kami"
    yield found
    await runner.cleanup()


async def subscribed(crowd: Shoppers, server: LiveServer, of: make.Shop, sink: Sink) -> str:
    """A developer of the shop's merchant signs in and makes an endpoint on the sink; its secret."""
    email = f"{secrets.token_hex(6)}@shop.test"
    account_id = await identity.register(email, PASSWORD)
    await identity.grant(of.merchant_id, account_id, Role.DEVELOPER)
    token = await crowd.sign_in(server, email, PASSWORD)
    wanted = {"merchantId": ids.encode("mer", of.merchant_id), "url": sink.url}
    data = await crowd.insist(
        CREATE,
        {"input": wanted, "key": secrets.token_hex(8)},
        authorization=f"Bearer {token}",
    )
    assert "secret" in data["createWebhookEndpoint"], data
    return str(data["createWebhookEndpoint"]["secret"])


async def over_sse(crowd: Shoppers, trip: Trip, count: int, **more: Any) -> list[dict[str, Any]]:
    """The first `count` events of an order by server-sent events."""
    variables = {"id": trip.order_id, "key": trip.access_key, **more}
    headers = {"content-type": "application/json", "accept": "text/event-stream"}
    body = orjson.dumps({"query": SSE, "variables": variables})
    found: list[dict[str, Any]] = []
    url = f"{crowd.url}/graphql/stream"
    async with crowd.http.post(url, data=body, headers=headers) as response:
        async for line in response.content:
            if line.startswith(b"data: ") and len(line) > 8:
                event = orjson.loads(line[6:])["data"]["orderEvents"]
                if "cursor" in event:
                    found.append(event)
            if len(found) == count:
                break
    return found


async def test_l33_websocket_sse_and_webhook_tell_the_same_events(
    server: LiveServer, crowd: Shoppers, sink: Sink
) -> None:
    of = await make.shop(keys=5)
    secret = await subscribed(crowd, server, of, sink)

    trip = await crowd.bought(of)
    order = await crowd.order(trip.order_id, trip.access_key)
    count = len(order["timeline"])
    await sink.until(trip.order_id, count)
    watching = Watching(server, crowd.http)
    await watching.open(trip)
    by_ws = await watching.events(count)
    await watching.drop()
    by_sse = await over_sse(crowd, trip, count)
    told = sink.of(trip.order_id)

    def marks(events: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
        return [(one["sequence"], one["kind"], one["cursor"]) for one in events]

    assert marks([one["data"] for one in told]) == marks(by_ws) == marks(by_sse)
    times = [one["data"]["occurredAt"] for one in told]
    assert times == [one["occurredAt"] for one in by_sse]
    assert told[-1]["data"]["state"] == "delivered"
    assert told[-1]["data"]["order"]["status"] == order["status"] == "DELIVERED"
    assert all(is_signed(one, secret) for one in told)
    assert all(b"KEY-" not in one["body"] for one in told)  # never the goods
    # A webhook's cursor goes on in the live stream.
    rest = await over_sse(crowd, trip, count - 2, after=told[1]["data"]["cursor"])
    assert marks(rest) == marks(by_sse[2:])


async def test_a_killed_worker_loses_no_webhook(
    server: LiveServer, crowd: Shoppers, sink: Sink
) -> None:
    of = await make.shop(keys=20)
    await subscribed(crowd, server, of, sink)

    trips = await asyncio.gather(*(crowd.buy(of) for _ in range(4)))
    killed = server.kill("worker")
    server.wait_back("worker", killed)
    for trip in trips:
        await crowd.until(trip, "DELIVERED", timeout_s=90)
    await db.execute(
        "UPDATE webhook_delivery SET lease_until = clock_timestamp() WHERE state = 'leased'"
    )  # the test does not wait two minutes for them

    for trip in trips:
        order = await crowd.order(trip.order_id, trip.access_key)
        await sink.until(trip.order_id, len(order["timeline"]), timeout_s=90)
        sequences = [one["data"]["sequence"] for one in sink.of(trip.order_id)]
        assert sequences == [one["sequence"] for one in order["timeline"]]
