"""What the sandbox's proved answers and callbacks say: states, amounts, saved methods (docs/guides/sandbox.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from domain.core.money import Money
from domain.payments.ports import (
    Challenge,
    ChargeAnswer,
    ChargeState,
    Fact,
    NextAction,
    Redirect,
    RefundAnswer,
    RefundState,
    SavedToken,
)
from plugins import strict
from plugins.strict import Unproven

_CHARGE_STATES = {
    "created": ChargeState.REQUIRES_ACTION,
    "processing": ChargeState.PROCESSING,
    "partially_captured": ChargeState.PARTIALLY_CAPTURED,
    "captured": ChargeState.CAPTURED,
    "declined": ChargeState.DECLINED,
    "voided": ChargeState.VOIDED,
    "expired": ChargeState.VOIDED,
}
_REFUND_STATES = {
    "pending": RefundState.PENDING,
    "succeeded": RefundState.SUCCEEDED,
    "failed": RefundState.FAILED,
}

_STATES: dict[str, Mapping[str, ChargeState | RefundState]] = {
    "payment": _CHARGE_STATES,
    "refund": _REFUND_STATES,
}
# States in which money moved: their amount is above zero, all others' is zero.
_TAKEN = frozenset(
    {ChargeState.PARTIALLY_CAPTURED, ChargeState.CAPTURED, RefundState.SUCCEEDED},
)


def charge(answer: Mapping[str, Any], account: str, reference: str) -> ChargeAnswer:
    """What a proved answer says of the payment `reference`. Errors: Unproven."""
    status = _own_status(answer, account, reference)
    state = _CHARGE_STATES.get(status)
    if state is None:
        raise Unproven("field_status")
    action: NextAction | None = None
    processed = None
    if state is ChargeState.REQUIRES_ACTION:
        is_challenge = answer.get("challenge_url") is not None
        action = (
            Challenge(_url(answer, "challenge_url"))
            if is_challenge
            else Redirect(_url(answer, "page_url"))
        )
    if state in _TAKEN:
        processed = _taken(answer.get("captured"))
    return ChargeAnswer(
        state,
        provider_ref=strict.name(answer, "payment_id"),
        action=action,
        processed=processed,
        raw_code=strict.name(answer, "code") if answer.get("code") else status,
        raw_message=strict.words(answer, "message"),
        saved=_saved(answer) if state in _TAKEN else None,
        is_authenticated=state in _TAKEN and _is_authenticated(answer),
    )


def refund(answer: Mapping[str, Any], account: str, reference: str) -> RefundAnswer:
    """What a proved answer says of the refund `reference`. Errors: Unproven."""
    status = _own_status(answer, account, reference)
    state = _REFUND_STATES.get(status)
    if state is None:
        raise Unproven("field_status")
    return RefundAnswer(
        state,
        provider_ref=strict.name(answer, "refund_id"),
        raw_code=strict.name(answer, "code") if answer.get("code") else status,
        raw_message=strict.words(answer, "message"),
    )


def _own_status(answer: Mapping[str, Any], account: str, reference: str) -> str:
    if (answer.get("account"), answer.get("reference")) != (account, reference):
        raise Unproven("field_reference")
    return strict.name(answer, "status")


def _taken(value: object) -> Money:
    amount = strict.money(value)
    if not amount.minor:
        raise Unproven("field_amount")
    return amount


def _saved(fields: Mapping[str, Any]) -> SavedToken | None:
    """The token a capture brings. One that cannot be read is none: it never stands in the way of the money."""
    saved = fields.get("saved")
    if not isinstance(saved, dict):
        return None
    try:
        return SavedToken(strict.name(saved, "token"), strict.words(saved, "label"))
    except Unproven:
        return None


def _url(answer: Mapping[str, Any], field: str) -> str:
    url = answer.get(field)
    if not isinstance(url, str) or not re.fullmatch(r"https?://[!-~]{1,2000}", url, re.ASCII):
        raise Unproven(f"field_{field}")
    return url


def _is_authenticated(fields: Mapping[str, Any]) -> bool:
    """Whether the payer has passed the challenge: the one value that says so, and nothing that looks like it."""
    return fields.get("authenticated") is True


def fact(fields: Mapping[str, Any], account: str, event_id: str) -> Fact:
    """What a proved callback states. Errors: Unproven."""
    if (fields.get("account"), fields.get("event_id")) != (account, event_id):
        raise Unproven("field_event_id")
    subject, status = strict.name(fields, "type"), strict.name(fields, "status")
    if subject not in _STATES:
        raise Unproven("field_type")
    state = _STATES[subject].get(status)
    if state is None:
        raise Unproven("field_status")
    amount = strict.money(fields.get("amount"))
    if (amount.minor > 0) is not (state in _TAKEN):
        raise Unproven("field_amount")
    return Fact(
        event_id=strict.name(fields, "event_id"),
        subject=subject,
        reference=strict.name(fields, "reference"),
        provider_ref=strict.name(fields, f"{subject}_id"),
        state=state.value,
        amount=amount,
        occurred_at=strict.instant(fields, "occurred_at"),
        saved=_saved(fields) if state in _TAKEN and subject == "payment" else None,
        is_authenticated=state in _TAKEN and subject == "payment" and _is_authenticated(fields),
    )
