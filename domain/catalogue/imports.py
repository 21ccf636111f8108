"""Stock coming in: a list of keys of any size is read, sealed, checked and stored, all of it or
nothing."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from domain.catalogue import keys as card_keys
from domain.catalogue import lines
from domain.catalogue.lines import FileUnreadable, Format, Read
from domain.catalogue.rules import Delivery
from domain.core import audit, clock, db, ids, promises, vault
from domain.core.audit import Actor
from domain.core.errors import DomainError, FieldInvalid, InputInvalid, NotFound, Unavailable
from domain.core.money import Money
from domain.core.once import InProgress, KeyReused

CHUNK = 1_000
PROGRESS_S = 0.2
REPORT_MAX = 1_000
NOTE_MAX = 200


@dataclass(frozen=True, slots=True)
class LotTerms:
    """What is true of all keys of one import: what they cost each, where and until when they
    work."""

    cost: Money | None = None
    expires_at: datetime | None = None
    region: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class LineProblem:
    """What is wrong with a line; `first_line` is the one it repeats, when that is in the same
    file."""

    line: int
    fault: str
    first_line: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What became of an import. `problems` lists the first thousand, `problem_count` counts all."""

    id: UUID
    merchant_id: UUID
    variant_id: UUID
    state: str
    done_lines: int
    total_lines: int
    added: int
    problem_count: int = 0
    problems: tuple[LineProblem, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


class ImportRefused(DomainError):
    """At least one line is bad and nothing was stored; `problems` and `counts` say which and
    why."""

    code = "IMPORT_REFUSED"


@dataclass(slots=True)
class _Faults:
    """Bad lines: all counted, the first thousand kept."""

    counts: Counter[str] = field(default_factory=Counter)
    listed: list[LineProblem] = field(default_factory=list)

    def add(self, problem: LineProblem) -> None:
        self.counts[problem.fault] += 1
        if len(self.listed) < REPORT_MAX:
            self.listed.append(problem)


async def import_cards(
    merchant_id: UUID,
    variant_id: UUID,
    source: str | bytes,
    *,
    actor: Actor,
    import_id: UUID | None = None,
    format: Format = Format.AUTO,
    lot: LotTerms | None = None,
    skip_bad_lines: bool = False,
) -> Report:
    """Bring a list of keys into a variant's stock as one lot: every line, or none.

    A key is unique within its merchant for ever: against the file, the stock and everything ever
    sold. With `skip_bad_lines` the good lines come in and the report names the others. Idempotent
    by `import_id`: done before, it gives the stored report. Progress is in `import_job` while it
    runs. Joins the caller's transaction if there is one. Errors: NotFound, InputInvalid,
    FileUnreadable, ImportRefused (nothing stored), once.KeyReused, once.InProgress.
    """
    terms = lot or LotTerms()
    await _check(merchant_id, variant_id, terms)
    text = lines.decode(source)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    job_id = import_id or ids.uuid7()
    job = (merchant_id, job_id, variant_id, digest, lines.count(text), actor.id)
    # Beside the caller's transaction: whoever watches sees it at once, and it stays if this fails.
    await _apart(_JOB, *job)
    try:
        async with db.transaction():
            done = await _begin(*job)
            if done is not None:
                return done
            faults = _Faults()
            read = await _stage(merchant_id, job_id, lines.read(text, format), faults)
            await _compare(merchant_id, faults)
            if faults.counts and not skip_bad_lines:
                raise _refusal(faults, read)
            added = await _store(merchant_id, variant_id, terms, faults)
            report = Report(
                job_id,
                merchant_id,
                variant_id,
                "done",
                lines.count(text),
                lines.count(text),
                added,
                faults.counts.total(),
                tuple(faults.listed),
                dict(faults.counts),
            )
            await _finish(report, actor)
    except (KeyReused, InProgress):
        raise
    except ImportRefused as refused:
        await _end(merchant_id, job_id, "refused", refused)
        raise
    except (DomainError, OSError):
        await _end(merchant_id, job_id, "failed", None)
        raise
    return report


async def _check(merchant_id: UUID, variant_id: UUID, terms: LotTerms) -> None:
    row: Any = await db.row(
        "SELECT delivery, region FROM variant WHERE merchant_id = $1 AND id = $2",
        merchant_id,
        variant_id,
    )
    if row is None:
        raise NotFound(path=("input", "variantId"))
    faults: list[DomainError] = []
    if row["delivery"] != Delivery.STOCK:
        faults.append(FieldInvalid(path=("input", "variantId"), reason="delivery"))
    if row["region"] is not None and terms.region not in (None, row["region"]):
        faults.append(FieldInvalid(path=("input", "lot", "region"), reason="region"))
    if terms.expires_at is not None and terms.expires_at <= clock.now():
        faults.append(FieldInvalid(path=("input", "lot", "expiresAt"), reason="past"))
    if terms.cost is not None and terms.cost.minor < 0:
        faults.append(FieldInvalid(path=("input", "lot", "cost"), reason="negative"))
    if len(terms.note) > NOTE_MAX or "\0" in terms.note:
        faults.append(FieldInvalid(path=("input", "lot", "note"), reason="length", max=NOTE_MAX))
    if faults:
        raise InputInvalid(*faults)


_JOB = """
INSERT INTO import_job (merchant_id, id, variant_id, content_hash, total_lines, actor_id)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
"""


async def _begin(
    merchant_id: UUID, job_id: UUID, variant_id: UUID, digest: bytes, *more: Any
) -> Report | None:
    """Become the one writer of this merchant's stock; the report when this import was done before."""
    # Again, for when no other connection was free.
    await db.execute(_JOB, merchant_id, job_id, variant_id, digest, *more)
    job: Any = await db.row(
        "SELECT variant_id, content_hash, state FROM import_job WHERE merchant_id = $1 AND id = $2",
        merchant_id,
        job_id,
    )
    if job["content_hash"] != digest or job["variant_id"] != variant_id:
        raise KeyReused()
    if not await db.value("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", str(job_id)):
        raise InProgress(retryAfter=1)
    if job["state"] == "done":
        return await report_of([merchant_id], job_id)
    await db.execute("SELECT pg_advisory_xact_lock($1)", card_keys.import_lock(merchant_id))
    await db.execute("DROP TABLE IF EXISTS card_import")
    await db.execute(
        "CREATE TEMP TABLE card_import (line INTEGER NOT NULL, id UUID NOT NULL, bucket SMALLINT"
        " NOT NULL, hash BYTEA NOT NULL, ciphertext BYTEA NOT NULL) ON COMMIT DROP"
    )
    return None


_PROGRESS = """
UPDATE import_job SET done_lines = $3, moved_at = clock_timestamp() WHERE merchant_id = $1 AND id = $2
"""
_STAGE = """
INSERT INTO card_import (line, id, bucket, hash, ciphertext)
SELECT * FROM unnest($1::int[], $2::uuid[], $3::smallint[], $4::bytea[], $5::bytea[])
"""


async def _stage(merchant_id: UUID, job_id: UUID, found: Iterator[Read], faults: _Faults) -> int:
    """Seal line by line into a temporary table, a chunk at a time; how many lines there were."""
    keys = await vault.of_merchant(merchant_id)
    read, told_at = 0, clock.monotonic()
    while chunk := list(islice(found, CHUNK)):
        read += len(chunk)
        good = [one for one in chunk if one.fault is None]
        for one in chunk:
            if one.fault is not None:
                faults.add(LineProblem(one.number, one.fault.value))
        row_ids = [ids.uuid7() for _ in good]
        await db.execute(
            _STAGE,
            [one.number for one in good],
            row_ids,
            [byte & 63 for byte in os.urandom(len(good))],
            [keys.fingerprint(one.content) for one in good],
            [
                keys.seal("card_key", row_id, one.content)
                for row_id, one in zip(row_ids, good, strict=True)
            ],
        )
        if clock.monotonic() - told_at >= PROGRESS_S:
            await _apart(_PROGRESS, merchant_id, job_id, chunk[-1].number)
            told_at = clock.monotonic()
    if not read:
        raise FileUnreadable(path=("input",), reason="empty")
    return read


_COMPARE = """
WITH ranked AS (
    SELECT line, hash, min(line) OVER (PARTITION BY hash) AS first_line FROM card_import
), bad AS (
    SELECT r.line, r.first_line, c.state FROM ranked r
    LEFT JOIN card_key c ON c.merchant_id = $1 AND c.hash = r.hash
    WHERE r.line > r.first_line OR c.id IS NOT NULL
), judged AS (
    SELECT line, CASE WHEN state IN ('available', 'reserved', 'locked', 'honey')
            THEN 'duplicate_in_stock'
        WHEN state IS NOT NULL THEN 'duplicate_sold' ELSE 'duplicate_in_file' END AS fault,
        CASE WHEN line > first_line THEN first_line END AS first_line
    FROM bad)
SELECT line, fault, first_line, count(*) OVER (PARTITION BY fault)::int AS n
FROM judged ORDER BY line LIMIT $2
"""


async def _compare(merchant_id: UUID, faults: _Faults) -> None:
    """Name the lines that repeat another line, or a key that is or was ours."""
    rows: list[Any] = await db.fetch(_COMPARE, merchant_id, REPORT_MAX)
    faults.counts.update({row["fault"]: row["n"] for row in rows})
    repeated = [LineProblem(row["line"], row["fault"], row["first_line"]) for row in rows]
    listed = sorted([*faults.listed, *repeated], key=lambda problem: problem.line)
    faults.listed = listed[:REPORT_MAX]


_STORE = """
INSERT INTO card_key
    (merchant_id, id, variant_id, lot_no, expires_at, bucket, key_version, ciphertext, hash)
SELECT $1, t.id, $2, l.no, l.expires_at, t.bucket, $4, t.ciphertext, t.hash
FROM (SELECT DISTINCT ON (hash) * FROM card_import ORDER BY hash, line) AS t
JOIN stock_lot l ON l.merchant_id = $1 AND l.no = $3
ON CONFLICT (merchant_id, hash) DO NOTHING
"""


async def _store(merchant_id: UUID, variant_id: UUID, terms: LotTerms, faults: _Faults) -> int:
    """The staged lines become stock, duplicates left out; how many."""
    version = (await vault.of_merchant(merchant_id)).version
    lot_no = await db.value(
        "INSERT INTO stock_lot"
        " (merchant_id, variant_id, cost_minor, currency, region, expires_at, note)"
        " VALUES ($1, $2, $3, $4, $5, coalesce($6, 'infinity'::timestamptz), $7) RETURNING no",
        merchant_id,
        variant_id,
        terms.cost.minor if terms.cost else None,
        terms.cost.currency if terms.cost else None,
        terms.region,
        terms.expires_at,
        terms.note,
    )
    added = await db.execute(_STORE, merchant_id, variant_id, lot_no, version)
    staged: int = await db.value("SELECT count(*) FROM card_import")
    repeats = sum(n for fault, n in faults.counts.items() if fault.startswith("duplicate"))
    # One writer per merchant: what was compared is what was stored.
    assert added == staged - repeats, (added, staged, repeats)
    return added


async def _finish(report: Report, actor: Actor) -> None:
    await db.execute(
        "UPDATE import_job SET state = 'done', done_lines = total_lines, added = $3,"
        " report_json = $4, moved_at = clock_timestamp() WHERE merchant_id = $1 AND id = $2",
        report.merchant_id,
        report.id,
        report.added,
        _as_json(report.problems, report.counts),
    )
    await audit.record(
        report.merchant_id, actor, "stock.import", report.variant_id, keys=report.added
    )
    await card_keys.refilled(report.merchant_id, report.variant_id)
    if report.added:
        # Orders that were paid and short may now be served (D06).
        await promises.promise(
            "delivery", "stock.arrived", report.variant_id, key=f"stock:{report.id}"
        )


def _refusal(faults: _Faults, read: int) -> ImportRefused:
    return ImportRefused(
        path=("input",),
        lines=read,
        problem_count=faults.counts.total(),
        problems=list(faults.listed),
        counts=dict(faults.counts),
    )


def _as_json(problems: tuple[LineProblem, ...], counts: dict[str, int]) -> dict[str, Any]:
    listed = [[problem.line, problem.fault, problem.first_line] for problem in problems]
    return {"problems": listed, "counts": counts}


async def _end(merchant_id: UUID, job_id: UUID, state: str, refused: ImportRefused | None) -> None:
    facts = refused.facts if refused else {"problems": [], "counts": {}}
    await _apart(
        "UPDATE import_job SET state = $3, report_json = $4, moved_at = clock_timestamp()"
        " WHERE merchant_id = $1 AND id = $2 AND state <> 'done'",
        merchant_id,
        job_id,
        state,
        _as_json(tuple(facts["problems"]), facts["counts"]),
    )


async def report_of(merchant_ids: Sequence[UUID], import_id: UUID) -> Report | None:
    """Where an import of one of these merchants stands, or what became of it; None when there is none."""
    row: Any = await db.row(
        "SELECT id, merchant_id, variant_id, state, done_lines, total_lines, added, report_json"
        " FROM import_job WHERE merchant_id = ANY($1) AND id = $2",
        list(merchant_ids),
        import_id,
    )
    if row is None:
        return None
    told = row["report_json"] or {"problems": [], "counts": {}}
    return Report(
        id=row["id"],
        merchant_id=row["merchant_id"],
        variant_id=row["variant_id"],
        state=row["state"],
        done_lines=row["done_lines"],
        total_lines=row["total_lines"],
        added=row["added"],
        problem_count=sum(told["counts"].values()),
        problems=tuple(LineProblem(*one) for one in told["problems"]),
        counts=told["counts"],
    )


async def _apart(sql: str, *args: Any) -> None:
    """Run a statement beside the caller's transaction, on a connection of its own; only for what
    may be lost."""
    if not db.in_transaction():
        await db.execute(sql, *args)
        return
    context = contextvars.Context()  # without the caller's transaction in it
    with contextlib.suppress(Unavailable):
        await asyncio.create_task(db.execute(sql, *args), context=context)
