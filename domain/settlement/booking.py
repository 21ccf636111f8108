"""Posting captures in sets: accounts, locks, the split under them, legs, holds and balances.

Steps 2 and 4 to 8 of MONEY.md section 9; `checkout.fulfil` opens the transaction and has locked the captures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from domain import ledger, merchants
from domain.core import clock, db
from domain.core.ids import uuid7
from domain.core.money import Money
from domain.ledger import AccountKey, JournalDraft, TransferLines
from domain.merchants import Plans, Speed
from domain.payments.models import Capture
from domain.payments.ports import providers
from domain.settlement import rules
from domain.settlement.models import Booking, BookingKind
from domain.settlement.rules import Leg, Owed, Terms

_SOURCE_OF_LEG = {
    Leg.COMMISSION: "platform_commission",
    Leg.TAX: "tax_payable",
    Leg.DEBT: "merchant_debt",
    Leg.RESERVE: "merchant_reserved",
    Leg.SURPLUS: "suspense",
}
_OF_MERCHANT = frozenset(
    {"merchant_debt", "merchant_reserved", "merchant_available", "merchant_pending", "buyer_held"}
)
_OF_PROVIDER = frozenset({"provider_clearing", "provider_fee", "suspense", "refund_clearing"})


def key_of(purpose: str, capture: Capture) -> AccountKey:
    """The account of `purpose` that a capture touches: its merchant's, its provider account's or the platform's."""
    owner = capture.merchant_id if purpose in _OF_MERCHANT else None
    sub = capture.account if purpose in _OF_PROVIDER else ""
    return AccountKey(purpose, owner, sub, capture.ccy)


@dataclass(slots=True)
class _Purse:
    """The accounts that captures of one merchant, provider account and currency touch, by purpose."""

    plan: Plans
    keys: dict[str, AccountKey] = field(default_factory=dict)
    nos: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Rows:
    """The rows of a set, column by column; `debts` is what each debt account still owes as the set goes on."""

    debts: dict[int, int]
    lines: TransferLines = field(default_factory=TransferLines)
    legs: list[tuple[UUID, str, int, int, UUID | None]] = field(default_factory=list)
    reserves: list[tuple[UUID, UUID, UUID, UUID, int, str, object]] = field(default_factory=list)
    items: list[tuple[UUID, UUID, int, str, object]] = field(default_factory=list)


async def book(bookings: Sequence[Booking], *, lane: int) -> None:
    """Post every booking, once per key, and set each capture's end state.

    Errors: ledger.KeyReused when a capture was posted before with other facts (the set is rolled back).
    """
    for one in bookings:
        one.capture.state = "settled" if one.kind is BookingKind.SALE else "parked"
        one.capture.park_reason = one.park_reason
    moving = [one for one in bookings if one.moves]
    if not moving:
        return
    drafts = [_draft(one) for one in moving]
    opened = await ledger.open_many(drafts)
    if opened.reused or opened.done:
        raise ledger.KeyReused(keys=sorted(opened.reused | opened.done))
    plans = await merchants.plans({one.capture.merchant_id for one in moving})
    purses, filled = _purses(moving, plans)
    accounts = await ledger.accounts({key for purse in filled for key in purse.keys.values()})
    for purse in filled:
        purse.nos = {purpose: accounts[key] for purpose, key in purse.keys.items()}
    locked = await ledger.lock(list(accounts.values()), lane)
    owing = (no for key, no in accounts.items() if key.purpose == "merchant_debt")
    rows = _Rows({no: max(0, -locked[no].available) for no in owing})
    for draft, one, purse in zip(drafts, moving, purses, strict=True):
        _post(one, draft.id, purse, rows)
    await ledger.write(rows.lines, lane=lane)
    await _store(rows)


def _draft(one: Booking) -> JournalDraft:
    capture = one.capture
    facts = f"{capture.id}:{capture.amount_minor}:{capture.ccy}:{one.keep_minor}"
    return JournalDraft(
        id=uuid7(),
        key=f"{one.kind}:{capture.id}",
        input_hash=hashlib.sha256(facts.encode()).digest(),
        kind=one.kind,
        effective_at=capture.captured_at,
        correlation_id=capture.order_id,
    )


def _purses(
    moving: Sequence[Booking], plans: dict[UUID, Plans]
) -> tuple[list[_Purse], list[_Purse]]:
    """The purse of each booking, and the few different ones, with a key for every account they may touch."""
    found: dict[tuple[UUID, str, str, str], _Purse] = {}
    purses = []
    for one in moving:
        capture = one.capture
        place = (capture.merchant_id, capture.provider, capture.provider_account, capture.ccy)
        purse = found.get(place)
        if purse is None:
            purse = found[place] = _Purse(plans[capture.merchant_id])
        for purpose in _purposes(one, purse.plan):
            if purpose not in purse.keys:
                purse.keys[purpose] = key_of(purpose, capture)
        purses.append(purse)
    return purses, list(found.values())


def _purposes(one: Booking, plan: Plans) -> list[str]:
    """Every account a booking may touch."""
    capture, purposes = one.capture, [one.capture.source_purpose]
    if capture.is_new:
        purposes += ["provider_clearing", "provider_fee"]
    if one.kind is BookingKind.SALE:
        purposes += ["platform_commission", "merchant_debt", _target(plan)]
        if plan.reserve_bps:
            purposes.append("merchant_reserved")
        if one.keep_minor < capture.kept_minor:
            purposes.append("suspense")
    else:
        purposes.append(_rest(one))
    return purposes


def _rest(one: Booking) -> str:
    """Where money stays that pays nobody yet."""
    return "buyer_held" if one.kind is BookingKind.HELD else "suspense"


def _target(plan: Plans) -> str:
    return "merchant_available" if plan.speed is Speed.T0 else "merchant_pending"


def _post(one: Booking, journal: UUID, purse: _Purse, rows: _Rows) -> None:
    """Add one booking's transfers and rows; debt shrinks as the set goes on."""
    capture, nos = one.capture, purse.nos
    source = nos[capture.source_purpose]
    capture.journal_id = journal
    if one.kind is BookingKind.SALE:
        targets, minors = _split(one, purse, rows)
    else:
        capture.source_purpose = _rest(one)
        targets, minors = [nos[capture.source_purpose]], [capture.kept_minor]
    sources = [source] * len(targets)
    cost = _provider_cost(capture) if capture.is_new else 0
    if cost:
        sources.append(nos["provider_fee"])
        targets.append(nos["provider_clearing"])
        minors.append(cost)
    rows.lines.add_all(journal, sources, targets, minors, capture.ccy)


def _split(one: Booking, purse: _Purse, rows: _Rows) -> tuple[list[int], list[int]]:
    """The accounts and parts of a sale, its legs and what waits noted in `rows`."""
    capture, plan, nos = one.capture, purse.plan, purse.nos
    targets, minors = [], []
    debt_no = nos["merchant_debt"]
    schedule = plan.schedule(capture.ccy)
    commission = merchants.fee(Money(one.keep_minor, capture.ccy), schedule) if schedule else 0
    terms = Terms(commission_minor=commission, reserve_bps=plan.reserve_bps)
    legs = rules.split(one.keep_minor, terms, Owed(debt_minor=rows.debts[debt_no]))
    rows.debts[debt_no] -= legs.get(Leg.DEBT, 0)
    if one.keep_minor < capture.kept_minor:
        legs[Leg.SURPLUS] = capture.kept_minor - one.keep_minor
    for leg, minor in legs.items():
        account = nos[_target(plan) if leg is Leg.MERCHANT else _SOURCE_OF_LEG[leg]]
        targets.append(account)
        minors.append(minor)
        rule_id = schedule.id if schedule and leg is Leg.COMMISSION else None
        rows.legs.append((capture.id, leg, account, minor, rule_id))
    _note_waiting(capture, plan, legs, rows)
    return targets, minors


def _note_waiting(capture: Capture, plan: Plans, legs: dict[Leg, int], rows: _Rows) -> None:
    """The parts of a sale that the merchant gets later: the reserve, and what settles on another day."""
    whose = (capture.id, capture.merchant_id)
    if Leg.RESERVE in legs:
        assert plan.reserve_plan_id is not None
        releases_on = capture.captured_at.date() + timedelta(days=plan.reserve_days)
        # One reserve per capture: it goes by the capture's own id.
        rows.reserves.append(
            (capture.id, plan.reserve_plan_id, *whose, legs[Leg.RESERVE], capture.ccy, releases_on)
        )
    if plan.speed is not Speed.T0 and Leg.MERCHANT in legs:
        day = rules.available_on(
            clock.now(), days=plan.days, cutoff_s=plan.cutoff_s, zone=plan.zone
        )
        rows.items.append((*whose, legs[Leg.MERCHANT], capture.ccy, day))


def _provider_cost(capture: Capture) -> int:
    """The provider's fee by the estimate of its method table; corrected later by its statement."""
    provider = providers.get(capture.provider)
    if provider is None or not provider.methods:
        return 0
    method = provider.methods[0]
    return min(
        capture.amount_minor,
        rules.provider_cost(
            capture.amount_minor,
            fee_bps=method.fee_bps,
            fixed_minor=method.fee_fixed_minor.get(capture.ccy, 0),
        ),
    )


async def _store(rows: _Rows) -> None:
    await db.insert(
        "capture_leg", ("capture_id", "leg", "account_no", "amount_minor", "rule_id"), rows.legs
    )
    await db.insert(
        "reserve_hold",
        ("id", "plan_id", "capture_id", "merchant_id", "amount_minor", "ccy", "releases_on"),
        rows.reserves,
    )
    await db.insert(
        "settlement_item",
        ("capture_id", "merchant_id", "amount_minor", "ccy", "available_on"),
        rows.items,
    )
