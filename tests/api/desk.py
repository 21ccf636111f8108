"""A merchant's desk: the whole contract behind the door, and the documents a catalogue is run with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import orjson

from domain import identity
from domain.core import db, ids
from domain.identity import Role
from resolvers.context import Context
from schema.root import schema
from server.graphql.door import Door
from server.graphql.request import Asked
from tests import make

_door = Door(schema)
_keys = itertools.count(1)

PROBLEMS = """
    ... on Problem { code path retryable }
    ... on InvalidInput { problems { code path } }
"""
CONFLICT = """
    ... on Conflict { current {
      __typename id version
      ... on MerchantProduct { texts { language title } }
      ... on MerchantVariant { prices { price { amount currency } } }
      ... on Coupon { useLimit }
      ... on Shop { names { language text } }
    } }
"""
PRODUCT = """
    ... on MerchantProduct {
      id version state position texts { language title description } shop { handle }
    }
"""
VARIANT = """
    ... on MerchantVariant {
      id version state delivery supplier supplierSku minQuantity maxQuantity lowStockAt
      titles { language text } prices { price { amount currency } isBase }
      tiers { fromQuantity price { amount currency } } reusable { useLimit used }
    }
"""
COUPON = """
    ... on Coupon {
      id version code kind percentBps useLimit buyerLimit used state expiresAt productIds shopId
      amounts { amount currency } minTotals { amount currency }
    }
"""
SHOP = "... on Shop { id version handle names { language text } }"
MOVED = """
    ... on CardsMoved { moved lot { counts { available reserved sold locked expired revoked } } }
"""
ROWS = """
    rows { row status variant { id version prices { price { amount } } } problems { code path } }
"""
PRICES = f"... on PricesUpdated {{ changed {ROWS} }} ... on PricesRefused {{ {ROWS} }}"
RESULTS = {
    "createProduct": PRODUCT,
    "updateProduct": PRODUCT + CONFLICT,
    "createVariant": VARIANT,
    "updateVariant": VARIANT + CONFLICT,
    "setReusableContent": VARIANT + CONFLICT,
    "setPrices": VARIANT + CONFLICT,
    "updatePrices": PRICES,
    "createCoupon": COUPON,
    "updateCoupon": COUPON + CONFLICT,
    "endCoupon": COUPON + CONFLICT,
    "createShop": SHOP,
    "updateShop": SHOP + CONFLICT,
    "withdrawCards": MOVED,
    "restoreCards": MOVED,
}


@dataclass(frozen=True)
class Desk:
    """One signed-in member."""

    token: str | None
    language: str = "en"

    async def ask(self, document: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """One operation; the whole answer."""
        context = Context(request_id="req-1", address="203.0.113.9", accept_language=self.language)
        await _door.admit(context, self.token)
        answer = await _door.answer(Asked(document, variables=variables or {}), context)
        body: dict[str, Any] = orjson.loads(answer.body)
        return body

    async def data(self, document: str, variables: dict[str, Any] | None = None) -> Any:
        """One operation that must not end in a top-level error; its data."""
        body = await self.ask(document, variables)
        assert "errors" not in body, body["errors"]
        return body["data"]

    async def post(
        self, name: str, input: dict[str, Any], key: str | None = None
    ) -> dict[str, Any]:
        """One mutation; the whole answer."""
        kind = f"{name[0].upper()}{name[1:]}Input"
        document = (
            f"mutation ($input: {kind}!, $key: String!) {{ {name}(input: $input)"
            f" @idempotent(key: $key) {{ __typename {RESULTS[name]} {PROBLEMS} }} }}"
        )
        return await self.ask(document, {"input": input, "key": key or f"key-{next(_keys)}"})

    async def do(self, name: str, input: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        """One mutation that must not end in a top-level error; the union member."""
        body = await self.post(name, input, key)
        assert "errors" not in body, body["errors"]
        found: dict[str, Any] = body["data"][name]
        return found


async def member(of: make.Shop, role: Role = Role.CATALOGUE) -> Desk:
    """The desk of a new member of the shop's merchant."""
    email = f"{ids.uuid7().hex}@shop.test"
    account = await identity.register(email, "correct horse battery")
    await identity.grant(of.merchant_id, account, role)
    return Desk((await identity.sign_in(email, "correct horse battery", "203.0.113.9")).token)


def usd(amount: str) -> dict[str, str]:
    """A MoneyInput."""
    return {"amount": amount, "currency": "USD"}


def refused(answer: dict[str, Any]) -> dict[tuple[str, ...], str]:
    """The faulty fields of an InvalidInput: path below `input` → code."""
    assert answer["__typename"] == "InvalidInput", answer
    return {tuple(one["path"][1:]): one["code"] for one in answer["problems"]}


def code(body: dict[str, Any]) -> str:
    """The code of a top-level error."""
    found: str = body["errors"][0]["extensions"]["code"]
    return found


async def audited() -> list[tuple[str, dict[str, Any]]]:
    """(action, facts) of the audit log, oldest first."""
    rows = await db.fetch("SELECT action, facts_json FROM audit_log ORDER BY no")
    return [(row["action"], row["facts_json"]) for row in rows]
