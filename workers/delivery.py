"""Goods that come from elsewhere: suppliers are asked, stock that arrived sends waiting orders on."""

from __future__ import annotations

from uuid import UUID

from domain import checkout, delivery
from domain.delivery import NotDelivered
from workers.registry import Later, tasks


async def supply(supply_id: UUID) -> None:
    """Buy or ask about goods of one order line. Errors: Later."""
    try:
        await delivery.supply(supply_id)
    except NotDelivered as wait:
        raise Later(wait.in_s) from None


async def restock(variant_id: UUID) -> None:
    """Keys came in: orders that wait for them go on."""
    await checkout.restock(variant_id)


def load() -> None:
    """Register the tasks of the delivery queue."""
    tasks["delivery.procure"] = delivery.procure
    tasks["delivery.supply"] = supply
    tasks["stock.arrived"] = restock
