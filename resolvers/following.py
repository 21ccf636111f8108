"""All orders of a merchant followed live: the log from a cursor on, then what happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID

import strawberry

from domain import orders
from domain.core import clock, events, ids, live
from domain.core.errors import NotFound
from domain.core.events import Event, Place
from domain.core.feed import Batch, Look
from resolvers import access, page
from resolvers.context import Asked, Context
from resolvers.orders import Happened, parts_of
from resolvers.watching import Gap, Heartbeat, Sight, Watched, heartbeat

READ_MAX = 200  # events, of each place in one read
# The clock of an event and its place in the log are taken one after the other: so much apart at most.
FLOOR_MARGIN = timedelta(minutes=1)


class Told:
    """One event of a merchant's log; who may see the same is given the same object."""

    __slots__ = ("_event", "_made", "_place", "_watched")

    def __init__(self, place: Place, event: Event, watched: Watched) -> None:
        self._place = place
        self._event = event
        self._watched = watched
        self._made: dict[Sight, Happened] = {}

    def to(self, sight: Sight) -> Happened:
        """The event as callers with `sight` are told it, with its cursor in this log."""
        found = self._made.get(sight)
        if found is None:
            event = self._event
            assert event.recorded_at is not None
            found = self._made[sight] = Happened(
                event.order_id,
                event.sequence,
                event.kind,
                event.recorded_at.isoformat(),
                self._watched.seen(sight),
                _cursor=cursor_of(event.merchant_id, self._place, event.recorded_at),
            )
        return found


def _scope(merchant_id: UUID) -> str:
    return f"merchant.events:{merchant_id}"


def cursor_of(merchant_id: UUID, place: Place, at: datetime) -> str:
    """The signed cursor of a place in a merchant's log; `at` says which months the log behind it is in."""
    return page.sign(_scope(merchant_id), *place, int(at.timestamp()))


async def cursor_of_now(merchant_id: UUID) -> str:
    """The cursor behind which everything comes that is not over yet."""
    return cursor_of(merchant_id, await events.edge(), clock.now())


async def watch(
    info: Asked, merchant_id: strawberry.ID, after: str | None = None
) -> AsyncIterator[Happened | Gap | Heartbeat]:
    """Everything after the cursor, then what happens, with a heartbeat while nothing does.

    The right is looked at again with every frame.
    """
    try:
        merchant = ids.decode(merchant_id, "mer")
    except ids.IdInvalid:
        raise NotFound(path=("merchantId",)) from None
    _require(info.context, merchant)
    context = info.context
    context.guard = lambda: _require(context, merchant)
    place, gap = await _begin(merchant, after)
    sight = Sight(is_buyer=False, sees_split=access.may_see_money(context, merchant))
    look = _look(parts_of(info, "order"))
    del info, merchant_id, after
    async with live.hub().feed.follow(merchant, place, look) as follower:
        if gap is not None:
            yield gap
        while True:
            told = await follower.next()
            yield heartbeat() if told is None else told.to(sight)


def _require(context: Context, merchant_id: UUID) -> None:
    access.require_merchant(context, merchant_id, *access.MONEY_READERS)


async def _begin(merchant_id: UUID, after: str | None) -> tuple[Place, Gap | None]:
    """Where to begin, and what to say first when the log behind the cursor is no longer whole."""
    if after is None:
        return await events.edge(), None
    *found, at_s = page.read(after, _scope(merchant_id), int, int, int, int)
    place = Place(*found)
    whole_since = await events.floor() + FLOOR_MARGIN
    if at_s >= whole_since.timestamp():
        return place, None
    return place, Gap(cursor_of(merchant_id, place, whole_since))


@lru_cache(maxsize=64)
def _look(parts: frozenset[str]) -> Look[Told]:
    """How events are read for those who want `parts` of their orders; one object, so that all are read together."""

    async def look(asked: Sequence[tuple[UUID, Place]]) -> list[Batch[Told]]:
        found = await events.stretches(asked, limit=READ_MAX)
        moved = {event.order_id for stretch in found for _, event in stretch.events}
        # Read after the log: no event is newer than the order it is shown with.
        views = await orders.views(moved, parts) if moved else {}
        watched = {order_id: Watched(view) for order_id, view in views.items()}
        return [
            Batch(
                [Told(place, event, watched[event.order_id]) for place, event in stretch.events],
                stretch.upto,
                stretch.has_more,
                stretch.is_waiting,
            )
            for stretch in found
        ]

    return look
