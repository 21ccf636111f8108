"""Long work in steps: each outcome is a row, a fencing number says who may write the next one.

A step runs outside of any transaction. Before the pivot a refusal undoes what was done, in reverse
order; after it there is only forward. A worker killed at any line is followed by another: steps are
idempotent by their key.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import structlog

from domain.core import db, promises, trace
from domain.core.errors import DomainError, NotFound
from domain.core.ids import uuid7

TASK = "saga.advance"
LEASE_S = 60.0
STEP_TIMEOUT_S = 30.0
TRIES_MAX = 12
BACKOFF_MAX_S = 30.0
OVERDUE_S = 5.0
SWEEP_MAX = 1_000
_RESERVED = frozenset({"key", "fence"})

_log = structlog.get_logger(__name__)

Facts = Mapping[str, Any]
Run = Callable[[UUID, Facts], Awaitable[Facts | None]]

# The world is away, our code is not wrong: try for as long as it takes.
_AWAY = (
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    *db.LOST,
    *db.RETRYABLE,
)


class Retry(Exception):
    """Raised by a step: not now, again in `in_s` seconds; never counted as a failure."""

    def __init__(self, in_s: float) -> None:
        super().__init__(f"again in {in_s:g} s")
        self.in_s = in_s


class LeaseLost(Exception):
    """Another worker has taken over; what we did since is dropped."""


@dataclass(frozen=True, slots=True)
class Step:
    """`run(subject_id, facts)` gives facts for the steps after it, `compensate` undoes it.

    `facts["key"]` is `saga:{id}:{step}`, the same at every try: both functions have one effect per
    key however often they run, and a `run` that comes late after its `compensate` has none. Effects
    in our own database call `fenced(facts)` first. Raise Retry for "not yet", DomainError for
    "never" (then nothing was changed). After the step marked `pivot` nothing is undone any more.
    """

    name: str
    run: Run
    compensate: Run | None = None
    pivot: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A list of steps and the queue whose workers run them; a changed list is a new kind."""

    queue: str
    steps: tuple[Step, ...]

    def has_passed(self, step: int) -> bool:
        """Whether the pivot lies behind when `step` is next."""
        return any(one.pivot for one in self.steps[:step])

    def last_undoable(self, before: int) -> int | None:
        """The index of the last step before `before` that has something to undo."""
        for index in range(before - 1, -1, -1):
            if self.steps[index].compensate is not None:
                return index
        return None


kinds: dict[str, Kind] = {}


def register(name: str, steps: Sequence[Step], *, queue: str = "general") -> None:
    """Make a kind known to this process."""
    assert len({step.name for step in steps}) == len(steps) > 0, name
    assert sum(step.pivot for step in steps) <= 1, f"{name}: one point of no return"
    kinds[name] = Kind(queue, tuple(steps))


async def start(kind: str, subject_id: UUID, **facts: Any) -> UUID:
    """Begin a saga inside the caller's transaction; a subject has one per kind, for ever."""
    assert db.in_transaction(), "a saga begins with the change that asks for it"
    assert not _RESERVED & facts.keys(), facts.keys()
    saga_id = await db.value(
        "INSERT INTO saga (id, kind, subject_id, facts_json) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (kind, subject_id) DO NOTHING RETURNING id",
        uuid7(),
        kind,
        subject_id,
        facts,
    )
    if saga_id is None:
        return UUID(
            str(
                await db.value(
                    "SELECT id FROM saga WHERE kind = $1 AND subject_id = $2", kind, subject_id
                )
            )
        )
    await promises.promise(kinds[kind].queue, TASK, saga_id, key=_promise_key(saga_id))
    return UUID(str(saga_id))


@dataclass(slots=True)
class _Held:
    """A saga under our lease."""

    id: UUID
    kind: str
    subject_id: UUID
    state: str
    step: int
    fence: int
    tries: int
    facts: dict[str, Any]


async def advance(saga_id: UUID) -> float | None:
    """Take the saga as far as it goes now: None when it is over, else the seconds to wait.

    Any number of workers may call it at once; one of them works, the others are told to wait.
    """
    held = await _lease(saga_id)
    if held is None:
        return await _remaining_s(saga_id)
    try:
        while held.state in ("running", "compensating"):
            wait_s = await _turn(held)
            if wait_s is not None:
                return wait_s
    except LeaseLost:
        _log.warning("saga.lease_lost", saga=str(saga_id), kind=held.kind, fence=held.fence)
        return await _remaining_s(saga_id)
    except asyncio.CancelledError:
        await asyncio.shield(_let_go(held))
        raise
    return None


async def _lease(saga_id: UUID) -> _Held | None:
    row = await db.row(
        "UPDATE saga SET fence = fence + 1,"
        " lease_until = clock_timestamp() + make_interval(secs => $2)"
        " WHERE id = $1 AND state IN ('running', 'compensating') AND kind = ANY($3)"
        " AND due_at <= clock_timestamp()"
        " AND (lease_until IS NULL OR lease_until < clock_timestamp())"
        " RETURNING id, kind, subject_id, state, step, fence, tries, facts_json AS facts",
        saga_id,
        LEASE_S,
        list(kinds),
    )
    return _Held(**row) if row else None


async def _remaining_s(saga_id: UUID) -> float | None:
    """How long until somebody may take the saga; None when it is over."""
    found = await db.value(
        "SELECT extract(epoch FROM greatest(due_at, lease_until) - clock_timestamp())::float8"
        " FROM saga WHERE id = $1 AND state IN ('running', 'compensating')",
        saga_id,
    )
    return None if found is None else max(1.0, found)


async def _turn(held: _Held) -> float | None:
    """Run one step or one compensation and write what came of it."""
    kind = kinds[held.kind]
    step = kind.steps[held.step]
    is_forward = held.state == "running"
    call = step.run if is_forward else step.compensate
    assert call is not None, (held.kind, step.name)
    facts = {**held.facts, "key": f"saga:{held.id}:{step.name}", "fence": held.fence}
    try:
        with trace.span("job", f"saga.{held.kind}.{step.name}"):
            async with asyncio.timeout(STEP_TIMEOUT_S):
                told = dict(await call(held.subject_id, facts) or {})
        assert not _RESERVED & told.keys(), told.keys()
        text = orjson.dumps(told).decode()
    except LeaseLost:
        raise
    except Retry as retry:
        return await _pause(held, retry.in_s, error=None, tries=held.tries)
    except _AWAY as error:
        return await _wait_for(held, error)
    except DomainError as error:
        if error.retryable:
            return await _wait_for(held, error)
        if is_forward and not kind.has_passed(held.step):
            await _turn_back(held, kind, step, error)
            return None
        return await _pause_or_stick(held, step, error)
    except Exception as error:  # a bug: nobody knows what was done, so nothing is undone
        return await _pause_or_stick(held, step, error)
    if is_forward:
        at_end = held.step + 1 == len(kind.steps)
        held.facts |= told
        await _move(held, step, "done", text, "done" if at_end else "running", held.step + 1)
    else:
        await _undo_next(held, step, "done", text, kind.last_undoable(held.step))
    return None


async def _turn_back(held: _Held, kind: Kind, step: Step, error: DomainError) -> None:
    _log.info(
        "saga.turns_back", saga=str(held.id), kind=held.kind, step=step.name, error=str(error)
    )
    text = orjson.dumps({"code": error.code, "facts": error.facts}, default=str).decode()
    await _undo_next(held, step, "failed", text, kind.last_undoable(held.step))


async def _undo_next(held: _Held, step: Step, outcome: str, text: str, index: int | None) -> None:
    state = "compensated" if index is None else "compensating"
    await _move(held, step, outcome, text, state, held.step if index is None else index)


_MOVE = """
WITH moved AS (
    UPDATE saga SET state = $4::text, step = $5, tries = 0, error = NULL, moved_at = clock_timestamp(),
        facts_json = CASE WHEN $8::text = 'forward' AND $9::text = 'done'
            THEN facts_json || $6 ELSE facts_json END,
        lease_until = CASE WHEN $4::text IN ('running', 'compensating')
            THEN clock_timestamp() + make_interval(secs => $10) END
    WHERE id = $1 AND fence = $2 AND state = $3::text RETURNING id)
INSERT INTO saga_step (saga_id, name, phase, outcome, facts_json)
SELECT id, $7, $8::text, $9::text, $6 FROM moved RETURNING no
"""


async def _move(
    held: _Held, step: Step, outcome: str, text: str, state: str, next_step: int
) -> None:
    """Write an outcome and where that leads, in one statement behind the fence."""
    written = await db.value(
        _MOVE,
        held.id,
        held.fence,
        held.state,
        state,
        next_step,
        text,
        step.name,
        "forward" if held.state == "running" else "compensate",
        outcome,
        LEASE_S,
    )
    if written is None:
        raise LeaseLost
    held.state, held.step, held.tries = state, next_step, 0


async def _wait_for(held: _Held, error: Exception) -> float:
    """Try again later, for ever: these tries never lead to `stuck`."""
    tries = min(held.tries + 1, TRIES_MAX // 2)
    return await _pause(held, _backoff_s(held.tries), error=error, tries=tries)


async def _pause_or_stick(held: _Held, step: Step, error: Exception) -> float | None:
    """Try again later; after TRIES_MAX a person has to look."""
    if held.tries + 1 < TRIES_MAX:
        return await _pause(held, _backoff_s(held.tries), error=error, tries=held.tries + 1)
    await _pause(held, 0, error=error, tries=held.tries + 1, state="stuck")
    _log.error(
        "saga.stuck",
        saga=str(held.id),
        kind=held.kind,
        step=step.name,
        phase=held.state,
        error=_words(error),
        exc_info=error,
    )
    held.state = "stuck"
    return None


async def _pause(
    held: _Held, in_s: float, *, error: Exception | None, tries: int, state: str | None = None
) -> float:
    changed = await db.execute(
        "UPDATE saga SET due_at = clock_timestamp() + make_interval(secs => $3), tries = $4,"
        " error = $5, state = $6, lease_until = NULL, moved_at = clock_timestamp()"
        " WHERE id = $1 AND fence = $2",
        held.id,
        held.fence,
        float(in_s),
        tries,
        _words(error) if error else None,
        state or held.state,
    )
    if not changed:
        raise LeaseLost
    return in_s


async def _let_go(held: _Held) -> None:
    """Give the lease back at once: the process ends, another one need not wait."""
    await db.execute(
        "UPDATE saga SET lease_until = NULL WHERE id = $1 AND fence = $2", held.id, held.fence
    )


async def fenced(facts: Facts) -> None:
    """For a step that writes to our database: join its transaction to the lease (K04).

    Whoever takes over waits for this transaction; a zombie's comes too late and changes nothing.
    Errors: LeaseLost.
    """
    assert db.in_transaction(), "the fence holds until the commit"
    saga_id = UUID(str(facts["key"]).split(":")[1])
    row = await db.row(
        "SELECT FROM saga WHERE id = $1 AND fence = $2 FOR SHARE", saga_id, facts["fence"]
    )
    if row is None:
        raise LeaseLost


async def sweep() -> int:
    """Promise again every saga that should be moving and is not; how many were."""
    rows = await db.fetch(
        "SELECT id, kind FROM saga WHERE state IN ('running', 'compensating')"
        " AND due_at < clock_timestamp() - make_interval(secs => $1)"
        " AND (lease_until IS NULL OR lease_until < clock_timestamp()) ORDER BY due_at LIMIT $2",
        OVERDUE_S,
        SWEEP_MAX,
    )
    count = 0
    for queue in {kind.queue for kind in kinds.values()}:
        ours = [
            row["id"] for row in rows if row["kind"] in kinds and kinds[row["kind"]].queue == queue
        ]
        if ours:
            pairs = [(saga_id, _promise_key(saga_id)) for saga_id in ours]
            count += await promises.promise_again(queue, TASK, pairs)
    return count


async def stuck(*, limit: int = 100) -> list[db.Record]:
    """Sagas a person has to look at, oldest first: id, kind, subject_id, step, error, moved_at."""
    return await db.fetch(
        "SELECT id, kind, subject_id, step, error, moved_at FROM saga WHERE state = 'stuck'"
        " ORDER BY moved_at LIMIT $1",
        limit,
    )


async def revive(saga_id: UUID) -> None:
    """A person sends a stuck saga on its way again, in the direction it had. Errors: NotFound."""
    async with db.transaction():
        kind = await db.value(
            "UPDATE saga s SET tries = 0, due_at = clock_timestamp(), moved_at = clock_timestamp(),"
            " state = CASE WHEN EXISTS (SELECT FROM saga_step WHERE saga_id = s.id"
            " AND phase = 'forward' AND outcome = 'failed') THEN 'compensating' ELSE 'running' END"
            " WHERE id = $1 AND state = 'stuck' RETURNING kind",
            saga_id,
        )
        if kind is None:
            raise NotFound(id=str(saga_id))
        await promises.promise_again(kinds[kind].queue, TASK, [(saga_id, _promise_key(saga_id))])


def _promise_key(saga_id: UUID) -> str:
    return f"saga:{saga_id}"


def _backoff_s(tries: int) -> float:
    return min(BACKOFF_MAX_S, 0.5 * 2.0 ** min(tries, 10)) * random.uniform(0.5, 1)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:2000]
