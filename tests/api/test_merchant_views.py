"""What a merchant's members see of their own orders and money, and nobody else does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from domain import identity
from domain.core import db, ids
from domain.core.money import Money
from domain.identity import Role, Viewer
from tests import make
from tests.database import as_owner
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


SEARCH = """
query ($merchant: ID!, $first: Int = 10, $after: String, $status: [OrderStatus!], $number: String,
       $email: String, $from: DateTime, $before: DateTime) {
  orders(merchantId: $merchant, first: $first, after: $after, status: $status, number: $number,
         email: $email, placedFrom: $from, placedBefore: $before) {
    nodes { number status createdAt } pageInfo { endCursor hasNextPage } totalCount
  }
}"""


async def test_orders_are_found_by_state_number_address_and_time(platform: Platform) -> None:
    of, other = await make.shop(), await make.shop()
    placed = []
    for place, email in enumerate(("Ann@Example.com", "ben@example.com", "ann@example.com")):
        begun = await platform.start(of, contact={"email": email})
        placed.append(begun["order"])
        created = datetime(2026, 11, 20 + place, 12, tzinfo=UTC)
        await as_owner(
            "UPDATE orders SET created_at = $2, id = $3 WHERE number = $1",
            begun["order"]["number"],
            created,
            ids.earliest(created),
        )
    await platform.start(other, contact={"email": "ann@example.com"})
    numbers = [one["number"] for one in placed]
    await db.execute("UPDATE orders SET status = 'cancelled' WHERE number = $1", numbers[0])
    viewer, merchant = await member(of, Role.SUPPORT), ids.encode("mer", of.merchant_id)

    async def found(**wanted: Any) -> list[str]:
        answer = await platform.data(SEARCH, {"merchant": merchant, **wanted}, viewer=viewer)
        nodes = answer["orders"]["nodes"]
        assert answer["orders"]["totalCount"] == len(nodes)
        return [one["number"] for one in nodes]

    newest_first = numbers[::-1]
    assert await found() == newest_first
    assert await found(status=["CANCELLED", "REFUNDED"]) == [numbers[0]]
    assert await found(status=["AWAITING_PAYMENT"]) == newest_first[:2]
    assert await found(status=["CANCELLED", "AWAITING_PAYMENT"]) == newest_first
    assert await found(status=["HELD"]) == []
    assert await found(number=f" {numbers[1].lower()} ") == [numbers[1]]
    assert await found(number="K000000-0000000000") == []
    assert await found(email="ANN@example.com") == [numbers[2], numbers[0]]
    assert await found(email="ann@example.com", status=["AWAITING_PAYMENT"]) == [numbers[2]]
    day = "2026-11-21T12:00:00Z"
    assert await found(**{"from": day}) == newest_first[:2]  # half open: from it on, before it
    assert await found(before=day) == [numbers[0]]
    assert await found(**{"from": "2026-11-21T00:00:00Z", "before": "2026-11-22T00:00:00Z"}) == [
        numbers[1]
    ]
    assert await found(**{"from": "0001-01-01T00:00:00Z", "before": "9999-12-31T00:00:00Z"}) == (
        newest_first
    )


async def test_j19_a_cursor_belongs_to_its_search_and_a_bad_address_is_told(
    platform: Platform,
) -> None:
    of = await make.shop()
    for _ in range(2):
        await platform.start(of, contact={"email": "ann@example.com"})
    viewer, merchant = await member(of, Role.FINANCE), ids.encode("mer", of.merchant_id)

    async def ask(**wanted: Any) -> dict[str, Any]:
        return await platform.ask(
            SEARCH, {"merchant": merchant, "first": 1, **wanted}, viewer=viewer
        )

    page = (await ask(email="ann@example.com"))["data"]["orders"]
    after = page["pageInfo"]["endCursor"]
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (2, True)
    rest = (await ask(email="ann@example.com", after=after))["data"]["orders"]
    assert len(rest["nodes"]) == 1
    assert rest["nodes"] != page["nodes"]
    assert codes(await ask(after=after)) == ["BAD_USER_INPUT"]
    assert codes(await ask(email="ben@example.com", after=after)) == ["BAD_USER_INPUT"]
    refused = await ask(email="no address")
    assert codes(refused) == ["BAD_USER_INPUT"]
    assert refused["errors"][0]["extensions"]["path"] == ["email"]
    assert refused["errors"][0]["extensions"]["reason"] == "email"


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
