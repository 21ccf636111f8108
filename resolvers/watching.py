"""Orders watched live: who may see the same is told by the same objects, read once for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import strawberry

from domain import orders
from domain.core import clock, ids, live
from domain.core.errors import NotFound
from domain.orders import OrderView
from resolvers import access, page
from resolvers.context import Asked
from resolvers.orders import Happened, Seen, cursor_of, parts_of, scope


@dataclass(frozen=True, slots=True)
class Gap:
    """History was pruned: fetch the order again, then resume."""

    resume_cursor: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened, and the stream is alive."""

    at: datetime
    written: dict[Any, bytes] = field(default_factory=dict)


class Sight(NamedTuple):
    """What a caller may see of an order; callers with equal sight are shown the same."""

    is_buyer: bool
    sees_split: bool
    account_id: UUID | None = None  # whose proved address opens it
    grant_id: UUID | None = None  # of the app that placed it


class Watched:
    """An order as it was read for all who watch it; what one sight shows never reaches another.

    Whoever may see the same gets the same objects: goods are revealed once and a frame is written once.
    """

    __slots__ = ("_happened", "_seen", "view")

    def __init__(self, view: OrderView) -> None:
        self.view = view
        self._seen: dict[Sight, Seen] = {}
        self._happened: dict[tuple[Sight, int], Happened] = {}

    def happened(self, event: orders.Happening, sight: Sight) -> Happened:
        """The event as callers with `sight` are told it."""
        found = self._happened.get((sight, event.sequence))
        if found is None:
            seen = self.seen(sight)
            found = Happened(seen.order.id, *event, seen)
            self._happened[sight, event.sequence] = found
        return found

    def seen(self, sight: Sight) -> Seen:
        """The order as callers with `sight` see it."""
        seen = self._seen.get(sight)
        if seen is None:
            seen = self._seen[sight] = Seen(self.view, *sight)
        return seen


async def watch(
    info: Asked,
    order_id: strawberry.ID,
    access_key: str | None = None,
    after: str | None = None,
) -> AsyncIterator[Happened | Gap | Heartbeat]:
    """Everything after the cursor, then what happens, with a heartbeat while nothing does.

    Order and events are read together for all who watch: events that come together share what was read.
    """
    try:
        subject = ids.decode(order_id, "ord")
    except ids.IdInvalid:
        raise NotFound(path=("orderId",)) from None
    is_buyer = await access.is_buyer(info.context, subject, access_key)
    if not is_buyer and info.context.viewer is None:
        raise NotFound(path=("orderId",))
    look = _look(parts_of(info, "order"))
    last = int(page.read(after, scope(subject), int)[0]) if after else 0
    async with live.hub().listen(subject, after=last, look=look) as listener:
        found = await listener.first()
        sight = _sight(info, found, is_buyer=is_buyer) if found is not None else None
        if sight is None:
            raise NotFound(path=("orderId",))
        # A stream may live for days; this frame with it.
        del found, info, order_id, access_key, after, look
        while True:
            event = await listener.next()
            if event is None:
                yield heartbeat()
                continue
            if event.sequence > last + 1:
                yield Gap(cursor_of(subject, event.sequence - 1))
            last = event.sequence
            assert listener.value is not None, "an event comes with its order"
            yield listener.value.happened(event, sight)


def _sight(info: Asked, found: Watched, *, is_buyer: bool) -> Sight | None:
    merchant_id = found.view.order.merchant_id
    account_id = None if is_buyer else access.buyer_of(info.context, found.view.order)
    grant_id = access.selling(info.context) if is_buyer else None
    is_buyer = is_buyer or account_id is not None
    by_right = access.may_see(info.context, merchant_id) and access.reads_orders(info.context)
    if not (is_buyer or by_right):
        return None
    sees_split = access.may_see_money(info.context, merchant_id)
    return Sight(is_buyer, sees_split, account_id, grant_id)


@lru_cache(maxsize=64)
def _look(parts: frozenset[str]) -> live.Look[Watched, orders.Happening]:
    """How orders are read for those who want `parts` of them; one object, so that the hub reads them together."""

    async def look(
        after: Mapping[UUID, int], unmet: Collection[UUID]
    ) -> dict[UUID, tuple[Watched, list[orders.Happening]]]:
        found = await orders.moved(after, unmet, parts)
        return {order_id: (Watched(view), news) for order_id, (view, news) in found.items()}

    return look


_beat = Heartbeat(datetime.min.replace(tzinfo=UTC))


def heartbeat() -> Heartbeat:
    """The heartbeat of this second, one object for all listeners: the door writes it out once."""
    global _beat
    now = clock.now().replace(microsecond=0)
    if _beat.at != now:
        _beat = Heartbeat(now)
    return _beat
