"""Coupons on a real database: found however written, used as often as allowed, given back when unpaid."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from domain import catalogue, merchants
from domain.catalogue import (
    CouponInvalid,
    CouponKind,
    CouponTerms,
)
from domain.core import clock, ids
from domain.core import db as core
from domain.core.errors import InputInvalid
from domain.core.money import Money
from tests import make
from tests.domain.shelves import USD, cart, usd


async def coupon(shop: make.Shop, code: str = "TEN", **terms: object) -> UUID:
    given: dict[str, object] = {"kind": CouponKind.PERCENT, "percent_bps": 1_000, **terms}
    return await catalogue.add_coupon(shop.merchant_id, CouponTerms(code, **given))  # type: ignore[arg-type]


async def test_b10_a_coupon_is_found_by_its_code_however_written(db: None) -> None:
    shop = await make.shop(keys=1)
    made = await coupon(shop, "Summer-24")

    for written in ("summer-24", " SUMMER-24 ", "ＳＵＭＭＥＲ-24"):
        found = await cart(shop, coupon=written)
        assert found.coupon is not None
        assert found.coupon.id == made
        assert catalogue.price(found, lambda _: usd(0)).total == usd(9_000)
    assert (await cart(shop, coupon="  ")).coupon is None


async def test_j05_expired_early_foreign_used_up_and_made_up_coupons(db: None) -> None:
    shop, other = await make.shop(keys=1), await make.shop(keys=1)
    now = clock.now()
    await coupon(shop, "OVER", expires_at=now - timedelta(seconds=1))
    await coupon(shop, "EARLY", starts_at=now + timedelta(hours=1))
    elsewhere = await merchants.open_shop(shop.merchant_id, "elsewhere", {"en": "Elsewhere"})
    await coupon(shop, "ELSEWHERE", shop_id=elsewhere)
    await coupon(shop, "NONE", use_limit=0)
    await coupon(other, "THEIRS")

    for code in ("OVER", "EARLY", "ELSEWHERE", "NONE", "THEIRS", "MADEUP"):
        with pytest.raises(CouponInvalid) as caught:
            await cart(shop, coupon=code)
        assert caught.value.path == ("input", "coupon")
        assert caught.value.facts["reason"] == "unknown"


async def test_a_fixed_coupon_has_an_amount_per_currency_and_a_base(db: None) -> None:
    shop = await make.shop(keys=1)
    await coupon(
        shop,
        "OFF",
        kind=CouponKind.FIXED,
        percent_bps=None,
        amounts=[usd(500), Money(450, "EUR")],
        min_totals=[usd(1_000)],
    )

    in_usd, in_eur, in_cny = [
        (await cart(shop, currency=one, coupon="OFF")).coupon for one in (USD, "EUR", "CNY")
    ]

    assert in_usd is not None
    assert (in_usd.amount, in_usd.min_total) == (usd(500), usd(1_000))
    assert in_eur is not None
    assert (in_eur.amount, in_eur.min_total) == (Money(450, "EUR"), None)
    assert in_cny is not None
    assert in_cny.amount == usd(500)


async def redeem(shop: make.Shop, coupon_id: UUID, buyer: bytes | None = None) -> UUID:
    order = ids.uuid7()
    async with core.transaction():
        await catalogue.redeem(shop.merchant_id, coupon_id, order, buyer_hash=buyer)
    return order


async def used(coupon_id: UUID) -> int:
    return int(await core.value("SELECT used FROM coupon WHERE id = $1", coupon_id))


async def test_b11_the_last_use_goes_to_one_buyer(db: None) -> None:
    shop = await make.shop(keys=1)
    made = await coupon(shop, use_limit=3)

    results = await asyncio.gather(*(redeem(shop, made) for _ in range(20)), return_exceptions=True)

    assert len([one for one in results if isinstance(one, UUID)]) == 3
    assert all(isinstance(one, UUID | CouponInvalid) for one in results)
    assert await used(made) == 3
    assert await core.value("SELECT count(*) FROM coupon_use") == 3


async def test_b11_a_use_given_back_is_free_again_and_late_money_counts_extra(db: None) -> None:
    shop = await make.shop(keys=1)
    made = await coupon(shop, use_limit=1)
    late = await redeem(shop, made)
    async with core.transaction():
        await catalogue.give_back_coupons([late])
        await catalogue.give_back_coupons([late])
    assert await used(made) == 0
    other = await redeem(shop, made)

    async with core.transaction():
        await catalogue.keep_coupons([late, other])
        await catalogue.keep_coupons([late, other])

    assert await used(made) == 2
    rows = await core.fetch("SELECT order_id, state FROM coupon_use")
    assert {row["order_id"]: row["state"] for row in rows} == {late: "extra", other: "used"}
    async with core.transaction():
        await catalogue.give_back_coupons([late, other])
    assert await used(made) == 2
    with pytest.raises(CouponInvalid):
        await redeem(shop, made)


async def test_b10_one_buyer_uses_a_coupon_as_often_as_allowed(db: None) -> None:
    shop = await make.shop(keys=1)
    made = await coupon(shop, buyer_limit=1)

    results = await asyncio.gather(
        *(redeem(shop, made, b"b" * 16) for _ in range(8)), return_exceptions=True
    )

    assert len([one for one in results if isinstance(one, UUID)]) == 1
    await redeem(shop, made, b"c" * 16)
    assert await used(made) == 2


async def test_coupons_are_checked_when_they_are_issued(db: None) -> None:
    shop = await make.shop(keys=1)
    await coupon(shop, "TAKEN")
    faulty: list[dict[str, object]] = [
        {"percent_bps": 10_001},
        {"percent_bps": None},
        {"kind": CouponKind.FIXED, "percent_bps": None},
        {"kind": CouponKind.FIXED, "percent_bps": None, "amounts": [usd(0)]},
        {"use_limit": -1},
        {"buyer_limit": 0},
        {"starts_at": clock.now(), "expires_at": clock.now() - timedelta(days=1)},
    ]

    for terms in faulty:
        with pytest.raises(InputInvalid):
            await coupon(shop, "NEW", **terms)
    with pytest.raises(InputInvalid):
        await coupon(shop, "taken")

    assert await core.value("SELECT count(*) FROM coupon") == 1
