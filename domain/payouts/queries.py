"""Reads of payout destinations."""

from __future__ import annotations

from uuid import UUID

from domain.core import db
from domain.payouts.models import COLUMNS, PayoutMethod, method_of

METHODS_MAX = 200


async def methods_of(merchant_id: UUID) -> list[PayoutMethod]:
    """A merchant's destinations, the newest first, removed ones too; at most `METHODS_MAX`."""
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM payout_method WHERE merchant_id = $1 ORDER BY id DESC LIMIT $2",
        merchant_id,
        METHODS_MAX,
    )
    return [method_of(row) for row in rows]


async def find_method(method_id: UUID) -> PayoutMethod | None:
    """One destination, whoever's; the caller looks at the right."""
    row = await db.row(f"SELECT {COLUMNS} FROM payout_method WHERE id = $1", method_id)
    return method_of(row) if row else None
