"""Laws of the risk rules: the highest wins in any order, floors stay, shadows change nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.core.errors import FieldInvalid
from domain.risk import rules
from domain.risk.conditions import (
    Amount,
    Condition,
    Count,
    CountryMismatch,
    DisposableEmail,
    EntryList,
    Listed,
    Measure,
    PivotKind,
    Velocity,
    params,
    parse,
)
from domain.risk.rules import Effect, Entry, Facts, Outcome, Rule, RuleState, TierAnswer

PLAIN = Facts(usd_minor=1_990, is_first=True, is_production=True, country="US", geo_country="US")


def rule(
    condition: Condition,
    outcome: Outcome = Outcome.CHALLENGE,
    *,
    name: str = "rule",
    state: RuleState = RuleState.LIVE,
    is_floor: bool = False,
    score_bps: int = 1_000,
) -> Rule:
    return Rule(name, 1, state, outcome, score_bps, is_floor, condition)


HOUR = Velocity(PivotKind.ADDRESS, Measure.DECISIONS, 3_600, limit=3, limit_development=100)
ALWAYS = Amount(0)

entries = st.builds(
    Entry,
    st.sampled_from(EntryList),
    st.sampled_from(PivotKind),
    st.sampled_from([None, "a", "b", "c", "d", "e", "f"]),
)
conditions = st.one_of(
    st.builds(Amount, st.sampled_from([0, 10_000])),
    st.builds(Listed, st.sampled_from(EntryList)),
    st.builds(
        Velocity,
        st.sampled_from(PivotKind),
        st.sampled_from(Measure),
        st.just(3_600),
        st.integers(0, 5),
    ),
    st.just(CountryMismatch("geo_country", "country")),
)
answers = st.builds(
    TierAnswer,
    st.sampled_from(["model", "graph"]),
    st.just("1"),
    st.sampled_from(Outcome),
    st.integers(0, 10_000),
    st.lists(st.sampled_from(["x", "y"]), unique=True).map(tuple),
    st.sampled_from(["", "slow"]),
)
facts = st.builds(
    Facts,
    usd_minor=st.integers(0, 20_000),
    is_first=st.booleans(),
    is_production=st.booleans(),
    country=st.just("US"),
    geo_country=st.sampled_from([None, "US", "HK"]),
    counts=st.dictionaries(
        st.tuples(st.sampled_from(PivotKind), st.just(3_600)),
        st.builds(Count, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    ),
    entries=st.lists(entries, max_size=4).map(tuple),
    cleared=st.frozensets(st.sampled_from(["a", "b", "model:x"])),
    tiers=st.lists(answers, max_size=2, unique_by=lambda one: one.tier).map(tuple),
)


@st.composite
def rulesets(draw: st.DrawFn) -> list[Rule]:
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=6))
    return [
        rule(
            draw(conditions),
            draw(st.sampled_from(Outcome)),
            name=name,
            state=draw(st.sampled_from([RuleState.LIVE, RuleState.SHADOW])),
            is_floor=draw(st.booleans()),
            score_bps=draw(st.integers(0, 10_000)),
        )
        for name in names
    ]


@given(rulesets(), facts, st.randoms(use_true_random=False))
def test_n01_the_highest_outcome_wins_and_order_is_irrelevant(
    found: list[Rule], given_facts: Facts, chance: random.Random
) -> None:
    verdict = rules.evaluate(found, given_facts)
    shuffled = chance.sample(found, len(found))
    mixed = replace(
        given_facts,
        entries=tuple(chance.sample(given_facts.entries, len(given_facts.entries))),
        tiers=tuple(chance.sample(given_facts.tiers, len(given_facts.tiers))),
    )

    assert rules.evaluate(shuffled, mixed).to_bytes() == verdict.to_bytes()
    fired = [hit for hit in verdict.hits if hit.effect is Effect.FIRED and not hit.is_shadow]
    elsewhere = [hit.outcome for hit in fired if hit.pivot is not PivotKind.DEVICE]
    if any(outcome is not Outcome.ALLOW for outcome in elsewhere):
        assert verdict.outcome is max((hit.outcome for hit in fired), key=lambda one: one.rank)
    assert {hit.reason for hit in fired} == set(verdict.reasons)


@given(rulesets(), facts)
def test_n01_a_challenge_that_cannot_be_asked_is_a_hold_and_nothing_else_changes(
    found: list[Rule], given_facts: Facts
) -> None:
    can = rules.evaluate(found, given_facts)
    cannot = rules.evaluate(found, replace(given_facts, can_authenticate=False))
    again = Facts.from_json(replace(given_facts, can_authenticate=False).to_json())

    is_challenge = can.outcome is Outcome.CHALLENGE
    assert cannot.outcome is (Outcome.HOLD if is_challenge else can.outcome)
    assert cannot.reasons == (*can.reasons, *([rules.CANNOT_AUTHENTICATE] * is_challenge))
    assert (cannot.hits, cannot.score_bps, cannot.silent) == (can.hits, can.score_bps, can.silent)
    assert rules.evaluate(found, again).to_bytes() == cannot.to_bytes()


@given(rulesets(), facts)
def test_n09_a_rule_in_shadow_changes_nothing(found: list[Rule], given_facts: Facts) -> None:
    without = [one for one in found if one.state is RuleState.LIVE]

    verdict, plain = rules.evaluate(found, given_facts), rules.evaluate(without, given_facts)

    assert (verdict.outcome, verdict.score_bps, verdict.reasons) == (
        plain.outcome,
        plain.score_bps,
        plain.reasons,
    )
    assert plain.phantom is None
    assert (verdict.phantom is not None) == (len(without) < len(found))


def test_n09_a_phantom_tells_what_the_candidate_would_have_said() -> None:
    live = rule(Amount(10_000), Outcome.HOLD, name="amount")
    candidate = replace(
        live, version=2, state=RuleState.SHADOW, condition=Amount(1_000), outcome=Outcome.DECLINE
    )

    small = rules.evaluate([live, candidate], PLAIN)
    large = rules.evaluate(
        [live, replace(candidate, condition=Amount(10**6))], replace(PLAIN, usd_minor=20_000)
    )

    assert (small.outcome, small.phantom) == (Outcome.ALLOW, Outcome.DECLINE)
    assert (large.outcome, large.phantom) == (Outcome.HOLD, Outcome.ALLOW)


@pytest.mark.parametrize("entry_list", [EntryList.SANCTIONS, EntryList.STOLEN_CARD])
def test_n03_allow_never_skips_sanctions_stolen_cards_or_the_floor(entry_list: EntryList) -> None:
    allowed = Entry(EntryList.ALLOW, PivotKind.EMAIL)
    listed = rule(Listed(entry_list), Outcome.DECLINE, name="list")
    busy = {(PivotKind.ADDRESS, 3_600): Count(decisions=3)}

    verdict = rules.evaluate(
        [listed], replace(PLAIN, entries=(allowed, Entry(entry_list, PivotKind.PAYER)))
    )
    floor = rules.evaluate(
        [rule(HOUR, Outcome.DECLINE, name="floor", is_floor=True)],
        replace(PLAIN, entries=(allowed,), counts=busy),
    )
    ordinary = rules.evaluate(
        [rule(HOUR, Outcome.DECLINE)], replace(PLAIN, entries=(allowed,), counts=busy)
    )

    assert (verdict.outcome, verdict.reasons) == (Outcome.DECLINE, ("list:payer",))
    assert (floor.outcome, floor.reasons) == (Outcome.DECLINE, ("floor",))
    assert (ordinary.outcome, ordinary.reasons) == (Outcome.ALLOW, ())
    assert [hit.effect for hit in ordinary.hits] == [Effect.ALLOWED]


def test_n03_a_block_beats_an_allow_entry_that_a_guest_can_borrow() -> None:
    block = rule(Listed(EntryList.BLOCK), Outcome.DECLINE, name="block_list")
    both = (Entry(EntryList.ALLOW, PivotKind.EMAIL), Entry(EntryList.BLOCK, PivotKind.ADDRESS))

    assert rules.evaluate([block], replace(PLAIN, entries=both)).outcome is Outcome.DECLINE


def test_n04_a_snooze_silences_one_rule_and_never_a_floor() -> None:
    busy = {(PivotKind.ADDRESS, 3_600): Count(decisions=9)}
    quiet = replace(
        PLAIN, counts=busy, entries=(Entry(EntryList.SNOOZE, PivotKind.ADDRESS, "hour"),)
    )

    snoozed = rules.evaluate([rule(HOUR, name="hour"), rule(ALWAYS, name="amount")], quiet)
    floor = rules.evaluate([rule(HOUR, name="hour", is_floor=True)], quiet)

    assert snoozed.reasons == ("amount",)
    assert [hit.effect for hit in snoozed.hits] == [Effect.FIRED, Effect.SNOOZED]
    assert floor.reasons == ("hour",)


@given(st.sampled_from(Outcome), st.sampled_from(Outcome))
def test_n18_a_device_alone_never_blocks(on_device: Outcome, other: Outcome) -> None:
    device = rule(Listed(EntryList.BLOCK), on_device, name="device")
    listed = replace(PLAIN, entries=(Entry(EntryList.BLOCK, PivotKind.DEVICE),))

    alone = rules.evaluate([device], listed)
    together = rules.evaluate([device, rule(ALWAYS, other, name="amount")], listed)

    assert alone.outcome.rank <= Outcome.CHALLENGE.rank
    if other is not Outcome.ALLOW:
        assert together.outcome.rank == max(on_device.rank, other.rank)


@given(rulesets(), facts)
def test_n10_facts_survive_their_json(found: list[Rule], given_facts: Facts) -> None:
    again = Facts.from_json(given_facts.to_json())

    assert again == given_facts
    assert rules.evaluate(found, again).to_bytes() == rules.evaluate(found, given_facts).to_bytes()


def test_velocity_counts_this_payment_and_an_order_once() -> None:
    decisions = Velocity(PivotKind.EMAIL, Measure.DECISIONS, 3_600, limit=3)
    orders = Velocity(PivotKind.EMAIL, Measure.ORDERS, 3_600, limit=3)
    amount = Velocity(PivotKind.EMAIL, Measure.USD_MINOR, 3_600, limit=1_000)

    assert not decisions.is_passed(Count(decisions=2), 0, True, True)
    assert decisions.is_passed(Count(decisions=3), 0, True, True)
    assert orders.is_passed(Count(orders=3), 0, True, True)
    assert not orders.is_passed(Count(orders=3), 0, False, True)
    assert amount.is_passed(Count(usd_minor=900), 101, True, True)
    assert not amount.is_passed(Count(usd_minor=900), 101, False, True)


def test_limits_are_generous_in_development_only() -> None:
    busy = replace(PLAIN, counts={(PivotKind.ADDRESS, 3_600): Count(decisions=50)})

    assert rules.evaluate([rule(HOUR)], busy).outcome is Outcome.CHALLENGE
    assert rules.evaluate([rule(HOUR)], replace(busy, is_production=False)).outcome is Outcome.ALLOW


def test_an_unknown_country_is_no_mismatch() -> None:
    mismatch = rule(CountryMismatch("card_country", "country", above_usd_minor=1_000))

    assert rules.evaluate([mismatch], PLAIN).reasons == ()
    assert rules.evaluate([mismatch], replace(PLAIN, card_country="US")).reasons == ()
    assert rules.evaluate([mismatch], replace(PLAIN, card_country="GB")).reasons == ("rule",)
    small = replace(PLAIN, card_country="GB", usd_minor=1_000)
    assert rules.evaluate([mismatch], small).reasons == ()


def test_a_cleared_reason_does_not_stop_the_order_again() -> None:
    amount = rule(ALWAYS, Outcome.HOLD, name="amount_hold")
    block = rule(Listed(EntryList.BLOCK), Outcome.DECLINE, name="block_list")
    cleared = replace(PLAIN, cleared=frozenset({"amount_hold", "block_list:email"}))
    blocked = replace(cleared, entries=(Entry(EntryList.BLOCK, PivotKind.EMAIL),))

    assert rules.evaluate([amount], cleared).outcome is Outcome.ALLOW
    assert rules.evaluate([amount, block], blocked).outcome is Outcome.DECLINE


def test_n11_a_silent_tier_is_marked_and_changes_nothing() -> None:
    amount = rule(ALWAYS, Outcome.HOLD, name="amount_hold", score_bps=6_000)
    slow = replace(PLAIN, tiers=(TierAnswer("model", "7", failure="slow"),))
    spoken = replace(
        PLAIN, tiers=(TierAnswer("model", "7", Outcome.DECLINE, 9_100, ("card_testing",)),)
    )

    silent, heard = rules.evaluate([amount], slow), rules.evaluate([amount], spoken)

    assert (silent.outcome, silent.silent, silent.reasons) == (
        Outcome.HOLD,
        ("model",),
        ("amount_hold",),
    )
    assert (heard.outcome, heard.score_bps) == (Outcome.DECLINE, 9_100)
    assert heard.reasons == ("model:card_testing", "amount_hold")


@given(conditions)
def test_a_condition_survives_its_row(condition: Condition) -> None:
    kind, found = params(condition)

    assert parse(kind, found) == condition


@pytest.mark.parametrize(
    ("kind", "given_params"),
    [
        ("magic", {}),
        ("amount", {}),
        ("amount", {"above_usd_minor": -1}),
        ("amount", {"above_usd_minor": True}),
        ("amount", {"above_usd_minor": "5"}),
        ("amount", {"above_usd_minor": 5, "below": 6}),
        ("listed", {"list": "friends"}),
        ("country_mismatch", {"left": "country", "right": "country"}),
        ("country_mismatch", {"left": "country", "right": "email_domain"}),
        ("disposable_email", {"domains": []}),
        ("disposable_email", {"domains": ["Mailinator.com"]}),
        ("velocity", {"pivot": "address", "measure": "orders", "window_s": 301, "limit": 1}),
        ("velocity", {"pivot": "address", "measure": "orders", "window_s": 86_700, "limit": 1}),
        ("velocity", {"pivot": "shoe", "measure": "orders", "window_s": 300, "limit": 1}),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(kind: str, given_params: dict[str, object]) -> None:
    with pytest.raises(FieldInvalid):
        parse(kind, given_params)


def test_throw_away_mail_is_matched_by_its_whole_domain() -> None:
    disposable = rule(DisposableEmail(frozenset({"yopmail.com"}), above_usd_minor=1_000))

    for domain, reasons in (("yopmail.com", ("rule",)), ("notyopmail.com", ()), ("", ())):
        assert rules.evaluate([disposable], replace(PLAIN, email_domain=domain)).reasons == reasons
