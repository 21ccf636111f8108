"""Writes of notifications: read events into mails owed, send what is due, send one again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog

import i18n
from domain import catalogue
from domain.core import audit, db, events, failpoint, ids, letters, vault
from domain.core.errors import DomainError
from domain.core.events import Event
from domain.core.settings import settings
from domain.notifications import queries, rules
from domain.notifications.ports import Answer, Mail, Outcome, notifiers
from domain.notifications.rules import Notice

READER = "notifications"
CARRIER = "mail"
LEASE_S = 180
SEND_MAX = 50
RESEND_PAUSE_S = 60
STOCK_PAUSE_S = 24 * 3600
_UNWRITABLE = Answer(Outcome.REFUSED, "the mail could not be written, see the log")

_log = structlog.get_logger(__name__)


class TooSoon(DomainError):
    """The same mail went out less than a minute ago, or is still on its way."""

    code = "TOO_SOON"
    retryable = True


_INSERT = """
INSERT INTO notification (id, merchant_id, order_id, sequence, template, audience, recipient,
    locale, facts_json)
SELECT t.* FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $6::text[],
    $7::text[],
    $8::text[], $9::jsonb[])
    AS t(id, merchant_id, order_id, sequence, template, audience, recipient, locale, facts)
WHERE t.template <> 'stock_low' OR NOT EXISTS (
    SELECT FROM notification n WHERE n.template = 'stock_low' AND n.merchant_id = t.merchant_id
        AND n.facts_json ->> 'variant' = t.facts ->> 'variant'
        AND n.created_at > clock_timestamp() - make_interval(secs => $10))
ON CONFLICT DO NOTHING
"""


async def collect(*, limit: int = events.READ_MAX) -> int:
    """Read the next stretch of the event log into mails owed; how many events were read, 0 at its
    end.

    Position and mails commit together: every event is told once, whoever runs this and however
    often. A variant that runs low is told of once a day.
    """
    async with db.transaction():
        read, position = await events.follow(READER, limit=limit)
        if position is None:
            return 0
        told = [event for event in read if event.kind in rules.MAILS]
        told += await _run_low(told)
        if told:
            orders = await queries.subjects({event.order_id for event in told})
            titles = await _titles(told)
            await _owe(
                [
                    notice
                    for event in told
                    if (order := orders.get(event.order_id)) is not None
                    for notice in rules.notices(
                        event.kind, event.sequence, _named(event, titles, order.shop_locale), order
                    )
                ]
            )
        await events.advance(READER, position)
        failpoint.reach("notify.in_tx")
        return len(read)


def _variant(event: Event) -> UUID | None:
    text = str(event.facts.get("variant_id", ""))
    try:
        return ids.decode(text, "var") if text.startswith("var_") else UUID(text)
    except (ids.IdInvalid, ValueError):
        return None


async def _run_low(told: Sequence[Event]) -> list[Event]:
    """Variants that these sales brought to their threshold, as if each were an event of one of them.

    Read here and not with the sale: the merchant is told a moment later, and selling stays short.
    """
    sold = {event.order_id: event for event in told if event.kind == rules.DELIVERED}
    if not sold:
        return []
    orders = await queries.orders_by_variant(list(sold))
    low = await catalogue.low_stock(list(orders))
    return [
        Event(
            orders[one.variant_id],
            one.merchant_id,
            # Not a place in the order's log; below zero it meets none, and each variant has its own.
            -place,
            rules.STOCK_RAN_LOW,
            {"variant_id": str(one.variant_id), "available": one.available},
        )
        for place, one in enumerate(low, 1)
    ]


async def _titles(told: Sequence[Event]) -> dict[UUID, dict[str, str]]:
    """The names of the variants that events speak of; most stretches of the log speak of none."""
    variants = {variant for event in told if (variant := _variant(event)) is not None}
    return await queries.titles(variants) if variants else {}


def _named(event: Event, titles: Mapping[UUID, dict[str, str]], locale: str) -> Mapping[str, Any]:
    variant = _variant(event)
    names = titles.get(variant) if variant is not None else None
    if not names:
        return event.facts
    title = names.get(i18n.nearest(locale)) or names.get(i18n.DEFAULT) or next(iter(names.values()))
    return {**event.facts, "title": title}


async def _owe(notices: Sequence[Notice]) -> None:
    seen: set[str] = set()
    kept = []
    for notice in notices:
        variant = notice.facts.get("variant")
        if variant is not None and variant in seen:
            continue
        if variant is not None:
            seen.add(variant)
        kept.append(notice)
    if not kept:
        return
    await db.execute(
        _INSERT,
        [ids.uuid7() for _ in kept],
        [one.merchant_id for one in kept],
        [one.order_id for one in kept],
        [one.sequence for one in kept],
        [str(one.template) for one in kept],
        [str(one.audience) for one in kept],
        [one.recipient for one in kept],
        [one.locale for one in kept],
        [one.facts for one in kept],
        float(STOCK_PAUSE_S),
    )


_CLAIM = """
WITH due AS MATERIALIZED (
    SELECT id FROM notification WHERE state = 'ready' AND due_at <= clock_timestamp()
    ORDER BY due_at, id LIMIT $1 FOR UPDATE SKIP LOCKED)
UPDATE notification n SET state = 'leased', fence = n.fence + 1, tries = n.tries + 1,
    lease_until = clock_timestamp() + make_interval(secs => $2)
FROM due WHERE n.id = due.id
RETURNING n.id, n.order_id, n.template, n.audience, n.recipient, n.locale, n.facts_json, n.round,
    n.fence,
    n.tries, n.created_at, n.secret
"""

_FINISH = """
UPDATE notification n SET state = t.state, error = nullif(t.error, ''),
    due_at = CASE WHEN t.state = 'ready' THEN clock_timestamp() + make_interval(secs => t.wait_s)
        ELSE n.due_at END,
    sent_at = CASE WHEN t.state = 'sent' THEN clock_timestamp() ELSE n.sent_at END,
    secret = CASE WHEN t.state = 'ready' THEN n.secret END
FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::int[]) AS t(id, fence, state,
    error, wait_s)
WHERE n.id = t.id AND n.state = 'leased' AND n.fence = t.fence
"""


async def send_due(limit: int = SEND_MAX) -> int:
    """Send mails that are due; how many were claimed, 0 when nothing is due or nobody carries mail.

    Claim, send and mark are three steps, and no transaction is open while the network is used. A
    worker killed between "taken" and "marked" leaves a lease that runs out: the mail then goes out
    a second time under the same Message-ID, which mail programs show once. Nothing else can send a
    mail twice.
    """
    carrier = notifiers.get(CARRIER)
    if carrier is None:
        return 0
    claimed = sorted(await db.fetch(_CLAIM, limit, float(LEASE_S)), key=lambda row: row["id"])
    if not claimed:
        return 0
    written = [_written(row) for row in claimed]
    mails = [mail for mail in written if mail is not None]
    answers = await carrier.send(mails)
    failpoint.reach("notify.after_call")
    assert len(answers) == len(mails), (carrier.name, len(answers), len(mails))
    said = iter(answers)
    verdicts = [
        _verdict(row, _UNWRITABLE if mail is None else next(said))
        for row, mail in zip(claimed, written, strict=True)
    ]
    await db.execute(
        _FINISH,
        [row["id"] for row in claimed],
        [row["fence"] for row in claimed],
        [state for state, _, _ in verdicts],
        [error[:500] for _, error, _ in verdicts],
        [wait_s for _, _, wait_s in verdicts],
    )
    return len(claimed)


def _written(row: Any) -> Mail | None:
    """The mail, or None when it cannot be written: one broken template must not stop the others."""
    try:
        return _mail(row)
    except Exception:
        _log.exception("mail.unwritable", notification_id=str(row["id"]), template=row["template"])
        return None


def _mail(row: Any) -> Mail:
    assert row["recipient"].isascii(), "addresses are stored in ASCII"
    sender = settings().mail_from
    words = rules.words(
        row["template"], row["audience"], row["locale"], row["facts_json"], _link(row)
    )
    return Mail(
        name=rules.name(row["created_at"], row["id"], row["round"]),
        message_id=rules.message_id(row["id"], row["round"], sender),
        sender=sender,
        recipient=row["recipient"],
        subject=words.subject,
        text=words.text,
        html=words.html,
        language=row["locale"],
    )


def _link(row: Any) -> str | None:
    """Where the reader looks at the order. Behind `#` no server or referrer sees the key.

    A letter's token works once and for a while; its page is made to work without scripts, so it goes to the server.
    """
    if row["audience"] == rules.Audience.ACCOUNT:
        page = rules.PAGES.get(row["template"])
        if page is None or row["secret"] is None:
            return None
        token = letters.secret_of(row["id"], row["secret"])
        return f"{settings().public_url}/account/{page}?token={token}"
    if row["template"] == rules.Template.WEBHOOK_DISABLED:
        return None  # it is about no order
    public_id = ids.encode("ord", row["order_id"])
    if row["audience"] == rules.Audience.MERCHANT:
        return f"{settings().public_url}/account/orders/{public_id}"
    key = vault.access_key(row["order_id"])
    return f"{settings().public_url}/orders/{public_id}#accessKey={key}"


def _verdict(row: Any, answer: Answer) -> tuple[str, str, int]:
    if answer.outcome is Outcome.SENT:
        return "sent", "", 0
    is_over = answer.outcome is Outcome.REFUSED or rules.is_last(row["tries"])
    _log.warning(
        "mail.failed" if is_over else "mail.later",
        notification_id=str(row["id"]),
        template=row["template"],
        tries=row["tries"],
        reason=answer.reason[:200],
    )
    return ("failed" if is_over else "ready"), answer.reason, rules.wait_s(row["tries"])


async def sweep() -> int:
    """Give back mails whose sender vanished, fail those it happens to again and again; how many.

    The timetable calls it every minute.
    """
    return await db.execute(
        "UPDATE notification SET state = CASE WHEN tries >= $1 THEN 'failed' ELSE 'ready' END,"
        " secret = CASE WHEN tries >= $1 THEN NULL ELSE secret END,"
        " error = 'the sender vanished' WHERE state = 'leased' AND lease_until < clock_timestamp()",
        rules.TRIES_MAX,
    )


async def resend(
    order_id: UUID,
    *,
    actor_kind: str,
    actor_id: str,
    template: rules.Template = rules.Template.DELIVERED,
    request_id: str | None = None,
) -> int:
    """Send the buyer a mail of an order again (E14), under a new Message-ID; how many mails.

    Audited in the same transaction. Asked twice within a minute it is sent once. Errors: TooSoon; 0
    when there never was such a mail.
    """
    async with db.transaction():
        rows = await db.fetch(
            "UPDATE notification SET state = 'ready', round = round + 1, tries = 0, error = NULL,"
            " due_at = clock_timestamp() WHERE order_id = $1 AND template = $2 AND audience ="
            " 'buyer'"
            " AND (state = 'failed' OR (state = 'sent'"
            " AND sent_at < clock_timestamp() - make_interval(secs => $3)))"
            " RETURNING id, merchant_id, round",
            order_id,
            str(template),
            float(RESEND_PAUSE_S),
        )
        if not rows:
            if await db.value(
                "SELECT 1 FROM notification WHERE order_id = $1 AND template = $2 AND audience ="
                " 'buyer'",
                order_id,
                str(template),
            ):
                raise TooSoon()
            return 0
        await audit.record(
            rows[0]["merchant_id"],
            audit.Actor(actor_kind, actor_id, request_id=request_id),
            "mail.resend",
            order_id,
            template=str(template),
            rounds=[row["round"] for row in rows],
        )
        return len(rows)


async def tell_webhook_disabled(
    merchant_id: UUID, endpoint_id: UUID, version: int, *, url: str, reason: str
) -> None:
    """Owe the merchant one mail that an endpoint was switched off at this `version` of it, however often called.

    `reason` is gone or failures.
    """
    found = await queries.contact(merchant_id)
    assert found is not None, "an endpoint belongs to a merchant"
    notice = Notice(
        endpoint_id,  # in the place of an order: no order is meant
        merchant_id,
        version,
        rules.Template.WEBHOOK_DISABLED,
        rules.Audience.MERCHANT,
        found.email,
        found.locale,
        {"shop": found.name, "url": rules.one_line(url), "reason": reason, "items": []},
    )
    await _owe([notice])


async def prune(*, days: int = 30) -> int:
    """Forget mails sent longer ago than `days`; how many. The event log remembers what happened."""
    return await db.execute(
        "DELETE FROM notification WHERE state = 'sent'"
        " AND sent_at < clock_timestamp() - make_interval(days => $1)",
        days,
    )
