"""Money exceptions: a doubtful money fact is a row that a person sees until it is explained.

Some explain themselves in time: what was too much went back, what was short was delivered. Those close without a
person; the others close by one in finance, with a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from domain.core import audit, db
from domain.core.audit import Actor
from domain.core.errors import DomainError, FieldInvalid, NotFound
from domain.core.ids import uuid7
from domain.core.money import Money
from domain.payments.models import Capture
from domain.settlement.models import MoneyException

NOTE_MAX = 500
SYSTEM = "system"
_COLUMNS = (
    "id, kind, merchant_id, order_id, amount_minor, ccy, facts_json, state, note, opened_at, closed_at,"
    " closed_by"
)


class Closing(StrEnum):
    """How an exception ends."""

    RESOLVED = "resolved"  # it is explained and put right
    ACCEPTED = "accepted"  # it stays as it is, and that is known


class ExceptionClosed(DomainError):
    """Somebody has closed it already; `closed_as` says how."""

    code = "EXCEPTION_CLOSED"


async def open_exception(
    kind: str,
    *,
    capture: Capture | None = None,
    merchant_id: UUID | None = None,
    order_id: UUID | None = None,
    amount: Money | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Make a doubtful money fact visible to a person, once per kind, order, capture and facts; again after it closed.

    Joins the caller's transaction. A `capture` says whose and how much; without one the others may.
    """
    if capture is not None:
        merchant_id, order_id = capture.merchant_id, capture.order_id
        amount = Money(capture.amount_minor, capture.ccy)
    await db.execute(
        "INSERT INTO money_exception (id, kind, merchant_id, order_id, capture_id, amount_minor, ccy, facts_json)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
        " ON CONFLICT (kind, order_id, capture_id, facts_json) DO UPDATE"
        " SET state = 'open', closed_at = NULL, closed_by = NULL WHERE money_exception.state = 'resolved'",
        uuid7(),
        kind,
        merchant_id,
        order_id,
        capture.id if capture else None,
        amount.minor if amount else None,
        amount.currency if amount else None,
        dict(facts or {}),
    )


async def exceptions(
    merchant_ids: Sequence[UUID] | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
    *,
    backward: bool = False,
) -> list[MoneyException]:
    """Open exceptions of these merchants (None: of everyone), oldest first, behind the key `after`."""
    sign, order = ("<", "DESC") if backward else (">", "ASC")
    at, exception_id = after or (None, None)
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM money_exception"
        " WHERE state = 'open' AND ($1::uuid[] IS NULL OR merchant_id = ANY($1))"
        f" AND ($2::timestamptz IS NULL OR (opened_at, id) {sign} ($2, $3::uuid))"
        f" ORDER BY opened_at {order}, id {order} LIMIT $4",
        None if merchant_ids is None else list(merchant_ids),
        at,
        exception_id,
        limit,
    )
    return [MoneyException(*row) for row in rows]


async def find_exception(exception_id: UUID) -> MoneyException | None:
    """One exception, open or closed."""
    row = await db.row(f"SELECT {_COLUMNS} FROM money_exception WHERE id = $1", exception_id)
    return MoneyException(*row) if row else None


async def close_exception(
    exception_id: UUID, closing: Closing, note: str, *, actor: Actor
) -> MoneyException:
    """A person has dealt with an exception, or accepts it as it is; audited. Joins the caller's transaction.

    No money moves by it. Errors: NotFound, ExceptionClosed, FieldInvalid (note).
    """
    if not note.strip() or len(note) > NOTE_MAX or not note.isprintable():
        raise FieldInvalid(path=("input", "note"), reason="length", max=NOTE_MAX)
    async with db.transaction():
        row = await db.row(
            "UPDATE money_exception SET state = $2, note = $3, closed_at = clock_timestamp(), closed_by = $4"
            f" WHERE id = $1 AND state = 'open' RETURNING {_COLUMNS}",
            exception_id,
            closing.value,
            note,
            actor.id,
        )
        if row is None:
            found = await find_exception(exception_id)
            if found is None:
                raise NotFound(path=("input", "id"))
            raise ExceptionClosed(closed_as=found.state.upper())
        closed = MoneyException(*row)
        await audit.record(
            closed.merchant_id,
            actor,
            "exception.close",
            exception_id,
            kind=closed.kind,
            closing=closing.value,
            note=note,
        )
        return closed


# The order has come to an end that answers the question.
_DONE = "EXISTS (SELECT FROM orders o WHERE o.id = e.order_id AND o.status IN ('delivered', 'refunded'))"
_GONE_BACK = """
EXISTS (SELECT FROM capture c LEFT JOIN capture_leg l ON l.capture_id = c.id AND l.leg = 'surplus'
    WHERE c.id = e.capture_id AND (c.returned_minor = c.amount_minor OR l.returned_minor = l.amount_minor))
AND NOT EXISTS (SELECT FROM refund r WHERE r.capture_id = e.capture_id
    AND r.state IN ('created', 'submitted', 'pending', 'review'))
"""
_SENT_AFTER_ALL = """
EXISTS (SELECT FROM refund r WHERE r.order_id = e.order_id AND r.state = 'succeeded' AND r.ccy = e.ccy
    AND r.done_at > e.opened_at AND r.amount_minor >= e.amount_minor)
"""
_SETTLED = "EXISTS (SELECT FROM capture c WHERE c.id = e.capture_id AND c.state = 'settled')"
EXPLAINED: Mapping[str, str] = {
    "short": _DONE,
    "unauthenticated": _DONE,
    "supply_refused": _DONE,
    "surplus": _GONE_BACK,
    "refund_failed": _SENT_AFTER_ALL,
    "unfulfillable": f"({_SETTLED} OR ({_GONE_BACK}))",
}
_CLOSE = (
    "UPDATE money_exception e SET state = 'resolved', closed_at = clock_timestamp(), closed_by = $1 WHERE "
    + (
        "e.state = 'open' AND ("
        + " OR ".join(f"(e.kind = '{kind}' AND {answer})" for kind, answer in EXPLAINED.items())
        + ")"
    )
)


async def close_explained() -> int:
    """Close what has explained itself since; how many."""
    return await db.execute(_CLOSE, SYSTEM)
