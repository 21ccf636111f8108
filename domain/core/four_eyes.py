"""Four eyes: one person asks, another one approves exactly that, once, in time; until it holds it can be stopped.

    asked = await four_eyes.propose(ids.uuid7(), "payment.manual", order_id, request, asked_by=account_id)
    async with db.transaction():                                # somebody else, who has read `asked.request`
        approved = await four_eyes.approve(asked.id, "payment.manual", request_hash, approved_by=approver)
        ...                                                     # the effect, from `approved.request` alone

The effect is written in the transaction that approves: both happen or neither, and only once. What has a cool-down
is written as cooling and begins to hold at `usable_at`. Callers check who has the right to ask, to approve and to
decline. Everything is audited, and told by mail (docs/guides/four-eyes.md). Source: CASES H29.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from domain.core import audit, clock, db, ids, once, promises
from domain.core.errors import DomainError, FieldInvalid, InputInvalid, NotFound
from domain.core.settings import settings

LASTS = timedelta(hours=24)
NOTE_MAX = 200
EXPIRE_MAX = 100
REMIND_BEFORE = timedelta(hours=24)
_CLOCK = audit.Actor("system", "timetable")


class SamePerson(DomainError):
    """Who asked for it cannot be the one who approves it."""

    code = "SAME_PERSON"


class ApproverTooNew(DomainError):
    """Role, password or second factor of who approves changed a short while ago; `until` is when they may."""

    code = "APPROVER_TOO_NEW"


class ApprovalClosed(DomainError):
    """It was approved or ended before, or its time is over."""

    code = "APPROVAL_CLOSED"


class ApprovalDiffers(DomainError):
    """What is to be approved is not what was asked: read it again."""

    code = "APPROVAL_DIFFERS"


class ApprovalState(StrEnum):
    """open → approved, declined (by another), withdrawn (by who asked), expired; approved → stopped while it cools."""

    OPEN = "open"
    APPROVED = "approved"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Approver:
    """Who approves, and since when they have had their role, password and second factors (`identity.approver`)."""

    account_id: UUID
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class Approval:
    """What somebody asks another person to approve; `request_hash` is SHA-256 over kind, subject and request.

    An open one past `expires_at` is over. `usable_at` is when an approved one begins to hold, None for at once.
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
    cool_down_s: int
    usable_at: datetime | None
    ended_by: UUID | None
    note: str


# What a noun does when something of its kind ends without holding; filled by the nouns, run in that transaction.
undo: dict[str, Callable[[Approval], Awaitable[None]]] = {}

_COLUMNS = (
    "id, kind, subject_id, merchant_id, request_json, request_hash, asked_by, approved_by, state,"
    " asked_at, expires_at, cool_down_s, usable_at, ended_by, note"
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
    cool_down: timedelta = timedelta(),
) -> Approval:
    """Ask for `request` (plain JSON) on a subject; nothing happens before another person approves it. Audited, told.

    `cool_down` is how long an approval of it can still be stopped before it holds, in whole seconds.
    """
    async with db.transaction():
        row = await db.row(
            "INSERT INTO approval (id, kind, subject_id, merchant_id, request_json, request_hash,"
            " asked_by, expires_at, cool_down_s) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
            f" RETURNING {_COLUMNS}",
            approval_id,
            kind,
            subject_id,
            merchant_id,
            dict(request),
            digest(kind, subject_id, request),
            asked_by,
            clock.now() + lasting,
            int(cool_down.total_seconds()),
        )
        assert row is not None
        asked = Approval(*row)
        await _audit("asked", asked, asked_by)
        await _tell("asked", asked)
        return asked


async def approve(
    approval_id: UUID, kind: str, request_hash: bytes, *, approved_by: Approver
) -> Approval:
    """Approve what was asked, for the caller's transaction to do. Audited, told.

    Errors: NotFound (also for another kind), SamePerson, ApproverTooNew, ApprovalDiffers, ApprovalClosed.
    """
    assert db.in_transaction(), "what is approved commits with the approval"
    now, may_at = clock.now(), approved_by.settled_at + timedelta(hours=settings().settle_hours)
    row = await db.row(
        "UPDATE approval SET state = 'approved', approved_by = $4, approved_at = clock_timestamp(),"
        " usable_at = CASE WHEN cool_down_s > 0 THEN $5::timestamptz + make_interval(secs => cool_down_s) END"
        " WHERE id = $1 AND kind = $2 AND request_hash = $3 AND asked_by <> $4 AND state = 'open'"
        f" AND expires_at > $5 AND $6 <= $5 RETURNING {_COLUMNS}",
        approval_id,
        kind,
        request_hash,
        approved_by.account_id,
        now,
        may_at,
    )
    if row is None:
        raise await _refusal(approval_id, kind, request_hash, approved_by.account_id, may_at)
    approved = Approval(*row)
    assert approved.request_hash == digest(kind, approved.subject_id, approved.request), approval_id
    await _audit("approved", approved, approved_by.account_id)
    await _tell("approved", approved)
    if approved.cool_down_s:
        # A day before it holds, or half-way through a shorter cool-down.
        before_s = min(REMIND_BEFORE.total_seconds(), approved.cool_down_s / 2)
        await _tell("due", approved, due_in_s=approved.cool_down_s - before_s)
    return approved


async def _refusal(
    approval_id: UUID, kind: str, request_hash: bytes, approved_by: UUID, may_at: datetime
) -> DomainError:
    """Why nothing was approved, the most telling reason first."""
    asked = await find(approval_id)
    if asked is None or asked.kind != kind:
        return NotFound(path=("input", "approvalId"))
    if asked.asked_by == approved_by:
        return SamePerson()
    if may_at > clock.now():
        return ApproverTooNew(until=may_at)
    if asked.request_hash != request_hash:
        return ApprovalDiffers()
    return ApprovalClosed()


async def decline(approval_id: UUID, *, by: UUID, note: str = "") -> Approval:
    """End what waits or cools down, so that it never holds: declined by another person, withdrawn by who asked,
    stopped after it was approved. Audited, told; what its kind has prepared is undone with it.

    Errors: NotFound, ApprovalClosed, InputInvalid (note).
    """
    if len(note) > NOTE_MAX or not note.isprintable():
        raise InputInvalid(FieldInvalid(path=("input", "note"), reason="length", max=NOTE_MAX))
    async with db.transaction():
        row = await db.row(
            "UPDATE approval SET ended_by = $2, ended_at = clock_timestamp(), note = $3, state ="
            " CASE WHEN state = 'approved' THEN 'stopped' WHEN asked_by = $2 THEN 'withdrawn' ELSE 'declined' END"
            " WHERE id = $1 AND (state = 'open' AND expires_at > $4 OR state = 'approved' AND usable_at > $4)"
            f" RETURNING {_COLUMNS}",
            approval_id,
            by,
            note.strip(),
            clock.now(),
        )
        if row is None:
            if await find(approval_id) is None:
                raise NotFound(path=("input", "approvalId"))
            raise ApprovalClosed()
        ended = Approval(*row)
        await _undo(ended)
        await _audit(ended.state, ended, by)
        await _tell("ended", ended)
        return ended


async def expire(*, limit: int = EXPIRE_MAX) -> int:
    """End what nobody approved in time; how many. The timetable calls it; audited."""
    async with db.transaction():
        rows = await db.fetch(
            "WITH over AS MATERIALIZED (SELECT id FROM approval WHERE state = 'open' AND expires_at <= $1"
            " ORDER BY expires_at, id LIMIT $2 FOR UPDATE SKIP LOCKED)"
            " UPDATE approval a SET state = 'expired', ended_at = clock_timestamp() FROM over"
            f" WHERE a.id = over.id RETURNING {', '.join(f'a.{one}' for one in _COLUMNS.split(', '))}",
            clock.now(),
            limit,
        )
        for row in rows:
            over = Approval(*row)
            await _undo(over)
            await _audit("expired", over, None)
    return len(rows)


async def _undo(ended: Approval) -> None:
    if (what := undo.get(ended.kind)) is not None:
        await what(ended)


async def find(approval_id: UUID) -> Approval | None:
    """One approval."""
    row = await db.row(f"SELECT {_COLUMNS} FROM approval WHERE id = $1", approval_id)
    return Approval(*row) if row else None


async def waiting(
    after: tuple[datetime, UUID] | None,
    limit: int,
    *,
    kinds: Sequence[str] | None = None,
    merchant_id: UUID | None = None,
    with_cooling: bool = False,
    backward: bool = False,
) -> list[Approval]:
    """What still waits for a second person, oldest first, behind the key `after`; of these kinds, of one merchant.

    `with_cooling`: and what was approved and can still be stopped.
    """
    sign, order = ("<", "DESC") if backward else (">", "ASC")
    at, approval_id = after or (None, None)
    cooling = " OR state = 'approved' AND usable_at > $1" if with_cooling else ""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM approval WHERE (state = 'open' AND expires_at > $1{cooling})"
        f" AND ($2::timestamptz IS NULL OR (asked_at, id) {sign} ($2, $3::uuid))"
        " AND ($5::text[] IS NULL OR kind = ANY($5)) AND ($6::uuid IS NULL OR merchant_id = $6)"
        f" ORDER BY asked_at {order}, id {order} LIMIT $4",
        clock.now(),
        at,
        approval_id,
        limit,
        kinds,
        merchant_id,
    )
    return [Approval(*row) for row in rows]


async def _tell(what: str, about: Approval, *, due_in_s: float = 0) -> None:
    """Owe the mails about it; whoever writes them reads the truth again."""
    key = f"approval:{about.id}:{what}"
    await promises.promise("general", f"approval.{what}", about.id, key=key, due_in_s=due_in_s)


async def _audit(did: str, about: Approval, account_id: UUID | None) -> None:
    actor = _CLOCK
    if account_id is not None:
        actor = audit.Actor("account", ids.encode("acc", account_id))
    await audit.record(
        about.merchant_id,
        actor,
        f"{about.kind}.{did}",
        about.subject_id,
        approval=ids.encode("apr", about.id),
        request=about.request,
        request_hash=about.request_hash.hex(),
        **({"note": about.note} if about.note else {}),
    )
