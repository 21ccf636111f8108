"""Versions: what changes carries one, and a change that expected another is answered with what is stored now.

    aggregate("prd", load=resolve.current_product)      # load(info, uuid) -> row or None

The domain's `Conflict` names its subject by the same prefix (domain/core/versions.py).
"""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import strawberry

from resolvers.context import Asked

Load = Callable[[Asked, UUID], Awaitable[Any]]
Subject = tuple[str, UUID]


@strawberry.interface(
    description="Something that carries a version; every change of it makes the next one."
)
class Versioned:
    """Implemented by every object that an `expectedVersion` is for."""

    id: strawberry.ID = strawberry.field(description="Opaque id with a typed prefix.")
    version: int = strawberry.field(
        description="Counts from 1; send it as `expectedVersion` with a change."
    )


_loads: dict[str, Load] = {}


def aggregate(prefix: str, load: Load) -> None:
    """Load the subject of a conflict, whose id has this prefix, with `load`."""
    assert prefix not in _loads, prefix
    _loads[prefix] = load


async def current(conflict: strawberry.Parent[Any], info: Asked) -> Any:
    """The subject of a conflict as it is now. Whoever gets here was allowed to change it."""
    if conflict.subject is None:
        return None
    prefix, row_id = conflict.subject
    return await _loads[prefix](info, row_id)
