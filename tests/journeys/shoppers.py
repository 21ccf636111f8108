"""Buyers as processes under fault meet them: over HTTP and WebSocket, patient, and never twice without a key.

A shopper repeats a call that was cut off under the same idempotency key, as every good client does; what it
learns in the end is the platform's word.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp
import orjson

from domain.core import db, ids
from tests.live import LiveServer
from tests.make import Shop
from tests.platform import ORDER, PAY, START

RETRY_S = 0.25
PATIENCE_S = 60.0
TRANSIENT = frozenset(
    {"IDEMPOTENCY_IN_PROGRESS", "UNAVAILABLE", "INTERNAL_SERVER_ERROR", "THROTTLED"}
)
WATCH = """
subscription ($id: ID!, $key: String, $after: String) {
  orderEvents(orderId: $id, accessKey: $key, after: $after) {
    __typename
    ... on OrderEvent { cursor sequence kind order { status version goods { content } } }
    ... on StreamGap { resumeCursor }
    ... on StreamHeartbeat { at }
  }
}"""


@dataclass
class Trip:
    """What one shopper was told: the order when there is one, and the last word about it."""

    outcome: str = ""
    order_id: str = ""
    access_key: str = ""
    payments: list[str] = field(default_factory=list)


@dataclass
class Shoppers:
    """A crowd in front of a running platform. `errors` are the top-level errors they had to wait out."""

    http: aiohttp.ClientSession
    url: str
    errors: list[str] = field(default_factory=list)

    async def ask(self, document: str, variables: dict[str, Any], **headers: str) -> dict[str, Any]:
        """One request, once; the whole answer. Errors: aiohttp's."""
        body = orjson.dumps({"query": document, "variables": variables})
        sent = {"content-type": "application/json", **headers}
        async with self.http.post(f"{self.url}/graphql", data=body, headers=sent) as response:
            found: dict[str, Any] = orjson.loads(await response.read())
            return found

    async def insist(
        self, document: str, variables: dict[str, Any], **headers: str
    ) -> dict[str, Any]:
        """The same request until it is answered; its `data`. The key makes it safe."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = await self.ask(document, variables, **headers)
            except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError) as error:
                said = type(error).__name__
            else:
                data: dict[str, Any] | None = answer.get("data")
                code = _refusal(answer)
                if code not in TRANSIENT:
                    assert data is not None, answer
                    return data
                said = code
            self.errors.append(said)
            assert time.monotonic() < until, f"no answer within {PATIENCE_S} s: {said}"
            await asyncio.sleep(RETRY_S)

    async def start(self, of: Shop, *, quantity: int = 1) -> dict[str, Any]:
        """startCheckout until it is answered; the union member."""
        cart = {
            "shop": of.handle,
            "lines": [{"variantId": ids.encode("var", of.variant_id), "quantity": quantity}],
            "contact": {"email": f"{secrets.token_hex(6)}@example.com"},
            "currency": of.price.currency,
        }
        data = await self.insist(START, {"input": cart, "key": secrets.token_hex(16)})
        found: dict[str, Any] = data["startCheckout"]
        return found

    async def pay(self, order_id: str, access_key: str) -> dict[str, Any]:
        """pay until it is answered; the union member."""
        wanted = {"orderId": order_id, "accessKey": access_key, "method": "sandbox"}
        data = await self.insist(PAY, {"input": wanted, "key": secrets.token_hex(16)})
        found: dict[str, Any] = data["pay"]
        return found

    async def order(self, order_id: str, access_key: str) -> dict[str, Any]:
        """The order as its buyer sees it."""
        found: dict[str, Any] = (await self.insist(ORDER, {"id": order_id, "key": access_key}))[
            "order"
        ]
        return found

    async def buy(self, of: Shop, *, quantity: int = 1, tries: int = 3) -> Trip:
        """Order and pay; a payment that failed is tried again by hand, as people do."""
        begun = await self.start(of, quantity=quantity)
        if begun["__typename"] != "Checkout":
            return Trip(begun["code"])
        trip = Trip("", begun["order"]["id"], begun["accessKey"])
        for _ in range(tries):
            paid = await self.pay(trip.order_id, trip.access_key)
            if paid["__typename"] == "Payment":
                trip.payments.append(paid["id"])
                trip.outcome = paid["status"]
                return trip
            trip.outcome = paid["code"]
            if trip.outcome != "PAYMENT_DECLINED":
                return trip
        return trip

    async def bought(self, of: Shop, *, quantity: int = 1) -> Trip:
        """Order, pay, wait until it is delivered."""
        trip = await self.buy(of, quantity=quantity)
        assert trip.payments, trip
        await self.until(trip, "DELIVERED")
        return trip

    async def until(self, trip: Trip, *statuses: str, timeout_s: float = 20) -> dict[str, Any]:
        """The order, once it has one of the statuses."""
        limit = time.monotonic() + timeout_s
        while True:
            order = await self.order(trip.order_id, trip.access_key)
            if order["status"] in statuses:
                return order
            assert time.monotonic() < limit, order
            await asyncio.sleep(0.05)

    async def sign_in(self, live: LiveServer, email: str, password: str) -> str:
        """A bearer token."""
        document = "mutation ($i: SignInInput!) { signIn(input: $i) { ... on Session { token } } }"
        data = await self.insist(document, {"i": {"email": email, "password": password}})
        token: str = data["signIn"]["token"]
        return token


def _refusal(answer: dict[str, Any]) -> str:
    """The code of a top-level error or of a problem that passes, "" for an answer."""
    if answer.get("errors"):
        code: str = answer["errors"][0]["extensions"]["code"]
        return code
    for value in (answer["data"] or {}).values():
        if isinstance(value, dict) and value.get("code") in TRANSIENT:
            return str(value["code"])
    return ""


@contextlib.asynccontextmanager
async def shoppers(live: LiveServer) -> AsyncIterator[Shoppers]:
    """A crowd with connections of its own."""
    connector = aiohttp.TCPConnector(limit=256, force_close=False)
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        yield Shoppers(http, live.url)


class Watching:
    """One subscription on one WebSocket: every frame in order of arrival."""

    def __init__(self, live: LiveServer, http: aiohttp.ClientSession) -> None:
        self._url = live.ws_url
        self._http = http
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def open(self, trip: Trip, *, after: str | None = None) -> None:
        """Connect and subscribe behind a cursor."""
        self._socket = await self._http.ws_connect(self._url, protocols=("graphql-transport-ws",))
        await self._socket.send_json({"type": "connection_init"})
        assert (await self._socket.receive_json(timeout=10))["type"] == "connection_ack"
        variables = {"id": trip.order_id, "key": trip.access_key, "after": after}
        payload = {"query": WATCH, "variables": variables}
        await self._socket.send_json({"id": "1", "type": "subscribe", "payload": payload})

    async def next(self, timeout_s: float = 10) -> dict[str, Any]:
        """The next frame's field, or the message when it is no `next`."""
        assert self._socket is not None
        while True:
            frame: dict[str, Any] = await self._socket.receive_json(timeout=timeout_s)
            if frame["type"] == "next":
                found: dict[str, Any] = frame["payload"]["data"]["orderEvents"]
                return found
            if frame["type"] != "ping":
                return frame

    async def events(self, count: int, timeout_s: float = 10) -> list[dict[str, Any]]:
        """The next `count` events; heartbeats are passed over."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            frame = await self.next(timeout_s)
            assert frame.get("__typename") in ("OrderEvent", "StreamHeartbeat"), frame
            if frame["__typename"] == "OrderEvent":
                found.append(frame)
        return found

    async def drop(self) -> None:
        """Be gone without a word."""
        assert self._socket is not None
        transport = (
            self._socket._response.connection and self._socket._response.connection.transport
        )
        if transport is not None:
            transport.abort()
        await self._socket.close()


async def at_rest(shop: Shop, *, timeout_s: float = 120) -> None:
    """Wait until nothing of a shop's orders is under way: no live attempt that took money, no word, no promise.

    Two minutes, as L20 says: what a killed worker had leased is free after fifty seconds and a sweep.
    """
    limit = time.monotonic() + timeout_s
    while True:
        # What is unclear is asked about now: the test does not wait for the timetable.
        await db.execute(
            "UPDATE payment_attempt SET next_check_at = clock_timestamp() WHERE merchant_id = $1"
            " AND next_check_at > clock_timestamp() + interval '2 s' AND state IN ('started', 'unknown')",
            shop.merchant_id,
        )
        left = await db.value(_LEFT, shop.merchant_id)
        if not left:
            return
        assert time.monotonic() < limit, f"still under way: {left}"
        await asyncio.sleep(0.25)


_LEFT = """
SELECT concat_ws(', ', VARIADIC ARRAY(
    SELECT 'attempt ' || state FROM payment_attempt WHERE merchant_id = $1
        AND state IN ('started', 'requires_action', 'processing', 'unknown')
    UNION ALL SELECT 'word ' || no FROM inbox_event WHERE verdict IS NULL
    UNION ALL SELECT 'capture ' || id FROM capture WHERE merchant_id = $1 AND state = 'captured'
    UNION ALL SELECT 'promise ' || task FROM promise WHERE state IN ('ready', 'leased') AND due_at < clock_timestamp()
    UNION ALL SELECT 'refund ' || state FROM refund WHERE merchant_id = $1
        AND state IN ('created', 'submitted')))
"""


async def owners(shop: Shop) -> dict[UUID, int]:
    """Keys sold, by order."""
    rows = await db.fetch(
        "SELECT order_id, count(*)::int AS n FROM card_key WHERE merchant_id = $1 AND state = 'sold' GROUP BY 1",
        shop.merchant_id,
    )
    return {row["order_id"]: row["n"] for row in rows}


numbers = itertools.count(1)
