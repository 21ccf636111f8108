"""Merchants run their shelf by the API: products, variants and shops, by version, under audit, in their own house."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from domain.core import db as core
from domain.core import ids
from domain.identity import Role
from tests import make
from tests.api.desk import Desk, audited, code, member, refused, usd

ENGLISH = {"language": "en", "title": "Star Coins", "description": "Two\nlines"}
CHINESE = {"language": "zh-cn", "title": "星币"}


def product(shop: make.Shop) -> str:
    return ids.encode("prd", shop.product_id)


def variant(shop: make.Shop) -> str:
    return ids.encode("var", shop.variant_id)


async def test_a_product_is_created_with_its_words_and_shown_at_once(db: None) -> None:
    shop = await make.shop(keys=0)
    desk = await member(shop)
    handle = ids.encode("shp", shop.shop_id)

    made = await desk.do("createProduct", {"shopId": handle, "texts": [ENGLISH, CHINESE]})
    sold = await desk.do(
        "createVariant",
        {
            "productId": made["id"],
            "titles": [{"language": "en", "text": " 500 coins "}],
            "delivery": "MANUAL",
            "prices": [usd("4.90"), {"amount": "750", "currency": "JPY"}],
            "tiers": [{"fromQuantity": 10, "price": usd("4.50")}],
            "maxQuantity": 20,
        },
    )

    assert made == {
        "__typename": "MerchantProduct",
        "id": made["id"],
        "version": 1,
        "state": "ACTIVE",
        "position": 0,
        "texts": [
            {"language": "en", "title": "Star Coins", "description": "Two\nlines"},
            {"language": "zh-CN", "title": "星币", "description": ""},
        ],
        "shop": {"handle": shop.handle},
    }
    assert sold == {
        "__typename": "MerchantVariant",
        "id": sold["id"],
        "version": 1,
        "state": "ACTIVE",
        "delivery": "MANUAL",
        "supplier": None,
        "supplierSku": None,
        "minQuantity": 1,
        "maxQuantity": 20,
        "lowStockAt": None,
        "titles": [{"language": "en", "text": "500 coins"}],
        "prices": [
            {"price": usd("4.90"), "isBase": True},
            {"price": {"amount": "750", "currency": "JPY"}, "isBase": False},
        ],
        "tiers": [{"fromQuantity": 10, "price": usd("4.50")}],
        "reusable": None,
    }
    public = await Desk(None).data(
        "query ($id: ID!) { node(id: $id) { ... on Product { title variants { price { amount } } } } }",
        {"id": made["id"]},
    )
    assert public["node"] == {"title": "Star Coins", "variants": [{"price": {"amount": "4.90"}}]}


async def test_the_same_key_again_makes_nothing_and_answers_the_same(db: None) -> None:
    shop = await make.shop(keys=0)
    desk = await member(shop)
    input = {"shopId": ids.encode("shp", shop.shop_id), "texts": [ENGLISH]}

    first = await desk.do("createProduct", input, key="once")
    again = await desk.post("createProduct", input, key="once")
    other = await desk.post("createProduct", {**input, "position": 3}, key="once")

    assert again["data"]["createProduct"] == first
    assert again["extensions"]["idempotency"] == {"replayed": True}
    assert code(other) == "IDEMPOTENCY_KEY_REUSED"
    assert await core.value("SELECT count(*) FROM product") == 2
    body = await desk.ask(
        "mutation ($input: CreateProductInput!) { createProduct(input: $input) { __typename } }",
        {"input": input},
    )
    assert code(body) == "IDEMPOTENCY_KEY_REQUIRED"


async def test_a_change_keeps_what_it_does_not_name_and_is_audited(db: None) -> None:
    shop = await make.shop(keys=1)
    desk = await member(shop)

    changed = await desk.do(
        "updateProduct",
        {
            "productId": product(shop),
            "expectedVersion": 1,
            "texts": [{"language": "zh", "title": "点卡"}],
            "state": "HIDDEN",
        },
    )
    dropped = await desk.do(
        "updateProduct",
        {
            "productId": product(shop),
            "expectedVersion": 2,
            "removeLanguages": ["en"],
            "position": 7,
        },
    )
    bare = await desk.do(
        "updateProduct",
        {"productId": product(shop), "expectedVersion": 3, "removeLanguages": ["ZH"]},
    )

    assert (changed["version"], changed["state"]) == (2, "HIDDEN")
    assert [one["title"] for one in changed["texts"]] == ["Game card", "点卡"]
    assert (dropped["version"], dropped["position"], dropped["state"]) == (3, 7, "HIDDEN")
    assert [one["language"] for one in dropped["texts"]] == ["zh"]
    assert refused(bare) == {("removeLanguages",): "FIELD_INVALID"}
    english = {"title": "Game card", "description": ""}
    chinese = {"title": "点卡", "description": ""}
    assert await audited() == [
        (
            "product.change",
            {
                "before": {"state": "active", "texts": {"en": english}},
                "after": {"state": "hidden", "texts": {"en": english, "zh": chinese}},
            },
        ),
        (
            "product.change",
            {
                "before": {"position": 0, "texts": {"en": english, "zh": chinese}},
                "after": {"position": 7, "texts": {"zh": chinese}},
            },
        ),
    ]
    row = await core.row("SELECT actor_kind, actor_id, subject_id, request_id FROM audit_log")
    assert row is not None
    assert (row["actor_kind"], row["subject_id"], row["request_id"]) == (
        "merchant",
        shop.product_id,
        "req-1",
    )
    assert row["actor_id"].startswith("acc_")


async def test_a_variants_limits_state_and_alarm_change_together_or_not_at_all(db: None) -> None:
    shop = await make.shop(keys=1)
    desk = await member(shop)
    base = {"variantId": variant(shop)}

    changed = await desk.do(
        "updateVariant",
        {**base, "expectedVersion": 1, "minQuantity": 2, "maxQuantity": 9, "lowStockAt": 5},
    )
    kept = await desk.do("updateVariant", {**base, "expectedVersion": 2, "maxQuantity": 8})
    silent = await desk.do("updateVariant", {**base, "expectedVersion": 3, "lowStockAt": None})
    wrong = await desk.do(
        "updateVariant",
        {**base, "expectedVersion": 4, "minQuantity": 9, "lowStockAt": -1, "supplier": "nobody"},
    )
    archived = await desk.do("updateVariant", {**base, "expectedVersion": 4, "state": "ARCHIVED"})

    assert (changed["minQuantity"], changed["maxQuantity"], changed["lowStockAt"]) == (2, 9, 5)
    assert (kept["minQuantity"], kept["maxQuantity"], kept["lowStockAt"]) == (2, 8, 5)
    assert silent["lowStockAt"] is None
    assert refused(wrong) == {("supplier",): "FIELD_INVALID"}
    assert (archived["version"], archived["state"], archived["minQuantity"]) == (5, "ARCHIVED", 2)


async def test_j12_a_stale_version_changes_nothing_and_shows_what_is_stored(db: None) -> None:
    shop = await make.shop(keys=1)
    desk = await member(shop)
    await desk.do(
        "updateProduct", {"productId": product(shop), "expectedVersion": 1, "position": 2}
    )
    before = len(await audited())

    stale = await desk.do(
        "updateProduct",
        {"productId": product(shop), "expectedVersion": 1, "position": 9, "texts": [ENGLISH]},
        key="stale",
    )
    prices = await desk.do(
        "setPrices", {"variantId": variant(shop), "expectedVersion": 7, "prices": [usd("1.00")]}
    )
    names = await desk.do(
        "updateShop",
        {
            "shopId": ids.encode("shp", shop.shop_id),
            "expectedVersion": 9,
            "names": [{"language": "en", "text": "Other"}],
        },
    )
    again = await desk.do(
        "updateProduct",
        {"productId": product(shop), "expectedVersion": 2, "position": 9},
        key="stale",
    )

    assert stale == {
        "__typename": "Conflict",
        "code": "CONFLICT",
        "path": ["input", "expectedVersion"],
        "retryable": False,
        "current": {
            "__typename": "MerchantProduct",
            "id": product(shop),
            "version": 2,
            "texts": [{"language": "en", "title": "Game card"}],
        },
    }
    assert prices["current"] == {
        "__typename": "MerchantVariant",
        "id": variant(shop),
        "version": 1,
        "prices": [{"price": usd("100.00")}],
    }
    assert (names["__typename"], names["current"]["version"]) == ("Conflict", 1)
    assert (again["version"], again["position"]) == (3, 9)
    assert len(await audited()) == before + 1
    assert await core.value("SELECT minor FROM price") == 10_000


@pytest.mark.parametrize("name", ["updateProduct", "updateVariant", "setPrices", "updateShop"])
async def test_c23_of_two_changes_of_one_version_one_wins(db: None, name: str) -> None:
    shop = await make.shop(keys=1)
    desks = [await member(shop), await member(shop, Role.OWNER)]
    inputs: dict[str, dict[str, Any]] = {
        "updateProduct": {"productId": product(shop), "position": 5},
        "updateVariant": {"variantId": variant(shop), "maxQuantity": 5},
        "setPrices": {"variantId": variant(shop), "prices": [usd("5.00")]},
        "updateShop": {
            "shopId": ids.encode("shp", shop.shop_id),
            "names": [{"language": "en", "text": "New"}],
        },
    }

    answers = await asyncio.gather(
        *(desk.do(name, {**inputs[name], "expectedVersion": 1}) for desk in desks)
    )

    lost = [one for one in answers if one["__typename"] == "Conflict"]
    won = [one for one in answers if one["__typename"] != "Conflict"]
    assert (len(lost), len(won)) == (1, 1)
    assert won[0]["version"] == 2
    assert lost[0]["current"]["version"] == 2
    assert len(await audited()) == 1


async def test_a_reusable_variant_gets_its_content_and_never_shows_it(db: None) -> None:
    shop = await make.shop(keys=0)
    desk = await member(shop)
    made = await desk.do(
        "createVariant",
        {
            "productId": product(shop),
            "titles": [{"language": "en", "text": "Handbook"}],
            "delivery": "REUSABLE",
            "prices": [usd("3.00")],
        },
    )
    content = {"variantId": made["id"], "expectedVersion": 1, "content": "https://x.test/secret"}

    filled = await desk.do("setReusableContent", {**content, "useLimit": 5})
    empty = await desk.do("setReusableContent", {**content, "expectedVersion": 2, "content": " "})
    stale = await desk.do("setReusableContent", content)
    wrong = await desk.do("setReusableContent", {**content, "variantId": variant(shop)})

    assert (filled["version"], filled["reusable"]) == (2, {"useLimit": 5, "used": 0})
    assert refused(empty) == {("content",): "FIELD_INVALID"}
    assert stale["__typename"] == "Conflict"
    assert refused(wrong) == {("variantId",): "FIELD_INVALID"}
    assert "secret" not in str(await audited())
    assert await core.value("SELECT count(*) FROM reusable_key WHERE state = 'active'") == 1


async def test_shops_are_opened_by_owners_and_renamed_everywhere_at_once(db: None) -> None:
    shop = await make.shop(keys=0)
    owner, stocker = await member(shop, Role.OWNER), await member(shop)
    merchant = ids.encode("mer", shop.merchant_id)
    names = [{"language": "en", "text": "Second"}]
    wanted = {"merchantId": merchant, "handle": "second-shop", "names": names}

    made = await owner.do("createShop", wanted)
    taken = await owner.do("createShop", wanted)
    faulty = await owner.do(
        "createShop",
        {"merchantId": merchant, "handle": "A!", "names": [{"language": "en", "text": ""}]},
    )
    not_theirs = await stocker.post("createShop", {**wanted, "handle": "third-shop"})
    query = "query ($h: String!) { shop(handle: $h) { name version } }"
    before = await Desk(None).data(query, {"h": "second-shop"})
    renamed = await stocker.do(
        "updateShop",
        {
            "shopId": made["id"],
            "expectedVersion": 1,
            "names": [{"language": "zh", "text": "二店"}, {"language": "en", "text": "Two"}],
        },
    )
    after = await Desk(None, "zh").data(query, {"h": "second-shop"})

    assert (made["version"], made["handle"]) == (1, "second-shop")
    assert (taken["__typename"], taken["code"]) == ("HandleTaken", "HANDLE_TAKEN")
    assert refused(faulty) == {
        ("handle",): "FIELD_INVALID",
        ("names", "0", "text"): "FIELD_INVALID",
    }
    assert code(not_theirs) == "FORBIDDEN"
    assert before["shop"] == {"name": "Second", "version": 1}
    assert renamed["names"] == [
        {"language": "en", "text": "Two"},
        {"language": "zh", "text": "二店"},
    ]
    assert after["shop"] == {"name": "二店", "version": 2}
    assert [action for action, _ in await audited()] == ["shop.create", "shop.change"]
