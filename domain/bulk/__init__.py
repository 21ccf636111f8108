"""Bulk work: whole lists read out as JSONL, mutations run line by line, at the caller's own rights."""

from domain.bulk.actions import cancel, claim, fetched, prune, start
from domain.bulk.models import Asker, Job, draft
from domain.bulk.queries import find, jobs, lines, result, runner, standing
from domain.bulk.rules import (
    DOCUMENT_MAX,
    LINE_MAX,
    OPEN_MAX,
    PAGE_MAX,
    ROWS_MAX,
    BulkFileInvalid,
    BulkKind,
    BulkLimit,
    BulkState,
    BulkTooLarge,
    Lines,
    MutationNotImportable,
    QueryNotExportable,
    ResultExpired,
    cut,
    pack,
)
from domain.bulk.turns import row_key, turn

__all__ = [
    "DOCUMENT_MAX",
    "LINE_MAX",
    "OPEN_MAX",
    "PAGE_MAX",
    "ROWS_MAX",
    "Asker",
    "BulkFileInvalid",
    "BulkKind",
    "BulkLimit",
    "BulkState",
    "BulkTooLarge",
    "Job",
    "Lines",
    "MutationNotImportable",
    "QueryNotExportable",
    "ResultExpired",
    "cancel",
    "claim",
    "cut",
    "draft",
    "fetched",
    "find",
    "jobs",
    "lines",
    "pack",
    "prune",
    "result",
    "row_key",
    "runner",
    "standing",
    "start",
    "turn",
]
