"""Mails: the event log is read into mails owed, and what is due is sent.

Two loops, so that a slow mail server never delays the reading. Neither is rung by the bell: a second
of patience makes one batch of what would be a hundred.
"""

from __future__ import annotations

from domain import notifications
from domain.core.events import READ_MAX
from workers.loops import Loop
from workers.registry import loops

EVERY_S = 1.0


async def collect() -> float | None:
    """Read the next stretch of the log; a full one means that more may wait."""
    return 0 if await notifications.collect() >= READ_MAX else None


async def send() -> float | None:
    """Send the next batch; a full one means that more may wait."""
    return 0 if await notifications.send_due() >= notifications.SEND_MAX else None


def load() -> None:
    """Register the loops of the general queue."""
    loops["general"] += [
        Loop("mails.collect", collect, every_s=EVERY_S),
        Loop("mails.send", send, every_s=EVERY_S),
    ]
