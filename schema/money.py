"""Money in the contract: an exact decimal string and its currency, read off `domain.core.money.Money`."""

from domain.core import money as core
from schema.field import derived, field, object_type
from schema.scalars import CurrencyCode, Decimal


@object_type(description="An amount of money. Never a float.", rows=(core.Money,))
class Money:
    """Shows a `domain.core.money.Money`."""

    amount: Decimal = derived(
        core.Money.decimal,
        description='Exact amount in major units with the currency\'s own number of digits: "19.90", "1200" JPY.',
    )
    currency: CurrencyCode = field(description="The currency of the amount.")
