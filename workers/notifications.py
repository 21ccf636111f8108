"""Mails: the event log is read into mails owed, and what is due is sent.

Two loops, so that a slow mail server never delays the reading. Neither is rung by the bell: a second
of patience makes one batch of what would be a hundred.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

from domain import notifications
from domain.core.events import READ_MAX
from workers.loops import Loop
from workers.registry import loops, tasks

EVERY_S = 1.0


async def collect() -> float | None:
    """Read the next stretch of the log; a full one means that more may wait."""
    return 0 if await notifications.collect() >= READ_MAX else None


async def send() -> float | None:
    """Send the next batch; a full one means that more may wait."""
    return 0 if await notifications.send_due() >= notifications.SEND_MAX else None


async def tell_approval(what: str, approval_id: UUID) -> None:
    """Owe the mails about a request for a second person."""
    await notifications.tell_approval(what, approval_id)


async def tell_alarm(alert_id: UUID) -> None:
    """Owe the owners their mails about a security alert."""
    await notifications.tell_alarm(alert_id)


_APPROVALS = {
    f"approval.{what}": partial(tell_approval, what)
    for what in ("asked", "approved", "due", "ended")
}


def load() -> None:
    """Register the loops and tasks of the general queue."""
    tasks.update(_APPROVALS)
    tasks["alarm.raised"] = tell_alarm
    loops["general"] += [
        Loop("mails.collect", collect, every_s=EVERY_S),
        Loop("mails.send", send, every_s=EVERY_S),
    ]
