"""What merchants may write: every faulty field named at once, nothing hidden in words, no amount misread."""

from __future__ import annotations

from typing import Any

import pytest

from domain.core import db as core
from domain.core import ids
from tests import make
from tests.api.desk import code, member, refused, usd

INVALID = "FIELD_INVALID"


async def test_j14_every_text_that_hides_something_is_named(db: None) -> None:
    shop = await make.shop(keys=0)
    desk = await member(shop)

    words = await desk.do(
        "createProduct",
        {
            "shopId": ids.encode("shp", shop.shop_id),
            "texts": [
                {"language": "en", "title": "abc\u202egpj.exe"},
                {"language": "EN", "title": "twice"},
                {"language": "zh", "title": "零\u200b宽", "description": "x" * 20_001},
                {"language": "ja", "title": "x" * 201, "description": "bell\u0007"},
                {"language": "es", "title": " "},
            ],
        },
    )
    none = await desk.do("createProduct", {"shopId": ids.encode("shp", shop.shop_id), "texts": []})

    assert refused(words) == {
        ("texts", "0", "title"): INVALID,
        ("texts", "1", "language"): INVALID,
        ("texts", "2", "title"): INVALID,
        ("texts", "2", "description"): INVALID,
        ("texts", "3", "title"): INVALID,
        ("texts", "3", "description"): INVALID,
        ("texts", "4", "title"): INVALID,
    }
    assert refused(none) == {("texts",): INVALID}
    assert await core.value("SELECT count(*) FROM product") == 1
    assert await core.value("SELECT count(*) FROM idempotency") == 0


async def test_j01_j02_j03_every_faulty_number_is_named(db: None) -> None:
    shop = await make.shop(keys=0)
    desk = await member(shop)

    numbers = await desk.do(
        "createVariant",
        {
            "productId": ids.encode("prd", shop.product_id),
            "titles": [{"language": "en", "text": "line\nbreak"}],
            "delivery": "SUPPLIER",
            "supplier": "nobody",
            "prices": [
                usd("0.00"),
                {"amount": "10.50", "currency": "JPY"},
                {"amount": "1.00", "currency": "USDT"},
                usd("1.00"),
            ],
            "tiers": [
                {"fromQuantity": 1, "price": usd("0.50")},
                {"fromQuantity": 5, "price": {"amount": "1.00", "currency": "EUR"}},
                {"fromQuantity": 5, "price": usd("0.001")},
            ],
            "minQuantity": 0,
            "maxQuantity": 10_001,
            "lowStockAt": -1,
        },
    )

    assert refused(numbers) == {
        ("titles", "0", "text"): INVALID,
        ("supplier",): INVALID,
        ("supplierSku",): INVALID,
        ("prices", "0", "amount"): INVALID,
        ("prices", "1", "amount"): "AMOUNT_INVALID",
        ("prices", "2", "currency"): "UNSUPPORTED_CURRENCY",
        ("prices", "3", "currency"): INVALID,
        ("tiers", "0", "fromQuantity"): INVALID,
        ("tiers", "1", "price", "currency"): INVALID,
        ("tiers", "2", "price", "amount"): "AMOUNT_INVALID",
        ("minQuantity",): INVALID,
        ("maxQuantity",): INVALID,
        ("lowStockAt",): INVALID,
    }
    assert await core.value("SELECT count(*) FROM variant") == 1


@pytest.mark.parametrize(
    ("amount", "refusal"),
    [
        ("-1", "AMOUNT_INVALID"),
        ("99999999999999999999", "AMOUNT_INVALID"),
        ("1e309", "BAD_USER_INPUT"),
        ("NaN", "BAD_USER_INPUT"),
        ("1,00", "BAD_USER_INPUT"),
        ("١", "BAD_USER_INPUT"),
        ("+1", "BAD_USER_INPUT"),
    ],
)
async def test_j01_an_amount_is_a_plain_decimal(db: None, amount: str, refusal: str) -> None:
    shop = await make.shop(keys=0)
    desk = await member(shop)
    variant = ids.encode("var", shop.variant_id)
    input: dict[str, Any] = {"variantId": variant, "expectedVersion": 1, "prices": [usd(amount)]}

    answer = await desk.post("setPrices", input)

    if refusal == "BAD_USER_INPUT":
        assert code(answer) == refusal
    else:
        assert refused(answer["data"]["setPrices"]) == {("prices", "0", "amount"): refusal}
    assert await core.value("SELECT version FROM variant") == 1
    assert await core.value("SELECT minor FROM price") == 10_000


async def test_j14_a_family_and_other_scripts_are_no_tricks(db: None) -> None:
    shop = await make.shop(keys=0)
    desk = await member(shop)

    for title in ("Plan 👨‍👩‍👧 ❤️", "全角　空白", "Ключ № 1", "café – 50 %"):
        made = await desk.do(
            "createProduct",
            {
                "shopId": ids.encode("shp", shop.shop_id),
                "texts": [{"language": "en", "title": title}],
            },
        )
        assert made["texts"][0]["title"] == title
