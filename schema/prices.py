"""Price lists in the contract: one at a time, or hundreds with a verdict on each row."""

from enum import Enum
from typing import Annotated

import strawberry

from domain import catalogue
from domain.catalogue import RowProblem, RowVerdict
from resolvers import prices as resolve
from resolvers.context import Asked
from resolvers.prices import Repriced
from schema.field import Who, derived, field, mutation_field, object_type
from schema.problems import (
    Conflict,
    FieldProblem,
    InvalidInput,
    NotFound,
    Problem,
    Unavailable,
    problem,
)
from schema.products import MerchantVariant


@strawberry.enum(
    description="What became of a row. UNTOUCHED is a good row that a bad one held back: ALL_OR_NOTHING."
)
class PriceRowStatus(Enum):
    """One per row."""

    CHANGED = "changed"
    REFUSED = "refused"
    UNTOUCHED = "untouched"


def _status(row: RowVerdict) -> PriceRowStatus:
    if row.problems:
        return PriceRowStatus.REFUSED
    return PriceRowStatus.CHANGED if row.is_changed else PriceRowStatus.UNTOUCHED


def _told(row: strawberry.Parent[RowVerdict], info: Asked) -> list[FieldProblem]:
    return [_problem(one, info) for one in row.problems]


def _problem(one: RowProblem, info: Asked) -> FieldProblem:
    return FieldProblem(
        code=one.code,
        message=info.context.text(one.code, **one.facts),
        path=list(one.path),
        retryable=False,
    )


@object_type(description="What became of one row.", rows=(RowVerdict,))
class PriceRowResult:
    """In the order of the rows."""

    row: int = derived(lambda one: one.place, description="Which row, from 0.")
    status: PriceRowStatus = derived(_status, description="What became of it.")
    variant: MerchantVariant | None = field(
        description="Its variant as it is now; null when the merchant has no such variant.",
        resolver=resolve.variant_of,
    )
    problems: list[FieldProblem] = field(
        description="What is wrong with it; empty unless REFUSED. CONFLICT: see the variant's version.",
        resolver=_told,
    )


@object_type(description="New price lists, row by row.", rows=(Repriced,))
class PricesUpdated:
    """With SKIP_BAD some rows may be REFUSED."""

    changed: int = field(description="How many price lists are new.")
    rows: list[PriceRowResult] = field(description="What became of each row, in their order.")


@problem(
    catalogue.PricesRefused,
    description="At least one row is bad and ALL_OR_NOTHING was asked for, so nothing was changed.",
)
class PricesRefused(Problem):
    """Code PRICES_REFUSED."""

    rows: list[PriceRowResult] = field(description="What became of each row, in their order.")


SetPricesResult = Annotated[
    MerchantVariant | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union("SetPricesResult", description="The variant with its new list, or why not."),
]
UpdatePricesResult = Annotated[
    PricesUpdated | PricesRefused | NotFound | InvalidInput | Unavailable,
    strawberry.union("UpdatePricesResult", description="What became of each row, or why none."),
]


@strawberry.type
class PriceMutation:
    """Writes; each changed list is a row of the audit log."""

    set_prices: SetPricesResult = mutation_field(
        resolve.set_prices,
        who=Who.MERCHANT,
        idempotent=True,
        description="Replace a variant's whole price list, all currencies and tiers at once. Orders keep theirs. "
        "Problems: CONFLICT, NOT_FOUND, INVALID_INPUT.",
        args={"input": "The variant and the list."},
        cost=5,
    )
    update_prices: UpdatePricesResult = mutation_field(
        resolve.update_prices,
        who=Who.MERCHANT,
        idempotent=True,
        description="Replace the price lists of up to 500 variants. Problems: PRICES_REFUSED, NOT_FOUND, "
        "INVALID_INPUT.",
        args={"input": "The rows, and what a bad one means for the others."},
        cost=50,
    )
