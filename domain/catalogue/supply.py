"""Goods bought when they are sold: owed with the payment, asked for outside any transaction, taken in once.

`owe` (with the order's transaction) → `ask` (network) → `take` (with the delivery's transaction). Killed at any
point it is picked up again: the row's id is the supplier's idempotency key (cases I03, I05).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.catalogue import keys as card_keys
from domain.catalogue import stock
from domain.catalogue.keys import CodeKnown
from domain.catalogue.ports import SupplyAnswer, SupplyRequest, SupplyState, suppliers
from domain.catalogue.stock import Line
from domain.core import db, ids, promises, trace
from domain.core.errors import NotFound

PREFIX = "sup"
_CLOSED = ("done", "refused")


@dataclass(frozen=True, slots=True)
class Supply:
    """What a supplier owes one order line."""

    id: UUID
    merchant_id: UUID
    order_id: UUID
    order_line_id: UUID
    variant_id: UUID
    supplier: str
    sku: str
    quantity: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What an answer changed: `state` is the row's now, `delivered` units were given to the order line."""

    supply: Supply
    state: str
    delivered: int = 0


_COLUMNS = (
    "id, merchant_id, order_id, order_line_id, variant_id, supplier, sku, quantity, state, reason"
)
_OWE = """
INSERT INTO supply (merchant_id, id, order_id, order_line_id, variant_id, supplier, sku, quantity)
SELECT $1, t.id, $2, t.line_id, t.variant_id, v.supplier, v.supplier_sku, t.quantity
FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::int[]) AS t(id, line_id, variant_id, quantity)
JOIN variant v ON v.merchant_id = $1 AND v.id = t.variant_id AND v.delivery = 'supplier'
ON CONFLICT (merchant_id, order_line_id) DO NOTHING
"""


async def owe(order_id: UUID, merchant_id: UUID, lines: Sequence[Line]) -> list[Taken]:
    """Note what is to be bought for a paid order; once per line, however often it runs.

    A line for which goods lie here already (they came too late for another order) is served from those: its
    `Taken` says so. Lines that are not a supplier's are left out. Inside the caller's transaction.
    """
    assert db.in_transaction(), "what is owed commits with the payment"
    columns = [list(column) for column in zip(*lines, strict=True)] if lines else [[], [], []]
    await db.execute(_OWE, merchant_id, order_id, [ids.uuid7() for _ in lines], *columns)
    found = [one for one in await of_order(order_id) if one.state not in (*_CLOSED, "cancelled")]
    kept = await stock.available(merchant_id, [one.variant_id for one in found]) if found else {}
    return [await _serve(one, kept.get(one.variant_id, 0)) for one in found]


async def _serve(owed: Supply, kept: int) -> Taken:
    line = (owed.order_line_id, owed.variant_id, owed.quantity)
    is_enough = owed.state == "owed" and kept >= owed.quantity
    if is_enough and await stock.sell([stock.Ask(owed.order_id, owed.merchant_id, [line])]):
        await _move(owed, "done", "kept_stock")
        return Taken(owed, "done", delivered=owed.quantity)
    return Taken(owed, owed.state)


async def of_order(order_id: UUID) -> list[Supply]:
    """Everything bought or owed for an order."""
    rows: list[Any] = await db.fetch(
        f"SELECT {_COLUMNS} FROM supply WHERE order_id = $1 ORDER BY id", order_id
    )
    return [Supply(*row) for row in rows]


async def find_supply(supply_id: UUID, lock: str = "") -> Supply:
    """One row. Errors: NotFound."""
    row: Any = await db.row(f"SELECT {_COLUMNS} FROM supply WHERE id = $1 {lock}", supply_id)
    if row is None:
        raise NotFound()
    return Supply(*row)


async def ask(supply_id: UUID) -> SupplyAnswer | None:
    """Buy what is owed, or find out about what was asked before; None when there is nothing left to ask.

    A reference that may have reached the supplier is only queried, until the supplier itself says that it
    never saw it. Never inside a transaction. Errors: NotFound.
    """
    assert not db.in_transaction(), "no network call inside a transaction"
    owed = await find_supply(supply_id)
    if owed.state in _CLOSED:
        return None
    supplier = suppliers.get(owed.supplier)
    if supplier is None:
        return SupplyAnswer(SupplyState.UNAVAILABLE, raw_code="not_installed")
    is_first = await db.execute(
        "UPDATE supply SET state = 'sent', moved_at = clock_timestamp() WHERE id = $1 AND state = 'owed'",
        supply_id,
    )
    request = SupplyRequest(ids.encode(PREFIX, supply_id), owed.sku, owed.quantity)
    if not is_first:
        with trace.span("provider", "supplier.query"):
            said = await supplier.query(request.reference, quantity=owed.quantity)
        # A cancelled order buys nothing any more.
        if said.state is not SupplyState.NOT_FOUND or owed.state == "cancelled":
            return said
    with trace.span("provider", "supplier.order"):
        return await supplier.order(request)


async def take(supply_id: UUID, said: SupplyAnswer) -> Taken:
    """Apply a supplier's word, in the caller's transaction; the same word again changes nothing.

    Goods become the order line's; when the order was refunded meanwhile they become stock, never nothing
    (I04). A word that is not clear leaves everything as it is. Errors: NotFound.
    """
    assert db.in_transaction(), "goods come in with what they are for"
    owed = await find_supply(supply_id, "FOR NO KEY UPDATE")
    if owed.state in _CLOSED:
        return Taken(owed, owed.state)
    if said.state is SupplyState.DONE and len(said.codes) == owed.quantity:
        return await _take_goods(owed, said)
    if owed.state == "cancelled":
        return Taken(owed, owed.state)
    if said.state is SupplyState.REFUSED:
        await _move(owed, "refused", said.raw_code)
        return Taken(owed, "refused")
    if said.state is SupplyState.PENDING:
        await _move(owed, "pending", said.raw_code)
        return Taken(owed, "pending")
    await _move(owed, owed.state, said.raw_code or said.state.value)
    return Taken(owed, owed.state)


async def _take_goods(owed: Supply, said: SupplyAnswer) -> Taken:
    is_late = owed.state == "cancelled"
    lot_no = await db.value(
        "INSERT INTO stock_lot (merchant_id, variant_id, cost_minor, currency, note)"
        " VALUES ($1, $2, $3, $4, $5) RETURNING no",
        owed.merchant_id,
        owed.variant_id,
        said.cost.minor // owed.quantity if said.cost else None,
        said.cost.currency if said.cost else None,
        f"supplier {owed.supplier}, {ids.encode(PREFIX, owed.id)}",
    )
    order = None if is_late else (owed.order_id, owed.order_line_id)
    try:
        await card_keys.put(owed.merchant_id, owed.variant_id, lot_no, said.codes, order=order)
    except CodeKnown:
        # The supplier has sold us what we had: bought, but not deliverable; a person must talk to it.
        state = "cancelled" if is_late else "refused"
        await _move(owed, state, "code_known")
        return Taken(owed, state)
    if is_late:
        await _move(owed, "done", "late")
        await promises.promise("delivery", "stock.arrived", owed.variant_id, key=f"stock:{owed.id}")
        return Taken(owed, "done")
    await _move(owed, "done", "")
    return Taken(owed, "done", delivered=owed.quantity)


async def _move(owed: Supply, state: str, reason: str) -> None:
    await db.execute(
        "UPDATE supply SET state = $2, reason = $3, moved_at = clock_timestamp() WHERE id = $1",
        owed.id,
        state,
        reason[:120],
    )


async def hand_over(
    merchant_id: UUID,
    variant_id: UUID,
    order: tuple[UUID, UUID],
    codes: Sequence[str],
    *,
    note: str,
) -> None:
    """Put goods made by hand straight into an order line's hands, in the caller's transaction.

    Errors: InputInvalid for words that are empty, too long or no storable text.
    """
    assert db.in_transaction(), "goods come in with what they are for"
    for place, code in enumerate(codes):
        card_keys.check_content(code, path=("input", "contents", str(place)))
    lot_no = await db.value(
        "INSERT INTO stock_lot (merchant_id, variant_id, note) VALUES ($1, $2, $3) RETURNING no",
        merchant_id,
        variant_id,
        note[:200],
    )
    await card_keys.put(merchant_id, variant_id, lot_no, codes, order=order, is_unique=False)
