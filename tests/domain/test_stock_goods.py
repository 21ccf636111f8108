"""What a buyer gets to see: revealed once under audit, reusable contents, goods put in by hand."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag

from domain import catalogue
from domain.catalogue import Actor, Ask, CodeKnown, Delivery, Good, OutOfStock, Reveal
from domain.core import clock, ids, vault
from domain.core import db as core
from domain.core.errors import InputInvalid, NotFound
from tests import make

BUYER = Actor("buyer", "K1", session="page", request_id="req-1")


async def bought(shop: make.Shop, quantity: int = 1) -> UUID:
    """A paid order of `quantity` units."""
    order, line = ids.uuid7(), (ids.uuid7(), shop.variant_id, quantity)
    async with core.transaction():
        assert await catalogue.claim_sold(order, shop.merchant_id, [line])
    return order


async def audits() -> list[tuple[str, str, dict[str, object]]]:
    rows = await core.fetch("SELECT action, actor_id, facts_json FROM audit_log ORDER BY no")
    return [(row["action"], row["actor_id"], row["facts_json"]) for row in rows]


async def test_d12_two_workers_deliver_one_order_one_reveal_one_audit_row(db: None) -> None:
    shop = await make.shop(keys=3)
    order = await bought(shop, 2)

    seen = await asyncio.gather(
        *(catalogue.goods(order, shop.merchant_id, BUYER) for _ in range(8))
    )

    assert all(one == seen[0] for one in seen)
    assert len(seen[0]) == 2
    assert all(good.content.startswith("KEY-") and not good.revoked for good in seen[0])
    assert await audits() == [("goods.reveal", "K1", {"goods": 2, "first": 2})]
    assert await core.value("SELECT request_id FROM audit_log") == "req-1"
    assert await core.value("SELECT count(*) FROM reveal") == 1


async def test_d12_another_session_is_another_audit_row(db: None) -> None:
    shop = await make.shop(keys=1)
    order = await bought(shop)
    first = await catalogue.goods(order, shop.merchant_id, BUYER)

    support = Actor("operator", "acc_9", session="sess_9")
    again = await catalogue.goods(order, shop.merchant_id, support)

    assert again == first
    assert [row[1:] for row in await audits()] == [
        ("K1", {"goods": 1, "first": 1}),
        ("acc_9", {"goods": 1, "first": 0}),
    ]


async def test_d12_many_orders_are_one_statement_and_one_audit_row_each(db: None) -> None:
    shop, other = await make.shop(keys=4), await make.shop(keys=4)
    mine, more, theirs = await bought(shop, 2), await bought(shop), await bought(other)
    nothing = ids.uuid7()
    support = Actor("operator", "acc_9", session="sess_9", request_id="req-9")
    asked = [
        Reveal(more, shop.merchant_id, Actor("buyer", "K2", session="page", request_id="req-2")),
        Reveal(mine, shop.merchant_id, BUYER),
        Reveal(nothing, shop.merchant_id, BUYER),
        Reveal(theirs, other.merchant_id, support),
        Reveal(theirs, shop.merchant_id, support),  # another merchant's: not there
        Reveal(mine, shop.merchant_id, BUYER),
    ]

    async with core.statements() as sent:
        found = await catalogue.reveal(asked)

    reveals = [sql for sql in sent if "INSERT INTO audit_log" in sql]
    assert len(reveals) == 2  # an order twice in one call is looked at once per statement
    assert [len(one) for one in found if isinstance(one, list)] == [1, 2, 0, 1, 0, 2]
    assert found[1] == found[5]
    contents = {good.content for one in found if isinstance(one, list) for good in one}
    assert len(contents) == 4
    rows = await core.fetch("SELECT subject_id, actor_id, request_id, facts_json FROM audit_log")
    assert sorted(tuple(row) for row in rows) == sorted(
        [
            (mine, "K1", "req-1", {"goods": 2, "first": 2}),
            (more, "K2", "req-2", {"goods": 1, "first": 1}),
            (theirs, "acc_9", "req-9", {"goods": 1, "first": 1}),
        ]
    )
    assert await core.value("SELECT count(*) FROM reveal") == 3


async def test_d12_two_sessions_of_one_order_in_one_call_are_two_audit_rows(db: None) -> None:
    shop = await make.shop(keys=1)
    order = await bought(shop)
    support = Actor("operator", "acc_9", session="sess_9")

    first, second = await catalogue.reveal(
        [Reveal(order, shop.merchant_id, BUYER), Reveal(order, shop.merchant_id, support)]
    )

    assert first == second
    assert sorted(row[1:] for row in await audits()) == [
        ("K1", {"goods": 1, "first": 1}),
        ("acc_9", {"goods": 1, "first": 0}),
    ]


async def test_d12_sets_that_share_orders_never_lock_each_other_out(db: None) -> None:
    shop = await make.shop(keys=24)
    orders = [await bought(shop, 2) for _ in range(12)]
    asked = [Reveal(order, shop.merchant_id, BUYER) for order in orders]

    found = await asyncio.gather(
        *(catalogue.reveal(asked if place % 2 else asked[::-1]) for place in range(8))
    )

    assert all((one if place % 2 else one[::-1]) == found[1] for place, one in enumerate(found))
    assert await audits() == [("goods.reveal", "K1", {"goods": 2, "first": 2})] * 12


async def test_h26_goods_that_do_not_open_are_an_error_of_their_order_alone(db: None) -> None:
    shop = await make.shop(keys=2)
    broken, whole = await bought(shop), await bought(shop)
    await core.execute(
        "UPDATE card_key SET ciphertext = set_byte(ciphertext, 20, get_byte(ciphertext, 20) # 1)"
        " WHERE order_id = $1",
        broken,
    )

    found = await catalogue.reveal(
        [Reveal(broken, shop.merchant_id, BUYER), Reveal(whole, shop.merchant_id, BUYER)]
    )

    assert isinstance(found[0], InvalidTag)
    assert [good.content[:4] for good in found[1]] == ["KEY-"]  # type: ignore[union-attr]


async def test_d12_nothing_is_decrypted_inside_a_transaction(db: None) -> None:
    shop = await make.shop(keys=1)
    order = await bought(shop)

    with pytest.raises(AssertionError):
        async with core.transaction():
            await catalogue.goods(order, shop.merchant_id, BUYER)

    assert await audits() == []


async def test_nothing_sold_is_nothing_seen_and_nothing_audited(db: None) -> None:
    shop = await make.shop(keys=1)
    order, line = ids.uuid7(), (ids.uuid7(), shop.variant_id, 1)
    async with core.transaction():
        await catalogue.reserve(
            [Ask(order, shop.merchant_id, [line])], clock.now() + timedelta(minutes=5)
        )

    assert await catalogue.goods(order, shop.merchant_id, BUYER) == []
    assert await catalogue.goods(ids.uuid7(), shop.merchant_id, BUYER) == []
    assert await audits() == []
    assert await core.value("SELECT count(*) FROM reveal") == 0


async def test_e10_a_refund_revokes_what_was_seen_and_hides_what_was_not(db: None) -> None:
    shop = await make.shop(keys=2)
    seen, unseen = await bought(shop), await bought(shop)
    [before] = await catalogue.goods(seen, shop.merchant_id, BUYER)

    async with core.transaction():
        assert await catalogue.revoke(seen) == 1
        assert await catalogue.revoke(unseen) == 1
        assert await catalogue.revoke(seen) == 0

    [after] = await catalogue.goods(seen, shop.merchant_id, BUYER)
    assert after == Good(before.line_id, before.content, before.revealed_at, True, before.id)
    assert await catalogue.goods(unseen, shop.merchant_id, BUYER) == []


async def test_h01_goods_of_another_merchant_are_not_there(db: None) -> None:
    shop, other = await make.shop(keys=1), await make.shop(keys=1)
    order = await bought(shop)

    assert await catalogue.goods(order, other.merchant_id, BUYER) == []
    assert await audits() == []


async def test_h26_two_ciphertexts_swapped_in_the_table_do_not_open(db: None) -> None:
    shop = await make.shop(keys=2)
    order = await bought(shop, 2)
    await core.execute(
        "UPDATE card_key c SET ciphertext = (SELECT ciphertext FROM card_key o WHERE o.id <> c.id)"
    )

    with pytest.raises(InvalidTag):
        await catalogue.goods(order, shop.merchant_id, BUYER)


async def test_h27_keys_are_resealed_under_a_new_data_key_and_still_open(db: None) -> None:
    shop = await make.shop(keys=3)
    order = await bought(shop)
    before = await catalogue.goods(order, shop.merchant_id, BUYER)

    assert await vault.new_data_key(shop.merchant_id) == 2
    vault.forget()
    await make.stock(shop.merchant_id, shop.variant_id, 1)

    assert await catalogue.reseal(shop.merchant_id) == 3
    assert await catalogue.reseal(shop.merchant_id) == 0
    assert await core.value("SELECT count(*) FROM card_key WHERE key_version <> 2") == 0
    assert await catalogue.goods(order, shop.merchant_id, BUYER) == before


async def reusable(limit: int | None, content: str = "https://get.example/abc") -> make.Shop:
    shop = await make.shop(keys=0, delivery=Delivery.REUSABLE)
    await catalogue.set_reusable(shop.merchant_id, shop.variant_id, content, use_limit=limit)
    return shop


async def test_d03_sets_that_want_the_same_limited_contents_never_wait_in_a_circle(
    db: None,
) -> None:
    shops = [await reusable(limit=100, content=f"content {number}") for number in range(4)]

    async def reserve_set(order: list[make.Shop]) -> None:
        asks = [
            Ask(ids.uuid7(), shop.merchant_id, [(ids.uuid7(), shop.variant_id, 1)])
            for shop in order
        ]
        async with core.transaction():
            await catalogue.reserve(asks, clock.now() + timedelta(minutes=5))

    await asyncio.gather(*(reserve_set(shops[:: 1 - 2 * (turn % 2)]) for turn in range(8)))

    assert await core.value("SELECT array_agg(used) FROM reusable_key") == [8] * 4


async def hold(shop: make.Shop, quantity: int = 1) -> UUID:
    order, line = ids.uuid7(), (ids.uuid7(), shop.variant_id, quantity)
    async with core.transaction():
        await catalogue.reserve(
            [Ask(order, shop.merchant_id, [line])], clock.now() + timedelta(minutes=5)
        )
    return order


async def on_shelf(shop: make.Shop) -> int:
    found = await catalogue.variants_by_id([shop.variant_id], currency="USD", language="en")
    return found[shop.variant_id].available


async def test_d04_a_reusable_key_with_a_limit_sells_exactly_that_often(db: None) -> None:
    shop = await reusable(limit=10)

    results = await asyncio.gather(*(hold(shop) for _ in range(40)), return_exceptions=True)

    won = [one for one in results if isinstance(one, UUID)]
    assert len(won) == 10
    assert all(isinstance(one, UUID | OutOfStock) for one in results)
    assert await on_shelf(shop) == 0
    async with core.transaction():
        await catalogue.release(won[:4])
    assert await on_shelf(shop) == 4
    assert await core.value("SELECT used FROM reusable_key") == 6


async def test_d04_every_buyer_sees_the_one_content(db: None) -> None:
    shop = await reusable(limit=2)
    first, second = await bought(shop), await bought(shop)

    contents = [await catalogue.goods(one, shop.merchant_id, BUYER) for one in (first, second)]

    assert [[good.content for good in goods] for goods in contents] == [
        ["https://get.example/abc"],
        ["https://get.example/abc"],
    ]
    async with core.transaction():
        late = (ids.uuid7(), shop.variant_id, 1)
        assert await catalogue.claim_sold(ids.uuid7(), shop.merchant_id, [late]) is False
    assert await core.value("SELECT used FROM reusable_key") == 2


async def test_d03_unlimited_never_becomes_finite(db: None) -> None:
    shop = await reusable(limit=None)

    for quantity in (1, 100, 5_000):
        order = await hold(shop, quantity)
        async with core.transaction():
            await catalogue.release([order])
        await bought(shop, quantity)

    assert await on_shelf(shop) == 1_000_000
    row = await core.row("SELECT use_limit, used FROM reusable_key")
    assert row is not None
    assert (row["use_limit"], row["used"]) == (None, 0)


async def test_d02_an_edited_reusable_key_leaves_earlier_buyers_theirs(db: None) -> None:
    shop = await reusable(limit=5, content="old")
    order = await bought(shop)

    await catalogue.set_reusable(shop.merchant_id, shop.variant_id, "new", use_limit=None)

    later = await bought(shop)
    assert [good.content for good in await catalogue.goods(order, shop.merchant_id, BUYER)] == [
        "old"
    ]
    assert [good.content for good in await catalogue.goods(later, shop.merchant_id, BUYER)] == [
        "new"
    ]


async def test_a_mixed_order_is_sold_whole_or_leaves_no_use_behind(db: None) -> None:
    shop = await reusable(limit=1)
    keyed = await catalogue.add_variant(
        shop.merchant_id,
        shop.product_id,
        {"en": "Keys"},
        catalogue.Source(Delivery.STOCK),
        catalogue.PriceList([shop.price], shop.price.currency),
    )
    order, lines = ids.uuid7(), [(ids.uuid7(), shop.variant_id, 1), (ids.uuid7(), keyed, 1)]

    async with core.transaction():
        assert await catalogue.claim_sold(order, shop.merchant_id, lines) is False
    assert await core.value("SELECT used FROM reusable_key") == 0
    assert await core.value("SELECT count(*) FROM reusable_use") == 0

    await make.stock(shop.merchant_id, keyed, 1)
    async with core.transaction():
        assert await catalogue.claim_sold(order, shop.merchant_id, lines) is True
    assert len(await catalogue.goods(order, shop.merchant_id, BUYER)) == 2


async def test_only_reusable_variants_take_a_reusable_content(db: None) -> None:
    shop = await make.shop(keys=0)

    with pytest.raises(NotFound):
        await catalogue.set_reusable(shop.merchant_id, shop.variant_id, "x")
    with pytest.raises(InputInvalid):
        await catalogue.set_reusable(shop.merchant_id, shop.variant_id, " \0 ")

    assert await core.value("SELECT count(*) FROM reusable_key") == 0


async def put(shop: make.Shop, *codes: str, order: tuple[UUID, UUID] | None = None) -> int:
    async with core.transaction():
        lot_no = await core.value(
            "INSERT INTO stock_lot (merchant_id, variant_id) VALUES ($1, $2) RETURNING no",
            shop.merchant_id,
            shop.variant_id,
        )
        return await catalogue.put(shop.merchant_id, shop.variant_id, lot_no, codes, order=order)


async def test_i03_the_same_answer_twice_is_one_delivery(db: None) -> None:
    shop = await make.shop(keys=0)
    order = (ids.uuid7(), ids.uuid7())

    assert await put(shop, "A-1", "A-2", order=order) == 2
    assert await put(shop, "A-1", "A-2", order=order) == 0
    with pytest.raises(CodeKnown):
        await put(shop, "A-1", order=(ids.uuid7(), ids.uuid7()))
    with pytest.raises(CodeKnown):
        await put(shop, "A-3", "A-3")

    goods = await catalogue.goods(order[0], shop.merchant_id, BUYER)
    assert {good.content for good in goods} == {"A-1", "A-2"}
    assert await core.value("SELECT count(*) FROM card_key") == 2


async def test_low_stock_is_told_once_until_it_is_refilled(db: None) -> None:
    shop = await make.shop(keys=5)
    await core.execute("UPDATE variant SET low_stock_at = 3")
    assert await catalogue.low_stock([shop.variant_id]) == []
    await bought(shop, 2)

    told = [await catalogue.low_stock([shop.variant_id]) for _ in range(2)]

    assert [[(one.available, one.low_stock_at) for one in low] for low in told] == [[(3, 3)], []]
    await make.stock(shop.merchant_id, shop.variant_id, 5)
    await catalogue.refilled(shop.merchant_id, shop.variant_id)
    await bought(shop, 5)
    assert len(await catalogue.low_stock([shop.variant_id])) == 1
