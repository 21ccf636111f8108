"""The set form of posting: N journals in a handful of statements, all inside the caller's
transaction.

Order: `open_many` → `lock` → decide → `write`, or, when the keys are the caller's alone,
`lock_now` → decide → `open_new` → `write`. An error of `write` comes after rows were written:
roll the whole transaction back. Balances move under their row locks only, and those are taken in
sorted order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NoReturn
from uuid import UUID

import asyncpg

from domain.core import bulk, db, ids
from domain.ledger import book, rules
from domain.ledger.models import JournalDraft, Opened, TransferLines
from domain.ledger.rules import (
    AccountClosed,
    Balance,
    Change,
    CurrencyMismatch,
    KeyReused,
    Leg,
)

Row = tuple[int, int]  # account_no, shard

# An `effective_at` ahead of the database clock is cut to it: books may be back-dated, never
# post-dated.
_OPEN = """
INSERT INTO ledger_journal
    (id, key, input_hash, kind, effective_at, recorded_at, correlation_id, reverses_id, batch_id, chain)
SELECT t.id, t.key, t.input_hash, t.kind, least(coalesce(t.effective_at, now.at), now.at), now.at,
    t.correlation_id, t.reverses_id, $8, $9
FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::timestamptz[],
        $6::uuid[], $7::uuid[])
    AS t(id, key, input_hash, kind, effective_at, correlation_id, reverses_id),
    (SELECT clock_timestamp() AS at OFFSET 0) AS now
ON CONFLICT (key) DO NOTHING
"""


async def open_many(drafts: Sequence[JournalDraft], *, chain: int = 0) -> Opened:
    """Take the keys of `drafts` in one statement; a key posts once, whoever else tries.

    Waits for a rival transaction that holds one of the keys. Only `new` journals may and must be
    written: a journal without transfers is a fault (`check`), so a draft that drops out later means
    a rollback.
    """
    assert db.in_transaction(), "journals commit with their transfers"
    # Sorted: two sets that share keys wait for each other in one order.
    drafts = sorted(drafts, key=lambda draft: draft.key)
    touched = await db.execute(
        _OPEN,
        [draft.id for draft in drafts],
        [draft.key for draft in drafts],
        [draft.input_hash for draft in drafts],
        [draft.kind for draft in drafts],
        [draft.effective_at for draft in drafts],
        [draft.correlation_id for draft in drafts],
        [draft.reverses_id for draft in drafts],
        ids.uuid7() if len(drafts) > 1 else None,
        chain,
    )
    opened = Opened({draft.id for draft in drafts}, set(), set(), {})
    if touched == len(drafts):
        return opened
    rows = await db.fetch(
        "SELECT id, key, input_hash FROM ledger_journal WHERE key = ANY($1)",
        [draft.key for draft in drafts],
    )
    stored = {row["key"]: row for row in rows}
    for draft in drafts:
        row = stored[draft.key]
        if row["id"] == draft.id:
            continue
        opened.new.discard(draft.id)
        same = row["input_hash"] == draft.input_hash
        (opened.done if same else opened.reused).add(draft.key)
        opened.found[draft.key] = row["id"]
    assert len(opened.new) == touched, "a key is neither ours nor anybody's"
    return opened


_JOURNAL = (
    "id",
    "key",
    "input_hash",
    "kind",
    "effective_at",
    "correlation_id",
    "reverses_id",
    "recorded_at",
    "batch_id",
)


async def open_new(drafts: Sequence[JournalDraft], at: datetime) -> None:
    """`open_many` for keys that are the caller's alone, such as those of locked captures: a taken one is an error.

    `at` is the time of `lock_now`; an `effective_at` ahead of it is cut to it. Errors: KeyReused (roll back).
    """
    assert db.in_transaction(), "journals commit with their transfers"
    batch_id = ids.uuid7() if len(drafts) > 1 else None
    rows = [
        (
            draft.id,
            draft.key,
            draft.input_hash,
            draft.kind,
            min(draft.effective_at or at, at),
            draft.correlation_id,
            draft.reverses_id,
            at,
            batch_id,
        )
        for draft in drafts
    ]
    try:
        await bulk.append("ledger_journal", _JOURNAL, rows)
    except asyncpg.UniqueViolationError as error:
        raise KeyReused(keys=[draft.key for draft in drafts], reason=error.detail) from error


_COUNTERS = (
    "account_no, shard, debits_pending, debits_posted, credits_pending, credits_posted,"
    " floor_minor, ceiling_minor, version"
)
_LOCK = f"""
SELECT {_COUNTERS}, clock_timestamp() AS at FROM ledger_balance
WHERE (account_no, shard) IN (SELECT * FROM unnest($1::bigint[], $2::smallint[]))
ORDER BY account_no, shard FOR NO KEY UPDATE
"""
_ZERO = """
INSERT INTO ledger_balance (account_no, shard)
SELECT no, shard FROM unnest($1::bigint[], $2::smallint[]) AS t(no, shard)
    JOIN ledger_account a USING (no)
WHERE shard > 0 AND shard < a.shards ORDER BY no, shard ON CONFLICT DO NOTHING
"""


async def lock(account_nos: Collection[int], lane: int = 0) -> dict[int, Balance]:
    """The balance row of each account that this lane writes, locked in sorted order until commit.

    A shared account gives the row of the lane, any other its only row.
    """
    return (await lock_now(account_nos, lane))[0]


async def lock_now(
    account_nos: Collection[int], lane: int = 0
) -> tuple[dict[int, Balance], datetime]:
    """`lock`, and the time of the database once the rows are held."""
    known = await book.facts(account_nos)
    assert len(known) == len(set(account_nos)), "an account number that does not exist"
    found = await _lock([(no, lane % known[no].shards) for no in known])
    balances = {row[0]: Balance(*row[:-1]) for row in found}
    return balances, max(row["at"] for row in found)


async def lock_rows(rows: Iterable[Row]) -> dict[Row, Balance]:
    """`lock` for exact (account_no, shard) rows."""
    return {(row[0], row[1]): Balance(*row[:-1]) for row in await _lock(rows)}


async def _lock(rows: Iterable[Row]) -> list[db.Record]:
    assert db.in_transaction(), "a lock without a transaction is none"
    wanted = sorted(set(rows))
    nos, shards = [row[0] for row in wanted], [row[1] for row in wanted]
    found = await db.fetch(_LOCK, nos, shards)
    if len(found) < len(wanted):
        # Accounts are opened with all their rows; only a raised number of shards comes here.
        await db.execute(_ZERO, nos, shards)
        found = await db.fetch(_LOCK, nos, shards)
    assert len(found) == len(wanted), f"balance rows are missing: {len(found)} of {len(wanted)}"
    return found


_LINE = (
    "journal_id",
    "line_no",
    "source_no",
    "target_no",
    "source_shard",
    "target_shard",
    "amount_minor",
    "ccy",
)


async def write(lines: TransferLines, *, lane: int = 0) -> None:
    """Write posted transfers of opened journals and move their balances: two statements for any
    number.

    The rows of `lock` must be held. Net per row, version + 1. Errors, each a reason to roll back:
    InsufficientFunds, CeilingExceeded, CurrencyMismatch, AccountClosed.
    """
    if not lines.amounts_minor:
        return
    ccys = _currencies(lines)
    known = await book.facts(ccys)
    shard = {no: lane % known[no].shards for no in ccys}
    await bulk.append(
        "ledger_transfer",
        _LINE,
        list(
            zip(
                lines.journal_ids,
                lines.line_nos,
                lines.source_nos,
                lines.target_nos,
                map(shard.__getitem__, lines.source_nos),
                map(shard.__getitem__, lines.target_nos),
                lines.amounts_minor,
                lines.ccys,
                strict=True,
            )
        ),
    )
    debits = dict.fromkeys(ccys, 0)
    credits = dict.fromkeys(ccys, 0)
    for source, target, minor in zip(
        lines.source_nos, lines.target_nos, lines.amounts_minor, strict=True
    ):
        debits[source] += minor
        credits[target] += minor
    await move(
        {
            (no, shard[no]): Change(ccy, debits_posted=debits[no], credits_posted=credits[no])
            for no, ccy in ccys.items()
        }
    )


def _currencies(lines: TransferLines) -> dict[int, str]:
    """The currency of each account in `lines`. Errors: CurrencyMismatch when one account meets two."""
    used = set(lines.ccys)
    if len(used) == 1:
        return dict.fromkeys({*lines.source_nos, *lines.target_nos}, used.pop())
    pairs = {*zip(lines.source_nos, lines.ccys, strict=True)}
    pairs.update(zip(lines.target_nos, lines.ccys, strict=True))
    ccys = dict(pairs)
    for no, ccy in pairs:
        if ccys[no] != ccy:
            raise CurrencyMismatch(account_no=no, currency=ccy)
    return ccys


# The join on (no, ccy) is the guard of the table: a wrong currency or a closed account moves no
# row, and neither does a broken limit; the CHECKs of the table come last.
_MOVE = """
UPDATE ledger_balance b SET
    debits_pending = b.debits_pending + d.debits_pending,
    debits_posted = b.debits_posted + d.debits_posted,
    credits_pending = b.credits_pending + d.credits_pending,
    credits_posted = b.credits_posted + d.credits_posted, version = b.version + 1
FROM unnest($1::bigint[], $2::smallint[], $3::text[],
        $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS d(no, shard, ccy, debits_pending, debits_posted, credits_pending, credits_posted)
    JOIN ledger_account a ON a.no = d.no AND a.ccy = d.ccy AND a.closed_at IS NULL
WHERE b.account_no = d.no AND b.shard = d.shard
    AND (b.floor_minor IS NULL OR b.floor_minor <= b.credits_posted + d.credits_posted
         - b.debits_posted - d.debits_posted - b.debits_pending - d.debits_pending)
    AND (b.ceiling_minor IS NULL OR b.ceiling_minor >= b.credits_posted + d.credits_posted
         + b.credits_pending + d.credits_pending - b.debits_posted - d.debits_posted)
"""


async def move(changes: Mapping[Row, Change]) -> None:
    """Move locked rows in one UPDATE and count them. Errors: as `write`."""
    pending: dict[str, int] = {}
    posted: dict[str, int] = {}
    values = changes.values()
    for change in values:
        ccy = change.ccy
        pending[ccy] = pending.get(ccy, 0) + change.debits_pending - change.credits_pending
        posted[ccy] = posted.get(ccy, 0) + change.debits_posted - change.credits_posted
    assert not any(pending.values()), pending
    assert not any(posted.values()), posted
    touched = await db.execute(
        _MOVE,
        [row[0] for row in changes],
        [row[1] for row in changes],
        [change.ccy for change in values],
        [change.debits_pending for change in values],
        [change.debits_posted for change in values],
        [change.credits_pending for change in values],
        [change.credits_posted for change in values],
    )
    if touched != len(changes):
        await _unmoved(changes)


async def _unmoved(changes: Mapping[Row, Change]) -> NoReturn:
    """Say why a row of `changes` was not moved."""
    accounts = {
        row["no"]: row
        for row in await db.fetch(
            "SELECT no, ccy, closed_at FROM ledger_account WHERE no = ANY($1)",
            [row[0] for row in changes],
        )
    }
    known = await book.facts(accounts)
    for (no, _), change in sorted(changes.items(), key=lambda item: item[0]):
        account = accounts.get(no)
        if account is None:
            book.forget()
            raise AssertionError(f"account {no} does not exist")
        if account["ccy"] != change.ccy:
            raise CurrencyMismatch(**rules.named(known[no].key), currency=change.ccy)
        if account["closed_at"] is not None:
            raise AccountClosed(**rules.named(known[no].key))
    await check_limits(changes, await lock_rows(changes))
    raise AssertionError("balance rows were moved by another under their locks")


async def check_limits(changes: Mapping[Row, Change], held: Mapping[Row, Balance]) -> None:
    """Floors and ceilings of locked rows, by account. Errors: InsufficientFunds, CeilingExceeded."""
    for row in sorted(changes):
        refused = rules.refusal(held[row], changes[row])
        if refused is not None:
            error, facts = refused
            known = await book.facts([row[0]])
            raise error(**rules.named(known[row[0]].key), **facts)


_LEGS = """
INSERT INTO ledger_transfer (journal_id, line_no, source_no, target_no, source_shard, target_shard,
    amount_minor, ccy, phase, hold_id)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[],
    $5::smallint[], $6::smallint[], $7::bigint[], $8::text[], $9::text[], $10::uuid[])
RETURNING no
"""


async def write_legs(journals: Mapping[UUID, Sequence[Leg]]) -> list[int]:
    """Write the legs of any phase, numbered per journal; the numbers the transfers got."""
    flat = [leg for legs in journals.values() for leg in legs]
    rows = await db.fetch(
        _LEGS,
        [journal_id for journal_id, legs in journals.items() for _ in legs],
        [line for legs in journals.values() for line in range(1, len(legs) + 1)],
        [leg.source_no for leg in flat],
        [leg.target_no for leg in flat],
        [leg.source_shard for leg in flat],
        [leg.target_shard for leg in flat],
        [leg.minor for leg in flat],
        [leg.ccy for leg in flat],
        [leg.phase for leg in flat],
        [leg.hold_id for leg in flat],
    )
    return [row[0] for row in rows]
