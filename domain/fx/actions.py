"""Writes of rates and quotes: store what a feed says, lock a rate, consume each lock once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import structlog

from domain.core import clock, db, ids
from domain.core.money import CURRENCIES, UnsupportedCurrency
from domain.core.settings import settings
from domain.fx import queries, rules
from domain.fx.models import Consumed, Quote, QuoteState, Refreshed
from domain.fx.ports import Feed, feeds
from domain.fx.rules import BY_HAND, LOCK_MIN_S, LOCK_S, Rate, RateState

# Money may come after the lock: the quote of a late capture is judged by the time of the capture.
EXPIRE_AFTER = timedelta(days=1)

_LOCK = 0x66785F72  # two workers that refresh together do it one after the other
_log = structlog.get_logger(__name__)


async def refresh(feed: Feed | None = None) -> Refreshed:
    """Ask the feed (the configured one by default) and store what changed; may run twice.

    A rate that jumped by more than `fx_jump_bps` is stored as suspect and logged as an error: its
    pair gives no quotes until the feed comes back into range or a person calls `accept`. Existing
    quotes hold. Errors: FeedFailed, nothing is stored then.
    """
    assert not db.in_transaction(), "the feed is asked outside a transaction"
    source = feed or feeds[settings().fx_feed]
    published = await source.fetch()
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        newest, live, _ = await queries.stored()
        rows = rules.sift(published, newest, live, settings().fx_jump_bps)
        await _store(rows)
    for rate in rows:
        if rate.state is RateState.SUSPECT:
            was = live[rate.from_ccy, rate.to_ccy].value
            pair = f"{rate.from_ccy}/{rate.to_ccy}"
            _log.error("fx.rate_jumped", pair=pair, was=str(was), now=str(rate.value))
    return Refreshed(
        published.provider,
        published.taken_at,
        tuple(rate.to_ccy for rate in rows if rate.state is RateState.LIVE),
        tuple(rate.to_ccy for rate in rows if rate.state is RateState.SUSPECT),
    )


async def keep_current() -> None:
    """Refresh, and raise the alarm while a rate cannot be used: the entry of the timetable.

    Errors: FeedFailed, after the alarm.
    """
    try:
        await refresh()
    finally:
        state = await queries.health()
        if not state.is_good:
            stale, suspect = list(state.stale), list(state.suspect)
            _log.error("fx.rates_unusable", taken_at=state.taken_at, stale=stale, suspect=suspect)


async def set_rate(
    from_ccy: str, to_ccy: str, rate: Decimal, *, by: UUID, stale_at: datetime | None = None
) -> None:
    """A person sets a reference rate; no jump is too far for a person.

    It holds until the feed brings a newer one for the same pair. Errors: UnsupportedCurrency.
    """
    assert from_ccy != to_ccy, from_ccy
    assert 0 < rate < Decimal("1e12"), rate
    for currency in (from_ccy, to_ccy):
        if currency not in CURRENCIES:
            raise UnsupportedCurrency(currency=currency)
    rules.whole(rate)  # at most 12 digits
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await _store([Rate(from_ccy, to_ccy, rate, BY_HAND, clock.now(), stale_at)], by=by)


async def accept(from_ccy: str, to_ccy: str, *, by: UUID) -> bool:
    """A person lets a jump stand; false when the newest rate of the pair is not suspect."""
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        newest, _, _ = await queries.stored()
        rate = newest.get((from_ccy, to_ccy))
        if rate is None or rate.state is not RateState.SUSPECT:
            return False
        live = Rate(from_ccy, to_ccy, rate.value, rate.provider, rate.taken_at, rate.stale_at)
        await _store([live], by=by)
        return True


async def _store(rows: Sequence[Rate], *, by: UUID | None = None) -> None:
    if not rows:
        return
    await db.execute(
        "INSERT INTO fx_rate"
        " (from_ccy, to_ccy, reference_rate, provider, taken_at, stale_at, state, set_by)"
        " SELECT *, $8 FROM unnest($1::text[], $2::text[], $3::numeric[], $4::text[],"
        " $5::timestamptz[], $6::timestamptz[], $7::text[])",
        [rate.from_ccy for rate in rows],
        [rate.to_ccy for rate in rows],
        [rate.value for rate in rows],
        [rate.provider for rate in rows],
        [rate.taken_at for rate in rows],
        [rate.stale_at for rate in rows],
        [rate.state for rate in rows],
        by,
    )
    db.after_commit(_reload)


async def _reload() -> None:
    await queries.load()


async def quote(base: str, target: str, *, lock_s: int = LOCK_S) -> Quote:
    """Lock the rate at which prices in `base` are paid in `target`, in the caller's transaction.

    One INSERT; the rate comes from the process's table. `lock_s` is at least ten minutes. Errors:
    RateUnavailable (stale, jumped or missing), UnsupportedCurrency.
    """
    assert lock_s >= LOCK_MIN_S, lock_s
    return await _lock(target, base, None, lock_s)


async def exchange(from_ccy: str, to_ccy: str, from_minor: int, *, lock_s: int = LOCK_S) -> Quote:
    """Lock an exchange of a known amount: `from_minor` in, `to_minor` out, the spread kept.

    Errors: as `quote`.
    """
    assert from_minor > 0, from_minor
    return await _lock(from_ccy, to_ccy, from_minor, lock_s)


async def _lock(from_ccy: str, to_ccy: str, from_minor: int | None, lock_s: int) -> Quote:
    assert db.in_transaction(), "a quote commits with what it was made for"
    table = await queries.rates()
    now = clock.now()
    found = table.reference(from_ccy, to_ccy, now)
    terms = rules.terms(from_ccy, to_ccy, found.value, settings().fx_spread_bps)
    made = Quote(
        id=ids.uuid7(),
        terms=terms,
        source=found.source,
        lock_kind=rules.lock_kind(lock_s),
        expires_at=now + timedelta(seconds=lock_s),
        state=QuoteState.ACTIVE,
        from_minor=from_minor,
        to_minor=None if from_minor is None else terms.exchange(from_minor).to_minor,
    )
    await db.execute(
        "INSERT INTO fx_quote (id, from_ccy, to_ccy, from_minor, to_minor, reference_rate, fee_bps,"
        " exchange_rate, source, lock_kind, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        made.id,
        from_ccy,
        to_ccy,
        made.from_minor,
        made.to_minor,
        terms.reference_rate,
        terms.fee_bps,
        terms.exchange_rate,
        made.source,
        made.lock_kind,
        made.expires_at,
    )
    return made


# Rows are locked in the order of their ids; `was` shows each row as it is under the lock.
_CONSUME = """
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS a(id, consumer, at)),
was AS MATERIALIZED (
    SELECT q.id, q.state, q.expires_at, q.consumed_by FROM fx_quote q
    WHERE q.id IN (SELECT id FROM asked) ORDER BY q.id FOR NO KEY UPDATE),
done AS (
    UPDATE fx_quote q SET state = CASE WHEN q.expires_at > a.at THEN 'consumed' ELSE 'expired' END,
        consumed_by = CASE WHEN q.expires_at > a.at THEN a.consumer END
    FROM was JOIN asked a ON a.id = was.id
    WHERE q.id = was.id AND q.state = 'active' RETURNING q.id, q.state)
SELECT a.id, coalesce(done.state, was.state) AS state, done.id IS NOT NULL AS is_now,
    coalesce(was.consumed_by = a.consumer, false) AS is_ours
FROM asked a LEFT JOIN was ON was.id = a.id LEFT JOIN done ON done.id = a.id
"""


async def consume(
    quote_ids: Sequence[UUID],
    consumers: Sequence[UUID] | None = None,
    *,
    at: Sequence[datetime] | None = None,
) -> Consumed:
    """Consume quotes once each, in the transaction that posts them; one statement for any number.

    Shape: `consumers[i]` (a journal's id) takes `quote_ids[i]`; the same consumer may ask again and
    gets the same answer, and no consumer takes two quotes. `at[i]` is when the money came (now by
    default): a quote that had run out by then becomes expired and is reported, not consumed.
    """
    assert db.in_transaction(), "a quote is consumed in the transaction that posts it"
    assert len(set(quote_ids)) == len(quote_ids), "a quote is asked for once"
    assert consumers is None or len(consumers) == len(quote_ids)
    now = clock.now()
    rows = await db.fetch(
        _CONSUME,
        list(quote_ids),
        list(consumers) if consumers is not None else [None] * len(quote_ids),
        list(at) if at is not None else [now] * len(quote_ids),
    )
    done = {
        row["id"]
        for row in rows
        if row["state"] == "consumed" and (row["is_now"] or row["is_ours"])
    }
    expired = {row["id"] for row in rows if row["state"] == "expired"}
    return Consumed(
        frozenset(done),
        frozenset(expired),
        frozenset(quote_ids) - frozenset(done) - frozenset(expired),
    )


async def expire_due(*, limit: int = 1_000) -> int:
    """Close quotes that ran out a day ago and were never used; the number closed."""
    return await db.execute(
        "WITH due AS MATERIALIZED ("
        " SELECT id FROM fx_quote WHERE state = 'active' AND expires_at < $1"
        " ORDER BY expires_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)"
        " UPDATE fx_quote q SET state = 'expired' FROM due WHERE q.id = due.id",
        clock.now() - EXPIRE_AFTER,
        limit,
    )
