"""From the event log to sent mails, on a real database with a carrier that says what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from domain import catalogue, merchants, notifications
from domain.core import db as core
from domain.core import events, ids, vault
from domain.core.events import Event
from domain.core.money import Money
from domain.notifications import Template, TooSoon, actions, ports
from domain.notifications.ports import Answer, Mail, Outcome
from tests import horizon


@dataclass
class Carrier:
    """Takes every mail, or answers what it was told to."""

    answers: list[Answer] = field(default_factory=list)
    taken: list[Mail] = field(default_factory=list)
    name: str = "fake"

    async def send(self, mails: Sequence[Mail]) -> list[Answer]:
        self.taken += mails
        await asyncio.sleep(0)
        return [self.answers.pop(0) if self.answers else Answer(Outcome.SENT) for _ in mails]


@pytest.fixture
def carrier(monkeypatch: pytest.MonkeyPatch) -> Carrier:
    one = Carrier()
    monkeypatch.setitem(ports.notifiers, "mail", one)
    return one


async def shop(locale: str = "zh") -> tuple[UUID, UUID]:
    merchant_id = await merchants.open_merchant(
        "Lantern Ltd",
        base_ccy="USD",
        country="SG",
        contact_email="shop@lantern.test",
        locale=locale,
    )
    shop_id = await merchants.open_shop(
        merchant_id, f"lantern-{merchant_id.hex[-6:]}", {"en": "Lantern", "ja": "ランタン"}
    )
    return merchant_id, shop_id


async def order(
    at: tuple[UUID, UUID],
    *,
    status: str = "delivered",
    email: str = "buyer@example.com",
    locale: str = "ja",
) -> UUID:
    order_id = ids.uuid7()
    await core.execute(
        "INSERT INTO orders (id, number, merchant_id, shop_id, lane, email, email_hash,"
        " address_hash, country,"
        " locale, total_minor, ccy, settle_ccy, status, expires_at)"
        " VALUES ($1, $2, $3, $4, 0, $5, '', '', 'JP', $6, 1990, 'USD', 'USD', $7,"
        " clock_timestamp() + interval '1 hour')",
        order_id,
        f"K-{order_id.hex[-10:]}",
        *at,
        email,
        locale,
        status,
    )
    await core.execute(
        "INSERT INTO order_line (id, order_id, merchant_id, position, variant_id, delivery,"
        " title, quantity,"
        " unit_minor, total_minor) VALUES ($1, $2, $3, 0, $1, 'stock', 'スターコイン', 2, 995, 1990)",
        ids.uuid7(),
        order_id,
        at[0],
    )
    return order_id


async def happened(
    at: tuple[UUID, UUID], order_id: UUID, *kinds: str, start: int = 1, **facts: Any
) -> None:
    async with core.transaction():
        await events.record(
            *(
                Event(order_id, at[0], start + place, kind, facts)
                for place, kind in enumerate(kinds)
            )
        )


async def collected() -> None:
    """Collect until the log is read; other transactions of this server may delay its end."""
    last = await core.value("SELECT count(*) FROM event_log")
    for _ in range(200):
        await horizon.passed()
        await notifications.collect()
        seen = await core.value(
            "SELECT count(*) FROM event_log e, event_reader r WHERE r.name = 'notifications'"
            " AND (e.txid, e.no) <= (r.txid, r.no)"
        )
        if seen == last:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the log was not read to its end")


async def rows(*columns: str) -> list[tuple[Any, ...]]:
    found = await core.fetch(
        f"SELECT {', '.join(columns)} FROM notification ORDER BY sequence, template"
    )
    return [tuple(row) for row in found]


async def test_a_sale_tells_buyer_and_merchant(db: None, carrier: Carrier) -> None:
    at = await shop()
    order_id = await order(at)
    await happened(at, order_id, "order.placed", "payment.started", "order.paid", "order.delivered")

    await collected()
    assert await notifications.send_due() == 2
    assert await notifications.send_due() == 0

    mail, sale = sorted(carrier.taken, key=lambda one: one.recipient)
    assert (mail.recipient, mail.language) == ("buyer@example.com", "ja")
    assert (sale.recipient, sale.language) == ("shop@lantern.test", "zh")
    link = f"/orders/{ids.encode('ord', order_id)}#accessKey={vault.access_key(order_id)}\n"
    assert link in mail.text
    assert "ランタン" in mail.text
    assert "2 × スターコイン" in mail.text
    assert "accessKey" not in sale.text
    assert await rows("template", "state", "tries") == [
        ("sale", "sent", 1),
        ("delivered", "sent", 1),
    ]


async def test_goods_that_come_later_are_two_mails(db: None, carrier: Carrier) -> None:
    at = await shop()
    order_id = await order(at, status="delivering")
    await happened(at, order_id, "order.paid", "order.delivering")
    await collected()
    await core.execute("UPDATE orders SET status = 'delivered'")
    await happened(at, order_id, "order.delivered", start=3)

    await collected()

    assert await rows("sequence", "template") == [(1, "paid"), (1, "sale"), (3, "delivered")]


async def test_c01_mails_are_one_per_event_however_often_jobs_run(
    db: None, carrier: Carrier
) -> None:
    at = await shop()
    for _ in range(10):
        await happened(at, await order(at), "order.paid", "order.delivered")

    await asyncio.gather(*(notifications.collect(limit=7) for _ in range(8)))
    await collected()
    await asyncio.gather(*(notifications.send_due(3) for _ in range(12)))
    while await notifications.send_due(3):
        pass
    await horizon.passed()
    await notifications.collect()

    assert len(carrier.taken) == 20
    assert len({mail.message_id for mail in carrier.taken}) == 20
    assert await core.value("SELECT count(*) FROM notification WHERE state = 'sent'") == 20


async def test_reading_the_log_again_owes_nothing_twice(db: None, carrier: Carrier) -> None:
    at = await shop()
    await happened(at, await order(at), "order.paid", "order.delivered")
    await collected()
    await core.execute("UPDATE event_reader SET txid = '0', no = 0")

    await collected()

    assert await core.value("SELECT count(*) FROM notification") == 2


async def test_many_events_cost_a_handful_of_statements(db: None, carrier: Carrier) -> None:
    at = await shop()
    for _ in range(30):
        await happened(at, await order(at), "order.paid", "order.delivered")
    await collected()
    await core.execute("UPDATE event_reader SET txid = '0', no = 0")
    await core.execute("DELETE FROM notification")

    await horizon.passed()
    async with core.statements() as reading:
        assert await notifications.collect() == 60
    async with core.statements() as sending:
        assert await notifications.send_due(100) == 60

    # begin, reader, position, events, orders, sold variants, low ones, mails, advance, commit
    assert len(reading) <= 10
    assert len(sending) == 2


async def test_events_without_mail_and_of_nobody_are_passed_by(db: None, carrier: Carrier) -> None:
    at = await shop()
    await happened(at, ids.uuid7(), "order.paid")
    await happened(at, await order(at), "order.placed", "order.expired")

    await collected()

    assert await core.value("SELECT count(*) FROM notification") == 0
    assert await notifications.collect() == 0


async def test_a_refusal_for_good_ends_and_a_delay_comes_again(db: None, carrier: Carrier) -> None:
    at = await shop()
    await happened(at, await order(at), "order.paid", "order.delivered")
    await collected()
    carrier.answers = [Answer(Outcome.REFUSED, "550"), Answer(Outcome.LATER, "451")]

    await notifications.send_due()

    assert sorted(await rows("state", "error", "tries", "sent_at")) == [
        ("failed", "550", 1, None),
        ("ready", "451", 1, None),
    ]
    assert await notifications.send_due() == 0  # not due yet
    assert await notifications.waiting() == 0
    await core.execute("UPDATE notification SET due_at = clock_timestamp() WHERE state = 'ready'")
    assert await notifications.waiting() == 1
    assert await notifications.send_due() == 1
    again = carrier.taken[-1]
    assert again.message_id in {mail.message_id for mail in carrier.taken[:2]}
    assert (
        await core.value("SELECT count(*) FROM notification WHERE state = 'sent' AND tries = 2")
        == 1
    )


async def test_the_last_delay_is_the_end(db: None, carrier: Carrier) -> None:
    at = await shop()
    await happened(at, await order(at), "order.delivered")
    await collected()
    await core.execute("UPDATE notification SET tries = 7")
    carrier.answers = [Answer(Outcome.LATER, "451")]

    await notifications.send_due()

    assert await rows("state", "tries") == [("failed", 8)]


async def test_m15_a_lost_lease_is_given_back_and_its_late_word_ignored(db: None) -> None:
    at = await shop()
    await happened(at, await order(at), "order.delivered")
    await collected()
    first = await core.row(actions._CLAIM, 10, -1.0)  # a worker that vanished; its lease is over
    assert first is not None

    assert await notifications.send_due() == 0  # nobody carries mail: nothing is claimed
    assert await notifications.sweep() == 1
    assert await notifications.sweep() == 0
    second = await core.row(actions._CLAIM, 10, 60.0)
    assert second is not None
    assert second["fence"] == first["fence"] + 1
    late = await core.execute(
        actions._FINISH, [first["id"]], [first["fence"]], ["failed"], ["late"], [0]
    )

    assert late == 0
    assert await rows("state") == [("leased",)]
    await core.execute(actions._FINISH, [second["id"]], [second["fence"]], ["sent"], [""], [0])
    assert await rows("state", "error") == [("sent", None)]


async def test_a_mail_that_kills_its_senders_fails_in_the_end(db: None) -> None:
    at = await shop()
    await happened(at, await order(at), "order.delivered")
    await collected()
    await core.execute(
        "UPDATE notification SET state = 'leased', tries = 8, lease_until = clock_timestamp() -"
        " interval '1 s'"
    )

    assert await notifications.sweep() == 1
    assert await rows("state") == [("failed",)]


async def test_a_mail_that_cannot_be_written_stops_no_other(db: None, carrier: Carrier) -> None:
    at = await shop()
    await happened(at, await order(at), "order.paid", "order.delivered")
    await collected()
    await core.execute("UPDATE notification SET facts_json = '{}' WHERE template = 'sale'")

    assert await notifications.send_due() == 2

    assert [mail.recipient for mail in carrier.taken] == ["buyer@example.com"]
    assert await rows("template", "state") == [("sale", "failed"), ("delivered", "sent")]


async def test_low_stock_is_told_once_a_day_per_variant(db: None, carrier: Carrier) -> None:
    at, other = await shop(), await shop()
    for _ in range(3):
        await happened(at, await order(at), "stock.low", variant_id="v1", available=3)
    await happened(at, await order(at), "stock.low", variant_id="v2", available=0)
    await happened(other, await order(other), "stock.low", variant_id="v3", available=1)
    await collected()
    await happened(at, await order(at), "stock.low", variant_id="v1", available=2)
    await collected()
    assert await core.value("SELECT count(*) FROM notification") == 3

    await core.execute("UPDATE notification SET created_at = created_at - interval '25 hours'")
    await happened(at, await order(at), "stock.low", variant_id="v1", available=1)
    await collected()

    assert await core.value("SELECT count(*) FROM notification") == 4


async def test_low_stock_names_the_variant_in_the_merchants_language(
    db: None, carrier: Carrier
) -> None:
    at = await shop("zh-Hans")
    texts = {"en": catalogue.Text("Coins", ""), "zh": catalogue.Text("星币", "")}
    product_id = await catalogue.add_product(*at, texts)
    variant_id = await catalogue.add_variant(
        at[0],
        product_id,
        {"en": "500 pieces", "zh": "500 枚"},
        catalogue.Source(catalogue.Delivery.STOCK),
        catalogue.PriceList([Money(490, "USD")], "USD"),
    )
    for given in (str(variant_id), ids.encode("var", variant_id)):
        await happened(at, await order(at), "stock.low", variant_id=given, available=3)

    await collected()
    await notifications.send_due()

    assert {mail.subject for mail in carrier.taken} == {"库存不足：星币: 500 枚"}


async def test_e14_resend_is_idempotent_and_audited(db: None, carrier: Carrier) -> None:
    at = await shop()
    order_id = await order(at)
    await happened(at, order_id, "order.paid", "order.delivered")
    await collected()
    await notifications.send_due()
    with pytest.raises(TooSoon):
        await notifications.resend(order_id, actor_kind="buyer", actor_id="guest")
    await core.execute("UPDATE notification SET sent_at = sent_at - interval '2 minutes'")

    results = await asyncio.gather(
        *(notifications.resend(order_id, actor_kind="buyer", actor_id="guest") for _ in range(5)),
        return_exceptions=True,
    )
    await notifications.send_due()

    assert sorted(type(result).__name__ for result in results) == ["TooSoon"] * 4 + ["int"]
    delivered = [mail for mail in carrier.taken if mail.recipient == "buyer@example.com"]
    assert len(delivered) == 2
    assert delivered[0].text == delivered[1].text
    assert delivered[0].message_id != delivered[1].message_id  # or the mail program would hide it
    audited = await core.fetch("SELECT action, actor_kind, subject_id, merchant_id FROM audit_log")
    assert [tuple(row) for row in audited] == [("mail.resend", "buyer", order_id, at[0])]


async def test_e14_nothing_to_send_again(db: None) -> None:
    at = await shop()
    order_id = await order(at)

    assert await notifications.resend(order_id, actor_kind="buyer", actor_id="guest") == 0
    assert await core.value("SELECT count(*) FROM audit_log") == 0


async def test_prune_forgets_old_mails_and_they_stay_told(db: None, carrier: Carrier) -> None:
    at = await shop()
    await happened(at, await order(at), "order.delivered")
    await collected()
    await notifications.send_due()
    await core.execute("UPDATE notification SET sent_at = sent_at - interval '31 days'")

    assert await notifications.prune() == 1
    await horizon.passed()
    await notifications.collect()
    assert await core.value("SELECT count(*) FROM notification") == 0


async def test_every_template_has_a_reader_in_the_table() -> None:
    assert {template for row in notifications.MAILS.values() for template, _ in row} == set(
        Template
    )
