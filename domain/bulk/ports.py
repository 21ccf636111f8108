"""What bulk work needs from outside: somebody who runs a document by the contract, as whoever asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.bulk.models import Job
from domain.bulk.rules import Lines
from domain.identity import Viewer


@dataclass(frozen=True, slots=True)
class Read:
    """Rows of an export as JSON, `after` is the cursor behind them, None at the end. `total` where it is known."""

    rows: Sequence[bytes]
    after: str | None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of one line as JSON, and whether it had an effect or an error or a problem."""

    body: bytes
    is_failed: bool


class Runner(Protocol):
    """The contract: the same documents, rights, scopes and limits as at the front door."""

    def check_export(self, query: str, merchant_id: str) -> str:
        """The root field of a query that can be exported. Errors: QueryNotExportable."""
        ...

    def check_import(self, mutation: str) -> str:
        """The root field of a mutation that can be run per line. Errors: MutationNotImportable."""
        ...

    async def admit(self, job: Job, viewer: Viewer) -> None:
        """Pass who may do (or fetch) the job now. Errors: Forbidden, NotFound, InsufficientScope."""
        ...

    async def read(self, job: Job, viewer: Viewer, size: int) -> Read:
        """The next page of an export behind `job.position`, at most `size` rows.

        Errors: Unavailable; whatever refuses the query, for part of a page is none.
        """
        ...

    async def run(self, job: Job, viewer: Viewer, row: int, line: bytes) -> Ran:
        """One line of an import, once however often it is called. Errors: Unavailable, nothing of it is known then."""
        ...


CONTRACT = "contract"
runners: dict[str, Runner] = {}

__all__ = ["CONTRACT", "Job", "Lines", "Ran", "Read", "Runner", "runners"]
