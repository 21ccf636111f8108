"""Virtual buyers: each walks startCheckout → pay → watches its order until the goods are on the screen.

One WebSocket per buyer carries all its subscriptions; every request is a fresh idempotency key, as a real client's.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

START = """
mutation Start($input: StartCheckoutInput!, $key: String!) {
  startCheckout(input: $input) @idempotent(key: $key) {
    __typename
    ... on Checkout { accessKey order { id number total { amount currency } } paymentMethods { code } }
    ... on Problem { code message path }
  }
}"""
PAY = """
mutation Pay($input: PayInput!, $key: String!) {
  pay(input: $input) @idempotent(key: $key) {
    __typename
    ... on Payment { id status nextAction { __typename ... on RedirectAction { url } } }
    ... on Problem { code message path }
  }
}"""
WATCH = """
subscription Watch($id: ID!, $key: String!) {
  orderEvents(orderId: $id, accessKey: $key) {
    __typename
    ... on OrderEvent { cursor sequence kind order { status goods { content revoked } } }
  }
}"""
VARIANTS = """
query Shop($handle: String!) {
  shop(handle: $handle) { products(first: 20) { nodes { id title variants { id title available price { amount } } } } }
}"""


@dataclass
class Trip:
    """What one purchase took, in seconds, and what came of it."""

    outcome: str
    started_s: float = 0.0
    paid_s: float = 0.0
    goods_s: float = 0.0
    goods: list[str] = field(default_factory=list)
    order_id: str = ""
    access_key: str = ""


class Buyer:
    """One person with one connection: buys as often as told, one purchase at a time."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._frames: dict[str, asyncio.Queue[Any]] = {}
        self._numbers = itertools.count(1)
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Buyer:
        self._socket = await self._http.ws_connect(
            self._url.replace("http", "ws", 1) + "/graphql", protocols=("graphql-transport-ws",)
        )
        await self._socket.send_json({"type": "connection_init"})
        hello = await self._socket.receive_json()
        assert hello["type"] == "connection_ack", hello
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._socket is not None
        assert self._reader is not None
        self._reader.cancel()
        await self._socket.close()

    async def _read(self) -> None:
        assert self._socket is not None
        async for message in self._socket:
            frame = orjson.loads(message.data)
            if frame["type"] == "ping":
                await self._socket.send_json({"type": "pong"})
            elif frame.get("id") in self._frames:
                self._frames[frame["id"]].put_nowait(frame)

    async def ask(self, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        """One GraphQL request over HTTP; its `data`."""
        body = orjson.dumps({"query": document, "variables": variables})
        headers = {"content-type": "application/json"}
        async with self._http.post(self._url + "/graphql", data=body, headers=headers) as response:
            answer = orjson.loads(await response.read())
        if answer.get("errors"):
            raise RuntimeError(answer["errors"])
        data: dict[str, Any] = answer["data"]
        return data

    async def buy(self, variant_id: str, *, currency: str = "USD", quantity: int = 1) -> Trip:
        """One purchase from the first click to the goods."""
        clicked = time.perf_counter()
        cart = {
            "shop": "demo",
            "lines": [{"variantId": variant_id, "quantity": quantity}],
            "contact": {"email": "bench@example.com"},
            "currency": currency,
        }
        begun = (await self.ask(START, {"input": cart, "key": uuid.uuid4().hex}))["startCheckout"]
        if begun["__typename"] != "Checkout":
            return Trip(begun["code"])
        order_id, access_key = begun["order"]["id"], begun["accessKey"]
        trip = Trip("", time.perf_counter() - clicked, order_id=order_id, access_key=access_key)
        number = await self._watch(order_id, access_key)
        payment = {"orderId": order_id, "accessKey": access_key, "method": "sandbox"}
        paid = (await self.ask(PAY, {"input": payment, "key": uuid.uuid4().hex}))["pay"]
        trip.paid_s = time.perf_counter() - clicked
        if paid["__typename"] != "Payment":
            trip.outcome = paid["code"]
        else:
            trip.outcome = await self._goods(number, trip)
            trip.goods_s = time.perf_counter() - clicked
        await self._stop(number)
        return trip

    async def _watch(self, order_id: str, access_key: str) -> str:
        assert self._socket is not None
        number = str(next(self._numbers))
        self._frames[number] = asyncio.Queue()
        payload = {"query": WATCH, "variables": {"id": order_id, "key": access_key}}
        await self._socket.send_str(
            orjson.dumps({"id": number, "type": "subscribe", "payload": payload}).decode()
        )
        return number

    async def _goods(self, number: str, trip: Trip) -> str:
        while True:
            frame = await asyncio.wait_for(self._frames[number].get(), 30)
            if frame["type"] != "next":
                return f"{frame['type']}: {frame.get('payload')}"
            if frame["payload"].get("errors"):
                return str(frame["payload"]["errors"])
            event = frame["payload"]["data"]["orderEvents"]
            kind = event.get("kind")
            if kind == "DELIVERED":
                trip.goods = [good["content"] for good in event["order"]["goods"]]
                return "DELIVERED"
            if kind in ("SHORT", "HELD", "DECLINED", "EXPIRED", "MISMATCH"):
                return str(kind)

    async def _stop(self, number: str) -> None:
        assert self._socket is not None
        await self._socket.send_json({"id": number, "type": "complete"})
        del self._frames[number]


async def first_variant(buyer: Buyer) -> str:
    """The first product's first variant of the demo shop: the one with many keys."""
    shop = (await buyer.ask(VARIANTS, {"handle": "demo"}))["shop"]
    found: str = shop["products"]["nodes"][0]["variants"][0]["id"]
    return found
