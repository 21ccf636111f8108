"""Promises are kept: once when all goes well, again when a worker dies, never by a stale copy."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest

from domain.core import bell, promises, saga
from domain.core import db as database
from domain.core.errors import Conflict, Unavailable
from domain.core.ids import uuid7
from tests.workers.running import (
    all_done,
    leases_end,
    note,
    owe,
    seen,
    states,
    tries_of,
    until_true,
    working,
)
from workers import main, outbox, registry, sagas
from workers.registry import Later

pytestmark = pytest.mark.usefixtures("tasks")


async def test_a_promise_is_kept_once_and_written_down(db: None) -> None:
    async with working("general", "risk"):
        subjects = await owe("note", count=5)
        subjects += await owe("note", queue="risk")
        await all_done(6)

    assert sorted(seen) == sorted(subjects)
    assert await database.value("SELECT count(*) FROM promise WHERE tries <> 1") == 0


async def test_a_queue_nobody_asked_for_is_left_alone(db: None) -> None:
    async with working("general"):
        await owe("note", queue="settlement")
        await owe("note")
        await until_true(lambda: asyncio.sleep(0, seen), "the one of ours")
        await asyncio.sleep(0.1)

    assert len(seen) == 1
    assert (await states())["ready"] == 1


async def test_a_promise_that_was_there_before_the_worker_is_found(db: None) -> None:
    await owe("note", count=3)

    async with working("general"):
        await all_done(3)


async def test_a_late_promise_starts_when_it_is_due(db: None) -> None:
    subject_id = uuid7()
    async with working("general"):
        async with database.transaction():
            await promises.promise("general", "note", subject_id, due_in_s=0.3)
        await asyncio.sleep(0.1)
        assert seen == []
        await all_done(1)

    early = await database.value("SELECT done_at < due_at FROM promise")
    assert early is False


async def test_later_waits_without_counting(db: None, tasks: dict[str, registry.Handler]) -> None:
    async def thrice(subject_id: UUID) -> None:
        seen.append(subject_id)
        if len(seen) < 3:
            raise Later(0.02)

    tasks["thrice"] = thrice
    async with working("general"):
        (subject_id,) = await owe("thrice")
        await all_done(1)

    assert seen == [subject_id] * 3
    assert await tries_of(subject_id) == ("done", 1, None)


@pytest.mark.parametrize(
    "away",
    [
        Unavailable(what="bank"),
        asyncpg.DeadlockDetectedError("two in a circle"),
        asyncpg.LockNotAvailableError("somebody holds it"),
        asyncpg.AdminShutdownError("it restarts"),
        ConnectionResetError(),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_a_world_that_is_away_is_not_counted(
    db: None,
    tasks: dict[str, registry.Handler],
    monkeypatch: pytest.MonkeyPatch,
    away: Exception,
) -> None:
    async def visit(subject_id: UUID) -> None:
        seen.append(subject_id)
        if len(seen) < 4:
            raise away

    monkeypatch.setattr(outbox, "AWAY_S", 0.02)
    tasks["away"] = visit
    async with working("general"):
        (subject_id,) = await owe("away")
        await all_done(1)

    assert len(seen) == 4
    assert await tries_of(subject_id) == ("done", 1, None)


async def test_k27_a_poison_message_dies_visibly_and_the_queue_moves(
    db: None, tasks: dict[str, registry.Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def poison(subject_id: UUID) -> None:
        seen.append(subject_id)
        raise ValueError("bad\0 input")

    monkeypatch.setattr(outbox, "BACKOFF_MAX_S", 0.01)
    tasks["poison"] = poison
    async with working("general"):
        (dead,) = await owe("poison")
        await owe("note", count=10)

        async def is_over() -> bool:
            return await states() == {"done": 10, "dead": 1}

        await until_true(is_over, "the dead letter")

    assert seen.count(dead) == promises.TRIES_MAX
    assert await tries_of(dead) == ("dead", promises.TRIES_MAX, "ValueError: bad input")
    promise_id = await database.value("SELECT id FROM promise WHERE state = 'dead'")
    tasks["poison"] = note
    assert await promises.revive(promise_id)
    async with working("general"):
        await all_done(11)


@pytest.mark.parametrize("error", [Conflict(current="x"), ValueError("x"), TimeoutError()])
async def test_a_failure_is_tried_again_later(
    db: None, tasks: dict[str, registry.Handler], error: Exception
) -> None:
    async def fail(subject_id: UUID) -> None:
        raise error

    tasks["fail"] = fail
    async with working("general"):
        (subject_id,) = await owe("fail")

        async def has_failed() -> bool:
            return (await tries_of(subject_id))[2] is not None

        await until_true(has_failed)

    state, tries, words = await tries_of(subject_id)
    assert (state, tries) == ("ready", 1)
    assert words is not None
    assert words.startswith(type(error).__name__)


async def test_q10_an_unknown_task_waits_for_a_worker_that_knows_it(db: None) -> None:
    async with working("general"):
        (subject_id,) = await owe("tomorrow")

        async def has_failed() -> bool:
            return (await tries_of(subject_id))[2] == "TaskUnknown: tomorrow"

        await until_true(has_failed)

    assert (await tries_of(subject_id))[:2] == ("ready", 1)


async def test_a_handler_that_hangs_is_cut(
    db: None, tasks: dict[str, registry.Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(subject_id: UUID) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(outbox, "HANDLER_TIMEOUT_S", 0.05)
    tasks["hang"] = hang
    async with working("general"):
        (subject_id,) = await owe("hang")

        async def has_failed() -> bool:
            return (await tries_of(subject_id))[2] == "TimeoutError: "

        await until_true(has_failed)


async def test_no_more_run_at_once_than_there_are_slots(
    db: None, tasks: dict[str, registry.Handler]
) -> None:
    running = peak = 0

    async def busy(subject_id: UUID) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.005)
        running -= 1

    tasks["busy"] = busy
    async with working("settlement"):
        await owe("busy", queue="settlement", count=100)
        await all_done(100)

    assert peak == outbox.SLOTS["settlement"]


async def test_k04_a_late_end_after_the_lease_was_lost_is_dropped(
    db: None, tasks: dict[str, registry.Handler]
) -> None:
    go = asyncio.Event()

    async def slow(subject_id: UUID) -> None:
        seen.append(subject_id)
        if len(seen) == 1:
            await go.wait()
            raise ValueError("the first one fails late")

    tasks["slow"] = slow
    async with working("general"):
        (subject_id,) = await owe("slow")
        await until_true(lambda: asyncio.sleep(0, seen))
        await leases_end()
        await bell.ring(bell.PROMISES)
        await all_done(1)
        go.set()
        await asyncio.sleep(0.05)

    assert seen == [subject_id] * 2
    assert await tries_of(subject_id) == ("done", 2, None)


async def test_sagas_run_on_promises_and_wait_without_counting(
    db: None, tasks: dict[str, registry.Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    async def first(subject_id: UUID, facts: saga.Facts) -> None:
        calls.append("first")
        if len(calls) < 3:
            raise saga.Retry(0.02)

    async def second(subject_id: UUID, facts: saga.Facts) -> None:
        calls.append("second")

    monkeypatch.setattr(saga, "kinds", {})
    saga.register("test", [saga.Step("first", first), saga.Step("second", second)], queue="risk")
    tasks[saga.TASK] = sagas.advance
    async with working("risk"):
        async with database.transaction():
            saga_id = await saga.start("test", uuid7())
        await all_done(1)

    assert calls == ["first", "first", "first", "second"]
    assert await database.value("SELECT state FROM saga WHERE id = $1", saga_id) == "done"
    await sagas.advance(saga_id)
    assert len(calls) == 4


def test_every_task_and_loop_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    main.load()
    first = dict(registry.tasks), {name: len(one) for name, one in registry.loops.items()}

    main.load()

    assert saga.TASK in registry.tasks
    assert first == (registry.tasks, {name: len(one) for name, one in registry.loops.items()})
    names = [loop.name for one in registry.loops.values() for loop in one]
    assert len(names) == len(set(names))
