"""Input types that many mutations share, and the collecting of what is wrong with them."""

from collections.abc import Sequence
from uuid import UUID

import strawberry

from domain.core import ids
from domain.core.errors import DomainError, NotFound
from domain.core.money import Money, MoneyInvalid, UnsupportedCurrency
from resolvers.scalars import CurrencyCode, Decimal, LanguageCode


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


@strawberry.input(description="A short text in one language.")
class TranslationInput:
    """A name or a title."""

    language: LanguageCode = strawberry.field(description="Its language, each one once.")
    text: str = strawberry.field(description="One line that people can see.")


def spoken(given: Sequence[TranslationInput] | None) -> list[tuple[str, str]]:
    """(language, text) pairs in the order given."""
    return [(one.language, one.text) for one in given or ()]


class Faults(list[DomainError]):
    """What the front door finds wrong, to be shown together with what the domain does."""

    def money(self, given: MoneyInput, *path: str) -> Money:
        """The amount; one that cannot be read is noted, and one minor unit stands in for it.

        A currency that cannot be booked is left for the domain to refuse.
        """
        try:
            return given.parse(*path)
        except MoneyInvalid as error:
            self.append(error)
        except UnsupportedCurrency:
            pass
        return Money(1, given.currency)


def decode(text: str, prefix: str, *path: str) -> UUID:
    """The id inside `<prefix>_…`. Errors: NotFound, as for an id of nothing."""
    try:
        return ids.decode(text, prefix)
    except ids.IdInvalid:
        raise NotFound(path=("input", *path)) from None
