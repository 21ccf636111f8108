"""Short names for the tests of the ledger: accounts of one merchant, amounts, and the state of the books."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from domain import ledger
from domain.core import db
from domain.core.money import Money
from domain.ledger import AccountKey, Transfer


@dataclass(frozen=True)
class Shop:
    """The accounts of one merchant in one currency, by purpose: `shop["merchant_available"]`."""

    ccy: str = "USD"
    owner_id: UUID = field(default_factory=uuid4)

    def __getitem__(self, purpose: str) -> AccountKey:
        kind = ledger.PURPOSES[purpose].owner
        return AccountKey(purpose, None if kind == "platform" else self.owner_id, "", self.ccy)

    def transfer(self, source: str, target: str, minor: int) -> Transfer:
        """`minor` from one of the accounts to another."""
        return Transfer(self[source], self[target], Money(minor, self.ccy))

    async def pay_in(self, minor: int, *, purpose: str = "merchant_available") -> None:
        """Give the merchant `minor` out of the provider's clearing account."""
        await ledger.post(
            f"pay_in:{uuid4()}", [self.transfer("provider_clearing", purpose, minor)], kind="sale"
        )

    async def posted(self, *purposes: str) -> list[int]:
        """Posted balances, in the order asked."""
        return [(await ledger.balance(self[purpose])).posted for purpose in purposes]


BOOKS = ("ledger_journal", "ledger_transfer", "ledger_balance", "ledger_hold", "ledger_account")


async def books() -> dict[str, list[Any]]:
    """Every row of the books, to compare before and after."""
    return {
        table: [tuple(row) for row in await db.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")]
        for table in BOOKS
    }
