"""Payout destinations change by two people and a cool-down: added, put in another's place, removed.

Details are sealed when they are asked for and never shown again; the request binds the second person to a keyed
fingerprint of them, so nothing else can be approved in their place. What replaces another destination lets that one
hold until it holds itself. Source: MONEY section 7, CASES G11, H29.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from domain.core import audit, clock, db, four_eyes, ids, vault, versions
from domain.core.errors import Conflict, DomainError, FieldInvalid, NotFound
from domain.core.four_eyes import Approval, ApprovalClosed, ApprovalDiffers, Approver
from domain.core.once import Once
from domain.core.settings import settings
from domain.payouts import rules
from domain.payouts.rules import Destination

KIND = "payout.method"
TABLE, PREFIX = "payout_method", "pom"
SETTLE_MAX = 100
_CLOCK = audit.Actor("system", "timetable")


class PayoutMethodKnown(DomainError):
    """The merchant has this destination in this currency already, or somebody has asked for it."""

    code = "PAYOUT_METHOD_KNOWN"


class PayoutMethodNotUsable(DomainError):
    """Only a destination that holds can be replaced or removed, by one request for another at a time."""

    code = "PAYOUT_METHOD_NOT_USABLE"


@dataclass(frozen=True, slots=True)
class Replaced:
    """The destination that another one takes the place of, at the version it was read at."""

    id: UUID
    version: int


async def propose_method(
    merchant_id: UUID,
    given: Destination,
    *,
    asked_by: UUID,
    once: Once,
    replaces: Replaced | None = None,
) -> Approval:
    """Ask for a destination to be added, or put in the place of another one. Nothing holds yet.

    The caller has checked the right. Idempotent by `once`. Errors: InputInvalid, PayoutMethodKnown; for one that is
    replaced NotFound, Conflict, PayoutMethodNotUsable.
    """
    asked = rules.checked(given)
    approval_id, method_id = ids.uuid7(), ids.uuid7()
    keys = await vault.of_merchant(merchant_id)
    mark = _mark(keys, asked)

    async def act() -> Approval:
        request: dict[str, Any] = {
            "action": "replace" if replaces else "add",
            "methodId": ids.encode(PREFIX, method_id),
            "kind": str(asked.kind),
            "currency": asked.currency,
            "account": asked.masked,
            "fingerprint": mark.hex(),
            "coolDownHours": settings().payout_cool_down_hours,
        }
        if replaces is not None:
            taken = await _take(merchant_id, replaces)
            if taken["currency"] != asked.currency:
                raise FieldInvalid(path=("input", "currency"), reason="replaced")
            request["replaces"] = taken
        await _insert(merchant_id, method_id, asked, keys, mark, asked_by, replaces)
        return await four_eyes.propose(
            approval_id,
            KIND,
            method_id,
            request,
            asked_by=asked_by,
            merchant_id=merchant_id,
            cool_down=timedelta(hours=settings().payout_cool_down_hours),
        )

    try:
        return await _once(once, approval_id, act)
    except asyncpg.UniqueViolationError as error:
        match error.constraint_name:
            case "payout_method_successor":
                raise PayoutMethodNotUsable(path=("input", "replaces")) from None
            case "payout_method_once":
                raise PayoutMethodKnown(path=("input", "account")) from None
        raise


async def propose_removal(
    merchant_id: UUID, of: Replaced, *, asked_by: UUID, once: Once
) -> Approval:
    """Ask for a destination to be removed; it holds until another person approves that. Idempotent by `once`.

    Errors: NotFound, Conflict, PayoutMethodNotUsable.
    """
    approval_id = ids.uuid7()

    async def act() -> Approval:
        request = {"action": "remove", **await _take(merchant_id, of)}
        return await four_eyes.propose(
            approval_id, KIND, of.id, request, asked_by=asked_by, merchant_id=merchant_id
        )

    return await _once(once, approval_id, act)


async def _once(once: Once, approval_id: UUID, act: Callable[[], Awaitable[Approval]]) -> Approval:
    async with db.transaction():
        earlier = await once.claim({"approval_id": str(approval_id)})
        if earlier is None:
            return await act()
        found = await four_eyes.find(UUID(earlier["approval_id"]))
        assert found is not None, earlier
        return found


async def _take(merchant_id: UUID, of: Replaced) -> dict[str, Any]:
    """Lock what is to be replaced or removed and move its version: requests that knew it as it was are over."""
    version = await versions.bump(PREFIX, merchant_id, of.id, of.version)
    row = await db.row(
        "SELECT state, masked, ccy FROM payout_method WHERE merchant_id = $1 AND id = $2",
        merchant_id,
        of.id,
    )
    assert row is not None
    if row["state"] != "usable":
        raise PayoutMethodNotUsable()
    return {
        "methodId": ids.encode(PREFIX, of.id),
        "currency": row["ccy"],
        "account": row["masked"],
        "version": version,
    }


async def _insert(
    merchant_id: UUID,
    method_id: UUID,
    asked: Destination,
    keys: vault.MerchantVault,
    mark: bytes,
    asked_by: UUID,
    replaces: Replaced | None,
) -> None:
    await db.execute(
        "INSERT INTO payout_method (merchant_id, id, kind, ccy, masked, details_cipher, key_version,"
        " fingerprint, replaces_id, changed_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        merchant_id,
        method_id,
        str(asked.kind),
        asked.currency,
        asked.masked,
        keys.seal(TABLE, method_id, orjson.dumps(asked.details)),
        keys.version,
        mark,
        replaces and replaces.id,
        asked_by,
    )


def _mark(keys: vault.MerchantVault, of: Destination) -> bytes:
    return keys.fingerprint(f"{TABLE}:{of.identity}".encode())


async def approve_method(
    approval_id: UUID, request_hash: bytes, *, approved_by: Approver
) -> Approval:
    """Be the second person: a destination begins to cool down, or is removed at once.

    Errors: NotFound, four_eyes.SamePerson, ApproverTooNew, ApprovalDiffers, ApprovalClosed; Conflict when what is
    replaced or removed has changed since it was asked.
    """
    async with db.transaction():
        approved = await four_eyes.approve(approval_id, KIND, request_hash, approved_by=approved_by)
        asked = approved.request
        if asked["action"] == "remove":
            await _remove(approved, asked)
            return approved
        await _begin(approved)
        if asked["action"] == "replace":
            await _still(approved, asked["replaces"])
        if not approved.cool_down_s:
            await _settle([approved.subject_id])
        return approved


async def _begin(approved: Approval) -> None:
    """pending → cooling, for exactly what was sealed when it was asked for."""
    assert approved.merchant_id is not None
    row = await db.row(
        "UPDATE payout_method SET state = 'cooling', approved_by = $3, version = version + 1, usable_at = $4"
        " WHERE merchant_id = $1 AND id = $2 AND state = 'pending'"
        " RETURNING kind, ccy, key_version, details_cipher",
        approved.merchant_id,
        approved.subject_id,
        approved.approved_by,
        approved.usable_at or clock.now(),
    )
    if row is None:
        raise ApprovalClosed()
    keys = await vault.of_merchant(approved.merchant_id, version=row["key_version"])
    plain = keys.unseal(TABLE, approved.subject_id, row["key_version"], row["details_cipher"])
    sealed = Destination(rules.MethodKind(row["kind"]), row["ccy"], **orjson.loads(plain))
    shown = (str(sealed.kind), sealed.currency, sealed.masked, _mark(keys, sealed).hex())
    asked = approved.request
    if shown != (asked["kind"], asked["currency"], asked["account"], asked["fingerprint"]):
        raise ApprovalDiffers()


async def _still(approved: Approval, of: dict[str, Any]) -> None:
    """What is replaced is as it was when it was asked. Errors: Conflict."""
    method_id = ids.decode(of["methodId"], PREFIX)
    row = await db.row(
        "SELECT version, state FROM payout_method WHERE merchant_id = $1 AND id = $2 FOR UPDATE",
        approved.merchant_id,
        method_id,
    )
    if row is None:
        raise NotFound()
    if (row["version"], row["state"]) != (of["version"], "usable"):
        raise Conflict(current=row["version"], subject=(PREFIX, method_id))


async def _remove(approved: Approval, of: dict[str, Any]) -> None:
    version = await db.value(
        "UPDATE payout_method SET state = 'removed', version = version + 1, removed_at = clock_timestamp()"
        " WHERE merchant_id = $1 AND id = $2 AND state = 'usable' AND version = $3 RETURNING version",
        approved.merchant_id,
        approved.subject_id,
        of["version"],
    )
    if version is None:
        current = await db.value(
            "SELECT version FROM payout_method WHERE merchant_id = $1 AND id = $2",
            approved.merchant_id,
            approved.subject_id,
        )
        raise Conflict(current=current, subject=(PREFIX, approved.subject_id))


async def _undo(ended: Approval) -> None:
    """A destination that was declined, stopped or not approved in time never holds."""
    if ended.request["action"] == "remove":
        return
    gone = await db.execute(
        "UPDATE payout_method SET state = 'removed', version = version + 1, removed_at = clock_timestamp()"
        " WHERE merchant_id = $1 AND id = $2 AND state IN ('pending', 'cooling')",
        ended.merchant_id,
        ended.subject_id,
    )
    if not gone:  # it has begun to hold
        raise ApprovalClosed()


four_eyes.undo[KIND] = _undo


async def settle_methods(*, limit: int = SETTLE_MAX) -> int:
    """Let hold what has cooled down, and remove what it replaces; how many. The timetable calls it."""
    async with db.transaction():
        rows = await db.fetch(
            "SELECT id FROM payout_method WHERE state = 'cooling' AND usable_at <= $1"
            " ORDER BY usable_at, id LIMIT $2 FOR UPDATE SKIP LOCKED",
            clock.now(),
            limit,
        )
        return await _settle([row["id"] for row in rows])


async def _settle(method_ids: list[UUID]) -> int:
    """cooling → usable; the caller has looked at the time."""
    rows = await db.fetch(
        "UPDATE payout_method SET state = 'usable', version = version + 1"
        " WHERE id = ANY($1) AND state = 'cooling' RETURNING merchant_id, id, masked, ccy, replaces_id",
        method_ids,
    )
    for row in sorted(rows, key=lambda row: row["id"]):
        await db.execute(
            "UPDATE payout_method SET state = 'removed', version = version + 1, removed_at = clock_timestamp()"
            " WHERE merchant_id = $1 AND id = $2 AND state = 'usable'",
            row["merchant_id"],
            row["replaces_id"],
        )
        replaced = row["replaces_id"] and ids.encode(PREFIX, row["replaces_id"])
        facts = {"account": row["masked"], "currency": row["ccy"], "replaces": replaced}
        await audit.record(row["merchant_id"], _CLOCK, f"{KIND}.usable", row["id"], after=facts)
    return len(rows)
