"""Merchants, shops and their terms on a real database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from domain import merchants
from domain.core import clock
from domain.core import db as core
from domain.core.errors import InputInvalid, NotFound
from domain.core.money import Money
from domain.merchants import (
    FeeTerms,
    HandleTaken,
    Plans,
    ReserveKind,
    Scope,
    Speed,
    SplitLeg,
    queries,
)
from tests.database import as_owner


async def opened(name: str = "Shop", ccy: str = "USD") -> UUID:
    return await merchants.open_merchant(
        name, base_ccy=ccy, country="SG", contact_email="shop@shop.test"
    )


async def test_a_shop_is_found_by_handle_and_id_with_its_merchant(db: None) -> None:
    merchant_id = await opened("Lantern Games", "SGD")
    shop_id = await merchants.open_shop(
        merchant_id, "lantern", {"en": "Lantern", "zh": "灯笼"}, {"accent": "#c33"}
    )

    found = await merchants.shop_by_handle("lantern")

    assert found is not None
    assert (found.id, found.merchant_id, found.base_ccy) == (shop_id, merchant_id, "SGD")
    assert (found.merchant_name, found.is_open, found.theme) == (
        "Lantern Games",
        True,
        {"accent": "#c33"},
    )
    assert [found.name(language) for language in ("en", "zh", "fr")] == [
        "Lantern",
        "灯笼",
        "Lantern",
    ]
    assert await merchants.shops([shop_id, uuid4()]) == {shop_id: found}
    assert await merchants.shops_of([merchant_id]) == [found]
    assert await merchants.shop_by_handle("elsewhere") is None


async def test_a_known_shop_costs_no_statement(db: None) -> None:
    await merchants.open_shop(await opened(), "lantern", {"en": "Lantern"})
    found = await merchants.shop_by_handle("lantern")
    assert found is not None

    async with core.statements() as sent:
        assert await merchants.shop_by_handle("lantern") is found
        assert await merchants.shops([found.id]) == {found.id: found}

    assert sent == []


async def test_a_handle_belongs_to_one_shop(db: None) -> None:
    one, two = await opened(), await opened()

    results = await asyncio.gather(
        *(merchants.open_shop(owner, "lantern", {"en": "x"}) for owner in (one, two)),
        return_exceptions=True,
    )

    assert sorted(type(result).__name__ for result in results) == ["HandleTaken", "UUID"]
    with pytest.raises(HandleTaken):
        await merchants.open_shop(one, "lantern", {"en": "x"})
    assert await core.value("SELECT count(*) FROM shop") == 1


async def test_e16_a_closed_merchant_keeps_its_shop_but_not_open(db: None) -> None:
    merchant_id = await opened()
    await merchants.open_shop(merchant_id, "lantern", {"en": "Lantern"})

    assert await merchants.close_merchant(merchant_id) is True
    assert await merchants.close_merchant(merchant_id) is False

    found = await merchants.shop_by_handle("lantern")
    assert found is not None
    assert not found.is_open
    assert merchant_id in await merchants.plans([merchant_id])  # open orders still settle
    with pytest.raises(NotFound):
        await merchants.open_shop(merchant_id, "lantern-two", {"en": "x"})
    row = (await merchants.merchants([merchant_id]))[merchant_id]
    assert (row.state, row.version) == ("closed", 2)


async def test_a_merchant_without_terms_pays_nothing_and_waits_a_day(db: None) -> None:
    merchant_id = await opened()

    assert await merchants.plans([merchant_id, uuid4()]) == {
        merchant_id: Plans(merchant_id=merchant_id, base_ccy="USD", speed=Speed.T1, days=1)
    }


async def test_terms_of_many_merchants_are_one_statement_then_none(db: None) -> None:
    platform = await merchants.set_fee(FeeTerms(600))
    ids = [await opened() for _ in range(5)]
    await merchants.set_settlement(ids[0], Speed.T0, days=0, float_limit_minor=5_000_00)
    plan_id = await merchants.set_reserve(
        ids[0], ReserveKind.ROLLING, pct_bps=500, days=30, reason="new merchant"
    )
    own = await merchants.set_fee(FeeTerms(450, scope=Scope.MERCHANT, merchant_id=ids[1]))

    async with core.statements() as sent:
        plans = await merchants.plans(ids)
        again = await merchants.plans(ids)

    assert len(sent) == 1
    assert again == plans
    first = plans[ids[0]]
    assert (first.speed, first.days, first.float_limit_minor) == (Speed.T0, 0, 5_000_00)
    assert (first.reserve_plan_id, first.reserve_bps, first.reserve_days) == (plan_id, 500, 30)
    assert first.schedule("USD") == platform
    assert first.fee_minor(Money(10_000, "USD")) == 600
    assert plans[ids[1]].schedule("EUR") == own
    assert plans[ids[1]].reserve_plan_id is None
    assert plans[ids[2]].schedule("JPY") == platform


async def test_terms_are_at_most_two_seconds_old(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    merchant_id = await opened()
    assert (await merchants.plans([merchant_id]))[merchant_id].days == 1
    await core.execute(
        "INSERT INTO settlement_plan (merchant_id, speed, days) VALUES ($1, 't0', 0)", merchant_id
    )
    assert (await merchants.plans([merchant_id]))[merchant_id].days == 1

    now = clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: now + 2)

    assert queries.CACHE_S <= 2
    assert (await merchants.plans([merchant_id]))[merchant_id].days == 0


async def test_a_shop_renamed_by_another_process_is_seen_within_two_seconds(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    merchant_id = await opened()
    shop_id = await merchants.open_shop(merchant_id, "corner", {"en": "Corner"})

    async def seen() -> tuple[str, int]:
        shop = await merchants.shop_by_handle("corner")
        assert shop is not None
        return shop.name("en"), shop.version

    assert await seen() == ("Corner", 1)
    await core.execute("UPDATE shop SET name_json = $1, version = 2", {"en": "Elsewhere"})
    assert await seen() == ("Corner", 1)
    now = clock.monotonic()
    with monkeypatch.context() as later:
        later.setattr(clock, "monotonic", lambda: now + 2)
        assert await seen() == ("Elsewhere", 2)
    # One's own change is seen at once.
    await merchants.rename_shop(merchant_id, shop_id, {"en": "Here"}, expected_version=2)
    assert await seen() == ("Here", 3)


async def test_a_new_fee_version_follows_and_the_old_one_stays(db: None) -> None:
    merchant_id = await opened()
    one = await merchants.set_fee(FeeTerms(600))
    two = await merchants.set_fee(FeeTerms(550))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    three = await merchants.set_fee(FeeTerms(500, valid_from_at=tomorrow))

    assert [one.version, two.version, three.version] == [1, 2, 3]
    assert (await merchants.plans([merchant_id]))[merchant_id].schedule("USD") == two
    assert await core.value("SELECT pct_bps FROM fee_schedule WHERE id = $1", one.id) == 600


async def test_j37_a_schedule_may_not_overlap_or_begin_in_the_past(db: None) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await merchants.set_fee(FeeTerms(600, valid_from_at=tomorrow))

    for at in (None, tomorrow, tomorrow - timedelta(hours=1), datetime(2020, 1, 1, tzinfo=UTC)):
        with pytest.raises(InputInvalid) as refused:
            await merchants.set_fee(FeeTerms(500, valid_from_at=at))
        assert refused.value.path == ("input", "validFromAt")
    await merchants.set_fee(FeeTerms(500, "EUR"))  # another subject

    assert await core.value("SELECT count(*) FROM fee_schedule") == 2


async def test_j37_nothing_is_written_when_refused(db: None) -> None:
    with pytest.raises(InputInvalid):
        await merchants.set_fee(FeeTerms(10_001))
    with pytest.raises(InputInvalid):
        await merchants.set_split(None, "payment", [SplitLeg("a", "p", "o", 9_999)])
    with pytest.raises(InputInvalid):
        await merchants.set_settlement(await opened(), Speed.T0, days=3)

    for table in ("fee_schedule", "split_rule", "settlement_plan"):
        assert await core.value(f"SELECT count(*) FROM {table}") == 0


async def test_parallel_versions_are_numbered_one_by_one(db: None) -> None:
    made = await asyncio.gather(*(merchants.set_fee(FeeTerms(100 + i)) for i in range(8)))

    assert sorted(one.version for one in made) == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_h31_terms_cannot_be_rewritten(db: None) -> None:
    await merchants.set_fee(FeeTerms(600))
    await merchants.set_split(
        None,
        "payment",
        [
            SplitLeg("commission", "platform_commission", "platform", 600),
            SplitLeg("m", "m", "m", remainder=True),
        ],
    )

    for table in ("fee_schedule", "split_rule"):
        for statement in (
            f"UPDATE {table} SET version = 9",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
        ):
            with pytest.raises(asyncpg.RestrictViolationError):
                await as_owner(statement)
    assert await core.value("SELECT legs_json FROM split_rule") == [
        {
            "leg": "commission",
            "purpose": "platform_commission",
            "owner": "platform",
            "pct_bps": 600,
        },
        {"leg": "m", "purpose": "m", "owner": "m", "remainder": True},
    ]


async def test_a_reserve_ends_with_a_plan_of_nothing(db: None) -> None:
    merchant_id = await opened()
    await merchants.set_reserve(merchant_id, ReserveKind.FULL, pct_bps=0, days=90, reason="review")
    assert (await merchants.plans([merchant_id]))[merchant_id].reserve_bps == 10_000

    await merchants.set_reserve(
        merchant_id, ReserveKind.ROLLING, pct_bps=0, days=1, reason="cleared"
    )

    plan = (await merchants.plans([merchant_id]))[merchant_id]
    assert (plan.reserve_plan_id, plan.reserve_bps, plan.reserve_days) == (None, 0, 0)


async def test_the_database_refuses_what_the_rules_refuse(db: None) -> None:
    insert = (
        "INSERT INTO fee_schedule (id, scope, payer, ccy, version, pct_bps, min_minor, max_minor,"
        " valid_from_at)"
        " VALUES ($1, 'platform', 'merchant', 'USD', 1, $2, $3, $4, clock_timestamp())"
    )
    for bps, low, high in ((10_001, 0, None), (0, 5, 4), (-1, 0, None)):
        with pytest.raises(asyncpg.CheckViolationError):
            await core.execute(insert, uuid4(), bps, low, high)
