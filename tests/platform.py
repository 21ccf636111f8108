"""A sale inside the test's own loop: the whole contract, the callbacks' address, the sandbox, and lanes on demand.

Faster than processes and as strict: real PostgreSQL, real HTTP between shop and provider, no fakes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from starlette.applications import Starlette

from domain import checkout, fx
from domain.core import db, ids
from domain.core.settings import settings
from domain.fx.ports import feeds
from domain.orders import LANES
from domain.payments.ports import providers
from plugins.fx.ecb_snapshot import EcbSnapshot
from resolvers.context import Context
from schema.root import schema
from server import callbacks
from server.graphql.door import Door
from server.graphql.request import Asked
from tests.make import Shop
from tests.sandbox import RunningSandbox, free_socket, running_sandbox, serving
from workers import sale
from workers.registry import Later, tasks

START = """
mutation ($input: StartCheckoutInput!, $key: String!) {
  startCheckout(input: $input) @idempotent(key: $key) {
    __typename
    ... on Checkout {
      accessKey expiresAt
      order { id number status paymentState total { amount currency } lines { title quantity } }
      quote { base target rate referenceRate spreadBps source lockedUntil }
      paymentMethods { code }
    }
    ... on Problem { code message path retryable }
    ... on InvalidInput { problems { code path } }
  }
}"""
PAY = """
mutation ($input: PayInput!, $key: String!) {
  pay(input: $input) @idempotent(key: $key) {
    __typename
    ... on Payment { id status amount { amount currency } nextAction { __typename ... on RedirectAction { url }
      ... on ChallengeAction { url } } }
    ... on Problem { code message path retryable }
  }
}"""
ORDER = """
query ($id: ID!, $key: String) {
  order(id: $id, accessKey: $key) {
    id number status paymentState version total { amount currency }
    lines { title quantity delivered } payments { id status }
    timeline { sequence kind } fundsFlow { leg amount { amount } returned { amount } }
    goods { content revoked }
  }
}"""

_keys = itertools.count(1)


@dataclass
class Platform:
    """Everything a buyer and a provider need."""

    door: Door
    sandbox: RunningSandbox
    address: str = "203.0.113.7"
    _seen: list[Any] = field(default_factory=list)

    async def ask(
        self, document: str, variables: dict[str, Any] | None = None, **context: Any
    ) -> dict[str, Any]:
        """One operation; the whole answer."""
        about = Context(request_id="test", **{"address": self.address, **context})
        await self.door.admit(about, None)
        answer = await self.door.answer(Asked(document, variables=variables or {}), about)
        found: dict[str, Any] = orjson.loads(answer.body)
        return found

    async def data(
        self, document: str, variables: dict[str, Any] | None = None, **context: Any
    ) -> dict[str, Any]:
        """One operation that must not end in a top-level error; its data."""
        answer = await self.ask(document, variables, **context)
        assert "errors" not in answer, answer["errors"]
        found: dict[str, Any] = answer["data"]
        return found

    async def start(
        self, shop: Shop, *, key: str | None = None, quantity: int = 1, **more: Any
    ) -> dict[str, Any]:
        """startCheckout of one line; the union member."""
        cart = {
            "shop": shop.handle,
            "lines": [{"variantId": ids.encode("var", shop.variant_id), "quantity": quantity}],
            "contact": {"email": "buyer@example.com"},
            "currency": shop.price.currency,
            **more,
        }
        answer = await self.data(START, {"input": cart, "key": key or f"start-{next(_keys)}"})
        found: dict[str, Any] = answer["startCheckout"]
        return found

    async def pay(
        self, order_id: str, access_key: str, *, key: str | None = None, method: str = "sandbox"
    ) -> dict[str, Any]:
        """pay; the union member."""
        wanted = {"orderId": order_id, "accessKey": access_key, "method": method}
        answer = await self.data(PAY, {"input": wanted, "key": key or f"pay-{next(_keys)}"})
        found: dict[str, Any] = answer["pay"]
        return found

    async def order(self, order_id: str, access_key: str | None) -> dict[str, Any]:
        """The order as its buyer sees it."""
        found: dict[str, Any] = (await self.data(ORDER, {"id": order_id, "key": access_key}))[
            "order"
        ]
        return found

    async def bought(self, shop: Shop, *, quantity: int = 1) -> tuple[str, str, dict[str, Any]]:
        """startCheckout and pay; (order id, access key, what pay answered)."""
        begun = await self.start(shop, quantity=quantity)
        assert begun["__typename"] == "Checkout", begun
        order_id, access_key = begun["order"]["id"], begun["accessKey"]
        return order_id, access_key, await self.pay(order_id, access_key)

    async def heard(self, count: int, *, timeout_s: float = 10.0) -> None:
        """Wait until the inbox has `count` words in all."""
        async with asyncio.timeout(timeout_s):
            while await db.value("SELECT count(*) FROM inbox_event") < count:
                await asyncio.sleep(0.01)

    async def work(self) -> None:
        """Do what the workers would: lanes until nothing waits, then every promise that is due, and again."""
        while await self._lanes() + await self._promises():
            pass

    async def _lanes(self) -> int:
        return sum([await checkout.fulfil(lane) for lane in range(LANES)])

    async def _promises(self) -> int:
        rows = await db.fetch(
            "UPDATE promise SET state = 'done' WHERE state = 'ready' AND task = ANY($1)"
            " AND due_at <= clock_timestamp() RETURNING task, subject_id",
            list(tasks),
        )
        for row in rows:
            with contextlib.suppress(Later):
                await tasks[row["task"]](row["subject_id"])
        return len(rows)


@contextlib.asynccontextmanager
async def running(
    data_dir: Path, monkeypatch: Any, *, autoconfirm_ms: int = 0, hang_s: float = 20.0
) -> AsyncIterator[Platform]:
    """A platform on the test's database; needs the fixture `db`."""
    feeds["ecb_snapshot"] = EcbSnapshot(None)
    await fx.refresh()
    if not tasks:
        sale.load()
    listener = free_socket()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("KAMI_PUBLIC_URL", url)
    settings.cache_clear()
    app = Starlette(routes=callbacks.routes())
    async with (
        running_sandbox(data_dir, autoconfirm_ms=autoconfirm_ms, hang_s=hang_s) as sandbox,
        serving(app, listener),
    ):
        before = dict(providers)
        providers["sandbox"] = sandbox.adapter(timeout_s=1.0)
        try:
            yield Platform(Door(schema), sandbox)
        finally:
            providers.clear()
            providers.update(before)


def uuid_of(public_id: str) -> UUID:
    """The UUID inside a public id."""
    return ids.decode(public_id, ids.prefix_of(public_id))
