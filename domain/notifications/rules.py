"""Which mail tells whom of which event, and what it says."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import i18n
from domain.core.money import Money

SUBJECT_MAX = 200
ITEMS_MAX = 10
TRIES_MAX = 8
_FIRST_WAIT_S, _LAST_WAIT_S = 15, 6 * 3600


class Audience(StrEnum):
    """Whom a mail is for."""

    BUYER = "buyer"
    MERCHANT = "merchant"
    ACCOUNT = "account"


class Letter(StrEnum):
    """What a mail to the holder of an address says, owed by `core.letters`; texts are named like a template's.

    PASSWORD_CHANGED, FACTORS_CHANGED, NO_ACCOUNT, EMAIL_TAKEN, APPROVAL and ALARM carry no
    link.
    """

    VERIFY = "verify"
    ACCOUNT_EXISTS = "account_exists"
    RESET = "reset"
    NO_ACCOUNT = "no_account"
    PASSWORD_CHANGED = "password_changed"
    FACTORS_CHANGED = "factors_changed"
    INVITATION = "invitation"
    EMAIL_CHANGE = "email_change"
    EMAIL_TAKEN = "email_taken"
    EMAIL_UNDO = "email_undo"
    APPROVAL = "approval"
    ALARM = "alarm"


# The page behind the link of a letter.
PAGES: Mapping[str, str] = {
    Letter.VERIFY: "verify",
    Letter.ACCOUNT_EXISTS: "reset",
    Letter.RESET: "reset",
    Letter.INVITATION: "invitation",
    Letter.EMAIL_CHANGE: "email",
    Letter.EMAIL_UNDO: "email_undo",
}


class Template(StrEnum):
    """What a mail says; `mail.<template>.subject` and `mail.<template>.text` in every language."""

    PAID = "paid"
    DELIVERED = "delivered"
    REFUNDED = "refunded"
    WAITING = "waiting"
    SALE = "sale"
    STOCK_LOW = "stock_low"
    SHORT = "short"
    LATE = "late"
    MISMATCH = "mismatch"
    HELD = "held"
    DECLINED = "declined"
    SALE_DECLINED = "sale_declined"
    REPORTED = "reported"
    REPORT_CONFIRMED = "report_confirmed"
    REPORT_REFUSED = "report_refused"
    REPLACED = "replaced"
    WEBHOOK_DISABLED = "webhook_disabled"


_B, _M, _T = Audience.BUYER, Audience.MERCHANT, Template

DELIVERED = "order.delivered"
# Not an event of the log: made while reading it, from the stock that sales have left.
STOCK_RAN_LOW = "stock.low"
# Neither: an endpoint is no order (`tell_webhook_disabled`).
WEBHOOK_DISABLED = "webhook.disabled"


# The one table of who hears of what. A refund is told when its money is on the way, in parts as it
# goes.
MAILS: Mapping[str, tuple[tuple[Template, Audience], ...]] = {
    "order.paid": ((_T.PAID, _B), (_T.SALE, _M)),
    "order.delivered": ((_T.DELIVERED, _B),),
    "order.held": ((_T.WAITING, _B), (_T.HELD, _M)),
    "risk.declined": ((_T.DECLINED, _B), (_T.SALE_DECLINED, _M)),
    "order.short": ((_T.WAITING, _B), (_T.SHORT, _M)),
    "refund.succeeded": ((_T.REFUNDED, _B),),
    "payment.late": ((_T.LATE, _M),),
    "payment.mismatch": ((_T.MISMATCH, _M),),
    "goods.reported": ((_T.REPORTED, _M),),
    "goods.confirmed": ((_T.REPORT_CONFIRMED, _B),),
    "goods.refused": ((_T.REPORT_REFUSED, _B),),
    "goods.replaced": ((_T.REPLACED, _B),),
    STOCK_RAN_LOW: ((_T.STOCK_LOW, _M),),
    WEBHOOK_DISABLED: ((_T.WEBHOOK_DISABLED, _M),),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """The order that events are about, with all that its mails need."""

    order_id: UUID
    merchant_id: UUID
    number: str
    email: str
    locale: str
    status: str
    total: Money
    shop: str
    shop_locale: str
    shop_email: str
    items: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """One mail to be sent: for the event `sequence` of an order, to `recipient`."""

    order_id: UUID
    merchant_id: UUID
    sequence: int
    template: Template
    audience: Audience
    recipient: str
    locale: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Words:
    """A mail's words: one line of subject, plain text, and the same as simple HTML."""

    subject: str
    text: str
    html: str


def notices(kind: str, sequence: int, facts: Mapping[str, Any], order: Subject) -> list[Notice]:
    """The mails that one event asks for, [] for most kinds.

    When the goods are there already, "paid" is left out: the mail with the goods says both.
    """
    found = []
    for template, audience in MAILS.get(kind, ()):
        if template is Template.PAID and order.status == "delivered":
            continue
        is_buyer = audience is Audience.BUYER
        found.append(
            Notice(
                order.order_id,
                order.merchant_id,
                sequence,
                template,
                audience,
                order.email if is_buyer else order.shop_email,
                order.locale if is_buyer else order.shop_locale,
                _facts(template, facts, order),
            )
        )
    return found


def _facts(template: Template, event: Mapping[str, Any], order: Subject) -> dict[str, Any]:
    """What is kept for the mail: plain JSON, amounts as [minor, currency], no keys and no goods."""
    amount = [event.get("minor", order.total.minor), event.get("ccy", order.total.currency)]
    facts: dict[str, Any] = {
        "number": order.number,
        "shop": one_line(order.shop),
        "amount": amount,
        "items": [[one_line(title), quantity] for title, quantity in order.items[:ITEMS_MAX]],
    }
    if template is Template.MISMATCH:
        facts["amount"] = [event.get("got_minor", 0), event.get("got_ccy", order.total.currency)]
        facts["asked"] = [order.total.minor, order.total.currency]
    elif template is Template.STOCK_LOW:
        facts["variant"] = str(event.get("variant_id", ""))
        facts["title"] = one_line(str(event.get("title") or facts["variant"]))
        facts["left"] = int(event.get("available", 0))
        facts["items"] = []
    return facts


def words(
    template: str, audience: str, locale: str, facts: Mapping[str, Any], link: str | None
) -> Words:
    """Write a mail in the language nearest to `locale`; `link` opens the order, or does what a letter is for."""
    given = {name: _readable(value) for name, value in facts.items() if name != "items"}
    subject = one_line(i18n.text(f"mail.{template}.subject", locale, **given))[:SUBJECT_MAX]
    paragraphs = i18n.text(f"mail.{template}.text", locale, **given).split("\n\n")
    bought = [] if audience == Audience.ACCOUNT else facts["items"]
    items = [f"{i18n.number(quantity, locale)} × {title}" for title, quantity in bought]
    # One page serves all mails about orders; what a letter's link does is the letter's own.
    opens = PAGES[template] if audience == Audience.ACCOUNT and link else audience
    action = i18n.text(f"mail.link.{opens}", locale) if link else ""
    foot = i18n.text(f"mail.foot.{audience}", locale, **given)
    return Words(
        subject,
        _text(paragraphs, items, action, link, foot),
        _html(i18n.nearest(locale), subject, paragraphs, items, action, link, foot),
    )


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    return Money(*value) if isinstance(value, list) else value


def _text(
    paragraphs: Sequence[str], items: Sequence[str], action: str, link: str | None, foot: str
) -> str:
    parts = [*paragraphs]
    if items:
        parts.append("\n".join(items))
    if link:
        parts.append(f"{action}\n{link}")
    parts.append(f"-- \n{foot}")
    return "\n\n".join(parts) + "\n"


def _html(
    language: str,
    subject: str,
    paragraphs: Sequence[str],
    items: Sequence[str],
    action: str,
    link: str | None,
    foot: str,
) -> str:
    """No styles, images or scripts: every mail program shows it, and nobody is tracked."""
    quote = html.escape
    parts = [f"<p>{quote(paragraph)}</p>" for paragraph in paragraphs]
    if items:
        parts.append("<ul>" + "".join(f"<li>{quote(item)}</li>" for item in items) + "</ul>")
    if link:
        parts.append(f'<p><a href="{quote(link)}">{quote(action)}</a></p>')
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f"<title>{quote(subject)}</title></head><body>{''.join(parts)}<hr>"
        f"<p><small>{quote(foot)}</small></p></body></html>\n"
    )


def one_line(text: str) -> str:
    """Text that cannot forge a header or turn a line around: no control or format characters."""
    if text.isprintable():
        return text.strip()
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def message_id(notification_id: UUID, round_: int, sender: str) -> str:
    """The same for every try of a mail: one sent twice is shown once; new when asked again."""
    domain = sender.rpartition("@")[2].strip("> ") or "localhost"
    return f"{notification_id.hex}.{round_}@{domain}"


def wait_s(tries: int) -> int:
    """Seconds until the next try: 15 s, 1 min, 4 min … at most six hours."""
    return int(min(_FIRST_WAIT_S * 4 ** (max(tries, 1) - 1), _LAST_WAIT_S))


def is_last(tries: int) -> bool:
    """Whether no further try follows (after about eleven hours)."""
    return tries >= TRIES_MAX


def name(created_at: datetime, notification_id: UUID, round_: int) -> str:
    """A file name for the mail that sorts by age."""
    return f"{created_at:%Y%m%dT%H%M%S.%f}-{notification_id.hex}-{round_}"
