"""Goods that do not work: reported by their buyer, decided by their merchant."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import cast
from uuid import UUID

import strawberry

from domain import catalogue, checkout
from domain.catalogue import GoodReport, ReportState
from domain.core.errors import NotFound
from domain.identity import OperatorRole, Role
from resolvers import access
from resolvers.context import Asked
from resolvers.inputs import decode
from resolvers.page import Listing, Page

DECIDERS = (Role.CATALOGUE, Role.SUPPORT, OperatorRole.SUPPORT)


@strawberry.input(description="A delivered good that does not work, said by its buyer.")
class ReportGoodInput:
    """Once per good."""

    order_id: strawberry.ID = strawberry.field(description="The order it was bought in.")
    access_key: str | None = strawberry.field(
        default=None,
        description="The key `startCheckout` gave for this order; not needed by its buyer, signed in.",
    )
    line_id: strawberry.ID = strawberry.field(description="The line it belongs to.")
    good_id: strawberry.ID | None = strawberry.field(
        default=None, description="The good; may be left out when the line has only one."
    )
    reason: str = strawberry.field(
        description="What happens when it is used; 1 to 500 characters, shown to the merchant."
    )


@strawberry.enum(description="What a merchant says about a reported good.")
class GoodVerdict(Enum):
    """REPLACE and REFUSE are final."""

    REPLACE = "replaced"
    CONFIRM = "confirmed"
    REFUSE = "refused"


@strawberry.input(description="A decision about a reported good.")
class ReplaceGoodInput:
    """By its merchant, or an operator in support."""

    report_id: strawberry.ID = strawberry.field(description="The report.")
    verdict: GoodVerdict = strawberry.field(
        default=GoodVerdict.REPLACE,
        description="REPLACE gives another key of the same variant; CONFIRM says that it is dead and goes another "
        "way, such as a refund; REFUSE says that it works.",
    )
    note: str = strawberry.field(
        description="What was checked, for the records; 1 to 200 characters."
    )


async def report(info: Asked, input: ReportGoodInput) -> GoodReport:
    """Say that a good does not work."""
    order_id = decode(input.order_id, "ord", "orderId")
    return await checkout.report_good(
        order_id,
        await access.key_for(info.context, order_id, input.access_key, "input", "orderId"),
        decode(input.line_id, "lin", "lineId"),
        decode(input.good_id, "god", "goodId") if input.good_id else None,
        input.reason,
        info.context.once(info),
    )


async def decide(info: Asked, input: ReplaceGoodInput) -> GoodReport:
    """Replace a dead good, confirm that it is dead, or refuse the report."""
    report_id = decode(input.report_id, "rep", "reportId")
    found = await catalogue.find_report(report_id)
    if not access.may_see(info.context, found.merchant_id):
        raise NotFound(path=("input", "reportId"))
    viewer = access.require_merchant(info.context, found.merchant_id, *DECIDERS)
    kind = "merchant" if found.merchant_id in viewer.roles else "operator"
    return await checkout.decide_report(
        report_id,
        ReportState(input.verdict.value),
        access.actor(info.context, viewer, kind),
        input.note,
        info.context.once(info),
    )


REPORTS = Listing("good.reports", datetime, UUID)


async def waiting(
    info: Asked,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Page[GoodReport]:
    """Reports nobody has closed, oldest first: all for operators in support, their own for members."""
    viewer = access.require_viewer(info.context)
    merchants = None if viewer.may_operate(OperatorRole.SUPPORT) else list(viewer.roles)
    window = REPORTS.window(viewer.account_id, first=first, last=last, after=after, before=before)
    rows = await catalogue.open_reports(
        merchants,
        cast("tuple[datetime, UUID] | None", window.key),
        window.limit + 1,
        backward=window.is_backward,
    )
    return window.page(rows, key=lambda one: (one.reported_at, one.id))
