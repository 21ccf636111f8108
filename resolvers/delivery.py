"""Orders a person finishes: goods handed over by hand, orders that risk held."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from uuid import UUID

import strawberry

from domain import checkout, delivery, orders
from domain.core import db
from domain.core.errors import FieldInvalid, NotFound
from domain.identity import OperatorRole, Role
from resolvers import access
from resolvers.context import Asked
from resolvers.inputs import decode
from resolvers.orders import Seen, parts_of

CONTENTS_MAX = 500


@strawberry.input(description="Goods for one line of a paid order, made by hand.")
class DeliverGoodsInput:
    """One text per unit."""

    order_id: strawberry.ID = strawberry.field(description="The order; it must be DELIVERING.")
    line_id: strawberry.ID = strawberry.field(description="A line that is delivered by hand.")
    contents: list[str] = strawberry.field(
        description="One text per unit, at most as many as the line still lacks."
    )


@strawberry.enum(description="What a person decides about an order that risk held.")
class HoldVerdict(Enum):
    """Either way is final."""

    RELEASE = "release"
    DECLINE = "decline"


@strawberry.input(description="A decision about an order that risk held.")
class ReviewHeldOrderInput:
    """By an operator."""

    order_id: strawberry.ID = strawberry.field(description="The order; it must be HELD.")
    verdict: HoldVerdict = strawberry.field(
        description="RELEASE delivers it, DECLINE gives all money back and reveals nothing."
    )
    reason: str = strawberry.field(description="Why, for the records; 1 to 200 characters.")


@dataclass(frozen=True, slots=True)
class Handled:
    """An order after a person's act."""

    seen: Seen


async def deliver(info: Asked, input: DeliverGoodsInput) -> Handled:
    """Hand over goods for one line."""
    order_id = decode(input.order_id, "ord", "orderId")
    await _require(info, order_id, Role.OWNER, Role.CATALOGUE, Role.SUPPORT)
    if not 1 <= len(input.contents) <= CONTENTS_MAX:
        raise FieldInvalid(path=("input", "contents"), reason="count")
    once = info.context.once(info)
    async with db.transaction():
        if await once.claim({"order_id": str(order_id)}) is None:
            await delivery.deliver(
                order_id,
                decode(input.line_id, "lin", "lineId"),
                input.contents,
                note=f"by {info.context.caller}",
            )
    return await handled(info, order_id)


async def review(info: Asked, input: ReviewHeldOrderInput) -> Handled:
    """Release or decline an order that risk held."""
    access.require_operator(info.context, OperatorRole.RISK, OperatorRole.SUPPORT)
    order_id = decode(input.order_id, "ord", "orderId")
    once = info.context.once(info)
    async with db.transaction():
        if await once.claim({"order_id": str(order_id)}) is None:
            if input.verdict is HoldVerdict.RELEASE:
                await checkout.clear(order_id, asked_by=info.context.caller, reason=input.reason)
            else:
                await checkout.decline(order_id, asked_by=info.context.caller, reason=input.reason)
    return await handled(info, order_id)


async def _require(info: Asked, order_id: UUID, *roles: Role) -> None:
    view = await orders.view(order_id)
    if view is None or not access.may_see(info.context, view.order.merchant_id):
        raise NotFound(path=("input", "orderId"))
    access.require_merchant(info.context, view.order.merchant_id, *roles)


async def handled(info: Asked, order_id: UUID) -> Handled:
    """The order as whoever has acted sees it."""
    view = await orders.view(order_id, parts_of(info, "order"))
    assert view is not None
    return Handled(
        Seen(
            view,
            is_buyer=False,
            sees_split=access.may_see_money(info.context, view.order.merchant_id),
        )
    )
