"""What is judged, and the seam for later tiers: who else looks at a payment, in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from domain.core.money import Money
from domain.risk.conditions import PivotKind
from domain.risk.rules import Facts, TierAnswer

TIER_TIMEOUT_S = 0.05
HASH_BYTES_MAX = 64


@dataclass(frozen=True, slots=True)
class Pivot:
    """One e-mail, address, device or payer, by its keyed hash."""

    kind: PivotKind
    hash: bytes

    def __post_init__(self) -> None:
        assert 0 < len(self.hash) <= HASH_BYTES_MAX, self.kind


@dataclass(frozen=True, slots=True)
class Subject:
    """One payment to judge.

    `usd_minor` is `amount` in US cents at the reference rate; countries are ISO 3166. `country` is
    what the buyer says, `geo_country` where the address is, `card_country` what the card or bill
    says; `email_domain` is lower case. `signals` are hints of the client, kept for later tiers,
    never authority. `can_authenticate`: the method can have the payer prove who they are.
    """

    order_id: UUID
    merchant_id: UUID
    amount: Money
    usd_minor: int
    email_hash: bytes
    address_hash: bytes
    country: str
    email_domain: str = ""
    device_hash: bytes | None = None
    payer_hash: bytes | None = None
    geo_country: str | None = None
    card_country: str | None = None
    method: str = ""
    platform: str = ""
    signals: Mapping[str, Any] = field(default_factory=dict)
    can_authenticate: bool = True

    @property
    def pivots(self) -> list[Pivot]:
        """The pivots that are known."""
        pairs = (
            (PivotKind.EMAIL, self.email_hash),
            (PivotKind.ADDRESS, self.address_hash),
            (PivotKind.DEVICE, self.device_hash),
            (PivotKind.PAYER, self.payer_hash),
        )
        return [Pivot(kind, value) for kind, value in pairs if value is not None]


class Tier(Protocol):
    """A model or a foreign score; when it raises or hangs the payment is judged without it (N11).

    `timeout_s` is its own bound, never more than TIER_TIMEOUT_S. Work that needs the processor for
    longer than a millisecond belongs into a thread, or the bound cannot hold.
    """

    @property
    def version(self) -> str: ...

    @property
    def timeout_s(self) -> float: ...

    async def score(self, subject: Subject, facts: Facts) -> TierAnswer:
        """Look at one payment; the answer is stored with the decision and replayed from there."""
        ...


tiers: dict[str, Tier] = {}
