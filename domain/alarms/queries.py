"""Reads of alerts, and the stop that an open one is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from domain.alarms.models import COLUMNS, Alert, alert_of
from domain.core import db
from domain.core.errors import DomainError


class ExportsStopped(DomainError):
    """An alert of this merchant waits for an owner; no goods are exported before one has acknowledged it."""

    code = "EXPORTS_STOPPED"


async def refuse_exports(merchant_id: UUID) -> None:
    """Pass a merchant whose alerts an owner has looked at. Errors: ExportsStopped."""
    if await db.value(
        "SELECT 1 FROM security_alert WHERE merchant_id = $1 AND acknowledged_at IS NULL LIMIT 1",
        merchant_id,
    ):
        raise ExportsStopped()


async def alerts(
    merchant_id: UUID | None,
    beyond: tuple[datetime, UUID] | None,
    limit: int,
    *,
    backward: bool = False,
) -> list[Alert]:
    """Alerts of a merchant, or of all of them, the newest first, behind the key `beyond`."""
    sign, order = (">", "ASC") if backward else ("<", "DESC")
    at, alert_id = beyond or (None, None)
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM security_alert WHERE ($1::uuid IS NULL OR merchant_id = $1)"
        f" AND ($2::timestamptz IS NULL OR (raised_at, id) {sign} ($2, $3::uuid))"
        f" ORDER BY raised_at {order}, id {order} LIMIT $4",
        merchant_id,
        at,
        alert_id,
        limit,
    )
    return [alert_of(row) for row in rows]


async def find_alert(alert_id: UUID) -> Alert | None:
    """One alert, whoever's."""
    row = await db.row(f"SELECT {COLUMNS} FROM security_alert WHERE id = $1", alert_id)
    return alert_of(row) if row else None


async def open_alerts() -> Mapping[str, int]:
    """How many alerts of each kind nobody has acknowledged; a gauge."""
    rows = await db.fetch(
        "SELECT kind, count(*) AS n FROM security_alert WHERE acknowledged_at IS NULL GROUP BY 1"
    )
    return {row["kind"]: row["n"] for row in rows}
