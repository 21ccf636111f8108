"""Refunds on their way: sent to the provider outside of any transaction, finished by its answer."""

from __future__ import annotations

from uuid import UUID

from domain import ledger, orders, payments, settlement
from domain.core import db, failpoint, ids, trace
from domain.core.errors import NotFound
from domain.ledger import AccountKey, Transfer
from domain.orders.models import Order
from domain.orders.rules import EventKind, OrderStatus, may
from domain.payments.models import Refund
from domain.payments.ports import RefundAnswer, RefundRequest, RefundState

CHECK_AGAIN_S = 20.0


class StillPending(Exception):
    """The provider has not finished the refund: ask again in `in_s` seconds."""

    def __init__(self, in_s: float) -> None:
        super().__init__(in_s)
        self.in_s = in_s


async def send(refund_id: UUID) -> None:
    """Ask the provider to return the money; safe to run twice, the refund's id is the provider's key.

    Errors: NotFound; StillPending when the provider has not finished.
    """
    refund = await payments.find_refund(refund_id)
    if refund is None:
        raise NotFound()
    if refund.state not in payments.OPEN_REFUND:
        return
    name, account, charge_ref = await payments.provider_of(refund)
    provider = await payments.reach(name, account)
    reference = ids.encode("ref", refund.id)
    was_sent = not await payments.move_refund(refund.id, ("created",), "submitted")
    failpoint.reach("refund.before_call")
    with trace.span("provider", f"{name}.refund"):
        said = (
            await provider.query_refund(account=account, reference=reference) if was_sent else None
        )
        if said is None or (said.state is RefundState.FAILED and said.raw_code == "not_found"):
            said = await provider.refund(
                RefundRequest(reference, account, charge_ref, refund.amount, refund.reason)
            )
    failpoint.reach("refund.after_call")
    await hear(refund.id, said)
    failpoint.reach("refund.after_record")
    if said.state in (RefundState.PENDING, RefundState.UNKNOWN):
        raise StillPending(CHECK_AGAIN_S)


async def recheck(refund_id: UUID) -> None:
    """The provider said something about a refund: ask it where the refund stands and apply the answer.

    A refund that failed after it had succeeded is taken back here. Errors: NotFound.
    """
    refund = await payments.find_refund(refund_id)
    if refund is None:
        raise NotFound()
    name, account, _ = await payments.provider_of(refund)
    with trace.span("provider", f"{name}.query_refund"):
        provider = await payments.reach(name, account)
        said = await provider.query_refund(account=account, reference=ids.encode("ref", refund.id))
    await hear(refund.id, said)


async def hear(refund_id: UUID, said: RefundAnswer) -> None:
    """Apply a provider's word on a refund; any word again, late or early ends in the same state and books."""
    async with db.transaction():
        refund = await payments.find_refund(refund_id)
        if refund is None:
            raise NotFound()
        order = await orders.lock_one(refund.order_id)
        # Again under the lock: another word on it may have been faster.
        refund = await payments.find_refund(refund_id)
        assert refund is not None, refund_id
        if said.state is RefundState.SUCCEEDED:
            await succeed(order, refund, said)
        elif said.state is RefundState.FAILED:
            await _fail(order, refund, said)
        elif said.state is RefundState.PENDING:
            await payments.move_refund(
                refund.id, ("created", "submitted"), "pending", provider_ref=said.provider_ref
            )


async def succeed(
    order: Order, refund: Refund, said: RefundAnswer, *, by_hand: bool = False
) -> None:
    """The money is with the buyer; `by_hand` when people have sent it, outside of its provider."""
    if not await payments.move_refund(
        refund.id, payments.OPEN_REFUND, "succeeded", provider_ref=said.provider_ref
    ):
        return
    name, account, _ = await payments.provider_of(refund)
    through = payments.sub_of(name, account)
    source = AccountKey("refund_clearing", None, through, refund.ccy)
    sender = payments.MANUAL if by_hand else through
    target = AccountKey("provider_clearing", None, sender, refund.ccy)
    await ledger.post(
        f"refund:{refund.id}:done",
        [Transfer(source, target, refund.amount)],
        kind="refund_done",
        correlation_id=order.id,
    )
    failpoint.reach("refund.in_tx")
    await orders.returned(order, refund.amount_minor)
    await orders.tell(
        order,
        EventKind.REFUND_SUCCEEDED,
        refund_id=ids.encode("ref", refund.id),
        minor=refund.amount_minor,
    )
    if order.returned_minor >= order.captured_minor and may(order.status, OrderStatus.REFUNDED):
        await orders.move(
            order, OrderStatus.REFUNDED, EventKind.REFUNDED, facts={"minor": order.returned_minor}
        )


async def _fail(order: Order, refund: Refund, said: RefundAnswer) -> None:
    """Reverse the ask exactly; a failure after success takes that back too and asks a person to look."""
    was_done = refund.state == "succeeded"
    if not await payments.move_refund(
        refund.id, (*payments.OPEN_REFUND, "succeeded"), "failed", raw_code=said.raw_code
    ):
        return
    if was_done:
        await ledger.reverse_key(f"refund:{refund.id}:reopen", f"refund:{refund.id}:done")
        await orders.returned(order, -refund.amount_minor)
    await ledger.reverse_key(f"refund:{refund.id}:undo", f"refund:{refund.id}:ask")
    await payments.give_back_capture(refund)
    if legs := refund.cover_json["legs"]:
        await settlement.return_legs(refund.capture_id, legs, sign=-1)
        await settlement.undo_cover(refund)
    await orders.tell(
        order, EventKind.REFUND_FAILED, refund_id=ids.encode("ref", refund.id), code=said.raw_code
    )
    await settlement.open_exception(
        "refund_failed",
        merchant_id=order.merchant_id,
        order_id=order.id,
        amount=refund.amount,
        facts={"refund": ids.encode("ref", refund.id)},
    )
