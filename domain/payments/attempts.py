"""Attempts: opened before the provider is called, answered after, closed only by a provider's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from domain.core import db, ids
from domain.core.errors import DomainError
from domain.core.money import Money
from domain.payments.models import ATTEMPT_COLUMNS, Attempt
from domain.payments.ports import (
    BankTransfer,
    Challenge,
    ChargeAnswer,
    ChargeState,
    NextAction,
    QrCode,
    Redirect,
    WalletSheet,
)
from domain.payments.rules import LIVE

# When an attempt is asked about: soon after an unclear answer, then ever more rarely, never given up.
CHECK_AFTER_S = (2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
CHECK_MAX_S = 6 * 3600


class AttemptLive(DomainError):
    """Another attempt of the order may still take money, or money that contradicts one waits for a person."""

    code = "ATTEMPT_LIVE"


@dataclass(frozen=True, slots=True)
class Opening:
    """An attempt about to be opened: `amount` of an order to be charged by a method of a provider's account."""

    id: UUID
    order_id: UUID
    merchant_id: UUID
    lane: int
    provider: str
    account: str
    method: str
    amount: Money
    must_authenticate: bool = False


_OPEN = f"""
INSERT INTO payment_attempt (id, intent_id, order_id, merchant_id, lane, seq, provider, provider_account, method,
    requested_minor, ccy, must_authenticate, next_check_at)
SELECT a.id, a.order_id, a.order_id, a.merchant_id, a.lane,
    1 + (SELECT count(*) FROM payment_attempt p WHERE p.order_id = a.order_id),
    a.provider, a.account, a.method, a.minor, a.ccy, a.authenticates, clock_timestamp() + interval '45 s'
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::smallint[], $5::text[], $6::text[], $7::text[], $8::bigint[],
    $9::text[], $10::bool[])
    AS a(id, order_id, merchant_id, lane, provider, account, method, minor, ccy, authenticates)
WHERE EXISTS (SELECT FROM payment_intent i WHERE i.order_id = a.order_id AND i.state <> 'conflicted')
ON CONFLICT (order_id) WHERE state IN ('started', 'requires_action', 'processing', 'authorized', 'unknown')
DO NOTHING RETURNING {ATTEMPT_COLUMNS}
"""


async def open_attempts(openings: Sequence[Opening]) -> dict[UUID, Attempt]:
    """Write intentions to charge before anybody is called; attempts by order.

    Inside a transaction that holds the orders' locks. Errors: AttemptLive with the order's id; roll back then.
    """
    rows = await db.fetch(
        _OPEN,
        [one.id for one in openings],
        [one.order_id for one in openings],
        [one.merchant_id for one in openings],
        [one.lane for one in openings],
        [one.provider for one in openings],
        [one.account for one in openings],
        [one.method for one in openings],
        [one.amount.minor for one in openings],
        [one.amount.currency for one in openings],
        [one.must_authenticate for one in openings],
    )
    attempts = {row["order_id"]: Attempt(*row) for row in rows}
    for one in openings:
        if one.order_id not in attempts or attempts[one.order_id].id != one.id:
            raise AttemptLive(order_id=one.order_id)
    return attempts


_ANSWER = f"""
UPDATE payment_attempt a SET state = s.state, provider_ref = coalesce(a.provider_ref, s.ref),
    action_json = s.action_json, raw_code = s.code, raw_message = s.message,
    next_check_at = clock_timestamp() + s.check_after
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::text[], $6::text[], $7::interval[])
    AS s(id, state, ref, action_json, code, message, check_after)
WHERE a.id = s.id AND a.state IN ('started', 'unknown')
RETURNING {", ".join("a." + column.strip() for column in ATTEMPT_COLUMNS.split(","))}
"""


async def answer(said: Sequence[tuple[UUID, ChargeAnswer, timedelta]]) -> dict[UUID, Attempt]:
    """Write what providers answered about attempts, and after how long each is asked about; the attempts by id.

    One that a callback was faster for is left out: the stored state stands. A capture is never taken from an
    answer here: it goes through the inbox like every other word of the provider.
    """
    rows = await db.fetch(
        _ANSWER,
        [attempt_id for attempt_id, _, _ in said],
        [_stored_state(one) for _, one, _ in said],
        [one.provider_ref for _, one, _ in said],
        [action_json(one.action) for _, one, _ in said],
        [one.raw_code[:64] for _, one, _ in said],
        [one.raw_message[:2000] for _, one, _ in said],
        [check_after for _, _, check_after in said],
    )
    return {row["id"]: Attempt(*row) for row in rows}


def _stored_state(said: ChargeAnswer) -> ChargeState:
    return said.state if said.state in LIVE or said.state in _CLOSED else ChargeState.PROCESSING


_CLOSED = (ChargeState.DECLINED, ChargeState.FAILED, ChargeState.VOIDED)


async def close(attempt_id: UUID, state: str) -> bool:
    """Close a live attempt as declined, failed or voided; false when it no longer is live."""
    return bool(
        await db.execute(
            "UPDATE payment_attempt SET state = $2, next_check_at = NULL WHERE id = $1 AND state = ANY($3)",
            attempt_id,
            state,
            list(LIVE),
        )
    )


async def find(attempt_id: UUID) -> Attempt | None:
    """One attempt."""
    row = await db.row(f"SELECT {ATTEMPT_COLUMNS} FROM payment_attempt WHERE id = $1", attempt_id)
    return Attempt(*row) if row else None


async def live_of(order_id: UUID) -> Attempt | None:
    """The attempt of an order that may still take money, or None."""
    row = await db.row(
        f"SELECT {ATTEMPT_COLUMNS} FROM payment_attempt WHERE order_id = $1 AND state = ANY($2)",
        order_id,
        list(LIVE),
    )
    return Attempt(*row) if row else None


async def due_for_check(limit: int) -> list[Attempt]:
    """Attempts whose provider should be asked now; each is put off first, so two workers never ask together."""
    rows = await db.fetch(
        "WITH due AS MATERIALIZED (SELECT id, checks FROM payment_attempt"
        # Written out, not passed: a generic plan must see that the partial index fits.
        " WHERE state IN ('started', 'requires_action', 'processing', 'authorized', 'unknown')"
        " AND next_check_at < clock_timestamp()"
        " ORDER BY next_check_at LIMIT $1 FOR UPDATE SKIP LOCKED)"
        " UPDATE payment_attempt a SET checks = least(a.checks + 1, 30000), next_check_at = clock_timestamp()"
        " + make_interval(secs => coalesce(($2::float8[])[due.checks + 1], $3))"
        f" FROM due WHERE a.id = due.id RETURNING {', '.join('a.' + c.strip() for c in ATTEMPT_COLUMNS.split(','))}",
        limit,
        [float(seconds) for seconds in CHECK_AFTER_S],
        float(CHECK_MAX_S),
    )
    return [Attempt(*row) for row in rows]


async def intents(order_ids: Sequence[UUID], states: Sequence[str]) -> None:
    """Set the intents of locked orders."""
    await db.execute(
        "UPDATE payment_intent i SET state = c.state FROM unnest($1::uuid[], $2::text[]) AS c(id, state)"
        " WHERE i.order_id = c.id AND i.state <> c.state",
        list(order_ids),
        list(states),
    )


def action_json(action: NextAction | None) -> dict[str, Any] | None:
    """A next action as it is stored: its kind and its plain values."""
    match action:
        case None:
            return None
        case Redirect(url):
            return {"kind": "redirect", "url": url}
        case QrCode(content, expires_at):
            return {"kind": "qr", "content": content, "expires_at": expires_at.isoformat()}
        case WalletSheet(wallet, payload):
            return {"kind": "wallet", "wallet": wallet, "payload": payload}
        case BankTransfer(address, amount, expires_at):
            return {
                "kind": "transfer",
                "address": address,
                "minor": amount.minor,
                "ccy": amount.currency,
                "expires_at": expires_at.isoformat(),
            }
        case Challenge(url):
            return {"kind": "challenge", "url": url}


def new_id() -> UUID:
    """The id of an attempt about to be opened."""
    return ids.uuid7()
