"""Manual "paid": one operator says that an order was paid, another one approves it, then it is money like any other.

The word enters by the inbox and is fulfilled by the next set, so a callback that comes after all races it like a
second payment would: one delivery, and what is too much stays visible.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from domain import orders, payments
from domain.core import db, four_eyes, ids
from domain.core.errors import FieldInvalid, InputInvalid
from domain.core.four_eyes import Approval, Approver
from domain.core.money import Money
from domain.core.once import Once
from domain.orders.models import Order
from domain.orders.rules import CLOSED, EventKind, OrderStateConflict, OrderStatus

KIND = "payment.manual"
REASON_MAX = 500
EVIDENCE_MAX = 120
PAYABLE = CLOSED | {OrderStatus.AWAITING_PAYMENT}


async def propose_manual(
    order_id: UUID, *, reason: str, evidence: str, asked_by: UUID, once: Once
) -> Approval:
    """Ask a second person to approve that what is left of the order's total was paid. Nothing moves yet.

    `evidence` is where it can be seen: a line of a bank statement, the provider's own reference. Idempotent by
    `once`. Errors: NotFound, InputInvalid, OrderStateConflict (nothing to pay), payments.AttemptLive,
    payments.EvidenceUsed.
    """
    _check(reason, evidence)
    approval_id = ids.uuid7()
    async with db.transaction():
        earlier = await once.claim({"approval_id": str(approval_id)})
        if earlier is not None:
            found = await four_eyes.find(UUID(earlier["approval_id"]))
            assert found is not None, earlier
            return found
        order = await orders.lock_one(order_id)
        left = await _left(order)
        if await payments.is_evidence_used(evidence):
            raise payments.EvidenceUsed(path=("input", "evidence"))
        return await four_eyes.propose(
            approval_id,
            KIND,
            order.id,
            _request(order, left, reason, evidence),
            asked_by=asked_by,
            merchant_id=order.merchant_id,
        )


async def approve_manual(
    approval_id: UUID, request_hash: bytes, *, approved_by: Approver, once: Once
) -> UUID:
    """Approve exactly what was asked and put it into the inbox; the order's id. Idempotent by `once`.

    Errors: NotFound, four_eyes.SamePerson, ApproverTooNew, ApprovalDiffers, ApprovalClosed; OrderStateConflict
    when another amount is left to pay now than was asked for; payments.AttemptLive, payments.EvidenceUsed.
    """
    async with db.transaction():
        earlier = await once.claim({"approval_id": str(approval_id)})
        if earlier is not None:
            found = await four_eyes.find(UUID(earlier["approval_id"]))
            assert found is not None, earlier
            return found.subject_id
        approved = await four_eyes.approve(approval_id, KIND, request_hash, approved_by=approved_by)
        order = await orders.lock_one(approved.subject_id)
        asked = approved.request
        amount = Money.parse(asked["amount"], asked["currency"])
        if await _left(order) != amount:
            raise OrderStateConflict(status=order.status.upper())
        attempt_id = payments.new_id()
        await payments.put_manual(
            attempt_id,
            order_id=order.id,
            merchant_id=order.merchant_id,
            lane=order.lane,
            amount=amount,
            evidence=asked["evidence"],
        )
        await orders.tell(order, EventKind.MANUAL, payment_id=ids.encode("pay", attempt_id))
        return order.id


def _request(order: Order, left: Money, reason: str, evidence: str) -> dict[str, Any]:
    """What the second person reads and approves."""
    return {
        "orderId": ids.encode("ord", order.id),
        "number": order.number,
        "amount": left.decimal(),
        "currency": left.currency,
        "reason": reason,
        "evidence": evidence,
    }


async def _left(order: Order) -> Money:
    """What is still to pay of a locked order. Errors: OrderStateConflict when it is nothing."""
    kept = (await payments.kept_of([order.id])).get(order.id, 0)
    if order.status not in PAYABLE or kept >= order.total_minor:
        raise OrderStateConflict(status=order.status.upper())
    return Money(order.total_minor - kept, order.ccy)


def _check(reason: str, evidence: str) -> None:
    problems = [
        FieldInvalid(path=("input", name), reason="length", max=longest)
        for name, text, longest in (
            ("reason", reason, REASON_MAX),
            ("evidence", evidence, EVIDENCE_MAX),
        )
        if not text.strip() or len(text) > longest or not text.isprintable()
    ]
    if problems:
        raise InputInvalid(*problems)
