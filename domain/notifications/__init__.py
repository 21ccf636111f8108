"""Notifications: mails to buyers and merchants, one per event, made from the event log and sent by
a port."""

from __future__ import annotations

from domain.notifications.actions import (
    SEND_MAX,
    TooSoon,
    collect,
    prune,
    resend,
    send_due,
    sweep,
    tell_webhook_disabled,
)
from domain.notifications.owners import tell_alarm, tell_approval
from domain.notifications.queries import waiting
from domain.notifications.rules import MAILS, PAGES, Audience, Letter, Template

__all__ = [
    "MAILS",
    "PAGES",
    "SEND_MAX",
    "Audience",
    "Letter",
    "Template",
    "TooSoon",
    "collect",
    "prune",
    "resend",
    "send_due",
    "sweep",
    "tell_alarm",
    "tell_approval",
    "tell_webhook_disabled",
    "waiting",
]
