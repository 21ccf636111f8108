"""Notifications: mails to buyers and merchants, one per event, made from the event log and sent by
a port."""

from __future__ import annotations

from domain.notifications.actions import SEND_MAX, TooSoon, collect, prune, resend, send_due, sweep
from domain.notifications.queries import waiting
from domain.notifications.rules import MAILS, Audience, Template

__all__ = [
    "MAILS",
    "SEND_MAX",
    "Audience",
    "Template",
    "TooSoon",
    "collect",
    "prune",
    "resend",
    "send_due",
    "sweep",
    "waiting",
]
