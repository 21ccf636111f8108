"""Mails to owners: what takes two people (asked, approved, about to hold, ended), and security alerts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import i18n
from domain import alarms
from domain.core import clock, db, four_eyes, ids, letters
from domain.core.four_eyes import Approval
from domain.notifications.rules import Letter

# The platform's own are told to operators in finance, a merchant's to its owners, always to who acts too: whoever
# works under a stolen session does not keep its holder from hearing of it.
_PLATFORM = frozenset({"payment.manual", "refund.manual"})
_OPERATORS = """
SELECT DISTINCT a.email, a.locale FROM operator_role o JOIN account a ON a.id = o.account_id
WHERE o.role IN ('finance', 'admin') AND a.state = 'open' ORDER BY a.email LIMIT $1
"""
_OWNERS = """
SELECT a.email, a.locale FROM account a WHERE a.state = 'open' AND (a.id = $3 OR a.id IN (
    SELECT account_id FROM membership WHERE merchant_id = $2 AND role = 'owner')) ORDER BY a.email LIMIT $1
"""
_TOLD_MAX = 100


async def tell_approval(what: str, approval_id: UUID) -> int:
    """Owe the mails that something was "asked", "approved", is "due" to hold or has "ended"; how many people.

    Reads the truth again: what has moved on meanwhile is not told as it was. However often called, each mail is
    owed once.
    """
    async with db.transaction():
        about = await four_eyes.find(approval_id)
        if about is None or (said := _said(what, about)) is None:
            return 0
        by = {"asked": about.asked_by, "due": about.approved_by, "approved": about.approved_by}
        actor = by.get(what, about.ended_by)
        if about.kind in _PLATFORM:
            people = await db.fetch(_OPERATORS, _TOLD_MAX)
        else:
            people = await db.fetch(_OWNERS, _TOLD_MAX, about.merchant_id, actor)
        facts = {**await _names(about.merchant_id, actor), "what": said, **_facts(about)}
        for person in people:
            await letters.owe(
                Letter.APPROVAL,
                person["email"],
                i18n.nearest(person["locale"] or i18n.DEFAULT),
                facts,
                letter_id=uuid5(about.id, f"{what}:{person['email']}"),
            )
    return len(people)


async def tell_alarm(alert_id: UUID) -> int:
    """Owe the owners of a merchant one mail each about a security alert, however often called; how many people."""
    async with db.transaction():
        found = await alarms.find_alert(alert_id)
        if found is None:
            return 0
        people = await db.fetch(_OWNERS, _TOLD_MAX, found.merchant_id, None)
        names = await _names(found.merchant_id, None)
        facts = {
            "merchant": names["merchant"],
            "kind": str(found.kind),
            "count": str(found.facts.get("count", 0)),
            "limit": str(found.facts.get("limit", 0)),
            "id": ids.encode("alr", found.id),
        }
        for person in people:
            await letters.owe(
                Letter.ALARM,
                person["email"],
                i18n.nearest(person["locale"] or i18n.DEFAULT),
                facts,
                letter_id=uuid5(found.id, person["email"]),
            )
    return len(people)


def _said(what: str, about: Approval) -> str | None:
    """What the mail says; None when there is nothing to say any more."""
    if what == "asked":
        return "asked"
    if what == "ended":
        return about.state if about.ended_by is not None else None
    if what == "due":
        holds = about.usable_at is None or about.usable_at <= clock.now()
        return None if about.state != "approved" or holds else "due"
    return "cooling" if about.cool_down_s else "approved"


async def _names(merchant_id: UUID | None, actor: UUID | None) -> dict[str, Any]:
    row = await db.row(
        "SELECT (SELECT name FROM merchant WHERE id = $1) AS merchant,"
        " (SELECT email FROM account WHERE id = $2) AS by",
        merchant_id,
        actor,
    )
    assert row is not None
    return {"merchant": row["merchant"] or "Kami", "by": row["by"] or "?"}


def _facts(about: Approval) -> dict[str, Any]:
    return {
        "kind": about.kind.replace(".", "_"),
        "action": str(about.request.get("action", "ask")),
        "detail": _detail(about.kind, about.request),
        "id": ids.encode("apr", about.id),
        "until": _minute(about.usable_at or about.expires_at),
    }


def _detail(kind: str, asked: Mapping[str, Any]) -> str:
    """One line that tells it from others; nothing that is secret is in a request."""
    if kind == "goods.export":
        return f"{asked['count']} × {asked['variantId']}: {asked['reason']}"
    if kind in _PLATFORM:
        return f"{asked['number']}: {asked['amount']} {asked['currency']}, {asked['evidence']}"
    if kind == "payout.method":
        replaced = f" ← {asked['replaces']['account']}" if "replaces" in asked else ""
        return f"{asked['account']} {asked['currency']}{replaced}"
    if kind == "provider.account":
        return f"{asked['provider']}: {', '.join(asked['fields'].values())}"
    return kind


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
