"""Doing something once: its effect and the idempotency key of the call commit together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from domain.core import db
from resolvers.context import Asked


async def do(
    info: Asked, result: dict[str, Any], act: Callable[[], Awaitable[dict[str, Any] | None]]
) -> dict[str, Any]:
    """Run `act` unless the call was made before; what it made: `result` and what `act` adds to it.

    JSON values only. A refusal of `act` leaves the key free. Errors: those of `act`, KeyReused, InProgress.
    """
    once = info.context.once(info)
    async with db.transaction():
        earlier = await once.claim(result)
        if earlier is not None:
            return earlier
        more = await act()
        if more:
            result = {**result, **more}
            await once.amend(result)
        return result
