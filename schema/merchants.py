"""A merchant's own view in the contract: orders, balances, statements."""

from datetime import datetime

import strawberry

from resolvers import money as resolve
from resolvers.money import Booked, Pot, Sheet
from schema.field import NEWEST_FIRST, Who, field, object_type, query_field
from schema.money import Money
from schema.orders import Order
from schema.page import Connection


@object_type(description="What a merchant has in one account of the ledger.", rows=(Pot,))
class MerchantBalance:
    """Positive is the merchant's, negative is owed by the merchant."""

    purpose: str = field(
        description="merchant_available, merchant_pending, merchant_reserved, merchant_debt, buyer_held, "
        "merchant_direct (what lies at your own provider account) …"
    )
    balance: Money = field(description="Everything posted.")
    available: Money = field(description="What may leave it now: posted minus open holds.")


@object_type(description="One entry of a statement.", rows=(Booked,))
class StatementEntry:
    """Never changed afterwards; a correction is another entry."""

    key: str = field(description="What it was posted under, e.g. sale:… or refund:…:ask.")
    kind: str = field(description="The recipe: sale, refund_ask, release …")
    amount: Money = field(description="Positive came in, negative went out.")
    balance: Money = field(description="The balance after it.")
    recorded_at: datetime = field(description="When it was written.")


@object_type(description="A stretch of an account's statement, oldest first.", rows=(Sheet,))
class Statement:
    """Opening plus entries is the last balance."""

    opening: Money = field(description="The balance before the first entry.")
    entries: list[StatementEntry] = field(description="Oldest first.")
    has_more: bool = field(description="Whether more entries follow: ask from a later day.")


_WHOSE = {"merchantId": "The merchant, one the caller belongs to."}


@strawberry.type
class MerchantQuery:
    """For members and operators."""

    orders: Connection[Order] = query_field(
        resolve.of_merchant,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="A merchant's orders, newest first; with conditions those that meet all of them. Goods are never "
        "shown here. `totalCount` counts to 100,000.",
        args={
            **_WHOSE,
            **NEWEST_FIRST,
            "status": "In one of these states.",
            "number": "With exactly this number, in any case of letters.",
            "email": "Placed with exactly this address.",
            "placedFrom": "Placed at this time or later.",
            "placedBefore": "Placed before this time.",
        },
    )
    merchant_balances: list[MerchantBalance] = query_field(
        resolve.pots,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="Every account of a merchant in the ledger.",
        args=_WHOSE,
    )
    merchant_statement: Statement = query_field(
        resolve.sheet,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="The entries of one account between two days; the last 30 days when omitted, at most a year.",
        args={
            **_WHOSE,
            "purpose": "Which account, e.g. merchant_available.",
            "currency": "In which currency.",
            "fromOn": "First day (UTC).",
            "toOn": "Last day (UTC).",
        },
    )
