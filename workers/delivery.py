"""Goods that come from elsewhere: what suppliers owe begins here, stock that arrived sends waiting orders on."""

from __future__ import annotations

from uuid import UUID

from domain import checkout, delivery
from workers.registry import tasks


async def restock(variant_id: UUID) -> None:
    """Keys came in: orders that wait for them go on."""
    await checkout.restock(variant_id)


def load() -> None:
    """Register the tasks of the delivery queue."""
    tasks["delivery.procure"] = delivery.procure
    tasks["stock.arrived"] = restock
