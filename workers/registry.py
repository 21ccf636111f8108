"""What this process can do: tasks by the name in a promise, loops by the queue they belong to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from domain.core.heartbeat import QUEUES
from workers.loops import Loop

Handler = Callable[[UUID], Awaitable[None]]

# A handler takes an id and reads the truth again; it may run twice and at the same time as itself.
tasks: dict[str, Handler] = {}

# A loop runs in every process that serves its queue: what must be alone takes a lock of its own.
loops: dict[str, list[Loop]] = {queue: [] for queue in QUEUES}


class Later(Exception):
    """Raised by a handler: nothing failed, it is too early; again in `in_s` seconds."""

    def __init__(self, in_s: float) -> None:
        super().__init__(f"again in {in_s:g} s")
        self.in_s = in_s
