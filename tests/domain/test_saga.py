"""Sagas: every step has one effect, and the end is done, undone or stuck, never half."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from uuid import UUID

import pytest

from domain.core import db as database
from domain.core import promises, saga
from domain.core.errors import NotFound
from domain.core.ids import uuid7
from tests.domain.saga_script import Killed, Script

NAMES = ("reserve", "charge", "reveal", "notify")
PIVOT = "reveal"
OVER = ("done", "compensated", "stuck")


@pytest.fixture
def script() -> Iterator[Script]:
    """Four steps; the third is the pivot, the last two cannot be undone."""
    made = Script()
    saga.register(
        "test",
        [
            made.step(name, pivot=name == PIVOT, undoable=name not in ("reveal", "notify"))
            for name in NAMES
        ],
        queue="general",
    )
    yield made
    del saga.kinds["test"]


@pytest.fixture
async def saga_id(db: None, script: Script) -> UUID:
    async with database.transaction():
        return await saga.start("test", uuid7(), total="19.90")


async def time_passes() -> None:
    """Leases end and pauses are over."""
    await database.execute(
        "UPDATE saga SET due_at = least(due_at, clock_timestamp()),"
        " lease_until = least(lease_until, clock_timestamp() - interval '1 s')"
    )


async def state(saga_id: UUID) -> str:
    return str(await database.value("SELECT state FROM saga WHERE id = $1", saga_id))


async def carry_on(saga_id: UUID, *, tries_max: int = 100) -> str:
    """New workers take over until the saga is over."""
    for _ in range(tries_max):
        await time_passes()
        try:
            await saga.advance(saga_id)
        except Killed:
            pass
        if (found := await state(saga_id)) in OVER:
            return found
    raise AssertionError("the saga never ends")


def key(saga_id: UUID, name: str) -> str:
    return f"saga:{saga_id}:{name}"


async def test_a_saga_without_trouble_runs_each_step_once(saga_id: UUID, script: Script) -> None:
    assert await saga.advance(saga_id) is None

    assert await state(saga_id) == "done"
    assert script.calls == list(NAMES)
    row = await database.row("SELECT facts_json, step FROM saga WHERE id = $1", saga_id)
    assert row is not None
    assert row["step"] == 4
    assert row["facts_json"] == {
        "total": "19.90",
        **{f"{name}_ref": key(saga_id, name) for name in NAMES},
    }
    assert await saga.advance(saga_id) is None
    assert script.calls == list(NAMES)


async def test_start_twice_is_one_saga_and_one_promise(db: None, script: Script) -> None:
    subject_id = uuid7()

    async with database.transaction():
        first = await saga.start("test", subject_id)
    async with database.transaction():
        second = await saga.start("test", subject_id)

    assert first == second
    assert await database.value("SELECT count(*) FROM promise") == 1
    with pytest.raises(AssertionError):
        await saga.start("test", uuid7())


async def test_a_refusal_before_the_pivot_undoes_in_reverse(saga_id: UUID, script: Script) -> None:
    script.faults["reveal"] = ["refuse"]

    await saga.advance(saga_id)

    assert await state(saga_id) == "compensated"
    assert script.calls == ["reserve", "charge", "reveal", "undo charge", "undo reserve"]
    assert script.world.effects == {}
    rows = await database.fetch("SELECT name, phase, outcome FROM saga_step ORDER BY no")
    assert [tuple(row) for row in rows] == [
        ("reserve", "forward", "done"),
        ("charge", "forward", "done"),
        ("reveal", "forward", "failed"),
        ("charge", "compensate", "done"),
        ("reserve", "compensate", "done"),
    ]


async def test_a_refusal_of_the_first_step_undoes_nothing(saga_id: UUID, script: Script) -> None:
    script.faults["reserve"] = ["refuse"]

    await saga.advance(saga_id)

    assert (await state(saga_id), script.calls) == ("compensated", ["reserve"])


async def test_after_the_pivot_there_is_only_forward_then_stuck(
    saga_id: UUID, script: Script
) -> None:
    script.faults["notify"] = ["refuse"]

    assert await carry_on(saga_id) == "stuck"

    assert script.calls == ["reserve", "charge", "reveal"] + ["notify"] * saga.TRIES_MAX
    assert script.world.undone == []
    (row,) = await saga.stuck()
    assert (row["id"], row["step"], row["error"].split(":")[0]) == (saga_id, 3, "Conflict")


async def test_a_person_revives_a_stuck_saga_in_its_own_direction(
    saga_id: UUID, script: Script
) -> None:
    script.faults["reveal"] = ["refuse"]
    script.faults["undo charge"] = ["bug"] * saga.TRIES_MAX
    assert await carry_on(saga_id) == "stuck"
    calls = len(script.calls)

    await saga.revive(saga_id)

    assert await carry_on(saga_id) == "compensated"
    assert script.calls[calls:] == ["undo charge", "undo reserve"]
    with pytest.raises(NotFound):
        await saga.revive(saga_id)


@pytest.mark.parametrize("fault", ["retry", "away", "lost"])
async def test_what_is_only_away_never_gets_stuck(
    saga_id: UUID, script: Script, fault: str
) -> None:
    script.faults["notify"] = [fault] * (3 * saga.TRIES_MAX)

    assert await carry_on(saga_id) == "done"

    assert script.calls.count("notify") == 3 * saga.TRIES_MAX + 1


async def test_retry_waits_as_long_as_the_step_says(saga_id: UUID, script: Script) -> None:
    script.faults["charge"] = ["retry"]

    assert await saga.advance(saga_id) == 0.01

    assert script.calls == ["reserve", "charge"]
    assert await state(saga_id) == "running"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ["kill before", "kill after"])
async def test_k01_a_worker_killed_anywhere_is_followed_by_another(
    saga_id: UUID, script: Script, name: str, fault: str
) -> None:
    script.faults[name] = [fault] * 3

    assert await carry_on(saga_id) == "done"

    assert script.world.effects == {key(saga_id, one): 1 for one in NAMES}
    assert script.calls.count(name) == 4


async def test_a_lease_keeps_the_second_worker_out(saga_id: UUID, script: Script) -> None:
    script.faults["charge"] = ["pause before"]
    first = asyncio.create_task(saga.advance(saga_id))
    await script.is_held.wait()

    wait_s = await saga.advance(saga_id)

    assert wait_s is not None
    assert saga.LEASE_S - 5 < wait_s <= saga.LEASE_S
    assert script.calls == ["reserve", "charge"]
    script.hold.set()
    assert await first is None
    assert await state(saga_id) == "done"


@pytest.mark.parametrize("fault", ["pause before", "pause after"])
@pytest.mark.parametrize("name", NAMES)
async def test_k04_a_zombie_writes_nothing_after_its_lease(
    saga_id: UUID, script: Script, name: str, fault: str
) -> None:
    script.faults[name] = [fault]
    zombie = asyncio.create_task(saga.advance(saga_id))
    await script.is_held.wait()
    assert await carry_on(saga_id) == "done"
    before = await database.fetch("SELECT * FROM saga_step ORDER BY no")

    script.hold.set()
    await zombie

    assert await database.fetch("SELECT * FROM saga_step ORDER BY no") == before
    assert script.world.effects == {key(saga_id, one): 1 for one in NAMES}


async def test_k04_a_zombie_that_wakes_after_the_undoing_changes_nothing(
    saga_id: UUID, script: Script
) -> None:
    script.faults["charge"] = ["pause before"]
    script.faults["reveal"] = ["refuse"]
    zombie = asyncio.create_task(saga.advance(saga_id))
    await script.is_held.wait()
    assert await carry_on(saga_id) == "compensated"

    script.hold.set()
    await zombie

    assert script.world.effects == {}
    assert await state(saga_id) == "compensated"


async def test_k04_a_fenced_step_of_a_zombie_leaves_no_row(db: None) -> None:
    entered, go = asyncio.Event(), asyncio.Event()
    is_first = True

    async def write(subject_id: UUID, facts: saga.Facts) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            entered.set()
            await go.wait()
        async with database.transaction():
            await saga.fenced(facts)
            await database.execute(
                "INSERT INTO event_reader (name, txid, no) VALUES ($1, '0', 0)",
                f"fence {facts['fence']}",
            )

    saga.register("fenced", [saga.Step("write", write)])
    try:
        async with database.transaction():
            saga_id = await saga.start("fenced", uuid7())
        zombie = asyncio.create_task(saga.advance(saga_id))
        await entered.wait()
        assert await carry_on(saga_id) == "done"
        go.set()
        await zombie
    finally:
        del saga.kinds["fenced"]

    names = await database.fetch("SELECT name FROM event_reader")
    assert [row["name"] for row in names] == ["fence 2"]


async def test_a_stopping_process_lets_go_of_the_lease(saga_id: UUID, script: Script) -> None:
    script.faults["charge"] = ["pause after"]
    worker = asyncio.create_task(saga.advance(saga_id))
    await script.is_held.wait()

    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker

    assert await saga.advance(saga_id) is None
    assert await state(saga_id) == "done"
    assert script.world.effects == {key(saga_id, one): 1 for one in NAMES}


async def test_l20_the_sweeper_promises_a_forgotten_saga_again(
    saga_id: UUID, script: Script
) -> None:
    (kept,) = await promises.lease(["general"])
    assert (kept.task, kept.subject_id) == (saga.TASK, saga_id)
    await promises.keep(kept.id, kept.fence)
    assert await saga.sweep() == 0

    await database.execute("UPDATE saga SET due_at = due_at - interval '6 s'")

    assert await saga.sweep() == 1
    assert await saga.sweep() == 0
    (again,) = await promises.lease(["general"])
    assert again.subject_id == saga_id
    await saga.advance(saga_id)
    assert await saga.sweep() == 0


async def test_an_unknown_kind_waits_for_a_worker_that_knows_it(
    saga_id: UUID, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.delitem(saga.kinds, "test")
        assert await saga.advance(saga_id) == 1.0
        assert await saga.sweep() == 0

    assert await saga.advance(saga_id) is None
    assert script.calls == list(NAMES)


async def test_a_step_that_is_slow_for_ever_is_cut_and_tried_again(
    saga_id: UUID, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saga, "STEP_TIMEOUT_S", 0.05)
    script.faults["charge"] = ["pause before"]

    wait_s = await saga.advance(saga_id)

    assert wait_s is not None
    assert await carry_on(saga_id) == "done"
    assert script.calls.count("charge") == 2


FAULTS = ("retry", "away", "lost", "bug", "kill before", "kill after", "pause before")


@pytest.mark.parametrize("seed", range(25))
async def test_l20_random_faults_leave_nothing_half(
    saga_id: UUID, script: Script, seed: int
) -> None:
    chance = random.Random(seed)
    names = [*NAMES, "undo charge", "undo reserve"]
    for name in names:
        script.faults[name] = chance.choices(FAULTS, k=chance.randrange(4))
    if chance.random() < 0.6:
        script.faults[chance.choice(NAMES)].append("refuse")
    script.faults[chance.choice(NAMES)].append("pause after")

    zombies = []
    while await state(saga_id) not in OVER:
        await time_passes()
        script.is_held.clear()
        worker = asyncio.create_task(saga.advance(saga_id))
        held = asyncio.create_task(script.is_held.wait())
        await asyncio.wait([worker, held], return_when=asyncio.FIRST_COMPLETED, timeout=5)
        held.cancel()
        if not worker.done():
            zombies.append(worker)
        elif (error := worker.exception()) is not None:
            assert isinstance(error, Killed), error
    script.hold.set()
    for outcome in await asyncio.gather(*zombies, return_exceptions=True):
        assert outcome is None or isinstance(outcome, float | Killed)

    end, world = await state(saga_id), script.world
    assert all(count == 1 for count in world.effects.values())
    if end == "done":
        assert set(world.effects) == {key(saga_id, name) for name in NAMES}
        assert world.undone == []
    elif end == "compensated":
        assert world.effects == {}
        order = [NAMES.index(one.rpartition(":")[2]) for one in world.undone]
        assert order == sorted(order, reverse=True)
        assert key(saga_id, PIVOT) not in world.undone
    else:
        assert key(saga_id, PIVOT) in world.effects
        assert world.undone == []
