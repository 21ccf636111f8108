"""What the books say: balances now and as of a time, statements with a running balance.

Only posted money counts here; an open hold lowers `available`. Sums over the rows of a shared
account.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from domain.core import db
from domain.core.money import Money
from domain.ledger import book
from domain.ledger.models import Entry, Statement
from domain.ledger.rules import AccountKey, Balance

PAGE_MAX = 500

_SUMS = """
    sum(b.debits_pending)::bigint AS debits_pending, sum(b.debits_posted)::bigint AS debits_posted,
    sum(b.credits_pending)::bigint AS credits_pending,
    sum(b.credits_posted)::bigint AS credits_posted,
    min(b.floor_minor) AS floor_minor, min(b.ceiling_minor) AS ceiling_minor,
    sum(b.version)::bigint AS version
"""


async def balance(account: AccountKey) -> Balance:
    """The account now, all its rows together (minor units); zeros when it was never used."""
    numbers = await book.find([account])
    no = numbers.get(account)
    row = await db.row(f"SELECT {_SUMS} FROM ledger_balance b WHERE b.account_no = $1", no)
    if no is None or row is None or row["version"] is None:
        return Balance(0)
    return Balance(no, 0, *row)


async def available(account: AccountKey) -> int:
    """What may still leave the account now (minor units): posted minus open holds. A hint; `post`
    decides.
    """
    return (await balance(account)).available


async def balances(owner_id: UUID) -> dict[AccountKey, Balance]:
    """Every account of one owner, in one statement."""
    rows = await db.fetch(
        f"SELECT a.no, a.purpose, a.sub, a.ccy, {_SUMS}"
        " FROM ledger_account a JOIN ledger_balance b ON b.account_no = a.no"
        " WHERE a.owner_id = $1 GROUP BY a.no ORDER BY a.purpose, a.ccy, a.sub",
        owner_id,
    )
    return {
        AccountKey(row["purpose"], owner_id, row["sub"], row["ccy"]): Balance(
            row["no"], 0, *(row[4:])
        )
        for row in rows
    }


# Now minus what took effect later. An entry never takes effect after it is recorded, so only the
# days since then are read; one day more, in case the database clock was set back.
_AS_OF = """
SELECT (SELECT coalesce(sum(credits_posted - debits_posted), 0)
        FROM ledger_balance WHERE account_no = $1)
    - (SELECT coalesce(sum(CASE side WHEN 'credit' THEN amount_minor ELSE -amount_minor END), 0)
       FROM ledger_entry WHERE account_no = $1 AND phase IN ('posted', 'post') AND effective_at > $2
           AND recorded_on >= ($2 AT TIME ZONE 'UTC')::date - 1)
"""


async def as_of(account: AccountKey, at: datetime) -> Money:
    """The posted balance with everything that took effect at or before `at`, whenever it was
    recorded.
    """
    numbers = await book.find([account])
    minor = await db.value(_AS_OF, numbers.get(account), at)
    return Money(int(minor), account.ccy)


# Totals of the last snapshot before the day, then the entries recorded since.
_OPENING = """
WITH day AS (SELECT day_on, credits_posted - debits_posted AS minor FROM ledger_day
             WHERE account_no = $1 AND day_on < $2 ORDER BY day_on DESC LIMIT 1)
SELECT coalesce((SELECT minor FROM day), 0)
    + (SELECT coalesce(sum(amount_minor), 0) FROM ledger_transfer WHERE target_no = $1
           AND phase IN ('posted', 'post') AND recorded_on < $2
           AND recorded_on > coalesce((SELECT day_on FROM day), '-infinity'))
    - (SELECT coalesce(sum(amount_minor), 0) FROM ledger_transfer WHERE source_no = $1
           AND phase IN ('posted', 'post') AND recorded_on < $2
           AND recorded_on > coalesce((SELECT day_on FROM day), '-infinity'))
"""
_SIDE = """
(SELECT no, journal_id, {sign} amount_minor AS minor, {other} AS other_no FROM ledger_transfer
 WHERE {own} = $1 AND no > $4 AND recorded_on BETWEEN $2 AND $3 AND phase IN ('posted', 'post')
 ORDER BY no LIMIT $5)
"""
_ENTRIES = f"""
SELECT e.no, e.journal_id, j.key, j.kind, e.minor, e.other_no, j.effective_at, j.recorded_at
FROM ({_SIDE.format(sign="-", own="source_no", other="target_no")} UNION ALL
      {_SIDE.format(sign="", own="target_no", other="source_no")} ORDER BY no LIMIT $5) AS e
    JOIN ledger_journal j ON j.id = e.journal_id
ORDER BY e.no
"""


async def statement(
    account: AccountKey,
    from_on: date,
    to_on: date,
    *,
    after: Entry | None = None,
    limit: int = PAGE_MAX,
) -> Statement:
    """The posted entries recorded on the UTC days `from_on`…`to_on`, oldest first, with the balance
    after each.

    The next page begins `after` the last entry of this one. For an account of one row no entry can
    appear before a page already read; a shared one is complete once `to_on` is over.
    """
    assert 0 < limit <= PAGE_MAX, limit
    no = (await book.find([account])).get(account)
    if after is None:
        opening = int(await db.value(_OPENING, no, from_on) or 0)
    else:
        opening = after.balance_minor
    rows = await db.fetch(_ENTRIES, no, from_on, to_on, after.no if after else 0, limit + 1)
    return Statement(account, opening, _running(opening, rows[:limit]), has_more=len(rows) > limit)


def _running(opening: int, rows: Sequence[db.Record]) -> list[Entry]:
    entries = []
    minor = opening
    for row in rows:
        minor += row["minor"]
        entries.append(
            Entry(
                row["no"],
                row["journal_id"],
                row["key"],
                row["kind"],
                row["minor"],
                minor,
                row["other_no"],
                row["effective_at"],
                row["recorded_at"],
            )
        )
    return entries
