"""The sale after the click: one fulfilment loop per lane, refunds, and what an unclear attempt needs."""

from __future__ import annotations

from uuid import UUID

from domain import checkout, payments
from domain.checkout import StillPending
from domain.core import bell
from domain.orders import LANES
from workers.loops import Loop
from workers.registry import Later, loops, tasks

LOOK_EVERY_S = 1.0
CHECK_EVERY_S = 1.0
FORGET_AGAIN_S = 60.0


def lane_loop(lane: int) -> Loop:
    """The loop that fulfils what waits in a lane."""

    async def run() -> float | None:
        # After a full set more may wait. What came meanwhile has rung, so a look into an empty lane is spared.
        return 0 if await checkout.fulfil(lane) >= checkout.SET_MAX else None

    return Loop(
        f"fulfil.{lane}",
        run,
        every_s=LOOK_EVERY_S,
        topic=bell.CAPTURES,
        wants=lambda ids: str(lane) in ids,
    )


async def check_attempts() -> float | None:
    """Ask providers about attempts that gave no clear answer."""
    return 0 if await checkout.check_due() else None


async def send_refund(refund_id: UUID) -> None:
    """Send a refund, or ask about one that was sent. Errors: Later."""
    try:
        await checkout.send(refund_id)
    except StillPending as pending:
        raise Later(pending.in_s) from None


async def forget_method(saved_id: UUID) -> None:
    """Have a provider delete what its buyer wants forgotten. Errors: Later."""
    if not await payments.forget_method(saved_id):
        raise Later(FORGET_AGAIN_S)


def load() -> None:
    """Register the loops and tasks of the settlement queue."""
    loops["settlement"] += [lane_loop(lane) for lane in range(LANES)]
    loops["settlement"].append(Loop("attempts", check_attempts, every_s=CHECK_EVERY_S))
    tasks["refund.send"] = send_refund
    tasks["refund.word"] = checkout.recheck
    tasks["refund.surplus"] = checkout.return_surplus
    tasks["method.forget"] = forget_method
    tasks["refund.partial"] = checkout.return_partial
    tasks["refund.undelivered"] = checkout.return_undelivered
