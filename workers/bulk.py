"""Bulk work: one turn after the other, a few seconds each, for the merchant who has waited longest."""

from __future__ import annotations

from domain import bulk
from domain.core import bell
from workers.loops import Loop
from workers.registry import loops

LOOK_EVERY_S = 2.0


async def turn() -> float | None:
    """Give the next job its turn; at once again while there was one."""
    return 0 if await bulk.turn() else None


def load() -> None:
    """Register the loop of the general queue."""
    loops["general"].append(Loop("bulk", turn, every_s=LOOK_EVERY_S, topic=bell.BULK))
