"""What became of deliveries, and what it makes of their endpoints; and what is forgotten in the end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog

from domain.core import db, promises
from domain.webhooks import granted, rules
from domain.webhooks.models import Claimed, Result
from domain.webhooks.rules import DeliveryState, DisabledReason, EndpointState, Verdict

DISABLED_TASK = "webhooks.disabled"
ANSWER_MAX = 2_000
PRUNE_MAX = 20_000
KEEP_DAYS = 30

_log = structlog.get_logger(__name__)


_FINISH = """
UPDATE webhook_delivery d SET state = t.state, code = t.code, error = nullif(t.error, ''),
    due_at = CASE WHEN t.state = 'ready' THEN clock_timestamp() + make_interval(secs => t.wait_s) ELSE d.due_at END,
    done_at = CASE WHEN t.state = 'ready' THEN NULL ELSE clock_timestamp() END
FROM unnest($1::uuid[], $2::int[], $3::text[], $4::smallint[], $5::text[], $6::float8[])
    AS t(id, fence, state, code, error, wait_s)
WHERE d.id = t.id AND d.fence = t.fence AND d.state = 'leased' RETURNING d.id
"""
_CALL_BACK = """
UPDATE webhook_delivery d SET due_at = clock_timestamp()
FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS t(endpoint_id, order_id, sequence)
WHERE d.endpoint_id = t.endpoint_id AND d.order_id = t.order_id AND d.sequence > t.sequence AND d.state = 'ready'
    AND d.tries = 0 AND d.due_at > clock_timestamp()
"""


async def finish(results: Sequence[Result]) -> int:
    """Write what became of leased deliveries and what it means for their endpoints; how many still were ours.

    A result whose lease was lost meanwhile changes nothing. One transaction for all.
    """
    if not results:
        return 0
    decided = [(one, *_decide(one)) for one in results]

    async def act() -> int:
        async with db.transaction():
            rows = await db.fetch(
                _FINISH,
                [one.claimed.id for one, _, _ in decided],
                [one.claimed.fence for one, _, _ in decided],
                [str(state) for _, state, _ in decided],
                [one.reply.code for one, _, _ in decided],
                [one.reply.error for one, _, _ in decided],
                [wait_s for _, _, wait_s in decided],
            )
            ours = {row["id"] for row in rows}
            kept = [(one, state) for one, state, _ in decided if one.claimed.id in ours]
            await _log_attempts([one for one, state in kept if state is not DeliveryState.SKIPPED])
            done = [one.claimed for one, state in kept if state is not DeliveryState.READY]
            await db.execute(
                _CALL_BACK,
                [one.endpoint.id for one in done],
                [one.event.order_id for one in done],
                [one.event.sequence for one in done],
            )
            await _judge(kept)
            return len(ours)

    return await db.retried(act)


def _decide(result: Result) -> tuple[DeliveryState, float]:
    if result.state is not None:
        return result.state, 0.0
    tries, reply = result.claimed.tries, result.reply
    verdict = rules.verdict(reply.code, tries)
    if verdict is Verdict.DELIVERED:
        return DeliveryState.DELIVERED, 0.0
    if verdict is Verdict.LATER:
        wait_s = rules.wait_s(tries, random.random(), reply.retry_after_s)
        return DeliveryState.READY, wait_s
    return DeliveryState.DEAD, 0.0


async def _log_attempts(results: Sequence[Result]) -> None:
    await db.insert(
        "webhook_attempt",
        ("endpoint_id", "delivery_id", "round", "try", "code", "error", "answer", "took_ms"),
        [
            (
                one.claimed.endpoint.id,
                one.claimed.id,
                one.claimed.round,
                one.claimed.tries,
                one.reply.code,
                one.reply.error,
                one.reply.text[:ANSWER_MAX],
                one.reply.took_ms,
            )
            for one in results
        ],
    )


_JUDGE = """
UPDATE webhook_endpoint e SET
    dead_in_row = CASE WHEN t.is_reset THEN 0 ELSE e.dead_in_row END + t.dead,
    state = CASE WHEN t.reason <> '' OR
                (CASE WHEN t.is_reset THEN 0 ELSE e.dead_in_row END) + t.dead >= $6 THEN 'disabled'
            WHEN t.is_failing THEN 'failing' ELSE 'active' END,
    reason = CASE WHEN t.reason <> '' THEN t.reason
            WHEN (CASE WHEN t.is_reset THEN 0 ELSE e.dead_in_row END) + t.dead >= $6 THEN 'failures' END,
    paused_until = CASE WHEN t.pause_s > 0 THEN clock_timestamp() + make_interval(secs => t.pause_s)
        WHEN t.is_failing THEN e.paused_until END,
    changed_at = clock_timestamp()
FROM unnest($1::uuid[], $2::bool[], $3::bool[], $4::int[], $5::text[], $7::float8[])
    AS t(id, is_reset, is_failing, dead, reason, pause_s)
WHERE e.id = t.id AND e.state <> 'disabled' AND e.deleted_at IS NULL
    AND (t.dead > 0 OR t.reason <> '' OR t.pause_s > 0 OR (t.is_failing AND e.state = 'active')
        OR (NOT t.is_failing AND (e.state = 'failing' OR e.dead_in_row > 0)))
RETURNING e.id, e.state, e.version
"""


async def _judge(kept: Sequence[tuple[Result, DeliveryState]]) -> None:
    """Move endpoints by what they answered, in the order in which they did (M29)."""
    marks: dict[UUID, dict[str, Any]] = {}
    for result, state in kept:
        if state is DeliveryState.SKIPPED:
            continue
        mark = marks.setdefault(
            result.claimed.endpoint.id,
            {"is_reset": False, "is_failing": False, "dead": 0, "reason": "", "pause_s": 0.0},
        )
        if state is DeliveryState.DELIVERED:
            mark.update(is_reset=True, is_failing=False, dead=0)
            continue
        mark["is_failing"] = True
        mark["dead"] += state is DeliveryState.DEAD
        if result.reply.code == 410:
            mark["reason"] = DisabledReason.GONE.value
        elif state is DeliveryState.DEAD and result.state is None:
            mark["reason"] = mark["reason"] or DisabledReason.FAILURES.value
        wish = min(result.reply.retry_after_s or 0.0, rules.RETRY_AFTER_MAX_S)
        mark["pause_s"] = max(mark["pause_s"], wish)
    if not marks:
        return
    order = sorted(marks)
    if any(mark["is_failing"] for mark in marks.values()):
        # Two sets may judge the same endpoints: locks in one order.
        await db.execute(
            "SELECT FROM webhook_endpoint WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", order
        )
    rows = await db.fetch(
        _JUDGE,
        order,
        [marks[one]["is_reset"] for one in order],
        [marks[one]["is_failing"] for one in order],
        [marks[one]["dead"] for one in order],
        [marks[one]["reason"] for one in order],
        rules.DEAD_IN_ROW_MAX,
        [marks[one]["pause_s"] for one in order],
    )
    for row in rows:
        if row["state"] == EndpointState.DISABLED:
            _log.warning("webhook.disabled", endpoint_id=str(row["id"]))
            await promises.promise("general", DISABLED_TASK, row["id"])


async def release(claimed: Sequence[Claimed]) -> int:
    """Give back what was leased and never sent: due at once, the try does not count."""
    if not claimed:
        return 0
    return await db.execute(
        "UPDATE webhook_delivery d SET state = 'ready', tries = d.tries - 1"
        " FROM unnest($1::uuid[], $2::int[]) AS t(id, fence)"
        " WHERE d.id = t.id AND d.fence = t.fence AND d.state = 'leased'",
        [one.id for one in claimed],
        [one.fence for one in claimed],
    )


async def sweep() -> int:
    """Give back deliveries whose worker vanished, and skip what is owed under grants that are over; how many.

    What is given back goes out again under the same id.
    """
    return await granted.drop() + await db.execute(
        "UPDATE webhook_delivery SET state = CASE WHEN tries >= $1 THEN 'dead' ELSE 'ready' END,"
        " error = 'worker_vanished', done_at = CASE WHEN tries >= $1 THEN clock_timestamp() END"
        " WHERE state = 'leased' AND lease_until < clock_timestamp()",
        rules.TRIES_MAX,
    )


async def prune(*, days: int = KEEP_DAYS) -> int:
    """Forget deliveries and tries older than `days`, and deleted endpoints with nothing left; how many rows.

    In pieces, so that no statement runs long; the event log remembers what happened.
    """
    count = 0
    for sql in (
        "DELETE FROM webhook_attempt WHERE no IN (SELECT no FROM webhook_attempt"
        " WHERE at < clock_timestamp() - make_interval(days => $1) LIMIT $2)",
        "DELETE FROM webhook_delivery WHERE id IN (SELECT id FROM webhook_delivery"
        " WHERE created_at < clock_timestamp() - make_interval(days => $1) AND state <> 'leased' LIMIT $2)",
        "DELETE FROM webhook_delivery WHERE id IN (SELECT d.id FROM webhook_delivery d"
        " JOIN webhook_endpoint e ON e.id = d.endpoint_id WHERE e.deleted_at IS NOT NULL AND $1 > 0 LIMIT $2)",
        "DELETE FROM webhook_endpoint WHERE id IN (SELECT e.id FROM webhook_endpoint e"
        " WHERE e.deleted_at < clock_timestamp() - make_interval(days => $1) AND NOT EXISTS ("
        " SELECT FROM webhook_delivery d WHERE d.endpoint_id = e.id) LIMIT $2)",
    ):
        while (done := await db.execute(sql, days, PRUNE_MAX)) == PRUNE_MAX:
            count += done
        count += done
    return count
