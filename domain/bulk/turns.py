"""The turns of a worker: a few seconds for one job, then the merchant who has waited longest.

Before every page and every batch of lines the rights of whoever asked are looked at again.
"""

from __future__ import annotations

import structlog

from domain.bulk import actions, queries, rules
from domain.bulk.actions import LeaseLost
from domain.bulk.models import Job
from domain.bulk.rules import BulkKind, BulkState
from domain.core import clock, failpoint, ids
from domain.core.errors import DomainError, NotFound
from domain.identity import Forbidden, Viewer

_GONE = ("NOT_FOUND", "FORBIDDEN", "UNAUTHENTICATED", "INSUFFICIENT_SCOPE")

_log = structlog.get_logger(__name__)


async def turn() -> bool:
    """Give the next job its turn; false when none is due."""
    if not queries.is_ready():
        return False  # a worker without the contract leaves what is owed
    job = await actions.claim()
    if job is None:
        return False
    try:
        if job.kind is BulkKind.EXPORT:
            await _export(job)
        else:
            await _import(job)
    except LeaseLost:
        _log.info("bulk.lost", job_id=str(job.id))
    except DomainError as error:
        await _refused(job, error)
    except Exception as error:  # a bug, or the database is away: later, a bounded number of times
        _log.exception("bulk.failed", job_id=str(job.id), error=type(error).__name__)
        await actions.defer(job, "INTERNAL_SERVER_ERROR")
    return True


async def _refused(job: Job, error: DomainError) -> None:
    if error.retryable:
        await actions.defer(job, error.code)
        return
    # Whatever of the right is missing now: it is the same to whoever asked.
    code = Forbidden.code if error.code in _GONE else error.code
    _log.info("bulk.refused", job_id=str(job.id), code=error.code)
    try:
        await actions.finish(job, BulkState.FAILED, code)
    except LeaseLost:
        pass


async def _viewer(job: Job) -> Viewer:
    found = await queries.standing(job.asker, job.merchant_id)
    if found is None:
        raise NotFound()
    return found


async def _export(job: Job) -> None:
    until = clock.monotonic() + rules.TURN_S
    while True:
        # What came to nothing may have been too much for its time: a smaller page may come through.
        size = max(1, rules.PAGE_MAX >> job.tries)
        read = await queries.runner().read(job, await _viewer(job), size)
        failpoint.reach("bulk.read")
        position = read.after if read.after is not None else job.position
        is_last = read.after is None
        job = await actions.keep(
            job, read.rows, position=position, total=read.total, is_last=is_last
        )
        if is_last:
            return
        if job.size > rules.SIZE_MAX:
            raise rules.BulkTooLarge(max=rules.SIZE_MAX)
        if clock.monotonic() >= until:
            await actions.release(job)
            return


async def _import(job: Job) -> None:
    total = job.total
    assert total is not None, "counted when it was asked for"
    until = clock.monotonic() + rules.TURN_S
    while job.done < total:
        job = await _batch(job)
        if job.cancelled_at is not None:
            await actions.finish(job, BulkState.CANCELLED)
            return
        if job.size > rules.SIZE_MAX:
            raise rules.BulkTooLarge(max=rules.SIZE_MAX)
        if clock.monotonic() >= until and job.done < total:
            await actions.release(job)
            return
    await actions.finish(job)


async def _batch(job: Job) -> Job:
    """The next lines and their results, which commit together; every line by itself is done once."""
    viewer = await _viewer(job)
    await queries.runner().admit(job, viewer)
    lines = await queries.lines(job, job.done + 1)
    first = job.done + 1 - lines.first
    wanted = lines.body.split(b"\n")[first : first + rules.BATCH_ROWS]
    if job.cancelled_at is not None:
        # Another worker may have died between the effect of a line and its result.
        keys = [row_key(job, job.done + 1 + place) for place in range(len(wanted))]
        wanted = wanted[: await actions.applied(job, keys)]
    results: list[bytes] = []
    failed, size = 0, 0
    until = clock.monotonic() + rules.BATCH_S
    for place, line in enumerate(wanted):
        ran = await queries.runner().run(job, viewer, job.done + 1 + place, line)
        failpoint.reach("bulk.ran")
        results.append(ran.body)
        failed += ran.is_failed
        size += len(ran.body)
        if clock.monotonic() >= until or size >= rules.INPUT_PIECE:
            break
    return await actions.keep(job, results, failed=failed)


def row_key(job: Job, row: int) -> str:
    """The idempotency key of one line."""
    return f"{ids.encode('blk', job.id)}:{row}"
