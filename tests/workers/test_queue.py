"""The way through Redis: JSON only, our settings; nothing is lost with it, no old copy is run."""

from __future__ import annotations

import asyncio
import json
import pickle
from datetime import UTC
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis.exceptions import ConnectionError as RedisGone

from domain.core import bell, promises
from domain.core import db as database
from domain.core.heartbeat import QUEUES
from tests.workers.running import (
    all_done,
    leases_end,
    owe,
    seen,
    states,
    tries_of,
    until_true,
    working,
)
from workers import outbox, queue, registry

pytestmark = pytest.mark.usefixtures("tasks")


async def test_two_processes_share_a_queue_without_running_anything_twice(db: None) -> None:
    async with working("general"), working("general"):
        subjects = await owe("note", count=200)
        await all_done(200)

    assert sorted(seen) == sorted(subjects)


async def test_k11_flushall_with_jobs_queued_loses_nothing(db: None) -> None:
    async with working("general") as runners:
        runners.workers["general"].allow_pick_jobs = False
        subjects = await owe("note", count=4)

        async def is_queued() -> bool:
            return runners.relay._at_work("general") == 4

        await until_true(is_queued)
        await bell.server().flushdb()
        runners.workers["general"].allow_pick_jobs = True
        await asyncio.sleep(0.1)
        assert seen == []

        await leases_end()
        await bell.ring(bell.PROMISES)
        await all_done(4)

    assert sorted(seen) == sorted(subjects)


async def test_a_lost_job_frees_its_slots_when_the_lease_is_over(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promises, "LEASE_S", 26)
    monkeypatch.setitem(outbox.SLOTS, "general", 2)
    async with working("general") as runners:
        runners.workers["general"].allow_pick_jobs = False
        await owe("note", count=5)

        async def is_full() -> bool:
            return runners.relay._at_work("general") == 2

        await until_true(is_full)
        await bell.server().flushdb()
        runners.workers["general"].allow_pick_jobs = True
        for jobs in runners.relay._jobs.values():
            jobs.update({job_id: (count, 0.0) for job_id, (count, _) in jobs.items()})
        await leases_end()
        await bell.ring(bell.PROMISES)
        await all_done(5)

    assert len(seen) == 5


async def test_k12_a_job_from_an_old_copy_of_redis_is_a_no_op(db: None) -> None:
    redis = bell.server()
    async with working("general") as runners:
        worker = runners.workers["general"]
        worker.allow_pick_jobs = False
        await owe("note")

        async def is_queued() -> bool:
            return bool(await redis.zcard(worker.queue_name))

        await until_true(is_queued)
        copies = {key: await redis.dump(key) for key in await redis.keys("*")}
        worker.allow_pick_jobs = True
        worker.ring()
        await all_done(1)
        done_at = await database.value("SELECT done_at FROM promise")

        for key, copy in copies.items():
            assert copy is not None
            await redis.restore(key, 0, copy, replace=True)
        worker.ring()

        async def is_gone() -> bool:
            return not await redis.zcard(worker.queue_name)

        await until_true(is_gone)

    assert len(seen) == 1
    assert await database.value("SELECT done_at FROM promise") == done_at


async def test_redis_that_is_away_gives_the_promises_back(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owe("note", count=3)
    calls = 0

    async def enqueue(queue_name: str, leased: list[promises.Promise]) -> str:
        nonlocal calls
        calls += 1
        raise RedisGone("down")

    relay = outbox.Relay(["general"], enqueue)

    with pytest.raises(RedisGone):
        await relay.turn()

    assert calls == 1
    assert await states() == {"ready": 3}
    assert await database.value("SELECT max(tries) FROM promise") == 0


async def test_h32_an_evil_pickle_in_redis_is_not_run(db: None, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str, str]]:
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w').close()", ""))

    redis = bell.server()
    job = pickle.dumps({"t": None, "f": "keep", "a": (Evil(),), "k": {}, "et": 0})
    async with working("general") as runners:
        await redis.set("arq:job:evil", job)
        await redis.zadd(runners.workers["general"].queue_name, {"evil": 1})
        runners.workers["general"].ring()

        async def is_gone() -> bool:
            return not await redis.exists("arq:job:evil")

        await until_true(is_gone)
        await owe("note")
        await all_done(1)

    assert not (tmp_path / "owned").exists()
    assert runners.workers["general"].jobs_failed == 1


async def test_q02_every_setting_of_every_worker_is_ours(db: None) -> None:
    async with working(*QUEUES) as runners:
        assert list(runners.workers) == ["settlement", "risk", "delivery", "general"]
        for name, worker in runners.workers.items():
            assert worker.queue_name.startswith(f"kami:queue:{name}:")
            assert worker.job_serializer is queue.dump
            assert worker.job_deserializer is json.loads
            assert worker.keep_result_s == 0
            assert worker.keep_result_forever is False
            assert worker.max_tries == 100
            assert worker.max_jobs == outbox.SLOTS[name]
            assert worker.job_timeout_s == 30
            assert worker.in_progress_timeout_s == 40
            assert worker.poll_delay_s == queue.POLL_S
            assert worker.health_check_interval == 10
            assert worker.timezone is UTC
            assert worker.retry_jobs is True
            assert worker.allow_abort_jobs is False
            assert worker.cron_jobs == []
            assert worker._handle_signals is False
            assert worker.expires_extra_ms == queue.EXPIRES_MS
            assert list(worker.functions) == ["keep"]
        assert runners.pool.job_serializer is queue.dump
        assert runners.pool.expires_extra_ms == queue.EXPIRES_MS
    assert outbox.HANDLER_TIMEOUT_S < queue.JOB_TIMEOUT_S < promises.LEASE_S


async def test_stopping_gives_a_running_promise_back_at_once(
    db: None, tasks: dict[str, registry.Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def long(subject_id: UUID) -> None:
        seen.append(subject_id)
        await asyncio.sleep(20)

    monkeypatch.setattr(queue, "STOP_S", 0.05)
    tasks["long"] = long
    async with working("general"):
        (subject_id,) = await owe("long")
        await until_true(lambda: asyncio.sleep(0, seen))

    assert await tries_of(subject_id) == ("ready", 0, None)


async def test_stopping_lets_a_short_one_finish(
    db: None, tasks: dict[str, registry.Handler]
) -> None:
    async def short(subject_id: UUID) -> None:
        seen.append(subject_id)
        await asyncio.sleep(0.2)

    tasks["short"] = short
    async with working("general"):
        (subject_id,) = await owe("short")
        await until_true(lambda: asyncio.sleep(0, seen))

    assert await tries_of(subject_id) == ("done", 1, None)
