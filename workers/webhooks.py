"""Webhooks: the event log is read into deliveries owed, and what is due is sent, each endpoint at its own pace.

One dispatcher per process keeps a lane per endpoint. A lane has few slots, so an endpoint that hangs holds those and
nothing else; it is let to lease ahead only as fast as it answered last. Endpoints that fail have fewer slots still,
and all of them together a small share. Statements are made for sets: while answers come in, a turn waits a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from prometheus_client import Counter

from domain import notifications, webhooks
from domain.core import bell
from domain.core.errors import DomainError
from domain.core.events import READ_MAX
from domain.webhooks import Claimed, EndpointState, Result
from domain.webhooks.ports import Reply, carriers
from workers.loops import Loop, end
from workers.registry import loops, tasks

COLLECT_EVERY_S = 1.0
COLLECT_PAUSE_S = 0.1  # one stretch of the log instead of one per ring
SEND_EVERY_S = 1.0
GATHER_S = 0.02
SLOTS = 8  # requests in flight per endpoint
FAILING_SLOTS = 2
AHEAD_MAX = 64  # leased per endpoint, those in flight included
IN_FLIGHT_MAX = 512
FAILING_MAX = 64
CLAIM_MAX = 250
CLOSE_S = 3.0

_tries = Counter("kami_webhook_tries", "Webhooks sent, by the class of the answer.", ("answer",))
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Lane:
    """One endpoint: what is in flight, what waits behind it, how many 2xx came since the last claim."""

    slots: int = SLOTS
    in_flight: int = 0
    recent: int = 0
    waiting: deque[Claimed] = field(default_factory=deque)

    @property
    def held(self) -> int:
        return self.in_flight + len(self.waiting)

    def free(self) -> int:
        """How many more may be leased: an endpoint without answers gets its slots filled and no more."""
        return max(0, min(self.slots + self.recent, AHEAD_MAX) - self.held)


class Dispatcher:
    """Sends what is due. `loop` is its background loop, rung by every answer."""

    def __init__(self) -> None:
        self.loop = Loop("webhooks.send", self.turn, every_s=SEND_EVERY_S)
        self._lanes: dict[UUID, _Lane] = {}
        self._flights: dict[asyncio.Task[None], Claimed] = {}
        self._failing = 0
        self._done: list[Result] = []
        self._closing = False

    async def turn(self) -> float | None:
        """Write what came back, lease what may go, send it; 0 when more may wait."""
        if self._flights or self._done:
            await asyncio.sleep(GATHER_S)
        await self._write_down()
        if webhooks.CARRIER not in carriers or self._closing:
            return None
        claimed = await self._claim()
        if claimed:
            await self._write_up(claimed)
        self._depart(list(self._lanes))
        return 0 if claimed or self._done else None

    async def _write_down(self) -> None:
        done, self._done = self._done, []
        try:
            await webhooks.finish(done)
        except BaseException:
            self._done = done + self._done  # the lease still holds: again in the next turn
            raise

    async def _claim(self) -> list[Claimed]:
        free = {}
        for endpoint_id, lane in list(self._lanes.items()):
            if not lane.held and not lane.recent:
                del self._lanes[endpoint_id]
                continue
            free[endpoint_id] = lane.free()
            lane.recent = 0
        claimed: list[Claimed] = []
        room = IN_FLIGHT_MAX - len(self._flights)
        if room > 0:
            limit = min(CLAIM_MAX, room + AHEAD_MAX)
            claimed += await webhooks.claim(limit, free=free, each=SLOTS)
        room = FAILING_MAX - self._failing
        if room > 0:
            few = {
                endpoint_id: max(0, FAILING_SLOTS - lane.held)
                for endpoint_id, lane in self._lanes.items()
            }
            failing = EndpointState.FAILING
            claimed += await webhooks.claim(room, free=few, each=FAILING_SLOTS, state=failing)
        return claimed

    async def _write_up(self, claimed: list[Claimed]) -> None:
        try:
            ready, results = await webhooks.write(claimed)
        except BaseException:
            with contextlib.suppress(DomainError):
                await webhooks.release(claimed)
            raise
        self._done += results
        self._enqueue(ready)

    def _enqueue(self, ready: Iterable[Claimed]) -> None:
        for one in ready:
            is_failing = one.endpoint.state is EndpointState.FAILING
            lane = self._lanes.setdefault(one.endpoint.id, _Lane())
            lane.slots = FAILING_SLOTS if is_failing else SLOTS
            lane.waiting.append(one)

    def _depart(self, endpoint_ids: Iterable[UUID]) -> None:
        for endpoint_id in endpoint_ids:
            lane = self._lanes[endpoint_id]
            while lane.waiting and lane.in_flight < lane.slots and not self._closing:
                if len(self._flights) >= IN_FLIGHT_MAX:
                    return
                one = lane.waiting.popleft()
                lane.in_flight += 1
                self._failing += one.endpoint.state is EndpointState.FAILING
                flight = asyncio.create_task(self._send(one), name="webhook")
                self._flights[flight] = one
                flight.add_done_callback(self._landed)

    async def _send(self, one: Claimed) -> None:
        try:
            # It may have waited behind others for longer than a revoked grant lives.
            if one.grant_id is not None and (why := await webhooks.may_go(one)) is not None:
                skipped = webhooks.DeliveryState.SKIPPED
                self._done.append(Result(one, Reply(None, why), skipped))
                return
            reply = await carriers[webhooks.CARRIER].send(webhooks.message(one))
        except (
            Exception
        ) as error:  # a carrier never raises for the network: this is a bug, and a failed try
            _log.error("webhook.unsent", delivery_id=str(one.id), exc_info=error)
            reply = Reply(None, "unsent")
        _tries.labels("none" if reply.code is None else f"{reply.code // 100}xx").inc()
        self._done.append(Result(one, reply))
        if reply.code is not None and 200 <= reply.code < 300:
            self._lanes[one.endpoint.id].recent += 1

    def _landed(self, flight: asyncio.Task[None]) -> None:
        one = self._flights.pop(flight)
        self._lanes[one.endpoint.id].in_flight -= 1
        self._failing -= one.endpoint.state is EndpointState.FAILING
        self._depart([one.endpoint.id])
        self.loop.ring()

    async def idle(self) -> None:
        """Turn until nothing is due, in flight or unwritten; for tests and benchmarks."""
        while await self.turn() == 0 or self._flights or self._done:
            pass

    async def close(self) -> None:
        """Give what is in flight a moment, write what came back, hand the rest to another worker."""
        self._closing = True
        if self._flights:
            await asyncio.wait(list(self._flights), timeout=CLOSE_S)
        left = [
            *self._flights.values(),
            *(one for lane in self._lanes.values() for one in lane.waiting),
        ]
        await end(*self._flights)
        await self._write_down()
        # What was on the wire may have arrived: it goes out again under the same id.
        await webhooks.release(left)


async def collect() -> float | None:
    """Read the next stretch of the log; a full one means that more may wait."""
    await asyncio.sleep(COLLECT_PAUSE_S)
    read = await webhooks.collect()
    if read and _dispatcher is not None:
        _dispatcher.loop.ring()
    return 0 if read >= READ_MAX else None


async def tell_disabled(endpoint_id: UUID) -> None:
    """Mail the merchant that an endpoint is switched off; nothing when it is on again or gone."""
    found = (await webhooks.endpoints([endpoint_id])).get(endpoint_id)
    if found is None or found.state is not EndpointState.DISABLED:
        return
    await notifications.tell_webhook_disabled(
        found.merchant_id, found.id, found.version, url=found.terms.url, reason=str(found.reason)
    )


_dispatcher: Dispatcher | None = None


def load() -> None:
    """Register the loops and the task of the general queue."""
    global _dispatcher
    _dispatcher = Dispatcher()
    tasks[webhooks.DISABLED_TASK] = tell_disabled
    loops["general"] += [
        Loop("webhooks.collect", collect, every_s=COLLECT_EVERY_S, topic=bell.ORDERS),
        _dispatcher.loop,
    ]


async def close() -> None:
    """End what this process sends."""
    if _dispatcher is not None:
        await _dispatcher.close()
