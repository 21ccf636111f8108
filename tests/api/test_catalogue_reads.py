"""A merchant's own view of the shelf: everything there is, by page, in a bounded number of statements."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from domain import catalogue, merchants
from domain.catalogue import Actor, Delivery, PriceList, ProductChange, ShelfState, Source, Text
from domain.core import clock, ids
from domain.core import db as core
from domain.core.money import Money
from domain.identity import Role
from tests import make
from tests.api.desk import code, member

PRODUCTS = """
query ($id: ID!, $first: Int, $after: String, $state: ShelfState, $shop: ID) {
  merchantProducts(merchantId: $id, first: $first, after: $after, state: $state, shopId: $shop) {
    totalCount pageInfo { hasNextPage endCursor }
    nodes {
      id version state shop { handle } texts { language title }
      variants {
        id version state titles { text } prices { price { amount currency } isBase }
        stock { available reserved sold locked expired revoked }
        lots { id note cost { amount } counts { available } }
      }
    }
  }
}"""
LOTS = """
query ($id: ID!, $first: Int, $after: String) { stockLots(variantId: $id, first: $first, after: $after) {
  nodes { id note counts { available expired } } pageInfo { hasNextPage endCursor } } }"""
ACTOR = Actor("merchant", "acc_test")


async def shelf(products: int) -> make.Shop:
    """A shop with its first product and more of two variants each, every other one hidden."""
    shop = await make.shop(keys=3)
    for place in range(1, products):
        texts = {"en": Text(f"Product {place}"), "zh": Text(f"商品 {place}")}
        product = await catalogue.add_product(shop.merchant_id, shop.shop_id, texts)
        for name in ("Small", "Large"):
            prices = PriceList([Money(500, "USD"), Money(700, "JPY")], "USD")
            made = await catalogue.add_variant(
                shop.merchant_id, product, {"en": name}, Source(Delivery.STOCK), prices
            )
            await make.stock(shop.merchant_id, made, 2)
        if place % 2:
            change = ProductChange(state=ShelfState.HIDDEN)
            await catalogue.change_product(shop.merchant_id, product, change, expected_version=1)
    return shop


async def test_hidden_products_all_currencies_and_stock_are_on_the_page(db: None) -> None:
    shop = await shelf(2)
    desk = await member(shop, Role.READ_ONLY)
    variables: dict[str, Any] = {"id": ids.encode("mer", shop.merchant_id), "first": 10}

    page = (await desk.data(PRODUCTS, variables))["merchantProducts"]

    assert page["totalCount"] == 2
    newest, oldest = page["nodes"]
    assert (newest["state"], newest["version"]) == ("HIDDEN", 2)
    assert newest["shop"] == {"handle": shop.handle}
    assert newest["texts"] == [
        {"language": "en", "title": "Product 1"},
        {"language": "zh", "title": "商品 1"},
    ]
    assert [one["titles"][0]["text"] for one in newest["variants"]] == ["Small", "Large"]
    assert newest["variants"][0]["prices"] == [
        {"price": {"amount": "5.00", "currency": "USD"}, "isBase": True},
        {"price": {"amount": "700", "currency": "JPY"}, "isBase": False},
    ]
    assert [one["stock"]["available"] for one in newest["variants"]] == [2, 2]
    assert [one["available"] for one in [v["stock"] for v in oldest["variants"]]] == [3]


async def test_a_page_costs_the_same_few_statements_whatever_is_on_it(db: None) -> None:
    shop = await shelf(12)
    desk = await member(shop)
    merchant = ids.encode("mer", shop.merchant_id)

    async def statements(first: int) -> int:
        merchants.forget()
        async with core.statements() as seen:
            query = PRODUCTS.replace("totalCount ", "")
            page = (await desk.data(query, {"id": merchant, "first": first}))["merchantProducts"]
        assert len(page["nodes"]) == first
        return len(seen)

    await desk.data("{ viewer { email } }")
    one, many = await statements(1), await statements(12)

    assert one == many == 5


async def test_j19_pages_are_walked_by_cursor_and_filtered(db: None) -> None:
    shop = await shelf(5)
    other = await merchants.open_shop(shop.merchant_id, "other-shop", {"en": "Other"})
    desk = await member(shop)
    base: dict[str, Any] = {"id": ids.encode("mer", shop.merchant_id)}
    titles: list[str] = []
    after = None
    for _ in range(3):
        page = (await desk.data(PRODUCTS, {**base, "first": 2, "after": after}))["merchantProducts"]
        titles += [one["texts"][0]["title"] for one in page["nodes"]]
        after = page["pageInfo"]["endCursor"]

    hidden = await desk.data(PRODUCTS, {**base, "first": 9, "state": "HIDDEN"})
    elsewhere = await desk.data(PRODUCTS, {**base, "first": 9, "shop": ids.encode("shp", other)})
    foreign = await desk.ask(PRODUCTS, {**base, "first": 2, "after": after, "state": "ACTIVE"})

    assert titles == ["Product 4", "Product 3", "Product 2", "Product 1", "Game card"]
    assert page["pageInfo"]["hasNextPage"] is False
    assert hidden["merchantProducts"]["totalCount"] == 2
    assert elsewhere["merchantProducts"]["nodes"] == []
    assert code(foreign) == "BAD_USER_INPUT"
    for first in (None, 0, 101):
        assert code(await desk.ask(PRODUCTS, {**base, "first": first})) == "BAD_USER_INPUT"


async def test_lots_are_counted_and_their_expiry_is_told_apart(db: None) -> None:
    shop = await make.shop(keys=2)
    desk = await member(shop)
    soon = clock.now() + timedelta(days=1)
    for place in range(3):
        terms = catalogue.LotTerms(expires_at=soon if place == 2 else None, note=f"lot {place}")
        await catalogue.import_cards(
            shop.merchant_id, shop.variant_id, f"L{place}-A\nL{place}-B", actor=ACTOR, lot=terms
        )
    variables: dict[str, Any] = {"id": ids.encode("var", shop.variant_id), "first": 3}

    clock.shift(timedelta(days=2))
    try:
        page = (await desk.data(LOTS, variables))["stockLots"]
        rest = (await desk.data(LOTS, {**variables, "after": page["pageInfo"]["endCursor"]}))[
            "stockLots"
        ]
        total = (await catalogue.stock_counts([(shop.merchant_id, shop.variant_id)]))[
            shop.variant_id
        ]
    finally:
        clock.shift(timedelta())

    assert [one["note"] for one in page["nodes"]] == ["lot 2", "lot 1", "lot 0"]
    assert [one["counts"] for one in page["nodes"]] == [
        {"available": 0, "expired": 2},
        {"available": 2, "expired": 0},
        {"available": 2, "expired": 0},
    ]
    assert [one["note"] for one in rest["nodes"]] == [""]
    assert (page["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
    assert (total.available, total.expired, total.sold) == (6, 2, 0)
