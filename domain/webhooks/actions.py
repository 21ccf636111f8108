"""Writes of endpoints by their merchants, each under audit; a test and a dry run; sending again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any
from uuid import UUID

import orjson

from domain.core import addresses, audit, clock, db, ids, vault, versions
from domain.core.addresses import UrlNotAllowed
from domain.core.audit import Actor
from domain.core.errors import DomainError, InputInvalid, NotFound, Unavailable
from domain.core.settings import settings
from domain.webhooks import models, queries, rules
from domain.webhooks.models import ENDPOINT, Attempt, Delivery, Endpoint
from domain.webhooks.ports import Message, carriers
from domain.webhooks.rules import DisabledReason, EndpointLimit, EndpointState, Terms
from domain.webhooks.sending import shaper, signed
from domain.webhooks.signing import Keys

CARRIER = "http"


class Wish(Enum):
    """What an owner wants of an endpoint's state."""

    KEEP = "keep"
    ACTIVATE = "activate"
    DISABLE = "disable"


def checked(terms: Terms) -> Terms:
    """Terms with their URL in its one spelling.

    Errors: UrlNotAllowed or SelectionInvalid when that is all, else InputInvalid with every fault.
    """
    faults: list[DomainError] = terms.faults(is_open=settings().webhooks_to_loopback)
    is_short = not any(fault.path == ("input", "selection") for fault in faults)
    if is_short:
        faults += _selection_faults(terms)
    _refuse(faults)
    target = addresses.target(terms.url, is_open=settings().webhooks_to_loopback)
    return replace(terms, url=target.url)


def check_selection(selection: str | None, triggers: Sequence[str]) -> None:
    """Refuse a selection the contract does not have. Errors: SelectionInvalid, InputInvalid for a trigger."""
    _refuse(_selection_faults(Terms("", selection=selection, triggers=tuple(triggers))))


def _selection_faults(terms: Terms) -> list[DomainError]:
    try:
        paths = shaper().check(terms.selection or rules.DEFAULT_SELECTION)
    except rules.SelectionInvalid as error:
        error.path = ("input", "selection")
        return [error]
    return terms.unknown_triggers(paths)


def _refuse(faults: Sequence[DomainError]) -> None:
    if len(faults) == 1 and isinstance(faults[0], UrlNotAllowed | rules.SelectionInvalid):
        raise faults[0]
    if faults:
        raise InputInvalid(*faults)


async def add(
    merchant_id: UUID, terms: Terms, *, endpoint_id: UUID, sees_split: bool, actor: Actor
) -> None:
    """A new endpoint with fresh keys, in the caller's transaction. `terms` are checked ones.

    `sees_split`: whether the actor may read the merchant's money. Errors: EndpointLimit.
    """
    assert db.in_transaction(), "commits with its idempotency key"
    # The merchant's row is the lock that makes the count true.
    await db.execute("SELECT FROM merchant WHERE id = $1 FOR NO KEY UPDATE", merchant_id)
    count = await db.value(
        "SELECT count(*) FROM webhook_endpoint WHERE merchant_id = $1 AND app_id IS NULL AND deleted_at IS NULL",
        merchant_id,
    )
    if count >= rules.ENDPOINTS_MAX:
        raise EndpointLimit(max=rules.ENDPOINTS_MAX)
    await db.execute(
        "INSERT INTO webhook_endpoint (id, merchant_id, url, kinds, selection, triggers, note, keys_cipher,"
        " sees_split) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        endpoint_id,
        merchant_id,
        terms.url,
        list(terms.kinds),
        terms.selection,
        list(terms.triggers),
        terms.note,
        vault.seal(models.place(endpoint_id), Keys.new().packed),
        sees_split,
    )
    await audit.record(
        merchant_id, actor, "webhook.create", endpoint_id, **_facts(terms, EndpointState.ACTIVE)
    )


def _facts(terms: Terms, state: EndpointState) -> dict[str, Any]:
    return {
        "url": terms.url,
        "kinds": list(terms.kinds),
        "selection": terms.selection,
        "triggers": list(terms.triggers),
        "note": terms.note,
        "state": str(state),
    }


async def _locked(merchant_id: UUID, endpoint_id: UUID, expected: int) -> Endpoint:
    """The endpoint, its version moved and its row locked. Errors: NotFound, Conflict."""
    row = await db.row(
        f"SELECT {ENDPOINT} FROM webhook_endpoint e WHERE e.id = $1 AND e.merchant_id = $2"
        " AND e.deleted_at IS NULL FOR NO KEY UPDATE",
        endpoint_id,
        merchant_id,
    )
    if row is None:
        raise NotFound()
    await versions.bump("whe", merchant_id, endpoint_id, expected)
    return models.endpoint(row)


async def change(
    merchant_id: UUID,
    endpoint_id: UUID,
    terms: Terms,
    *,
    wish: Wish = Wish.KEEP,
    sees_split: bool,
    expected_version: int,
    actor: Actor,
) -> None:
    """Give an endpoint other terms, switch it on or off. `terms` are checked ones and replace all it had.

    Activated, it is tried at once with everything it still waits for (M29). Errors: NotFound, Conflict.
    """
    async with db.transaction():
        before = await _locked(merchant_id, endpoint_id, expected_version)
        state = before.state
        if wish is Wish.ACTIVATE and state is not EndpointState.ACTIVE:
            state = EndpointState.ACTIVE
            await db.execute(
                "UPDATE webhook_delivery SET due_at = clock_timestamp(), tries = 0"
                " WHERE endpoint_id = $1 AND state = 'ready'",
                endpoint_id,
            )
        elif wish is Wish.DISABLE:
            state = EndpointState.DISABLED
        reason = before.reason
        if state is not before.state:
            reason = DisabledReason.OWNER if state is EndpointState.DISABLED else None
        await db.execute(
            "UPDATE webhook_endpoint SET url = $2, kinds = $3, selection = $4, triggers = $5, note = $6,"
            " state = $7::text, reason = $8::text, sees_split = $10,"
            " dead_in_row = CASE WHEN $9 THEN 0 ELSE dead_in_row END,"
            " paused_until = CASE WHEN $9 THEN NULL ELSE paused_until END,"
            " changed_at = CASE WHEN state = $7::text THEN changed_at ELSE clock_timestamp() END WHERE id = $1",
            endpoint_id,
            terms.url,
            list(terms.kinds),
            terms.selection,
            list(terms.triggers),
            terms.note,
            str(state),
            reason,
            wish is Wish.ACTIVATE,
            sees_split,
        )
        await audit.changed(
            merchant_id,
            actor,
            "webhook.update",
            endpoint_id,
            _facts(before.terms, before.state),
            _facts(terms, state),
        )


async def rotate(
    merchant_id: UUID, endpoint_id: UUID, *, expected_version: int, actor: Actor
) -> None:
    """Fresh keys; those before sign beside them for `rules.OVERLAP_S` (H25). Errors: NotFound, Conflict."""
    async with db.transaction():
        await _locked(merchant_id, endpoint_id, expected_version)
        await db.execute(
            "UPDATE webhook_endpoint SET old_cipher = keys_cipher,"
            " old_until = $3::timestamptz + make_interval(secs => $4), keys_cipher = $2 WHERE id = $1",
            endpoint_id,
            vault.seal(models.place(endpoint_id), Keys.new().packed),
            clock.now(),
            float(rules.OVERLAP_S),
        )
        await audit.record(merchant_id, actor, "webhook.rotate", endpoint_id)


async def remove(
    merchant_id: UUID, endpoint_id: UUID, *, expected_version: int, actor: Actor
) -> None:
    """End an endpoint for good: nothing more is sent, its keys are gone. Errors: NotFound, Conflict."""
    async with db.transaction():
        before = await _locked(merchant_id, endpoint_id, expected_version)
        await db.execute(
            "UPDATE webhook_endpoint SET deleted_at = clock_timestamp(), keys_cipher = '',"
            " old_cipher = NULL, old_until = NULL WHERE id = $1",
            endpoint_id,
        )
        await audit.record(merchant_id, actor, "webhook.delete", endpoint_id, url=before.terms.url)


async def test(endpoint: Endpoint) -> tuple[Message, Attempt]:
    """Send a signed message of the type `webhook.test` now, once, and log the try; what was sent and came back.

    Changes nothing of the endpoint's state; a disabled one is tried too. Errors: Unavailable without a carrier.
    """
    assert not db.in_transaction(), "no network call inside a transaction"
    carrier = carriers.get(CARRIER)
    if carrier is None:
        raise Unavailable(what="webhooks")
    test_id = ids.encode("evt", ids.uuid7())
    body = orjson.dumps(
        {
            "type": rules.TEST_KIND,
            "timestamp": rules.timestamp(clock.now()),
            "data": {"endpointId": ids.encode("whe", endpoint.id)},
        }
    )
    message = signed(endpoint, test_id, body)
    reply = await carrier.send(message)
    at = await db.value(
        "INSERT INTO webhook_attempt (endpoint_id, round, try, code, error, answer, took_ms)"
        " VALUES ($1, 1, 1, $2, $3, $4, $5) RETURNING at",
        endpoint.id,
        reply.code,
        reply.error,
        reply.text,
        reply.took_ms,
    )
    return message, Attempt(1, 1, reply.code, reply.error, reply.text, reply.took_ms, at)


async def dry_run(
    order_id: UUID, sequence: int, selection: str | None, *, sees_split: bool
) -> bytes | None:
    """The payload that one event would have under a selection; nothing is sent or stored. None without such an event.

    Errors: SelectionInvalid.
    """
    chosen = selection or rules.DEFAULT_SELECTION
    shaper().check(chosen)
    found = await queries.event(order_id, sequence)
    if found is None:
        return None
    event, state = found
    (data,) = await shaper().shape(chosen, [event], sees_split=sees_split)
    assert event.recorded_at is not None
    if data is None:
        raise Unavailable(what="contract")
    return rules.payload(
        event.kind,
        event.recorded_at,
        data,
        sequence=sequence,
        cursor=shaper().cursor(order_id, sequence),
        state=state,
    )


# A body is written anew, by the selection of now; the id stays that of the event.
_AGAIN = """
UPDATE webhook_delivery d SET state = 'ready', round = d.round + 1, tries = 0, due_at = clock_timestamp(),
    code = NULL, error = NULL, body = NULL, watched = NULL, done_at = NULL
WHERE d.id = ANY($1) AND d.state IN ('delivered', 'skipped', 'dead')
"""
_HURRY = """
UPDATE webhook_delivery d SET due_at = clock_timestamp()
WHERE d.id = ANY($1) AND d.state = 'ready' AND d.due_at > clock_timestamp()
"""


async def again(endpoint: Endpoint, delivery_ids: Sequence[UUID], *, actor: Actor) -> int:
    """Send deliveries of an endpoint once more, those that wait at once; how many there were. Bounded and audited."""
    assert len(delivery_ids) <= rules.REDELIVER_MAX
    async with db.transaction():
        rows = await db.fetch(
            "SELECT id FROM webhook_delivery WHERE endpoint_id = $1 AND id = ANY($2) ORDER BY id"
            " FOR NO KEY UPDATE",
            endpoint.id,
            list(delivery_ids),
        )
        found = [row["id"] for row in rows]
        await db.execute(_HURRY, found)
        await db.execute(_AGAIN, found)
        await audit.record(
            endpoint.merchant_id, actor, "webhook.redeliver", endpoint.id, count=len(found)
        )
    return len(found)


async def again_of_order(
    endpoint: Endpoint, order_id: UUID, *, after: int, until: int | None, actor: Actor
) -> int:
    """Send the events of an order with `after < sequence <= until` once more, also such as were never owed.

    Only kinds the endpoint subscribes to; at most `rules.REDELIVER_MAX`. Returns how many.
    """
    async with db.transaction():
        rows = await db.fetch(
            "SELECT e.order_id, e.merchant_id, e.sequence, e.kind, e.recorded_at FROM event_log e"
            " WHERE e.order_id = $1 AND e.merchant_id = $2 AND e.sequence > $3"
            " AND ($4::int IS NULL OR e.sequence <= $4)"
            " AND (cardinality($5::text[]) = 0 OR e.kind = ANY($5)) ORDER BY e.sequence LIMIT $6",
            order_id,
            endpoint.merchant_id,
            after,
            until,
            list(endpoint.terms.kinds),
            rules.REDELIVER_MAX,
        )
        await db.execute(
            "INSERT INTO webhook_delivery (id, endpoint_id, merchant_id, order_id, sequence, kind, occurred_at)"
            " SELECT t.id, $2, $3, $4, t.sequence, t.kind, t.at"
            " FROM unnest($1::uuid[], $5::int[], $6::text[], $7::timestamptz[]) AS t(id, sequence, kind, at)"
            " ON CONFLICT DO NOTHING",
            sorted(ids.uuid7() for _ in rows),
            endpoint.id,
            endpoint.merchant_id,
            order_id,
            [row["sequence"] for row in rows],
            [row["kind"] for row in rows],
            [row["recorded_at"] for row in rows],
        )
        owed = await db.fetch(
            "SELECT id FROM webhook_delivery WHERE endpoint_id = $1 AND order_id = $2"
            " AND sequence = ANY($3)",
            endpoint.id,
            order_id,
            [row["sequence"] for row in rows],
        )
        return await again(endpoint, [row["id"] for row in owed], actor=actor)


async def again_between(
    endpoint: Endpoint, *, after: UUID | None, until: UUID | None, actor: Actor
) -> tuple[int, Delivery | None]:
    """Send deliveries of an endpoint with `after < id <= until` once more, oldest first, a bounded number at a time.

    How many, and the last of them when there may be more: continue behind it.
    """
    rows = await db.fetch(
        f"SELECT {models.DELIVERY} FROM webhook_delivery d WHERE d.endpoint_id = $1"
        " AND ($2::uuid IS NULL OR d.id > $2) AND ($3::uuid IS NULL OR d.id <= $3)"
        " ORDER BY d.id LIMIT $4",
        endpoint.id,
        after,
        until,
        rules.REDELIVER_MAX,
    )
    count = await again(endpoint, [row["id"] for row in rows], actor=actor)
    has_more = len(rows) == rules.REDELIVER_MAX
    return count, models.delivery(rows[-1]) if has_more else None
