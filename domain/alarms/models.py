"""A security alert as a plain value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.alarms.rules import AlertKind


@dataclass(frozen=True, slots=True)
class Alert:
    """Something an owner has to look at; `actor_id` is whose doing it was, as the audit log spells it.

    `facts` are plain JSON without amounts and goods.
    """

    id: UUID
    merchant_id: UUID
    kind: AlertKind
    actor_kind: str | None
    actor_id: str | None
    facts: dict[str, Any]
    raised_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: UUID | None
    note: str


COLUMNS = "id, merchant_id, kind, actor_kind, actor_id, facts_json, raised_at, acknowledged_at, acknowledged_by, note"


def alert_of(row: Any) -> Alert:
    """The alert of one row of `COLUMNS`."""
    id_, merchant_id, kind, *rest = row
    return Alert(id_, merchant_id, AlertKind(kind), *rest)
