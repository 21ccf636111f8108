"""A buyer who saves a method and buys again, as the journeys and API tests need one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from domain.core import db
from tests.make import Shop
from tests.platform import PAY, Platform

AGAIN = """
mutation ($input: BuyAgainInput!, $key: String!) {
  buyAgain(input: $input) @idempotent(key: $key) {
    __typename
    ... on Payment {
      id status accessKey amount { amount currency } nextAction { __typename } order { id number status }
    }
    ... on PriceChanged { total { amount } unitPrice { amount } changes { line } }
    ... on Problem { code message path retryable }
  }
}"""
SAVED = """
query ($id: ID!, $key: String) {
  order(id: $id, accessKey: $key) { savedMethods { id label savedAt method { code canSave } } }
}"""
FORGET = """
mutation ($input: ForgetMethodInput!) {
  forgetMethod(input: $input) {
    __typename
    ... on MethodForgotten { savedMethodId order { savedMethods { id } } }
    ... on Problem { code message path }
  }
}"""
_keys = itertools.count(1)


@dataclass
class Buyer:
    """Who holds an order's key; `saved_id` is the method saved with it."""

    platform: Platform
    order_id: str
    access_key: str
    saved_id: str = ""

    async def saved(self) -> list[dict[str, Any]]:
        """What the order shows its buyer."""
        who = {"id": self.order_id, "key": self.access_key}
        found: list[dict[str, Any]] = (await self.platform.data(SAVED, who))["order"][
            "savedMethods"
        ]
        return found

    async def ask_again(self, *, key: str | None = None, **more: Any) -> dict[str, Any]:
        """buyAgain; the whole answer."""
        wish = {"orderId": self.order_id, "accessKey": self.access_key}
        wish |= {"savedMethodId": self.saved_id, **more}
        return await self.platform.ask(AGAIN, {"input": wish, "key": key or f"again-{next(_keys)}"})

    async def again(self, *, key: str | None = None, **more: Any) -> dict[str, Any]:
        """buyAgain; the union member."""
        answer = await self.ask_again(key=key, **more)
        assert "errors" not in answer, answer["errors"]
        found: dict[str, Any] = answer["data"]["buyAgain"]
        return found

    async def forget(self, **more: Any) -> dict[str, Any]:
        """forgetMethod; the union member."""
        wish = {"orderId": self.order_id, "accessKey": self.access_key}
        wish |= {"savedMethodId": self.saved_id, **more}
        found: dict[str, Any] = (await self.platform.data(FORGET, {"input": wish}))["forgetMethod"]
        return found


async def pay(platform: Platform, order_id: str, access_key: str, **more: Any) -> dict[str, Any]:
    """pay with more of its input; the union member."""
    wish = {"orderId": order_id, "accessKey": access_key, "method": "sandbox", **more}
    found: dict[str, Any] = (await platform.data(PAY, {"input": wish, "key": f"p-{next(_keys)}"}))[
        "pay"
    ]
    return found


async def heard() -> int:
    """How many words of providers have come so far."""
    found: int = await db.value("SELECT count(*) FROM inbox_event")
    return found


async def saver(platform: Platform, of: Shop, *, quantity: int = 1) -> Buyer:
    """A buyer who has paid, asked to save, and has the goods."""
    begun = await platform.start(of, quantity=quantity)
    buyer = Buyer(platform, begun["order"]["id"], begun["accessKey"])
    before = await heard()
    paid = await pay(platform, buyer.order_id, buyer.access_key, saveMethod=True)
    await platform.sandbox.do(paid["id"], "confirm", account="main")
    await platform.heard(before + 1)
    await platform.work()
    (saved,) = await buyer.saved()
    buyer.saved_id = saved["id"]
    return buyer


async def count(table: str) -> int:
    """Rows of a table."""
    found: int = await db.value(f"SELECT count(*) FROM {table}")
    return found
