"""Promises kept: the relay leases what is due for arq to run, `keep` runs it and writes the end.

PostgreSQL is the record, arq only the runner: whatever is lost on the way comes back when its lease
is over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from domain.core import bell, db, failpoint, promises, trace
from domain.core.errors import DomainError
from domain.core.promises import Promise
from workers.loops import Loop
from workers.registry import Later, tasks

# Promises at work at once, per queue and process.
SLOTS = {"settlement": 8, "risk": 8, "delivery": 16, "general": 16}
HANDLER_TIMEOUT_S = 25.0
LOOK_EVERY_S = 5.0
LINGER_S = (
    0.01  # under load promises gather into one job; the first after a quiet moment never waits
)
BACKOFF_MAX_S = 90.0  # what waits starts again within two minutes after the world is well
AWAY_S = 5.0
KILLED_MAX = 5
# A lock, a deadlock, a database that restarts. Not every OSError: a handler that hangs ends with one.
_NOBODYS_FAULT = tuple(one for one in (*db.RETRYABLE, *db.AWAY) if one is not OSError)

_log = structlog.get_logger(__name__)


class TaskUnknown(Exception):
    """No handler of that name: an older worker, or a wrong name."""


class Marks:
    """Kept promises that finish together are marked in one statement."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Promise, asyncio.Future[bool]]] = []
        self._task: asyncio.Task[None] | None = None

    async def kept(self, one: Promise) -> bool:
        """Mark it done; false when the lease was lost meanwhile."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())
        return await done

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                ours = await promises.keep_many([(one.id, one.fence) for one, _ in batch])
                failpoint.reach("promise.kept")
            except Exception as error:  # each waiting handler hears of it
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            for one, done in batch:
                if not done.done():
                    done.set_result(one.id in ours)


@dataclass
class Relay:
    """Leases as many due promises as there are free slots and hands each lot to `enqueue`.

    `enqueue(queue, promises)` gives a job id; `freed(queue, job_id)` says that one of its promises
    is through. A slot whose job was lost is free again when the lease is over.
    """

    queues: Sequence[str]
    enqueue: Callable[[str, list[Promise]], Awaitable[str]]
    loop: Loop = field(init=False)
    _rung: set[str] = field(default_factory=set, init=False)
    _due_at: dict[str, float] = field(default_factory=dict, init=False)
    _jobs: dict[str, dict[str, tuple[int, float]]] = field(init=False)
    _leased_at: float = field(default=0.0, init=False)
    marks: Marks = field(default_factory=Marks, init=False)

    def __post_init__(self) -> None:
        self._jobs = {queue: {} for queue in self.queues}
        self.loop = Loop("relay", self.turn, LOOK_EVERY_S, bell.PROMISES, self._hears)

    def _hears(self, ids: Sequence[str]) -> bool:
        ours = set(ids or self.queues) & set(self.queues)
        self._rung |= ours
        return bool(ours)

    async def turn(self) -> float:
        """Relay what was rung or is due; the seconds until the next promise is due."""
        await asyncio.sleep(max(0.0, self._leased_at + LINGER_S - _now()))
        rung, self._rung = self._rung, set()
        for queue in self.queues:
            if queue in rung or self._due_at.get(queue, 0.0) <= _now():
                await self._relay(queue)
        return max(0.0, min(self._due_at.values()) - _now())

    async def _relay(self, queue: str) -> None:
        free = SLOTS[queue] - self._at_work(queue)
        if free <= 0:  # `freed` calls again; the first lost job does at its end
            self._due_at[queue] = min(until for _, until in self._jobs[queue].values())
            return
        leased = await promises.lease([queue], limit=free)
        if leased:
            failpoint.reach("promise.leased")
            # A full lot says there is more: that one does not linger.
            self._leased_at = _now() if len(leased) < free else 0.0
            await self._hand_over(queue, leased)
        if len(leased) == free:
            self._due_at[queue] = _now()
            return
        due_s = await promises.next_due_s(queue)
        self._due_at[queue] = _now() + min(LOOK_EVERY_S, LOOK_EVERY_S if due_s is None else due_s)

    async def _hand_over(self, queue: str, leased: list[Promise]) -> None:
        try:
            job_id = await self.enqueue(queue, leased)
        except Exception:
            for one in leased:  # Redis is away: they need not wait for the end of the lease
                await promises.wait(one.id, one.fence, in_s=0)
            raise
        self._jobs[queue][job_id] = len(leased), _now() + promises.LEASE_S

    def _at_work(self, queue: str) -> int:
        jobs = self._jobs[queue]
        for job_id in [job_id for job_id, (_, until) in jobs.items() if until <= _now()]:
            del jobs[job_id]
        return sum(count for count, _ in jobs.values())

    def freed(self, queue: str, job_id: str) -> None:
        """One promise of the job is through, however it ended."""
        jobs = self._jobs.get(queue, {})
        if job_id not in jobs:
            return
        was_full = self._at_work(queue) >= SLOTS[queue]
        count, until = jobs.get(job_id, (0, 0.0))
        if count > 1:
            jobs[job_id] = count - 1, until
        else:
            jobs.pop(job_id, None)
        if was_full:
            self.remind(queue, 0)

    def remind(self, queue: str, in_s: float) -> None:
        """A promise of `queue` becomes due in `in_s`."""
        self._due_at[queue] = min(self._due_at.get(queue, 0.0), _now() + in_s)
        self.loop.ring()


async def keep(ctx: dict[str, Any], queue: str, leases: list[tuple[str, int]]) -> None:
    """The one arq task: keep the promises of these leases `(id, fence)` that are still ours.

    A job that comes twice, late, or from an old copy of Redis finds no lease and does nothing.
    """
    relay: Relay = ctx["relay"]
    pairs = [(UUID(promise_id), fence) for promise_id, fence in leases]
    held: list[Promise] = []
    try:
        held = await promises.held_many(pairs, least_s=HANDLER_TIMEOUT_S)
    finally:
        for _ in range(len(pairs) - len(held)):
            relay.freed(queue, ctx["job_id"])
    results = await asyncio.gather(
        *(_keep_one(relay, ctx["job_id"], one) for one in held), return_exceptions=True
    )
    for one, result in zip(held, results, strict=True):
        if result is not None:  # the end could not be written: the lease ends, it runs again
            _log.error("promise.not_written", task=one.task, promise=str(one.id), exc_info=result)


async def _keep_one(relay: Relay, job_id: str, one: Promise) -> None:
    try:
        wait_s = await _outcome(one, relay.marks)
    except asyncio.CancelledError:
        # The process ends: another one takes it now, not when the lease is over.
        await asyncio.shield(promises.wait(one.id, one.fence, in_s=0))
        raise
    finally:
        relay.freed(one.queue, job_id)
    if wait_s is not None:
        relay.remind(one.queue, wait_s)


async def _outcome(one: Promise, marks: Marks) -> float | None:
    """Run the handler and write the end; the seconds until the next try, if there is one."""
    try:
        later = await _run(one)
    except DomainError as error:
        if not error.retryable:
            return await _failed(one, error)
        later = Later(AWAY_S * random.uniform(0.5, 1))
    except _NOBODYS_FAULT:
        later = Later(AWAY_S * random.uniform(0.5, 1))
    except Exception as error:  # tried again, then a person looks
        return await _failed(one, error)
    if later is not None:
        await promises.wait(one.id, one.fence, in_s=later.in_s)
        return later.in_s
    if not await marks.kept(one):
        _log.warning("promise.lease_lost", task=one.task, subject=str(one.subject_id))
    return None


async def _run(one: Promise) -> Later | None:
    if one.tries > promises.TRIES_MAX + KILLED_MAX:
        raise RuntimeError("it was taken again and again and never came to an end")
    handler = tasks.get(one.task)
    if handler is None:
        raise TaskUnknown(one.task)
    with trace.span("promise", one.task):
        try:
            async with asyncio.timeout(HANDLER_TIMEOUT_S):
                await handler(one.subject_id)
                failpoint.reach("promise.before_mark")
        except Later as later:
            return later
    return None


async def _failed(one: Promise, error: Exception) -> float | None:
    in_s = min(BACKOFF_MAX_S, 2.0 ** (one.tries - 1)) * random.uniform(0.5, 1)
    words = f"{type(error).__name__}: {error}".replace("\0", "")
    is_dead = await promises.defer(one.id, one.fence, error=words, in_s=in_s)
    log = _log.bind(
        task=one.task, promise=str(one.id), subject=str(one.subject_id), tries=one.tries
    )
    if is_dead:
        log.error("promise.dead", queue=one.queue, exc_info=error)
        return None
    log.warning("promise.failed", retry_in_s=round(in_s, 1), exc_info=error)
    return in_s


def _now() -> float:
    return asyncio.get_running_loop().time()
