"""Background loops: woken by the bell or by a timer, slower after errors, never dead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from domain.core import bell, trace

PAUSE_MIN_S, PAUSE_MAX_S = 0.1, 5.0
STOP_S = 5.0
CANCEL_EVERY_S = 0.5

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Loop:
    """`run` again and again: after `every_s`, or when `topic` rings, or at once when it gives 0.

    `run()` gives the seconds until it wants to run by itself (0 = there is more to do now) or None
    for `every_s`. `wants(ids)` filters rings; a ring without ids is for everybody. Errors are
    logged and waited out.
    """

    name: str
    run: Callable[[], Awaitable[float | None]]
    every_s: float
    topic: str | None = None
    wants: Callable[[Sequence[str]], bool] = lambda ids: True
    _rung: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stopping: bool = field(default=False, init=False)

    def ring(self) -> None:
        """Run again as soon as possible."""
        self._rung.set()

    def stop(self) -> None:
        """End after the present turn."""
        self._stopping = True
        self._rung.set()

    async def keep_running(self) -> None:
        """Turn until `stop`; only cancellation ends it earlier."""
        pause_s = PAUSE_MIN_S
        while not self._stopping:
            self._rung.clear()
            try:
                with trace.span("job", f"loop.{self.name}"):
                    next_s = await self.run()
            except Exception as error:  # whatever it was: a loop that dies is worse
                _log.error("loop.failed", loop=self.name, retry_in_s=pause_s, exc_info=error)
                await asyncio.sleep(pause_s)  # rings do not shorten it: no storm of errors
                pause_s = min(pause_s * 2, PAUSE_MAX_S)
                continue
            pause_s = PAUSE_MIN_S
            await self._wait(self.every_s if next_s is None else next_s)

    async def _wait(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            pass


async def listen(loops: Sequence[Loop]) -> None:
    """Pass the bell on to the loops for ever; one Redis connection for all of them."""
    topics = sorted({loop.topic for loop in loops if loop.topic is not None})
    if not topics:
        return
    async for topic, ids in bell.listen(*topics):
        for loop in loops:
            # An empty topic says that rings may have been missed: everybody looks.
            if loop.topic is not None and topic in ("", loop.topic):
                is_wanted = loop.wants(ids)
                if is_wanted or not ids:
                    loop.ring()


async def keep_running(loops: Sequence[Loop], until: asyncio.Event) -> None:
    """Run all loops and their bell until `until` is set; each may finish its turn."""
    running = [asyncio.create_task(loop.keep_running(), name=loop.name) for loop in loops]
    listener = asyncio.create_task(listen(loops), name="bell")
    try:
        await until.wait()
        for loop in loops:
            loop.stop()
        if running:
            await asyncio.wait(running, timeout=STOP_S)
    finally:
        await end(*running, listener)


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they are over, whatever they end with.

    redis-py swallows a cancellation that meets its `timeout(0)`, so one is not always enough.
    """
    while alive := [task for task in tasks if not task.done()]:
        for task in alive:
            task.cancel()
        await asyncio.wait(alive, timeout=CANCEL_EVERY_S)
    await asyncio.gather(*tasks, return_exceptions=True)
