"""Two ways to hear of one payment, two buyers with one contact, words of long ago (C08, C17, E19, J35, L16)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from domain import checkout
from domain.core import db
from domain.core.money import Money
from domain.core.settings import settings
from tests import make
from tests.journeys import checker
from tests.platform import Platform, running, uuid_of
from tests.rows import changed, everything


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        yield found
    assert await checker.faults() == []


async def count(table: str) -> int:
    found: int = await db.value(f"SELECT count(*) FROM {table}")
    return found


async def ask_provider() -> None:
    await db.execute("UPDATE payment_attempt SET next_check_at = clock_timestamp()")
    await checkout.check_due()


async def test_c08_poll_and_callback_at_once_are_one_effect(platform: Platform) -> None:
    of = await make.shop()
    order_id, access_key, paid = await platform.bought(of)

    await asyncio.gather(
        platform.sandbox.do(paid["id"], "confirm", account="main"),
        *(ask_provider() for _ in range(5)),
        *(platform.work() for _ in range(3)),
    )
    await platform.heard(1)
    await ask_provider()  # whichever came first, the other has come by now
    await platform.work()

    order = await platform.order(order_id, access_key)
    assert (order["status"], len(order["goods"])) == ("DELIVERED", 1)
    assert (await count("capture"), await count("ledger_journal")) == (1, 1)
    verdicts = [row["verdict"] for row in await db.fetch("SELECT verdict FROM inbox_event")]
    assert verdicts.count("applied") == 1
    assert set(verdicts) <= {"applied", "duplicate"}
    kinds = [event["kind"] for event in order["timeline"]]
    assert kinds.count("PAID") == kinds.count("DELIVERED") == 1


async def test_c17_pay_that_races_its_callback_and_a_second_pay_makes_one_of_everything(
    platform: Platform,
) -> None:
    of = await make.shop(price=Money(1_007, "USD"))  # its callback is faster than its answer
    begun = await platform.start(of)
    order_id, access_key = begun["order"]["id"], begun["accessKey"]

    tabs = await asyncio.gather(
        *(platform.pay(order_id, access_key, key=key) for key in ("one", "one", "two", "three")),
        platform.work(),
        return_exceptions=True,
    )
    await platform.heard(1)
    await platform.work()
    again = await platform.pay(order_id, access_key, key="one")
    late = await platform.pay(order_id, access_key, key="late")

    order = await platform.order(order_id, access_key)
    assert (order["status"], len(order["goods"])) == ("DELIVERED", 1)
    for table in ("payment_intent", "payment_attempt", "capture", "ledger_journal"):
        assert await count(table) == 1, (table, tabs)
    assert await count("card_key WHERE state = 'sold'") == 1
    assert again["id"] == order["payments"][0]["id"]
    assert late["code"] == "ORDER_STATE_CONFLICT"


async def test_e19_two_buyers_with_one_contact_never_see_each_others_orders(
    platform: Platform,
) -> None:
    of = await make.shop()
    bought = []
    for number in (1, 2):
        order_id, access_key, paid = await platform.bought(of)
        await platform.sandbox.do(paid["id"], "confirm", account="main")
        await platform.heard(number)
        await platform.work()
        bought.append((order_id, access_key))

    (one, one_key), (two, two_key) = bought
    mine, theirs = await platform.order(one, one_key), await platform.order(two, two_key)

    assert await count("(SELECT DISTINCT email_hash FROM orders) AS e") == 1
    goods = [{good["content"] for good in order["goods"]} for order in (mine, theirs)]
    assert [len(found) for found in goods] == [1, 1]
    assert not goods[0] & goods[1]
    assert mine["number"] != theirs["number"]
    # Neither key nor the address of the other opens it.
    assert await platform.order(one, two_key) is None
    assert await platform.order(two, one_key) is None
    assert await platform.order(one, None) is None
    refused = await platform.pay(two, one_key)
    assert refused["code"] == "NOT_FOUND"
    assert await count("payment_attempt") == 2


async def test_j35_an_ancient_duplicate_gets_the_success_word_and_has_no_effect(
    platform: Platform,
) -> None:
    of = await make.shop()
    order_id, access_key, paid = await platform.bought(of)
    await platform.sandbox.do(paid["id"], "confirm", account="main")
    await platform.heard(1)
    await platform.work()
    before = await everything()

    courier = platform.sandbox.app.state.sandbox.courier
    event_id = await db.value("SELECT event_id FROM inbox_event")
    for _ in range(3):  # signed anew each time, as after days
        heard = asyncio.create_task(courier.acknowledged(event_id, 5))
        await asyncio.sleep(0)
        await platform.sandbox.do(paid["id"], "repeat", account="main")
        assert await heard  # the success word
    await platform.work()

    assert changed(before, await everything()) == set()
    assert (await platform.order(order_id, access_key))["status"] == "DELIVERED"
    assert await count("inbox_event") == 1


async def test_l16_a_failed_read_and_a_refused_callback_change_nothing(platform: Platform) -> None:
    of = await make.shop(price=Money(1_002, "USD"))  # charged, and the answer is lost
    order_id, access_key, paid = await platform.bought(of)
    assert paid["status"] == "UNKNOWN"
    before = await everything(but=("payment_attempt",))
    attempt = "SELECT state, provider_ref, processed_minor, raw_code FROM payment_attempt"
    was = await db.row(attempt)

    for fault in ("500", "html", "cut", "latin1", "unsigned"):
        await platform.sandbox.modes("main", fault=fault)
        await ask_provider()
    url = f"{settings().public_url}/hooks/sandbox/main"
    async with aiohttp.ClientSession() as http:
        for body, headers in (
            (b"", {}),
            (b"{}", {"Sandbox-Signature": "0" * 64}),
            (b'{"reference": "' + paid["id"].encode() + b'", "state": "captured"}', {}),
        ):
            async with http.post(url, data=body, headers=headers) as response:
                assert response.status in (400, 401)
                assert await response.read() != b"success"
    await platform.work()

    assert changed(before, await everything(but=("payment_attempt",))) == set()
    assert await db.row(attempt) == was
    assert (await platform.order(order_id, access_key))["goods"] == []
    assert uuid_of(paid["id"]) == await db.value("SELECT id FROM payment_attempt")
    await platform.sandbox.modes("main")
