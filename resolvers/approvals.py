"""What takes two people: one asks, another one reads exactly that and approves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

import strawberry

from domain import catalogue, checkout, identity, payments, payouts
from domain.core import four_eyes, ids
from domain.core.errors import FieldInvalid, NotFound
from domain.core.four_eyes import Approval
from domain.identity import Forbidden, OperatorRole, Role, Viewer
from resolvers import access
from resolvers.context import Asked
from resolvers.inputs import decode
from resolvers.page import Listing, Page


@strawberry.input(
    description="Approve a change of payout destinations or provider accounts of a colleague."
)
class ApproveChangeInput:
    """The hash binds the approval to what was read."""

    approval_id: strawberry.ID = strawberry.field(description="The approval, `apr_…`.")
    request_hash: str = strawberry.field(
        description="Its `requestHash` as it was read together with the request."
    )


@strawberry.input(description="End something that waits for a second person, or that cools down.")
class DeclineApprovalInput:
    """Whoever asked takes it back; everybody else declines or stops it."""

    approval_id: strawberry.ID = strawberry.field(description="The approval, `apr_…`.")
    note: str | None = strawberry.field(
        default=None, description="Why, for the records; at most 200 characters."
    )


# Who in a merchant asks, reads, approves and declines what; an owner all of it.
ROLES: Mapping[str, tuple[Role, ...]] = {
    catalogue.EXPORT_KIND: access.STOCKERS,
    payouts.KIND: (Role.FINANCE,),
    payments.ACCOUNT_CHANGE: (Role.FINANCE,),
}


async def approve_change(info: Asked, input: ApproveChangeInput) -> Approval:
    """Be the second pair of eyes of what needs no more than that."""
    viewer = access.require_viewer(info.context)
    approval_id = decode(input.approval_id, "apr", "approvalId")
    found = await four_eyes.find(approval_id)
    if found is None or found.kind not in CHANGES or found.merchant_id not in viewer.roles:
        raise NotFound(path=("input", "approvalId"))
    assert found.merchant_id is not None
    access.require_merchant(info.context, found.merchant_id, *ROLES[found.kind])
    return await CHANGES[found.kind](
        approval_id,
        hash_of(input.request_hash),
        approved_by=await identity.approver(viewer.account_id, found.merchant_id),
    )


async def decline(info: Asked, input: DeclineApprovalInput) -> Approval:
    """Keep something from happening, before it was approved or while it cools down."""
    viewer = access.require_viewer(info.context)
    approval_id = decode(input.approval_id, "apr", "approvalId")
    found = await four_eyes.find(approval_id)
    if found is not None and found.kind in checkout.MANUAL and viewer.operator:
        access.require_operator(info.context, OperatorRole.FINANCE)
    elif found is None or found.kind not in ROLES or found.merchant_id not in viewer.roles:
        raise NotFound(path=("input", "approvalId"))
    else:
        assert found.merchant_id is not None
        access.require_merchant(info.context, found.merchant_id, *ROLES[found.kind])
    return await four_eyes.decline(approval_id, by=viewer.account_id, note=input.note or "")


def hash_of(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise FieldInvalid(path=("input", "requestHash"), reason="hex") from None


# How each kind takes effect whose approval answers with nothing but itself.
CHANGES = {
    payouts.KIND: payouts.approve_method,
    payments.ACCOUNT_CHANGE: payments.approve_account,
}
APPROVALS = Listing("approvals", datetime, UUID)


async def waiting(
    info: Asked,
    merchant_id: strawberry.ID | None = None,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Page[Approval]:
    """What waits for a second person, oldest first: the platform's own, or a merchant's that the viewer may approve."""
    merchant: UUID | None = None
    kinds: Sequence[str] = checkout.MANUAL
    if merchant_id is None:
        viewer = access.require_operator(info.context, OperatorRole.FINANCE)
    else:
        viewer = access.require_viewer(info.context)
        try:
            merchant = ids.decode(merchant_id, "mer")
        except ids.IdInvalid:
            raise NotFound() from None
        kinds = _kinds(info, viewer, merchant)
    scope = (viewer.account_id, merchant, kinds)
    window = APPROVALS.window(*scope, first=first, last=last, after=after, before=before)
    rows = await four_eyes.waiting(
        cast("tuple[datetime, UUID] | None", window.key),
        window.limit + 1,
        kinds=kinds,
        merchant_id=merchant,
        with_cooling=True,
        backward=window.is_backward,
    )
    return window.page(rows, key=lambda one: (one.asked_at, one.id))


def _kinds(info: Asked, viewer: Viewer, merchant_id: UUID) -> Sequence[str]:
    """What the viewer may approve in a merchant. Errors: NotFound, Forbidden for a role that approves nothing."""
    if merchant_id not in viewer.roles:
        raise NotFound()
    kinds = [kind for kind, roles in ROLES.items() if viewer.may(merchant_id, *roles)]
    if not kinds:
        raise Forbidden()
    return kinds
