"""Whose shelf it is: strangers are told there is nothing, the wrong role in one's own house is told so (H01, H03)."""

from __future__ import annotations

from typing import Any

import pytest

from domain import catalogue, identity
from domain.catalogue import CouponKind, CouponTerms
from domain.core import db as core
from domain.core import ids
from domain.identity import AccountKind, OperatorRole, Role
from tests import make
from tests.api.desk import Desk, code, member, usd

NAME = [{"language": "en", "text": "Mine now"}]
TEXT = [{"language": "en", "title": "Mine now"}]
NOBODY = ids.uuid7()
READS = {
    "merchantProduct": ("prd", "query ($id: ID!) { merchantProduct(id: $id) { id } }"),
    "merchantProducts": (
        "mer",
        "query ($id: ID!) { merchantProducts(merchantId: $id, first: 1) { nodes { id } } }",
    ),
    "merchantCoupons": (
        "mer",
        "query ($id: ID!) { merchantCoupons(merchantId: $id, first: 1) { nodes { id } } }",
    ),
    "stockLots": (
        "var",
        "query ($id: ID!) { stockLots(variantId: $id, first: 1) { nodes { id } } }",
    ),
    "node": ("cpn", "query ($id: ID!) { node(id: $id) { id } }"),
}


async def ids_of(shop: make.Shop) -> dict[str, str]:
    """The public ids of everything a shop has, by prefix."""
    coupon = await catalogue.add_coupon(
        shop.merchant_id, CouponTerms("CODE", CouponKind.PERCENT, percent_bps=100)
    )
    lots = await catalogue.lots_of(shop.merchant_id, shop.variant_id, limit=1)
    found = {
        "mer": shop.merchant_id,
        "shp": shop.shop_id,
        "prd": shop.product_id,
        "var": shop.variant_id,
        "cpn": coupon,
        "lot": lots[0].id,
    }
    return {prefix: ids.encode(prefix, one) for prefix, one in found.items()}


def inputs(of: dict[str, str]) -> dict[str, dict[str, Any]]:
    """A valid input of every mutation of the catalogue."""
    version = {"expectedVersion": 1}
    prices = {"variantId": of["var"], **version, "prices": [usd("1.00")]}
    sold = {"titles": NAME, "delivery": "MANUAL", "prices": [usd("1.00")]}
    bulk = {"errorPolicy": "SKIP_BAD", "rows": [prices]}
    return {
        "createProduct": {"shopId": of["shp"], "texts": TEXT},
        "updateProduct": {"productId": of["prd"], **version, "texts": TEXT},
        "createVariant": {"productId": of["prd"], **sold},
        "updateVariant": {"variantId": of["var"], **version, "titles": NAME},
        "setReusableContent": {"variantId": of["var"], **version, "content": "x"},
        "setPrices": prices,
        "updatePrices": {"merchantId": of["mer"], **bulk},
        "createCoupon": {"merchantId": of["mer"], "code": "X", "kind": "PERCENT", "percentBps": 1},
        "updateCoupon": {"couponId": of["cpn"], **version, "useLimit": 0},
        "endCoupon": {"couponId": of["cpn"], **version},
        "createShop": {"merchantId": of["mer"], "handle": "mine-now", "names": NAME},
        "updateShop": {"shopId": of["shp"], **version, "names": NAME},
        "withdrawCards": {"lotId": of["lot"], "reason": "x"},
        "restoreCards": {"lotId": of["lot"], "reason": "x"},
    }


MUTATIONS = list(inputs(dict.fromkeys(("mer", "shp", "prd", "var", "cpn", "lot"), "")))


@pytest.mark.parametrize("name", MUTATIONS)
async def test_h01_h03_only_who_runs_the_shelf_may_change_it(db: None, name: str) -> None:
    shop, other = await make.shop(keys=1), await make.shop(keys=1)
    of = await ids_of(shop)
    nothing = {prefix: ids.encode(prefix, NOBODY) for prefix in of}
    stranger = await member(other, Role.OWNER)

    foreign = await stranger.do(name, inputs(of)[name])
    missing = await stranger.do(name, inputs(nothing)[name])
    garbage = await stranger.do(name, inputs(dict.fromkeys(of, "x"))[name])
    guest = await Desk(None).post(name, inputs(of)[name])
    roles = {
        role: await (await member(shop, role)).post(name, inputs(of)[name])
        for role in (Role.READ_ONLY, Role.SUPPORT, Role.FINANCE, Role.DEVELOPER)
    }

    assert foreign == missing == garbage
    assert (foreign["__typename"], foreign["code"]) == ("NotFound", "NOT_FOUND")
    assert code(guest) == "UNAUTHENTICATED"
    assert {code(answer) for answer in roles.values()} == {"FORBIDDEN"}
    assert await core.value("SELECT count(*) FROM audit_log") == 0
    assert await core.value("SELECT count(*) FROM idempotency") == 0


@pytest.mark.parametrize("name", READS)
async def test_h01_only_members_and_operators_read_it(db: None, name: str) -> None:
    shop, other = await make.shop(keys=1), await make.shop(keys=1)
    prefix, document = READS[name]
    of = await ids_of(shop)
    stranger = await member(other, Role.OWNER)

    foreign = await stranger.ask(document, {"id": of[prefix]})
    missing = await stranger.ask(document, {"id": ids.encode(prefix, NOBODY)})
    guest = await Desk(None).ask(document, {"id": of[prefix]})
    reader = await (await member(shop, Role.READ_ONLY)).ask(document, {"id": of[prefix]})

    assert foreign["errors"][0]["message"] == missing["errors"][0]["message"]
    assert code(foreign) == code(missing) == "NOT_FOUND"
    assert code(guest) == ("NOT_FOUND" if name == "node" else "UNAUTHENTICATED")
    assert "errors" not in reader, reader


async def test_h03_an_operator_reads_every_shelf_and_changes_none(db: None) -> None:
    shop = await make.shop(keys=1)
    of = await ids_of(shop)
    email, password = "operator@kami.test", "correct horse battery"
    account = await identity.register(email, password, kind=AccountKind.OPERATOR)
    await identity.grant_operator(account, OperatorRole.SUPPORT)
    desk = Desk((await identity.sign_in(email, password, "203.0.113.9")).token)

    for prefix, document in READS.values():
        assert "errors" not in await desk.ask(document, {"id": of[prefix]}), document
    for name, input in inputs(of).items():
        assert code(await desk.post(name, input)) == "FORBIDDEN", name

    assert await core.value("SELECT count(*) FROM audit_log WHERE merchant_id IS NOT NULL") == 0


async def test_h01_things_of_others_cannot_be_named_inside_ones_own(db: None) -> None:
    shop, other = await make.shop(keys=1), await make.shop(keys=1)
    desk = await member(shop)
    coupon = {
        "merchantId": ids.encode("mer", shop.merchant_id),
        "code": "X",
        "kind": "PERCENT",
        "percentBps": 1,
    }
    mine, theirs = ids.encode("prd", shop.product_id), ids.encode("prd", other.product_id)

    by_product = await desk.do("createCoupon", {**coupon, "productIds": [mine, theirs]})
    by_shop = await desk.do("createCoupon", {**coupon, "shopId": ids.encode("shp", other.shop_id)})

    assert (by_product["code"], by_product["path"]) == ("NOT_FOUND", ["input", "productIds", "1"])
    assert (by_shop["code"], by_shop["path"]) == ("NOT_FOUND", ["input", "shopId"])
    assert await core.value("SELECT count(*) FROM coupon") == 0
