"""Work for later: a promise is a row written with the change that owes it; a worker keeps it at least once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.core import bell, db, ids

LEASE_S = 50
BATCH_MAX = 100
TRIES_MAX = 12
RING_BEFORE_S = 5.0  # later ones are found in time by the relay's own look


@dataclass(frozen=True, slots=True)
class Promise:
    """A leased promise: only the holder of `fence` may finish it."""

    id: UUID
    queue: str
    task: str
    subject_id: UUID
    fence: int
    tries: int


async def promise(
    queue: str, task: str, subject_id: UUID, *, key: str | None = None, due_in_s: float = 0
) -> None:
    """Owe `task(subject_id)` on `queue`; the same `key` is owed once. Inside the caller's transaction."""
    await promise_many(queue, task, [(subject_id, key)], due_in_s=due_in_s)


async def promise_many(
    queue: str, task: str, subjects: Iterable[tuple[UUID, str | None]], *, due_in_s: float = 0
) -> None:
    """`promise` for many subjects in one statement."""
    assert db.in_transaction(), "a promise commits with the change that owes it"
    pairs = list(subjects)
    if not pairs:
        return
    await db.execute(
        "INSERT INTO promise (id, queue, task, subject_id, key, due_at)"
        " SELECT id, $2, $3, subject_id, key, clock_timestamp() + make_interval(secs => $6)"
        " FROM unnest($1::uuid[], $4::uuid[], $5::text[]) AS t(id, subject_id, key) ON CONFLICT DO NOTHING",
        [ids.uuid7() for _ in pairs],
        queue,
        task,
        [subject for subject, _ in pairs],
        [key for _, key in pairs],
        float(due_in_s),
    )
    if due_in_s < RING_BEFORE_S:
        db.after_commit(lambda: bell.ring(bell.PROMISES, queue))


async def promise_again(queue: str, task: str, subjects: Iterable[tuple[UUID, str]]) -> int:
    """Owe `task` again to subjects whose promise of that key was kept or died; how many.

    One that is ready or leased stays as it is. For sweepers that found work left undone.
    """
    pairs = list(subjects)
    async with db.transaction():
        count = await db.execute(
            "INSERT INTO promise AS p (id, queue, task, subject_id, key)"
            " SELECT id, $2, $3, subject_id, key"
            " FROM unnest($1::uuid[], $4::uuid[], $5::text[]) AS t(id, subject_id, key)"
            " ORDER BY key ON CONFLICT (key) DO UPDATE SET state = 'ready', tries = 0, error = NULL,"
            " due_at = clock_timestamp() WHERE p.state IN ('done', 'dead')",
            [ids.uuid7() for _ in pairs],
            queue,
            task,
            [subject for subject, _ in pairs],
            [key for _, key in pairs],
        )
        if count:
            db.after_commit(lambda: bell.ring(bell.PROMISES, queue))
    return count


_LEASE = """
WITH due AS MATERIALIZED (
    SELECT id FROM promise WHERE queue = ANY($1) AND state = 'ready' AND due_at <= clock_timestamp()
    ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED)
UPDATE promise p SET state = 'leased', fence = p.fence + 1, tries = p.tries + 1,
    lease_until = clock_timestamp() + make_interval(secs => $3)
FROM due WHERE p.id = due.id RETURNING p.id, p.queue, p.task, p.subject_id, p.fence, p.tries
"""


async def lease(queues: list[str], *, limit: int = BATCH_MAX) -> list[Promise]:
    """Take due promises for LEASE_S each; a fence number refuses the late answer of an earlier holder."""
    rows = await db.fetch(_LEASE, queues, limit, float(LEASE_S))
    return [Promise(**row) for row in rows]


async def held(promise_id: UUID, fence: int) -> Promise | None:
    """The promise, while this lease is still the current one."""
    row = await db.row(
        "SELECT id, queue, task, subject_id, fence, tries FROM promise"
        " WHERE id = $1 AND state = 'leased' AND fence = $2",
        promise_id,
        fence,
    )
    return Promise(**row) if row else None


async def held_many(leases: Sequence[tuple[UUID, int]], *, least_s: float) -> list[Promise]:
    """Those of the leases `(id, fence)` that still hold for `least_s`; the others are somebody else's."""
    rows = await db.fetch(
        "SELECT p.id, p.queue, p.task, p.subject_id, p.fence, p.tries"
        " FROM unnest($1::uuid[], $2::int[]) AS l(id, fence)"
        " JOIN promise p ON p.id = l.id AND p.fence = l.fence AND p.state = 'leased'"
        " AND p.lease_until > clock_timestamp() + make_interval(secs => $3)",
        [promise_id for promise_id, _ in leases],
        [fence for _, fence in leases],
        float(least_s),
    )
    return [Promise(**row) for row in rows]


async def keep_many(leases: Sequence[tuple[UUID, int]]) -> set[UUID]:
    """`keep` for many in one statement; the ids that were still ours."""
    rows = await db.fetch(
        "UPDATE promise p SET state = 'done', done_at = clock_timestamp(), error = NULL"
        " FROM unnest($1::uuid[], $2::int[]) AS l(id, fence)"
        " WHERE p.id = l.id AND p.fence = l.fence AND p.state = 'leased' RETURNING p.id",
        [promise_id for promise_id, _ in leases],
        [fence for _, fence in leases],
    )
    return {row["id"] for row in rows}


async def next_due_s(queue: str) -> float | None:
    """Seconds until the next ready promise of `queue` is due, 0 or less when one is; None without one."""
    found = await db.value(
        "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM promise"
        " WHERE queue = $1 AND state = 'ready' ORDER BY due_at LIMIT 1",
        queue,
    )
    return None if found is None else float(found)


async def keep(promise_id: UUID, fence: int) -> bool:
    """Mark it done; false when the lease was lost (somebody else has it, drop the result)."""
    return bool(
        await db.execute(
            "UPDATE promise SET state = 'done', done_at = clock_timestamp(), error = NULL"
            " WHERE id = $1 AND state = 'leased' AND fence = $2",
            promise_id,
            fence,
        )
    )


async def defer(promise_id: UUID, fence: int, *, error: str, in_s: float) -> bool:
    """Put it back for a later try, or to the dead letters after the last one; true when it is dead."""
    state = await db.value(
        "UPDATE promise SET state = CASE WHEN tries >= $5 THEN 'dead' ELSE 'ready' END, error = $3,"
        " due_at = clock_timestamp() + make_interval(secs => $4)"
        " WHERE id = $1 AND state = 'leased' AND fence = $2 RETURNING state",
        promise_id,
        fence,
        error[:2000],
        float(in_s),
        TRIES_MAX,
    )
    return bool(state == "dead")


async def wait(promise_id: UUID, fence: int, *, in_s: float) -> None:
    """Put it back without counting the try: nothing failed, it is only too early."""
    await db.execute(
        "UPDATE promise SET state = 'ready', tries = tries - 1,"
        " due_at = clock_timestamp() + make_interval(secs => $3)"
        " WHERE id = $1 AND state = 'leased' AND fence = $2",
        promise_id,
        fence,
        float(in_s),
    )


async def sweep() -> int:
    """Give back every promise whose lease is over; the number given back."""
    return await db.execute(
        "UPDATE promise SET state = 'ready' WHERE state = 'leased' AND lease_until < clock_timestamp()"
    )


async def revive(promise_id: UUID) -> bool:
    """A person sends a dead letter round again."""
    return bool(
        await db.execute(
            "UPDATE promise SET state = 'ready', tries = 0, due_at = clock_timestamp()"
            " WHERE id = $1 AND state = 'dead'",
            promise_id,
        )
    )


async def prune(*, days: int = 7) -> int:
    """Forget promises kept longer ago than `days`."""
    return await db.execute(
        "DELETE FROM promise WHERE state = 'done' AND done_at < clock_timestamp() - make_interval(days => $1)",
        days,
    )
