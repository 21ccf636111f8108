"""Together: calls of one kind that arrive while a set is being written become the next set.

Alone a call waits for nobody: its set has one member. Under load the sets grow, and with them the work that one
transaction, one commit and one round trip do. A set is all or nothing; when it is refused its members are written
one by one, so that nobody is refused for what another asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from prometheus_client import Histogram

from domain.core import db
from domain.core.errors import Unavailable

SET_MAX = 64
ALONE_MAX = 4  # members of a refused set that are written at the same time
SLOW_S = 0.1  # a set that takes longer no longer holds the next one back
BESIDE_MAX = 4

_size = Histogram(
    "kami_set_size",
    "Calls written together, by what they do.",
    labelnames=("name",),
    buckets=(1, 2, 4, 8, 16, 32, 64),
)

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")
_Waiting = tuple[Ask, "asyncio.Future[Answer]"]


class Together(Generic[Ask, Answer]):
    """`await together(ask)`: the answer of `write` for this ask, however many others shared its set.

    `write` takes 1 to `SET_MAX` asks and gives their answers in the same order, or raises and has then changed
    nothing. Errors: those of `write` for a set of this ask alone; Unavailable (CommitUnknown too) as it came.
    """

    def __init__(
        self, name: str, write: Callable[[Sequence[Ask]], Awaitable[Sequence[Answer]]]
    ) -> None:
        self._write = write
        self._size = _size.labels(name)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begin()

    def _begin(self) -> None:
        self._waiting: deque[_Waiting[Ask, Answer]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._holding: asyncio.Task[None] | None = None  # the set that the next one waits for

    async def __call__(self, ask: Ask) -> Answer:
        """Join the next set."""
        assert not db.in_transaction(), "a set has a transaction of its own"
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._begin()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((ask, future))
        self._start(loop)
        return await future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and self._holding is None and len(self._running) < BESIDE_MAX:
            # A task of its own: a caller that goes away takes nobody with it.
            task = self._holding = loop.create_task(self._run(loop))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._let_go(task)
        self._start(task.get_loop())

    def _let_go(self, task: asyncio.Task[None]) -> None:
        if self._holding is task:
            self._holding = None

    def _is_slow(self, task: asyncio.Task[None]) -> None:
        self._let_go(task)
        self._start(task.get_loop())

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write the set of all who wait now: who asked in the same turn of the loop is among them."""
        batch = [self._waiting.popleft() for _ in range(min(SET_MAX, len(self._waiting)))]
        task = asyncio.current_task()
        assert task is not None
        timer = loop.call_later(SLOW_S, self._is_slow, task)
        try:
            await self._write_set(batch)
        finally:
            timer.cancel()
            for _, future in batch:
                future.cancel()  # who has an answer keeps it; the others see that this task was cancelled

    async def _write_set(self, batch: Sequence[_Waiting[Ask, Answer]]) -> None:
        self._size.observe(len(batch))
        try:
            answers = await self._write([ask for ask, _ in batch])
        except Exception as error:
            if len(batch) == 1 or isinstance(error, Unavailable):
                _refuse(batch, error)
            else:
                await self._one_by_one(batch)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def _one_by_one(self, batch: Sequence[_Waiting[Ask, Answer]]) -> None:
        left = iter(batch)

        async def some() -> None:
            for one in left:
                await self._write_set([one])

        await asyncio.gather(*(some() for _ in range(min(ALONE_MAX, len(batch)))))


def _refuse(batch: Sequence[_Waiting[Ask, Answer]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
