"""Reads of bulk work: jobs of who asked, and the result piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from domain import identity, partners
from domain.bulk import models, rules
from domain.bulk.models import JOB, Asker, Job
from domain.bulk.ports import CONTRACT, Runner, runners
from domain.bulk.rules import Lines
from domain.core import clock, db, vault
from domain.core.errors import Unavailable
from domain.identity import Viewer


def is_ready() -> bool:
    """Whether this process has the contract."""
    return CONTRACT in runners


def runner() -> Runner:
    """The contract. Errors: Unavailable in a process that was started without it."""
    found = runners.get(CONTRACT)
    if found is None:
        raise Unavailable(what="contract")
    return found


async def find(job_id: UUID, asker: Asker) -> Job | None:
    """A job, for exactly who asked for it: the person, or the app under the same grant."""
    row = await db.row(
        f"SELECT {JOB} FROM bulk_job j WHERE j.id = $1 AND j.account_id = $2"
        " AND j.grant_id IS NOT DISTINCT FROM $3",
        job_id,
        asker.account_id,
        asker.grant_id,
    )
    return None if row is None else models.job(row)


async def jobs(merchant_id: UUID, asker: Asker, before: UUID | None, limit: int) -> list[Job]:
    """The jobs somebody asked for in a merchant, newest first."""
    rows = await db.fetch(
        f"SELECT {JOB} FROM bulk_job j WHERE j.merchant_id = $1 AND j.account_id = $2"
        " AND j.grant_id IS NOT DISTINCT FROM $3 AND ($4::uuid IS NULL OR j.id < $4)"
        " ORDER BY j.id DESC LIMIT $5",
        merchant_id,
        asker.account_id,
        asker.grant_id,
        before,
        limit,
    )
    return [models.job(row) for row in rows]


async def standing(asker: Asker, merchant_id: UUID) -> Viewer | None:
    """Who somebody is in a merchant at this moment: roles, or what is left of the grant; None when nothing is."""
    if asker.grant_id is None:
        found = await identity.standing(asker.account_id)
    else:
        found = await partners.standing(asker.grant_id, asker.scopes)
    if found is None or not (found.operator or merchant_id in found.roles):
        return None
    return found


async def result(job: Job) -> AsyncIterator[bytes]:
    """The lines of a result, piece by piece. Errors: ResultExpired, when nothing was sent or in the middle."""
    for no in range(job.pieces):
        sealed = await db.value(
            "SELECT body FROM bulk_piece WHERE job_id = $1 AND no = $2", job.id, no
        )
        if sealed is None or job.expires_at is None or job.expires_at <= clock.now():
            raise rules.ResultExpired()
        yield rules.unpack(vault.unseal(models.piece_place(job.id, no), sealed))


async def lines(job: Job, row: int) -> Lines:
    """The lines of an import that `row` is among."""
    found = await db.row(
        "SELECT first_row, rows, body FROM bulk_input WHERE job_id = $1 AND first_row <= $2"
        " ORDER BY first_row DESC LIMIT 1",
        job.id,
        row,
    )
    assert found is not None, (job.id, row)
    first = found["first_row"]
    body = rules.unpack(vault.unseal(models.input_place(job.id, first), found["body"]))
    return Lines(first, found["rows"], body)
