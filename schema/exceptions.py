"""Money that wants a look, in the contract: what is open, and how it ends."""

from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry

from domain import settlement
from domain.core import ids
from resolvers import exceptions as resolve
from resolvers.stepup import FRESH
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.money import Money
from schema.page import Connection
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem
from schema.scalars import JSON


@strawberry.enum(description="Whether somebody still has to look at a money exception.")
class MoneyExceptionState(Enum):
    """ACCEPTED: it stays as it is, and that is known."""

    OPEN = "open"
    RESOLVED = "resolved"
    ACCEPTED = "accepted"


@object_type(description="A money fact that waits for a person.", rows=(settlement.MoneyException,))
class MoneyException:
    """Its money rests in the books meanwhile: `suspense` or `buyer_held`."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("exc", one.id), description="Opaque id, `exc_…`."
    )
    kind: str = field(
        description="conflicted, surplus, short, late_rate, unknown_payment, unfulfillable, refund_failed, "
        "refund_by_hand, release_short, supply_refused, supplier_claim or unauthenticated."
    )
    order_id: strawberry.ID | None = derived(
        lambda one: ids.encode("ord", one.order_id) if one.order_id else None,
        description="The order it is about; null when it is about none we know.",
    )
    amount: Money | None = field(description="The money concerned; null when none was booked.")
    opened_at: datetime = field(description="Since when it waits.")
    facts: JSON = field(description="What is known.")
    state: MoneyExceptionState = derived(
        lambda one: MoneyExceptionState(one.state), description="Whether it waits."
    )
    note: str = field(
        description="What whoever closed it has found; empty before, and when it explained itself."
    )
    closed_at: datetime | None = field(description="When it was closed; null while it is open.")


@problem(settlement.ExceptionClosed, description="The exception was closed before.")
class ExceptionClosed(Problem):
    """Code EXCEPTION_CLOSED."""

    closed_as: str | None = field(description="RESOLVED or ACCEPTED.")


CloseMoneyExceptionResult = Annotated[
    MoneyException | ExceptionClosed | NotFound | InvalidInput | Unavailable,
    strawberry.union(
        "CloseMoneyExceptionResult", description="The exception, or why it was not closed."
    ),
]


@strawberry.type
class ExceptionQuery:
    """Reads."""

    money_exceptions: Connection[MoneyException] = query_field(
        resolve.waiting,
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
class ExceptionMutation:
    """Writes."""

    close_money_exception: CloseMoneyExceptionResult = mutation_field(
        resolve.close,
        who=(Who.MERCHANT, Who.OPERATOR),
        idempotent=True,
        step_up=FRESH,
        description="Say that a money exception was dealt with, or is accepted as it is; no money moves by it. "
        "Problems: EXCEPTION_CLOSED, NOT_FOUND, INVALID_INPUT.",
        args={"input": "The exception, how it ends and what was found."},
    )
