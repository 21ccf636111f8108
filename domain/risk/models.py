"""The rows of risk: what was decided, and what a person said later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.core.db import Record
from domain.risk.rules import Outcome


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a person, or a passed challenge, said about a decision that waited."""

    outcome: Outcome
    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """A stored verdict; `reasons` name the rules that fired, strongest first.

    `score_bps` is 0 to 10,000; `phantom` is what the rules in shadow would have said; `silent`
    names tiers that were slow or down.
    """

    id: UUID
    order_id: UUID
    merchant_id: UUID
    outcome: Outcome
    score_bps: int
    reasons: tuple[str, ...]
    phantom: Outcome | None
    silent: tuple[str, ...]
    decided_at: datetime
    resolution: Resolution | None = None

    @property
    def standing(self) -> Outcome:
        """What holds now: the resolution when there is one."""
        return self.resolution.outcome if self.resolution else self.outcome


@dataclass(frozen=True, slots=True)
class Replay:
    """A stored verdict and the same facts judged again, as canonical bytes."""

    stored: bytes
    again: bytes

    @property
    def is_equal(self) -> bool:
        """Whether the decision can be explained by its inputs to the last bit (N10)."""
        return self.stored == self.again


COLUMNS = (
    "id, order_id, merchant_id, outcome, score_bps, reasons, phantom,"
    " verdict_json -> 'silent' AS silent, decided_at,"
    " resolved_outcome, resolved_by, resolved_reason, resolved_at"
)


def decision(row: Record) -> Decision:
    """A decision from `COLUMNS`."""
    resolution = None
    if row["resolved_outcome"]:
        resolution = Resolution(
            Outcome(row["resolved_outcome"]),
            row["resolved_by"],
            row["resolved_reason"],
            row["resolved_at"],
        )
    return Decision(
        row["id"],
        row["order_id"],
        row["merchant_id"],
        Outcome(row["outcome"]),
        row["score_bps"],
        tuple(row["reasons"]),
        Outcome(row["phantom"]) if row["phantom"] else None,
        tuple(row["silent"]),
        row["decided_at"],
        resolution,
    )
