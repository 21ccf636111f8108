"""Holds: a promise of money that may lapse. open → posted / voided / expired, once.

A hold is the one pending transfer of the journal with the same id. Lock order: hold → balances →
key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from domain.core import db, ids
from domain.core.money import Money
from domain.ledger import batch, entry, rules
from domain.ledger.models import Hold, HoldState, Journal, JournalDraft
from domain.ledger.rules import HoldNotOpen, KeyReused, Leg, Transfer, TransferInvalid

EXPIRE_MAX = 100

_HOLDS = """
SELECT h.id, h.amount_minor, h.expires_at, h.state, h.expires_at <= clock_timestamp() AS is_over,
    t.source_no, t.target_no, t.source_shard, t.target_shard, t.ccy
FROM ledger_hold h JOIN ledger_transfer t ON t.journal_id = h.id AND t.phase = 'pending'
"""
_ONE = f"{_HOLDS} WHERE h.id = $1"
_LAPSED = f"""{_HOLDS} WHERE h.state = 'open' AND h.expires_at <= clock_timestamp()
ORDER BY h.expires_at, h.id LIMIT $1 FOR NO KEY UPDATE OF h SKIP LOCKED
"""


async def hold(
    key: str,
    transfer: Transfer,
    *,
    kind: str,
    expires_at: datetime,
    correlation_id: UUID | None = None,
    lane: int = 0,
) -> Hold:
    """Promise one transfer until `expires_at`: `available` of the source falls at once, nothing is
    posted.

    The same `key` holds once and gives the hold as it stands now, with its first end. Errors: as
    `post`.
    """
    rules.check([transfer])
    asked = rules.digest(kind, [transfer], "hold")
    draft = JournalDraft(ids.uuid7(), key, asked, kind, None, correlation_id)
    (leg,) = await entry.numbered([transfer], lane)
    leg = leg._replace(phase=rules.PENDING, hold_id=draft.id)

    async def once() -> Hold:
        held = await batch.lock_rows(rules.changes([leg]))
        done = await entry.stored(draft, [leg])
        if done is None:
            numbers = await entry.enter({draft: [leg]}, held)
            if numbers is not None:
                await db.execute(
                    "INSERT INTO ledger_hold (id, transfer_no, amount_minor, expires_at)"
                    " VALUES ($1, $2, $3, $4)",
                    draft.id,
                    numbers[0],
                    leg.minor,
                    expires_at,
                )
            done = await entry.stored(draft, [leg])
        assert done is not None, "the key is taken and is not there"
        found = await read_hold(done.id)
        assert found is not None, "the journal of a hold without it"
        return found

    return await entry.atomic(once)


async def read_hold(hold_id: UUID) -> Hold | None:
    """The hold as it stands, None when there is no such hold."""
    row = await db.row(_ONE, hold_id)
    if row is None:
        return None
    amount = Money(row["amount_minor"], row["ccy"])
    return Hold(row["id"], amount, row["expires_at"], HoldState(row["state"]))


async def resolve(
    key: str,
    hold_id: UUID,
    phase: str,
    *,
    kind: str,
    minor: int | None = None,
    also: Sequence[Transfer] = (),
    correlation_id: UUID | None = None,
    lane: int = 0,
) -> Journal:
    """End a hold once: "post" moves `minor` of it (default all) and frees the rest, "void" frees
    all.

    `also` is posted in the same journal. The same `key` resolves once; of several resolvers one
    wins. Errors: HoldNotOpen (unknown, already resolved, or its time is over and `phase` is
    "post"), TransferInvalid (`minor` above the hold), and those of `post`.
    """
    assert phase in (rules.POST, rules.VOID), phase
    assert phase == rules.POST or minor is None, "a void frees the whole hold"
    if also:
        rules.check(also)
    asked = rules.digest(kind, also, phase, hold_id, minor)
    draft = JournalDraft(ids.uuid7(), key, asked, kind, None, correlation_id)
    more = await entry.numbered(also, lane)

    async def once() -> Journal:
        row = await db.row(f"{_ONE} FOR NO KEY UPDATE OF h", hold_id)
        if row is None:
            raise HoldNotOpen(hold_id=str(hold_id), state="none")
        whole = row["amount_minor"]
        legs = [_ending(row, phase, whole if minor is None else minor), *more]
        held = await batch.lock_rows(rules.changes(legs))
        done = await entry.stored(draft, legs)
        if done is not None:
            return done
        if row["state"] != HoldState.OPEN or (phase == rules.POST and row["is_over"]):
            ends = row["expires_at"].isoformat()
            raise HoldNotOpen(hold_id=str(hold_id), state=row["state"], expires_at=ends)
        if not 0 < legs[0].minor <= whole:
            raise TransferInvalid(amount_minor=legs[0].minor, held_minor=whole)
        if await entry.enter({draft: legs}, held) is None:
            raise KeyReused(key=key)
        state = HoldState.POSTED if phase == rules.POST else HoldState.VOIDED
        await _end({hold_id: draft.id}, state)
        done = await entry.stored(draft, legs)
        assert done is not None
        return done

    return await entry.atomic(once)


def _ending(row: db.Record, phase: str, minor: int) -> Leg:
    source = row["source_no"], row["source_shard"]
    target = row["target_no"], row["target_shard"]
    leg = entry.leg(source, target, Money(minor, row["ccy"]))
    return leg._replace(phase=phase, hold_id=row["id"], held_minor=row["amount_minor"])


async def _end(resolved: dict[UUID, UUID], state: HoldState) -> None:
    """Set the end state of locked open holds; `resolved` maps hold to journal."""
    touched = await db.execute(
        "UPDATE ledger_hold h SET state = $3, resolved_by = r.journal_id"
        " FROM unnest($1::uuid[], $2::uuid[]) AS r(id, journal_id)"
        " WHERE h.id = r.id AND h.state = 'open'",
        list(resolved),
        list(resolved.values()),
        state.value,
    )
    assert touched == len(resolved), "a locked hold changed"


async def expire(*, limit: int = EXPIRE_MAX) -> int:
    """Free up to `limit` holds whose time is over, in one transaction; how many. Two may run at
    once.
    """

    async def once() -> int:
        rows = await db.fetch(_LAPSED, limit)
        journals: dict[JournalDraft, list[Leg]] = {}
        for row in rows:
            asked = rules.digest("hold_expired", (), row["id"])
            draft = JournalDraft(ids.uuid7(), f"hold:{row['id']}:expire", asked, "hold_expired")
            journals[draft] = [_ending(row, rules.VOID, row["amount_minor"])]
        if not journals:
            return 0
        held = await batch.lock_rows(rules.changes(leg for (leg,) in journals.values()))
        entered = await entry.enter(journals, held)
        assert entered is not None, "an open hold has expired before"
        ended = {row["id"]: draft.id for row, draft in zip(rows, journals, strict=True)}
        await _end(ended, HoldState.EXPIRED)
        return len(rows)

    return await entry.atomic(once)
