"""Budgets of tries: counted before anything is looked at, so that parallel tries cannot share one count."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from domain.core import db
from domain.identity import rules
from domain.identity.rules import Budget, SignInThrottled, TooManyTries

_COUNT = """
INSERT INTO sign_in_try AS t (key_hash, tries, resets_at)
SELECT key, 1, clock_timestamp() + make_interval(secs => window_s)
    FROM unnest($1::bytea[], $2::float8[]) AS k(key, window_s) ORDER BY key
ON CONFLICT (key_hash) DO UPDATE SET
    tries = CASE WHEN t.resets_at <= clock_timestamp() THEN 1 ELSE t.tries + 1 END,
    resets_at = CASE WHEN t.resets_at <= clock_timestamp() THEN EXCLUDED.resets_at ELSE
        t.resets_at END
RETURNING key_hash, tries, ceil(extract(epoch FROM resets_at - clock_timestamp()))::int AS wait_s
"""


async def count(budgets: Sequence[Budget], refusal: type[TooManyTries] = SignInThrottled) -> None:
    """Take one try out of each budget; a refused one is taken too.

    Errors: `refusal` with `retry_after` in seconds; Unavailable when the database is away, so nobody gets in
    uncounted.
    """
    rows = await db.fetch(
        _COUNT, [one.key for one in budgets], [float(one.window_s) for one in budgets]
    )
    most = {one.key: one.most for one in budgets}
    waits = [row["wait_s"] for row in rows if row["tries"] > most[row["key_hash"]]]
    if waits:
        raise refusal(retry_after=max(1, *waits))


async def try_device_code(account_id: UUID) -> None:
    """Count a code of a device that somebody enters. Errors: TooManyTries, Unavailable."""
    await count(rules.device_budgets(account_id), TooManyTries)


async def clear(budgets: Sequence[Budget]) -> None:
    """A success is no failure: the first budget is as new, the others get this try back."""
    await db.execute(
        "UPDATE sign_in_try SET tries = CASE WHEN key_hash = $1 THEN 0 ELSE greatest(tries - 1, 0) END"
        " WHERE key_hash = ANY($2)",
        budgets[0].key,
        [one.key for one in budgets],
    )
