"""What a provider's word means: right, short, over, other, repeated, late."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.core.money import Money
from domain.payments.ports import ChargeState, MethodKind
from domain.payments.rules import (
    LIVE,
    AttemptFacts,
    Verdict,
    is_card_number,
    judge,
    label,
)

ASKED = Money(1990, "USD")


def facts(
    state: str = "requires_action", taken: int = 0, kind: MethodKind = MethodKind.REDIRECT
) -> AttemptFacts:
    return AttemptFacts(ASKED, state, taken, kind)


@pytest.mark.parametrize("state", [*LIVE, "declined", "failed", "voided"])
def test_c02_money_of_the_right_amount_is_always_taken_in(state: str) -> None:
    judged = judge(facts(state), ChargeState.CAPTURED, ASKED)

    assert (judged.verdict, judged.state, judged.amount) == (Verdict.CAPTURE, "captured", ASKED)


def test_c01_the_same_word_again_changes_nothing() -> None:
    judged = judge(facts("captured", taken=1990), ChargeState.CAPTURED, ASKED)

    assert (judged.verdict, judged.amount) == (Verdict.NOTHING, None)


@pytest.mark.parametrize("minor", [1, 1989, 1991, 2990])
def test_j34_another_amount_is_a_conflict_and_still_booked(minor: int) -> None:
    judged = judge(facts(), ChargeState.CAPTURED, Money(minor, "USD"))

    assert (judged.verdict, judged.amount) == (Verdict.CONFLICT, Money(minor, "USD"))


def test_b05_another_currency_with_equal_digits_is_a_conflict() -> None:
    judged = judge(facts(), ChargeState.CAPTURED, Money(1990, "HKD"))

    assert (judged.verdict, judged.amount) == (Verdict.CONFLICT, Money(1990, "HKD"))


def test_b01_a_declared_part_is_a_capture_of_that_part_and_then_of_the_rest() -> None:
    first = judge(facts(), ChargeState.PARTIALLY_CAPTURED, Money(995, "USD"))
    rest = judge(facts("captured", taken=995), ChargeState.CAPTURED, ASKED)

    assert (first.verdict, first.amount) == (Verdict.CAPTURE, Money(995, "USD"))
    assert (rest.verdict, rest.amount) == (Verdict.CAPTURE, Money(995, "USD"))


@pytest.mark.parametrize("minor", [1989, 1991])
def test_b01_a_payer_who_pushes_money_may_send_less_or_more(minor: int) -> None:
    judged = judge(facts(kind=MethodKind.CRYPTO), ChargeState.CAPTURED, Money(minor, "USD"))

    assert (judged.verdict, judged.amount) == (Verdict.CAPTURE, Money(minor, "USD"))


@pytest.mark.parametrize("minor", [0, -5])
def test_b01_nothing_or_less_than_nothing_is_no_money(minor: int) -> None:
    assert judge(facts(), ChargeState.CAPTURED, Money(minor, "USD")).verdict is Verdict.NOTHING


@pytest.mark.parametrize("said", [ChargeState.DECLINED, ChargeState.FAILED, ChargeState.VOIDED])
def test_c09_a_late_refusal_after_the_money_changes_nothing(said: ChargeState) -> None:
    assert judge(facts("captured", taken=1990), said, Money(0, "USD")).verdict is Verdict.NOTHING


def test_e05_unknown_said_by_a_provider_closes_nothing() -> None:
    assert judge(facts("unknown"), ChargeState.UNKNOWN, Money(0, "USD")).verdict is Verdict.NOTHING


@given(order=st.permutations(["requires_action", "processing", "failed", "captured", "captured"]))
def test_c09_every_order_of_words_ends_with_the_money_taken_once(order: list[str]) -> None:
    state, taken = "started", 0
    for said in order:
        judged = judge(
            AttemptFacts(ASKED, state, taken),
            said,
            ASKED if said == "captured" else Money(0, "USD"),
        )
        state, taken = judged.state, taken + (judged.amount.minor if judged.amount else 0)

    assert (state, taken) == ("captured", 1990)


def test_l14_no_word_that_takes_nothing_ever_books_money() -> None:
    states = [*LIVE, "captured", "declined", "failed", "voided"]
    quiet = [one for one in ChargeState if "captured" not in one]
    for state, said in itertools.product(states, quiet):
        assert judge(facts(state), said, ASKED).amount is None


@pytest.mark.parametrize(
    ("text", "is_card"),
    [
        ("4242424242424242", True),
        ("4242 4242 4242 4242", True),
        ("378282246310005", True),
        ("4242424242424241", False),
        ("424242424242", False),
        ("tok_4242424242424242", False),
        ("4242424242424242x", False),
        ("", False),
    ],
)
def test_h40_a_token_that_could_be_a_card_number_is_known(text: str, is_card: bool) -> None:
    assert is_card_number(text) is is_card


@given(st.text(max_size=200))
def test_h40_a_label_shows_four_digits_at_most(text: str) -> None:
    shown = label(text)

    assert len(shown) <= 64
    assert sum(char.isdigit() for char in shown) <= 4
    assert shown.isprintable()


def test_a_label_keeps_the_words_and_the_last_four_digits() -> None:
    assert label("Sandbox ····4242") == "Sandbox ····4242"
    assert label("Visa 4242 4242 4242 1234") == "Visa ···· ···· ···· 1234"
    assert label("") == ""
