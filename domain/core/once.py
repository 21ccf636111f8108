"""Idempotency: a key, the hash of what was asked and its effect commit together; the answer is given again.

Source: the IETF Idempotency-Key draft and API.md rule 2. A refusal stores nothing: the caller may try again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson
import structlog

from domain.core import db, vault
from domain.core.errors import DomainError

LEASE_S = 45
KEEP_DAYS = 30
FLUSH_MAX = 200
FLUSH_EVERY_S = 0.05
WAITING_MAX = 5_000

_log = structlog.get_logger(__name__)


class KeyReused(DomainError):
    """The same key came with other input; nothing was done."""

    code = "IDEMPOTENCY_KEY_REUSED"


class InProgress(DomainError):
    """The first call with this key is still running; ask again in `retryAfter` seconds."""

    code = "IDEMPOTENCY_IN_PROGRESS"
    retryable = True


def request_hash(request: Any) -> bytes:
    """SHA-256 of the input as canonical JSON (sorted keys)."""
    return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS, default=str)).digest()


@dataclass(slots=True)
class Once:
    """One call under an idempotency key: `scope` is who asks for what, `answer_hash` the selection asked for.

    After `claim` gave an earlier result, `response` holds its exact bytes when they had been stored for the same
    selection.
    """

    scope: str
    key: str
    request_hash: bytes
    answer_hash: bytes = b""
    response: bytes | None = None
    is_replay: bool = False
    is_claimed: bool = field(default=False)

    async def claim(self, result: dict[str, Any], *, lease_s: float = 0) -> dict[str, Any] | None:
        """Take the key inside the caller's transaction: None when the call is new, else the earlier result.

        `result` names what the call makes, so that it can be found again after a crash. A call that spans several
        transactions takes a lease and ends it with `finish`. Errors: KeyReused, InProgress.
        """
        return (await claim_many([(self, result)], lease_s=lease_s))[0]

    async def find(self) -> dict[str, Any] | None:
        """The result of an earlier call, without taking the key: for calls that would be refused by what it did.

        Errors: KeyReused, InProgress.
        """
        row = await db.row(_FIND, self.scope, self.key)
        return None if row is None else self._earlier(row)

    def _earlier(self, row: db.Record) -> dict[str, Any]:
        if row["request_hash"] is None:
            raise InProgress(retryAfter=1)
        if row["request_hash"] != self.request_hash:
            raise KeyReused()
        if row["is_leased"]:
            raise InProgress(retryAfter=1)
        self.is_replay = True
        if row["response"] is not None and row["response_for"] == self.answer_hash:
            self.response = vault.unseal(self._context, row["response"])
        return dict(row["result_json"])

    async def _taken(self) -> None:
        # Only now: what a refused call said must never be kept for a later one that takes the key.
        self.is_claimed = True

    def step(self, name: str) -> Once:
        """The key of one step of a call that makes several things, each found again by itself."""
        return Once(f"{self.scope}/{name}", self.key, self.request_hash)

    def goes_on(self) -> None:
        """This call went on where an earlier one under its key had stopped: what it answers is new, and kept."""
        self.is_replay, self.is_claimed, self.response = False, True, None

    def stays_open(self) -> None:
        """This call has stopped half-way: nothing of its answer is kept, the next one under its key goes on."""
        self.is_replay, self.is_claimed, self.response = False, False, None

    async def amend(self, result: dict[str, Any]) -> None:
        """Replace the `result` of this call by one that tells more, before its transaction commits."""
        assert db.in_transaction(), "the result commits with the effect"
        await db.execute(
            "UPDATE idempotency SET result_json = $3 WHERE scope = $1 AND key = $2",
            self.scope,
            self.key,
            result,
        )

    async def finish(self) -> None:
        """End the lease of a call that spanned several transactions."""
        await finish_many([self])

    def remember(self, response: bytes) -> None:
        """Keep the exact bytes of the answer, sealed; written soon after, in sets, outside the effect's transaction.

        Losing them in a crash loses nothing: the answer is then rebuilt from `result`.
        """
        if self.is_claimed and len(_waiting) < WAITING_MAX:
            _waiting.append((self, response))
            _wake.set()

    @property
    def _context(self) -> str:
        return f"idempotency:{self.scope}:{self.key}"


_CLAIM = """
WITH asked AS MATERIALIZED (
    SELECT place, scope, key, request_hash, result_json,
        pg_try_advisory_xact_lock(hashtextextended(scope || '|' || key, 0)) AS is_locked
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::jsonb[])
        WITH ORDINALITY AS t(scope, key, request_hash, result_json, place)
), fresh AS (
    INSERT INTO idempotency (scope, key, request_hash, result_json, lease_until)
    SELECT scope, key, request_hash, result_json,
        CASE WHEN $5::float8 > 0 THEN clock_timestamp() + make_interval(secs => $5) END
    FROM asked WHERE is_locked ON CONFLICT DO NOTHING RETURNING scope, key)
SELECT a.is_locked, f.key IS NOT NULL AS is_new, i.request_hash, i.result_json, i.response,
    i.response_for, coalesce(i.lease_until > clock_timestamp(), false) AS is_leased
FROM asked a LEFT JOIN fresh f USING (scope, key) LEFT JOIN idempotency i USING (scope, key)
ORDER BY a.place
"""


async def claim_many(
    asked: Sequence[tuple[Once, dict[str, Any]]], *, lease_s: float = 0
) -> list[dict[str, Any] | None]:
    """`Once.claim` for many calls in one statement: per call None when it is new, else the earlier result.

    Errors: KeyReused, InProgress (two calls of one set that share a key as well: they go one after the other).
    """
    assert db.in_transaction(), "the key commits with the effect"
    if len({(once.scope, once.key) for once, _ in asked}) < len(asked):
        raise InProgress(retryAfter=1)
    rows = await db.fetch(
        _CLAIM,
        [once.scope for once, _ in asked],
        [once.key for once, _ in asked],
        [once.request_hash for once, _ in asked],
        [result for _, result in asked],
        float(lease_s),
    )
    earlier: list[dict[str, Any] | None] = []
    for (once, _), row in zip(asked, rows, strict=True):
        if not row["is_locked"]:
            raise InProgress(retryAfter=1)
        if row["is_new"]:
            db.after_commit(once._taken)
        earlier.append(None if row["is_new"] else once._earlier(row))
    return earlier


async def finish_many(onces: Sequence[Once]) -> None:
    """End the leases of calls that spanned several transactions."""
    await db.execute(
        "UPDATE idempotency i SET lease_until = NULL FROM unnest($1::text[], $2::text[]) AS a(scope, key)"
        " WHERE i.scope = a.scope AND i.key = a.key",
        [once.scope for once in onces],
        [once.key for once in onces],
    )


_FIND = """
SELECT request_hash, result_json, response, response_for,
    coalesce(lease_until > clock_timestamp(), false) AS is_leased FROM idempotency WHERE scope = $1 AND key = $2
"""

_waiting: list[tuple[Once, bytes]] = []
_wake = asyncio.Event()


async def flush() -> int:
    """Write the answers that wait; the number written."""
    batch = _waiting[:FLUSH_MAX]
    del _waiting[: len(batch)]
    if not batch:
        return 0
    sealed = [vault.seal(once._context, response) for once, response in batch]
    await db.execute(
        "UPDATE idempotency i SET response = a.response, response_for = a.answer_hash"
        " FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[]) AS a(scope, key, response, answer_hash)"
        " WHERE i.scope = a.scope AND i.key = a.key",
        [once.scope for once, _ in batch],
        [once.key for once, _ in batch],
        sealed,
        [once.answer_hash for once, _ in batch],
    )
    return len(batch)


async def keep_flushing() -> None:
    """Write waiting answers for ever; one task of every API process."""
    while True:
        await _wake.wait()
        _wake.clear()
        await asyncio.sleep(FLUSH_EVERY_S)
        try:
            while await flush():
                pass
        except (DomainError, asyncpg.PostgresError, *db.LOST) as error:
            _log.warning("once.not_stored", error=type(error).__name__)


async def prune() -> int:
    """Forget keys older than thirty days."""
    return await db.execute(
        "DELETE FROM idempotency WHERE created_at < clock_timestamp() - make_interval(days => $1)",
        KEEP_DAYS,
    )
