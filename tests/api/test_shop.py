"""The shop through the GraphQL door: pages without N+1, prices of the market, and keys coming in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from domain import catalogue, fx, identity, merchants
from domain.catalogue import Delivery, Limits, PriceList, Source, Text, Tier
from domain.core import clock, ids
from domain.core import db as core
from domain.core.money import Money
from domain.identity import Role
from resolvers.context import Context
from schema.build import build
from schema.catalogue import CatalogueMutation, CatalogueQuery
from schema.node import NodeQuery
from server.graphql.door import Door
from server.graphql.request import Asked
from tests import make
from tests.domain.exchange import feed

SHELF = """
query ($handle: String!, $first: Int, $after: String, $search: String) {
  shop(handle: $handle) {
    id handle name
    products(first: $first, after: $after, search: $search) {
      totalCount pageInfo { hasNextPage endCursor }
      nodes { id title description variants {
        id title available minQuantity maxQuantity delivery
        price { amount currency } tiers { fromQuantity price { amount currency } }
      } }
    }
  }
}
"""
NODE = """
query ($id: ID!) { node(id: $id) {
  __typename id
  ... on Shop { handle } ... on Product { title variants { title } }
  ... on Variant { title price { amount currency } }
  ... on CardImport { state added doneLines totalLines problemCount }
} }
"""
IMPORT = """
mutation ($input: ImportCardsInput!, $key: String!) {
  importCards(input: $input) @idempotent(key: $key) {
    __typename
    ... on CardImport { id state added totalLines problemCount problems { line fault firstLine } }
    ... on ImportRefused { lines problemCount problems { line fault firstLine } }
    ... on FileUnreadable { reason }
    ... on InvalidInput { problems { path code } }
    ... on Problem { code message path retryable }
  }
}
"""
WATCH = "query ($key: String!) { cardImport(key: $key) { id state doneLines totalLines added } }"


@pytest.fixture(scope="module")
def door() -> Door:
    return Door(build([CatalogueQuery, NodeQuery], [CatalogueMutation]))


@pytest.fixture(autouse=True)
def _no_rates() -> Iterator[None]:
    fx.forget()
    yield
    fx.forget()


async def ask(
    door: Door,
    query: str,
    variables: dict[str, Any] | None = None,
    *,
    token: str | None = None,
    language: str = "en",
    country: str | None = None,
) -> dict[str, Any]:
    context = Context(request_id="test", address="203.0.113.9", accept_language=language)
    if country is not None:
        head, brace, rest = query.partition("{")
        query = f'{head} @inContext(country: "{country}") {brace}{rest}'.replace(
            "query @", "query Q @"
        )
    await door.admit(context, token)
    answer = await door.answer(Asked(query, variables=variables or {}), context)
    body: dict[str, Any] = orjson.loads(answer.body)
    return body


async def signed_in(shop: make.Shop, role: Role = Role.CATALOGUE) -> str:
    email = f"{ids.uuid7().hex}@shop.test"
    account = await identity.register(email, "correct horse battery")
    await identity.grant(shop.merchant_id, account, role)
    return (await identity.sign_in(email, "correct horse battery", "203.0.113.9")).token


async def stocked(products: int = 3) -> make.Shop:
    """A shop with some products of two variants each beside its first one."""
    shop = await make.shop(keys=3)
    for place in range(1, products):
        product = await catalogue.add_product(
            shop.merchant_id,
            shop.shop_id,
            {"en": Text(f"Product {place}", "Some words"), "zh": Text(f"商品 {place}")},
            position=place,
        )
        for name in ("Small", "Large"):
            await catalogue.add_variant(
                shop.merchant_id,
                product,
                {"en": name},
                Source(Delivery.MANUAL),
                PriceList(
                    [Money(1_000 * place, "USD"), Money(800, "JPY")],
                    "USD",
                    [Tier(10, Money(900, "USD")), Tier(5, Money(950, "USD"))],
                ),
                limits=Limits(min_quantity=2, max_quantity=50),
            )
    return shop


async def test_a_shop_shows_its_shelf_in_the_readers_language(db: None, door: Door) -> None:
    shop = await stocked()

    body = await ask(door, SHELF, {"handle": shop.handle, "first": 10}, language="zh-CN,en;q=0.5")

    found = body["data"]["shop"]
    assert found["handle"] == shop.handle
    assert found["id"] == ids.encode("shp", shop.shop_id)
    page = found["products"]
    assert page["totalCount"] == 3
    assert page["pageInfo"]["hasNextPage"] is False
    assert [node["title"] for node in page["nodes"]] == ["Game card", "商品 1", "商品 2"]
    first = page["nodes"][0]["variants"]
    assert first == [
        {
            "id": ids.encode("var", shop.variant_id),
            "title": "One",
            "available": 3,
            "minQuantity": 1,
            "maxQuantity": 5_000,
            "delivery": "STOCK",
            "price": {"amount": "100.00", "currency": "USD"},
            "tiers": [],
        }
    ]
    second = page["nodes"][1]["variants"]
    assert [one["title"] for one in second] == ["Small", "Large"]
    assert second[0]["available"] == 1_000_000
    assert (second[0]["minQuantity"], second[0]["maxQuantity"]) == (2, 50)
    assert second[0]["tiers"] == [
        {"fromQuantity": 5, "price": {"amount": "9.50", "currency": "USD"}},
        {"fromQuantity": 10, "price": {"amount": "9.00", "currency": "USD"}},
    ]


async def test_a_page_of_twenty_costs_at_most_three_statements(db: None, door: Door) -> None:
    shop = await stocked(products=20)
    variables = {"handle": shop.handle, "first": 20}
    query = SHELF.replace("totalCount ", "")
    await ask(door, query, variables)
    merchants.forget()

    async with core.statements() as seen:
        body = await ask(door, query, variables)

    assert len(body["data"]["shop"]["products"]["nodes"]) == 20
    assert len(seen) <= 3, seen


async def test_prices_are_in_the_markets_currency(db: None, door: Door) -> None:
    shop = await stocked(products=2)
    variables = {"handle": shop.handle, "first": 2}

    async def prices(country: str) -> list[dict[str, str]]:
        body = await ask(door, SHELF, variables, country=country)
        nodes = body["data"]["shop"]["products"]["nodes"]
        return [variant["price"] for node in nodes for variant in node["variants"]]

    assert await prices("HK") == [
        {"amount": amount, "currency": "USD"} for amount in ("100.00", "10.00", "10.00")
    ]
    await fx.refresh(feed())
    in_hkd = await prices("HK")
    assert {price["currency"] for price in in_hkd} == {"HKD"}
    expected = Money(await fx.convert_price(10_000, "USD", "HKD"), "HKD")
    assert in_hkd[0]["amount"] == expected.decimal()
    in_jpy = await prices("JP")
    assert in_jpy[1] == {"amount": "800", "currency": "JPY"}


async def test_pages_are_walked_by_cursor_and_searched(db: None, door: Door) -> None:
    shop = await stocked(products=5)
    titles: list[str] = []
    after = None
    for _ in range(3):
        variables = {"handle": shop.handle, "first": 2, "after": after}
        body = await ask(door, SHELF, variables)
        page = body["data"]["shop"]["products"]
        titles += [node["title"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
    assert titles == ["Game card", "Product 1", "Product 2", "Product 3", "Product 4"]
    assert page["pageInfo"]["hasNextPage"] is False

    body = await ask(door, SHELF, {"handle": shop.handle, "first": 5, "search": "商品 3"})
    found = body["data"]["shop"]["products"]
    assert [node["title"] for node in found["nodes"]] == ["Product 3"]
    assert found["totalCount"] == 1
    other = await make.shop(keys=0)
    faulty: list[dict[str, Any]] = [
        {"handle": other.handle, "first": 2, "after": after},
        {"handle": shop.handle, "first": 2, "after": "forged"},
        {"handle": shop.handle, "first": 0},
        {"handle": shop.handle, "first": 101},
        {"handle": shop.handle},
    ]
    for wrong in faulty:
        body = await ask(door, SHELF, wrong)
        assert body["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT", wrong


async def test_a_shop_that_is_not_there_is_null(db: None, door: Door) -> None:
    for handle in ("nowhere", "", "a\0b", "x" * 1_000, "ключ", "' OR 1=1"):
        body = await ask(door, SHELF, {"handle": handle, "first": 1})
        assert body == {**body, "data": {"shop": None}}


async def test_node_finds_shops_products_and_variants(db: None, door: Door) -> None:
    shop = await stocked()

    async def node(prefix: str, of: UUID) -> dict[str, Any]:
        return await ask(door, NODE, {"id": ids.encode(prefix, of)})

    assert (await node("shp", shop.shop_id))["data"]["node"]["handle"] == shop.handle
    assert (await node("prd", shop.product_id))["data"]["node"]["variants"] == [{"title": "One"}]
    assert (await node("var", shop.variant_id))["data"]["node"]["price"] == {
        "amount": "100.00",
        "currency": "USD",
    }
    await core.execute("UPDATE product SET state = 'hidden' WHERE id = $1", shop.product_id)
    gone = await node("prd", shop.product_id)
    assert gone["data"] == {"node": None}
    assert gone["errors"][0]["extensions"]["code"] == "NOT_FOUND"


def given(shop: make.Shop, text: str | None = None, **more: Any) -> dict[str, Any]:
    return {"variantId": ids.encode("var", shop.variant_id), "text": text, **more}


async def bring(
    door: Door, token: str | None, input: dict[str, Any], key: str = "key-1"
) -> dict[str, Any]:
    body = await ask(door, IMPORT, {"input": input, "key": key}, token=token)
    assert "errors" not in body, body
    result: dict[str, Any] = body["data"]["importCards"]
    return result


async def test_keys_come_in_and_can_be_watched(db: None, door: Door) -> None:
    shop = await make.shop(keys=0)
    token = await signed_in(shop)
    lot = {
        "cost": {"amount": "2.50", "currency": "USD"},
        "expiresAt": "2030-01-01T00:00:00Z",
        "note": "first",
    }

    before = await ask(door, WATCH, {"key": "key-1"}, token=token)
    result = await bring(door, token, given(shop, "A-1\r\nB-2\n\n", lot=lot))
    after = await ask(door, WATCH, {"key": "key-1"}, token=token)

    assert before["data"] == {"cardImport": None}
    assert result == {
        "__typename": "CardImport",
        "id": result["id"],
        "state": "DONE",
        "added": 2,
        "totalLines": 4,
        "problemCount": 0,
        "problems": [],
    }
    assert after["data"]["cardImport"] == {
        "id": result["id"],
        "state": "DONE",
        "doneLines": 4,
        "totalLines": 4,
        "added": 2,
    }
    found = await ask(door, NODE, {"id": result["id"]}, token=token)
    assert found["data"]["node"]["added"] == 2
    row = await core.row("SELECT cost_minor, note FROM stock_lot")
    assert row is not None
    assert tuple(row) == (250, "first")


async def test_c10_the_same_key_again_brings_nothing_in(db: None, door: Door) -> None:
    shop = await make.shop(keys=0)
    token = await signed_in(shop)
    first = await bring(door, token, given(shop, "A-1\nB-2"))

    body = await ask(door, IMPORT, {"input": given(shop, "A-1\nB-2"), "key": "key-1"}, token=token)
    other = await ask(door, IMPORT, {"input": given(shop, "C-3"), "key": "key-1"}, token=token)

    assert body["data"]["importCards"] == first
    assert body["extensions"]["idempotency"] == {"replayed": True}
    assert other["errors"][0]["extensions"]["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert await core.value("SELECT count(*) FROM card_key") == 2


async def test_d07_a_bad_line_refuses_all_and_the_key_stays_free(db: None, door: Door) -> None:
    shop = await make.shop(keys=0)
    token = await signed_in(shop)

    refused = await bring(door, token, given(shop, "A-1\nA-1\nB\u202e"))
    watched = await ask(door, WATCH, {"key": "key-1"}, token=token)
    taken = await bring(door, token, given(shop, "A-1\nA-1\nB\u202e", skipBadLines=True))

    assert refused["__typename"] == "ImportRefused"
    assert (refused["code"], refused["lines"], refused["problemCount"]) == ("IMPORT_REFUSED", 3, 2)
    assert refused["problems"] == [
        {"line": 2, "fault": "DUPLICATE_IN_FILE", "firstLine": 1},
        {"line": 3, "fault": "INVISIBLE_CHARACTER", "firstLine": None},
    ]
    assert watched["data"]["cardImport"]["state"] == "REFUSED"
    assert (taken["added"], taken["problemCount"]) == (1, 2)


async def test_j13_what_cannot_be_read_is_said(db: None, door: Door) -> None:
    shop = await make.shop(keys=0)
    token = await signed_in(shop)

    empty = await bring(door, token, given(shop, " \n "))
    both = await bring(door, token, given(shop, None), key="key-2")
    gone = await bring(door, token, given(shop, upload=ids.encode("upl", ids.uuid7())), key="key-3")
    past = (clock.now() - timedelta(days=1)).isoformat(timespec="seconds").replace("+00:00", "Z")
    late = await bring(door, token, given(shop, "A", lot={"expiresAt": past}), key="key-4")

    assert (empty["__typename"], empty["reason"]) == ("FileUnreadable", "empty")
    assert (both["__typename"], both["path"]) == ("InvalidInput", ["input", "text"])
    assert (gone["__typename"], gone["path"]) == ("NotFound", ["input", "upload"])
    assert late["problems"] == [{"path": ["input", "lot", "expiresAt"], "code": "FIELD_INVALID"}]


async def test_h01_h03_only_who_stocks_the_shop_may(db: None, door: Door) -> None:
    shop, other = await make.shop(keys=0), await make.shop(keys=0)
    mine, theirs = await signed_in(shop), await signed_in(other)
    reader = await signed_in(shop, Role.READ_ONLY)
    done = await bring(door, mine, given(shop, "A-1"))

    strange = await bring(door, theirs, given(shop, "X"))
    missing = await bring(door, theirs, {"variantId": ids.encode("var", ids.uuid7()), "text": "X"})
    guest = await ask(door, IMPORT, {"input": given(shop, "X"), "key": "k"})
    only_reads = await ask(door, IMPORT, {"input": given(shop, "X"), "key": "k"}, token=reader)
    not_theirs = await ask(door, NODE, {"id": done["id"]}, token=theirs)
    not_a_guests = await ask(door, NODE, {"id": done["id"]})

    assert strange == missing
    assert strange["code"] == "NOT_FOUND"
    assert guest["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert only_reads["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    assert not_theirs["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    assert not_a_guests["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    assert (await ask(door, NODE, {"id": done["id"]}, token=reader))["data"]["node"]["added"] == 1
    assert await core.value("SELECT count(*) FROM card_key") == 1
