"""Writes of alerts: rung once per cause, with an audit row and a mail owed; acknowledged by an owner."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from domain.alarms.models import COLUMNS, Alert, alert_of
from domain.alarms.rules import AlertKind
from domain.core import audit, db, ids, promises
from domain.core.audit import Actor
from domain.core.errors import DomainError, FieldInvalid, InputInvalid, NotFound

TASK = "alarm.raised"
NOTE_MAX = 200
KEEP_COUNTS_DAYS = 2
_BELL = Actor("system", "alarms")


class AlertClosed(DomainError):
    """Somebody has acknowledged it before."""

    code = "ALERT_CLOSED"


async def ring(
    merchant_id: UUID,
    kind: AlertKind,
    subject: str,
    facts: dict[str, Any],
    *,
    by: Actor | None = None,
) -> UUID | None:
    """Raise an alert, once for each `subject`; its id, None when it was rung before.

    `by` is whose doing it was. Audited as `alarm.<kind>`, told to the owners by mail.
    """
    async with db.transaction():
        alert_id: UUID | None = await db.value(
            "INSERT INTO security_alert (id, merchant_id, kind, subject, actor_kind, actor_id, facts_json)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (merchant_id, kind, subject) DO NOTHING RETURNING id",
            ids.uuid7(),
            merchant_id,
            str(kind),
            subject,
            by and by.kind,
            by and by.id,
            facts,
        )
        if alert_id is None:
            return None
        await audit.record(merchant_id, _BELL, f"alarm.{kind}", alert_id, **facts)
        await promises.promise("general", TASK, alert_id, key=f"alarm:{alert_id}")
        return alert_id


async def acknowledge(alert_id: UUID, *, by: UUID, note: str, actor: Actor) -> Alert:
    """Say that an owner has looked; exports go on when it was the last one. Audited.

    Errors: NotFound, AlertClosed, InputInvalid (a note of 1 to 200 characters).
    """
    if not note.strip() or len(note) > NOTE_MAX or not note.isprintable():
        raise InputInvalid(FieldInvalid(path=("input", "note"), reason="length", max=NOTE_MAX))
    async with db.transaction():
        row = await db.row(
            "UPDATE security_alert SET acknowledged_at = clock_timestamp(), acknowledged_by = $2, note = $3"
            f" WHERE id = $1 AND acknowledged_at IS NULL RETURNING {COLUMNS}",
            alert_id,
            by,
            note.strip(),
        )
        if row is None:
            if await db.value("SELECT 1 FROM security_alert WHERE id = $1", alert_id):
                raise AlertClosed()
            raise NotFound(path=("input", "alertId"))
        found = alert_of(row)
        await audit.record(found.merchant_id, actor, "alarm.acknowledged", alert_id, note=note)
        return found


async def prune() -> int:
    """Forget counts older than two days; how many."""
    return await db.execute(
        "DELETE FROM read_count WHERE bucket_at < clock_timestamp() - make_interval(days => $1)",
        KEEP_COUNTS_DAYS,
    )
