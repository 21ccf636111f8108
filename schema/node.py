"""`node(id)` and `nodes(ids)`: every type with an id registers how its prefix is loaded.

    register("ord", Order, load=resolve.by_id)      # load(info, uuid) -> row, None or NotFound

A row's type is found by its class, so resolvers return rows as they are.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import strawberry

from domain.core import ids
from domain.core.errors import NotFound
from resolvers.context import Asked
from resolvers.errors import BadUserInput
from schema import scopes
from schema.field import Who, query_field

NODES_MAX = 100

Load = Callable[[Asked, UUID], Awaitable[Any]]


@strawberry.interface(description="Anything that has an id of its own.")
class Node:
    """Implemented by every object type with an id."""

    id: strawberry.ID = strawberry.field(
        description="Opaque id with a typed prefix, e.g. `ord_…`; the same for ever."
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    type_: type
    load: Load


_kinds: dict[str, _Kind] = {}


def register(prefix: str, type_: type, load: Load) -> None:
    """Load ids `<prefix>_…` with `load`; a prefix belongs to one type for ever."""
    known = _kinds.get(prefix)
    assert known is None or known.type_ is type_, f"{prefix} already belongs to {known}"
    _kinds[prefix] = _Kind(type_, load)


def registered() -> dict[str, type]:
    """The type of every prefix."""
    return {prefix: kind.type_ for prefix, kind in _kinds.items()}


async def _row(info: Asked, public_id: str) -> Any:
    kind = _kinds.get(ids.prefix_of(public_id))
    if kind is None:
        raise NotFound()
    try:
        found = await kind.load(info, ids.decode(public_id, ids.prefix_of(public_id)))
    except ids.IdInvalid:
        raise NotFound() from None
    if found is None:
        raise NotFound()
    viewer = info.context.viewer
    if viewer is not None and viewer.app is not None:
        scopes.check_type(viewer.app, cast(Any, kind.type_).__strawberry_definition__.name)
    return found


async def _node(info: Asked, id: strawberry.ID) -> Any:
    return await _row(info, id)


async def _nodes(info: Asked, ids: list[strawberry.ID]) -> list[Any]:
    if len(ids) > NODES_MAX:
        raise BadUserInput(reason=f"Ask for at most {NODES_MAX} nodes.")
    found = []
    for one in ids:
        try:
            found.append(await _row(info, one))
        except NotFound:
            found.append(None)
    return found


@strawberry.type
class NodeQuery:
    """The part of Query that finds anything by its id."""

    node: Node | None = query_field(
        _node,
        description="The object with this id. NOT_FOUND when there is none, or it is not yours to see.",
        who=Who.ANYONE,
        args={"id": "An id as it came from the API."},
    )
    nodes: list[Node | None] = query_field(
        _nodes,
        description="The objects with these ids in the same order, null where `node` would say NOT_FOUND.",
        who=Who.ANYONE,
        args={"ids": f"At most {NODES_MAX} ids."},
    )
