"""How the provider words what it knows: answers and callbacks (docs/guides/sandbox.md)."""

from __future__ import annotations

import secrets

import orjson

from server.sandbox import challenge, wire
from server.sandbox.book import Callback, Payment, Refund

LABEL = "Sandbox ····4242"


def event_id() -> str:
    """A new id for one statement; every delivery of it carries the same."""
    return f"evt_{secrets.token_hex(16)}"


def payment(record: Payment, page_base: str) -> dict[str, object]:
    """The payment as answered; amounts that are not there are null."""
    taken, back = record.taken_minor, record.refunded_minor
    return {
        "account": record.account,
        "reference": record.reference,
        "payment_id": record.payment_id,
        "status": record.status,
        "amount": wire.amount(record.amount_minor, record.currency) if record.currency else None,
        "captured": wire.amount(taken, record.taken_currency) if taken else None,
        "refunded": wire.amount(back, record.taken_currency) if back else None,
        "page_url": f"{page_base}/pay/{record.payment_id}",
        "code": record.code,
        "message": record.message,
        "saved": _saved(record),
        "challenge_url": f"{page_base}/challenge/{record.payment_id}"
        if challenge.waits(record)
        else None,
        "authenticated": record.authenticated,
    }


def _saved(record: Payment) -> dict[str, str] | None:
    return {"token": record.saved_token, "label": LABEL} if record.saved_token else None


def refund(record: Refund) -> dict[str, object]:
    """The refund as answered."""
    return {
        "account": record.account,
        "reference": record.reference,
        "refund_id": record.refund_id,
        "payment_id": record.payment_id,
        "status": record.status,
        "amount": wire.amount(record.amount_minor, record.currency),
        "code": record.code,
        "message": record.message,
    }


def payment_callback(record: Payment, event: str) -> Callback:
    """The statement of where the payment stands: its amount is all that was taken so far."""
    statement: dict[str, object] = {
        "event_id": event,
        "type": "payment",
        "account": record.account,
        "reference": record.reference,
        "payment_id": record.payment_id,
        "status": record.status,
        "amount": wire.amount(record.taken_minor, record.taken_currency or record.currency),
        "occurred_at": wire.instant(record.changed_at),
    }
    if record.saved_token:
        statement["saved"] = _saved(record)
    if record.must_authenticate:
        statement["authenticated"] = record.authenticated
    return Callback(event, record.account, record.notify_url, orjson.dumps(statement).decode())


def refund_callback(record: Refund, of: Payment) -> Callback:
    """The statement of where the refund stands; its amount is what was returned, or zero."""
    returned = record.amount_minor if record.status == "succeeded" else 0
    statement = {
        "event_id": record.event_id,
        "type": "refund",
        "account": record.account,
        "reference": record.reference,
        "refund_id": record.refund_id,
        "payment_id": record.payment_id,
        "status": record.status,
        "amount": wire.amount(returned, record.currency),
        "occurred_at": wire.instant(record.changed_at),
    }
    body = orjson.dumps(statement).decode()
    return Callback(record.event_id, record.account, of.notify_url, body)
