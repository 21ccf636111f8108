"""The one event log: what happened to an order, once, in order, for everyone who wants to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from domain.core import bell, bulk, db

READ_MAX = 500


class Event(NamedTuple):
    """One fact of an order; `sequence` counts from 1 per order and is taken under the order row's lock."""

    order_id: UUID
    merchant_id: UUID
    sequence: int
    kind: str
    facts: Mapping[str, Any] = {}
    recorded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A commit-safe place in the whole log: everything up to it has been seen, nothing can appear before it."""

    txid: int
    no: int


async def record(*events: Event) -> None:
    """Write events inside the caller's transaction; subscribers are woken after it commits."""
    assert db.in_transaction(), "an event commits with the change it tells of"
    if not events:
        return
    await bulk.append(
        "event_log",
        ("order_id", "merchant_id", "sequence", "kind", "facts_json"),
        [event[:5] for event in events],
    )
    announce(*{event.order_id for event in events})


def announce(*order_ids: UUID) -> None:
    """Wake who watches these orders, once the caller's transaction has committed."""
    db.after_commit(lambda: bell.ring(bell.ORDERS, *order_ids))


def _event(row: db.Record) -> Event:
    return Event(
        row["order_id"],
        row["merchant_id"],
        row["sequence"],
        row["kind"],
        row["facts_json"],
        row["recorded_at"],
    )


_COLUMNS = "order_id, merchant_id, sequence, kind, facts_json, recorded_at"


async def follow(reader: str, *, limit: int = READ_MAX) -> tuple[Sequence[Event], Position | None]:
    """The next events for a named reader of the whole log, and the position to `advance` to.

    Takes a row lock on the reader, so two workers never read the same stretch; call inside a transaction.
    """
    assert db.in_transaction(), "the position moves with the effect of what was read"
    await db.execute(
        "INSERT INTO event_reader (name, txid, no) VALUES ($1, '0', 0) ON CONFLICT DO NOTHING",
        reader,
    )
    at = await db.row(
        "SELECT txid::text::bigint AS txid, no FROM event_reader WHERE name = $1 FOR NO KEY UPDATE",
        reader,
    )
    assert at is not None
    rows = await db.fetch(
        f"SELECT {_COLUMNS}, txid::text::bigint AS txid, no FROM event_log"
        " WHERE (txid, no) > ($1::text::xid8, $2) AND txid < pg_snapshot_xmin(pg_current_snapshot())"
        " ORDER BY txid, no LIMIT $3",
        str(at["txid"]),
        at["no"],
        limit,
    )
    position = Position(rows[-1]["txid"], rows[-1]["no"]) if rows else None
    return [_event(row) for row in rows], position


async def advance(reader: str, position: Position) -> None:
    """Remember that `reader` has dealt with everything up to `position`, in the same transaction."""
    await db.execute(
        "UPDATE event_reader SET txid = $2::text::xid8, no = $3, moved_at = clock_timestamp() WHERE name = $1",
        reader,
        str(position.txid),
        position.no,
    )


class Place(NamedTuple):
    """A place in the log of one merchant: behind this event, of those that are told at (txid, no)."""

    txid: int
    no: int
    sequence: int


SEQUENCE_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Stretch:
    """What follows a place: events each with its own place, and how far the log is read now.

    `has_more`: there is more to read at once. `is_waiting`: something is written that may not be told before an
    older transaction is over.
    """

    events: Sequence[tuple[Place, Event]]
    upto: Place
    has_more: bool
    is_waiting: bool


async def edge() -> Place:
    """The place of now: whatever commits from here on, and everything that is still running, comes behind it."""
    xmin = await db.value("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    return Place(xmin, 0, 0)


# A later event of an order may lie earlier in the log (its transaction began earlier and waited for the order's row).
# So an event is told where the last of those up to it lies: the order's own order is kept, and the place is one that
# never changes once it is behind the oldest running transaction.
_STRETCHES = """
WITH edge AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin),
asked AS (
    SELECT place, merchant_id, txid, no, sequence
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::int[])
        WITH ORDINALITY AS t(merchant_id, txid, no, sequence, place)),
raw AS MATERIALIZED (
    SELECT a.place, r.order_id, r.txid, r.no FROM asked a CROSS JOIN LATERAL (
        SELECT e.order_id, e.txid, e.no FROM event_log e
        WHERE e.merchant_id = a.merchant_id AND (e.txid, e.no) >= (a.txid::text::xid8, a.no)
            AND e.txid < (SELECT xmin FROM edge)
        ORDER BY e.txid, e.no LIMIT $5) r),
upto AS (
    SELECT place, max(ARRAY[txid::text::bigint, no]) AS upto, count(*) AS count FROM raw GROUP BY place),
told AS (
    SELECT i.place, e.order_id, e.sequence, e.kind, e.recorded_at,
        max(ARRAY[e.txid::text::bigint, e.no]) OVER (PARTITION BY i.place, e.order_id ORDER BY e.sequence) AS at
    FROM (SELECT DISTINCT place, order_id FROM raw) i JOIN event_log e ON e.order_id = i.order_id)
SELECT a.place, u.upto, u.count, a.merchant_id,
    EXISTS (SELECT FROM event_log e WHERE e.merchant_id = a.merchant_id
            AND e.txid >= (SELECT xmin FROM edge)) AS is_waiting,
    (SELECT json_agg(json_build_array(t.at[1], t.at[2], t.sequence, t.order_id, t.kind, t.recorded_at)
                     ORDER BY t.at, t.sequence)
     FROM told t WHERE t.place = a.place AND t.at <= u.upto
        AND (t.at > ARRAY[a.txid, a.no] OR (t.at = ARRAY[a.txid, a.no] AND t.sequence > a.sequence))) AS news
FROM asked a LEFT JOIN upto u ON u.place = a.place ORDER BY a.place
"""


async def stretches(asked: Sequence[tuple[UUID, Place]], *, limit: int = READ_MAX) -> list[Stretch]:
    """What follows each (merchant, place): one statement however many. Nothing is skipped, orders keep their order.

    `facts` of the events are left out. `limit` bounds what is read of each.
    """
    assert limit > 1, "the event at the place itself is read with what follows it"
    rows = await db.fetch(
        _STRETCHES,
        [merchant_id for merchant_id, _ in asked],
        [place.txid for _, place in asked],
        [place.no for _, place in asked],
        [place.sequence for _, place in asked],
        limit,
    )
    return [_stretch(row, place, limit) for row, (_, place) in zip(rows, asked, strict=True)]


def _stretch(row: db.Record, place: Place, limit: int) -> Stretch:
    found = [
        (
            Place(txid, no, sequence),
            Event(
                UUID(order_id),
                row["merchant_id"],
                sequence,
                kind,
                recorded_at=datetime.fromisoformat(recorded),
            ),
        )
        for txid, no, sequence, order_id, kind, recorded in row["news"] or ()
    ]
    # Whatever is told at this place was behind the oldest running transaction, so nothing can join it.
    upto = place if row["upto"] is None else Place(row["upto"][0], row["upto"][1], SEQUENCE_MAX)
    return Stretch(found, upto, row["count"] == limit, row["is_waiting"])


async def floor() -> datetime:
    """Since when the log is whole: months are dropped, the oldest first."""
    oldest = await db.value(
        "SELECT min(c.relname::text) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'event_log'::regclass"
    )
    assert oldest is not None, "the timetable makes the months"
    return datetime.strptime(oldest.rpartition("_")[2], "%Y%m").replace(tzinfo=UTC)
