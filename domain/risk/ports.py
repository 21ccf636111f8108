"""The seam for later tiers: anything that looks at a payment after the rules' facts are known, within milliseconds."""

from __future__ import annotations

from typing import Protocol

from domain.risk.models import Subject
from domain.risk.rules import Facts, TierAnswer

TIER_TIMEOUT_S = 0.05


class Tier(Protocol):
    """A model or a foreign score. It may raise or hang: the payment is then judged without it (N11).

    `timeout_s` is its own bound, never more than TIER_TIMEOUT_S. Work that needs the processor for longer than a
    millisecond belongs into a thread, or the bound cannot hold.
    """

    @property
    def version(self) -> str: ...

    @property
    def timeout_s(self) -> float: ...

    async def score(self, subject: Subject, facts: Facts) -> TierAnswer:
        """Look at one payment; the answer is stored with the decision and replayed from there."""
        ...


tiers: dict[str, Tier] = {}
