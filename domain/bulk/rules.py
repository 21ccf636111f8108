"""What is true of bulk work without asking anybody: its states, bounds, lines, and what it refuses."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from domain.core.errors import DomainError

OPEN_MAX = 5  # unfinished jobs of one person, or one app, in one merchant
ROWS_MAX = 100_000
LINE_MAX = 256 * 1024  # bytes
PAGE_MAX = 100  # rows of an export in one piece
BATCH_ROWS, BATCH_S = 100, 1.0  # of an import in one piece
INPUT_PIECE = 512 * 1024  # bytes of an import's lines in one piece
SIZE_MAX = 1024 * 1024 * 1024  # bytes of a result
DOCUMENT_MAX = 32 * 1024
KEEP = timedelta(days=7)
FORGET = timedelta(days=30)  # the job itself, after its result
TURN_S = 5.0
LEASE_S = 60.0
TRIES_MAX = 12
WAIT_MAX_S = 120.0
_LEVEL = 6


class BulkKind(StrEnum):
    """Reading a list out, or running a mutation for every line."""

    EXPORT = "export"
    IMPORT = "import"


class BulkState(StrEnum):
    """Where a job stands; the last three are for ever."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BulkLimit(DomainError):
    """So many of the caller's jobs are unfinished in this merchant already; `max` is the bound."""

    code = "BULK_LIMIT"
    retryable = True


class QueryNotExportable(DomainError):
    """The query is not one that can be exported; `reason` says why, `allowed` what can be."""

    code = "QUERY_NOT_EXPORTABLE"


class MutationNotImportable(DomainError):
    """The mutation is not one that can be run per line; `reason` says why, `allowed` what can be."""

    code = "MUTATION_NOT_IMPORTABLE"


class BulkFileInvalid(DomainError):
    """The file has no lines, or more than `max`."""

    code = "BULK_FILE_INVALID"


class BulkTooLarge(DomainError):
    """The result has more than `max` bytes."""

    code = "BULK_TOO_LARGE"


class ResultExpired(DomainError):
    """The result was kept for seven days and is gone."""

    code = "BULK_EXPIRED"


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a file, from row `first` on; rows count from 1. Stored ones are packed."""

    first: int
    rows: int
    body: bytes


def lines_of(content: bytes) -> list[bytes]:
    """The lines of a file without their ends; a last line may go without. A byte order mark is not part of it."""
    body = content.removeprefix(b"\xef\xbb\xbf")
    found = body.split(b"\n")
    if not found[-1]:
        found.pop()
    return [line.removesuffix(b"\r") for line in found]


def cut(content: bytes) -> list[Lines]:
    """A file in packed pieces. Takes a second for the largest. Errors: BulkFileInvalid."""
    lines = lines_of(content)
    if len(lines) > ROWS_MAX or not any(line.strip() for line in lines):
        raise BulkFileInvalid(path=("input", "uploadId"), max=ROWS_MAX)
    return list(_cut(lines))


def _cut(lines: list[bytes]) -> Iterator[Lines]:
    first, some, size = 1, list[bytes](), 0
    for line in lines:
        some.append(line)
        size += len(line)
        if size >= INPUT_PIECE:
            yield Lines(first, len(some), pack(b"\n".join(some)))
            first, some, size = first + len(some), [], 0
    if some:
        yield Lines(first, len(some), pack(b"\n".join(some)))


def pack(body: bytes) -> bytes:
    """Compressed; the same bytes for the same body."""
    return zlib.compress(body, _LEVEL)


def unpack(packed: bytes) -> bytes:
    """What `pack` was given."""
    return zlib.decompress(packed)
