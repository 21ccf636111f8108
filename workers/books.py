"""The books after the sale: seals, day snapshots, lapsed holds, and a look at the invariants."""

from __future__ import annotations

from datetime import date, timedelta

import structlog

from domain import ledger
from workers.loops import Loop
from workers.registry import loops

SEAL_EVERY_S = 2.0

_log = structlog.get_logger(__name__)


async def seal() -> float | None:
    """Chain the journals that were committed since the last look; the sealer of a chain is alone."""
    return 0 if await ledger.seal() else None


async def snapshot(day: date) -> None:
    """Take the totals of the day that ended before `day` began."""
    await ledger.snapshot_day(day - timedelta(days=1))


async def check() -> None:
    """Say loudly when a law of the books does not hold; nothing is repaired by itself."""
    faults = await ledger.check()
    if faults:
        _log.error("ledger.broken", faults=faults[:20], count=len(faults))


def load() -> None:
    """Register the sealer."""
    loops["general"].append(Loop("ledger.seal", seal, every_s=SEAL_EVERY_S))
