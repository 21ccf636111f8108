"""How much is read: reveals from the audit log a few seconds later, exports in the transaction that lets them out.

Buyers who open their own orders are counted for the merchant and never slowed down. The counts are of ten minutes, a
limit looks at the last hour of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.alarms import rules
from domain.alarms.actions import ring
from domain.alarms.queries import refuse_exports
from domain.alarms.rules import EVERYBODY
from domain.core import clock, db
from domain.core.audit import Actor
from domain.core.settings import settings

READER = "alarms.reveals"
READ_MAX = 5_000
# Who opens one order with its key is a buyer, and an app opens what it has sold itself: both count for the merchant
# alone.
_SALES = frozenset({"buyer", "app"})


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Where a read is counted."""

    merchant_id: UUID
    action: str
    actor: str
    bucket_at: datetime


async def count_export(merchant_id: UUID, actor: Actor, keys: int) -> None:
    """Count keys that leave with the caller's transaction, one export of a merchant after the other.

    The one that crosses a limit rings and passes; the next is refused. Errors: ExportsStopped.
    """
    assert db.in_transaction(), "what leaves is counted with it"
    added = _counted([(merchant_id, rules.EXPORTED, actor.kind, actor.id, clock.now(), keys)])
    totals = await _add(added)
    await refuse_exports(
        merchant_id
    )  # after the lock of the count: the export before this one has committed
    await _look(added, totals)


async def watch_reveals(*, limit: int = READ_MAX) -> int:
    """Count the next stretch of reveals in the audit log and ring where a limit is crossed; how many rows were read.

    Position and counts commit together. Rows are followed behind the oldest running transaction, so none is missed.
    """
    async with db.transaction():
        await db.execute(
            "INSERT INTO event_reader (name, txid, no) VALUES ($1, '0', 0) ON CONFLICT DO NOTHING",
            READER,
        )
        at = await db.row(
            "SELECT txid::text AS txid, no FROM event_reader WHERE name = $1 FOR NO KEY UPDATE",
            READER,
        )
        assert at is not None
        rows = await db.fetch(
            "SELECT merchant_id, action, actor_kind, actor_id, recorded_at, txid::text AS txid, no FROM audit_log"
            " WHERE (txid, no) > ($1::text::xid8, $2) AND txid < pg_snapshot_xmin(pg_current_snapshot())"
            " ORDER BY txid, no LIMIT $3",
            at["txid"],
            at["no"],
            limit,
        )
        if not rows:
            return 0
        since = clock.now() - rules.WINDOW - rules.BUCKET
        added = _counted(
            (
                row["merchant_id"],
                row["action"],
                row["actor_kind"],
                row["actor_id"],
                row["recorded_at"],
                1,
            )
            for row in rows
            if row["action"] == rules.REVEALED and row["recorded_at"] > since
        )
        await _look(added, await _add(added))
        await db.execute(
            "UPDATE event_reader SET txid = $2::text::xid8, no = $3, moved_at = clock_timestamp() WHERE name = $1",
            READER,
            rows[-1]["txid"],
            rows[-1]["no"],
        )
        return len(rows)


def _counted(reads: Iterable[tuple[UUID, str, str, str, datetime, int]]) -> Counter[_Place]:
    found: Counter[_Place] = Counter()
    for merchant_id, action, kind, who, at, n in reads:
        bucket = rules.bucket(at)
        found[_Place(merchant_id, action, EVERYBODY, bucket)] += n
        if kind not in _SALES:
            found[_Place(merchant_id, action, f"{kind}:{who}", bucket)] += n
    return +found


_ADD = """
INSERT INTO read_count AS r (merchant_id, action, actor, bucket_at, n)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[])
ON CONFLICT (merchant_id, action, actor, bucket_at) DO UPDATE SET n = r.n + excluded.n
"""
_TOTALS = """
SELECT t.place, sum(r.n)::bigint AS total
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[])
    WITH ORDINALITY AS t(merchant_id, action, actor, bucket_at, place)
JOIN read_count r USING (merchant_id, action, actor)
WHERE r.bucket_at > t.bucket_at - $5::interval AND r.bucket_at <= t.bucket_at GROUP BY 1
"""


async def _add(added: Counter[_Place]) -> dict[_Place, int]:
    """Count, in the order of the places, so that nobody waits in a circle; the totals of the hour that ends there."""
    places = sorted(added)
    if not places:
        return {}
    columns: list[list[Any]] = [
        [one.merchant_id for one in places],
        [one.action for one in places],
        [one.actor for one in places],
        [one.bucket_at for one in places],
    ]
    await db.execute(_ADD, *columns, [added[one] for one in places])
    rows = await db.fetch(_TOTALS, *columns, rules.WINDOW)
    return {places[row["place"] - 1]: row["total"] for row in rows}


async def _look(added: Counter[_Place], totals: dict[_Place, int]) -> None:
    """Ring for each limit that was crossed."""
    for place in sorted(totals):
        is_account = place.actor != EVERYBODY
        for limit in rules.LIMITS:
            if (limit.action, limit.per_account) != (place.action, is_account):
                continue
            most = int(getattr(settings(), limit.setting))
            level = rules.crossed(totals[place], added[place], most)
            if level:
                kind, _, who = place.actor.partition(":")
                await ring(
                    place.merchant_id,
                    limit.kind,
                    f"{place.actor or '*'}:{place.bucket_at:%Y%m%d%H%M}:{level}",
                    {
                        "count": totals[place],
                        "limit": most,
                        "per": "account" if is_account else "merchant",
                    },
                    by=Actor(kind, who) if is_account else None,
                )
