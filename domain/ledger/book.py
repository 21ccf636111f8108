"""Account numbers: looked up once per process, opened with their zero balances on first use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from domain.core import db
from domain.ledger import rules
from domain.ledger.rules import AccountKey

CACHE_MAX = 200_000


class Facts(NamedTuple):
    """What never changes about a numbered account, as far as a posting needs it."""

    key: AccountKey
    shards: int


_numbers: dict[AccountKey, int] = {}
_facts: dict[int, Facts] = {}
_pool: Any = None


def forget() -> None:
    """Drop what this process remembers; for tests that empty the tables under it."""
    _numbers.clear()
    _facts.clear()


def _refresh() -> None:
    """Numbers belong to one database: another pool, or too many of them, starts afresh."""
    global _pool
    # A pool is only ever exchanged between transactions, and inside one it is not at hand.
    pool = _pool if db.in_transaction() else db.pool()
    if pool is not _pool or len(_facts) > CACHE_MAX:
        forget()
        _pool = pool


async def _remember(rows: Iterable[tuple[int, Facts]]) -> None:
    for no, facts in rows:
        _numbers[facts.key] = no
        _facts[no] = facts


async def _keep(found: dict[int, Facts]) -> None:
    """Remember at once, or after the commit: an account may have been opened by this very
    transaction.
    """
    if db.in_transaction():
        db.after_commit(lambda: _remember(found.items()))
    else:
        await _remember(found.items())


_COLUMNS = "a.no, a.purpose, a.owner_id, a.sub, a.ccy, a.shards"
_KEYS = "unnest($1::text[], $2::uuid[], $3::text[], $4::text[]) AS k(purpose, owner_id, sub, ccy)"
# Two halves, because no index serves IS NOT DISTINCT FROM.
_FIND = f"""
SELECT {_COLUMNS} FROM {_KEYS} JOIN ledger_account a
    ON a.owner_id = k.owner_id AND a.purpose = k.purpose AND a.sub = k.sub AND a.ccy = k.ccy
UNION ALL
SELECT {_COLUMNS} FROM {_KEYS} JOIN ledger_account a
    ON a.owner_id IS NULL AND a.purpose = k.purpose AND a.sub = k.sub AND a.ccy = k.ccy
WHERE k.owner_id IS NULL
"""
_OPEN = """
WITH made AS (
    INSERT INTO ledger_account (purpose, owner_id, sub, ccy, owner_kind, normal, shards)
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[],
        $5::text[], $6::text[], $7::smallint[])
    ON CONFLICT DO NOTHING RETURNING no, purpose, shards)
INSERT INTO ledger_balance (account_no, shard, floor_minor, ceiling_minor)
SELECT made.no, shard, l.floor_minor, l.ceiling_minor
FROM made JOIN unnest($8::text[], $9::bigint[], $10::bigint[])
        AS l(purpose, floor_minor, ceiling_minor) USING (purpose),
    generate_series(0, made.shards - 1) AS shard
"""


def _row_facts(row: db.Record) -> Facts:
    return Facts(AccountKey(row["purpose"], row["owner_id"], row["sub"], row["ccy"]), row["shards"])


def _columns(keys: list[AccountKey]) -> tuple[list[str], list[UUID | None], list[str], list[str]]:
    return (
        [key.purpose for key in keys],
        [key.owner_id for key in keys],
        [key.sub for key in keys],
        [key.ccy for key in keys],
    )


async def find(keys: Iterable[AccountKey]) -> dict[AccountKey, int]:
    """The numbers of the accounts that exist; nothing is opened."""
    _refresh()
    wanted = dict.fromkeys(keys)
    missing = [key for key in wanted if key not in _numbers]
    found = {key: _numbers[key] for key in wanted if key in _numbers}
    if missing:
        rows = {row["no"]: _row_facts(row) for row in await db.fetch(_FIND, *_columns(missing))}
        await _keep(rows)
        found.update((facts.key, no) for no, facts in rows.items())
    return found


async def accounts(keys: Iterable[AccountKey]) -> dict[AccountKey, int]:
    """The number of each account; one that does not exist yet is opened with zero balances.

    Inside a transaction the opening belongs to it, so nothing is remembered until it commits.
    Errors: AccountInvalid.
    """
    wanted = dict.fromkeys(keys)
    found = await find(wanted)
    if len(found) == len(wanted):
        return found
    # Sorted, so that two who open the same accounts wait for each other in one order.
    missing = sorted((key for key in wanted if key not in found), key=_order)
    purposes = {key.purpose: rules.purpose(key) for key in missing}
    await db.execute(
        _OPEN,
        *_columns(missing),
        [rules.owner_kind(key) for key in missing],
        [purposes[key.purpose].normal for key in missing],
        [purposes[key.purpose].shards for key in missing],
        list(purposes),
        [purpose.floor_minor for purpose in purposes.values()],
        [purpose.ceiling_minor for purpose in purposes.values()],
    )
    found.update(await find(missing))
    assert len(found) == len(wanted), "an account was opened and is not there"
    return found


def _order(key: AccountKey) -> tuple[str, int, str, str]:
    return key.purpose, key.owner_id.int if key.owner_id else 0, key.sub, key.ccy


async def facts(nos: Iterable[int]) -> dict[int, Facts]:
    """Key and shards of numbered accounts; a number that does not exist is left out."""
    _refresh()
    wanted = set(nos)
    found = {no: _facts[no] for no in wanted if no in _facts}
    missing = [no for no in wanted if no not in found]
    if missing:
        rows = await db.fetch(
            f"SELECT {_COLUMNS} FROM ledger_account a WHERE a.no = ANY($1)", missing
        )
        read = {row["no"]: _row_facts(row) for row in rows}
        await _keep(read)
        found.update(read)
    return found
