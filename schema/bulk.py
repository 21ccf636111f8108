"""Bulk work in the contract: lists read out whole, mutations run line by line, both as jobs."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain import bulk
from domain.bulk import BulkKind, BulkState, Job
from domain.core import ids
from resolvers import bulk as resolve
from resolvers.context import Asked
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.node import Node, register
from schema.page import Connection
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem

strawberry.enum(
    BulkKind,
    name="BulkKind",
    description="EXPORT reads a list out, IMPORT runs a mutation per line.",
)
strawberry.enum(
    BulkState,
    name="BulkState",
    description="WAITING for its turn, RUNNING, and then for ever DONE, FAILED or CANCELLED.",
)


@object_type(description="Why a job failed.")
class BulkProblem:
    """FORBIDDEN when the right was lost on the way."""

    code: str = field(description="Stable SCREAMING_SNAKE code; part of the contract.")
    message: str = field(description="What happened, in the language of the request.")


async def _problem(root: strawberry.Parent[Job], info: Asked) -> BulkProblem | None:
    if root.problem is None:
        return None
    return BulkProblem(code=root.problem, message=info.context.text(root.problem))


@object_type(
    description="A list being read out, or a mutation being run for every line.", rows=(Job,)
)
class BulkJob(Node):
    """Seen by who asked for it alone."""

    id: strawberry.ID = derived(
        lambda job: ids.encode("blk", job.id), description="Opaque id, `blk_…`."
    )
    kind: BulkKind = field(description="What it does.")
    state: BulkState = field(description="Where it stands.")
    done: int = field(description="Rows whose result is written.")
    total: int | None = field(
        description="Rows there are, counted to 100,000; null until it is known, and for a list that nobody counts."
    )
    failed: int = field(
        description="Lines of an import with an error or a problem; 0 for an export."
    )
    progress: int = field(
        description="In percent: 0 while `total` is null, 100 when it is done, never before."
    )
    size: int = field(description="Bytes of the result so far.")
    event_cursor: str | None = field(
        description="Of an export: pass as `after` to `merchantEvents` for everything that happens to orders from "
        "before the first row was read. Null for an import."
    )
    url: str | None = derived(
        resolve.url_of,
        description="Where the result is fetched with the same Authorization; null until there is one. An import that "
        "was cancelled or broke off has one too: of the lines that were run.",
    )
    created_at: datetime = field(description="When it was asked for.")
    started_at: datetime | None = field(description="When its first turn began.")
    finished_at: datetime | None = field(description="When it was over.")
    expires_at: datetime | None = field(
        description="Until when the result is kept: seven days from the end."
    )
    problem: BulkProblem | None = field(
        resolver=_problem, description="Why it failed; null otherwise."
    )


register("blk", BulkJob, resolve.by_id)


@problem(bulk.QueryNotExportable, description="The query cannot be exported.")
class QueryNotExportable(Problem):
    """Code QUERY_NOT_EXPORTABLE."""

    reason: str = field(description="What is wrong with it, for developers.")
    allowed: list[str] = field(description="The lists that can be exported.")


@problem(bulk.MutationNotImportable, description="The mutation cannot be run per line.")
class MutationNotImportable(Problem):
    """Code MUTATION_NOT_IMPORTABLE."""

    reason: str = field(description="What is wrong with it, for developers.")
    allowed: list[str] = field(description="The mutations that can be run per line.")


@problem(bulk.BulkLimit, description="The caller has as many unfinished jobs here as there may be.")
class BulkLimit(Problem):
    """Code BULK_LIMIT."""

    max: int = field(description="How many there may be, in one merchant.")


@problem(bulk.BulkFileInvalid, description="The file has no lines, or too many.")
class BulkFileInvalid(Problem):
    """Code BULK_FILE_INVALID."""

    max: int = field(description="How many lines there may be.")


BulkExportResult = Annotated[
    BulkJob | QueryNotExportable | BulkLimit | NotFound | InvalidInput | Unavailable,
    strawberry.union("BulkExportResult", description="The job, or why nothing was started."),
]
BulkImportResult = Annotated[
    BulkJob
    | MutationNotImportable
    | BulkFileInvalid
    | BulkLimit
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union("BulkImportResult", description="The job, or why nothing was started."),
]
CancelBulkJobResult = Annotated[
    BulkJob | NotFound | InvalidInput | Unavailable,
    strawberry.union("CancelBulkJobResult", description="The job, or why it was not found."),
]


@strawberry.type
class BulkQuery:
    """Reads."""

    bulk_jobs: Connection[BulkJob] = query_field(
        resolve.jobs,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="The jobs the caller has asked for in a merchant, newest first.",
        args={
            "merchantId": "The merchant, one the caller belongs to.",
            "first": "How many of the newest, 1 to 100.",
            "after": "Cursor to continue behind.",
        },
    )


@strawberry.type
class BulkMutation:
    """Writes; what a job does is done with the rights that its caller has at that moment."""

    bulk_export: BulkExportResult = mutation_field(
        resolve.export,
        who=(Who.MERCHANT, Who.OPERATOR),
        idempotent=True,
        description="Read a whole list out as JSONL, one node per line; takes the rights and scopes of what it reads, "
        "on every page. Problems: QUERY_NOT_EXPORTABLE, BULK_LIMIT (5 unfinished), NOT_FOUND.",
        args={"input": "Of which merchant, and which list."},
        cost=50,
    )
    bulk_import: BulkImportResult = mutation_field(
        resolve.import_,
        who=Who.MERCHANT,
        idempotent=True,
        description="Run a mutation for every line of an upload; each line is done once and has its line in the "
        "result. Takes the rights and scopes of the mutation. Problems: MUTATION_NOT_IMPORTABLE, BULK_FILE_INVALID, "
        "BULK_LIMIT (5 unfinished), NOT_FOUND.",
        args={"input": "In which merchant, which mutation, which file."},
        cost=50,
    )
    cancel_bulk_job: CancelBulkJobResult = mutation_field(
        resolve.cancel,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="End a job of the caller's own; one that is over stays as it is. An import ends as soon as the "
        "lines under way have their results. Problems: NOT_FOUND.",
        args={"input": "Which job."},
    )
