"""Captures: money a provider has taken, written in the state in which the set leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from uuid import UUID

from domain.core import bulk, db
from domain.payments.models import ATTEMPT_COLUMNS, CAPTURE_COLUMNS, Attempt, Capture

_COLUMNS = (
    "id",
    "attempt_id",
    "order_id",
    "merchant_id",
    "lane",
    "provider",
    "provider_account",
    "taken_minor",
    "amount_minor",
    "ccy",
    "source_purpose",
    "state",
    "park_reason",
    "journal_id",
    "captured_at",
)
_values = attrgetter(*_COLUMNS)


async def due(lane: int, limit: int) -> list[Capture]:
    """Captures of a lane that wait for fulfilment; their orders are locked by the caller."""
    rows = await db.fetch(
        f"SELECT {CAPTURE_COLUMNS} FROM capture WHERE lane = $1 AND state = 'captured' ORDER BY id LIMIT $2"
        " FOR NO KEY UPDATE SKIP LOCKED",
        lane,
        limit,
    )
    return [Capture(*row) for row in rows]


async def parked_of(order_ids: Sequence[UUID], reasons: Sequence[str]) -> list[Capture]:
    """Parked captures of locked orders, for the reasons from which a later event frees them."""
    rows = await db.fetch(
        f"SELECT {CAPTURE_COLUMNS} FROM capture WHERE order_id = ANY($1) AND state = 'parked'"
        " AND park_reason = ANY($2) ORDER BY id FOR NO KEY UPDATE",
        list(order_ids),
        list(reasons),
    )
    return [Capture(*row) for row in rows]


async def of_order(order_id: UUID) -> list[Capture]:
    """All captures of an order, oldest first, locked."""
    rows = await db.fetch(
        f"SELECT {CAPTURE_COLUMNS} FROM capture WHERE order_id = $1 ORDER BY id FOR NO KEY UPDATE",
        order_id,
    )
    return [Capture(*row) for row in rows]


# What the buyer still has to do is read and decoded for nothing once the provider has spoken.
_JUDGED_COLUMNS = ATTEMPT_COLUMNS.replace("action_json", "NULL::jsonb")


async def attempts_of(attempt_ids: Sequence[UUID]) -> dict[UUID, Attempt]:
    """Attempts by id, without their next action; read them once their orders are locked."""
    rows = await db.fetch(
        f"SELECT {_JUDGED_COLUMNS} FROM payment_attempt WHERE id = ANY($1)", list(attempt_ids)
    )
    return {row["id"]: Attempt(*row) for row in rows}


async def taken_of(attempt_ids: Sequence[UUID]) -> dict[tuple[UUID, str], int]:
    """What was taken on attempts so far, by attempt and currency, in minor units."""
    rows = await db.fetch(
        "SELECT attempt_id, ccy, max(taken_minor) AS minor FROM capture WHERE attempt_id = ANY($1) GROUP BY 1, 2",
        list(attempt_ids),
    )
    return {(row["attempt_id"], row["ccy"]): row["minor"] for row in rows}


async def store(captures: Sequence[Capture]) -> None:
    """Write captures where the set leaves them: new ones inserted, known ones updated."""
    fresh = [one for one in captures if one.is_new]
    known = [one for one in captures if not one.is_new]
    await bulk.append("capture", _COLUMNS, [_values(one) for one in fresh])
    if known:
        touched = await db.execute(
            "UPDATE capture c SET state = k.state, park_reason = k.reason, source_purpose = k.source,"
            " journal_id = k.journal FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[])"
            " AS k(id, state, reason, source, journal) WHERE c.id = k.id AND c.state <> 'settled'",
            [one.id for one in known],
            [one.state for one in known],
            [one.park_reason for one in known],
            [one.source_purpose for one in known],
            [one.journal_id for one in known],
        )
        assert touched == len(known), (touched, len(known))


async def kept_of(order_ids: Sequence[UUID]) -> dict[UUID, int]:
    """What is kept of each locked order's money in minor units: what is on its way back counts as gone."""
    rows = await db.fetch(
        "SELECT order_id, sum(amount_minor - returned_minor)::bigint AS kept FROM capture"
        " WHERE order_id = ANY($1) AND park_reason IS DISTINCT FROM 'conflicted' GROUP BY 1",
        list(order_ids),
    )
    return {row["order_id"]: row["kept"] for row in rows}


async def free(order_id: UUID, reasons: Sequence[str]) -> int:
    """Send parked captures of a locked order round again (restocked, cleared by risk, delivered by hand)."""
    return await db.execute(
        "UPDATE capture SET state = 'captured', park_reason = NULL"
        " WHERE order_id = $1 AND state = 'parked' AND park_reason = ANY($2)",
        order_id,
        list(reasons),
    )


async def park_culprit(*, no: int | None, capture_id: UUID | None, error: str) -> bool:
    """Set aside the one word or capture that makes a set fail; false when it no longer waits."""
    if no is not None:
        return bool(
            await db.execute(
                "UPDATE inbox_event SET verdict = 'parked', note = $2 WHERE no = $1 AND verdict IS NULL",
                no,
                error[:120],
            )
        )
    return bool(
        await db.execute(
            "UPDATE capture SET state = 'parked', park_reason = 'error', error = $2"
            " WHERE id = $1 AND state = 'captured'",
            capture_id,
            error[:2000],
        )
    )
