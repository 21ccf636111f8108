"""The row of a bulk job, as it is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.bulk.rules import BulkKind, BulkState
from domain.core import clock, ids
from domain.identity import Forbidden

JOB = (
    "j.id, j.merchant_id, j.account_id, j.app_id, j.grant_id, j.scopes, j.kind, j.document, j.root, j.country,"
    " j.language, j.state, j.problem, j.total, j.done, j.failed, j.size, j.pieces, j.position, j.event_cursor,"
    " j.cancelled_at, j.fence, j.tries, j.created_at, j.started_at, j.finished_at, j.expires_at"
)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for bulk work: a person, or an app under a grant with these scopes."""

    account_id: UUID
    app_id: UUID | None = None
    grant_id: UUID | None = None
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One job; `done` rows have their result in one of `pieces`, `size` is their bytes."""

    id: UUID
    merchant_id: UUID
    asker: Asker
    kind: BulkKind
    document: str
    root: str
    country: str
    language: str
    state: BulkState
    problem: str | None
    total: int | None
    done: int
    failed: int
    size: int
    pieces: int
    position: str | None
    event_cursor: str | None
    cancelled_at: datetime | None
    fence: int
    tries: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None

    @property
    def caller(self) -> str:
        """Whose idempotency keys the lines of an import have: as at the door."""
        if self.asker.grant_id is not None:
            return f"app:{self.asker.grant_id}"
        return f"acc:{self.asker.account_id}"

    @property
    def has_result(self) -> bool:
        """Whether there is something to fetch: all of it, or of an import that broke off what was done until then."""
        if self.kind is BulkKind.EXPORT or self.finished_at is None:
            return self.state is BulkState.DONE
        return self.problem != Forbidden.code

    @property
    def is_expired(self) -> bool:
        """Whether the result was kept for its time."""
        return self.expires_at is not None and self.expires_at <= clock.now()

    @property
    def progress(self) -> int:
        """In percent; 0 while it is not known, 100 only when it is done."""
        if self.state is BulkState.DONE:
            return 100
        return min(100 * self.done // self.total, 99) if self.total else 0


def draft(
    merchant_id: UUID,
    asker: Asker,
    kind: BulkKind,
    *,
    document: str,
    root: str,
    country: str,
    language: str,
) -> Job:
    """A job that is about to be asked for."""
    return Job(
        ids.uuid7(),
        merchant_id,
        asker,
        kind,
        document,
        root,
        country,
        language,
        BulkState.WAITING,
        problem=None,
        total=None,
        done=0,
        failed=0,
        size=0,
        pieces=0,
        position=None,
        event_cursor=None,
        cancelled_at=None,
        fence=0,
        tries=0,
        created_at=clock.now(),
        started_at=None,
        finished_at=None,
        expires_at=None,
    )


def job(row: Any) -> Job:
    """A row of `JOB`."""
    found = dict(row)
    asker = Asker(
        found.pop("account_id"),
        found.pop("app_id"),
        found.pop("grant_id"),
        tuple(found.pop("scopes")),
    )
    return Job(
        asker=asker,
        kind=BulkKind(found.pop("kind")),
        state=BulkState(found.pop("state")),
        **found,
    )


def piece_place(job_id: UUID, no: int) -> str:
    """What a piece of the result is sealed for."""
    return f"bulk:{job_id}:{no}"


def input_place(job_id: UUID, first_row: int) -> str:
    """What a piece of the lines is sealed for."""
    return f"bulk.input:{job_id}:{first_row}"
