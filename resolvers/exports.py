"""Bulk export of goods under four eyes: asked for, approved by a colleague, fetched once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

import strawberry

from domain import catalogue, identity
from domain.catalogue import Export
from domain.core import clock, four_eyes, ids
from domain.core.audit import Actor
from domain.core.errors import NotFound
from domain.core.four_eyes import Approval
from domain.identity import Viewer
from resolvers import access, page
from resolvers.approvals import hash_of
from resolvers.context import Asked
from resolvers.errors import BadUserInput
from resolvers.inputs import decode
from resolvers.page import Listing, Page

EXPORTS = Listing("goods.exports", datetime, UUID)
PATH = "/exports"


@strawberry.input(description="Ask for goods to be exported in the clear.")
class ProposeGoodsExportInput:
    """A colleague who may stock the shop approves it within 24 hours."""

    variant_id: strawberry.ID = strawberry.field(description="Of which variant, `var_…`.")
    count: int = strawberry.field(description="How many available keys at most, 1 to 10,000.")
    reason: str = strawberry.field(description="Why, for the records; 1 to 200 characters.")


@strawberry.input(description="Approve an export that a colleague asked for.")
class ApproveGoodsExportInput:
    """The hash binds the approval to what was read."""

    approval_id: strawberry.ID = strawberry.field(description="The approval, `apr_…`.")
    request_hash: str = strawberry.field(
        description="Its `requestHash` as it was read together with the request."
    )


@dataclass(frozen=True, slots=True)
class Ready:
    """An approved export and how to fetch it."""

    export: Export
    token: str


async def propose(info: Asked, input: ProposeGoodsExportInput) -> Approval:
    """Ask for a second pair of eyes."""
    variant_id = decode(input.variant_id, "var", "variantId")
    merchant_id = await catalogue.owner_of(variant_id)
    access.stocker(info.context, merchant_id, "variantId")
    assert merchant_id is not None
    return await catalogue.propose_export(
        merchant_id,
        variant_id,
        input.count,
        input.reason,
        asked_by=access.require_viewer(info.context).account_id,
        once=info.context.once(info),
    )


async def approve(info: Asked, input: ApproveGoodsExportInput) -> Ready:
    """Be the second pair of eyes; the answer says how to fetch the goods."""
    viewer = access.require_viewer(info.context)
    approval_id = decode(input.approval_id, "apr", "approvalId")
    found = await catalogue.find_export(approval_id)
    export_of = found.merchant_id if found else None
    access.stocker(info.context, export_of, "approvalId")
    export = await catalogue.approve_export(
        approval_id,
        hash_of(input.request_hash),
        approved_by=await identity.approver(viewer.account_id, export_of),
        once=info.context.once(info),
    )
    token = page.sign(catalogue.EXPORT_KIND, approval_id, viewer.account_id, export.until)
    return Ready(export, token)


async def waiting(
    info: Asked,
    merchant_id: strawberry.ID,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Page[Approval]:
    """The exports of a merchant that wait for a second person, oldest first."""
    access.require_viewer(info.context)
    try:
        merchant = ids.decode(merchant_id, "mer")
    except ids.IdInvalid:
        raise NotFound() from None
    access.require_merchant(info.context, merchant, *access.STOCKERS)
    window = EXPORTS.window(merchant, first=first, last=last, after=after, before=before)
    rows = await four_eyes.waiting(
        cast("tuple[datetime, UUID] | None", window.key),
        window.limit + 1,
        kinds=[catalogue.EXPORT_KIND],
        merchant_id=merchant,
        backward=window.is_backward,
    )
    return window.page(rows, key=lambda one: (one.asked_at, one.id))


async def fetch(viewer: Viewer, token: str, *, address: str | None, request_id: str) -> str:
    """The goods behind a token, once, for the person who approved; the right is looked at again.

    Errors: NotFound for any token that is not good (any more) for this person; Forbidden; ApprovalClosed.
    """
    try:
        approval_id, account_id, until = page.read(
            token, catalogue.EXPORT_KIND, UUID, UUID, datetime
        )
    except BadUserInput:
        raise NotFound() from None
    found = await catalogue.find_export(approval_id)
    if found is None or account_id != viewer.account_id or until <= clock.now():
        raise NotFound()
    assert found.merchant_id is not None, "an export is a merchant's"
    access.require_member(viewer, found.merchant_id, *access.STOCKERS)
    account = ids.encode("acc", viewer.account_id)
    actor = Actor("merchant", account, request_id=request_id, address=address)
    return await catalogue.fetch_export(approval_id, viewer.account_id, actor)
