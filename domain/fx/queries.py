"""Reads of rates and quotes; a table of rates is kept in the process, at most seconds old."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import structlog

from domain.core import clock, db
from domain.core.errors import Unavailable
from domain.core.money import CURRENCIES, Money
from domain.core.settings import settings
from domain.fx import rules
from domain.fx.models import Health, Quote, QuoteState
from domain.fx.rules import Rate, RateState, Table

TABLE_TTL_S = 3.0

_log = structlog.get_logger(__name__)
_table = Table(())
_checked_at: float | None = None

_RATE_COLUMNS = "no, from_ccy, to_ccy, reference_rate, provider, taken_at, stale_at, state"
_NEWEST = f"""
SELECT DISTINCT ON (from_ccy, to_ccy, state) {_RATE_COLUMNS}
FROM fx_rate ORDER BY from_ccy, to_ccy, state, no DESC
"""


async def rates() -> Table:
    """The rates in force, at most three seconds old; a small statement when it is time to look."""
    global _checked_at
    now = clock.monotonic()
    if _checked_at is None:
        await load()
    elif now - _checked_at > TABLE_TTL_S:
        _checked_at = now  # others go on with the table they have while this task looks
        if await db.value("SELECT coalesce(max(no), 0) FROM fx_rate") != _table.newest_no:
            await load()
    return _table


async def load() -> Table:
    """Read the rates now; every process that prices or assesses does it once when it starts."""
    global _table, _checked_at
    newest, _, newest_no = await stored()
    _table, _checked_at = Table(newest.values(), newest_no), clock.monotonic()
    return _table


async def keep_fresh() -> None:
    """Renew the table for ever, so that what reads it without waiting is not behind."""
    while True:
        await asyncio.sleep(TABLE_TTL_S)
        try:
            await rates()
        except (Unavailable, asyncpg.PostgresError, *db.LOST) as error:
            _log.warning("fx.table_not_renewed", error=type(error).__name__)


def forget() -> None:
    """Drop the table: the next look reads it again."""
    global _table, _checked_at
    _table, _checked_at = Table(()), None


async def stored() -> tuple[dict[tuple[str, str], Rate], dict[tuple[str, str], Rate], int]:
    """Newest row and newest live row of each pair, and the number of the newest row of all."""
    newest: dict[tuple[str, str], Rate] = {}
    live: dict[tuple[str, str], Rate] = {}
    numbers: dict[tuple[str, str], int] = {}
    for row in await db.fetch(_NEWEST):
        rate = Rate(
            row["from_ccy"],
            row["to_ccy"],
            row["reference_rate"],
            row["provider"],
            row["taken_at"],
            row["stale_at"],
            RateState(row["state"]),
        )
        pair = (rate.from_ccy, rate.to_ccy)
        if row["no"] > numbers.get(pair, 0):
            newest[pair], numbers[pair] = rate, row["no"]
        if rate.state is RateState.LIVE:
            live[pair] = rate
    return newest, live, max(numbers.values(), default=0)


def reference_minor(amount: Money, currency: str) -> int:
    """About what `amount` is worth in minor units of `currency`, by the last known rates.

    To weigh risk by, never to charge by; does not wait. Errors: RateUnavailable before the first
    `load`, UnsupportedCurrency.
    """
    if amount.currency == currency:
        return amount.minor
    found = _table.last_known(amount.currency, currency)
    return rules.terms(amount.currency, currency, found.value, 0).exchange(amount.minor).to_minor


def payable() -> frozenset[str]:
    """The currencies a price can be shown in now; does not wait.

    All that can be booked while nothing can be converted: list prices are shown as they are.
    """
    found = _table.usable(clock.now())
    return found if len(found) > 1 else CURRENCIES


async def convert_price(minor: int, base: str, target: str) -> int:
    """A price in minor units of `base` as a buyer who pays `target` sees it, spread included.

    The same rate, spread and rounding as a quote made now, so that shelf and till agree.
    Errors: RateUnavailable, UnsupportedCurrency.
    """
    return minor if base == target else (await offer(base, target)).price(minor)


async def offer(base: str, target: str) -> rules.Terms:
    """The terms at which a price in `base` is paid in `target` now, not locked. Errors: above."""
    table = await rates()
    found = table.reference(target, base, clock.now())
    return rules.terms(target, base, found.value, settings().fx_spread_bps)


_QUOTE_COLUMNS = """
    id, from_ccy, to_ccy, from_minor, to_minor, reference_rate, fee_bps, exchange_rate, source,
    lock_kind, expires_at, state, consumed_by
"""


async def find(quote_id: UUID) -> Quote | None:
    """One quote, None when there is none."""
    return (await find_many([quote_id]))[0]


async def find_many(quote_ids: Sequence[UUID]) -> list[Quote | None]:
    """Quotes in the order of their ids, None where there is none; one statement."""
    rows = await db.fetch(
        f"SELECT {_QUOTE_COLUMNS} FROM fx_quote WHERE id = ANY($1)", list(quote_ids)
    )
    found = {row["id"]: as_quote(row) for row in rows}
    return [found.get(quote_id) for quote_id in quote_ids]


def as_quote(row: db.Record) -> Quote:
    """A row of `fx_quote`."""
    return Quote(
        id=row["id"],
        terms=rules.Terms(
            row["from_ccy"],
            row["to_ccy"],
            row["reference_rate"],
            row["fee_bps"],
            row["exchange_rate"],
        ),
        source=row["source"],
        lock_kind=row["lock_kind"],
        expires_at=row["expires_at"],
        state=QuoteState(row["state"]),
        from_minor=row["from_minor"],
        to_minor=row["to_minor"],
        consumed_by=row["consumed_by"],
    )


async def are_locked(quote_ids: Sequence[UUID]) -> bool:
    """Whether a charge may still start at each of these rates."""
    good = await db.value(
        "SELECT count(*) FROM fx_quote WHERE id = ANY($1) AND state = 'active' AND expires_at > $2",
        list(set(quote_ids)),
        clock.now(),
    )
    return bool(good == len(set(quote_ids)))


async def health(at: datetime | None = None) -> Health:
    """How the rates stand, read from the database: for `doctor`, metrics and alerts."""
    newest, _, newest_no = await stored()
    now = at or clock.now()
    return Health(
        newest_no=newest_no,
        taken_at=max((rate.taken_at for rate in newest.values()), default=None),
        stale=tuple(
            sorted("/".join(pair) for pair, rate in newest.items() if _is_stale(rate, now))
        ),
        suspect=tuple(
            sorted(
                "/".join(pair) for pair, rate in newest.items() if rate.state is RateState.SUSPECT
            )
        ),
    )


def _is_stale(rate: Rate, now: datetime) -> bool:
    return rate.stale_at is not None and now >= rate.stale_at
