"""What Kami needs from a supplier: an order under our reference, and a word on where it stands.

A supplier answers with *states*, never with the vendor's exceptions. What it cannot tell for sure is UNKNOWN:
then only `query` under the same reference may find out, nothing is ordered again (cases I03, I05).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from domain.core.money import Money


class SupplyState(StrEnum):
    """What a supplier says of one reference."""

    DONE = "done"  # `codes` are the goods, as many as were asked for
    PENDING = "pending"  # accepted, goods follow: query again
    REFUSED = "refused"  # for good: nothing will come, nothing is owed
    UNKNOWN = "unknown"  # asked, and no answer one can believe
    NOT_FOUND = "not_found"  # the supplier never saw the reference (query only)
    UNAVAILABLE = "unavailable"  # not asked at all: the supplier has been failing


@dataclass(frozen=True, slots=True)
class SupplyRequest:
    """`quantity` units of `sku`; `reference` is our row's id and the supplier's idempotency key."""

    reference: str
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class SupplyAnswer:
    """The supplier's word. `cost` is what all codes together cost us, None when it was not said."""

    state: SupplyState
    codes: tuple[str, ...] = ()
    cost: Money | None = None
    raw_code: str = ""
    raw_message: str = ""


class Supplier(Protocol):
    """A supplier of goods. Every call is bounded by its own timeout and never raises for the network."""

    @property
    def name(self) -> str:
        """What variants call it."""
        ...

    async def order(self, request: SupplyRequest) -> SupplyAnswer:
        """Buy; the same `reference` is bought at most once, and gives the same codes again."""
        ...

    async def query(self, reference: str, *, quantity: int) -> SupplyAnswer:
        """Where a reference stands; NOT_FOUND only on the supplier's own proved word."""
        ...


suppliers: dict[str, Supplier] = {}
