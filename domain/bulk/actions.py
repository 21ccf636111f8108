"""Writes of bulk work: asking, cancelling, and the turns of the workers, each fenced by the number of its lease."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from domain.bulk import models, rules
from domain.bulk.models import JOB, Asker, Job
from domain.bulk.rules import BulkKind, BulkLimit, BulkState, Lines
from domain.core import audit, bell, db, failpoint, vault
from domain.core.audit import Actor


class LeaseLost(Exception):
    """Somebody else has the job, or it is over: drop what was read."""


async def start(wanted: Job, lines: Sequence[Lines] = (), *, actor: Actor) -> Job:
    """A job that waits for its turn, in the caller's transaction, under audit. Errors: BulkLimit."""
    assert db.in_transaction(), "commits with its idempotency key"
    asker = wanted.asker
    who = asker.app_id or asker.account_id
    await db.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"bulk:{wanted.merchant_id}:{who}"
    )
    waiting = await db.value(
        "SELECT count(*) FROM bulk_job WHERE merchant_id = $1 AND state IN ('waiting', 'running')"
        " AND CASE WHEN $2::uuid IS NULL THEN account_id = $3 AND app_id IS NULL ELSE app_id = $2 END",
        wanted.merchant_id,
        asker.app_id,
        asker.account_id,
    )
    if waiting >= rules.OPEN_MAX:
        raise BulkLimit(max=rules.OPEN_MAX)
    row = await db.row(
        "INSERT INTO bulk_job AS j (id, merchant_id, account_id, app_id, grant_id, scopes, kind, document, root,"
        " country, language, event_cursor, total) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        f" RETURNING {JOB}",
        wanted.id,
        wanted.merchant_id,
        asker.account_id,
        asker.app_id,
        asker.grant_id,
        list(asker.scopes),
        str(wanted.kind),
        wanted.document,
        wanted.root,
        wanted.country,
        wanted.language,
        wanted.event_cursor,
        sum(one.rows for one in lines) if lines else None,
    )
    await db.insert(
        "bulk_input",
        ("job_id", "first_row", "rows", "body"),
        [
            (
                wanted.id,
                one.first,
                one.rows,
                vault.seal(models.input_place(wanted.id, one.first), one.body),
            )
            for one in lines
        ],
    )
    await audit.record(
        wanted.merchant_id, actor, f"bulk.{wanted.kind}", wanted.id, root=wanted.root
    )
    db.after_commit(lambda: bell.ring(bell.BULK))
    return models.job(row)


async def fetched(job: Job, *, actor: Actor) -> None:
    """Note who fetches a result, before its first line is sent."""
    async with db.transaction():
        await audit.record(job.merchant_id, actor, "bulk.fetch", job.id, rows=job.done)


async def cancel(job_id: UUID, asker: Asker) -> Job | None:
    """End a job of who asked; one that is over stays as it is. None when there is none.

    An import that is running ends as soon as the lines under way have their results.
    """
    async with db.transaction():  # its row is locked: no worker takes it up meanwhile
        return await _cancel(job_id, asker)


async def _cancel(job_id: UUID, asker: Asker) -> Job | None:
    row = await db.row(
        "UPDATE bulk_job AS j SET cancelled_at = coalesce(cancelled_at, clock_timestamp()),"
        " due_at = clock_timestamp(), tries = 0 WHERE j.id = $1 AND j.account_id = $2"
        f" AND j.grant_id IS NOT DISTINCT FROM $3 AND state IN ('waiting', 'running') RETURNING {JOB}",
        job_id,
        asker.account_id,
        asker.grant_id,
    )
    if row is None:
        return None
    found = models.job(row)
    if found.kind is BulkKind.IMPORT and found.state is BulkState.RUNNING:
        db.after_commit(lambda: bell.ring(bell.BULK))
        return found
    return await _end(found, BulkState.CANCELLED, is_fenced=False)


# Whose merchant was served longest ago comes first, and in it the job that was.
_CLAIM = f"""
WITH next AS MATERIALIZED (
    SELECT j.id FROM bulk_job j WHERE j.state IN ('waiting', 'running') AND j.due_at <= clock_timestamp()
        AND (j.lease_until IS NULL OR j.lease_until < clock_timestamp())
    ORDER BY (SELECT max(o.turn_at) FROM bulk_job o WHERE o.merchant_id = j.merchant_id) NULLS FIRST,
        j.turn_at NULLS FIRST, j.id
    LIMIT 1 FOR UPDATE OF j SKIP LOCKED)
UPDATE bulk_job j SET state = 'running', fence = j.fence + 1, turn_at = clock_timestamp(),
    started_at = coalesce(j.started_at, clock_timestamp()),
    lease_until = clock_timestamp() + make_interval(secs => $1)
FROM next WHERE j.id = next.id RETURNING {JOB}
"""


async def claim() -> Job | None:
    """The job whose turn it is, leased; None when nothing is due."""
    row = await db.row(_CLAIM, rules.LEASE_S)
    return None if row is None else models.job(row)


async def keep(
    job: Job,
    rows: Sequence[bytes],
    *,
    failed: int = 0,
    position: str | None = None,
    total: int | None = None,
    is_last: bool = False,
) -> Job:
    """Store the results of the next rows together with how far the job is: all or nothing. Errors: LeaseLost.

    `is_last` ends the job with them.
    """
    body = b"".join(row + b"\n" for row in rows)
    async with db.transaction():
        found = await db.row(
            "UPDATE bulk_job j SET done = j.done + $3, failed = j.failed + $4, size = j.size + $5,"
            " pieces = j.pieces + $6, position = $7, total = coalesce($8, j.total), tries = 0,"
            " lease_until = clock_timestamp() + make_interval(secs => $9)"
            f" WHERE j.id = $1 AND j.fence = $2 AND j.state = 'running' RETURNING {JOB}",
            job.id,
            job.fence,
            len(rows),
            failed,
            len(body),
            1 if rows else 0,
            position,
            total,
            rules.LEASE_S,
        )
        if found is None:
            raise LeaseLost
        if rows:
            sealed = vault.seal(models.piece_place(job.id, job.pieces), rules.pack(body))
            await db.execute(
                "INSERT INTO bulk_piece (job_id, no, body) VALUES ($1, $2, $3)",
                job.id,
                job.pieces,
                sealed,
            )
        if is_last:
            await _end(job, BulkState.DONE)
        failpoint.reach("bulk.in_tx")
    failpoint.reach("bulk.after_commit")
    return models.job(found)


async def finish(job: Job, state: BulkState = BulkState.DONE, problem: str | None = None) -> None:
    """End a job of this lease. Errors: LeaseLost."""
    if await _end(job, state, problem) is None:
        raise LeaseLost


async def _end(
    job: Job, state: BulkState, problem: str | None = None, *, is_fenced: bool = True
) -> Job | None:
    async with db.transaction():
        row = await db.row(
            "UPDATE bulk_job j SET state = $3, problem = $4, lease_until = NULL, finished_at = clock_timestamp(),"
            " expires_at = clock_timestamp() + $5::interval"
            " WHERE j.id = $1 AND ($2::int IS NULL OR j.fence = $2) AND j.state IN ('waiting', 'running')"
            f" RETURNING {JOB}",
            job.id,
            job.fence if is_fenced else None,
            str(state),
            problem,
            rules.KEEP,
        )
        if row is None:
            return None
        ended = models.job(row)
        await db.execute("DELETE FROM bulk_input WHERE job_id = $1", job.id)
        if not ended.has_result:
            await db.execute("DELETE FROM bulk_piece WHERE job_id = $1", job.id)
        return ended


async def defer(job: Job, problem: str) -> None:
    """Give a job back for a later try, or up after the last one."""
    tries = await db.value(
        "UPDATE bulk_job SET tries = tries + 1, lease_until = NULL,"
        " due_at = clock_timestamp() + make_interval(secs => least(2 ^ tries, $3))"
        " WHERE id = $1 AND fence = $2 AND state = 'running' RETURNING tries",
        job.id,
        job.fence,
        rules.WAIT_MAX_S,
    )
    if tries is not None and tries >= rules.TRIES_MAX:
        await _end(job, BulkState.FAILED, problem)


async def release(job: Job) -> None:
    """Give a job back at the end of a turn: others are next."""
    await db.execute(
        "UPDATE bulk_job SET lease_until = NULL, turn_at = clock_timestamp() WHERE id = $1 AND fence = $2",
        job.id,
        job.fence,
    )


async def applied(job: Job, keys: Sequence[str]) -> int:
    """How many of the next lines of an import were begun: up to the last that has left its key."""
    found = await db.fetch(
        "SELECT key FROM idempotency WHERE scope = $1 AND key = ANY($2)",
        f"{job.caller}:{job.root}",
        list(keys),
    )
    known = {row["key"] for row in found}
    return max((place + 1 for place, key in enumerate(keys) if key in known), default=0)


async def prune() -> int:
    """What the timetable calls: forget results after a week, and jobs a month later; how many jobs."""
    await db.execute(
        "DELETE FROM bulk_piece p USING bulk_job j WHERE j.id = p.job_id AND j.expires_at < clock_timestamp()"
    )
    return await db.execute(
        "DELETE FROM bulk_job WHERE expires_at < clock_timestamp() - $1::interval", rules.FORGET
    )
