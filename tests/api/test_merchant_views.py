"""What a merchant's members see of their own orders and money, and nobody else does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from domain import identity
from domain.core import ids
from domain.core.money import Money
from domain.identity import Role, Viewer
from tests import make
from tests.platform import Platform, running

ORDERS = """
query ($merchant: ID!, $first: Int, $after: String) {
  orders(merchantId: $merchant, first: $first, after: $after) {
    nodes { number status goods { content } } pageInfo { hasNextPage endCursor }
  }
}"""
MONEY = """
query ($merchant: ID!) {
  merchantBalances(merchantId: $merchant) { purpose balance { amount currency } }
  merchantStatement(merchantId: $merchant, purpose: "merchant_available", currency: "USD") {
    opening { amount } entries { kind amount { amount } balance { amount } } hasMore
  }
}"""


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch, autoconfirm_ms=1) as found:
        yield found


async def member(of: make.Shop, role: Role) -> Viewer:
    account_id = await identity.register(f"{role}-{of.handle}@example.com", "correct horse battery")
    await identity.grant(of.merchant_id, account_id, role)
    signed = await identity.sign_in(
        f"{role}-{of.handle}@example.com", "correct horse battery", "203.0.113.9"
    )
    viewer = await identity.viewer(signed.token)
    assert viewer is not None
    return viewer


def codes(answer: dict[str, Any]) -> list[str]:
    return [error["extensions"]["code"] for error in answer["errors"]]


async def test_orders_come_newest_first_in_pages_and_without_goods(platform: Platform) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    numbers = []
    for place in range(3):
        order_id, access_key, _ = await platform.bought(of)
        await platform.heard(place + 1)
        await platform.work()
        numbers.append((await platform.order(order_id, access_key))["number"])
    viewer = await member(of, Role.FINANCE)
    merchant = ids.encode("mer", of.merchant_id)

    first = (await platform.data(ORDERS, {"merchant": merchant, "first": 2}, viewer=viewer))[
        "orders"
    ]
    after = first["pageInfo"]["endCursor"]
    rest = (
        await platform.data(
            ORDERS, {"merchant": merchant, "first": 2, "after": after}, viewer=viewer
        )
    )["orders"]

    assert [one["number"] for one in first["nodes"] + rest["nodes"]] == numbers[::-1]
    assert (first["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
    assert [one["goods"] for one in first["nodes"]] == [[], []]


async def test_balances_and_statement_add_up(platform: Platform) -> None:
    of = await make.shop(price=Money(1_050, "USD"), reserve_bps=500)
    await platform.bought(of)
    await platform.heard(1)
    await platform.work()
    viewer = await member(of, Role.OWNER)

    seen = await platform.data(
        MONEY, {"merchant": ids.encode("mer", of.merchant_id)}, viewer=viewer
    )

    money = {one["purpose"]: one["balance"]["amount"] for one in seen["merchantBalances"]}
    assert money["merchant_available"] == "9.38"
    assert money["merchant_reserved"] == "0.49"
    assert seen["merchantStatement"] == {
        "opening": {"amount": "0.00"},
        "entries": [{"kind": "sale", "amount": {"amount": "9.38"}, "balance": {"amount": "9.38"}}],
        "hasMore": False,
    }


async def test_h01_another_merchants_books_do_not_exist(platform: Platform) -> None:
    mine, theirs = await make.shop(), await make.shop()
    viewer = await member(mine, Role.OWNER)
    for document in (ORDERS, MONEY):
        variables = {"merchant": ids.encode("mer", theirs.merchant_id), "first": 1}
        other = await platform.ask(document, variables, viewer=viewer)
        variables["merchant"] = ids.encode("mer", ids.uuid7())
        nobody = await platform.ask(document, variables, viewer=viewer)

        assert set(codes(other)) == {"NOT_FOUND"}
        assert [one["message"] for one in other["errors"]] == [
            one["message"] for one in nobody["errors"]
        ]


async def test_a_role_without_money_and_a_guest_are_refused(platform: Platform) -> None:
    of = await make.shop()
    variables = {"merchant": ids.encode("mer", of.merchant_id), "first": 1}

    catalogue = await platform.ask(ORDERS, variables, viewer=await member(of, Role.CATALOGUE))
    guest = await platform.ask(ORDERS, variables)

    assert codes(catalogue) == ["FORBIDDEN"]
    assert codes(guest) == ["UNAUTHENTICATED"]
