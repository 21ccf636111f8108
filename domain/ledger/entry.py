"""One journal into the books: number its accounts, look its key up under the row locks, enter it.

Lock order: hold → balances (sorted) → key. A refusal comes before the first write, so whoever
catches it inside a larger transaction finds that as it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from domain.core import db
from domain.core.money import Money
from domain.ledger import batch, book, rules
from domain.ledger.batch import Row
from domain.ledger.models import Journal, JournalDraft
from domain.ledger.rules import AccountClosed, Balance, KeyReused, Leg, Transfer

T = TypeVar("T")


async def atomic(action: Callable[[], Awaitable[T]]) -> T:
    """Inside the caller's transaction, else in one of its own that is tried again after a deadlock."""
    if db.in_transaction():
        return await action()

    async def whole() -> T:
        async with db.transaction():
            return await action()

    return await db.retried(whole)


async def numbered(transfers: Sequence[Transfer], lane: int) -> list[Leg]:
    """Transfers with account numbers and the rows of `lane`; missing accounts are opened."""
    numbers = await book.accounts(key for t in transfers for key in (t.source, t.target))
    known = await book.facts(numbers.values())
    rows = {key: (no, lane % known[no].shards) for key, no in numbers.items()}
    return [leg(rows[t.source], rows[t.target], t.amount) for t in transfers]


def leg(source: Row, target: Row, amount: Money) -> Leg:
    """One posted leg between two rows."""
    return Leg(source[0], target[0], source[1], target[1], amount.minor, amount.currency)


# An account is closed under its row locks, which we hold: what this statement sees of it is final.
_STORED = """
SELECT j.id, j.key, j.kind, j.effective_at, j.recorded_at, j.input_hash, closed.no AS closed_no
FROM (SELECT min(no) AS no FROM ledger_account WHERE no = ANY($2) AND closed_at IS NOT NULL)
    AS closed LEFT JOIN ledger_journal j ON j.key = $1
"""


async def stored(draft: JournalDraft, legs: Iterable[Leg]) -> Journal | None:
    """The journal of this key, under the row locks. Errors: KeyReused; AccountClosed for a new key."""
    nos = {no for one in legs for no in (one.source_no, one.target_no)}
    row = await db.row(_STORED, draft.key, list(nos))
    assert row is not None
    if row["id"] is None:
        if row["closed_no"] is not None:
            known = await book.facts([row["closed_no"]])
            raise AccountClosed(**rules.named(known[row["closed_no"]].key))
        return None
    if row["input_hash"] != draft.input_hash:
        raise KeyReused(key=draft.key)
    times = row["effective_at"], row["recorded_at"]
    return Journal(row["id"], row["key"], row["kind"], *times, is_new=row["id"] == draft.id)


async def enter(
    journals: Mapping[JournalDraft, Sequence[Leg]], held: Mapping[Row, Balance]
) -> list[int] | None:
    """Open, write and move journals whose rows are held; the numbers of their transfers, in order.

    Limits are checked before anything is written. None when a rival took the key of the only
    journal: look it up. Errors: InsufficientFunds, CeilingExceeded.
    """
    changes = rules.changes(one for legs in journals.values() for one in legs)
    await batch.check_limits(changes, held)
    opened = await batch.open_many(list(journals))
    if opened.found:
        assert not opened.new, "some keys of a set were taken"
        return None
    numbers = await batch.write_legs({draft.id: legs for draft, legs in journals.items()})
    await batch.move(changes)
    return numbers
