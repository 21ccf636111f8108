"""Posting captures in sets: accounts, locks, the split under them, legs, holds and balances.

Steps 2 and 4 to 8 of MONEY.md section 9; `checkout.fulfil` opens the transaction and has locked the captures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from uuid import UUID

from domain import ledger, merchants, payments
from domain.core import bulk, clock
from domain.core.money import Money
from domain.ledger import AccountKey, JournalDraft, TransferLines
from domain.merchants import FeeSchedule, Plans, Speed
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
    {
        "merchant_debt",
        "merchant_reserved",
        "merchant_available",
        "merchant_pending",
        "merchant_direct",
        "buyer_held",
    }
)
_OF_PROVIDER = frozenset({"provider_clearing", "provider_fee", "suspense", "refund_clearing"})


def key_of(purpose: str, capture: Capture) -> AccountKey:
    """The account of `purpose` that a capture touches: its merchant's, its provider account's or the platform's."""
    owner = capture.merchant_id if purpose in _OF_MERCHANT else None
    sub = capture.account if purpose in _OF_PROVIDER else ""
    return AccountKey(purpose, owner, sub, capture.ccy)


@dataclass(slots=True)
class _Purse:
    """What captures of one merchant, provider account and currency share: found once per set, not once per leg.

    `is_own`: the merchant's own account. Its money is with them: nothing is kept back, withheld or released of it, and
    the provider charges them, not us (docs/decisions/0017).
    """

    plan: Plans
    schedule: FeeSchedule | None
    is_own: bool
    fee_bps: int  # of the provider, by its method table
    fee_fixed_minor: int
    available_on: date | None  # None: at once
    splits: dict[int, dict[Leg, int]] = field(default_factory=dict)  # by amount, nothing owed
    shapes: set[tuple[object, ...]] = field(default_factory=set)  # of bookings whose keys are here
    keys: dict[str, AccountKey] = field(default_factory=dict)  # by purpose
    nos: dict[str, int] = field(default_factory=dict)  # by purpose
    leg_nos: dict[Leg, int] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """Where the merchant's part goes."""
        if self.is_own:
            return "merchant_direct"
        return "merchant_pending" if self.available_on else "merchant_available"

    @property
    def reserve_bps(self) -> int:
        """How much of a sale is kept back."""
        return 0 if self.is_own else self.plan.reserve_bps

    def number(self, accounts: Mapping[AccountKey, int]) -> None:
        """Take the numbers of the accounts."""
        self.nos = {purpose: accounts[key] for purpose, key in self.keys.items()}
        legs = {**_SOURCE_OF_LEG, Leg.MERCHANT: self.target}
        self.leg_nos = {leg: self.nos[name] for leg, name in legs.items() if name in self.nos}


@dataclass(slots=True)
class _Rows:
    """The rows of a set, column by column; `debts` is what each debt account still owes as the set goes on."""

    debts: dict[int, int]
    lines: TransferLines = field(default_factory=TransferLines)
    legs: list[tuple[UUID, str, int, int, UUID | None]] = field(default_factory=list)
    reserves: list[tuple[UUID, UUID, UUID, int, str, date]] = field(default_factory=list)
    items: list[tuple[UUID, UUID, int, str, date]] = field(default_factory=list)


async def book(bookings: Sequence[Booking], *, lane: int) -> None:
    """Post every booking, once per key, and set each capture's end state.

    Errors: ledger.KeyReused when a capture was posted before (the set is rolled back).
    """
    for one in bookings:
        one.capture.state = "settled" if one.kind is BookingKind.SALE else "parked"
        one.capture.park_reason = one.park_reason
    moving = [one for one in bookings if one.moves]
    if not moving:
        return
    purses, filled = _purses(
        moving, await merchants.plans({one.capture.merchant_id for one in moving})
    )
    accounts = await ledger.accounts({key for purse in filled for key in purse.keys.values()})
    for purse in filled:
        purse.number(accounts)
    locked, at = await ledger.lock_now(list(accounts.values()), lane)
    owing = (no for key, no in accounts.items() if key.purpose == "merchant_debt")
    rows = _Rows({no: max(0, -locked[no].available) for no in owing})
    drafts = []
    for journal, one, purse in zip(bulk.uuid7s(len(moving)), moving, purses, strict=True):
        drafts.append(_draft(one, journal))
        _post(one, journal, purse, rows)
    await ledger.open_new(drafts, at)
    await ledger.write(rows.lines, lane=lane)
    await _store(rows)


def _draft(one: Booking, journal: UUID) -> JournalDraft:
    capture = one.capture
    name = str(capture.id)
    facts = f"{name}:{capture.amount_minor}:{capture.ccy}:{one.keep_minor}"
    return JournalDraft(
        journal,
        f"{one.kind}:{name}",
        hashlib.sha256(facts.encode()).digest(),
        one.kind,
        capture.captured_at,
        capture.order_id,
    )


def _purses(
    moving: Sequence[Booking], plans: Mapping[UUID, Plans]
) -> tuple[list[_Purse], list[_Purse]]:
    """The purse of each booking, and the few different ones, with a key for every account they may touch."""
    found: dict[tuple[UUID, str, str, str], _Purse] = {}
    purses = []
    for one in moving:
        capture = one.capture
        place = (capture.merchant_id, capture.provider, capture.provider_account, capture.ccy)
        purse = found.get(place)
        if purse is None:
            purse = found[place] = _purse(plans[capture.merchant_id], capture)
        has_surplus = one.keep_minor < capture.kept_minor
        shape = (one.kind, capture.source_purpose, capture.is_new, has_surplus)
        if shape not in purse.shapes:
            purse.shapes.add(shape)
            for purpose in _purposes(one, purse):
                purse.keys[purpose] = key_of(purpose, capture)
        purses.append(purse)
    return purses, list(found.values())


def _purse(plan: Plans, capture: Capture) -> _Purse:
    provider = providers.get(capture.provider)
    method = provider.methods[0] if provider and provider.methods else None
    is_own = payments.is_own(capture.provider_account)
    if is_own:
        method = None
    day = None
    if plan.speed is not Speed.T0 and not is_own:
        day = rules.available_on(
            clock.now(), days=plan.days, cutoff_s=plan.cutoff_s, zone=plan.zone
        )
    return _Purse(
        plan,
        plan.schedule(capture.ccy),
        is_own,
        method.fee_bps if method else 0,
        method.fee_fixed_minor.get(capture.ccy, 0) if method else 0,
        day,
    )


def _purposes(one: Booking, purse: _Purse) -> list[str]:
    """Every account a booking may touch."""
    capture, purposes = one.capture, [one.capture.source_purpose]
    if capture.is_new:
        purposes += ["provider_clearing", "provider_fee"]
    if one.kind is BookingKind.SALE:
        purposes += ["platform_commission", "merchant_debt", purse.target]
        if purse.reserve_bps:
            purposes.append("merchant_reserved")
        if one.keep_minor < capture.kept_minor:
            purposes.append("suspense")
    else:
        purposes.append(_rest(one))
    return purposes


def _rest(one: Booking) -> str:
    """Where money stays that pays nobody yet."""
    return "buyer_held" if one.kind is BookingKind.HELD else "suspense"


def _post(one: Booking, journal: UUID, purse: _Purse, rows: _Rows) -> None:
    """Add one booking's transfers and rows; debt shrinks as the set goes on."""
    capture, nos = one.capture, purse.nos
    source = nos[capture.source_purpose]
    capture.journal_id = journal
    if one.kind is BookingKind.SALE:
        legs = _split(one, purse, rows)
        targets, minors = [purse.leg_nos[leg] for leg in legs], list(legs.values())
    else:
        capture.source_purpose = _rest(one)
        targets, minors = [nos[capture.source_purpose]], [capture.kept_minor]
    sources = [source] * len(targets)
    cost = _provider_cost(capture, purse) if capture.is_new else 0
    if cost:
        sources.append(nos["provider_fee"])
        targets.append(nos["provider_clearing"])
        minors.append(cost)
    rows.lines.add_all(journal, sources, targets, minors, capture.ccy)


def _legs(one: Booking, purse: _Purse, rows: _Rows) -> dict[Leg, int]:
    """The parts of a sale. A shop has few prices: without debt, equal amounts are split once per set."""
    ccy, kept_minor, keep_minor = one.capture.ccy, one.capture.kept_minor, one.keep_minor
    debt_no = purse.leg_nos[Leg.DEBT]
    debt_minor = 0 if purse.is_own else rows.debts[debt_no]
    legs = None if debt_minor else purse.splits.get(keep_minor)
    if legs is None:
        schedule = purse.schedule
        commission = merchants.fee(Money(keep_minor, ccy), schedule) if schedule else 0
        terms = Terms(commission, reserve_bps=purse.reserve_bps)
        legs = rules.split(keep_minor, terms, Owed(debt_minor))
        if debt_minor:
            rows.debts[debt_no] -= legs.get(Leg.DEBT, 0)
        else:
            purse.splits[keep_minor] = legs
    if keep_minor < kept_minor:
        return {**legs, Leg.SURPLUS: kept_minor - keep_minor}
    return legs


def _split(one: Booking, purse: _Purse, rows: _Rows) -> dict[Leg, int]:
    """The parts of a sale, noted in `rows` with what the merchant gets later."""
    capture, plan, schedule, leg_nos = one.capture, purse.plan, purse.schedule, purse.leg_nos
    legs = _legs(one, purse, rows)
    capture_id, merchant_id, ccy = capture.id, capture.merchant_id, capture.ccy
    for leg, minor in legs.items():
        rule_id = schedule.id if schedule and leg is Leg.COMMISSION else None
        rows.legs.append((capture_id, leg, leg_nos[leg], minor, rule_id))
    if kept_back := legs.get(Leg.RESERVE):
        assert plan.reserve_plan_id is not None
        releases_on = capture.captured_at.date() + timedelta(days=plan.reserve_days)
        rows.reserves.append(
            (capture_id, plan.reserve_plan_id, merchant_id, kept_back, ccy, releases_on)
        )
    if purse.available_on and Leg.MERCHANT in legs:
        rows.items.append((capture_id, merchant_id, legs[Leg.MERCHANT], ccy, purse.available_on))
    return legs


def _provider_cost(capture: Capture, purse: _Purse) -> int:
    """The provider's fee by the estimate of its method table; corrected later by its statement."""
    wanted = rules.provider_cost(
        capture.amount_minor, fee_bps=purse.fee_bps, fixed_minor=purse.fee_fixed_minor
    )
    return min(capture.amount_minor, wanted)


async def _store(rows: _Rows) -> None:
    await bulk.append_all(
        bulk.Part(
            "capture_leg", ("capture_id", "leg", "account_no", "amount_minor", "rule_id"), rows.legs
        ),
        bulk.Part(
            "reserve_hold",
            ("capture_id", "plan_id", "merchant_id", "amount_minor", "ccy", "releases_on"),
            rows.reserves,
        ),
        bulk.Part(
            "settlement_item",
            ("capture_id", "merchant_id", "amount_minor", "ccy", "available_on"),
            rows.items,
        ),
    )
