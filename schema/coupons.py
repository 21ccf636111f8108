"""Coupons in the contract, as their merchant sees them."""

from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry

from domain.catalogue import ManagedCoupon
from domain.core import ids
from resolvers import coupons as resolve
from resolvers.coupons import CouponKind
from schema.field import NEWEST_FIRST, Who, derived, field, mutation_field, object_type, query_field
from schema.money import Money
from schema.node import Node, register
from schema.page import Connection
from schema.problems import Conflict, InvalidInput, NotFound, Unavailable
from schema.versions import Versioned, aggregate


@strawberry.enum(description="ACTIVE counts within its period and limits; ENDED never again.")
class CouponState(Enum):
    """`disabled` in the table."""

    ACTIVE = "active"
    ENDED = "disabled"


@object_type(description="A coupon of a merchant.", rows=(ManagedCoupon,))
class Coupon(Node, Versioned):
    """Members of its merchant and operators see it."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("cpn", one.id), description="Opaque id, `cpn_…`."
    )
    version: int = field(
        description="Send it as `expectedVersion` with a change; orders do not move it."
    )
    code: str = field(description="What buyers type, in capitals.")
    kind: CouponKind = derived(
        lambda one: CouponKind(one.kind), description="What it takes off: a share or an amount."
    )
    percent_bps: int | None = field(description="The share in basis points; null when FIXED.")
    amounts: list[Money] = field(
        description="What is taken off per currency, the base first; empty when PERCENT."
    )
    min_totals: list[Money] = field(
        description="From which total on, per currency; empty when from any."
    )
    used: int = field(
        description="How many orders hold or took it; late payments may pass the limit."
    )
    use_limit: int | None = field(description="How many orders may take it; null is any number.")
    buyer_limit: int | None = field(
        description="How many orders of one e-mail address; null is any number."
    )
    shop_id: strawberry.ID | None = derived(
        lambda one: ids.encode("shp", one.shop_id) if one.shop_id else None,
        description="The one shop it is for; null is all of the merchant's.",
    )
    product_ids: list[strawberry.ID] = derived(
        lambda one: [ids.encode("prd", product_id) for product_id in one.product_ids],
        description="The products it is for; empty is all.",
    )
    starts_at: datetime | None = field(description="From when on it counts; null is at once.")
    expires_at: datetime | None = field(description="Until when it counts; null is for ever.")
    state: CouponState = derived(
        lambda one: CouponState(one.state), description="Whether it was ended."
    )
    created_at: datetime = field(description="When it was issued.")


CreateCouponResult = Annotated[
    Coupon | NotFound | InvalidInput | Unavailable,
    strawberry.union("CreateCouponResult", description="The new coupon, or why there is none."),
]
UpdateCouponResult = Annotated[
    Coupon | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union("UpdateCouponResult", description="The changed coupon, or why not."),
]
EndCouponResult = Annotated[
    Coupon | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union("EndCouponResult", description="The ended coupon, or why not."),
]


@strawberry.type
class CouponQuery:
    """Reads."""

    merchant_coupons: Connection[Coupon] = query_field(
        resolve.of_merchant,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="A merchant's coupons, ended ones too, newest first.",
        args={
            "merchantId": "The merchant, one the caller belongs to.",
            **NEWEST_FIRST,
        },
    )


@strawberry.type
class CouponMutation:
    """Writes; each is a row of the audit log."""

    create_coupon: CreateCouponResult = mutation_field(
        resolve.create,
        who=Who.MERCHANT,
        idempotent=True,
        description="Issue a coupon. Its limits hold under any number of buyers. Problems: NOT_FOUND, INVALID_INPUT.",
        args={"input": "What it takes off, from what, and how often."},
        cost=5,
    )
    update_coupon: UpdateCouponResult = mutation_field(
        resolve.update,
        who=Who.MERCHANT,
        idempotent=True,
        description="Change a coupon's limits and period. Problems: CONFLICT, NOT_FOUND, INVALID_INPUT.",
        args={"input": "What changes, and the version it is based on."},
        cost=5,
    )
    end_coupon: EndCouponResult = mutation_field(
        resolve.end,
        who=Who.MERCHANT,
        idempotent=True,
        description="End a coupon for good; orders that took it keep it. Problems: CONFLICT, NOT_FOUND.",
        args={"input": "The coupon, and the version it is based on."},
        cost=5,
    )


register("cpn", Coupon, load=resolve.by_id)
aggregate("cpn", load=resolve.current)
