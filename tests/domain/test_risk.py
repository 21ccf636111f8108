"""Risk on a real database: what a decision costs, what it counts, its replay and resolution."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from domain import risk
from domain.core import db as database
from domain.core.errors import Conflict, FieldInvalid, NotFound
from domain.core.ids import uuid7
from domain.core.money import Money
from domain.risk import ports
from domain.risk.rules import Facts, TierAnswer
from tests.database import as_owner

SOON = timedelta(days=1)


def subject(**changes: Any) -> risk.Subject:
    plain: dict[str, Any] = {
        "order_id": uuid7(),
        "merchant_id": uuid7(),
        "amount": Money(1_990, "USD"),
        "usd_minor": 1_990,
        "email_hash": os.urandom(32),
        "address_hash": os.urandom(32),
        "country": "US",
        "geo_country": "US",
        "email_domain": "example.com",
        "method": "sandbox",
        "platform": "web",
    }
    return risk.Subject(**{**plain, **changes})


async def assess(one: risk.Subject) -> risk.Decision:
    """A set of one payment."""
    return (await risk.assess([one]))[0]


def soon() -> datetime:
    return datetime.now(UTC) + SOON


@pytest.fixture
async def rules(db: None) -> AsyncIterator[None]:
    """Rules a test adds are retired at its end: the first ones are seeded, not made per test."""
    yield
    rows = await database.fetch(
        "SELECT id FROM risk_rule WHERE made_by = 'test' AND state <> 'retired'"
    )
    for row in rows:
        await risk.move(row["id"], risk.RuleState.RETIRED, "test")


async def live(name: str, condition: Any, outcome: risk.Outcome, **more: Any) -> UUID:
    rule_id = await risk.draft(name, condition, outcome, score_bps=5_000, actor="test", **more)
    await risk.move(rule_id, risk.RuleState.SHADOW, "test")
    await risk.move(rule_id, risk.RuleState.LIVE, "test")
    return rule_id


async def test_a_plain_payment_is_allowed_in_two_statements(db: None) -> None:
    await assess(subject())

    async with database.statements() as seen:
        decision = await assess(subject())

    assert len(seen) == 2
    assert (decision.outcome, decision.reasons, decision.score_bps) == (risk.Outcome.ALLOW, (), 0)
    assert await risk.decisions(decision.order_id) == [decision]
    assert await risk.find(decision.id) == decision


async def test_a_high_amount_is_held_with_its_reason(db: None) -> None:
    exact = await assess(subject(usd_minor=500_000))
    above = await assess(subject(usd_minor=500_001))

    assert exact.outcome is risk.Outcome.ALLOW
    assert (above.outcome, above.reasons) == (risk.Outcome.HOLD, ("amount_hold",))


async def test_n10_a_decision_replays_bit_equal_after_the_rules_changed(rules: None) -> None:
    address = risk.Pivot(risk.PivotKind.ADDRESS, os.urandom(32))
    await risk.enlist(risk.EntryList.WATCH, address, soon(), "odd", "op")
    held = await assess(
        subject(
            address_hash=address.hash,
            usd_minor=600_000,
            card_country="GB",
            email_domain="yopmail.com",
            signals={"typing": 0.1, "wallets": ["apple_pay"]},
        )
    )
    await live("amount_hold_2", risk.Amount(0), risk.Outcome.DECLINE)
    await risk.lift(risk.EntryList.WATCH, address, "fine", "op")

    replayed = await risk.replay(held.id)

    assert replayed.is_equal
    assert held.reasons == ("amount_hold", "card_country", "disposable_email", "watch_list:address")
    facts = await database.value("SELECT facts_json FROM risk_decision WHERE id = $1", held.id)
    assert facts["signals"] == {"typing": 0.1, "wallets": ["apple_pay"]}
    with pytest.raises(NotFound):
        await risk.replay(uuid7())


async def test_velocity_counts_per_pivot_and_window(rules: None) -> None:
    await live(
        "test_hour",
        risk.Velocity(risk.PivotKind.ADDRESS, risk.Measure.DECISIONS, 3_600, limit=3),
        risk.Outcome.CHALLENGE,
    )
    address = os.urandom(32)

    outcomes = [(await assess(subject(address_hash=address))).outcome for _ in range(5)]

    assert outcomes == [risk.Outcome.ALLOW] * 3 + [risk.Outcome.CHALLENGE] * 2
    assert (await assess(subject())).outcome is risk.Outcome.ALLOW
    await database.execute("UPDATE risk_counter SET bucket_at = bucket_at - interval '61 minutes'")
    assert (await assess(subject(address_hash=address))).outcome is risk.Outcome.ALLOW


async def test_payments_judged_together_count_for_each_other(rules: None) -> None:
    await live(
        "test_burst",
        risk.Velocity(risk.PivotKind.ADDRESS, risk.Measure.ORDERS, 3_600, limit=3),
        risk.Outcome.CHALLENGE,
    )
    burst = [subject(address_hash=b"a burst from one address") for _ in range(5)]

    together = await risk.assess([*burst, burst[0], subject()])

    assert "".join(one.outcome[0] for one in together) == "aaaccca"  # allow, challenge
    sql = (
        "SELECT sum(decisions), sum(orders), sum(usd_minor) FROM risk_counter WHERE pivot_hash = $1"
    )
    [counts] = await database.fetch(sql, burst[0].address_hash)
    assert tuple(counts) == (6, 5, 5 * 1_990)  # the order that came twice is one order
    for one in together:
        assert (await risk.replay(one.id)).is_equal


async def test_an_order_tried_again_is_counted_once_by_orders_and_amount(rules: None) -> None:
    once = subject(usd_minor=700, payer_hash=os.urandom(32))

    for _ in range(3):
        await assess(once)

    rows = await database.fetch(
        "SELECT pivot, sum(decisions) AS decisions, sum(orders) AS orders, sum(usd_minor) AS usd"
        " FROM risk_counter GROUP BY pivot ORDER BY pivot"
    )
    assert [tuple(row) for row in rows] == [
        ("address", 3, 1, 700),
        ("email", 3, 1, 700),
        ("payer", 3, 1, 700),
    ]


async def test_a_hot_address_is_counted_exactly_under_concurrency(db: None) -> None:
    address, device = os.urandom(32), os.urandom(32)

    await asyncio.gather(
        *(assess(subject(address_hash=address, device_hash=device)) for _ in range(60))
    )

    counted = await database.value(
        "SELECT sum(decisions) FROM risk_counter WHERE pivot_hash = $1", address
    )
    assert counted == 60


async def test_a_block_declines_until_it_is_lifted_or_over(db: None) -> None:
    email = risk.Pivot(risk.PivotKind.EMAIL, os.urandom(32))
    await risk.block(email, soon(), "chargebacks", "op")

    blocked = await assess(subject(email_hash=email.hash))
    assert await risk.unblock(email, "mistake", "op") == 1
    free = await assess(subject(email_hash=email.hash))
    await risk.block(email, soon(), "again", "op")
    await as_owner(
        "UPDATE risk_entry SET made_at = made_at - interval '3 days',"
        " until_at = until_at - interval '3 days'"
    )
    over = await assess(subject(email_hash=email.hash))

    assert (blocked.outcome, blocked.reasons) == (risk.Outcome.DECLINE, ("block_list:email",))
    assert (free.outcome, over.outcome) == (risk.Outcome.ALLOW, risk.Outcome.ALLOW)
    actions_seen = await database.fetch("SELECT action, actor_id FROM audit_log ORDER BY no")
    assert [tuple(row) for row in actions_seen] == [
        ("risk.block", "op"),
        ("risk.unblock", "op"),
        ("risk.block", "op"),
    ]


@pytest.mark.parametrize("days", [-1, 0, 367])
async def test_n03_every_entry_ends_within_a_year(db: None, days: int) -> None:
    email = risk.Pivot(risk.PivotKind.EMAIL, os.urandom(32))

    with pytest.raises(FieldInvalid):
        await risk.block(email, datetime.now(UTC) + timedelta(days=days, seconds=-1), "why", "op")

    assert await database.value("SELECT count(*) FROM risk_entry") == 0


async def test_n04_a_snoozed_pivot_goes_on_counting(rules: None) -> None:
    condition = risk.Velocity(risk.PivotKind.EMAIL, risk.Measure.DECISIONS, 3_600, limit=1)
    await live("test_mail", condition, risk.Outcome.CHALLENGE)
    email = risk.Pivot(risk.PivotKind.EMAIL, os.urandom(32))
    await assess(subject(email_hash=email.hash))
    await risk.snooze(email, "test_mail", soon(), "a known reseller", "op")

    quiet = await assess(subject(email_hash=email.hash))
    await risk.lift(risk.EntryList.SNOOZE, email, "over", "op")
    loud = await assess(subject(email_hash=email.hash))

    assert (quiet.outcome, loud.outcome) == (risk.Outcome.ALLOW, risk.Outcome.CHALLENGE)
    counted = await database.value(
        "SELECT sum(decisions) FROM risk_counter WHERE pivot = 'email' AND pivot_hash = $1",
        email.hash,
    )
    assert counted == 3
    with pytest.raises(FieldInvalid):
        await risk.snooze(email, "address_floor", soon(), "please", "op")
    with pytest.raises(NotFound):
        await risk.snooze(email, "no_such_rule", soon(), "please", "op")


async def test_n09_a_candidate_in_shadow_leaves_phantoms_only(rules: None) -> None:
    rule_id = await risk.draft(
        "test_candidate", risk.Amount(0), risk.Outcome.DECLINE, score_bps=9_000, actor="test"
    )
    drafted = await assess(subject())
    await risk.move(rule_id, risk.RuleState.SHADOW, "test")

    shadowed = await assess(subject())

    assert drafted.phantom is None
    assert (shadowed.outcome, shadowed.score_bps, shadowed.reasons) == (risk.Outcome.ALLOW, 0, ())
    assert shadowed.phantom is risk.Outcome.DECLINE
    hits = await database.value(
        "SELECT verdict_json -> 'hits' FROM risk_decision WHERE id = $1", shadowed.id
    )
    assert hits == [
        ["test_candidate", "1", "decline", 9_000, "test_candidate", "fired", None, True]
    ]
    assert (await risk.replay(shadowed.id)).is_equal


async def test_m22_versions_only_move_forward_and_one_is_live(rules: None) -> None:
    first = await live("test_one", risk.Amount(1_000), risk.Outcome.HOLD)
    second = await live("test_one", risk.Amount(2_000), risk.Outcome.HOLD)

    states = await database.fetch(
        "SELECT version, state FROM risk_rule WHERE name = 'test_one' ORDER BY version DESC LIMIT 2"
    )
    assert [row["state"] for row in states] == ["live", "retired"]
    for rule_id, state in (
        (first, risk.RuleState.LIVE),
        (second, risk.RuleState.SHADOW),
        (second, risk.RuleState.DRAFT),
        (second, risk.RuleState.LIVE),
    ):
        with pytest.raises(Conflict):
            await risk.move(rule_id, state, "test")
    with pytest.raises(asyncpg.RestrictViolationError):
        await as_owner("UPDATE risk_rule SET outcome = 'allow' WHERE id = $1", second)


async def test_n11_a_slow_or_broken_tier_leaves_the_rules_alone(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model:
        version = "7"
        timeout_s = 10.0

        def __init__(self, *, sleep_s: float = 0, error: Exception | None = None) -> None:
            self.sleep_s, self.error = sleep_s, error

        async def score(self, asked: risk.Subject, facts: Facts) -> TierAnswer:
            await asyncio.sleep(self.sleep_s)
            if self.error:
                raise self.error
            return TierAnswer("", "", risk.Outcome.HOLD, 7_100, ("odd_hours",))

    monkeypatch.setitem(ports.tiers, "slow", Model(sleep_s=5))
    monkeypatch.setitem(ports.tiers, "down", Model(error=ConnectionError("gone")))
    monkeypatch.setitem(ports.tiers, "model", Model())
    started = asyncio.get_running_loop().time()

    decision = await assess(subject())

    assert asyncio.get_running_loop().time() - started < 1
    assert (decision.outcome, decision.reasons) == (risk.Outcome.HOLD, ("model:odd_hours",))
    assert decision.silent == ("down", "slow")
    assert decision.score_bps == 7_100
    monkeypatch.undo()
    assert (await risk.replay(decision.id)).is_equal


async def test_resolve_is_said_once_and_clears_the_reason_for_this_order(db: None) -> None:
    dear = subject(usd_minor=900_000)
    held = await assess(dear)

    resolved = await risk.resolve(held.id, risk.Outcome.ALLOW, "ann", "called the buyer")
    again = await risk.resolve(held.id, risk.Outcome.ALLOW, "bob", "also fine")

    assert again == resolved
    assert resolved.resolution is not None
    assert (resolved.standing, resolved.resolution.actor) == (risk.Outcome.ALLOW, "ann")
    with pytest.raises(Conflict):
        await risk.resolve(held.id, risk.Outcome.DECLINE, "bob", "no")
    assert (await assess(dear)).outcome is risk.Outcome.ALLOW
    assert (await assess(subject(usd_minor=900_000))).outcome is risk.Outcome.HOLD
    assert await database.value("SELECT count(*) FROM audit_log") == 1


async def test_resolve_refuses_what_never_waited(db: None) -> None:
    allowed = await assess(subject())

    with pytest.raises(Conflict):
        await risk.resolve(allowed.id, risk.Outcome.DECLINE, "ann", "changed my mind")
    with pytest.raises(FieldInvalid):
        await risk.resolve(allowed.id, risk.Outcome.HOLD, "ann", "hm")
    with pytest.raises(NotFound):
        await risk.resolve(uuid7(), risk.Outcome.ALLOW, "ann", "who")


async def test_a_decision_is_never_edited(db: None) -> None:
    decision = await assess(subject())

    for change in ("outcome = 'decline'", "facts_json = '{}'", "reasons = '{x}'"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await as_owner(f"UPDATE risk_decision SET {change} WHERE id = $1", decision.id)
    with pytest.raises(asyncpg.RestrictViolationError):
        await as_owner("DELETE FROM risk_decision")


@pytest.mark.parametrize(
    "signals",
    [{"a": "x\0y"}, {"a": "\ud800"}, {"a": "x" * 5_000}, {"a": object()}],
    ids=["null byte", "lone surrogate", "large", "foreign"],
)
async def test_signals_that_cannot_be_stored_are_left_out(
    db: None, signals: dict[str, Any]
) -> None:
    decision = await assess(subject(signals=signals))

    facts = await database.value("SELECT facts_json FROM risk_decision WHERE id = $1", decision.id)
    assert "signals" not in facts
    assert facts["method"] == "sandbox"


async def test_counters_out_of_every_window_are_pruned(db: None) -> None:
    await assess(subject())
    await database.execute("UPDATE risk_counter SET bucket_at = bucket_at - interval '25 hours'")
    await assess(subject())

    assert await risk.prune() == 2
    assert await database.value("SELECT count(*) FROM risk_counter") == 2


async def test_assess_in_a_transaction_is_refused_while_tiers_may_call_out(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ports.tiers, "model", object())

    with pytest.raises(AssertionError):
        async with database.transaction():
            await assess(subject())


async def test_n13_a_set_counts_every_payment_once_and_judges_each_by_what_came_before_it(
    rules: None,
) -> None:
    address = os.urandom(32)
    pair = [subject(address_hash=address), subject(address_hash=address, usd_minor=5)]
    await assess(subject(address_hash=address))

    first, second = await risk.assess(pair)

    assert [first.order_id, second.order_id] == [one.order_id for one in pair]
    rows = await database.fetch(
        "SELECT decisions, orders, usd_minor FROM risk_counter WHERE pivot_hash = $1", address
    )
    assert sum(row["decisions"] for row in rows) == 3
    assert sum(row["orders"] for row in rows) == 3
    assert sum(row["usd_minor"] for row in rows) == 1_990 + 1_990 + 5
    for decision in (first, second):
        assert (await risk.replay(decision.id)).is_equal
