"""One call for what many operations of this process ask for in the same turn of its loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Gathered(Generic[K, V]):
    """A loader without a memory, shared by all operations; `Context.load` is the one within an operation.

    `load` takes keys and gives answers in the same order; an exception among them is raised to whoever asked for
    it, and one that `load` raises to all.
    """

    def __init__(self, load: Callable[[list[K]], Awaitable[Sequence[V | Exception]]]) -> None:
        self._load = load
        self._asked: list[tuple[K, asyncio.Future[V]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[asyncio.Task[None]] = set()

    def load(self, key: K) -> Awaitable[V]:
        """The answer to `key`."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a test's; what was asked on another is nobody's any more
            self._loop = loop
            self._asked = []
        if not self._asked:
            loop.call_soon(self._start)
        answer: asyncio.Future[V] = loop.create_future()
        self._asked.append((key, answer))
        return answer

    def _start(self) -> None:
        asked, self._asked = self._asked, []
        task = asyncio.ensure_future(self._run(asked))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, asked: list[tuple[K, asyncio.Future[V]]]) -> None:
        try:
            found = await self._load([key for key, _ in asked])
            assert len(found) == len(asked), "an answer for every key"
        except Exception as error:
            found = [error] * len(asked)
        for (_, answer), one in zip(asked, found, strict=True):
            if answer.done():
                continue  # whoever asked is gone
            if isinstance(one, Exception):
                answer.set_exception(one)
            else:
                answer.set_result(one)
