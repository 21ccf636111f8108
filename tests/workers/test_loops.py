"""Background loops: rung, timed, slower after errors, never dead."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from domain.core import bell
from tests.workers.running import until_true
from workers import loops
from workers.loops import Loop, keep_running


async def reach(seen: list[int], count: int) -> None:
    await until_true(lambda: asyncio.sleep(0, len(seen) >= count), f"turn {count}")


async def test_a_loop_turns_at_its_start_and_then_by_its_timer() -> None:
    seen: list[int] = []

    async def run() -> None:
        seen.append(1)

    until = asyncio.Event()
    running = asyncio.create_task(keep_running([Loop("test", run, every_s=0.01)], until))
    await reach(seen, 5)
    until.set()
    await running

    count = len(seen)
    await asyncio.sleep(0.05)
    assert len(seen) == count


async def test_a_loop_that_has_more_to_do_turns_at_once() -> None:
    seen: list[int] = []

    async def run() -> float | None:
        seen.append(1)
        return 0 if len(seen) < 50 else None

    until = asyncio.Event()
    running = asyncio.create_task(keep_running([Loop("test", run, every_s=60)], until))
    await reach(seen, 50)
    await asyncio.sleep(0.05)
    until.set()
    await running

    assert len(seen) == 50


async def test_a_loop_is_rung_by_its_topic_and_by_ids_it_wants(db: None) -> None:
    mine: list[int] = []
    lane: list[int] = []

    async def run_mine() -> None:
        mine.append(1)

    async def run_lane() -> None:
        lane.append(1)

    both = [
        Loop("mine", run_mine, every_s=60, topic="test"),
        Loop("lane", run_lane, every_s=60, topic="test", wants=lambda ids: "7" in ids),
    ]
    until = asyncio.Event()
    running = asyncio.create_task(keep_running(both, until))
    await reach(mine, 2)  # the start and the first word of the bell: rings may have been missed
    await reach(lane, 2)

    await bell.ring("test", "3")
    await reach(mine, 3)
    await bell.ring("test", "3", "7")
    await reach(lane, 3)
    await bell.ring("test")
    await reach(lane, 4)
    await bell.ring("other", "7")
    await asyncio.sleep(0.05)
    until.set()
    await running

    assert (len(mine), len(lane)) == (5, 4)


async def test_an_error_slows_a_loop_down_and_never_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loops, "PAUSE_MIN_S", 0.01)
    at: list[float] = []

    async def run() -> None:
        at.append(asyncio.get_running_loop().time())
        if len(at) < 5:
            raise RuntimeError("trouble")

    loop = Loop("test", run, every_s=0.001)
    until = asyncio.Event()
    running = asyncio.create_task(keep_running([loop], until))
    loop.ring()
    await until_true(lambda: asyncio.sleep(0, len(at) >= 7))
    until.set()
    await running

    pauses = [after - before for before, after in pairwise(at[:5])]
    assert all(pause >= 0.009 * 2**step for step, pause in enumerate(pauses))


async def test_a_turn_that_runs_may_end_before_the_loop_stops() -> None:
    ended: list[int] = []
    begun = asyncio.Event()

    async def run() -> None:
        begun.set()
        await asyncio.sleep(0.1)
        ended.append(1)

    until = asyncio.Event()
    running = asyncio.create_task(keep_running([Loop("test", run, every_s=0.001)], until))
    await begun.wait()
    until.set()
    await running

    assert ended == [1]


async def test_a_turn_that_hangs_is_cut_when_the_process_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loops, "STOP_S", 0.05)

    async def run() -> None:
        await asyncio.sleep(60)

    until = asyncio.Event()
    running = asyncio.create_task(keep_running([Loop("test", run, every_s=1)], until))
    await asyncio.sleep(0.01)
    until.set()

    await asyncio.wait_for(running, 5)
