"""The laws of the books as plain values: purposes, transfers, changes, limits."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.core.errors import DomainError
from domain.core.money import Money
from domain.ledger import (
    PURPOSES,
    AccountInvalid,
    AccountKey,
    Balance,
    CeilingExceeded,
    CurrencyMismatch,
    InsufficientFunds,
    Transfer,
    TransferInvalid,
    rules,
)
from domain.ledger.rules import Change, Leg

OWNER = UUID(int=7)
AVAILABLE = AccountKey("merchant_available", OWNER, "", "USD")
CLEARING = AccountKey("provider_clearing", None, "sandbox", "USD")


def test_a_limit_needs_one_row() -> None:
    for name, purpose in PURPOSES.items():
        limited = purpose.floor_minor is not None or purpose.ceiling_minor is not None
        assert purpose.shards == (1 if limited else purpose.shards), name


def test_what_is_shared_floored_and_ceilinged() -> None:
    shared = {name for name, purpose in PURPOSES.items() if purpose.shards > 1}
    floored = {name for name, purpose in PURPOSES.items() if purpose.floor_minor is not None}
    ceilinged = {name for name, purpose in PURPOSES.items() if purpose.ceiling_minor is not None}
    debit = {name for name, purpose in PURPOSES.items() if purpose.normal == "debit"}

    assert shared == {
        "provider_clearing",
        "provider_fee",
        "sale_clearing",
        "refund_clearing",
        "tax_payable",
        "platform_commission",
    }
    assert floored == {
        "merchant_pending",
        "merchant_available",
        "merchant_reserved",
        "merchant_disputed",
        "merchant_in_transit",
        "merchant_direct",
        "merchant_fund_pending",
        "affiliate_payable",
        "wallet",
        "wallet_bonus",
        "fast_pool",
        "merchant_units",
    }
    assert ceilinged == {"merchant_debt", "affiliate_debt", "credit_receivable"}
    assert ceilinged < debit
    assert floored & debit == set()


@pytest.mark.parametrize(
    ("source", "target", "amount", "error"),
    [
        (AVAILABLE, CLEARING, Money(0, "USD"), TransferInvalid),
        (AVAILABLE, CLEARING, Money(-1, "USD"), TransferInvalid),
        (AVAILABLE, CLEARING, Money(2**63, "USD"), TransferInvalid),
        (AVAILABLE, AVAILABLE, Money(1, "USD"), TransferInvalid),
        (AVAILABLE, CLEARING, Money(1, "EUR"), CurrencyMismatch),
        (AVAILABLE, CLEARING._replace(ccy="EUR"), Money(1, "USD"), CurrencyMismatch),
        (AVAILABLE._replace(owner_id=None), CLEARING, Money(1, "USD"), AccountInvalid),
        (AVAILABLE, CLEARING._replace(owner_id=OWNER), Money(1, "USD"), AccountInvalid),
        (AVAILABLE, CLEARING._replace(purpose="slush"), Money(1, "USD"), AccountInvalid),
        (AVAILABLE, CLEARING._replace(sub="x" * 41), Money(1, "USD"), AccountInvalid),
    ],
)
def test_g33_a_transfer_no_table_would_take_is_refused(
    source: AccountKey, target: AccountKey, amount: Money, error: type[DomainError]
) -> None:
    with pytest.raises(error):
        rules.check([Transfer(source, target, amount)])


def test_a_journal_has_one_to_a_thousand_transfers() -> None:
    transfer = Transfer(CLEARING, AVAILABLE, Money(1, "USD"))

    rules.check([transfer] * 1_000)
    for count in (0, 1_001):
        with pytest.raises(TransferInvalid):
            rules.check([transfer] * count)


def test_digest_tells_every_difference() -> None:
    one = Transfer(CLEARING, AVAILABLE, Money(1, "USD"))
    others = [
        rules.digest("refund", [one]),
        rules.digest("sale", [one, one]),
        rules.digest("sale", [Transfer(AVAILABLE, CLEARING, Money(1, "USD"))]),
        rules.digest("sale", [Transfer(CLEARING, AVAILABLE, Money(2, "USD"))]),
        rules.digest("sale", [one], "hold"),
    ]

    assert rules.digest("sale", [one]) == rules.digest("sale", [one])
    assert len({rules.digest("sale", [one]), *others}) == 6


def test_floor_counts_open_holds() -> None:
    balance = Balance(1, debits_pending=30, debits_posted=20, credits_posted=100, floor_minor=0)

    assert balance.available == 50
    assert rules.refusal(balance, Change("USD", debits_posted=50)) is None
    assert rules.refusal(balance, Change("USD", debits_pending=50)) is None
    assert rules.refusal(balance, Change("USD", debits_posted=51)) == (
        InsufficientFunds,
        {"available_minor": 50, "asked_minor": 51},
    )
    assert rules.refusal(balance, Change("USD", debits_posted=60, credits_posted=10)) is None
    # A post within the hold never needs more than it has set aside.
    assert rules.refusal(balance, Change("USD", debits_pending=-30, debits_posted=30)) is None


def test_ceiling_counts_what_is_on_its_way() -> None:
    debt = Balance(1, debits_posted=100, credits_posted=40, credits_pending=10, ceiling_minor=0)

    assert debt.room == 50
    assert rules.refusal(debt, Change("USD", credits_posted=50)) is None
    assert rules.refusal(debt, Change("USD", credits_pending=51)) == (
        CeilingExceeded,
        {"room_minor": 50, "asked_minor": 51},
    )


def test_changes_of_each_phase() -> None:
    hold_id = UUID(int=1)
    posted = Leg(1, 2, 0, 3, 10, "USD")
    pending = posted._replace(phase="pending", hold_id=hold_id)
    post = pending._replace(phase="post", minor=7, held_minor=10)
    void = pending._replace(phase="void", held_minor=10)

    assert rules.changes([posted]) == {
        (1, 0): Change("USD", debits_posted=10),
        (2, 3): Change("USD", credits_posted=10),
    }
    assert rules.changes([pending]) == {
        (1, 0): Change("USD", debits_pending=10),
        (2, 3): Change("USD", credits_pending=10),
    }
    assert rules.changes([post]) == {
        (1, 0): Change("USD", debits_pending=-10, debits_posted=7),
        (2, 3): Change("USD", credits_pending=-10, credits_posted=7),
    }
    assert rules.changes([void]) == {
        (1, 0): Change("USD", debits_pending=-10),
        (2, 3): Change("USD", credits_pending=-10),
    }


def test_one_account_in_two_currencies_is_refused() -> None:
    with pytest.raises(CurrencyMismatch):
        rules.changes([Leg(1, 2, 0, 0, 10, "USD"), Leg(2, 3, 0, 0, 10, "EUR")])


LEGS = st.builds(
    lambda pair, minor: Leg(pair[0], pair[1], 0, 0, minor, "USD"),
    st.permutations(range(1, 6)).map(lambda nos: nos[:2]),
    st.integers(1, 10**12),
)


@given(st.lists(LEGS, min_size=1, max_size=40))
def test_l01_changes_add_up_to_zero_in_any_order(legs: list[Leg]) -> None:
    changes = rules.changes(legs)

    assert sum(change.debits_posted - change.credits_posted for change in changes.values()) == 0
    assert sum(change.debits_posted for change in changes.values()) == sum(x.minor for x in legs)
    assert rules.changes(reversed(legs)) == changes
