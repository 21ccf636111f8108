"""Which order a chain of orders bought again began with: it owns what its buyer saved."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from domain.core import db


async def descend(order_id: UUID, parent_id: UUID) -> UUID:
    """Remember that `order_id` was bought again from `parent_id`; the root of both. Idempotent."""
    assert order_id != parent_id, order_id
    root_id = await root_of(parent_id)
    await db.execute(
        "INSERT INTO order_root (order_id, root_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        order_id,
        root_id,
    )
    return root_id


async def root_of(order_id: UUID) -> UUID:
    """The first order of the chain that `order_id` belongs to; itself when there is none."""
    return (await roots([order_id]))[order_id]


async def roots(order_ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """`root_of` for many orders in one statement."""
    found = {order_id: order_id for order_id in order_ids}
    rows = await db.fetch(
        "SELECT order_id, root_id FROM order_root WHERE order_id = ANY($1)", list(found)
    )
    return found | {row["order_id"]: row["root_id"] for row in rows}
