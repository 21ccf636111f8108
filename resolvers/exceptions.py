"""Money that wants a look: what is open, and the word of whoever has dealt with it."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import cast
from uuid import UUID

import strawberry

from domain import settlement
from domain.core import db
from domain.core.audit import Actor
from domain.core.errors import NotFound
from domain.identity import Forbidden, OperatorRole, Role
from domain.settlement import Closing, MoneyException
from resolvers import access
from resolvers.context import Asked
from resolvers.inputs import decode
from resolvers.page import Listing, Page

# What a merchant settles with its own supplier; everything else is the platform's to explain.
MERCHANTS_OWN = ("supplier_claim", "supply_refused")
EXCEPTIONS = Listing("money.exceptions", datetime, UUID)


@strawberry.enum(
    description="How a money exception ends. RESOLVED: it is explained and put right, and opens again with the same "
    "fact. ACCEPTED: it stays as it is, for good."
)
class ExceptionVerdict(Enum):
    """No money moves by it."""

    RESOLVED = "resolved"
    ACCEPTED = "accepted"


@strawberry.input(description="The word of whoever has dealt with a money exception.")
class CloseMoneyExceptionInput:
    """By an operator in finance; what is between a merchant and its supplier also by its owner or finance."""

    id: strawberry.ID = strawberry.field(description="The exception, `exc_…`.")
    verdict: ExceptionVerdict = strawberry.field(description="How it ends.")
    note: str = strawberry.field(
        description="What was found and done, for the records; 1 to 500 characters."
    )


async def waiting(
    info: Asked,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Page[MoneyException]:
    """Open exceptions, oldest first: all for operators, their own for those who read a merchant's money.

    Errors: Forbidden.
    """
    viewer = access.require_viewer(info.context)
    is_operator = viewer.may_operate(OperatorRole.FINANCE, OperatorRole.SUPPORT, OperatorRole.RISK)
    merchants = None if is_operator else access.money_of(viewer)
    if merchants == []:
        raise Forbidden()
    window = EXCEPTIONS.window(
        viewer.account_id, first=first, last=last, after=after, before=before
    )
    rows = await settlement.exceptions(
        merchants,
        cast("tuple[datetime, UUID] | None", window.key),
        window.limit + 1,
        backward=window.is_backward,
    )
    return window.page(rows, key=lambda one: (one.opened_at, one.id))


async def close(info: Asked, input: CloseMoneyExceptionInput) -> MoneyException:
    """Say how an exception ended."""
    exception_id = decode(input.id, "exc", "id")
    found = await settlement.find_exception(exception_id)
    actor = _closer(info, found)
    once = info.context.once(info)
    async with db.transaction():
        if await once.claim({"id": str(exception_id)}) is None:
            return await settlement.close_exception(
                exception_id, Closing(input.verdict.value), input.note, actor=actor
            )
    closed = await settlement.find_exception(exception_id)
    assert closed is not None, exception_id
    return closed


def _closer(info: Asked, found: MoneyException | None) -> Actor:
    """Who closes it. Errors: Unauthenticated, NotFound, Forbidden."""
    viewer = access.require_viewer(info.context)
    if found is None or not _may_see(info, found.merchant_id):
        raise NotFound(path=("input", "id"))
    if viewer.may_operate(OperatorRole.FINANCE):
        return access.actor(info.context, viewer, "operator")
    if found.merchant_id is None or found.kind not in MERCHANTS_OWN:
        raise Forbidden()
    return access.actor(
        info.context, access.require_merchant(info.context, found.merchant_id, Role.FINANCE)
    )


def _may_see(info: Asked, merchant_id: UUID | None) -> bool:
    viewer = access.require_viewer(info.context)
    return viewer.operator or (merchant_id is not None and merchant_id in viewer.roles)
