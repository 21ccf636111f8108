"""The supplier adapter against a strict simulator: bought once, believed only when proved, never by accident."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from domain import catalogue
from domain.catalogue import Actor, Delivery
from domain.catalogue.ports import SupplyAnswer, SupplyRequest, SupplyState, suppliers
from domain.core import clock, ids
from domain.core import db as core
from domain.core.money import Money
from plugins.supplier import http
from plugins.supplier.http import HttpSupplier
from tests import make
from tests.plugins.supplier import SECRET, Simulator, simulator

BUYER = Actor("buyer", "K1", session="page")


@pytest.fixture
async def world() -> AsyncIterator[Simulator]:
    async with simulator() as made:
        yield made


@pytest.fixture
async def supplier(world: Simulator) -> AsyncIterator[HttpSupplier]:
    made = HttpSupplier("sim", world.url, SECRET, timeout_s=0.5)
    suppliers["sim"] = made
    yield made
    suppliers.pop("sim")
    await made.close()


def request(quantity: int = 2, sku: str = "sku-1") -> SupplyRequest:
    return SupplyRequest(ids.encode("sup", ids.uuid7()), sku, quantity)


async def test_i03_one_reference_is_bought_once_and_says_the_same(
    world: Simulator, supplier: HttpSupplier
) -> None:
    asked = request()

    first = await supplier.order(asked)
    again = await supplier.order(asked)
    queried = await supplier.query(asked.reference, quantity=2)

    assert first == SupplyAnswer(
        SupplyState.DONE, ("SUP-000001", "SUP-000002"), Money(450, "USD"), "", ""
    )
    assert again == first == queried
    assert len(world.orders) == 1


async def test_pending_then_done(world: Simulator, supplier: HttpSupplier) -> None:
    asked, world.mood = request(), "pending"

    assert (await supplier.order(asked)).state is SupplyState.PENDING
    world.finish()

    assert (await supplier.query(asked.reference, quantity=2)).codes == ("SUP-000001", "SUP-000002")


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("html", "answer_signature"),
        ("empty", "not_json"),
        ("unsigned", "answer_signature"),
        ("cut", "answer_signature"),
        ("few", "codes"),
        ("double", "codes"),
        ("number", "codes"),
        ("other", "fields"),
        ("extra", "fields"),
        ("cost", "cost"),
        ("huge", "answer_too_large"),
        ("down", "http_503"),
        ("lost", "timeout"),
    ],
)
async def test_i08_h43_what_is_not_proved_is_unknown_and_delivers_nothing(
    world: Simulator, supplier: HttpSupplier, mood: str, reason: str
) -> None:
    world.mood = mood

    said = await supplier.order(request())

    assert (said.state, said.codes, said.raw_code) == (SupplyState.UNKNOWN, (), reason)


async def test_only_a_proved_word_says_that_it_was_never_there(
    world: Simulator, supplier: HttpSupplier
) -> None:
    assert (await supplier.query("sup_none", quantity=1)).state is SupplyState.NOT_FOUND
    stranger = HttpSupplier("sim", world.url, b"x" * 24)
    try:
        assert (await stranger.query("sup_none", quantity=1)).state is SupplyState.UNKNOWN
        assert (await stranger.order(request())).state is SupplyState.UNKNOWN
    finally:
        await stranger.close()
    assert world.orders == {}


async def test_a_refusal_for_good_is_one(supplier: HttpSupplier) -> None:
    said = await supplier.order(request(sku="unknown"))

    assert (said.state, said.raw_code) == (SupplyState.REFUSED, "sku_unknown")
    assert said.raw_message == "no such sku"


async def test_i01_a_supplier_that_fails_is_left_alone_for_a_while(
    world: Simulator, supplier: HttpSupplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.mood = "down"
    for _ in range(http.FAILURES_MAX):
        assert (await supplier.order(request())).state is SupplyState.UNKNOWN
    world.mood = "ok"

    said = await supplier.order(request())

    assert (said.state, said.raw_code) == (SupplyState.UNAVAILABLE, "breaker_open")
    assert len(world.calls) == http.FAILURES_MAX
    later = clock.monotonic() + http.OPEN_S + 1
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    assert (await supplier.order(request())).state is SupplyState.DONE
    assert (await supplier.order(request())).state is SupplyState.DONE


async def test_nothing_listening_is_unknown() -> None:
    gone = HttpSupplier("sim", "http://127.0.0.1:9", SECRET)
    try:
        assert (await gone.order(request())).raw_code == "unreachable"
    finally:
        await gone.close()


def test_a02_a_missing_secret_refuses_to_start() -> None:
    for secret in (b"", b"short"):
        with pytest.raises(ValueError, match="secret of supplier sim"):
            HttpSupplier("sim", "http://127.0.0.1:9", secret)


async def owed(shop: make.Shop, quantity: int = 2) -> tuple[UUID, UUID]:
    """A paid order of supplied goods: its id and the supply's."""
    order, line = ids.uuid7(), (ids.uuid7(), shop.variant_id, quantity)
    async with core.transaction():
        [taken] = await catalogue.owe_supply(order, shop.merchant_id, [line])
        again = await catalogue.owe_supply(order, shop.merchant_id, [line])
    assert [one.supply.id for one in again] == [taken.supply.id]
    return order, taken.supply.id


async def procure(supply_id: UUID) -> catalogue.Taken | None:
    said = await catalogue.ask_supplier(supply_id)
    if said is None:
        return None
    async with core.transaction():
        return await catalogue.take_supply(supply_id, said)


async def contents(order: UUID, shop: make.Shop) -> list[str]:
    goods = await catalogue.goods(order, shop.merchant_id, BUYER)
    return sorted(good.content for good in goods)


async def test_supplied_goods_become_the_lines_once(
    db: None, world: Simulator, supplier: HttpSupplier
) -> None:
    shop = await make.shop(keys=0, delivery=Delivery.SUPPLIER)
    order, supply_id = await owed(shop)

    taken = await procure(supply_id)

    assert taken is not None
    assert (taken.state, taken.delivered) == ("done", 2)
    assert await procure(supply_id) is None
    assert world.calls == ["order"]
    assert await contents(order, shop) == ["SUP-000001", "SUP-000002"]
    lot = await core.row("SELECT cost_minor, currency FROM stock_lot")
    assert lot is not None
    assert tuple(lot) == (225, "USD")


async def test_i03_i05_an_answer_lost_or_a_crash_buys_nothing_twice(
    db: None, world: Simulator, supplier: HttpSupplier
) -> None:
    shop = await make.shop(keys=0, delivery=Delivery.SUPPLIER)
    order, supply_id = await owed(shop)
    world.mood = "bought_then_lost"

    taken = await procure(supply_id)
    assert taken is not None
    assert (taken.state, taken.delivered) == ("sent", 0)
    world.mood = "ok"
    said = await catalogue.ask_supplier(supply_id)  # and killed before it is taken
    taken = await procure(supply_id)

    assert said is not None
    assert taken is not None
    assert (taken.state, taken.delivered) == ("done", 2)
    assert world.calls == ["order", "query", "query"]
    assert len(await contents(order, shop)) == 2
    assert len(world.orders) == 1


async def test_i05_a_call_that_never_arrived_is_made_again(
    db: None, world: Simulator, supplier: HttpSupplier
) -> None:
    shop = await make.shop(keys=0, delivery=Delivery.SUPPLIER)
    order, supply_id = await owed(shop)
    await core.execute("UPDATE supply SET state = 'sent'")  # killed between the row and the call

    taken = await procure(supply_id)

    assert taken is not None
    assert taken.delivered == 2
    assert world.calls == ["query", "order"]
    assert len(await contents(order, shop)) == 2


async def test_i04_goods_that_come_after_the_refund_become_stock_and_serve_the_next(
    db: None, world: Simulator, supplier: HttpSupplier
) -> None:
    shop = await make.shop(keys=0, delivery=Delivery.SUPPLIER)
    world.mood = "pending"
    order, supply_id = await owed(shop)
    taken = await procure(supply_id)
    assert taken is not None
    assert taken.state == "pending"
    async with core.transaction():
        await catalogue.revoke(order)
    world.finish()

    taken = await procure(supply_id)

    assert taken is not None
    assert (taken.state, taken.delivered) == ("done", 0)
    assert await contents(order, shop) == []
    assert await catalogue.available(shop.merchant_id, [shop.variant_id]) == {shop.variant_id: 2}
    following, line = ids.uuid7(), (ids.uuid7(), shop.variant_id, 2)
    async with core.transaction():
        [served] = await catalogue.owe_supply(following, shop.merchant_id, [line])
    assert (served.state, served.delivered) == ("done", 2)
    assert await contents(following, shop) == ["SUP-000001", "SUP-000002"]
    assert len(world.orders) == 1


async def test_a_cancelled_order_that_never_reached_the_supplier_buys_nothing(
    db: None, world: Simulator, supplier: HttpSupplier
) -> None:
    shop = await make.shop(keys=0, delivery=Delivery.SUPPLIER)
    order, supply_id = await owed(shop)
    async with core.transaction():
        await catalogue.revoke(order)

    taken = await procure(supply_id)

    assert taken is not None
    assert taken.state == "cancelled"
    assert world.calls == ["query"]
    assert world.orders == {}


async def test_a_code_we_have_had_before_is_not_delivered(
    db: None, world: Simulator, supplier: HttpSupplier
) -> None:
    shop = await make.shop(keys=0, delivery=Delivery.SUPPLIER)
    first, first_supply = await owed(shop)
    assert await procure(first_supply) is not None
    world._made = 0  # the supplier sells the same codes again
    second, second_supply = await owed(shop)

    taken = await procure(second_supply)

    assert taken is not None
    assert (taken.state, taken.delivered) == ("refused", 0)
    assert await contents(second, shop) == []
    assert len(await contents(first, shop)) == 2
    assert (await catalogue.supplies_of(second))[0].reason == "code_known"


async def test_a_supplier_that_is_not_installed_is_not_asked(db: None) -> None:
    shop = await make.shop(keys=0, delivery=Delivery.SUPPLIER)
    _, supply_id = await owed(shop)

    said = await catalogue.ask_supplier(supply_id)

    assert said == SupplyAnswer(SupplyState.UNAVAILABLE, raw_code="not_installed")
    assert await core.value("SELECT state FROM supply") == "owed"
