"""Deliveries owed: the event log is read into one row per endpoint and event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from domain.core import db, events, ids
from domain.core.events import Event

READER = "webhooks"


async def collect(*, limit: int = events.READ_MAX) -> int:
    """Read the next stretch of the event log into deliveries owed; how many events were read, 0 at its end.

    Position and deliveries commit together, and there is one row per endpoint and event however often this runs.
    Inside one order a later event may lie earlier in the log: what precedes it is taken along, so that no event is
    owed before those ahead of it.
    """
    async with db.transaction():
        read, position = await events.follow(READER, limit=limit)
        if position is None:
            return 0
        wanted = await _subscribed({event.merchant_id for event in read})
        told = [event for event in read if event.merchant_id in wanted]
        if told:
            told += await _skipped(told, position)
            await _owe(
                [
                    (endpoint_id, event)
                    for event in told
                    for endpoint_id, kinds in wanted[event.merchant_id]
                    if not kinds or event.kind in kinds
                ]
            )
        await events.advance(READER, position)
        return len(read)


async def _subscribed(merchant_ids: set[UUID]) -> dict[UUID, list[tuple[UUID, frozenset[str]]]]:
    rows = await db.fetch(
        "SELECT id, merchant_id, kinds FROM webhook_endpoint WHERE merchant_id = ANY($1)"
        " AND deleted_at IS NULL AND state <> 'disabled'",
        list(merchant_ids),
    )
    found: dict[UUID, list[tuple[UUID, frozenset[str]]]] = defaultdict(list)
    for row in rows:
        found[row["merchant_id"]].append((row["id"], frozenset(row["kinds"])))
    return found


async def _skipped(told: Sequence[Event], position: events.Position) -> list[Event]:
    """Events of these orders that precede one of `told` and come later in the log."""
    last: dict[UUID, int] = {}
    for event in told:
        last[event.order_id] = max(event.sequence, last.get(event.order_id, 0))
    rows = await db.fetch(
        "SELECT e.order_id, e.merchant_id, e.sequence, e.kind, e.facts_json, e.recorded_at"
        " FROM unnest($1::uuid[], $2::int[]) AS l(order_id, sequence)"
        " JOIN event_log e ON e.order_id = l.order_id AND e.sequence < l.sequence"
        " WHERE (e.txid, e.no) > ($3::text::xid8, $4)",
        list(last),
        list(last.values()),
        str(position.txid),
        position.no,
    )
    return [Event(*row) for row in rows]


async def _owe(pairs: Sequence[tuple[UUID, Event]]) -> None:
    if not pairs:
        return
    ordered = sorted(pairs, key=lambda pair: (pair[1].order_id, pair[1].sequence))
    await db.execute(
        "INSERT INTO webhook_delivery (id, endpoint_id, merchant_id, order_id, sequence, kind, occurred_at)"
        " SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::text[],"
        " $7::timestamptz[]) ON CONFLICT DO NOTHING",
        sorted(ids.uuid7() for _ in ordered),  # within a millisecond too, the list keeps this order
        [endpoint_id for endpoint_id, _ in ordered],
        [event.merchant_id for _, event in ordered],
        [event.order_id for _, event in ordered],
        [event.sequence for _, event in ordered],
        [event.kind for _, event in ordered],
        [event.recorded_at for _, event in ordered],
    )
