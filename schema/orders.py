"""Orders in the contract: what was bought, what happened, where the money went, and the goods."""

from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry

from domain import ledger
from domain.catalogue import Good
from domain.core import ids
from domain.core.money import Money as CoreMoney
from domain.orders import EventKind, Line, OrderStatus
from domain.orders import OrderStateConflict as StateConflict
from domain.partners import Source
from domain.settlement import FundsLeg
from domain.settlement import RefundExceedsCaptured as ExceedsCaptured
from resolvers import following, watching
from resolvers import orders as resolve
from resolvers.orders import Happened, Refunded, Seen
from resolvers.watching import Gap, Heartbeat
from schema.app_limits import AppLimitExceeded
from schema.catalogue import Shop
from schema.field import (
    Who,
    derived,
    field,
    mutation_field,
    object_type,
    query_field,
    subscription_field,
)
from schema.markets import FxQuote
from schema.money import Money
from schema.node import Node, register
from schema.payments import Payment, SavedMethod
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem
from schema.scalars import CurrencyCode

strawberry.enum(OrderStatus, description="Where an order stands.")


@strawberry.enum(
    description="How much of an order is paid; derived from its captures and refunds, never set."
)
class OrderPaymentState(Enum):
    """CASES M06."""

    NOT_CHARGED = "not_charged"
    PARTIALLY_CHARGED = "partially_charged"
    FULLY_CHARGED = "fully_charged"
    OVERPAID = "overpaid"
    PARTIALLY_REFUNDED = "partially_refunded"
    FULLY_REFUNDED = "fully_refunded"
    DISPUTED = "disputed"


OrderEventKind = strawberry.enum(
    EventKind, name="OrderEventKind", description="What happened to an order."
)


@object_type(description="One line of an order.", rows=(Line,))
class OrderLine:
    """Amounts are in the order's currency."""

    id: strawberry.ID = derived(
        lambda line: ids.encode("lin", line.id), description="Opaque id, `lin_…`."
    )
    variant_id: strawberry.ID = derived(
        lambda line: ids.encode("var", line.variant_id), description="The variant that was bought."
    )
    title: str = field(description="Its title at the time of the order.")
    quantity: int = field(description="How many.")
    delivered: int = derived(lambda line: line.done, description="How many of them are delivered.")


@object_type(description="Where a part of an order's money went.", rows=(FundsLeg,))
class FundsFlowLeg:
    """The legs of an order add up to what was captured."""

    leg: str = field(
        description="tax, commission, affiliate, debt, reserve, withholding, merchant or surplus; "
        "a buyer sees tax, merchant and surplus."
    )
    amount: Money = field(description="This part.")
    returned: Money = field(description="How much of it went back to the buyer.")


@strawberry.enum(description="What became of a report about a good.")
class GoodReportState(Enum):
    """E17."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    REPLACED = "replaced"
    REFUSED = "refused"


@object_type(description="Goods handed over, revealed under audit.", rows=(Good,))
class DeliveredGood:
    """Shown to the buyer alone."""

    id: strawberry.ID = derived(
        lambda good: ids.encode("god", good.id),
        description="Opaque id, `god_…`; names it in `reportGood`.",
    )
    line_id: strawberry.ID = derived(
        lambda good: ids.encode("lin", good.line_id), description="The line it belongs to."
    )
    content: str = field(description="The card key, code or text.")
    revealed_at: datetime = field(description="When it was first shown.")
    revoked: bool = field(
        description="Whether a refund or dispute has ended the right to it, or another good has replaced it."
    )
    report: GoodReportState | None = derived(
        lambda good: good.report and GoodReportState(good.report),
        description="What became of `reportGood` about it; null when nobody has reported it.",
    )


@object_type(description="Something that happened to an order.", rows=(Happened,))
class OrderEvent:
    """Replayed from the log after `after`, then live."""

    cursor: str = field(
        description="Pass as `after` to continue behind this event, in the stream it came by."
    )
    sequence: int = field(description="Counts from 1 without gaps.")
    occurred_at: datetime = derived(lambda one: one.at, description="When it was recorded.")
    kind: EventKind = derived(lambda one: EventKind(one.kind), description="What happened.")
    order: Annotated["Order", strawberry.lazy("schema.orders")] = derived(
        lambda one: one.seen, description="The order as it is now."
    )


@object_type(description="An app that placed an order: a till, a bot.", rows=(Source,))
class OrderSource:
    """Under a grant of the shop's merchant."""

    app_id: strawberry.ID = derived(
        lambda row: ids.encode("app", row.app_id), description="The app, `app_…`."
    )
    app_name: str | None = derived(
        lambda row: row.name, description="Its name; null when it is deleted since."
    )


@object_type(description="A thing bought in a shop: lines, payments, events, goods.", rows=(Seen,))
class Order(Node):
    """Opened by its buyer with the access key, by its merchant and operators by right."""

    id: strawberry.ID = derived(
        lambda seen: ids.encode("ord", seen.order.id), description="Opaque id, `ord_…`."
    )
    number: str = derived(
        lambda seen: seen.order.number, description="The serial number on every record."
    )
    status: OrderStatus = derived(lambda seen: seen.order.status, description="Where it stands.")
    payment_state: OrderPaymentState = derived(
        lambda seen: OrderPaymentState(seen.order.payment_state.value),
        description="How much of it is paid.",
    )
    total: Money = derived(
        lambda seen: seen.order.total, description="What the buyer is asked to pay."
    )
    version: int = derived(lambda seen: seen.order.version, description="Grows with every change.")
    created_at: datetime = derived(
        lambda seen: seen.order.created_at, description="When it was placed."
    )
    expires_at: datetime = derived(
        lambda seen: seen.order.expires_at, description="Until when it can be paid."
    )
    shop: Shop = field(description="Where it was bought.", resolver=resolve.shop)
    source: OrderSource | None = field(
        description="The app that placed it for the buyer; null when the buyer did.",
        resolver=resolve.source,
    )
    quote: FxQuote | None = field(
        description="The rate locked for it; null when the shop prices in the order's currency.",
        resolver=resolve.quote,
    )
    lines: list[OrderLine] = field(description="What was bought.", resolver=resolve.lines)
    payments: list[Payment] = field(
        description="Every attempt, oldest first.", resolver=resolve.paid
    )
    saved_methods: list[SavedMethod] = field(
        description="What its buyer can pay by at once, the newest first; always empty for anyone else.",
        resolver=resolve.saved,
    )
    timeline: list[OrderEvent] = field(
        description="Everything that happened.", resolver=resolve.timeline
    )
    funds_flow: list[FundsFlowLeg] = field(
        description="Where the money went; its buyer is told the seller's parts as one, `merchant`.",
        resolver=resolve.funds,
    )
    goods: list[DeliveredGood] = field(
        description="The goods once delivered; always empty for anyone but the buyer.",
        resolver=resolve.goods,
        known=lambda seen: seen.goods,
    )


@object_type(
    description="History before `resumeCursor` was pruned: fetch the order, then resume.",
    rows=(Gap,),
)
class StreamGap:
    """Frames after it follow without a gap."""

    resume_cursor: str = field(description="Pass as `after`.")


@object_type(description="The stream is alive; sent while nothing happens.", rows=(Heartbeat,))
class StreamHeartbeat:
    """Every 15 seconds."""

    at: datetime = field(description="Server time.")


OrderEventFrame = Annotated[
    OrderEvent | StreamGap | StreamHeartbeat,
    strawberry.union("OrderEventFrame", description="What a subscription to orders carries."),
]


@problem(StateConflict, description="The order is not in a state that allows this.")
class OrderStateConflict(Problem):
    """Code ORDER_STATE_CONFLICT."""

    status: str | None = field(description="The state of the order now.")


@problem(ExceedsCaptured, description="More was asked back than was paid and not yet returned.")
class RefundExceedsCaptured(Problem):
    """Code REFUND_EXCEEDS_CAPTURED."""

    refundable: str | None = field(description="What can still be refunded, as exact decimal text.")
    currency: CurrencyCode | None = field(description="The order's currency.")


@problem(ledger.InsufficientFunds, description="The merchant's balance does not cover the refund.")
class InsufficientFunds(Problem):
    """Code INSUFFICIENT_FUNDS."""

    missing: str | None = field(description="What is missing, as exact decimal text.")


@object_type(description="A refund that is under way.", rows=(Refunded,))
class RefundRequested:
    """Its progress is on the order's timeline."""

    order: Order = derived(lambda one: one.seen, description="The order.")
    refund_ids: list[strawberry.ID] = derived(
        lambda one: [ids.encode("ref", refund.id) for refund in one.refunds],
        description="One refund per charge it comes from.",
    )
    amount: Money = derived(
        lambda one: CoreMoney(
            sum(refund.amount_minor for refund in one.refunds), one.seen.order.ccy
        ),
        description="What goes back in all.",
    )


RequestRefundResult = Annotated[
    RefundRequested
    | RefundExceedsCaptured
    | InsufficientFunds
    | AppLimitExceeded
    | OrderStateConflict
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union("RequestRefundResult", description="A refund under way, or why not."),
]

register("ord", Order, resolve.node)


@strawberry.type
class OrderQuery:
    """Reads."""

    order: Order | None = query_field(
        resolve.by_id,
        who=Who.ANYONE,
        description="One order: its buyer with the access key, its merchant, or an operator. Null for everyone else.",
        args={
            "id": "The order's id.",
            "accessKey": "What `startCheckout` gave; not needed by right.",
        },
    )


@strawberry.type
class OrderMutation:
    """Writes."""

    request_refund: RequestRefundResult = mutation_field(
        resolve.request_refund,
        who=(Who.MERCHANT, Who.OPERATOR),
        idempotent=True,
        description="Give money back to the buyer; goods of a full refund are marked revoked. Above a limit, with what "
        "went back before, it takes a second factor proved in the last 15 minutes (MFA_REQUIRED). "
        "Problems: REFUND_EXCEEDS_CAPTURED, INSUFFICIENT_FUNDS, APP_LIMIT_EXCEEDED, NOT_FOUND.",
        args={"input": "Which order and how much."},
    )


@strawberry.type
class OrderSubscription:
    """Streams."""

    order_events: OrderEventFrame = subscription_field(
        watching.watch,
        who=Who.ANYONE,
        description="Everything that happens to an order: replayed after `after`, then live, with a heartbeat.",
        args={
            "orderId": "The order.",
            "accessKey": "Its buyer's key.",
            "after": "Cursor of the last event seen; from the beginning when omitted.",
        },
    )
    merchant_events: OrderEventFrame = subscription_field(
        following.watch,
        who=(Who.MERCHANT, Who.OPERATOR, Who.APP),
        description="Everything that happens to all orders of a merchant: replayed after `after`, then live, with a "
        "heartbeat. Events of one order come in their order, and none is left out or told twice behind a cursor; "
        "`cursor` of an event is one of this list. For who may read `orders`.",
        args={
            "merchantId": "The merchant, `mer_…`.",
            "after": "Cursor of the last event seen, or `eventCursor` of an export; from now on when omitted.",
        },
    )
