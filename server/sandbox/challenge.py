"""The challenge of a payer (3-D Secure in small): a one-time code, three tries, and what it says of a payment."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs

from server.sandbox.book import Payment

TRIES_MAX = 3
CODE_DIGITS = 6

# Code and words of a declined payment.
REFUSED = ("authentication_refused", "The payer did not want to prove who they are")
FAILED = ("authentication_failed", "The payer could not prove who they are")


def new_code() -> str:
    """What the payer's bank would send them; a sandbox shows it on the page."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"


def waits(payment: Payment) -> bool:
    """Whether the payer has yet to prove who they are."""
    return payment.must_authenticate and not payment.authenticated and payment.status == "created"


def is_right(payment: Payment, code: str) -> bool:
    """Whether the typed code is the payment's."""
    typed_code = "".join(code.split())
    return secrets.compare_digest(typed_code.encode(), payment.challenge_code.encode())


def typed(body: bytes) -> str:
    """The `code` of a posted form; "" when there is none."""
    try:
        fields = parse_qs(body.decode("ascii", "replace"), max_num_fields=8)
    except ValueError:  # not our form
        return ""
    return fields.get("code", [""])[0][:32]
