"""The checkout in the contract: choose → pay → goods."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain import catalogue, checkout, fx
from domain.core import ids, money
from domain.payments import UnknownMethod
from resolvers import checkout as resolve
from resolvers import payments as resolve_payments
from resolvers.checkout import Begun
from resolvers.payments import Forgotten
from schema.app_limits import AppLimitExceeded
from schema.field import Who, derived, field, mutation_field, object_type
from schema.markets import FxQuote
from schema.money import Money
from schema.orders import Order, OrderStateConflict
from schema.payments import Payment, PaymentMethod
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem
from schema.scalars import CurrencyCode


@object_type(description="A placed order and how it can be paid.", rows=(Begun,))
class Checkout:
    """Nothing is reserved or charged yet."""

    order: Order = derived(lambda one: one.seen, description="The order.")
    access_key: str = field(
        description="Opens the order for its buyer; shown here and in the mails only."
    )
    quote: FxQuote | None = field(
        description="The locked rate; null when the shop prices in this currency."
    )
    payment_methods: list[PaymentMethod] = field(
        description="Usable methods, the recommendation first.", resolver=resolve.methods
    )
    expires_at: datetime = field(description="Until when the shown amount can be paid.")


@problem(catalogue.OutOfStock, description="Not enough stock is left; nothing was charged.")
class OutOfStock(Problem):
    """Code OUT_OF_STOCK."""

    available: int | None = field(description="How many could be ordered now; null when not known.")


@problem(
    catalogue.HoldLimit, description="Too much unpaid stock is held from here already; pay or wait."
)
class HoldLimit(Problem):
    """Code HOLD_LIMIT."""


@problem(catalogue.CouponInvalid, description="The coupon does not apply to this cart.")
class CouponInvalid(Problem):
    """Code COUPON_INVALID."""


@problem(
    money.UnsupportedCurrency, description="The shop or the method does not take this currency."
)
class UnsupportedCurrency(Problem):
    """Code UNSUPPORTED_CURRENCY."""

    currency: CurrencyCode | None = field(description="The currency that was asked for.")


@object_type(
    description="A line whose unit price is not the one the buyer was shown.",
    rows=(catalogue.NewPrice,),
)
class PriceChange:
    """What a client shows before it asks again."""

    line: int = derived(lambda one: one.place, description="Which line of the cart, from 0.")
    variant_id: strawberry.ID = derived(
        lambda one: ids.encode("var", one.variant_id), description="Its variant, `var_…`."
    )
    unit_price: Money = derived(
        lambda one: one.unit, description="What one unit costs now at the line's quantity."
    )


@problem(
    catalogue.PriceChanged,
    description="A price changed since it was shown; nothing was placed. `path` is what it was compared with.",
)
class PriceChanged(Problem):
    """Code PRICE_CHANGED."""

    unit_price: Money | None = field(
        description="What a unit of the first changed line costs now; null when a total was expected."
    )
    total: Money | None = field(
        description="What the order costs now; null when unit prices were compared."
    )
    changes: list[PriceChange] = field(
        description="Every line that changed, in cart order; empty when a total was expected."
    )


@problem(fx.RateUnavailable, description="There is no fresh exchange rate; nothing was placed.")
class RateUnavailable(Problem):
    """Code RATE_UNAVAILABLE."""


@problem(checkout.RiskDeclined, description="The payment was refused before anyone was charged.")
class RiskDeclined(Problem):
    """Code RISK_DECLINED."""


@problem(
    checkout.PaymentDeclined, description="The provider refused the charge; nothing was taken."
)
class PaymentDeclined(Problem):
    """Code PAYMENT_DECLINED."""


@problem(
    checkout.QuoteExpired,
    description="The locked rate is over and nothing was charged; start again.",
)
class QuoteExpired(Problem):
    """Code QUOTE_EXPIRED."""


@problem(UnknownMethod, description="No installed provider offers this method.")
class PaymentMethodUnavailable(Problem):
    """Code PAYMENT_METHOD_UNAVAILABLE."""


StartCheckoutResult = Annotated[
    Checkout
    | AppLimitExceeded
    | OutOfStock
    | PriceChanged
    | CouponInvalid
    | UnsupportedCurrency
    | RateUnavailable
    | RiskDeclined
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union("StartCheckoutResult", description="A placed order, or why not."),
]
PayResult = Annotated[
    Payment
    | PaymentDeclined
    | QuoteExpired
    | OrderStateConflict
    | OutOfStock
    | HoldLimit
    | PriceChanged
    | CouponInvalid
    | UnsupportedCurrency
    | RateUnavailable
    | PaymentMethodUnavailable
    | RiskDeclined
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union("PayResult", description="An attempt under way, or why not."),
]


@object_type(description="A saved method that is charged no more.", rows=(Forgotten,))
class MethodForgotten:
    """The provider deletes its token as soon as it answers."""

    saved_method_id: strawberry.ID = derived(
        lambda one: one.saved_id, description="The method that is gone."
    )
    order: Order = derived(lambda one: one.seen, description="The order.")


ForgetMethodResult = Annotated[
    MethodForgotten | NotFound | InvalidInput | Unavailable,
    strawberry.union("ForgetMethodResult", description="A forgotten method, or why not."),
]


@strawberry.type
class CheckoutMutation:
    """The path every buyer walks."""

    start_checkout: StartCheckoutResult = mutation_field(
        resolve.start,
        who=Who.ANYONE,
        idempotent=True,
        description="Price a cart, lock the rate and place the order; nothing is reserved or charged. "
        "Problems: OUT_OF_STOCK, PRICE_CHANGED, COUPON_INVALID, UNSUPPORTED_CURRENCY, RATE_UNAVAILABLE, "
        "INVALID_INPUT, NOT_FOUND.",
        args={"input": "The cart and who buys."},
    )
    pay: PayResult = mutation_field(
        resolve_payments.pay,
        who=Who.ANYONE,
        idempotent=True,
        description="Pay an order by a method; goods are held with the attempt. Problems: "
        "PAYMENT_DECLINED, QUOTE_EXPIRED, ORDER_STATE_CONFLICT, OUT_OF_STOCK, RISK_DECLINED, NOT_FOUND.",
        args={"input": "The order, its access key and the method."},
    )
    buy_again: PayResult = mutation_field(
        resolve.buy_again,
        who=Who.ANYONE,
        idempotent=True,
        description="Buy again at today's prices with a saved method: order and payment in one call. Problems: "
        "those of `startCheckout` and `pay`; PRICE_CHANGED for another total than expected.",
        args={"input": "The earlier order, its key, the method, and what to buy."},
    )
    forget_method: ForgetMethodResult = mutation_field(
        resolve_payments.forget,
        who=Who.ANYONE,
        description="Have a saved method forgotten, here at once and at its provider; again is the same. "
        "Problems: NOT_FOUND.",
        args={"input": "An order that shows the method, its key, and the method."},
    )
