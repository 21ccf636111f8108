"""Starting a checkout: the cart of a client becomes a priced order."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import strawberry
from strawberry import Parent

import i18n
from domain import checkout, fx, geo, merchants
from domain.core import ids
from domain.core.errors import DomainError, FieldInvalid, InputInvalid, NotFound
from domain.core.money import Money
from domain.orders import LINES_MAX, OrderView
from domain.partners import Seller
from resolvers import access, payments, visitors
from resolvers.context import Asked
from resolvers.inputs import MoneyInput, decode
from resolvers.orders import Paid, Seen
from resolvers.payments import Offered
from resolvers.scalars import CountryCode, CurrencyCode, LanguageCode
from resolvers.visitors import SignalsInput


@strawberry.input(description="One line of a cart.")
class CheckoutLineInput:
    """A variant and how many."""

    variant_id: strawberry.ID = strawberry.field(description="The variant.")
    quantity: int = strawberry.field(description="How many, within the variant's limits.")
    unit_price: MoneyInput | None = strawberry.field(
        default=None,
        description="What the buyer was shown for one unit at this quantity; another price now is PRICE_CHANGED.",
    )


@strawberry.input(description="Where the buyer is reached.")
class ContactInput:
    """A guest needs nothing but an e-mail address."""

    email: str = strawberry.field(description="The goods' link and the receipts go here.")
    locale: LanguageCode | None = strawberry.field(
        default=None, description="Language of the mails; the request's when omitted."
    )


@strawberry.input(description="A cart to be priced and placed as an order.")
class StartCheckoutInput:
    """Prices are the server's; the buyer pays in `currency`."""

    shop: str = strawberry.field(description="Handle of the shop.")
    lines: list[CheckoutLineInput] = strawberry.field(
        description="1 to 100 lines, each variant once."
    )
    contact: ContactInput = strawberry.field(description="Where the buyer is reached.")
    country: CountryCode | None = strawberry.field(
        default=None,
        description="Where the buyer is; from the address when omitted, but an app has to say it.",
    )
    currency: CurrencyCode | None = strawberry.field(
        default=None, description="What the buyer pays in; the country's when omitted."
    )
    coupon: str | None = strawberry.field(default=None, description="A coupon code.")
    signals: SignalsInput | None = strawberry.field(
        default=None, description="Hints for ranking and risk, never authority."
    )


@dataclass(frozen=True, slots=True)
class Begun:
    """A started checkout."""

    seen: Seen
    access_key: str
    quote: fx.Quote | None
    signals: SignalsInput | None
    expires_at: datetime


def _lines(
    lines: list[CheckoutLineInput],
) -> tuple[list[tuple[UUID, int]], list[Money | None]]:
    """Variant ids decoded, shown prices read; every faulty line is named. Errors: InputInvalid."""
    if not 1 <= len(lines) <= LINES_MAX:
        raise InputInvalid(FieldInvalid(path=("input", "lines"), reason="count"))
    pairs, shown, problems = [], list[Money | None](), list[DomainError]()
    for place, line in enumerate(lines):
        try:
            pairs.append((ids.decode(line.variant_id, "var"), line.quantity))
        except ids.IdInvalid as error:
            error.path = ("input", "lines", str(place), "variantId")
            problems.append(error)
        try:
            price = line.unit_price
            path = ("input", "lines", str(place), "unitPrice")
            shown.append(price.parse(*path) if price else None)
        except DomainError as error:
            problems.append(error)
    if problems:
        raise InputInvalid(*problems)
    return pairs, shown


async def start(info: Asked, input: StartCheckoutInput) -> Begun:
    """Price the cart, lock the rate and place the order."""
    here = info.context.market
    market = geo.market(
        explicit=input.country or here.country,
        currency=input.currency,
        language=here.language,
        payable=fx.payable(),
    )
    locale = i18n.negotiate(input.contact.locale) if input.contact.locale else None
    seller = await _seller(info, input)
    lines, shown = _lines(input.lines)
    started = await checkout.start(
        checkout.Cart(
            shop=input.shop,
            lines=lines,
            email=input.contact.email,
            locale=locale or here.language,
            market=market,
            coupon=input.coupon or None,
            shown=shown,
            seller=seller,
            request_id=info.context.request_id,
        ),
        visitors.of(info, input.signals),
        info.context.once(info),
    )
    seen = Seen(OrderView(started.order), is_buyer=True, sees_split=False)
    seen.grant_id = access.selling(info.context)
    return Begun(
        seen,
        started.access_key,
        started.quote,
        input.signals,
        checkout.locked_until(started.quote, started.order),
    )


async def _seller(info: Asked, input: StartCheckoutInput) -> Seller | None:
    """The app that sells, in its own merchant's shops only; it says where its buyer is, for we do not see them.

    Errors: NotFound for every other shop, FieldInvalid.
    """
    seller = access.seller(info.context)
    if seller is None:
        return None
    shop = await merchants.shop_by_handle(input.shop)
    if shop is None or shop.merchant_id != seller.merchant_id:
        raise NotFound(path=("input", "shop"))
    if input.country is None and info.context.asked_country is None:
        raise FieldInvalid(path=("input", "country"), reason="apps_say_where")
    return seller


@strawberry.input(description="Buy again with a saved method: one call, no page to open.")
class BuyAgainInput:
    """Contact, country and shop are those of the earlier order; prices are today's."""

    order_id: strawberry.ID = strawberry.field(description="An order that shows the method.")
    access_key: str | None = strawberry.field(
        default=None, description="The order's key; not needed by its buyer, signed in."
    )
    saved_method_id: strawberry.ID = strawberry.field(description="One of its `savedMethods`.")
    lines: list[CheckoutLineInput] | None = strawberry.field(
        default=None, description="What to buy; the same as then when omitted."
    )
    coupon: str | None = strawberry.field(default=None, description="A coupon code.")
    currency: CurrencyCode | None = strawberry.field(
        default=None, description="What the buyer pays in; the earlier order's when omitted."
    )
    expected_total: MoneyInput | None = strawberry.field(
        default=None,
        description="The total the buyer agreed to; PRICE_CHANGED and no order when it is another one.",
    )
    signals: SignalsInput | None = strawberry.field(
        default=None, description="Hints for ranking and risk, never authority."
    )


async def buy_again(info: Asked, input: BuyAgainInput) -> Paid:
    """Place a new order and charge it by a saved method."""
    expected = input.expected_total
    lines, shown = (None, []) if input.lines is None else _lines(input.lines)
    order_id = decode(input.order_id, "ord", "orderId")
    bought = await checkout.buy_again(
        checkout.Wish(
            order_id=order_id,
            access_key=await access.key_for(info.context, order_id, input.access_key, saved=True),
            saved_id=decode(input.saved_method_id, "svm", "savedMethodId"),
            lines=lines,
            shown=shown,
            coupon=input.coupon or None,
            currency=input.currency,
            expected=expected.parse("input", "expectedTotal") if expected else None,
        ),
        visitors.of(info, input.signals),
        info.context.once(info),
    )
    return payments.paid(bought.paying, bought.access_key)


def methods(begun: Parent[Begun], info: Asked) -> list[Offered]:
    """How this order can be paid, the recommendation first."""
    order = begun.seen.order
    return payments.ranked(
        info,
        amount=order.total,
        country=order.country,
        platform=visitors.platform_of(begun.signals),
        wallets=(begun.signals.wallets or ()) if begun.signals else (),
    )
