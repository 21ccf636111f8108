"""Merchants' own accounts at providers: which one a payment goes through, and how it is reached and heard.

An account's name is ours (26 characters, made once), so nobody can name another's; what the provider calls it is part
of its credentials. The platform's own account is reached with what the plugin was installed with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson

from domain.core import clock, db, vault
from domain.payments.ports import CallbackRefused, Fact, Provider, own_accounts, providers
from domain.payments.routing import Offer

TABLE = "provider_credential"
# So long callbacks that were signed before a rotation are still heard.
OVERLAP = timedelta(hours=24)
CACHE_S = 4.0
CACHE_MAX = 10_000
_OWN = re.compile(r"[0-9a-z]{26}", re.ASCII)

_ACTIVE = """
SELECT account FROM provider_credential WHERE merchant_id = $1 AND provider = $2 AND state = 'active'
"""
_OF_ACCOUNT = """
SELECT merchant_id, id, key_version, cipher, state, ended_at FROM provider_credential
WHERE provider = $1 AND account = $2 AND state IN ('active', 'retired')
ORDER BY state = 'active' DESC, active_at DESC
"""


@dataclass(frozen=True, slots=True)
class _Keyring:
    """Ways to one account, the newest first; only that one is called, all of them are believed."""

    bound: tuple[Provider, ...]


_active: dict[tuple[UUID, str], tuple[float, str | None]] = {}
_rings: dict[tuple[str, str], tuple[float, _Keyring]] = {}


def is_own(account: str) -> bool:
    """Whether an account is a merchant's own: its money is with the provider, never with the platform."""
    return _OWN.fullmatch(account) is not None


async def through(merchant_id: UUID, offer: Offer) -> Offer:
    """The offer, by the merchant's own account at its provider when one is active; at most four seconds old."""
    if offer.provider not in own_accounts:
        return offer
    key = (merchant_id, offer.provider)
    kept = _active.get(key)
    if kept is None or kept[0] <= clock.monotonic():
        kept = (clock.monotonic() + CACHE_S, await db.value(_ACTIVE, *key))
        _keep(_active, key, kept)
    return offer if kept[1] is None else replace(offer, account=kept[1])


async def reach(provider: str, account: str) -> Provider:
    """The provider as seen from one account, to be called with that account. KeyError for one that is not installed."""
    if not is_own(account):
        return providers[provider]
    ring = await _ring(provider, account)
    assert ring.bound, (provider, account)
    return ring.bound[0]


async def heard(provider: str, account: str, headers: Mapping[str, str], body: bytes) -> list[Fact]:
    """Prove a callback to an account by its credentials, or by those it had until a day ago.

    Errors: CallbackRefused, also for an account of nobody's.
    """
    if not is_own(account):
        return providers[provider].verify(account=account, headers=headers, body=body)
    refusal = CallbackRefused(status=401, reason="account")
    for is_fresh in (False, True):  # a rotation elsewhere may be younger than what is kept here
        ring = await _ring(provider, account, is_fresh=is_fresh)
        for way in ring.bound:
            try:
                return way.verify(account=account, headers=headers, body=body)
            except CallbackRefused as refused:
                refusal = refused
    raise refusal


async def _ring(provider: str, account: str, *, is_fresh: bool = False) -> _Keyring:
    key = (provider, account)
    kept = _rings.get(key)
    if kept is not None and kept[0] > clock.monotonic() and not is_fresh:
        return kept[1]
    opener = own_accounts.get(provider)
    if opener is None:
        return _Keyring(())
    rows = await db.fetch(_OF_ACCOUNT, provider, account)
    since = clock.now() - OVERLAP
    good = [
        row for place, row in enumerate(rows) if not place or (row["ended_at"] or since) > since
    ]
    ring = _Keyring(tuple([opener.bound(account, await unsealed(row)) for row in good]))
    _keep(_rings, key, (clock.monotonic() + CACHE_S, ring))
    return ring


async def unsealed(row: Any) -> dict[str, str]:
    """All fields of the credentials in a row."""
    keys = await vault.of_merchant(row["merchant_id"], version=row["key_version"])
    plain = keys.unseal(TABLE, row["id"], row["key_version"], row["cipher"])
    found: dict[str, str] = orjson.loads(plain)
    return found


def _keep(cache: dict[Any, Any], key: Any, value: Any) -> None:
    cache.pop(key, None)
    while len(cache) >= CACHE_MAX:
        del cache[next(iter(cache))]
    cache[key] = value


def forget() -> None:
    """Drop what this process keeps; others see a change within four seconds."""
    _active.clear()
    _rings.clear()
