"""Step-up: what takes a session that has proved more than a password, and lately (RFC 9470)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from domain import fx, identity
from domain.core import clock
from domain.core.money import Money
from domain.core.settings import settings
from domain.identity import Acr, Proof, Viewer
from domain.orders.models import Order
from resolvers.access import require_viewer
from resolvers.context import Context
from resolvers.errors import MfaRequired

FRESH_S = 900


@dataclass(frozen=True, slots=True)
class StepUp:
    """At least `acr`, proved in the last `max_age_s` seconds."""

    acr: Acr = Acr.MFA
    max_age_s: int = FRESH_S


FRESH = StepUp()


async def require(context: Context, wanted: StepUp = FRESH) -> None:
    """Pass a caller whose session has proved what is wanted.

    An account without any second factor passes where none is demanded (`KAMI_MFA_REQUIRED`, by default everywhere
    but in production). Errors: Unauthenticated; MfaRequired with `acr_values` and `max_age`, and `must_enrol` for
    somebody who has nothing to prove it with.
    """
    viewer = require_viewer(context)
    now = clock.now()
    if viewer.proof.has_factor and viewer.proof.is_enough(wanted.acr, wanted.max_age_s, now):
        return
    # The viewer may be four seconds old, and the proof newer.
    proof = await _proof(viewer)
    if not proof.has_factor:
        if not settings().must_enrol:
            return
    elif proof.is_enough(wanted.acr, wanted.max_age_s, now):
        return
    levels = list(Acr)
    raise MfaRequired(
        acr_values=[str(one) for one in levels[levels.index(wanted.acr) :]],
        max_age=wanted.max_age_s,
        must_enrol=not proof.has_factor,
    )


async def _proof(viewer: Viewer) -> Proof:
    """What is behind the caller now; behind an app only what its grant was given with."""
    if viewer.app is None:
        return await identity.proof(viewer.session_id)
    return replace(viewer.proof, has_factor=await identity.has_factor(viewer.account_id))


async def for_refund(context: Context, order: Order, amount: Money | None) -> None:
    """Pass a refund that is small together with what went back before; a larger one takes `FRESH`.

    Weighed in US dollars by the last known rates; what cannot be weighed counts as large. Errors: MfaRequired.
    """
    back_minor = order.captured_minor
    if amount is not None:
        if amount.currency != order.ccy:
            return  # refused by the refund itself
        back_minor = order.returned_minor + amount.minor
    try:
        usd_minor = fx.reference_minor(Money(back_minor, order.ccy), "USD")
    except fx.RateUnavailable:
        usd_minor = settings().refund_step_up_minor + 1
    if usd_minor > settings().refund_step_up_minor:
        await require(context)
