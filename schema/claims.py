"""Dead goods in the contract: the buyer's report, the merchant's decision."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain import catalogue
from domain.core import ids
from resolvers import claims as resolve
from schema.checkout import OutOfStock
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.orders import GoodReportState, OrderStateConflict
from schema.page import Connection
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem


@object_type(
    description="A buyer's word that a delivered good does not work.", rows=(catalogue.GoodReport,)
)
class GoodReport:
    """One per good."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("rep", one.id), description="Opaque id, `rep_…`."
    )
    order_id: strawberry.ID = derived(
        lambda one: ids.encode("ord", one.order_id), description="The order it was bought in."
    )
    line_id: strawberry.ID = derived(
        lambda one: ids.encode("lin", one.line_id), description="The line it belongs to."
    )
    good_id: strawberry.ID = derived(
        lambda one: ids.encode("god", one.good_id), description="The good, `god_…`."
    )
    reason: str = field(description="What the buyer says.")
    state: GoodReportState = derived(
        lambda one: GoodReportState(one.state.value), description="What became of it."
    )
    reported_at: datetime = field(description="When the buyer said so.")
    decided_at: datetime | None = field(description="When it was decided; null while it waits.")


@problem(
    catalogue.GoodNotReportable,
    description="The good was not seen yet, is not of this line, or was taken back or replaced.",
)
class GoodNotReportable(Problem):
    """Code GOOD_NOT_REPORTABLE."""


@problem(catalogue.ReportClosed, description="Somebody has decided about this report already.")
class ReportClosed(Problem):
    """Code REPORT_CLOSED."""

    decided: str | None = field(description="CONFIRMED, REPLACED or REFUSED.")


ReportGoodResult = Annotated[
    GoodReport | GoodNotReportable | NotFound | InvalidInput | Unavailable,
    strawberry.union("ReportGoodResult", description="The report, or why there is none."),
]
ReplaceGoodResult = Annotated[
    GoodReport
    | OutOfStock
    | ReportClosed
    | OrderStateConflict
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union("ReplaceGoodResult", description="The report, or why nothing was decided."),
]


@strawberry.type
class ClaimQuery:
    """Reads."""

    good_reports: Connection[GoodReport] = query_field(
        resolve.waiting,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="Reports about goods that nobody has closed, oldest first: of everyone for operators in support, "
        "of their own for members.",
        args={
            "first": "How many from the start, 1 to 100.",
            "last": "How many from the end, 1 to 100.",
            "after": "Cursor to continue behind.",
            "before": "Cursor to continue before.",
        },
    )


@strawberry.type
class ClaimMutation:
    """Writes."""

    report_good: ReportGoodResult = mutation_field(
        resolve.report,
        who=Who.ANYONE,
        idempotent=True,
        description="The buyer says that a delivered good does not work; once per good, the merchant is told. "
        "Problems: GOOD_NOT_REPORTABLE, NOT_FOUND.",
        args={"input": "The order, the good and what happens."},
    )
    replace_good: ReplaceGoodResult = mutation_field(
        resolve.decide,
        who=(Who.MERCHANT, Who.OPERATOR),
        idempotent=True,
        description="Decide about a reported good: replaced once by another key of the same variant, confirmed dead, "
        "or refused. The buyer is told. Problems: OUT_OF_STOCK (refund instead), REPORT_CLOSED, "
        "ORDER_STATE_CONFLICT, NOT_FOUND.",
        args={"input": "The report, the verdict and what was checked."},
    )
