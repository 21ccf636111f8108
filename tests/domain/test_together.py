"""Sets: who asks at the same time is written together, and never answers for another's fault."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from contextvars import ContextVar

import asyncpg
import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from domain.core.errors import DomainError, Unavailable
from domain.core.together import BESIDE_MAX, SET_MAX, SLOW_S, Together


class Writer:
    """Doubles what it is asked, notes its sets, refuses the unlucky; `gate` holds sets back."""

    def __init__(self) -> None:
        self.sets: list[list[int]] = []
        self.unlucky: set[int] = set()
        self.error: type[DomainError] = DomainError
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, asks: Sequence[int]) -> Sequence[int]:
        self.sets.append(list(asks))
        await self.gate.wait()
        if self.unlucky & set(asks):
            raise self.error()
        return [2 * ask for ask in asks]


async def test_alone_a_call_is_a_set_of_one_and_waits_for_nobody() -> None:
    writer = Writer()

    assert await Together("test", writer)(21) == 42
    assert writer.sets == [[21]]


async def test_calls_of_one_turn_are_one_set_and_later_ones_the_next() -> None:
    writer = Writer()
    together = Together("test", writer)
    writer.gate.clear()

    first = [asyncio.ensure_future(together(ask)) for ask in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = [asyncio.ensure_future(together(ask)) for ask in range(3, 5)]
    await asyncio.sleep(0)
    assert writer.sets == [[0, 1, 2]]  # the second set waits for the first
    writer.gate.set()

    assert await asyncio.gather(*first, *second) == [0, 2, 4, 6, 8]
    assert writer.sets == [[0, 1, 2], [3, 4]]


async def test_a_set_is_bounded() -> None:
    writer = Writer()

    asked = Together("test", writer)
    answers = await asyncio.gather(*(asked(ask) for ask in range(SET_MAX + 1)))

    assert answers == [2 * ask for ask in range(SET_MAX + 1)]
    assert [len(one) for one in writer.sets] == [SET_MAX, 1]


async def test_one_that_is_refused_spoils_nobody() -> None:
    writer = Writer()
    writer.unlucky = {3}
    asked = Together("test", writer)

    answers = await asyncio.gather(*(asked(ask) for ask in range(6)), return_exceptions=True)

    assert [type(one) for one in answers] == [int, int, int, DomainError, int, int]
    assert sorted(map(len, writer.sets)) == [1, 1, 1, 1, 1, 1, 6]


async def test_a_database_that_is_away_is_asked_once_for_the_whole_set() -> None:
    writer = Writer()
    writer.unlucky, writer.error = {3}, Unavailable
    asked = Together("test", writer)

    answers = await asyncio.gather(*(asked(ask) for ask in range(6)), return_exceptions=True)

    assert {type(one) for one in answers} == {Unavailable}
    assert len(writer.sets) == 1  # what was committed, if anything, is for the key to find out


async def test_a_caller_that_goes_away_takes_nobody_with_it() -> None:
    writer = Writer()
    asked = Together("test", writer)
    writer.gate.clear()
    gone, stays = asyncio.ensure_future(asked(1)), asyncio.ensure_future(asked(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    gone.cancel()
    await asyncio.sleep(0)
    writer.gate.set()

    assert await stays == 4
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert writer.sets == [[1, 2]]


async def test_a_set_that_hangs_does_not_hold_back_the_next_and_hanging_sets_are_bounded() -> None:
    writer = Writer()
    asked = Together("test", writer)
    writer.gate.clear()

    calls = []
    for ask in range(BESIDE_MAX + 2):
        calls.append(asyncio.ensure_future(asked(ask)))
        await asyncio.sleep(1.5 * SLOW_S)
    assert writer.sets == [[ask] for ask in range(BESIDE_MAX)]
    writer.gate.set()

    assert await asyncio.gather(*calls) == [2 * ask for ask in range(BESIDE_MAX + 2)]
    assert writer.sets[BESIDE_MAX:] == [[BESIDE_MAX, BESIDE_MAX + 1]]


async def test_who_goes_away_before_the_set_begins_asks_for_nothing() -> None:
    writer = Writer()
    asked = Together("test", writer)
    writer.gate.clear()
    first = asyncio.ensure_future(asked(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone, stays = asyncio.ensure_future(asked(2)), asyncio.ensure_future(asked(3))
    await asyncio.sleep(0)

    gone.cancel()
    await asyncio.sleep(0)
    writer.gate.set()

    assert [await first, await stays] == [2, 6]
    assert writer.sets == [[1], [3]]


async def test_when_all_went_away_nothing_is_written_and_the_next_is_served() -> None:
    writer = Writer()
    asked = Together("test", writer)
    gone = asyncio.ensure_future(asked(1))
    await asyncio.sleep(0)  # its set is about to begin

    gone.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert await asked(2) == 4
    assert writer.sets == [[2]]


WHO: ContextVar[str] = ContextVar("who", default="nobody")


class Witness:
    """Answers with whose context it works in: (WHO, what every log line would carry)."""

    def __init__(self) -> None:
        self.refuses_many = False

    async def __call__(self, asks: Sequence[str]) -> Sequence[tuple[str, dict[str, object]]]:
        await asyncio.sleep(0)
        if self.refuses_many and len(asks) > 1:
            raise DomainError()
        return [(WHO.get(), get_contextvars())] * len(asks)


async def _from(
    asked: Together[str, tuple[str, dict[str, object]]], who: str
) -> tuple[str, dict[str, object]]:
    WHO.set(who)
    with bound_contextvars(request_id=who):
        return await asked(who)


async def test_a_set_that_follows_another_knows_nothing_of_those_before_it() -> None:
    asked = Together("test", Witness())

    first = asyncio.ensure_future(_from(asked, "ann"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.ensure_future(_from(asked, "ben"))  # starts when the first set ends

    assert await first == ("ann", {"request_id": "ann"})
    assert await second == ("ben", {"request_id": "ben"})


async def test_what_a_set_of_many_logs_is_put_down_to_none_of_them() -> None:
    asked = Together("test", Witness())

    answers = await asyncio.gather(*(_from(asked, who) for who in ("ann", "ben", "cleo")))

    assert [logged for _, logged in answers] == [{"set": "test"}] * 3


async def test_after_a_refused_set_everybody_is_written_in_their_own_context() -> None:
    witness = Witness()
    witness.refuses_many = True
    asked = Together("test", witness)

    answers = await asyncio.gather(*(_from(asked, who) for who in ("ann", "ben", "cleo")))

    assert answers == [(who, {"request_id": who}) for who in ("ann", "ben", "cleo")]


async def test_an_error_told_to_many_is_one_of_their_own_for_each() -> None:
    writer = Writer()
    writer.unlucky, writer.error = {0}, Unavailable
    asked = Together("test", writer)

    answers = await asyncio.gather(*(asked(ask) for ask in range(3)), return_exceptions=True)

    assert len({id(one) for one in answers}) == 3
    assert [str(one) for one in answers] == ["UNAVAILABLE"] * 3
    causes = {id(one.__cause__) for one in answers if isinstance(one, Unavailable)}
    assert len(causes) == 1  # what happened is told once


async def test_the_loser_of_a_deadlock_asks_again_and_a_lock_is_not_waited_for_twice() -> None:
    errors: list[Exception] = [asyncpg.DeadlockDetectedError(), asyncpg.DeadlockDetectedError()]
    tries = 0

    async def write(asks: Sequence[int]) -> Sequence[int]:
        nonlocal tries
        tries += 1
        if errors:
            raise errors.pop()
        return asks

    asked = Together("test", write)

    assert await asked(7) == 7
    assert tries == 3
    errors.append(asyncpg.LockNotAvailableError())
    with pytest.raises(Unavailable):
        await asked(8)
    assert tries == 4


def test_every_event_loop_starts_afresh() -> None:
    writer: list[Sequence[int]] = []

    async def write(asks: Sequence[int]) -> Sequence[int]:
        writer.append(asks)
        if asks == [1]:
            await asyncio.Event().wait()
        return asks

    asked = Together("test", write)

    async def leave_hanging() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await asked(1)

    asyncio.run(leave_hanging())
    assert asyncio.run(asked(2)) == 2
