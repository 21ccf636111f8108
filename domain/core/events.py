"""The one event log: what happened to an order, once, in order, for everyone who wants to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
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
