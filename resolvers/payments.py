"""Payment methods as a buyer is offered them, best first, and paying with one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

import strawberry

from domain import checkout, geo, payments
from domain.core.errors import FieldInvalid, NotFound
from domain.core.money import Money
from domain.identity import Forbidden
from domain.orders import OrderView
from domain.payments.ports import Method
from resolvers import access, visitors
from resolvers.context import Asked
from resolvers.inputs import decode
from resolvers.orders import Paid, Seen
from resolvers.visitors import SignalsInput

URL_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Offered:
    """A method as it is shown: `reasons` say why it stands where it does."""

    method: Method
    reasons: tuple[str, ...] = ()

    # What buyers pay on top is nothing: fees are the merchant's.
    surcharge: Money | None = None


def ranked(
    info: Asked,
    *,
    amount: Money | None = None,
    currency: str | None = None,
    country: str | None = None,
    platform: geo.Platform | None = None,
    wallets: Collection[str] = (),
) -> list[Offered]:
    """The methods usable here and now, the recommendation first."""
    here = info.context.market
    market = geo.market(
        explicit=country or here.country,
        currency=amount.currency if amount else currency or here.currency,
        language=here.language,
    )
    methods = [offer.method for offer in payments.offers()]
    return [
        Offered(one.method, one.reasons)
        for one in geo.rank_methods(
            market, methods, amount=amount, platform=platform, wallets=wallets
        )
    ]


@strawberry.input(description="Pay an order.")
class PayInput:
    """One attempt; the same method again returns the attempt under way."""

    order_id: strawberry.ID = strawberry.field(description="The order to pay.")
    access_key: str | None = strawberry.field(
        default=None,
        description="The key `startCheckout` gave for this order; not needed by its buyer, signed in.",
    )
    method: str = strawberry.field(description="Code of a payment method.")
    saved_method_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="One of the order's `savedMethods`, charged at once without the buyer.",
    )
    save_method: bool = strawberry.field(
        default=False,
        description="Save what is paid by, once it is paid; where the method's `canSave` says so.",
    )
    return_url: str | None = strawberry.field(
        default=None,
        description="Where the provider sends the buyer back to; http(s), at most 2,000 characters.",
    )
    signals: SignalsInput | None = strawberry.field(
        default=None, description="Hints for ranking and risk, never authority."
    )


async def pay(info: Asked, input: PayInput) -> Paid:
    """Start or continue paying; what the buyer does next is in `nextAction`."""
    order_id = decode(input.order_id, "ord", "orderId")
    if access.seller(info.context) is not None:
        await _check_app(info, input, order_id)
    key = await access.key_for(
        info.context, order_id, input.access_key, saved=input.saved_method_id is not None
    )
    paying = await checkout.pay(
        order_id,
        input.method,
        visitors.of(info, input.signals),
        info.context.once(info),
        access_key=key,
        return_url=_return_url(input.return_url),
        saves=input.save_method,
        saved_id=decode(input.saved_method_id, "svm", "savedMethodId")
        if input.saved_method_id
        else None,
    )
    made = paid(paying)
    made.seen.grant_id = access.selling(info.context)
    return made


async def _check_app(info: Asked, input: PayInput, order_id: UUID) -> None:
    """An app pays for what it placed itself, and never by what a buyer has saved.

    Errors: NotFound, in the same words as a wrong key; Forbidden.
    """
    if not await access.is_buyer(info.context, order_id, input.access_key):
        raise NotFound()
    if input.saved_method_id is not None or input.save_method:
        raise Forbidden()


def paid(paying: checkout.Paying, access_key: str | None = None) -> Paid:
    """The attempt under way, for the buyer who started it."""
    attempt = paying.attempt
    return Paid(
        attempt.id,
        attempt.state,
        payments.route(attempt.method, attempt.ccy),
        attempt.requested,
        attempt.action_json,
        Seen(OrderView(paying.order), is_buyer=True, sees_split=False),
        access_key,
    )


@strawberry.input(description="Have a saved method forgotten.")
class ForgetMethodInput:
    """By the buyer of any order of its chain."""

    order_id: strawberry.ID = strawberry.field(description="An order that shows the method.")
    access_key: str | None = strawberry.field(
        default=None, description="The order's key; not needed by its buyer, signed in."
    )
    saved_method_id: strawberry.ID = strawberry.field(description="The method.")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A method that is charged no more."""

    seen: Seen
    saved_id: str


async def forget(info: Asked, input: ForgetMethodInput) -> Forgotten:
    """Forget a saved method here at once, and at its provider as soon as it answers."""
    order_id = decode(input.order_id, "ord", "orderId")
    order = await checkout.forget_method(
        order_id,
        decode(input.saved_method_id, "svm", "savedMethodId"),
        access_key=await access.key_for(info.context, order_id, input.access_key, saved=True),
    )
    return Forgotten(Seen(OrderView(order), is_buyer=True, sees_split=False), input.saved_method_id)


def _return_url(url: str | None) -> str | None:
    if url is None:
        return None
    if len(url) > URL_MAX or not url.startswith(("https://", "http://")) or not url.isprintable():
        raise FieldInvalid(path=("input", "returnUrl"), reason="url")
    return url
