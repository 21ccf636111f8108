"""Where a merchant's money may be sent: read by who reads the money, changed by two who may move it."""

from __future__ import annotations

from enum import Enum
from uuid import UUID

import strawberry

from domain import payouts
from domain.core import ids
from domain.core.errors import NotFound
from domain.core.four_eyes import Approval
from domain.identity import Role
from domain.payouts import Destination, MethodKind, PayoutMethod, Replaced
from resolvers import access
from resolvers.context import Asked
from resolvers.inputs import decode
from resolvers.scalars import CurrencyCode

# An owner may too, as always; never an app, for no scope opens these fields.
READERS = (Role.FINANCE, Role.READ_ONLY)
MOVERS = (Role.FINANCE,)
PREFIX = "pom"


@strawberry.enum(name="PayoutMethodKind", description="How money is sent to a payout destination.")
class KindName(Enum):
    """Each has check digits that are looked at."""

    IBAN = "iban"
    US_BANK = "us_bank"
    CN_CARD = "cn_card"
    TRC20 = "trc20"
    ERC20 = "erc20"


@strawberry.enum(name="PayoutMethodState", description="Whether money may be sent there.")
class StateName(Enum):
    """As in the domain."""

    PENDING_APPROVAL = "pending"
    COOLING = "cooling"
    USABLE = "usable"
    REMOVED = "removed"


@strawberry.input(description="A payout destination that a second person is to approve.")
class ProposePayoutMethodInput:
    """Its details are sealed; afterwards nobody reads more than the last four characters."""

    merchant_id: strawberry.ID = strawberry.field(description="The merchant, `mer_…`.")
    kind: KindName = strawberry.field(description="How money is sent there.")
    currency: CurrencyCode = strawberry.field(
        description="What is paid out to it: any fiat currency for IBAN, USD for US_BANK, CNY for CN_CARD, "
        "USDT for TRC20, USDT or USDC for ERC20."
    )
    account: str = strawberry.field(
        description="The IBAN, account number, card number or chain address. Check digits are looked at; an ERC20 "
        "address carries them in its capitals (EIP-55)."
    )
    holder: str | None = strawberry.field(
        default=None,
        description="Whom the account belongs to, 1 to 140 characters; for banks and cards alone.",
    )
    routing: str | None = strawberry.field(
        default=None, description="The nine-digit ABA routing number; for US_BANK alone."
    )
    replaces: strawberry.ID | None = strawberry.field(
        default=None,
        description="A usable destination in the same currency, `pom_…`, that this one takes the place of as soon as "
        "it is usable itself.",
    )
    expected_version: int | None = strawberry.field(
        default=None,
        description="The version of the replaced destination as it was read; goes with `replaces`.",
    )


@strawberry.input(description="A payout destination to be removed.")
class ProposePayoutMethodRemovalInput:
    """It stays usable until a second person approves that."""

    payout_method_id: strawberry.ID = strawberry.field(description="A usable destination, `pom_…`.")
    expected_version: int = strawberry.field(description="Its version as it was read.")


async def methods(info: Asked, merchant_id: strawberry.ID) -> list[PayoutMethod]:
    """A merchant's destinations, the newest first."""
    access.require_viewer(info.context)
    try:
        merchant = ids.decode(merchant_id, "mer")
    except ids.IdInvalid:
        raise NotFound() from None
    access.require_merchant(info.context, merchant, *READERS)
    return await payouts.methods_of(merchant)


async def propose(info: Asked, input: ProposePayoutMethodInput) -> Approval:
    """Ask for another destination."""
    merchant_id = decode(input.merchant_id, "mer", "merchantId")
    asked_by = _mover(info, merchant_id, "merchantId")
    replaces = None
    if input.replaces is not None or input.expected_version is not None:
        replaces = Replaced(
            decode(input.replaces or "", PREFIX, "replaces"), input.expected_version or 0
        )
    return await payouts.propose_method(
        merchant_id,
        Destination(
            MethodKind(input.kind.value),
            input.currency,
            input.account,
            input.holder,
            input.routing,
        ),
        asked_by=asked_by,
        replaces=replaces,
        once=info.context.once(info),
    )


async def propose_removal(info: Asked, input: ProposePayoutMethodRemovalInput) -> Approval:
    """Ask for a destination to go."""
    method_id = decode(input.payout_method_id, PREFIX, "payoutMethodId")
    found = await payouts.find_method(method_id)
    asked_by = _mover(info, found.merchant_id if found else None, "payoutMethodId")
    assert found is not None
    return await payouts.propose_removal(
        found.merchant_id,
        Replaced(method_id, input.expected_version),
        asked_by=asked_by,
        once=info.context.once(info),
    )


def _mover(info: Asked, merchant_id: UUID | None, *path: str) -> UUID:
    """Who may ask: a member, never an operator. Errors: Unauthenticated, NotFound at `path`, Forbidden."""
    viewer = access.require_viewer(info.context)
    if merchant_id is None or merchant_id not in viewer.roles:
        raise NotFound(path=("input", *path))
    return access.require_merchant(info.context, merchant_id, *MOVERS).account_id


async def current(info: Asked, method_id: UUID) -> PayoutMethod | None:
    """The subject of a conflict as it is now."""
    return await payouts.find_method(method_id)
