"""Steps of a refund that the journeys share: sell, ask as the merchant, let everybody have their turn."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import Any

from domain import ledger
from domain.core import clock, db, ids
from domain.identity import OperatorRole, Role, Viewer
from domain.ledger import AccountKey
from tests import make
from tests.platform import Platform, uuid_of

REFUND = """
mutation ($input: RequestRefundInput!, $key: String!) {
  requestRefund(input: $input) @idempotent(key: $key) {
    __typename
    ... on RefundRequested { refundIds amount { amount currency } order { status paymentState } }
    ... on Problem { code message path }
    ... on RefundExceedsCaptured { refundable }
  }
}"""
_keys = itertools.count(1)


def merchant(of: make.Shop, role: Role = Role.FINANCE) -> Viewer:
    later = clock.now() + timedelta(hours=1)
    roles = {of.merchant_id: role}
    return Viewer(of.merchant_id, "owner@example.com", None, ids.uuid7(), later, roles)


def operator(*roles: OperatorRole) -> Viewer:
    later = clock.now() + timedelta(hours=1)
    return Viewer(
        ids.uuid7(),
        "op@example.com",
        None,
        ids.uuid7(),
        later,
        operator=True,
        operator_roles=frozenset(roles or {OperatorRole.FINANCE}),
    )


async def refund(
    platform: Platform,
    of: make.Shop,
    order_id: str,
    amount: str | None = None,
    *,
    key: str | None = None,
) -> dict[str, Any]:
    """requestRefund as the merchant; the union member."""
    asked: dict[str, Any] = {"orderId": order_id}
    if amount is not None:
        asked["amount"] = {"amount": amount, "currency": of.price.currency}
    variables = {"input": asked, "key": key or f"refund-{next(_keys)}"}
    found: dict[str, Any] = (await platform.data(REFUND, variables, viewer=merchant(of)))[
        "requestRefund"
    ]
    return found


async def sold(platform: Platform, of: make.Shop, *, quantity: int = 1) -> tuple[str, str]:
    """A delivered order."""
    order_id, access_key, paid = await platform.bought(of, quantity=quantity)
    words = await db.value("SELECT count(*) FROM inbox_event")
    await platform.sandbox.do(paid["id"], "confirm", account="main")
    await platform.heard(words + 1)
    await platform.work()
    assert (await platform.order(order_id, access_key))["status"] == "DELIVERED"
    return order_id, access_key


async def short(platform: Platform, of: make.Shop) -> tuple[str, str]:
    """A paid order whose goods were gone when the money came."""
    order_id, access_key, paid = await platform.bought(of)
    await db.execute(
        "UPDATE card_key SET state = 'available', order_id = NULL, order_line_id = NULL"
    )
    await db.execute("DELETE FROM stock_hold")
    await db.execute("UPDATE card_key SET state = 'locked'")
    words = await db.value("SELECT count(*) FROM inbox_event")
    await platform.sandbox.do(paid["id"], "confirm", account="main")
    await platform.heard(words + 1)
    await platform.work()
    assert (await platform.order(order_id, access_key))["status"] == "SHORT"
    return order_id, access_key


async def settle(platform: Platform) -> None:
    """Let the workers and the provider's callbacks have their turns."""
    for _ in range(2):
        await platform.work()
        await asyncio.sleep(0.05)
    await platform.work()


async def states(order_id: str) -> list[str]:
    rows = await db.fetch(
        "SELECT state FROM refund WHERE order_id = $1 ORDER BY id", uuid_of(order_id)
    )
    return [row["state"] for row in rows]


async def available(of: make.Shop, purpose: str = "merchant_available") -> int:
    return (await ledger.balance(AccountKey(purpose, of.merchant_id, "", of.price.currency))).posted
