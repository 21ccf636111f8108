"""Carts and coupons on a real database: one statement, right prices, limits that hold for everyone."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from domain import catalogue, merchants
from domain.catalogue import (
    Delivery,
    Limits,
    OutOfStock,
    PriceList,
    ProductChange,
    ShelfState,
    Source,
    Text,
    Tier,
    VariantChange,
)
from domain.core import db as core
from domain.core import ids
from domain.core.errors import Conflict, InputInvalid, NotFound
from domain.core.money import Money
from domain.merchants import ShopClosed
from tests import make
from tests.domain.shelves import USD, cart, usd


async def variant(
    shop: make.Shop, prices: PriceList, *, limits: Limits | None = None, keys: int = 5
) -> UUID:
    made = await catalogue.add_variant(
        shop.merchant_id,
        shop.product_id,
        {"en": "Ten", "zh": "十元"},
        Source(Delivery.STOCK),
        prices,
        limits=limits or Limits(),
    )
    await make.stock(shop.merchant_id, made, keys)
    return made


async def test_a_cart_is_one_statement_with_everything_a_price_needs(db: None) -> None:
    shop = await make.shop(keys=3)
    tiers = [Tier(5, usd(900)), Tier(10, usd(800)), Tier(5, Money(60, "JPY"))]
    ten = await variant(shop, PriceList([usd(1_000), Money(70, "JPY")], USD, tiers), keys=20)
    await cart(shop)
    await asyncio.sleep(0)  # that set is over: the next one runs under the counter of who asks

    async with core.statements() as seen:
        found = await cart(shop, [(ten, 10), (shop.variant_id, 2)], language="zh-CN")

    assert len(seen) == 1
    assert (found.shop_id, found.merchant_id) == (shop.shop_id, shop.merchant_id)
    first, second = found.lines
    assert (first.variant_id, first.quantity, first.available) == (ten, 10, 20)
    assert (first.title, first.unit, first.delivery) == (
        "Game card · 十元",
        usd(1_000),
        Delivery.STOCK,
    )
    assert first.tiers == (Tier(5, usd(900)), Tier(10, usd(800)))
    assert (second.title, second.available) == ("Game card · One", 3)
    assert found.foreign == frozenset()
    in_yen = await cart(shop, [(ten, 5)], currency="JPY")
    assert in_yen.lines[0].unit == Money(70, "JPY")
    assert in_yen.lines[0].tiers == (Tier(5, Money(60, "JPY")),)


async def test_a_currency_without_an_entry_gives_the_base_price_to_convert(db: None) -> None:
    shop = await make.shop(keys=1)

    found = await cart(shop, currency="EUR")

    assert found.foreign == {USD}
    assert found.lines[0].unit == shop.price
    priced = catalogue.price(found, lambda amount: Money(amount.minor * 9 // 10, "EUR"))
    assert priced.total == Money(9_000, "EUR")


async def test_j28_unknown_hidden_and_foreign_variants_are_named(db: None) -> None:
    shop, other = await make.shop(keys=1), await make.shop(keys=1)
    hidden = await variant(shop, PriceList([usd(1)], USD))
    change = VariantChange(state=ShelfState.HIDDEN)
    await catalogue.change_variant(shop.merchant_id, hidden, change, expected_version=1)

    with pytest.raises(InputInvalid) as caught:
        await cart(
            shop, [(shop.variant_id, 1), (other.variant_id, 1), (ids.uuid7(), 1), (hidden, 1)]
        )

    assert [problem.path for problem in caught.value.problems] == [
        ("input", "lines", place, "variantId") for place in ("1", "2", "3")
    ]


async def test_j03_limits_and_stock_are_checked_with_paths(db: None) -> None:
    shop = await make.shop(keys=1)
    few = await variant(
        shop, PriceList([usd(1)], USD), limits=Limits(min_quantity=2, max_quantity=4), keys=3
    )

    for quantity in (1, 5):
        with pytest.raises(InputInvalid) as caught:
            await cart(shop, [(shop.variant_id, 1), (few, quantity)])
        assert caught.value.problems[0].path == ("input", "lines", "1", "quantity")
    with pytest.raises(OutOfStock) as short:
        await cart(shop, [(shop.variant_id, 1), (few, 4)])

    assert short.value.path == ("input", "lines", "1", "quantity")
    assert short.value.facts["available"] == 3
    assert (await cart(shop, [(few, 3)])).lines[0].available == 3


async def test_a_shop_that_is_unknown_or_closed_sells_nothing(db: None) -> None:
    shop = await make.shop(keys=1)

    with pytest.raises(NotFound) as caught:
        await catalogue.cart("nowhere", [(shop.variant_id, 1)], currency=USD, language="en")
    assert caught.value.path == ("input", "shop")
    await merchants.close_merchant(shop.merchant_id)
    with pytest.raises(ShopClosed):
        await cart(shop)


async def test_made_by_hand_never_runs_out(db: None) -> None:
    shop = await make.shop(keys=0, delivery=Delivery.MANUAL)

    found = await cart(shop, [(shop.variant_id, 100)])

    assert found.lines[0].available is None
    shown = await catalogue.variants_by_id([shop.variant_id], currency=USD, language="en")
    assert shown[shop.variant_id].available == 1_000_000


async def test_c23_prices_change_by_version_and_orders_see_the_whole_list(db: None) -> None:
    shop = await make.shop(keys=1)
    new = PriceList([usd(500), Money(3_000, "CNY")], "CNY", [Tier(2, usd(400))])

    async def change() -> int:
        return await catalogue.set_prices(
            shop.merchant_id, shop.variant_id, new, expected_version=1
        )

    results = await asyncio.gather(change(), change(), return_exceptions=True)

    assert sorted(type(one).__name__ for one in results) == ["Conflict", "int"]
    conflict = next(one for one in results if isinstance(one, Conflict))
    assert conflict.facts["current"] == 2
    found = await cart(shop, currency="JPY")
    assert found.lines[0].unit == Money(3_000, "CNY")
    assert found.lines[0].tiers == ()


async def test_price_lists_are_checked(db: None) -> None:
    shop = await make.shop(keys=1)
    faulty = [
        PriceList([], USD),
        PriceList([usd(1), usd(2)], USD),
        PriceList([usd(1)], "EUR"),
        PriceList([usd(-1)], USD),
        PriceList([usd(1)], USD, [Tier(1, usd(1))]),
        PriceList([usd(1)], USD, [Tier(2, Money(1, "EUR"))]),
        PriceList([usd(1)], USD, [Tier(2, usd(1)), Tier(2, usd(2))]),
    ]

    for prices in faulty:
        with pytest.raises(InputInvalid):
            await variant(shop, prices)

    assert await core.value("SELECT count(*) FROM variant") == 1


async def test_h01_another_merchants_product_is_not_there(db: None) -> None:
    shop, other = await make.shop(keys=1), await make.shop(keys=1)
    text = {"en": Text("Mine now")}

    with pytest.raises(NotFound):
        await catalogue.add_product(other.merchant_id, shop.shop_id, text)
    for change in (ProductChange(texts=text), ProductChange(state=ShelfState.ARCHIVED)):
        with pytest.raises(NotFound):
            await catalogue.change_product(
                other.merchant_id, shop.product_id, change, expected_version=1
            )

    assert (await cart(shop)).lines[0].title == "Game card · One"


async def shelf(shop: make.Shop, **asked: object) -> list[str]:
    rows = await catalogue.products(
        shop.merchant_id,
        shop.shop_id,
        **{"language": "en", "limit": 10, **asked},  # type: ignore[arg-type]
    )
    return [row.title for row in rows]


async def test_a_shelf_is_paged_by_position_and_searched_in_every_language(db: None) -> None:
    shop = await make.shop(keys=1)
    for position, (english, chinese) in enumerate(
        [("Steam card 50%", "蒸汽卡"), ("Game Pass", "游戏通行证"), ("ＶＰＮ year_plan", "一年")], 1
    ):
        await catalogue.add_product(
            shop.merchant_id,
            shop.shop_id,
            {"en": Text(english, "for everyone"), "zh": Text(chinese)},
            position=position,
        )

    assert await shelf(shop) == ["Game card", "Steam card 50%", "Game Pass", "ＶＰＮ year_plan"]
    assert await shelf(shop, language="zh-TW") == ["Game card", "蒸汽卡", "游戏通行证", "一年"]
    assert await shelf(shop, search="CARD") == ["Game card", "Steam card 50%"]
    assert await shelf(shop, search="card everyone") == ["Steam card 50%"]
    assert await shelf(shop, search="通行") == ["Game Pass"]
    assert await shelf(shop, search="vpn") == ["ＶＰＮ year_plan"]
    assert await shelf(shop, search="%") == ["Steam card 50%"]
    assert await shelf(shop, search="_") == ["ＶＰＮ year_plan"]
    assert await shelf(shop, search="a' OR 1=1 --\0") == []
    assert await catalogue.count_products(shop.merchant_id, shop.shop_id, "card") == 2
    rows = await catalogue.products(shop.merchant_id, shop.shop_id, language="en", limit=2)
    after = (rows[-1].position, rows[-1].id)
    assert await shelf(shop, beyond=after, limit=2) == ["Game Pass", "ＶＰＮ year_plan"]
    assert await shelf(shop, beyond=after, backward=True) == ["Game card"]


async def test_words_are_checked(db: None) -> None:
    shop = await make.shop(keys=1)

    for title in ("", " ", "x" * 201, "a\0b"):
        with pytest.raises(InputInvalid):
            await catalogue.add_product(shop.merchant_id, shop.shop_id, {"en": Text(title)})
    with pytest.raises(InputInvalid):
        await catalogue.add_product(shop.merchant_id, shop.shop_id, {"en\n": Text("x")})
    with pytest.raises(InputInvalid):
        await catalogue.add_product(shop.merchant_id, shop.shop_id, {})

    assert await core.value("SELECT count(*) FROM product") == 1
