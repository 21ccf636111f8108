"""Plays the sandbox provider for a load driver: signed callbacks without a provider process.

A third reading of docs/guides/sandbox.md, next to the adapter's and the provider's own.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=1024)
def key(secret: bytes, direction: str, account: str) -> bytes:
    """The key of one direction ("request", "response", "callback") and account."""
    return hmac.digest(secret, f"kami-sandbox/v1/{direction}/{account}".encode(), "sha256")


def sign(secret: bytes, direction: str, account: str, parts: tuple[str, ...], body: bytes) -> str:
    """`v1=` and 64 hex digits over the base string of `parts` and the raw body."""
    base = "\n".join(("v1", direction, account, *parts, "")).encode()
    return "v1=" + hmac.digest(key(secret, direction, account), base + body, "sha256").hex()


def sign_body(
    secret: bytes, account: str, event_id: str, body: bytes, *, timestamp: int | None = None
) -> dict[str, str]:
    """The headers of a callback with this very body; `timestamp` in Unix seconds, else now."""
    at = str(int(time.time()) if timestamp is None else timestamp)
    return {
        "content-type": "application/json",
        "sandbox-account": account,
        "sandbox-timestamp": at,
        "sandbox-event-id": event_id,
        "sandbox-signature": sign(secret, "callback", account, (at, event_id), body),
    }


def sign_callback(
    secret: bytes,
    account: str,
    *,
    reference: str,
    amount: str,
    currency: str,
    status: str = "captured",
    payment_id: str = "",
    event_id: str = "",
    timestamp: int | None = None,
    occurred_at: datetime | None = None,
) -> tuple[dict[str, str], bytes]:
    """(headers in lower case, body) of the callback the provider would send about a payment.

    `secret` is the 32 bytes of KAMI_SANDBOX_SECRET, `reference` the attempt's id as given to the
    provider, `amount` the exact decimal taken so far ("19.90"). Goes to /hooks/sandbox/{account}.
    """
    event_id = event_id or f"evt_{secrets.token_hex(16)}"
    at = datetime.now(UTC) if occurred_at is None else occurred_at.astimezone(UTC)
    statement = {
        "event_id": event_id,
        "type": "payment",
        "account": account,
        "reference": reference,
        "payment_id": payment_id or f"sbx_{reference}"[:64],
        "status": status,
        "amount": {"value": amount, "currency": currency},
        "occurred_at": at.isoformat(timespec="milliseconds")[:-6] + "Z",
    }
    body = json.dumps(statement, separators=(",", ":")).encode()
    return sign_body(secret, account, event_id, body, timestamp=timestamp), body
