"""What may be told under a grant: person ∩ grant ∩ scope, looked at when a body is made and again before it goes.

What is owed under a grant that is over, or that no longer opens what the webhook tells, is skipped, never kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from domain import partners
from domain.core import clock, db
from domain.identity import Role
from domain.partners import Acting, Scope
from domain.webhooks.models import Claimed

# As with tokens: what is over is told nothing after five seconds, so what was found holds for two.
FRESH_S = 2.0
KEPT_MAX = 10_000
GRANT_OVER, SCOPE_GONE = "grant_over", "scope_gone"
MONEY_ROLES = (Role.OWNER, Role.FINANCE, Role.READ_ONLY, Role.SUPPORT)

_kept: dict[UUID, tuple[float, Acting | None]] = {}


async def rights(grant_ids: Collection[UUID]) -> Mapping[UUID, Acting | None]:
    """What each grant allows now, None for one that is over; one statement for those not looked at lately."""
    now = clock.monotonic()
    wanted = {one for one in grant_ids if one not in _kept or _kept[one][0] < now}
    if wanted:
        if len(_kept) > KEPT_MAX:
            _kept.clear()
        found = await partners.acting(wanted)
        _kept.update({one: (now + FRESH_S, found.get(one)) for one in wanted})
    return {one: _kept[one][1] for one in grant_ids}


def sees_split(of: Acting) -> bool:
    """Whether the app may tell the parts of the merchant's money apart: by its scope, and by its person's role."""
    return Scope.MONEY_READ in of.scopes and of.role in MONEY_ROLES


def refusal(of: Acting | None, needed: Collection[str]) -> str | None:
    """Why nothing is told under this grant; None when it is."""
    if of is None:
        return GRANT_OVER
    return None if of.scopes.issuperset(needed) else SCOPE_GONE


async def may_go(one: Claimed) -> str | None:
    """Why a written delivery is not sent after all; None when it is. Merchants' own always go."""
    if one.grant_id is None:
        return None
    of = (await rights([one.grant_id]))[one.grant_id]
    if of is not None and one.sees_split and not sees_split(of):
        return SCOPE_GONE
    return refusal(of, one.endpoint.scopes)


_DROP = """
UPDATE webhook_delivery d SET state = 'skipped', error = 'grant_over', done_at = clock_timestamp(), body = NULL
WHERE d.id IN (SELECT o.id FROM webhook_delivery o JOIN app_grant g ON g.id = o.grant_id
    JOIN partner_app a ON a.id = g.app_id JOIN account p ON p.id = g.account_id
    LEFT JOIN membership m ON m.merchant_id = g.merchant_id AND m.account_id = g.account_id
    WHERE o.grant_id IS NOT NULL AND o.state = 'ready' AND (g.revoked_at IS NOT NULL
        OR g.expires_at <= clock_timestamp() OR a.state <> 'active' OR p.state <> 'open' OR m.role IS NULL)
    LIMIT $1 FOR UPDATE OF o SKIP LOCKED)
"""
DROP_MAX = 10_000


async def drop() -> int:
    """Skip what is owed under grants that are over; how many. Nothing of it would be sent, this tidies up."""
    return await db.execute(_DROP, DROP_MAX)
