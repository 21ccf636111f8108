"""Buying from a supplier as a saga (cases I03, I04, I05, I08): killed anywhere, bought once, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from domain import catalogue, checkout, delivery, ledger, orders
from domain.catalogue import Delivery
from domain.catalogue.ports import SupplyAnswer, SupplyRequest, SupplyState, suppliers
from domain.core import db, saga
from domain.ledger import AccountKey
from domain.orders.models import Order
from tests import make
from tests.domain.saga_script import Killed

CODES = ("CODE-1", "CODE-2")
DONE = SupplyAnswer(SupplyState.DONE, CODES)
UNKNOWN = SupplyAnswer(SupplyState.UNKNOWN)
PENDING = SupplyAnswer(SupplyState.PENDING)
NOT_FOUND = SupplyAnswer(SupplyState.NOT_FOUND)
REFUSED = SupplyAnswer(SupplyState.REFUSED, raw_code="sold_out")


class Supplier:
    """Sells what it has under a reference, once; `says` overrides its next words, `dies` kills who asks.

    It refuses to be called inside a transaction.
    """

    name = "sim"

    def __init__(self, *says: SupplyAnswer | None) -> None:
        self.says = list(says)
        self.sold: dict[str, tuple[str, ...]] = {}
        self.calls: list[str] = []
        self.dies: list[str] = []

    async def order(self, request: SupplyRequest) -> SupplyAnswer:
        self._enter("order before")
        word = self._word()
        if word is None or word.state in (SupplyState.DONE, SupplyState.UNKNOWN):
            self.sold.setdefault(request.reference, CODES)
        self._enter("order after")
        return word or DONE

    async def query(self, reference: str, *, quantity: int) -> SupplyAnswer:
        self._enter("query before")
        word = self._word()
        if word is not None:
            return word
        return DONE if reference in self.sold else NOT_FOUND

    def _word(self) -> SupplyAnswer | None:
        return self.says.pop(0) if self.says else None

    def _enter(self, point: str) -> None:
        assert not db.in_transaction(), "a network call inside a transaction"
        self.calls.append(point)
        if point in self.dies:
            self.dies.remove(point)
            raise Killed


@pytest.fixture(autouse=True)
async def _books(db: None) -> AsyncIterator[None]:
    yield
    assert await ledger.check() == []


async def sold(supplier: Supplier, *, quantity: int = 2) -> tuple[make.Shop, Order, UUID]:
    """A paid order of a supplier's goods and its saga, not begun yet."""
    suppliers["sim"] = supplier
    of = await make.shop(keys=0, delivery=Delivery.SUPPLIER)
    order = await make.order(of, quantity=quantity, delivery="supplier")
    await make.word(await make.attempt(order))
    await checkout.fulfil(order.lane)
    await delivery.procure(order.id)
    return of, order, UUID(str(await db.value("SELECT id FROM saga WHERE kind = 'supply'")))


async def time_passes() -> None:
    await db.execute(
        "UPDATE saga SET due_at = least(due_at, clock_timestamp()),"
        " lease_until = least(lease_until, clock_timestamp() - interval '1 s')"
    )


async def carry_on(saga_id: UUID, tries_max: int = 20) -> str:
    """New workers follow those that were killed, until the saga is over."""
    for _ in range(tries_max):
        await time_passes()
        try:
            if await saga.advance(saga_id) is None:
                break
        except Killed:
            continue
    return str(await db.value("SELECT state FROM saga WHERE id = $1", saga_id))


async def undelivered(order: Order) -> None:
    """What the refund's promise does, twice."""
    for row in await db.fetch("SELECT subject_id FROM promise WHERE task = 'refund.undelivered'"):
        for _ in range(2):
            await checkout.return_undelivered(row["subject_id"])


async def money(of: make.Shop) -> tuple[int, int]:
    held = await ledger.balance(AccountKey("buyer_held", of.merchant_id, "", "USD"))
    paid = await ledger.balance(AccountKey("merchant_available", of.merchant_id, "", "USD"))
    return held.posted, paid.posted


def dying(call: Callable[..., Awaitable[Any]], *, after: bool) -> Callable[..., Awaitable[Any]]:
    """`call`, whose first use is the process's last: before it does anything, or once it has."""
    uses = iter([True])

    async def once(*args: Any, **named: Any) -> Any:
        dies = next(uses, False)
        if dies and not after:
            raise Killed
        found = await call(*args, **named)
        if dies:
            raise Killed
        return found

    return once


async def test_i05_without_trouble_one_call_buys_and_delivers() -> None:
    supplier = Supplier()
    of, order, saga_id = await sold(supplier)

    assert await carry_on(saga_id) == "done"
    await checkout.fulfil(order.lane)

    assert supplier.calls == ["order before", "order after"]
    assert await make.status([order.id]) == ["delivered"]
    assert await money(of) == (0, 18_800)
    # The codes are sealed in the vault and nowhere else.
    told = await db.value("SELECT string_agg(facts_json::text, '') FROM saga_step")
    assert "CODE" not in told + str(await db.value("SELECT facts_json::text FROM saga"))


@pytest.mark.parametrize("point", ["order before", "order after", "query before"])
async def test_i03_i05_killed_around_the_call_it_is_bought_once(point: str) -> None:
    supplier = Supplier(*([UNKNOWN] if point == "query before" else []))
    of, order, saga_id = await sold(supplier)
    supplier.dies = [point]

    assert await carry_on(saga_id) == "done"
    await checkout.fulfil(order.lane)

    assert len(supplier.sold) == 1
    assert supplier.calls.count("order after") == 1
    assert await make.status([order.id]) == ["delivered"]
    assert await money(of) == (0, 18_800)
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 2


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["find_supply", "ask_supplier", "take_supply", "move", "finish"])
async def test_i05_killed_at_each_gap_it_is_bought_and_delivered_once(
    monkeypatch: pytest.MonkeyPatch, name: str, after: bool
) -> None:
    supplier = Supplier()
    of, order, saga_id = await sold(supplier)
    where: Any = {"move": saga, "finish": delivery.actions}.get(name, catalogue)
    name = {"move": "_move", "finish": "_finish"}.get(name, name)
    monkeypatch.setattr(where, name, dying(getattr(where, name), after=after))

    assert await carry_on(saga_id) == "done"
    await checkout.fulfil(order.lane)

    assert len(supplier.sold) == 1
    assert await make.status([order.id]) == ["delivered"]
    assert await money(of) == (0, 18_800)
    assert await db.value("SELECT count(*) FROM card_key") == 2
    assert await db.value("SELECT count(*) FROM supply WHERE state = 'done'") == 1
    assert await db.value("SELECT count(*) FROM promise WHERE task = 'refund.undelivered'") == 0


@pytest.mark.parametrize("gap", ["nowhere", "_give_back before", "_give_back after", "_move"])
async def test_a_refusal_gives_the_money_back_once_wherever_it_is_killed(
    monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    supplier = Supplier(REFUSED)
    of, order, saga_id = await sold(supplier)
    if gap.startswith("_give_back"):
        kind = saga.kinds["supply"]
        undo = kind.steps[0].compensate
        assert undo is not None
        first = saga.Step("check", kind.steps[0].run, dying(undo, after=gap.endswith("after")))
        monkeypatch.setitem(saga.kinds, "supply", saga.Kind(kind.queue, (first, kind.steps[1])))
    elif gap == "_move":
        supplier.says = [REFUSED]
        monkeypatch.setattr(saga, "_undo_next", dying(saga._undo_next, after=False))

    assert await carry_on(saga_id) == "compensated"
    await undelivered(order)

    refunds = await db.fetch("SELECT amount_minor, reason FROM refund")
    assert [tuple(row) for row in refunds] == [(20_000, "supplier")]
    assert supplier.calls == ["order before", "order after"]
    assert supplier.sold == {}
    assert await money(of) == (0, 0)
    assert await db.value("SELECT count(*) FROM card_key") == 0
    assert await db.value("SELECT count(*) FROM money_exception") == 0


async def test_a_refused_line_of_a_larger_order_is_shown_to_a_person() -> None:
    supplier = Supplier(REFUSED)
    _of, order, saga_id = await sold(supplier)
    [line] = (await orders.lines([order.id]))[order.id]
    await delivery.deliver(order.id, line.id, ["by hand"], note="one of two")

    assert await carry_on(saga_id) == "compensated"
    await undelivered(order)

    seen = await db.fetch("SELECT kind, order_id, facts_json ->> 'reason' FROM money_exception")
    assert [tuple(row) for row in seen] == [("supply_refused", order.id, "sold_out")]
    assert await db.value("SELECT count(*) FROM refund") == 0
    assert await make.status([order.id]) == ["delivering"]


async def test_i04_goods_that_come_after_the_refund_are_waited_for_and_kept_as_stock() -> None:
    supplier = Supplier(PENDING, PENDING, UNKNOWN)
    of, order, saga_id = await sold(supplier)
    assert await saga.advance(saga_id) == delivery.actions.ASK_AGAIN_S
    async with db.transaction():
        await checkout.refunds.ask(order.id, None, reason="late", asked_by="system")

    for _ in range(2):  # nobody stops asking because the buyer has left
        await time_passes()
        assert await saga.advance(saga_id) == delivery.actions.ASK_AGAIN_S
    supplier.says = [DONE]

    assert await carry_on(saga_id) == "done"
    assert await catalogue.available(of.merchant_id, [of.variant_id]) == {of.variant_id: 2}
    assert await db.value("SELECT sum(done) FROM order_line") == 0
    assert await db.value("SELECT count(*) FROM card_key WHERE order_id IS NOT NULL") == 0
    assert await db.value("SELECT count(*) FROM promise WHERE task = 'refund.undelivered'") == 0


async def test_i04_an_order_refunded_before_anybody_was_asked_buys_nothing() -> None:
    supplier = Supplier()
    _of, order, saga_id = await sold(supplier)
    async with db.transaction():
        await checkout.refunds.ask(order.id, None, reason="late", asked_by="system")

    assert await carry_on(saga_id) == "compensated"

    assert (supplier.calls, supplier.sold) == ([], {})


async def test_goods_we_have_had_before_go_back_as_money_and_are_shown() -> None:
    supplier = Supplier()
    _of, order, saga_id = await sold(supplier)
    async with db.transaction():
        lot_no = await db.value(
            "INSERT INTO stock_lot (merchant_id, variant_id) SELECT merchant_id, variant_id FROM supply"
            " RETURNING no"
        )
        await catalogue.put(order.merchant_id, _of.variant_id, lot_no, ["CODE-1"])

    assert await carry_on(saga_id) == "compensated"
    await undelivered(order)

    seen = await db.fetch("SELECT kind, facts_json ->> 'reason' FROM money_exception")
    assert [tuple(row) for row in seen] == [("supply_refused", "code_known")]
    assert await db.value("SELECT sum(amount_minor) FROM refund") == 20_000
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 0


async def test_i08_what_is_not_proved_is_asked_again_and_delivers_nothing() -> None:
    short = SupplyAnswer(SupplyState.DONE, CODES[:1])
    supplier = Supplier(UNKNOWN, short, UNKNOWN)
    _of, order, saga_id = await sold(supplier)

    for _ in range(3):
        await time_passes()
        assert await saga.advance(saga_id) == delivery.actions.ASK_AGAIN_S
        assert await make.status([order.id]) == ["delivering"]
    assert await db.value("SELECT count(*) FROM card_key") == 0

    assert await carry_on(saga_id) == "done"
    assert supplier.calls.count("order before") == 1


async def test_k04_a_zombies_goods_come_in_once() -> None:
    held, go = asyncio.Event(), asyncio.Event()

    class Slow(Supplier):
        async def order(self, request: SupplyRequest) -> SupplyAnswer:
            said = await super().order(request)
            held.set()
            await go.wait()
            return said

    supplier = Slow()
    of, order, saga_id = await sold(supplier)
    zombie = asyncio.create_task(saga.advance(saga_id))
    await held.wait()
    assert await carry_on(saga_id) == "done"  # another worker asks by the same reference

    go.set()
    await zombie
    await checkout.fulfil(order.lane)

    assert len(supplier.sold) == 1
    assert await db.value("SELECT count(*) FROM card_key") == 2
    assert await db.value("SELECT count(*) FROM saga_step") == 2
    assert await money(of) == (0, 18_800)
