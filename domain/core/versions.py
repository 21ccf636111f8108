"""Optimistic locking: every edit begins with one conditional UPDATE that is row lock and version check in one (C23)."""

from __future__ import annotations

from uuid import UUID

from domain.core import db
from domain.core.errors import Conflict, NotFound

# The table of each kind of aggregate, by the prefix of its public ids.
TABLES = {
    "prd": "product",
    "var": "variant",
    "cpn": "coupon",
    "shp": "shop",
    "app": "partner_app",
    "whe": "webhook_endpoint",
    "pom": "payout_method",
    "pac": "provider_credential",
}


async def bump(prefix: str, merchant_id: UUID, row_id: UUID, expected: int) -> int:
    """Take the row's lock and move its version; the new version.

    Errors: NotFound, also for another merchant's row; Conflict with the `current` version and the `subject`.
    """
    assert db.in_transaction(), "the version moves with the change"
    table = TABLES[prefix]
    version: int | None = await db.value(
        f"UPDATE {table} SET version = version + 1"
        " WHERE merchant_id = $1 AND id = $2 AND version = $3 RETURNING version",
        merchant_id,
        row_id,
        expected,
    )
    if version is None:
        current = await db.value(
            f"SELECT version FROM {table} WHERE merchant_id = $1 AND id = $2", merchant_id, row_id
        )
        if current is None:
            raise NotFound()
        raise Conflict(path=("input", "expectedVersion"), current=current, subject=(prefix, row_id))
    assert version == expected + 1, (version, expected)
    return version
