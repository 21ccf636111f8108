"""What an order's page needs when its link is opened elsewhere: the shop and both rates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain.core import db as core_db
from domain.core import ids
from domain.core.money import Money
from tests import make
from tests.platform import Platform, running

FACTS = """
query ($id: ID!, $key: String) {
  order(id: $id, accessKey: $key) {
    shop { id handle name }
    quote { base target rate referenceRate spreadBps source lockedUntil }
  }
}"""


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        yield found


async def test_an_order_tells_its_shop_and_both_rates_as_they_were_locked(
    platform: Platform,
) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    begun = await platform.start(of, currency="HKD")
    who = {"id": begun["order"]["id"], "key": begun["accessKey"]}

    order = (await platform.data(FACTS, who))["order"]

    assert order["quote"] == begun["quote"]
    assert (order["quote"]["base"], order["quote"]["target"]) == ("USD", "HKD")
    assert order["shop"]["id"] == ids.encode("shp", of.shop_id)
    assert order["shop"]["handle"] == of.handle
    assert (await platform.data(FACTS, who | {"key": "0" * 26}))["order"] is None


async def test_an_order_in_the_shops_currency_has_no_rate_and_asks_for_none(
    platform: Platform,
) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    begun = await platform.start(of)
    who = {"id": begun["order"]["id"], "key": begun["accessKey"]}
    await platform.data(FACTS, who)

    async with core_db.statements() as seen:
        order = (await platform.data(FACTS, who))["order"]

    assert order["quote"] is None
    assert len(seen) == 1, seen
