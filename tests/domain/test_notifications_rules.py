"""Who hears of what, and what a mail says in each language."""

from __future__ import annotations

import re
from dataclasses import replace
from uuid import uuid4

import pytest

import i18n
from domain.core.money import Money
from domain.notifications import MAILS, PAGES, Audience, Letter, Template
from domain.notifications.rules import (
    SUBJECT_MAX,
    TRIES_MAX,
    Subject,
    is_last,
    message_id,
    notices,
    one_line,
    wait_s,
    words,
)

ORDER = Subject(
    order_id=uuid4(),
    merchant_id=uuid4(),
    number="K261122-7F3K9QZ2AB",
    email="buyer@example.com",
    locale="ja",
    status="delivered",
    total=Money(1990, "USD"),
    shop="Lantern",
    shop_locale="zh",
    shop_email="shop@lantern.test",
    items=(("Star Coins 500", 2),),
)
LINK = "https://kami.test/orders/ord_x#accessKey=abc"
FACTS = {
    "number": ORDER.number,
    "shop": "Lantern",
    "amount": [1990, "USD"],
    "asked": [2990, "USD"],
    "title": "Star Coins",
    "left": 3,
    "variant": "v",
    "url": "https://example.com/hooks",
    "reason": "gone",
    "items": [["Star Coins 500", 2]],
}


def test_each_event_tells_the_right_people() -> None:
    told = {
        kind: [
            (one.template, one.recipient, one.locale)
            for one in notices(kind, 7, {}, replace(ORDER, status="paid"))
        ]
        for kind in MAILS
    }

    assert told == {
        "order.paid": [("paid", ORDER.email, "ja"), ("sale", ORDER.shop_email, "zh")],
        "order.delivered": [("delivered", ORDER.email, "ja")],
        "order.held": [("waiting", ORDER.email, "ja"), ("held", ORDER.shop_email, "zh")],
        "risk.declined": [
            ("declined", ORDER.email, "ja"),
            ("sale_declined", ORDER.shop_email, "zh"),
        ],
        "order.short": [("waiting", ORDER.email, "ja"), ("short", ORDER.shop_email, "zh")],
        "refund.succeeded": [("refunded", ORDER.email, "ja")],
        "payment.late": [("late", ORDER.shop_email, "zh")],
        "payment.mismatch": [("mismatch", ORDER.shop_email, "zh")],
        "goods.reported": [("reported", ORDER.shop_email, "zh")],
        "goods.confirmed": [("report_confirmed", ORDER.email, "ja")],
        "goods.refused": [("report_refused", ORDER.email, "ja")],
        "goods.replaced": [("replaced", ORDER.email, "ja")],
        "stock.low": [("stock_low", ORDER.shop_email, "zh")],
        "webhook.disabled": [("webhook_disabled", ORDER.shop_email, "zh")],
    }


@pytest.mark.parametrize(
    "kind", ["order.placed", "order.expired", "payment.started", "goods.revoked", ""]
)
def test_other_events_tell_nobody(kind: str) -> None:
    assert notices(kind, 1, {}, ORDER) == []


def test_c01_goods_at_once_are_one_mail_to_the_buyer() -> None:
    told = [
        one.template
        for kind in ("order.paid", "order.delivered")
        for one in notices(kind, 2, {}, ORDER)
        if one.audience is Audience.BUYER
    ]

    assert told == [Template.DELIVERED]


def test_amounts_are_those_of_the_event() -> None:
    (refund,) = notices("refund.succeeded", 5, {"minor": 500}, ORDER)
    (late,) = notices("payment.late", 5, {"minor": 1200, "ccy": "JPY"}, ORDER)
    (mismatch,) = notices("payment.mismatch", 5, {"got_minor": 1, "got_ccy": "EUR"}, ORDER)
    (strange,) = notices("payment.mismatch", 5, {}, ORDER)

    assert refund.facts["amount"] == [500, "USD"]
    assert late.facts["amount"] == [1200, "JPY"]
    assert (mismatch.facts["amount"], mismatch.facts["asked"]) == ([1, "EUR"], [1990, "USD"])
    assert strange.facts["amount"] == [0, "USD"]


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("template", Template)
def test_every_mail_is_complete_in_every_language(template: Template, language: str) -> None:
    audience = next(who for row in MAILS.values() for what, who in row if what is template)

    written = words(template, audience, language, FACTS, LINK)

    everything = written.subject + written.text + written.html
    assert "\N{EM DASH}" not in everything  # a fact nobody gave
    assert "mail." not in everything  # a message nobody wrote
    assert "{" not in everything
    assert "\n" not in written.subject
    assert written.text.count(LINK) == 1
    assert "2 × Star Coins 500" in written.text
    assert f'<html lang="{language}">' in written.html
    assert re.search(r"<(script|style|img|link|iframe)", written.html) is None


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("letter", Letter)
def test_every_letter_is_complete_in_every_language(letter: Letter, language: str) -> None:
    link = LINK if letter in PAGES else None
    facts = {"merchant": "Lantern\r\nBcc: x", "inviter": "owner@shop.test", "role": "finance"}
    facts["email"] = "new@shop.test"
    facts |= {"what": "asked", "kind": "payout_method", "action": "add", "by": "owner@shop.test"}
    facts |= {"detail": "DE ····3000 EUR", "id": "apr_x", "until": "2026-11-30 04:00 UTC"}
    facts |= {"count": "201", "limit": "200"}

    written = words(letter, "account", language, facts, link)

    everything = written.subject + written.text + written.html
    assert "\N{EM DASH}" not in everything
    assert re.search(r"mail\.[a-z]", everything) is None
    assert "{" not in everything
    assert "\n" not in written.subject
    assert "\r" not in everything
    assert written.text.count(LINK) == (link is not None)
    assert re.search(r"<(script|style|img|link|iframe)", written.html) is None


def test_an_invitation_names_the_role() -> None:
    told = {
        words(
            "invitation", "account", "en", {"merchant": "A", "inviter": "b", "role": role}, LINK
        ).text
        for role in ("owner", "catalogue", "support", "finance", "developer", "read_only")
    }

    assert len(told) == 6


def test_a_mail_reads_well() -> None:
    written = words(Template.DELIVERED, "buyer", "en-GB", FACTS, LINK)

    assert written.subject == "Your goods are ready: order K261122-7F3K9QZ2AB"
    assert written.text == (
        "Thank you. Your payment of $19.90 has arrived, and your goods from Lantern are ready.\n\n"
        "You will find them on the page of your order K261122-7F3K9QZ2AB. Anyone who has the link"
        " below can open"
        " that page, so keep it to yourself.\n\n"
        "2 × Star Coins 500\n\n"
        f"Open your order\n{LINK}\n\n"
        "-- \nYou get this mail because you placed an order at Lantern.\n"
    )


@pytest.mark.parametrize(
    ("left", "expected"),
    [(0, "No keys are left"), (1, "Only 1 key is left"), (9, "Only 9 keys are left")],
)
def test_low_stock_counts_properly(left: int, expected: str) -> None:
    written = words("stock_low", "merchant", "en", {**FACTS, "left": left, "items": []}, None)

    assert expected in written.text


def test_h36_shop_and_product_text_is_inert() -> None:
    evil = '<script>alert(1)</script>"\r\nBcc: all@example.com\u202e'
    order = replace(ORDER, shop=evil, items=((evil, 1),))
    (notice,) = notices("order.delivered", 1, {}, order)

    written = words(notice.template, notice.audience, "en", notice.facts, LINK + '"><b>')

    assert "<script" not in written.html
    assert "<b>" not in written.html
    assert "\u202e" not in written.html + written.text + written.subject
    assert "\r" not in written.text
    assert "\nBcc:" not in written.text


def test_h41_a_subject_is_one_bounded_line() -> None:
    written = words(
        "sale", "merchant", "en", {**FACTS, "number": "x\r\nBcc: y" + "z" * 5_000}, None
    )

    assert written.subject.startswith("New sale: $19.90, order x Bcc: yzzz")
    assert len(written.subject) == SUBJECT_MAX


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        (" spaced ", "spaced"),
        ("a\r\n b\tc", "a b c"),
        ("灯笼\u3000商店", "灯笼 商店"),
        ("\x1b[31mred", "[31mred"),
        ("", ""),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


def test_a_try_keeps_its_message_id_and_asking_again_changes_it() -> None:
    notification_id = uuid4()

    first = message_id(notification_id, 1, "Kami <no-reply@kami.test>")

    assert first == f"{notification_id.hex}.1@kami.test"
    assert first == message_id(notification_id, 1, "no-reply@kami.test")
    assert first != message_id(notification_id, 2, "no-reply@kami.test")


def test_tries_wait_longer_and_end() -> None:
    waits = [wait_s(tries) for tries in range(1, TRIES_MAX)]

    assert waits == [15, 60, 240, 960, 3840, 15360, 21600]
    assert [is_last(tries) for tries in (1, TRIES_MAX - 1, TRIES_MAX)] == [False, False, True]
