"""What people finish, in the contract: goods by hand, orders that risk held, money that wants a look."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain import delivery
from domain.core import ids
from resolvers import delivery as resolve
from resolvers.delivery import Doubt, Handled
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.money import Money
from schema.orders import InsufficientFunds, Order, OrderStateConflict
from schema.page import Connection
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem
from schema.scalars import JSON


@object_type(description="An order after a person's act.", rows=(Handled,))
class OrderHandled:
    """What was done is on its timeline."""

    order: Order = derived(lambda one: one.seen, description="The order.")


@problem(delivery.DeliveryInvalid, description="These goods do not fit the line.")
class DeliveryInvalid(Problem):
    """Code DELIVERY_INVALID."""

    missing: int | None = field(description="How many units the line still lacks.")


@object_type(description="A money fact that waits for a person.", rows=(Doubt,))
class MoneyException:
    """Its money rests in the books meanwhile: `suspense` or `buyer_held`."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("exc", one.id), description="Opaque id, `exc_…`."
    )
    kind: str = field(
        description="conflicted, surplus, short, late_rate, unknown_payment, unfulfillable, refund_failed, "
        "supply_refused, supplier_claim or unauthenticated."
    )
    order_id: strawberry.ID | None = derived(
        lambda one: ids.encode("ord", one.order_id) if one.order_id else None,
        description="The order it is about; null when it is about none we know.",
    )
    amount: Money | None = field(description="The money concerned; null when none was booked.")
    opened_at: datetime = field(description="Since when it waits.")
    facts: JSON = field(description="What is known.")


DeliverGoodsResult = Annotated[
    OrderHandled | DeliveryInvalid | OrderStateConflict | NotFound | InvalidInput | Unavailable,
    strawberry.union(
        "DeliverGoodsResult", description="The order, or why nothing was handed over."
    ),
]
ReviewHeldOrderResult = Annotated[
    OrderHandled | OrderStateConflict | InsufficientFunds | NotFound | InvalidInput | Unavailable,
    strawberry.union("ReviewHeldOrderResult", description="The order, or why nothing was decided."),
]


@strawberry.type
class DeliveryQuery:
    """Reads."""

    money_exceptions: Connection[MoneyException] = query_field(
        resolve.doubts,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="Open money exceptions, oldest first: of everyone for operators, of their own for members.",
        args={
            "first": "How many from the start, 1 to 100.",
            "last": "How many from the end, 1 to 100.",
            "after": "Cursor to continue behind.",
            "before": "Cursor to continue before.",
        },
    )


@strawberry.type
class DeliveryMutation:
    """Writes."""

    deliver_goods: DeliverGoodsResult = mutation_field(
        resolve.deliver,
        who=Who.MERCHANT,
        idempotent=True,
        description="Hand over goods of a line that is delivered by hand. "
        "Problems: DELIVERY_INVALID, ORDER_STATE_CONFLICT, NOT_FOUND.",
        args={"input": "The order, its line and the goods."},
    )
    review_held_order: ReviewHeldOrderResult = mutation_field(
        resolve.review,
        who=Who.OPERATOR,
        idempotent=True,
        description="Release or decline an order that risk held. Problems: ORDER_STATE_CONFLICT, NOT_FOUND.",
        args={"input": "The order and the verdict."},
    )
