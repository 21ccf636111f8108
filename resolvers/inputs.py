"""Input types that many mutations share."""

import strawberry

from domain.core.errors import DomainError
from domain.core.money import Money
from resolvers.scalars import CurrencyCode, Decimal


@strawberry.input(description="An amount of money sent by a client.")
class MoneyInput:
    """Turn it into money with `parse`."""

    amount: Decimal = strawberry.field(
        description='Exact amount in major units, at most the currency\'s own digits: "19.90".'
    )
    currency: CurrencyCode = strawberry.field(description="The currency of the amount.")

    def parse(self, *path: str) -> Money:
        """The amount in minor units; `path` names the input. Errors: MoneyInvalid, UnsupportedCurrency."""
        try:
            return Money.parse(self.amount, self.currency)
        except DomainError as error:
            error.path = (
                (*path, "amount") if error.code == "AMOUNT_INVALID" else (*path, "currency")
            )
            raise
