"""A merchant's coupons: read, issued, changed and ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Any, cast
from uuid import UUID

import strawberry

from domain import catalogue
from domain.catalogue import CouponChange, CouponTerms, Keep, ManagedCoupon
from domain.core import ids, words
from domain.core.errors import DomainError, NotFound
from resolvers import access, once
from resolvers.context import Asked
from resolvers.inputs import Faults, MoneyInput, decode
from resolvers.page import Listing, Page
from resolvers.products import merchant_of

COUPONS = Listing("merchant.coupons", UUID)


@strawberry.enum(
    description="What a coupon takes off: an amount, or a share of the lines it is for."
)
class CouponKind(Enum):
    """See domain.catalogue.CouponKind."""

    FIXED = "fixed"
    PERCENT = "percent"


@strawberry.input(description="A new coupon of a merchant.")
class CreateCouponInput:
    """A limit that is left out limits nothing."""

    merchant_id: strawberry.ID = strawberry.field(description="The merchant, `mer_…`.")
    code: str = strawberry.field(
        description="What buyers type, in any case and width; 1 to 64 characters, once per merchant for ever."
    )
    kind: CouponKind = strawberry.field(description="PERCENT with percentBps, FIXED with amounts.")
    percent_bps: int | None = strawberry.field(
        default=None, description="The share in basis points, 1 to 10,000: 1000 is 10 %."
    )
    amounts: list[MoneyInput] | None = strawberry.field(
        default=None,
        description="What is taken off, one per currency; the first is converted for all others.",
    )
    min_totals: list[MoneyInput] | None = strawberry.field(
        default=None,
        description="From which total of the lines it is for on, one per currency; of a FIXED one in its currencies.",
    )
    use_limit: int | None = strawberry.field(
        default=None, description="How many orders may take it in all."
    )
    buyer_limit: int | None = strawberry.field(
        default=None, description="How many orders of one e-mail address may take it."
    )
    shop_id: strawberry.ID | None = strawberry.field(
        default=None, description="The one shop it is for; all of the merchant's when omitted."
    )
    product_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="The products it is for, at most 200; all when omitted."
    )
    starts_at: datetime | None = strawberry.field(
        default=None, description="From when on it counts; at once when omitted."
    )
    expires_at: datetime | None = strawberry.field(
        default=None, description="Until when it counts; for ever when omitted."
    )


@strawberry.input(
    description="A change of a coupon's limits and period; what is left out stays, null takes a limit away."
)
class UpdateCouponInput:
    """What it takes off never changes: end it and issue another."""

    coupon_id: strawberry.ID = strawberry.field(description="The coupon, `cpn_…`.")
    expected_version: int = strawberry.field(
        description="The version it had when it was read; orders do not move it."
    )
    use_limit: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="How many orders may take it in all; below what is used it is used up.",
    )
    buyer_limit: int | None = strawberry.field(
        default=strawberry.UNSET, description="How many orders of one e-mail address may take it."
    )
    starts_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="From when on it counts."
    )
    expires_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Until when it counts."
    )


@strawberry.input(description="A coupon to end for good.")
class EndCouponInput:
    """Orders that took it keep it."""

    coupon_id: strawberry.ID = strawberry.field(description="The coupon, `cpn_…`.")
    expected_version: int = strawberry.field(description="The version it had when it was read.")


async def create(info: Asked, input: CreateCouponInput) -> ManagedCoupon:
    """Issue a coupon."""
    merchant_id = decode(input.merchant_id, "mer", "merchantId")
    actor = access.stocker(info.context, merchant_id, "merchantId")
    faults = Faults()
    terms = CouponTerms(
        code=input.code,
        kind=catalogue.CouponKind(input.kind.value),
        percent_bps=input.percent_bps,
        amounts=_amounts(faults, input.amounts, "amounts"),
        min_totals=_amounts(faults, input.min_totals, "minTotals"),
        use_limit=input.use_limit,
        buyer_limit=input.buyer_limit,
        shop_id=decode(input.shop_id, "shp", "shopId") if input.shop_id else None,
        product_ids=_products(faults, input.product_ids or ()),
        starts_at=input.starts_at,
        expires_at=input.expires_at,
    )
    words.refuse([*faults, *terms.faults()])
    made = ids.uuid7()

    async def act() -> None:
        await catalogue.add_coupon(merchant_id, terms, coupon_id=made, actor=actor)

    done = await once.do(info, {"id": str(made)}, act)
    return await _coupon(UUID(done["id"]))


def _amounts(faults: Faults, given: Sequence[MoneyInput] | None, name: str) -> list[Any]:
    return [faults.money(one, "input", name, str(place)) for place, one in enumerate(given or ())]


def _products(faults: Faults, given: Sequence[str]) -> list[UUID]:
    found = []
    for place, one in enumerate(given):
        try:
            found.append(decode(one, "prd", "productIds", str(place)))
        except DomainError as error:
            faults.append(error)
    return found


async def update(info: Asked, input: UpdateCouponInput) -> ManagedCoupon:
    """Change a coupon's limits and period."""
    coupon_id, found = await _find(input.coupon_id)
    actor = access.stocker(info.context, found, "couponId")
    assert found is not None
    change = CouponChange(
        use_limit=_kept(input.use_limit),
        buyer_limit=_kept(input.buyer_limit),
        starts_at=_kept(input.starts_at),
        expires_at=_kept(input.expires_at),
    )

    async def act() -> None:
        await catalogue.change_coupon(
            found.merchant_id,
            coupon_id,
            change,
            expected_version=input.expected_version,
            actor=actor,
        )

    await once.do(info, {"id": str(coupon_id)}, act)
    return await _coupon(coupon_id)


def _kept(value: Any) -> Any:
    return Keep.KEEP if value is strawberry.UNSET else value


async def end(info: Asked, input: EndCouponInput) -> ManagedCoupon:
    """End a coupon."""
    coupon_id, found = await _find(input.coupon_id)
    actor = access.stocker(info.context, found, "couponId")
    assert found is not None

    async def act() -> None:
        await catalogue.end_coupon(
            found.merchant_id, coupon_id, expected_version=input.expected_version, actor=actor
        )

    await once.do(info, {"id": str(coupon_id)}, act)
    return await _coupon(coupon_id)


async def _find(text: str) -> tuple[UUID, ManagedCoupon | None]:
    coupon_id = decode(text, "cpn", "couponId")
    return coupon_id, (await catalogue.coupons_by_id([coupon_id])).get(coupon_id)


async def _coupon(coupon_id: UUID) -> ManagedCoupon:
    return (await catalogue.coupons_by_id([coupon_id]))[coupon_id]


async def current(info: Asked, coupon_id: UUID) -> ManagedCoupon | None:
    """A coupon as it is now."""
    return (await catalogue.coupons_by_id([coupon_id])).get(coupon_id)


async def by_id(info: Asked, coupon_id: UUID) -> ManagedCoupon | None:
    """A coupon of one of the viewer's merchants; guests are told there is none."""
    found = await current(info, coupon_id)
    if found is None or not access.may_see(info.context, found.merchant_id):
        raise NotFound()
    return found


async def of_merchant(
    info: Asked,
    merchant_id: strawberry.ID,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Page[ManagedCoupon]:
    """A merchant's coupons, newest first."""
    owner = merchant_of(info, merchant_id)
    window = COUPONS.window(owner, first=first, last=last, after=after, before=before)
    key = cast("tuple[UUID] | None", window.key)
    rows = await catalogue.coupons_of(
        owner,
        beyond=key[0] if key else None,
        limit=window.limit + 1,
        backward=window.is_backward,
    )
    return window.page(
        rows, key=lambda one: (one.id,), total=lambda: catalogue.count_coupons(owner)
    )
