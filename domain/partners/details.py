"""Rich authorization requests (RFC 9396): where, what, how much and until when, in one element.

[{"type": "kami_merchant", "merchant": "mer_…", "actions": ["refunds:write"],
  "limits": [{"scope": "refunds:write", "amount": "500.00", "currency": "USD"}], "expires_at": "2027-01-31T00:00:00Z"}]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from domain.core import ids
from domain.core.errors import DomainError
from domain.core.money import Money
from domain.partners.rules import DETAILS_TYPE, LIMITED, Asked, Limit, OAuthRefused

SIZE_MAX = 4_096
LIMITS_MAX = 10
_KNOWN = {"type", "merchant", "actions", "limits", "expires_at"}
_LIMIT = {"scope", "amount", "currency"}


@dataclass(frozen=True, slots=True)
class Details:
    """What was read; `actions` None leaves them to the `scope` parameter."""

    merchant_id: UUID | None = None
    actions: tuple[str, ...] | None = None
    limits: tuple[Limit, ...] = ()
    expires_at: datetime | None = None


def read(text: str | None, *, now: datetime) -> Details:
    """The one element of an `authorization_details` parameter, with nothing unknown in it.

    Errors: OAuthRefused (`invalid_authorization_details`): a detail we do not understand is never left out.
    """
    if text is None:
        return Details()
    try:
        given = orjson.loads(text) if len(text) <= SIZE_MAX else None
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, list) or len(given) != 1 or not isinstance(given[0], dict):
        raise _refused("one element is expected")
    one = given[0]
    if one.get("type") != DETAILS_TYPE or set(one) - _KNOWN:
        raise _refused(f"only {DETAILS_TYPE} with {', '.join(sorted(_KNOWN))} is known")
    return Details(
        _merchant(one.get("merchant")),
        _actions(one.get("actions")),
        tuple(_limits(one.get("limits"))),
        _until(one.get("expires_at"), now),
    )


def _refused(why: str) -> OAuthRefused:
    return OAuthRefused("invalid_authorization_details", why)


def _merchant(given: Any) -> UUID | None:
    if given is None:
        return None
    try:
        return ids.decode(given, "mer")
    except (ids.IdInvalid, AttributeError):
        raise _refused("merchant is not an id") from None


def _actions(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
        raise _refused("actions are scopes")
    return tuple(sorted(set(given)))


def _limits(given: Any) -> Iterable[Limit]:
    if given is None:
        return []
    if not isinstance(given, list) or not 0 < len(given) <= LIMITS_MAX:
        raise _refused("limits are a list")
    found: dict[tuple[str, str], Limit] = {}
    for one in given:
        if not isinstance(one, dict) or set(one) != _LIMIT or one["scope"] not in LIMITED:
            raise _refused("a limit has scope, amount and currency")
        try:
            most = Money.parse(one["amount"], one["currency"])
        except (DomainError, TypeError, AttributeError):
            raise _refused("a limit is an exact amount in a currency") from None
        if most.minor < 0 or (one["scope"], most.currency) in found:
            raise _refused("a limit is named once and not below zero")
        found[one["scope"], most.currency] = Limit(one["scope"], most)
    return found.values()


def _until(given: Any, now: datetime) -> datetime | None:
    if given is None:
        return None
    try:
        found = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise _refused("expires_at is an RFC 3339 time") from None
    if found.tzinfo is None or found <= now:
        raise _refused("expires_at is an RFC 3339 time that is still to come")
    return found.astimezone(UTC)


def write(
    merchant_id: UUID,
    scopes: Iterable[str],
    limits: Iterable[Limit],
    expires_at: datetime | None,
) -> list[dict[str, Any]]:
    """What was granted, in the form it is asked for; goes with every token."""
    one: dict[str, Any] = {
        "type": DETAILS_TYPE,
        "merchant": ids.encode("mer", merchant_id),
        "actions": sorted(scopes),
    }
    listed = [
        {"scope": limit.scope, "amount": limit.most.decimal(), "currency": limit.most.currency}
        for limit in limits
    ]
    if listed:
        one["limits"] = listed
    if expires_at is not None:
        one["expires_at"] = expires_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return [one]


def pack(asked: Asked) -> dict[str, Any]:
    """An app's request as it waits in the database."""
    return {
        "scopes": list(asked.scopes),
        "redirect_uri": asked.redirect_uri,
        "challenge": asked.challenge,
        "state": asked.state,
        "jkt": asked.jkt,
        "merchant_id": str(asked.merchant_id) if asked.merchant_id else None,
        "limits": [[one.scope, one.most.minor, one.most.currency] for one in asked.limits],
        "expires_at": asked.expires_at.isoformat() if asked.expires_at else None,
        "max_age_s": asked.max_age_s,
        "acr": asked.acr,
    }


def unpack(stored: dict[str, Any]) -> Asked:
    """What `pack` was given."""
    return Asked(
        scopes=tuple(stored["scopes"]),
        redirect_uri=stored["redirect_uri"],
        challenge=stored["challenge"],
        state=stored["state"],
        jkt=stored["jkt"],
        merchant_id=UUID(stored["merchant_id"]) if stored["merchant_id"] else None,
        limits=tuple(Limit(scope, Money(minor, ccy)) for scope, minor, ccy in stored["limits"]),
        expires_at=datetime.fromisoformat(stored["expires_at"]) if stored["expires_at"] else None,
        max_age_s=stored["max_age_s"],
        acr=stored["acr"],
    )
