"""Sagas go on: one promise carries a saga from step to step until it is over."""

from __future__ import annotations

from uuid import UUID

from domain.core import saga
from workers.registry import Later, tasks


async def advance(saga_id: UUID) -> None:
    """Take the saga as far as it goes now. Errors: Later."""
    wait_s = await saga.advance(saga_id)
    if wait_s is not None:
        raise Later(wait_s)


def load() -> None:
    """Register the task."""
    tasks[saga.TASK] = advance
