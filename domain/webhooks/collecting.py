"""Deliveries owed: the event log is read into one row per endpoint and event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
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
                    (one, event)
                    for event in told
                    for one in wanted[event.merchant_id]
                    if one.wants(event)
                ]
            )
        await events.advance(READER, position)
        return len(read)


class Subscriber(NamedTuple):
    """An endpoint that wants events of a merchant: of these kinds, under a grant from its beginning on."""

    endpoint_id: UUID
    kinds: frozenset[str]
    grant_id: UUID | None
    since: datetime | None

    def wants(self, event: Event) -> bool:
        """Whether an event is told to it."""
        if self.kinds and event.kind not in self.kinds:
            return False
        assert event.recorded_at is not None
        return self.since is None or event.recorded_at >= self.since


# A merchant's own endpoints, and those of apps that somebody who is a member let in, with enough scopes.
_SUBSCRIBED = """
SELECT e.merchant_id, e.id, e.kinds, NULL::uuid AS grant_id, NULL::timestamptz AS since FROM webhook_endpoint e
WHERE e.merchant_id = ANY($1) AND e.app_id IS NULL AND e.deleted_at IS NULL AND e.state <> 'disabled'
UNION ALL
SELECT g.merchant_id, e.id, e.kinds, g.id, g.created_at FROM app_grant g
JOIN partner_app a ON a.id = g.app_id AND a.state = 'active'
JOIN account p ON p.id = g.account_id AND p.state = 'open'
JOIN membership m ON m.merchant_id = g.merchant_id AND m.account_id = g.account_id
JOIN webhook_endpoint e ON e.app_id = a.id AND e.deleted_at IS NULL AND e.state <> 'disabled'
WHERE g.merchant_id = ANY($1) AND g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > clock_timestamp())
    AND e.scopes <@ g.scopes AND e.scopes <@ a.scopes
"""


async def _subscribed(merchant_ids: set[UUID]) -> dict[UUID, list[Subscriber]]:
    found: dict[UUID, list[Subscriber]] = defaultdict(list)
    for row in await db.fetch(_SUBSCRIBED, list(merchant_ids)):
        found[row["merchant_id"]].append(
            Subscriber(row["id"], frozenset(row["kinds"]), row["grant_id"], row["since"])
        )
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


async def _owe(pairs: Sequence[tuple[Subscriber, Event]]) -> None:
    if not pairs:
        return
    ordered = sorted(pairs, key=lambda pair: (pair[1].order_id, pair[1].sequence))
    await db.execute(
        "INSERT INTO webhook_delivery (id, endpoint_id, merchant_id, order_id, sequence, kind, occurred_at,"
        " grant_id) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::text[],"
        " $7::timestamptz[], $8::uuid[]) ON CONFLICT DO NOTHING",
        sorted(ids.uuid7() for _ in ordered),  # within a millisecond too, the list keeps this order
        [one.endpoint_id for one, _ in ordered],
        [event.merchant_id for _, event in ordered],
        [event.order_id for _, event in ordered],
        [event.sequence for _, event in ordered],
        [event.kind for _, event in ordered],
        [event.recorded_at for _, event in ordered],
        [one.grant_id for one, _ in ordered],
    )
