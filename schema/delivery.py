"""What people finish, in the contract: goods by hand, orders that risk held."""

from typing import Annotated

import strawberry

from domain import delivery
from resolvers import delivery as resolve
from resolvers.delivery import Handled
from schema.field import Who, derived, field, mutation_field, object_type
from schema.orders import InsufficientFunds, Order, OrderStateConflict
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem


@object_type(description="An order after a person's act.", rows=(Handled,))
class OrderHandled:
    """What was done is on its timeline."""

    order: Order = derived(lambda one: one.seen, description="The order.")


@problem(delivery.DeliveryInvalid, description="These goods do not fit the line.")
class DeliveryInvalid(Problem):
    """Code DELIVERY_INVALID."""

    missing: int | None = field(description="How many units the line still lacks.")


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
