"""Goods that do not work: said by their buyer once per good, decided once; the rows and what they are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.core import db, ids
from domain.core.errors import DomainError, NotFound
from domain.core.money import Money


class ReportState(StrEnum):
    """E17: open → confirmed → replaced; open → replaced; open → refused."""

    OPEN = "open"
    CONFIRMED = "confirmed"  # it is dead, and nothing has taken its place yet
    REPLACED = "replaced"
    REFUSED = "refused"


SOURCES = {
    ReportState.CONFIRMED: (ReportState.OPEN,),
    ReportState.REPLACED: (ReportState.OPEN, ReportState.CONFIRMED),
    ReportState.REFUSED: (ReportState.OPEN,),
}


class GoodNotReportable(DomainError):
    """It was not seen yet, is not of this line, or its buyer has no right to it any more."""

    code = "GOOD_NOT_REPORTABLE"


class ReportClosed(DomainError):
    """Somebody has decided about this report already; `decided` is what they said."""

    code = "REPORT_CLOSED"


@dataclass(frozen=True, slots=True)
class GoodReport:
    """A buyer's word on one good; `good_id` is a card key, or the line of a reusable one."""

    id: UUID
    merchant_id: UUID
    order_id: UUID
    line_id: UUID
    good_id: UUID
    reason: str
    state: ReportState
    note: str
    reported_at: datetime
    decided_at: datetime | None

    @property
    def is_reusable(self) -> bool:
        """Whether it is content that every buyer gets: no other one is in the pool."""
        return self.good_id == self.line_id


@dataclass(frozen=True, slots=True)
class Origin:
    """The supplier a good was bought from, and what it cost where that is known."""

    supplier: str
    supply_id: UUID | None
    cost: Money | None


_COLUMNS = "id, merchant_id, order_id, order_line_id, good_id, reason, state, note, reported_at, decided_at"


def _report(row: db.Record) -> GoodReport:
    values = list(row)
    values[6] = ReportState(values[6])
    return GoodReport(*values)


async def reportable(order_id: UUID, merchant_id: UUID, line_id: UUID) -> list[UUID]:
    """The goods of a line that its buyer has seen and still has the right to."""
    rows = await db.fetch(
        "SELECT id FROM card_key WHERE order_id = $1 AND merchant_id = $2 AND order_line_id = $3"
        " AND state = 'sold' AND revealed_at IS NOT NULL"
        " UNION ALL SELECT order_line_id FROM reusable_use WHERE order_id = $1 AND merchant_id = $2"
        " AND order_line_id = $3 AND state = 'sold' AND revealed_at IS NOT NULL",
        order_id,
        merchant_id,
        line_id,
    )
    return [row["id"] for row in rows]


async def report(
    merchant_id: UUID, order_id: UUID, line_id: UUID, good_id: UUID, reason: str
) -> tuple[GoodReport, bool]:
    """Write that a good of a locked order does not work: the report, and whether it is the first of this good."""
    row = await db.row(
        "INSERT INTO good_report (id, merchant_id, order_id, order_line_id, good_id, reason)"
        f" VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (good_id) DO NOTHING RETURNING {_COLUMNS}",
        ids.uuid7(),
        merchant_id,
        order_id,
        line_id,
        good_id,
        reason,
    )
    if row is not None:
        return _report(row), True
    row = await db.row(f"SELECT {_COLUMNS} FROM good_report WHERE good_id = $1", good_id)
    assert row is not None, good_id
    return _report(row), False


async def find_report(report_id: UUID) -> GoodReport:
    """One report. Errors: NotFound."""
    row = await db.row(f"SELECT {_COLUMNS} FROM good_report WHERE id = $1", report_id)
    if row is None:
        raise NotFound(path=("input", "reportId"))
    return _report(row)


async def decide(report_id: UUID, state: ReportState, *, decided_by: str, note: str) -> bool:
    """Decide about a report; false when it had been decided so before. Errors: ReportClosed, NotFound."""
    moved = await db.execute(
        "UPDATE good_report SET state = $2, decided_by = $3, note = $4, decided_at = clock_timestamp()"
        " WHERE id = $1 AND state = ANY($5)",
        report_id,
        state,
        decided_by,
        note,
        list(SOURCES[state]),
    )
    if moved:
        return True
    found = await find_report(report_id)
    if found.state is not state:
        raise ReportClosed(decided=found.state.upper())
    return False


async def open_reports(
    merchant_ids: Sequence[UUID] | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
    *,
    backward: bool = False,
) -> list[GoodReport]:
    """Reports that wait for these merchants (None: for everyone), oldest first, behind the key `after`."""
    sign, order = ("<", "DESC") if backward else (">", "ASC")
    at, report_id = after or (None, None)
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM good_report WHERE state IN ('open', 'confirmed')"
        " AND ($1::uuid[] IS NULL OR merchant_id = ANY($1))"
        f" AND ($2::timestamptz IS NULL OR (reported_at, id) {sign} ($2, $3::uuid))"
        f" ORDER BY reported_at {order}, id {order} LIMIT $4",
        None if merchant_ids is None else list(merchant_ids),
        at,
        report_id,
        limit,
    )
    return [_report(row) for row in rows]


async def origin_of(merchant_id: UUID, good_id: UUID) -> Origin | None:
    """Who sold us a card key; None for goods that the merchant brought in."""
    row = await db.row(
        "SELECT coalesce(s.supplier, v.supplier) AS supplier, s.id, l.cost_minor, l.currency"
        " FROM card_key k JOIN variant v ON v.merchant_id = k.merchant_id AND v.id = k.variant_id"
        " LEFT JOIN supply s ON s.merchant_id = k.merchant_id AND s.order_line_id = k.order_line_id"
        " LEFT JOIN stock_lot l ON l.merchant_id = k.merchant_id AND l.no = k.lot_no"
        " WHERE k.merchant_id = $1 AND k.id = $2 AND v.delivery = 'supplier'",
        merchant_id,
        good_id,
    )
    if row is None:
        return None
    cost = Money(row["cost_minor"], row["currency"]) if row["currency"] else None
    return Origin(row["supplier"], row["id"], cost)
