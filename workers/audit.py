"""The audit chain: rows are sealed a few seconds after they were committed."""

from __future__ import annotations

from domain.core import audit_chain
from workers.loops import Loop
from workers.registry import loops

SEAL_EVERY_S = 3.0


async def seal() -> float | None:
    """Chain what was committed since the last look; of several processes one at a time does."""
    return 0 if await audit_chain.seal() else None


def load() -> None:
    """Register the sealer."""
    loops["general"].append(Loop("audit.seal", seal, every_s=SEAL_EVERY_S))
