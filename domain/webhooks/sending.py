"""Deliveries on their way: leased, written by the contract, signed; the network is the worker's part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from domain.core import clock, db, ids
from domain.core.errors import Unavailable
from domain.core.events import Event
from domain.webhooks import granted, models, rules, signing
from domain.webhooks.models import ENDPOINT, Claimed, Endpoint, Result
from domain.webhooks.ports import Message, Reply, Shaper, shapers
from domain.webhooks.rules import STATE_AFTER, DeliveryState, EndpointState, SelectionInvalid

CONTRACT = "contract"  # the name of the one shaper
LEASE_S = 120
ENDPOINTS_PER_CLAIM = 200
USER_AGENT = "Kami-Webhooks/1.0"


# Endpoints with something to send are found by jumping through the index from one to the next, so that one with a
# hundred thousand rows costs as much as one with a single row. What waits for an earlier event of its order is put
# behind that event's own time and is out of the way until then; `finish` calls it back.
_CLAIM = f"""
WITH RECURSIVE place AS (
    (SELECT d.endpoint_id FROM webhook_delivery d WHERE d.state = 'ready' ORDER BY d.endpoint_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint_id FROM webhook_delivery d WHERE d.state = 'ready' AND d.endpoint_id > p.endpoint_id
            ORDER BY d.endpoint_id LIMIT 1) FROM place p WHERE p.endpoint_id IS NOT NULL
), open AS MATERIALIZED (
    SELECT e.id, coalesce(b.free, $3) AS free FROM place p JOIN webhook_endpoint e ON e.id = p.endpoint_id
    LEFT JOIN unnest($4::uuid[], $5::int[]) AS b(id, free) ON b.id = e.id
    WHERE e.state = $1 AND e.deleted_at IS NULL AND coalesce(b.free, $3) > 0
        AND (e.paused_until IS NULL OR e.paused_until <= clock_timestamp())
        AND EXISTS (SELECT FROM webhook_delivery d WHERE d.endpoint_id = e.id AND d.state = 'ready'
            AND d.due_at <= clock_timestamp())
    ORDER BY random() LIMIT $6
), due AS MATERIALIZED (
    SELECT d.id, d.endpoint_id, d.order_id, d.sequence, d.grant_id FROM open o CROSS JOIN LATERAL (
        SELECT d.* FROM webhook_delivery d WHERE d.endpoint_id = o.id AND d.state = 'ready'
            AND d.due_at <= clock_timestamp() ORDER BY d.due_at, d.id LIMIT o.free FOR UPDATE SKIP LOCKED) d
    LIMIT $2
), blocked AS MATERIALIZED (
    SELECT d.id, min(b.due_at) AS due_at FROM due d JOIN webhook_delivery b ON b.endpoint_id = d.endpoint_id
        AND b.order_id = d.order_id AND b.sequence < d.sequence AND b.grant_id IS NOT DISTINCT FROM d.grant_id
        AND b.state IN ('ready', 'leased') GROUP BY d.id
), put_off AS (
    UPDATE webhook_delivery d SET due_at = greatest(b.due_at, clock_timestamp() + interval '1 s')
    FROM blocked b WHERE d.id = b.id
), taken AS (
    UPDATE webhook_delivery d SET state = 'leased', fence = d.fence + 1, tries = d.tries + 1,
        lease_until = clock_timestamp() + make_interval(secs => $7)
    FROM due WHERE d.id = due.id AND NOT EXISTS (SELECT FROM blocked b WHERE b.id = d.id)
    RETURNING d.id, d.fence, d.round, d.tries, d.endpoint_id, d.merchant_id, d.order_id, d.sequence, d.kind,
        d.occurred_at, d.body, d.grant_id, d.sees_split AS made_for_split
)
SELECT t.id AS delivery_id, t.fence, t.round, t.tries, t.order_id, t.sequence, t.kind, t.occurred_at, t.body,
    t.grant_id, t.made_for_split, t.merchant_id AS whose,
    (SELECT s.kind FROM event_log s WHERE s.order_id = t.order_id AND s.sequence <= t.sequence
     AND s.kind = ANY($8) ORDER BY s.sequence DESC LIMIT 1) AS state_kind,
    CASE WHEN cardinality(e.triggers) > 0 AND t.round = 1 THEN
        (SELECT l.watched FROM webhook_delivery l WHERE l.endpoint_id = t.endpoint_id AND l.order_id = t.order_id
         AND l.sequence < t.sequence AND l.state = 'delivered' ORDER BY l.sequence DESC LIMIT 1) END AS told,
    {ENDPOINT}
FROM taken t JOIN webhook_endpoint e ON e.id = t.endpoint_id ORDER BY t.occurred_at, t.sequence
"""


async def claim(
    limit: int, *, free: Mapping[UUID, int], each: int, state: EndpointState = EndpointState.ACTIVE
) -> list[Claimed]:
    """Lease up to `limit` due deliveries of endpoints in `state` for LEASE_S.

    No endpoint gets more than `free` says, `each` where it says nothing. A delivery whose order has an earlier one
    open at the same endpoint is not due yet, whatever its time says.
    """
    rows = await db.fetch(
        _CLAIM,
        str(state),
        limit,
        each,
        list(free),
        list(free.values()),
        ENDPOINTS_PER_CLAIM,
        float(LEASE_S),
        list(STATE_AFTER),
    )
    return [
        Claimed(
            row["delivery_id"],
            row["fence"],
            row["round"],
            row["tries"],
            Event(
                row["order_id"],
                row["whose"],
                row["sequence"],
                row["kind"],
                recorded_at=row["occurred_at"],
            ),
            STATE_AFTER.get(row["state_kind"], ""),
            row["body"],
            row["told"],
            models.endpoint(row),
            row["grant_id"],
            row["made_for_split"],
        )
        for row in rows
    ]


def shaper() -> Shaper:
    """The contract of this process. Errors: Unavailable when none was wired up."""
    found = shapers.get(CONTRACT)
    if found is None:
        raise Unavailable(what="contract")
    return found


async def write(claimed: Sequence[Claimed]) -> tuple[list[Claimed], list[Result]]:
    """Give each delivery its body: what can be sent, and the results of what need not or cannot be.

    A body is stored before it is sent, so that every try of a round carries the same bytes.
    """
    claimed, results = await _allowed(claimed)
    fresh: dict[tuple[str, bool], list[Claimed]] = defaultdict(list)
    for one in claimed:
        if one.body is None:
            selection = one.endpoint.terms.selection or rules.DEFAULT_SELECTION
            split = one.endpoint.sees_split if one.grant_id is None else bool(one.sees_split)
            fresh[selection, split].append(one)
    written: list[tuple[Claimed, bytes | None]] = []
    for (selection, sees_split), group in fresh.items():
        shaped = await _shaped(selection, group, sees_split=sees_split)
        for one, data in zip(group, shaped, strict=True):
            found = _body(one, data)
            if isinstance(found, Result):
                results.append(found)
            else:
                written.append((one, found))
    if written:
        await db.execute(
            "UPDATE webhook_delivery d SET body = t.body, watched = t.watched, sees_split = t.sees_split"
            " FROM unnest($1::uuid[], $2::int[], $3::text[], $4::bytea[], $5::bool[])"
            " AS t(id, fence, body, watched, sees_split)"
            " WHERE d.id = t.id AND d.fence = t.fence AND d.state = 'leased'",
            [one.id for one, _ in written],
            [one.fence for one, _ in written],
            [one.body for one, _ in written],
            [watched for _, watched in written],
            [one.sees_split for one, _ in written],
        )
    return [one for one in claimed if one.body is not None], results


async def _allowed(claimed: Sequence[Claimed]) -> tuple[list[Claimed], list[Result]]:
    """What may be told now, and the results of what may not: an app's rights are those of this moment.

    A body that was made for who may read the merchant's money is made anew for who may not any more.
    """
    grants = {one.grant_id for one in claimed if one.grant_id is not None}
    if not grants:
        return list(claimed), []
    rights = await granted.rights(grants)
    kept: list[Claimed] = []
    results: list[Result] = []
    for one in claimed:
        if one.grant_id is not None:
            of = rights[one.grant_id]
            why = granted.refusal(of, _needed(one.endpoint))
            if why is not None:
                results.append(Result(one, Reply(None, why), DeliveryState.SKIPPED))
                continue
            assert of is not None
            split = granted.sees_split(of)
            if one.sees_split and not split:
                one.body = None
            if one.body is None:
                one.sees_split = split
        kept.append(one)
    return kept, results


def _needed(endpoint: Endpoint) -> frozenset[str]:
    """What the payload takes by the contract of now; a selection it no longer has is refused when it is shaped."""
    try:
        now = shaper().needed(endpoint.terms.selection or rules.DEFAULT_SELECTION)
    except SelectionInvalid:
        return endpoint.scopes
    return frozenset({"closed"}) if now is None else now


async def _shaped(
    selection: str, group: Sequence[Claimed], *, sees_split: bool
) -> Sequence[Mapping[str, Any] | SelectionInvalid | None]:
    try:
        return await shaper().shape(selection, [one.event for one in group], sees_split=sees_split)
    except SelectionInvalid as error:
        return [error] * len(group)


def _body(one: Claimed, data: Mapping[str, Any] | SelectionInvalid | None) -> Result | bytes | None:
    """Sets the body and gives the hash of what is watched; a result when there is nothing to send."""
    if isinstance(data, SelectionInvalid):
        return Result(one, Reply(None, "selection"), DeliveryState.DEAD)
    if data is None:
        return Result(one, Reply(None, "unshaped"))
    triggers = one.endpoint.terms.triggers
    watched = rules.watched(data, triggers) if triggers else None
    if watched is not None and watched == one.told:
        return Result(one, Reply(None), DeliveryState.SKIPPED)
    event = one.event
    assert event.recorded_at is not None
    body = rules.payload(
        event.kind,
        event.recorded_at,
        data,
        sequence=event.sequence,
        cursor=shaper().cursor(event.order_id, event.sequence),
        state=one.state,
        whose=_whose(one),
    )
    if len(body) > rules.PAYLOAD_MAX:
        return Result(one, Reply(None, "too_large"), DeliveryState.DEAD)
    one.body = body.decode()
    return watched


def _whose(one: Claimed) -> dict[str, str] | None:
    if one.grant_id is None:
        return None
    merchant_id = ids.encode("mer", one.event.merchant_id)
    return {"merchantId": merchant_id, "grantId": ids.encode("gnt", one.grant_id)}


def message(one: Claimed) -> Message:
    """The signed message of a written delivery, stamped with this very moment."""
    assert one.body is not None
    return signed(one.endpoint, one.message_id, one.body.encode())


def signed(endpoint: Endpoint, message_id: str, body: bytes) -> Message:
    """A message in the envelope of Standard Webhooks."""
    now = clock.now()
    stamp = int(now.timestamp())
    return Message(
        endpoint.terms.url,
        {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "webhook-id": message_id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": signing.signatures(endpoint.signers(now), message_id, stamp, body),
        },
        body,
    )
