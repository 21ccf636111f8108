"""What apps have sold: which orders they placed, under which grant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.core import db


@dataclass(frozen=True, slots=True)
class Seller:
    """An app that places orders in the shops of the one merchant of its grant."""

    app_id: UUID
    grant_id: UUID
    merchant_id: UUID


@dataclass(frozen=True, slots=True)
class Source:
    """The app that placed an order; `name` is None when it is deleted since."""

    app_id: UUID
    name: str | None


async def sell(sales: Sequence[tuple[UUID, Seller]]) -> None:
    """Note who placed these orders, in the transaction that places them."""
    assert db.in_transaction(), "an order and who placed it commit together"
    await db.execute(
        "INSERT INTO app_sale (order_id, app_id, grant_id)"
        " SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])",
        [order_id for order_id, _ in sales],
        [seller.app_id for _, seller in sales],
        [seller.grant_id for _, seller in sales],
    )


async def sold(app_id: UUID, merchant_id: UUID, order_id: UUID) -> bool:
    """Whether an app placed this order in this merchant, under whichever grant."""
    return bool(
        await db.value(
            "SELECT 1 FROM app_sale s JOIN app_grant g ON g.id = s.grant_id"
            " WHERE s.order_id = $1 AND s.app_id = $2 AND g.merchant_id = $3",
            order_id,
            app_id,
            merchant_id,
        )
    )


async def sources(order_ids: Collection[UUID]) -> dict[UUID, Source]:
    """Who placed these orders; those that buyers placed are left out."""
    rows = await db.fetch(
        "SELECT s.order_id, s.app_id, CASE WHEN a.state = 'active' THEN a.name END AS name"
        " FROM app_sale s JOIN partner_app a ON a.id = s.app_id WHERE s.order_id = ANY($1)",
        list(order_ids),
    )
    return {row["order_id"]: Source(row["app_id"], row["name"]) for row in rows}
