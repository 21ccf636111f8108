"""Four eyes: one person asks, another one approves exactly that, once, in time.

    asked = await four_eyes.propose(ids.uuid7(), "payment.manual", order_id, request, asked_by=account_id)
    async with db.transaction():                                # somebody else, who has read `asked.request`
        approved = await four_eyes.approve(asked.id, "payment.manual", request_hash, approved_by=other_id)
        ...                                                     # the effect, from `approved.request` alone

The effect is written in the transaction that approves: both happen or neither, and only once. Callers check who has
the right to ask and to approve. Source: CASES H29.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.core import audit, clock, db, ids, once
from domain.core.errors import DomainError, NotFound

LASTS = timedelta(hours=24)


class SamePerson(DomainError):
    """Who asked for it cannot be the one who approves it."""

    code = "SAME_PERSON"


class ApprovalClosed(DomainError):
    """It was approved before, or its time is over."""

    code = "APPROVAL_CLOSED"


class ApprovalDiffers(DomainError):
    """What is to be approved is not what was asked: read it again."""

    code = "APPROVAL_DIFFERS"


@dataclass(frozen=True, slots=True)
class Approval:
    """What somebody asks another person to approve; `request_hash` is SHA-256 over kind, subject and request.

    `state` is "open" or "approved"; an open one past `expires_at` is over.
    """

    id: UUID
    kind: str
    subject_id: UUID
    merchant_id: UUID | None
    request: dict[str, Any]
    request_hash: bytes
    asked_by: UUID
    approved_by: UUID | None
    state: str
    asked_at: datetime
    expires_at: datetime


_COLUMNS = (
    "id, kind, subject_id, merchant_id, request_json, request_hash, asked_by, approved_by, state,"
    " asked_at, expires_at"
)


def digest(kind: str, subject_id: UUID, request: Mapping[str, Any]) -> bytes:
    """What the second person binds themselves to."""
    return once.request_hash([kind, subject_id, request])


async def propose(
    approval_id: UUID,
    kind: str,
    subject_id: UUID,
    request: Mapping[str, Any],
    *,
    asked_by: UUID,
    merchant_id: UUID | None = None,
    lasting: timedelta = LASTS,
) -> Approval:
    """Ask for `request` (plain JSON) on a subject; nothing happens before another person approves it. Audited."""
    async with db.transaction():
        row = await db.row(
            "INSERT INTO approval (id, kind, subject_id, merchant_id, request_json, request_hash,"
            f" asked_by, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {_COLUMNS}",
            approval_id,
            kind,
            subject_id,
            merchant_id,
            dict(request),
            digest(kind, subject_id, request),
            asked_by,
            clock.now() + lasting,
        )
        assert row is not None
        asked = Approval(*row)
        await _audit("asked", asked, asked_by)
        return asked


async def approve(
    approval_id: UUID, kind: str, request_hash: bytes, *, approved_by: UUID
) -> Approval:
    """Approve what was asked, for the caller's transaction to do. Audited.

    Errors: NotFound (also for another kind), SamePerson, ApprovalDiffers, ApprovalClosed.
    """
    assert db.in_transaction(), "what is approved commits with the approval"
    row = await db.row(
        "UPDATE approval SET state = 'approved', approved_by = $4, approved_at = clock_timestamp()"
        " WHERE id = $1 AND kind = $2 AND request_hash = $3 AND asked_by <> $4 AND state = 'open'"
        f" AND expires_at > $5 RETURNING {_COLUMNS}",
        approval_id,
        kind,
        request_hash,
        approved_by,
        clock.now(),
    )
    if row is None:
        raise await _refusal(approval_id, kind, request_hash, approved_by)
    approved = Approval(*row)
    assert approved.request_hash == digest(kind, approved.subject_id, approved.request), approval_id
    await _audit("approved", approved, approved_by)
    return approved


async def _refusal(
    approval_id: UUID, kind: str, request_hash: bytes, approved_by: UUID
) -> DomainError:
    """Why nothing was approved, the most telling reason first."""
    asked = await find(approval_id)
    if asked is None or asked.kind != kind:
        return NotFound(path=("input", "approvalId"))
    if asked.asked_by == approved_by:
        return SamePerson()
    if asked.request_hash != request_hash:
        return ApprovalDiffers()
    return ApprovalClosed()


async def find(approval_id: UUID) -> Approval | None:
    """One approval."""
    row = await db.row(f"SELECT {_COLUMNS} FROM approval WHERE id = $1", approval_id)
    return Approval(*row) if row else None


async def waiting(
    after: tuple[datetime, UUID] | None,
    limit: int,
    *,
    kind: str | None = None,
    merchant_id: UUID | None = None,
    backward: bool = False,
) -> list[Approval]:
    """What still waits for a second person, oldest first, behind the key `after`; of one kind, of one merchant."""
    sign, order = ("<", "DESC") if backward else (">", "ASC")
    at, approval_id = after or (None, None)
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM approval WHERE state = 'open' AND expires_at > $1"
        f" AND ($2::timestamptz IS NULL OR (asked_at, id) {sign} ($2, $3::uuid))"
        " AND ($5::text IS NULL OR kind = $5) AND ($6::uuid IS NULL OR merchant_id = $6)"
        f" ORDER BY asked_at {order}, id {order} LIMIT $4",
        clock.now(),
        at,
        approval_id,
        limit,
        kind,
        merchant_id,
    )
    return [Approval(*row) for row in rows]


async def _audit(did: str, about: Approval, account_id: UUID) -> None:
    await audit.record(
        about.merchant_id,
        audit.Actor("account", ids.encode("acc", account_id)),
        f"{about.kind}.{did}",
        about.subject_id,
        approval=ids.encode("apr", about.id),
        request=about.request,
        request_hash=about.request_hash.hex(),
    )
