"""Pages of long lists by keyset: signed, opaque cursors, so that rows never shift and no position can be made up.

A resolver opens a window, reads `limit + 1` rows beyond the key, and turns them into a page:

    ORDERS = Listing("merchant.orders", datetime, UUID)          # the sort key, newest first is the resolver's
    window = ORDERS.window(merchant_id, first=first, last=last, after=after, before=before)
    rows = await orders.of_merchant(merchant_id, window.key, window.limit + 1, backward=window.is_backward)
    return window.page(rows, key=lambda row: (row.created_at, row.id), total=lambda: orders.count(merchant_id))
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson

from domain.core.settings import settings
from resolvers.errors import BadUserInput

PAGE_MAX = 100
CURSOR_MAX = 1_000
_MAC_BYTES = 12

Row = TypeVar("Row")
Key = tuple[Any, ...]


@cache
def _signing_key() -> bytes:
    return hashlib.blake2b(settings().secret("signing_key"), person=b"kami.cursor").digest()[:32]


def _mac(scope: bytes, body: bytes) -> bytes:
    mac = hashlib.blake2b(scope, key=_signing_key(), digest_size=_MAC_BYTES)
    mac.update(b"\0")
    mac.update(body)
    return mac.digest()


@dataclass(frozen=True, slots=True)
class Edge(Generic[Row]):
    """One row of a page and the key that leads to it."""

    node: Row
    key: Key
    scope: bytes

    @property
    def cursor(self) -> str:
        """The signed position of this row; made when asked for."""
        body = orjson.dumps(self.key, default=str)  # the driver's UUID is no plain UUID to orjson
        return base64.urlsafe_b64encode(_mac(self.scope, body) + body).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class PageInfo:
    """Whether there is more on either side, and the cursors of the ends."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows in list order. `total` counts the whole list and is called only when `totalCount` is selected."""

    edges: list[Edge[Row]]
    has_next: bool
    has_previous: bool
    total: Callable[[], Awaitable[int]] | None = None

    @property
    def nodes(self) -> list[Row]:
        """The rows alone."""
        return [edge.node for edge in self.edges]

    @property
    def page_info(self) -> PageInfo:
        """What Relay calls pageInfo."""
        ends = (self.edges[0].cursor, self.edges[-1].cursor) if self.edges else (None, None)
        return PageInfo(self.has_next, self.has_previous, *ends)


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows to read: `limit` beyond `key` (None: from the end), backwards for `last`."""

    limit: int
    key: Key | None
    is_backward: bool
    scope: bytes

    def page(
        self,
        rows: Sequence[Row],
        *,
        key: Callable[[Row], Key],
        total: Callable[[], Awaitable[int]] | None = None,
    ) -> Page[Row]:
        """The page of `rows`, read in the window's direction, with up to one more than `limit` of them."""
        assert len(rows) <= self.limit + 1, "read limit + 1 rows at most"
        has_more = len(rows) > self.limit
        kept = list(rows[: self.limit])
        if self.is_backward:
            kept.reverse()
        edges = [Edge(row, key(row), self.scope) for row in kept]
        beyond = self.key is not None
        if self.is_backward:
            return Page(edges, has_next=beyond, has_previous=has_more, total=total)
        return Page(edges, has_next=has_more, has_previous=beyond, total=total)


class Listing:
    """One kind of list: its name and the types of its sort key (str, int, UUID, datetime)."""

    def __init__(self, name: str, *key: type) -> None:
        assert key, "a list has a sort key"
        assert set(key) <= {str, int, UUID, datetime}, key
        self.name = name
        self.types = key

    def window(
        self,
        *scope: object,
        first: int | None,
        last: int | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> Window:
        """The window asked for. `scope` is whose list it is and how it is filtered: a cursor of another is refused.

        Errors: BadUserInput for a size that is missing or outside 1…100, and for a forged or foreign cursor.
        """
        if (first is None) == (last is None):
            raise BadUserInput(reason="Give either first or last.")
        limit = first if first is not None else last
        assert limit is not None
        if not 1 <= limit <= PAGE_MAX:
            raise BadUserInput(reason=f"first and last go from 1 to {PAGE_MAX}.")
        if (after if first is None else before) is not None:
            raise BadUserInput(reason="first goes with after, last with before.")
        bound = orjson.dumps([self.name, *map(str, scope)])
        cursor = before if first is None else after
        key = None if cursor is None else self._read(cursor, bound)
        return Window(limit, key, first is None, bound)

    def cursor(self, key: Key, *scope: object) -> str:
        """The cursor of a place in the list, outside of a page."""
        return Edge(None, key, orjson.dumps([self.name, *map(str, scope)])).cursor

    def key(self, cursor: str, *scope: object) -> Key:
        """The place behind a cursor of the list. Errors: BadUserInput."""
        return self._read(cursor, orjson.dumps([self.name, *map(str, scope)]))

    def _read(self, cursor: str, scope: bytes) -> Key:
        if len(cursor) <= CURSOR_MAX and cursor.isascii():
            try:
                raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            except (binascii.Error, ValueError):
                raw = b""
            mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
            if hmac.compare_digest(mac, _mac(scope, body)):
                return tuple(
                    kind(value) if kind in (str, int) else _READ[kind](value)
                    for kind, value in zip(self.types, orjson.loads(body), strict=True)
                )
        raise BadUserInput(reason="The cursor is not one of this list.")


_READ: dict[type, Callable[[str], Any]] = {UUID: UUID, datetime: datetime.fromisoformat}


def sign(scope: str, *key: Any) -> str:
    """A signed cursor outside a connection, such as the position in an order's event log."""
    return Edge(None, key, scope.encode()).cursor


def read(cursor: str, scope: str, *types: type) -> Key:
    """The key of a cursor made by `sign` for the same scope. Errors: BadUserInput."""
    return Listing(scope, *types)._read(cursor, scope.encode())
