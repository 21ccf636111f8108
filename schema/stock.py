"""Lots of keys in the contract: looked at, off the shelf and back on it."""

from typing import Annotated

import strawberry

from resolvers import stock as resolve
from resolvers.stock import Moved
from schema.field import NEWEST_FIRST, Who, field, mutation_field, object_type, query_field
from schema.page import Connection
from schema.problems import InvalidInput, NotFound, Unavailable
from schema.products import StockLot


@object_type(description="A lot after keys of it went off the shelf or back.", rows=(Moved,))
class CardsMoved:
    """`moved` may be less than was asked for."""

    moved: int = field(description="How many keys were moved.")
    lot: StockLot = field(description="The lot as it is now.")


WithdrawCardsResult = Annotated[
    CardsMoved | NotFound | InvalidInput | Unavailable,
    strawberry.union("WithdrawCardsResult", description="The lot, or why nothing was moved."),
]
RestoreCardsResult = Annotated[
    CardsMoved | NotFound | InvalidInput | Unavailable,
    strawberry.union("RestoreCardsResult", description="The lot, or why nothing was moved."),
]


@strawberry.type
class StockQuery:
    """Reads."""

    stock_lots: Connection[StockLot] = query_field(
        resolve.lots,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="The lots of a variant with their counts, newest first.",
        args={
            "variantId": "The variant, `var_…`, of a merchant the caller belongs to.",
            **NEWEST_FIRST,
        },
    )


@strawberry.type
class StockMutation:
    """Writes; each is a row of the audit log."""

    withdraw_cards: WithdrawCardsResult = mutation_field(
        resolve.withdraw,
        who=Who.MERCHANT,
        idempotent=True,
        description="Take available keys of a lot off the shelf; what is reserved or sold stays its order's. "
        "Problems: NOT_FOUND, INVALID_INPUT.",
        args={"input": "The lot, how many and why."},
        cost=10,
    )
    restore_cards: RestoreCardsResult = mutation_field(
        resolve.restore,
        who=Who.MERCHANT,
        idempotent=True,
        description="Put withdrawn keys of a lot back on the shelf; exported ones stay off. "
        "Problems: NOT_FOUND, INVALID_INPUT.",
        args={"input": "The lot, how many and why."},
        cost=10,
    )
