"""Goods that leave the house in bulk: one person asks, another one approves exactly that, who approved fetches it once.

Keys are locked and the audit row is committed before anything is decrypted; what was exported never returns to the
shelf. Source: CASES H28, H29.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from domain import alarms
from domain.catalogue import honey, keys
from domain.core import clock, db, four_eyes, ids
from domain.core.audit import Actor
from domain.core.errors import FieldInvalid, InputInvalid, NotFound
from domain.core.four_eyes import Approval, Approver
from domain.core.once import Once, request_hash

KIND = "goods.export"
REASON_MAX = 200
FETCH_WITHIN = timedelta(minutes=10)
_draw = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Export:
    """An approved export; whoever approved it may fetch it once until `until`."""

    approval: Approval
    until: datetime


async def propose_export(
    merchant_id: UUID, variant_id: UUID, count: int, reason: str, *, asked_by: UUID, once: Once
) -> Approval:
    """Ask a colleague to approve that up to `count` available keys of a variant are exported. Nothing moves yet.

    The caller has checked the right. Idempotent by `once`. Errors: InputInvalid, alarms.ExportsStopped.
    """
    problems = []
    if not 1 <= count <= keys.EXPORT_MAX:
        problems.append(FieldInvalid(path=("input", "count"), reason="range", max=keys.EXPORT_MAX))
    if not reason.strip() or len(reason) > REASON_MAX or not reason.isprintable():
        problems.append(FieldInvalid(path=("input", "reason"), reason="length", max=REASON_MAX))
    if problems:
        raise InputInvalid(*problems)
    approval_id = ids.uuid7()
    async with db.transaction():
        earlier = await once.claim({"approval_id": str(approval_id)})
        if earlier is not None:
            found = await four_eyes.find(UUID(earlier["approval_id"]))
            assert found is not None, earlier
            return found
        await alarms.refuse_exports(merchant_id)
        asked = {"variantId": ids.encode("var", variant_id), "count": count, "reason": reason}
        return await four_eyes.propose(
            approval_id, KIND, variant_id, asked, asked_by=asked_by, merchant_id=merchant_id
        )


async def find_export(approval_id: UUID) -> Approval | None:
    """What somebody asked for, when it is an export."""
    found = await four_eyes.find(approval_id)
    return found if found is not None and found.kind == KIND else None


async def approve_export(
    approval_id: UUID, digest: bytes, *, approved_by: Approver, once: Once
) -> Export:
    """Approve exactly what a colleague asked for. Idempotent by `once`.

    Errors: NotFound, four_eyes.SamePerson, ApproverTooNew, ApprovalDiffers, ApprovalClosed; alarms.ExportsStopped,
    which leaves the request open.
    """
    until = clock.now() + FETCH_WITHIN
    async with db.transaction():
        result = {"approval_id": str(approval_id), "until": until.isoformat()}
        earlier = await once.claim(result)
        if earlier is not None:
            found = await four_eyes.find(UUID(earlier["approval_id"]))
            assert found is not None, earlier
            return Export(found, datetime.fromisoformat(earlier["until"]))
        approved = await four_eyes.approve(approval_id, KIND, digest, approved_by=approved_by)
        assert approved.merchant_id is not None, "an export is a merchant's"
        await alarms.refuse_exports(approved.merchant_id)
        return Export(approved, until)


async def fetch_export(approval_id: UUID, fetched_by: UUID, actor: Actor) -> str:
    """The keys of an approved export as CSV, once, for the person who approved it; one line more is a honey key of
    their shape, somewhere among them.

    Errors: NotFound (none, not approved, by somebody else), ApprovalClosed (fetched before), alarms.ExportsStopped.
    """
    found = await find_export(approval_id)
    if found is None or found.approved_by != fetched_by or found.merchant_id is None:
        raise NotFound()
    once = Once(f"{KIND}:{found.merchant_id}", str(found.id), request_hash(found.request))
    taken = await keys.export_keys(
        found.merchant_id,
        found.subject_id,
        found.request["count"],
        actor,
        once=once,
        export_id=found.id,
    )
    contents = [one.content for one in taken]
    if taken:
        async with db.transaction():
            maker = honey.Maker(fetched_by, found.id)
            extra = await honey.add(found.merchant_id, taken[0].lot_no, contents, maker)
        contents.insert(_draw.randint(0, len(contents)), extra)
    return keys.as_csv(contents)
