"""What takes two people: one asks, another one reads exactly that and approves it."""

from __future__ import annotations

from datetime import datetime
from typing import cast
from uuid import UUID

import strawberry

from domain import checkout
from domain.core import four_eyes
from domain.core.errors import FieldInvalid
from domain.core.four_eyes import Approval
from domain.identity import OperatorRole
from resolvers import access
from resolvers.context import Asked
from resolvers.delivery import Handled, handled
from resolvers.inputs import decode
from resolvers.page import Listing, Page


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


async def propose(info: Asked, input: ProposeManualPaymentInput) -> Approval:
    """Ask for a second pair of eyes."""
    viewer = access.require_operator(info.context, OperatorRole.FINANCE)
    return await checkout.propose_manual(
        decode(input.order_id, "ord", "orderId"),
        reason=input.reason,
        evidence=input.evidence,
        asked_by=viewer.account_id,
        once=info.context.once(info),
    )


async def approve(info: Asked, input: ApproveManualPaymentInput) -> Handled:
    """Be the second pair of eyes: the payment enters the inbox and is fulfilled like every other."""
    viewer = access.require_operator(info.context, OperatorRole.FINANCE)
    order_id = await checkout.approve_manual(
        decode(input.approval_id, "apr", "approvalId"),
        hash_of(input.request_hash),
        approved_by=viewer.account_id,
        once=info.context.once(info),
    )
    return await handled(info, order_id)


def hash_of(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise FieldInvalid(path=("input", "requestHash"), reason="hex") from None


APPROVALS = Listing("approvals", datetime, UUID)


async def waiting(
    info: Asked,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Page[Approval]:
    """What waits for a second person, oldest first."""
    viewer = access.require_operator(info.context, OperatorRole.FINANCE)
    window = APPROVALS.window(viewer.account_id, first=first, last=last, after=after, before=before)
    rows = await four_eyes.waiting(
        cast("tuple[datetime, UUID] | None", window.key),
        window.limit + 1,
        kind=checkout.MANUAL_PAYMENT,
        backward=window.is_backward,
    )
    return window.page(rows, key=lambda one: (one.asked_at, one.id))
