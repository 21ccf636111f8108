"""Relay connections: `Connection[Product]` is ProductConnection, its rows come from `resolvers.page`."""

from typing import Any, Generic, TypeVar

import strawberry

from resolvers import page as rows
from schema.field import field

T = TypeVar("T")


async def _total(root: Any) -> int | None:
    return None if root.total is None else await root.total()


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    """See `resolvers.page.PageInfo`, whose rows it shows."""

    has_next_page: bool = field(description="Whether rows follow the last one shown.")
    has_previous_page: bool = field(description="Whether rows precede the first one shown.")
    start_cursor: str | None = field(description="Cursor of the first row, null on an empty page.")
    end_cursor: str | None = field(description="Cursor of the last row, null on an empty page.")


@strawberry.type(description="One row of a page.")
class Edge(Generic[T]):
    """See `resolvers.page.Edge`."""

    node: T = field(description="The row itself.")
    cursor: str = field(description="Opaque, signed position of the row; valid in this list only.")


@strawberry.type(description="A page of a list. Give first or last (1 to 100), never both.")
class Connection(Generic[T]):
    """See `resolvers.page.Page`."""

    edges: list[Edge[T]] = field(description="The rows with their cursors.")
    nodes: list[T] = field(description="The rows alone.")
    page_info: PageInfo = field(description="Where this page lies in the list.")
    total_count: int | None = field(
        resolver=_total,
        description="Rows in the whole list; counted only when selected, null where counting is too dear.",
        cost=5,
    )


ROWS = {PageInfo: rows.PageInfo, Edge: rows.Edge, Connection: rows.Page}
