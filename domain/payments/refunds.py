"""Refund rows: asked, sent, answered; each move is one conditional UPDATE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from domain.core import db, ids
from domain.payments.models import REFUND_COLUMNS, Capture, Refund

OPEN = ("created", "submitted", "pending", "review")


async def create_refund(
    capture: Capture, *, amount_minor: int, reason: str, asked_by: str, cover: Mapping[str, Any]
) -> Refund:
    """Write the intention to return `amount_minor` of a locked capture before anybody is called."""
    touched = await db.execute(
        "UPDATE capture SET returned_minor = returned_minor + $2 WHERE id = $1",
        capture.id,
        amount_minor,
    )
    assert touched == 1, capture.id
    row = await db.row(
        "INSERT INTO refund (id, capture_id, order_id, merchant_id, amount_minor, ccy, reason, asked_by, cover_json)"
        f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {REFUND_COLUMNS}",
        ids.uuid7(),
        capture.id,
        capture.order_id,
        capture.merchant_id,
        amount_minor,
        capture.ccy,
        reason,
        asked_by,
        dict(cover),
    )
    assert row is not None
    return Refund(*row)


async def find_refund(refund_id: UUID) -> Refund | None:
    """One refund."""
    row = await db.row(f"SELECT {REFUND_COLUMNS} FROM refund WHERE id = $1", refund_id)
    return Refund(*row) if row else None


async def refunds_of(order_id: UUID) -> list[Refund]:
    """All refunds of an order, oldest first."""
    rows = await db.fetch(
        f"SELECT {REFUND_COLUMNS} FROM refund WHERE order_id = $1 ORDER BY id", order_id
    )
    return [Refund(*row) for row in rows]


async def move_refund(
    refund_id: UUID,
    sources: Sequence[str],
    target: str,
    *,
    provider_ref: str | None = None,
    raw_code: str = "",
) -> bool:
    """Move a refund from one of `sources` to `target`; false when it stands elsewhere."""
    return bool(
        await db.execute(
            "UPDATE refund SET state = $3::text, provider_ref = coalesce($4, provider_ref), raw_code = $5,"
            " done_at = CASE WHEN $3::text IN ('succeeded', 'failed', 'cancelled') THEN clock_timestamp() END"
            " WHERE id = $1 AND state = ANY($2)",
            refund_id,
            list(sources),
            target,
            provider_ref,
            raw_code[:64],
        )
    )


async def give_back_capture(refund: Refund) -> None:
    """The refund failed: its amount counts as kept again."""
    await db.execute(
        "UPDATE capture SET returned_minor = returned_minor - $2 WHERE id = $1",
        refund.capture_id,
        refund.amount_minor,
    )


async def provider_of(refund: Refund) -> tuple[str, str, str]:
    """(provider, account, provider reference of the charge) a refund goes through."""
    row = await db.row(
        "SELECT a.provider, a.provider_account, coalesce(a.provider_ref, '') FROM capture c"
        " JOIN payment_attempt a ON a.id = c.attempt_id WHERE c.id = $1",
        refund.capture_id,
    )
    assert row is not None, refund.capture_id
    return row[0], row[1], row[2]
