"""Settlement after the sale: release what has become available, release reserves, cover what goes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

from domain import ledger, payments
from domain.core import clock, db, failpoint, ids
from domain.core.ids import uuid7
from domain.core.money import Money
from domain.ledger import AccountKey, Transfer
from domain.payments.models import Capture, Refund
from domain.settlement.exceptions import open_exception
from domain.settlement.models import StoredLeg
from domain.settlement.rules import cover

ITEMS_MAX = 50_000


async def release_due() -> int:
    """T+1 and later: move what became available today, one journal per merchant and currency; items moved.

    Items are claimed by conditional UPDATE in the transaction that posts them, so each moves exactly once and a
    late item joins the next run. Errors: ledger.InsufficientFunds when a merchant's pending is below the sum: never
    adjusted but shown to a person, and only after all others have been paid.
    """
    groups = await db.fetch(
        "SELECT merchant_id, ccy FROM settlement_item WHERE released_run_id IS NULL AND available_on <= $1"
        " GROUP BY merchant_id, ccy ORDER BY merchant_id, ccy",
        clock.now().date(),
    )
    return await _each(groups, _release, "release")


async def _each(
    groups: Sequence[db.Record], release: Callable[[UUID, str], Awaitable[int]], what: str
) -> int:
    """Release for one merchant and currency after the other; who cannot be paid holds up nobody."""
    moved, failed = 0, None
    for group in groups:
        try:
            moved += await release(group["merchant_id"], group["ccy"])
            failpoint.reach("release.after_commit")
        except ledger.InsufficientFunds as error:
            failed = error
            merchant_id = group["merchant_id"]
            facts = {
                "what": what,
                "merchant": ids.encode("mer", merchant_id),
                "currency": group["ccy"],
                "day": clock.now().date().isoformat(),
            }
            await open_exception("release_short", merchant_id=merchant_id, facts=facts)
    if failed is not None:
        raise failed
    return moved


async def _release(merchant_id: UUID, ccy: str) -> int:
    run_id = uuid7()
    async with db.transaction():
        rows = await db.fetch(
            "WITH due AS MATERIALIZED (SELECT capture_id FROM settlement_item WHERE merchant_id = $1 AND ccy = $2"
            " AND released_run_id IS NULL AND available_on <= $3 ORDER BY capture_id LIMIT $4 FOR UPDATE SKIP LOCKED)"
            " UPDATE settlement_item i SET released_run_id = $5 FROM due WHERE i.capture_id = due.capture_id"
            " RETURNING i.amount_minor",
            merchant_id,
            ccy,
            clock.now().date(),
            ITEMS_MAX,
            run_id,
        )
        total = sum(row["amount_minor"] for row in rows)
        if total:
            source = AccountKey("merchant_pending", merchant_id, "", ccy)
            target = AccountKey("merchant_available", merchant_id, "", ccy)
            await ledger.post(
                f"release:{run_id}:{merchant_id}:{ccy}",
                [Transfer(source, target, Money(total, ccy))],
                kind="release",
            )
        failpoint.reach("release.in_tx")
        return len(rows)


async def release_reserves() -> int:
    """Give reserves back on their day, one journal per merchant and currency; holds released.

    Errors: as `release_due`.
    """
    groups = await db.fetch(
        "SELECT DISTINCT merchant_id, ccy FROM reserve_hold WHERE state = 'held' AND releases_on <= $1"
        " ORDER BY merchant_id, ccy",
        clock.now().date(),
    )
    return await _each(groups, _release_reserve, "reserve")


async def _release_reserve(merchant_id: UUID, ccy: str) -> int:
    run_id = uuid7()
    async with db.transaction():
        rows = await db.fetch(
            "WITH due AS MATERIALIZED (SELECT capture_id FROM reserve_hold WHERE merchant_id = $1 AND ccy = $2"
            " AND state = 'held' AND releases_on <= $3 ORDER BY capture_id LIMIT $4 FOR UPDATE SKIP LOCKED)"
            " UPDATE reserve_hold h SET state = CASE WHEN h.drawn_minor = h.amount_minor THEN 'drawn'"
            " ELSE 'released' END FROM due WHERE h.capture_id = due.capture_id"
            " RETURNING h.amount_minor - h.drawn_minor AS left_minor",
            merchant_id,
            ccy,
            clock.now().date(),
            ITEMS_MAX,
        )
        total = sum(row["left_minor"] for row in rows)
        if total:
            source = AccountKey("merchant_reserved", merchant_id, "", ccy)
            target = AccountKey("merchant_available", merchant_id, "", ccy)
            await ledger.post(
                f"reserve:{run_id}:{merchant_id}:{ccy}",
                [Transfer(source, target, Money(total, ccy))],
                kind="reserve_release",
            )
        return len(rows)


async def legs_of(capture_ids: list[UUID]) -> dict[UUID, list[StoredLeg]]:
    """The legs of captures, locked for this transaction."""
    rows = await db.fetch(
        "SELECT capture_id, leg, account_no, amount_minor, returned_minor, locked_minor FROM capture_leg"
        " WHERE capture_id = ANY($1) ORDER BY capture_id, leg FOR NO KEY UPDATE",
        capture_ids,
    )
    found: dict[UUID, list[StoredLeg]] = {capture_id: [] for capture_id in capture_ids}
    for row in rows:
        found[row["capture_id"]].append(StoredLeg(*row))
    return found


async def return_legs(capture_id: UUID, parts: Mapping[str, int], *, sign: int = 1) -> None:
    """Count parts of legs as returned (or take that back with `sign=-1` when a refund failed)."""
    touched = await db.execute(
        "UPDATE capture_leg g SET returned_minor = g.returned_minor + p.minor * $4"
        " FROM unnest($2::text[], $3::bigint[]) AS p(leg, minor) WHERE g.capture_id = $1 AND g.leg = p.leg",
        capture_id,
        list(parts),
        list(parts.values()),
        sign,
    )
    assert touched == len(parts), (capture_id, parts)


async def draw_reserve(capture_id: UUID, minor: int) -> None:
    """The reserve of a capture pays `minor` of its refund (negative gives it back)."""
    await db.execute(
        "UPDATE reserve_hold SET drawn_minor = drawn_minor + $2,"
        " state = CASE WHEN drawn_minor + $2 = amount_minor THEN 'drawn' ELSE 'held' END"
        " WHERE capture_id = $1 AND state <> 'released'",
        capture_id,
        minor,
    )


async def undo_cover(refund: Refund) -> None:
    """A refund failed and its ask is reversed: what reserve and waiting money had paid is theirs again.

    What was released meanwhile has no day to wait for any more: it goes on to the merchant. Inside a transaction.
    """
    sources = refund.cover_json["sources"]
    late: dict[str, int] = {}
    if drawn := sources.get("merchant_reserved", 0):
        state = await db.value(
            "UPDATE reserve_hold SET drawn_minor = drawn_minor - $2,"
            " state = CASE WHEN state = 'drawn' THEN 'held' ELSE state END"
            " WHERE capture_id = $1 RETURNING state",
            refund.capture_id,
            drawn,
        )
        assert state is not None, refund.capture_id
        if state == "released":
            late["merchant_reserved"] = drawn
    if pending := sources.get("merchant_pending", 0):
        touched = await db.execute(
            "UPDATE settlement_item SET amount_minor = amount_minor + $2 WHERE capture_id = $1"
            " AND released_run_id IS NULL",
            refund.capture_id,
            pending,
        )
        if not touched:
            late["merchant_pending"] = pending
    target = AccountKey("merchant_available", refund.merchant_id, "", refund.ccy)
    transfers = [
        Transfer(
            AccountKey(purpose, refund.merchant_id, "", refund.ccy),
            target,
            Money(minor, refund.ccy),
        )
        for purpose, minor in late.items()
    ]
    if transfers:
        await ledger.post(
            f"refund:{refund.id}:released",
            transfers,
            kind="release",
            correlation_id=refund.order_id,
        )


async def shrink_item(capture_id: UUID, minor: int) -> None:
    """A refund takes `minor` out of what waits for its release day (negative puts it back)."""
    touched = await db.execute(
        "UPDATE settlement_item SET amount_minor = amount_minor - $2 WHERE capture_id = $1"
        " AND released_run_id IS NULL",
        capture_id,
        minor,
    )
    assert touched == 1, capture_id


async def cover_merchant(
    capture: Capture, *, merchant_minor: int, reserve_minor: int, may_owe: bool
) -> dict[str, int]:
    """Which of the merchant's accounts pay their part of a refund: purpose → minor units.

    Order: this capture's reserve, then what waits for release, then what is available, then (only with `may_owe`)
    debt. Money at the merchant's own account goes back from there. Errors: ledger.InsufficientFunds with the itemised
    cover.
    """
    if payments.is_own(capture.provider_account):
        return {"merchant_direct": merchant_minor}
    reserve = await db.row(
        "SELECT amount_minor - drawn_minor AS left_minor FROM reserve_hold WHERE capture_id = $1 AND state = 'held'"
        " FOR NO KEY UPDATE",
        capture.id,
    )
    item = await db.row(
        "SELECT amount_minor FROM settlement_item WHERE capture_id = $1 AND released_run_id IS NULL FOR NO KEY UPDATE",
        capture.id,
    )
    available = AccountKey("merchant_available", capture.merchant_id, "", capture.ccy)
    funds = {
        "merchant_reserved": min(reserve_minor, reserve["left_minor"]) if reserve else 0,
        "merchant_pending": item["amount_minor"] if item else 0,
        "merchant_available": await ledger.available(available),
    }
    paid = cover(merchant_minor, funds, tuple(funds))
    missing = merchant_minor - sum(paid.values())
    if missing and not may_owe:
        raise ledger.InsufficientFunds(
            missing=Money(missing, capture.ccy).decimal(),
            currency=capture.ccy,
            cover={purpose: Money(minor, capture.ccy).decimal() for purpose, minor in paid.items()},
        )
    if missing:
        paid["merchant_debt"] = missing
    return paid


async def surplus_left(capture_ids: list[UUID]) -> dict[UUID, int]:
    """What is left to give back of the surplus legs of settled captures."""
    rows = await db.fetch(
        "SELECT capture_id, amount_minor - returned_minor AS left_minor FROM capture_leg"
        " WHERE capture_id = ANY($1) AND leg = 'surplus' FOR NO KEY UPDATE",
        capture_ids,
    )
    return {row["capture_id"]: row["left_minor"] for row in rows if row["left_minor"]}
