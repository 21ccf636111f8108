"""Posting one journal at a time: post, reverse, close. Each joins the caller's transaction or opens
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from domain.core import db, ids
from domain.core.money import Money
from domain.ledger import batch, book, entry, rules
from domain.ledger.models import Journal, JournalDraft
from domain.ledger.rules import (
    AccountInUse,
    AccountInvalid,
    AccountKey,
    Leg,
    NotReversible,
    Transfer,
)


async def post(
    key: str,
    transfers: Sequence[Transfer],
    *,
    kind: str,
    effective_at: datetime | None = None,
    correlation_id: UUID | None = None,
    lane: int = 0,
) -> Journal:
    """Write one journal and move its balances, all or nothing; the same `key` posts once.

    `effective_at` may lie in the past, never ahead of the recording. `lane` picks the row of shared
    accounts. Errors: InsufficientFunds (a floor), CeilingExceeded, KeyReused (same key, other
    legs), AccountClosed, CurrencyMismatch, TransferInvalid, AccountInvalid.
    """
    rules.check(transfers)
    asked = rules.digest(kind, transfers)
    draft = JournalDraft(ids.uuid7(), key, asked, kind, effective_at, correlation_id)
    # Before the transaction: whoever opens an account should hold no balance row.
    legs = await entry.numbered(transfers, lane)
    return await entry.atomic(lambda: _enter(draft, legs))


async def _enter(draft: JournalDraft, legs: Sequence[Leg]) -> Journal:
    held = await batch.lock_rows(rules.changes(legs))
    done = await entry.stored(draft, legs)
    if done is None:
        await entry.enter({draft: legs}, held)
        done = await entry.stored(draft, legs)
    assert done is not None, "the key is taken and is not there"
    return done


_ORIGINAL = """
SELECT t.*, j.reverses_id,
    EXISTS (SELECT FROM ledger_journal r WHERE r.reverses_id = j.id) AS is_reversed
FROM ledger_journal j JOIN ledger_transfer t ON t.journal_id = j.id
WHERE j.id = $1 ORDER BY t.line_no
"""


async def reverse(
    key: str,
    journal_id: UUID,
    *,
    kind: str = "reversal",
    effective_at: datetime | None = None,
    correlation_id: UUID | None = None,
) -> Journal:
    """Post the same legs with sides swapped, on the same rows: every balance is as before the
    journal.

    Once per journal and never of a reversal; the same `key` reverses once. Errors: NotReversible
    (unknown, a reversal, reversed before, or it made or freed a hold), and those of `post`: a floor
    may stand in the way.
    """
    asked = rules.digest(kind, (), "reverse", journal_id)
    draft = JournalDraft(
        ids.uuid7(), key, asked, kind, effective_at, correlation_id, reverses_id=journal_id
    )

    async def once() -> Journal:
        legs = [_swapped(row) for row in await db.fetch(_ORIGINAL, journal_id)]
        if not legs:
            raise NotReversible(journal_id=str(journal_id), reason="unknown")
        held = await batch.lock_rows(rules.changes(legs))
        done = await entry.stored(draft, legs)
        if done is not None:
            return done
        # Read again: two reversals of one journal lock the same rows, and we hold them now.
        reason = _irreversible(await db.fetch(_ORIGINAL, journal_id))
        if reason:
            raise NotReversible(journal_id=str(journal_id), reason=reason)
        await entry.enter({draft: legs}, held)
        done = await entry.stored(draft, legs)
        assert done is not None, "the key is taken and is not there"
        return done

    return await entry.atomic(once)


def _swapped(row: db.Record) -> Leg:
    amount = Money(row["amount_minor"], row["ccy"])
    source = row["target_no"], row["target_shard"]
    return entry.leg(source, (row["source_no"], row["source_shard"]), amount)


def _irreversible(rows: Sequence[db.Record]) -> str:
    if rows[0]["reverses_id"] is not None:
        return "reversal"
    if rows[0]["is_reversed"]:
        return "reversed"
    if any(row["phase"] in (rules.PENDING, rules.VOID) for row in rows):
        return "hold"
    return ""


async def reverse_key(key: str, of_key: str, *, kind: str = "reversal") -> Journal:
    """`reverse` for the journal posted under `of_key`. Errors: as `reverse`."""
    journal_id = await db.value("SELECT id FROM ledger_journal WHERE key = $1", of_key)
    if journal_id is None:
        raise NotReversible(key=of_key, reason="unknown")
    return await reverse(key, journal_id, kind=kind)


async def close(account: AccountKey) -> None:
    """Take no more entries on an account; it must be empty. Closing twice is one closing.

    Errors: AccountInUse while it has money or open holds, AccountInvalid when it does not exist.
    """

    async def once() -> None:
        no = (await book.find([account])).get(account)
        if no is None:
            raise AccountInvalid(**rules.named(account), reason="no such account")
        shards = (await book.facts([no]))[no].shards
        # All rows: a poster holds one of them while it looks whether the account is closed.
        held = (await batch.lock_rows((no, shard) for shard in range(shards))).values()
        posted = sum(balance.posted for balance in held)
        pending = sum(balance.debits_pending + balance.credits_pending for balance in held)
        if posted or pending:
            raise AccountInUse(**rules.named(account), posted_minor=posted, pending_minor=pending)
        await db.execute(
            "UPDATE ledger_account SET closed_at = clock_timestamp()"
            " WHERE no = $1 AND closed_at IS NULL",
            no,
        )

    await entry.atomic(once)
