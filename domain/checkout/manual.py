"""Money that people move: one operator says that an order was paid, or was paid back, by hand; another one approves it.

A payment enters by the inbox and is fulfilled by the next set, so a callback that comes after all races it like a
second payment would: one delivery, and what is too much stays visible. A refund has left already when it is written
down, so it stops at nothing the merchant owes.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from domain import orders, payments
from domain.checkout import refund_words, refunds
from domain.core import db, four_eyes, ids
from domain.core.errors import FieldInvalid, InputInvalid
from domain.core.four_eyes import Approval, Approver
from domain.core.money import Money, UnsupportedCurrency
from domain.core.once import Once
from domain.orders.models import Order
from domain.orders.rules import CLOSED, EventKind, OrderStateConflict, OrderStatus
from domain.payments.ports import RefundAnswer, RefundState

PAYMENT = "payment.manual"
REFUND = "refund.manual"
KINDS = (PAYMENT, REFUND)
REASON = "by_hand"  # of the refund rows; what people wrote is in the approval
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
        if earlier := await _earlier(once, approval_id):
            return earlier
        order = await orders.lock_one(order_id)
        left = await _left(order)
        if await payments.is_evidence_used(evidence):
            raise payments.EvidenceUsed(path=("input", "evidence"))
        request = _request(order, left, reason, evidence)
        return await _ask(approval_id, PAYMENT, order, request, asked_by)


async def approve_manual(
    approval_id: UUID, request_hash: bytes, *, approved_by: Approver, once: Once
) -> UUID:
    """Approve exactly what was asked and put it into the inbox; the order's id. Idempotent by `once`.

    Errors: NotFound, four_eyes.SamePerson, ApproverTooNew, ApprovalDiffers, ApprovalClosed; OrderStateConflict
    when another amount is left to pay now than was asked for; payments.AttemptLive, payments.EvidenceUsed.
    """
    async with db.transaction():
        if earlier := await _earlier(once, approval_id):
            return earlier.subject_id
        approved = await four_eyes.approve(
            approval_id, PAYMENT, request_hash, approved_by=approved_by
        )
        order = await orders.lock_one(approved.subject_id)
        amount = _amount(approved)
        if await _left(order) != amount:
            raise OrderStateConflict(status=order.status.upper())
        attempt_id = payments.new_id()
        await payments.put_manual(
            attempt_id,
            order_id=order.id,
            merchant_id=order.merchant_id,
            lane=order.lane,
            amount=amount,
            evidence=approved.request["evidence"],
        )
        await orders.tell(order, EventKind.MANUAL, payment_id=ids.encode("pay", attempt_id))
        return order.id


async def propose_manual_refund(
    order_id: UUID, amount: Money, *, reason: str, evidence: str, asked_by: UUID, once: Once
) -> Approval:
    """Ask a second person to approve that `amount` of the order was sent back by hand. Nothing is booked yet.

    `evidence` is where the transfer can be seen. Idempotent by `once`. Errors: NotFound, InputInvalid,
    UnsupportedCurrency, refunds.RefundExceedsCaptured, payments.EvidenceUsed.
    """
    _check(reason, evidence)
    approval_id = ids.uuid7()
    async with db.transaction():
        if earlier := await _earlier(once, approval_id):
            return earlier
        order = await orders.lock_one(order_id)
        if amount.currency != order.ccy:
            raise UnsupportedCurrency(
                path=("input", "amount", "currency"), currency=amount.currency
            )
        await refunds.check_free(order, amount.minor)
        if await payments.is_refund_evidence_used(evidence):
            raise payments.EvidenceUsed(path=("input", "evidence"))
        request = _request(order, amount, reason, evidence)
        return await _ask(approval_id, REFUND, order, request, asked_by)


async def approve_manual_refund(
    approval_id: UUID, request_hash: bytes, *, approved_by: Approver, once: Once
) -> UUID:
    """Approve exactly what was asked and book it as sent; the order's id. Idempotent by `once`.

    The money comes out of `provider_clearing` of `manual`, whatever provider took it. Errors: NotFound,
    four_eyes.SamePerson, ApproverTooNew, ApprovalDiffers, ApprovalClosed, refunds.RefundExceedsCaptured,
    payments.EvidenceUsed.
    """
    async with db.transaction():
        if earlier := await _earlier(once, approval_id):
            return earlier.subject_id
        approved = await four_eyes.approve(
            approval_id, REFUND, request_hash, approved_by=approved_by
        )
        order = await orders.lock_one(approved.subject_id)
        evidence = await payments.keep_refund_evidence(order.id, approved.request["evidence"])
        said = RefundAnswer(RefundState.SUCCEEDED, provider_ref=evidence)
        by = ids.encode("acc", approved.asked_by)
        booked = await refunds.book(order, _amount(approved).minor, REASON, by, may_owe=True)
        for refund in booked:
            await refunds.tell_started(order, refund)
            await refund_words.succeed(order, refund, said, by_hand=True)
        return order.id


async def _earlier(once: Once, approval_id: UUID) -> Approval | None:
    """The approval of an earlier call with this key; None claims the key for `approval_id`."""
    earlier = await once.claim({"approval_id": str(approval_id)})
    if earlier is None:
        return None
    found = await four_eyes.find(UUID(earlier["approval_id"]))
    assert found is not None, earlier
    return found


async def _ask(
    approval_id: UUID, kind: str, order: Order, request: dict[str, Any], asked_by: UUID
) -> Approval:
    return await four_eyes.propose(
        approval_id, kind, order.id, request, asked_by=asked_by, merchant_id=order.merchant_id
    )


def _amount(approved: Approval) -> Money:
    return Money.parse(approved.request["amount"], approved.request["currency"])


def _request(order: Order, amount: Money, reason: str, evidence: str) -> dict[str, Any]:
    """What the second person reads and approves."""
    return {
        "orderId": ids.encode("ord", order.id),
        "number": order.number,
        "amount": amount.decimal(),
        "currency": amount.currency,
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
