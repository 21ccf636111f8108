"""Where a key that was found somewhere came from, by its keyed fingerprint alone: nothing is decrypted.

Source: CASES H28.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from domain import alarms
from domain.alarms import AlertKind
from domain.catalogue.keys import CONTENT_MAX, check_content
from domain.core import audit, clock, db, ids, vault
from domain.core.audit import Actor


class Origin(StrEnum):
    """What a found key is."""

    SOLD = "sold"
    EXPORTED = "exported"
    HONEY_EXPORT = "honey_export"
    HONEY_PLANTED = "honey_planted"
    ON_SHELF = "on_shelf"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a key came from. `at` is when it was sold, exported or planted; `by` who fetched the export or planted it,
    `asked_by` who asked for the export. `revealed_at` None: its buyer has never opened it.
    """

    origin: Origin
    merchant_id: UUID
    key_id: UUID | None = None
    variant_id: UUID | None = None
    lot_no: int | None = None
    order_id: UUID | None = None
    at: datetime | None = None
    by: UUID | None = None
    asked_by: UUID | None = None
    revealed_at: datetime | None = None
    alert_id: UUID | None = None


# A sold key first: the same content can only be one key of a merchant, but it may be spelled in several ways here.
_TRACE = """
SELECT c.id, c.variant_id, c.lot_no, c.state, c.order_id, c.sold_at, c.revealed_at, c.exported_at,
    h.kind AS honey, h.made_at, h.made_by, a.asked_by, a.approved_by
FROM card_key c LEFT JOIN honey_key h ON h.merchant_id = c.merchant_id AND h.key_id = c.id
LEFT JOIN approval a ON a.id = coalesce(h.export_id, c.export_id)
WHERE c.merchant_id = $1 AND c.hash = ANY($2) ORDER BY c.sold_at NULLS LAST, c.id LIMIT 1
"""


async def trace(merchant_id: UUID, content: str, actor: Actor) -> Trace:
    """Say where a key of this merchant came from. The caller has checked the right; audited, the content never is.

    A honey key rings, and so does one that nobody should have seen: still on the shelf, or sold and never opened.
    Content that a person wrote for one order (`deliverGoods`) has no fingerprint and is UNKNOWN. Errors: InputInvalid.
    """
    check_content(content[: CONTENT_MAX + 1])
    keys = await vault.of_merchant(merchant_id)
    marks = [keys.fingerprint(one.encode()) for one in _spellings(content)]
    async with db.transaction():
        row = await db.row(_TRACE, merchant_id, marks)
        found = _traced(merchant_id, row)
        await audit.record(
            merchant_id,
            actor,
            "key.traced",
            found.key_id or merchant_id,
            origin=str(found.origin),
            order=found.order_id and ids.encode("ord", found.order_id),
        )
        return await _rung(found, actor)


def _spellings(content: str) -> list[str]:
    """As it may have been stored: pasted with blanks, as a quoted CSV cell, with the apostrophe of an export."""
    plain = content.strip()
    spelled = [content, plain]
    if len(plain) > 1 and plain[0] == plain[-1] == '"':
        spelled.append(plain[1:-1].replace('""', '"'))
    return list(dict.fromkeys([*spelled, *(one[1:] for one in spelled if one.startswith("'"))]))


def _traced(merchant_id: UUID, row: Any) -> Trace:
    if row is None:
        return Trace(Origin.UNKNOWN, merchant_id)
    place = (merchant_id, row["id"], row["variant_id"], row["lot_no"])
    if row["honey"] is not None:
        is_export = row["honey"] == "export"
        return Trace(
            Origin.HONEY_EXPORT if is_export else Origin.HONEY_PLANTED,
            *place,
            at=row["made_at"],
            by=row["approved_by"] if is_export else row["made_by"],
            asked_by=row["asked_by"],
        )
    if row["sold_at"] is not None:
        at, seen = row["sold_at"], row["revealed_at"]
        return Trace(Origin.SOLD, *place, row["order_id"], at, revealed_at=seen)
    if row["exported_at"] is not None:
        at, by = row["exported_at"], row["approved_by"]
        return Trace(Origin.EXPORTED, *place, at=at, by=by, asked_by=row["asked_by"])
    return Trace(Origin.ON_SHELF, *place, row["order_id"])


async def _rung(found: Trace, actor: Actor) -> Trace:
    """The trace with the alert it raised, once a day for each key."""
    if found.origin in (Origin.HONEY_EXPORT, Origin.HONEY_PLANTED):
        kind = AlertKind.HONEY_FOUND
    elif found.origin is Origin.ON_SHELF or (
        found.origin is Origin.SOLD and found.revealed_at is None
    ):
        kind = AlertKind.STOCK_LEAKED
    else:
        return found
    facts = {
        "keyId": str(found.key_id),
        "origin": str(found.origin),
        "variantId": found.variant_id and ids.encode("var", found.variant_id),
        "lot": found.lot_no,
    }
    alert_id = await alarms.ring(
        found.merchant_id, kind, f"{found.key_id}:{clock.now():%Y%m%d}", facts, by=actor
    )
    return replace(found, alert_id=alert_id)
