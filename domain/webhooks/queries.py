"""Reads of webhooks: a merchant's endpoints, their deliveries page by page, the tries of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from domain.core import db
from domain.core.events import Event
from domain.webhooks import models
from domain.webhooks.models import DELIVERY, ENDPOINT, Attempt, Delivery, Endpoint
from domain.webhooks.rules import STATE_AFTER, DeliveryState

ATTEMPTS_MAX = 50


async def endpoints(endpoint_ids: Iterable[UUID]) -> dict[UUID, Endpoint]:
    """Endpoints by id; deleted and unknown ones are left out."""
    rows = await db.fetch(
        f"SELECT {ENDPOINT} FROM webhook_endpoint e WHERE e.id = ANY($1) AND e.deleted_at IS NULL",
        list(endpoint_ids),
    )
    return {row["id"]: models.endpoint(row) for row in rows}


async def of_merchant(merchant_id: UUID) -> list[Endpoint]:
    """A merchant's own endpoints, oldest first; there are at most `rules.ENDPOINTS_MAX`."""
    rows = await db.fetch(
        f"SELECT {ENDPOINT} FROM webhook_endpoint e WHERE e.merchant_id = $1 AND e.app_id IS NULL"
        " AND e.deleted_at IS NULL ORDER BY e.id",
        merchant_id,
    )
    return [models.endpoint(row) for row in rows]


async def deliveries(
    endpoint_id: UUID,
    *,
    state: DeliveryState | None = None,
    beyond: UUID | None = None,
    limit: int,
    backward: bool = False,
) -> list[Delivery]:
    """Deliveries to an endpoint beyond `beyond`: newest first, or oldest first when read backward."""
    sign, order = (">", "ASC") if backward else ("<", "DESC")
    states = [state] if state else list(DeliveryState)
    if state is DeliveryState.READY:
        states.append(DeliveryState.LEASED)
    rows = await db.fetch(
        f"SELECT {DELIVERY} FROM webhook_delivery d WHERE d.endpoint_id = $1 AND d.state = ANY($2)"
        f" AND ($3::uuid IS NULL OR d.id {sign} $3) ORDER BY d.id {order} LIMIT $4",
        endpoint_id,
        states,
        beyond,
        limit,
    )
    return [models.delivery(row) for row in rows]


async def by_id(delivery_id: UUID) -> Delivery | None:
    """One delivery, or None."""
    row = await db.row(f"SELECT {DELIVERY} FROM webhook_delivery d WHERE d.id = $1", delivery_id)
    return models.delivery(row) if row else None


async def attempts(delivery_ids: Sequence[UUID]) -> dict[UUID, list[Attempt]]:
    """The tries of deliveries, oldest first, the newest `ATTEMPTS_MAX` of each."""
    rows = await db.fetch(
        "SELECT a.* FROM unnest($1::uuid[]) AS w(id) CROSS JOIN LATERAL ("
        " SELECT * FROM webhook_attempt a WHERE a.delivery_id = w.id ORDER BY a.no DESC LIMIT $2) a ORDER BY a.no",
        list(delivery_ids),
        ATTEMPTS_MAX,
    )
    found: dict[UUID, list[Attempt]] = {one: [] for one in delivery_ids}
    for row in rows:
        found[row["delivery_id"]].append(
            Attempt(
                row["round"],
                row["try"],
                row["code"],
                row["error"],
                row["answer"],
                row["took_ms"],
                row["at"],
            )
        )
    return found


async def event(order_id: UUID, sequence: int) -> tuple[Event, str] | None:
    """One event of an order and the state the order was in after it, or None."""
    row = await db.row(
        "SELECT e.order_id, e.merchant_id, e.sequence, e.kind, e.facts_json, e.recorded_at,"
        " (SELECT s.kind FROM event_log s WHERE s.order_id = e.order_id AND s.sequence <= e.sequence"
        "  AND s.kind = ANY($3) ORDER BY s.sequence DESC LIMIT 1) AS state_kind"
        " FROM event_log e WHERE e.order_id = $1 AND e.sequence = $2",
        order_id,
        sequence,
        list(STATE_AFTER),
    )
    if row is None:
        return None
    *facts, state_kind = row
    return Event(*facts), STATE_AFTER.get(state_kind, "")
