"""The demo shops: exactly what acceptance relies on, made once."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from uuid import UUID

import pytest

from domain import identity, merchants
from domain.core import db as core
from domain.core.money import Money
from domain.core.settings import SettingsWrong, settings
from domain.identity import Role
from domain.merchants import Speed
from server import demo_goods, demo_logins, seed

CURRENCIES = {"CNY", "USD", "EUR", "HKD", "SGD", "JPY"}
STEERED = {f"0{digit}" for digit in range(1, 8)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of this test's own; the database fixture's is shared by the whole run."""
    read, keep = demo_logins.read, demo_logins.keep
    monkeypatch.setattr(demo_logins, "read", lambda _: read(tmp_path))
    monkeypatch.setattr(demo_logins, "keep", lambda _, logins: keep(tmp_path, logins))
    return tmp_path


def test_every_text_is_in_four_languages() -> None:
    for product in (*demo_goods.DEMO, *demo_goods.DEMO_T1):
        texts = [product.titles, product.descriptions, *(one.titles for one in product.variants)]
        for words in texts:
            assert set(words) == {"en", "zh", "ja", "es"}
            assert all(text.strip() for text in words.values())


def test_only_the_sandbox_meets_a_sandbox_amount() -> None:
    for product in (*demo_goods.DEMO, *demo_goods.DEMO_T1):
        for variant in product.variants:
            prices = seed.price_list(variant)
            assert {price.currency for price in prices.prices} == CURRENCIES
            units = [*prices.prices, *(tier.unit for tier in prices.tiers)]
            if "Sandbox" in variant.titles["en"]:
                continue
            for unit in units:
                ends = {f"{unit.minor * quantity % 100:02d}" for quantity in range(1, 101)}
                assert not ends & STEERED, (variant.titles["en"], unit)


def test_each_sandbox_outcome_has_its_amount_in_every_currency() -> None:
    for digit, variant in enumerate(demo_goods.DEMO[-1].variants, start=1):
        ends = {price.minor % 100 for price in seed.price_list(variant).prices}
        assert ends == {digit}
        assert all(f".0{digit}" in title for title in variant.titles.values())
        assert variant.keys >= 50
    assert len(demo_goods.DEMO[-1].variants) == 7


def test_tiers_are_cheaper_and_round() -> None:
    prices = seed.price_list(demo_goods.DEMO[0].variants[1])

    usd = [(tier.from_quantity, tier.unit) for tier in prices.tiers if tier.unit.currency == "USD"]

    assert prices.base == "USD"
    assert usd == [(10, Money(940, "USD")), (50, Money(890, "USD"))]


async def stock(handle: str) -> list[tuple[str, str, int]]:
    """(product, variant, keys in stock) of a shop in the order of its shelf."""
    rows = await core.fetch(
        "SELECT pt.title AS product, vt.title AS variant, (SELECT count(*) FROM card_key c"
        " WHERE c.variant_id = v.id AND c.state = 'available') AS keys"
        " FROM shop s JOIN product p ON p.shop_id = s.id"
        " JOIN product_text pt ON pt.product_id = p.id AND pt.language = 'en'"
        " JOIN variant v ON v.product_id = p.id"
        " JOIN variant_text vt ON vt.variant_id = v.id AND vt.language = 'en'"
        " WHERE s.handle = $1 ORDER BY p.position, p.id, v.position, v.id",
        handle,
    )
    return [(row["product"], row["variant"], row["keys"]) for row in rows]


async def test_the_demo_shop_is_as_promised(db: None) -> None:
    logins = await seed.demo()

    shelf = await stock("demo")
    assert len({product for product, _, _ in shelf}) >= 6
    assert shelf[0] == ("Star Coins top-up", "500 Star Coins", 2_000)
    assert [keys for _, variant, keys in shelf if "Scarce" in variant] == [20]
    assert await core.value("SELECT count(DISTINCT hash) = count(*) FROM card_key")
    assert set(logins) == {"merchant@demo.test", "merchant-t1@demo.test", "operator@demo.test"}
    assert len(set(logins.values())) == 3
    kinds = await core.value(
        "SELECT array_agg(DISTINCT delivery::text ORDER BY delivery::text) FROM variant"
    )
    assert kinds == ["manual", "reusable", "stock"]
    assert await core.value("SELECT count(*) FROM coupon") == 6


async def test_h44_the_logins_work_and_are_kept_private(db: None, folder: Path) -> None:
    logins = await seed.demo()
    assert demo_logins.read(folder) == logins
    assert stat.S_IMODE((folder / "demo.json").stat().st_mode) == 0o600

    owner = await identity.sign_in("merchant@demo.test", logins["merchant@demo.test"], None)
    operator = await identity.sign_in("operator@demo.test", logins["operator@demo.test"], None)

    shop = await merchants.shop_by_handle("demo")
    assert shop is not None
    seen = await identity.viewer(owner.token)
    assert seen is not None
    assert seen.roles == {shop.merchant_id: Role.OWNER}
    seen = await identity.viewer(operator.token)
    assert seen is not None
    assert seen.may_operate()
    assert len(seen.operator_roles) == 4


async def test_the_terms_are_those_of_the_worked_sale(db: None) -> None:
    await seed.demo()
    first, second = [await merchants.shop_by_handle(handle) for handle in ("demo", "demo-t1")]
    assert first is not None
    assert second is not None

    plans = await merchants.plans([first.merchant_id, second.merchant_id])

    one, two = plans[first.merchant_id], plans[second.merchant_id]
    assert one.fee_minor(Money(10_000, "USD")) == 600
    assert (one.speed, one.days, one.reserve_bps, one.reserve_days) == (Speed.T0, 0, 500, 30)
    assert two.fee_minor(Money(10_000, "JPY")) == 600
    assert (two.speed, two.days, two.reserve_bps) == (Speed.T1, 1, 0)


async def test_seeding_again_changes_nothing(db: None) -> None:
    await seed.demo()
    before = await facts()

    async with core.statements() as sent:
        assert await seed.demo() == {}

    assert await facts() == before
    assert len(sent) <= 12  # it runs at every start


async def test_two_starts_at_once_make_one_shop(db: None) -> None:
    made = await asyncio.gather(seed.demo(), seed.demo())

    assert await core.value("SELECT count(*) FROM shop") == 2
    assert sorted(len(logins) for logins in made) == [0, 3]


async def test_a_lost_data_folder_gets_new_passwords(db: None, folder: Path) -> None:
    old = await seed.demo()
    (folder / "demo.json").unlink()

    new = await seed.demo()

    assert set(new) == set(old)
    assert not set(new.values()) & set(old.values())
    assert await identity.sign_in("merchant@demo.test", new["merchant@demo.test"], None)


async def test_a_seed_that_is_cut_off_leaves_nothing(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue = seed._issue_coupons

    async def cut(merchant_id: UUID) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(seed, "_issue_coupons", cut)
    with pytest.raises(ConnectionResetError):
        await seed.demo()
    assert (
        await core.value("SELECT (SELECT count(*) FROM shop) + (SELECT count(*) FROM account)") == 0
    )

    monkeypatch.setattr(seed, "_issue_coupons", issue)
    logins = await seed.demo()
    assert await identity.sign_in("merchant@demo.test", logins["merchant@demo.test"], None)
    assert len(await stock("demo")) == 19


async def test_h44_there_is_no_demo_in_production(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(settings()), "in_development", property(lambda _: False))

    with pytest.raises(SettingsWrong):
        await seed.demo()

    assert await core.value("SELECT count(*) FROM account") == 0


async def facts() -> tuple[object, ...]:
    """Counts of everything a seed could make twice."""
    tables = (
        "account merchant shop membership product variant card_key coupon fee_schedule reserve_plan"
    )
    return tuple([await core.value(f"SELECT count(*) FROM {table}") for table in tables.split()])
