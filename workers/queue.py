"""The arq side: one connection pool, one worker per queue, every setting written out, JSON only.

What a process leased it runs itself: its Redis keys are its own, so its free slots are exact. arq
polls; the relay rings its worker instead, so polling is slow and costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC
from typing import Any
from uuid import uuid4

import arq
import structlog
from arq.connections import ArqRedis
from arq.worker import Function, func
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from domain.core import heartbeat
from domain.core.promises import Promise
from workers import loops, outbox

POLL_S = 1.0
PAUSE_MAX_S = 5.0
BEAT_EVERY_S = 10.0
JOB_TIMEOUT_S = 30
STOP_S = 10
EXPIRES_MS = 300_000
KEY_EXPIRES_S = 3_600
REDIS_TIMEOUT_S = 5.0

_log = structlog.get_logger(__name__)


def dump(job: dict[str, Any]) -> bytes:
    """A job as JSON: whoever can write to Redis must not be able to run code here."""
    return json.dumps(job, separators=(",", ":")).encode()


def key(queue: str, process: str) -> str:
    """The Redis key of a queue in one process."""
    return f"kami:queue:{queue}:{process}"


def create_pool(url: str) -> ArqRedis:
    """The Redis connections of arq; a server that is silent is noticed after five seconds."""
    pool = ConnectionPool.from_url(
        url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )
    return ArqRedis(
        pool_or_conn=pool,
        job_serializer=dump,
        job_deserializer=json.loads,
        default_queue_name="kami:queue:none",
        expires_extra_ms=EXPIRES_MS,
    )


def settings(queue: str, process: str) -> dict[str, Any]:
    """Every setting of the worker of `queue`: arq's defaults include pickle."""
    keep: Function = func(
        outbox.keep, name="keep", timeout=JOB_TIMEOUT_S, keep_result=0, max_tries=100
    )
    return {
        "functions": [keep],
        "queue_name": key(queue, process),
        "cron_jobs": None,
        "burst": False,
        "on_startup": None,
        "on_shutdown": None,
        "on_job_start": None,
        "on_job_end": None,
        "after_job_end": None,
        "handle_signals": False,
        "job_completion_wait": STOP_S,
        "max_jobs": outbox.SLOTS[queue],
        "job_timeout": JOB_TIMEOUT_S,
        "keep_result": 0,
        "keep_result_forever": False,
        "poll_delay": POLL_S,
        "queue_read_limit": 100,
        "max_tries": 100,
        "health_check_interval": 10,
        "health_check_key": f"{key(queue, process)}:health",
        "retry_jobs": True,
        "allow_abort_jobs": False,
        "max_burst_jobs": -1,
        "job_serializer": dump,
        "job_deserializer": json.loads,
        "expires_extra_ms": EXPIRES_MS,
        "timezone": UTC,
        "log_results": False,
    }


class Worker(arq.Worker):
    """An arq worker that is rung, outlives Redis, and shows that its poll loop turns."""

    def __init__(self, queue: str, process: str, pool: ArqRedis) -> None:
        super().__init__(**settings(queue, process), redis_pool=pool)
        self.queue = queue
        self._rung = asyncio.Event()
        self._beat_at = 0.0
        self._stopping = False

    def ring(self) -> None:
        """A job was put into our queue."""
        self._rung.set()

    async def main(self) -> None:
        """Poll until `stop`, at once when rung; errors of Redis are waited out."""
        self.ctx["redis"] = self.pool
        pause_s = 0.1
        while not self._stopping:
            self._rung.clear()
            try:
                await self._poll_iteration()
                await self._beat()
            except (RedisError, OSError, TimeoutError) as error:
                _log.warning("worker.redis_away", queue=self.queue, error=type(error).__name__)
                self._beat_at = 0.0
                await self._wait(pause_s)
                pause_s = min(pause_s * 2, PAUSE_MAX_S)
                continue
            pause_s = 0.1
            await self._wait(POLL_S)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            pass

    async def _beat(self) -> None:
        now = self.loop.time()
        if now - self._beat_at >= BEAT_EVERY_S:
            await heartbeat.beat(self.queue)
            await self.pool.expire(
                self.queue_name, KEY_EXPIRES_S
            )  # of a dead process nothing stays
            self._beat_at = now

    async def stop(self) -> None:
        """Take no more; running jobs get ten seconds, then they are cancelled and given back."""
        self.allow_pick_jobs = False
        self._stopping = True
        self.ring()
        if self.tasks:
            await asyncio.wait(list(self.tasks.values()), timeout=STOP_S)
        await loops.end(*self.tasks.values())


class Runners:
    """The workers of one process by queue, and the way into them."""

    def __init__(self, pool: ArqRedis, queues: list[str]) -> None:
        self.pool = pool
        process = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self.workers: Mapping[str, Worker] = {
            queue: Worker(queue, process, pool) for queue in queues
        }
        self.relay = outbox.Relay(queues, self.enqueue)
        for worker in self.workers.values():
            worker.ctx["relay"] = self.relay

    async def enqueue(self, queue: str, leased: list[Promise]) -> str:
        """Put one job for these promises into arq and wake our worker. Errors: RedisError."""
        job_id = uuid4().hex
        await self.pool.enqueue_job(
            "keep",
            queue,
            [(str(one.id), one.fence) for one in leased],
            _job_id=job_id,
            _queue_name=self.workers[queue].queue_name,
        )
        self.workers[queue].ring()
        return job_id

    async def keep_running(self, until: asyncio.Event) -> None:
        """Run the workers until `until` is set, then let them finish."""
        running = [asyncio.create_task(worker.async_run()) for worker in self.workers.values()]
        stopped = asyncio.create_task(until.wait())
        try:
            await asyncio.wait([stopped, *running], return_when=asyncio.FIRST_COMPLETED)
            for task in running:
                if task.done():
                    task.result()  # a poll loop that ended by itself ends the process
        finally:
            await asyncio.gather(*(worker.stop() for worker in self.workers.values()))
            await loops.end(stopped, *running)
            await self.pool.aclose(close_connection_pool=True)
