"""Dead goods (E17): the buyer reports one, the merchant decides, it is replaced once; its supplier owes for it.

A replacement takes an available key of the same variant from the shelf; the dead one stays what it is for ever. When
the shelf is empty the way out is a refund.
"""

from __future__ import annotations

from uuid import UUID

from domain import catalogue, orders, settlement
from domain.catalogue import Actor, GoodReport, OutOfStock, ReportState
from domain.core import audit, db, ids, vault
from domain.core.errors import FieldInvalid, NotFound
from domain.core.once import Once
from domain.orders.models import Order
from domain.orders.rules import EventKind, OrderStateConflict

REASON_MAX = 500
NOTE_MAX = 200

_TELLS = {
    ReportState.CONFIRMED: EventKind.REPORT_CONFIRMED,
    ReportState.REPLACED: EventKind.REPLACED,
    ReportState.REFUSED: EventKind.REPORT_REFUSED,
}


async def report_good(
    order_id: UUID, access_key: str, line_id: UUID, good_id: UUID | None, reason: str, once: Once
) -> GoodReport:
    """The buyer says that a delivered good does not work; once per good, the merchant is told.

    Without `good_id` the line must have one good only. Idempotent by `once`, and by the good. Errors: NotFound,
    FieldInvalid (reason, several goods), catalogue.GoodNotReportable.
    """
    _check(reason, "reason", REASON_MAX)
    earlier = await once.find()
    if earlier is not None:  # by now the good may be replaced
        return await catalogue.find_report(UUID(earlier["report_id"]))
    if not vault.is_access_key(order_id, access_key):
        raise NotFound(path=("input", "orderId"))
    async with db.transaction():
        order = await orders.lock_one(order_id)
        good_id = await _one_of(order, line_id, good_id)
        report, is_new = await catalogue.report(
            order.merchant_id, order.id, line_id, good_id, reason
        )
        await once.claim({"report_id": str(report.id)})
        if is_new:
            await orders.tell(order, EventKind.REPORTED, **_facts(report))
        return report


async def decide_report(
    report_id: UUID, verdict: ReportState, actor: Actor, note: str, once: Once
) -> GoodReport:
    """What the merchant says about a reported good: replaced, confirmed (and not replaced yet), or refused.

    The same verdict again changes nothing. Audited; buyer told by event and mail. Idempotent by `once`. Errors:
    NotFound, FieldInvalid (note), catalogue.ReportClosed; for a replacement OutOfStock, and OrderStateConflict
    when the buyer has no right to the good any more.
    """
    _check(note, "note", NOTE_MAX)
    async with db.transaction():
        if await once.claim({"report_id": str(report_id)}) is not None:
            return await catalogue.find_report(report_id)
        report = await catalogue.find_report(report_id)
        order = await orders.lock_one(report.order_id)
        if await catalogue.decide_report(report_id, verdict, decided_by=actor.id, note=note):
            if verdict is ReportState.REPLACED:
                await _replace(order, report, actor, note)
            if verdict is not ReportState.REFUSED:
                await _claim_from_supplier(report)
            await audit.record(
                report.merchant_id, actor, f"goods.report.{verdict}", report_id, note=note
            )
            await orders.tell(order, _TELLS[verdict], **_facts(report))
        return await catalogue.find_report(report_id)


async def _one_of(order: Order, line_id: UUID, good_id: UUID | None) -> UUID:
    """The good that is meant. Errors: GoodNotReportable, FieldInvalid."""
    seen = []
    if order.delivered_at is not None:
        seen = await catalogue.reportable(order.id, order.merchant_id, line_id)
    if good_id is None and len(seen) > 1:
        raise FieldInvalid(path=("input", "goodId"), reason="which")
    wanted = seen if good_id is None else [one for one in seen if one == good_id]
    if not wanted:
        raise catalogue.GoodNotReportable()
    return wanted[0]


async def _replace(order: Order, report: GoodReport, actor: Actor, note: str) -> None:
    if report.is_reusable:
        raise OutOfStock(available=0)  # every buyer has the same content: there is no other one
    replaced = await catalogue.replace(
        report.merchant_id, report.order_id, [report.good_id], actor, note
    )
    if not replaced:  # refunded meanwhile: the right to it is gone
        raise OrderStateConflict(status=order.status.upper())


async def _claim_from_supplier(report: GoodReport) -> None:
    """Note who has to pay for a dead good that was bought."""
    origin = await catalogue.origin_of(report.merchant_id, report.good_id)
    if origin is None:
        return
    facts = {"report": ids.encode("rep", report.id), "supplier": origin.supplier}
    if origin.supply_id is not None:
        facts["supply"] = ids.encode("sup", origin.supply_id)
    await settlement.open_exception(
        "supplier_claim",
        merchant_id=report.merchant_id,
        order_id=report.order_id,
        amount=origin.cost,
        facts=facts,
    )


def _facts(report: GoodReport) -> dict[str, str]:
    return {"report_id": ids.encode("rep", report.id), "line_id": ids.encode("lin", report.line_id)}


def _check(text: str, field: str, longest: int) -> None:
    is_storable = "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
    if not text.strip() or len(text) > longest or not is_storable:
        raise FieldInvalid(path=("input", field), reason="length", max=longest)
