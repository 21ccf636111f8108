"""Money that people move where no provider tells us: an order that was paid, or paid back, by hand; two operators."""

from __future__ import annotations

import strawberry

from domain import checkout, identity
from domain.core.four_eyes import Approval, Approver
from domain.identity import OperatorRole, Viewer
from resolvers import access
from resolvers.approvals import hash_of
from resolvers.context import Asked
from resolvers.delivery import Handled, handled
from resolvers.inputs import MoneyInput, decode


@strawberry.input(description="Say that an order was paid where no provider tells us.")
class ProposeManualPaymentInput:
    """What is left of its total; nothing moves before a second person approves it."""

    order_id: strawberry.ID = strawberry.field(
        description="The order; AWAITING_PAYMENT, EXPIRED or CANCELLED."
    )
    reason: str = strawberry.field(
        description="Why it is put in by hand, for the records; 1 to 500 characters."
    )
    evidence: str = strawberry.field(
        description="Where the payment can be seen, e.g. a line of a bank statement; 1 to 120 characters. "
        "The same evidence pays one order only."
    )


@strawberry.input(description="Approve a manual payment that somebody else proposed.")
class ApproveManualPaymentInput:
    """The hash binds the approval to what was read."""

    approval_id: strawberry.ID = strawberry.field(description="The approval.")
    request_hash: str = strawberry.field(
        description="Its `requestHash` as it was read together with the request."
    )


@strawberry.input(
    description="Say that money of an order was sent back where no provider tells us."
)
class ProposeManualRefundInput:
    """It has left already; nothing is booked before a second person approves it."""

    order_id: strawberry.ID = strawberry.field(description="The order.")
    amount: MoneyInput = strawberry.field(
        description="How much was sent, in the order's currency; at most what is left of its payments."
    )
    reason: str = strawberry.field(
        description="Why it was sent by hand, for the records; 1 to 500 characters."
    )
    evidence: str = strawberry.field(
        description="Where the transfer can be seen, e.g. a line of a bank statement; 1 to 120 characters. "
        "The same evidence counts once."
    )


@strawberry.input(description="Approve a manual refund that somebody else proposed.")
class ApproveManualRefundInput:
    """The hash binds the approval to what was read."""

    approval_id: strawberry.ID = strawberry.field(description="The approval.")
    request_hash: str = strawberry.field(
        description="Its `requestHash` as it was read together with the request."
    )


def _finance(info: Asked) -> Viewer:
    return access.require_operator(info.context, OperatorRole.FINANCE)


async def _approver(info: Asked) -> Approver:
    return await identity.approver(_finance(info).account_id)


async def propose(info: Asked, input: ProposeManualPaymentInput) -> Approval:
    """Ask for a second pair of eyes."""
    viewer = _finance(info)
    return await checkout.propose_manual(
        decode(input.order_id, "ord", "orderId"),
        reason=input.reason,
        evidence=input.evidence,
        asked_by=viewer.account_id,
        once=info.context.once(info),
    )


async def approve(info: Asked, input: ApproveManualPaymentInput) -> Handled:
    """Be the second pair of eyes: the payment enters the inbox and is fulfilled like every other."""
    approver = await _approver(info)
    order_id = await checkout.approve_manual(
        decode(input.approval_id, "apr", "approvalId"),
        hash_of(input.request_hash),
        approved_by=approver,
        once=info.context.once(info),
    )
    return await handled(info, order_id)


async def propose_refund(info: Asked, input: ProposeManualRefundInput) -> Approval:
    """Ask for a second pair of eyes on money that was sent back."""
    viewer = _finance(info)
    return await checkout.propose_manual_refund(
        decode(input.order_id, "ord", "orderId"),
        input.amount.parse("input", "amount"),
        reason=input.reason,
        evidence=input.evidence,
        asked_by=viewer.account_id,
        once=info.context.once(info),
    )


async def approve_refund(info: Asked, input: ApproveManualRefundInput) -> Handled:
    """Be the second pair of eyes: the refund is booked as sent."""
    approver = await _approver(info)
    order_id = await checkout.approve_manual_refund(
        decode(input.approval_id, "apr", "approvalId"),
        hash_of(input.request_hash),
        approved_by=approver,
        once=info.context.once(info),
    )
    return await handled(info, order_id)
