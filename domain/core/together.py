"""Together: calls of one kind that arrive while a set is being written become the next set.

Alone a call waits for nobody: its set has one member. Under load the sets grow, and with them the work that one
transaction, one commit and one round trip do. A set is all or nothing; when it is refused its members are written
one by one, so that nobody is refused for what another asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import asyncpg
from prometheus_client import Histogram
from structlog.contextvars import bind_contextvars, clear_contextvars

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


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Ask, Answer]):
    """One call: what it asks, where its answer goes, and the context it is asked in."""

    ask: Ask
    future: asyncio.Future[Answer]
    context: Context = field(default_factory=copy_context)


class Together(Generic[Ask, Answer]):
    """`await together(ask)`: the answer of `write` for this ask, however many others shared its set.

    `write` takes 1 to `SET_MAX` asks and gives their answers in the same order, or raises and has then changed
    nothing. Errors: those of `write` for a set of this ask alone; Unavailable (CommitUnknown too) as it came.
    """

    def __init__(
        self, name: str, write: Callable[[Sequence[Ask]], Awaitable[Sequence[Answer]]]
    ) -> None:
        self._name = name
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
        self._waiting.append(_Waiting(ask, future))
        self._start(loop)
        return await future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and self._waiting[0].future.done():
            self._waiting.popleft()
        if self._waiting and self._holding is None and len(self._running) < BESIDE_MAX:
            # A task of its own: a caller that goes away takes nobody with it. It runs in the context of one who is
            # in the set, never in that of whoever happened to start the first of a long line of sets.
            context = self._waiting[0].context.copy()
            task = self._holding = loop.create_task(self._run(loop), context=context)
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
        batch = self._take()
        if not batch:
            return
        task = asyncio.current_task()
        assert task is not None
        timer = loop.call_later(SLOW_S, self._is_slow, task)
        try:
            await self._write_set(batch)
        finally:
            timer.cancel()
            for one in batch:
                one.future.cancel()  # who has an answer keeps it; the others see that this task was cancelled

    def _take(self) -> list[_Waiting[Ask, Answer]]:
        """The next set; who went away before it was begun asks for nothing any more."""
        batch: list[_Waiting[Ask, Answer]] = []
        while self._waiting and len(batch) < SET_MAX:
            one = self._waiting.popleft()
            if not one.future.done():
                batch.append(one)
        return batch

    async def _write_set(self, batch: Sequence[_Waiting[Ask, Answer]]) -> None:
        self._size.observe(len(batch))
        if len(batch) > 1:
            clear_contextvars()  # what a set logs is about none of its members in particular
            bind_contextvars(set=self._name)
        refused: Exception | None = None
        try:
            asks = [one.ask for one in batch]
            answers = await (self._write(asks) if len(asks) > 1 else self._write_alone(asks))
        except Exception as error:
            refused = error
        if refused is None:
            for one, answer in zip(batch, answers, strict=True):
                if not one.future.done():
                    one.future.set_result(answer)
        elif len(batch) == 1 or isinstance(refused, Unavailable):
            _refuse(batch, refused)
        else:
            await self._one_by_one(batch)

    async def _write_alone(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """A deadlock is nobody's fault: its loser asks again. Nobody waits twice for a lock that stays taken."""
        try:
            return await self._write(asks)
        except asyncpg.LockNotAvailableError as error:
            raise Unavailable(what="database") from error
        except db.RETRYABLE:
            pass
        return await db.retried(partial(self._write, asks))

    async def _one_by_one(self, batch: Sequence[_Waiting[Ask, Answer]]) -> None:
        left = iter(batch)
        loop = asyncio.get_running_loop()

        async def some() -> None:
            for one in left:
                if not one.future.done():
                    await loop.create_task(self._write_set([one]), context=one.context)

        await asyncio.gather(*(some() for _ in range(min(ALONE_MAX, len(batch)))))


def _refuse(batch: Sequence[_Waiting[Ask, Answer]], error: Exception) -> None:
    for one in batch:
        if not one.future.done():
            one.future.set_exception(error if len(batch) == 1 else _own(error))


def _own(error: Exception) -> Exception:
    """The error that many are told, for one of them: nobody is to carry the traces of the others."""
    own = type(error).__new__(type(error), *error.args)
    own.__dict__.update(error.__dict__)
    own.__cause__ = error
    return own
