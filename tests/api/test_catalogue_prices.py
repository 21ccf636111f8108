"""Price lists through the API: whole lists, hundreds of rows, and a checkout that always asks the database."""

from __future__ import annotations

from typing import Any

import pytest

from domain.core import db as core
from domain.core import ids
from tests import make
from tests.api.desk import Desk, audited, code, member, refused, usd


def merchant(shop: make.Shop) -> str:
    return ids.encode("mer", shop.merchant_id)


def row(shop: make.Shop, amount: str = "5.00", version: int = 1, **more: Any) -> dict[str, Any]:
    variant = ids.encode("var", shop.variant_id)
    return {"variantId": variant, "expectedVersion": version, "prices": [usd(amount)], **more}


async def more_variants(desk: Desk, shop: make.Shop, count: int) -> list[str]:
    """Ids of fresh variants at 1.00 USD."""
    made = []
    for place in range(count):
        answer = await desk.do(
            "createVariant",
            {
                "productId": ids.encode("prd", shop.product_id),
                "titles": [{"language": "en", "text": f"V{place}"}],
                "delivery": "MANUAL",
                "prices": [usd("1.00")],
            },
        )
        made.append(answer["id"])
    return made


async def listed() -> dict[str, int]:
    """The USD price of every variant, in cents."""
    rows = await core.fetch("SELECT variant_id, minor FROM price WHERE currency = 'USD'")
    return {ids.encode("var", one["variant_id"]): one["minor"] for one in rows}


async def test_a_list_is_replaced_whole_with_all_currencies_and_tiers(db: None) -> None:
    shop = await make.shop(keys=1)
    desk = await member(shop)

    changed = await desk.do(
        "setPrices",
        row(
            shop,
            "4.90",
            prices=[{"amount": "35.00", "currency": "CNY"}, usd("4.90")],
            baseCurrency="USD",
            tiers=[
                {"fromQuantity": 50, "price": usd("4.10")},
                {"fromQuantity": 10, "price": usd("4.50")},
                {"fromQuantity": 10, "price": {"amount": "32.00", "currency": "CNY"}},
            ],
        ),
    )
    shorter = await desk.do("setPrices", row(shop, "6.00", 2))

    assert changed["prices"] == [
        {"price": usd("4.90"), "isBase": True},
        {"price": {"amount": "35.00", "currency": "CNY"}, "isBase": False},
    ]
    assert [(one["fromQuantity"], one["price"]["currency"]) for one in changed["tiers"]] == [
        (10, "CNY"),
        (10, "USD"),
        (50, "USD"),
    ]
    assert shorter["prices"] == [{"price": usd("6.00"), "isBase": True}]
    assert shorter["tiers"] == []
    assert await audited() == [
        (
            "variant.prices",
            {
                "before": {"prices": [["USD", 10_000, True]], "tiers": []},
                "after": {
                    "prices": [["CNY", 3_500, False], ["USD", 490, True]],
                    "tiers": [["CNY", 10, 3_200], ["USD", 10, 450], ["USD", 50, 410]],
                },
            },
        ),
        (
            "variant.prices",
            {
                "before": {
                    "prices": [["CNY", 3_500, False], ["USD", 490, True]],
                    "tiers": [["CNY", 10, 3_200], ["USD", 10, 450], ["USD", 50, 410]],
                },
                "after": {"prices": [["USD", 600, True]], "tiers": []},
            },
        ),
    ]


async def test_e22_one_bad_row_refuses_all_and_every_row_is_judged(db: None) -> None:
    shop, other = await make.shop(keys=1), await make.shop(keys=1)
    desk = await member(shop)
    first, second = await more_variants(desk, shop, 2)
    rows = [
        row(shop),
        row(shop, variantId=first, version=9),
        row(shop, "0.001", variantId=second),
        row(other),
        row(shop, variantId="var_nonsense"),
        row(shop, variantId=second),
    ]
    input = {"merchantId": merchant(shop), "errorPolicy": "ALL_OR_NOTHING", "rows": rows}
    before = len(await audited())

    refusal = await desk.do("updatePrices", input, key="bulk")
    mended = await desk.do("updatePrices", {**input, "rows": rows[:1]}, key="bulk")

    assert (refusal["__typename"], refusal["code"]) == ("PricesRefused", "PRICES_REFUSED")
    assert [one["status"] for one in refusal["rows"]] == ["UNTOUCHED", *["REFUSED"] * 5]
    assert [[(p["code"], p["path"]) for p in one["problems"]] for one in refusal["rows"]] == [
        [],
        [("CONFLICT", ["input", "rows", "1", "expectedVersion"])],
        [("AMOUNT_INVALID", ["input", "rows", "2", "prices", "0", "amount"])],
        [("NOT_FOUND", ["input", "rows", "3", "variantId"])],
        [("NOT_FOUND", ["input", "rows", "4", "variantId"])],
        [("FIELD_INVALID", ["input", "rows", "5", "variantId"])],
    ]
    assert refusal["rows"][1]["variant"]["version"] == 1
    assert refusal["rows"][3]["variant"] is None
    assert (mended["changed"], mended["rows"][0]["variant"]["version"]) == (1, 2)
    assert len(await audited()) == before + 1
    assert await listed() == {
        ids.encode("var", shop.variant_id): 500,
        ids.encode("var", other.variant_id): 10_000,
        first: 100,
        second: 100,
    }


async def test_e22_good_rows_alone_are_changed_and_the_answer_is_kept(db: None) -> None:
    shop = await make.shop(keys=1)
    desk = await member(shop)
    (first,) = await more_variants(desk, shop, 1)
    rows = [row(shop), row(shop, "7.00", 3, variantId=first)]
    input = {"merchantId": merchant(shop), "errorPolicy": "SKIP_BAD", "rows": rows}

    done = await desk.do("updatePrices", input, key="bulk")
    again = await desk.post("updatePrices", input, key="bulk")
    built = await desk.data(
        "mutation ($input: UpdatePricesInput!) { updatePrices(input: $input)"
        ' @idempotent(key: "bulk") { ... on PricesUpdated { rows { status problems { message } } } } }',
        {"input": input},
    )

    assert (done["__typename"], done["changed"]) == ("PricesUpdated", 1)
    assert [one["status"] for one in done["rows"]] == ["CHANGED", "REFUSED"]
    assert done["rows"][1]["problems"][0]["code"] == "CONFLICT"
    assert again["data"]["updatePrices"] == done
    assert again["extensions"]["idempotency"] == {"replayed": True}
    assert [one["status"] for one in built["updatePrices"]["rows"]] == ["CHANGED", "REFUSED"]
    assert built["updatePrices"]["rows"][1]["problems"][0]["message"].startswith("Somebody")
    assert await listed() == {ids.encode("var", shop.variant_id): 500, first: 100}


async def test_e22_the_statements_do_not_grow_with_the_rows_and_501_are_too_many(db: None) -> None:
    shop = await make.shop(keys=1)
    desk = await member(shop)
    made = await more_variants(desk, shop, 30)

    async def statements(variants: list[str]) -> int:
        rows = [row(shop, "2.00", 1, variantId=one) for one in variants]
        input = {"merchantId": merchant(shop), "errorPolicy": "SKIP_BAD", "rows": rows}
        async with core.statements() as seen:
            assert (await desk.do("updatePrices", input))["changed"] == len(variants)
        return len(seen)

    few, many = await statements(made[:1]), await statements(made[1:])
    rows = [row(shop)] * 501
    none = await desk.do(
        "updatePrices", {"merchantId": merchant(shop), "errorPolicy": "SKIP_BAD", "rows": []}
    )
    much = await desk.do(
        "updatePrices", {"merchantId": merchant(shop), "errorPolicy": "SKIP_BAD", "rows": rows}
    )

    assert few == many <= 14
    assert refused(none) == refused(much) == {("rows",): "FIELD_INVALID"}
    assert await core.value("SELECT count(*) FROM price WHERE minor = 200") == 30


CART = """
mutation ($input: StartCheckoutInput!, $key: String!) {
  startCheckout(input: $input) @idempotent(key: $key) {
    __typename ... on Checkout { order { total { amount } } }
    ... on PriceChanged { unitPrice { amount } } ... on Problem { code path }
  }
}"""
PAGE = """
query ($handle: String!) { shop(handle: $handle) {
  products(first: 5) { nodes { title variants { price { amount } } } } } }"""


async def test_j04_a_change_is_shown_at_once_and_the_database_decides_what_is_paid(
    db: None,
) -> None:
    shop = await make.shop(keys=5)
    desk, buyer = await member(shop), Desk(None)

    async def shown() -> list[str]:
        page = await buyer.data(PAGE, {"handle": shop.handle})
        nodes = page["shop"]["products"]["nodes"]
        return [one["price"]["amount"] for node in nodes for one in node["variants"]]

    async def start(price: str | None, key: str) -> dict[str, Any]:
        line: dict[str, Any] = {"variantId": ids.encode("var", shop.variant_id), "quantity": 2}
        if price is not None:
            line["unitPrice"] = usd(price)
        cart = {
            "shop": shop.handle,
            "lines": [line],
            "contact": {"email": "a@example.com"},
            "currency": "USD",
        }
        found: dict[str, Any] = (await buyer.data(CART, {"input": cart, "key": key}))[
            "startCheckout"
        ]
        return found

    assert await shown() == ["100.00"]
    await desk.do("setPrices", row(shop, "7.00"))

    assert await shown() == ["7.00"]
    assert (await start("100.00", "old"))["unitPrice"] == {"amount": "7.00"}
    assert (await start("7.00", "new"))["order"]["total"] == {"amount": "14.00"}
    assert (await start(None, "unsaid"))["order"]["total"] == {"amount": "14.00"}
    hidden = {"variantId": ids.encode("var", shop.variant_id), "expectedVersion": 2}
    await desk.do("updateVariant", {**hidden, "state": "HIDDEN"})
    assert await shown() == []
    assert (await start("7.00", "gone"))["path"] == ["input", "lines", "0", "variantId"]
    assert await core.value("SELECT count(*) FROM orders") == 2


@pytest.mark.parametrize("policy", ["ALL_OR_NOTHING", "SKIP_BAD"])
async def test_h01_another_merchants_prices_cannot_be_changed(db: None, policy: str) -> None:
    shop, other = await make.shop(keys=1), await make.shop(keys=1)
    desk = await member(shop)
    theirs = {"errorPolicy": policy, "rows": [row(other)]}

    foreign = await desk.do("updatePrices", {"merchantId": merchant(other), **theirs})
    nobody = await desk.do("updatePrices", {"merchantId": ids.encode("mer", ids.uuid7()), **theirs})
    mine = await desk.do("updatePrices", {"merchantId": merchant(shop), **theirs})
    guest = await Desk(None).post("updatePrices", {"merchantId": merchant(other), **theirs})

    assert foreign == nobody
    assert foreign["code"] == "NOT_FOUND"
    assert mine["rows"][0]["problems"][0]["code"] == "NOT_FOUND"
    assert code(guest) == "UNAUTHENTICATED"
    assert set((await listed()).values()) == {10_000}
