"""Coupons through the API: issued, changed and ended under people's hands, their limits holding for everyone."""

from __future__ import annotations

import asyncio
from typing import Any

from domain import catalogue
from domain.catalogue import CouponChange, CouponInvalid
from domain.core import db as core
from domain.core import ids
from tests import make
from tests.api.desk import Desk, audited, member, refused, usd

LIST = """
query ($id: ID!) { merchantCoupons(merchantId: $id, first: 10) {
  totalCount nodes { code used useLimit state } } }"""
CART = """
mutation ($input: StartCheckoutInput!, $key: String!) {
  startCheckout(input: $input) @idempotent(key: $key) {
    __typename ... on Checkout { order { total { amount } } } ... on Problem { code }
  }
}"""


def ten(shop: make.Shop, **more: Any) -> dict[str, Any]:
    """10 % off."""
    merchant = ids.encode("mer", shop.merchant_id)
    return {"merchantId": merchant, "code": "ten", "kind": "PERCENT", "percentBps": 1_000, **more}


async def buy(shop: make.Shop, code: str, key: str) -> Any:
    line = {"variantId": ids.encode("var", shop.variant_id), "quantity": 1}
    cart = {
        "shop": shop.handle,
        "lines": [line],
        "contact": {"email": f"{key}@example.com"},
        "currency": "USD",
        "coupon": code,
    }
    return (await Desk(None).data(CART, {"input": cart, "key": key}))["startCheckout"]


async def test_a_coupon_is_issued_used_changed_and_ended(db: None) -> None:
    shop = await make.shop(keys=5)
    desk = await member(shop)
    product = ids.encode("prd", shop.product_id)

    made = await desk.do("createCoupon", ten(shop, useLimit=2, productIds=[product]))
    bought = await buy(shop, "TEN", "one")
    limited = await desk.do(
        "updateCoupon", {"couponId": made["id"], "expectedVersion": 1, "useLimit": 1}
    )
    used_up = await buy(shop, "TEN", "two")
    freed = await desk.do(
        "updateCoupon", {"couponId": made["id"], "expectedVersion": 2, "useLimit": None}
    )
    ended = await desk.do("endCoupon", {"couponId": made["id"], "expectedVersion": 3})
    over = await buy(shop, "TEN", "three")
    too_late = await desk.do(
        "updateCoupon", {"couponId": made["id"], "expectedVersion": 4, "useLimit": 9}
    )
    listed = (await desk.data(LIST, {"id": ten(shop)["merchantId"]}))["merchantCoupons"]

    assert made == {
        "__typename": "Coupon",
        "id": made["id"],
        "version": 1,
        "code": "TEN",
        "kind": "PERCENT",
        "percentBps": 1_000,
        "useLimit": 2,
        "buyerLimit": None,
        "used": 0,
        "state": "ACTIVE",
        "expiresAt": None,
        "productIds": [product],
        "shopId": None,
        "amounts": [],
        "minTotals": [],
    }
    assert bought["order"]["total"] == {"amount": "90.00"}
    assert (limited["version"], limited["useLimit"], limited["used"]) == (2, 1, 1)
    assert used_up["code"] == "COUPON_INVALID"
    assert freed["useLimit"] is None
    assert (ended["version"], ended["state"]) == (4, "ENDED")
    assert over["code"] == "COUPON_INVALID"
    assert refused(too_late) == {("couponId",): "FIELD_INVALID"}
    assert listed == {
        "totalCount": 1,
        "nodes": [{"code": "TEN", "used": 1, "useLimit": None, "state": "ENDED"}],
    }
    assert [action for action, _ in await audited()] == [
        "coupon.create",
        "coupon.change",
        "coupon.change",
        "coupon.end",
    ]
    assert (await audited())[1][1] == {"before": {"use_limit": 2}, "after": {"use_limit": 1}}


async def test_a_fixed_coupon_lists_its_amounts_base_first(db: None) -> None:
    shop = await make.shop(keys=1)
    desk = await member(shop)
    euro = {"amount": "4.50", "currency": "EUR"}

    made = await desk.do(
        "createCoupon",
        {
            **ten(shop, code="５-off"),
            "kind": "FIXED",
            "percentBps": None,
            "amounts": [usd("5.00"), euro],
            "minTotals": [{"amount": "27.00", "currency": "EUR"}],
            "expiresAt": "2030-01-01T00:00:00Z",
        },
    )

    assert made["code"] == "5-OFF"
    assert made["amounts"] == [usd("5.00"), euro]
    assert made["minTotals"] == [{"amount": "27.00", "currency": "EUR"}]
    assert made["expiresAt"] == "2030-01-01T00:00:00.000Z"


async def test_every_faulty_field_of_a_coupon_is_named(db: None) -> None:
    shop = await make.shop(keys=1)
    desk = await member(shop)
    await desk.do("createCoupon", ten(shop))

    taken = await desk.do("createCoupon", ten(shop, code="ＴＥＮ"))
    wrong = await desk.do(
        "createCoupon",
        {
            **ten(shop, code="a\u200bb", percentBps=10_001),
            "amounts": [usd("0"), usd("1.001")],
            "minTotals": [usd("1"), usd("2"), {"amount": "5", "currency": "CNY"}],
            "useLimit": -1,
            "buyerLimit": 0,
            "startsAt": "2030-01-01T00:00:00Z",
            "expiresAt": "2029-01-01T00:00:00Z",
        },
    )

    assert refused(taken) == {("code",): "FIELD_INVALID"}
    assert refused(wrong) == {
        ("code",): "FIELD_INVALID",
        ("percentBps",): "FIELD_INVALID",
        ("amounts",): "FIELD_INVALID",
        ("amounts", "0", "amount"): "FIELD_INVALID",
        ("amounts", "1", "amount"): "AMOUNT_INVALID",
        ("amounts", "1", "currency"): "FIELD_INVALID",
        ("minTotals", "1", "currency"): "FIELD_INVALID",
        ("minTotals", "2", "currency"): "FIELD_INVALID",
        ("useLimit",): "FIELD_INVALID",
        ("buyerLimit",): "FIELD_INVALID",
        ("expiresAt",): "FIELD_INVALID",
    }
    assert await core.value("SELECT count(*) FROM coupon") == 1


async def test_j12_c23_coupons_change_by_version_and_orders_do_not_move_it(db: None) -> None:
    shop = await make.shop(keys=5)
    desks = [await member(shop), await member(shop)]
    made = await desks[0].do("createCoupon", ten(shop))
    await buy(shop, "TEN", "one")

    answers = await asyncio.gather(
        *(
            desk.do("updateCoupon", {"couponId": made["id"], "expectedVersion": 1, "useLimit": 3})
            for desk in desks
        )
    )

    lost = [one for one in answers if one["__typename"] == "Conflict"]
    assert len(lost) == 1
    assert lost[0]["current"] == {
        "__typename": "Coupon",
        "id": made["id"],
        "version": 2,
        "useLimit": 3,
    }
    assert await core.value("SELECT used FROM coupon") == 1


async def test_b11_of_many_checkouts_at_once_as_many_get_the_coupon_as_its_limit_says(
    db: None,
) -> None:
    shop = await make.shop(keys=50)
    await (await member(shop)).do("createCoupon", ten(shop, useLimit=3))

    answers = await asyncio.gather(*(buy(shop, "TEN", f"b{place}") for place in range(12)))

    kinds = sorted(one["__typename"] for one in answers)
    assert kinds == ["Checkout"] * 3 + ["CouponInvalid"] * 9
    assert await core.value("SELECT used FROM coupon") == 3
    assert await core.value("SELECT count(*) FROM orders") == 3


async def test_b11_a_limit_that_is_lowered_meanwhile_holds_for_everyone(db: None) -> None:
    shop = await make.shop(keys=1)
    made = await (await member(shop)).do("createCoupon", ten(shop, useLimit=20))
    coupon_id = ids.decode(made["id"], "cpn")

    async def redeem() -> bool:
        async with core.transaction():
            await catalogue.redeem(shop.merchant_id, coupon_id, ids.uuid7())
        return True

    async def lower() -> int:
        change = CouponChange(use_limit=3)
        return await catalogue.change_coupon(
            shop.merchant_id, coupon_id, change, expected_version=1
        )

    results = await asyncio.gather(
        *(redeem() for _ in range(2)),
        lower(),
        *(redeem() for _ in range(15)),
        return_exceptions=True,
    )

    won = [one for one in results if one is True]
    assert all(isinstance(one, bool | int | CouponInvalid) for one in results), results
    used, version = await core.value("SELECT used FROM coupon"), made["version"] + 1
    assert used == len(won)
    assert await core.value("SELECT version FROM coupon") == version
    # Whoever came before the change had the old limit; nobody after it passes the new one.
    before = used
    for _ in range(3):
        try:
            await redeem()
        except CouponInvalid:
            continue
    assert await core.value("SELECT used FROM coupon") == max(before, 3)
